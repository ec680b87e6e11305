//! What a route depends on beside what is asked: the settings, the cluster's view, how its nodes do.

use crate::clock::Moment;
use crate::config::routing::{Consistency, LagBound, NoReplica, PrimaryReads, Transactions};
use crate::routing::balance::Load;
use crate::routing::standing::Mark;
use crate::topology::node::NodeId;
use crate::topology::view::ClusterView;

/// Which node a session, a user or a database asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// Reads to replicas, everything else to the primary.
    #[default]
    Auto,
    /// Everything to the primary.
    Primary,
    /// Everything to a replica: a write gets the replica's refusal.
    Replica,
}

/// The settings of a session's database, user and own.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Where to.
    pub target: Target,
    /// How fresh.
    pub consistency: Consistency,
    /// Which transactions.
    pub transactions: Transactions,
    /// Whether the primary shares.
    pub primary_reads: PrimaryReads,
    /// What if no replica qualifies.
    pub no_replica: NoReplica,
    /// The bound of lag, in place of the cluster's own.
    pub bound: LagBound,
    /// How many requests a node serves at once; 0 is any number.
    pub seats: usize,
    /// The share of replicas that may be left out at once, 0 to 1.
    pub max_ejected: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            target: Target::default(),
            consistency: Consistency::default(),
            transactions: Transactions::default(),
            primary_reads: PrimaryReads::default(),
            no_replica: NoReplica::default(),
            bound: LagBound::default(),
            seats: 0,
            max_ejected: 0.5,
        }
    }
}

impl Policy {
    /// Whether everything goes to a replica.
    pub fn is_led_to_replicas(&self) -> bool {
        self.target == Target::Replica
    }
}

/// All that a route depends on beside what is asked.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// The cluster.
    pub view: &'a ClusterView,
    /// The settings.
    pub policy: &'a Policy,
    /// The last write of anybody, for [`Consistency::Global`].
    pub written_by_all: Option<Mark>,
    /// How each node does.
    pub load: &'a dyn Fn(NodeId) -> Load,
    /// Now.
    pub now: Moment,
}
