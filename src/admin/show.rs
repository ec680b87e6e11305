//! SHOW: what is asked, as rows. Columns, their order and their types are PgBouncer's, for tools read them.

use std::collections::BTreeSet;

use crate::admin::clusters;
use crate::admin::command::Show;
use crate::admin::descriptors;
use crate::admin::gather::Look;
use crate::admin::numbers;
use crate::admin::routing;
use crate::admin::sockets::{self, Which};
use crate::admin::table::{Cell, Column, INT4, INT8, TEXT, Table, int, text};
use crate::config::listing;
use crate::config::settings::DatabaseSettings;
use crate::config::value::{Dialect, PGBOUNCER_VERSION, PoolMode};
use crate::pools::limits::{Database, User};
use crate::pools::pool::Pool;
use crate::protocol::pins::Pins;
use crate::stats::census::{ClientCard, ClientState, ServerCard};
use crate::stats::report::CONSOLE;

/// The rows of what is asked; `None` for what is not told in rows.
pub fn table(look: &Look<'_>, show: Show) -> Option<Table> {
    Some(match show {
        Show::ActiveSockets => sockets::sockets(look, Which::Active),
        Show::Clients => sockets::clients(look),
        Show::Clusters => clusters::clusters(look),
        Show::Config => config(look),
        Show::Databases => databases(look),
        Show::DnsHosts => dns_hosts(look),
        Show::DnsZones => dns_zones(look),
        Show::Failovers => clusters::failovers(look),
        Show::Holds => clusters::holds(look),
        Show::Phases => clusters::phases(look),
        Show::Lag => clusters::lag(look),
        Show::Routing => routing::routing(look),
        Show::Decisions => routing::decisions(look),
        Show::Lists => lists(look),
        Show::Mem => memory(look),
        Show::Nodes => clusters::nodes(look),
        Show::PeerPools => peer_pools(look),
        Show::Peers => peers(look),
        Show::Pins => pins(look),
        Show::Pools => pools(look),
        Show::Servers => sockets::servers(look),
        Show::Sockets => sockets::sockets(look, Which::All),
        Show::State => state(look),
        Show::Stats => numbers::stats(&look.report()),
        Show::StatsAverages => numbers::stats_averages(&look.report()),
        Show::StatsTotals => numbers::stats_totals(&look.report()),
        Show::Totals => numbers::totals(&look.report()),
        Show::Users => users(look),
        Show::Version => one("version", &version(look.settings.dialect)),
        Show::Parameter(name, value) => one(name, value),
        Show::Fds => descriptors::table(look),
        Show::Help => return None,
    })
}

const PEER_POOLS: [Column; 5] = [
    ("peer_id", INT4),
    ("cl_active_cancel_req", INT4),
    ("cl_waiting_cancel_req", INT4),
    ("sv_active_cancel", INT4),
    ("sv_login", INT4),
];

const PEERS: [Column; 4] = [
    ("peer_id", INT4),
    ("host", TEXT),
    ("port", INT4),
    ("pool_size", INT4),
];

/// Clients that keep their server, and why.
fn pins(look: &Look<'_>) -> Table {
    let columns = [
        ("database", TEXT),
        ("user", TEXT),
        ("client", INT8),
        ("server", INT8),
        ("pins", TEXT),
        ("idle", INT4),
    ];
    let clients = look.clients().into_iter();
    let rows = clients.filter(|card| card.pins() != 0).map(|card| {
        let is_idle = card.state() == ClientState::Idle;
        let idle = is_idle.then(|| look.now.since(card.since()).as_secs());
        vec![
            text(&card.facts.database),
            text(&card.facts.user),
            int(card.id),
            int(card.link()),
            text(Pins::from_bits(card.pins()).listed()),
            int(idle.unwrap_or_default()),
        ]
    });
    Table::new(&columns, rows.collect())
}

fn peers(look: &Look<'_>) -> Table {
    let usual = look.settings.pooler.default_pool_size;
    let rows = look.settings.peers().into_iter().map(|(id, peer)| {
        let size = peer.pool_size.unwrap_or(usual);
        vec![int(id), peer.host, int(peer.port), int(size)]
    });
    Table::new(&PEERS, rows.collect())
}

fn peer_pools(look: &Look<'_>) -> Table {
    let rows = look.settings.peers().into_keys().map(|id| {
        let shown = look.registry.peers.shown(id);
        let open = shown.active - shown.connecting.min(shown.active);
        vec![
            int(id),
            int(shown.active),
            int(shown.waiting),
            int(open),
            int(shown.connecting),
        ]
    });
    Table::new(&PEER_POOLS, rows.collect())
}

/// What SHOW VERSION says, and `--version` in its first line.
pub fn version(dialect: Dialect) -> String {
    match dialect {
        Dialect::Native => concat!("pooler ", env!("CARGO_PKG_VERSION")).to_owned(),
        Dialect::PgBouncer => format!("PgBouncer {PGBOUNCER_VERSION}"),
    }
}

fn one(column: &'static str, value: &str) -> Table {
    Table::new(&[(column, TEXT)], vec![vec![text(value)]])
}

fn state(look: &Look<'_>) -> Table {
    let is_paused = look.registry.is_paused();
    let is_suspended = look.registry.standstill.is_on();
    let row = |key: &str, is_so: bool| vec![text(key), text(if is_so { "yes" } else { "no" })];
    let rows = vec![
        row("active", !is_paused && !is_suspended),
        row("paused", is_paused),
        row("suspended", is_suspended),
    ];
    Table::new(&[("key", TEXT), ("value", TEXT)], rows)
}

fn config(look: &Look<'_>) -> Table {
    let columns = [
        ("key", TEXT),
        ("value", TEXT),
        ("default", TEXT),
        ("changeable", TEXT),
    ];
    let rows = listing::show(&look.settings).into_iter().map(|row| {
        let changeable = if row.is_changeable { "yes" } else { "no" };
        vec![text(row.key), row.value, row.default, text(changeable)]
    });
    Table::new(&columns, rows.collect())
}

fn dns_hosts(look: &Look<'_>) -> Table {
    let rows = look
        .registry
        .names
        .shown(look.now)
        .into_iter()
        .map(|shown| {
            let addresses = shown.addresses.iter().map(|address| format!("{address}:0"));
            vec![
                text(shown.name),
                int(shown.left.as_secs()),
                text(addresses.collect::<Vec<_>>().join(",")),
            ]
        });
    let columns = [("hostname", TEXT), ("ttl", INT8), ("addrs", TEXT)];
    Table::new(&columns, rows.collect())
}

fn dns_zones(look: &Look<'_>) -> Table {
    let rows = look.registry.names.shown_zones().into_iter();
    let rows = rows.map(|shown| vec![text(shown.zone), int(shown.serial), int(shown.names)]);
    let columns = [("zonename", TEXT), ("serial", INT8), ("count", INT4)];
    Table::new(&columns, rows.collect())
}

fn lists(look: &Look<'_>) -> Table {
    let census = &look.registry.census;
    let clients = census.clients.len();
    let row = |name: &str, items: usize| vec![text(name), int(items)];
    let rows = vec![
        row("databases", look.registry.databases().len() + 1),
        row("users", user_names(look).len()),
        row("peers", look.settings.peers().len()),
        row("pools", look.registry.groups().len() + 1),
        row("peer_pools", look.settings.peers().len()),
        // Nothing is kept in store for connections yet to come.
        row("free_clients", 0),
        row("used_clients", clients + look.arrivals().len()),
        row("login_clients", look.arrivals().len()),
        row("free_servers", 0),
        row("used_servers", look.servers().len()),
        row("dns_names", look.registry.names.shown(look.now).len()),
        row("dns_zones", look.registry.names.shown_zones().len()),
        row("dns_queries", 0),
        row("dns_pending", 0),
    ];
    Table::new(&[("list", TEXT), ("items", INT4)], rows)
}

const DATABASES: [Column; 17] = [
    ("name", TEXT),
    ("host", TEXT),
    ("port", INT4),
    ("database", TEXT),
    ("force_user", TEXT),
    ("pool_size", INT4),
    ("min_pool_size", INT4),
    ("reserve_pool_size", INT4),
    ("server_lifetime", INT4),
    ("pool_mode", TEXT),
    ("load_balance_hosts", TEXT),
    ("max_connections", INT4),
    ("current_connections", INT4),
    ("max_client_connections", INT4),
    ("current_client_connections", INT4),
    ("paused", INT4),
    ("disabled", INT4),
];

fn databases(look: &Look<'_>) -> Table {
    let mut rows = vec![console_database(look)];
    for database in look.registry.databases() {
        if let Some(entry) = look.settings.database(&database.name) {
            rows.push(database_row(look, &database, entry));
        }
    }
    rows.sort_by(|one, two| one[0].cmp(&two[0]));
    Table::new(&DATABASES, rows)
}

/// Where a database's servers are, those of a cluster where its primary is. No host while a cluster has none.
fn place(look: &Look<'_>, name: &str, entry: &DatabaseSettings) -> [Cell; 2] {
    let Some(board) = look.registry.board_of(name) else {
        return [entry.host.clone(), int(entry.port)];
    };
    let view = board.view();
    let writer = view.writer.and_then(|id| view.node(id));
    writer.map_or([None, int(entry.port)], |node| {
        [text(&node.place.host), int(node.place.port)]
    })
}

fn database_row(look: &Look<'_>, database: &Database, entry: &DatabaseSettings) -> Vec<Cell> {
    use std::sync::atomic::Ordering::SeqCst;
    let (settings, name) = (&look.settings, &database.name);
    let all = &settings.pooler;
    let [host, port] = place(look, name, entry);
    vec![
        text(name),
        host,
        port,
        text(settings.server_dbname(name)),
        entry.user.clone(),
        int(entry.pool_size.unwrap_or(all.default_pool_size)),
        int(entry.min_pool_size.unwrap_or(all.min_pool_size)),
        int(entry.reserve_pool_size.unwrap_or(all.reserve_pool_size)),
        int(settings.effective_server_lifetime(name).as_secs()),
        entry.pool_mode.map(|mode| mode.as_str().to_owned()),
        settings
            .load_balance(name)
            .map(|way| way.as_str().to_owned()),
        int(settings.effective_max_db_connections(name)),
        int(database.servers.used()),
        int(settings.effective_max_db_client_connections(name)),
        int(database.clients.used()),
        int(i32::from(database.paused.load(SeqCst))),
        int(i32::from(database.disabled.load(SeqCst))),
    ]
}

fn console_database(look: &Look<'_>) -> Vec<Cell> {
    let all = &look.settings.pooler;
    vec![
        text(CONSOLE),
        None,
        int(all.listen_port),
        text(CONSOLE),
        text(CONSOLE),
        int(2),
        int(0),
        int(0),
        int(all.server_lifetime.as_secs()),
        text(PoolMode::Statement.as_str()),
        None,
        int(0),
        int(0),
        int(look.settings.effective_max_db_client_connections(CONSOLE)),
        int(look.registry.console.clients.used()),
        int(0),
        int(0),
    ]
}

/// What only this pooler tells, behind PgBouncer's columns: servers that are being closed keep their seats, and so do those of
/// clients whose session state ties them to one.
const MORE_OF_POOLS: [Column; 3] = [
    ("sv_closing", INT4),
    ("cl_pinned", INT4),
    ("total_pins", INT8),
];

const POOLS: [Column; 17] = [
    ("database", TEXT),
    ("user", TEXT),
    ("cl_active", INT4),
    ("cl_waiting", INT4),
    ("cl_active_cancel_req", INT4),
    ("cl_waiting_cancel_req", INT4),
    ("sv_active", INT4),
    ("sv_active_cancel", INT4),
    ("sv_being_canceled", INT4),
    ("sv_idle", INT4),
    ("sv_used", INT4),
    ("sv_tested", INT4),
    ("sv_login", INT4),
    ("maxwait", INT4),
    ("maxwait_us", INT4),
    ("pool_mode", TEXT),
    ("load_balance_hosts", TEXT),
];

fn pools(look: &Look<'_>) -> Table {
    let mut rows = vec![console_pool(look)];
    for pool in look.pools() {
        let waited = pool
            .headcount
            .oldest
            .map_or(std::time::Duration::ZERO, |since| look.now.since(since));
        rows.push(vec![
            text(&pool.pool.database.name),
            text(&pool.pool.user),
            int(pool.clients),
            int(pool.headcount.waiting),
            int(pool.cancelling),
            // A cancel request is sent at once on a connection of its own: none ever waits for one.
            int(0),
            int(pool.active),
            int(pool.active_cancel),
            int(pool.headcount.parked),
            int(pool.idle),
            int(pool.used),
            int(pool.tested),
            int(pool.headcount.dialing),
            int(waited.as_secs()),
            int(waited.subsec_micros()),
            text(pool.pool.plan.load().rules.mode.as_str()),
            look.settings
                .load_balance(&pool.pool.database.name)
                .map(|way| way.as_str().to_owned()),
            int(pool.closing),
            int(pool.pinned),
            int(pool.pins),
        ]);
    }
    rows.sort_by(|one, two| one[..2].cmp(&two[..2]));
    let mut columns = POOLS.to_vec();
    match look.settings.dialect {
        Dialect::Native => columns.extend(MORE_OF_POOLS),
        Dialect::PgBouncer => rows.iter_mut().for_each(|row| row.truncate(POOLS.len())),
    }
    Table::new(&columns, rows)
}

fn console_pool(look: &Look<'_>) -> Vec<Cell> {
    let mut row = vec![text(CONSOLE), text(CONSOLE), int(look.guests())];
    row.extend((0..12).map(|_| int(0)));
    row.extend([
        text(PoolMode::Statement.as_str()),
        None,
        int(0),
        int(0),
        int(0),
    ]);
    row
}

const USERS: [Column; 8] = [
    ("name", TEXT),
    ("pool_size", TEXT),
    ("reserve_pool_size", TEXT),
    ("pool_mode", TEXT),
    ("max_user_connections", INT4),
    ("current_connections", INT4),
    ("max_user_client_connections", INT4),
    ("current_client_connections", INT4),
];

/// Everybody who is known: listed, or once logged in.
fn user_names(look: &Look<'_>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = look.registry.known_users().into_iter().collect();
    names.extend(look.registry.users.load().keys().cloned());
    names.extend(look.settings.users.keys().cloned());
    names.insert(CONSOLE.to_owned());
    names
}

fn users(look: &Look<'_>) -> Table {
    // PgBouncer prints these two as text: nine places wide, and nothing where nothing is set.
    let padded = |size: Option<usize>| text(size.map_or(String::new(), |size| format!("{size:9}")));
    let settings = &look.settings;
    let rows = user_names(look).into_iter().map(|name| {
        let (own, limits) = (settings.user(&name), look.registry.user(&name));
        vec![
            text(&name),
            padded(own.and_then(|own| own.pool_size)),
            padded(own.and_then(|own| own.reserve_pool_size)),
            own.and_then(|own| own.pool_mode)
                .map(|mode| mode.as_str().to_owned()),
            int(settings.effective_max_user_connections(&name)),
            int(limits.servers.used()),
            int(settings.effective_max_user_client_connections(&name)),
            int(limits.clients.used()),
        ]
    });
    Table::new(&USERS, rows.collect())
}

const MEMORY: [Column; 5] = [
    ("name", TEXT),
    ("size", INT4),
    ("used", INT4),
    ("free", INT4),
    ("memtotal", INT4),
];

/// PgBouncer's caches, as far as there is something like them here; nothing is kept in store, so nothing is free. Sizes are those of
/// the entries alone, without what they point to.
fn memory(look: &Look<'_>) -> Table {
    let (registry, census) = (look.registry, &look.registry.census);
    let row = |name: &str, size: usize, used: usize| {
        vec![
            text(name),
            int(size),
            int(used),
            int(0),
            int(size.saturating_mul(used)),
        ]
    };
    let rows = vec![
        row("user_cache", size_of::<User>(), user_names(look).len()),
        row("credentials_cache", 0, 0),
        row(
            "db_cache",
            size_of::<Database>(),
            registry.databases().len(),
        ),
        row("peer_cache", 0, 0),
        row("peer_pool_cache", 0, 0),
        row("pool_cache", size_of::<Pool>(), registry.pools().len()),
        row("outstanding_request_cache", 0, 0),
        row(
            "server_cache",
            size_of::<ServerCard>(),
            census.servers.len(),
        ),
        row(
            "client_cache",
            size_of::<ClientCard>(),
            census.clients.len(),
        ),
        row("iobuf_cache", 0, 0),
        row("var_list_cache", 0, 0),
        row(
            "server_prepared_statement_cache",
            0,
            registry
                .groups()
                .iter()
                .map(|group| group.dictionary.len())
                .sum(),
        ),
    ];
    Table::new(&MEMORY, rows)
}
