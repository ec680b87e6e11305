//! Cancel requests: from a client's key to the server that works for it, and to no other.
//!
//! A server with a cancel request under way is not lent out: see `stats/census.rs` for why that cannot be missed. The
//! request goes over a connection of its own, through TLS where the server's connections do, and counts as delivered when PostgreSQL closes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::clients::gate::is_console;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::servers::dial;
use crate::stats::census::{ClientCard, ServerCard};

/// Passes on the cancel request of the client with `key`. Returns when PostgreSQL has got it, or there is nothing to do.
pub async fn deliver(registry: &Arc<Registry>, key: &[u8]) {
    let Some(client) = registry.census.keys.get(key).map(|card| Arc::clone(&card)) else {
        tracing::debug!("cancel request with an unknown key");
        return;
    };
    if is_console(&client.facts.database) {
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
        server,
        pool,
        client,
    };
    let wait = registry.settings.load().pooler.cancel_wait_timeout;
    let wait = if wait.is_zero() {
        Duration::from_secs(3600)
    } else {
        wait
    };
    let socket = delivery.pool.plan.load().target.socket;
    let tls = registry.server_tls.load_full();
    let (facts, key) = (&delivery.server.facts, &delivery.server.key);
    match timeout(wait, dial::send_cancel(facts, key, &socket, tls)).await {
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

/// A cancel request under way; when it ends, however it ends, the server may be lent again.
struct Delivery {
    server: Arc<ServerCard>,
    pool: Arc<Pool>,
    client: Arc<ClientCard>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.server.end_cancel() {
            self.pool.unpark();
            self.client.wake();
        }
    }
}
