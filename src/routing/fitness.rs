//! Which replicas may serve a read of a session.
//!
//! None that is behind the bound of lag, or behind what the session itself has written or read. What does not qualify is skipped with
//! its reason, which EXPLAIN ROUTE shows.

use crate::clock::Moment;
use crate::config::routing::{Consistency, LagBound};
use crate::routing::balance::{Candidate, Load, left_out};
use crate::routing::circumstances::{Circumstances, Policy};
use crate::routing::standing::{Mark, Standing};
use crate::topology::membership::Out;
use crate::topology::node::{NodeId, Role};
use crate::topology::view::{ClusterView, NodeView};

/// Why a node serves no read at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It is no replica, or not listed any more.
    NoReplica,
    /// It is not, or not yet again, a member under the bounds of lag.
    NotReadable(Out),
    /// It follows another timeline than the primary's.
    OtherTimeline,
    /// It has not replayed what the session (or anybody) wrote, or that position is not known yet.
    BehindWrite,
    /// It is not surely past what the session has read.
    BehindRead,
    /// It failed, or is slow.
    Ejected,
}

impl Skip {
    /// The words for it in the console.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoReplica => "no replica",
            Self::NotReadable(why) => why.text(),
            Self::OtherTimeline => "on another timeline than the primary",
            Self::BehindWrite => "not surely past the last write",
            Self::BehindRead => "not surely past the last read",
            Self::Ejected => "left out: it failed or is slow",
        }
    }
}

/// Whether the node of that id may serve a read of the session, but for how it does.
pub fn is_fit(node: NodeId, standing: &Standing, around: &Circumstances<'_>) -> bool {
    let node = around.view.node(node);
    node.is_some_and(|node| fitness(node, standing, around).is_ok())
}

/// Whether `node` may serve a read of the session, but for how it does.
pub fn fitness(
    node: &NodeView,
    standing: &Standing,
    around: &Circumstances<'_>,
) -> Result<(), Skip> {
    let (view, policy) = (around.view, around.policy);
    if node.role != Role::Replica || !node.is_listed {
        return Err(Skip::NoReplica);
    }
    // A view that has not been renewed in time (the pooler itself stood still) knows no lag any more.
    let is_stale = view.primary().is_some() && around.now > view.fresh_until;
    if is_stale {
        return Err(Skip::NotReadable(Out::Stale));
    }
    if let Some(why) = view.service(node, policy.bound).out {
        return Err(Skip::NotReadable(why));
    }
    if node.timeline != view.timeline {
        return Err(Skip::OtherTimeline);
    }
    let is_past = |mark: &Mark| match (mark.needed(view), node.lsn) {
        (Some(needed), Some(replayed)) => replayed >= needed,
        _ => false,
    };
    let (own, shared) = match policy.consistency {
        Consistency::None => return Ok(()),
        Consistency::Session => (standing.written, None),
        Consistency::Global => (standing.written, around.written_by_all),
    };
    if !own.iter().chain(&shared).all(is_past) {
        return Err(Skip::BehindWrite);
    }
    let Some((last, mark)) = &standing.read else {
        return Ok(());
    };
    // One that was started again may show less than it had shown before.
    let has_gone_on = node.answers_since.is_some_and(|since| since < mark.at);
    let is_same = *last == node.id && mark.epoch == view.epoch && has_gone_on;
    if is_same || is_past(mark) {
        return Ok(());
    }
    Err(Skip::BehindRead)
}

/// Whether a replica would serve a read if it had replayed enough, or that were known.
pub fn is_only_behind(around: &Circumstances<'_>) -> bool {
    let policy = Policy {
        consistency: Consistency::None,
        ..around.policy.clone()
    };
    let around = Circumstances {
        policy: &policy,
        ..*around
    };
    let fresh = Standing::default();
    let mut nodes = around.view.nodes.iter();
    nodes.any(|node| fitness(node, &fresh, &around).is_ok())
}

/// Whether the next sample of the primary's position is likely to qualify a replica for a read of the session: all that keeps one from
/// it is that the position is not known yet, and it has replayed all that is.
pub fn is_soon(standing: &Standing, around: &Circumstances<'_>) -> bool {
    let view = around.view;
    // There is no next one of a writer that is lost.
    let Some(sample) = view.sample.filter(|_| view.writer.is_some()) else {
        return false;
    };
    let is_unknown = |mark: &Mark| mark.epoch == view.epoch && mark.lsn.is_none();
    let mut asked = standing.clone();
    asked.written = standing.written.filter(|mark| !is_unknown(mark));
    asked.read = standing.read.filter(|(_, mark)| !is_unknown(mark));
    let shared = around.written_by_all.filter(|mark| !is_unknown(mark));
    let is_waiting = asked.written != standing.written
        || asked.read != standing.read
        || shared != around.written_by_all;
    let around = Circumstances {
        written_by_all: shared,
        ..*around
    };
    is_waiting
        && view
            .nodes
            .iter()
            .any(|node| node.lsn >= Some(sample.lsn) && fitness(node, &asked, &around).is_ok())
}

/// The replicas that may serve a read of the session, with how they do; those left out for failing are not among them.
pub fn candidates(standing: &Standing, around: &Circumstances<'_>) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = around
        .view
        .nodes
        .iter()
        .filter(|node| fitness(node, standing, around).is_ok())
        .map(|node| candidate(node, around))
        .collect();
    let out = out_of_all(around);
    all.retain(|one| !out.contains(&one.node));
    all
}

/// The replicas that are left out of all reads because they fail or are slow: at most a share of those that are near enough to serve.
fn out_of_all(around: &Circumstances<'_>) -> Vec<NodeId> {
    let (view, policy) = (around.view, around.policy);
    out_of_reads(
        view,
        policy.bound,
        policy.max_ejected,
        around.load,
        around.now,
    )
}

/// The replicas of `view` that are left out of the reads of a database that is bound by `bound`, at most the share `most` of them.
pub fn out_of_reads(
    view: &ClusterView,
    bound: LagBound,
    most: f64,
    load: &dyn Fn(NodeId) -> Load,
    now: Moment,
) -> Vec<NodeId> {
    let replicas = view.nodes.iter().filter(|node| {
        let is_near = view.service(node, bound).is_on();
        is_near && node.role == Role::Replica && node.is_listed
    });
    left_out(replicas.map(|node| (node.id, load(node.id))), most, now)
}

/// `node`, with how it does.
pub fn candidate(node: &NodeView, around: &Circumstances<'_>) -> Candidate {
    let mut load = (around.load)(node.id);
    load.back_since = load
        .back_since
        .max(around.view.service(node, around.policy.bound).readmitted);
    Candidate {
        node: node.id,
        weight: node.place.weight,
        is_near: node.place.is_near,
        is_full: around.policy.seats > 0 && load.in_flight as usize >= around.policy.seats,
        load,
    }
}

/// What becomes of each node, for EXPLAIN ROUTE: why it is skipped, or nothing where it may serve.
pub fn skipped(standing: &Standing, around: &Circumstances<'_>) -> Vec<(NodeId, Option<Skip>)> {
    let fit = candidates(standing, around);
    around
        .view
        .nodes
        .iter()
        .map(|node| {
            let skip = match fitness(node, standing, around) {
                Err(skip) => Some(skip),
                Ok(()) if fit.iter().any(|one| one.node == node.id) => None,
                Ok(()) => Some(Skip::Ejected),
            };
            (node.id, skip)
        })
        .collect()
}
