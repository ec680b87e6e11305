//! COPY and its hard cases.

use super::linked;

#[test]
fn a_copy_holds_the_server_until_the_client_has_ended_it() {
    let mut link = linked();
    link.client(["Q copy t from stdin|"]).server(["G |||"]);
    link.client(["d 1", "H ", "S ", "d 2"]);
    assert!(!link.is_over());
    link.client(["c "]).server(["C COPY 2|", "Z I"]);
    assert!(link.is_over());
    assert_eq!(
        link.sent(),
        ["Q copy t from stdin|", "d 1", "H ", "S ", "d 2", "c "]
    );
}

#[test]
fn copy_out_passes() {
    let mut link = linked();
    link.client(["Q copy t to stdout|"]);
    link.server(["H |||", "d 1", "d 2", "c ", "C COPY 2|", "Z I"]);
    assert!(link.is_over());
    assert_eq!(link.heard().len(), 6);
}

#[test]
fn the_sync_sent_along_with_execute_is_ignored_by_a_server_that_takes_copy_data() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "S "])
        .server(["2 ", "G |||"]);
    link.client(["d 1", "c "]).server(["C COPY 1|"]);
    assert!(!link.is_over(), "the client's own Sync is to come");
    link.client(["S "]).server(["Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_simple_copy_that_fails_early_frees_the_server_and_its_tail_means_nothing() {
    let mut link = linked();
    link.client(["Q copy t from stdin|"]).server(["G |||"]);
    link.client(["d x"])
        .server(["E 22P02 invalid input", "Z I"]);
    assert!(link.is_over());
    let tail = [super::frame("d y"), super::frame("c ")].concat();
    assert_eq!(link.client.copy_tail_in(&tail), tail.len());
    let query = super::frame("Q select 1|");
    assert_eq!(link.client.copy_tail_in(&query), 0);
}

#[test]
fn a_client_that_never_ends_its_failed_copy_goes_on_with_its_next_query() {
    let mut link = linked();
    link.client(["Q copy t from stdin|"]).server(["G |||"]);
    link.client(["d x"])
        .server(["E 22P02 invalid input", "Z I"]);
    assert_eq!(link.client.copy_tail_in(&super::frame("Q select 1|")), 0);
    link.client(["Q select 1|"]).server(["C SELECT 1|", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_frame_of_copy_data_is_finished_before_the_server_goes() {
    let mut link = linked();
    link.client(["Q copy t from stdin|"]).server(["G |||"]);
    let data = super::frame("d 0123456789");
    link.client_bytes(&data[..8]);
    link.server(["E 22P02 invalid input", "Z I"]);
    assert!(!link.is_over());
    link.client_bytes(&data[8..]);
    assert!(link.is_over());
}

#[test]
fn an_extended_copy_that_fails_early_keeps_the_server_until_the_clients_sync() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "S "])
        .server(["2 ", "G |||"]);
    link.client(["d x"]).server(["E 22P02 invalid input"]);
    link.client(["d y", "c "]);
    assert!(!link.is_over());
    link.client(["S "]).server(["Z I"]);
    assert_eq!(
        link.heard(),
        ["2 ", "G |||", "E 22P02 invalid input", "Z I"]
    );
}

#[test]
fn a_copy_that_the_client_gives_up_ends_with_the_servers_error() {
    let mut link = linked();
    link.client(["Q copy t from stdin|"]).server(["G |||"]);
    link.client(["f never mind|"])
        .server(["E 57014 COPY failed", "Z I"]);
    assert!(link.is_over() && !link.client.copy_tail);
}

#[test]
fn the_tail_of_a_failed_copy_asks_for_no_server_however_it_is_cut() {
    let bytes = ["d first", "d second", "d ", "c "]
        .map(super::frame)
        .concat();
    let query = super::frame("Q select 1|");
    for cut in 1..bytes.len() {
        for early in 0..bytes.len() {
            let mut link = linked();
            link.client(["Q copy t from stdin|"])
                .server(["G |||"])
                .sent();
            link.client_bytes(&bytes[..early]);
            link.server(["E 22P02 invalid input", "Z I"]);
            let mut rest = bytes[early..].chunks(cut);
            while !link.is_over() {
                link.client_bytes(rest.next().unwrap());
            }
            for piece in rest {
                assert_eq!(link.client.copy_tail_in(piece), piece.len());
            }
            assert_eq!(link.client.copy_tail_in(&query), 0);
            link.client_bytes(&query);
            assert_eq!(link.sent().last().unwrap(), "Q select 1|");
        }
    }
}

#[test]
fn a_frame_that_came_in_part_before_a_copy_failed_is_not_taken_for_its_tail() {
    let query = super::frame("Q select 1|");
    for cut in 1..query.len() {
        let mut link = linked();
        link.client(["Q copy t from stdin|"])
            .server(["G |||"])
            .sent();
        link.client_bytes(&query[..cut.min(4)]);
        link.server(["E 57014 canceled", "Z I"]);
        assert!(link.is_over());
        assert_eq!(link.client.copy_tail_in(&query[cut.min(4)..]), 0);
        link.client_bytes(&query[cut.min(4)..]);
        assert_eq!(link.sent(), ["Q select 1|"]);
    }
}

#[test]
fn copy_data_may_be_sent_before_the_server_asks_for_it() {
    let mut link = linked();
    link.client(["Q copy t from stdin|", "d 1", "c "]);
    link.server(["G |||", "C COPY 1|", "Z I"]);
    assert!(link.is_over());
    link.client(["B |||||", "E |||||", "d 1", "c ", "S "]);
    link.server(["2 ", "G |||", "C COPY 1|"]);
    assert!(!link.is_over(), "that Sync comes after the copy");
    link.server(["Z I"]);
    assert!(link.is_over());
    link.client(["B |||||", "E |||||", "S ", "d 1", "c ", "S "]);
    link.server(["2 ", "G |||", "C COPY 1|", "Z I"]);
    assert!(link.is_over(), "only the second Sync comes after the copy");
    assert_eq!(link.heard().len(), 11);
}

#[test]
fn a_copy_end_for_a_query_that_copies_nothing_means_nothing() {
    let mut link = linked();
    link.client(["Q select 1|", "c ", "Q copy t from stdin|"]);
    link.server(["C SELECT 1|", "Z I", "G |||"]);
    assert!(!link.is_over());
    link.client(["d 1", "S ", "c "])
        .server(["C COPY 1|", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn two_copies_in_one_query_are_ended_one_after_the_other() {
    let mut link = linked();
    link.client(["Q copy a from stdin; copy b from stdin|", "d 1", "c "]);
    link.server(["G |||", "C COPY 1|", "G |||"]);
    link.client(["d 2", "S "]);
    assert!(!link.is_over());
    link.client(["c "]).server(["C COPY 1|", "Z I"]);
    assert!(link.is_over());
}

#[test]
fn a_copy_that_fails_before_it_reads_does_not_ignore_the_sync_sent_along() {
    let mut link = linked();
    link.client(["P |copy view from stdin|||", "B |||||", "E |||||", "S "]);
    link.server(["1 ", "2 ", "G |||", "E 42809 cannot copy to view", "Z I"]);
    assert_eq!(
        link.heard(),
        ["1 ", "2 ", "G |||", "E 42809 cannot copy to view", "Z I"]
    );
    assert!(link.is_over() && link.server.is_free());
    let tail = ["d 1", "c "].map(super::frame).concat();
    assert_eq!(link.client.copy_tail_in(&tail), tail.len());
    link.client(["S "]).server(["Z I"]);
    assert_eq!(link.heard(), ["Z I"]);
    assert!(link.is_over() && link.server.is_free());
}

#[test]
fn a_server_that_may_owe_one_more_ready_for_query_is_not_lent_again() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "S "])
        .server(["2 ", "G |||"]);
    link.client(["d x", "c ", "S "]);
    link.server(["E 22P02 invalid input", "Z I"]);
    assert_eq!(
        link.heard(),
        ["2 ", "G |||", "E 22P02 invalid input", "Z I"]
    );
    assert!(link.is_over() && !link.server.is_free());
}

#[test]
fn in_a_transaction_the_one_more_ready_for_query_is_passed_on() {
    let mut link = linked();
    link.client(["Q begin|"]).server(["C BEGIN|", "Z T"]);
    link.client(["B |||||", "E |||||", "S "])
        .server(["2 ", "G |||"]);
    link.client(["d x", "c ", "S "]);
    link.server(["E 42809 cannot copy to view", "Z E"]);
    assert!(!link.is_over());
    link.server(["Z E"])
        .client(["Q rollback|"])
        .server(["C ROLLBACK|", "Z I"]);
    assert_eq!(link.heard().len(), 9);
    assert!(link.is_over() && link.server.is_free());
}

#[test]
fn a_copy_that_succeeds_leaves_no_doubt_behind() {
    let mut link = linked();
    link.client(["B |||||", "E |||||", "S "])
        .server(["2 ", "G |||"]);
    link.client(["d 1", "c ", "S "])
        .server(["C COPY 1|", "Z I"]);
    assert!(link.is_over() && link.server.is_free());
    link.client(["B |||||", "E |||||", "S "]);
    link.server(["2 ", "E 22012 division by zero", "Z I"]);
    assert!(link.is_over() && link.server.is_free());
}
