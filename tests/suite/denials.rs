//! A node that works and lets nobody new in: who has its server goes on, who has none waits or goes elsewhere, and nobody else is held.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pooler::cli::cluster::Stop;

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler};
use crate::support::scene::{PORT, Scene, port};
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);
/// Longer than it takes a pool to say that its server cannot be opened, and many probes.
const WHILE: Duration = Duration::from_millis(2500);

/// Two databases more in the same cluster: one like `app`, and one whose reads go to replicas.
fn config(scene: &Scene) -> Config {
    ["other", "reads"]
        .into_iter()
        .fold(scene.config(), |config, name| {
            config
                .database(name, "cluster", "main")
                .database(name, "dbname", "postgres")
                .database(name, "user", "postgres")
        })
        .database("reads", "route", "replica")
}

/// `node` takes nobody new, and waits until those have left who are there.
fn lets_nobody_in(scene: &Scene, node: usize) {
    let postmaster = scene.cluster().pid(node).unwrap();
    let mut kill = Command::new("kill");
    kill.args(["-TERM", &postmaster.to_string()])
        .status()
        .unwrap();
    eventually(LONG, "nobody new is let in", || {
        let refused = scene.cluster().query(node, "postgres", "select 1").err();
        refused.is_some()
    });
}

/// Has the servers of `database` closed.
fn close_servers(pooler: &Pooler, database: &str) {
    pooler.show(&format!("RECONNECT {database}"));
    eventually(LONG, "its servers are closed", || {
        let servers = pooler.show("SHOW SERVERS").column("database");
        !servers.iter().any(|name| name == database)
    });
}

/// How the cluster has come to stand as it stands.
fn story(pooler: &Pooler) -> Vec<String> {
    pooler.show("SHOW PHASES").column("to")
}

#[test]
fn a_primary_that_lets_nobody_new_in_serves_who_is_there_and_nobody_else_is_held() {
    let scene = Scene::start();
    let pooler = config(&scene)
        .set("clusters.main", "hold_timeout", "2s")
        .start();
    let mut inside = pooler.connect();
    inside.query("select 1").good();
    let mut outside = ["early", "late"].map(|_| pooler.login().database("other").connect());
    outside[0].query("select 1").good();
    close_servers(&pooler, "other");
    lets_nobody_in(&scene, 0);
    let before = story(&pooler);
    // They wait for as long as for a primary, and are told what the matter is.
    for client in &mut outside {
        client.send(batch().query("select 1"));
        let began = Instant::now();
        while began.elapsed() < WHILE {
            assert_eq!(port(&mut inside), scene.ports[0].to_string());
        }
        assert_eq!(story(&pooler), before);
    }
    for client in &mut outside {
        let reply = client.until_ready();
        let fault = reply.error();
        assert_eq!((fault.code.as_str(), reply.status), ("57P03", 'I'));
        assert!(fault.says("No server can be opened"), "{fault:?}");
    }
    assert_eq!(story(&pooler), before);
    assert_eq!(pooler.show("SHOW FAILOVERS").column("kind"), ["start"]);
    // Whoever waits when the primary is replaced gets on with the next one.
    pooler.reload(&config(&scene));
    outside[0].send(batch().query(PORT));
    thread::scope(|scope| {
        let login = scope.spawn(|| port(&mut pooler.login().database("other").connect()));
        scene.cluster().stop(0, Stop::Fast).unwrap();
        scene.cluster().promote(1).unwrap();
        assert_eq!(login.join().unwrap(), scene.ports[1].to_string());
    });
    let reply = outside[0].until_ready().good();
    assert_eq!(reply.value(), scene.ports[1].to_string());
}

#[test]
fn who_reads_leaves_replicas_that_let_nobody_new_in() {
    let scene = Scene::start();
    let pooler = config(&scene).start();
    let mut reader = pooler.login().database("reads").connect();
    eventually(LONG, "a replica serves reads", || {
        scene.is_replica(&port(&mut reader))
    });
    lets_nobody_in(&scene, 1);
    lets_nobody_in(&scene, 2);
    close_servers(&pooler, "reads");
    let before = story(&pooler);
    assert!(scene.is_primary(&port(&mut reader)), "{}", pooler.log());
    let readable = pooler.show("SHOW NODES").column("readable");
    let readable = readable.iter().filter(|readable| *readable == "yes");
    assert_eq!(readable.count(), 2, "by their probes they are well");
    assert_eq!(story(&pooler), before);
}

/// The probe of `node` is ended, and let in no more.
fn denies_the_probe(scene: &Scene, pooler: &Pooler, node: usize) {
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity";
    scene.sql(node, &format!("{ended} where usename = 'probe'"));
    eventually(LONG, "the probe is denied", || {
        let row = pooler
            .show("SHOW NODES")
            .row_where("node", &scene.address(node));
        row.is_some_and(|row| row["trouble"].contains("too many connections"))
    });
}

#[test]
fn a_node_that_denies_only_the_probe_works_on() {
    let scene = Scene::start();
    let pooler = config(&scene).start();
    let (mut writer, mut reader) = (pooler.connect(), pooler.login().database("reads").connect());
    eventually(LONG, "a replica serves reads", || {
        scene.is_replica(&port(&mut reader))
    });
    scene.sql(0, "alter role probe connection limit 0");
    scene.catch_up();
    // What runs on a replica ends well; what comes then is read where it is known how far behind that is.
    reader.send(batch().query("select 'read' from pg_sleep(2.5)"));
    for node in [1, 2] {
        denies_the_probe(&scene, &pooler, node);
    }
    denies_the_probe(&scene, &pooler, 0);
    eventually(LONG, "the primary is used", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["stable"]
    });
    let before = story(&pooler);
    let began = Instant::now();
    while began.elapsed() < WHILE {
        writer.query("insert into t values (1)").good();
        writer.query("delete from t").good();
    }
    assert_eq!(reader.until_ready().good().value(), "read");
    assert!(scene.is_primary(&port(&mut reader)));
    assert_eq!(story(&pooler), before);
    assert!(!before.contains(&"no_writer".to_owned()), "{before:?}");
    let row = pooler
        .show("SHOW NODES")
        .row_where("node", &scene.address(0))
        .unwrap();
    assert_eq!(row["role"], "primary");
    // That the primary is gone is noticed all the same.
    scene.sql(0, "alter role probe connection limit -1");
    scene.catch_up();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "the next one is used", || {
        let reply = writer.query(PORT);
        reply.errors.is_empty() && reply.value() == scene.ports[1].to_string()
    });
}

#[test]
fn a_replica_that_refuses_the_login_costs_no_reader_its_session() {
    let scene = Scene::start();
    // What a replica's own files say, the primary's do not.
    for node in [1, 2] {
        let folder = scene.cluster().data_dir(node);
        let rules = std::fs::read_to_string(folder.join("pg_hba.conf")).unwrap();
        let refusing = format!("host all other all reject\n{rules}");
        std::fs::write(folder.join("pg_hba.conf"), refusing).unwrap();
        scene.sql(node, "select pg_reload_conf()");
    }
    scene.sql(0, "create role other login superuser");
    scene.catch_up();
    let pooler = ["reads", "split"]
        .into_iter()
        .fold(config(&scene), |config, name| {
            config
                .database(name, "cluster", "main")
                .database(name, "dbname", "postgres")
                .database(name, "user", "other")
        })
        .database("split", "route", "auto")
        .start();
    for database in ["reads", "split"] {
        for _ in 0..10 {
            let mut client = pooler.login().database(database).connect();
            for _ in 0..3 {
                assert_eq!(port(&mut client), scene.ports[0].to_string(), "{database}");
            }
        }
    }
}
