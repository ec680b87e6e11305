//! What follows from all that is known: who is crowned, in which phase the cluster is, and why.

use super::{Cluster, DRAIN, Drain, Reign};
use crate::clock::Moment;
use crate::topology::choice::{Candidate, Choice, Circumstances, Memory, Patience, choose};
use crate::topology::lag::Lag;
use crate::topology::membership::Out;
use crate::topology::node::{Leader, NodeId};
use crate::topology::phase::Phase;
use crate::topology::view::Sample;

impl Cluster {
    /// Draws the consequences of all that is known.
    pub(super) fn settle(&mut self, now: Moment) {
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
        let leader = circumstances.leader;
        let is_refused = |one: &Candidate| self.is_refused(one.node, leader);
        let (refused, followed): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_refused);
        let choice = choose(&followed, circumstances);
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
            None if choice == Choice::Nobody => {
                self.settle_with_nobody(refused.first().map(|one| one.node), now);
            }
            None => self.settle_without_writer(choice, now),
        }
    }

    /// That of `candidates` that is the server `id`, which may be known by another address; `id` where there is none.
    fn known_as(&self, id: NodeId, candidates: &[Candidate]) -> NodeId {
        let mut nodes = candidates.iter().map(|candidate| candidate.node);
        let known = nodes.find(|node| self.roster.is_same_server(*node, id));
        known.unwrap_or(id)
    }

    /// Whether `id` is not followed, as it was given up when UNFENCE was said, and the keeper does not say that it leads.
    fn is_refused(&self, id: NodeId, leader: Option<Leader>) -> bool {
        leader != Some(Leader::Node(id)) && self.roster.is_given_up(id, &self.memory)
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
            Choice::Nobody => self.settle_with_nobody(None, now),
        }
    }

    /// No node may take writes; `refused` would, had it not been given up.
    fn settle_with_nobody(&mut self, refused: Option<NodeId>, now: Moment) {
        let Some(id) = refused else {
            return self.enter(Phase::NoWriter, None, "no node may take writes", now);
        };
        let address = self.roster[id].place.address();
        let why = format!(
            "{address} takes writes, but was not of the cluster when UNFENCE was said: UNFENCE {} takes it, \
                and leaves behind what was written elsewhere since",
            self.name
        );
        self.enter(Phase::Confirming, Some(id), &why, now);
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
}
