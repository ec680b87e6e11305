//! A client that has connected and is not logged in yet.
//!
//! It has its id from the start, so that ids count connections, but no card: nobody can give it orders. SHOW SOCKETS alone tells of it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::stats::census::ClientFacts;

/// What is known of a connection before its login is done.
#[derive(Debug)]
pub struct Arrival {
    /// One counter for clients and servers.
    pub id: u64,
    /// What its socket says; user and database are empty.
    pub facts: ClientFacts,
    name: Mutex<Option<Name>>,
    waits_for_server: AtomicBool,
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
            waits_for_server: AtomicBool::new(false),
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

    /// Notes that nothing is missing but the first server of its pool.
    pub fn waits_for_server(&self) {
        self.waits_for_server.store(true, Relaxed);
    }

    /// Whether nothing is missing but the first server of its pool.
    pub fn is_waiting_for_server(&self) -> bool {
        self.waits_for_server.load(Relaxed)
    }
}
