//! Opening a server: connect, TLS, log in, and find out what it is like.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::BytesMut;
use rustls::ClientConfig;

use crate::auth::scram::Keys;
use crate::clock;
use crate::error::Error;
use crate::net::names::Names;
use crate::net::stream::{Address, Stream};
use crate::protocol::fields;
use crate::protocol::message;
use crate::protocol::parameters::{Interner, is_carried};
use crate::protocol::sides::ServerSide;
use crate::servers::dial::{self, unreachable};
use crate::servers::frames::Frames;
use crate::servers::kept::KeptRequest;
use crate::servers::proof::{self, Derived};
use crate::servers::query::{self, refusal_of};
use crate::servers::server::Server;
use crate::servers::target::{Host, Target};
use crate::stats::census::{Census, ServerCard, ServerFacts};
use crate::telemetry::events::{self, Who};
use crate::thread;

/// The largest message of a login.
pub const LARGEST: usize = 1 << 16;

/// Whether the servers of a pool are asked to look, while they work, whether their client is still there. They all are, until one
/// refuses the login because it has no such setting (before PostgreSQL 14).
#[derive(Debug, Default)]
pub struct Watch {
    is_unknown_there: AtomicBool,
}

impl Watch {
    const SETTING: &str = "client_connection_check_interval";
    const INTERVAL: &str = "1s";

    /// Whether `error` says that the setting is not known; then no server is asked again.
    fn is_refused_by(&self, error: &Error) -> bool {
        let is_so = matches!(error, Error::ServerLoginRefused { refusal, .. } if refusal.message.contains(Self::SETTING));
        self.is_unknown_there.fetch_or(is_so, Relaxed);
        is_so
    }
}

/// What a login needs.
#[derive(Debug)]
pub struct Login<'a> {
    /// Where to, and as whom.
    pub target: &'a Target,
    /// Which of the target's hosts.
    pub host: &'a Host,
    /// Who knows the addresses of names.
    pub names: &'a Names,
    /// TLS, where it is not off.
    pub tls: Option<Arc<ClientConfig>>,
    /// Keys that a client's SCRAM login gave.
    pub keys: Option<Arc<Keys>>,
    /// The keys that the last login derived.
    pub derived: &'a Derived,
    /// The database's name in the configuration.
    pub database: &'a str,
    /// The number of the connection, by which the log and the console know it.
    pub id: u64,
    /// Where the server gets its card.
    pub census: &'a Census,
    /// For its parameters.
    pub interner: &'a Interner,
    /// The pool's reign.
    pub generation: u64,
    /// `log_connections`.
    pub is_logged: bool,
    /// Whether it shall notice that its client is gone.
    pub watch: Option<&'a Watch>,
    /// The pool's number.
    pub pool: u64,
}

/// Opens a server and logs in.
///
/// The server is asked to look once a second, while it works, whether the connection still stands: a statement that nobody
/// waits for ends soon, and where it may be committing PostgreSQL does not look.
///
/// # Errors
/// [`Error::ServerUnreachable`], or [`Error::ServerLoginRefused`] in the server's words.
pub async fn log_in(mut login: Login<'_>) -> Result<Box<Server>, Error> {
    login.watch = login
        .watch
        .filter(|watch| !watch.is_unknown_there.load(Relaxed));
    match attempt(&login).await {
        Err(error) if login.watch.is_some_and(|watch| watch.is_refused_by(&error)) => {
            login.watch = None;
            attempt(&login).await
        }
        result => result,
    }
}

async fn attempt(login: &Login<'_>) -> Result<Box<Server>, Error> {
    let mut entry = Entry::knocking(login);
    let (names, census) = (login.names, login.census);
    let mut stream =
        dial::connect(login.target, login.host, login.tls.clone(), names, census).await?;
    tell_connection(login, &stream, entry.card.id);
    let mut out = BytesMut::new();
    let target = login.target;
    let mut params: Vec<(&[u8], &[u8])> = vec![
        (b"user", target.user.as_bytes()),
        (b"database", target.dbname.as_bytes()),
    ];
    if login.watch.is_some() {
        params.push((Watch::SETTING.as_bytes(), Watch::INTERVAL.as_bytes()));
    }
    params.extend(
        target
            .startup
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
    );
    message::startup_message(&mut out, 0, &params);
    stream
        .write_all(&out)
        .await
        .map_err(|error| unreachable(login.host, &error))?;
    let mut frames = Frames::default();
    let heard = hear(login, &mut stream, &mut frames).await;
    let heard = heard.map_err(|error| of_login(login, error))?;
    if !frames.is_empty() {
        return Err(Error::ServerProtocol(
            "more than was asked for after the login",
        ));
    }
    let mut server = welcome(login, stream, heard, &entry.card);
    if let Some(sql) = &target.connect_query
        && let Err(error) = query::ask(&mut server, login.interner, sql).await
    {
        tracing::warn!(%error, sql, "connect_query failed");
        if !matches!(error, Error::ServerRefused(_)) {
            return Err(error);
        }
    }
    settle(&mut server);
    server.note_application_name();
    entry.is_in = true;
    Ok(server)
}

/// A refusal, with whom it was about: a client that waits for this server must not take it for its own.
fn of_login(login: &Login<'_>, error: Error) -> Error {
    match error {
        Error::ServerRefused(refusal) => Error::ServerLoginRefused {
            refusal,
            why: None,
            address: login.host.to_string(),
            user: login.target.user.clone(),
        },
        error => error,
    }
}

/// Says in the log that a connection stands.
fn tell_connection(login: &Login<'_>, stream: &Stream, id: u64) {
    if !login.is_logged {
        return;
    }
    let (address, port) = match stream.peer() {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix => ("unix".to_owned(), login.host.port),
    };
    let who = Who {
        kind: 'S',
        id,
        database: login.database,
        user: &login.target.user,
        address: &address,
        port,
        pid: 0,
    };
    let tls = stream.tls_description().unwrap_or_default();
    events::server_connected(who, &stream.local().to_string(), &tls);
}

/// What `connect_query` set is what the server is like from now on: clients are welcomed with it.
fn settle(server: &mut Server) {
    let params = Arc::clone(&server.side.params);
    let now = |name: &str, value: &str| params.get(name).unwrap_or(value).to_owned();
    let reported = server.reported.iter();
    server.reported = Arc::new(
        reported
            .map(|(name, value)| (name.clone(), now(name, value)))
            .collect(),
    );
    server.side.base = params;
}

/// The card of a server that is not handed out yet: it goes with a login that fails or is given up.
struct Entry<'a> {
    census: &'a Census,
    card: Arc<ServerCard>,
    is_in: bool,
}

impl<'a> Entry<'a> {
    /// The card of a server of which nothing is known but where it is to be.
    fn knocking(login: &Login<'a>) -> Self {
        let facts = ServerFacts {
            database: login.database.to_owned(),
            user: login.target.user.clone(),
            pool: login.pool,
            address: login.host.shown(),
            port: login.host.port,
            connected: clock::wall_seconds(),
            replication: login.target.replication(),
            ..ServerFacts::default()
        };
        let census = login.census;
        let card = ServerCard::new(login.id, facts, Vec::new(), clock::now());
        let card = Arc::new(card);
        census.servers.insert(card.id, Arc::clone(&card));
        Self {
            census,
            card,
            is_in: false,
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.is_in {
            self.census.servers.remove(&self.card.id);
        }
    }
}

/// What a server says until it is ready.
#[derive(Default)]
struct Heard {
    reported: Vec<(String, String)>,
    key: Vec<u8>,
}

async fn hear(login: &Login<'_>, stream: &mut Stream, frames: &mut Frames) -> Result<Heard, Error> {
    let mut heard = Heard::default();
    let mut is_in = false;
    loop {
        let frame = frames
            .next(stream, LARGEST)
            .await
            .map_err(|error| unreachable(login.host, &error))?;
        match frame.tag {
            b'R' => {
                proof::authenticate(login, stream, frames, &frame.body).await?;
                is_in |= frame.body == [0; 4];
            }
            b'S' | b'K' | b'Z' if !is_in => {
                return Err(Error::ServerProtocol("no proof was asked for"));
            }
            b'E' => return Err(Error::ServerRefused(refusal_of(&frame.body))),
            b'S' => {
                let (name, value) = fields::parameter_status(&frame.body)
                    .ok_or(Error::ServerProtocol("a broken ParameterStatus"))?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                heard.reported.push((text(name), text(value)));
            }
            b'K' => heard.key = frame.body,
            b'Z' => return Ok(heard),
            b'N' => {}
            _ => {
                return Err(Error::ServerProtocol(
                    "an unexpected message during the login",
                ));
            }
        }
    }
}

/// What is known of a server that has said `key`.
fn facts(login: &Login<'_>, stream: &Stream, key: &[u8], knocking: &ServerCard) -> ServerFacts {
    let split = |address: Address| match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix => ("unix".to_owned(), login.host.port),
    };
    let ((address, port), (local_address, local_port)) =
        (split(stream.peer()), split(stream.local()));
    let pid = key.get(..4).and_then(|bytes| bytes.try_into().ok());
    ServerFacts {
        database: login.database.to_owned(),
        user: login.target.user.clone(),
        pool: login.pool,
        host: login.host.name.clone(),
        address,
        port,
        local_address,
        local_port,
        tls: stream.tls_description().unwrap_or_default(),
        connected: knocking.facts.connected,
        descriptor: stream.number(),
        pid: pid.map_or(0, u32::from_be_bytes),
        replication: knocking.facts.replication,
    }
}

fn welcome(login: &Login<'_>, stream: Stream, heard: Heard, knocking: &ServerCard) -> Box<Server> {
    let facts = facts(login, &stream, &heard.key, knocking);
    let (pid, now) = (facts.pid, clock::now());
    let card = Arc::new(ServerCard::new(knocking.id, facts, heard.key, now));
    if knocking.close_needed() {
        card.need_close();
    }
    login.census.servers.insert(card.id, Arc::clone(&card));
    if login.names.has_left(&login.host.name, &card.facts.address) {
        // The name has moved while the server logged in.
        card.need_close();
    }
    tracing::debug!(
        server = card.id,
        database = login.database,
        user = login.target.user,
        pid,
        "server opened"
    );
    let carried = heard
        .reported
        .iter()
        .filter(|(name, _)| is_carried(name))
        .cloned();
    let params = login.interner.make(carried);
    card.set_application_name(params.get("application_name").unwrap_or_default());
    let mut side = ServerSide::new(Arc::clone(&params));
    let mut names = heard.reported.iter();
    let user = names.find(|(name, _)| name == "session_authorization");
    side.doubt.user = user
        .map_or(login.target.user.as_str(), |(_, user)| user)
        .into();
    Box::new(Server {
        stream,
        side,
        shown: params,
        card,
        out: Vec::new(),
        kept: KeptRequest::default(),
        has_served: false,
        born: now,
        used: now,
        generation: login.generation,
        reported: Arc::new(heard.reported),
        home: thread::worker(),
    })
}
