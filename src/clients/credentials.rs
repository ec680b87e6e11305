//! What is known of a user's password: the users file and `[users]` first, then `auth_query`.
//!
//! `auth_query` runs on connections of the pooler's own (a small deadpool), which no client has ever used, so that nothing a client
//! set can change what the query finds.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::auth::password::Verifier;
use crate::error::Error;
use crate::pools::own;
use crate::pools::plan::plan;
use crate::pools::registry::Registry;
use crate::servers::query::{self, Row};
use crate::servers::target::Target;

/// What is known of the password of `user` who wants into `database`; `None` for who is unknown.
///
/// # Errors
/// [`Error::AuthQuery`] when `auth_query` is set and cannot be run.
pub async fn find(
    registry: &Arc<Registry>,
    database: &str,
    user: &str,
) -> Result<Option<Verifier>, Error> {
    if let Some(known) = registry.users.load().get(user) {
        return Ok(Some(known.clone()));
    }
    let settings = registry.settings.load_full();
    let Some(auth_user) = settings.effective_auth_user(database) else {
        return Ok(None);
    };
    let place = settings.effective_auth_dbname(database);
    let Some(entry) = settings.database(place) else {
        return Ok(None);
    };
    let password = registry.users.load().get(auth_user).cloned();
    let mut unforced = entry.clone();
    (unforced.user, unforced.password) = (None, None);
    let target = plan(&settings, place, &unforced, auth_user, password).target;
    let sql = settings.effective_auth_query(database);
    let rows = ask(registry, place, target, sql, user).await?;
    let Some(row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let [_, secret] = row.as_slice() else {
        tracing::error!(
            database = place,
            "auth_query must return two columns: the user and the password"
        );
        return Err(Error::AuthQuery("it must return two columns".into()));
    };
    Ok(secret
        .as_deref()
        .filter(|secret| !secret.is_empty())
        .map(Verifier::parse))
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
                    tracing::error!(%error, database = place, "auth_query failed");
                    return Err(Error::AuthQuery("the pooler's log says why".into()));
                }
                tries -= 1;
            }
        }
    }
}

/// Whether the server said that it, or this connection, is being shut down.
fn is_going_down(error: &Error) -> bool {
    matches!(error, Error::ServerRefused(refusal) if refusal.code.starts_with("57P0"))
}

/// The user id that this process runs as.
pub fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}
