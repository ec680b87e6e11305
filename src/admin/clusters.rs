//! SHOW of clusters, their nodes, their lag and their failovers; and what an operator tells a cluster.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::complaint::{About, Complaint};
use crate::admin::gather::Look;
use crate::admin::table::{Cell, Column, INT4, INT8, TEXT, Table, int, number, text};
use crate::clock::{self, Moment};
use crate::pools::registry::Registry;
use crate::topology::board::Board;
use crate::topology::lag::Lag;
use crate::topology::node::Observation;
use crate::topology::view::{ClusterView, NodeView};

const CLUSTERS: [Column; 10] = [
    ("cluster", TEXT),
    ("phase", TEXT),
    ("since_ms", INT8),
    ("why", TEXT),
    ("primary", TEXT),
    ("epoch", INT8),
    ("timeline", INT4),
    ("system_identifier", TEXT),
    ("nodes", INT4),
    ("holding", INT4),
];

const NODES: [Column; 11] = [
    ("cluster", TEXT),
    ("node", TEXT),
    ("role", TEXT),
    ("timeline", INT4),
    ("lsn", TEXT),
    ("lag_ms", INT8),
    ("lag_bytes", INT8),
    ("readable", TEXT),
    ("heard_ms_ago", INT8),
    ("probe_us", INT8),
    ("trouble", TEXT),
];

const LAG: [Column; 6] = [
    ("cluster", TEXT),
    ("node", TEXT),
    ("lag_ms", INT8),
    ("lag_bytes", INT8),
    ("measured_ms_ago", INT8),
    ("readable", TEXT),
];

const FAILOVERS: [Column; 7] = [
    ("cluster", TEXT),
    ("at", INT8),
    ("from", TEXT),
    ("to", TEXT),
    ("node", TEXT),
    ("epoch", INT8),
    ("why", TEXT),
];

/// All boards, by the clusters' names.
fn boards(registry: &Registry) -> Vec<Arc<Board>> {
    let mut all: Vec<_> = registry
        .boards
        .iter()
        .map(|entry| (entry.key().clone(), Arc::clone(entry.value())))
        .collect();
    all.sort_by(|one, two| one.0.cmp(&two.0));
    all.into_iter().map(|(_, board)| board).collect()
}

fn millis(span: Duration) -> Cell {
    number(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn yes(is_so: bool) -> Cell {
    text(if is_so { "yes" } else { "no" })
}

/// The nodes that are listed.
fn listed(view: &ClusterView) -> impl Iterator<Item = &NodeView> {
    view.nodes.iter().filter(|node| node.is_listed)
}

/// `SHOW CLUSTERS`.
pub fn clusters(look: &Look<'_>) -> Table {
    let rows = boards(look.registry).into_iter().map(|board| {
        let view = board.view();
        let primary = view.primary_at(look.now).and_then(|id| view.node(id));
        vec![
            text(&*view.name),
            text(view.phase.as_str()),
            millis(look.now.since(view.since)),
            text(&*view.why),
            primary.map(|node| node.place.address()),
            number(view.epoch.0),
            int(view.timeline),
            Some(view.system.to_string()).filter(|_| view.system != 0),
            int(listed(&view).count()),
            int(board.waiting()),
        ]
    });
    Table::new(&CLUSTERS, rows.collect())
}

/// `SHOW NODES`.
pub fn nodes(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        for node in listed(&view) {
            let [time, bytes, _] = lag_cells(node, look.now);
            rows.push(vec![
                text(&*view.name),
                text(node.place.address()),
                text(node.role.as_str()),
                Some(node.timeline.to_string()).filter(|_| node.timeline != 0),
                node.lsn.map(|lsn| lsn.to_string()),
                time,
                bytes,
                yes(node.is_readable),
                node.heard.and_then(|heard| millis(look.now.since(heard))),
                number(u64::try_from(node.took.as_micros()).unwrap_or(u64::MAX)),
                node.trouble.as_deref().map(str::to_owned),
            ]);
        }
    }
    Table::new(&NODES, rows)
}

/// How far behind in time and in bytes, and how long ago that was measured; nothing where it is not known.
fn lag_cells(node: &NodeView, now: Moment) -> [Cell; 3] {
    match node.lag {
        Lag::Known { time, bytes, at } => [millis(time), number(bytes), millis(now.since(at))],
        Lag::Unknown => [None, None, None],
    }
}

/// `SHOW LAG`: the replicas.
pub fn lag(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        for node in listed(&view).filter(|node| view.writer != Some(node.id)) {
            let [time, bytes, ago] = lag_cells(node, look.now);
            let (name, node_name) = (text(&*view.name), text(node.place.address()));
            rows.push(vec![
                name,
                node_name,
                time,
                bytes,
                ago,
                yes(node.is_readable),
            ]);
        }
    }
    Table::new(&LAG, rows)
}

/// `SHOW FAILOVERS`: changes of phase, oldest first.
pub fn failovers(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        for change in board.story().iter() {
            let node = change.node.and_then(|id| view.node(id));
            rows.push(vec![
                text(&*view.name),
                number(look.wall_at(change.at)),
                text(change.from.as_str()),
                text(change.to.as_str()),
                node.map(|node| node.place.address()),
                number(change.epoch.0),
                text(change.why.clone()),
            ]);
        }
    }
    Table::new(&FAILOVERS, rows)
}

/// What an operator tells a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A switchover is coming: new transactions wait, for five seconds at most.
    Switchover,
    /// The highest timeline seen so far counts no longer.
    Unfence,
}

/// Tells the cluster `name`.
///
/// # Errors
/// When there is none of that name.
pub fn tell(registry: &Registry, name: &str, word: Word) -> Result<(), Complaint> {
    let board = registry.boards.get(name).map(|board| Arc::clone(&board));
    let Some(board) = board else {
        return Err(Complaint::new(
            About::UndefinedObject,
            format!("there is no cluster \"{name}\""),
        ));
    };
    let at = clock::now();
    let (command, observation) = match word {
        Word::Switchover => ("SWITCHOVER", Observation::Drain { at }),
        Word::Unfence => ("UNFENCE", Observation::Unfence { at }),
    };
    tracing::warn!("{command} '{name}' command issued");
    board.tell(observation);
    Ok(())
}
