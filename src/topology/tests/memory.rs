//! What is remembered over a restart, and what if that is lost.

use super::*;

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
