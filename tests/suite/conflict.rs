//! Two nodes take writes on the same timeline, and nobody can tell whose history is the cluster's: neither is used until one is gone.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use pooler::cli::cluster::Stop;

use crate::support::eventually;
use crate::support::pooler::Pooler;
use crate::support::scene::{Scene, port};
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);

fn cluster(pooler: &Pooler) -> BTreeMap<String, String> {
    let clusters = pooler.show("SHOW CLUSTERS");
    clusters.row_where("cluster", "main").unwrap()
}

/// Whether neither node is used, for anything.
fn is_at_odds(pooler: &Pooler, scene: &Scene) -> bool {
    let row = cluster(pooler);
    let why = &row["why"];
    let is_told = [1, 2].map(|node| why.contains(&scene.address(node))) == [true; 2];
    let readable = pooler.show("SHOW NODES").column("readable");
    (&*row["phase"], &*row["primary"]) == ("conflict", "")
        && is_told
        && why.contains("stop one of them")
        && readable == ["no"; 3]
}

/// Every row that `node` has.
fn rows(scene: &Scene, node: usize) -> String {
    scene.sql(
        node,
        "select coalesce(string_agg(id::text, ' ' order by id), '') from t",
    )
}

/// Waits until `node` has the role.
fn becomes(pooler: &Pooler, scene: &Scene, node: usize, role: &str) {
    eventually(LONG, role, || {
        let nodes = pooler.show("SHOW NODES");
        let row = nodes.row_where("node", &scene.address(node)).unwrap();
        row["role"] == role
    });
}

#[test]
fn of_two_primaries_with_equal_right_neither_is_used_until_one_is_gone() {
    let scene = Scene::start();
    let state = crate::support::folder("state");
    let config = scene
        .config()
        // A node that is only slow to answer is at odds still.
        .set("clusters.main", "probe_timeout", "10s")
        .database("auto", "cluster", "main")
        .database("auto", "dbname", "postgres")
        .database("auto", "user", "postgres")
        .database("auto", "route", "auto")
        .pooler("state_dir", state.as_path());
    let brief = config.clone().set("clusters.main", "hold_timeout", "2s");
    // A pooler has seen timeline 1, and none is there when both standbys are promoted.
    let pooler = config.start();
    pooler.connect().query("insert into t values (1)").good();
    eventually(LONG, "it is written down", || {
        let text = std::fs::read_to_string(state.join("cluster-main.state"));
        text.is_ok_and(|text| text.contains("timeline 1\n"))
    });
    drop(pooler);
    scene.catch_up();
    scene.cluster().kill9(0).unwrap();
    for node in [1, 2] {
        scene.cluster().promote(node).unwrap();
    }
    // The old primary is there again, as a replica of one of them, or of neither.
    scene.cluster().follow(0, 1).unwrap();
    scene.cluster().restart(0).unwrap();
    let pooler = brief.start();
    becomes(&pooler, &scene, 0, "replica");
    eventually(LONG, "they are at odds", || is_at_odds(&pooler, &scene));
    assert!(pooler.log().contains("cluster has two primaries"));
    // Who comes to write or to read waits, and is told in the end.
    let began = Instant::now();
    thread::scope(|scope| {
        let comers = ["app", "auto"].map(|database| {
            let pooler = &pooler;
            scope.spawn(
                move || match pooler.login().database(database).try_connect() {
                    Ok(_) => panic!("{database} is served"),
                    Err(refusal) => refusal.told(),
                },
            )
        });
        while comers.iter().any(|comer| !comer.is_finished()) {
            assert!(is_at_odds(&pooler, &scene), "{:?}", cluster(&pooler));
        }
        for fault in comers.map(|comer| comer.join().unwrap()) {
            assert_eq!(fault.code, "57P03", "{fault:?}");
            assert!(fault.says("equal right"), "{fault:?}");
        }
    });
    assert!(began.elapsed() >= Duration::from_secs(2));
    // One is gone: the other is the cluster's, also when that one comes back.
    pooler.reload(&config);
    scene.cluster().stop(2, Stop::Fast).unwrap();
    let (mut writer, mut reader) = (pooler.connect(), pooler.login().database("auto").connect());
    writer.query("insert into t values (2)").good();
    scene.cluster().restart(2).unwrap();
    becomes(&pooler, &scene, 2, "fenced");
    for _ in 0..20 {
        writer.query("insert into t values (3)").good();
        assert_eq!(port(&mut pooler.connect()), scene.ports[1].to_string());
    }
    // An operator who takes back what was decided has them at odds again.
    pooler.show("UNFENCE main");
    eventually(LONG, "they are", || is_at_odds(&pooler, &scene));
    pooler.reload(&brief);
    let before = [1, 2].map(|node| rows(&scene, node));
    writer.send(batch().query("insert into t values (4)"));
    reader.send(batch().query("select count(*) from t"));
    for reply in [writer.until_ready(), reader.until_ready()] {
        let told = (reply.error().code.as_str(), reply.status);
        assert_eq!(told, ("57P03", 'I'), "{reply:?}");
    }
    assert!(is_at_odds(&pooler, &scene), "{:?}", cluster(&pooler));
    assert_eq!([1, 2].map(|node| rows(&scene, node)), before);
    // Who waits when the other one goes is served by the one that stays.
    pooler.reload(&config);
    writer.send(batch().query("insert into t values (5)"));
    eventually(LONG, "it waits", || cluster(&pooler)["holding"] == "1");
    scene.cluster().stop(1, Stop::Fast).unwrap();
    writer.until_ready().good();
    assert_eq!(port(&mut writer), scene.ports[2].to_string());
    assert_eq!(rows(&scene, 2), "1 5");
    scene.cluster().restart(1).unwrap();
    becomes(&pooler, &scene, 1, "fenced");
    writer.query("insert into t values (6)").good();
    assert_eq!(rows(&scene, 2), "1 5 6");
    // Each time once, and never from one to the other and back.
    let story = pooler.show("SHOW PHASES");
    let phases = story.column("to").into_iter().zip(story.column("node"));
    let of = |phase: &str| -> Vec<String> {
        let all = phases.clone().filter(|(to, _)| to == phase);
        all.map(|(_, node)| node).collect()
    };
    assert_eq!(of("conflict").len(), 2, "{story:?}");
    let mut used = of("stable");
    used.dedup();
    assert_eq!(used, [scene.address(1), scene.address(2)], "{story:?}");
}
