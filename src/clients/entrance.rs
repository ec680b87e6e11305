//! The door: what a fresh connection says before it is anybody.
//!
//! Nothing but one startup packet of at most 10,000 bytes is taken here, read as its bytes arrive; what came with it is handed on. Bytes that come in clear where
//! a TLS handshake has to begin close the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, warn};

use crate::clients::answer;
use crate::clients::cancel;
use crate::clients::course;
use crate::clients::gate::{Entered, Gate};
use crate::clients::login;
use crate::clients::parcel;
use crate::clients::presence::{Presence, age, log_wishes};
use crate::clients::session::Session;
use crate::clock;
use crate::config::settings::Settings;
use crate::config::value::{Dialect, TlsMode};
use crate::error::Error;
use crate::net::passing::Packet;
use crate::net::stream::{Address, Fresh, Stream};
use crate::pools::registry::Registry;
use crate::protocol::startup::{self, Progress, Startup, StartupError};
use crate::stats::arrival::{Arrival, Dismissal};
use crate::stats::census::ClientFacts;
use crate::telemetry::events::{self, Who};

/// A connection that the acceptor took, and its id.
#[derive(Debug)]
pub enum Accepted {
    /// Just now; and its id.
    Fresh(Fresh, u64),
    /// A client that logged in to another process.
    Moved(Packet),
}

/// What a fresh connection turned out to want.
enum Wish {
    /// To log in.
    LogIn(Stream, Startup),
    /// To cancel a query; the connection stays open until that is done.
    Cancel(Stream, Vec<u8>),
}

/// A socket's place in the count of all client sockets.
struct Socket(Arc<Registry>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.census.sockets.fetch_sub(1, Relaxed);
    }
}

/// A connection's place among those that are not logged in.
struct Knock<'a> {
    registry: &'a Registry,
    arrival: Arc<Arrival>,
}

impl<'a> Knock<'a> {
    fn of(stream: &Stream, id: u64, registry: &'a Registry) -> Self {
        let facts = facts_of(stream, registry);
        let since = facts.came;
        let arrival = Arc::new(Arrival::new(id, facts, since));
        let arrivals = &registry.census.arrivals;
        arrivals.insert(arrival.id, Arc::clone(&arrival));
        Self { registry, arrival }
    }
}

impl Drop for Knock<'_> {
    fn drop(&mut self) {
        self.registry.census.arrivals.remove(&self.arrival.id);
    }
}

/// What the socket itself says of who has connected.
pub(super) fn facts_of(stream: &Stream, registry: &Registry) -> ClientFacts {
    let split = |address: Address| match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        // The port in the name of the socket.
        Address::Unix => (
            "unix".to_owned(),
            registry.settings.load().pooler.listen_port,
        ),
    };
    let ((address, port), (local_address, local_port)) =
        (split(stream.peer()), split(stream.local()));
    let pid = stream.peer_pid().and_then(|pid| u32::try_from(pid).ok());
    ClientFacts {
        address,
        port,
        local_address,
        local_port,
        connected: clock::wall_seconds(),
        came: clock::now(),
        remote_pid: pid.unwrap_or(0),
        descriptor: stream.number(),
        ..ClientFacts::default()
    }
}

/// Serves one connection from its first byte to its last.
pub async fn welcome(accepted: Accepted, gate: Arc<Gate>) {
    let registry = Arc::clone(&gate.registry);
    registry.census.sockets.fetch_add(1, Relaxed);
    let _socket = Socket(Arc::clone(&registry));
    let (fresh, id) = match accepted {
        Accepted::Fresh(fresh, id) => (fresh, id),
        // Boxed, for this future lives as long as its client.
        Accepted::Moved(packet) => return Box::pin(take_over(packet, &gate)).await,
    };
    let Ok(stream) = Stream::from_fresh(fresh) else {
        return;
    };
    let entered = Box::pin(enter(stream, id, &gate)).await;
    match entered {
        None => {}
        Some(Entered::Console(guest)) => (gate.console)(guest).await,
        Some(Entered::Client(session, presence)) => serve(session, presence, &gate).await,
    }
}

async fn serve(mut session: Box<Session>, presence: Presence, gate: &Gate) {
    let _ = session.serve().await;
    if session.is_moving() {
        match session.pack(&presence) {
            // Before the presence ends: who counts clients must find this one here or there.
            Ok(parcel) => drop(gate.way_out.send(parcel)),
            Err(error) => warn!(%error, "a client could not be passed on"),
        }
    }
    drop(presence);
}

/// Goes on with a client of another process.
async fn take_over(packet: Packet, gate: &Gate) {
    match parcel::adopt(packet, &gate.registry) {
        Ok(Ok((session, presence))) => serve(Box::new(session), presence, gate).await,
        Ok(Err((stream, error))) => {
            let dialect = gate.registry.settings.load().dialect;
            refuse(stream, &error, dialect).await;
        }
        Err(error) => warn!(%error, "a client that was passed on could not be taken in"),
    }
}

/// Brings a connection through its login; `None` when it is over already.
async fn enter(stream: Stream, id: u64, gate: &Arc<Gate>) -> Option<Entered> {
    let knock = Knock::of(&stream, id, &gate.registry);
    let mut door = Door {
        stream: Some(stream),
        buffer: Vec::new(),
        arrival: Arc::clone(&knock.arrival),
    };
    let result = tokio::select! {
        biased;
        passed = door.pass(gate) => passed,
        why = poll_fn(|cx| knock.arrival.poll_dismissed(cx)) => Err(match why {
            Dismissal::Standstill => Error::SuspendTimeout,
            Dismissal::Killed => Error::Killed,
            Dismissal::TooSlow(limit) if knock.arrival.is_waiting_for_server() => {
                waited_in_vain(&knock.arrival, limit, &gate.registry)
            }
            Dismissal::TooSlow(limit) => Error::LoginTimeout(limit),
        }),
    };
    match result {
        Ok(entered) => entered,
        Err(error) => {
            let settings = gate.registry.settings.load_full();
            if error != Error::ClientGone {
                tell_refusal(&knock.arrival, &error, &settings);
            }
            if let Some(stream) = door.stream.take() {
                refuse(stream, &error, settings.dialect).await;
            }
            None
        }
    }
}

/// What kept a client from a server for as long as a login may take: that there is no primary, or no server.
fn waited_in_vain(arrival: &Arrival, limit: Duration, registry: &Registry) -> Error {
    let name = arrival.name();
    let board = name.and_then(|name| registry.board_of(&name.database));
    match board.filter(|board| board.primary(clock::now()).is_none()) {
        Some(board) => course::no_primary(&board),
        None => Error::ServerDownAtLogin(limit),
    }
}

fn tell_refusal(arrival: &Arrival, error: &Error, settings: &Settings) {
    let name = arrival.name();
    let (user, database) = match &name {
        Some(name) => (name.user.as_str(), name.database.as_str()),
        None => ("", ""),
    };
    let who = Who {
        database,
        user,
        ..Who::client(arrival.id, &arrival.facts)
    };
    let age = age(&arrival.facts);
    events::login_refused(who, error, age, log_wishes(settings));
}

async fn refuse(mut stream: Stream, error: &Error, dialect: Dialect) {
    let mut out = Vec::new();
    answer::tell_last(&mut out, error, dialect);
    let _ = timeout(Duration::from_secs(1), stream.write_all(&out)).await;
    stream.close();
}

/// A connection on its way in. The stream is away while a handshake has it.
struct Door {
    stream: Option<Stream>,
    buffer: Vec<u8>,
    arrival: Arc<Arrival>,
}

impl Door {
    async fn pass(&mut self, gate: &Arc<Gate>) -> Result<Option<Entered>, Error> {
        let registry = &gate.registry;
        match self.first_packet(registry).await? {
            None => Ok(None),
            Some(Wish::Cancel(stream, key)) => {
                cancel::deliver(registry, &key, &self.arrival).await;
                stream.close();
                Ok(None)
            }
            Some(Wish::LogIn(stream, startup)) => {
                let rest = std::mem::take(&mut self.buffer);
                let by = (gate, &*self.arrival);
                login::log_in(stream, rest, startup, by, &mut self.stream).await
            }
        }
    }

    fn stream(&mut self) -> Result<&mut Stream, Error> {
        self.stream.as_mut().ok_or(Error::ClientGone)
    }

    async fn read_more(&mut self) -> Result<(), Error> {
        let mut scratch = [0; 2048];
        let count = self
            .stream()?
            .read_some(&mut scratch)
            .await
            .map_err(|_| Error::ClientGone)?;
        if count == 0 {
            return Err(Error::ClientGone);
        }
        self.buffer.extend_from_slice(&scratch[..count]);
        Ok(())
    }

    async fn first_packet(&mut self, registry: &Registry) -> Result<Option<Wish>, Error> {
        loop {
            let progress = match startup::parse(&self.buffer) {
                Ok(progress) => progress,
                Err(error) => return why_refused(&error, registry.settings.load().dialect),
            };
            let taken = progress.taken();
            match progress {
                Progress::Need(_) => {
                    // What has come behind a request for TLS, which would be an attack, is seen by who answers that.
                    self.read_more().await?;
                    continue;
                }
                Progress::DirectTls => self.direct_tls(registry).await?,
                Progress::Ssl => {
                    self.buffer.drain(..taken);
                    self.answer_ssl(registry).await?;
                }
                Progress::Gssenc => {
                    self.buffer.drain(..taken);
                    if !self.buffer.is_empty() {
                        return Err(Error::ClearBytesBeforeTls("GSSAPI encryption request"));
                    }
                    self.stream()?
                        .write_all(b"N")
                        .await
                        .map_err(|_| Error::ClientGone)?;
                }
                Progress::Cancel { key } => {
                    return Ok(self.stream.take().map(|stream| Wish::Cancel(stream, key)));
                }
                Progress::Startup(startup) => {
                    self.buffer.drain(..taken);
                    self.demand_tls(registry)?;
                    return Ok(self
                        .stream
                        .take()
                        .map(|stream| Wish::LogIn(stream, startup)));
                }
            }
        }
    }

    fn demand_tls(&mut self, registry: &Registry) -> Result<(), Error> {
        let mode = registry.settings.load().pooler.client_tls_sslmode;
        let is_required = matches!(
            mode,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull
        );
        let stream = self.stream()?;
        if is_required && !stream.is_tls() && matches!(stream.peer(), Address::Tcp(_)) {
            return Err(Error::TlsRequired);
        }
        Ok(())
    }

    async fn answer_ssl(&mut self, registry: &Registry) -> Result<(), Error> {
        let is_tcp = matches!(self.stream()?.peer(), Address::Tcp(_));
        let tls = registry.client_tls.load_full().filter(|_| is_tcp);
        if !self.buffer.is_empty() {
            return Err(Error::ClearBytesBeforeTls("SSL request"));
        }
        if self.stream()?.is_tls() {
            return Err(Error::Protocol("a request for TLS inside TLS".into()));
        }
        let Some(tls) = tls else {
            return self
                .stream()?
                .write_all(b"N")
                .await
                .map_err(|_| Error::ClientGone);
        };
        let mut stream = self.stream.take().ok_or(Error::ClientGone)?;
        stream
            .write_all(b"S")
            .await
            .map_err(|_| Error::ClientGone)?;
        self.shake_hands(stream, tls, false, registry.settings.load().dialect)
            .await
    }

    async fn direct_tls(&mut self, registry: &Registry) -> Result<(), Error> {
        let is_tcp = matches!(self.stream()?.peer(), Address::Tcp(_));
        let tls = registry
            .client_tls
            .load_full()
            .filter(|_| is_tcp)
            .ok_or(Error::ClientGone)?;
        let stream = self
            .stream
            .take()
            .filter(|stream| !stream.is_tls())
            .ok_or(Error::ClientGone)?;
        self.shake_hands(stream, tls, true, registry.settings.load().dialect)
            .await
    }

    async fn shake_hands(
        &mut self,
        stream: Stream,
        tls: Arc<rustls::ServerConfig>,
        is_direct: bool,
        dialect: Dialect,
    ) -> Result<(), Error> {
        let first = std::mem::take(&mut self.buffer);
        let stream = stream.accept_tls(tls, &first).await.map_err(|error| {
            debug!(%error, "TLS handshake failed");
            Error::ClientGone
        })?;
        let is_named = match dialect {
            Dialect::Native => stream.alpn() == Some(b"postgresql"),
            Dialect::PgBouncer => stream.alpn().is_none_or(|name| name == b"postgresql"),
        };
        if is_direct && !is_named {
            debug!("direct TLS without the protocol name \"postgresql\" (ALPN)");
            return Err(Error::ClientGone);
        }
        self.stream = Some(stream);
        Ok(())
    }
}

/// What a bad first packet is answered; `Ok(None)` closes without a word.
fn why_refused(error: &StartupError, dialect: Dialect) -> Result<Option<Wish>, Error> {
    Err(match error {
        StartupError::PasswordFirst if dialect == Dialect::PgBouncer => {
            Error::Protocol("client password pkt before startup packet".into())
        }
        StartupError::NotPostgres(_) | StartupError::BadCancelKey | StartupError::PasswordFirst => {
            return Ok(None);
        }
        StartupError::NoUser => Error::NoUser,
        StartupError::TooLong { .. } => Error::Protocol("invalid length of startup packet".into()),
        StartupError::V2 => Error::OldProtocol,
        StartupError::UnsupportedVersion { header, .. } => Error::UnknownProtocol(header.clone()),
        StartupError::BadHeader(header) => {
            Error::Protocol(format!("bad packet header: '{header}'"))
        }
        StartupError::NoTerminator => Error::Protocol(
            "invalid startup packet layout: expected terminator as last byte".into(),
        ),
        StartupError::UserTooLong => Error::UserTooLong,
        StartupError::NotUtf8(what) => {
            Error::Protocol(format!("invalid startup packet: {what} is not UTF-8"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::welcome;

    /// How many bytes the future takes that `make` returns.
    fn size_of_task<A, B, F>(_make: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn every_idle_client_has_a_task_and_it_is_small() {
        let bytes = size_of_task(welcome);
        assert!(bytes <= 1024, "{bytes} bytes: box what is rare");
    }
}
