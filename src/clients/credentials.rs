//! What is known of a user's password: the users file and `[users]` first, then `auth_query`.
//!
//! `auth_query` runs on connections of the pooler's own (a small deadpool), which no client has ever used, so that nothing a client
//! set can change what the query finds.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};

use crate::auth::password::Verifier;
use crate::error::Error;
use crate::pools::plan::plan;
use crate::pools::registry::Registry;
use crate::servers::login;
use crate::servers::query;
use crate::servers::server::Server;
use crate::servers::target::Target;

/// How many connections of the pooler's own one database may have.
const OWN_CONNECTIONS: usize = 4;

/// Opens the connections that `auth_query` runs on.
#[derive(Debug)]
pub struct Opener {
    registry: Arc<Registry>,
    database: String,
    target: Arc<Target>,
}

impl Manager for Opener {
    type Type = Box<Server>;
    type Error = Error;

    async fn create(&self) -> Result<Self::Type, Self::Error> {
        let login = login::Login {
            target: &self.target,
            tls: self.registry.server_tls.load_full(),
            keys: None,
            database: &self.database,
            census: &self.registry.own_census,
            interner: &self.registry.interner,
            generation: 0,
        };
        let opened = tokio::time::timeout(self.target.timeout, Box::pin(login::log_in(login))).await;
        opened.unwrap_or(Err(Error::AuthQuery("connect timeout".into())))
    }

    async fn recycle(&self, server: &mut Self::Type, _: &Metrics) -> RecycleResult<Self::Error> {
        if server.is_silent(&self.registry.interner) && server.side.is_free() {
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

/// What is known of the password of `user` who wants into `database`; `None` for who is unknown.
///
/// # Errors
/// [`Error::AuthQuery`] when `auth_query` is set and cannot be run.
pub async fn find(registry: &Arc<Registry>, database: &str, user: &str) -> Result<Option<Verifier>, Error> {
    if let Some(known) = registry.users.load().get(user) {
        return Ok(Some(known.clone()));
    }
    let settings = registry.settings.load_full();
    let Some(auth_user) = settings.effective_auth_user(database) else { return Ok(None) };
    let place = settings.effective_auth_dbname(database).unwrap_or(database);
    let Some(entry) = settings.database(place) else { return Ok(None) };
    let password = registry.users.load().get(auth_user).cloned();
    let mut unforced = entry.clone();
    (unforced.user, unforced.password) = (None, None);
    let target = plan(&settings, place, &unforced, auth_user, password).target;
    let mut server = own_connection(registry, place, target).await?;
    let sql = settings.effective_auth_query(database).to_owned();
    let asked = query::ask_with(&mut server, &registry.interner, &sql, user).await;
    let rows = asked.map_err(|error| {
        tracing::error!(%error, database = place, "auth_query failed");
        let _ = Object::take(server);
        Error::AuthQuery("the pooler's log says why".into())
    })?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let [_, secret] = row.as_slice() else {
        tracing::error!(database = place, "auth_query must return two columns: the user and the password");
        return Err(Error::AuthQuery("it must return two columns".into()));
    };
    Ok(secret.as_deref().filter(|secret| !secret.is_empty()).map(Verifier::parse))
}

async fn own_connection(
    registry: &Arc<Registry>,
    database: &str,
    target: Arc<Target>,
) -> Result<Object<Opener>, Error> {
    let known = registry.own_connections.get(database).map(|entry| entry.clone());
    let pool = match known {
        Some((pool, of)) if of.is_same_place(&target) && of.password == target.password => pool,
        Some(_) | None => {
            let opener = Opener { registry: Arc::clone(registry), database: database.to_owned(), target: Arc::clone(&target) };
            let made = OwnConnections::builder(opener)
                .max_size(OWN_CONNECTIONS)
                .build()
                .map_err(|error| Error::AuthQuery(error.to_string()))?;
            registry.own_connections.insert(database.to_owned(), (made.clone(), target));
            made
        }
    };
    pool.get().await.map_err(|error| {
        tracing::error!(%error, database, "auth_query has no connection");
        Error::AuthQuery("the pooler's log says why".into())
    })
}

/// The user id that this process runs as.
pub fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}
