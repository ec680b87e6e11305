//! What an operator and the keeper of the cluster say of the writer.

use super::*;

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
