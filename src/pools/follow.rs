//! Pools follow their cluster: when the writer changes, the old writer's pools are given up and their servers closed.
//!
//! An old writer may still answer, and would even take writes. So nothing that its servers say counts from the moment in which
//! another writer is known, and who waits for one of them looks for another pool.
//!
//! A node whose name has moved is another server from then on. Whoever noticed that has fenced the servers at the old address before it
//! said so, for the next writer may be the same node; the pools see to the rest.

use std::sync::Arc;

use crate::config::node::Node;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::topology::board::Board;
use crate::topology::node::{NodeId, Role};
use crate::topology::phase::Epoch;
use crate::topology::view::{ClusterView, NodeView};

/// What must not have changed for pools to stay as they are: the reign, the writer, and which nodes may be used at all.
type Basis = (Epoch, Option<NodeId>, Vec<bool>);

fn basis(view: &ClusterView) -> Basis {
    let usable = view.nodes.iter().map(is_usable);
    (view.epoch, view.writer, usable.collect())
}

fn is_usable(node: &NodeView) -> bool {
    node.is_listed && node.role != Role::Fenced
}

/// Follows the cluster whose views hang on `board`, for ever.
pub async fn follow(registry: Arc<Registry>, board: Arc<Board>) {
    let (mut known, mut last_writer) = (None, None);
    let (mut misses, mut moves) = (Vec::new(), Vec::new());
    loop {
        let view = board.view();
        hush(&registry, &view, view.writer.or(last_writer), &misses);
        misses = view.nodes.iter().map(|node| node.misses).collect();
        tell_moves(&registry, &view, &moves);
        moves = view.nodes.iter().map(|node| node.moves).collect();
        let now = basis(&view);
        if known.as_ref() != Some(&now) {
            settle(&registry, &view, last_writer);
            known = Some(now);
            last_writer = view.writer.or(last_writer);
        }
        board.next_after(&view).await;
    }
}

/// Nobody waits for what a replica that has stopped to answer was asked to read. The first probe that it misses may be a mere delay: then
/// only what can be read elsewhere is. With the second all is lost that is under way there.
fn hush(registry: &Registry, view: &ClusterView, writer: Option<NodeId>, before: &[u32]) {
    for (index, node) in view.nodes.iter().enumerate() {
        let missed = before.get(index).copied().unwrap_or_default();
        // Of the last writer nothing is known before there is another.
        let is_writer = writer == Some(node.id);
        if is_writer || node.misses <= missed || node.misses > 2 {
            continue;
        }
        let pools = pools_at(registry, view, node);
        pools.iter().for_each(|pool| pool.hush(node.misses > 1));
    }
}

/// Tells their pools which nodes have moved since `before`.
fn tell_moves(registry: &Registry, view: &ClusterView, before: &[u32]) {
    for (index, node) in view.nodes.iter().enumerate() {
        if node.moves != before.get(index).copied().unwrap_or_default() {
            let pools = pools_at(registry, view, node);
            pools.iter().for_each(|pool| pool.follow_move());
        }
    }
}

fn pools_at(registry: &Registry, view: &ClusterView, node: &NodeView) -> Vec<Arc<Pool>> {
    let address = Node::at(&node.place.host, node.place.port);
    let groups = registry.groups_of_cluster(&view.name);
    let pools = groups.iter().flat_map(|group| group.pools());
    pools.filter(|pool| pool.node == address).collect()
}

/// Gives up the pools of the writer before, once there is another, and those of nodes that nobody may use.
fn settle(registry: &Arc<Registry>, view: &ClusterView, last_writer: Option<NodeId>) {
    let address = |node: &NodeView| Node::at(&node.place.host, node.place.port);
    let writer = view.writer.and_then(|id| view.node(id)).map(address);
    let before = last_writer.and_then(|id| view.node(id)).map(address);
    for group in registry.groups_of_cluster(&view.name) {
        for pool in group.pools() {
            let mut nodes = view.nodes.iter();
            let is_usable = nodes.any(|node| is_usable(node) && address(node) == pool.node);
            let is_deposed =
                writer.is_some() && before.as_ref() == Some(&pool.node) && before != writer;
            if !is_usable || is_deposed {
                group.remove(&pool.node);
                pool.fence();
            }
        }
    }
    if let Some(writer) = writer {
        registry.open_forced_pools_of(&view.name, &writer);
    }
}
