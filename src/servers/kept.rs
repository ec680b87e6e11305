//! A client's request, kept while it may have to be asked of another server.
//!
//! An idle server may die while a request is on its way to it. What no server has read can be asked of another; what one may
//! have read cannot. The difference is told by bytes, not by what an error says:
//!
//! | the connection ends | and the request |
//! |---|---|
//! | before a byte of it was accepted by our own kernel | was not read |
//! | TCP: the server's end had come already when our bytes reached it, so that its kernel refused them (the socket's error is EPIPE) | was not read |
//! | the server said FATAL and no more, and closed its end with our bytes unread (ECONNRESET) | was not read |
//! | in any other way | may have been read |
//!
//! The two in the middle speak of the last bytes sent, so they are proof only for one request that left in one write and that
//! arrives and is read in one piece. A reset alone says nothing: a host that starts again resets, too. The copy lies with the server and keeps its room, so that neither an idle client nor a query in the steady state pays for
//! an allocation.

use std::io;

use crate::protocol::fields::Heard;
use crate::protocol::frame;
use crate::protocol::message::Severity;

/// What arrives in one piece, in bytes: it fits in one segment on any path, and in what PostgreSQL reads at once (8,192).
const ONE_PIECE: usize = 1024;

/// How far the first request of a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sending {
    /// It was answered, or is none of those that can be asked again.
    #[default]
    Over,
    /// Nothing of it was handed to the socket.
    Awaited,
    /// It was handed to the socket, which has taken nothing yet.
    Unsent,
    /// The socket has taken some of it; whether it is one request alone.
    Sent { alone: bool },
}

/// The first request of a link, until the first byte of its answer.
#[derive(Debug, Default)]
pub struct KeptRequest {
    sending: Sending,
    bytes: Vec<u8>,
    words: Vec<u8>,
    end: Option<io::ErrorKind>,
}

impl KeptRequest {
    /// A link begins.
    #[inline]
    pub fn begin(&mut self) {
        self.sending = Sending::Awaited;
    }

    /// Whether it could still be asked of another server, as far as answers go.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.sending != Sending::Over
    }

    /// Whether the link's first request is yet to come.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.sending == Sending::Awaited
    }

    /// Keeps the request's bytes as the client sent them, the beginning of a frame that came earlier first.
    #[inline]
    pub fn keep(&mut self, stash: &[u8], chunk: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(stash);
        self.bytes.extend_from_slice(chunk);
        self.sending = Sending::Unsent;
    }

    /// The socket has taken bytes; `alone` says whether the request is one that ends with them.
    #[inline]
    pub fn note_sent(&mut self, alone: bool) {
        if self.sending == Sending::Unsent {
            let alone = alone && self.bytes.len() <= ONE_PIECE;
            self.sending = Sending::Sent { alone };
        }
    }

    /// It was answered, or there is more to it than is kept. What the server said that was held back is handed out.
    #[inline]
    pub fn forget(&mut self) -> Vec<u8> {
        self.sending = Sending::Over;
        std::mem::take(&mut self.words)
    }

    /// Holds back what a dying server says; false when `chunk` is something else. Where the request is asked of another
    /// server, nobody hears it.
    pub fn hold_last_words(&mut self, chunk: &[u8]) -> bool {
        let is_last = are_last_words(chunk);
        if is_last {
            self.words.extend_from_slice(chunk);
        }
        is_last
    }

    /// How reading from the server failed.
    pub fn ended_by(&mut self, error: &io::Error) {
        self.end = Some(error.kind());
    }

    /// Whether no server process has read the request. `has_refused` tells whether the server's kernel has refused bytes after the
    /// server's end had come; it is asked once, and only where that matters.
    pub fn is_unread(&self, has_refused: impl FnOnce() -> bool) -> bool {
        let was_left = self.end == Some(io::ErrorKind::ConnectionReset) && !self.words.is_empty();
        match self.sending {
            Sending::Over => false,
            Sending::Awaited | Sending::Unsent => true,
            Sending::Sent { alone } => alone && (was_left || has_refused()),
        }
    }

    /// The bytes of the request; empty when none were handed to the socket.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let was_handed_over = !self.is_awaited();
        self.sending = Sending::Over;
        was_handed_over.then(|| std::mem::take(&mut self.bytes))
    }
}

/// Whether `chunk` holds whole messages only, all of them such as end a connection: a FATAL error, or the warning that comes before
/// an immediate end.
fn are_last_words(mut chunk: &[u8]) -> bool {
    if !matches!(chunk.first(), Some(b'E' | b'N')) {
        return false;
    }
    while let Ok(Some((tag, body))) = frame::next(&mut chunk, frame::MAX_LEN) {
        let heard = Heard::of(body);
        let is_last = match tag {
            b'E' => heard
                .severity
                .is_some_and(|severity| severity == Severity::Fatal),
            b'N' => matches!(heard.sqlstate, b"57P01" | b"57P02"),
            _ => false,
        };
        if !is_last {
            return false;
        }
    }
    chunk.is_empty()
}

#[cfg(test)]
mod tests {
    use super::KeptRequest;
    use std::io;

    fn sent(alone: bool) -> KeptRequest {
        let mut kept = KeptRequest::default();
        kept.begin();
        kept.keep(b"Q\0", b"\0\0\x06x\0");
        kept.note_sent(alone);
        kept
    }

    #[test]
    fn what_was_accepted_counts_as_read_unless_the_servers_kernel_refused_it() {
        assert!(!sent(true).is_unread(|| false));
        assert!(sent(true).is_unread(|| true));
        assert!(!sent(false).is_unread(|| true), "which of several?");
    }

    #[test]
    fn a_reset_after_last_words_says_that_bytes_were_left_unread() {
        let mut kept = sent(true);
        kept.ended_by(&io::ErrorKind::ConnectionReset.into());
        assert!(!kept.is_unread(|| false), "a reset alone says nothing");
        assert!(kept.hold_last_words(b"E\0\0\0\x13SFATAL\0C57P01\0\0"));
        assert!(kept.is_unread(|| false));
    }

    #[test]
    fn what_was_not_handed_over_or_not_accepted_is_unread() {
        let mut kept = KeptRequest::default();
        assert!(!kept.is_unread(|| true), "there is no request");
        kept.begin();
        assert!(kept.is_unread(|| false));
        kept.keep(b"Q\0", b"\0\0\x06x\0");
        assert!(kept.is_unread(|| false));
        assert_eq!(kept.take().as_deref(), Some(&b"Q\0\0\0\x06x\0"[..]));
        assert!(!kept.is_kept());
    }

    #[test]
    fn only_what_ends_a_connection_is_held_back() {
        let mut kept = sent(true);
        assert!(!kept.hold_last_words(b"C\0\0\0\x06X\0"));
        assert!(!kept.hold_last_words(b"E\0\0\0\x13SERROR\0C42601\0\0"));
        assert!(kept.hold_last_words(b"N\0\0\0\x15SWARNING\0C57P02\0\0"));
        assert!(kept.hold_last_words(b"E\0\0\0\x13SFATAL\0C57P01\0\0"));
        assert_eq!(kept.forget().len(), 22 + 20);
    }
}
