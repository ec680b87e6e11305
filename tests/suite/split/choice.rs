//! Which of the replicas serves: by weight and zone, little by little after it came back, and what becomes of reads when none does.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, Raw};
use crate::support::scene::{Scene, port};
use crate::support::wire::batch;

use super::{LONG, beside, readable, scene, split, start};

/// The nodes with zone and weight, as a table each.
fn places(scene: &Scene, config: Config, of: [(&str, u32); 3]) -> Config {
    let nodes = of.iter().zip(&scene.ports).map(|((zone, weight), port)| {
        format!("{{ host = \"127.0.0.1\", port = {port}, zone = {zone:?}, weight = {weight} }}")
    });
    let nodes: Vec<String> = nodes.collect();
    config.set(
        "clusters.main",
        "nodes",
        Raw(format!("[{}]", nodes.join(", "))),
    )
}

/// How many of `count` reads of fresh clients each node has served.
fn shares(scene: &Scene, pooler: &Pooler, count: usize) -> [usize; 3] {
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count {
        *served.entry(port(&mut pooler.connect())).or_default() += 1;
    }
    [0, 1, 2].map(|node| {
        let port = scene.ports[node].to_string();
        served.get(&port).copied().unwrap_or_default()
    })
}

#[test]
fn a_database_may_be_content_with_older_data_than_its_cluster_and_another_with_newer_only() {
    let scene = scene();
    let config = split(&scene).set("clusters.main", "max_lag", "2s");
    let config = beside(config, "wide")
        .database("wide", "max_lag", "60s")
        .database("wide", "max_lag_bytes", 0);
    let config = beside(config, "led")
        .database("led", "route", "replica")
        .database("led", "max_lag", "60s");
    let config = beside(config, "narrow").database("narrow", "max_lag", "100ms");
    let pooler = start(&config);
    let on_replica = |database: &str| {
        let mut client = pooler.login().database(database).connect();
        scene.is_replica(&port(&mut client))
    };
    for database in ["app", "wide", "led", "narrow"] {
        eventually(LONG, database, || on_replica(database));
    }
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_pause()");
    }
    let mut writer = pooler.connect();
    let mut write = || writer.query("insert into t values (1, 1)").good();
    eventually(LONG, "the narrow bound is left first", || {
        write();
        !on_replica("narrow")
    });
    assert!(on_replica("wide"));
    eventually(LONG, "the cluster's bound is left", || {
        write();
        !on_replica("app")
    });
    for _ in 0..10 {
        assert!(on_replica("wide"), "a wider bound is wider");
        assert!(on_replica("led"), "also for who reads from replicas only");
    }
    let lags = pooler.show("SHOW LAG");
    let first = scene.address(1);
    let of_first = lags
        .rows
        .iter()
        .filter(|row| row[1].as_deref() == Some(&first));
    assert_eq!(of_first.count(), 4, "a row for each bound: {lags:?}");
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_resume()");
    }
    for database in ["app", "narrow"] {
        eventually(LONG, "its reads come back", || on_replica(database));
    }
}

#[test]
fn weights_are_shares_of_reads_and_the_poolers_zone_comes_first() {
    let scene = scene();
    let config = split(&scene).set("clusters.main", "zone", "a");
    let weighed = places(&scene, config, [("a", 1), ("", 3), ("", 1)]);
    let pooler = start(&weighed);
    let nodes = pooler.show("SHOW NODES");
    assert_eq!(nodes.column("zone"), ["a", "", ""]);
    assert_eq!(nodes.column("weight"), ["1", "3", "1"]);
    // Who answers late for a moment gets less, so on a busy machine not every sample shows it.
    eventually(LONG, "three of four reads", || {
        let [primary, heavy, light] = shares(&scene, &pooler, 200);
        println!("weights 3 and 1: {heavy} and {light} of 200 reads");
        primary == 0 && (130..170).contains(&heavy)
    });

    let zoned = places(&scene, weighed.clone(), [("a", 1), ("b", 3), ("a", 1)]);
    pooler.reload(&zoned);
    eventually(LONG, "the zone is known", || {
        pooler.show("SHOW NODES").column("zone") == ["a", "b", "a"]
    });
    // A replica that is left out for a moment comes back.
    eventually(LONG, "the zone serves all", || {
        shares(&scene, &pooler, 50) == [0, 0, 50]
    });

    // With weight 0 it serves none, and the other is far, but there.
    let spared = places(&scene, weighed, [("a", 1), ("b", 1), ("a", 0)]);
    pooler.reload(&spared);
    eventually(LONG, "the weight is known", || readable(&pooler) == 1);
    eventually(LONG, "the far one serves all", || {
        shares(&scene, &pooler, 50) == [0, 50, 0]
    });
}

/// Stops the replay of both replicas and lets the primary go on, until none serves reads.
fn fall_behind(scene: &Scene, pooler: &Pooler) {
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_pause()");
    }
    eventually(LONG, "no replica serves reads", || {
        scene.sql(0, "insert into t values (0, 0)");
        readable(pooler) == 0
    });
}

fn catch_up(scene: &Scene) {
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_resume()");
    }
}

#[test]
fn where_no_replica_serves_reads_they_fail_or_wait_as_the_settings_say_and_writes_go_on() {
    let scene = scene();
    let config = split(&scene).set("clusters.main", "max_lag", "300ms").set(
        "routing",
        "no_replica",
        "error",
    );
    let pooler = start(&config);
    let mut client = pooler.connect();
    // With replicas at hand one reads what one has written, and never from the primary.
    for turn in 1..=20 {
        client
            .query(&format!("insert into t values (1, {turn})"))
            .good();
        let read = "select current_setting('port'), max(value) from t where id = 1";
        let reply = client.query(read).good();
        let row: Vec<String> = reply.rows[0].iter().flatten().cloned().collect();
        assert!(scene.is_replica(&row[0]), "{row:?}");
        assert_eq!(row[1], turn.to_string());
    }
    fall_behind(&scene, &pooler);
    let reply = client.query("select 1");
    let fault = reply.error();
    assert_eq!((fault.code.as_str(), reply.status), ("57P03", 'I'));
    assert!(fault.says("reads"), "{fault:?}");
    let named = client.ask(batch().parse("", "select 1").run("", &[]).sync());
    assert_eq!((named.error().code.as_str(), named.status), ("57P03", 'I'));
    client.query("insert into t values (2, 2)").good();
    client.query("begin; select 1; commit").good();
    catch_up(&scene);
    eventually(LONG, "reads are served again", || {
        client.query("select 1").errors.is_empty()
    });
    assert_eq!(client.value("select value from t where id = 2"), "2");

    let waiting = config.clone().set("routing", "no_replica", "wait");
    let config = waiting
        .clone()
        .set("clusters.main", "hold_timeout", "700ms");
    pooler.reload(&config);
    fall_behind(&scene, &pooler);
    let mut client = pooler.connect();
    let began = Instant::now();
    let reply = client.query("select 1");
    assert_eq!((reply.error().code.as_str(), reply.status), ("57P03", 'I'));
    assert!(began.elapsed() >= Duration::from_millis(700));
    pooler.reload(&waiting);
    client.query("insert into t values (3, 3)").good();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..20)
            .map(|_| {
                let mut client = pooler.connect();
                scope.spawn(move || {
                    let read = "select current_setting('port'), count(*) from t where id = 3";
                    let reply = client.query(read).good();
                    reply.rows[0].iter().flatten().cloned().collect::<Vec<_>>()
                })
            })
            .collect();
        eventually(LONG, "nobody may serve them: all wait", || {
            let shown = pooler.show("SHOW CLIENTS");
            let states = shown
                .column("database")
                .into_iter()
                .zip(shown.column("state"));
            let asking = states.filter(|(database, state)| database == "app" && state != "idle");
            asking.count() == 20
        });
        client.query("insert into t values (4, 4)").good();
        catch_up(&scene);
        let rows = readers.into_iter().map(|reader| reader.join().unwrap());
        let by_replicas = rows.filter(|row| scene.is_replica(&row[0])).count();
        assert!(by_replicas > 0);
        // A read that a replica was too slow for is asked again of the primary; none goes there for want of a replica.
        let routed = pooler.show("SHOW ROUTING");
        let strays = routed.row_where("why", "a read, but no replica qualifies");
        assert!(strays.is_none(), "{by_replicas} of 20, {routed:?}");
    });
    // A client that waits can leave.
    fall_behind(&scene, &pooler);
    let clients = || {
        let databases = pooler.show("SHOW CLIENTS").column("database");
        databases.iter().filter(|name| *name == "app").count()
    };
    let before = clients();
    let mut client = pooler.connect();
    client.send(batch().query("select 1"));
    drop(client);
    eventually(LONG, "it is gone", || clients() == before);
    catch_up(&scene);
}

#[test]
fn a_primary_that_shares_takes_its_part_of_the_reads_and_all_when_no_replica_is_left() {
    let scene = scene();
    let config = split(&scene).set("clusters.main", "max_lag", "300ms").set(
        "routing",
        "primary_reads",
        "share",
    );
    let pooler = start(&config);
    let are_shared = || {
        let served = shares(&scene, &pooler, 90);
        println!("of 90 reads: {served:?}");
        served.iter().all(|count| (15..=50).contains(count))
    };
    eventually(LONG, "about a third each", are_shared);
    fall_behind(&scene, &pooler);
    assert_eq!(shares(&scene, &pooler, 20), [20, 0, 0]);
    catch_up(&scene);
    eventually(LONG, "they have their part again", || {
        shares(&scene, &pooler, 60).iter().all(|count| *count > 0)
    });
}
