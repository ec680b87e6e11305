//! Nodes that are not what they seem: the pooler itself in its list, or a node of another cluster, and names that move from one server to another
//! while both live on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pooler::cli::cluster::{Cluster, Options, Stop};

use crate::cluster::Scene;
use crate::support::dns::NameServer;
use crate::support::pooler::{Config, Pooler};
use crate::support::postgres::{Server, binaries};
use crate::support::relay::Relay;
use crate::support::scene::{PORT, port};
use crate::support::wire::batch;
use crate::support::{Raise, eventually, folder};

const LONG: Duration = Duration::from_secs(60);
const NAME: &str = "db.example.test";
/// The connections of clients to a node, ours aside.
const CONNECTIONS: &str = "select count(*) from pg_stat_activity \
    where backend_type = 'client backend' and pid <> pg_backend_pid()";

fn phase(pooler: &Pooler) -> String {
    pooler.show("SHOW CLUSTERS").column("phase")[0].clone()
}

#[test]
fn a_pooler_in_its_own_list_of_nodes_is_no_node_and_harms_nobody() {
    let scene = Scene::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = free.local_addr().unwrap().port();
    drop(free);
    let (all, itself) = (
        [0, 1, 2].map(|node| scene.address(node)),
        format!("127.0.0.1:{own}"),
    );
    let nodes = [itself.as_str(), &all[0], &all[1], &all[2]];
    let pooler = scene
        .config()
        .set("clusters.main", "nodes", nodes)
        // The probes find their database there, and what answers them is the primary.
        .database("postgres", "cluster", "main")
        .database("postgres", "user", "postgres")
        .start_at(own);
    let mut client = pooler.connect();
    client.query("insert into t values (1)").good();
    let primary = || pooler.show("SHOW CLUSTERS").column("primary")[0].clone();
    eventually(LONG, "all is well", || phase(&pooler) == "stable");
    assert_ne!(primary(), itself);
    for id in 2..30 {
        client.query(&format!("insert into t values ({id})")).good();
        assert_ne!(primary(), itself);
    }
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (99)").errors.is_empty()
    });
    eventually(LONG, "at the new primary", || primary() == all[1]);
    assert_eq!(port(&mut client), scene.ports[1].to_string());
}

/// A name that is at one node, and may move to another.
struct Moving {
    names: NameServer,
    relays: [Relay; 2],
}

impl Moving {
    /// It is at node `first`, and may move to node `second`.
    fn between(scene: &Scene, first: usize, second: usize) -> Self {
        let server = |node: usize| Server {
            host: "127.0.0.1".into(),
            port: scene.ports[node],
        };
        let names = NameServer::start();
        names.set(NAME, &["127.0.0.2"]);
        Self {
            names,
            relays: Relay::pair(&server(first), &server(second)),
        }
    }

    fn node(&self) -> String {
        format!("{NAME}:{}", self.relays[0].port())
    }

    /// A pooler with `config` that asks the name server.
    fn start(&self, config: Config) -> Pooler {
        config
            .pooler("dns_max_ttl", "100ms")
            .pooler("resolv_conf", "{folder}/resolv.conf")
            .file("resolv.conf", &self.names.resolv_conf())
            .start()
    }

    /// The name moves.
    fn go(&self) {
        self.names.set(NAME, &["127.0.0.3"]);
    }
}

/// How often the log says that a name has moved.
fn moves(pooler: &Pooler) -> usize {
    pooler.log().matches("the name of a node has moved").count()
}

/// Writes until it is `over`: at `home` alone, and without an error, since it `is_known`.
fn write(
    pooler: &Pooler,
    home: &str,
    is_known: &AtomicBool,
    over: &AtomicBool,
    done: &AtomicUsize,
) {
    let mut client = pooler.connect();
    while !over.load(SeqCst) {
        let was_known = is_known.load(SeqCst);
        let reply = client.query(&format!("insert into t values (1) returning ({PORT})"));
        match reply.errors.first() {
            None => {
                assert!(!was_known || reply.value() == home, "at the old primary");
                done.fetch_add(1, SeqCst);
            }
            Some(fault) => {
                let code = fault.code.as_str();
                assert!(!was_known && code == "08007", "{fault:?}");
            }
        }
    }
}

#[test]
fn when_the_name_of_the_primary_moves_the_server_that_it_left_gets_nothing_more_though_it_lives() {
    let scene = Scene::start();
    // It takes writes to the end, and waits for nobody.
    scene.alter(0, "synchronous_standby_names", "");
    let moving = Moving::between(&scene, 0, 1);
    let node = moving.node();
    let config = scene.config();
    let pooler = moving.start(config.set("clusters.main", "nodes", [node.as_str()]));
    let [old, new] = [0, 1].map(|node| scene.ports[node].to_string());
    let [mut idle, mut open, mut silent, mut busy] = [(); 4].map(|()| pooler.connect());
    open.query("begin; insert into t values (7)").good();
    silent.query("begin; insert into t values (8)").good();
    let (is_known, over, done) = (
        AtomicBool::default(),
        AtomicBool::default(),
        AtomicUsize::default(),
    );
    thread::scope(|scope| {
        let _end = Raise(&over);
        for _ in 0..3 {
            scope.spawn(|| write(&pooler, &new, &is_known, &over, &done));
        }
        scene.cluster().promote(1).unwrap();
        busy.send(batch().query("insert into t select 9 from pg_sleep(60)"));
        assert_eq!(port(&mut idle), old, "that is what the name says still");
        moving.go();
        eventually(LONG, "the new primary is known", || {
            let shown = pooler.show("SHOW CLUSTERS");
            shown.column("phase") == ["stable"] && shown.column("timeline") == ["2"]
        });
        is_known.store(true, SeqCst);
        assert_eq!(port(&mut idle), new);
        let reply = busy.until_ready();
        assert_eq!((reply.error().code.as_str(), reply.status), ("08007", 'I'));
        let reply = open.query("insert into t values (7)");
        assert_eq!((reply.error().code.as_str(), reply.status), ("40001", 'E'));
        open.query("rollback").good();
        let reply = silent.query("commit");
        assert_eq!((reply.error().code.as_str(), reply.status), ("40001", 'I'));
        eventually(LONG, "nobody is left there", || {
            scene.sql(0, CONNECTIONS) == "0"
        });
        let count = || scene.sql(0, "select count(*) from t");
        let (before, enough) = (count(), done.load(SeqCst) + 200);
        eventually(LONG, "clients go on", || done.load(SeqCst) >= enough);
        assert_eq!(count(), before);
        assert_eq!(scene.sql(0, CONNECTIONS), "0");
    });
    for client in [&mut open, &mut silent, &mut busy] {
        assert_eq!(port(client), new);
    }
    assert_eq!(idle.value("select count(*) from t where id > 1"), "0");
    assert_eq!((phase(&pooler).as_str(), moves(&pooler)), ("stable", 1));
    let row = pooler.show("SHOW NODES").row_where("node", &node).unwrap();
    assert_eq!(row["role"], "primary");
}

#[test]
fn when_the_name_of_a_replica_moves_reads_go_there_only_when_that_one_is_near() {
    let scene = Scene::with(&[], "id bigint", [0, 1, 2]);
    let moving = Moving::between(&scene, 1, 2);
    let (primary, replica) = (scene.address(0), moving.node());
    let config = scene
        .config()
        .database("app", "route", "auto")
        .set("clusters.main", "nodes", [primary.as_str(), &replica])
        .set("clusters.main", "max_lag", "1h")
        .set("clusters.main", "max_lag_bytes", 65536)
        .set("clusters.main", "readmit_after", "100ms");
    let pooler = moving.start(config);
    let ports: Vec<String> = scene.ports.iter().map(u16::to_string).collect();
    let [mut client, mut open, mut fixed] = [(); 3].map(|()| pooler.connect());
    eventually(LONG, "it serves reads", || port(&mut client) == ports[1]);
    open.query("begin read only").good();
    fixed
        .query("begin isolation level repeatable read read only")
        .good();
    assert_eq!([port(&mut open), port(&mut fixed)], [&*ports[1]; 2]);
    let story = pooler.show("SHOW PHASES").rows.len();
    // The other one is far behind, of which only a probe of it can tell.
    scene.sql(2, "select pg_wal_replay_pause()");
    scene.sql(0, "insert into t select generate_series(1, 10000)");
    moving.go();
    eventually(LONG, "that is noticed", || moves(&pooler) == 1);
    for _ in 0..100 {
        assert_eq!(port(&mut client), ports[0]);
    }
    assert_eq!(port(&mut open), ports[0], "it goes on elsewhere");
    let reply = fixed.query("select 1");
    assert_eq!((reply.error().code.as_str(), reply.status), ("40001", 'E'));
    fixed.query("rollback").good();
    open.query("commit").good();
    eventually(LONG, "nobody is left there", || {
        scene.sql(1, CONNECTIONS) == "0"
    });
    scene.sql(2, "select pg_wal_replay_resume()");
    eventually(LONG, "it has caught up", || port(&mut client) == ports[2]);
    assert_eq!(client.value("select count(*) from t"), "10000");
    assert_eq!(scene.sql(1, CONNECTIONS), "0");
    assert_eq!(pooler.show("SHOW PHASES").rows.len(), story);
}

/// A primary of another cluster.
fn other_cluster() -> Cluster {
    let cluster = Cluster::start(binaries(), &Options::default());
    let cluster = cluster.unwrap_or_else(|problem| panic!("{problem}"));
    let table = "create role probe login; create table t (id bigint)";
    cluster.query(0, "postgres", table).unwrap();
    cluster
}

/// Why nobody is served.
fn refused(pooler: &Pooler, database: &str) -> String {
    let fault = match pooler.login().database(database).try_connect() {
        Ok(_) => panic!("{database} is served"),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(fault.code, "57P03", "{fault:?}");
    pooler.show("SHOW CLUSTERS").column("why")[0].clone()
}

#[test]
fn a_node_of_another_cluster_gets_neither_reads_nor_writes_and_it_is_told_why() {
    let (scene, other) = (Scene::start(), other_cluster());
    let strange = format!("127.0.0.1:{}", other.port(0));
    let all = [0, 1, 2].map(|node| scene.address(node));
    let alone = scene
        .config()
        .pooler("state_dir", folder("state").as_path())
        .set("clusters.main", "hold_timeout", "1s")
        .database("ro", "cluster", "main")
        .database("ro", "dbname", "postgres")
        .database("ro", "user", "postgres")
        .database("ro", "route", "replica");
    let nodes = [strange.as_str(), &all[0], &all[1], &all[2]];
    let with = alone.clone().set("clusters.main", "nodes", nodes);
    // Nobody has said yet which of the two is meant; then the cluster's own primary is not there, either.
    for is_stopped in [false, true] {
        if is_stopped {
            scene.cluster().stop(0, Stop::Fast).unwrap();
        }
        let pooler = with.start();
        for database in ["app", "ro"] {
            let why = refused(&pooler, database);
            assert!(why.contains("not of one cluster"), "{why}");
            assert!(why.contains(&format!("{strange} of system ")), "{why}");
        }
    }
    scene.cluster().restart(0).unwrap();
    // It is taken off the list, and comes back.
    let pooler = with.start();
    assert!(refused(&pooler, "app").contains("not of one cluster"));
    pooler.reload(&alone);
    eventually(LONG, "all is well", || phase(&pooler) == "stable");
    assert_eq!(port(&mut pooler.connect()), scene.ports[0].to_string());
    pooler.reload(&with);
    passes_over(&pooler, &scene, &strange);
    // The pooler remembers, also where nobody else is there.
    drop(pooler);
    for node in [0, 1, 2] {
        scene.cluster().stop(node, Stop::Fast).unwrap();
    }
    let pooler = with.start();
    refused(&pooler, "app");
    refused(&pooler, "ro");
    for node in [0, 1, 2] {
        scene.cluster().restart(node).unwrap();
    }
    eventually(LONG, "all is well", || phase(&pooler) == "stable");
    passes_over(&pooler, &scene, &strange);
    let count = other
        .query(0, "postgres", "select count(*) from t")
        .unwrap();
    assert_eq!(count.first(), Some("0"));
}

/// The node `strange` is fenced, and told to be of another system; writes and reads go to the nodes of `scene`.
fn passes_over(pooler: &Pooler, scene: &Scene, strange: &str) {
    eventually(LONG, "it is known and all others serve", || {
        let nodes = pooler.show("SHOW NODES");
        let strange = nodes.row_where("node", strange);
        strange.is_some_and(|node| {
            node["role"] == "fenced" && node["why"] == "it is of another system"
        }) && nodes
            .column("readable")
            .iter()
            .filter(|it| *it == "yes")
            .count()
            == 2
    });
    for id in 0..10 {
        let mut writer = pooler.connect();
        writer.query(&format!("insert into t values ({id})")).good();
        assert!(scene.is_primary(&port(&mut writer)));
        let mut reader = pooler.login().database("ro").connect();
        assert!(scene.is_replica(&port(&mut reader)));
    }
}
