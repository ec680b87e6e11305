//! A server is lost before it has read the client's request: the request is asked of another one.
//!
//! What is known of the loss, and when a request counts as unread, stands in `servers/kept.rs`. To ask again means to take the link
//! back as if it had never been: names that the request would have changed mean what they meant, and its bytes are judged anew for the next server.

use std::task::{Context, Poll};

use crate::clients::session::{Next, Session, Station};
use crate::error::Error;
use crate::pools::policy::Reason;
use crate::protocol::sides::Walk;
use crate::servers::server::Server;

impl Session {
    /// Whether the client's next bytes are the first of its link; then they are kept.
    pub(super) fn keep_request(&mut self, chunk: &[u8]) {
        let Station::Linked(lease) = &mut self.station else {
            return;
        };
        let kept = &mut lease.server().kept;
        if kept.is_awaited() {
            kept.keep(&self.side.walk.stash, chunk);
        }
    }

    /// Takes the request back from a server that was lost before it has read it. False when it may have read it.
    pub(super) fn take_back(&mut self) -> bool {
        let Station::Linked(lease) = &mut self.station else {
            return false;
        };
        if !lease.server().has_not_read_request() || !self.side.keeps.pins.is_empty() {
            return false;
        }
        if let Some(mut request) = lease.server().kept.take() {
            self.dialogue(|dialogue| dialogue.take_back());
            self.side.walk = Walk::default();
            request.append(&mut self.held);
            self.held = request;
        }
        self.is_trying = false;
        self.card.link_to(0);
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            let (server, client) = (lease.id(), self.card.id);
            tracing::debug!(
                server,
                client,
                "server lost before it read the request, asking another"
            );
            lease.end(Reason::Unasked);
        }
        true
    }

    /// What a server said before it was lost is for the client after all.
    pub(super) fn pass_last_words(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let words = self.server().kept.forget();
        if words.is_empty() {
            return Ok(());
        }
        self.server_said(cx, &words)
    }

    /// A server came to the front of the line with the client; one that died on the way is not used.
    pub(super) fn poll_given(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Box<Server>>, Error>> {
        let Station::Waiting(spot) = &self.station else {
            return Poll::Ready(Ok(None));
        };
        let Poll::Ready(given) = spot.poll(cx) else {
            return Poll::Pending;
        };
        let mut server = given?;
        if !server.is_silent(&self.pool.registry.interner) {
            self.pool.close(server, Reason::Unasked);
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(self.pool.bring_here(server).ok()))
    }
}

/// What a poll of a session came to, where a lost server may be replaced.
pub(super) fn or_again(
    session: &mut Session,
    cx: &mut Context<'_>,
    result: Result<Next, Error>,
) -> Result<Next, Error> {
    match result {
        Err(Error::ServerLost(_)) if session.take_read_back() => Ok(Next::On),
        Err(Error::ServerLost(_)) if session.take_back() => {
            if let Some(course) = &session.course {
                course.bad_sign("a server was lost");
            }
            Ok(Next::On)
        }
        Err(Error::ServerLost(_)) if session.survive(cx)? => Ok(Next::On),
        other => other,
    }
}
