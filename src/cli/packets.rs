//! The few packets of the protocol that a simple question needs.
//!
//! No sockets here: [`ask`](super::ask) uses it on a blocking one, the demo's driver on a thousand others. Only the simple
//! query protocol, and only `trust` as a login.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::{Buf, BufMut, BytesMut};

use crate::cli::problem::Problem;

/// No answer that we ask for is longer, so a longer one is not PostgreSQL's.
const LONGEST: usize = 64 << 20;

/// The answer to a question: the last result's columns and rows, as text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    /// The first column of the first row, if there is one and it is not NULL.
    pub fn first(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// Where the column `name` is.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Collects what a server says until it is ready for the next query.
#[derive(Debug, Default)]
pub struct Listener {
    answer: Answer,
    refused: Option<(String, String)>,
}

impl Listener {
    /// Takes whole messages out of `input`. `None` until ReadyForQuery has come.
    ///
    /// # Errors
    /// [`Problem::Refused`] when the server reported an error: at its ReadyForQuery, or at once when none will follow (FATAL).
    /// [`Problem::Protocol`] when it wants a password or sends what is no message.
    pub fn hear(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, Problem> {
        while let Some((tag, mut body)) = next(input)? {
            match tag {
                b'R' if body.len() >= 4 && body.get_u32() != 0 => {
                    return Err(Problem::Protocol {
                        what: "the server wants a password",
                    });
                }
                b'T' => {
                    self.answer = Answer {
                        columns: columns(&mut body)?,
                        rows: Vec::new(),
                    };
                }
                b'D' => self.answer.rows.push(row(&mut body)?),
                b'E' => self.error(&mut body)?,
                b'Z' => return self.finish().map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    fn error(&mut self, body: &mut BytesMut) -> Result<(), Problem> {
        let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
        while body.first().is_some_and(|kind| *kind != 0) {
            let kind = body.get_u8();
            let value = text(body)?;
            match kind {
                b'V' => severity = value,
                b'C' => code = value,
                b'M' => message = value,
                _ => {}
            }
        }
        if severity == "FATAL" || severity == "PANIC" {
            return Err(Problem::Refused { code, message });
        }
        self.refused.get_or_insert((code, message));
        Ok(())
    }

    fn finish(&mut self) -> Result<Answer, Problem> {
        let heard = std::mem::take(self);
        match heard.refused {
            Some((code, message)) => Err(Problem::Refused { code, message }),
            None => Ok(heard.answer),
        }
    }
}

/// The packet that opens a connection, protocol 3.0.
pub fn startup(user: &str, database: &str) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u32(3 << 16);
    for word in [
        "user",
        user,
        "database",
        database,
        "application_name",
        "pooler demo",
    ] {
        body.put_slice(word.as_bytes());
        body.put_u8(0);
    }
    body.put_u8(0);
    let mut packet = BytesMut::with_capacity(body.len() + 4);
    packet.put_u32(length(&body));
    packet.put_slice(&body);
    packet
}

/// A simple query.
pub fn query(sql: &str) -> BytesMut {
    let mut packet = BytesMut::with_capacity(sql.len() + 6);
    packet.put_u8(b'Q');
    packet.put_u32(u32::try_from(sql.len() + 5).unwrap_or(u32::MAX));
    packet.put_slice(sql.as_bytes());
    packet.put_u8(0);
    packet
}

/// Says goodbye.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

fn length(body: &BytesMut) -> u32 {
    u32::try_from(body.len() + 4).unwrap_or(u32::MAX)
}

fn next(input: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, Problem> {
    let Some([tag, a, b, c, d]) = input.first_chunk::<5>().copied() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if !(4..=LONGEST).contains(&length) {
        return Err(Problem::Protocol {
            what: "an impossible length",
        });
    }
    if input.len() <= length {
        return Ok(None);
    }
    let mut message = input.split_to(length + 1);
    message.advance(5);
    Ok(Some((tag, message)))
}

const SHORT: Problem = Problem::Protocol {
    what: "a message too short",
};

fn text(body: &mut BytesMut) -> Result<String, Problem> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
    let text = String::from_utf8_lossy(&body.split_to(end)).into_owned();
    body.advance(1);
    Ok(text)
}

fn columns(body: &mut BytesMut) -> Result<Vec<String>, Problem> {
    const AFTER_NAME: usize = 18;
    let count = body.try_get_u16().map_err(|_| SHORT)?;
    (0..count)
        .map(|_| {
            let name = text(body)?;
            if body.len() < AFTER_NAME {
                return Err(SHORT);
            }
            body.advance(AFTER_NAME);
            Ok(name)
        })
        .collect()
}

fn row(body: &mut BytesMut) -> Result<Vec<Option<String>>, Problem> {
    let count = body.try_get_u16().map_err(|_| SHORT)?;
    (0..count)
        .map(|_| {
            let Ok(length) = usize::try_from(body.try_get_i32().map_err(|_| SHORT)?) else {
                return Ok(None);
            };
            if body.len() < length {
                return Err(SHORT);
            }
            Ok(Some(
                String::from_utf8_lossy(&body.split_to(length)).into_owned(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::{Listener, Problem};

    fn said(messages: &[(u8, &[u8])]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for (tag, body) in messages {
            bytes.put_u8(*tag);
            bytes.put_u32(u32::try_from(body.len() + 4).unwrap());
            bytes.put_slice(body);
        }
        bytes
    }

    const COLUMN_N: &[u8] = b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\0\0\0\0\0\0";

    #[test]
    fn an_answer_is_heard_however_its_bytes_are_cut() {
        let whole = said(&[
            (b'T', COLUMN_N),
            (b'D', b"\0\x01\0\0\0\x0242"),
            (b'D', b"\0\x01\xff\xff\xff\xff"),
            (b'C', b"SELECT 2\0"),
            (b'Z', b"I"),
        ]);
        for cut in 0..whole.len() {
            let mut listener = Listener::default();
            let mut input = BytesMut::from(&whole[..cut]);
            assert_eq!(listener.hear(&mut input).unwrap(), None);
            input.extend_from_slice(&whole[cut..]);
            let answer = listener.hear(&mut input).unwrap().unwrap();
            assert_eq!(answer.columns, ["n"]);
            assert_eq!(answer.rows, [vec![Some("42".to_owned())], vec![None]]);
        }
    }

    #[test]
    fn an_error_is_told_once_the_server_is_ready_again() {
        let mut listener = Listener::default();
        let mut error = said(&[(b'E', b"SERROR\0VERROR\0C42P01\0Mno such table\0\0")]);
        assert_eq!(listener.hear(&mut error).unwrap(), None);
        let refused = listener.hear(&mut said(&[(b'Z', b"I")]));
        assert!(matches!(refused, Err(Problem::Refused { code, .. }) if code == "42P01"));
        let next = listener.hear(&mut said(&[(b'Z', b"I")]));
        assert!(
            matches!(next, Ok(Some(_))),
            "the next question starts afresh"
        );
    }

    #[test]
    fn a_fatal_error_is_told_at_once() {
        let mut fatal = said(&[(b'E', b"SFATAL\0VFATAL\0C57P03\0Mstarting up\0\0")]);
        assert!(matches!(
            Listener::default().hear(&mut fatal),
            Err(Problem::Refused { .. })
        ));
    }

    #[test]
    fn what_is_not_postgres_is_refused() {
        let mut http = BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
        assert!(matches!(
            Listener::default().hear(&mut http),
            Err(Problem::Protocol { .. })
        ));
        let mut short = said(&[(b'D', b"\0\x05")]);
        assert!(Listener::default().hear(&mut short).is_err());
    }
}
