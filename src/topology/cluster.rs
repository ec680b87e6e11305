//! The machine: observations in, views out.
//!
//! A writer is confirmed by SQL alone. What it must never do: call two nodes primary in one reign, go back to an older timeline,
//! choose between two that have equal right, or believe a fact older than the doubt it is to settle. When in doubt it says that
//! there is no primary, and clients wait.

mod facts;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::topology::choice::Memory;
use crate::topology::lag::Ring;
use crate::topology::membership::{LagLimits, Loss};
use crate::topology::node::{Keeper, NodeId, Observation, Place, Role, Trouble};
use crate::topology::phase::{Change, Epoch, Phase, Story, UNLISTED};
use crate::topology::roster::Roster;
use crate::topology::view::ClusterView;

/// How long a drain may last.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What the settings say about a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Between two probes of a node while all is well.
    pub probe_interval: Duration,
    /// How long an answer may take.
    pub probe_timeout: Duration,
    /// When replicas serve reads.
    pub lag: LagLimits,
    /// What databases say in place of these limits; each says something, and none the same.
    pub bounds: Vec<LagBound>,
    /// A writer whose leader key is gone is not used.
    pub fence_on_lease_loss: bool,
}

impl Rules {
    /// For how long an answer counts.
    pub fn shelf_life(&self) -> Duration {
        self.probe_interval + self.probe_timeout * 2
    }
}

/// Running transactions may end, new ones wait.
#[derive(Debug, Clone, Copy)]
struct Drain {
    until: Moment,
    /// By the keeper, and not by an operator.
    is_announced: bool,
}

/// What an epoch counts. Another system may number its timelines alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reign {
    node: NodeId,
    timeline: u32,
    system: u64,
}

/// The state of one cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    name: Arc<str>,
    rules: Rules,
    roster: Roster,
    memory: Memory,
    epoch: Epoch,
    /// The node in office.
    writer: Option<NodeId>,
    /// The reign that `epoch` counts, in office or lost. None after UNFENCE: whoever comes then, it is another.
    reigning: Option<Reign>,
    /// An operator has said UNFENCE, and nobody was crowned since.
    is_unfenced: bool,
    story: Story,
    born: Moment,
    /// When the probe was sent by which the writer was last found to be as it was.
    vouched: Option<Moment>,
    /// Only an answer to a probe sent at or after this clears the writer of suspicion.
    suspicion: Option<(Moment, String)>,
    keeper: Option<Keeper>,
    drain: Option<Drain>,
    /// The switchover that the keeper speaks of has had its drain.
    is_drain_spent: bool,
    ring: Ring,
}

impl Cluster {
    /// A cluster of which nothing is known but its nodes, and what was remembered.
    pub fn new(name: &str, rules: Rules, places: Vec<Place>, memory: Memory, now: Moment) -> Self {
        let mut cluster = Self {
            name: name.into(),
            rules,
            roster: Roster::default(),
            memory,
            epoch: Epoch(0),
            writer: None,
            reigning: None,
            is_unfenced: false,
            story: Story::new(now),
            born: now,
            vouched: None,
            suspicion: None,
            keeper: None,
            drain: None,
            is_drain_spent: false,
            ring: Ring::default(),
        };
        cluster.list(places, now);
        cluster
    }

    /// Puts other rules in force.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.bind();
    }

    fn bind(&mut self) {
        let Rules { lag, bounds, .. } = &self.rules;
        for node in self.roster.iter_mut() {
            node.membership.bound_by(bounds, node.lag, *lag);
        }
    }

    /// What is to be remembered over a restart.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Says which nodes there are now. Known ones keep their ids; those not named are used no longer.
    pub fn list(&mut self, places: Vec<Place>, now: Moment) {
        self.roster.list(places);
        self.bind();
        if let Some(writer) = self.writer
            && !self.roster[writer].is_listed
        {
            self.lose(UNLISTED, now);
        }
        self.settle(now);
    }

    /// The id of the node at `address`, if it is in use.
    pub fn id(&self, address: &str) -> Option<NodeId> {
        self.roster.id(address)
    }

    /// Whether both addresses are known to lead to one server.
    pub fn is_same_server(&self, one: &str, other: &str) -> bool {
        let ids = (self.roster.id(one), self.roster.id(other));
        matches!(ids, (Some(one), Some(other)) if self.roster.is_same_server(one, other))
    }

    /// Whether the node at `address` answered when it was asked last, be it that it did not let us ask.
    pub fn answers(&self, address: &str) -> bool {
        let id = self.roster.id(address);
        id.is_some_and(|id| {
            let node = &self.roster[id];
            node.facts.is_some() || matches!(node.trouble, Some(Trouble::Denied(_)))
        })
    }

    /// What `id` is.
    pub fn role(&self, id: NodeId) -> Role {
        self.roster.role(id, &self.memory, self.writer)
    }

    /// Takes in a fact. Facts out of order and facts that took too long are none.
    pub fn observe(&mut self, observation: Observation) {
        let at = match observation {
            Observation::Answered {
                node,
                sent,
                at,
                facts,
            } => {
                if !self.is_news(node, sent) {
                    return;
                }
                if at.since(sent) > self.rules.probe_timeout {
                    self.failed(node, sent, at, Trouble::Timeout);
                } else {
                    self.answered(node, sent, at, facts);
                }
                at
            }
            Observation::Failed {
                node,
                sent,
                at,
                trouble,
            } => {
                if !self.is_news(node, sent) {
                    return;
                }
                self.failed(node, sent, at, trouble);
                at
            }
            Observation::BadSign { node, at, why } => {
                self.suspect(node, at, why);
                at
            }
            Observation::Curious { at } => at,
            Observation::Keeper(keeper) => {
                let at = keeper.at;
                self.is_drain_spent &= keeper.switchover_from.is_some();
                self.keeper = Some(keeper);
                at
            }
            Observation::Drain { at, grace } => {
                self.drain = Some(Drain {
                    until: at.after(DRAIN + grace),
                    is_announced: false,
                });
                at
            }
            Observation::DrainOver { at } => {
                self.drain = self.drain.filter(|drain| drain.is_announced);
                at
            }
            Observation::Unfence { at } => {
                self.unfence(at);
                at
            }
        };
        self.settle(at);
    }

    /// There was a bad sign of `node`.
    fn suspect(&mut self, node: NodeId, at: Moment, why: String) {
        let is_newer = self.suspicion.as_ref().is_none_or(|(since, _)| at > *since);
        if self.writer == Some(node) && is_newer {
            self.suspicion = Some((at, why));
        }
    }

    /// The highest timeline seen so far counts no longer.
    fn unfence(&mut self, at: Moment) {
        let given_up = std::mem::take(&mut self.memory.given_up);
        self.memory = Memory::default();
        if self.writer.is_some() {
            // It has newer writes than who was given up for it.
            self.memory.given_up = given_up;
        }
        self.lose("an operator said UNFENCE", at);
        self.reigning = None;
        self.is_unfenced = true;
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Moment) {
        self.settle(now);
    }

    /// When the machine wants to be told the time next, whatever else happens.
    pub fn next_tick(&self, now: Moment) -> Option<Moment> {
        let keeper = self.keeper.as_ref();
        let keeper = keeper.map(|keeper| keeper.at.after(keeper.fresh_for));
        let vouched = self.writer.and(self.vouched);
        let heard = vouched.map(|sent| sent.after(self.rules.shelf_life()));
        let round = (!self.roster.is_round_done()).then(|| self.round_over());
        let drain = self.drain.map(|drain| drain.until);
        [drain, keeper, heard, round]
            .into_iter()
            .flatten()
            .filter(|moment| *moment > now)
            .min()
    }

    /// Whether the writer was found to be as it was so short a time before `moment` that nothing can have happened to it unnoticed.
    fn is_vouched_at(&self, moment: Moment) -> bool {
        let limit = self.rules.shelf_life();
        self.vouched.is_some_and(|sent| moment.since(sent) <= limit)
    }

    /// The writer, if there is one, is none any more.
    fn lose(&mut self, why: &str, now: Moment) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        self.suspicion = None;
        self.drain = None;
        let loss = Loss {
            at: now,
            grace: self.rules.shelf_life(),
            heard: self.vouched.unwrap_or(now),
        };
        for node in self.roster.iter_mut() {
            node.membership.freeze(&loss, node.lag, self.rules.lag);
            let facts = node.facts.as_ref().map(|(_, facts)| facts);
            node.has_ceased = facts.is_some_and(|facts| !facts.is_receiving);
        }
        self.enter(Phase::NoWriter, Some(writer), why, now);
    }

    fn enter(&mut self, phase: Phase, node: Option<NodeId>, why: &str, now: Moment) {
        self.story.enter(phase, node, why, self.epoch, now);
    }

    fn fresh_keeper(&self, now: Moment) -> Option<&Keeper> {
        let keeper = self.keeper.as_ref();
        keeper.filter(|keeper| now.since(keeper.at) <= keeper.fresh_for)
    }

    fn round_over(&self) -> Moment {
        let rules = &self.rules;
        self.born.after(rules.probe_timeout + rules.probe_interval)
    }

    /// Changes of phase that were not asked for before, oldest first.
    pub fn news(&mut self) -> Vec<Change> {
        self.story.news()
    }

    /// The story so far, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.story.changes()
    }

    /// A snapshot.
    pub fn view(&self) -> ClusterView {
        let vouched = self.writer.and(self.vouched);
        ClusterView {
            name: Arc::clone(&self.name),
            epoch: self.epoch,
            phase: self.story.phase,
            since: self.story.since,
            why: Arc::clone(&self.story.why),
            writer: self.writer,
            timeline: self.memory.timeline,
            system: self.memory.system,
            holding_since: self.story.holding_since,
            fresh_until: vouched.map_or(self.born, |sent| sent.after(self.rules.shelf_life() * 2)),
            sample: self.ring.newest(),
            floor: self.ring.floor(),
            bounds: self.rules.bounds.clone(),
            nodes: self.roster.view(&self.memory, self.writer),
        }
    }
}
