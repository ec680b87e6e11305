//! Answers a client in the place of a server that is not there.
//!
//! A server may be lost in the middle of a transaction, and the client stays. What PostgreSQL does with a failed transaction is done
//! here: everything is refused until the client ends the transaction. Where there never was a server, because no node takes writes, one
//! request is refused with the reason.
//!
//! A COMMIT that comes before the client has heard that its transaction is lost is an error, and not the ROLLBACK that PostgreSQL
//! answers in a failed transaction: many drivers take that for success.

use bytes::BytesMut;

use crate::protocol::message;

/// A statement that is longer ends no transaction.
const LONGEST: usize = 1024;
const LATER: &str =
    "current transaction is aborted, commands ignored until end of transaction block";

/// What ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
    /// It ends the transaction, and more stands behind it.
    WithMore,
}

/// Stands in for a server.
#[derive(Debug)]
pub struct Phantom {
    status: u8,
    /// The reason, an ErrorResponse, while the client has not heard it.
    reason: Option<Vec<u8>>,
    /// What each request is told; the reason again where there is no transaction.
    later: Vec<u8>,
    is_skipping: bool,
    begun: Vec<u8>,
    /// Bytes of a message that are still to come and mean nothing.
    rest: usize,
    enders: Vec<(Vec<u8>, End)>,
    portal: Option<End>,
}

impl Phantom {
    /// Refuses requests outside any transaction with `reason`, an ErrorResponse.
    pub fn refusing(reason: Vec<u8>) -> Self {
        Self::new(b'I', None, reason)
    }

    /// Stands in for a server that was lost inside a transaction. `reason` is an ErrorResponse that the client has not heard yet.
    pub fn in_lost_transaction(reason: Option<Vec<u8>>) -> Self {
        let mut later = BytesMut::new();
        message::plain_error(&mut later, message::Severity::Error, "25P02", LATER);
        Self::new(b'E', reason, later.to_vec())
    }

    fn new(status: u8, reason: Option<Vec<u8>>, later: Vec<u8>) -> Self {
        Self {
            status,
            reason,
            later,
            is_skipping: false,
            begun: Vec::new(),
            rest: 0,
            enders: Vec::new(),
            portal: None,
        }
    }

    /// What comes up to the next Sync means nothing: the client has been told an error.
    pub fn skip_to_sync(&mut self) {
        self.is_skipping = true;
    }

    /// Takes what would have gone to the server, and says what a server would say.
    pub fn take(&mut self, mut bytes: &[u8], out: &mut BytesMut) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let part = self.rest.min(bytes.len());
                (self.rest, bytes) = (self.rest - part, &bytes[part..]);
                continue;
            }
            let part = self.missing().min(bytes.len());
            self.begun.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if self.missing() == 0 {
                let frame = std::mem::take(&mut self.begun);
                self.rest = (length(&frame) + 1).saturating_sub(frame.len());
                self.answer(frame[0], &frame[5..], out);
            }
        }
    }

    /// How much of the frame that has begun must still be seen.
    fn missing(&self) -> usize {
        if self.begun.len() < 5 {
            return 5 - self.begun.len();
        }
        (length(&self.begun) + 1).min(LONGEST) - self.begun.len()
    }

    fn answer(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) {
        match tag {
            b'S' => {
                self.is_skipping = false;
                self.ready(out);
            }
            b'Q' if !self.is_skipping => {
                let end = ending(body.strip_suffix(&[0]).unwrap_or(body));
                self.execute(end, out);
                self.ready(out);
            }
            b'F' if !self.is_skipping => {
                self.refuse(out);
                self.ready(out);
            }
            b'P' if !self.is_skipping => {
                let mut parts = body.split(|byte| *byte == 0);
                let (name, sql) = (parts.next(), parts.next());
                match (self.status, sql.and_then(ending)) {
                    (b'E', Some(end)) => {
                        self.enders.push((name.unwrap_or_default().to_vec(), end));
                        message::parse_complete(out);
                    }
                    _ => self.refuse_batch(out),
                }
            }
            b'B' if !self.is_skipping => {
                let statement = body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                self.portal = self.ender(statement);
                if self.portal.is_some() {
                    message::bind_complete(out);
                } else {
                    self.refuse_batch(out);
                }
            }
            b'D' if !self.is_skipping => self.describe(body, out),
            b'E' if !self.is_skipping => {
                if let Some(end) = self.portal.take() {
                    let was_refused = self.execute(Some(end), out);
                    self.is_skipping = was_refused;
                } else {
                    self.refuse_batch(out);
                }
            }
            b'C' if !self.is_skipping => message::close_complete(out),
            _ => {}
        }
    }

    fn ender(&self, statement: &[u8]) -> Option<End> {
        let mut known = self.enders.iter().rev();
        known
            .find(|(name, _)| name == statement)
            .map(|(_, end)| *end)
    }

    fn describe(&mut self, body: &[u8], out: &mut BytesMut) {
        let name = body.get(1..).unwrap_or_default();
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        match body.first() {
            Some(b'S') if self.ender(name).is_some() => {
                // ParameterDescription of none, NoData.
                out.extend_from_slice(b"t\0\0\0\x06\0\0n\0\0\0\x04");
            }
            Some(b'P') if self.portal.is_some() => out.extend_from_slice(b"n\0\0\0\x04"),
            _ => self.refuse_batch(out),
        }
    }

    /// Runs a statement; whether it was refused.
    fn execute(&mut self, end: Option<End>, out: &mut BytesMut) -> bool {
        if self.status == b'I' {
            self.refuse(out);
            return true;
        }
        let Some(end) = end else {
            self.refuse(out);
            return true;
        };
        self.status = b'I';
        let must_hear = end == End::WithMore || (end == End::Commit && self.reason.is_some());
        if must_hear {
            self.refuse(out);
        } else {
            message::command_complete(out, "ROLLBACK");
        }
        must_hear
    }

    fn refuse(&mut self, out: &mut BytesMut) {
        match self.reason.take() {
            Some(reason) => out.extend_from_slice(&reason),
            None => out.extend_from_slice(&self.later),
        }
    }

    fn refuse_batch(&mut self, out: &mut BytesMut) {
        self.refuse(out);
        self.is_skipping = true;
    }

    fn ready(&self, out: &mut BytesMut) {
        message::ready_for_query(out, self.status);
    }
}

/// The length that a frame of which the head is there says of itself.
fn length(frame: &[u8]) -> usize {
    let length = frame.get(1..5).and_then(|bytes| bytes.try_into().ok());
    let length = length.map_or(4, u32::from_be_bytes);
    usize::try_from(length).unwrap_or(usize::MAX - 1).max(4)
}

/// Whether `sql` ends a transaction.
fn ending(sql: &[u8]) -> Option<End> {
    let text = std::str::from_utf8(sql).ok()?;
    let (first, more) = match text.trim().split_once(';') {
        Some((first, more)) => (first, more.trim().trim_matches(';').trim()),
        None => (text.trim(), ""),
    };
    let mut words = first.split_ascii_whitespace().map(str::to_ascii_uppercase);
    let end = match words.next()?.as_str() {
        "COMMIT" | "END" => End::Commit,
        "ROLLBACK" | "ABORT" => End::Rollback,
        _ => return None,
    };
    let rest: Vec<String> = words.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match rest.as_slice() {
        [] | ["WORK" | "TRANSACTION"] | ["AND", "NO", "CHAIN"] if more.is_empty() => Some(end),
        [] | ["WORK" | "TRANSACTION"] | ["AND", "NO", "CHAIN"] => Some(End::WithMore),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Phantom;
    use crate::protocol::message;
    use bytes::BytesMut;

    fn reason() -> Vec<u8> {
        let mut out = BytesMut::new();
        message::plain_error(&mut out, message::Severity::Error, "40001", "lost");
        out.to_vec()
    }

    /// Tags of what is answered, with the code of an error and the status of ReadyForQuery.
    fn said(phantom: &mut Phantom, request: impl FnOnce(&mut BytesMut)) -> String {
        let (mut sent, mut out) = (BytesMut::new(), BytesMut::new());
        request(&mut sent);
        for byte in &sent {
            phantom.take(&[*byte], &mut out);
        }
        let mut words = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize + 1;
            let body = &rest[5..length];
            words.push(match rest[0] {
                b'E' => {
                    let at = body.windows(2).position(|two| two == b"\0C").unwrap();
                    String::from_utf8_lossy(&body[at + 2..at + 7]).into_owned()
                }
                b'Z' => format!("Z{}", char::from(body[0])),
                tag => char::from(tag).to_string(),
            });
            rest = &rest[length..];
        }
        words.join(" ")
    }

    fn query(phantom: &mut Phantom, sql: &str) -> String {
        said(phantom, |out| message::query(out, sql.as_bytes()))
    }

    fn extended(phantom: &mut Phantom, sql: &str) -> String {
        said(phantom, |out| {
            message::parse(out, b"", sql.as_bytes(), &[]);
            message::bind(out, b"", b"", &[]);
            message::describe_portal(out, b"");
            message::execute(out, b"", 0);
            message::sync(out);
        })
    }

    #[test]
    fn everything_is_refused_until_the_client_ends_its_transaction() {
        let mut phantom = Phantom::in_lost_transaction(Some(reason()));
        assert_eq!(query(&mut phantom, "select 1"), "40001 ZE");
        assert_eq!(query(&mut phantom, "rollback to savepoint a"), "25P02 ZE");
        assert_eq!(extended(&mut phantom, "select 1"), "25P02 ZE");
        assert_eq!(query(&mut phantom, "ROLLBACK;"), "C ZI");
    }

    #[test]
    fn a_commit_that_comes_before_the_news_is_an_error() {
        let mut phantom = Phantom::in_lost_transaction(Some(reason()));
        assert_eq!(query(&mut phantom, "commit"), "40001 ZI");
        let mut phantom = Phantom::in_lost_transaction(Some(reason()));
        assert_eq!(extended(&mut phantom, "COMMIT"), "1 2 n 40001 ZI");
        let mut phantom = Phantom::in_lost_transaction(None);
        assert_eq!(query(&mut phantom, "commit"), "C ZI", "as PostgreSQL does");
        let mut phantom = Phantom::in_lost_transaction(None);
        assert_eq!(extended(&mut phantom, "rollback work"), "1 2 n C ZI");
    }

    #[test]
    fn a_request_without_a_server_is_refused_and_that_is_all() {
        let mut phantom = Phantom::refusing(reason());
        assert_eq!(query(&mut phantom, "commit"), "40001 ZI");
        assert_eq!(extended(&mut phantom, "select 1"), "40001 ZI");
        let long = format!("select '{}'", "x".repeat(5000));
        assert_eq!(query(&mut phantom, &long), "40001 ZI");
        assert_eq!(extended(&mut phantom, &long), "40001 ZI");
    }

    #[test]
    fn the_rest_of_a_batch_means_nothing() {
        let mut phantom = Phantom::in_lost_transaction(None);
        phantom.skip_to_sync();
        let answer = said(&mut phantom, |out| {
            message::execute(out, b"", 0);
            message::sync(out);
        });
        assert_eq!(answer, "ZE");
    }
}
