//! The pooler's own connections, for `auth_query`: few, kept by deadpool, never used by a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use deadpool::managed::{Manager, Metrics, Object, PoolError, RecycleError, RecycleResult};

use crate::clock;
use crate::config::value::Dialect;
use crate::error::Error;
use crate::pools::registry::Registry;
use crate::servers::dial;
use crate::servers::login;
use crate::servers::proof::Derived;
use crate::servers::server::Server;
use crate::servers::target::Target;
use crate::telemetry::events::{self, Who};
use crate::telemetry::log;

/// How many connections of the pooler's own one database may have.
pub const OWN_CONNECTIONS: usize = 4;

/// Opens the connections that `auth_query` runs on.
#[derive(Debug)]
pub struct Opener {
    registry: Arc<Registry>,
    database: String,
    target: Arc<Target>,
    turn: AtomicUsize,
}

impl Manager for Opener {
    type Type = Box<Server>;
    type Error = Error;

    async fn create(&self) -> Result<Self::Type, Self::Error> {
        let host = self.target.host(self.turn.fetch_add(1, Relaxed));
        let (id, begun) = (self.registry.own_census.next_id(), clock::now());
        let login = login::Login {
            target: &self.target,
            host,
            names: &self.registry.names,
            tls: self.registry.server_tls.load().of(&self.target),
            keys: None,
            derived: &Derived::default(),
            database: &self.database,
            id,
            census: &self.registry.own_census,
            interner: &self.registry.interner,
            is_logged: self.registry.settings.load().pooler.log_connections,
            generation: 0,
            pool: 0,
            watch: None,
        };
        let opened =
            tokio::time::timeout(self.target.timeout, Box::pin(login::log_in(login))).await;
        let opened = opened.unwrap_or_else(|_| Err(dial::too_late(host, self.target.timeout)));
        if let Err(error) = &opened
            && log::is_as_pgbouncer()
        {
            let address = host.shown();
            let who = Who::dialled(
                id,
                (&self.database, &self.target.user),
                (&address, host.port),
            );
            let is_logged = self.registry.settings.load().pooler.log_disconnections;
            events::server_failed(who, error, clock::now().since(begun), is_logged);
        }
        opened
    }

    async fn recycle(&self, server: &mut Self::Type, _: &Metrics) -> RecycleResult<Self::Error> {
        let facts = &server.card.facts;
        let has_moved = self.registry.names.has_left(&facts.host, &facts.address);
        if !has_moved && server.is_silent(&self.registry.interner) && server.side.is_free() {
            Ok(())
        } else {
            Err(RecycleError::message("the connection is not clean"))
        }
    }

    fn detach(&self, server: &mut Self::Type) {
        self.registry.own_census.servers.remove(&server.card.id);
    }
}

/// The connections that `auth_query` runs on, for one database.
pub type OwnConnections = deadpool::managed::Pool<Opener>;

/// A connection of the pooler's own to `database`.
///
/// # Errors
/// [`Error::AuthQuery`]; the log says why. Under a pgbouncer.ini, the server's refusal.
pub async fn connection(
    registry: &Arc<Registry>,
    database: &str,
    target: Arc<Target>,
) -> Result<Object<Opener>, Error> {
    // Databases may send the questions of several users to one place.
    let key = format!("{database}\0{}\0{:?}", target.user, target.startup);
    let known = registry
        .own_connections
        .get(&key)
        .map(|entry| entry.clone());
    let pool = match known {
        Some((pool, of)) if of.is_same_place(&target) && of.password == target.password => pool,
        Some(_) | None => {
            let opener = Opener {
                registry: Arc::clone(registry),
                database: database.to_owned(),
                target: Arc::clone(&target),
                turn: AtomicUsize::new(0),
            };
            let made = OwnConnections::builder(opener)
                .max_size(OWN_CONNECTIONS)
                .build()
                .map_err(|error| Error::AuthQuery(error.to_string()))?;
            registry.own_connections.insert(key, (made.clone(), target));
            made
        }
    };
    let dialect = registry.settings.load().dialect;
    pool.get().await.map_err(|error| match error {
        // PgBouncer passes it on.
        PoolError::Backend(refusal @ Error::ServerLoginRefused { .. })
            if dialect == Dialect::PgBouncer =>
        {
            refusal
        }
        error => {
            tracing::error!(%error, database, "auth_query has no connection");
            Error::AuthQuery("the pooler's log says why".into())
        }
    })
}

/// Drops a connection that is of no more use.
pub fn discard(connection: Object<Opener>) {
    drop(Object::take(connection));
}
