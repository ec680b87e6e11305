//! A client on its way into another process: when it may go, what must be known of it, and how it is taken in.
//!
//! It goes between two requests: what it asked for has been answered, and of what it asks next not a byte has gone to a server. It goes
//! alone, or, where it keeps its server between transactions, together with that. Whatever cannot be written down keeps it where
//! it is until it has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::password::Verifier;
use crate::clients::entrance::facts_of;
use crate::clients::presence::{Presence, age};
use crate::clients::session::{Session, Station};
use crate::clock;
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::net::letter::Letter;
use crate::net::passing::Packet;
use crate::net::stream::Stream;
use crate::pools::lease::Lease;
use crate::pools::limits::ClientPlaces;
use crate::pools::pool::{Away, Pool};
use crate::pools::registry::Registry;
use crate::protocol::carried::Keeps;
use crate::protocol::sides::ClientSide;
use crate::servers::parcel;
use crate::stats::census::{ClientFacts, ServerState};

/// A client that has left its session for another process.
#[derive(Debug)]
pub struct Parcel {
    /// What is sent.
    pub packet: Packet,
    /// The server that goes with it, whose seat is taken until this is dropped.
    pub away: Option<Away>,
}

impl Session {
    /// Whether it goes over to another process now.
    pub fn is_moving(&self) -> bool {
        self.is_moving
    }

    /// Makes the client ready to go over to another process; false if it may not now. Who waits in line leaves it: nothing of its request was
    /// sent.
    pub(super) fn make_ready_to_move(&mut self) -> bool {
        if !self.is_portable() {
            return false;
        }
        match &mut self.station {
            Station::Idle => true,
            Station::Waiting(spot) => {
                if let Some(server) = spot.leave() {
                    self.pool.give_back(server);
                }
                self.station = Station::Idle;
                true
            }
            Station::Linked(lease) => {
                let (server, is_at_rest) = (lease.server(), self.query.is_none());
                let is_new = self.is_fresh || self.is_trying || self.xact.is_some();
                let target = Arc::clone(&self.pool.plan.load().target);
                self.rules.mode == PoolMode::Session
                    && is_at_rest
                    && !is_new
                    && self.held.is_empty()
                    && self.side.names.is_empty()
                    && parcel::describe(server, &target).is_some()
            }
            Station::Holding(_) | Station::Bereft(_) => false,
        }
    }

    /// Whether all that is known of the client itself can be written down.
    fn is_portable(&self) -> bool {
        let side = &self.side;
        let is_between = side.walk.is_between() && !side.copy_tail && self.out.is_empty();
        let is_plain = side.keeps.is_plain() && !side.params.has_prepared();
        let is_ordinary = self.course.is_none()
            && self.late.is_none()
            && self.ears.is_none()
            && self.pool.guest.is_none();
        is_between && is_plain && is_ordinary && !self.stream.is_tls()
    }

    /// Packs the client, and the server that it keeps.
    ///
    /// # Errors
    /// What the system says when it gives no descriptor: then the client is lost.
    pub fn pack(&mut self, presence: &Presence) -> io::Result<Parcel> {
        let (side, facts) = (&self.side, &presence.card.facts);
        let names = side.names.iter();
        let mut letter = Letter::new("client")
            .with("database", facts.database.as_str())
            .with("user", facts.user.as_str())
            .with("connected", facts.connected)
            .with("age", age(facts).as_secs())
            .with_bytes("key", &presence.key)
            .with_bytes("held", &self.held)
            .with_texts("params", side.params.iter())
            .with_texts("startup", side.keeps.startup.iter())
            .with_all_bytes(
                "names",
                names.map(|(name, statement)| (&**name, &*statement.definition)),
            );
        if let Some(password) = self.pool.group.password() {
            letter = letter.with("password", password.to_text());
        }
        let mut descriptors = vec![self.stream.descriptor()?];
        let mut away = None;
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle)
            && let Some(left) = lease.send_away()
            && let Some(server) = left.server()
        {
            let target = Arc::clone(&self.pool.plan.load().target);
            let described = parcel::describe(server, &target).ok_or(io::ErrorKind::InvalidData)?;
            descriptors.push(server.stream.descriptor()?);
            letter = letter.with_letter("server", described);
            away = Some(left);
        }
        let bytes = letter.write();
        let packet = Packet { bytes, descriptors };
        Ok(Parcel { packet, away })
    }

    /// Gives the client the server that it has kept all the time.
    fn go_on_with(&mut self, mut lease: Lease) {
        let card = Arc::clone(&lease.server().card);
        card.enter(ServerState::Active, self.card.since());
        card.lend_to(self.card.id);
        self.card.link_to(card.id);
        self.rules.mode = PoolMode::Session;
        self.station = Station::Linked(lease);
    }
}

/// A client that goes on here; or its connection, and what it has to be told before that ends.
pub type Adopted = Result<(Session, Presence), (Stream, Error)>;

/// Takes a client in.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a packet that says too little; what the system says of the connection.
pub fn adopt(packet: Packet, registry: &Arc<Registry>) -> io::Result<Adopted> {
    let letter = Letter::read(&packet.bytes)?;
    let mut descriptors = packet.descriptors.into_iter();
    let mut stream = || -> io::Result<Stream> {
        let next: Option<OwnedFd> = descriptors.next();
        Stream::from_descriptor(next.ok_or(io::ErrorKind::InvalidData)?)
    };
    let client = stream()?;
    let (database, user) = (letter.text("database")?, letter.text("user")?);
    let Some((pool, places)) = find_pool(registry, &letter, (database, user)) else {
        return Ok(Err((client, Error::DatabaseRemoved(database.to_owned()))));
    };
    let lease = match letter.letter("server")? {
        None => None,
        Some(server) => Some(pool.adopt_lent(&server, stream()?)?),
    };
    let is_followed = registry.settings.load().cluster_of(database).is_some();
    if is_followed || lease.as_ref().is_some_and(Lease::is_obsolete) {
        return Ok(Err((client, Error::ServersReplaced)));
    }
    let facts = ClientFacts {
        database: database.to_owned(),
        user: user.to_owned(),
        connected: letter.number("connected")?,
        came: clock::now().before(Duration::from_secs(letter.number("age")?)),
        ..facts_of(&client, registry)
    };
    let side = side_of(&letter, registry, &pool)?;
    let presence = Presence::take_over(registry, facts, letter.bytes("key")?);
    let card = Arc::clone(&presence.card);
    card.set_application_name(side.params.get("application_name").unwrap_or_default());
    card.set_prepared(side.names.len());
    let held = letter.bytes("held")?;
    let mut session = Session::new(client, side, card, pool, places, None, held);
    if let Some(lease) = lease {
        session.go_on_with(lease);
    }
    Ok(Ok((session, presence)))
}

fn find_pool(
    registry: &Arc<Registry>,
    letter: &Letter,
    (database, user): (&str, &str),
) -> Option<(Arc<Pool>, ClientPlaces)> {
    let places = ClientPlaces {
        database: registry.database(database)?,
        user: registry.user(user),
    };
    // It was let in before: no limit counts any more.
    places.database.clients.take(0);
    places.user.clients.take(0);
    let password = letter.text("password").ok().map(Verifier::parse);
    let pool = registry.pool(&places.database, user, password)?;
    Some((pool, places))
}

fn side_of(letter: &Letter, registry: &Registry, pool: &Pool) -> io::Result<ClientSide> {
    let interner = &registry.interner;
    let mut side = ClientSide::new(interner.make(letter.texts("params")?));
    side.keeps = Keeps::new(interner.make(letter.texts("startup")?));
    for (name, definition) in letter.all_bytes("names")? {
        let statement = pool.group.dictionary.find(&definition);
        side.names.insert(name.into(), statement);
    }
    Ok(side)
}
