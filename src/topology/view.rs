//! What everybody but the machine itself sees of a cluster: one immutable snapshot.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::topology::lag::Lag;
use crate::topology::membership::{Out, Service};
use crate::topology::node::{Lsn, NodeId, Place, Role};
use crate::topology::phase::{Epoch, Phase};

/// A snapshot of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// The cluster's name.
    pub name: Arc<str>,
    /// The reign.
    pub epoch: Epoch,
    /// How it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Moment,
    /// Why.
    pub why: Arc<str>,
    /// The node in office; also when new transactions do not go to it at the moment.
    pub writer: Option<NodeId>,
    /// The highest timeline ever seen to take writes.
    pub timeline: u32,
    /// The system identifier; 0 before any is known.
    pub system: u64,
    /// Since when there has been no writer in use; none while there is one.
    pub holding_since: Option<Moment>,
    /// Until when the writer may be called primary without being heard again: a pooler that was stopped itself must not trust
    /// what it knew.
    pub fresh_until: Moment,
    /// The newest position of the writer in this reign, and when it was asked for; also when that writer is lost: what was read before
    /// it was asked is not beyond it.
    pub sample: Option<Sample>,
    /// The first position of the writer that was seen in this reign: whoever has replayed it has everything of the reigns before.
    pub floor: Option<Lsn>,
    /// What databases say in place of the cluster's limits of lag.
    pub bounds: Vec<LagBound>,
    /// Every node ever known, in the order of their ids.
    pub nodes: Vec<NodeView>,
}

/// A position of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the probe was sent that brought it.
    pub sent: Moment,
    /// The position.
    pub lsn: Lsn,
}

/// What is seen of a node.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Where it is.
    pub place: Arc<Place>,
    /// It is configured or discovered, now.
    pub is_listed: bool,
    /// What it is.
    pub role: Role,
    /// Its timeline; 0 where unknown.
    pub timeline: u32,
    /// The insert position of a primary; what a replica has replayed.
    pub lsn: Option<Lsn>,
    /// How far it is behind; of no meaning for a primary.
    pub lag: Lag,
    /// Whether it may serve reads, as far as the cluster's own limits go.
    pub own: Service,
    /// The same under each of [`ClusterView::bounds`].
    pub others: Vec<Service>,
    /// When it was last heard.
    pub heard: Option<Moment>,
    /// Since when it has answered each probe, and was not started again: what it showed since then it shows still. None since it failed.
    pub answers_since: Option<Moment>,
    /// How many probes in a row it has not answered in time.
    pub misses: u32,
    /// How long that answer took.
    pub took: Duration,
    /// How often it has become another server, as its name moved.
    pub moves: u32,
    /// What is wrong with it.
    pub trouble: Option<Arc<str>>,
}

impl NodeView {
    /// Whether it may serve reads under some bound.
    pub fn serves_somebody(&self) -> bool {
        self.own.is_on() || self.others.iter().any(Service::is_on)
    }
}

impl ClusterView {
    /// The node that new transactions go to: none while they wait.
    pub fn primary(&self) -> Option<NodeId> {
        match self.phase {
            Phase::Stable => self.writer,
            Phase::Draining
            | Phase::Suspect
            | Phase::NoWriter
            | Phase::Confirming
            | Phase::Conflict
            | Phase::Orphan => None,
        }
    }

    /// The node that new transactions go to at `now`.
    pub fn primary_at(&self, now: Moment) -> Option<NodeId> {
        self.primary().filter(|_| now <= self.fresh_until)
    }

    /// What is seen of `id`.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.get(usize::from(id.0))
    }

    /// The node at `address` (`host:port`).
    pub fn at(&self, address: &str) -> Option<&NodeView> {
        self.nodes
            .iter()
            .find(|node| node.is_listed && node.place.address() == address)
    }

    /// The nodes that may serve reads, as far as the cluster's own limits go.
    pub fn readable(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter(|node| node.own.is_on())
    }

    /// How `node` serves reads under `bound`.
    ///
    /// A bound that the view does not know yet, because it has just come with a reload, only narrows the cluster's own.
    pub fn service(&self, node: &NodeView, bound: LagBound) -> Service {
        if bound.is_clusters() {
            return node.own;
        }
        let index = self.bounds.iter().position(|one| *one == bound);
        if let Some(service) = index.and_then(|index| node.others.get(index)) {
            return *service;
        }
        let time = bound.time.unwrap_or(Duration::MAX);
        if node.own.is_on() && !node.lag.is_within(time, bound.bytes.unwrap_or(0)) {
            return Service::none(Out::Behind);
        }
        node.own
    }

    /// What a replica must have replayed to have all that was written up to a position `written` of reign `epoch`.
    /// None while that is not known.
    pub fn needed(&self, epoch: Epoch, written: Lsn) -> Option<Lsn> {
        if epoch == self.epoch {
            Some(written)
        } else {
            self.floor
        }
    }
}
