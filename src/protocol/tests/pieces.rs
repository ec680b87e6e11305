//! The same bytes, however they are cut.

use super::{Link, frame, linked, raw_frame};

/// A conversation: from the client, from the server, and so on.
const TALK: [(&[&str], &[&str]); 4] = [
    (
        &["P a|select 1|||", "B |a||||", "D Sa|", "E |||||", "S "],
        &[
            "1 ",
            "2 ",
            "t ||",
            "T a long row description",
            "D x",
            "C SELECT 1|",
            "Z I",
        ],
    ),
    (
        &["B |nobody||||", "P b|select 2|||", "C Sa|", "S "],
        &["E 26000 no such statement", "Z I"],
    ),
    (
        &["P a|select 3|||", "S "],
        &[
            "E 42P05 prepared statement \"POOLER_1\" already exists",
            "Z I",
        ],
    ),
    (
        &[
            "D Sa|",
            "C Sa|",
            "C Sb|",
            "P c|select 1|||",
            "S ",
            "Q discard all|",
        ],
        &[
            "t ||",
            "T a long row description",
            "Z I",
            "S TimeZone|CET|",
            "C DISCARD ALL|",
            "Z I",
        ],
    ),
];

fn talk(cut: usize) -> Link {
    let mut link = linked();
    for (request, reply) in TALK {
        let bytes: Vec<u8> = request.iter().flat_map(|text| frame(text)).collect();
        for piece in bytes.chunks(cut) {
            link.client_bytes(piece);
        }
        let bytes: Vec<u8> = reply.iter().flat_map(|text| frame(text)).collect();
        for piece in bytes.chunks(cut) {
            link.server_bytes(piece);
        }
        assert!(link.is_over(), "cut {cut}: {:?}", link.error);
    }
    link
}

#[test]
fn any_cut_gives_the_same_bytes() {
    let mut whole = talk(usize::MAX);
    let (sent, heard) = (whole.sent(), whole.heard());
    for cut in 1..60 {
        let mut cut_up = talk(cut);
        assert_eq!(cut_up.sent(), sent, "cut {cut}");
        assert_eq!(cut_up.heard(), heard, "cut {cut}");
    }
}

#[test]
fn a_large_message_streams_through_and_nothing_of_it_is_kept() {
    let mut link = linked();
    link.prepared("a", "select $1");
    let body = [b"\0a\0".as_slice(), &[b'x'; 1 << 20]].concat();
    let bind = raw_frame(b'B', &body);
    let (head, rest) = bind.split_at(4096);
    link.client_bytes(head);
    assert_eq!(link.to_server.len(), 4096 + "POOLER_1".len() - 1);
    for piece in rest.chunks(4096) {
        link.client_bytes(piece);
        assert_eq!(link.client.walk.stash.capacity(), 0);
    }
    assert_eq!(link.to_server.len(), bind.len() + "POOLER_1".len() - 1);
    link.client(["S "]).server(["2 "]);
    let row = raw_frame(b'D', &[b'x'; 1 << 20]);
    for piece in row.chunks(4096) {
        link.server_bytes(piece);
        assert_eq!(link.server.walk.stash.capacity(), 0);
    }
    assert_eq!(link.to_client.len(), "2....".len() + row.len());
}

#[test]
fn a_name_that_never_ends_is_refused_before_it_fills_the_memory() {
    let mut link = linked();
    let bind = raw_frame(b'B', &[b'x'; 1 << 20]);
    for piece in bind.chunks(1000) {
        link.client_bytes(piece);
        if link.error.is_some() {
            return;
        }
        assert!(link.client.walk.stash.len() <= 1 << 17);
    }
    panic!("a name of a megabyte was taken");
}

#[test]
fn an_answer_comes_right_behind_the_reply_it_waits_for_however_that_is_cut() {
    let reply = raw_frame(b'T', &[b'x'; 3000]);
    for cut in [1, 2, 5, 6, 7, 100, 2999, 3004, 3005, 3006] {
        let mut link = linked();
        link.client(["D P|", "C Sa|", "C Sb|", "D P|", "H "]);
        for piece in reply.chunks(cut) {
            link.server_bytes(piece);
        }
        let answers = frame("3 ").repeat(2);
        assert_eq!(link.to_client, [&reply[..], &answers].concat(), "cut {cut}");
        link.server_bytes(&reply).client(["S "]).server(["Z I"]);
        assert_eq!(link.heard().len(), 5);
        assert!(link.is_over());
    }
}

#[test]
fn an_answer_never_lands_inside_a_reply() {
    let reply = raw_frame(b'T', &[b'x'; 3000]);
    for cut in 1..reply.len() {
        let mut link = linked();
        link.client(["D P|", "H "]);
        link.server_bytes(&reply[..cut]);
        link.client(["C Sa|", "H "]);
        link.server_bytes(&reply[cut..]);
        assert_eq!(
            link.to_client,
            [&reply[..], &frame("3 ")].concat(),
            "cut {cut}"
        );
    }
}

#[test]
fn an_answer_never_lands_inside_a_notice_and_does_not_wait_for_what_comes_behind_it() {
    let notice = frame("N SNOTICE|Mhello||");
    for cut in 1..notice.len() {
        let mut link = linked();
        link.client(["H "]).server_bytes(&notice[..cut]);
        link.client(["C Sa|", "H "]);
        link.server_bytes(&notice[cut..]);
        let mut heard = link.heard();
        heard.sort();
        assert_eq!(heard, ["3 ", "N SNOTICE|Mhello||"], "cut {cut}");
    }
}
