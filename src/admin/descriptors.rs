//! SHOW FDS: every plain socket and what it is there for.
//!
//! The columns are PgBouncer's, where they serve a takeover. Here that goes another way (`process/handover.rs`), because SHOW FDS says too
//! little of a client to go on with it; so the rows come without the descriptors themselves, and what only a takeover would
//! want to know (settings, passwords, keys) is NULL.

use std::collections::HashMap;
use std::sync::Arc;

use crate::admin::gather::Look;
use crate::admin::table::{BYTEA, Cell, Column, INT4, INT8, TEXT, Table, int, text};
use crate::clients::gate::is_console;
use crate::stats::census::{ClientCard, ClientState, ServerCard};

const COLUMNS: [Column; 15] = [
    ("fd", INT4),
    ("task", TEXT),
    ("user", TEXT),
    ("database", TEXT),
    ("addr", TEXT),
    ("port", INT4),
    ("cancel", INT8),
    ("link", INT4),
    ("client_encoding", TEXT),
    ("std_strings", TEXT),
    ("datestyle", TEXT),
    ("timezone", TEXT),
    ("password", TEXT),
    ("scram_client_key", BYTEA),
    ("scram_server_key", BYTEA),
];

/// A socket.
struct Shown<'a> {
    descriptor: i32,
    task: &'a str,
    user: Option<&'a str>,
    database: Option<&'a str>,
    address: &'a str,
    port: u16,
    key: &'a [u8],
    link: i32,
}

impl Shown<'_> {
    fn row(&self) -> Vec<Cell> {
        let cancel = self.key.get(..8).and_then(|key| key.try_into().ok());
        let mut row = vec![
            int(self.descriptor),
            text(self.task),
            self.user.map(str::to_owned),
            self.database.map(str::to_owned),
            text(self.address),
            int(self.port),
            text(cancel.map_or(0, i64::from_be_bytes).to_string()),
            int(self.link),
        ];
        row.resize(COLUMNS.len(), None);
        row
    }
}

/// SHOW FDS: listening sockets, clients on their way in, then of each pool clients and servers. Sockets under TLS are left out, as is the console.
pub fn table(look: &Look<'_>) -> Table {
    let doors = look.registry.doors.load();
    let mut rows: Vec<_> = doors
        .iter()
        .map(|door| {
            Shown {
                descriptor: door.descriptor,
                task: "pooler",
                user: None,
                database: None,
                address: &door.address,
                port: door.port,
                key: &[],
                link: 0,
            }
            .row()
        })
        .collect();
    rows.extend(look.arrivals().iter().map(|arrival| {
        let name = arrival.name();
        Shown {
            descriptor: arrival.facts.descriptor,
            task: "client",
            user: name.as_ref().map(|name| name.user.as_str()),
            database: name.as_ref().map(|name| name.database.as_str()),
            address: &arrival.facts.address,
            port: arrival.facts.port,
            key: &[],
            link: 0,
        }
        .row()
    }));
    let mut placed = clients(look);
    placed.extend(servers(look));
    placed.sort_by(|one, two| one.0.cmp(&two.0));
    rows.extend(placed.into_iter().map(|(_, row)| row));
    Table::new(&COLUMNS, rows)
}

/// A row and the pool that it belongs to.
type Placed = ((String, String), Vec<Cell>);

fn clients(look: &Look<'_>) -> Vec<Placed> {
    let census = &look.registry.census;
    let keys: HashMap<_, _> = census
        .keys
        .iter()
        .map(|entry| (entry.value().id, entry.key().clone()))
        .collect();
    let servers: HashMap<_, _> = look
        .servers()
        .into_iter()
        .map(|card| (card.id, card.facts.descriptor))
        .collect();
    let dialect = look.settings.dialect;
    let mut all = look.clients();
    all.retain(|card| {
        let is_plain = card.facts.tls.is_empty() && card.state() != ClientState::Cancelling;
        is_plain && !is_console(&card.facts.database, dialect)
    });
    let place = |card: &Arc<ClientCard>| {
        let facts = &card.facts;
        let shown = Shown {
            descriptor: facts.descriptor,
            task: "client",
            user: Some(&facts.user),
            database: Some(&facts.database),
            address: &facts.address,
            port: facts.port,
            key: keys.get(&card.id).map_or(&[], Vec::as_slice),
            link: servers.get(&card.link()).copied().unwrap_or_default(),
        };
        (look.pool_of(card), shown.row())
    };
    all.iter().map(place).collect()
}

fn servers(look: &Look<'_>) -> Vec<Placed> {
    let of_clients: HashMap<_, _> = look
        .clients()
        .into_iter()
        .map(|card| (card.id, card.facts.descriptor))
        .collect();
    let mut all = look.servers();
    all.retain(|card| card.facts.tls.is_empty());
    let place = |card: &Arc<ServerCard>| {
        let facts = &card.facts;
        let shown = Shown {
            descriptor: facts.descriptor,
            task: "server",
            user: Some(&facts.user),
            database: Some(&facts.database),
            address: &facts.address,
            port: facts.port,
            key: &card.key,
            link: of_clients.get(&card.lent_to()).copied().unwrap_or_default(),
        };
        let pool = (facts.database.clone(), facts.user.clone());
        (pool, shown.row())
    };
    all.iter().map(place).collect()
}
