use std::collections::HashMap;

use bytes::BytesMut;

use super::*;
use crate::protocol::message;

/// Texts that begin with these words ask for what they say.
#[derive(Default)]
struct Picture {
    names: HashMap<Vec<u8>, Verdict>,
}

fn verdict(text: &[u8]) -> Verdict {
    let modes = |access| Modes {
        access,
        ..Modes::default()
    };
    let (intent, begins) = match text {
        b"begin" => (Intent::Session, Some(modes(None))),
        b"begin read only" => (Intent::Session, Some(modes(Some(Access::ReadOnly)))),
        _ if text.starts_with(b"select") => (Intent::Read, None),
        b"commit" | b"rollback" => (Intent::Session, None),
        _ if text.starts_with(b"set") || text.starts_with(b"listen") => (Intent::Session, None),
        _ => (Intent::Write, None),
    };
    let bond = match text {
        b"commit" => Bond::Commit,
        b"rollback" => Bond::Rollback,
        _ if text.starts_with(b"listen") => Bond::Primary,
        _ if intent == Intent::Session => Bond::Lives,
        _ => Bond::None,
    };
    Verdict {
        intent,
        hint: text.ends_with(b"/* hint */").then_some(Hint::Primary),
        begins,
        bond,
        resets: text.starts_with(b"reset"),
    }
}

impl Known for Picture {
    fn text(&mut self, text: &[u8]) -> Verdict {
        verdict(text)
    }

    fn named(&mut self, name: &[u8]) -> Option<Verdict> {
        self.names.get(name).copied()
    }
}

fn bytes(say: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    say(&mut out);
    out.to_vec()
}

fn query(sql: &str) -> Vec<u8> {
    bytes(|out| message::query(out, sql.as_bytes()))
}

/// Parse, Bind and Execute.
fn run(name: &str, sql: &str) -> Vec<u8> {
    bytes(|out| {
        message::parse(out, name.as_bytes(), sql.as_bytes(), &[]);
        message::bind(out, b"", name.as_bytes(), &[]);
        message::execute(out, b"", 0);
    })
}

fn sync() -> Vec<u8> {
    bytes(message::sync)
}

fn asks(parts: &[Vec<u8>]) -> Option<Asked> {
    read(&parts.concat(), &mut Picture::default())
}

fn intent(parts: &[Vec<u8>]) -> Intent {
    asks(parts).unwrap().ask.intent
}

#[test]
fn the_strictest_message_up_to_the_sync_decides() {
    assert_eq!(intent(&[query("select 1")]), Intent::Read);
    assert_eq!(intent(&[run("", "select 1"), sync()]), Intent::Read);
    let both = [run("", "select 1"), run("", "insert"), sync()];
    assert_eq!(intent(&both), Intent::Write);
    let prepared = [
        bytes(|out| message::parse(out, b"s", b"select 1", &[])),
        sync(),
    ];
    assert_eq!(intent(&prepared), Intent::Read);
}

#[test]
fn nothing_is_decided_before_a_request_is_whole() {
    let whole = [run("", "select 1"), sync()].concat();
    for end in 0..whole.len() {
        assert_eq!(asks(&[whole[..end].to_vec()]), None, "{end} bytes");
    }
    assert_eq!(
        asks(std::slice::from_ref(&whole)).unwrap().size,
        whole.len()
    );
    // What follows waits.
    let next = query("insert");
    let asked = asks(&[whole.clone(), next[..7].to_vec()]).unwrap();
    assert_eq!((asked.size, asked.ask.intent), (whole.len(), Intent::Read));
}

#[test]
fn of_several_requests_the_strictest_decides() {
    let all = [query("select 1"), query("insert"), query("select 2")];
    assert_eq!(intent(&all), Intent::Write);
    let reads = [query("select 1"), run("", "select 2"), sync()];
    assert_eq!(asks(&reads).unwrap().size, reads.concat().len());
}

#[test]
fn what_is_out_of_the_ordinary_means_the_primary() {
    let flush = bytes(message::flush);
    assert_eq!(intent(&[run("", "select 1"), flush]), Intent::Unknown);
    let bind = bytes(|out| message::bind(out, b"", b"nobody", &[]));
    assert_eq!(intent(&[bind, sync()]), Intent::Unknown);
    let unnamed = bytes(|out| message::bind(out, b"", b"", &[]));
    assert_eq!(intent(&[unnamed, sync()]), Intent::Unknown);
    let parsed = bytes(|out| message::parse(out, b"", b"select 1", &[]));
    assert_eq!(
        intent(&[parsed.clone(), sync()]),
        Intent::Session,
        "it is bound later, where it was parsed"
    );
    assert_eq!(intent(&[parsed, query("select 1")]), Intent::Unknown);
    assert_eq!(intent(&[b"F\0\0\0\x04".to_vec()]), Intent::Unknown);
    assert_eq!(intent(&[b"Q\xff\xff\xff\xff".to_vec()]), Intent::Unknown);
    let long = [query("select 1"), vec![b'x'; LARGEST]].concat();
    assert_eq!(intent(&[long[1..].to_vec()]), Intent::Unknown);
}

#[test]
fn a_statement_that_is_known_by_name_needs_no_text() {
    let mut picture = Picture::default();
    picture.names.insert(b"s".to_vec(), verdict(b"select 1"));
    picture.names.insert(b"w".to_vec(), verdict(b"insert"));
    let bind = |name: &[u8]| {
        let bind = bytes(|out| message::bind(out, b"", name, &[]));
        [bind, sync()].concat()
    };
    let of = |picture: &mut Picture, name| read(&bind(name), picture).unwrap().ask.intent;
    assert_eq!(of(&mut picture, b"s"), Intent::Read);
    assert_eq!(of(&mut picture, b"w"), Intent::Write);
}

#[test]
fn a_begin_is_a_request_of_its_own_with_the_reads_of_its_batch() {
    let begin = query("begin read only");
    let asked = asks(&[begin.clone(), query("insert")]).unwrap();
    assert_eq!(asked.size, begin.len());
    let modes = asked.ask.begins.unwrap();
    assert_eq!(modes.access, Some(Access::ReadOnly));
    let batch = [run("", "begin read only"), run("", "select 1"), sync()];
    assert!(asks(&batch).unwrap().ask.begins.is_some());
    let batch = [run("", "begin read only"), run("", "insert"), sync()];
    assert_eq!(asks(&batch).unwrap().ask, Ask::of(Intent::Write));
    let lone = [run("", "begin"), sync()];
    assert_eq!(intent(&lone), Intent::Session);
    let with_read = [run("", "begin"), run("", "select 1"), sync()];
    assert_eq!(intent(&with_read), Intent::Read);
    let first = query("select 1");
    let asked = asks(&[first.clone(), begin]).unwrap();
    assert_eq!(
        (asked.size, asked.ask),
        (first.len(), Ask::of(Intent::Read))
    );
}

#[test]
fn a_verdict_is_a_small_number_and_back() {
    let mut all = Vec::new();
    for text in [
        "select 1",
        "insert",
        "set",
        "begin",
        "begin read only",
        "select /* hint */",
        "commit",
        "rollback",
        "listen",
        "reset all",
    ] {
        all.push(verdict(text.as_bytes()));
    }
    for one in all {
        assert!(one.to_bits() < 1 << 16);
        assert_eq!(Verdict::from_bits(one.to_bits()), one);
    }
}

#[test]
fn what_resets_all_settings_is_seen_wherever_it_stands() {
    let resets = |parts: &[Vec<u8>]| asks(parts).unwrap().resets;
    assert!(!resets(&[query("select 1")]));
    assert!(resets(&[query("reset all")]));
    assert!(resets(&[query("select 1"), query("reset all")]));
    assert!(resets(&[run("r", "reset all"), sync()]));
}

#[test]
fn the_end_of_a_request_is_found_wherever_the_bytes_are_cut() {
    let first = [run("s", "select 1"), sync()].concat();
    let all = [first.clone(), query("commit"), b"X\0\0\0\x04".to_vec()].concat();
    for piece in 1..all.len() {
        let (mut cutter, mut at, mut ends) = (Cutter::default(), 0, Vec::new());
        while at < all.len() {
            let until = (at + piece).min(all.len());
            let (count, is_end) = cutter.cut(&all[at..until]);
            at += count;
            if is_end {
                ends.push(at);
            }
        }
        assert_eq!(ends, [first.len(), all.len() - 5]);
    }
}

fn bond(parts: &[Vec<u8>]) -> Bond {
    let parts = parts.concat();
    let asked = read_first(&parts, &mut Picture::default()).unwrap();
    assert!(asked.is_whole);
    asked.ask.bond
}

#[test]
fn within_a_transaction_one_request_is_read_at_a_time() {
    let all = [query("select 1"), query("insert"), query("commit")].concat();
    let asked = read_first(&all, &mut Picture::default()).unwrap();
    assert_eq!(
        (asked.size, asked.ask.intent),
        (query("select 1").len(), Intent::Read)
    );
    let flush = [run("", "select 1"), bytes(message::flush)].concat();
    let asked = read_first(&flush, &mut Picture::default()).unwrap();
    assert!(!asked.is_whole, "where it ends is not known");
    assert_eq!(asked.ask.bond, Bond::Lives);
}

#[test]
fn a_request_is_bound_to_its_transaction_by_the_strictest_of_its_texts() {
    assert_eq!(bond(&[query("select 1")]), Bond::None);
    assert_eq!(bond(&[query("commit")]), Bond::Commit);
    assert_eq!(bond(&[run("", "commit"), sync()]), Bond::Commit);
    assert_eq!(
        bond(&[run("", "select 1"), run("", "commit"), sync()]),
        Bond::Lives
    );
    assert_eq!(
        bond(&[run("", "commit"), run("", "select 1"), sync()]),
        Bond::Leaves,
        "behind the end another may begin"
    );
    assert_eq!(
        bond(&[run("", "select 1"), run("", "listen"), sync()]),
        Bond::Primary
    );
}

#[test]
fn an_end_with_a_begin_in_one_request_is_no_mere_end() {
    let both = [run("", "commit"), run("", "begin"), sync()];
    assert_eq!(bond(&both), Bond::Leaves);
}

#[test]
fn a_portal_that_may_be_run_again_lives_in_its_transaction() {
    let portal = |name: &[u8], rows| {
        bytes(|out| {
            message::parse(out, b"", b"select 1", &[]);
            message::bind(out, name, b"", &[]);
            message::execute(out, name, rows);
            message::sync(out);
        })
    };
    assert_eq!(bond(&[portal(b"", 0)]), Bond::None);
    assert_eq!(bond(&[portal(b"", 10)]), Bond::Lives);
    assert_eq!(bond(&[portal(b"p", 0)]), Bond::Lives);
    let again = bytes(|out| {
        message::execute(out, b"", 0);
        message::sync(out);
    });
    assert_eq!(bond(&[again]), Bond::Lives);
    let parsed = bytes(|out| message::parse(out, b"", b"select 1", &[]));
    assert_eq!(bond(&[parsed, sync()]), Bond::Lives, "bound later");
}

#[test]
fn how_texts_stand_to_a_transaction() {
    use crate::routing::catalog::{Catalog, Path};
    use crate::routing::classify::{Reading, classify};
    use crate::routing::judge::{Judge, Lists};

    let judge = Judge {
        catalog: &Catalog::default(),
        path: &Path::default(),
        lists: &Lists::default(),
    };
    for (sql, wanted) in [
        ("select 1", Bond::None),
        ("update t set a = 1", Bond::None),
        ("select now()", Bond::Lives),
        ("select * from t where at > current_date", Bond::Lives),
        ("select 'now'::timestamptz", Bond::Lives),
        ("select pg_export_snapshot()", Bond::Lives),
        ("declare c cursor for select 1", Bond::Lives),
        ("fetch 1 from c", Bond::Lives),
        ("savepoint a", Bond::Lives),
        ("rollback to a", Bond::Lives),
        ("set local work_mem = '1MB'", Bond::Lives),
        ("begin", Bond::Lives),
        ("listen a", Bond::Primary),
        ("notify a", Bond::Primary),
        ("select pg_notify('a', 'b')", Bond::Primary),
        ("declare c cursor with hold for select 1", Bond::Primary),
        ("select pg_advisory_lock(1)", Bond::Primary),
        ("select pg_advisory_xact_lock(1)", Bond::Primary),
        (
            "set transaction isolation level repeatable read",
            Bond::Primary,
        ),
        ("commit", Bond::Commit),
        ("END", Bond::Commit),
        ("rollback", Bond::Rollback),
        ("abort", Bond::Rollback),
        ("commit and chain", Bond::Chains),
        ("commit; select 1", Bond::Leaves),
        ("commit; listen x", Bond::Leaves),
        ("rollback; listen x", Bond::Leaves),
        ("listen x; commit", Bond::Primary),
        ("listen x; select 1", Bond::Primary),
        ("select 1; commit; listen x", Bond::Primary),
        ("select 1; commit", Bond::Lives),
        ("select 1; commit; select 2", Bond::Primary),
        ("select 1; begin; commit; listen a", Bond::Primary),
        ("prepare transaction 'a'", Bond::Primary),
    ] {
        let facts = classify(sql.as_bytes(), Reading::default(), &judge, &mut Vec::new());
        assert_eq!(Verdict::of(&facts).bond, wanted, "{sql}");
    }
}
