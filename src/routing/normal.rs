//! The same statement with other constants is the same statement: its normal form, as a key.
//!
//! A client that writes values into its texts would fill any cache. Where constants cannot matter (queries and DML that call nothing
//! which acts by them) each is replaced by an empty one, or by `'now'` where it names a moment of its transaction, and comments and
//! blanks are dropped. Everything else is its own key.

use crate::protocol::lexer::{Kind, Strings, Token, cut};
use crate::protocol::sql::statements;
use crate::routing::intent::Hint;
use crate::routing::judge::is_sql;

/// Functions whose constants decide what is known of a text.
const TELLING: &[&str] = &[
    "set_config",
    "current_setting",
    "setseed",
    "ts_stat",
    "ts_rewrite",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
];

const FIRST: &[&str] = &[
    "select", "values", "with", "insert", "update", "delete", "merge",
];

/// Words of dates and times that mean the same moment throughout a transaction.
const MOMENTS: &[&str] = &["now", "today", "tomorrow", "yesterday"];
/// No date is longer, nor a list of a few, in bytes.
const LONGEST_MOMENT: usize = 256;

/// Whether a string constant may name a moment that depends on when its transaction began, be it alone, with more of a date, or in a
/// range or an array of them.
pub fn tells_moment(constant: &[u8]) -> bool {
    let is_moment = |word: &[u8]| {
        let mut moments = MOMENTS.iter();
        moments.any(|moment| word.eq_ignore_ascii_case(moment.as_bytes()))
    };
    let mut words = constant.split(|byte| !byte.is_ascii_alphabetic());
    constant.len() <= LONGEST_MOMENT && words.any(is_moment)
}

/// Whether `text`, cut into `tokens`, may be known by its normal form.
pub fn may_be_normalised(text: &[u8], tokens: &[Token]) -> bool {
    let are_queries = statements(text, tokens)
        .all(|statement| statement.is_any(0, FIRST) || statement.has(0, b'('));
    let is_telling = |token: &Token| match token.kind {
        Kind::UnicodeQuoted => true,
        // A function may run what it is given.
        Kind::Text | Kind::DollarText => is_sql(inside(token.of(text))),
        // An escape may hide the word that tells.
        Kind::EscapeText | Kind::UnicodeText => {
            let inside = inside(token.of(text));
            is_sql(inside) || inside[..inside.len().min(64)].contains(&b'\\')
        }
        Kind::Word | Kind::Quoted => {
            let name = token.of(text);
            TELLING.iter().any(|word| {
                name.trim_ascii_quotes()
                    .eq_ignore_ascii_case(word.as_bytes())
            })
        }
        _ => false,
    };
    are_queries && !tokens.iter().any(is_telling)
}

/// What stands behind the opening of a string constant.
fn inside(constant: &[u8]) -> &[u8] {
    let open = match constant.first() {
        Some(b'$') => constant[1..]
            .iter()
            .position(|byte| *byte == b'$')
            .map(|at| at + 1),
        _ => constant.iter().position(|byte| *byte == b'\''),
    };
    open.map_or(constant, |at| &constant[at + 1..])
}

/// A name that may stand in quotes.
pub trait Quotes {
    /// It, without them.
    fn trim_ascii_quotes(&self) -> &[u8];
}

impl Quotes for [u8] {
    fn trim_ascii_quotes(&self) -> &[u8] {
        self.strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""))
            .unwrap_or(self)
    }
}

/// Writes the normal form to `out`. Texts with the same form are known alike.
pub fn write(text: &[u8], tokens: &[Token], hint: Option<Hint>, out: &mut Vec<u8>) {
    out.push(match hint {
        None => b' ',
        Some(Hint::Primary) => b'P',
        Some(Hint::Replica) => b'R',
    });
    for token in tokens {
        match token.kind {
            Kind::Text | Kind::EscapeText | Kind::UnicodeText | Kind::DollarText
                if tells_moment(token.of(text)) =>
            {
                out.extend_from_slice(b"'now' ");
            }
            Kind::Text | Kind::EscapeText | Kind::UnicodeText | Kind::DollarText | Kind::Bits => {
                out.extend_from_slice(b"'' ");
            }
            Kind::Number => out.extend_from_slice(b"0 "),
            _ => {
                out.extend_from_slice(token.of(text));
                out.push(b' ');
            }
        }
    }
}

/// The longest text that is shown, in bytes.
const SHOWN: usize = 200;

/// `text` for people: a `?` for each constant, which is nobody's business, without comments and blanks, and not too long. `None` where it
/// cannot be read.
pub fn shown(text: &[u8]) -> Option<String> {
    let mut tokens = Vec::new();
    cut(text, Strings::Standard, &mut tokens).ok()?;
    let words = tokens.iter().map(|token| match token.kind {
        Kind::Text
        | Kind::EscapeText
        | Kind::UnicodeText
        | Kind::DollarText
        | Kind::Bits
        | Kind::Number => &b"?"[..],
        _ => token.of(text),
    });
    let mut out = words.collect::<Vec<_>>().join(&b' ');
    out.truncate(SHOWN);
    Some(String::from_utf8_lossy(&out).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_text_holds_no_constants() {
        let text = "select * from t where name = 'joe' and n = 17 -- why";
        let wanted = "select * from t where name = ? and n = ?";
        assert_eq!(shown(text.as_bytes()).as_deref(), Some(wanted));
        let text = b"select $1, 'now', U&'x', e'\\'', $$y$$, b'01', 1.5e3, true";
        let wanted = "select $1 , ? , ? , ? , ? , ? , ? , true";
        assert_eq!(shown(text).as_deref(), Some(wanted));
        assert_eq!(shown(b"select 'joe"), None);
    }

    fn form(text: &str) -> Option<String> {
        let mut tokens = Vec::new();
        cut(text.as_bytes(), Strings::Standard, &mut tokens).unwrap();
        let mut out = Vec::new();
        may_be_normalised(text.as_bytes(), &tokens).then(|| {
            write(text.as_bytes(), &tokens, None, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn constants_blanks_and_comments_do_not_matter_in_queries_and_dml() {
        let one = form("select * from t where a = 1 and b = 'x' -- c").unwrap();
        assert_eq!(
            Some(&one),
            form("select  * from t where a=22 and b=$$y$$").as_ref()
        );
        assert_ne!(
            Some(&one),
            form("select * from t where a = 1 and b = c").as_ref()
        );
        assert!(form("insert into t values (1)").is_some());
        assert!(form("(select 1); update t set a = 2").is_some());
    }

    #[test]
    fn a_constant_that_names_a_moment_of_its_transaction_is_known_by_that_alone() {
        let now = form("select 'now'::timestamptz").unwrap();
        assert_eq!(now, " select 'now' :: timestamptz ");
        for constant in [
            "'NOW'",
            "' today 10:00'",
            "'today12:00'",
            "'10:00 tomorrow'",
            "E'yesterday'",
            "$$now$$",
            "$d$now$d$",
            "'{now,infinity}'",
            "'[yesterday,today)'",
        ] {
            let other = form(&format!("select {constant}::timestamptz"));
            assert_eq!(other.as_ref(), Some(&now), "{constant}");
        }
        let long = format!("'now{}'", " ".repeat(300));
        for constant in ["'nowhere'", "'epoch'", "'2026-11-29'", "''", &long] {
            let other = form(&format!("select {constant}::timestamptz"));
            assert_ne!(other.as_ref(), Some(&now), "{constant}");
        }
    }

    #[test]
    fn a_text_whose_constants_act_is_its_own_key() {
        for text in [
            "set x to 1",
            "select set_config('a', 'b', false)",
            "select \"set_config\"('a', 'b', false)",
            "select U&\"set\\005fconfig\"('a', 'b', false)",
            "select current_setting('x')",
            "select * from query_to_xml('select 1', true, false, '')",
            "select 1; prepare p as select 1",
            "explain (analyze 'off') select 1",
            "execute p(1)",
            "select f('select 1')",
            r"select f(E'\x73elect 1')",
            "select f(E' /* x */ delete from t')",
            "select f($q$ (select 1) $q$)",
        ] {
            assert_eq!(form(text), None, "{text}");
        }
    }
}
