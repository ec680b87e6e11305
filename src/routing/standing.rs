//! What a session has done, as far as its next route depends on it.
//!
//! A write's position is not asked for. The first position of the primary whose probe was *sent* after the write's reply is an upper bound
//! of it: until that sample is here, the session reads from the primary. The same holds for what it has read: whoever served the
//! read may have been further than the last sample of it says, so only the same node may serve the next one until a sample is
//! sent after it. Positions belong to a reign; after a failover they count only up to where the new one began.

use crate::clock::Moment;
use crate::protocol::effects::Modes;
use crate::topology::node::{Lsn, NodeId};
use crate::topology::phase::Epoch;
use crate::topology::view::ClusterView;

/// Something that later reads must not be behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When its reply was here.
    pub at: Moment,
    /// In which reign.
    pub epoch: Epoch,
    /// The position that it is surely not behind, once known.
    pub lsn: Option<Lsn>,
}

impl Mark {
    /// Of what was answered at `at` in reign `epoch`.
    pub const fn new(at: Moment, epoch: Epoch) -> Self {
        Self {
            at,
            epoch,
            lsn: None,
        }
    }

    /// Takes the position from a view, if its sample was asked for after the mark.
    pub fn learn(&mut self, view: &ClusterView) {
        if self.lsn.is_some() || self.epoch != view.epoch {
            return;
        }
        if let Some(sample) = view.sample.filter(|sample| sample.sent >= self.at) {
            self.lsn = Some(sample.lsn);
        }
    }

    /// What a replica must have replayed; `None` while that is not known.
    pub fn needed(&self, view: &ClusterView) -> Option<Lsn> {
        if self.epoch == view.epoch {
            self.lsn
        } else {
            view.floor
        }
    }
}

/// The transaction a session is in, as far as its next statement may go elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// None, or one that stays where it is.
    None,
    /// BEGIN was answered by the pooler; the first statement decides.
    Unbound {
        /// It is READ ONLY.
        is_read_only: bool,
    },
    /// It is on this replica.
    On {
        /// The replica.
        node: NodeId,
        /// It is READ ONLY.
        is_read_only: bool,
        /// It has a snapshot there, or something else that is nowhere else.
        is_fixed: bool,
    },
}

/// What a session has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The transaction it is in.
    pub transaction: Transaction,
    /// Its defaults for transactions: `default_transaction_read_only` and its like.
    pub defaults: Modes,
    /// Its last write, or the last transaction on the primary that was not READ ONLY.
    pub written: Option<Mark>,
    /// Its last read, and who served it.
    pub read: Option<(NodeId, Mark)>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            transaction: Transaction::None,
            defaults: Modes::default(),
            written: None,
            read: None,
        }
    }
}

impl Standing {
    /// The session's write was answered.
    pub fn wrote(&mut self, at: Moment, epoch: Epoch) {
        self.written = Some(Mark::new(at, epoch));
    }

    /// The session's read was answered by `node`. What it read before is not newer than what `node` shows, or it had not been sent
    /// there.
    pub fn has_read(&mut self, node: NodeId, at: Moment, epoch: Epoch) {
        self.read = Some((node, Mark::new(at, epoch)));
    }

    /// Takes positions from a new view.
    pub fn learn(&mut self, view: &ClusterView) {
        if let Some(mark) = &mut self.written {
            mark.learn(view);
        }
        if let Some((_, mark)) = &mut self.read {
            mark.learn(view);
        }
    }
}
