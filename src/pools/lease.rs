//! A server on loan.

use std::sync::Arc;

use crate::pools::policy::Reason;
use crate::pools::pool::Pool;
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
        Self { server: Some(server), pool: Arc::clone(pool) }
    }

    /// The server.
    #[inline]
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a lease holds its server until it ends")
    }

    /// Gives the server back.
    pub fn release(mut self) {
        if let Some(server) = self.server.take() {
            server.card.serve(0);
            self.pool.give_back(server);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.card.serve(0);
            self.pool.close(server, Reason::Dirty);
        }
    }
}
