//! Prepared statements: who holds what, and under which name.

use super::{linked, show};
use crate::config::value::PoolMode;

#[test]
fn a_statement_lives_on_the_server_under_the_poolers_name() {
    let mut link = linked();
    link.client(["P a|select 1|||", "B |a||||", "D Sa|", "E |||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "P POOLER_1|select 1|||",
            "B |POOLER_1||||",
            "D SPOOLER_1|",
            "E |||||",
            "S "
        ]
    );
    link.server(["1 ", "2 ", "t ||", "T x", "D x", "C SELECT 1|", "Z I"]);
    assert_eq!(
        link.heard(),
        ["1 ", "2 ", "t ||", "T x", "D x", "C SELECT 1|", "Z I"]
    );
    assert!(link.is_over());
}

#[test]
fn a_parse_that_the_server_already_has_is_answered_by_the_pooler() {
    let mut link = linked();
    link.prepared("a", "select 1").another_client();
    link.client(["P b|select 1|||", "B |b||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
    link.server(["2 ", "Z I"]);
    assert_eq!(link.heard(), ["1 ", "2 ", "Z I"]);
}

#[test]
fn the_poolers_answer_waits_for_the_replies_before_it() {
    let mut link = linked();
    link.prepared("a", "select 1").another_client();
    link.client(["D Px|", "P b|select 1|||", "C Sb|", "D P|", "S "]);
    assert_eq!(link.sent(), ["D Px|", "D P|", "S "]);
    assert!(link.heard().is_empty());
    link.server(["n "]);
    assert_eq!(link.heard(), ["n ", "1 ", "3 "]);
    link.server(["n ", "Z I"]);
    assert_eq!(link.heard(), ["n ", "Z I"]);
}

#[test]
fn a_bind_is_preceded_by_the_parse_that_this_server_lacks() {
    let mut link = linked();
    link.prepared("a", "select 1").another_server();
    link.client(["B p|a||||", "D Sa|", "S "]);
    assert_eq!(
        link.sent(),
        [
            "P POOLER_1|select 1|||",
            "B p|POOLER_1||||",
            "D SPOOLER_1|",
            "S "
        ]
    );
    link.server(["1 ", "2 ", "t ||", "n ", "Z I"]);
    assert_eq!(link.heard(), ["2 ", "t ||", "n ", "Z I"]);
}

#[test]
fn names_are_renamed_in_raw_bytes() {
    let mut link = linked();
    let name = b"\xfc\xff";
    let parse = super::raw_frame(b'P', &[name, &b"\0select '\xfc'\0\0\0"[..]].concat());
    let bind = super::raw_frame(b'B', &[b"\0", &name[..], &b"\0\0\0\0\x01\0\0"[..]].concat());
    link.client_bytes(&[parse, bind].concat());
    let expected = [
        super::raw_frame(b'P', b"POOLER_1\0select '\xfc'\0\0\0"),
        super::raw_frame(b'B', b"\0POOLER_1\0\0\0\0\x01\0\0"),
    ];
    assert_eq!(link.to_server, expected.concat());
}

#[test]
fn an_unknown_name_is_the_servers_error_and_the_session_stays() {
    let mut link = linked();
    link.client(["B |x||||", "E |||||", "S "]);
    assert_eq!(link.sent(), ["B |x||||", "E |||||", "S "]);
    link.server(["E 26000 prepared statement \"x\" does not exist", "Z I"]);
    assert_eq!(
        link.heard(),
        ["E 26000 prepared statement \"x\" does not exist", "Z I"]
    );
    assert!(link.is_over());
}

#[test]
fn a_duplicate_name_is_refused_in_the_clients_own_name_and_the_session_stays() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["P a|select 2|||", "B |a||||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_1|select 2|||");
    link.server([
        "E 42P05 prepared statement \"POOLER_1\" already exists",
        "Z I",
    ]);
    assert_eq!(
        link.heard(),
        ["E 42P05 prepared statement \"a\" already exists", "Z I"]
    );
    assert!(link.is_over());
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
}

#[test]
fn a_client_cannot_reach_statements_by_the_poolers_names() {
    let mut link = linked();
    link.prepared("a", "select 1").another_client();
    link.client(["B |POOLER_1||||", "D SPOOLER_1|", "C SPOOLER_1|", "S "]);
    assert_eq!(
        link.sent(),
        ["B |unknown POOLER_1||||", "D Sunknown POOLER_1|", "S "]
    );
    link.server([
        "E 26000 prepared statement \"unknown POOLER_1\" does not exist",
        "Z I",
    ]);
    assert_eq!(
        link.heard(),
        [
            "E 26000 prepared statement \"POOLER_1\" does not exist",
            "Z I"
        ],
        "the client hears the name that it gave"
    );
    link.client(["P POOLER_1|select 2|||", "B |POOLER_1||||", "S "]);
    assert_eq!(
        link.sent(),
        ["P POOLER_2|select 2|||", "B |POOLER_2||||", "S "]
    );
}

#[test]
fn a_failed_parse_leaves_no_name_behind() {
    let mut link = linked();
    link.client(["P a|selec|||", "S "]).sent();
    link.server(["E 42601 syntax error", "Z I"]);
    assert!(link.client.names.is_empty() && link.server.held.is_empty());
    link.client(["P a|select 1|||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_2|select 1|||");
}

#[test]
fn a_close_is_answered_and_nothing_is_sent() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["C Sa|", "C Sunknown|", "S "]);
    assert_eq!(link.sent(), ["S "]);
    assert_eq!(link.heard(), ["3 ", "3 "]);
    assert!(!link.is_over());
    link.server(["Z I"]);
    assert!(link.is_over() && link.client.names.is_empty());
}

#[test]
fn a_close_and_parse_that_the_server_skipped_have_not_happened() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["B |nobody||||", "C Sa|", "P a|select 2|||", "S "]);
    assert_eq!(
        link.sent(),
        ["B |nobody||||", "P POOLER_2|select 2|||", "S "]
    );
    link.server(["E 26000 no", "Z I"]);
    assert_eq!(link.heard(), ["E 26000 no", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
}

#[test]
fn the_least_recently_used_statement_is_closed_on_the_server_not_for_the_client() {
    let mut link = linked().holding_at_most(1);
    link.prepared("a", "select 1");
    link.client(["P b|select 2|||", "B |b||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "P POOLER_2|select 2|||",
            "C SPOOLER_1|",
            "B |POOLER_2||||",
            "S "
        ]
    );
    link.server(["1 ", "3 ", "2 ", "Z I"]);
    assert_eq!(link.heard(), ["1 ", "2 ", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "P POOLER_1|select 1|||",
            "C SPOOLER_2|",
            "B |POOLER_1||||",
            "S "
        ]
    );
}

#[test]
fn a_statement_may_be_closed_while_its_parse_is_still_under_way() {
    let mut link = linked().holding_at_most(1);
    link.client(["P a|select 1|||", "P b|select 2|||", "B |a||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "P POOLER_1|select 1|||",
            "P POOLER_2|select 2|||",
            "C SPOOLER_1|",
            "P POOLER_1|select 1|||",
            "C SPOOLER_2|",
            "B |POOLER_1||||",
            "S "
        ]
    );
    link.server(["1 ", "1 ", "3 ", "1 ", "3 ", "2 ", "Z I"]);
    assert_eq!(link.heard(), ["1 ", "1 ", "2 ", "Z I"]);
}

#[test]
fn an_eviction_that_the_server_skipped_has_not_happened() {
    let mut link = linked().holding_at_most(1);
    link.prepared("a", "select 1");
    link.client(["B |nobody||||", "P b|select 2|||", "S "])
        .sent();
    link.server(["E 26000 no", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
}

#[test]
fn deallocate_all_and_discard_all_empty_both_maps() {
    for command in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let mut link = linked();
        link.prepared("a", "select 1");
        link.client([&format!("Q {command}|")]);
        link.server([&format!("C {command}|"), "Z I"]);
        assert!(link.client.names.is_empty() && link.server.held.is_empty());
        link.sent();
        link.client(["P a|select 1|||", "S "]);
        assert_eq!(link.sent(), ["P POOLER_2|select 1|||", "S "]);
    }
}

#[test]
fn deallocate_all_spares_what_was_prepared_behind_it_in_the_pipeline() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client([
        "P |deallocate all|||",
        "B |||||",
        "E |||||",
        "P b|select 1|||",
        "B |b||||",
        "S ",
    ]);
    assert_eq!(
        link.sent(),
        [
            "P |deallocate all|||",
            "B |||||",
            "E |||||",
            "C SPOOLER_1|",
            "P POOLER_1|select 1|||",
            "B |POOLER_1||||",
            "S "
        ]
    );
    link.server(["1 ", "2 ", "C DEALLOCATE ALL|", "3 ", "1 ", "2 ", "Z I"]);
    assert_eq!(
        link.heard(),
        ["1 ", "2 ", "C DEALLOCATE ALL|", "1 ", "2 ", "Z I"]
    );
    link.client(["B |b||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
    assert!(!link.client.names.contains_key(&b"a"[..]));
}

#[test]
fn a_plan_whose_result_type_changed_is_prepared_anew() {
    let mut link = linked();
    link.prepared("a", "select * from t");
    link.client(["B |a||||", "S "]).sent();
    link.server(["E 0A000 cached plan must not change result type", "Z I"]);
    link.heard();
    link.client(["B |a||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "C SPOOLER_1|",
            "P POOLER_1|select * from t|||",
            "B |POOLER_1||||",
            "S "
        ]
    );
    link.server(["3 ", "1 ", "2 ", "Z I"]);
    assert_eq!(link.heard(), ["2 ", "Z I"]);
    link.client(["C Sa|", "P a|select * from t|||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_2|select * from t|||");
}

#[test]
fn a_text_prepared_after_its_table_was_altered_never_meets_the_old_plan() {
    for last in ["C ALTER TABLE|", "C DROP TABLE|"] {
        let mut link = linked();
        link.prepared("a", "select * from t");
        link.client(["C Sa|", "Q alter or drop|", "S "]).sent();
        link.server(["C BEGIN|", last, "C COMMIT|", "Z I", "Z I"]);
        link.heard();
        link.client(["P a|select * from t|||", "S "]);
        assert_eq!(link.sent(), ["P POOLER_2|select * from t|||", "S "]);
    }
}

#[test]
fn a_text_prepared_while_its_table_is_being_altered_is_prepared_again_after_the_commit() {
    let mut link = linked();
    link.client(["Q begin; alter|"]).sent();
    link.server(["C BEGIN|", "C ALTER TABLE|", "Z T"]);
    link.client(["P a|select * from t|||", "S "]);
    link.server(["1 ", "Z T"]);
    assert_eq!(link.sent()[0], "P POOLER_1|select * from t|||");
    link.client(["Q commit|"]).sent();
    link.server(["C COMMIT|", "Z I"]);
    link.client(["C Sa|", "P a|select * from t|||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_2|select * from t|||");
}

#[test]
fn without_tracking_names_pass_as_they_are() {
    for mut link in [
        linked().holding_at_most(0),
        linked().in_mode(PoolMode::Session),
    ] {
        link.client(["P a|select 1|||", "B |a||||", "D Sa|", "C Sa|", "S "]);
        assert_eq!(
            link.sent(),
            ["P a|select 1|||", "B |a||||", "D Sa|", "C Sa|", "S "]
        );
        link.server(["1 ", "2 ", "t ||", "n ", "3 ", "Z I"]);
        assert_eq!(link.heard(), ["1 ", "2 ", "t ||", "n ", "3 ", "Z I"]);
    }
}

#[test]
fn names_that_do_not_end_are_the_clients_mistake() {
    for broken in ["P a", "B a", "B |a", "D Sa", "C Sa"] {
        let mut link = linked();
        link.client([broken]);
        assert!(link.error.is_some(), "{broken}");
    }
    for short in ["D ", "D S", "C ", "C P", "P "] {
        let mut link = linked();
        link.client([short]);
        assert_eq!(
            show(&link.to_server),
            [short],
            "the server says what is wrong with it"
        );
    }
}

#[test]
fn a_portal_may_have_any_name() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["B a|a||||", "D Pa|", "E a|||||", "C Pa|", "S "]);
    assert_eq!(
        link.sent(),
        ["B a|POOLER_1||||", "D Pa|", "E a|||||", "C Pa|", "S "]
    );
}

#[test]
fn an_unnamed_statement_that_is_not_bound_yet_stays_with_its_server() {
    let mut link = linked();
    link.client(["P |select 1|||", "D S|", "S "]);
    link.server(["1 ", "t ||", "n ", "Z I"]);
    assert!(!link.is_over(), "the client has not used it");
    link.client(["B |||||", "E |||||", "S "]);
    link.server(["2 ", "C SELECT 1|", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn an_unnamed_statement_of_another_client_is_never_met() {
    let mut link = linked();
    link.client(["B |||||", "D S|", "S "]);
    assert_eq!(link.sent(), ["B |unknown ||||", "D Sunknown |", "S "]);
}

#[test]
fn an_unnamed_statement_that_failed_holds_nobody() {
    let mut link = linked();
    link.client(["P |selec|||", "S "]);
    link.server(["E 42601 syntax", "Z I"]);
    assert!(link.is_over());
}
