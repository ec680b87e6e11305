//! Cancel requests: from a client's key to the server that works for it, and to no other.
//!
//! A server with a cancel request under way is not lent out: see `stats/census.rs` for why that cannot be missed. The
//! request goes over a connection of its own, through TLS where the server's connections do, and counts as delivered when PostgreSQL closes it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::clients::gate::is_console;
use crate::clock;
use crate::config::settings::Settings;
use crate::error::Error;
use crate::pools::peers;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::protocol::peering;
use crate::servers::dial;
use crate::stats::arrival::Arrival;
use crate::stats::census::{
    ClientCard, ClientFacts, ClientLimits, ClientState, Order, ServerCard, ServerFacts, ServerState,
};

/// Passes on the cancel request of the client with `key`. Returns when PostgreSQL has got it, or there is nothing to do.
pub async fn deliver(registry: &Arc<Registry>, key: &[u8], by: &Arrival) {
    if deliver_here(registry, key, by).await {
        return;
    }
    if let Some(elder) = registry.elder.load_full() {
        let wait = limit(&registry.settings.load());
        let was_there = timeout(wait, elder.cancels(key)).await.unwrap_or(true);
        // While it was asked the client may have come over.
        if was_there || deliver_here(registry, key, by).await {
            return;
        }
    }
    pass_on(registry, key).await;
}

/// The same where the client is one of this process; false where it is not.
pub async fn deliver_here(registry: &Arc<Registry>, key: &[u8], by: &Arrival) -> bool {
    let Some(client) = client_with(registry, key) else {
        return false;
    };
    cancel(registry, client, by).await;
    true
}

async fn cancel(registry: &Arc<Registry>, client: Arc<ClientCard>, by: &Arrival) {
    if is_console(&client.facts.database, registry.settings.load().dialect) {
        return client.ask_cancel();
    }
    let Some(server) = registry
        .census
        .servers
        .get(&client.link())
        .map(|card| Arc::clone(&card))
    else {
        return;
    };
    let Some(pool) = registry.pool_of(&server) else {
        return;
    };
    if !server.begin_cancel(client.id) {
        return;
    }
    let delivery = Delivery {
        request: request(registry, &client, by),
        carrier: carrier(registry, &server),
        registry,
        server,
        pool,
        client,
    };
    let wait = limit(&registry.settings.load());
    let target = Arc::clone(&delivery.pool.plan.load().target);
    let (socket, tls) = (target.socket, registry.server_tls.load().of(&target));
    let (facts, key) = (&delivery.server.facts, &delivery.server.key);
    let sending = async {
        tokio::select! {
            sent = dial::send_cancel(facts, key, &socket, tls) => sent,
            () = delivery.killed() => Err(Error::Killed),
        }
    };
    match timeout(wait, sending).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, server = delivery.server.id, "cancel request could not be delivered")
        }
        Err(_) => tracing::warn!(
            server = delivery.server.id,
            "cancel request took longer than cancel_wait_timeout"
        ),
    }
}

/// The card of a cancel request that came from `by`; as PgBouncer does, it is shown in the pool that it is meant for.
fn request(registry: &Registry, client: &ClientCard, by: &Arrival) -> Arc<ClientCard> {
    let facts = ClientFacts {
        database: client.facts.database.clone(),
        user: client.facts.user.clone(),
        ..by.facts.clone()
    };
    let now = clock::now();
    let card = Arc::new(ClientCard::new(by.id, facts, ClientLimits::default(), now));
    card.enter(ClientState::Cancelling, now);
    registry.census.clients.insert(card.id, Arc::clone(&card));
    card
}

/// The card of the connection that carries it.
fn carrier(registry: &Registry, server: &ServerCard) -> Arc<ServerCard> {
    let facts = ServerFacts {
        database: server.facts.database.clone(),
        user: server.facts.user.clone(),
        pool: server.facts.pool,
        address: server.facts.address.clone(),
        port: server.facts.port,
        connected: clock::wall_seconds(),
        ..ServerFacts::default()
    };
    let (census, now) = (&registry.census, clock::now());
    let card = Arc::new(ServerCard::new(census.next_id(), facts, Vec::new(), now));
    card.enter(ServerState::ActiveCancel, now);
    census.servers.insert(card.id, Arc::clone(&card));
    card
}

/// The client that was given `key`. A key that another pooler passed on counts down; it is then as it was given.
fn client_with(registry: &Registry, key: &[u8]) -> Option<Arc<ClientCard>> {
    let find = |key: &[u8]| registry.census.keys.get(key).map(|card| Arc::clone(&card));
    let is_peering = registry.settings.load().pooler.peer_id > 0;
    find(key).or_else(|| find(&peering::as_given(key)).filter(|_| is_peering))
}

/// Passes a request that is for nobody here on to the pooler that gave its key.
async fn pass_on(registry: &Arc<Registry>, key: &[u8]) {
    let settings = registry.settings.load_full();
    let own = settings.pooler.peer_id;
    let other = peering::peer_of(key).filter(|peer| own > 0 && u32::from(*peer) != own);
    let (Some(peer), Some(key)) = (other, peering::passed_on(key)) else {
        tracing::debug!("cancel request with an unknown key");
        return;
    };
    let wait = limit(&settings);
    match timeout(wait, peers::pass_on(registry, peer, &key)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, peer, "cancel request could not be passed on");
        }
        Err(_) => tracing::warn!(peer, "cancel request took longer than cancel_wait_timeout"),
    }
}

/// How long a cancel request may take.
fn limit(settings: &Settings) -> Duration {
    match settings.pooler.cancel_wait_timeout {
        Duration::ZERO => Duration::from_secs(3600),
        wait => wait,
    }
}

/// A cancel request under way; when it ends, however it ends, the server may be lent again.
struct Delivery<'a> {
    registry: &'a Registry,
    request: Arc<ClientCard>,
    carrier: Arc<ServerCard>,
    server: Arc<ServerCard>,
    pool: Arc<Pool>,
    client: Arc<ClientCard>,
}

impl Delivery<'_> {
    /// Comes back when somebody ends the request.
    async fn killed(&self) {
        poll_fn(|cx| {
            self.request.wake_by(cx.waker());
            match self.request.order() {
                // A process that drains delivers it first.
                Order::None | Order::MoveOn | Order::FastClose | Order::Drain => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let census = &self.registry.census;
        census.clients.remove(&self.request.id);
        census.servers.remove(&self.carrier.id);
        if self.server.end_cancel() {
            self.pool.unpark();
            self.client.wake();
        }
    }
}
