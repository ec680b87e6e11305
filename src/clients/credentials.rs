//! What is known of a user's password: the users file and `[users]` first, then `auth_query`.
//!
//! `auth_query` runs on connections of the pooler's own (a small deadpool), which no client has ever used, so that nothing a client
//! set can change what the query finds.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::error;

use crate::auth::password::Verifier;
use crate::clients::gate::is_console;
use crate::clients::proof::Claim;
use crate::config::settings::{AUTH_QUERY, DatabaseSettings, Settings};
use crate::config::value::Dialect;
use crate::error::Error;
use crate::pools::own;
use crate::pools::plan::plan;
use crate::pools::registry::Registry;
use crate::servers::query::{self, Row};
use crate::servers::target::Target;

/// What a look for a user found.
#[derive(Debug)]
pub enum Found {
    /// The user.
    Known(Known),
    /// No such user, by the word of `auth_query`.
    NoRow,
    /// No such user in the lists, and nobody else to ask.
    Nobody,
}

/// A user of whom something is known.
#[derive(Debug)]
pub struct Known {
    /// Who it is by the word of `auth_query`.
    pub name: Option<String>,
    /// What is stored of the password; `None` for a user who has none and can prove none.
    pub verifier: Option<Verifier>,
}

/// Looks for the user of `claim`.
///
/// # Errors
/// [`Error::AuthQuery`] when `auth_query` is set and cannot be run; [`Error::LoginMisconfigured`],
/// [`Error::AuthDatabaseDisabled`] when its database is not there; [`Error::QueryWaitTimeout`] when it takes too long.
pub async fn find(registry: &Arc<Registry>, claim: Claim<'_>) -> Result<Found, Error> {
    if let Some(known) = registry.users.load().get(claim.user) {
        return Ok(Found::Known(Known {
            name: None,
            verifier: Some(known.clone()),
        }));
    }
    let settings = registry.settings.load_full();
    // The console is no database; what is set for all of them holds for it.
    let database = if claim.is_console { "" } else { claim.database };
    let Some(auth_user) = settings.effective_auth_user(database) else {
        return Ok(Found::Nobody);
    };
    let Some((place, entry)) = place(registry, &settings, claim)? else {
        return Ok(Found::Nobody);
    };
    let sql = settings.effective_auth_query(database);
    let password = registry.users.load().get(auth_user).cloned();
    let target = target(&settings, &place, entry, auth_user, password, sql);
    let asked = ask(registry, &place, Arc::new(target), sql, claim.user);
    let limit = settings.effective_query_wait_timeout(claim.database, claim.user);
    let rows = if limit.is_zero() {
        asked.await?
    } else {
        let waited = tokio::time::timeout(limit, Box::pin(asked)).await;
        waited.map_err(|_| Error::QueryWaitTimeout(limit))??
    };
    known(&place, rows)
}

/// The database in which `auth_query` runs, and what the settings say of it; `None` where there is none, which is told after the
/// login like any name that is not there.
fn place<'s>(
    registry: &Registry,
    settings: &'s Settings,
    claim: Claim<'_>,
) -> Result<Option<(String, &'s DatabaseSettings)>, Error> {
    let asked = if claim.is_console { "" } else { claim.database };
    let place = settings.effective_auth_dbname(asked).to_owned();
    let is_chosen = place != asked;
    if place.is_empty() {
        return Ok(None);
    }
    if is_console(&place, settings.dialect) {
        error!(
            "cannot use the reserved \"{place}\" database as an auth_dbname; name another database in auth_dbname"
        );
        return Err(Error::LoginMisconfigured);
    }
    let Some(entry) = settings.database(&place) else {
        if !is_chosen {
            return Ok(None);
        }
        error!("authentication database \"{place}\" is not configured.");
        return Err(Error::LoginMisconfigured);
    };
    let is_disabled = registry
        .database(&place)
        .is_some_and(|database| database.disabled.load(Relaxed));
    if is_disabled {
        return Err(Error::AuthDatabaseDisabled(place));
    }
    Ok(Some((place, entry)))
}

/// Where `sql` runs. Nothing that a client or a database's owner can set changes what it finds: the names in it are those of
/// `pg_catalog`, unless a pgbouncer.ini brings a query of its own, which may count on the path of its user.
fn target(
    settings: &Settings,
    place: &str,
    entry: &DatabaseSettings,
    auth_user: &str,
    password: Option<Verifier>,
    sql: &str,
) -> Target {
    let mut unforced = entry.clone();
    (unforced.user, unforced.password) = (None, None);
    let planned = plan(settings, place, &unforced, auth_user, password).target;
    let mut target = (*planned).clone();
    target.connect_query = None;
    target.startup.clear();
    target
        .startup
        .push(("client_encoding".into(), "UTF8".into()));
    if settings.dialect == Dialect::Native || sql == AUTH_QUERY {
        target
            .startup
            .push(("search_path".into(), "pg_catalog".into()));
    }
    target
}

/// What the rows of `auth_query` say.
fn known(place: &str, rows: Vec<Row>) -> Result<Found, Error> {
    let wrong = |what: &str| {
        error!(database = place, "auth_query {what}");
        Err(Error::AuthQuery("the pooler's log says why".into()))
    };
    if rows.len() > 1 {
        return wrong("found more than one row; it must find one user or none");
    }
    let Some(row) = rows.into_iter().next() else {
        return Ok(Found::NoRow);
    };
    match row.as_slice() {
        [Some(name), secret] => Ok(Found::Known(Known {
            name: Some(name.clone()),
            verifier: secret
                .as_deref()
                .filter(|secret| !secret.is_empty())
                .map(Verifier::parse),
        })),
        [None, _] => wrong("returned no name (NULL)"),
        _ => wrong("must return two columns: the user and the password"),
    }
}

/// Runs `auth_query`. A connection that went stale unseen (the server has restarted) fails no login: another is tried, and
/// the last try is on a fresh one.
async fn ask(
    registry: &Arc<Registry>,
    place: &str,
    target: Arc<Target>,
    sql: &str,
    user: &str,
) -> Result<Vec<Row>, Error> {
    let mut tries = own::OWN_CONNECTIONS;
    loop {
        let mut server = own::connection(registry, place, Arc::clone(&target)).await?;
        match query::ask_with(&mut server, &registry.interner, sql, user).await {
            Ok(rows) => return Ok(rows),
            Err(error) => {
                own::discard(server);
                let is_stale = matches!(error, Error::ServerLost(_)) || is_going_down(&error);
                if !is_stale || tries == 0 {
                    error!(%error, database = place, "auth_query failed{}", path_hint(&error));
                    return Err(Error::AuthQuery("the pooler's log says why".into()));
                }
                tries -= 1;
            }
        }
    }
}

/// What to do about a name that was not found.
fn path_hint(error: &Error) -> &'static str {
    match error {
        Error::ServerRefused(refusal) if matches!(&*refusal.code, "42883" | "42P01") => {
            "; it runs with search_path = pg_catalog, so write other names with their schema"
        }
        _ => "",
    }
}

/// Whether the server said that it, or this connection, is being shut down.
fn is_going_down(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. }
            if refusal.code.starts_with("57P0")
    )
}

/// The user id that this process runs as.
pub fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}
