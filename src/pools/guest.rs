//! A pool of one server for one client: a connection that speaks the replication protocol.
//!
//! Its server is opened with what the client's startup packet says, and nobody else ever gets it. It takes a seat of the
//! database's ordinary pool, its host: an idle server there makes room for it, and where all are busy it waits in turn with
//! the clients in line. It ends at once when servers are to be replaced, and its client with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::pools::pool::Pool;
use crate::stats::census::{Census, Order};

/// Whose seat a pool's one server takes, and for whom.
#[derive(Debug)]
pub struct Guest {
    host: Arc<Pool>,
    client: AtomicU64,
    is_over: AtomicBool,
}

impl Guest {
    /// A guest of `host`, for a client that is not known yet.
    pub fn of(host: &Arc<Pool>) -> Self {
        Self {
            host: Arc::clone(host),
            client: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// The pool whose seat it takes.
    pub fn host(&self) -> &Arc<Pool> {
        &self.host
    }

    /// Notes its client. False when the guest has been ended meanwhile: then the client must not go on.
    pub fn belongs_to(&self, client: u64) -> bool {
        self.client.store(client, SeqCst);
        !self.is_over()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Ends it, and its client, if there is one by now.
    pub fn end(&self, census: &Census) {
        self.is_over.store(true, SeqCst);
        if let Some(card) = census.clients.get(&self.client.load(SeqCst)) {
            card.give(Order::ServersReplaced);
        }
    }
}
