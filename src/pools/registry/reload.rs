//! What a reload changes: new settings in force, new plans for pools, databases that are gone.

use std::collections::HashSet;
use std::sync::Arc;

use super::Registry;
use crate::auth::users::Users;
use crate::config::settings::{FALLBACK, Settings};
use crate::pools::plan::name_rules;
use crate::stats::census::Order;
use crate::telemetry::events;

impl Registry {
    /// Puts new settings in force for everybody: pools get new plans, databases that are gone end their clients.
    pub fn follow(self: &Arc<Self>, settings: Settings, users: Users) {
        let settings = Arc::new(settings);
        self.settings.store(Arc::clone(&settings));
        self.users.store(Arc::new(users));
        self.made_secrets.clear();
        self.warned_of.clear();
        self.names.follow(name_rules(&settings));
        self.follow_lists(&settings);
        self.follow_deeds(&settings);
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
            events::database_dropped(name);
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

    /// Ends every client of a database.
    pub fn end_clients(&self, database: &str) {
        for card in &self.census.clients {
            if card.facts.database == database {
                card.give(Order::DatabaseRemoved);
            }
        }
    }
}
