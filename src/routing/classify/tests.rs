use super::*;
use crate::routing::catalog::{Catalog, Path};
use crate::routing::judge::Lists;
use crate::routing::learn::learn;

/// A small database, as the query of the catalog would show it.
const ROWS: &str = "\
function|public|f_write|1|1|vq|INSERT INTO t VALUES (1) RETURNING 1
function|public|f_read|0|1|q|SELECT 1
function|public|f_liar|1|1|q|BEGIN RETURN f_write($1); END
function|public|f_liars_friend|1|1|q|SELECT public.f_liar($1)
function|public|twice|1|1|q|SELECT 1
function|public|twice|1|1|vq|SELECT 1
function|public|twice|2|2|q|SELECT 1
function|public|touch|1|1|vqr|SELECT 1
function|app|lower|1|1|vq|SELECT 1
function|public|locks|0|0|vq|SELECT pg_advisory_lock(1)
function|public|audit|0|0|vq|BEGIN PERFORM set_config('a','b',false); END
function|public|g_c|1|1|c|
function|public|op_write|2|2|vq|SELECT 1
relation|public|v_read|v|p||SELECT lower(a) FROM t
relation|public|v_write|v|p||SELECT public.f_write(1)
relation|public|v_nested|v|p||SELECT * FROM public.v_write
relation|public|v_lock|v|p||SELECT 1 FROM t FOR UPDATE
relation|public|unl|r|u||
relation|far|away|f|p||
parent|public|whole|far|away
policy|public|guarded||||public.f_write(1) > 0
operator|public|@@@@|public|op_write
operator|public|+++|public|f_read
cast|public|evil|public|f_write
domain|public|checked||||CHECK (public.f_write(VALUE) > 0) integer
domain|public|twice_checked|||| checked
trigger|public|t|public|audit
built in|pg_catalog|new_in_99
a kind of the future|x";

fn catalog() -> Catalog {
    let rows: Vec<Vec<Option<String>>> = ROWS
        .lines()
        .map(|line| {
            line.split('|')
                .map(|field| Some(field.to_owned()))
                .collect()
        })
        .collect();
    learn(7, rows.iter().map(Vec::as_slice))
}

fn facts_in(sql: &str, catalog: &Catalog, path: &Path, lists: &Lists) -> Facts {
    let judge = Judge {
        catalog,
        path,
        lists,
    };
    classify(sql.as_bytes(), Reading::default(), &judge, &mut Vec::new())
}

fn with_catalog(sql: &str) -> Facts {
    facts_in(sql, &catalog(), &Path::of_user(b"joe"), &Lists::default())
}

fn without(sql: &str) -> Facts {
    facts_in(
        sql,
        &Catalog::default(),
        &Path::of_user(b"joe"),
        &Lists::default(),
    )
}

fn all_are(intent: Intent, read: fn(&str) -> Facts, texts: &[&str]) {
    for sql in texts {
        let facts = read(sql);
        assert_eq!(facts.intent, intent, "{sql}: {}", facts.why);
    }
}

#[test]
fn what_writes_is_never_a_read() {
    all_are(
        Intent::Write,
        without,
        &[
            "insert into t values (1)",
            "select 1; -- c\rdelete from t",
            "with x as (delete from t returning 1) select 1",
            "select 1 into t",
            "select * from t for update",
            "select nextval('s')",
            "select pg_catalog . \"nextval\" ('s')",
            "select U&\"next\\0076al\"('s')",
            "select unknown_function(1)",
            "select app.lower('x')",
            "select txid_current()",
            "select 1 ~~~~ 2",
            "explain analyze delete from t",
            "explain (analyze, buffers) insert into t values (1)",
            "explain analyze create table t as select 1",
            "copy t from stdin",
            "copy (delete from t returning 1) to stdout",
            "copy (select 1) to '/tmp/x'",
            "copy t to program 'x'",
            "create table t (a int)",
            "vacuum",
            "do $$ begin end $$",
            "call p()",
            "lock table t",
            "notify c",
            "select pg_notify('a', 'b')",
            "commit prepared 'x'",
            "prepare transaction 'x'",
            "refresh materialized view m",
            "select table_to_xml(t, true, false, '') from u",
            "select query_to_xml('delete from t', true, false, '')",
            "select query_to_xml('select nextval(''s'')', true, false, '')",
        ],
    );
}

#[test]
fn what_reads_is_a_read() {
    all_are(
        Intent::Read,
        without,
        &[
            "",
            "/* nothing */",
            "select 1",
            "values (1)",
            "table t",
            "((select 1) union all (select 2)) order by 1",
            "with x as (select 1) select * from x",
            "select now(), random(), lower('X'), count(*) from t",
            "select count(*) filter (where a != 1) over (order by b) from t",
            "explain select * from t",
            "explain delete from t",
            "explain (analyze off) delete from t",
            "explain analyze select 1",
            "copy t to stdout",
            "copy t (a, b) to stdout with (format csv)",
            "copy (select 1) to stdout",
            "show work_mem",
            "show all",
            "select query_to_xml('select 1', true, false, '')",
            "select current_setting('work_mem')",
            "select a -> 'b' from t where c @> '{}' limit 1;",
            "select 'delete from t', $$for update$$",
        ],
    );
}

#[test]
fn session_node_and_unreadable_texts_are_told_apart() {
    all_are(
        Intent::Session,
        without,
        &[
            "set a.b = 1",
            "select 1; set a.b = 1",
            "select set_config('a', 'b', true)",
            "select pg_advisory_xact_lock(1)",
            "select lastval()",
            "prepare p as select 1",
            "execute p",
            "explain execute p",
            "begin read only",
            "declare c cursor for select 1",
            "listen c",
            "select * from pg_temp.x",
            "select * from pg_cursors",
        ],
    );
    all_are(
        Intent::NodeLocal,
        without,
        &[
            "select * from pg_stat_activity",
            "select pg_is_in_recovery()",
            "show transaction_read_only",
            "select current_setting('In_Hot_Standby')",
            "select * from pg_catalog.pg_locks",
        ],
    );
    all_are(
        Intent::Unknown,
        without,
        &[
            "\\d",
            "select :x",
            "select 'a",
            "nonsense",
            "select 1 \0",
            "explain",
        ],
    );
}

#[test]
fn the_catalog_decides_about_functions() {
    all_are(
        Intent::Read,
        with_catalog,
        &[
            "select f_read()",
            "select f_read(1)",
            "select twice(1, 2)",
            "select lower('x')",
            "select * from v_read",
            "select g_c(1), new_in_99(1)",
            "select 1 +++ 2",
            "select touch from t",
            "explain select f_write(1)",
        ],
    );
    all_are(
        Intent::Write,
        with_catalog,
        &[
            "select f_write(1)",
            "select F_WRITE(1)",
            "select public . f_write (1)",
            "select f_liar(1)",
            "select f_liars_friend(1)",
            "explain select f_liar(1)",
            "select f_read(1, 2)",
            "select twice(1)",
            "select t.touch from t",
            "select (t).touch from t",
            "select app.lower('x')",
            "select * from v_write",
            "select * from v_nested",
            "select * from v_lock",
            "table v_nested",
            "copy v_write to stdout",
            "select * from unl",
            "select * from far.away",
            "select * from whole",
            "select * from guarded",
            "select 1 @@@@ 2",
            "select 5::evil",
            "select cast(a as checked) from t",
            "select 1::twice_checked",
            "select table_to_xml('v_write', true, false, '')",
            "select * from ts_stat('select f_write(1)')",
            "select f_elsewhere(1)",
        ],
    );
}

#[test]
fn the_search_path_decides_which_function_is_meant() {
    let app_first = Path::parse(b"app, pg_catalog, public", b"joe");
    let facts = facts_in(
        "select lower('x')",
        &catalog(),
        &app_first,
        &Lists::default(),
    );
    assert_eq!(facts.intent, Intent::Write);
    let facts = facts_in(
        "select lower('x')",
        &Catalog::default(),
        &app_first,
        &Lists::default(),
    );
    assert_eq!(facts.intent, Intent::Write);
    let unknown = Path::default();
    let facts = facts_in("select lower('x')", &catalog(), &unknown, &Lists::default());
    assert_eq!(
        facts.intent,
        Intent::Write,
        "any schema may be in a path that is not known"
    );
}

#[test]
fn the_operators_lists_have_the_last_word() {
    let lists = Lists {
        read: vec!["public.f_w*".into(), "away".into()],
        write: vec!["pg_catalog.lower".into(), "*.low*r".into()],
    };
    let intent = |sql| facts_in(sql, &catalog(), &Path::of_user(b"joe"), &lists).intent;
    assert_eq!(intent("select f_write(1)"), Intent::Read);
    assert_eq!(intent("select * from far.away"), Intent::Read);
    assert_eq!(intent("select pg_catalog.lower('x')"), Intent::Write);
    assert_eq!(intent("select f_liar(1)"), Intent::Write);
}

#[test]
fn functions_and_triggers_that_touch_the_session_are_pins() {
    let pins = |facts: &Facts| {
        facts
            .effects
            .all()
            .any(|(_, effect)| *effect == Effect::Pins(PinReason::Function))
    };
    for sql in [
        "select locks()",
        "insert into t values (1)",
        "update public.t set a = 1",
    ] {
        assert!(pins(&with_catalog(sql)), "{sql}");
    }
    for sql in [
        "select f_write(1)",
        "insert into u (a) values (1)",
        "select lower('x')",
    ] {
        assert!(!pins(&with_catalog(sql)), "{sql}");
    }
    assert!(pins(&without("select 1, unknown_function(1)")));
    assert!(!pins(&without("insert into t (a, b) values (1, 2)")));
    let facts = without("select 1; select unknown_function(1)");
    assert_eq!(facts.effects.of(0).count(), 0);
    assert_eq!(facts.effects.of(1).count(), 1);
}

#[test]
fn a_hint_stands_in_a_comment_and_nowhere_else() {
    assert_eq!(
        without("/* pooler: primary */ select 1").hint,
        Some(Hint::Primary)
    );
    assert_eq!(
        without("select 1 -- pooler:replica").hint,
        Some(Hint::Replica)
    );
    assert_eq!(without("select '/* pooler: primary */'").hint, None);
    assert_eq!(without("/* pooler: elsewhere */ select 1").hint, None);
    let unknown = |sql: &str| super::unknown_hint(sql.as_bytes());
    assert_eq!(
        unknown("/* pooler: elsewhere */ select 1").unwrap(),
        "elsewhere"
    );
    assert_eq!(
        unknown("/* pooler: primary */ select '/* pooler: x */'"),
        None
    );
    assert_eq!(without("/* pooler: replicas */ select 1").hint, None);
    assert_eq!(without("/* pooler: primary_db */ select 1").hint, None);
    assert_eq!(
        without("/* pooler: replica*/ select 1").hint,
        Some(Hint::Replica)
    );
    assert_eq!(
        without("/* pooler: replica */ delete from t").intent,
        Intent::Write
    );
}

#[test]
fn what_hides_words_goes_to_the_primary() {
    let judge = Judge {
        catalog: &Catalog::default(),
        path: &Path::of_user(b"joe"),
        lists: &Lists::default(),
    };
    let read = |sql: &[u8], reading| classify(sql, reading, &judge, &mut Vec::new()).intent;
    let off = Reading::of(b"off", b"UTF8");
    assert_eq!(
        read(br"select 'a\'; delete from t; --'", off),
        Intent::Write
    );
    assert_eq!(read(b"select 1", off), Intent::Write);
    let sjis = Reading::of(b"on", b"SJIS");
    assert_eq!(read(b"select 1", sjis), Intent::Read);
    assert_eq!(read(b"select '\x83\x5c'", sjis), Intent::Unknown);
    assert_eq!(read(b"select '\xff\xfe'", Reading::default()), Intent::Read);
}

#[test]
fn hostile_texts_are_judged_in_a_moment() {
    for sql in [
        "copy (".repeat(30_000),
        "explain analyze ".repeat(30_000),
        "(".repeat(50_000),
        format!("select {}1{}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("select {}1", "1+".repeat(90_000)),
        "select 1;".repeat(50_000),
        "select f(1);".repeat(4_999),
        format!("select '{}'", "x".repeat(10_000_000)),
        "/* pooler: ".repeat(100_000),
    ] {
        with_catalog(&sql);
    }
}
