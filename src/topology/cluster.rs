//! The machine: observations in, views out.
//!
//! A writer is confirmed by SQL alone. What it must never do: call two nodes primary in one reign, go back to an older timeline,
//! choose between two that have equal right, or believe a fact older than the doubt it is to settle. When in doubt it says that
//! there is no primary, and clients wait.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::topology::choice::{Candidate, Choice, Circumstances, Memory, Patience, choose};
use crate::topology::lag::{Lag, Ring};
use crate::topology::membership::{LagLimits, Out};
use crate::topology::node::{
    Facts, Keeper, Leader, Lsn, NodeId, Observation, Place, Role, Trouble,
};
use crate::topology::phase::{Change, Epoch, Phase, Story, UNLISTED};
use crate::topology::roster::Roster;
use crate::topology::view::{ClusterView, Sample};

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
                let is_newer = self.suspicion.as_ref().is_none_or(|(since, _)| at > *since);
                if self.writer == Some(node) && is_newer {
                    self.suspicion = Some((at, why));
                }
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
                self.memory = Memory::default();
                self.lose("an operator said UNFENCE", at);
                self.reigning = None;
                self.is_unfenced = true;
                at
            }
        };
        self.settle(at);
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

    fn is_news(&self, id: NodeId, sent: Moment) -> bool {
        let node = self.roster.listed(id);
        node.is_some_and(|node| node.asked.is_none_or(|asked| sent > asked))
    }

    fn answered(&mut self, id: NodeId, sent: Moment, at: Moment, mut facts: Facts) {
        let node = &mut self.roster[id];
        if facts.in_recovery {
            facts.timeline = node.timeline_of(&facts);
        }
        node.asked = Some(sent);
        node.heard = Some((at, at.since(sent)));
        node.trouble = None;
        node.timeouts = 0;
        node.outcomes += 1;
        node.goes_on(&facts, at);
        node.facts = Some((sent, facts.clone()));
        let server = Some((facts.system, facts.started.clone()));
        if facts.in_recovery || node.server != server {
            node.writable_since = None;
        }
        if !facts.in_recovery {
            node.writable_since.get_or_insert(sent);
        }
        node.server = server;
        self.roster.note_twins(id);
        if facts.in_recovery {
            if self.writer == Some(id) {
                self.lose("it has become a replica", at);
            }
            self.take_back(id, &facts);
            self.measure(id, &facts, at);
            return;
        }
        let is_ours = self.memory.system == facts.system;
        let is_given_up = self.roster.is_given_up(id, &self.memory);
        self.roster[id].forget_lag(if !is_ours && self.memory.system != 0 {
            Out::OtherSystem
        } else if is_given_up {
            Out::GivenUp
        } else {
            Out::Unmeasured
        });
        if is_ours && !is_given_up && facts.timeline > self.memory.timeline {
            // Seen is seen: nothing on an older timeline takes writes any more.
            self.memory.timeline = facts.timeline;
            self.memory.writer = None;
        }
        let (Some(reign), true) = (self.reigning, self.writer == Some(id)) else {
            return;
        };
        if !is_ours {
            self.lose("its system identifier has changed", at);
        } else if facts.timeline < reign.timeline {
            self.lose("it has gone back to an older timeline", at);
        } else if facts.timeline == reign.timeline {
            let lsn = facts.lsn.before_page_header(facts.segment);
            self.ring.add(Sample { sent, lsn });
            self.compare(facts.lsn, sent, at);
            self.vouch(sent);
        }
    }

    /// A node that was given up when UNFENCE was said is one of the cluster's again once it follows that.
    fn take_back(&mut self, id: NodeId, facts: &Facts) {
        let memory = &mut self.memory;
        let is_ours = facts.system == memory.system && facts.timeline <= memory.timeline;
        if is_ours && facts.is_receiving && !memory.given_up.is_empty() {
            let back = self.roster[id].place.address();
            memory.given_up.retain(|address| *address != back);
        }
    }

    /// The writer was found to be as it was by a probe sent at `sent`, which clears it of what was suspected before.
    fn vouch(&mut self, sent: Moment) {
        self.vouched = Some(sent);
        let suspicion = self.suspicion.as_ref();
        if suspicion.is_some_and(|(since, _)| sent >= *since) {
            self.suspicion = None;
        }
    }

    /// Finds the replicas of another history: what one had replayed before the writer was asked, the writer must have written.
    fn compare(&mut self, written: Lsn, sent: Moment, now: Moment) {
        for node in self.roster.iter_mut() {
            let (Some((_, facts)), Some((heard, _))) = (&node.facts, node.heard) else {
                continue;
            };
            if !facts.in_recovery || heard > sent {
                continue;
            }
            node.is_ahead = facts.lsn > written;
            if node.is_ahead {
                node.lag = Lag::Unknown;
                node.membership.cut_off(Out::Ahead, now);
            }
        }
    }

    /// Measures the lag of a replica, where there is a measure.
    fn measure(&mut self, id: NodeId, facts: &Facts, at: Moment) {
        let node = &mut self.roster[id];
        if self.memory.system != facts.system {
            node.forget_lag(Out::OtherSystem);
            return;
        }
        let (Some(_), Some(reign)) = (self.writer, self.reigning) else {
            node.has_ceased |= !facts.is_receiving;
            if node.has_ceased && facts.is_receiving {
                // It may receive from the next writer already, whose positions say nothing of what the last one wrote.
                node.forget_lag(Out::OtherTimeline);
            } else {
                node.membership.answer_without_measure();
            }
            return;
        };
        if facts.timeline != reign.timeline {
            node.forget_lag(Out::OtherTimeline);
            return;
        }
        if !facts.is_receiving || node.is_ahead {
            let why = if node.is_ahead {
                Out::Ahead
            } else {
                Out::CutOff
            };
            node.lag = Lag::Unknown;
            node.membership.cut_off(why, at);
            return;
        }
        let newest = self.ring.newest().map(|sample| sample.sent);
        if newest.is_none_or(|sent| at.since(sent) > self.rules.shelf_life()) {
            node.forget_lag(Out::Unsampled);
            return;
        }
        node.lag = self.ring.lag(facts.lsn, at);
        node.membership.judge(node.lag, self.rules.lag, at);
    }

    fn failed(&mut self, id: NodeId, sent: Moment, at: Moment, trouble: Trouble) {
        let node = &mut self.roster[id];
        node.asked = Some(sent);
        (node.facts, node.answers_since) = (None, None);
        node.writable_since = None;
        node.outcomes += 1;
        node.timeouts = match trouble {
            Trouble::Timeout | Trouble::Absurd(_) => node.timeouts + 1,
            Trouble::Denied(_) | Trouble::Moved(_) => 0,
            Trouble::Refused(_) | Trouble::Lost(_) | Trouble::Starting(_) => node.timeouts,
        };
        node.forget_lag(Out::Unmeasured);
        if matches!(trouble, Trouble::Moved(_)) {
            node.moved();
            // Should it take writes again that is another's reign, be it on the same timeline.
            self.reigning = self.reigning.filter(|reign| reign.node != id);
        }
        let (timeouts, text) = (node.timeouts, trouble.text().to_owned());
        node.trouble = Some(trouble.clone());
        if self.writer != Some(id) {
            return;
        }
        if trouble == Trouble::Timeout {
            // The silence began when it was asked.
            self.story.foresee(sent);
        }
        match trouble {
            Trouble::Refused(_) | Trouble::Starting(_) | Trouble::Moved(_) => self.lose(&text, at),
            Trouble::Timeout | Trouble::Absurd(_) if timeouts >= 2 => self.lose(&text, at),
            // To become anything else it would have to stop, and that is noticed: by servers that are lost, by probes that are refused,
            // by another on a higher timeline. Who has not looked for a while cannot know.
            Trouble::Denied(_) if self.is_vouched_at(sent) => self.vouch(sent),
            Trouble::Timeout | Trouble::Absurd(_) | Trouble::Denied(_) | Trouble::Lost(_) => {
                self.suspicion = Some((at, text));
            }
        }
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
        let grace = self.rules.shelf_life();
        for node in self.roster.iter_mut() {
            node.membership.freeze(now, grace);
            let facts = node.facts.as_ref().map(|(_, facts)| facts);
            node.has_ceased = facts.is_some_and(|facts| !facts.is_receiving);
        }
        self.enter(Phase::NoWriter, Some(writer), why, now);
    }

    fn enter(&mut self, phase: Phase, node: Option<NodeId>, why: &str, now: Moment) {
        self.story.enter(phase, node, why, self.epoch, now);
    }

    /// Draws the consequences of all that is known.
    fn settle(&mut self, now: Moment) {
        let limit = self.rules.shelf_life();
        let mut circumstances = self.circumstances(now);
        let candidates = self.roster.candidates(limit, now, circumstances.last);
        let known_as = |id| self.known_as(id, &candidates);
        // It may come back where it was.
        let is_gone = |id: &NodeId| {
            let heard = self.roster[*id].heard;
            heard.is_none_or(|(at, _)| now.since(at) > limit)
        };
        if let Some(last) = circumstances.last.filter(is_gone) {
            circumstances.last = Some(known_as(last));
        }
        if let Some(Leader::Node(leader)) = circumstances.leader {
            circumstances.leader = Some(Leader::Node(known_as(leader)));
        }
        let choice = choose(
            &self.not_given_up(candidates, circumstances.leader),
            circumstances,
        );
        let challenger = match choice {
            Choice::Take(node) | Choice::Wait(node, _) | Choice::Conflict(node, _) => Some(node),
            Choice::Nobody => None,
        };
        if let Some(node) = challenger.filter(|node| self.is_ahead(*node)) {
            let address = self.roster[node].place.address();
            self.lose(&format!("{address} is on a higher timeline"), now);
        }
        match self.writer {
            Some(writer) => self.settle_in_office(writer, now),
            None => self.settle_without_writer(choice, now),
        }
    }

    /// That of `candidates` that is the server `id`, which may be known by another address; `id` where there is none.
    fn known_as(&self, id: NodeId, candidates: &[Candidate]) -> NodeId {
        let mut nodes = candidates.iter().map(|candidate| candidate.node);
        let known = nodes.find(|node| self.roster.is_same_server(*node, id));
        known.unwrap_or(id)
    }

    /// Those of `candidates` that are followed after UNFENCE: a node that was given up then only where the keeper says that it leads.
    fn not_given_up(
        &self,
        mut candidates: Vec<Candidate>,
        leader: Option<Leader>,
    ) -> Vec<Candidate> {
        candidates.retain(|one| {
            leader == Some(Leader::Node(one.node))
                || !self.roster.is_given_up(one.node, &self.memory)
        });
        candidates
    }

    /// Whether the keeper, when it says `said`, speaks of `node`: it may know that server by another address.
    fn is_meant(&self, said: NodeId, node: NodeId) -> bool {
        said == node || self.roster.is_same_server(said, node)
    }

    /// Whether `id` takes writes on a higher timeline than the reign's.
    fn is_ahead(&self, id: NodeId) -> bool {
        let facts = self.roster[id].writable();
        let timeline = facts.map_or(0, |(_, facts)| facts.timeline);
        let reigning = self.reigning;
        reigning.is_some_and(|reign| timeline > reign.timeline)
    }

    fn settle_in_office(&mut self, writer: NodeId, now: Moment) {
        self.settle_drain(writer, now);
        if let Some((_, why)) = self.suspicion.clone() {
            return self.enter(Phase::Suspect, Some(writer), &why, now);
        }
        if !self.is_vouched_at(now) {
            let why = "it has not been heard for too long";
            return self.enter(Phase::Suspect, Some(writer), why, now);
        }
        let keeper = self.fresh_keeper(now).filter(|keeper| !keeper.is_paused);
        let objection = match keeper.map(|keeper| keeper.leader) {
            Some(Leader::Node(other)) if !self.is_meant(other, writer) => {
                "its keeper names another leader"
            }
            Some(Leader::Stranger) => "its keeper names a leader that is no node here",
            Some(Leader::Nobody) if self.rules.fence_on_lease_loss => "its keeper names no leader",
            Some(Leader::Node(_) | Leader::Nobody) | None => "",
        };
        let (phase, why) = if !objection.is_empty() {
            (Phase::Orphan, objection)
        } else if self.drain.is_some() {
            (Phase::Draining, "a switchover is coming")
        } else {
            (Phase::Stable, "it takes writes")
        };
        self.enter(phase, Some(writer), why, now);
    }

    /// Begins the drain that the keeper announces, and ends the one that is over or called off.
    fn settle_drain(&mut self, writer: NodeId, now: Moment) {
        let keeper = self.fresh_keeper(now);
        let announced = keeper.map(|keeper| keeper.switchover_from);
        let is_leaving = |from| self.is_meant(from, writer);
        if announced.flatten().is_some_and(is_leaving) && !self.is_drain_spent {
            self.is_drain_spent = true;
            self.drain = Some(Drain {
                until: now.after(DRAIN),
                is_announced: true,
            });
        }
        let is_called_off = announced == Some(None);
        self.drain = self
            .drain
            .filter(|drain| now < drain.until && !(is_called_off && drain.is_announced));
    }

    fn settle_without_writer(&mut self, choice: Choice, now: Moment) {
        match choice {
            Choice::Take(node) => self.crown(node, now),
            Choice::Wait(node, patience) => {
                let why = match patience {
                    Patience::FirstRound => "not every node has been heard yet".to_owned(),
                    Patience::Keeper => "its keeper names another leader".to_owned(),
                    Patience::Memory => self.missed(node, now),
                    Patience::System => self.division(),
                };
                self.enter(Phase::Confirming, Some(node), &why, now);
            }
            Choice::Conflict(one, other) => {
                let why = if self.is_divided() {
                    self.division()
                } else {
                    format!(
                        "{} and {} take writes with equal right: stop one of them",
                        self.roster[one].place.address(),
                        self.roster[other].place.address()
                    )
                };
                self.enter(Phase::Conflict, Some(one), &why, now);
                // Their timelines are alike, so no replica can tell which of the two histories it shows. Where the keeper names one of
                // the two there is no conflict.
                let nodes = self.roster.iter_mut();
                nodes.for_each(|node| node.distrust(Out::Conflict));
            }
            Choice::Nobody => self.enter(Phase::NoWriter, None, "no node may take writes", now),
        }
    }

    /// No system is known to be the cluster's, and its nodes are of several, as after a restore of the primary alone; then an operator has
    /// said UNFENCE.
    fn is_divided(&self) -> bool {
        !self.is_unfenced && self.memory.system == 0 && self.roster.divided().is_some()
    }

    /// Which nodes are of different systems.
    fn division(&self) -> String {
        let divided = self.roster.divided().map(|nodes| {
            nodes.map(|node| {
                let system = node.facts.as_ref().map_or(0, |(_, facts)| facts.system);
                format!("{} of system {system}", node.place.address())
            })
        });
        let [one, other] = divided.unwrap_or_default();
        format!(
            "the nodes are not of one cluster, {one}, {other}: take off the list what does not belong to it"
        )
    }

    /// Why `id` has to wait where what was remembered is lost.
    fn missed(&self, id: NodeId, now: Moment) -> String {
        let doubter = self.roster.doubter(self.rules.shelf_life(), now);
        let doubter = doubter.unwrap_or_default();
        let address = self.roster[id].place.address();
        format!(
            "what was remembered is lost, and {doubter} does not say that nobody is on a higher timeline than {address}: UNFENCE {} takes {address}",
            self.name
        )
    }

    /// Makes `id` the writer.
    fn crown(&mut self, id: NodeId, now: Moment) {
        let node = &self.roster[id];
        let Some((sent, facts)) = node.writable() else {
            return;
        };
        let lsn = facts.lsn.before_page_header(facts.segment);
        let timeline = facts.timeline;
        let mut given_up = std::mem::take(&mut self.memory.given_up);
        if self.is_unfenced {
            given_up = self.roster.apart_from(id);
        }
        let own = |address: &String| {
            let other = self.roster.id(address);
            other.is_some_and(|other| self.is_meant(other, id))
        };
        given_up.retain(|address| !own(address));
        self.memory = Memory {
            system: facts.system,
            timeline,
            writer: Some(node.place.address()),
            is_lost: false,
            given_up,
        };
        let mut why = format!("it takes writes on timeline {timeline}");
        if std::mem::take(&mut self.is_unfenced) {
            why += ", as an operator has said UNFENCE";
        }
        let reign = Reign {
            node: id,
            timeline,
            system: facts.system,
        };
        if self.reigning != Some(reign) {
            self.epoch.0 += 1;
            self.reigning = Some(reign);
            self.ring.clear();
        }
        for node in self.roster.iter_mut() {
            node.lag = Lag::Unknown;
            node.membership.begin_anew();
        }
        self.ring.add(Sample { sent, lsn });
        self.writer = Some(id);
        self.vouched = Some(sent);
        self.enter(Phase::Stable, Some(id), &why, now);
        self.settle_in_office(id, now);
    }

    fn circumstances(&self, now: Moment) -> Circumstances {
        let last = self.memory.writer.as_ref();
        let keeper = self.fresh_keeper(now);
        Circumstances {
            system: self.memory.system,
            timeline: self.memory.timeline,
            last: last.and_then(|address| self.roster.id(address)),
            leader: keeper.map(|keeper| keeper.leader),
            is_round_done: now >= self.round_over() || self.roster.is_round_done(),
            is_memory_missed: self.memory.is_lost
                && self.roster.doubter(self.rules.shelf_life(), now).is_some(),
            is_divided: self.is_divided(),
        }
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
