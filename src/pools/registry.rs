//! What everybody shares: the settings in force, all pools, all databases and users, the census.
//!
//! Pools come in groups: one per database and user, with a pool per node (see `group.rs`). A group is made when its first
//! client logs in (or at once, where the user is forced and `min_pool_size` is set), and follows every reload.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::OnceCell;

use crate::auth::access::Access;
use crate::auth::password::Verifier;
use crate::auth::scram::ScramSecret;
use crate::auth::users::Users;
use crate::clock;
use crate::config::node::Node;
use crate::config::settings::{FALLBACK, Settings};
use crate::config::value::PoolMode;
use crate::net::names::Names;
use crate::net::tls::{ClientTls, Files, Verify, Versions};
use crate::pools::group::Group;
use crate::pools::limits::{Database, User};
use crate::pools::own::OwnConnections;
use crate::pools::peers::Peers;
use crate::pools::plan::{Plan, name_rules, plan};
use crate::pools::pool::Pool;
use crate::protocol::parameters::Interner;
use crate::secret::Secret;
use crate::servers::target::{Host, Target};
use crate::stats::census::{Census, Order, ServerCard};
use crate::stats::counters::Tally;
use crate::stats::report::Ledger;
use crate::telemetry::events;
use crate::topology::board::Board;

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
    pub server_tls: ArcSwapOption<ClientConfig>,
    /// Who lives.
    pub census: Census,
    /// All parameter sets.
    pub interner: Interner,
    /// Where the views of clusters hang, by the clusters' names.
    pub boards: DashMap<String, Arc<Board>>,
    /// Other poolers behind the same address.
    pub peers: Peers,
    /// The addresses of servers' names.
    pub names: Names,
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
    paused: std::sync::atomic::AtomicBool,
}

impl Registry {
    /// A registry without pools.
    pub fn new(
        settings: Settings,
        users: Users,
        client_tls: Option<Arc<ServerConfig>>,
        server_tls: Option<Arc<ClientConfig>>,
        workers: usize,
    ) -> Arc<Self> {
        let registry = Self {
            names: Names::new(name_rules(&settings)),
            boards: DashMap::new(),
            peers: Peers::default(),
            peer_tls: OnceLock::new(),
            settings: ArcSwap::from_pointee(settings),
            users: ArcSwap::from_pointee(users),
            access: ArcSwap::from_pointee(Access::default()),
            client_tls: ArcSwapOption::new(client_tls),
            server_tls: ArcSwapOption::new(server_tls),
            census: Census::default(),
            interner: Interner::default(),
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
            paused: std::sync::atomic::AtomicBool::new(false),
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

    /// All groups of pools, by database and user.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = self
            .groups
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        all.sort_by(|one, two| {
            (&one.database.name, &one.user).cmp(&(&two.database.name, &two.user))
        });
        all
    }

    /// All pools, by database and user.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        let groups = self.groups();
        groups.iter().flat_map(|group| group.pools()).collect()
    }

    /// All pools, those of one client alone among them.
    pub fn pools_and_guests(&self) -> Vec<Arc<Pool>> {
        self.pools()
            .into_iter()
            .chain(self.private_pools())
            .collect()
    }

    /// The same, of one database.
    pub fn pools_and_guests_of(&self, database: &str) -> Vec<Arc<Pool>> {
        let mut all = self.pools_and_guests();
        all.retain(|pool| pool.database.name == database);
        all
    }

    /// The pools of one client alone that take seats of `host`.
    pub fn guests_of(&self, host: &Pool) -> Vec<Arc<Pool>> {
        let mut all = self.private_pools();
        all.retain(|pool| {
            let guest = pool.guest.as_ref();
            guest.is_some_and(|guest| std::ptr::eq(&raw const **guest.host(), &raw const *host))
        });
        all
    }

    /// The pools of one database.
    pub fn pools_of(&self, database: &str) -> Vec<Arc<Pool>> {
        self.pools()
            .into_iter()
            .filter(|pool| pool.database.name == database)
            .collect()
    }

    /// The pool of the server with `card`, one client's private pool among them.
    pub fn pool_of(&self, card: &ServerCard) -> Option<Arc<Pool>> {
        let mut all = self.pools_and_guests().into_iter();
        all.find(|pool| pool.id == card.facts.pool)
    }

    /// The group for clients of `database` that are `user`, whose password, where the login found one, is `password`.
    pub fn group(
        self: &Arc<Self>,
        database: &Arc<Database>,
        user: &str,
        password: Option<Verifier>,
    ) -> Option<Arc<Group>> {
        let settings = self.settings.load();
        settings.database(&database.name)?;
        let client = user;
        let user = settings.server_user(&database.name, client);
        // What the client proved says nothing about a forced user.
        let password = password.filter(|_| user == client);
        let key = (database.name.clone(), user.to_owned());
        if let Some(known) = self.groups.get(&key) {
            let group = Arc::clone(&known);
            drop(known);
            self.learn_password(&group, password);
            return Some(group);
        }
        let made = self.groups.entry(key).or_insert_with(|| {
            let tallies = (0..self.workers).map(|_| Tally::default()).collect();
            let (database, owner) = (Arc::clone(database), self.user(user));
            Group::new(database, user, owner, tallies, password)
        });
        Some(Arc::clone(&made))
    }

    /// The pool of `group` whose servers are at `node`; made where there is none yet. `None` when its database is gone.
    pub fn pool_at(self: &Arc<Self>, group: &Arc<Group>, node: &Node) -> Option<Arc<Pool>> {
        if let Some(known) = group.pool(node) {
            return Some(known);
        }
        let known = self.settings.load_full();
        let plan = self.plan_for(group, node)?;
        let pool = group.adopt(Pool::new(self, group, node.clone(), plan))?;
        self.catch_up(&known, &pool);
        Some(pool)
    }

    /// A plan made from the settings `known` was put in force. Where a reload came in between it may have missed the pool: then the
    /// pool follows now.
    fn catch_up(&self, known: &Arc<Settings>, pool: &Pool) {
        if !Arc::ptr_eq(known, &self.settings.load())
            && let Some(plan) = self.plan_for(&pool.group, &pool.node)
        {
            pool.follow(plan);
        }
    }

    /// The board of the cluster that `database` belongs to.
    pub fn board_of(&self, database: &str) -> Option<Arc<Board>> {
        let settings = self.settings.load();
        let (cluster, _) = settings.cluster_of(database)?;
        self.boards.get(cluster).map(|board| Arc::clone(&board))
    }

    /// The groups whose databases belong to `cluster`.
    pub fn groups_of_cluster(&self, cluster: &str) -> Vec<Arc<Group>> {
        let settings = self.settings.load();
        let mut groups = self.groups();
        groups.retain(|group| {
            let of = settings.cluster_of(&group.database.name);
            of.is_some_and(|(name, _)| name == cluster)
        });
        groups
    }

    /// Opens the pools at `node` that the databases of `cluster` are to keep without clients.
    pub fn open_forced_pools_of(self: &Arc<Self>, cluster: &str, node: &Node) {
        let settings = self.settings.load_full();
        for (name, user) in forced(&settings) {
            let is_of = settings
                .cluster_of(name)
                .is_some_and(|(of, _)| of == cluster);
            if is_of
                && let Some(database) = self.database(name)
                && let Some(group) = self.group(&database, user, None)
            {
                self.pool_at(&group, node);
            }
        }
    }

    /// The pool at a database's own address, for clients of `database` that are `user`; as [`Registry::group`].
    pub fn pool(
        self: &Arc<Self>,
        database: &Arc<Database>,
        user: &str,
        password: Option<Verifier>,
    ) -> Option<Arc<Pool>> {
        loop {
            let group = self.group(database, user, password.clone())?;
            if let Some(pool) = self.pool_at(&group, &Node::Own) {
                return Some(pool);
            }
            // The group was forgotten in this moment, or the database is gone: then there is no other.
            self.settings.load().database(&database.name)?;
        }
    }

    /// A user whose password only `auth_query` knows may have changed it since the group was made.
    fn learn_password(&self, group: &Group, found: Option<Verifier>) {
        let Some(found) = found else { return };
        if !group.learn_password(&found) {
            return;
        }
        let known = self.settings.load_full();
        for pool in group.pools() {
            if let Some(plan) = self.plan_for(group, &pool.node)
                && plan.target.password != pool.plan.load().target.password
            {
                pool.plan.store(Arc::new(plan));
                self.catch_up(&known, &pool);
            }
        }
    }

    fn plan_for(&self, group: &Group, node: &Node) -> Option<Plan> {
        let settings = self.settings.load();
        let database = &group.database.name;
        let entry = settings.database(database)?;
        let listed = self.users.load().get(&group.user).cloned();
        let password = listed.or_else(|| group.password());
        let mut plan = plan(&settings, database, entry, &group.user, password);
        if let Node::At { host, port } = node {
            let mut target = (*plan.target).clone();
            target.hosts = vec![Host {
                name: host.to_string(),
                port: *port,
            }];
            plan.target = Arc::new(target);
        }
        Some(plan)
    }

    /// A pool of one server for one client, at the node of `host` (see `guest.rs`), which begins with `startup`.
    pub fn private_pool(
        self: &Arc<Self>,
        host: &Arc<Pool>,
        startup: &[(String, String)],
    ) -> Option<Arc<Pool>> {
        let open = &host.group;
        let mut plan = self.plan_for(open, &host.node)?;
        let mut target = (*plan.target).clone();
        target.startup.extend_from_slice(startup);
        plan.target = Arc::new(target);
        plan.rules.mode = PoolMode::Session;
        plan.upkeep.has_reset = false;
        (plan.size, plan.reserve, plan.min_size) = (1, 0, 0);
        plan.check_query = None;
        let (owner, tallies) = (Arc::clone(&open.owner), Arc::clone(&open.tallies));
        let (database, password) = (Arc::clone(&host.database), open.password());
        let group = Group::new(database, &open.user, owner, tallies, password);
        if let Some(keys) = open.keys() {
            group.learn_keys(keys);
        }
        let pool = Pool::guest(host, &group, plan);
        let mut private = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        private.retain(|known| known.strong_count() > 0);
        private.push(Arc::downgrade(&pool));
        Some(pool)
    }

    fn open_forced_pools(self: &Arc<Self>) {
        let settings = self.settings.load_full();
        for (name, user) in forced(&settings) {
            // Those of a cluster follow its writer.
            if settings.cluster_of(name).is_none()
                && let Some(database) = self.database(name)
            {
                self.pool(&database, user, None);
            }
        }
    }

    /// Puts new settings in force for everybody: pools get new plans, databases that are gone end their clients.
    pub fn follow(self: &Arc<Self>, settings: Settings, users: Users) {
        let settings = Arc::new(settings);
        self.settings.store(Arc::clone(&settings));
        self.users.store(Arc::new(users));
        self.made_secrets.clear();
        self.warned_of.clear();
        self.names.follow(name_rules(&settings));
        let has_fallback = settings.databases.contains_key(FALLBACK);
        let gone: HashSet<String> = self
            .databases
            .iter()
            .filter(|entry| {
                let is_answered_for = entry.value().is_auto && has_fallback;
                !settings.databases.contains_key(entry.key()) && !is_answered_for
            })
            .map(|entry| entry.key().clone())
            .collect();
        for name in &gone {
            self.databases.remove(name);
            self.end_clients(name);
            for group in self
                .groups()
                .iter()
                .filter(|group| group.database.name == *name)
            {
                group.pools().iter().for_each(|pool| pool.remove());
                self.groups.remove(&(name.clone(), group.user.clone()));
                group.forget();
            }
        }
        for name in settings.databases.keys().filter(|name| *name != FALLBACK) {
            self.add_database(name, false);
        }
        for pool in self.pools() {
            if let Some(plan) = self.plan_for(&pool.group, &pool.node) {
                pool.follow(plan);
            }
        }
        self.open_forced_pools();
        self.forget_names(&settings);
        self.peers.keep(&settings);
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

    /// Forgets the addresses of names that no server bears any more.
    fn forget_names(&self, settings: &Settings) {
        let listed = settings.databases.keys();
        let mut used: HashSet<String> = listed
            .flat_map(|name| settings.server_hosts(name))
            .map(|(host, _)| host)
            .collect();
        for pool in self.pools() {
            let hosts = pool.plan.load().target.hosts.clone();
            used.extend(hosts.into_iter().map(|host| host.name));
        }
        self.names.keep(|name| used.contains(name));
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

    /// Ends every client of a database.
    pub fn end_clients(&self, database: &str) {
        for card in &self.census.clients {
            if card.facts.database == database {
                card.give(Order::DatabaseRemoved);
            }
        }
    }

    /// Notes PAUSE or RESUME of everything, for pools that are yet to come.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// Whether everything is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Frees a server's place in `database` for `starving`.
    pub fn evict_for_database(&self, database: &str, starving: &Pool) {
        self.evict(starving, |pool| pool.database.name == database);
    }

    /// Frees a server's place of `user` for `starving`.
    pub fn evict_for_user(&self, user: &str, starving: &Pool) {
        self.evict(starving, |pool| pool.user == user);
    }

    fn evict(&self, starving: &Pool, belongs: impl Fn(&Pool) -> bool) {
        let victim = self
            .pools()
            .into_iter()
            .filter(|pool| !std::ptr::eq(&raw const **pool, &raw const *starving) && belongs(pool))
            .filter_map(|pool| pool.oldest_idle().map(|used| (used, pool)))
            .min_by_key(|(used, _)| *used);
        if let Some((_, pool)) = victim {
            pool.evict_one();
        }
    }

    /// Lets every pool open what its clients wait for; the pool whose client has waited longest comes first, so that none
    /// gets all the places that they share.
    pub fn grow_all(&self) {
        let mut waiting: Vec<_> = self
            .pools_and_guests()
            .into_iter()
            .filter_map(|pool| pool.standing().oldest.map(|oldest| (oldest, pool)))
            .collect();
        waiting.sort_by_key(|(oldest, _)| *oldest);
        for (_, pool) in waiting {
            pool.grow();
        }
    }

    fn private_pools(&self) -> Vec<Arc<Pool>> {
        let private = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        private.iter().filter_map(Weak::upgrade).collect()
    }

    /// Drops a group that nobody uses. A client that logs in takes its place in the database before it asks for its pool, so
    /// none can be left with a pool that is gone.
    pub fn forget_group(&self, group: &Group) {
        let key = (group.database.name.clone(), group.user.clone());
        let gone = self.groups.remove_if(&key, |_, known| {
            std::ptr::eq(&raw const **known, &raw const *group)
                && group.database.clients.used() == 0
                && group.pools().iter().all(|pool| pool.standing().open == 0)
        });
        if let Some((_, group)) = gone {
            group.forget();
        }
    }

    /// Drops a database that came out of the `"*"` entry and that nobody uses.
    pub fn forget_database(&self, name: &str) {
        let settings = self.settings.load();
        self.databases.remove_if(name, |_, database| {
            database.is_auto && !settings.is_listed(name) && database.clients.used() == 0
        });
    }
}

/// The databases whose pools are kept without clients, and their forced users.
fn forced(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    let listed = settings.databases.iter();
    listed
        .filter(|(name, _)| *name != FALLBACK)
        .filter_map(|(name, entry)| {
            let least = entry.min_pool_size.unwrap_or(settings.pooler.min_pool_size);
            let user = entry.user.as_deref().filter(|_| least > 0)?;
            Some((name.as_str(), user))
        })
}
