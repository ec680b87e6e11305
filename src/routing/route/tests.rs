//! Pictures of a cluster, and where requests go in them.

mod choice;
mod explained;
mod freshness;
mod promises;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, route};
use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::protocol::effects::{Access, Modes};
use crate::routing::ask::Ask;
use crate::routing::balance::Load;
use crate::routing::circumstances::{Circumstances, Policy};
use crate::routing::dice::Dice;
use crate::routing::intent::Intent;
use crate::routing::standing::Standing;
use crate::topology::lag::Lag;
use crate::topology::membership::{Out, Service};
use crate::topology::node::{Lsn, NodeId, Place, Role};
use crate::topology::phase::{Epoch, Phase};
use crate::topology::view::{ClusterView, NodeView, Sample};

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const C: NodeId = NodeId(2);

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn node(id: NodeId, role: Role, lsn: u64, lag_ms: u64) -> NodeView {
    NodeView {
        id,
        place: Arc::new(Place {
            host: format!("n{}", id.0),
            port: 5432,
            zone: String::new(),
            is_near: false,
            weight: 1,
        }),
        is_listed: true,
        role,
        timeline: 1,
        lsn: Some(Lsn(lsn)),
        lag: Lag::Known {
            time: Duration::from_millis(lag_ms),
            bytes: 1000u64.saturating_sub(lsn),
            at: at(0),
        },
        own: serves(role == Role::Replica),
        others: Vec::new(),
        heard: None,
        answers_since: Some(at(0)),
        misses: 0,
        took: Duration::ZERO,
        moves: 0,
        trouble: None,
    }
}

fn serves(is_so: bool) -> Service {
    Service {
        out: (!is_so).then_some(Out::Behind),
        readmitted: None,
    }
}

fn within(millis: u64) -> LagBound {
    LagBound {
        time: Some(Duration::from_millis(millis)),
        bytes: None,
    }
}

/// A primary at 1000, a replica at 990 and one at 400, sampled at 100 ms.
fn view() -> ClusterView {
    ClusterView {
        name: "main".into(),
        epoch: Epoch(1),
        phase: Phase::Stable,
        since: at(0),
        why: "".into(),
        writer: Some(A),
        timeline: 1,
        system: 7,
        holding_since: None,
        fresh_until: at(10_000),
        sample: Some(Sample {
            sent: at(100),
            lsn: Lsn(1000),
        }),
        floor: Some(Lsn(10)),
        bounds: Vec::new(),
        nodes: vec![
            node(A, Role::Primary, 1000, 0),
            node(B, Role::Replica, 990, 5),
            node(C, Role::Replica, 400, 600),
        ],
    }
}

/// At second 1, with nodes of which nobody has asked anything.
fn around<'a>(view: &'a ClusterView, policy: &'a Policy) -> Circumstances<'a> {
    Circumstances {
        view,
        policy,
        written_by_all: None,
        load: &|_| Load::default(),
        now: at(1000),
    }
}

/// A session whose last read `node` has served, at 150 ms.
fn after_read(node: NodeId) -> Standing {
    let mut standing = Standing::default();
    standing.note_read(node, at(150), Epoch(1));
    standing
}

fn outcome(
    ask: Ask,
    standing: &Standing,
    view: &ClusterView,
    policy: &Policy,
    seed: u64,
) -> Outcome {
    let around = around(view, policy);
    route(ask, &mut standing.clone(), &around, &mut Dice::new(seed))
}

/// All nodes that a request goes to, over a hundred throws of the dice.
fn nodes(ask: Ask, standing: &Standing, view: &ClusterView, policy: &Policy) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = (0..100)
        .filter_map(|seed| match outcome(ask, standing, view, policy, seed) {
            Outcome::To(route) | Outcome::Move(route) => Some(route.node),
            Outcome::Later | Outcome::Stuck | Outcome::Wait(_) | Outcome::Refuse(_) => None,
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

const READ: Ask = Ask::of(Intent::Read);
const WRITE: Ask = Ask::of(Intent::Write);

fn begin(modes: Modes) -> Ask {
    Ask {
        begins: Some(modes),
        ..Ask::of(Intent::Session)
    }
}

fn read_only() -> Modes {
    Modes {
        access: Some(Access::ReadOnly),
        ..Modes::default()
    }
}
