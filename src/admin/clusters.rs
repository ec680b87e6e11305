//! SHOW of clusters, their nodes, their lag and their failovers; and what an operator tells a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::admin::complaint::{About, Complaint};
use crate::admin::gather::Look;
use crate::admin::routing::all_routes;
use crate::admin::table::{Cell, Column, INT4, INT8, NUMERIC, TEXT, Table, int, number, text};
use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::config::routing::LagBound;
use crate::pools::registry::Registry;
use crate::routing::fitness::out_of_reads;
use crate::stats::census::ServerState;
use crate::topology::board::Board;
use crate::topology::lag::Lag;
use crate::topology::membership::Out;
use crate::topology::node::{NodeId, Observation, Role};
use crate::topology::outage::{Kind, Outage, Toll};
use crate::topology::phase::Phase;
use crate::topology::view::{ClusterView, NodeView};
use crate::topology::wish::{Switched, Unswitched, Wish};

const CLUSTERS: [Column; 11] = [
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
    ("oldest_ms", INT8),
];

const NODES: [Column; 14] = [
    ("cluster", TEXT),
    ("node", TEXT),
    ("zone", TEXT),
    ("weight", INT4),
    ("role", TEXT),
    ("timeline", INT4),
    ("lsn", TEXT),
    ("lag_ms", INT8),
    ("lag_bytes", INT8),
    ("readable", TEXT),
    ("why", TEXT),
    ("heard_ms_ago", INT8),
    ("probe_us", INT8),
    ("trouble", TEXT),
];

const LAG: [Column; 9] = [
    ("cluster", TEXT),
    ("node", TEXT),
    ("lag_ms", INT8),
    ("lag_bytes", INT8),
    ("measured_ms_ago", INT8),
    ("max_lag_ms", INT8),
    ("max_lag_bytes", INT8),
    ("readable", TEXT),
    ("why", TEXT),
];

const FAILOVERS: [Column; 17] = [
    ("cluster", TEXT),
    ("kind", TEXT),
    ("first_sign", TEXT),
    ("primary_before", TEXT),
    ("primary_after", TEXT),
    ("draining_ms", NUMERIC),
    ("suspect_ms", NUMERIC),
    ("no_writer_ms", NUMERIC),
    ("confirmed_ms", NUMERIC),
    ("first_write_ms", NUMERIC),
    ("held", INT8),
    ("released", INT8),
    ("failed", INT8),
    ("unknown", INT8),
    ("undone", INT8),
    ("why", TEXT),
    ("times", INT8),
];

const PHASES: [Column; 8] = [
    ("cluster", TEXT),
    ("at", TEXT),
    ("from", TEXT),
    ("lasted_ms", NUMERIC),
    ("to", TEXT),
    ("node", TEXT),
    ("epoch", INT8),
    ("why", TEXT),
];

const HOLDS: [Column; 13] = [
    ("cluster", TEXT),
    ("waiting", INT4),
    ("oldest_ms", NUMERIC),
    ("waits", INT8),
    ("wait_total_ms", NUMERIC),
    ("wait_p50_ms", NUMERIC),
    ("wait_p99_ms", NUMERIC),
    ("wait_max_ms", NUMERIC),
    ("outages", INT8),
    ("outage_total_ms", NUMERIC),
    ("outage_p50_ms", NUMERIC),
    ("outage_p99_ms", NUMERIC),
    ("outage_max_ms", NUMERIC),
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
            board
                .oldest()
                .and_then(|since| millis(look.now.since(since))),
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
                text(node.place.zone.as_str()),
                int(node.place.weight),
                text(node.role.as_str()),
                Some(node.timeline.to_string()).filter(|_| node.timeline != 0),
                node.lsn.map(|lsn| lsn.to_string()),
                time,
                bytes,
                yes(node.own.is_on()),
                why_not(look, &board, &view, node),
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

/// Why a replica serves no reads, under the cluster's own bounds or of single databases.
fn why_not(look: &Look<'_>, board: &Arc<Board>, view: &ClusterView, node: &NodeView) -> Cell {
    let out = node.own.out.filter(|why| {
        // A primary is not behind, and of who does not answer `trouble` tells.
        node.role == Role::Replica || matches!(why, Out::OtherSystem | Out::GivenUp | Out::Twice)
    });
    let mut all: Vec<String> = out.map(|why| why.text().to_owned()).into_iter().collect();
    for routes in all_routes(look) {
        let is_here = look.registry.board_of(&routes.database);
        if !is_here.is_some_and(|other| Arc::ptr_eq(board, &other)) {
            continue;
        }
        let load = |id| routes.load(id);
        let bound = look.settings.effective_lag_bound(&routes.database, "");
        let most = look.settings.routing.max_ejected;
        let is_out = out_of_reads(view, bound, most, &load, look.now).contains(&node.id);
        if let Some((until, why)) = load(node.id).out(look.now).filter(|_| is_out) {
            let (name, left) = (&routes.database, until.since(look.now).as_millis());
            let why = why.text();
            all.push(format!(
                "left out of the reads of {name} for {left} ms more: {why}"
            ));
        }
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// `SHOW LAG`: the replicas, under the bounds of their cluster and under each other bound that a database has.
pub fn lag(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        for node in listed(&view).filter(|node| view.writer != Some(node.id)) {
            let Some(cluster) = look.settings.clusters.get(&*view.name) else {
                continue;
            };
            let others = view.bounds.iter().copied();
            for bound in std::iter::once(LagBound::default()).chain(others) {
                let [time, bytes, ago] = lag_cells(node, look.now);
                let most_bytes = bound.bytes.unwrap_or(cluster.max_lag_bytes as u64);
                let service = view.service(node, bound);
                rows.push(vec![
                    text(&*view.name),
                    text(node.place.address()),
                    time,
                    bytes,
                    ago,
                    millis(bound.time.unwrap_or(cluster.max_lag)),
                    number(most_bytes),
                    yes(service.is_on()),
                    service.out.and_then(|why| text(why.text())),
                ]);
            }
        }
    }
    Table::new(&LAG, rows)
}

/// `SHOW FAILOVERS`: times without a writer, oldest first. Milliseconds count from the first sign. Doubts that follow one another are one
/// row: the latest, with the counts of all.
pub fn failovers(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        let chronicle = board.chronicle();
        let outages: Vec<&Outage> = chronicle.outages().collect();
        let is_doubt = |outage: &&Outage| outage.kind() == Kind::Doubt;
        for alike in outages.chunk_by(|one, next| is_doubt(one) && is_doubt(next)) {
            rows.extend(outage_row(&view, alike));
        }
    }
    Table::new(&FAILOVERS, rows)
}

/// The row of the last of `alike`, with the counts of all of them.
fn outage_row(view: &ClusterView, alike: &[&Outage]) -> Option<Vec<Cell>> {
    let outage = alike.last()?;
    let address = |id: Option<NodeId>| {
        let node = id.and_then(|id| view.node(id));
        node.map(|node| node.place.address())
    };
    let after = |moment: Option<Moment>| moment.and_then(|at| tenths(at.since(outage.began)));
    let counts: [fn(&Toll) -> &AtomicU64; 5] = [
        |toll| &toll.held,
        |toll| &toll.released,
        |toll| &toll.failed,
        |toll| &toll.unknown,
        |toll| &toll.undone,
    ];
    let sum = |count: fn(&Toll) -> &AtomicU64| {
        let all = alike.iter().map(|one| count(&one.toll).load(Relaxed));
        number(all.sum())
    };
    let mut row = vec![
        text(&*view.name),
        text(outage.kind().as_str()),
        text(clock::local_moment(outage.began)),
        address(outage.from),
        address(outage.to),
        after(outage.entered(Phase::Draining)),
        after(outage.entered(Phase::Suspect)),
        after(outage.entered(Phase::NoWriter)),
        after(outage.over),
        after(outage.toll.first_write()),
    ];
    row.extend(counts.map(sum));
    row.push(text(outage.why.clone()));
    row.push(int(alike.len()));
    Some(row)
}

/// `SHOW PHASES`: changes of phase, oldest first.
pub fn phases(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for board in boards(look.registry) {
        let view = board.view();
        let mut before = None;
        for change in board.story().iter() {
            let node = change.node.and_then(|id| view.node(id));
            let lasted = before.and_then(|before| tenths(change.at.since(before)));
            before = Some(change.at);
            rows.push(vec![
                text(&*view.name),
                text(clock::local_moment(change.at)),
                text(change.from.as_str()),
                lasted,
                text(change.to.as_str()),
                node.map(|node| node.place.address()),
                number(change.epoch.0),
                text(change.why.clone()),
            ]);
        }
    }
    Table::new(&PHASES, rows)
}

/// `SHOW HOLDS`: clients that wait or have waited for a primary, and times without one, since the process began.
pub fn holds(look: &Look<'_>) -> Table {
    let rows = boards(look.registry).into_iter().map(|board| {
        let oldest = board.oldest().map(|since| look.now.since(since));
        let chronicle = board.chronicle();
        let (waits, outages) = (chronicle.wait_sums(), chronicle.outage_sums());
        let at_most =
            |micros: Option<u64>| micros.and_then(|micros| tenths(Duration::from_micros(micros)));
        let mut row = vec![
            text(&*board.view().name),
            int(board.waiting()),
            oldest.and_then(tenths),
        ];
        for sums in [waits, outages] {
            let longest = (sums.count != 0).then_some(sums.longest);
            row.extend([
                number(sums.count),
                tenths(Duration::from_micros(sums.total)),
                at_most(sums.p50),
                at_most(sums.p99),
                at_most(longest),
            ]);
        }
        row
    });
    Table::new(&HOLDS, rows.collect())
}

/// Milliseconds and a tenth of them.
fn tenths(span: Duration) -> Cell {
    let tenths = span.as_micros() / 100;
    Some(format!("{}.{}", tenths / 10, tenths % 10))
}

fn board(registry: &Registry, name: &str) -> Result<Arc<Board>, Complaint> {
    let board = registry.boards.get(name).map(|board| Arc::clone(&board));
    board.ok_or_else(|| {
        let message = format!("there is no cluster \"{name}\"");
        Complaint::new(About::UndefinedObject, message).hint("SHOW CLUSTERS lists them.")
    })
}

/// Whether a server of the node at `address` works for a client of the cluster, or is kept by one.
fn runs(registry: &Registry, cluster: &str, address: &str) -> bool {
    let settings = registry.settings.load();
    registry.census.servers.iter().any(|card| {
        let (of, facts) = (settings.cluster_of(&card.facts.database), &card.facts);
        let is_lent = card.state() == ServerState::Active && card.lent_to() != 0;
        is_lent
            && of.is_some_and(|(name, _)| name == cluster)
            && Node::at(&facts.host, facts.port).to_string() == address
    })
}

/// Asks for a switchover of the cluster `name`, to the node or member `to` where that is said.
///
/// # Errors
/// When there is no cluster of that name.
pub fn switch_over(
    registry: &Arc<Registry>,
    name: &str,
    to: Option<String>,
) -> Result<Arc<Wish>, Complaint> {
    let board = board(registry, name)?;
    tracing::warn!(to, "SWITCHOVER '{name}' command issued");
    let (registry, cluster) = (Arc::clone(registry), name.to_owned());
    let runs = move |address: &str| runs(&registry, &cluster, address);
    let wish = Wish::new(to, Box::new(runs));
    board.wish(&wish, clock::now());
    Ok(wish)
}

/// What the operator is to do where nobody but the operator can switch over.
pub fn by_hand(switched: &Switched) -> Option<(String, String)> {
    let Switched::ByHand { primary, within } = switched else {
        return None;
    };
    let seconds = within.as_secs();
    let message = format!(
        "no Patroni keeps this cluster: promote a replica by hand now; new transactions wait for that for at most {seconds} s"
    );
    let detail =
        format!("Where none is promoted in that time, they go on at the primary, {primary}.");
    Some((message, detail))
}

/// Why a switchover did not come about, or is not known to.
pub fn not_switched(why: &Unswitched) -> Complaint {
    let (message, hint) = match why {
        Unswitched::Not(why) => (
            format!("the switchover did not come about: {why}"),
            "SHOW NODES and \"patronictl list\" tell how the nodes are.",
        ),
        Unswitched::Unknown(why) => (
            format!("nobody knows whether the switchover comes about: {why}"),
            "SHOW NODES and SHOW FAILOVERS tell what becomes of it; ask for no other before.",
        ),
    };
    Complaint::new(About::WrongState, message).hint(hint)
}

/// What an operator tells a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The highest timeline seen so far counts no longer.
    Unfence,
}

/// Tells the cluster `name`.
///
/// # Errors
/// When there is none of that name.
pub fn tell(registry: &Registry, name: &str, word: Word) -> Result<(), Complaint> {
    let board = board(registry, name)?;
    let at = clock::now();
    let (command, observation) = match word {
        Word::Unfence => ("UNFENCE", Observation::Unfence { at }),
    };
    tracing::warn!("{command} '{name}' command issued");
    board.tell(observation);
    Ok(())
}
