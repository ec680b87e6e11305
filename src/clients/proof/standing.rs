//! Proofs that a connection brings with it: the certificate of its TLS, the system's user behind its Unix socket.

use std::sync::Arc;

use nix::unistd::{Uid, User};

use crate::auth::ident::Map;
use crate::clients::proof::password::off_thread;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::net::tls::peer_names;

/// Whether the client showed a certificate, which TLS has verified, with the name `user` or one that may be `user` by `map`.
pub fn has_certificate(stream: &Stream, user: &str, map: Option<&Map>) -> bool {
    let names = stream
        .peer_certificate()
        .map(peer_names)
        .unwrap_or_default();
    may_be(&names, user, map)
}

/// Whether the system's user at the other end of the Unix socket is `user`, or may be by `map`. Never over TCP.
///
/// # Errors
/// [`Error::Internal`]: the look-up panicked.
pub async fn is_peer(stream: &Stream, user: &str, map: Option<Arc<Map>>) -> Result<bool, Error> {
    let Some(uid) = stream.peer_uid() else {
        return Ok(false);
    };
    // The system may ask a server of its own for the name.
    let found = off_thread(move || User::from_uid(Uid::from_raw(uid))).await?;
    let names = match found {
        Ok(Some(account)) => vec![account.name],
        Ok(None) => Vec::new(),
        Err(error) => {
            tracing::error!(uid, %error, "the system cannot say who this user is");
            Vec::new()
        }
    };
    Ok(may_be(&names, user, map.as_deref()))
}

fn may_be(names: &[String], user: &str, map: Option<&Map>) -> bool {
    match map {
        Some(map) => map.lets(names, user),
        None => names.iter().any(|name| name == user),
    }
}
