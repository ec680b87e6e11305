//! The machine, by pictures: what was observed, and how the cluster stands then.

use std::time::Duration;

use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::topology::choice::Memory;
use crate::topology::cluster::{Cluster, Rules};
use crate::topology::membership::{LagLimits, Out};
use crate::topology::node::{
    Facts, Keeper, Leader, Lsn, NodeId, Observation, Place, Role, Trouble,
};
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
                in_recovery: true,
                lsn: Lsn(1000),
                received: None,
                timeline,
                system: 7,
                started: format!("noon of {}", node.0),
                is_receiving: false,
                segment: 16 << 20,
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
                in_recovery,
                lsn: Lsn(lsn),
                received: in_recovery.then_some(Lsn(lsn)),
                timeline,
                system: self.system,
                started: format!("noon of {}", node.0),
                is_receiving: in_recovery,
                segment: 16 << 20,
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

#[test]
fn at_the_start_every_node_is_heard_before_one_is_chosen() {
    let mut picture = remembering(Memory::default());
    picture.primary(A, 3, 9000);
    assert_eq!(picture.phase(), Phase::Confirming);
    picture.primary(B, 4, 100).refused(C);
    assert_eq!(picture.primary_of_view(), Some(B));
    assert_eq!(picture.cluster.role(A), Role::Fenced);
}

#[test]
fn a_silent_node_does_not_delay_the_start_for_ever() {
    let mut picture = remembering(Memory::default());
    picture.primary(A, 3, 9000).wait(800);
    assert_eq!(picture.primary_of_view(), Some(A));
}

#[test]
fn a_bad_sign_holds_until_a_later_probe_clears_it() {
    let mut picture = stable();
    let before = picture.now + 10;
    picture.bad_sign(A).wait(20);
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.answered_at(A, before - 10, before + 15, false, 3, 1000);
    assert_eq!(picture.phase(), Phase::Suspect, "asked before the sign");
    picture.primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn a_failover_raises_the_epoch_and_the_old_primary_is_never_taken_again() {
    let mut picture = stable();
    picture.bad_sign(A).refused(A);
    assert_eq!(picture.phase(), Phase::NoWriter);
    picture.primary(B, 4, 900);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(B), 2));
    picture.primary(A, 3, 5000).refused(B);
    assert_eq!(picture.primary_of_view(), None);
    assert_eq!(picture.cluster.role(A), Role::Fenced);
    picture.primary(A, 3, 6000).wait(100);
    assert_eq!(picture.primary_of_view(), None);
}

#[test]
fn a_writer_that_comes_back_goes_on_in_its_own_reign() {
    let mut picture = stable();
    picture.refused(A).primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn a_higher_timeline_ends_the_reign_of_a_writer_that_still_answers() {
    let mut picture = stable();
    picture.primary(A, 3, 1100).primary(B, 4, 900);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(B), 2));
    assert_eq!(picture.cluster.role(A), Role::Fenced);
}

#[test]
fn a_primary_whose_name_has_moved_is_none_and_reigns_anew_once_it_is_heard_there() {
    let mut picture = stable();
    let before = picture.cluster.view().epoch;
    picture.failed(A, Trouble::Moved("a is at 10.0.0.1 no more".into()));
    let view = picture.cluster.view();
    assert_eq!((view.primary(), view.phase), (None, Phase::NoWriter));
    assert_eq!(view.nodes[0].role, Role::Unknown);
    assert_eq!([0, 1, 2].map(|node| view.nodes[node].moves), [1, 0, 0]);
    // It may be a replica there, or one that was promoted, or a copy: the positions of its timeline are not those of the one before.
    picture.replica(A, 3, 1000);
    assert_eq!(picture.primary_of_view(), None);
    picture.primary(A, 3, 900);
    assert_eq!(picture.primary_of_view(), Some(A));
    let after = picture.cluster.view();
    assert!(after.epoch > before, "what was read there is no measure");
    assert_eq!(after.sample.unwrap().lsn, Lsn(900));
}

#[test]
fn a_primary_whose_name_leads_back_to_an_older_timeline_takes_no_writes() {
    let mut picture = stable();
    picture.failed(A, Trouble::Moved("moved".into()));
    picture.primary(A, 2, 5000);
    assert_eq!(picture.primary_of_view(), None);
    assert_eq!(picture.cluster.role(A), Role::Fenced);
}

#[test]
fn a_replica_whose_name_has_moved_serves_no_reads_before_it_is_measured_there() {
    let mut picture = stable();
    let serves = |picture: &Picture| picture.cluster.view().nodes[1].own.is_on();
    assert!(serves(&picture));
    picture.failed(B, Trouble::Moved("moved".into()));
    assert!(!serves(&picture));
    assert_eq!(picture.primary_of_view(), Some(A));
    // Without a primary nobody can say how far behind it is, and that the one before served is no proof.
    let mut alone = Picture {
        cluster: picture.cluster.clone(),
        ..picture
    };
    alone.failed(A, Trouble::Refused("refused".into()));
    alone.replica(B, 3, 1000);
    assert!(!serves(&alone));
    picture.replica(B, 3, 1000);
    assert!(serves(&picture), "measured, and near");
}

#[test]
fn another_that_says_the_same_timeline_is_fenced_and_the_writer_stays() {
    let mut picture = stable();
    picture.primary(B, 3, 9000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
    assert_eq!(picture.cluster.role(B), Role::Fenced);
    picture.refused(A).primary(B, 3, 9000);
    assert_eq!(picture.primary_of_view(), None);
}

#[test]
fn two_with_equal_right_are_a_conflict_until_one_is_gone() {
    let mut picture = stable();
    picture.refused(A);
    let sent = picture.now + 5;
    picture.keeper(Leader::Node(A), None);
    picture
        .answered_at(B, sent, sent + 1, false, 4, 900)
        .answered_at(C, sent, sent + 2, false, 4, 950);
    assert_eq!(picture.primary_of_view(), None);
    assert_eq!(picture.phase(), Phase::Conflict);
    picture.keeper(Leader::Node(C), None);
    assert_eq!(picture.primary_of_view(), Some(C));
}

#[test]
fn while_two_have_equal_right_nobody_reads_from_who_may_follow_either() {
    const D: NodeId = NodeId(3);
    let mut picture = stable();
    let mut places = places();
    places.push(Place {
        host: "d".into(),
        ..places[0].clone()
    });
    picture.cluster.list(places, at(picture.now));
    picture.replica(D, 3, 1000);
    picture.refused(A).keeper(Leader::Node(A), None);
    assert_eq!(picture.replica(D, 3, 1000).readers(), [B, C, D]);
    picture.primary(B, 4, 900).primary(C, 4, 950);
    assert_eq!(picture.phase(), Phase::Conflict);
    assert_eq!(picture.readers(), [], "it has served until now");
    for timeline in [3, 4] {
        picture.replica(D, timeline, 1000);
        assert_eq!(picture.readers(), []);
        let view = picture.view();
        assert_eq!(view.node(D).unwrap().own.out, Some(Out::Conflict));
    }
    picture.refused(B).refused(C).replica(D, 4, 1000);
    assert_eq!(picture.phase(), Phase::NoWriter);
    assert_eq!(picture.readers(), [], "it may have followed either");
    picture.primary(C, 5, 1100).keeper(Leader::Node(C), None);
    assert_eq!(picture.primary_of_view(), Some(C));
    picture.replica(D, 5, 1100);
    assert_eq!(picture.readers(), [D]);
}

#[test]
fn what_was_remembered_keeps_a_stale_primary_out() {
    let memory = Memory {
        system: 7,
        timeline: 5,
        writer: Some("b:5432".into()),
        ..Memory::default()
    };
    let mut picture = remembering(memory);
    picture.primary(A, 4, 9000).refused(B).refused(C);
    assert_eq!(picture.primary_of_view(), None);
    picture.primary(B, 5, 100);
    assert_eq!(picture.primary_of_view(), Some(B));
}

#[test]
fn an_operator_may_say_that_a_lower_timeline_is_meant() {
    let memory = Memory {
        system: 7,
        timeline: 5,
        writer: None,
        ..Memory::default()
    };
    let mut picture = remembering(memory);
    picture.primary(A, 2, 9000).refused(B).refused(C);
    assert_eq!(picture.primary_of_view(), None);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(A));
}

/// After B has failed on timeline 5 an operator has said that A is meant, on 2.
fn put_back() -> Picture {
    let memory = Memory {
        system: 7,
        timeline: 5,
        writer: Some("b:5432".into()),
        ..Memory::default()
    };
    let mut picture = remembering(memory);
    picture.primary(A, 2, 9000).refused(B).replica(C, 2, 9000);
    assert_eq!(picture.cluster.role(A), Role::Fenced);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(A));
    picture
}

#[test]
fn what_was_newer_before_an_operator_chose_is_not_followed_again() {
    let mut picture = put_back();
    picture.primary(B, 5, 9999).primary(A, 2, 9001);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
    let view = picture.view();
    let node = view.node(B).unwrap();
    let given_up = (Role::Fenced, Some(Out::GivenUp));
    assert_eq!((node.role, node.own.out), given_up);
    assert_eq!(view.timeline, 2);
    // Not by another pooler that remembers it, either, be it alone.
    let mut next = remembering(picture.cluster.memory().clone());
    next.refused(A).primary(B, 5, 9999).replica(C, 2, 9001);
    assert_eq!(next.primary_of_view(), None);
    assert_eq!(next.cluster.role(B), Role::Fenced);
    next.primary(A, 2, 9001);
    assert_eq!(next.primary_of_view(), Some(A));
    // A replica that went along is another thing.
    next.refused(A).primary(C, 3, 9001);
    assert_eq!(next.primary_of_view(), Some(C));
}

#[test]
fn what_was_given_up_is_taken_back_as_a_replica_by_its_keeper_or_by_another_word() {
    let mut picture = put_back();
    picture.replica(B, 2, 9001).refused(A).primary(B, 3, 9002);
    assert_eq!(picture.primary_of_view(), Some(B));
    assert!(picture.cluster.memory().given_up.is_empty());

    let mut picture = put_back();
    picture.replica(B, 5, 9001).refused(A).primary(B, 5, 9002);
    assert_eq!(picture.primary_of_view(), None, "it has followed nobody");
    picture.keeper(Leader::Node(B), None);
    assert_eq!(picture.primary_of_view(), Some(B));
    assert!(picture.cluster.memory().given_up.is_empty());

    let mut picture = put_back();
    picture.refused(A).primary(B, 5, 9002);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(B));
    assert_eq!(picture.cluster.memory().given_up, ["a:5432"]);
}

#[test]
fn after_a_restore_onto_the_same_node_and_timeline_it_is_another_reign() {
    let restored = |system| {
        let mut picture = stable();
        picture.refused(A);
        picture.system = system;
        picture.primary(A, 3, 400);
        let now = at(picture.now);
        picture.cluster.observe(Observation::Unfence { at: now });
        assert_eq!(picture.primary_of_view(), Some(A));
        let view = picture.view();
        let sample = view.sample.map(|sample| sample.lsn);
        (view.epoch.0, view.system, sample, view.floor)
    };
    let first = Some(Lsn(400));
    assert_eq!(restored(8), (2, 8, first, first), "of another system");
    assert_eq!(restored(7), (2, 7, first, first), "of an older backup");
}

/// What was remembered is lost.
fn forgetful() -> Picture {
    remembering(Memory {
        is_lost: true,
        ..Memory::default()
    })
}

#[test]
fn who_has_lost_its_memory_takes_nobody_whom_a_silent_node_may_have_superseded() {
    let mut picture = forgetful();
    picture.refused(C).primary(A, 4, 9000).replica(B, 4, 9000);
    assert_eq!(picture.primary_of_view(), None);
    let why = picture.cluster.view().why;
    assert!(
        why.contains("c:5432") && why.contains("UNFENCE main"),
        "{why}"
    );
    picture.wait(60_000).primary(A, 4, 9000).refused(C);
    assert_eq!(picture.primary_of_view(), None, "time proves nothing");
    picture.replica(B, 4, 9000).replica(C, 5, 100);
    assert_eq!(picture.primary_of_view(), None, "C follows somebody newer");
    picture.primary(C, 5, 100);
    assert_eq!(picture.primary_of_view(), Some(C));
    assert!(!picture.cluster.memory().is_lost);
    picture.refused(C);
    assert_eq!(picture.primary_of_view(), None);
}

#[test]
fn who_has_lost_its_memory_believes_the_keeper_all_nodes_together_and_the_operator() {
    let mut picture = forgetful();
    picture.primary(A, 4, 9000).replica(B, 4, 9000);
    picture.replica(C, 3, 100);
    assert_eq!(picture.primary_of_view(), Some(A));

    let mut picture = forgetful();
    picture.primary(A, 4, 9000).refused(B).refused(C);
    picture.keeper(Leader::Node(A), None);
    assert_eq!(picture.primary_of_view(), Some(A));

    let mut picture = forgetful();
    picture.primary(A, 4, 9000).refused(B).refused(C);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(A));
    assert!(!picture.cluster.memory().is_lost);
}

#[test]
fn two_timeouts_lose_the_writer_and_a_late_answer_is_one() {
    let mut picture = stable();
    picture.failed(A, Trouble::Timeout);
    assert_eq!(picture.phase(), Phase::Suspect);
    let sent = picture.now + 1;
    picture.now += 700;
    picture.answered_at(A, sent, picture.now, false, 3, 1000);
    assert_eq!(picture.phase(), Phase::NoWriter);
}

fn denied() -> Trouble {
    Trouble::Denied("sorry, too many clients already".into())
}

#[test]
fn a_writer_that_does_not_let_us_ask_stays_in_office() {
    let mut picture = stable();
    picture.failed(A, Trouble::Lost("the connection broke".into()));
    assert_eq!(picture.phase(), Phase::Suspect);
    for _ in 0..20 {
        picture.failed(A, denied()).wait(250);
        assert_eq!(picture.primary_of_view(), Some(A));
    }
    let view = picture.view();
    assert_eq!(view.primary_at(at(picture.now)), Some(A));
    let seen = view.node(A).unwrap();
    assert_eq!((seen.role, seen.misses), (Role::Primary, 0));
    assert!(seen.trouble.as_deref().unwrap().contains("too many"));
    picture.bad_sign(A).wait(5);
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.failed(A, denied()).primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn a_writer_that_does_not_let_us_ask_is_left_as_soon_as_anything_else_says_so() {
    let denying = || {
        let mut picture = stable();
        picture.failed(A, denied()).failed(A, denied());
        picture
    };
    let mut picture = denying();
    picture.refused(A).failed(A, denied());
    assert_eq!(picture.primary_of_view(), None, "it was away");
    let mut picture = denying();
    picture.primary(B, 4, 900);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(B), 2));
    let mut picture = denying();
    picture.keeper(Leader::Node(B), None).failed(A, denied());
    assert_eq!(picture.phase(), Phase::Orphan);
    let mut picture = denying();
    picture
        .failed(A, Trouble::Timeout)
        .failed(A, Trouble::Timeout);
    assert_eq!(picture.phase(), Phase::NoWriter);
    let mut picture = denying();
    picture.wait(5000).failed(A, denied());
    assert_eq!(picture.phase(), Phase::Suspect, "nobody has looked");
    picture.failed(A, denied()).primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn nobody_reads_by_a_lag_that_cannot_be_measured() {
    let mut picture = stable();
    picture.failed(B, denied()).failed(B, denied());
    let view = picture.view();
    let seen = view.node(B).unwrap();
    assert_eq!((seen.role, seen.misses), (Role::Unknown, 0), "it is there");
    assert_eq!(picture.readers(), [C]);
    for _ in 0..6 {
        picture.wait(250).failed(A, denied()).replica(C, 3, 1000);
    }
    let why = |picture: &Picture| picture.view().node(C).and_then(|node| node.own.out);
    assert_eq!(why(&picture), Some(Out::Unsampled));
    picture.primary(A, 3, 1000).replica(C, 3, 1000).wait(1100);
    picture.primary(A, 3, 1000).replica(C, 3, 1000);
    assert_eq!(picture.readers(), [C]);
}

#[test]
fn two_answers_that_make_no_sense_lose_the_writer() {
    let mut picture = stable();
    let absurd = || Trouble::Absurd("its answer makes no sense".into());
    picture.failed(A, absurd());
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.failed(A, absurd());
    assert_eq!(picture.phase(), Phase::NoWriter);
}

#[test]
fn a_machine_that_hears_nothing_does_not_trust_what_it_knew() {
    let mut picture = stable();
    picture.wait(5000);
    assert_eq!(picture.primary_of_view(), None);
}

#[test]
fn an_operators_drain_ends_when_the_switchover_is_refused() {
    let mut picture = stable();
    picture.cluster.observe(Observation::Drain {
        at: at(60),
        grace: Duration::ZERO,
    });
    assert_eq!(picture.view().phase, Phase::Draining);
    picture
        .cluster
        .observe(Observation::DrainOver { at: at(61) });
    assert_eq!(picture.view().phase, Phase::Stable);
}

#[test]
fn an_announced_switchover_drains_once_and_for_five_seconds_at_most() {
    let mut picture = stable();
    picture.keeper(Leader::Node(A), Some(A));
    assert_eq!(picture.phase(), Phase::Draining);
    picture.wait(4900).primary(A, 3, 1000);
    assert_eq!(picture.phase(), Phase::Draining);
    picture.wait(100).primary(A, 3, 1000);
    assert_eq!(picture.phase(), Phase::Stable);
    picture.keeper(Leader::Node(A), Some(A));
    assert_eq!(picture.phase(), Phase::Stable, "the same switchover");
    picture
        .keeper(Leader::Node(A), None)
        .keeper(Leader::Node(A), Some(A));
    assert_eq!(picture.phase(), Phase::Draining);
    picture.keeper(Leader::Node(A), None);
    assert_eq!(picture.phase(), Phase::Stable, "called off");
}

#[test]
fn a_writer_without_its_leader_key_is_not_used_and_a_stale_keeper_says_nothing() {
    let mut picture = stable();
    picture.keeper(Leader::Nobody, None);
    assert_eq!(picture.phase(), Phase::Orphan);
    picture.keeper(Leader::Node(B), None);
    assert_eq!(picture.phase(), Phase::Orphan);
    picture.wait(31_000).primary(A, 3, 1000);
    assert_eq!(picture.phase(), Phase::Stable);
}

#[test]
fn a_replica_behind_its_limit_or_off_its_timeline_serves_no_reads() {
    let mut picture = stable();
    assert_eq!(picture.readers(), [B, C]);
    for lsn in [2000, 3000, 4000, 5000] {
        picture.wait(400).primary(A, 3, lsn);
        picture.replica(B, 3, 1500).replica(C, 3, lsn);
    }
    assert_eq!(picture.readers(), [C]);
    picture.replica(C, 2, 5000);
    assert_eq!(picture.readers(), []);
}

#[test]
fn a_replica_that_has_replayed_what_was_never_written_is_of_another_history() {
    let mut picture = stable();
    picture.replica(B, 3, 9000).primary(A, 3, 2000);
    assert_eq!(picture.readers(), [C]);
    picture.replica(B, 3, 9000).replica(C, 3, 2000);
    assert_eq!(picture.readers(), [C], "until the writer is past it");
    picture.primary(A, 3, 9000).replica(C, 3, 9000);
    picture.replica(B, 3, 9000).wait(1100).replica(B, 3, 9000);
    assert_eq!(picture.readers(), [B, C]);
    // One that is ahead of what was heard last is only quick.
    picture.replica(B, 3, 9500).primary(A, 3, 9500);
    assert_eq!(picture.readers(), [B, C]);
}

#[test]
fn a_replica_that_is_late_of_another_system_or_calls_itself_the_primary_serves_no_reads() {
    let mut picture = stable();
    let now = picture.now;
    picture.answered_at(B, now + 1, now + 1000, true, 3, 1000);
    picture.now = now + 1000;
    assert_eq!(picture.readers(), [C], "later than the probe may take");
    picture.primary(A, 3, 1000).replica(B, 3, 1000).wait(1100);
    picture
        .primary(A, 3, 1000)
        .replica(B, 3, 1000)
        .replica(C, 3, 1000);
    assert_eq!(picture.readers(), [B, C]);
    picture.primary(B, 3, 1000);
    assert_eq!(picture.readers(), [C], "it says that it takes writes");
    assert_eq!(picture.primary_of_view(), Some(A));
    // A copy from an old backup is behind all that was ever sampled.
    picture.replica(C, 3, 10);
    assert_eq!(picture.readers(), []);
}

#[test]
fn without_a_writer_reads_go_on_where_they_went() {
    let mut picture = stable();
    picture
        .refused(A)
        .replica(B, 3, 1000)
        .failed(C, Trouble::Timeout);
    assert_eq!(picture.readers(), [B]);
    picture.replica(C, 3, 1000);
    assert_eq!(picture.readers(), [B, C]);
}

#[test]
fn a_replica_that_a_dying_writer_let_go_first_serves_reads_all_the_same() {
    let mut picture = stable();
    picture.now += 10;
    let now = picture.now;
    picture.cut_off(B, now);
    assert_eq!(
        picture.readers(),
        [C],
        "while the writer works it is to blame"
    );
    picture.refused(A);
    picture.now += 10;
    let now = picture.now;
    picture.cut_off(B, now);
    assert_eq!(picture.readers(), [B, C]);
}

#[test]
fn a_replica_whose_receiver_has_ended_follows_what_it_received_before() {
    let mut picture = stable();
    picture.refused(A);
    picture.now += 10;
    let now = picture.now;
    picture.cut_off_on(1, B, now);
    let view = picture.cluster.view();
    assert_eq!(picture.readers(), [B, C]);
    assert_eq!(view.node(B).map(|node| node.timeline), Some(3));
}

#[test]
fn a_new_reign_measures_anew() {
    let mut picture = stable();
    picture.refused(A).primary(B, 4, 900).replica(C, 3, 1000);
    assert_eq!(picture.readers(), []);
    picture.replica(C, 4, 900);
    assert_eq!(picture.readers(), [C]);
}

#[test]
fn one_server_by_two_addresses_is_no_conflict() {
    let mut picture = stable();
    let facts = Facts {
        in_recovery: false,
        lsn: Lsn(1000),
        received: None,
        timeline: 3,
        system: 7,
        started: "noon of 0".into(),
        is_receiving: false,
        segment: 16 << 20,
    };
    picture.refused(A);
    for (node, heard) in [(B, 100), (A, 110)] {
        picture.cluster.observe(Observation::Answered {
            node,
            sent: at(heard - 5),
            at: at(heard),
            facts: facts.clone(),
        });
    }
    assert_eq!(picture.primary_of_view(), Some(A), "as it was known before");
    assert!(picture.cluster.is_same_server("a:5432", "b:5432"));
    assert!(!picture.cluster.is_same_server("a:5432", "c:5432"));
}

/// A is the writer on timeline 3, C follows it, and B is another address of `twin`.
fn with_a_second_address_of(twin: NodeId) -> Picture {
    let mut picture = stable();
    picture.answers_as(twin, B, twin == C);
    picture
}

impl Picture {
    /// `node` answers as the server that `twin` is, which takes writes.
    fn primary_as(&mut self, twin: NodeId, node: NodeId) -> &mut Self {
        self.answers_as(twin, node, false)
    }

    fn answers_as(&mut self, twin: NodeId, node: NodeId, in_recovery: bool) -> &mut Self {
        self.now += 10;
        self.cluster.observe(Observation::Answered {
            node,
            sent: at(self.now - 5),
            at: at(self.now),
            facts: Facts {
                in_recovery,
                lsn: Lsn(1000),
                received: None,
                timeline: 3,
                system: 7,
                started: format!("noon of {}", twin.0),
                is_receiving: in_recovery,
                segment: 16 << 20,
            },
        });
        self
    }
}

#[test]
fn the_keeper_may_know_the_writer_by_another_address() {
    let mut picture = with_a_second_address_of(A);
    let role = |picture: &Picture, id| picture.view().node(id).map(|node| node.role);
    assert_eq!(role(&picture, B), Some(Role::Primary), "and is not fenced");
    picture.keeper(Leader::Node(B), None);
    assert_eq!((picture.phase(), picture.epoch()), (Phase::Stable, 1));
    // It does not answer there: it is the same server all the same.
    picture.refused(B);
    assert_eq!(picture.phase(), Phase::Stable);
    picture.keeper(Leader::Node(B), Some(B));
    assert_eq!(picture.phase(), Phase::Draining);
    picture.keeper(Leader::Node(C), None);
    assert_eq!(picture.phase(), Phase::Orphan);
}

#[test]
fn the_writer_is_found_by_its_other_address_when_the_one_in_use_dies() {
    let mut picture = with_a_second_address_of(A);
    picture.refused(A).keeper(Leader::Node(A), None);
    assert_eq!(picture.primary_of_view(), None, "what B said is older");
    picture.primary_as(A, B);
    assert_eq!(picture.primary_of_view(), Some(B));
    // Where nobody names it, it may come back where it was.
    let mut picture = with_a_second_address_of(A);
    picture.refused(A).primary_as(A, B);
    assert_eq!(picture.primary_of_view(), None);
    picture.wait(1500).refused(A).primary_as(A, B);
    assert_eq!(picture.primary_of_view(), Some(B));
    // Another server at that address is none.
    let mut picture = with_a_second_address_of(A);
    picture.refused(A).wait(1500).primary(B, 3, 1000);
    assert_eq!(picture.primary_of_view(), None);
    // Nor is the one that a name has left.
    let mut picture = with_a_second_address_of(A);
    picture.failed(A, Trouble::Moved("away".into())).wait(1500);
    picture.primary_as(A, B);
    assert_eq!(picture.primary_of_view(), None);
    picture.primary(A, 4, 1000);
    assert_eq!(picture.primary_of_view(), Some(A));
}

#[test]
fn a_server_that_was_started_again_or_promoted_goes_by_the_address_that_was_listed_first() {
    let started = |picture: &mut Picture, node: NodeId| {
        picture.now += 10;
        picture.cluster.observe(Observation::Answered {
            node,
            sent: at(picture.now - 5),
            at: at(picture.now),
            facts: Facts {
                in_recovery: false,
                lsn: Lsn(1000),
                received: None,
                timeline: 3,
                system: 7,
                started: "one".into(),
                is_receiving: false,
                segment: 16 << 20,
            },
        });
    };
    let mut picture = with_a_second_address_of(A);
    picture.keeper(Leader::Node(B), None).refused(A).refused(B);
    picture.wait(5000).keeper(Leader::Node(B), None).refused(A);
    started(&mut picture, B);
    assert_eq!(picture.primary_of_view(), None);
    started(&mut picture, A);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
    // It is found by the other one when it fails by that.
    picture.refused(A);
    assert_eq!(picture.primary_of_view(), None, "what B said is older");
    started(&mut picture, B);
    assert_eq!(picture.primary_of_view(), Some(B));
    // C, which B is too, is promoted.
    let mut picture = with_a_second_address_of(C);
    picture.refused(A).primary(C, 4, 1000);
    assert_eq!(picture.primary_of_view(), None);
    picture.refused(B).primary(C, 4, 1000);
    assert_eq!(picture.primary_of_view(), Some(C));
}

#[test]
fn reads_go_to_a_server_by_one_of_its_addresses() {
    let mut picture = with_a_second_address_of(C);
    picture.replica(C, 3, 1000);
    assert_eq!(picture.readers(), [B], "the one that was listed first");
    let out = |picture: &Picture, id| picture.view().node(id).and_then(|node| node.own.out);
    assert_eq!(out(&picture, C), Some(Out::Twice));
    picture.refused(B);
    assert_eq!(picture.readers(), [C]);
    picture.answers_as(C, B, true);
    assert_eq!(picture.readers(), [C], "it was just out");
    picture.wait(1000).primary(A, 3, 1000);
    picture.answers_as(C, B, true);
    assert_eq!(picture.readers(), [B]);
}

#[test]
fn a_node_of_another_cluster_is_no_writer_and_serves_no_reads() {
    let foreign = |picture: &mut Picture, in_recovery| {
        picture.now += 10;
        picture.cluster.observe(Observation::Answered {
            node: A,
            sent: at(picture.now - 5),
            at: at(picture.now),
            facts: Facts {
                in_recovery,
                lsn: Lsn(9000),
                received: None,
                timeline: 9,
                system: 8,
                started: "midnight".into(),
                is_receiving: in_recovery,
                segment: 16 << 20,
            },
        });
    };
    // It is the first to answer, and the primary of the cluster is not there yet.
    let mut picture = remembering(Memory::default());
    foreign(&mut picture, false);
    picture.refused(B).replica(C, 3, 1000);
    assert_eq!(picture.phase(), Phase::Confirming);
    let why = picture.view().why;
    assert!(
        why.contains("a:5432 of system 8, c:5432 of system 7"),
        "{why}"
    );
    picture.primary(B, 3, 1000);
    assert_eq!(picture.phase(), Phase::Conflict);
    let why = picture.view().why;
    assert!(
        why.contains("a:5432 of system 8, b:5432 of system 7"),
        "{why}"
    );
    assert_eq!(picture.readers(), []);
    // The cluster knows what it is.
    let mut picture = remembering(Memory {
        system: 7,
        timeline: 3,
        writer: Some("b:5432".into()),
        ..Memory::default()
    });
    for in_recovery in [false, true] {
        foreign(&mut picture, in_recovery);
        picture.primary(B, 3, 1000).replica(C, 3, 1000);
        picture.replica(C, 3, 1000);
        assert_eq!(picture.primary_of_view(), Some(B));
        assert_eq!(picture.readers(), [C]);
        foreign(&mut picture, in_recovery);
        let view = picture.view();
        let node = view.node(A).unwrap();
        assert_eq!(
            (node.role, node.own.out),
            (Role::Fenced, Some(Out::OtherSystem))
        );
    }
}

/// Which nodes serve reads under a bound of so many milliseconds.
fn readers_within(view: &ClusterView, millis: u64) -> Vec<NodeId> {
    let bound = LagBound {
        time: Some(Duration::from_millis(millis)),
        bytes: None,
    };
    let nodes = view.nodes.iter();
    let nodes = nodes.filter(|node| view.service(node, bound).is_on());
    nodes.map(|node| node.id).collect()
}

#[test]
fn a_database_may_be_content_with_less_than_its_cluster_asks_for() {
    let mut picture = stable();
    let bound = |millis| LagBound {
        time: Some(Duration::from_millis(millis)),
        bytes: None,
    };
    let mut rules = RULES;
    rules.bounds = vec![bound(10_000), bound(50)];
    picture.cluster.set_rules(rules);
    picture.primary(A, 3, 2000).wait(3000).primary(A, 3, 3000);
    picture.replica(B, 3, 2500).replica(C, 3, 3000);
    let view = picture.view();
    assert_eq!(picture.readers(), [C], "B is three seconds behind");
    assert_eq!(readers_within(&view, 10_000), [B, C]);
    assert_eq!(readers_within(&view, 50), [C]);
    assert_eq!(readers_within(&view, 5000), [C], "nobody has said that");
    picture.refused(B);
    assert_eq!(readers_within(&picture.view(), 10_000), [C]);
}

#[test]
fn a_replica_that_serves_no_reads_says_why() {
    let mut picture = stable();
    let why = |picture: &Picture, id| picture.view().node(id).and_then(|node| node.own.out);
    assert_eq!(why(&picture, B), None);
    picture.cut_off(B, 60);
    assert_eq!(why(&picture, B), Some(Out::CutOff));
    picture.now = 70;
    picture.replica(B, 2, 1000);
    assert_eq!(why(&picture, B), Some(Out::OtherTimeline));
    picture.primary(A, 3, 9000).wait(1500).primary(A, 3, 9900);
    picture.replica(B, 3, 1000);
    assert_eq!(why(&picture, B), Some(Out::Behind));
    picture.replica(B, 3, 9900);
    assert_eq!(why(&picture, B), Some(Out::Waiting));
    picture.refused(C);
    assert_eq!(why(&picture, C), Some(Out::Unmeasured));
}

#[test]
fn a_replica_of_no_weight_serves_no_reads() {
    let mut picture = stable();
    assert_eq!(picture.view().readable().count(), 2);
    let mut places = places();
    places[1].weight = 0;
    picture.cluster.list(places, at(60));
    let view = picture.view();
    let readable: Vec<_> = view.readable().map(|node| node.id).collect();
    assert_eq!(readable, [C]);
}

#[test]
fn what_the_lost_writer_had_written_when_it_was_asked_last_is_still_known() {
    let mut picture = stable();
    picture.primary(A, 3, 1200);
    let asked = at(picture.now - 5);
    picture.refused(A);
    let view = picture.view();
    assert_eq!(view.writer, None);
    let sample = view.sample.unwrap();
    assert_eq!((sample.sent, sample.lsn), (asked, Lsn(1200)));
    picture.primary(B, 4, 900);
    let sample = picture.view().sample.unwrap();
    assert_eq!(sample.lsn, Lsn(900), "it is another reign");
}

#[test]
fn a_replica_that_receives_again_without_a_writer_may_follow_the_next_one_and_serves_no_reads() {
    let mut picture = stable();
    picture.refused(A);
    let serves = |picture: &Picture, node: usize| picture.view().nodes[node].own.is_on();
    picture.replica(C, 3, 1000);
    assert!(serves(&picture, 2), "it has received all the time");
    picture.now += 10;
    picture.cut_off(C, picture.now);
    assert!(serves(&picture, 2), "it replays what it had received");
    picture.replica(C, 3, 1100);
    assert!(!serves(&picture, 2), "from whom?");
}

#[test]
fn a_node_answers_since_it_first_did_after_a_failure_or_a_start() {
    let mut picture = stable();
    let since = |picture: &Picture| picture.view().node(B).and_then(|node| node.answers_since);
    let first = since(&picture);
    assert!(first.is_some());
    picture.replica(B, 3, 1100);
    assert_eq!(since(&picture), first);
    picture.failed(B, Trouble::Lost("it broke".into()));
    assert_eq!(since(&picture), None);
    picture.replica(B, 3, 1100);
    let second = since(&picture);
    assert_eq!(second, Some(at(picture.now)));
    // It was started again between two probes.
    picture.now += 10;
    picture.cluster.observe(Observation::Answered {
        node: B,
        sent: at(picture.now - 5),
        at: at(picture.now),
        facts: Facts {
            in_recovery: true,
            lsn: Lsn(1050),
            received: Some(Lsn(1050)),
            timeline: 3,
            system: 7,
            started: "afternoon".into(),
            is_receiving: true,
            segment: 16 << 20,
        },
    });
    assert_eq!(since(&picture), Some(at(picture.now)));
}
