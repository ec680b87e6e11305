//! Pipelines: what is owed, what an error swallows, when the server is free.

use super::linked;
use crate::config::value::PoolMode;
use crate::error::Error;

#[test]
fn a_plain_query_holds_the_server_until_ready_for_query() {
    let mut link = linked();
    link.client(["Q select 1|"]);
    assert!(!link.is_over());
    link.server(["T x", "D x", "C SELECT 1|"]);
    assert!(!link.is_over());
    link.server(["Z I"]);
    assert!(link.is_over());
    assert_eq!(link.heard(), ["T x", "D x", "C SELECT 1|", "Z I"]);
}

#[test]
fn a_transaction_holds_the_server_even_when_it_failed() {
    let mut link = linked();
    link.client(["Q begin|"]).server(["C BEGIN|", "Z T"]);
    assert!(!link.is_over());
    link.client(["Q x|"])
        .server(["E 42601 syntax error", "Z E"]);
    assert!(!link.is_over());
    link.client(["Q rollback|"]).server(["C ROLLBACK|", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_session_keeps_its_server() {
    let mut link = linked().in_mode(PoolMode::Session);
    link.client(["Q select 1|"]).server(["C SELECT 1|", "Z I"]);
    assert!(!link.is_over());
}

#[test]
fn a_transaction_block_in_statement_mode_is_an_error() {
    let mut link = linked().in_mode(PoolMode::Statement);
    link.client(["Q begin|"]).server(["C BEGIN|", "Z T"]);
    assert!(matches!(
        link.error,
        Some(Error::TransactionInStatementMode)
    ));
    assert!(link.server.doomed.is_some());
}

#[test]
fn an_error_swallows_everything_up_to_the_next_sync() {
    let mut link = linked();
    link.client([
        "P |x|||", "B |||||", "E |||||", "S ", "B |||||", "E |||||", "S ",
    ]);
    link.server(["1 ", "E 22012 division by zero", "Z I"]);
    assert!(!link.is_over(), "the second batch is still owed");
    link.server(["2 ", "C SELECT 1|", "Z I"]);
    assert!(link.is_over());
    assert_eq!(
        link.heard(),
        [
            "1 ",
            "E 22012 division by zero",
            "Z I",
            "2 ",
            "C SELECT 1|",
            "Z I"
        ]
    );
}

#[test]
fn answers_before_the_error_are_given_and_those_behind_it_are_not() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["B |||||", "C Sa|", "E |||||", "C Sb|", "S "]);
    link.server(["2 ", "E 22012 division by zero", "Z I"]);
    assert_eq!(
        link.heard(),
        ["2 ", "3 ", "E 22012 division by zero", "Z I"]
    );
    assert!(link.client.names.is_empty() && link.is_over());
}

#[test]
fn after_an_error_the_server_is_held_until_the_client_syncs() {
    let mut link = linked();
    link.client(["P a|x|||", "H "])
        .server(["E 42601 syntax error"]);
    assert!(!link.is_over());
    link.client(["B |a||||", "Q select 1|", "P b|y|||"]).sent();
    assert!(!link.is_over(), "the server ignores it all");
    link.client(["S "]).server(["Z I"]);
    assert!(link.is_over() && link.client.names.is_empty());
    assert_eq!(link.heard(), ["E 42601 syntax error", "Z I"]);
}

#[test]
fn what_the_server_ignores_passes_untouched() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["B |x||||", "H "])
        .server(["E 26000 no"])
        .sent();
    link.client(["P b|select 2|||", "B |a||||", "D Sa|", "C Sa|", "F x", "S "]);
    assert_eq!(
        link.sent(),
        ["P b|select 2|||", "B |a||||", "D Sa|", "C Sa|", "F x", "S "]
    );
    link.server(["Z I"]);
    assert_eq!(link.heard(), ["E 26000 no", "Z I"]);
    assert_eq!(link.client.names.len(), 1);
    assert!(link.is_over());
}

#[test]
fn an_open_batch_holds_the_server_though_nothing_is_owed() {
    let mut link = linked();
    link.client(["P a|x|||", "H "]).server(["1 "]);
    assert!(!link.is_over());
    link.client(["S "]).server(["Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_batch_of_answered_messages_holds_the_server_until_its_sync() {
    let mut link = linked();
    link.client(["C Sa|", "H "]);
    assert_eq!(link.sent(), ["H "]);
    assert_eq!(link.heard(), ["3 "]);
    assert!(!link.is_over());
    link.client(["S "]).server(["Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_flush_alone_holds_nothing() {
    let mut link = linked();
    link.client(["H "]);
    assert!(link.is_over());
}

#[test]
fn a_failing_commit_at_sync_is_followed_by_ready_for_query() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "S "]);
    link.server(["2 ", "C INSERT 0 1|", "E 23503 foreign key", "Z I"]);
    assert!(link.is_over());
    assert_eq!(link.heard().len(), 4);
}

#[test]
fn a_suspended_portal_and_an_empty_query_settle_their_execute() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "E |||||", "S "]);
    link.server(["2 ", "D x", "s ", "I ", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_function_call_is_relayed() {
    let mut link = linked();
    link.client(["F x"]);
    assert_eq!(link.sent(), ["F x"]);
    link.server(["V x", "Z I"]);
    assert_eq!(link.heard(), ["V x", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn terminate_reaches_no_server() {
    let mut link = linked();
    link.client(["Q select 1|", "X ", "Q select 2|"]);
    assert_eq!(link.sent(), ["Q select 1|"]);
    assert_eq!(link.flow, crate::protocol::requests::Flow::Left);
}

#[test]
fn what_no_client_may_send_is_refused() {
    for bytes in [
        &b"p\0\0\0\x05x"[..],
        b"\0\0\0\0\x04",
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
    ] {
        let mut link = linked();
        link.rules.max_packet = 1 << 20;
        link.client_bytes(bytes);
        assert!(link.error.is_some(), "{bytes:?}");
    }
}

#[test]
fn simple_queries_are_refused_where_they_are_disallowed() {
    let mut link = linked();
    link.rules.no_simple_query = true;
    link.client(["Q select 1|"]);
    assert!(matches!(link.error, Some(Error::SimpleQueryDisallowed)));
}

#[test]
fn a_query_ends_the_batch_before_it() {
    let mut link = linked();
    link.client(["P |x|||", "Q select 1|"]);
    link.server(["1 ", "C SELECT 1|", "Z I"]);
    assert!(link.is_over(), "no Sync need follow");
    link.client(["P |x|||", "F x"]).server(["1 ", "V x", "Z I"]);
    assert!(link.is_over());
    link.client(["P |x|||", "Q select 1|"])
        .server(["E 42601 syntax error"]);
    assert!(!link.is_over(), "the query is ignored, a Sync must follow");
}

#[test]
fn nothing_is_answered_in_a_failed_transaction_that_the_server_would_refuse() {
    let mut link = linked();
    link.prepared("a", "select 1").another_client();
    link.client(["Q begin; x|"])
        .server(["E 42601 syntax error", "Z E"]);
    link.sent();
    link.client(["P b|select 1|||", "B |b||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "C SPOOLER_1|",
            "P POOLER_1|select 1|||",
            "B |POOLER_1||||",
            "S "
        ]
    );
    link.server(["3 ", "E 25P02 transaction is aborted", "Z E"]);
    assert!(link.client.names.is_empty() && link.server.held.is_empty());
    assert_eq!(link.heard()[2..], ["E 25P02 transaction is aborted", "Z E"]);
}
