//! A cluster that is put back to an older timeline on purpose is fenced until an operator says UNFENCE. What was newer before that is
//! not followed again, unless it comes as a replica.

use std::collections::BTreeMap;
use std::time::Duration;

use pooler::cli::cluster::Stop;

use crate::support::eventually;
use crate::support::pooler::Pooler;
use crate::support::scene::{Scene, port};
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);

/// What the console says of `node`.
fn shown(pooler: &Pooler, scene: &Scene, node: usize) -> BTreeMap<String, String> {
    let nodes = pooler.show("SHOW NODES");
    nodes.row_where("node", &scene.address(node)).unwrap()
}

/// How the cluster stands.
fn cluster(pooler: &Pooler) -> BTreeMap<String, String> {
    let clusters = pooler.show("SHOW CLUSTERS");
    clusters.row_where("cluster", "main").unwrap()
}

/// Waits until `node` is fenced, and says why.
fn fenced(pooler: &Pooler, scene: &Scene, node: usize) -> String {
    eventually(LONG, "it is known for what it is", || {
        shown(pooler, scene, node)["role"] == "fenced"
    });
    shown(pooler, scene, node)["why"].clone()
}

/// How often the row `id` is there on `node`.
fn count(scene: &Scene, node: usize, id: u32) -> String {
    scene.sql(node, &format!("select count(*) from t where id = {id}"))
}

/// Node 1 was promoted on timeline 2 and is down; node 0 takes writes on timeline 1, as if nothing had been.
fn put_back(scene: &Scene) {
    scene.cluster().stop(1, Stop::Fast).unwrap();
    scene.cluster().restart(0).unwrap();
    scene.alter(0, "synchronous_standby_names", "");
}

#[test]
fn a_cluster_put_back_serves_after_unfence_and_what_was_newer_is_followed_again_as_a_replica_only()
{
    let scene = Scene::start();
    let state = crate::support::folder("state");
    let config = scene.config().pooler("state_dir", state.as_path());
    let brief = config.clone().set("clusters.main", "hold_timeout", "2s");
    let remembers = |what: &str| {
        let text = std::fs::read_to_string(state.join("cluster-main.state"));
        text.is_ok_and(|text| text.contains(what))
    };
    let pooler = config.start();
    let (mut client, mut other) = (pooler.connect(), pooler.connect());
    client.query("insert into t values (1)").good();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "the new primary is used", || {
        client.query("insert into t values (2)").errors.is_empty()
    });
    assert_eq!(port(&mut client), scene.ports[1].to_string());
    put_back(&scene);
    fenced(&pooler, &scene, 0);
    // Nobody writes there by mistake: who asks waits, and is told in the end.
    pooler.reload(&brief);
    let reply = client.query("insert into t values (3)");
    let told = (reply.error().code.as_str(), reply.status);
    assert_eq!(told, ("57P03", 'I'), "{reply:?}");
    pooler.reload(&config);
    other.send(batch().query("insert into t values (4)"));
    eventually(LONG, "it waits", || {
        pooler.show("SHOW CLUSTERS").column("holding") == ["1"]
    });
    assert_eq!(
        (&*count(&scene, 0, 3), &*count(&scene, 0, 4)),
        ("0", "0"),
        "nothing is written to what is fenced"
    );
    // An operator means it.
    pooler.show("UNFENCE main");
    other.until_ready().good();
    assert_eq!(port(&mut client), scene.ports[0].to_string());
    assert_eq!(count(&scene, 0, 4), "1");
    for line in [
        "UNFENCE 'main' command issued",
        "as an operator has said UNFENCE",
    ] {
        assert!(pooler.log().contains(line), "{line}: {}", pooler.log());
    }
    // What was newer comes back as it was.
    scene.cluster().restart(1).unwrap();
    let why = fenced(&pooler, &scene, 1);
    assert!(why.contains("UNFENCE"), "{why}");
    for _ in 0..20 {
        client.query("insert into t values (5)").good();
        assert_eq!(port(&mut pooler.connect()), scene.ports[0].to_string());
    }
    // Nor is it when the same is said once more: what was written since would be left behind.
    pooler.show("UNFENCE main");
    client.query("insert into t values (6)").good();
    assert_eq!(port(&mut client), scene.ports[0].to_string());
    let row = cluster(&pooler);
    let stands = (&*row["phase"], &*row["primary"], &*row["timeline"]);
    assert_eq!(stands, ("stable", &*scene.address(0), "1"));
    assert_eq!(count(&scene, 1, 5), "0");
    let given_up = format!("given_up {}", scene.address(1));
    eventually(LONG, "it is written down", || remembers(&given_up));
    drop((client, other, pooler));
    // The next pooler finds what was newer, and that alone.
    scene.cluster().stop(0, Stop::Fast).unwrap();
    let pooler = brief.start();
    let fault = match pooler.login().try_connect() {
        Ok(_) => panic!("what was given up is served"),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(fault.code, "57P03", "{fault:?}");
    fenced(&pooler, &scene, 1);
    let why = cluster(&pooler)["why"].clone();
    assert!(why.contains("UNFENCE main"), "{why}");
    pooler.reload(&config);
    scene.cluster().restart(0).unwrap();
    let mut client = pooler.connect();
    assert_eq!(port(&mut client), scene.ports[0].to_string());
    // As a replica it is one of the cluster's again, and may be promoted.
    scene.cluster().rewind(1, 0).unwrap();
    eventually(LONG, "it follows", || {
        shown(&pooler, &scene, 1)["role"] == "replica"
    });
    eventually(LONG, "that is written down", || !remembers("given_up"));
    scene.catch_up();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    assert_eq!(port(&mut client), scene.ports[1].to_string());
    assert_eq!(
        client.value("select count(*) from t where id in (1, 4)"),
        "2"
    );
}
