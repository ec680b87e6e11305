//! A node that works and lets nobody new in.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler};
use crate::support::scene::{PORT, Scene, port};
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);
/// Many probes.
const WHILE: Duration = Duration::from_millis(2500);

/// With a database more in the same cluster, whose reads go to replicas.
fn config(scene: &Scene) -> Config {
    let config = scene.config().database("reads", "cluster", "main");
    config
        .database("reads", "dbname", "postgres")
        .database("reads", "user", "postgres")
        .database("reads", "route", "replica")
}

/// How the cluster has come to stand as it stands.
fn story(pooler: &Pooler) -> Vec<String> {
    pooler.show("SHOW PHASES").column("to")
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
