//! The machine against a model of a cluster that fails in every way at once, under a seeded schedule.
//!
//! Nodes are killed, promoted (also twice at the same time), revived on their old timeline, cut off and delayed; probes come late, or
//! never; bad signs are false and the keeper lies. Whatever happens: no node is primary below the highest timeline heard, one reign
//! has one writer, no replica serves reads that are older than the limits allow, and a cluster that heals gets its primary back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::topology::choice::Memory;
use crate::topology::cluster::{Cluster, Rules};
use crate::topology::membership::LagLimits;
use crate::topology::node::{Facts, Keeper, Leader, Lsn, NodeId, Observation, Place, Trouble};

const SEEDS: u64 = 2000;
const NODES: usize = 3;
const INTERVAL: u64 = 250;
const TIMEOUT: u64 = 500;
const MAX_LAG: u64 = 1000;

const RULES: Rules = Rules {
    probe_interval: Duration::from_millis(INTERVAL),
    probe_timeout: Duration::from_millis(TIMEOUT),
    lag: LagLimits {
        time: Duration::from_millis(MAX_LAG),
        bytes: 0,
        readmit_after: Duration::from_millis(1000),
    },
    bounds: Vec::new(),
    fence_on_lease_loss: true,
};

/// Chance, repeatable.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.below(NODES as u64)).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone)]
struct Real {
    is_up: bool,
    is_cut_off: bool,
    in_recovery: bool,
    timeline: u32,
    lsn: u64,
    /// It does not replay at the moment.
    is_stuck: bool,
}

/// What a probe will bring, and when.
struct Coming {
    due: u64,
    observation: Observation,
}

struct World {
    dice: Dice,
    now: u64,
    nodes: Vec<Real>,
    /// Who the cluster itself follows.
    leader: usize,
    next_timeline: u32,
    /// Positions of the leader's reign: moment and position.
    history: VecDeque<(u64, u64)>,
    coming: Vec<Coming>,
    probe_at: Vec<u64>,
    keeper_fresh: u64,
    machine: Cluster,
    heard_timeline: u32,
    reigns: BTreeMap<u64, (NodeId, u32)>,
    is_calm: bool,
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn id(index: usize) -> NodeId {
    NodeId(u16::try_from(index).unwrap())
}

impl World {
    fn new(seed: u64) -> Self {
        let places = (0..NODES).map(|index| Place {
            host: format!("n{index}"),
            port: 5432,
            zone: String::new(),
            is_near: false,
            weight: 1,
        });
        let node = |index: usize| Real {
            is_up: true,
            is_cut_off: false,
            in_recovery: index != 0,
            timeline: 1,
            lsn: 1000,
            is_stuck: false,
        };
        let memory = Memory {
            is_lost: seed.is_multiple_of(2),
            ..Memory::default()
        };
        Self {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: 1,
            nodes: (0..NODES).map(node).collect(),
            leader: 0,
            next_timeline: 2,
            history: VecDeque::from([(0, 1000)]),
            coming: Vec::new(),
            probe_at: vec![1; NODES],
            keeper_fresh: 500 + seed % 1500,
            machine: Cluster::new("main", RULES, places.collect(), memory, at(1)),
            heard_timeline: 0,
            reigns: BTreeMap::new(),
            is_calm: false,
        }
    }

    fn step(&mut self) {
        self.now += 1 + self.dice.below(40);
        self.work();
        if !self.is_calm && self.dice.one_in(12) {
            self.disturb();
        }
        self.probe();
        self.deliver();
        self.machine.tick(at(self.now));
        self.judge();
    }

    /// The leader writes, the replicas follow.
    fn work(&mut self) {
        let written = self.dice.below(4) * 64;
        let leader = self.leader;
        if self.nodes[leader].is_up && !self.nodes[leader].in_recovery {
            self.nodes[leader].lsn += written;
            self.history.push_back((self.now, self.nodes[leader].lsn));
        }
        let (lsn, timeline) = (self.nodes[leader].lsn, self.nodes[leader].timeline);
        for index in 0..NODES {
            let node = &mut self.nodes[index];
            if index == leader {
                continue;
            }
            if !node.in_recovery {
                // A stale primary goes on by itself.
                node.lsn += written * 2;
            } else if node.is_up && !node.is_stuck && node.timeline == timeline && node.lsn < lsn {
                node.lsn = lsn;
            }
        }
    }

    fn promote(&mut self, index: usize, timeline: u32) {
        let node = &mut self.nodes[index];
        node.is_up = true;
        node.in_recovery = false;
        node.timeline = timeline;
        self.leader = index;
        self.history = VecDeque::from([(self.now, node.lsn)]);
    }

    fn disturb(&mut self) {
        let index = self.dice.node();
        match self.dice.below(12) {
            0 => self.nodes[index].is_up = false,
            1 => {
                let timeline = self.next_timeline;
                self.next_timeline += 1;
                self.promote(index, timeline);
            }
            2 if self.next_timeline > 2 && self.dice.one_in(4) => {
                let timeline = self.next_timeline - 1;
                self.promote(index, timeline);
            }
            // Revived as it was: an old primary takes writes again.
            3 => self.nodes[index].is_up = true,
            4 | 5 if index != self.leader => {
                let timeline = self.nodes[self.leader].timeline;
                let lsn = self.nodes[self.leader].lsn;
                let node = &mut self.nodes[index];
                (node.is_up, node.in_recovery, node.timeline) = (true, true, timeline);
                node.lsn = node.lsn.min(lsn);
            }
            6 => self.nodes[index].is_cut_off = !self.nodes[index].is_cut_off,
            7 => self.nodes[index].is_stuck = !self.nodes[index].is_stuck,
            8 => self.machine.observe(Observation::BadSign {
                node: id(index),
                at: at(self.now),
                why: "false".into(),
            }),
            9 | 10 => {
                let leader = match self.dice.below(4) {
                    0 => Leader::Nobody,
                    1 => Leader::Stranger,
                    _ => Leader::Node(id(self.dice.node())),
                };
                let leaving = self.dice.one_in(3).then(|| id(index));
                self.machine.observe(Observation::Keeper(Keeper {
                    at: at(self.now),
                    leader,
                    switchover_from: leaving,
                    is_paused: self.dice.one_in(5),
                    fresh_for: Duration::from_millis(self.keeper_fresh),
                }));
            }
            _ => {}
        }
    }

    fn probe(&mut self) {
        for index in 0..NODES {
            if self.now < self.probe_at[index] {
                continue;
            }
            self.probe_at[index] = self.now + INTERVAL / 4 + self.dice.below(INTERVAL);
            let slow = !self.is_calm && self.dice.one_in(10);
            let delay = if slow {
                self.dice.below(900)
            } else {
                self.dice.below(20)
            };
            let observation = self.outcome(index, delay);
            let due = self.now + delay;
            self.coming.push(Coming { due, observation });
        }
    }

    fn outcome(&mut self, index: usize, delay: u64) -> Observation {
        let (node, sent) = (&self.nodes[index], self.now);
        let is_lost = !self.is_calm && self.dice.one_in(40);
        let is_denied = node.is_up && !node.is_cut_off && !self.is_calm && self.dice.one_in(20);
        if node.is_up && !node.is_cut_off && !is_lost && !is_denied {
            return Observation::Answered {
                node: id(index),
                sent: at(sent),
                at: at(sent + delay),
                facts: Facts {
                    in_recovery: node.in_recovery,
                    lsn: Lsn(node.lsn),
                    received: None,
                    timeline: node.timeline,
                    system: 7,
                    started: String::new(),
                    is_receiving: node.in_recovery,
                    segment: 16 << 20,
                    streamed: None,
                },
            };
        }
        let trouble = if is_denied {
            Trouble::Denied("too many".into())
        } else if node.is_cut_off || is_lost {
            Trouble::Timeout
        } else {
            Trouble::Refused("refused".into())
        };
        Observation::Failed {
            node: id(index),
            sent: at(sent),
            at: at(sent + delay),
            trouble,
        }
    }

    fn deliver(&mut self) {
        let (due, later) = std::mem::take(&mut self.coming)
            .into_iter()
            .partition(|coming| coming.due <= self.now);
        self.coming = later;
        for mut coming in Vec::<Coming>::from_iter(due) {
            // Heard now, whenever it came: the machine's clock never goes back.
            match &mut coming.observation {
                Observation::Answered {
                    at: heard,
                    sent,
                    facts,
                    ..
                } => {
                    *heard = at(self.now);
                    let is_timely = heard.since(*sent) <= RULES.probe_timeout;
                    if is_timely && !facts.in_recovery && self.is_news(&coming.observation) {
                        self.note_timeline(&coming.observation);
                    }
                }
                Observation::Failed { at: heard, .. } => *heard = at(self.now),
                _ => {}
            }
            self.machine.observe(coming.observation);
        }
    }

    /// Whether the machine has not heard of a later probe of this node already.
    fn is_news(&self, observation: &Observation) -> bool {
        let mut copy = self.machine.clone();
        copy.observe(observation.clone());
        let Observation::Answered { node, at, .. } = observation else {
            return false;
        };
        copy.view()
            .node(*node)
            .is_some_and(|seen| seen.heard == Some(*at))
    }

    fn note_timeline(&mut self, observation: &Observation) {
        if let Observation::Answered { facts, .. } = observation
            && self.heard_timeline > 0
        {
            self.heard_timeline = self.heard_timeline.max(facts.timeline);
        }
    }

    fn judge(&mut self) {
        let view = self.machine.view();
        if let Some(primary) = view.primary() {
            let seen = view.node(primary).unwrap();
            // One that does not let us ask is what it was.
            let timeline = if seen.lsn.is_some() {
                seen.timeline
            } else {
                view.timeline
            };
            assert!(
                timeline >= self.heard_timeline,
                "{primary:?} is primary on {timeline} though {} was heard",
                self.heard_timeline
            );
            self.heard_timeline = timeline;
            let reign = (primary, timeline);
            let known = *self.reigns.entry(view.epoch.0).or_insert(reign);
            assert_eq!(known, reign, "two writers in epoch {}", view.epoch.0);
        }
        if let Some(last) = self.reigns.keys().next_back() {
            assert!(view.epoch.0 >= *last, "the epoch went back");
        }
        let leader = &self.nodes[self.leader];
        let is_followed = view.writer == Some(id(self.leader)) && !leader.in_recovery;
        if !is_followed || view.primary().is_none() || view.timeline != leader.timeline {
            return;
        }
        // A sample may be as old as its shelf life, and the replica's answer as an interval and a time limit.
        let slack = MAX_LAG + (INTERVAL + TIMEOUT * 2) + (INTERVAL * 5 / 4 + TIMEOUT) + 41;
        let horizon = self.now.saturating_sub(slack);
        let needed = self.history.iter().rev().find(|(when, _)| *when <= horizon);
        for reader in view.readable() {
            let real = &self.nodes[usize::from(reader.id.0)];
            if real.timeline != leader.timeline || !real.in_recovery {
                continue;
            }
            if let Some((when, lsn)) = needed {
                assert!(
                    real.lsn >= *lsn,
                    "{:?} serves reads at {} but the leader was at {lsn} at {when}, now {}",
                    reader.id,
                    real.lsn,
                    self.now
                );
            }
        }
    }

    /// Everything is mended, and the keeper falls silent: a primary must be found.
    fn heal(&mut self) {
        self.is_calm = true;
        let timeline = self.next_timeline;
        let leader = self.dice.node();
        for node in &mut self.nodes {
            *node = Real {
                is_up: true,
                is_cut_off: false,
                in_recovery: true,
                timeline,
                lsn: node.lsn,
                is_stuck: false,
            };
        }
        self.promote(leader, timeline);
        let lsn = self.nodes.iter().map(|node| node.lsn).max().unwrap();
        self.nodes[leader].lsn = lsn;
        let end = self.now + 6000;
        while self.now < end {
            self.step();
        }
        let view = self.machine.view();
        assert_eq!(
            view.primary(),
            Some(id(leader)),
            "{:?}: {}",
            view.phase,
            view.why
        );
        assert_eq!(
            view.readable().count(),
            NODES - 1,
            "replicas serve reads again"
        );
    }
}

#[test]
fn whatever_happens_there_is_one_writer_or_none() {
    for seed in 1..=SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..300 {
                world.step();
            }
            world.heal();
        });
        assert!(outcome.is_ok(), "seed {seed} shows it");
    }
}
