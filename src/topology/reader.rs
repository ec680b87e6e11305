//! Which replica serves a client that wants to read from one.
//!
//! Those of the pooler's zone come first; clients are spread over them by weight.
//!
//! A client stays with its replica while that is good enough, and moves only to one that has replayed what the node before was known to
//! have at its last probe.

use crate::config::routing::LagBound;
use crate::topology::node::{Lsn, NodeId, Role};
use crate::topology::phase::Epoch;
use crate::topology::view::{ClusterView, NodeView};

/// What a client has read so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// The replica it reads from.
    pub from: Option<NodeId>,
    /// How far the node it reads from was last seen to be, and in which reign.
    pub seen: Option<(Epoch, Lsn)>,
}

/// The replica to read from: none where none is good enough. `turn` spreads clients that have none yet; nobody goes to who is `shunned`.
pub fn choose(
    view: &ClusterView,
    bound: LagBound,
    read: Read,
    shunned: &[NodeId],
    turn: usize,
) -> Option<NodeId> {
    let is_good = |node: &&NodeView| {
        let is_near = view.service(node, bound).is_on();
        // Of a reign before, whoever has replayed the first position of this one has everything.
        let needed = read.seen.map(|(epoch, lsn)| view.needed(epoch, lsn));
        let has_it = match needed {
            None => true,
            Some(Some(needed)) => node.lsn.is_some_and(|lsn| lsn >= needed),
            Some(None) => false,
        };
        let is_own = read.from == Some(node.id);
        let is_usable = node.is_listed && !shunned.contains(&node.id);
        is_usable && node.role == Role::Replica && is_near && (has_it || is_own)
    };
    let good: Vec<&NodeView> = view.nodes.iter().filter(is_good).collect();
    let own = good.iter().find(|node| Some(node.id) == read.from);
    let taken = own.copied().or_else(|| spread(&good, turn));
    taken.map(|node| node.id)
}

/// The one of `good` whose turn it is.
fn spread<'a>(good: &[&'a NodeView], turn: usize) -> Option<&'a NodeView> {
    let has_near = good.iter().any(|node| node.place.is_near);
    let mut those = good.iter().filter(|node| !has_near || node.place.is_near);
    let weight = |node: &&&NodeView| node.place.weight as usize;
    let mut left = turn.checked_rem(those.clone().map(|node| weight(&node)).sum())?;
    let taken = those.find(|node| {
        let is_hit = left < weight(node);
        left = left.saturating_sub(weight(node));
        is_hit
    });
    taken.copied()
}

#[cfg(test)]
mod tests {
    use super::{Read, choose};
    use crate::config::routing::LagBound;
    use crate::topology::membership::{Out, Service};
    use crate::topology::node::{Lsn, NodeId, Place};
    use crate::topology::phase::Epoch;
    use crate::topology::tests::{A, B, C, places, stable};
    use crate::topology::view::ClusterView;
    use std::sync::Arc;
    use std::time::Duration;

    fn read(from: NodeId, lsn: u64) -> Read {
        Read {
            from: Some(from),
            seen: Some((Epoch(1), Lsn(lsn))),
        }
    }

    #[test]
    fn clients_are_spread_and_stay_where_they_are() {
        let view = stable().view();
        let fresh = |turn| choose(&view, LagBound::default(), Read::default(), &[], turn);
        assert_eq!((fresh(0), fresh(1), fresh(2)), (Some(B), Some(C), Some(B)));
        assert_eq!(
            choose(&view, LagBound::default(), read(C, 1000), &[], 0),
            Some(C)
        );
        assert_eq!(
            choose(&view, LagBound::default(), read(C, 1000), &[C], 0),
            Some(B),
            "no server can be opened there"
        );
        assert_ne!(fresh(0), Some(A));
    }

    #[test]
    fn weights_are_shares_and_replicas_of_the_same_zone_come_first() {
        let mut view = stable().view();
        let place = |weight, is_near| {
            Arc::new(Place {
                weight,
                is_near,
                ..places().remove(1)
            })
        };
        let shares = |view: &ClusterView| {
            let taken =
                (0..400).map(|turn| choose(view, LagBound::default(), Read::default(), &[], turn));
            taken.filter(|node| *node == Some(B)).count()
        };
        view.nodes[1].place = place(3, false);
        assert_eq!(shares(&view), 300);
        view.nodes[1].place = place(1, true);
        assert_eq!(shares(&view), 400);
        view.nodes[1].own = Service::none(Out::Behind);
        assert_eq!(shares(&view), 0);
    }

    #[test]
    fn nobody_moves_to_a_replica_that_has_replayed_less() {
        let mut picture = stable();
        picture.refused(B);
        let view = picture.view();
        assert_eq!(
            choose(&view, LagBound::default(), read(B, 1000), &[], 0),
            Some(C)
        );
        assert_eq!(
            choose(&view, LagBound::default(), read(B, 1001), &[], 0),
            None
        );
    }

    #[test]
    fn a_database_may_have_a_limit_of_its_own() {
        let mut picture = stable();
        picture
            .wait(300)
            .primary(A, 3, 2000)
            .replica(B, 3, 1500)
            .replica(C, 3, 2000);
        let view = picture.view();
        let within = |millis| {
            choose(
                &view,
                LagBound {
                    time: Some(Duration::from_millis(millis)),
                    bytes: None,
                },
                Read::default(),
                &[],
                0,
            )
        };
        assert_eq!(within(5000), Some(B));
        assert_eq!(within(10), Some(C));
    }
}
