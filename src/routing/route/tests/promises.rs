//! What holds for every view of a cluster.

use proptest::prelude::*;

use super::*;
use crate::config::routing::PrimaryReads;
use crate::routing::standing::Mark;

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Primary),
        Just(Role::Replica),
        Just(Role::Replica),
        Just(Role::Down),
        Just(Role::Fenced),
        Just(Role::Unknown)
    ]
}

fn any_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        Just(Intent::Read),
        Just(Intent::NodeLocal),
        Just(Intent::Session),
        Just(Intent::Write),
        Just(Intent::Unknown)
    ]
}

prop_compose! {
    fn any_view()(
        facts in proptest::collection::vec((any_role(), 0u64..2000, 0u64..900, any::<bool>(), 1u32..3), 1..6),
        writer in proptest::option::of(0u16..6),
        is_stable in any::<bool>(),
        sample in proptest::option::of((0u64..300, 0u64..2000)),
        floor in proptest::option::of(0u64..2000),
    ) -> ClusterView {
        let nodes: Vec<NodeView> = (0u16..)
            .zip(facts)
            .map(|(id, (role, lsn, lag, is_readable, timeline))| NodeView {
                own: serves(is_readable),
                timeline,
                ..node(NodeId(id), role, lsn, lag)
            })
            .collect();
        ClusterView {
            phase: if is_stable { Phase::Stable } else { Phase::NoWriter },
            writer: writer.filter(|id| usize::from(*id) < nodes.len()).map(NodeId),
            sample: sample.map(|(sent, lsn)| Sample { sent: at(sent), lsn: Lsn(lsn) }),
            floor: floor.map(Lsn),
            nodes,
            ..view()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_write_goes_to_a_node_that_the_view_does_not_call_primary(
        view in any_view(), intent in any_intent(), seed in any::<u64>(), share in any::<bool>()
    ) {
        let policy = Policy {
            primary_reads: if share { PrimaryReads::Share } else { PrimaryReads::Fallback },
            ..Policy::default()
        };
        let fresh = Standing::default();
        if let Outcome::To(route) = outcome(Ask::of(intent), &fresh, &view, &policy, seed)
            && (intent != Intent::Read || route.role == Role::Primary)
        {
            prop_assert_eq!(Some(route.node), view.primary());
        }
    }

    #[test]
    fn no_read_is_behind_the_bound_of_lag_or_behind_what_the_session_wrote_or_read(
        view in any_view(),
        seed in any::<u64>(),
        wrote in proptest::option::of((0u64..300, 0u64..3)),
        read in proptest::option::of((0u16..6, 0u64..300, 0u64..3)),
        bound in 0u64..900,
    ) {
        let policy = Policy { bound: within(bound), ..Policy::default() };
        let standing = Standing {
            written: wrote.map(|(millis, epoch)| Mark::new(at(millis), Epoch(epoch))),
            read: read.map(|(node, millis, epoch)| (NodeId(node), Mark::new(at(millis), Epoch(epoch)))),
            ..Standing::default()
        };
        let Outcome::To(route) = outcome(READ, &standing, &view, &policy, seed) else {
            return Ok(());
        };
        if Some(route.node) == view.primary() {
            return Ok(());
        }
        let node = view.node(route.node).unwrap();
        prop_assert!(node.role == Role::Replica && node.own.is_on() && node.timeline == view.timeline);
        prop_assert!(node.lag.is_within(Duration::from_millis(bound), 0));
        let is_past = |mark: &Mark| {
            let surely = if mark.epoch == view.epoch {
                view.sample.filter(|sample| sample.sent >= mark.at).map(|sample| sample.lsn)
            } else {
                view.floor
            };
            surely.is_some_and(|lsn| node.lsn.is_some_and(|replayed| replayed >= lsn))
        };
        prop_assert!(standing.written.iter().all(is_past));
        if let Some((last, mark)) = &standing.read {
            let has_gone_on = node.answers_since < Some(mark.at);
            let is_same = *last == route.node && mark.epoch == view.epoch && has_gone_on;
            prop_assert!(is_same || is_past(mark));
        }
    }
}
