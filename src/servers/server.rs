//! A server: one connection to PostgreSQL that is logged in.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::has_budget_remaining;

use crate::clock::Moment;
use crate::net::stream::Stream;
use crate::protocol::parameters::{Interner, Parameters, is_carried};
use crate::protocol::sides::ServerSide;
use crate::servers::kept::KeptRequest;
use crate::stats::census::ServerCard;
use crate::thread;

/// The parameters that a login reported, in the order they came.
pub type Reported = Arc<Vec<(String, String)>>;

/// A connection to PostgreSQL, what is known of its state, and its card in the census.
#[derive(Debug)]
pub struct Server {
    /// The socket.
    pub stream: Stream,
    /// The state of the other end.
    pub side: ServerSide,
    /// Its card.
    pub card: Arc<ServerCard>,
    /// Bytes that the socket did not take yet.
    pub out: Vec<u8>,
    /// The request that it may not have read yet.
    pub kept: KeptRequest,
    /// A client has had it.
    pub has_served: bool,
    /// When it was opened.
    pub born: Moment,
    /// When it was last given back.
    pub used: Moment,
    /// The reign of RECONNECT under which it was opened.
    pub generation: u64,
    /// What its login reported.
    pub reported: Reported,
    /// The parameters whose `application_name` stands on the card.
    pub shown: Arc<Parameters>,
    /// The worker whose runtime watches the socket.
    pub home: usize,
}

impl Server {
    /// Brings the socket to the calling worker's runtime, if another's watches it.
    ///
    /// # Errors
    /// What the system says; the server is then gone.
    pub fn come_here(self: Box<Self>) -> io::Result<Box<Self>> {
        if self.home == thread::worker() {
            return Ok(self);
        }
        let Self {
            stream,
            side,
            card,
            out,
            kept,
            has_served,
            born,
            used,
            generation,
            reported,
            shown,
            ..
        } = *self;
        let stream = stream.rehome()?.adopt()?;
        let home = thread::worker();
        Ok(Box::new(Self {
            stream,
            side,
            card,
            out,
            kept,
            has_served,
            born,
            used,
            generation,
            reported,
            shown,
            home,
        }))
    }

    /// Notes on the card what the server's `application_name` is, if it may have changed.
    #[inline]
    pub fn note_application_name(&mut self) {
        if !Arc::ptr_eq(&self.shown, &self.side.params) {
            self.shown = Arc::clone(&self.side.params);
            let name = self.shown.get("application_name").unwrap_or_default();
            self.card.set_application_name(name);
        }
    }

    /// Whether it was lost before it has read the request that is on its way to it.
    pub fn has_not_read_request(&self) -> bool {
        self.kept.is_unread(|| self.stream.has_refused_bytes())
    }

    /// Whether an idle server has said nothing that ends it. Parameters and notices are taken note of.
    ///
    /// Costs no system call on the server's own thread, whose runtime has heard what was said before it woke anybody who may ask.
    /// Another thread's may not have come to it yet, so there the socket itself is asked.
    pub fn is_silent(&mut self, interner: &Interner) -> bool {
        let has_heard = self.stream.has_heard();
        if has_heard && !self.has_said_nothing_bad(interner) {
            return false;
        }
        let is_told = self.home == thread::worker() && (!has_heard || has_budget_remaining());
        is_told || !self.stream.has_unheard_bytes()
    }

    #[cold]
    fn has_said_nothing_bad(&mut self, interner: &Interner) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut scratch = [0; 4096];
        loop {
            match self.stream.poll_read(&mut cx, &mut scratch) {
                Poll::Pending => return true,
                Poll::Ready(Err(_) | Ok(0)) => return false,
                Poll::Ready(Ok(count)) => {
                    if !self.take_note(&scratch[..count], interner) {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes note of whole ParameterStatus and Notice messages; false for anything else.
    fn take_note(&mut self, mut bytes: &[u8], interner: &Interner) -> bool {
        while let [tag, a, b, c, d, rest @ ..] = bytes {
            let Some(length) = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d]))
                .ok()
                .and_then(|n| n.checked_sub(4))
            else {
                return false;
            };
            if rest.len() < length || !matches!(tag, b'S' | b'N') {
                return false;
            }
            let (body, after) = rest.split_at(length);
            if *tag == b'S' {
                let mut parts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                if let (Some(name), Some(value)) = (parts.next(), parts.next())
                    && is_carried(&name)
                {
                    self.side.params = interner.with(&self.side.params, &name, &value);
                }
            }
            bytes = after;
        }
        bytes.is_empty()
    }
}
