//! Pools follow their cluster: when the writer changes, the old writer's pools are given up and their servers closed.
//!
//! An old writer may still answer, and would even take writes. So nothing that its servers say counts from the moment in which
//! another writer is known, and who waits for one of them looks for another pool.

use std::sync::Arc;

use crate::config::node::Node;
use crate::pools::registry::Registry;
use crate::topology::board::Board;
use crate::topology::node::NodeId;
use crate::topology::phase::Epoch;
use crate::topology::view::ClusterView;

/// Follows the cluster whose views hang on `board`, for ever.
pub async fn follow(registry: Arc<Registry>, board: Arc<Board>) {
    let mut known: Option<(Epoch, NodeId)> = None;
    loop {
        let view = board.view();
        if let Some(writer) = view.writer
            && known != Some((view.epoch, writer))
        {
            known = Some((view.epoch, writer));
            settle(&registry, &view, writer);
        }
        board.next_after(&view).await;
    }
}

fn settle(registry: &Arc<Registry>, view: &ClusterView, writer: NodeId) {
    let Some(place) = view.node(writer).map(|node| &node.place) else {
        return;
    };
    let right = Node::at(&place.host, place.port);
    for group in registry.groups_of_cluster(&view.name) {
        for pool in group.pools() {
            if pool.node != right {
                group.remove(&pool.node);
                pool.fence();
            }
        }
        // Clients that wait at the line for a primary will ask for it in a moment.
        if let Some(pool) = registry.pool_at(&group, &right) {
            pool.grow();
        }
    }
    registry.open_forced_pools_of(&view.name, &right);
}
