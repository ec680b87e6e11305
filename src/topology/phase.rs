//! How a cluster stands, and the story of how it came to stand so.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Moment;
use crate::topology::node::NodeId;

/// Changes of phase that are remembered.
const REMEMBERED: usize = 200;

/// Why a writer is lost that somebody took off the list of nodes.
pub const UNLISTED: &str = "it is no longer among the nodes";

/// The reign of one writer: it rises whenever the node that takes writes, or its timeline, changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// How a cluster stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The writer is known and works. New transactions go to it.
    Stable,
    /// The writer works and is about to be replaced. New transactions wait, running ones may end.
    Draining,
    /// Something is wrong with the writer. New transactions wait for the next probe.
    Suspect,
    /// There is no writer.
    NoWriter,
    /// A node takes writes and may become the writer, once nothing speaks against it.
    Confirming,
    /// Two nodes take writes with equal right: neither is used.
    Conflict,
    /// The writer works, but its keeper says it is none.
    Orphan,
}

impl Phase {
    /// The word for it in the console and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::NoWriter => "no_writer",
            Self::Confirming => "confirming",
            Self::Conflict => "conflict",
            Self::Orphan => "orphan",
        }
    }
}

/// A change of phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it happened.
    pub at: Moment,
    /// When the first sign of it was seen: the same, or before.
    pub sign: Moment,
    /// How the cluster stood before.
    pub from: Phase,
    /// How it stands since.
    pub to: Phase,
    /// The reign that began or went on with it.
    pub epoch: Epoch,
    /// The node it is about.
    pub node: Option<NodeId>,
    /// Why.
    pub why: String,
}

/// How a cluster stands, since when and why, and what came before.
#[derive(Debug, Clone)]
pub struct Story {
    /// How it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Moment,
    /// Why.
    pub why: Arc<str>,
    /// Since when new transactions have had to wait; none while they do not.
    pub holding_since: Option<Moment>,
    changes: VecDeque<Change>,
    untold: usize,
    sign: Option<Moment>,
}

impl Story {
    /// The beginning: nothing is known.
    pub fn new(now: Moment) -> Self {
        Self {
            phase: Phase::NoWriter,
            since: now,
            why: "no node has answered yet".into(),
            holding_since: Some(now),
            changes: VecDeque::new(),
            untold: 0,
            sign: None,
        }
    }

    /// The next change was seen coming at `moment`.
    pub fn foresee(&mut self, moment: Moment) {
        self.sign = Some(moment);
    }

    /// Goes on with another phase; nothing happens where it is the same.
    pub fn enter(
        &mut self,
        phase: Phase,
        node: Option<NodeId>,
        why: &str,
        epoch: Epoch,
        now: Moment,
    ) {
        let sign = self.sign.take().unwrap_or(now);
        if phase == self.phase {
            if phase == Phase::Confirming && *why != *self.why {
                // One reason to wait gives way to another.
                self.why = why.into();
            }
            return;
        }
        if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            at: now,
            sign,
            from: self.phase,
            to: phase,
            epoch,
            node,
            why: why.to_owned(),
        });
        self.untold = (self.untold + 1).min(REMEMBERED);
        self.phase = phase;
        self.since = now;
        self.why = why.into();
        if phase == Phase::Stable {
            self.holding_since = None;
        } else {
            self.holding_since.get_or_insert(now);
        }
    }

    /// The changes that were not told before, oldest first.
    pub fn news(&mut self) -> Vec<Change> {
        let skip = self.changes.len() - std::mem::take(&mut self.untold);
        self.changes.iter().skip(skip).cloned().collect()
    }

    /// All that is remembered, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }
}
