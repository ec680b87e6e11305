//! From a startup packet to a session: who is it, may it come in, and what it is told.
//!
//! The password is asked for before anything is said about databases, so that a stranger learns nothing. A client is welcomed with
//! the parameters of its pool's first server; before one has logged in, it waits for one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{info, warn};

use crate::clients::answer;
use crate::clients::credentials;
use crate::clients::proof::{self, Proven};
use crate::clients::session::Session;
use crate::clock;
use crate::config::settings::Settings;
use crate::error::Error;
use crate::net::stream::{Address, Stream};
use crate::pools::lease;
use crate::pools::limits::{ClientPlaces, Database};
use crate::pools::pool::Pool;
use crate::pools::registry::{Phase, Registry};
use crate::protocol::message;
use crate::protocol::parameters::{Parameters, is_carried};
use crate::protocol::sides::ClientSide;
use crate::protocol::startup::{Startup, parse_options};
use crate::servers::frames::Frames;
use crate::servers::server::Reported;
use crate::stats::census::{ClientCard, ClientFacts, ClientLimits};
use crate::stats::counters::micros;

/// What a login needs of the process.
pub struct Gate {
    /// What everybody shares.
    pub registry: Arc<Registry>,
    /// Serves who logged in to the console.
    pub console: ConsoleDoor,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// The way to the console.
pub type ConsoleDoor = Box<dyn Fn(Guest) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Somebody who logged in to the console.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub stream: Stream,
    /// Bytes that came already.
    pub rest: Vec<u8>,
    /// May act, not only look.
    pub is_admin: bool,
    /// The card in the census, removed when dropped.
    pub presence: Presence,
}

/// What a login leads to.
pub enum Entered {
    /// A session.
    Client(Box<Session>, Presence),
    /// The console.
    Console(Guest),
}

/// A client's entries in the census; they end with it.
#[derive(Debug)]
pub struct Presence {
    registry: Arc<Registry>,
    /// The card.
    pub card: Arc<ClientCard>,
    key: Vec<u8>,
    private: Option<PrivatePool>,
}

impl Presence {
    fn new(registry: &Arc<Registry>, card: Arc<ClientCard>, key: Vec<u8>) -> Self {
        registry.census.clients.insert(card.id, Arc::clone(&card));
        registry.census.keys.insert(key.clone(), Arc::clone(&card));
        Self {
            registry: Arc::clone(registry),
            card,
            key,
            private: None,
        }
    }

    fn with(self, private: Option<PrivatePool>) -> Self {
        let mut presence = self;
        presence.private = private;
        presence
    }

    /// Notes in the log how the session ended.
    pub fn ended(&self, registry: &Registry, result: &Result<(), Error>) {
        let settings = registry.settings.load();
        let (facts, id) = (&self.card.facts, self.card.id);
        let reason = match result {
            Ok(()) => "client close request".to_owned(),
            Err(error) => error.to_string(),
        };
        match result {
            Err(error) if *error != Error::ClientGone && settings.pooler.log_pooler_errors => {
                warn!(
                    client = id,
                    database = facts.database,
                    user = facts.user,
                    code = error.sqlstate(),
                    blame = ?error.blame(),
                    reason,
                    "client ended"
                );
            }
            Ok(()) | Err(_) if settings.pooler.log_disconnections => {
                info!(
                    client = id,
                    database = facts.database,
                    user = facts.user,
                    reason,
                    "client left"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.registry.census.clients.remove(&self.card.id);
        self.registry.census.keys.remove(&self.key);
    }
}

/// Whether `name` is the console's.
pub fn is_console(name: &str) -> bool {
    matches!(name, "pgbouncer" | "pooler")
}

/// Logs a client in. When it fails, the stream is left in `back`, so that the reason can be told.
///
/// # Errors
/// Whatever keeps the client out.
pub async fn log_in(
    stream: Stream,
    rest: Vec<u8>,
    startup: Startup,
    gate: &Arc<Gate>,
    back: &mut Option<Stream>,
) -> Result<Option<Entered>, Error> {
    let mut login = Login {
        frames: Frames::starting_with(rest),
        startup,
        registry: &gate.registry,
    };
    let stream = back.insert(stream);
    let entry = login.pass(stream).await?;
    let Some(stream) = back.take() else {
        return Ok(None);
    };
    Ok(Some(login.enter(stream, entry)))
}

/// A pool that one client alone uses; it closes when the client leaves.
#[derive(Debug)]
pub struct PrivatePool(Arc<Pool>);

impl Drop for PrivatePool {
    fn drop(&mut self) {
        self.0.pause(true);
    }
}

struct Login<'a> {
    frames: Frames,
    startup: Startup,
    registry: &'a Arc<Registry>,
}

enum Entry {
    Console {
        is_admin: bool,
        presence: Presence,
    },
    Pool {
        pool: Arc<Pool>,
        private: Option<PrivatePool>,
        places: ClientPlaces,
        params: Arc<Parameters>,
        presence: Presence,
    },
}

impl Login<'_> {
    fn enter(self, stream: Stream, entry: Entry) -> Entered {
        let rest = self.frames.into_rest();
        match entry {
            Entry::Console { is_admin, presence } => Entered::Console(Guest {
                stream,
                rest,
                is_admin,
                presence,
            }),
            Entry::Pool {
                pool,
                private,
                places,
                params,
                presence,
            } => {
                let presence = presence.with(private);
                let side = ClientSide::new(params);
                let card = Arc::clone(&presence.card);
                let session = Session::new(stream, side, card, pool, places, rest);
                Entered::Client(Box::new(session), presence)
            }
        }
    }

    async fn pass(&mut self, stream: &mut Stream) -> Result<Entry, Error> {
        let settings = self.registry.settings.load_full();
        let is_console = is_console(&self.startup.database);
        self.negotiate(stream).await?;
        if !is_console
            && self.registry.census.sockets.load(Relaxed) > settings.pooler.max_client_conn
        {
            return Err(Error::TooManyClients(settings.pooler.max_client_conn));
        }
        let mut given = self.given_parameters(&settings)?;
        Self::add_host(&mut given, stream, &settings);
        if is_console {
            return self.pass_to_console(stream, &settings).await;
        }
        let database = self.startup.database.clone();
        let user = self.startup.user.clone();
        let known = credentials::find(self.registry, &database, &user).await?;
        let proven = proof::demand(stream, &mut self.frames, self.registry, &user, known).await?;
        let places = self.take_places(&settings, &database)?;
        let database = Arc::clone(&places.database);
        let (pool, private, given) = match self.replication()? {
            None => (self.pool_for(&database, &user, proven)?, None, given),
            Some(wish) => {
                let pool = self.private_pool_for(&database, &user, proven, wish, given)?;
                (Arc::clone(&pool), Some(PrivatePool(pool)), Vec::new())
            }
        };
        let welcome = self.welcome_of(&pool, &settings).await?;
        pool.tally().logins.add(1);
        let reported: Vec<_> = welcome
            .iter()
            .filter(|(name, _)| is_carried(name))
            .cloned()
            .collect();
        let params = self
            .registry
            .interner
            .make(reported.into_iter().chain(given));
        let presence = self.register(stream, &settings);
        presence
            .card
            .set_application_name(params.get("application_name").unwrap_or_default());
        self.say_welcome(stream, &welcome, &params, &presence, &settings)
            .await?;
        Ok(Entry::Pool {
            pool,
            private,
            places,
            params,
            presence,
        })
    }

    /// What the startup packet says about the replication protocol; `None` for an ordinary connection.
    fn replication(&self) -> Result<Option<String>, Error> {
        let Some(value) = self.startup.get("replication").map(text) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "" | "false" | "off" | "no" | "0" => Ok(None),
            "database" | "true" | "on" | "yes" | "1" => Ok(Some(value)),
            _ => Err(Error::Protocol(format!(
                "invalid value for parameter \"replication\": \"{value}\""
            ))),
        }
    }

    /// A connection that speaks the replication protocol has a server of its own, opened with its parameters.
    fn private_pool_for(
        &self,
        database: &Arc<Database>,
        user: &str,
        proven: Proven,
        wish: String,
        mut startup: Vec<(String, String)>,
    ) -> Result<Arc<Pool>, Error> {
        startup.push(("replication".into(), wish));
        let gone = || Error::NoSuchDatabase(database.name.clone());
        let registry = self.registry;
        registry
            .private_pool(database, user, proven.verifier, &startup)
            .ok_or_else(gone)
    }

    async fn negotiate(&self, stream: &mut Stream) -> Result<(), Error> {
        if !self.startup.needs_negotiation() {
            return Ok(());
        }
        let mut out = Vec::new();
        answer::put(&mut out, |bytes| {
            message::negotiate_protocol_version(
                bytes,
                self.startup.agreed_minor(),
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
        if !is_admin && !settings.pooler.stats_users.contains(&user) {
            return Err(Error::ConsoleRefused(user));
        }
        if !is_own {
            let known = credentials::find(self.registry, "", &user).await?;
            proof::demand(stream, &mut self.frames, self.registry, &user, known).await?;
        }
        let presence = self.register(stream, settings);
        let mut out = Vec::new();
        let version = format!("{}/bouncer", env!("CARGO_PKG_VERSION"));
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
            message::backend_key_data(bytes, &presence.key);
            message::ready_for_query(bytes, b'I');
        });
        stream
            .write_all(&out)
            .await
            .map_err(|_| Error::ClientGone)?;
        Ok(Entry::Console { is_admin, presence })
    }

    /// The session parameters that came with the startup packet, those in `options` first.
    fn given_parameters(&self, settings: &Settings) -> Result<Vec<(String, String)>, Error> {
        let mut given = Vec::new();
        if let Some(options) = self.startup.get("options") {
            let parsed = parse_options(options).map_err(|_| {
                Error::Protocol("the startup parameter \"options\" cannot be read".into())
            })?;
            given.extend(parsed.into_iter().map(|(name, value)| (name, text(&value))));
        }
        for (name, value) in &self.startup.params {
            match name.as_str() {
                "options" => {}
                "replication" => {}
                _ => given.push((name.clone(), text(value))),
            }
        }
        given.retain(|(name, _)| !settings.pooler.ignore_startup_parameters.contains(name));
        Ok(given)
    }

    /// With `application_name_add_host`, the application's name says where the client comes from.
    fn add_host(given: &mut Vec<(String, String)>, stream: &Stream, settings: &Settings) {
        if !settings.pooler.application_name_add_host {
            return;
        }
        let is_name = |(name, _): &(String, String)| name.eq_ignore_ascii_case("application_name");
        let name = given.iter().rfind(|pair| is_name(pair));
        let name = name.map_or("app", |(_, name)| name.as_str());
        let name = format!("{name} - {}", stream.peer());
        given.retain(|pair| !is_name(pair));
        given.push(("application_name".into(), name));
    }

    fn may_come_in(&self, database: &Database) -> Result<(), Error> {
        if database.disabled.load(Relaxed) {
            return Err(Error::DatabaseDisabled(database.name.clone()));
        }
        if self.registry.phase() != Phase::Serving {
            return Err(Error::ShuttingDown);
        }
        Ok(())
    }

    /// Takes the client's places. A database that is being forgotten or reloaded in this moment is looked up again.
    fn take_places(&self, settings: &Settings, name: &str) -> Result<ClientPlaces, Error> {
        loop {
            let database = self
                .registry
                .database(name)
                .ok_or_else(|| Error::NoSuchDatabase(name.to_owned()))?;
            self.may_come_in(&database)?;
            let places = self.take_places_of(settings, &database)?;
            if self.registry.is_current(&database) {
                return Ok(places);
            }
        }
    }

    fn take_places_of(
        &self,
        settings: &Settings,
        database: &Arc<Database>,
    ) -> Result<ClientPlaces, Error> {
        let user = &self.startup.user;
        let limit = settings.effective_max_db_client_connections(&database.name);
        if !database.clients.take(limit) {
            return Err(Error::TooManyDatabaseClients(database.name.clone(), limit));
        }
        let owner = self.registry.user(user);
        let limit = settings.effective_max_user_client_connections(user);
        if !owner.clients.take(limit) {
            database.clients.give_back();
            return Err(Error::TooManyUserClients(user.clone(), limit));
        }
        Ok(ClientPlaces {
            database: Arc::clone(database),
            user: owner,
        })
    }

    fn pool_for(
        &self,
        database: &Arc<Database>,
        user: &str,
        proven: Proven,
    ) -> Result<Arc<Pool>, Error> {
        let gone = || Error::NoSuchDatabase(database.name.clone());
        let pool = self
            .registry
            .pool(database, user, proven.verifier)
            .ok_or_else(gone)?;
        if let Some(keys) = proven.keys
            && pool.user == user
        {
            pool.group.learn_keys(keys);
        }
        Ok(pool)
    }

    /// The parameters of the pool's servers; waits for the first server where none has logged in yet.
    async fn welcome_of(&self, pool: &Arc<Pool>, settings: &Settings) -> Result<Reported, Error> {
        let wait = settings.effective_query_wait_timeout(&pool.database.name, &self.startup.user);
        let wait = if wait.is_zero() {
            Duration::from_secs(86_400)
        } else {
            wait
        };
        let first = async {
            loop {
                let mut told = std::pin::pin!(pool.group.has_welcome.notified());
                told.as_mut().enable();
                if let Some(welcome) = pool.group.welcome() {
                    return Ok(welcome);
                }
                // It need not wait for a server of its own: what another login learned will do.
                tokio::select! {
                    () = told => {}
                    borrowed = lease::borrow(pool) => {
                        let mut lease = borrowed?;
                        let reported = Arc::clone(&lease.server().reported);
                        lease.release();
                        return Ok(reported);
                    }
                }
            }
        };
        let waited = tokio::time::timeout(wait, Box::pin(first)).await;
        waited.map_err(|_| Error::QueryWaitTimeout(wait))?
    }

    fn register(&self, stream: &Stream, settings: &Settings) -> Presence {
        let split = |address: Address| match address {
            Address::Tcp(address) => (address.ip().to_string(), address.port()),
            Address::Unix => ("unix".to_owned(), 0),
        };
        let ((address, port), (local_address, local_port)) =
            (split(stream.peer()), split(stream.local()));
        let facts = ClientFacts {
            database: self.startup.database.clone(),
            user: self.startup.user.clone(),
            address,
            port,
            local_address,
            local_port,
            tls: stream.tls_description().unwrap_or_default(),
            connected: clock::wall_seconds(),
            remote_pid: stream
                .peer_pid()
                .and_then(|pid| u32::try_from(pid).ok())
                .unwrap_or(0),
        };
        let id = self.registry.census.next_id();
        if settings.pooler.log_connections {
            info!(
                client = id, database = facts.database, user = facts.user, address = %stream.peer(), tls = facts.tls,
                "client logged in"
            );
        }
        // A reload may have come while the client proved who it is.
        let current = self.registry.settings.load();
        let limits = limits(&current, &facts.database, &facts.user);
        let card = Arc::new(ClientCard::new(id, facts, limits, clock::now()));
        let mut key = clock::entropy::<36>().to_vec();
        key[0] &= 0x7f;
        key.truncate(if self.startup.agreed_minor() >= 2 {
            36
        } else {
            8
        });
        Presence::new(self.registry, card, key)
    }

    async fn say_welcome(
        &self,
        stream: &mut Stream,
        welcome: &[(String, String)],
        params: &Parameters,
        presence: &Presence,
        settings: &Settings,
    ) -> Result<(), Error> {
        let mut out = Vec::new();
        answer::put(&mut out, |bytes| {
            message::authentication_ok(bytes);
            for (name, value) in welcome {
                let value = params.get(name).unwrap_or(value);
                message::parameter_status(bytes, name.as_bytes(), value.as_bytes());
            }
            message::backend_key_data(bytes, &presence.key);
        });
        if !settings.pooler.login_notify_message.is_empty() {
            answer::notice(&mut out, &settings.pooler.login_notify_message);
        }
        answer::put(&mut out, |bytes| message::ready_for_query(bytes, b'I'));
        stream.write_all(&out).await.map_err(|_| Error::ClientGone)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The time limits of a client of `database` that is `user`; a guest of the console has none.
pub fn limits(settings: &Settings, database: &str, user: &str) -> ClientLimits {
    if is_console(database) {
        return ClientLimits::default();
    }
    ClientLimits {
        client_idle_timeout: micros(settings.effective_client_idle_timeout(user)),
        query_timeout: micros(settings.effective_query_timeout(user)),
        query_wait_timeout: micros(settings.effective_query_wait_timeout(database, user)),
        query_wait_notify: micros(settings.pooler.query_wait_notify),
        idle_transaction_timeout: micros(settings.effective_idle_transaction_timeout(user)),
        transaction_timeout: micros(settings.effective_transaction_timeout(user)),
    }
}
