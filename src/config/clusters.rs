//! `[clusters.NAME]`: nodes that replicate, and how the one that takes writes is found and followed.
//!
//! Roles are found out, never configured. Where the keys of the other sections stand in `schema.rs`, those of this one stand here,
//! with what they are read into.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::keepers::{self, EtcdSettings};
use crate::config::node::has_port;
use crate::config::problem::{Refusal, path};
use crate::config::schema::{Key, Section, key};
use crate::config::server_tls;
use crate::config::settings::{DatabaseSettings, Settings};
use crate::config::slot::{Given, Slot};
use crate::config::value::{Route, TlsMode, TlsProtocols};
use crate::secret::Secret;

/// The greatest weight of a node.
const MOST_WEIGHT: u32 = 1000;

/// `[clusters.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSettings {
    /// The nodes: `"host:port"`, or a table with `host` and `port`. At least one, unless Patroni or etcd tells them.
    pub nodes: Vec<NodeSettings>,
    /// Patroni's REST interfaces, `http://host:port`: they tell the nodes, and that something is going on. Default none.
    pub patroni: Vec<String>,
    /// The zone in which this pooler stands: reads go to replicas of the same zone while those have room. Default none.
    pub zone: String,
    /// The etcd in which Patroni keeps the cluster: it tells the nodes, announces switchovers, and breaks ties. Default none.
    pub etcd: Option<EtcdSettings>,
    /// A primary that has lost its leader key in etcd is not used, though it takes writes: its Patroni is dead, and another may be
    /// promoted at any moment. Default true.
    pub fence_on_lease_loss: bool,
    /// Who asks the nodes about their state; no privilege is needed. `None`: the forced user of the first database of this cluster
    /// that has one.
    pub probe_user: Option<String>,
    /// That user's password. `None`: the one of `[users]`, `auth_file`, or the database's.
    pub probe_password: Option<Secret>,
    /// The database in which they are asked. Default `postgres`.
    pub probe_dbname: String,
    /// Between two questions to a node while all is well; 20 ms for the first seconds when something is wrong. Default 250ms.
    pub probe_interval: Duration,
    /// How long an answer may take. Default 500ms.
    pub probe_timeout: Duration,
    /// How old the data of a replica may be that serves reads. Default 1s.
    pub max_lag: Duration,
    /// How many bytes of WAL it may be behind; 0 is no bound in bytes. Default 16MB.
    pub max_lag_bytes: usize,
    /// For how long a replica that was too far behind must have been below half of that before it serves reads again. Default 1s.
    pub readmit_after: Duration,
    /// How long a client waits for a node that takes writes. Default 30s.
    pub hold_timeout: Duration,
    /// How many clients may wait so; those beyond are refused at once. Default 10000.
    pub hold_max_clients: usize,
    /// How long `SWITCHOVER` lets transactions that run on the primary end before it asks for its replacement; new ones wait meanwhile.
    /// 0: it asks at once, and new ones wait only from when the leader sets about it. Default 0.
    pub drain_grace: Duration,
    /// How much TLS towards the nodes. `None`: as `[pooler]` says, as for the four that follow.
    pub server_tls_sslmode: Option<TlsMode>,
    /// Who signs the nodes' certificates.
    pub server_tls_ca_file: Option<PathBuf>,
    /// The certificate that is shown to the nodes; with its key.
    pub server_tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub server_tls_key_file: Option<PathBuf>,
    /// Which versions of TLS.
    pub server_tls_protocols: Option<TlsProtocols>,
}

/// One of `nodes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    /// Its port. Default 5432.
    pub port: u16,
    /// The zone it stands in, `""` for none. Default none.
    pub zone: String,
    /// Its share of reads, relative to the other replicas; with 0 it serves none. Default 1.
    pub weight: u32,
}

impl NodeSettings {
    /// The node at `host` and `port`, in no zone and with the ordinary share.
    pub fn at(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            zone: String::new(),
            weight: 1,
        }
    }

    fn is_same_place(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            patroni: Vec::new(),
            zone: String::new(),
            etcd: None,
            fence_on_lease_loss: true,
            probe_user: None,
            probe_password: None,
            probe_dbname: "postgres".to_owned(),
            probe_interval: Duration::from_millis(250),
            probe_timeout: Duration::from_millis(500),
            max_lag: Duration::from_secs(1),
            max_lag_bytes: 16 << 20,
            readmit_after: Duration::from_secs(1),
            hold_timeout: Duration::from_secs(30),
            hold_max_clients: 10_000,
            drain_grace: Duration::ZERO,
            server_tls_sslmode: None,
            server_tls_ca_file: None,
            server_tls_cert_file: None,
            server_tls_key_file: None,
            server_tls_protocols: None,
        }
    }
}

/// `[clusters.NAME]`.
pub static CLUSTER: Section<ClusterSettings> = Section {
    keys: &[
        cluster_key("drain_grace", |s| Slot::Span(&mut s.drain_grace)),
        cluster_key("etcd", |s| Slot::Etcd(&mut s.etcd)),
        cluster_key("fence_on_lease_loss", |s| {
            Slot::Flag(&mut s.fence_on_lease_loss)
        }),
        cluster_key("hold_max_clients", |s| Slot::Count(&mut s.hold_max_clients)),
        cluster_key("hold_timeout", |s| Slot::Span(&mut s.hold_timeout)),
        cluster_key("max_lag", |s| Slot::Span(&mut s.max_lag)),
        cluster_key("max_lag_bytes", |s| Slot::Bytes(&mut s.max_lag_bytes)),
        cluster_key("nodes", |s| Slot::Nodes(&mut s.nodes)),
        cluster_key("patroni", |s| Slot::List(&mut s.patroni)),
        cluster_key("probe_dbname", |s| Slot::Text(&mut s.probe_dbname)),
        cluster_key("probe_interval", |s| Slot::Span(&mut s.probe_interval)),
        cluster_key("probe_password", |s| Slot::Hidden(&mut s.probe_password)),
        cluster_key("probe_timeout", |s| Slot::Span(&mut s.probe_timeout)),
        cluster_key("probe_user", |s| Slot::MaybeText(&mut s.probe_user)),
        cluster_key("readmit_after", |s| Slot::Span(&mut s.readmit_after)),
        cluster_key("server_tls_ca_file", |s| {
            Slot::Path(&mut s.server_tls_ca_file)
        }),
        cluster_key("server_tls_cert_file", |s| {
            Slot::Path(&mut s.server_tls_cert_file)
        }),
        cluster_key("server_tls_key_file", |s| {
            Slot::Path(&mut s.server_tls_key_file)
        }),
        cluster_key("server_tls_protocols", |s| {
            Slot::MaybeProtocols(&mut s.server_tls_protocols)
        }),
        cluster_key("server_tls_sslmode", |s| {
            Slot::Word(&mut s.server_tls_sslmode)
        }),
        cluster_key("zone", |s| Slot::Text(&mut s.zone)),
    ],
    unbuilt: &[],
    has_password: false,
};

const fn cluster_key(
    name: &'static str,
    place: for<'a> fn(&'a mut ClusterSettings) -> Slot<'a>,
) -> Key<ClusterSettings> {
    key(name, place)
}

/// Reads the list of nodes.
///
/// # Errors
/// A [`Refusal`] that names the entry.
pub fn nodes(given: &Given) -> Result<Vec<NodeSettings>, Refusal> {
    let example = "for example [\"10.0.0.11:5432\", { host = \"10.0.0.12\", port = 5432 }]";
    match given {
        Given::List(items) => items.iter().map(node).collect(),
        Given::Text(text) | Given::Loose(text) => {
            let each = text.split(',').map(str::trim);
            each.filter(|one| !one.is_empty()).map(address).collect()
        }
        Given::Whole(_) | Given::Fraction(_) | Given::Flag(_) | Given::Table(_) | Given::Date => {
            Err(Refusal::new("expected a list of nodes").hint(example))
        }
    }
}

fn node(given: &Given) -> Result<NodeSettings, Refusal> {
    match given {
        Given::Text(text) | Given::Loose(text) => address(text),
        Given::Table(entries) => table(entries),
        Given::Whole(_) | Given::Fraction(_) | Given::Flag(_) | Given::List(_) | Given::Date => {
            Err(Refusal::new("expected a node").hint("for example \"10.0.0.11:5432\""))
        }
    }
}

fn table(entries: &[(String, Given)]) -> Result<NodeSettings, Refusal> {
    let mut node = NodeSettings::at("", 5432);
    for (name, value) in entries {
        match name.as_str() {
            "host" => Slot::Text(&mut node.host).read(value)?,
            "port" => Slot::Port(&mut node.port).read(value)?,
            "zone" => Slot::Text(&mut node.zone).read(value)?,
            "weight" => Slot::Small(&mut node.weight).read(value)?,
            other => {
                return Err(Refusal::new(format!("a node has no \"{other}\""))
                    .hint("a node has host, port, zone and weight"));
            }
        }
    }
    checked(node)
}

fn address(text: &str) -> Result<NodeSettings, Refusal> {
    let refuse = || {
        Refusal::new(format!("{text:?} is no node"))
            .hint("a node is \"host\" or \"host:port\"; an IPv6 address stands in brackets")
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(refuse)?;
            (
                host,
                port.strip_prefix(':')
                    .or(Some("5432").filter(|_| port.is_empty())),
            )
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(refuse()),
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("5432")),
        },
    };
    let port = port.and_then(|port| port.parse().ok()).ok_or_else(refuse)?;
    checked(NodeSettings::at(host, port))
}

fn checked(node: NodeSettings) -> Result<NodeSettings, Refusal> {
    if node.host.is_empty() {
        return Err(Refusal::new("a node needs a host"));
    }
    if node.host.contains(',') {
        let refusal = Refusal::new(format!("{:?} is no host", node.host));
        return Err(refusal.hint("each node is an entry of its own"));
    }
    if has_port(&node.host) {
        let refusal = Refusal::new(format!("{:?} is no host", node.host));
        return Err(refusal.hint("the port of a node stands beside its host, as port"));
    }
    if node.port == 0 {
        return Err(Refusal::new("the port of a node may not be 0"));
    }
    if node.weight > MOST_WEIGHT {
        let refusal = Refusal::new(format!("the weight of a node may not be {}", node.weight));
        return Err(refusal.hint("a whole number from 0, for no reads, to 1000"));
    }
    Ok(node)
}

impl Settings {
    /// The cluster that `database` belongs to, by its name.
    pub fn cluster_of(&self, database: &str) -> Option<(&str, &ClusterSettings)> {
        let name = self.database(database)?.cluster.as_deref()?;
        Some((name, self.clusters.get(name)?))
    }

    /// Which nodes the transactions of `user` in `database` go to: user, then database, then the primary.
    pub fn effective_route(&self, database: &str, user: &str) -> Route {
        let wish = self.user(user).and_then(|user| user.route);
        let wish = wish.or_else(|| self.database(database)?.route);
        wish.unwrap_or_default()
    }

    /// Who probes the cluster `name`, and with what password: its own keys, else the forced user of the first of its databases that
    /// has one. Passwords of `[users]` and `auth_file` are not looked at here.
    pub fn prober(&self, name: &str) -> Option<(&str, Option<&Secret>)> {
        let cluster = self.clusters.get(name)?;
        if let Some(user) = &cluster.probe_user {
            return Some((user, cluster.probe_password.as_ref()));
        }
        let mut databases = self.databases.values();
        let forced =
            databases.find(|one| one.cluster.as_deref() == Some(name) && one.user.is_some())?;
        let password = cluster.probe_password.as_ref().or(forced.password.as_ref());
        Some((forced.user.as_deref()?, password))
    }
}

/// Everything that is wrong with the clusters: a key, as its parts, and why.
pub fn wrongs(settings: &Settings) -> Vec<(Vec<String>, Refusal)> {
    let mut found = Vec::new();
    let mut note = |parts: [&str; 3], refusal| {
        found.push((parts.map(str::to_owned).to_vec(), refusal));
    };
    for (name, cluster) in &settings.clusters {
        for (key, refusal) in wrongs_of_cluster(settings, name, cluster) {
            note(["clusters", name, key], refusal);
        }
    }
    for (name, database) in &settings.databases {
        for (key, refusal) in wrongs_of_database(settings, database) {
            note(["databases", name, key], refusal);
        }
    }
    found
}

fn wrongs_of_cluster(
    settings: &Settings,
    name: &str,
    cluster: &ClusterSettings,
) -> Vec<(&'static str, Refusal)> {
    let mut found = keepers::wrongs(cluster);
    found.extend(server_tls::wrongs(settings, name, cluster));
    let is_told = !cluster.patroni.is_empty() || cluster.etcd.is_some();
    if cluster.nodes.is_empty() && !is_told {
        let refusal = Refusal::new("has no nodes");
        let hint = "for example nodes = [\"10.0.0.11:5432\"]";
        found.push(("nodes", refusal.hint(hint)));
    }
    let is_twice = |index: usize| {
        let mut before = cluster.nodes[..index].iter();
        before.any(|one| one.is_same_place(&cluster.nodes[index]))
    };
    if (0..cluster.nodes.len()).any(is_twice) {
        found.push(("nodes", Refusal::new("names a node twice")));
    }
    let spans = [
        ("probe_interval", cluster.probe_interval),
        ("probe_timeout", cluster.probe_timeout),
        ("hold_timeout", cluster.hold_timeout),
        ("max_lag", cluster.max_lag),
    ];
    let nothing = spans.into_iter().filter(|(_, span)| span.is_zero());
    found.extend(nothing.map(|(key, _)| (key, Refusal::new("may not be 0"))));
    if settings.prober(name).is_none() {
        let refusal = Refusal::new("nobody is named who asks the nodes about their state");
        let hint = "set probe_user, a role without any privilege";
        found.push(("probe_user", refusal.hint(hint)));
    }
    found
}

fn wrongs_of_database(
    settings: &Settings,
    database: &DatabaseSettings,
) -> Vec<(&'static str, Refusal)> {
    let Some(cluster) = &database.cluster else {
        let alone = [
            ("route", database.route.is_some()),
            ("max_lag", database.max_lag.is_some()),
            ("max_lag_bytes", database.max_lag_bytes.is_some()),
            ("consistency", database.consistency.is_some()),
            ("transactions", database.transactions.is_some()),
        ];
        let set = alone.into_iter().filter(|(_, is_set)| *is_set);
        let refusal = || {
            let refusal = Refusal::new("needs a cluster: one server has no replicas");
            refusal.hint("set cluster, or leave it out")
        };
        return set.map(|(key, _)| (key, refusal())).collect();
    };
    let mut found = Vec::new();
    if !settings.clusters.contains_key(cluster) {
        let refusal = Refusal::new(format!("there is no cluster \"{cluster}\""));
        let hint = format!("add [clusters.{}] with its nodes", path(&[cluster]));
        found.push(("cluster", refusal.hint(hint)));
    }
    if database.host.is_some() {
        let refusal = Refusal::new("stands beside host");
        let hint = "a database is in a cluster, or on a host: keep one of the two";
        found.push(("cluster", refusal.hint(hint)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{ClusterSettings, NodeSettings, nodes, wrongs};
    use crate::config::settings::{DatabaseSettings, Settings};
    use crate::config::slot::Given;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    fn read(given: &Given) -> Vec<String> {
        let nodes = nodes(given).unwrap().into_iter();
        nodes
            .map(|node| format!("{} {} {} {}", node.host, node.port, node.zone, node.weight))
            .collect()
    }

    #[test]
    fn nodes_are_addresses_or_tables() {
        let table = Given::Table(vec![
            ("host".to_owned(), text("/run")),
            ("port".to_owned(), Given::Whole(5433)),
            ("zone".to_owned(), text("e")),
            ("weight".to_owned(), Given::Whole(3)),
        ]);
        let heavy = |weight| {
            let weight = ("weight".to_owned(), Given::Whole(weight));
            Given::List(vec![Given::Table(vec![
                ("host".to_owned(), text("a")),
                weight,
            ])])
        };
        let list = Given::List(vec![text("a:1"), text("b"), text("[::1]:7"), table]);
        let places = ["a 1  1", "b 5432  1", "::1 7  1", "/run 5433 e 3"];
        assert_eq!(read(&list), places);
        assert_eq!(read(&heavy(0)), ["a 5432  0"]);
        assert!(nodes(&heavy(1001)).is_err() && nodes(&heavy(-1)).is_err());
        for wrong in ["a:x", "::1", "a:0", ":5"] {
            assert!(nodes(&Given::List(vec![text(wrong)])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_of_a_table_holds_no_port() {
        let at = |host| Given::List(vec![Given::Table(vec![("host".to_owned(), text(host))])]);
        assert_eq!(read(&at("fe80::1%e0")), ["fe80::1%e0 5432  1"]);
        assert_eq!(read(&at("/run/a:b")), ["/run/a:b 5432  1"]);
        for wrong in ["10.0.0.11:5432", "db1:5432", "[::1]:5432"] {
            assert!(nodes(&at(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cluster_needs_nodes_and_a_prober_and_a_database_one_place() {
        let mut settings = Settings::default();
        let database = DatabaseSettings {
            cluster: Some("main".to_owned()),
            host: Some("a".to_owned()),
            ..DatabaseSettings::default()
        };
        settings.databases.insert("app".to_owned(), database);
        let keys = |settings: &Settings| -> Vec<String> {
            let all = wrongs(settings).into_iter();
            all.map(|(parts, _)| parts.join(".")).collect()
        };
        let both = ["databases.app.cluster", "databases.app.cluster"];
        assert_eq!(keys(&settings), both);
        let cluster = ClusterSettings::default();
        settings.clusters.insert("main".to_owned(), cluster);
        settings.databases.get_mut("app").unwrap().host = None;
        let missing = ["clusters.main.nodes", "clusters.main.probe_user"];
        assert_eq!(keys(&settings), missing);
        settings.databases.get_mut("app").unwrap().user = Some("ann".to_owned());
        settings.clusters.get_mut("main").unwrap().nodes = vec![NodeSettings::at("a", 5432)];
        assert_eq!(keys(&settings), [""; 0]);
    }
}
