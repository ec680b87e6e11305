use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Complaint, Owner, Ran, Taken, Talk};
use crate::protocol::frame;
use crate::protocol::message;

/// Keeps names, and answers with as many rows as the text is long, in threes.
#[derive(Default)]
struct Names(BTreeMap<Vec<u8>, Vec<u8>>, Vec<String>);

impl Owner for Names {
    fn named(&self, name: &[u8]) -> Option<Box<[u8]>> {
        self.0.get(name).map(|definition| definition[..].into())
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.contains_key(name) || name == b"other"
    }

    fn keep(&mut self, name: &[u8], definition: &[u8]) -> bool {
        self.0.insert(name.into(), definition.into());
        true
    }

    fn forget(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    fn run(&mut self, text: &[u8]) -> Result<Ran, Complaint> {
        let text = String::from_utf8(text.into()).unwrap();
        self.1.push(text.clone());
        if text.contains("nowhere") {
            return Err(Complaint::new("22023", "no such place".into()));
        }
        let is_show = text.starts_with("show");
        let rows = if is_show {
            vec![vec!["auto".to_owned()]; 3]
        } else {
            Vec::new()
        };
        let tag = if is_show { "SHOW" } else { "SET" };
        Ok(Ran { rows, tag })
    }
}

const SHOW: &[u8] = b"show pooler.route";
const SET: &[u8] = b"set pooler.route = 'primary'";

fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// The tags of what `chunk` is answered, and what is left of it for a server.
fn said(talk: &mut Talk, names: &mut Names, chunk: &[u8]) -> (String, usize) {
    let mut out = BytesMut::new();
    let mut rest = &chunk[talk.skip(chunk, b'I', &mut out)..];
    loop {
        let before = rest;
        let Ok(Some(frame)) = frame::next(&mut rest, 1 << 20) else {
            break;
        };
        if talk.message(frame, b'I', names, &mut out) == Taken::Not {
            rest = before;
            break;
        }
        rest = &rest[talk.skip(rest, b'I', &mut out)..];
    }
    let (mut tags, mut answers) = (String::new(), &out[..]);
    while let Ok(Some((tag, _))) = frame::next(&mut answers, 1 << 20) {
        tags.push(char::from(tag));
    }
    (tags, rest.len())
}

#[test]
fn named_and_unnamed_statements_are_answered_as_by_a_server() {
    let (mut talk, mut names) = (Talk::default(), Names::default());
    let mut say = |chunk: &[u8]| said(&mut talk, &mut names, chunk);
    let prepare = bytes(|out| {
        message::parse(out, b"s", SHOW, &[]);
        message::describe_statement(out, b"s");
        message::sync(out);
    });
    assert_eq!(say(&prepare), ("1tTZ".into(), 0));
    let run = bytes(|out| {
        message::bind(out, b"", b"s", &[]);
        message::describe_portal(out, b"");
        message::execute(out, b"", 0);
        message::sync(out);
    });
    assert_eq!(say(&run), ("2TDDDCZ".into(), 0));
    assert_eq!(say(&run), ("2TDDDCZ".into(), 0));
    assert_eq!(say(&prepare), ("EZ".into(), 0), "the name is taken");
    let set = bytes(|out| {
        message::parse(out, b"", SET, &[]);
        message::bind(out, b"", b"", &[]);
        message::describe_portal(out, b"");
        message::execute(out, b"", 1);
        message::sync(out);
    });
    assert_eq!(say(&set), ("12nCZ".into(), 0));
    let close = bytes(|out| {
        message::close_statement(out, b"s");
        message::sync(out);
    });
    assert_eq!(say(&close), ("3Z".into(), 0));
    assert_eq!(say(&run), (String::new(), run.len()), "no name of ours");
    let simple = bytes(|out| message::query(out, SHOW));
    assert_eq!(say(&simple), ("TDDDCZ".into(), 0));
}

#[test]
fn rows_come_as_many_as_are_asked_for() {
    let (mut talk, mut names) = (Talk::default(), Names::default());
    let chunk = bytes(|out| {
        message::parse(out, b"", SHOW, &[]);
        message::bind(out, b"p", b"", &[]);
        message::execute(out, b"p", 2);
        message::flush(out);
        message::execute(out, b"p", 2);
        message::sync(out);
    });
    let answer = said(&mut talk, &mut names, &chunk);
    assert_eq!(answer, ("12DDsDCZ".into(), 0));
    assert_eq!(names.1.len(), 1, "it is run once");
}

#[test]
fn after_an_error_all_is_passed_over_up_to_the_sync_in_whatever_pieces_it_comes() {
    let chunk = bytes(|out| {
        message::parse(out, b"", b"set pooler.route = 'nowhere'", &[]);
        message::bind(out, b"", b"", &[]);
        message::execute(out, b"", 0);
        message::parse(out, b"", b"delete from t", &[]);
        message::query(out, b"delete from t");
        message::sync(out);
        message::query(out, SHOW);
    });
    for cut in 0..chunk.len() {
        let (mut talk, mut names) = (Talk::default(), Names::default());
        let (one, left) = said(&mut talk, &mut names, &chunk[..cut]);
        let rest = [&chunk[cut - left..cut], &chunk[cut..]].concat();
        let (other, left) = said(&mut talk, &mut names, &rest);
        assert_eq!(one + &other, "12EZTDDDCZ", "cut at {cut}");
        assert_eq!(left, 0);
    }
}

#[test]
fn what_is_a_servers_is_left_alone() {
    let (mut talk, mut names) = (Talk::default(), Names::default());
    let own = bytes(|out| {
        message::parse(out, b"", SET, &[]);
        message::bind(out, b"", b"", &[]);
        message::execute(out, b"", 0);
    });
    let others = bytes(|out| {
        message::parse(out, b"s", b"select 1", &[]);
        message::bind(out, b"", b"s", &[]);
        message::execute(out, b"", 0);
        message::sync(out);
    });
    let both = [&own[..], &others].concat();
    let answer = said(&mut talk, &mut names, &both);
    assert_eq!(answer, ("12C".into(), others.len()));
    let (mut talk, mut names) = (Talk::default(), Names::default());
    let answer = said(&mut talk, &mut names, &others);
    assert_eq!(answer, (String::new(), others.len()));
    let sync = bytes(message::sync);
    assert_eq!(said(&mut talk, &mut names, &sync), (String::new(), 5));
}

#[test]
fn parameters_are_told_of_what_is_only_explained() {
    let definition = b"explain route select $2, '$10001'\0\0\x01\0\0\0\x14";
    let mut out = BytesMut::new();
    super::put_parameters(definition, &mut out);
    assert_eq!(&out[..], b"t\0\0\0\x0e\0\x02\0\0\0\x14\0\0\0\x19");
}
