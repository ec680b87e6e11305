use super::Interner;
use std::sync::Arc;

#[test]
fn equal_sets_are_the_same() {
    let interner = Interner::default();
    let one = interner.make([("TimeZone", "UTC"), ("DateStyle", "ISO")]);
    let two = interner.make([("DateStyle", "ISO"), ("TimeZone", "CET")]);
    assert!(!Arc::ptr_eq(&one, &two));
    assert!(Arc::ptr_eq(&one, &interner.with(&two, "timezone", "UTC")));
    assert!(one.batch_from(&one).is_none());
}

#[test]
fn only_the_difference_is_set_and_what_another_client_added_is_reset() {
    let interner = Interner::default();
    let server = interner.make([
        ("TimeZone", "UTC"),
        ("extra_float_digits", "3"),
        ("DateStyle", "ISO, MDY"),
    ]);
    let client = interner.make([
        ("TimeZone", "it's"),
        ("search_path", "\"$user\", public"),
        ("DateStyle", "ISO, MDY"),
    ]);
    assert_eq!(
        client.batch_from(&server).unwrap().settings,
        ["BEGIN ISOLATION LEVEL READ COMMITTED;\
              RESET \"extra_float_digits\";\
              SELECT pg_catalog.set_config('search_path','\"$user\", public',false);\
              SET \"TimeZone\" TO 'it''s';\
              COMMIT"]
    );
}

#[test]
fn a_backslash_cannot_end_a_literal() {
    let interner = Interner::default();
    let (empty, client) = (
        interner.make::<&str, &str>([]),
        interner.make([("application_name", "a\\'; drop")]),
    );
    assert_eq!(
        client.sql_from(&empty),
        "SET \"application_name\" TO E'a\\\\''; drop';"
    );
}

fn seen(found: &[(&str, &str)], prepared: &[(&str, &str)]) -> Arc<super::Parameters> {
    let interner = Interner::default();
    let none = interner.make::<&str, &str>([]);
    let found = found
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let prepared = prepared
        .iter()
        .map(|(name, text)| ((*name).into(), (*text).into()));
    interner.seen(&none, &none, found.collect(), prepared.collect())
}

#[test]
fn a_role_is_left_before_anything_is_set_and_taken_again_at_the_end() {
    let one = seen(&[("role", "a"), ("x.y", "1")], &[]);
    let two = seen(&[("role", "b"), ("x.y", "2")], &[]);
    assert_eq!(
        two.sql_from(&one),
        "RESET SESSION AUTHORIZATION;RESET ROLE;SET \"x\".\"y\" TO '2';SET \"role\" TO 'b';"
    );
    let none = seen(&[], &[]);
    assert_eq!(
        none.sql_from(&one),
        "RESET SESSION AUTHORIZATION;RESET ROLE;RESET \"x\".\"y\";"
    );
    assert_eq!(
        seen(&[("role", "a"), ("x.y", "1"), ("z", "1")], &[]).sql_from(&one),
        "RESET SESSION AUTHORIZATION;RESET ROLE;SET \"z\" TO '1';SET \"role\" TO 'a';"
    );
}

#[test]
fn what_was_prepared_is_taken_away_and_prepared_where_it_is_missing() {
    let one = seen(
        &[],
        &[
            ("p", "prepare p as select 1"),
            ("q", "prepare q as select 2"),
        ],
    );
    let two = seen(
        &[],
        &[
            ("p", "prepare p as select 3"),
            ("q", "prepare q as select 2"),
        ],
    );
    let batch = two.batch_from(&one).unwrap();
    assert_eq!(
        batch.settings,
        ["BEGIN ISOLATION LEVEL READ COMMITTED;DEALLOCATE \"p\";COMMIT"]
    );
    assert_eq!(batch.prepares, ["prepare p as select 3".into()]);
}

#[test]
fn what_is_not_ascii_is_sent_when_the_server_reads_the_clients_encoding() {
    let one = seen(&[("client_encoding", "UTF8")], &[]);
    let two = seen(&[("client_encoding", "LATIN1"), ("a.b", "\u{e9}")], &[]);
    let batch = two.batch_from(&one).unwrap();
    assert_eq!(batch.settings.len(), 2);
    assert!(batch.settings[0].contains("SET \"client_encoding\" TO 'LATIN1'"));
}
