//! A server on its way into another process: what must be known of it beside its socket.
//!
//! Only a server of which everything is known is passed on: it is outside any transaction and owes nothing. What its statements
//! are called there is not: who takes it in has it forget everything first, or leaves it to the session that has used it alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::net::letter::Letter;
use crate::net::stream::{Address, Stream};
use crate::protocol::parameters::{Interner, Parameters};
use crate::protocol::sides::{ServerSide, Unnamed};
use crate::servers::kept::KeptRequest;
use crate::servers::server::Server;
use crate::servers::target::{Host, Target};
use crate::stats::census::{Census, ServerCard, ServerFacts};
use crate::thread;

/// Writes down what is known of `server`, opened for `target`; `None` where it must not be passed on.
pub fn describe(server: &Server, target: &Target) -> Option<Letter> {
    let (side, facts) = (&server.side, &server.card.facts);
    let is_at_rest = side.is_free() && server.out.is_empty() && !side.doubt.is_spoiled;
    let is_called = server.card.is_being_cancelled() || server.card.close_needed();
    if !is_at_rest || is_called || server.stream.is_tls() {
        return None;
    }
    let host = Host {
        name: facts.host.clone(),
        port: facts.port,
    };
    let reported = server.reported.iter();
    let letter = Letter::new("server")
        .with("place", target.place(&host)?)
        .with("host", facts.host.as_str())
        .with("port", facts.port)
        .with("connected", facts.connected)
        .with("age", clock::now().since(server.born).as_secs())
        .with("is_used", server.has_served)
        .with("needs_reset", side.doubt.needs_reset)
        .with("is_unnamed_own", side.unnamed != Unnamed::Foreign)
        .with("session_user", &*side.doubt.user)
        .with_bytes("key", &server.card.key)
        .with_texts(
            "reported",
            reported.map(|(name, value)| (name.as_str(), value.as_str())),
        )
        .with_texts("base", side.base.iter())
        .with_texts("params", side.params.iter());
    Some(letter)
}

/// The pool that takes a server in.
#[derive(Debug, Clone, Copy)]
pub struct Taker<'a> {
    /// Its database.
    pub database: &'a str,
    /// Its number.
    pub id: u64,
    /// Its reign.
    pub generation: u64,
    /// Where its servers are.
    pub target: &'a Target,
    /// Where the server gets its card.
    pub census: &'a Census,
    /// For its parameters.
    pub interner: &'a Interner,
}

/// Takes a server in. It is marked for closing where the pool would have opened another one.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the letter says too little.
pub fn adopt(letter: &Letter, stream: Stream, taker: Taker<'_>) -> io::Result<Box<Server>> {
    let port = u16::try_from(letter.number("port")?).map_err(|_| io::ErrorKind::InvalidData)?;
    let host = Host {
        name: letter.text("host")?.to_owned(),
        port,
    };
    let key = letter.bytes("key")?;
    let card = card(letter, &stream, &host, (key, taker))?;
    if taker.target.place(&host).as_deref() != Some(letter.text("place")?) {
        card.need_close();
    }
    let make = |name: &str| -> io::Result<Arc<Parameters>> {
        Ok(taker.interner.make(letter.texts(name)?))
    };
    let (base, params) = (make("base")?, make("params")?);
    card.set_application_name(params.get("application_name").unwrap_or_default());
    let mut side = ServerSide::new(base);
    side.params = Arc::clone(&params);
    side.doubt.user = letter.text("session_user")?.into();
    side.doubt.needs_reset = letter.says("needs_reset")?;
    if letter.says("is_unnamed_own")? {
        side.unnamed = Unnamed::Own;
    }
    let now = clock::now();
    let age = Duration::from_secs(letter.number("age")?);
    taker.census.servers.insert(card.id, Arc::clone(&card));
    Ok(Box::new(Server {
        stream,
        side,
        card,
        out: Vec::new(),
        kept: KeptRequest::default(),
        has_served: letter.says("is_used")?,
        born: now.before(age),
        used: now,
        generation: taker.generation,
        reported: Arc::new(letter.texts("reported")?),
        shown: params,
        home: thread::worker(),
    }))
}

fn card(
    letter: &Letter,
    stream: &Stream,
    host: &Host,
    (key, taker): (Vec<u8>, Taker<'_>),
) -> io::Result<Arc<ServerCard>> {
    let split = |address: Address| match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix => ("unix".to_owned(), host.port),
    };
    let ((address, port), (local_address, local_port)) =
        (split(stream.peer()), split(stream.local()));
    let pid = key.get(..4).and_then(|bytes| bytes.try_into().ok());
    let facts = ServerFacts {
        database: taker.database.to_owned(),
        user: taker.target.user.clone(),
        pool: taker.id,
        host: host.name.clone(),
        address,
        port,
        local_address,
        local_port,
        connected: letter.number("connected")?,
        descriptor: stream.number(),
        pid: pid.map_or(0, u32::from_be_bytes),
        ..ServerFacts::default()
    };
    let (id, now) = (taker.census.next_id(), clock::now());
    Ok(Arc::new(ServerCard::new(id, facts, key, now)))
}
