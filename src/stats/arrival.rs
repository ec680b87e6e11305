//! A client that has connected and is not logged in yet.
//!
//! It has its id from the start, so that ids count connections, but no card: nobody can give it orders. SHOW SOCKETS tells of it,
//! and once only the first server of its pool is missing SHOW CLIENTS does, too: to its pool it is a client that waits.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::clock::Moment;
use crate::stats::census::ClientFacts;

/// What is known of a connection before its login is done.
#[derive(Debug)]
pub struct Arrival {
    /// One counter for clients and servers.
    pub id: u64,
    /// What its socket says; user and database are empty.
    pub facts: ClientFacts,
    name: Mutex<Option<Name>>,
    waits_since: OnceLock<Moment>,
}

/// Whom a startup packet names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
}

impl Arrival {
    /// A client that has just connected.
    pub fn new(id: u64, facts: ClientFacts) -> Self {
        Self {
            id,
            facts,
            name: Mutex::new(None),
            waits_since: OnceLock::new(),
        }
    }

    /// Notes what the startup packet says.
    pub fn is_called(&self, user: &str, database: &str) {
        let name = Name {
            user: user.to_owned(),
            database: database.to_owned(),
        };
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
    }

    /// What the startup packet said; `None` before it came.
    pub fn name(&self) -> Option<Name> {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone()
    }

    /// Notes that from `now` on nothing is missing but the first server of its pool.
    pub fn waits_for_server(&self, now: Moment) {
        self.waits_since.get_or_init(|| now);
    }

    /// Since when nothing is missing but the first server of its pool; `None` while it is not so.
    pub fn waits_since(&self) -> Option<Moment> {
        self.waits_since.get().copied()
    }

    /// Whether nothing is missing but the first server of its pool.
    pub fn is_waiting_for_server(&self) -> bool {
        self.waits_since().is_some()
    }
}
