//! What two [`Settings`] differ in: all that a reload must do about it.
//!
//! Most keys take effect by being read the next time. Three kinds do not: a database that points elsewhere now, whose
//! servers must be replaced; TLS, which is set up once from files; and keys that are read only when the process
//! starts, which keep their old value until then and are reported by name.

use std::collections::BTreeSet;

use crate::config::problem::path;
use crate::config::schema::POOLER;
use crate::config::settings::{DatabaseSettings, PoolerSettings, Settings};

/// What a new [`Settings`] changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Databases that were not listed before; `"*"` among them, if so.
    pub added: Vec<String>,
    /// Databases that are listed no more: their pools end, their clients are told. When `"*"` is among them, this
    /// holds for the databases made from it as well.
    pub removed: Vec<String>,
    /// Databases whose servers are no longer the right ones and must be closed when they are free: another address,
    /// name, user, connect_query or startup parameters, or another server-side TLS. As for `"*"`, see `removed`.
    pub repointed: Vec<String>,
    /// Keys that changed but are read only when the process starts, as `pooler.listen_port`.
    pub needs_restart: Vec<String>,
    /// Whether TLS towards clients must be set up anew.
    pub client_tls: bool,
    /// Whether TLS towards servers must be set up anew.
    pub server_tls: bool,
}

impl Change {
    /// What `new` changes about `old`.
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let mut change = Self {
            needs_restart: restart_keys(&old.pooler, &new.pooler),
            client_tls: client_tls(&old.pooler) != client_tls(&new.pooler),
            server_tls: all_server_tls(old) != all_server_tls(new),
            ..Self::default()
        };
        let names: BTreeSet<&String> = old.databases.keys().chain(new.databases.keys()).collect();
        for name in names {
            let list = match (old.databases.get(name), new.databases.get(name)) {
                (None, _) => &mut change.added,
                (Some(_), None) => &mut change.removed,
                (Some(before), Some(after)) => {
                    let tls_before = old.server_tls(before.cluster.as_deref());
                    let tls_after = new.server_tls(after.cluster.as_deref());
                    if tls_before == tls_after && target(before) == target(after) {
                        continue;
                    }
                    &mut change.repointed
                }
            };
            list.push(name.clone());
        }
        change
    }

    /// Whether there is nothing that must be *done*; keys that are simply read anew may differ all the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `new` as it holds while the process that was started with `old` runs: keys that need a restart keep their value.
pub fn in_force(old: &Settings, mut new: Settings) -> Settings {
    let started = &old.pooler;
    let pooler = &mut new.pooler;
    pooler.listen_addr.clone_from(&started.listen_addr);
    pooler.listen_port = started.listen_port;
    pooler.listen_backlog = started.listen_backlog;
    pooler.unix_socket_dir.clone_from(&started.unix_socket_dir);
    pooler.unix_socket_mode = started.unix_socket_mode;
    pooler
        .unix_socket_group
        .clone_from(&started.unix_socket_group);
    pooler.user.clone_from(&started.user);
    pooler.pidfile.clone_from(&started.pidfile);
    pooler.job_name.clone_from(&started.job_name);
    pooler.pkt_buf = started.pkt_buf;
    pooler.threads = started.threads;
    pooler.so_reuseport = started.so_reuseport;
    pooler.disable_pqexec = started.disable_pqexec;
    pooler.resolv_conf.clone_from(&started.resolv_conf);
    pooler.state_dir.clone_from(&started.state_dir);
    let tracked = &started.track_extra_parameters;
    pooler.track_extra_parameters.clone_from(tracked);
    new
}

fn restart_keys(old: &PoolerSettings, new: &PoolerSettings) -> Vec<String> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let fixed = POOLER.keys.iter().filter(|key| key.needs_restart);
    let differs =
        fixed.filter(|key| (key.place)(&mut old).print() != (key.place)(&mut new).print());
    differs.map(|key| path(&["pooler", key.name])).collect()
}

/// What makes a server the right one for a database.
fn target(database: &DatabaseSettings) -> impl PartialEq + '_ {
    (
        (
            &database.host,
            (database.port, &database.more_ports),
            &database.dbname,
            (&database.user, &database.cluster),
        ),
        (&database.connect_query, &database.client_encoding),
        (
            &database.datestyle,
            &database.timezone,
            &database.application_name,
        ),
    )
}

fn client_tls(pooler: &PoolerSettings) -> impl PartialEq + '_ {
    (
        pooler.client_tls_sslmode,
        &pooler.client_tls_key_file,
        &pooler.client_tls_cert_file,
        &pooler.client_tls_ca_file,
        &pooler.client_tls_protocols.text,
    )
}

/// TLS towards the servers of no cluster, and of each.
fn all_server_tls(settings: &Settings) -> impl PartialEq + '_ {
    let clusters = settings.clusters.keys();
    let clusters = clusters.map(|name| (name, settings.server_tls(Some(name))));
    (settings.server_tls(None), clusters.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::TlsMode;

    fn settings(names: &[&str]) -> Settings {
        let mut settings = Settings::default();
        for name in names {
            let database = DatabaseSettings::default();
            settings.databases.insert((*name).to_owned(), database);
        }
        settings
    }

    #[test]
    fn nothing_changed_is_nothing_to_do() {
        let mut new = settings(&["app"]);
        new.pooler.default_pool_size = 50;
        assert!(Change::between(&settings(&["app"]), &new).is_empty());
    }

    #[test]
    fn databases_come_and_go() {
        let change = Change::between(&settings(&["a", "b"]), &settings(&["b", "c"]));
        assert_eq!(change.removed, ["a"]);
        assert_eq!(change.added, ["c"]);
        assert!(change.repointed.is_empty());
    }

    #[test]
    fn another_address_recycles_servers_another_size_does_not() {
        let mut new = settings(&["a", "b"]);
        new.databases.get_mut("a").unwrap().host = Some("db2".to_owned());
        new.databases.get_mut("b").unwrap().pool_size = Some(3);
        let change = Change::between(&settings(&["a", "b"]), &new);
        assert_eq!(change.repointed, ["a"]);
    }

    #[test]
    fn another_tls_recycles_the_servers_of_every_database() {
        let mut new = settings(&["a", "b"]);
        new.pooler.server_tls_sslmode = TlsMode::Require;
        let change = Change::between(&settings(&["a"]), &new);
        assert!(change.server_tls && !change.client_tls);
        assert_eq!(change.repointed, ["a"]);
        assert_eq!(change.added, ["b"]);
    }

    #[test]
    fn keys_that_need_a_restart_are_named_and_keep_their_value() {
        let old = settings(&["a"]);
        let mut new = settings(&["a"]);
        new.pooler.listen_port = 1;
        new.pooler.threads = 3;
        new.pooler.query_timeout = std::time::Duration::from_secs(1);

        let change = Change::between(&old, &new);
        let kept = in_force(&old, new);

        assert_eq!(
            change.needs_restart,
            ["pooler.listen_port", "pooler.threads"]
        );
        assert_eq!(kept.pooler.listen_port, 6432);
        assert_eq!(kept.pooler.query_timeout.as_secs(), 1);
    }

    #[test]
    fn every_key_that_needs_a_restart_keeps_its_value() {
        let old = Settings::default();
        let mut new = Settings::default();
        new.pooler.listen_addr.clear();
        new.pooler.listen_port = 1;
        new.pooler.listen_backlog = 1;
        new.pooler.unix_socket_dir.clear();
        new.pooler.unix_socket_mode = 0;
        new.pooler.unix_socket_group = Some("other".into());
        new.pooler.user = Some("other".into());
        new.pooler.pidfile = Some("other".into());
        new.pooler.job_name = "other".into();
        new.pooler.pkt_buf = 1;
        new.pooler.threads = 9;
        new.pooler.so_reuseport = true;
        new.pooler.disable_pqexec = true;
        new.pooler.resolv_conf = Some("other".into());
        new.pooler.track_extra_parameters.clear();
        new.pooler.state_dir = Some("other".into());

        let named = Change::between(&old, &new).needs_restart;

        let fixed = POOLER.keys.iter().filter(|key| key.needs_restart);
        assert_eq!(named.len(), fixed.count());
        assert_eq!(in_force(&old, new), old);
    }
}
