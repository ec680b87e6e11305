//! What texts are taken to leave behind.

use super::words::may_matter;
use super::{Harmless, LARGEST_TEXT, Marks, Scan, Traces, may_change_code, traces};
use crate::protocol::pins::Pins;

fn marks(text: &str) -> Marks {
    traces(text.as_bytes()).marks
}

#[test]
fn everyday_texts_leave_nothing() {
    for text in [
        "select 1",
        "SELECT * FROM orders WHERE id = $1 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET a = 1 WHERE set = 2",
        "begin",
        "begin; set local work_mem = '1MB'; commit",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "select set_config('app.user', $1, true)",
        "select set_config('app.user', 'it''s', TRUE), 1",
        "select pg_advisory_xact_lock(1)",
        "prepare transaction 'x'",
        "declare c cursor for select 1",
        "notify jobs, 'x'",
        "select setting from pg_settings where name = 'work_mem'",
        "",
    ] {
        assert_eq!(marks(text), Marks::NONE, "{text}");
        assert!(traces(text.as_bytes()).lasting.is_empty(), "{text}");
    }
}

#[test]
fn what_leaves_something_is_asked_about() {
    for (text, mark) in [
        ("set work_mem = '1MB'", Marks::SETTINGS),
        ("/* a /* b */ */ -- c\n SeT x.y = 1", Marks::SETTINGS),
        ("select 1; set role app", Marks::SETTINGS),
        ("set session authorization app", Marks::SETTINGS),
        (
            "set session characteristics as transaction read only",
            Marks::SETTINGS,
        ),
        ("reset all", Marks::SETTINGS),
        ("select set_config('a.b', 'c', false)", Marks::SETTINGS),
        ("select set_config('a.b', 'c', $1)", Marks::SETTINGS),
        (
            "select set_config('a.b', ', true)', false)",
            Marks::SETTINGS,
        ),
        (
            "update pg_settings set setting = '7MB' where name = 'work_mem'",
            Marks::SETTINGS,
        ),
        (
            "select 1; UPDATE only Pg_Catalog.\"pg_settings\" as s set setting = $1",
            Marks::SETTINGS,
        ),
        (
            "explain analyze update/**/pg_settings set setting = 1",
            Marks::SETTINGS,
        ),
        (
            "prepare p as update pg_settings set setting = $1",
            Marks::SETTINGS,
        ),
        ("select ';--'; set work_mem = '7MB'", Marks::SETTINGS),
        ("select ';/*'; set work_mem = '7MB'", Marks::SETTINGS),
        ("/* ; -- */ set work_mem = '7MB'", Marks::SETTINGS),
        (
            "explain analyze create table t as select 1",
            Marks::TEMPORARY,
        ),
        ("select '; insert ', 1 into t", Marks::TEMPORARY),
        ("select set_limit(0.5)", Marks::SETTINGS),
        ("select query_to_xml($1, true, true, '')", Marks::HIDDEN),
        ("select * from ts_stat($1)", Marks::HIDDEN),
        (
            "do $$begin execute 's' || 'et x.y = 1'; end$$",
            Marks::HIDDEN,
        ),
        ("prepare p as select 1", Marks::PREPARED),
        ("create table t as select 1", Marks::TEMPORARY),
        ("select 1 into temp t", Marks::TEMPORARY),
        ("SELECT Pg_Try_Advisory_Lock(1)", Marks::LOCKS),
        ("declare c cursor with hold for select 1", Marks::CURSORS),
        ("do $$begin end$$", Marks::LOCKS),
        ("select U&\"pg_\\0061dvisory_lock\"(1)", Marks::LOCKS),
    ] {
        assert!(marks(text).has(mark), "{text}");
    }
    assert!(marks(&"x".repeat(LARGEST_TEXT + 1)).has(Marks::SETTINGS));
}

#[test]
fn names_with_a_dot_are_noted() {
    for text in [
        "set app.user to 'x'",
        "SET SESSION \"app\".user = 1",
        "select set_config('app.user', 'x', false)",
        "set app /* x */ . -- y\n user = 1",
        "set/**/session/**/app.user = 1",
        "do $$begin execute 'set app.user = 1'; end$$",
    ] {
        assert_eq!(
            *traces(text.as_bytes()).custom,
            ["app.user".into()],
            "{text}"
        );
    }
    assert!(traces(b"set work_mem = '1MB'").custom.is_empty());
    for (text, name) in [
        ("set session.user = 1", "session.user"),
        ("set local.x = 1", "local.x"),
    ] {
        assert_eq!(*traces(text.as_bytes()).custom, [name.into()], "{text}");
    }
    for text in [
        "set u&\"app\".x = 1",
        "set \u{e9}.x = 1",
        "set a\u{e9}.x = 1",
        "set \"a\"\"b\".x = 1",
    ] {
        assert_eq!(traces(text.as_bytes()).lasting, Pins::UNREAD, "{text}");
    }
    assert_eq!(
        traces(b"select set_config($1, $2, false)").lasting,
        Pins::UNREAD
    );
}

#[test]
fn what_cannot_be_looked_for_lasts() {
    assert_eq!(traces(b"load 'auto_explain'").lasting, Pins::LOADED);
    for text in [
        "select setseed(0.5)",
        "set seed = 0.5",
        "select set_config('seed', '0.5', false)",
        "select '; create ' || setseed(0.5)",
        "create table t as select setseed(0.5)",
    ] {
        assert_eq!(traces(text.as_bytes()).lasting, Pins::SEED, "{text}");
    }
    assert!(
        traces(b"create function f() returns void as 'select setseed(1)' language sql")
            .lasting
            .is_empty()
    );
}

/// Every word that is looked for anywhere in a statement, and some like them.
const WORDS: &str = "temp temporary into create hold execute u set select set_config set_limit setval setseed nextval currval \
    lastval dblink_connect dblink_connect_u pg_settings pg_temp pg_temp_3 pg_advisory_lock pg_advisory_unlock_all \
    pg_replication_origin_session_setup pg_create_physical_replication_slot pg_drop_replication_slot pg_backup_start \
    pg_start_backup query_to_xml query_to_xml_and_xmlschema table_to_xmlschema database_to_xml cursor_to_xml schema_to_xml \
    ts_stat ts_rewrite update insert alter import function pgbench_accounts count created_at a_ q_ s_ t_ d_";

#[test]
fn a_word_that_is_passed_over_would_have_left_no_trace() {
    let mut passed = 0;
    for word in WORDS.split_whitespace() {
        for word in [word.to_owned(), word.to_uppercase(), format!("{word}x")] {
            for rest in ["", "&\"\\0061\"", "('a', 'b', false)"] {
                if may_matter(word.as_bytes()) {
                    continue;
                }
                let mut scan = Scan {
                    makes: true,
                    ..Scan::default()
                };
                scan.meet(word.as_bytes(), rest.as_bytes());
                assert_eq!(scan.found, Traces::default(), "{word}");
                assert!(!scan.updates && !scan.names_settings, "{word}");
                passed += 1;
            }
        }
    }
    assert!(passed > 60, "{passed}");
}

#[test]
fn what_begins_with_a_select_is_read_to_its_end() {
    assert_eq!(marks("select 1; create temp table t()"), Marks::TEMPORARY);
    assert_eq!(marks("select 1 as a into temp t"), Marks::TEMPORARY);
    assert_eq!(marks("select * into t from u"), Marks::TEMPORARY);
}

#[test]
fn a_text_that_was_read_before_is_not_taken_for_another() {
    let mut harmless = Harmless::default();
    let mut read = |definition: &[u8]| {
        let (text, found) = harmless.read(definition);
        assert_eq!(found, traces(text));
        (text.len(), found == Traces::default())
    };
    let known = b"select 1\0\0\0";
    assert_eq!(read(known), (8, true));
    assert_eq!(read(known), (8, true));
    assert_eq!(read(b"select 1;set a = 1\0\0\0"), (18, false));
    assert_eq!(read(known), (8, true));
    assert_eq!(read(b"select\0 1\0\0"), (6, true));
    assert_eq!(read(b"select"), (6, true));
    assert_eq!(read(b"\0\0\0"), (0, true));
    let long = [vec![b' '; 600], b"select 1\0".to_vec()].concat();
    assert_eq!(read(&long), (608, true));
    assert_eq!(read(b"listen a\0"), (8, false));
    assert_eq!(read(b"listen a\0"), (8, false));
}

#[test]
fn words_that_change_code_are_found_wherever_a_read_cuts_their_message() {
    for bytes in [
        &b"Q\0\0\0Acreate or replace function f() returns int"[..],
        b"Q\0\0\0\x10ALTER\tview v",
        b"P\0\0\0\x10\0create trigger",
        b"-- all\nselect 1;\ncreate table t (); create policy p",
        b"Q\0\0\0Acreate domain d as int",
        b"alter /* that */ domain d add check (f(value))",
        b"create unlogged table u ()",
        b"IMPORT FOREIGN SCHEMA s from server o into p",
        b"alter table v rename to w",
        b"alter schema s rename to r",
    ] {
        assert!(may_change_code(bytes), "{bytes:?}");
    }
    for bytes in [
        &b"Q\0\0\0\x10select f from view"[..],
        b"create table created (a int)",
        b"create temp table x as select type, domain, schema from t",
        b"create table t (a int, foreign key (a) references s)",
        b"select alter from table",
        b"",
    ] {
        assert!(!may_change_code(bytes), "{bytes:?}");
    }
}
