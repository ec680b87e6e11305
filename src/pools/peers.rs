//! Other poolers behind the same address: each gets the cancel requests that were meant for it.
//!
//! With SO_REUSEPORT, or behind a balancer, a cancel request may come to another process than the one whose client it is
//! for. The client's key says whose it is. A pooler opens at most `pool_size` connections to each of its peers; requests
//! beyond that wait in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::config::settings::Settings;
use crate::config::value::{LoadBalance, TlsMode};
use crate::error::Error;
use crate::pools::limits::Quota;
use crate::pools::plan::{connect_limit, socket_options};
use crate::pools::registry::Registry;
use crate::servers::dial;
use crate::servers::target::{Host, Target};

/// The poolers that cancel requests were passed on to.
#[derive(Debug, Default)]
pub struct Peers(DashMap<u16, Arc<Peer>>);

/// What is under way to one pooler.
#[derive(Debug, Default)]
pub struct Peer {
    seats: Quota,
    freed: Notify,
    waiting: AtomicUsize,
    connecting: AtomicUsize,
}

/// A row of SHOW PEER_POOLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShownPeer {
    /// Requests that are being passed on.
    pub active: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Connections that are being opened.
    pub connecting: usize,
}

impl Peers {
    fn peer(&self, id: u16) -> Arc<Peer> {
        Arc::clone(&self.0.entry(id).or_default())
    }

    /// What is under way to pooler `id`.
    pub fn shown(&self, id: u16) -> ShownPeer {
        let peer = self.0.get(&id).map(|peer| Arc::clone(&peer));
        peer.map_or(ShownPeer::default(), |peer| ShownPeer {
            active: peer.seats.used(),
            waiting: peer.waiting.load(SeqCst),
            connecting: peer.connecting.load(SeqCst),
        })
    }

    /// Forgets poolers that are listed no more and with which nothing is under way.
    pub fn keep(&self, settings: &Settings) {
        self.0.retain(|id, peer| {
            let is_busy = peer.seats.used() > 0 || peer.waiting.load(SeqCst) > 0;
            is_busy || settings.peers().contains_key(id)
        });
    }
}

/// One more of something, as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A place among the connections to a pooler.
struct Seat<'a>(&'a Peer);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.seats.give_back();
        self.0.freed.notify_one();
    }
}

async fn sit_down(peer: &Peer, most: usize) -> Seat<'_> {
    let _waits = Count::of(&peer.waiting);
    loop {
        let mut freed = std::pin::pin!(peer.freed.notified());
        freed.as_mut().enable();
        if peer.seats.take(most) {
            return Seat(peer);
        }
        freed.await;
    }
}

/// Passes a cancel request with `key` on to pooler `id`; returns when that has done what it can. An unknown pooler gets
/// nothing.
///
/// # Errors
/// What keeps it from the other pooler.
pub async fn pass_on(registry: &Registry, id: u16, key: &[u8]) -> Result<(), Error> {
    let settings = registry.settings.load_full();
    let Some(entry) = settings.peers().remove(&id) else {
        tracing::debug!(peer = id, "cancel request for a pooler that is not listed");
        return Ok(());
    };
    let peer = registry.peers.peer(id);
    let most = entry.pool_size.unwrap_or(settings.pooler.default_pool_size);
    let _seat = sit_down(&peer, most).await;
    let host = Host {
        name: entry.host.clone().unwrap_or_default(),
        port: entry.port,
    };
    let target = Target {
        hosts: vec![host.clone()],
        balance: LoadBalance::Disable,
        dbname: String::new(),
        user: String::new(),
        password: None,
        tls: TlsMode::Prefer,
        cluster: None,
        startup: Vec::new(),
        connect_query: None,
        timeout: connect_limit(&settings),
        socket: socket_options(&settings),
    };
    let connecting = Count::of(&peer.connecting);
    // In TLS where the other can, so that who only listens does not see the key; but one that demands certificates of its
    // clients, as this one does, would demand one of a pooler, too.
    let demands_certificates = settings.pooler.client_tls_sslmode.is_verifying();
    let tls = registry.peer_tls().filter(|_| !demands_certificates);
    let (names, census) = (&registry.names, &registry.census);
    let stream = dial::connect(&target, &host, tls, names, census);
    let stream = tokio::time::timeout(target.timeout, stream).await;
    let stream = stream.unwrap_or_else(|_| Err(dial::too_late(&host, target.timeout)))?;
    drop(connecting);
    dial::ask_to_cancel(stream, &host, key).await
}
