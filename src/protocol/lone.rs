//! A statement that comes by itself, and what it is answered when no server is asked.
//!
//! By itself means: one Query message, or Parse, Bind, at most one Describe, Execute and Sync of the unnamed statement without
//! parameters, and nothing behind it. Drivers that know only the extended protocol send SET and BEGIN like that.

use bytes::BytesMut;

use crate::protocol::frame::{self, cstr};
use crate::protocol::message;

/// The oid of `text`.
const TEXT: u32 = 25;
const NO_DATA: &[u8] = b"n\0\0\0\x04";
const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";

/// What a client wants to be told of a statement before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Described {
    Nothing,
    Statement,
    Portal,
}

/// A statement by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lone<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Of the extended protocol, what is to be described.
    extended: Option<Described>,
}

impl<'a> Lone<'a> {
    /// The statement that `bytes` are, if they are one and nothing else.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let (tag, mut body) = frame::next(&mut rest, frame::MAX_LEN).ok()??;
        if tag == b'Q' {
            let text = body.strip_suffix(b"\0")?;
            let lone = Self {
                text,
                extended: None,
            };
            return rest.is_empty().then_some(lone);
        }
        if tag != b'P' || !cstr(&mut body)?.is_empty() {
            return None;
        }
        let text = cstr(&mut body)?;
        let mut described = Described::Nothing;
        // Names of portal and statement, then neither formats, values nor formats of results (or one for all of them).
        let (tag, bound) = frame::next(&mut rest, frame::MAX_LEN).ok()??;
        let is_plain = bound.starts_with(&[0; 6]);
        if tag != b'B' || !is_plain {
            return None;
        }
        let (mut tag, mut body) = frame::next(&mut rest, frame::MAX_LEN).ok()??;
        if tag == b'D' {
            described = match body {
                b"S\0" => Described::Statement,
                b"P\0" => Described::Portal,
                _ => return None,
            };
            (tag, body) = frame::next(&mut rest, frame::MAX_LEN).ok()??;
        }
        let is_run = tag == b'E' && body == [0; 5];
        let is_last = frame::next(&mut rest, frame::MAX_LEN) == Ok(Some((b'S', &[])));
        (is_run && is_last && rest.is_empty()).then_some(Self {
            text,
            extended: Some(described),
        })
    }

    /// Appends the answer: one row of one column where `row` gives its name and value, the tag, and ReadyForQuery.
    pub fn answer(&self, out: &mut BytesMut, row: Option<(&str, &str)>, tag: &str, status: u8) {
        let columns = row.map(|(name, _)| [(name, TEXT)]);
        let describe = |out: &mut BytesMut| match &columns {
            Some(columns) => message::row_description(out, columns),
            None if self.extended.is_some() => out.extend_from_slice(NO_DATA),
            None => {}
        };
        match self.extended {
            None => describe(out),
            Some(described) => {
                message::parse_complete(out);
                message::bind_complete(out);
                if described == Described::Statement {
                    out.extend_from_slice(NO_PARAMETERS);
                }
                if described != Described::Nothing {
                    describe(out);
                }
            }
        }
        if let Some((_, value)) = row {
            message::data_row(out, &[Some(value.as_bytes())]);
        }
        message::command_complete(out, tag);
        message::ready_for_query(out, status);
    }
}

#[cfg(test)]
mod tests {
    use super::Lone;
    use crate::protocol::message;
    use bytes::BytesMut;

    fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    fn batch(portal: &[u8], rows: u32) -> Vec<u8> {
        bytes(|out| {
            message::parse(out, b"", b"begin", &[]);
            message::bind(out, b"", b"", &[]);
            message::describe_portal(out, b"");
            message::execute(out, portal, rows);
            message::sync(out);
        })
    }

    fn tags(mut answer: &[u8]) -> String {
        let mut tags = String::new();
        while let Ok(Some((tag, _))) = crate::protocol::frame::next(&mut answer, 1 << 20) {
            tags.push(char::from(tag));
        }
        tags
    }

    #[test]
    fn a_statement_by_itself_is_known_in_both_protocols_and_nothing_else_is() {
        let simple = bytes(|out| message::query(out, b"begin"));
        assert_eq!(Lone::of(&simple).unwrap().text, b"begin");
        let extended = batch(b"", 0);
        assert_eq!(Lone::of(&extended).unwrap().text, b"begin");
        for other in [
            [&simple[..], &simple].concat(),
            [&extended[..], &simple].concat(),
            extended[..extended.len() - 5].to_vec(),
            simple[..4].to_vec(),
            batch(b"p", 0),
            batch(b"", 1),
            Vec::new(),
        ] {
            assert_eq!(Lone::of(&other), None);
        }
    }

    #[test]
    fn it_is_answered_as_it_was_asked() {
        let simple = bytes(|out| message::query(out, b"show x"));
        let extended = batch(b"", 0);
        for (asked, row, wanted) in [
            (&simple, None, "CZ"),
            (&simple, Some(("x", "1")), "TDCZ"),
            (&extended, None, "12nCZ"),
            (&extended, Some(("x", "1")), "12TDCZ"),
        ] {
            let lone = Lone::of(asked).unwrap();
            let answer = bytes(|out| lone.answer(out, row, "SHOW", b'T'));
            assert_eq!(tags(&answer), wanted);
            assert_eq!(answer.last(), Some(&b'T'));
        }
    }
}
