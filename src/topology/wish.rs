//! A switchover that an operator asks for.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::locked::Locked;

/// Tells whether anything runs on the node at an address.
pub type Runs = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// How a switchover comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switched {
    /// Whoever keeps the cluster has done it.
    ByKeeper,
    /// Nobody keeps the cluster: new transactions wait for a promotion by hand.
    ByHand {
        /// The address of the node that is to be replaced.
        primary: String,
        /// For how long they wait at most.
        within: Duration,
    },
}

/// Why a switchover is not known to have come about, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unswitched {
    /// It did not come about.
    Not(String),
    /// It may have, or may still.
    Unknown(String),
}

/// A switchover that an operator asks for, and what becomes of it.
pub struct Wish {
    /// The node or member that is to be the next primary; none leaves the choice to the keeper.
    pub to: Option<String>,
    runs: Runs,
    outcome: Mutex<Option<Result<Switched, Unswitched>>>,
}

impl fmt::Debug for Wish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Wish")
            .field("to", &self.to)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Wish {
    /// A switchover to `to`.
    pub fn new(to: Option<String>, runs: Runs) -> Arc<Self> {
        Arc::new(Self {
            to,
            runs,
            outcome: Mutex::default(),
        })
    }

    /// Whether anything runs on the node at `address` that it would end.
    pub fn would_end_something(&self, address: &str) -> bool {
        (self.runs)(address)
    }

    /// Says what became of it.
    pub fn answer(&self, outcome: Result<Switched, Unswitched>) {
        self.outcome.locked().get_or_insert(outcome);
    }

    /// What became of it; none while that is not known.
    pub fn outcome(&self) -> Option<Result<Switched, Unswitched>> {
        self.outcome.locked().clone()
    }
}
