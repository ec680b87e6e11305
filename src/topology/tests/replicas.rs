//! Which replicas serve reads.

use super::*;
use crate::config::routing::LagBound;
use crate::topology::membership::Out;
use crate::topology::node::Role;

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
fn a_replica_that_grew_late_only_while_a_dying_writer_was_silent_serves_reads_all_the_same() {
    let mut picture = stable();
    // The last that A wrote reaches C alone.
    picture.wait(250).primary(A, 3, 2000);
    picture.replica(B, 3, 1000).replica(C, 3, 2000);
    picture.wait(900).replica(B, 3, 1000).replica(C, 3, 2000);
    assert_eq!(
        picture.readers(),
        [C],
        "while the writer may be well B is late"
    );
    picture
        .failed(A, Trouble::Timeout)
        .failed(A, Trouble::Timeout);
    picture.replica(B, 3, 1000).replica(C, 3, 2000);
    assert_eq!(picture.readers(), [B, C]);
}

#[test]
fn a_replica_that_was_late_when_a_dying_writer_was_heard_last_serves_no_reads() {
    let mut picture = stable();
    picture.wait(250).primary(A, 3, 2000).wait(700);
    picture.replica(B, 3, 1000).primary(A, 3, 2000).wait(300);
    picture.replica(B, 3, 1000).replica(C, 3, 2000);
    assert_eq!(picture.readers(), [C]);
    picture
        .failed(A, Trouble::Timeout)
        .failed(A, Trouble::Timeout);
    picture.replica(B, 3, 1000).replica(C, 3, 2000);
    assert_eq!(picture.readers(), [C]);
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
fn a_replica_that_is_seen_to_stream_the_lost_writers_timeline_serves_reads_whoever_sends_it() {
    let mut picture = stable();
    picture.refused(A);
    picture.now += 10;
    picture.cut_off(C, picture.now);
    assert_eq!(picture.readers(), [B, C]);
    picture.streams(C, 3, 1100);
    assert_eq!(
        picture.readers(),
        [B, C],
        "A, or B, sends what A has written"
    );
    picture.streams(C, 4, 1100);
    assert_eq!(picture.readers(), [B], "that is the next writer's");
    picture.streams(B, 4, 1100);
    assert_eq!(picture.readers(), [], "though it has received all the time");
    assert_eq!(picture.streams(C, 3, 1100).readers(), [C]);
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
            streamed: None,
        },
    });
    assert_eq!(since(&picture), Some(at(picture.now)));
}
