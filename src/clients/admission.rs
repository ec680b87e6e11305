//! The gate of a link to a replica: which of the client's bytes pass, and when the next may.

use std::task::{Context, Poll};

use crate::clients::buffers::{MARK, with_scratch};
use crate::clients::session::{Next, Session};
use crate::clients::split::Gate;
use crate::error::Error;

impl Session {
    /// What of `chunk` may go to the server now; the rest is held.
    pub(super) fn admit<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let Some(split) = self.split() else {
            return chunk;
        };
        split.said += 1;
        let count = match &mut split.gate {
            Gate::Open => return chunk,
            Gate::Closed | Gate::Judging => 0,
            Gate::Judged(count) => {
                let count = (*count).min(chunk.len());
                split.gate = Gate::Closed;
                count
            }
            Gate::One(cutter) => {
                let (count, is_end) = cutter.cut(chunk);
                if is_end {
                    split.gate = Gate::Closed;
                }
                count
            }
        };
        let (now, later) = chunk.split_at(count);
        self.held.extend_from_slice(later);
        now
    }

    /// Whether what is held waits for the end of the link, or of the request under way.
    pub(super) fn is_held_back(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| split.is_closed())
    }

    /// Whether the next request is judged before it passes.
    pub(super) fn is_judging(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| matches!(split.gate, Gate::Judging))
    }

    /// The gate is closed: opens it for the next request of a transaction, or takes in what the client sends meanwhile. True when
    /// something moved.
    pub(super) fn poll_gate(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Error> {
        let is_quiet = self.server().side.is_quiet();
        if is_quiet && let Some(split) = self.split() {
            // In a transaction, or tied to its server: on a replica nothing passes that was not judged.
            split.gate = if split.flight.is_some() {
                Gate::Judging
            } else {
                Gate::Open
            };
            return Ok(Poll::Ready(Next::On));
        }
        if self.held.len() >= MARK || self.held.first() == Some(&b'X') {
            return Ok(Poll::Pending);
        }
        with_scratch(|scratch| match self.read_client(cx, scratch) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(_) | Ok(0)) => Err(Error::ClientGone),
            Poll::Ready(Ok(count)) => {
                self.held.extend_from_slice(&scratch[..count]);
                Ok(Poll::Ready(Next::On))
            }
        })
    }
}
