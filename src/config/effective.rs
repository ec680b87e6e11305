//! Which of several places has the word: user, database or `[pooler]`.
//!
//! A key of the same meaning may stand in all three. The user has the first word, then the database, then `[pooler]`,
//! as in PgBouncer. A limit or timeout that is 0 in a narrower place means "as the wider one says", except
//! `query_wait_timeout`, where 0 is for ever.
//!
//! Names that are not listed are no error here: an unknown user has no wishes, an unknown database is `"*"`.
//! Pool sizes and modes belong to the user who logs in to the *server* (the forced user, if there is one); limits on
//! clients and their waiting belong to the user who logged in to the pooler. The caller knows which one to name.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::settings::{DatabaseSettings, FALLBACK, PeerSettings, Settings, UserSettings};
use crate::config::value::{LoadBalance, PoolMode, SessionState};

impl Settings {
    /// The database that clients call `name`, or the fallback `"*"`; `None` when there is neither.
    pub fn database(&self, name: &str) -> Option<&DatabaseSettings> {
        let listed = self.databases.get(name);
        listed.or_else(|| self.databases.get(FALLBACK))
    }

    /// Whether `name` is a database of its own, and not one that only `"*"` would answer for.
    pub fn is_listed(&self, name: &str) -> bool {
        name != FALLBACK && self.databases.contains_key(name)
    }

    /// What `[users]` says of `name`, if anything.
    pub fn user(&self, name: &str) -> Option<&UserSettings> {
        self.users.get(name)
    }

    /// What the database is called on the server: `dbname`, else the name the client used.
    pub fn server_dbname<'a>(&'a self, database: &'a str) -> &'a str {
        let forced = self.database(database).and_then(|d| d.dbname.as_deref());
        forced.unwrap_or(database)
    }

    /// Who logs in to the server: the forced user, else `client`, who logged in to the pooler.
    pub fn server_user<'a>(&'a self, database: &str, client: &'a str) -> &'a str {
        let forced = self.database(database).and_then(|d| d.user.as_deref());
        forced.unwrap_or(client)
    }

    /// Where the server is: a name, an address, or, starting with `/`, the directory of a Unix socket.
    pub fn server_host(&self, database: &str) -> &str {
        let host = self.database(database).and_then(|d| d.host.as_deref());
        host.unwrap_or(&self.pooler.unix_socket_dir)
    }

    /// Where the servers are: each host of the list, with its port.
    pub fn server_hosts(&self, database: &str) -> Vec<(String, u16)> {
        if let Some((_, cluster)) = self.cluster_of(database) {
            let nodes = cluster.nodes.iter();
            return nodes.map(|node| (node.host.clone(), node.port)).collect();
        }
        let (first, others) = self
            .database(database)
            .map_or((5432, [].as_slice()), |d| (d.port, &d.more_ports));
        let port = |index: usize| match index.checked_sub(1) {
            Some(other) => others.get(other).copied().unwrap_or(first),
            None => first,
        };
        let hosts = self.server_host(database).split(',').enumerate();
        hosts
            .map(|(index, host)| (host.trim().to_owned(), port(index)))
            .collect()
    }

    /// The other poolers behind the same address, by their numbers.
    pub fn peers(&self) -> BTreeMap<u16, PeerSettings> {
        let numbered = |(name, peer): (&String, &PeerSettings)| {
            let id = name.parse().ok().filter(|id| *id > 0)?;
            (u32::from(id) != self.pooler.peer_id).then(|| (id, peer.clone()))
        };
        self.peers.iter().filter_map(numbered).collect()
    }

    /// Which host of a list the next server is opened at; `None` where there is no list.
    pub fn load_balance(&self, database: &str) -> Option<LoadBalance> {
        let wish = self.database(database)?.load_balance_hosts;
        let is_list = self.server_host(database).contains(',');
        is_list.then(|| wish.unwrap_or_default())
    }

    /// When a server goes back to its pool: user, then database, then `pool_mode`.
    pub fn effective_pool_mode(&self, database: &str, user: &str) -> PoolMode {
        let wish = self.user(user).and_then(|u| u.pool_mode);
        wish.or_else(|| self.database(database).and_then(|d| d.pool_mode))
            .unwrap_or(self.pooler.pool_mode)
    }

    /// What becomes of session state: user, then database, then `session_state`.
    pub fn effective_session_state(&self, database: &str, user: &str) -> SessionState {
        let wish = self.user(user).and_then(|u| u.session_state);
        wish.or_else(|| self.database(database).and_then(|d| d.session_state))
            .unwrap_or(self.pooler.session_state)
    }

    /// Servers per pool: user, then database, then `default_pool_size`; 0 is no limit.
    pub fn effective_pool_size(&self, database: &str, user: &str) -> usize {
        let wish = self.user(user).and_then(|u| u.pool_size);
        wish.or_else(|| self.database(database).and_then(|d| d.pool_size))
            .unwrap_or(self.pooler.default_pool_size)
    }

    /// Servers kept open: database, then `min_pool_size`; never more than the pool may have.
    pub fn effective_min_pool_size(&self, database: &str, user: &str) -> usize {
        let wish = self.database(database).and_then(|d| d.min_pool_size);
        let least = wish.unwrap_or(self.pooler.min_pool_size);
        match self.effective_pool_size(database, user) {
            0 => least,
            size => least.min(size),
        }
    }

    /// Servers beyond the size: user, then database, then `reserve_pool_size`.
    pub fn effective_reserve_pool_size(&self, database: &str, user: &str) -> usize {
        let wish = self.user(user).and_then(|u| u.reserve_pool_size);
        wish.or_else(|| self.database(database).and_then(|d| d.reserve_pool_size))
            .unwrap_or(self.pooler.reserve_pool_size)
    }

    /// Servers of a database over all its pools; 0 is no limit.
    pub fn effective_max_db_connections(&self, database: &str) -> usize {
        let own = self.database(database).and_then(|d| d.max_db_connections);
        own.filter(|&limit| limit > 0)
            .unwrap_or(self.pooler.max_db_connections)
    }

    /// Clients of a database; 0 is no limit.
    pub fn effective_max_db_client_connections(&self, database: &str) -> usize {
        let own = self
            .database(database)
            .and_then(|d| d.max_db_client_connections);
        own.filter(|&limit| limit > 0)
            .unwrap_or(self.pooler.max_db_client_connections)
    }

    /// Servers of a user over all pools; 0 is no limit.
    pub fn effective_max_user_connections(&self, user: &str) -> usize {
        let own = self.user(user).and_then(|u| u.max_user_connections);
        own.filter(|&limit| limit > 0)
            .unwrap_or(self.pooler.max_user_connections)
    }

    /// Clients of a user; 0 is no limit.
    pub fn effective_max_user_client_connections(&self, user: &str) -> usize {
        let own = self.user(user).and_then(|u| u.max_user_client_connections);
        own.filter(|&limit| limit > 0)
            .unwrap_or(self.pooler.max_user_client_connections)
    }

    /// How long a client may wait for a server: user, then database, then `query_wait_timeout`; zero is for ever.
    pub fn effective_query_wait_timeout(&self, database: &str, user: &str) -> Duration {
        let wish = self.user(user).and_then(|u| u.query_wait_timeout);
        wish.or_else(|| self.database(database).and_then(|d| d.query_wait_timeout))
            .unwrap_or(self.pooler.query_wait_timeout)
    }

    /// The age at which a server is closed: database, unless it says 0, then `server_lifetime`.
    pub fn effective_server_lifetime(&self, database: &str) -> Duration {
        let own = self.database(database).and_then(|d| d.server_lifetime);
        longer_than_zero(own).unwrap_or(self.pooler.server_lifetime)
    }

    /// How long one query may run; zero is for ever.
    pub fn effective_query_timeout(&self, user: &str) -> Duration {
        let own = self.user(user).and_then(|u| u.query_timeout);
        longer_than_zero(own).unwrap_or(self.pooler.query_timeout)
    }

    /// How long a transaction may take in all; zero is for ever.
    pub fn effective_transaction_timeout(&self, user: &str) -> Duration {
        let own = self.user(user).and_then(|u| u.transaction_timeout);
        longer_than_zero(own).unwrap_or(self.pooler.transaction_timeout)
    }

    /// How long a transaction may lie idle; zero is for ever.
    pub fn effective_idle_transaction_timeout(&self, user: &str) -> Duration {
        let own = self.user(user).and_then(|u| u.idle_transaction_timeout);
        longer_than_zero(own).unwrap_or(self.pooler.idle_transaction_timeout)
    }

    /// How long a client without a server may say nothing; zero is for ever.
    pub fn effective_client_idle_timeout(&self, user: &str) -> Duration {
        let own = self.user(user).and_then(|u| u.client_idle_timeout);
        longer_than_zero(own).unwrap_or(self.pooler.client_idle_timeout)
    }

    /// Who asks for passwords of unknown users: database, then `auth_user`.
    pub fn effective_auth_user(&self, database: &str) -> Option<&str> {
        let own = self.database(database).and_then(|d| d.auth_user.as_deref());
        own.or(self.pooler.auth_user.as_deref())
    }

    /// What is asked for a password: database, then `auth_query`.
    pub fn effective_auth_query(&self, database: &str) -> &str {
        let own = self
            .database(database)
            .and_then(|d| d.auth_query.as_deref());
        own.unwrap_or(&self.pooler.auth_query)
    }

    /// In which database, by its name here, it is asked: database, then `auth_dbname`, then the one asked for.
    pub fn effective_auth_dbname<'a>(&'a self, database: &'a str) -> &'a str {
        let own = self
            .database(database)
            .and_then(|d| d.auth_dbname.as_deref());
        own.or(self.pooler.auth_dbname.as_deref())
            .unwrap_or(database)
    }
}

fn longer_than_zero(span: Option<Duration>) -> Option<Duration> {
    span.filter(|span| !span.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings
            .databases
            .insert("app".to_owned(), DatabaseSettings::default());
        settings
            .users
            .insert("ann".to_owned(), UserSettings::default());
        settings
    }

    fn database(settings: &mut Settings) -> &mut DatabaseSettings {
        settings.databases.get_mut("app").unwrap()
    }

    fn user(settings: &mut Settings) -> &mut UserSettings {
        settings.users.get_mut("ann").unwrap()
    }

    #[test]
    fn the_user_has_the_first_word_then_the_database_then_the_pooler() {
        let mut settings = settings();
        assert_eq!(settings.effective_pool_size("app", "ann"), 20);

        database(&mut settings).pool_size = Some(5);
        database(&mut settings).pool_mode = Some(PoolMode::Session);
        assert_eq!(settings.effective_pool_size("app", "ann"), 5);
        assert_eq!(
            settings.effective_pool_mode("app", "ann"),
            PoolMode::Session
        );

        user(&mut settings).pool_size = Some(7);
        user(&mut settings).pool_mode = Some(PoolMode::Statement);
        assert_eq!(settings.effective_pool_size("app", "ann"), 7);
        assert_eq!(
            settings.effective_pool_mode("app", "ann"),
            PoolMode::Statement
        );
        assert_eq!(settings.effective_pool_size("app", "bob"), 5);
    }

    #[test]
    fn zero_of_a_user_means_as_the_pooler_says_except_for_the_wait() {
        let mut settings = settings();
        settings.pooler.query_timeout = Duration::from_secs(9);
        user(&mut settings).query_timeout = Some(Duration::ZERO);
        user(&mut settings).query_wait_timeout = Some(Duration::ZERO);

        let timeout = settings.effective_query_timeout("ann");
        let wait = settings.effective_query_wait_timeout("app", "ann");

        assert_eq!(timeout, Duration::from_secs(9));
        assert_eq!(wait, Duration::ZERO);
    }

    #[test]
    fn a_name_not_listed_is_answered_by_the_star() {
        let mut settings = settings();
        assert!(settings.database("other").is_none());

        let star = DatabaseSettings {
            host: Some("db1".to_owned()),
            ..DatabaseSettings::default()
        };
        settings.databases.insert(FALLBACK.to_owned(), star);

        assert_eq!(settings.server_host("other"), "db1");
        assert_eq!(settings.server_dbname("other"), "other");
        assert!(!settings.is_listed("other"));
        assert_eq!(settings.server_host("app"), "/tmp");
    }

    #[test]
    fn each_host_of_a_list_has_its_port() {
        let mut settings = settings();
        assert_eq!(settings.load_balance("app"), None);
        database(&mut settings).host = Some("a, b,/run".to_owned());
        let hosts = |settings: &Settings| {
            let hosts = settings.server_hosts("app").into_iter();
            hosts.map(|(host, port)| format!("{host} {port}")).collect()
        };
        let all: Vec<String> = hosts(&settings);
        assert_eq!(all, ["a 5432", "b 5432", "/run 5432"]);
        database(&mut settings).more_ports = vec![5433, 5434];
        let all: Vec<String> = hosts(&settings);
        assert_eq!(all, ["a 5432", "b 5433", "/run 5434"]);
        assert_eq!(settings.load_balance("app"), Some(LoadBalance::RoundRobin));
    }

    #[test]
    fn a_pool_never_keeps_more_servers_than_it_may_have() {
        let mut settings = settings();
        settings.pooler.min_pool_size = 30;
        assert_eq!(settings.effective_min_pool_size("app", "ann"), 20);
        settings.pooler.default_pool_size = 0;
        assert_eq!(settings.effective_min_pool_size("app", "ann"), 30);
    }
}
