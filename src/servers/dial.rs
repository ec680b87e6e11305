//! Reaching a server: its name, its addresses, TLS as far as it is wanted; and cancel requests, which need no login.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::time::timeout;

use crate::clock;
use crate::config::value::TlsMode;
use crate::error::{Error, Obstacle};
use crate::net::names::Names;
use crate::net::stream::{SocketOptions, Stream};
use crate::protocol::message;
use crate::servers::target::{Host, Target};
use crate::stats::census::{Census, ServerFacts};

/// That `host` could not be reached, and why.
pub fn unreachable(host: &Host, error: &io::Error) -> Error {
    stopped(Obstacle::Address, host, error)
}

fn stopped(at: Obstacle, host: &Host, error: &io::Error) -> Error {
    Error::ServerUnreachable {
        at,
        address: host.to_string(),
        reason: error.to_string(),
    }
}

/// Connects to `host`, with TLS as far as the target demands.
///
/// Each of a name's addresses gets its share of the target's time limit, so that one that does not answer leaves time for the
/// others. Servers in `census` at an address that the name has no more are marked for closing.
///
/// # Errors
/// [`Error::ServerUnreachable`].
pub async fn connect(
    target: &Target,
    host: &Host,
    tls: Option<Arc<ClientConfig>>,
    names: &Names,
    census: &Census,
) -> Result<Stream, Error> {
    let failed = |error: &io::Error| unreachable(host, error);
    if let Some(path) = host.socket_path() {
        let stream = Stream::connect_unix(&path).await;
        return stream.map_err(|error| failed(&error));
    }
    let found = names.addresses(&host.name).await;
    let found = found.map_err(|error| stopped(Obstacle::Name, host, &error))?;
    if found.is_fresh {
        census.only_at(&host.name, &found.addresses);
    }
    let stream = first_that_answers(&found.addresses, host.port, target).await;
    let stream = stream.map_err(|error| failed(&error))?;
    secure(target.tls, host, tls, stream).await
}

async fn first_that_answers(
    addresses: &[IpAddr],
    port: u16,
    target: &Target,
) -> io::Result<Stream> {
    let end = clock::now().after(target.timeout);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = end.since(clock::now()) / others;
        let address = SocketAddr::new(*address, port);
        match timeout(share, Stream::connect_tcp(address, &target.socket)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => {
                let text = format!("connect timeout: {address} did not answer within {share:?}");
                last = io::Error::new(io::ErrorKind::TimedOut, text);
            }
        }
    }
    Err(last)
}

async fn secure(
    mode: TlsMode,
    host: &Host,
    tls: Option<Arc<ClientConfig>>,
    mut stream: Stream,
) -> Result<Stream, Error> {
    let Some(tls) = tls.filter(|_| mode != TlsMode::Disable) else {
        return Ok(stream);
    };
    let failed = |error: io::Error| stopped(Obstacle::Tls, host, &error);
    let mut out = BytesMut::new();
    message::ssl_request(&mut out);
    stream.write_all(&out).await.map_err(failed)?;
    let mut answer = [0; 1];
    let count = stream.read_some(&mut answer).await.map_err(failed)?;
    match (count, answer[0]) {
        (1, b'S') => {
            let name = ServerName::try_from(host.name.clone())
                .map_err(|_| failed(io::Error::other("the host is no name that TLS can check")))?;
            stream.connect_tls(tls, name).await.map_err(failed)
        }
        (1, b'N') if matches!(mode, TlsMode::Allow | TlsMode::Prefer) => Ok(stream),
        (1, b'N') => Err(failed(io::Error::other(
            "the server refused TLS (server_tls_sslmode demands it)",
        ))),
        _ => Err(failed(io::Error::other(
            "the server closed the connection at the request for TLS",
        ))),
    }
}

/// Sends a cancel request for the server that `facts` describe, whose key is `key`, and waits until PostgreSQL has taken it.
///
/// It goes to the very address at which that server is, whatever its name stands for by now, and in TLS if the server's
/// connection is: its key must not be seen by who could not see that connection.
///
/// # Errors
/// What keeps it from the server.
pub async fn send_cancel(
    facts: &ServerFacts,
    key: &[u8],
    socket: &SocketOptions,
    tls: Option<Arc<ClientConfig>>,
) -> Result<(), Error> {
    let host = Host {
        name: facts.host.clone(),
        port: facts.port,
    };
    let failed = |error: io::Error| unreachable(&host, &error);
    let stream = match host.socket_path() {
        Some(path) => Stream::connect_unix(&path).await.map_err(failed)?,
        None => {
            let address: IpAddr = facts
                .address
                .parse()
                .map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
            let address = SocketAddr::new(address, facts.port);
            let stream = Stream::connect_tcp(address, socket).await;
            let stream = stream.map_err(failed)?;
            if facts.tls.is_empty() {
                stream
            } else {
                let tls = tls.ok_or_else(|| failed(io::Error::other("TLS is off by now")))?;
                secure(TlsMode::Require, &host, Some(tls), stream).await?
            }
        }
    };
    ask_to_cancel(stream, &host, key).await
}

/// Sends a cancel request with `key` over a connection to `host` that is fresh, and waits until the other end closes it.
///
/// # Errors
/// [`Error::ServerUnreachable`] when it is lost.
pub async fn ask_to_cancel(mut stream: Stream, host: &Host, key: &[u8]) -> Result<(), Error> {
    let mut out = BytesMut::new();
    message::cancel_request(&mut out, key);
    let sent = stream.write_all(&out).await;
    sent.map_err(|error| unreachable(host, &error))?;
    let mut scratch = [0; 64];
    while let Ok(1..) = stream.read_some(&mut scratch).await {}
    Ok(())
}

/// How a login that took longer than `limit` is told.
pub fn too_late(host: &Host, limit: Duration) -> Error {
    Error::ServerUnreachable {
        at: Obstacle::Address,
        address: host.to_string(),
        reason: format!("connect timeout: no answer within {limit:?}"),
    }
}
