//! A server on loan.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::clock::{self, Moment};
use crate::error::Error;
use crate::pools::line::Spot;
use crate::pools::policy::Reason;
use crate::pools::pool::{Asked, Asker, Away, Pool};
use crate::servers::server::Server;

/// A server that a client holds. Given back it is lent again; dropped in any other way it is closed.
#[derive(Debug)]
pub struct Lease {
    server: Option<Box<Server>>,
    pool: Arc<Pool>,
}

impl Lease {
    /// The loan of `server` by `pool`.
    pub fn new(pool: &Arc<Pool>, server: Box<Server>) -> Self {
        Self {
            server: Some(server),
            pool: Arc::clone(pool),
        }
    }

    /// The server.
    #[inline]
    pub fn server(&mut self) -> &mut Server {
        self.server
            .as_mut()
            .expect("a lease holds its server until it ends")
    }

    /// Gives the server back.
    pub fn release(self) {
        self.release_at(clock::now());
    }

    /// The same where it is known what time it is.
    pub fn release_at(mut self, now: Moment) {
        if let Some(server) = self.server.take() {
            server.card.serve(0);
            server.card.lend_to(0);
            self.pool.give_back_at(server, now);
        }
    }
}

impl Lease {
    /// The server's number.
    pub fn id(&self) -> u64 {
        self.server.as_ref().map_or(0, |server| server.card.id)
    }

    /// Closes the server for `reason`.
    pub fn end(mut self, reason: Reason) {
        if let Some(server) = self.server.take() {
            server.card.serve(0);
            server.card.lend_to(0);
            self.pool.close(server, reason);
        }
    }

    /// Whether the server must be closed when it is free.
    pub fn is_obsolete(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| server.card.close_needed())
    }

    /// Takes the server out of its pool, for another process.
    pub fn send_away(mut self) -> Option<Away> {
        let server = self.server.take()?;
        server.card.serve(0);
        server.card.lend_to(0);
        Some(Away::from(&self.pool, server))
    }

    /// Closes the server without waiting for what it is doing.
    pub fn abandon(self) {
        self.end(Reason::Abandoned);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.card.serve(0);
            server.card.lend_to(0);
            self.pool.close(server, Reason::Dirty);
        }
    }
}

/// A place in line that is left when the one who holds it goes away.
struct InLine<'a> {
    spot: Arc<Spot<Server>>,
    pool: &'a Arc<Pool>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.spot.leave() {
            self.pool.give_back(server);
        }
    }
}

/// Borrows a server for `asker`, waiting in line where it must.
///
/// Cancel-safe: dropping the future leaves the line.
///
/// # Errors
/// Why there is no server to be had.
pub async fn borrow(pool: &Arc<Pool>, asker: Asker) -> Result<Lease, Error> {
    let asked =
        poll_fn(|cx| Poll::Ready(pool.ask(&pool.plan.load(), cx.waker(), clock::now(), asker)))
            .await;
    let server = match asked {
        Asked::Server(server) => server,
        Asked::Refused(error) => return Err(error),
        Asked::Line(spot) => {
            let place = InLine { spot, pool };
            poll_fn(|cx| place.spot.poll(cx)).await?
        }
    };
    let server = pool.bring_here(server)?;
    Ok(Lease::new(pool, server))
}
