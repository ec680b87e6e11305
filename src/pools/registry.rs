//! What everybody shares: the settings in force, all pools, all databases and users, the census.
//!
//! Pools come in groups: one per database and user, with a pool per node (see `group.rs`). A group is made when its first
//! client logs in (or at once, where the user is forced and `min_pool_size` is set), and follows every reload.
//!
//! Here is what is shared, with its databases and users. `registry/groups.rs` keeps the pools, `registry/reload.rs` puts new
//! settings in force, `registry/places.rs` moves places from one pool to another.

mod groups;
mod places;
mod reload;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{Notify, OnceCell};

use crate::auth::access::Access;
use crate::auth::scram::ScramSecret;
use crate::auth::users::Users;
use crate::clock::{self, Moment};
use crate::config::settings::{FALLBACK, Settings};
use crate::net::names::Names;
use crate::net::tls::{ClientTls, Files, Verify, Versions};
use crate::pools::deeds::Deeds;
use crate::pools::elder::Elder;
use crate::pools::group::Group;
use crate::pools::limits::{Database, User};
use crate::pools::own::OwnConnections;
use crate::pools::peers::Peers;
use crate::pools::plan::name_rules;
use crate::pools::pool::Pool;
use crate::pools::routes::Routes;
use crate::pools::standstill::Standstill;
use crate::protocol::parameters::Interner;
use crate::routing::cache::Cache;
use crate::routing::judge::Lists;
use crate::secret::Secret;
use crate::servers::security::TlsWays;
use crate::servers::target::Target;
use crate::stats::census::Census;
use crate::stats::report::Ledger;
use crate::telemetry::events;
use crate::topology::board::Board;

/// How many bytes are kept of what is known of texts.
const TEXTS: u64 = 16 << 20;

fn lists(settings: &Settings) -> Lists {
    Lists {
        read: settings.routing.read_functions.clone(),
        write: settings.routing.write_functions.clone(),
    }
}

/// What the process is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It lets clients go one by one and takes no new ones.
    Draining,
    /// It waits until no server is open.
    Closing,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Door {
    /// The number of its descriptor.
    pub descriptor: i32,
    /// Its address: an IP or `unix`.
    pub address: String,
    /// Its port; of a Unix socket the one in its name.
    pub port: u16,
}

/// What everybody shares.
#[derive(Debug)]
pub struct Registry {
    /// The settings in force.
    pub settings: ArcSwap<Settings>,
    /// Passwords, out of `auth_file` and `[users]`.
    pub users: ArcSwap<Users>,
    /// What the files and options about logins say.
    pub access: ArcSwap<Access>,
    /// TLS towards clients; none when it is off.
    pub client_tls: ArcSwapOption<ServerConfig>,
    /// TLS towards servers; none when it is off.
    pub server_tls: ArcSwap<TlsWays>,
    /// Who lives.
    pub census: Arc<Census>,
    /// All parameter sets.
    pub interner: Interner,
    /// Where the views of clusters hang, by the clusters' names.
    pub boards: DashMap<String, Arc<Board>>,
    /// What the sessions of a database share that splits its reads, by the database's name.
    pub routes: DashMap<String, Arc<Routes>>,
    /// Told when a catalog is to be loaded at once.
    pub wants_catalog: Arc<Notify>,
    texts: ArcSwap<Cache>,
    /// What is done to databases, by the names of their clusters and their own there.
    deeds: DashMap<(String, String), Weak<Deeds>>,
    /// The process that this one takes over from.
    pub elder: ArcSwapOption<Elder>,
    /// Where clients knock.
    pub doors: ArcSwap<Vec<Door>>,
    /// Other poolers behind the same address.
    pub peers: Peers,
    /// The addresses of servers' names.
    pub names: Arc<Names>,
    /// Whether everything is held still.
    pub standstill: Standstill,
    /// The console, as a database that clients log in to.
    pub console: Arc<Database>,
    /// What the console counts, and what averages are taken of.
    pub ledger: Ledger,
    /// How many workers there are.
    pub workers: usize,
    /// The connections of the pooler's own have cards, too, but nobody is shown them.
    pub own_census: Census,
    /// Connections of the pooler's own, by database, and where they lead.
    pub own_connections: DashMap<String, (OwnConnections, Arc<Target>)>,
    /// Random, for challenges to users who do not exist.
    pub nonce: [u8; 32],
    private: Mutex<Vec<Weak<Pool>>>,
    warned_of: DashMap<String, ()>,
    made_secrets: DashMap<String, (Secret, Arc<OnceCell<ScramSecret>>)>,
    groups: DashMap<(String, String), Arc<Group>>,
    last_pool: AtomicU64,
    peer_tls: OnceLock<Option<Arc<ClientConfig>>>,
    databases: DashMap<String, Arc<Database>>,
    owners: DashMap<String, Arc<User>>,
    phase: AtomicU8,
    paused: AtomicBool,
    hands_over: AtomicBool,
    opens_from: AtomicU64,
}

impl Registry {
    /// A registry without pools.
    pub fn new(
        settings: Settings,
        users: Users,
        client_tls: Option<Arc<ServerConfig>>,
        server_tls: TlsWays,
        workers: usize,
    ) -> Arc<Self> {
        let registry = Self {
            names: Arc::new(Names::new(name_rules(&settings))),
            boards: DashMap::new(),
            routes: DashMap::new(),
            wants_catalog: Arc::default(),
            texts: ArcSwap::from_pointee(Cache::new(TEXTS, lists(&settings))),
            deeds: DashMap::new(),
            doors: ArcSwap::default(),
            elder: ArcSwapOption::empty(),
            peers: Peers::default(),
            peer_tls: OnceLock::new(),
            settings: ArcSwap::from_pointee(settings),
            users: ArcSwap::from_pointee(users),
            access: ArcSwap::from_pointee(Access::default()),
            client_tls: ArcSwapOption::new(client_tls),
            server_tls: ArcSwap::from_pointee(server_tls),
            census: Arc::default(),
            interner: Interner::default(),
            standstill: Standstill::default(),
            console: Arc::new(Database::new("pgbouncer", false)),
            ledger: Ledger::default(),
            workers: workers.max(1),
            own_census: Census::default(),
            own_connections: DashMap::new(),
            nonce: clock::entropy(),
            private: Mutex::new(Vec::new()),
            warned_of: DashMap::new(),
            made_secrets: DashMap::new(),
            groups: DashMap::new(),
            last_pool: AtomicU64::new(0),
            databases: DashMap::new(),
            owners: DashMap::new(),
            phase: AtomicU8::new(Phase::Serving as u8),
            paused: AtomicBool::new(false),
            hands_over: AtomicBool::new(false),
            opens_from: AtomicU64::new(0),
        };
        for name in registry
            .settings
            .load()
            .databases
            .keys()
            .filter(|name| *name != FALLBACK)
        {
            registry
                .databases
                .insert(name.clone(), Arc::new(Database::new(name, false)));
        }
        let registry = Arc::new(registry);
        registry.open_forced_pools();
        registry
    }

    /// What the process is about to do.
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Enters another phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    /// The database that clients call `name`; one is made out of the `"*"` entry where that is configured.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        if let Some(known) = self.databases.get(name) {
            return Some(Arc::clone(&known));
        }
        let settings = self.settings.load();
        if name == FALLBACK || settings.database(name).is_none() {
            return None;
        }
        let is_auto = !settings.is_listed(name);
        if is_auto {
            events::database_made(name);
        }
        Some(self.add_database(name, is_auto))
    }

    /// The database that clients call `name`, if it is listed or was used already.
    pub fn known_database(&self, name: &str) -> Option<Arc<Database>> {
        self.databases.get(name).map(|known| Arc::clone(&known))
    }

    fn add_database(&self, name: &str, is_auto: bool) -> Arc<Database> {
        let made = self
            .databases
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Database::new(name, is_auto)));
        Arc::clone(&made)
    }

    /// Whether `database` is still the one that its name stands for, and not one that a reload took away meanwhile.
    pub fn is_current(&self, database: &Arc<Database>) -> bool {
        self.databases
            .get(&database.name)
            .is_some_and(|known| Arc::ptr_eq(&known, database))
    }

    /// All databases, by name.
    pub fn databases(&self) -> Vec<Arc<Database>> {
        let mut all: Vec<_> = self
            .databases
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }

    /// The limits of user `name`.
    pub fn user(&self, name: &str) -> Arc<User> {
        if let Some(known) = self.owners.get(name) {
            return Arc::clone(&known);
        }
        Arc::clone(&self.owners.entry(name.to_owned()).or_default())
    }

    /// The limits of user `name`, where they are kept.
    pub fn known_user(&self, name: &str) -> Option<Arc<User>> {
        self.owners.get(name).map(|known| Arc::clone(&known))
    }

    /// The names of all users whose limits are kept: those who logged in, here or to a server.
    pub fn known_users(&self) -> Vec<String> {
        self.owners
            .iter()
            .map(|entry| entry.key().clone())
            .collect()
    }

    /// A number for a new pool; 0 is none's.
    pub fn next_pool(&self) -> u64 {
        self.last_pool.fetch_add(1, SeqCst) + 1
    }

    /// The board of the cluster that `database` belongs to.
    pub fn board_of(&self, database: &str) -> Option<Arc<Board>> {
        let settings = self.settings.load();
        let (cluster, _) = settings.cluster_of(database)?;
        self.boards.get(cluster).map(|board| Arc::clone(&board))
    }

    /// What the sessions of `database` share to split its reads.
    pub fn routes_of(&self, database: &str) -> Arc<Routes> {
        if let Some(known) = self.routes.get(database) {
            return Arc::clone(&known);
        }
        let settings = self.settings.load_full();
        let deeds = self.deeds_of(&settings, database).unwrap_or_default();
        let entry = self.routes.entry(database.to_owned());
        let made = Arc::clone(&entry.or_insert_with(|| {
            let texts = self.texts.load_full();
            let wants_catalog = Arc::clone(&self.wants_catalog);
            self.wants_catalog.notify_one();
            Arc::new(Routes::new(database, texts, deeds, wants_catalog))
        }));
        if !Arc::ptr_eq(&settings, &self.settings.load()) {
            // A reload came in between, and may have missed it.
            self.follow_deeds(&self.settings.load());
        }
        made
    }

    /// What is done to the database that clients call `database`, where it is in a cluster; the same for all its names.
    fn deeds_of(&self, settings: &Settings, database: &str) -> Option<Arc<Deeds>> {
        let (cluster, _) = settings.cluster_of(database)?;
        let key = (
            cluster.to_owned(),
            settings.server_dbname(database).to_owned(),
        );
        if let Some(known) = self.deeds.get(&key).and_then(|known| known.upgrade()) {
            return Some(known);
        }
        self.deeds.retain(|_, known| known.strong_count() > 0);
        let mut entry = self.deeds.entry(key).or_default();
        let deeds = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&deeds);
        Some(deeds)
    }

    /// A reload may have led the names of databases elsewhere.
    fn follow_deeds(&self, settings: &Settings) {
        for routes in &self.routes {
            if let Some(deeds) = self.deeds_of(settings, &routes.database) {
                routes.deeds.store(deeds);
            }
        }
    }

    /// Somebody has changed code, or may have, in the database of `deeds`: all its catalogs are to be loaded again.
    pub fn code_changed(&self, deeds: &Arc<Deeds>) {
        for routes in &self.routes {
            if Arc::ptr_eq(&routes.deeds.load(), deeds) {
                routes.code_changed();
            }
        }
    }

    /// Puts the operator's lists of functions in force.
    fn follow_lists(&self, settings: &Settings) {
        let lists = lists(settings);
        let known = self.texts.load();
        if *known.lists() == lists {
            return;
        }
        let renewed = Arc::new(known.renewed(TEXTS, lists));
        self.texts.store(Arc::clone(&renewed));
        for routes in &self.routes {
            routes.texts.store(Arc::clone(&renewed));
        }
    }

    /// TLS towards other poolers: no certificate is asked for and none is checked. None where it cannot be set up.
    pub fn peer_tls(&self) -> Option<Arc<ClientConfig>> {
        let versions = Versions {
            tls12: true,
            tls13: true,
        };
        let load = || ClientTls::load(Verify::No, &Files::default(), versions).ok();
        self.peer_tls.get_or_init(load).clone()
    }

    /// Whether nobody has warned of the stored secret of `user`, a known one, since the last reload. Whoever asks must do so now.
    pub fn tells_first(&self, user: &str) -> bool {
        self.warned_of.insert(user.to_owned(), ()).is_none()
    }

    /// The SCRAM secret made from a password that is stored in clear: made once, by whoever asks first.
    pub fn made_secret(&self, user: &str, password: &Secret) -> Arc<OnceCell<ScramSecret>> {
        if let Some(known) = self.made_secrets.get(user)
            && known.0 == *password
        {
            return Arc::clone(&known.1);
        }
        let fresh = Arc::new(OnceCell::new());
        self.made_secrets
            .insert(user.to_owned(), (password.clone(), Arc::clone(&fresh)));
        fresh
    }

    /// Notes PAUSE or RESUME of everything, for pools that are yet to come.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// Whether everything is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Notes that another process takes over, or has given that up.
    pub fn set_hands_over(&self, hands_over: bool) {
        self.hands_over.store(hands_over, SeqCst);
        self.opens_from.store(0, SeqCst);
    }

    /// Whether another process takes over: nothing is opened that nobody waits for.
    pub fn hands_over(&self) -> bool {
        self.hands_over.load(SeqCst)
    }

    /// While another process takes over, servers are opened from then on.
    pub fn open_from(&self, from: Moment) {
        self.opens_from.store(from.as_micros(), SeqCst);
    }

    /// Whether servers may be opened at all.
    pub fn may_open(&self, now: Moment) -> bool {
        now.as_micros() >= self.opens_from.load(SeqCst)
    }

    /// Holds everything still. False when it stood still already.
    pub fn suspend(&self) -> bool {
        let has_begun = self.standstill.begin();
        self.wake_clients();
        has_begun
    }

    /// Goes on after a standstill. False when there was none.
    pub fn go_on(&self) -> bool {
        let was_on = self.standstill.end();
        if was_on {
            self.wake_clients();
        }
        was_on
    }

    fn wake_clients(&self) {
        for card in &self.census.clients {
            card.wake();
        }
    }

    /// Drops a database that came out of the `"*"` entry and that nobody uses.
    pub fn forget_database(&self, name: &str) {
        let settings = self.settings.load();
        let dropped = self.databases.remove_if(name, |_, database| {
            let is_used = database.clients.used() > 0 || database.is_held_back();
            database.is_auto && !settings.is_listed(name) && !is_used
        });
        if dropped.is_some() {
            events::database_dropped(name);
        }
    }
}
