//! A wait for a primary, counted however it ends: who leaves, or is sent away for another reason meanwhile, has waited in vain.

use std::sync::Arc;

use crate::clock::{self, Moment};
use crate::topology::board::{Board, Came, Wait};
use crate::topology::outage::Toll;

/// A client waits for a primary.
#[derive(Debug)]
pub(super) struct Waiting {
    board: Arc<Board>,
    wait: Wait,
    came: Came,
}

impl Waiting {
    /// It begins, at `since`.
    pub(super) fn begin(board: &Arc<Board>, since: Moment) -> Self {
        Self {
            board: Arc::clone(board),
            wait: board.begins_to_wait(since),
            came: Came::ToNothing,
        }
    }

    /// Since when.
    pub(super) fn since(&self) -> Moment {
        self.wait.since
    }

    /// It is over, and was not in vain. Returns where the outage it was of is counted.
    pub(super) fn came_through(mut self) -> Arc<Toll> {
        self.came = Came::Through;
        Arc::clone(&self.wait.toll)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.board
            .stops_waiting(&self.wait, self.came, clock::now());
    }
}
