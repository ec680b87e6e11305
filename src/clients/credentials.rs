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
use crate::servers::query;

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
    let mut server = own::connection(registry, place, target).await?;
    let sql = settings.effective_auth_query(database).to_owned();
    let asked = query::ask_with(&mut server, &registry.interner, &sql, user).await;
    let rows = asked.map_err(|error| {
        tracing::error!(%error, database = place, "auth_query failed");
        own::discard(server);
        Error::AuthQuery("the pooler's log says why".into())
    })?;
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

/// The user id that this process runs as.
pub fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}
