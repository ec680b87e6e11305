use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Effects {
    of(text.as_bytes(), Strings::Standard, &mut Vec::new())
}

fn list(text: &str) -> Vec<Effect> {
    read(text).all().map(|(_, effect)| effect.clone()).collect()
}

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn set(setting: &str, sql: &str) -> Effect {
    Effect::Set {
        name: name(setting),
        sql: sql.as_bytes().into(),
        is_local: false,
    }
}

fn pins(reason: PinReason) -> Vec<Effect> {
    vec![Effect::Pins(reason)]
}

#[test]
fn what_only_reads_or_writes_rows_does_nothing_to_the_session() {
    for text in [
        "",
        "; ;",
        "/* nothing */",
        "select 1",
        "SELECT 'SET x TO 1; select nextval(''s'')'",
        "SELECT $$ set_config('a','b',false) $$",
        "select nextval from t",
        "select app.nextval(1)",
        "update t set a = 1 where b = 2",
        "update t set a = setting from pg_settings",
        "delete from t",
        "create table t (a int default nextval('s'))",
        "create view v as select pg_advisory_lock(1)",
        "create function f() returns int begin atomic select set_config('a','b',false); end",
        "create temp table t (a int) on commit drop",
        "explain select nextval('s')",
        "explain (analyze off) select nextval('s')",
        "alter role r set work_mem = '1MB'",
        "alter system set work_mem = '1MB'",
        "commit prepared 'x'",
        "set local work_mem to default",
        "select pg_advisory_xact_lock(1)",
        "select set_config($1, $2, true)",
        "select set_config(a, b, true) from t",
        "truncate t",
        "fetch 1 from c",
    ] {
        let effects = read(text);
        assert!(effects.is_empty(), "{text}: {effects:?}");
        assert!(effects.statements().is_some());
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a plain table of cases")]
fn a_set_is_told_as_a_statement_that_sets_it_again() {
    let canonical = |text: &str, setting: &str, sql: &str| {
        assert_eq!(list(text), [set(setting, sql)], "{text}");
    };
    canonical(
        "SET Work_Mem = '8MB'",
        "work_mem",
        "SET SESSION \"work_mem\" TO '8MB'",
    );
    canonical(
        "set session work_mem to 8",
        "work_mem",
        "SET SESSION \"work_mem\" TO 8",
    );
    canonical("set x.Y = -1", "x.y", "SET SESSION \"x\".\"y\" TO - 1");
    canonical(
        "set local.x = 1",
        "local.x",
        "SET SESSION \"local\".\"x\" TO 1",
    );
    canonical(
        "set \"DateStyle\" to iso, dmy",
        "datestyle",
        "SET SESSION \"datestyle\" TO iso, dmy",
    );
    canonical(
        "SET search_path TO \"$user\", /* x */ public",
        "search_path",
        "SET SESSION \"search_path\" TO \"$user\", public",
    );
    canonical("set role bob", "role", "SET SESSION ROLE bob");
    canonical("set role to 'bob'", "role", "SET SESSION \"role\" TO 'bob'");
    canonical("SET ROLE NONE", "role", "SET SESSION ROLE NONE");
    canonical(
        "set session authorization 'it''s'",
        "session_authorization",
        "SET SESSION SESSION AUTHORIZATION 'it''s'",
    );
    canonical(
        "SET SESSION SESSION AUTHORIZATION x",
        "session_authorization",
        "SET SESSION SESSION AUTHORIZATION x",
    );
    canonical(
        "set time zone interval '-08:00' hour to minute",
        "timezone",
        "SET SESSION TIME ZONE interval '-08:00' hour to minute",
    );
    canonical(
        "SET NAMES 'UTF8'",
        "client_encoding",
        "SET SESSION NAMES 'UTF8'",
    );
    canonical("set schema 'a'", "search_path", "SET SESSION SCHEMA 'a'");
    canonical(
        "SET XML OPTION document",
        "xmloption",
        "SET SESSION XML OPTION document",
    );
    canonical(
        "SELECT pg_catalog.set_config('Search_Path', '', false);",
        "search_path",
        "SELECT pg_catalog.set_config('search_path', '', false)",
    );
    canonical(
        r"select set_config('a.b'::text, 'c\d', 'off') as x",
        "a.b",
        r"SELECT pg_catalog.set_config('a.b', E'c\\d', false)",
    );
    assert_eq!(
        list(
            "set session characteristics as transaction isolation level repeatable read, read only"
        ),
        [
            set(
                "default_transaction_isolation",
                "SET SESSION \"default_transaction_isolation\" TO 'repeatable read'"
            ),
            set(
                "default_transaction_read_only",
                "SET SESSION \"default_transaction_read_only\" TO 'on'"
            )
        ]
    );
}

#[test]
fn a_local_set_says_so_and_a_default_is_a_reset() {
    assert!(matches!(
        &*list("SET LOCAL a.b = 1"),
        [Effect::Set { is_local: true, .. }]
    ));
    assert!(matches!(
        &*list("select set_config('a','b',true)"),
        [Effect::Set { is_local: true, .. }]
    ));
    for (text, setting) in [
        ("set x to default", "x"),
        ("SET TIME ZONE LOCAL", "timezone"),
        ("set time zone default", "timezone"),
        ("reset time zone", "timezone"),
        ("set names", "client_encoding"),
        ("reset role", "role"),
        ("reset session authorization", "session_authorization"),
        ("set session authorization default", "session_authorization"),
        ("select set_config('X', null, false)", "x"),
    ] {
        assert_eq!(list(text), [Effect::Reset(name(setting))], "{text}");
    }
    assert_eq!(list("RESET ALL"), [Effect::ResetAll]);
    assert!(list("reset transaction isolation level").is_empty());
}

#[test]
fn a_setting_whose_value_the_text_does_not_tell_is_a_pin() {
    for text in [
        "update pg_settings set setting = '7MB' where name = 'work_mem'",
        "UPDATE ONLY (pg_catalog.\"pg_settings\") s SET setting = $1",
        "with x as (select 1) update pg_settings set setting = 1",
        "explain analyze update pg_settings set setting = 1",
        "select set_config($1, $2, false)",
        "select set_config('a', b, false) from t",
        "select set_config('a', 'b', $1)",
        "select case when x then set_config('a','b',false) end from t",
        "select set_config('a','b',false) where false",
        "select 1 from t where pg_catalog . \"set_config\" ('a', 'b', false) = 'b'",
        "select setseed(0.5)",
        "set x to U&'a!0062' uescape '!'",
    ] {
        assert_eq!(list(text), pins(PinReason::Setting), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a plain table of cases")]
fn what_stays_in_the_server_is_a_pin_with_its_reason() {
    for (text, reason) in [
        ("create temp table t (a int)", PinReason::TempTable),
        (
            "CREATE LOCAL TEMPORARY TABLE t AS SELECT 1",
            PinReason::TempTable,
        ),
        (
            "create or replace temp view v as select 1",
            PinReason::TempTable,
        ),
        ("create temp sequence s", PinReason::TempTable),
        (
            "create function pg_temp.f() returns int language sql as 'select 1'",
            PinReason::TempTable,
        ),
        ("select 1 as a into temp t", PinReason::TempTable),
        (
            "with x as (select 1) select * into temporary t from x",
            PinReason::TempTable,
        ),
        ("select pg_advisory_lock(1)", PinReason::AdvisoryLock),
        (
            "select 1 where pg_catalog.pg_try_advisory_lock_shared(5)",
            PinReason::AdvisoryLock,
        ),
        (
            "declare c cursor with hold for select 1",
            PinReason::HeldCursor,
        ),
        (
            "declare c no scroll cursor with hold for select 1",
            PinReason::HeldCursor,
        ),
        ("select currval('s')", PinReason::Sequence),
        ("SELECT LASTVAL()", PinReason::Sequence),
        ("select nextval('s')", PinReason::NextVal),
        ("select U&\"next\\0076al\"('s')", PinReason::NextVal),
        ("insert into t values (1)", PinReason::NextVal),
        (
            "with x as (select 1) insert into t select * from x",
            PinReason::NextVal,
        ),
        ("update t set id = default", PinReason::NextVal),
        ("copy t from stdin", PinReason::NextVal),
        (
            "explain analyze insert into t values (1)",
            PinReason::NextVal,
        ),
        (
            "EXPLAIN (ANALYZE, BUFFERS) select nextval('s')",
            PinReason::NextVal,
        ),
        ("create table t as select nextval('s')", PinReason::NextVal),
        ("load 'auto_explain'", PinReason::Load),
        ("select lo_open(1, 2)", PinReason::LargeObject),
        (
            "select pg_replication_origin_session_setup('x')",
            PinReason::ReplicationOrigin,
        ),
        ("do $$ begin end $$", PinReason::Unknown),
        ("call p()", PinReason::Unknown),
        ("select 'unterminated", PinReason::Unknown),
        ("\\d", PinReason::Unknown),
    ] {
        assert_eq!(list(text), pins(reason), "{text}");
    }
    assert!(list("declare c cursor without hold for select 1").is_empty());
}

#[test]
fn prepared_statements_keep_their_names_and_what_they_do() {
    let text = "PREPARE  Foo (int, numeric(1,2)) AS select nextval('s')";
    assert_eq!(
        list(text),
        [Effect::Prepare {
            name: name("foo"),
            at: (9, 12),
            sql: (*b"(int, numeric(1,2)) AS select nextval('s')").into(),
            does: pins(PinReason::NextVal).into(),
        }]
    );
    let execute = |at| Effect::Execute {
        name: name("a"),
        at,
    };
    assert_eq!(list("execute a(1)"), [execute((8, 9))]);
    assert_eq!(list("explain execute a"), [execute((16, 17))]);
    assert_eq!(list("explain analyze execute a"), [execute((24, 25))]);
    assert_eq!(list("create table t as execute a"), [execute((26, 27))]);
    assert_eq!(
        list("explain create table t as execute a"),
        [execute((34, 35))]
    );
    let deallocate = |at| Effect::Deallocate {
        name: name("A"),
        at,
    };
    assert_eq!(list("deallocate prepare \"A\""), [deallocate((19, 22))]);
    assert_eq!(list("deallocate \"A\""), [deallocate((11, 14))]);
    assert_eq!(list("deallocate all"), [Effect::DeallocateAll]);
    assert_eq!(list("deallocate prepare all"), [Effect::DeallocateAll]);
    assert_eq!(
        list("prepare transaction 'x'"),
        [Effect::PrepareTransaction]
    );
}

#[test]
fn channels_discards_and_ends_of_pins() {
    assert_eq!(
        list("listen Ab; unlisten \"Ab\"; unlisten *; notify x, 'y'; select pg_notify('a','b')"),
        [
            Effect::Listen(name("ab")),
            Effect::Unlisten(name("Ab")),
            Effect::UnlistenAll,
            Effect::Notify,
            Effect::Notify
        ]
    );
    assert_eq!(
        list("discard all; discard temp; discard temporary; discard sequences; discard plans"),
        [
            Effect::DiscardAll,
            Effect::DiscardTemp,
            Effect::DiscardTemp,
            Effect::DiscardSequences,
            Effect::DiscardPlans
        ]
    );
    assert_eq!(
        list("drop table t; close all; select pg_advisory_unlock(1)"),
        [Effect::Drops, Effect::Closes, Effect::Unlocks]
    );
}

#[test]
fn transactions_are_told_with_their_modes() {
    let begin = |access, isolation| {
        Effect::Begin(Modes {
            access,
            isolation,
            ..Modes::default()
        })
    };
    assert_eq!(list("begin"), [begin(None, None)]);
    assert_eq!(
        list("BEGIN WORK READ ONLY"),
        [begin(Some(Access::ReadOnly), None)]
    );
    assert_eq!(
        list("start transaction isolation level serializable, read write"),
        [begin(
            Some(Access::ReadWrite),
            Some(Isolation::Serializable)
        )]
    );
    assert_eq!(
        list(
            "savepoint A; rollback to savepoint a; rollback work to a; release savepoint a; release a"
        ),
        [
            Effect::Savepoint(name("a")),
            Effect::RollbackTo(name("a")),
            Effect::RollbackTo(name("a")),
            Effect::Release(name("a")),
            Effect::Release(name("a"))
        ]
    );
    assert_eq!(
        list("commit; end and no chain; commit work and chain; abort; rollback and chain"),
        [
            Effect::Commit { is_chained: false },
            Effect::Commit { is_chained: false },
            Effect::Commit { is_chained: true },
            Effect::Rollback { is_chained: false },
            Effect::Rollback { is_chained: true }
        ]
    );
    let modes = Modes {
        access: Some(Access::ReadOnly),
        ..Modes::default()
    };
    assert_eq!(
        list("set transaction read only"),
        [Effect::SetTransaction(modes)]
    );
    assert_eq!(
        list("set transaction_read_only = on"),
        [Effect::SetTransaction(modes)]
    );
}

#[test]
fn each_statement_of_a_string_has_effects_of_its_own() {
    let effects = read("select 1; set a.b = 1; ; select 2; listen c; create temp table d(e int)");
    assert_eq!(effects.statements(), Some(5));
    assert_eq!(
        effects.all().map(|(number, _)| number).collect::<Vec<_>>(),
        [1, 3, 4]
    );
    assert_eq!(
        effects.of(3).collect::<Vec<_>>(),
        [&Effect::Listen(name("c"))]
    );
    let more = effects
        .and_pins(2, PinReason::Function)
        .and_pins(2, PinReason::Function);
    assert_eq!(
        more.of(2).collect::<Vec<_>>(),
        [&Effect::Pins(PinReason::Function)]
    );
}

#[test]
fn a_backslash_ends_no_string_where_the_server_says_it_escapes() {
    let text = br"select 'a\'; set x to 1; --'";
    assert!(of(text, Strings::Backslash, &mut Vec::new()).is_empty());
    assert!(!of(text, Strings::Standard, &mut Vec::new()).is_empty());
    let set = br"set x to 'a\'b'";
    let effects = of(set, Strings::Backslash, &mut Vec::new());
    let Some((_, Effect::Set { sql, .. })) = effects.all().next() else {
        panic!("{effects:?}");
    };
    assert_eq!(&**sql, b"SET SESSION \"x\" TO 'a''b'");
}

#[test]
fn hostile_texts_get_an_answer() {
    for text in [
        "(".repeat(50_000),
        "select set_config(".repeat(20_000),
        "set a=1;".repeat(50_000),
        format!("select '{}'", "x".repeat(10_000_000)),
        "prepare a as ".repeat(10_000),
        "explain ".repeat(10_000),
        "explain (".repeat(10_000),
        "create temp ".repeat(10_000),
        "begin atomic ".repeat(10_000),
    ] {
        read(&text);
    }
    assert_eq!(read("select \0"), Effects::unknown());
    of(b"set x to '\xff\xfe'", Strings::Standard, &mut Vec::new());
}

proptest! {
    #[test]
    fn any_text_is_answered(words in proptest::collection::vec(
        prop_oneof![
            "(set|reset|prepare|execute|as|select|begin|to|=|local|session|role|explain|analyze|create|temp|all|,|;|\\(|\\)|'a'|x|set_config|uescape|U&'z'|\\.|transaction|read only|with|hold)",
        ], 0..12)) {
        read(&words.join(" "));
    }
}
