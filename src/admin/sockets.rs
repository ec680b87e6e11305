//! SHOW CLIENTS, SERVERS and SOCKETS: the cards of the census, row by row.
//!
//! Clients that still log in have no card: SHOW SOCKETS alone tells of them, until they wait in the line of their pool. No address of memory is: `ptr` and `link` are the `id`s, in hexadecimal.

use std::collections::HashMap;
use std::sync::Arc;

use crate::admin::gather::{Look, server_word};
use crate::admin::table::{Cell, Column, INT4, TEXT, Table, int, text};
use crate::clock::{self, Moment};
use crate::config::value::Dialect;
use crate::pools::pool::Pool;
use crate::stats::arrival::Arrival;
use crate::stats::census::{ClientCard, ClientState, Replication, ServerCard};

const COLUMNS: [Column; 21] = [
    ("type", TEXT),
    ("user", TEXT),
    ("database", TEXT),
    ("replication", TEXT),
    ("state", TEXT),
    ("addr", TEXT),
    ("port", INT4),
    ("local_addr", TEXT),
    ("local_port", INT4),
    ("connect_time", TEXT),
    ("request_time", TEXT),
    ("wait", INT4),
    ("wait_us", INT4),
    ("close_needed", INT4),
    ("ptr", TEXT),
    ("link", TEXT),
    ("remote_pid", INT4),
    ("tls", TEXT),
    ("application_name", TEXT),
    ("prepared_statements", INT4),
    ("id", INT4),
];

/// The columns that SHOW SOCKETS has beyond those. No connection here owns a buffer, so they are all zero.
const BUFFERS: [Column; 7] = [
    ("recv_pos", INT4),
    ("pkt_pos", INT4),
    ("pkt_remain", INT4),
    ("send_pos", INT4),
    ("send_remain", INT4),
    ("pkt_avail", INT4),
    ("send_avail", INT4),
];

/// Which sockets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those with work under way.
    Active,
}

/// A row, and where it stands: by pool, then by state as PgBouncer lists them, then by age.
type Placed = ((String, String), usize, Vec<Cell>);

fn in_order(mut rows: Vec<Placed>) -> Vec<Vec<Cell>> {
    // Rows come by id, and the sort keeps that.
    rows.sort_by(|one, two| (&one.0, one.1).cmp(&(&two.0, two.1)));
    rows.into_iter().map(|(.., row)| row).collect()
}

/// SHOW CLIENTS.
pub fn clients(look: &Look<'_>) -> Table {
    let place = |card: Arc<ClientCard>| {
        let (rank, word) = client_word(&card);
        (look.pool_of(&card), rank, client(look, &card, word))
    };
    let mut rows: Vec<Placed> = look.clients().into_iter().map(place).collect();
    rows.extend(newcomers_in_line(look, "waiting"));
    Table::new(&COLUMNS, in_order(rows))
}

/// SHOW SERVERS.
pub fn servers(look: &Look<'_>) -> Table {
    let pools = Pools::of(look);
    let place = |card: Arc<ServerCard>| {
        let word = pools.word(look, &card);
        let rank = rank_of(SERVERS, word);
        (pool_of(&card), rank, server(look, &card, word))
    };
    // PgBouncer has no word for those that are being closed.
    let all = match look.settings.dialect {
        Dialect::Native => look.all_servers(),
        Dialect::PgBouncer => look.servers(),
    };
    let rows = all.into_iter().map(place).collect();
    Table::new(&COLUMNS, in_order(rows))
}

/// SHOW SOCKETS and SHOW ACTIVE_SOCKETS: of each pool clients, then servers; last those who are not logged in.
pub fn sockets(look: &Look<'_>, which: Which) -> Table {
    let pools = Pools::of(look);
    let mut placed = Vec::new();
    for card in look.clients() {
        let (is_busy, rank, word) = match card.state() {
            ClientState::Cancelling => continue,
            ClientState::Waiting => (true, 1, "cl_waiting"),
            ClientState::Active => (true, 0, "cl_active"),
            ClientState::Idle | ClientState::Holding => (false, 0, "cl_active"),
        };
        if is_busy || which == Which::All {
            placed.push((look.pool_of(&card), rank, client(look, &card, word)));
        }
    }
    for card in look.servers() {
        let word = pools.word(look, &card);
        let is_busy = matches!(word, "active" | "tested" | "new");
        let word = match word {
            "active_cancel" | "being_canceled" => continue,
            "new" => "sv_login".to_owned(),
            word => format!("sv_{word}"),
        };
        if is_busy || which == Which::All {
            let rank = 2 + rank_of(SERVERS, word.trim_start_matches("sv_"));
            placed.push((pool_of(&card), rank, server(look, &card, &word)));
        }
    }
    placed.extend(newcomers_in_line(look, "cl_waiting"));
    let mut rows = in_order(placed);
    let mut others = look.arrivals();
    others.retain(|arrival| !arrival.is_waiting_for_server());
    rows.extend(others.iter().map(|arrival| newcomer(arrival)));
    rows.iter_mut()
        .for_each(|row| row.extend(BUFFERS.map(|_| int(0))));
    let columns: Vec<_> = COLUMNS.into_iter().chain(BUFFERS).collect();
    Table::new(&columns, rows)
}

/// PgBouncer's word for where a client stands, and that state's place in the list: it is active while it has a server, whether it asks for
/// something or not.
fn client_word(card: &ClientCard) -> (usize, &'static str) {
    match card.state() {
        ClientState::Idle if card.link() == 0 => (0, "idle"),
        ClientState::Idle => (0, "active"),
        ClientState::Active | ClientState::Holding => (0, "active"),
        ClientState::Waiting => (1, "waiting"),
        ClientState::Cancelling => (2, "active_cancel_req"),
    }
}

/// The states of servers, in the order in which they are listed.
const SERVERS: &[&str] = &[
    "active",
    "idle",
    "used",
    "tested",
    "new",
    "active_cancel",
    "being_canceled",
    "closing",
];

fn rank_of(words: &[&str], word: &str) -> usize {
    let found = words.iter().position(|known| *known == word);
    found.unwrap_or(words.len())
}

fn pool_of(card: &ServerCard) -> (String, String) {
    (card.facts.database.clone(), card.facts.user.clone())
}

/// The pools, to tell idle servers from used ones.
struct Pools(HashMap<(String, String), Arc<Pool>>);

impl Pools {
    fn of(look: &Look<'_>) -> Self {
        let pools = look.registry.pools().into_iter();
        Self(
            pools
                .map(|pool| ((pool.database.name.clone(), pool.user.clone()), pool))
                .collect(),
        )
    }

    fn word(&self, look: &Look<'_>, card: &ServerCard) -> &'static str {
        let key = (card.facts.database.clone(), card.facts.user.clone());
        server_word(
            card,
            self.0
                .get(&key)
                .is_some_and(|pool| look.is_used(pool, card)),
        )
    }
}

/// The clients that wait for the first server of their pool: in the line of the pool, as `state`.
fn newcomers_in_line(look: &Look<'_>, state: &str) -> Vec<Placed> {
    let place = |(pool, since, arrival): ((String, String), Moment, Arc<Arrival>)| {
        let waited = look.now.since(since);
        let mut row = newcomer(&arrival);
        row[4] = text(state);
        row[10] = text(clock::local_time(look.wall_at(since)));
        row[11] = int(waited.as_secs());
        row[12] = int(waited.subsec_micros());
        (pool, 1, row)
    };
    look.waiting_arrivals().into_iter().map(place).collect()
}

/// A client that is not logged in.
fn newcomer(arrival: &Arrival) -> Vec<Cell> {
    let (name, facts) = (arrival.name(), &arrival.facts);
    let (user, database) = name.map_or(("(nouser)".into(), "(nodb)".into()), |name| {
        (name.user, name.database)
    });
    let connected = clock::local_time(facts.connected);
    vec![
        text("C"),
        text(user),
        text(database),
        text(Replication::None.as_str()),
        text("cl_login"),
        text(&facts.address),
        int(facts.port),
        text(&facts.local_address),
        int(facts.local_port),
        text(&connected),
        text(&connected),
        int(0),
        int(0),
        int(0),
        pointer(arrival.id),
        pointer(0),
        int(facts.remote_pid),
        text(""),
        text(""),
        int(0),
        int(arrival.id),
    ]
}

fn pointer(id: u64) -> Cell {
    text(if id == 0 {
        String::new()
    } else {
        format!("{id:#x}")
    })
}

fn client(look: &Look<'_>, card: &ClientCard, state: &str) -> Vec<Cell> {
    let facts = &card.facts;
    let waited = match card.state() {
        ClientState::Idle | ClientState::Holding | ClientState::Cancelling => {
            std::time::Duration::ZERO
        }
        ClientState::Waiting => look.now.since(card.since()),
        ClientState::Active => look.now.since(card.query_start()),
    };
    vec![
        text("C"),
        text(&facts.user),
        text(&facts.database),
        text(facts.replication.as_str()),
        text(state),
        text(&facts.address),
        int(facts.port),
        text(&facts.local_address),
        int(facts.local_port),
        text(clock::local_time(facts.connected)),
        text(clock::local_time(look.wall_at(card.query_start()))),
        int(waited.as_secs()),
        int(waited.subsec_micros()),
        int(0),
        pointer(card.id),
        pointer(card.link()),
        int(facts.remote_pid),
        text(&facts.tls),
        text(card.application_name()),
        int(card.prepared()),
        int(card.id),
    ]
}

fn server(look: &Look<'_>, card: &ServerCard, state: &str) -> Vec<Cell> {
    let facts = &card.facts;
    vec![
        text("S"),
        text(&facts.user),
        text(&facts.database),
        text(facts.replication.as_str()),
        text(state),
        text(&facts.address),
        int(facts.port),
        text(&facts.local_address),
        int(facts.local_port),
        text(clock::local_time(facts.connected)),
        text(clock::local_time(look.wall_at(card.since()))),
        int(0),
        int(0),
        int(i32::from(card.close_needed())),
        pointer(card.id),
        pointer(card.lent_to()),
        int(facts.pid),
        text(&facts.tls),
        text(card.application_name()),
        int(card.prepared()),
        int(card.id),
    ]
}
