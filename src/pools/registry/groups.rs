//! All pools and their groups: found, made, planned, and dropped when nobody uses them.

use std::sync::{Arc, Weak};

use super::Registry;
use crate::auth::password::Verifier;
use crate::config::node::Node;
use crate::config::settings::{FALLBACK, Settings};
use crate::config::value::PoolMode;
use crate::locked::Locked;
use crate::pools::group::Group;
use crate::pools::limits::Database;
use crate::pools::plan::{Plan, plan};
use crate::pools::pool::Pool;
use crate::servers::target::Host;
use crate::stats::census::ServerCard;
use crate::stats::counters::Tally;

impl Registry {
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

    fn private_pools(&self) -> Vec<Arc<Pool>> {
        let private = self.private.locked();
        private.iter().filter_map(Weak::upgrade).collect()
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

    pub(super) fn plan_for(&self, group: &Group, node: &Node) -> Option<Plan> {
        let settings = self.settings.load();
        let database = &group.database.name;
        let entry = settings.database(database)?;
        let listed = self.users.load().get(&group.user).cloned();
        let password = listed.or_else(|| group.password());
        let mut plan = plan(&settings, database, entry, &group.user, password);
        plan.deeds = self.deeds_of(&settings, database);
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
        let mut private = self.private.locked();
        private.retain(|known| known.strong_count() > 0);
        private.push(Arc::downgrade(&pool));
        Some(pool)
    }

    pub(super) fn open_forced_pools(self: &Arc<Self>) {
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

    /// Drops a group that nobody uses. A client that logs in takes its place in the database before it asks for its pool, so
    /// none can be left with a pool that is gone.
    pub fn forget_group(&self, group: &Group) {
        let key = (group.database.name.clone(), group.user.clone());
        let gone = self.groups.remove_if(&key, |_, known| {
            std::ptr::eq(&raw const **known, &raw const *group)
                && group.database.clients.used() == 0
                && group.pools().iter().all(|pool| pool.headcount().open == 0)
        });
        if let Some((_, group)) = gone {
            group.forget();
        }
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
