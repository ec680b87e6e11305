//! The machine, by pictures: what was observed, and how the cluster stands then.

mod addresses;
mod doubts;
mod keeper;
mod memory;
mod office;
mod replicas;

use std::time::Duration;

use crate::clock::Moment;
use crate::topology::choice::Memory;
use crate::topology::cluster::{Cluster, Rules};
use crate::topology::membership::LagLimits;
use crate::topology::node::{Facts, Keeper, Leader, Lsn, NodeId, Observation, Place, Trouble};
use crate::topology::phase::Phase;
use crate::topology::view::ClusterView;

pub(super) const A: NodeId = NodeId(0);
pub(super) const B: NodeId = NodeId(1);
pub(super) const C: NodeId = NodeId(2);

pub(super) const RULES: Rules = Rules {
    probe_interval: Duration::from_millis(250),
    probe_timeout: Duration::from_millis(500),
    lag: LagLimits {
        time: Duration::from_secs(1),
        bytes: 0,
        readmit_after: Duration::from_secs(1),
    },
    bounds: Vec::new(),
    fence_on_lease_loss: true,
};

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

pub(super) struct Picture {
    cluster: Cluster,
    now: u64,
    /// Whose answers are given.
    system: u64,
}

pub(super) fn places() -> Vec<Place> {
    ["a", "b", "c"]
        .into_iter()
        .map(|host| Place {
            host: host.into(),
            port: 5432,
            zone: String::new(),
            is_near: false,
            weight: 1,
        })
        .collect()
}

fn remembering(memory: Memory) -> Picture {
    Picture {
        cluster: Cluster::new("main", RULES, places(), memory, at(0)),
        now: 0,
        system: 7,
    }
}

/// A is the writer on timeline 3, B and C follow it.
pub(super) fn stable() -> Picture {
    let mut picture = remembering(Memory::default());
    picture
        .primary(A, 3, 1000)
        .replica(B, 3, 1000)
        .replica(C, 3, 1000);
    assert_eq!(picture.primary_of_view(), Some(A));
    picture.replica(B, 3, 1000).replica(C, 3, 1000);
    picture
}

/// What `node` says of itself, where nothing is unusual.
fn facts_of(node: NodeId, in_recovery: bool, timeline: u32, lsn: u64) -> Facts {
    Facts {
        in_recovery,
        lsn: Lsn(lsn),
        received: in_recovery.then_some(Lsn(lsn)),
        timeline,
        system: 7,
        started: format!("noon of {}", node.0),
        is_receiving: in_recovery,
        segment: 16 << 20,
        streamed: None,
    }
}

impl Picture {
    fn answered(&mut self, node: NodeId, in_recovery: bool, timeline: u32, lsn: u64) -> &mut Self {
        self.now += 10;
        self.answered_at(node, self.now - 5, self.now, in_recovery, timeline, lsn)
    }

    /// `node` answers as a replica whose WAL receiver is not connected.
    fn cut_off(&mut self, node: NodeId, now: u64) {
        self.cut_off_on(3, node, now);
    }

    /// The same, of whose last restartpoint was on `timeline`.
    fn cut_off_on(&mut self, timeline: u32, node: NodeId, now: u64) {
        self.cluster.observe(Observation::Answered {
            node,
            sent: at(now - 5),
            at: at(now),
            facts: Facts {
                received: None,
                is_receiving: false,
                ..facts_of(node, true, timeline, 1000)
            },
        });
    }

    fn answered_at(
        &mut self,
        node: NodeId,
        sent: u64,
        heard: u64,
        in_recovery: bool,
        timeline: u32,
        lsn: u64,
    ) -> &mut Self {
        self.cluster.observe(Observation::Answered {
            node,
            sent: at(sent),
            at: at(heard),
            facts: Facts {
                system: self.system,
                ..facts_of(node, in_recovery, timeline, lsn)
            },
        });
        self
    }

    /// `node` answers as a replica that is seen to stream `timeline`.
    fn streams(&mut self, node: NodeId, timeline: u32, lsn: u64) -> &mut Self {
        self.now += 10;
        self.cluster.observe(Observation::Answered {
            node,
            sent: at(self.now - 5),
            at: at(self.now),
            facts: Facts {
                streamed: Some(timeline),
                ..facts_of(node, true, timeline, lsn)
            },
        });
        self
    }

    pub(super) fn primary(&mut self, node: NodeId, timeline: u32, lsn: u64) -> &mut Self {
        self.answered(node, false, timeline, lsn)
    }

    pub(super) fn replica(&mut self, node: NodeId, timeline: u32, lsn: u64) -> &mut Self {
        self.answered(node, true, timeline, lsn)
    }

    fn failed(&mut self, node: NodeId, trouble: Trouble) -> &mut Self {
        self.now += 10;
        self.cluster.observe(Observation::Failed {
            node,
            sent: at(self.now - 5),
            at: at(self.now),
            trouble,
        });
        self
    }

    pub(super) fn refused(&mut self, node: NodeId) -> &mut Self {
        self.failed(node, Trouble::Refused("connection refused".into()))
    }

    fn bad_sign(&mut self, node: NodeId) -> &mut Self {
        self.now += 1;
        self.cluster.observe(Observation::BadSign {
            node,
            at: at(self.now),
            why: "a server was lost".into(),
        });
        self
    }

    fn keeper(&mut self, leader: Leader, switchover_from: Option<NodeId>) -> &mut Self {
        self.now += 1;
        self.cluster.observe(Observation::Keeper(Keeper {
            at: at(self.now),
            leader,
            switchover_from,
            is_paused: false,
            fresh_for: Duration::from_secs(30),
        }));
        self
    }

    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        self.now += millis;
        self.cluster.tick(at(self.now));
        self
    }

    pub(super) fn view(&self) -> ClusterView {
        self.cluster.view()
    }

    fn phase(&self) -> Phase {
        self.cluster.view().phase
    }

    fn primary_of_view(&self) -> Option<NodeId> {
        self.cluster.view().primary()
    }

    fn epoch(&self) -> u64 {
        self.cluster.view().epoch.0
    }

    fn readers(&self) -> Vec<NodeId> {
        self.cluster.view().readable().map(|node| node.id).collect()
    }
}

fn denied() -> Trouble {
    Trouble::Denied("sorry, too many clients already".into())
}
