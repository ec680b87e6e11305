//! One server by several addresses.

use super::*;
use crate::topology::membership::Out;
use crate::topology::node::Role;

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
        streamed: None,
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
                received: None,
                ..facts_of(twin, in_recovery, 3, 1000)
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
                streamed: None,
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
