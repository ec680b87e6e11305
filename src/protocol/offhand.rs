//! Requests that need no server: preparing what every server of the pool can prepare, and closing names.
//!
//! Some clients (pgbench among them) prepare in a call that blocks their whole thread, while other clients of that thread hold
//! the servers: were such a client put in line, both would wait for each other for ever. A text that a server of this pool
//! has accepted outside a transaction is therefore taken at once. Should a server refuse it later, its Bind says so.

use std::sync::Arc;

use crate::protocol::dialogue::head;
use crate::protocol::prepared::{Dictionary, Statement};
use crate::protocol::sides::ClientSide;
use crate::stats::counters::Tally;

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
const READY: &[u8] = b"Z\0\0\0\x05I";
/// Longer pipelines go to a server: nothing is won by looking at them twice.
const MOST: usize = 8;

/// What one request does to the client's names.
enum Change<'a> {
    Name(&'a [u8], Arc<Statement>),
    Close(&'a [u8]),
}

/// Answers `chunk`, sent by a client that holds no server, if it is nothing but Parse and Close of names, ended by a Sync,
/// and every text is known to be good. False, and nothing has happened, where a server is needed.
pub fn answer(
    client: &mut ClientSide,
    dictionary: &Dictionary,
    chunk: &[u8],
    tally: &Tally,
    answers: &mut Vec<u8>,
) -> bool {
    if !matches!(chunk.first(), Some(b'P' | b'C')) || !client.walk.is_between() {
        return false;
    }
    let Some(changes) = changes(client, dictionary, chunk) else {
        return false;
    };
    for change in changes {
        match change {
            Change::Name(name, statement) => {
                client.names.insert(name.into(), statement);
                tally.client_parses.add(1);
                answers.extend_from_slice(PARSE_COMPLETE);
            }
            Change::Close(name) => {
                client.names.remove(name);
                answers.extend_from_slice(CLOSE_COMPLETE);
            }
        }
    }
    answers.extend_from_slice(READY);
    true
}

fn changes<'a>(
    client: &ClientSide,
    dictionary: &Dictionary,
    chunk: &'a [u8],
) -> Option<Vec<Change<'a>>> {
    let (mut rest, mut changes) = (chunk, Vec::new());
    loop {
        let view = (rest.len() >= 5).then_some(rest)?;
        let (tag, size) = head(view);
        let size = size.filter(|size| *size <= view.len())?;
        let body = &view[5..size];
        rest = &view[size..];
        match tag {
            b'S' if body.is_empty() && rest.is_empty() => return Some(changes),
            b'P' => changes.push(parse(client, dictionary, body)?),
            b'C' => changes.push(Change::Close(closed(body)?)),
            _ => return None,
        }
        let is_again = changes.len() > 1 && names_repeat(&changes);
        if is_again || changes.len() > MOST {
            return None;
        }
    }
}

fn parse<'a>(client: &ClientSide, dictionary: &Dictionary, body: &'a [u8]) -> Option<Change<'a>> {
    let split = body
        .iter()
        .position(|byte| *byte == 0)
        .filter(|split| *split > 0)?;
    let (name, definition) = (&body[..split], &body[split + 1..]);
    if client.names.contains_key(name) {
        return None;
    }
    let statement = dictionary
        .known(definition)
        .filter(|known| known.is_accepted())?;
    Some(Change::Name(name, statement))
}

fn closed(body: &[u8]) -> Option<&[u8]> {
    match body {
        [b'S', name @ .., 0] if !name.is_empty() && !name.contains(&0) => Some(name),
        _ => None,
    }
}

/// Whether the last change is about a name that an earlier one is about, too: a server knows better what becomes of it.
fn names_repeat(changes: &[Change<'_>]) -> bool {
    let name = |change: &Change<'_>| match change {
        Change::Name(name, _) | Change::Close(name) => name.to_vec(),
    };
    let (last, earlier) = changes.split_last().expect("there is more than one");
    earlier.iter().any(|change| name(change) == name(last))
}

#[cfg(test)]
mod tests {
    use super::answer;
    use crate::protocol::parameters::Interner;
    use crate::protocol::prepared::Dictionary;
    use crate::protocol::sides::ClientSide;
    use crate::stats::counters::Tally;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn client() -> ClientSide {
        ClientSide::new(Interner::default().make::<&str, &str>([]))
    }

    fn said(client: &mut ClientSide, dictionary: &Dictionary, chunk: &[u8]) -> Option<Vec<u8>> {
        let mut answers = Vec::new();
        answer(client, dictionary, chunk, &Tally::default(), &mut answers).then_some(answers)
    }

    #[test]
    fn only_a_text_that_a_server_has_accepted_needs_none() {
        let (dictionary, mut client) = (Dictionary::default(), client());
        let chunk = [frame(b'P', b"s\0select 1\0\0\0"), frame(b'S', b"")].concat();
        assert_eq!(
            said(&mut client, &dictionary, &chunk),
            None,
            "nobody knows it"
        );
        let statement = dictionary.find(b"select 1\0\0\0");
        assert_eq!(
            said(&mut client, &dictionary, &chunk),
            None,
            "no server has accepted it"
        );
        statement.accept();
        assert_eq!(
            said(&mut client, &dictionary, &chunk).unwrap(),
            b"1\0\0\0\x04Z\0\0\0\x05I"
        );
        assert_eq!(client.names[&b"s"[..]].id, statement.id);
        assert_eq!(
            said(&mut client, &dictionary, &chunk),
            None,
            "the name is taken: the server says so"
        );
    }

    #[test]
    fn closing_a_name_needs_no_server() {
        let (dictionary, mut client) = (Dictionary::default(), client());
        client
            .names
            .insert((*b"s").into(), dictionary.find(b"select 1\0\0\0"));
        let chunk = [frame(b'C', b"Ss\0"), frame(b'S', b"")].concat();
        assert_eq!(
            said(&mut client, &dictionary, &chunk).unwrap(),
            b"3\0\0\0\x04Z\0\0\0\x05I"
        );
        assert!(client.names.is_empty());
    }

    #[test]
    fn anything_else_goes_to_a_server_untouched() {
        let (dictionary, mut client) = (Dictionary::default(), client());
        let statement = dictionary.find(b"select 1\0\0\0");
        statement.accept();
        let (parse, sync) = (frame(b'P', b"s\0select 1\0\0\0"), frame(b'S', b""));
        for chunk in [
            parse.clone(),
            [&parse[..], b"S\0\0"].concat(),
            [&parse[..], &frame(b'D', b"Ss\0"), &sync].concat(),
            [&parse[..], &frame(b'C', b"Ss\0"), &sync].concat(),
            [frame(b'P', b"\0select 1\0\0\0"), sync.clone()].concat(),
            [frame(b'C', b"Pp\0"), sync.clone()].concat(),
            sync.clone(),
        ] {
            assert_eq!(said(&mut client, &dictionary, &chunk), None);
            assert!(client.names.is_empty());
        }
    }
}
