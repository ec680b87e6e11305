//! The counts of a pool that are shown: how many servers stand where, and who waits.

use std::collections::VecDeque;

use super::Pool;
use crate::clock::Moment;

/// How many servers of a pool stand where, and who waits.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the names are the columns of SHOW POOLS")]
pub struct Headcount {
    pub open: usize,
    pub idle: usize,
    pub dialing: usize,
    pub tested: usize,
    pub parked: usize,
    pub waiting: usize,
    pub oldest: Option<Moment>,
    pub paused: bool,
}

impl Headcount {
    /// Whether there is no server and nobody who waits for one.
    pub fn is_empty(&self) -> bool {
        self.open == 0 && self.waiting == 0
    }

    /// Both together, for the pools of several nodes.
    pub fn and(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            idle: self.idle + other.idle,
            dialing: self.dialing + other.dialing,
            tested: self.tested + other.tested,
            parked: self.parked + other.parked,
            waiting: self.waiting + other.waiting,
            oldest: self.oldest.into_iter().chain(other.oldest).min(),
            paused: self.paused || other.paused,
        }
    }
}

impl Pool {
    /// Whether clients wait to whom no server is on its way, and there is a seat for one.
    pub fn is_short(&self) -> bool {
        let plan = self.plan.load();
        let now = self.headcount();
        let has_seat = plan.size == 0 || now.open < plan.size + plan.reserve;
        now.waiting > now.dialing + now.tested && has_seat && !now.paused
    }

    /// How many servers stand where.
    pub fn headcount(&self) -> Headcount {
        let mut state = self.lock();
        Headcount {
            open: state.open,
            idle: state.idle.iter().map(VecDeque::len).sum(),
            dialing: state.dialing,
            tested: state.tested,
            parked: state.parked.len(),
            waiting: state.lines.waiting(),
            oldest: state.lines.oldest(),
            paused: state.paused,
        }
    }
}
