//! SHOW CLIENTS, SERVERS and SOCKETS: the cards of the census, row by row.
//!
//! Clients that still log in have no card and are not shown. No address of memory is: `ptr` and `link` are the `id`s, in hexadecimal.

use std::collections::HashMap;
use std::sync::Arc;

use crate::admin::gather::{Look, server_word};
use crate::admin::table::{Cell, Column, INT4, TEXT, Table, int, text, timestamp};
use crate::pools::pool::Pool;
use crate::stats::census::{ClientCard, ClientState, ServerCard, ServerState};

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

/// SHOW CLIENTS.
pub fn clients(look: &Look<'_>) -> Table {
    let rows = look
        .clients()
        .iter()
        .map(|card| client(look, card, client_word(card)))
        .collect();
    Table::new(&COLUMNS, rows)
}

/// SHOW SERVERS.
pub fn servers(look: &Look<'_>) -> Table {
    let pools = Pools::of(look);
    let rows = look
        .servers()
        .iter()
        .map(|card| server(look, card, pools.word(look, card)))
        .collect();
    Table::new(&COLUMNS, rows)
}

/// SHOW SOCKETS and SHOW ACTIVE_SOCKETS: clients, then servers.
pub fn sockets(look: &Look<'_>, which: Which) -> Table {
    let pools = Pools::of(look);
    let mut rows = Vec::new();
    for card in look.clients() {
        let state = card.state();
        if which == Which::All || matches!(state, ClientState::Active | ClientState::Waiting) {
            rows.push(client(
                look,
                &card,
                if state == ClientState::Waiting {
                    "cl_waiting"
                } else {
                    "cl_active"
                },
            ));
        }
    }
    for card in look.servers() {
        if which == Which::All || matches!(card.state(), ServerState::Active | ServerState::Tested)
        {
            let word = pools.word(look, &card);
            let word = if word == "new" {
                "sv_login".to_owned()
            } else {
                format!("sv_{word}")
            };
            rows.push(server(look, &card, &word));
        }
    }
    rows.iter_mut()
        .for_each(|row| row.extend(BUFFERS.map(|_| int(0))));
    let columns: Vec<_> = COLUMNS.into_iter().chain(BUFFERS).collect();
    Table::new(&columns, rows)
}

/// PgBouncer's word for where a client stands: it is active only while it has a server.
fn client_word(card: &ClientCard) -> &'static str {
    match card.state() {
        ClientState::Idle => "idle",
        ClientState::Waiting => "waiting",
        ClientState::Active | ClientState::Holding => "active",
    }
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
        ClientState::Idle | ClientState::Holding => std::time::Duration::ZERO,
        ClientState::Waiting => look.now.since(card.since()),
        ClientState::Active => look.now.since(card.query_start()),
    };
    vec![
        text("C"),
        text(&facts.user),
        text(&facts.database),
        text("none"),
        text(state),
        text(&facts.address),
        int(facts.port),
        text(&facts.local_address),
        int(facts.local_port),
        text(timestamp(facts.connected)),
        text(timestamp(look.wall_at(card.query_start()))),
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
        text("none"),
        text(state),
        text(&facts.address),
        int(facts.port),
        text(&facts.local_address),
        int(facts.local_port),
        text(timestamp(facts.connected)),
        text(timestamp(look.wall_at(card.since()))),
        int(0),
        int(0),
        int(i32::from(card.close_needed())),
        pointer(card.id),
        pointer(card.lent_to()),
        int(facts.pid),
        text(&facts.tls),
        text(""),
        int(card.prepared()),
        int(card.id),
    ]
}
