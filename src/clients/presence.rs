//! A client's entries in the census: they begin when it is logged in and end with it.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::gate::is_console;
use crate::clients::wishes;
use crate::clock;
use crate::config::settings::Settings;
use crate::config::value::Dialect;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::protocol::peering;
use crate::protocol::startup::Startup;
use crate::stats::arrival::Arrival;
use crate::stats::census::{ClientCard, ClientFacts, ClientLimits, Order};
use crate::stats::counters::micros;
use crate::telemetry::events::{self, Who, Wishes};

/// A client's entries in the census; they end with it.
#[derive(Debug)]
pub struct Presence {
    registry: Arc<Registry>,
    /// The card.
    pub card: Arc<ClientCard>,
    /// With which the client may ask to cancel.
    pub key: Vec<u8>,
    private: Option<PrivatePool>,
}

/// Whether a client ends without a word, as PgBouncer ends everybody when it exits at once.
pub fn is_cut_off(card: &ClientCard, dialect: Dialect) -> bool {
    dialect == Dialect::PgBouncer && card.order() == Order::Shutdown
}

impl Presence {
    /// Enters the client that came as `arrival` and is logged in now.
    pub fn register(
        registry: &Arc<Registry>,
        arrival: &Arrival,
        stream: &Stream,
        startup: &Startup,
    ) -> Self {
        let facts = ClientFacts {
            database: startup.database.clone(),
            user: startup.user.clone(),
            tls: stream.tls_description().unwrap_or_default(),
            replication: wishes::replication_kind(startup).unwrap_or_default(),
            ..arrival.facts.clone()
        };
        let id = arrival.id;
        // A reload may have come while the client proved who it is.
        let current = registry.settings.load();
        if current.pooler.log_connections {
            events::client_logged_in(Who::client(id, &facts), &facts.tls);
        }
        let limits = limits(&current, &facts.database, &facts.user);
        let card = Arc::new(ClientCard::new(id, facts, limits, clock::now()));
        let mut key = clock::entropy::<36>().to_vec();
        key[0] &= 0x7f;
        let is_long = startup.agreed_minor(current.dialect) >= 2;
        key.truncate(if is_long { 36 } else { 8 });
        // Checked: at most 65535.
        peering::mark(&mut key, u16::try_from(current.pooler.peer_id).unwrap_or(0));
        Self::new(registry, card, key)
    }

    /// Enters a client that logged in to another process, which gave it `key`.
    pub fn take_over(registry: &Arc<Registry>, facts: ClientFacts, key: Vec<u8>) -> Self {
        let current = registry.settings.load();
        let limits = limits(&current, &facts.database, &facts.user);
        let id = registry.census.next_id();
        let card = Arc::new(ClientCard::new(id, facts, limits, clock::now()));
        Self::new(registry, card, key)
    }

    fn new(registry: &Arc<Registry>, card: Arc<ClientCard>, key: Vec<u8>) -> Self {
        registry.census.clients.insert(card.id, Arc::clone(&card));
        registry.census.keys.insert(key.clone(), Arc::clone(&card));
        Self {
            registry: Arc::clone(registry),
            card,
            key,
            private: None,
        }
    }

    /// The same, of a client with a pool of its own.
    ///
    /// # Errors
    /// [`Error::ServersReplaced`] when that pool has been ended meanwhile.
    pub fn with(mut self, private: Option<PrivatePool>) -> Result<Self, Error> {
        let guest = private
            .as_ref()
            .and_then(|private| private.0.guest.as_ref());
        if guest.is_some_and(|guest| !guest.belongs_to(self.card.id)) {
            return Err(Error::ServersReplaced);
        }
        self.private = private;
        Ok(self)
    }

    /// Notes in the log how the session ended.
    pub fn ended(&self, registry: &Registry, result: &Result<(), Error>) {
        tell_end(registry, &self.card, result);
    }
}

/// Notes in the log how the session of `card` ended.
pub fn tell_end(registry: &Registry, card: &ClientCard, result: &Result<(), Error>) {
    let wishes = log_wishes(&registry.settings.load());
    let age = age(&card.facts);
    events::client_ended(Who::client(card.id, &card.facts), result, age, wishes);
}

/// What is logged of clients.
pub fn log_wishes(settings: &Settings) -> Wishes {
    Wishes {
        disconnections: settings.pooler.log_disconnections,
        errors: settings.pooler.log_pooler_errors,
    }
}

/// How long ago a client connected.
pub fn age(facts: &ClientFacts) -> Duration {
    clock::now().since(facts.came)
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.registry.census.clients.remove(&self.card.id);
        self.registry.census.keys.remove(&self.key);
    }
}

/// A pool that one client alone uses; it closes when the client leaves.
#[derive(Debug)]
pub struct PrivatePool(pub Arc<Pool>);

impl Drop for PrivatePool {
    fn drop(&mut self) {
        self.0.pause(true);
    }
}

/// The time limits of a client of `database` that is `user`; a guest of the console has none.
pub fn limits(settings: &Settings, database: &str, user: &str) -> ClientLimits {
    if is_console(database, settings.dialect) {
        return ClientLimits::default();
    }
    // As in PgBouncer: what a server is used for is limited by whom it knows, what a client does without one by who logged in.
    let server_user = settings.server_user(database, user);
    ClientLimits {
        pin_timeout: micros(settings.pooler.pin_timeout),
        client_idle_timeout: micros(settings.effective_client_idle_timeout(user)),
        query_timeout: micros(settings.effective_query_timeout(server_user)),
        query_wait_timeout: micros(settings.effective_query_wait_timeout(database, user)),
        query_wait_notify: micros(settings.pooler.query_wait_notify),
        idle_transaction_timeout: micros(settings.effective_idle_transaction_timeout(server_user)),
        transaction_timeout: micros(settings.effective_transaction_timeout(server_user)),
    }
}
