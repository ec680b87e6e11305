//! What a server may say, asked or not.

use std::sync::Arc;

use super::linked;
use crate::error::Error;
use crate::protocol::pipeline::Owed;

#[test]
fn notices_and_notifications_change_nothing() {
    let mut link = linked();
    link.client(["Q listen x|"]);
    link.server(["N SNOTICE||", "A 1234x||", "C LISTEN|", "A 1234x||", "Z I"]);
    assert!(link.is_over());
    assert_eq!(link.heard().len(), 5);
    link.server(["N SNOTICE||", "A 1234x||"]);
    assert!(link.is_over());
}

#[test]
fn an_error_that_nobody_asked_for_dooms_the_server() {
    let mut link = linked();
    link.client(["Q begin|"])
        .server(["C BEGIN|", "Z T"])
        .heard();
    link.server(["E 57P01 terminating connection"]);
    assert_eq!(link.heard(), ["E 57P01 terminating connection"]);
    assert!(link.server.doomed.is_some() && !link.server.is_free());
}

#[test]
fn replies_that_nobody_asked_for_doom_the_server() {
    for reply in [
        "D x",
        "C SELECT 1|",
        "1 ",
        "Z I",
        "T x",
        "Z X",
        "K 12345678",
        "R |||",
    ] {
        let mut link = linked();
        link.server([reply]);
        assert!(
            matches!(link.error, Some(Error::ServerProtocol(_))),
            "{reply}"
        );
        assert!(link.server.doomed.is_some(), "{reply}");
        assert!(link.to_client.is_empty(), "{reply}");
    }
}

#[test]
fn a_message_beyond_the_limit_dooms_the_server() {
    let mut link = linked();
    link.rules.max_packet = 30;
    link.client(["Q select x|"]);
    link.server(["T x", "D a short one"]);
    assert!(link.error.is_none());
    link.server(["D one of more than thirty bytes"]);
    let told = link
        .error
        .map(|error| error.pgbouncer_message().into_owned());
    assert_eq!(told.as_deref(), Some("bad pkt header"));
    assert!(link.server.doomed.is_some());
}

#[test]
fn a_parameter_that_changes_goes_with_the_client() {
    let mut link = linked();
    link.client(["P |set timezone to cet|||", "B |||||", "E |||||", "S "]);
    link.server(["1 ", "2 ", "S TimeZone|CET|", "C SET|", "Z I"]);
    assert_eq!(link.client.params.get("timezone"), Some("CET"));
    assert!(Arc::ptr_eq(&link.client.params, &link.server.params));
    assert_eq!(link.heard()[2], "S TimeZone|CET|");
}

#[test]
fn the_server_is_told_the_clients_parameters_first_and_nobody_hears_of_it() {
    let mut link = linked();
    link.client.params = link.interner.make([("TimeZone", "CET")]);
    let mut out = Vec::new();
    assert!(
        !link.dialogue().prepare(&mut out),
        "no server ever took them"
    );
    assert_eq!(
        super::show(&out),
        ["Q BEGIN ISOLATION LEVEL READ COMMITTED;SET \"TimeZone\" TO 'CET';COMMIT|"]
    );
    link.client(["Q select 1|"]);
    link.server(["S TimeZone|CET|", "C SET|", "Z I", "C SELECT 1|", "Z I"]);
    assert_eq!(link.heard(), ["C SELECT 1|", "Z I"]);
    assert!(link.is_over() && link.client.params.are_accepted());
}

#[test]
fn parameters_that_the_server_refuses_are_noted_and_not_told() {
    let mut link = linked();
    link.client.params = link.interner.make([("TimeZone", "nowhere")]);
    link.dialogue().prepare(&mut Vec::new());
    link.server(["E 22023 invalid value", "Z I"]);
    assert!(link.heard().is_empty());
    let refusal = link.server.refused_ours.take().unwrap();
    assert_eq!(
        (&*refusal.code, &*refusal.message),
        ("22023", "invalid value")
    );
    assert!(!link.client.params.are_accepted());
}

#[test]
fn whatever_is_owed_up_to_a_ready_for_query_is_settled_by_an_error_and_one() {
    for owed in [
        Owed::Query,
        Owed::Ours,
        Owed::Aside,
        Owed::Look,
        Owed::Catalog,
        Owed::Function,
        Owed::Sync,
        Owed::RefusedQuery(Box::default()),
    ] {
        let mut link = linked();
        assert!(owed.ends_ready());
        link.server.pipeline.push(owed);
        link.server(["E 40001 the transaction was lost", "Z I"]);
        assert!(link.server.pipeline.is_empty(), "{:?}", link.server);
    }
}

#[test]
fn what_was_set_between_transactions_is_what_a_lost_one_goes_back_to() {
    let mut link = linked();
    link.rules.is_followed = true;
    link.client(["Q set timezone = 'Europe/Lisbon'|"]);
    link.server(["S TimeZone|Europe/Lisbon|", "C SET|", "Z I"]);
    let kept = Arc::clone(&link.client.params);
    link.client(["Q begin; set timezone = 'UTC'|"]);
    link.server(["C BEGIN|", "S TimeZone|UTC|", "C SET|", "Z T"]);
    assert!(!Arc::ptr_eq(&link.client.params, &kept));
    let settled = link.server.settled.clone();
    assert!(settled.is_some_and(|settled| Arc::ptr_eq(&settled, &kept)));
}
