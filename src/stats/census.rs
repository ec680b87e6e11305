//! Every client and every server that is alive, each with a card.
//!
//! A card is written by the task it belongs to (plain relaxed stores, no lock on the path of a query) and read by the
//! console and the janitor. It is also the way to reach the task: whoever wants a client to end leaves an [`Order`] on its card and wakes it.
//!
//! **Cancel.** A cancel request may reach a server only while it runs a query of the client that asked. Whom a server works for and
//! how many cancel requests are under way to it stand in one atomic word, so a canceller either finds the query running and
//! announces itself in the same step, or finds nothing to cancel. While one is under way the server is given no other
//! query, neither another client's nor the next one of the same client.
//!
//! Here are all cards together. What stands on them is in `census/client.rs`, `census/server.rs`, `census/order.rs` and
//! `census/replication.rs`.

mod client;
mod order;
mod replication;
mod server;
mod shown;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;

pub use self::client::{ClientCard, ClientFacts, ClientLimits, ClientState};
pub use self::order::Order;
pub use self::replication::Replication;
pub use self::server::{ServerCard, ServerFacts, ServerState};
use crate::stats::arrival::Arrival;

/// All who live.
#[derive(Debug, Default)]
pub struct Census {
    /// The clients that are logged in, by id.
    pub clients: DashMap<u64, Arc<ClientCard>>,
    /// The servers, by id.
    pub servers: DashMap<u64, Arc<ServerCard>>,
    /// Those who have connected and are not logged in, by id.
    pub arrivals: DashMap<u64, Arc<Arrival>>,
    /// Cancel key to client.
    pub keys: DashMap<Vec<u8>, Arc<ClientCard>>,
    /// Client sockets of any kind, those that still log in included.
    pub sockets: AtomicUsize,
    last_id: AtomicU64,
}

impl Census {
    /// Marks for closing every server of the host called `host` that is at none of `addresses`: it has moved.
    pub fn only_at(&self, host: &str, addresses: &[IpAddr]) {
        for card in self.elsewhere(host, addresses) {
            if !card.close_needed() {
                tracing::info!(
                    server = card.id,
                    host,
                    address = card.facts.address,
                    "the host is there no more, the server is closed when it is free"
                );
            }
            card.need_close();
        }
    }

    /// The same where the host is a node of a cluster: nothing counts any more that these servers say to clients that follow the cluster.
    pub fn fence_elsewhere(&self, host: &str, addresses: &[IpAddr]) {
        self.only_at(host, addresses);
        for card in self.elsewhere(host, addresses) {
            self.fence(&card);
        }
    }

    /// The same for the servers of the node at `host` and `port` whose number is `last` at most: it was started again since, and does not know
    /// them. Where it went down without a word, theirs is a silence that would last.
    pub fn fence_older(&self, host: &str, port: u16, last: u64) {
        let all = self.servers.iter();
        let is_older = |card: &ServerCard| {
            card.id <= last && card.facts.host == host && card.facts.port == port
        };
        let older: Vec<_> = all
            .filter(|card| is_older(card))
            .map(|card| Arc::clone(&card))
            .collect();
        for card in older {
            card.need_close();
            self.fence(&card);
        }
    }

    /// Nothing that the server with `card` says counts any more; the client that holds it hears of that at once.
    pub fn fence(&self, card: &ServerCard) {
        card.fence();
        if let Some(client) = self.client(card.lent_to()) {
            client.wake();
        }
    }

    fn elsewhere(&self, host: &str, addresses: &[IpAddr]) -> Vec<Arc<ServerCard>> {
        let stays = |card: &ServerCard| match card.facts.address.parse() {
            Ok(address) => addresses.contains(&address),
            Err(_) => true,
        };
        let all = self.servers.iter();
        let gone = all.filter(|card| card.facts.host == host && !stays(card));
        gone.map(|card| Arc::clone(&card)).collect()
    }

    /// The client with this id, while it lives.
    pub fn client(&self, id: u64) -> Option<Arc<ClientCard>> {
        self.clients.get(&id).map(|card| Arc::clone(&card))
    }

    /// The last id that was given out.
    pub fn last_id(&self) -> u64 {
        self.last_id.load(Relaxed)
    }

    /// The next id; clients and servers share one counter.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Census, ServerCard, ServerFacts};
    use crate::clock::Moment;
    use std::sync::Arc;

    #[test]
    fn servers_that_are_where_their_host_is_no_more_are_fenced_and_the_others_stay() {
        let census = Census::default();
        let places = [
            ("db1", "10.0.0.1"),
            ("db1", "10.0.0.2"),
            ("db2", "10.0.0.1"),
            ("db1", "unix"),
        ];
        for (host, address) in places {
            let (host, address) = (host.to_owned(), address.to_owned());
            let facts = ServerFacts {
                host,
                address,
                ..ServerFacts::default()
            };
            let card = ServerCard::new(census.next_id(), facts, vec![], Moment::from_micros(0));
            census.servers.insert(card.id, Arc::new(card));
        }
        census.fence_elsewhere("db1", &["10.0.0.2".parse().unwrap()]);
        let is_left = |id| {
            let card = census.servers.get(&id).unwrap();
            (card.is_fenced(), card.close_needed())
        };
        assert_eq!(is_left(1), (true, true));
        assert!(
            [2, 3, 4]
                .into_iter()
                .all(|id| is_left(id) == (false, false))
        );
    }
}
