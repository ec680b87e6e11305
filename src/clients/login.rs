//! From a startup packet to a session: who is it, may it come in, and what it is told.
//!
//! The password is asked for before anything is said about databases, so that a stranger learns nothing. A client is welcomed with
//! the parameters of its pool's first server; before one has logged in, it waits for one.
//!
//! `login/room.rs` says whether there is room for it, `login/waits.rs` what it waits for.

mod room;
mod waits;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clients::answer;
use crate::clients::course::{self, Course};
use crate::clients::credentials;
use crate::clients::gate::{Entered, Gate, Guest, is_console};
use crate::clients::login::waits::Lack;
use crate::clients::presence::{Presence, PrivatePool};
use crate::clients::proof::{self, Claim, Proven};
use crate::clients::session::Session;
use crate::clients::wishes;
use crate::config::node::Node;
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect, PGBOUNCER_VERSION};
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::greeting::Greeting;
use crate::pools::limits::{ClientPlaces, Database};
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::protocol::message;
use crate::protocol::parameters::Parameters;
use crate::protocol::sides::ClientSide;
use crate::protocol::startup::Startup;
use crate::servers::frames::Frames;
use crate::servers::server::Reported;
use crate::stats::arrival::Arrival;
use crate::telemetry::events::{self, Attempt, Who};
use crate::topology::board::Board;
use crate::topology::node::NodeId;

/// Logs a client in. When it fails, the stream is left in `back`, so that the reason can be told.
///
/// # Errors
/// Whatever keeps the client out.
pub async fn log_in(
    stream: Stream,
    rest: Vec<u8>,
    startup: Startup,
    (gate, arrival): (&Arc<Gate>, &Arrival),
    back: &mut Option<Stream>,
) -> Result<Option<Entered>, Error> {
    arrival.note_name(&startup.user, &startup.database);
    let mut login = Login {
        arrival,
        frames: Frames::starting_with(rest),
        startup,
        registry: &gate.registry,
        dialect: gate.registry.settings.load().dialect,
    };
    let stream = back.insert(stream);
    let entry = login.pass(stream).await?;
    let Some(stream) = back.take() else {
        return Ok(None);
    };
    Ok(Some(login.enter(stream, entry)))
}

struct Login<'a> {
    arrival: &'a Arrival,
    frames: Frames,
    startup: Startup,
    registry: &'a Arc<Registry>,
    dialect: Dialect,
}

enum Entry {
    Console {
        is_admin: bool,
        presence: Presence,
        places: ClientPlaces,
    },
    Pool {
        pool: Arc<Pool>,
        places: ClientPlaces,
        params: Arc<Parameters>,
        course: Option<Course>,
        presence: Presence,
    },
}

/// Pool, a private one's guard, parameters still to be set, the course in a cluster, and what the client is welcomed with.
type Arranged = (
    Arc<Pool>,
    Option<PrivatePool>,
    Vec<(String, String)>,
    Option<Course>,
    Reported,
);

/// The writer of a cluster.
struct Writer {
    board: Arc<Board>,
    node: NodeId,
    place: Node,
}

impl Login<'_> {
    fn enter(self, stream: Stream, entry: Entry) -> Entered {
        let rest = self.frames.into_rest();
        match entry {
            Entry::Console {
                is_admin,
                presence,
                places,
            } => Entered::Console(Guest {
                stream,
                rest,
                is_admin,
                presence,
                places,
            }),
            Entry::Pool {
                pool,
                places,
                params,
                course,
                presence,
            } => {
                let side = ClientSide::new(params);
                let card = Arc::clone(&presence.card);
                let session = Session::new(stream, side, card, pool, places, course, rest);
                Entered::Client(Box::new(session), presence)
            }
        }
    }

    async fn pass(&mut self, stream: &mut Stream) -> Result<Entry, Error> {
        let settings = self.registry.settings.load_full();
        let is_console = is_console(&self.startup.database, self.dialect);
        self.negotiate(stream).await?;
        if !is_console
            && self.registry.census.sockets.load(Relaxed) > settings.pooler.max_client_conn
        {
            return Err(Error::TooManyClients(settings.pooler.max_client_conn));
        }
        let mut given = wishes::parameters(&self.startup, &settings)?;
        wishes::add_host(&mut given, stream, &settings);
        self.tell_attempt(stream, &settings);
        if is_console {
            let entry = self.pass_to_console(stream, &settings).await?;
            let is_name = |name: &str| name.eq_ignore_ascii_case("application_name");
            if let Entry::Console { presence, .. } = &entry
                && let Some((_, name)) = given.iter().find(|(name, _)| is_name(name))
            {
                presence.card.set_application_name(name);
            }
            return Ok(entry);
        }
        let wish = wishes::replication(&self.startup)?;
        self.check_room(&settings)?;
        let proven = self.prove(stream, wish.as_deref()).await?;
        let (database, user) = (self.startup.database.clone(), self.startup.user.clone());
        let places = self.take_places(&settings, &database)?;
        let database = Arc::clone(&places.database);
        let arranged = self.arrange(&database, &user, &proven, (wish, given), &settings);
        let (pool, private, mut given, mut course, welcome) = arranged.await?;
        if let Some(course) = course.as_mut().filter(|_| pool.plan.load().split.is_some()) {
            course.startup_wish = wishes::own(&mut given)?;
        }
        pool.tally().logins.add(1);
        let interner = &self.registry.interner;
        let greeting = pool.group.greetings.of(&welcome, given, interner);
        let params = Arc::clone(&greeting.params);
        let presence = self.register(stream).with(private)?;
        presence
            .card
            .set_application_name(params.get("application_name").unwrap_or_default());
        self.say_welcome(stream, &greeting, &presence, &settings)
            .await?;
        Ok(Entry::Pool {
            pool,
            places,
            params,
            course,
            presence,
        })
    }

    /// Lets the client prove who it is; from then on it is who the proof says it is.
    async fn prove(&mut self, stream: &mut Stream, wish: Option<&str>) -> Result<Proven, Error> {
        let claim = Claim {
            database: &self.startup.database,
            user: &self.startup.user,
            is_console: is_console(&self.startup.database, self.dialect),
            is_physical: wish.is_some_and(|wish| !wish.eq_ignore_ascii_case("database")),
        };
        let proven = proof::demand(stream, &mut self.frames, self.registry, claim).await?;
        if proven.user != self.startup.user {
            self.startup.user.clone_from(&proven.user);
        }
        Ok(proven)
    }

    /// Finds the client's pool, where there are several nodes that of the writer, and what it is welcomed with.
    async fn arrange(
        &self,
        database: &Arc<Database>,
        user: &str,
        proven: &Proven,
        (wish, given): (Option<String>, Vec<(String, String)>),
        settings: &Settings,
    ) -> Result<Arranged, Error> {
        let mut lack = Lack::default();
        loop {
            let writer = self.writer_of(&database.name, &lack).await?;
            let at = writer
                .as_ref()
                .map_or(Node::Own, |writer| writer.place.clone());
            let (pool, private, rest) = match wish.clone() {
                None => (
                    self.pool_for(database, user, proven, &at)?,
                    None,
                    given.clone(),
                ),
                Some(wish) => {
                    let startup = (wish, given.clone());
                    let pool = self.private_pool_for(database, user, proven, &at, startup)?;
                    (Arc::clone(&pool), Some(PrivatePool(pool)), Vec::new())
                }
            };
            let welcome = self.welcome_of(&pool, settings, lack.asker()).await;
            let course = writer
                .map(|writer| Course::new(writer.board, Arc::clone(&pool.group), writer.node));
            match (welcome, &course) {
                (Ok(welcome), _) => {
                    let course = course.filter(|_| private.is_none());
                    return Ok((pool, private, rest, course, welcome));
                }
                (Err(error), Some(course))
                    if course::is_passing(&error)
                        || (course.is_at_replica() && course::is_refusal(&error)) =>
                {
                    let (node, _) = course.bound();
                    lack.go_around(&course.board, node, error).await?;
                }
                (
                    Err(Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. }),
                    _,
                ) if private.is_some() => return Err(Error::ReplicationRefused(refusal)),
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// A connection that speaks the replication protocol has a server of its own, opened with its parameters.
    fn private_pool_for(
        &self,
        database: &Arc<Database>,
        user: &str,
        proven: &Proven,
        node: &Node,
        (wish, mut startup): (String, Vec<(String, String)>),
    ) -> Result<Arc<Pool>, Error> {
        startup.push(("replication".into(), wish));
        let host = self.pool_for(database, user, proven, node)?;
        let private = self.registry.private_pool(&host, &startup);
        private.ok_or_else(|| Error::NoSuchDatabase(database.name.clone()))
    }

    fn tell_attempt(&self, stream: &Stream, settings: &Settings) {
        if !settings.pooler.log_connections {
            return;
        }
        let (arrival, startup) = (self.arrival, &self.startup);
        let who = Who {
            database: &startup.database,
            user: &startup.user,
            ..Who::client(arrival.id, &arrival.facts)
        };
        let tls = stream.tls_description().unwrap_or_default();
        let replication = startup.get("replication").map(String::from_utf8_lossy);
        let attempt = Attempt {
            tls: &tls,
            replication: replication.as_deref(),
        };
        events::login_attempt(who, attempt);
    }

    async fn negotiate(&self, stream: &mut Stream) -> Result<(), Error> {
        if !self.startup.needs_negotiation(self.dialect) {
            return Ok(());
        }
        let mut out = Vec::new();
        answer::put(&mut out, |bytes| {
            message::negotiate_protocol_version(
                bytes,
                self.startup.agreed_minor(self.dialect),
                &self.startup.extensions,
            );
        });
        stream.write_all(&out).await.map_err(|_| Error::ClientGone)
    }

    async fn pass_to_console(
        &mut self,
        stream: &mut Stream,
        settings: &Settings,
    ) -> Result<Entry, Error> {
        let user = self.startup.user.clone();
        let is_own = user == "pgbouncer"
            && stream
                .peer_uid()
                .is_some_and(|uid| uid == credentials::own_uid());
        let is_admin = is_own || settings.pooler.admin_users.contains(&user);
        let is_pgbouncer = settings.dialect == Dialect::PgBouncer;
        // With auth_type = any PgBouncer knows nobody, and lets everybody look.
        let may_look = settings.pooler.stats_users.contains(&user)
            || (is_pgbouncer && settings.pooler.auth_type == AuthType::Any);
        if !is_admin && !may_look {
            let is_known = self.registry.users.load().contains_key(&user)
                || settings.users.contains_key(&user);
            if is_pgbouncer && !is_known {
                // PgBouncer refuses users it knows at once; a stranger is asked for its proof first.
                self.prove(stream, None).await?;
            }
            return Err(Error::ConsoleRefused(user));
        }
        let console = Arc::clone(&self.registry.console);
        if !is_own {
            let (limit, of_user) = self.client_limits(settings, &console.name);
            self.check_room_of(&console, (limit, of_user))?;
            self.prove(stream, None).await?;
        }
        let places = self.take_places_of(settings, &console, is_own)?;
        if is_own && settings.pooler.log_connections {
            tracing::info!("pgbouncer access from unix socket");
        }
        let presence = self.register(stream);
        let out = console_greeting(settings.dialect, &presence.key);
        stream
            .write_all(&out)
            .await
            .map_err(|_| Error::ClientGone)?;
        Ok(Entry::Console {
            is_admin,
            presence,
            places,
        })
    }

    fn pool_for(
        &self,
        database: &Arc<Database>,
        user: &str,
        proven: &Proven,
        node: &Node,
    ) -> Result<Arc<Pool>, Error> {
        let gone = || Error::NoSuchDatabase(database.name.clone());
        let verifier = proven.verifier.clone();
        let pool = match node {
            Node::Own => self.registry.pool(database, user, verifier),
            Node::At { .. } => {
                let group = self.registry.group(database, user, verifier);
                group.and_then(|group| self.registry.pool_at(&group, node))
            }
        };
        let pool = pool.ok_or_else(gone)?;
        if let Some(keys) = &proven.keys
            && pool.user == user
        {
            pool.group.learn_keys(Arc::clone(keys));
        }
        Ok(pool)
    }

    fn register(&self, stream: &Stream) -> Presence {
        Presence::register(self.registry, self.arrival, stream, &self.startup)
    }

    async fn say_welcome(
        &self,
        stream: &mut Stream,
        greeting: &Greeting,
        presence: &Presence,
        settings: &Settings,
    ) -> Result<(), Error> {
        let mut out = Vec::new();
        answer::put(&mut out, |bytes| {
            message::authentication_ok(bytes);
            bytes.extend_from_slice(&greeting.told);
            message::backend_key_data(bytes, &presence.key);
        });
        if !settings.pooler.login_notify_message.is_empty() {
            answer::notice(
                &mut out,
                &settings.pooler.login_notify_message,
                self.dialect,
            );
        }
        answer::put(&mut out, |bytes| message::ready_for_query(bytes, b'I'));
        stream.write_all(&out).await.map_err(|_| Error::ClientGone)
    }
}

/// What a client hears at its login to the console, up to ReadyForQuery.
fn console_greeting(dialect: Dialect, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let version = match dialect {
        Dialect::Native => env!("CARGO_PKG_VERSION"),
        Dialect::PgBouncer => PGBOUNCER_VERSION,
    };
    let version = format!("{version}/bouncer");
    let told = [
        ("server_version", version.as_str()),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ];
    answer::put(&mut out, |bytes| {
        message::authentication_ok(bytes);
        for (name, value) in told {
            message::parameter_status(bytes, name.as_bytes(), value.as_bytes());
        }
        message::backend_key_data(bytes, key);
        message::ready_for_query(bytes, b'I');
    });
    out
}
