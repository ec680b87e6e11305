//! Statements in pipelines that fail, or behind a DEALLOCATE ALL: what is to be undone, and what is not to be relied upon.

use super::linked;

#[test]
fn a_describe_that_meets_a_changed_result_type_has_the_plan_prepared_anew() {
    let mut link = linked();
    link.prepared("a", "select * from t");
    link.client(["D Sa|", "S "]).sent();
    link.server(["E 0A000 cached plan must not change result type", "Z I"]);
    link.client(["C Sa|", "P a|select * from t|||", "D Sa|", "S "]);
    assert_eq!(
        link.sent(),
        [
            "C SPOOLER_1|",
            "P POOLER_2|select * from t|||",
            "D SPOOLER_2|",
            "S "
        ]
    );
}

#[test]
fn a_changed_plan_is_closed_even_when_its_eviction_was_skipped() {
    let mut link = linked().holding_at_most(1);
    link.prepared("a", "select * from t");
    link.client(["B |a||||", "P b|select 2|||", "S "]).sent();
    link.server(["E 0A000 cached plan must not change result type", "Z I"]);
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
}

#[test]
fn a_stale_plan_whose_close_was_skipped_is_still_stale() {
    let mut link = linked();
    link.prepared("a", "select * from t");
    link.client(["B |a||||", "S "]);
    link.server(["E 0A000 cached plan must not change result type", "Z I"])
        .sent();
    link.client(["B |nobody||||", "B |a||||", "S "]).sent();
    link.server(["E 26000 no", "Z I"]);
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
}

#[test]
fn what_was_to_be_prepared_again_for_fear_of_a_discard_is_still_there_when_that_was_skipped() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["E nobody|||||", "P b|select 1|||", "S "])
        .sent();
    link.server(["E 34000 no such portal", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
}

#[test]
fn an_error_behind_deallocate_all_brings_nothing_back() {
    let mut link = linked().holding_at_most(1);
    link.prepared("a", "select 1");
    link.client([
        "E |||||",
        "P b|select 1|||",
        "C Sa|",
        "P c|select 2|||",
        "S ",
    ])
    .sent();
    link.server(["C DEALLOCATE ALL|", "3 ", "E 25P02 no", "Z I"]);
    assert!(link.client.names.is_empty(), "{:?}", link.client.names);
    assert!(link.server.held.is_empty(), "{:?}", link.server.held);
    link.client(["P a|select 1|||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_3|select 1|||");
}

#[test]
fn a_parse_that_an_earlier_batch_may_yet_skip_is_not_relied_upon() {
    let mut link = linked();
    link.prepared("a", "select 1").another_server();
    link.client([
        "E nobody|||||",
        "B |a||||",
        "S ",
        "B |a||||",
        "E |||||",
        "S ",
    ]);
    assert_eq!(
        link.sent()[4..],
        [
            "C SPOOLER_1|",
            "P POOLER_1|select 1|||",
            "B |POOLER_1||||",
            "E |||||",
            "S "
        ]
    );
    link.server(["E 34000 no", "Z I", "3 ", "1 ", "2 ", "C SELECT 1|", "Z I"]);
    assert_eq!(
        link.heard(),
        ["E 34000 no", "Z I", "2 ", "C SELECT 1|", "Z I"]
    );
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_1||||", "S "]);
}

#[test]
fn a_parse_that_comes_first_in_its_batch_is_relied_upon() {
    let mut link = linked();
    link.prepared("a", "select 1").another_server();
    link.client(["B |a||||", "E |||||", "S ", "B |a||||", "E |||||", "S "]);
    assert_eq!(link.sent()[4..], ["B |POOLER_1||||", "E |||||", "S "]);
}

#[test]
fn a_close_that_an_earlier_batch_may_yet_skip_is_not_relied_upon() {
    let mut link = linked().holding_at_most(1);
    link.prepared("b", "select 2");
    link.client(["P a|select 1|||", "S "]);
    link.server(["1 ", "3 ", "Z I"]);
    link.sent();
    link.heard();
    link.client(["E nobody|||||", "B |b||||", "S ", "B |a||||", "S "]);
    assert_eq!(
        link.sent()[1..],
        [
            "P POOLER_1|select 2|||",
            "C SPOOLER_2|",
            "B |POOLER_1||||",
            "S ",
            "C SPOOLER_2|",
            "P POOLER_2|select 1|||",
            "C SPOOLER_1|",
            "B |POOLER_2||||",
            "S "
        ]
    );
    link.server(["E 34000 no", "Z I", "3 ", "1 ", "3 ", "2 ", "Z I"]);
    assert_eq!(link.heard(), ["E 34000 no", "Z I", "2 ", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_2||||", "S "]);
}

#[test]
fn what_a_batch_undoes_does_not_undo_what_a_later_batch_did_to_the_same_name() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["E nobody|||||", "C Sa|", "S ", "P a|select 2|||", "S "])
        .sent();
    link.server(["E 34000 no", "Z I", "1 ", "Z I"]);
    assert_eq!(link.heard(), ["E 34000 no", "Z I", "1 ", "Z I"]);
    link.client(["B |a||||", "S "]);
    assert_eq!(link.sent(), ["B |POOLER_2||||", "S "]);
}

#[test]
fn a_name_may_be_given_again_right_behind_deallocate_all() {
    for (text, again) in [("select 1", "POOLER_1"), ("select 2", "POOLER_2")] {
        let mut link = linked();
        link.prepared("a", "select 1");
        let parse = format!("P a|{text}|||");
        link.client(["Q deallocate all|", &parse, "B |a||||", "S "]);
        assert_eq!(
            link.sent()[1..],
            [&format!("P POOLER_1|{text}|||"), "B |POOLER_1||||", "S "]
        );
        link.server(["C DEALLOCATE ALL|", "Z I", "1 ", "2 ", "Z I"]);
        assert_eq!(
            link.heard(),
            ["C DEALLOCATE ALL|", "Z I", "1 ", "2 ", "Z I"]
        );
        link.client(["B |a||||", "S "]);
        let sent = link.sent();
        assert!(sent.contains(&format!("B |{again}||||")), "{sent:?}");
        if text == "select 2" {
            assert_eq!(sent[..2], ["C SPOOLER_1|", "P POOLER_2|select 2|||"]);
        }
    }
}

#[test]
fn a_refused_duplicate_is_told_in_the_bytes_of_its_name() {
    let mut link = linked();
    let parse = super::raw_frame(b'P', b"\xfc\0select 1\0\0\0");
    link.client_bytes(&parse)
        .client(["S "])
        .server(["1 ", "Z I"])
        .heard();
    link.client_bytes(&parse).client(["S "]);
    link.server([
        "E 42P05 prepared statement \"POOLER_1\" already exists",
        "Z I",
    ]);
    let said = b"Mprepared statement \"\xfc\" already exists\0";
    assert!(
        link.to_client
            .windows(said.len())
            .any(|bytes| bytes == said)
    );
}

#[test]
fn a_duplicate_with_a_mistake_in_its_text_gets_the_error_of_its_text() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["P a|selec|||", "S "]);
    assert_eq!(link.sent()[0], "P POOLER_1|selec|||");
    link.server(["E 42601 syntax error", "Z I"]);
    assert_eq!(link.heard(), ["E 42601 syntax error", "Z I"]);
    assert_eq!(link.client.names.len(), 1);
}

#[test]
fn a_name_given_again_behind_deallocate_all_may_be_used_before_the_server_says_so() {
    for text in ["select 1", "select 2"] {
        let mut link = linked();
        link.prepared("a", "select 1");
        let parse = format!("P a|{text}|||");
        link.client(["Q deallocate all|", &parse]);
        link.server(["C DEALLOCATE ALL|", "Z I"]).sent();
        link.client(["B |a||||", "S "]);
        let sent = link.sent();
        if text == "select 1" {
            assert_eq!(sent, ["B |POOLER_1||||", "S "]);
        } else {
            assert_eq!(sent[..2], ["P POOLER_2|select 2|||", "B |POOLER_2||||"]);
            link.server(["1 "]);
        }
        link.server(["1 ", "2 ", "Z I"]);
        assert_eq!(link.heard()[2..], ["1 ", "2 ", "Z I"]);
        assert!(link.is_over());
    }
}

#[test]
fn a_name_given_again_behind_deallocate_all_is_gone_when_that_was_skipped() {
    let mut link = linked();
    link.prepared("a", "select 1");
    link.client(["E |||||", "E nobody|||||", "P a|select 1|||", "S "])
        .sent();
    link.server(["C DEALLOCATE ALL|", "E 34000 no such portal", "Z I"]);
    assert!(link.client.names.is_empty() && link.server.held.is_empty());
}

#[test]
fn a_reply_to_an_earlier_parse_proves_nothing_about_a_later_one() {
    let mut link = linked().holding_at_most(1);
    link.prepared("a", "select 1");
    link.client(["P b|select 2|||", "S "])
        .server(["1 ", "3 ", "Z I"]);
    link.another_server();
    link.client([
        "B |a||||",
        "S ",
        "B |b||||",
        "E nobody|||||",
        "B |a||||",
        "S ",
    ]);
    link.server(["1 ", "2 ", "Z I"]).sent();
    link.client(["B |a||||", "S "]);
    assert_eq!(
        link.sent(),
        [
            "C SPOOLER_1|",
            "P POOLER_1|select 1|||",
            "B |POOLER_1||||",
            "S "
        ]
    );
}
