//! The words of PostgreSQL's grammar, and what each may name.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What kind of word `word` is, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyword {
    /// It names nothing unless quoted.
    Reserved,
    /// It may name columns and tables; before a parenthesis it is grammar of its own, not a function.
    Shape,
    /// It may name a function, a type, and what FROM gives a name.
    FunctionOrType,
    /// The grammar knows it, but it may name anything.
    Unreserved,
}

/// The kind of a keyword; `None` for every other word.
pub fn keyword(word: &[u8]) -> Option<Keyword> {
    WORDS.get(word).copied()
}

static WORDS: LazyLock<HashMap<&'static [u8], Keyword>> = LazyLock::new(|| {
    let kinds = [
        (UNRESERVED, Keyword::Unreserved),
        (FUNCTION_OR_TYPE, Keyword::FunctionOrType),
        (SHAPES, Keyword::Shape),
        (RESERVED, Keyword::Reserved),
    ];
    let mut all = HashMap::new();
    for (words, kind) in kinds {
        all.extend(
            words
                .split_ascii_whitespace()
                .map(|word| (word.as_bytes(), kind)),
        );
    }
    all
});

/// Words that name nothing unless quoted.
const RESERVED: &str = "\
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create \
    current_catalog current_date current_role current_time current_timestamp current_user default deferrable \
    desc distinct do else end except false fetch for foreign from grant group having in initially intersect into \
    lateral leading limit localtime localtimestamp not null offset on only or order placing primary references \
    returning select session_user some symmetric table then to trailing true union unique user using variadic \
    when where window with";
/// Words that may name columns and tables, but functions and types only as grammar of their own.
const SHAPES: &str = "\
    between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout \
    int integer interval least national nchar none normalize nullif numeric out overlay position precision real \
    row setof smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement \
    xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";
/// Words that may name functions and types only.
const FUNCTION_OR_TYPE: &str = "\
    authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left \
    like natural notnull outer overlaps right similar tablesample verbose";
/// Words that may name anything.
const UNRESERVED: &str = "\
    abort absolute access action add admin after aggregate also alter always asensitive assertion assignment at \
    atomic attach attribute backward before begin breadth by cache call called cascade cascaded catalog chain \
    characteristics checkpoint class close cluster columns comment comments commit committed compression \
    configuration conflict connection constraints content continue conversion copy cost csv cube current cursor \
    cycle data database day deallocate declare defaults deferred definer delete delimiter delimiters depends \
    depth detach dictionary disable discard document domain double drop each enable encoding encrypted enum \
    escape event exclude excluding exclusive execute explain expression extension external family filter \
    finalize first following force forward function functions generated global granted groups handler header \
    hold hour identity if immediate immutable implicit import include including increment index indexes inherit \
    inherits inline input insensitive insert instead invoker isolation key label language large last leakproof \
    level listen load local location lock locked logged mapping match matched materialized maxvalue merge method \
    minute minvalue mode month move name names new next nfc nfd nfkc nfkd no normalized nothing notify nowait \
    nulls object of off oids old operator option options ordinality others over overriding owned owner parallel \
    parameter parser partial partition passing password plans policy preceding prepare prepared preserve prior \
    privileges procedural procedure procedures program publication quote range read reassign recheck recursive \
    ref referencing refresh reindex relative release rename repeatable replace replica reset restart restrict \
    return returns revoke role rollback rollup routine routines rows rule savepoint schema schemas scroll search \
    second security sequence sequences serializable server session set sets share show simple skip snapshot sql \
    stable standalone start statement statistics stdin stdout storage stored strict strip subscription support \
    sysid system tables tablespace temp template temporary text ties transaction transform trigger truncate \
    trusted type types uescape unbounded uncommitted unencrypted unknown unlisten unlogged until update vacuum \
    valid validate validator value varying version view views volatile whitespace within without work wrapper \
    write xml year yes zone";
