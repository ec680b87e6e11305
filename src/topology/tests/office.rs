//! Who is in office: crowned, lost, come back, or one of two.

use super::*;
use crate::topology::membership::Out;
use crate::topology::node::Role;

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
fn another_word_follows_what_was_given_up_only_where_no_writer_is_in_office() {
    let mut picture = put_back();
    picture.primary(B, 5, 9999).primary(A, 2, 9001);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(A), "it has newer writes");
    assert_eq!(picture.cluster.role(B), Role::Fenced);
    assert_eq!(picture.cluster.memory().given_up, ["b:5432"]);
    picture.primary(B, 5, 9999).primary(A, 2, 9002);
    assert_eq!(picture.primary_of_view(), Some(A));
    // Nobody else is there: who waits is told of the way out.
    picture.refused(A);
    assert_eq!(picture.phase(), Phase::Confirming);
    let why = picture.view().why;
    assert!(
        why.contains("b:5432") && why.contains("UNFENCE main"),
        "{why}"
    );
    picture.refused(B);
    assert_eq!(picture.phase(), Phase::NoWriter, "there is none any more");
    picture.primary(B, 5, 9999);
    let now = at(picture.now);
    picture.cluster.observe(Observation::Unfence { at: now });
    assert_eq!(picture.primary_of_view(), Some(B));
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
                streamed: None,
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
