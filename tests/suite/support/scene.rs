//! A primary with two streaming replicas and a table, and the settings of a pooler before them.

use std::sync::{Mutex, MutexGuard};

use ::pooler::cli::cluster::{Cluster, Options};

use super::load::{COLUMNS, TABLES};
use super::pooler::{Config, config};
use super::postgres::binaries;
use super::wire::Client;

/// A primary (node 0) with two replicas (nodes 1 and 2).
pub struct Scene {
    cluster: Mutex<Cluster>,
    /// Of the nodes.
    pub ports: Vec<u16>,
    /// Which node stands where in the pooler's list.
    order: [usize; 3],
}

impl Scene {
    /// Starts them with `settings` of PostgreSQL, and makes a table `t` of `columns` and a role `probe` without any privilege.
    pub fn with(settings: &[(&str, &str)], columns: &str, order: [usize; 3]) -> Self {
        let own = settings.iter().copied();
        let settings = own.chain([("log_min_messages", "warning")]);
        let options = Options {
            replicas: 2,
            settings: settings
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Options::default()
        };
        let cluster =
            Cluster::start(binaries(), &options).unwrap_or_else(|problem| panic!("{problem}"));
        let ports = (0..3).map(|node| cluster.port(node)).collect();
        let scene = Self {
            cluster: Mutex::new(cluster),
            ports,
            order,
        };
        scene.sql(0, &format!("create table t ({columns})"));
        scene.sql(0, "create role probe login");
        scene
    }

    /// A primary that waits for node 1, for failovers. The replicas come first in the pooler's list: roles are found out.
    pub fn start() -> Self {
        let settings = [
            ("synchronous_standby_names", "ANY 1 (node1)"),
            ("wal_log_hints", "on"),
        ];
        let scene = Self::with(&settings, COLUMNS, [2, 0, 1]);
        scene.sql(0, TABLES);
        // Whoever is promoted has nobody to wait for.
        for node in [1, 2] {
            scene.alter(node, "synchronous_standby_names", "");
        }
        scene
    }

    /// The servers.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// The first value that `sql` answers on `node`; empty where there is none.
    pub fn sql(&self, node: usize, sql: &str) -> String {
        let answer = self.cluster().query(node, "postgres", sql);
        let answer = answer.unwrap_or_else(|problem| panic!("{problem}"));
        answer.first().map(str::to_owned).unwrap_or_default()
    }

    /// Changes a setting of `node` while it runs.
    pub fn alter(&self, node: usize, name: &str, value: &str) {
        self.sql(node, &format!("alter system set {name} = '{value}'"));
        self.sql(node, "select pg_reload_conf()");
    }

    /// Waits until both replicas have replayed what the primary has written.
    pub fn catch_up(&self) {
        self.cluster().catch_up(0).unwrap();
    }

    /// `host:port` of `node`.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node])
    }

    /// A pooler whose database `app` is the cluster.
    pub fn config(&self) -> Config {
        let nodes = self.order.map(|node| self.address(node));
        config()
            .without("databases.app")
            .database("app", "cluster", "main")
            .database("app", "dbname", "postgres")
            .database("app", "user", "postgres")
            .database("app", "pool_size", 6)
            .pooler("state_dir", ".")
            // It needs no privilege.
            .set("clusters.main", "probe_user", "probe")
            .set(
                "clusters.main",
                "nodes",
                [nodes[0].as_str(), &nodes[1], &nodes[2]],
            )
    }

    /// Whether `port` is a replica's.
    pub fn is_replica(&self, port: &str) -> bool {
        port == self.ports[1].to_string() || port == self.ports[2].to_string()
    }

    /// Whether `port` is the primary's.
    pub fn is_primary(&self, port: &str) -> bool {
        port == self.ports[0].to_string()
    }
}

/// Asks which node answers.
pub const PORT: &str = "select current_setting('port')";

/// The port of the node that answers `client`.
pub fn port(client: &mut Client) -> String {
    client.value(PORT)
}
