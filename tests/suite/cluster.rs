//! A cluster has one writer at a time, clients follow it through a failover, and nothing that was acknowledged is lost, doubled or split.

use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use pooler::cli::cluster::Stop;

use crate::support::eventually;
use crate::support::load::{assert_good, more, past, under_load, with_splitting};
use crate::support::pooler::Pooler;
use crate::support::postgres::Server;
use crate::support::relay::Relay;
use crate::support::scene::port;
use crate::support::wire::{Address, batch};

pub use crate::support::scene::Scene;

const LONG: Duration = Duration::from_secs(60);

/// Runs clients while `story` happens; what they were told must be true of `winner`.
fn loaded(
    what: &str,
    scene: &Scene,
    pooler: &Pooler,
    winner: usize,
    story: impl FnOnce(&AtomicUsize),
) {
    let direct = scene.ports.iter().map(|port| past(Address::tcp(*port)));
    let load = under_load(pooler, direct.collect(), story);
    let verdict = load.verdict(|sql| scene.sql(winner, sql));
    // Twice something happens, and each time each has one thing in flight.
    assert_good(what, &verdict, 2);
}

#[test]
fn the_writer_is_found_whatever_the_order_of_the_nodes() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let mut client = pooler.connect();
    assert_eq!(port(&mut client), scene.ports[0].to_string());
    client.query("insert into t values (1)").good();
}

#[test]
fn the_console_shows_the_cluster_and_drains_it() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    pooler.connect().query("select 1").good();
    let primary = format!("127.0.0.1:{}", scene.ports[0]);
    let shown = pooler.show("SHOW CLUSTERS");
    assert_eq!(shown.column("primary"), [primary.as_str()]);
    assert_eq!(shown.column("phase"), ["stable"]);
    eventually(LONG, "both replicas are measured", || {
        let nodes = pooler.show("SHOW NODES");
        let role = |port: u16| {
            let row = nodes.row_where("node", &format!("127.0.0.1:{port}"));
            row.map(|row| (row["role"].clone(), row["readable"].clone()))
        };
        let is = |role: &str, readable: &str| Some((role.to_owned(), readable.to_owned()));
        role(scene.ports[0]) == is("primary", "no")
            && role(scene.ports[1]) == is("replica", "yes")
            && role(scene.ports[2]) == is("replica", "yes")
    });
    assert_eq!(pooler.show("SHOW LAG").rows.len(), 2);
    let story = pooler.show("SHOW PHASES");
    assert_eq!(
        story.column("to").last().map(String::as_str),
        Some("stable")
    );
    let database = || {
        pooler
            .show("SHOW DATABASES")
            .row_where("name", "app")
            .unwrap()
    };
    let at = |node: usize| ("127.0.0.1".to_owned(), scene.ports[node].to_string());
    let shown = database();
    assert_eq!((shown["host"].clone(), shown["port"].clone()), at(0));
    let notice = pooler.show("SWITCHOVER main").notices.remove(0);
    assert!(
        notice.says("no Patroni keeps this cluster")
            && notice.says("at most 5 s")
            && notice.says(&primary),
        "{notice:?}"
    );
    eventually(LONG, "the drain begins", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["draining"]
    });
    let mut client = thread::scope(|scope| {
        // It waits for the drain to end.
        let client = scope.spawn(|| pooler.connect());
        scene.cluster().promote(1).unwrap();
        client.join().unwrap()
    });
    assert_eq!(port(&mut client), scene.ports[1].to_string());
    let shown = database();
    assert_eq!((shown["host"].clone(), shown["port"].clone()), at(1));
    let fault = pooler.console().query("UNFENCE other");
    assert_eq!(fault.error().code, "42704");
}

#[test]
fn a_crash_of_the_primary_loses_doubles_and_splits_nothing() {
    let scene = Scene::start();
    let pooler = with_splitting(scene.config()).start();
    let what = "kill -9, promotion, revival of the old primary";
    loaded(what, &scene, &pooler, 1, |written| {
        scene.cluster().kill9(0).unwrap();
        let began = Instant::now();
        scene.cluster().promote(1).unwrap();
        let promoted = began.elapsed();
        more(written, 50);
        println!("the cluster took {promoted:?} to have a primary again");
        // The old primary comes back as it was, takes writes, and is behind nobody by its own account.
        scene.cluster().restart(0).unwrap();
        scene.alter(0, "synchronous_standby_names", "");
        more(written, 300);
    });
}

#[test]
fn a_restart_in_place_and_a_promotion_of_a_living_cluster_are_followed() {
    let scene = Scene::start();
    let pooler = with_splitting(scene.config()).start();
    let what = "restart, promotion of a living cluster";
    loaded(what, &scene, &pooler, 1, |written| {
        scene.cluster().restart(0).unwrap();
        more(written, 100);
        // Now the replica is promoted while the primary goes on: the higher timeline wins, at once. Writes that wait for the
        // replica are never acknowledged by the old primary.
        scene.cluster().promote(1).unwrap();
        more(written, 200);
    });
}

/// Stops every process of a node, or lets them go on.
fn signal_node(scene: &Scene, node: usize, signal: &str) {
    let postmaster = scene.cluster().pid(node).unwrap();
    let of_node = |status: &str| {
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == postmaster.to_string())
    };
    let mut pids = vec![postmaster.to_string()];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let status = std::fs::read_to_string(entry.path().join("status"));
        if status.is_ok_and(|status| of_node(&status)) {
            pids.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    for pid in pids {
        // A backend may have ended meanwhile.
        let mut kill = std::process::Command::new("kill");
        kill.args([signal, &pid]).status().unwrap();
    }
}

#[test]
fn a_frozen_primary_is_left_and_what_it_says_when_it_wakes_is_not_believed() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    assert_eq!(port(&mut idle), scene.ports[0].to_string());
    busy.query("select 1").good();
    signal_node(&scene, 0, "-STOP");
    // It is on its way to the frozen primary, or held: nobody can know yet.
    busy.send(batch().query("insert into t values (99)"));
    eventually(LONG, "the silence is noticed", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["no_writer"]
    });
    scene.cluster().promote(1).unwrap();
    assert_eq!(port(&mut idle), scene.ports[1].to_string());
    let reply = busy.until_ready();
    let was_held = reply.errors.is_empty();
    if !was_held {
        let told = (reply.error().code.as_str(), reply.status);
        assert_eq!(told, ("08007", 'I'), "{reply:?}");
    }
    signal_node(&scene, 0, "-CONT");
    eventually(LONG, "the old primary is known for what it is", || {
        let nodes = pooler.show("SHOW NODES");
        let row = nodes.row_where("node", &format!("127.0.0.1:{}", scene.ports[0]));
        row.is_some_and(|row| row["role"] == "fenced")
    });
    for _ in 0..20 {
        assert_eq!(port(&mut busy), scene.ports[1].to_string());
        assert_eq!(port(&mut pooler.connect()), scene.ports[1].to_string());
    }
    let there = busy.value("select count(*) from t where id = 99");
    assert_eq!(there, if was_held { "1" } else { "0" });
}

#[test]
fn a_transaction_on_a_lost_server_fails_and_the_session_goes_on() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let mut client = pooler.connect();
    let mut silent = pooler.connect();
    client.query("begin").good();
    client.query("insert into t values (7)").good();
    silent.query("begin; insert into t values (8)").good();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    let reply = client.query("select 1");
    assert_eq!(
        (reply.error().code.as_str(), reply.status),
        ("40001", 'E'),
        "{reply:?}"
    );
    let reply = client.query("select 1");
    assert_eq!((reply.error().code.as_str(), reply.status), ("25P02", 'E'));
    let reply = client.query("rollback").good();
    assert_eq!((reply.tags[0].as_str(), reply.status), ("ROLLBACK", 'I'));
    assert_eq!(port(&mut client), scene.ports[1].to_string());
    // A COMMIT must not look like success.
    let reply = silent.query("commit");
    assert_eq!(
        (reply.error().code.as_str(), reply.status),
        ("40001", 'I'),
        "{reply:?}"
    );
    assert_eq!(silent.value("select count(*) from t"), "0");
}

#[test]
fn only_what_may_have_been_a_commit_has_an_outcome_that_nobody_knows() {
    let scene = Scene::start();
    let pooler = scene.config().database("app", "pool_size", 8).start();
    let update = "update t set id = id where 'pending' <> 'vendor'";
    let stories = [
        (batch().query(update), "40001", 'E'),
        (batch().parse("", update).run("", &[]).sync(), "40001", 'E'),
        (batch().run("update", &[]).sync(), "40001", 'E'),
        (batch().query("commit"), "08007", 'I'),
        (batch().run("done", &[]).sync(), "08007", 'I'),
        (
            batch().run("update", &[]).run("done", &[]).sync(),
            "08007",
            'E',
        ),
        (
            batch().query("insert into t values (1); commit"),
            "08007",
            'E',
        ),
    ];
    let mut clients: Vec<_> = stories.iter().map(|_| pooler.connect()).collect();
    for client in &mut clients {
        let prepares = batch().parse("update", update).parse("done", "commit");
        client.ask(prepares.sync()).good();
        client.query("begin").good();
        client.query("insert into t values (7)").good();
    }
    signal_node(&scene, 0, "-STOP");
    let mut expected = Vec::new();
    for (client, (request, code, status)) in clients.iter_mut().zip(stories) {
        client.send(request);
        expected.push((code, status));
    }
    eventually(LONG, "the silence is noticed", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["no_writer"]
    });
    scene.cluster().promote(1).unwrap();
    for (client, (code, status)) in clients.iter_mut().zip(expected) {
        let reply = client.until_ready();
        let told = (reply.error().code.as_str(), reply.status);
        assert_eq!(told, (code, status), "{reply:?}");
        if status == 'E' {
            // Nothing of the lost transaction is done by itself.
            let reply = client.query("insert into t values (8)");
            assert_eq!((reply.error().code.as_str(), reply.status), ("25P02", 'E'));
            assert_eq!(client.query("rollback").good().status, 'I');
        }
        assert_eq!(client.value("select count(*) from t where id = 8"), "0");
    }
    signal_node(&scene, 0, "-CONT");
}

#[test]
fn servers_of_a_primary_that_lost_its_power_are_given_up_when_it_is_there_again() {
    let scene = Scene::start();
    // Its replicas may take their time to come back.
    scene.alter(0, "synchronous_standby_names", "");
    let server = Server {
        host: "127.0.0.1".into(),
        port: scene.ports[0],
    };
    let relay = Relay::start("127.0.0.1", &server);
    let primary = format!("127.0.0.1:{}", relay.port());
    let nodes = [primary.as_str(), &scene.address(1), &scene.address(2)];
    let pooler = scene.config().set("clusters.main", "nodes", nodes).start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("begin").good();
    idle.query("insert into t values (1)").good();
    busy.query("commit").good();
    busy.send(batch().query("insert into t select 2 from pg_sleep(90)"));
    eventually(LONG, "it is under way", || {
        scene.sql(
            0,
            "select count(*) from pg_stat_activity where query like 'insert into t select 2%'",
        ) == "1"
    });
    relay.cut();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().restart(0).unwrap();
    let reply = busy.until_ready();
    assert_eq!((reply.error().code.as_str(), reply.status), ("08007", 'I'));
    for client in [&mut idle, &mut busy] {
        client.query("insert into t values (3)").good();
    }
    assert_eq!(idle.value("select count(*) from t where id <> 2"), "3");
}

#[test]
fn without_a_primary_clients_wait_and_are_told_why_in_the_end() {
    let scene = Scene::start();
    let pooler = scene
        .config()
        .set("clusters.main", "hold_timeout", "700ms")
        .start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    scene.cluster().stop(0, Stop::Fast).unwrap();
    let reply = client.query("select 1");
    let fault = reply.error();
    assert_eq!(
        (fault.code.as_str(), fault.severity.as_str()),
        ("57P03", "ERROR")
    );
    assert!(fault.says("replica"), "{fault:?}");
    let reply = client.ask(batch().parse("", "select 1").run("", &[]).sync());
    assert_eq!((reply.error().code.as_str(), reply.status), ("57P03", 'I'));
    let fault = pooler.login().refused();
    assert_eq!(
        (fault.code.as_str(), fault.severity.as_str()),
        ("57P03", "FATAL"),
        "a login is over with it"
    );
    assert!(fault.detail.contains("replica"), "{fault:?}");
    let shown = pooler.show("SHOW DATABASES").row_where("name", "app");
    assert_eq!(shown.unwrap()["host"], "", "nobody is the primary");
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "the session goes on", || {
        client.query("select 1").errors.is_empty()
    });
    assert_eq!(port(&mut client), scene.ports[1].to_string());
}

#[test]
fn a_login_that_waits_for_a_primary_is_shown_and_told_why_when_its_time_is_over() {
    let scene = Scene::start();
    let config = scene.config().pooler("client_login_timeout", "5s");
    let pooler = config.set("clusters.main", "hold_timeout", "60s").start();
    let mut console = pooler.console();
    let mut other = pooler.connect();
    other.query("select 1").good();
    scene.cluster().stop(0, Stop::Fast).unwrap();
    eventually(LONG, "there is no primary", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["no_writer"]
    });
    // One that leaves has waited in vain, too.
    other.send(batch().query("select 2"));
    eventually(LONG, "it waits", || {
        console.query("SHOW CLUSTERS").good().column("holding") == ["1"]
    });
    drop(other);
    let fault = thread::scope(|scope| {
        let login = scope.spawn(|| pooler.login().refused());
        eventually(LONG, "it is shown to wait", || {
            let clients = console.query("SHOW CLIENTS").good();
            let row = clients.row_where("database", "app");
            row.is_some_and(|row| row["state"] == "waiting")
        });
        login.join().unwrap()
    });
    assert_eq!(
        (fault.code.as_str(), fault.severity.as_str()),
        ("57P03", "FATAL")
    );
    assert!(fault.detail.contains("is replica"), "{fault:?}");
    let outages = console.query("SHOW FAILOVERS").good();
    let open = outages.row_where("kind", "open").unwrap();
    let waits = ["held", "released", "failed"].map(|count| &*open[count]);
    assert_eq!(waits, ["2", "0", "2"], "nobody waits any longer");
}

#[test]
fn what_was_seen_is_remembered_over_a_restart_of_the_pooler() {
    let scene = Scene::start();
    let config = scene.config().set("clusters.main", "hold_timeout", "1s");
    let state = crate::support::folder("state");
    let config = config.pooler("state_dir", state.as_path());
    let pooler = config.start();
    let mut client = pooler.connect();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "the new primary is used", || {
        let reply = client.query("select current_setting('port')");
        reply.errors.is_empty() && reply.value() == scene.ports[1].to_string()
    });
    let file = state.join("cluster-main.state");
    eventually(LONG, "the new timeline is written down", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("timeline 2"))
    });
    drop((client, pooler));
    // The new primary is down, the old one is up, and the pooler is new.
    scene.cluster().stop(1, Stop::Fast).unwrap();
    scene.cluster().restart(0).unwrap();
    let pooler = config.start();
    let fault = match pooler.login().try_connect() {
        Ok(_) => panic!("a stale primary is served"),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(fault.code, "57P03", "{fault:?}");
    scene.cluster().restart(1).unwrap();
    assert_eq!(port(&mut pooler.connect()), scene.ports[1].to_string());
}

#[test]
fn a_state_file_that_cannot_be_written_is_tried_again_and_service_goes_on() {
    let scene = Scene::start();
    let state = crate::support::folder("state");
    let config = scene.config().pooler("state_dir", state.as_path());
    let holds = |timeline: &str| {
        let text = std::fs::read_to_string(state.join("cluster-main.state"));
        text.is_ok_and(|text| text.contains(timeline))
    };
    let pooler = config.start();
    let mut client = pooler.connect();
    eventually(LONG, "it is written", || holds("timeline 1\n"));
    let in_the_way = state.join("cluster-main.new");
    std::fs::create_dir(&in_the_way).unwrap();
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (1)").errors.is_empty()
    });
    assert_eq!(port(&mut client), scene.ports[1].to_string());
    let warned = || pooler.log().matches("cannot write down").count();
    eventually(LONG, "it is told", || warned() > 0);
    assert!(holds("timeline 1\n"));
    let times = warned();
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually(LONG, "it is written again", || holds("timeline 2\n"));
    eventually(LONG, "and that is told", || {
        pooler
            .log()
            .contains("the highest timeline seen is written down")
    });
    assert_eq!(warned(), times, "another attempt is no news");
}

#[test]
fn a_state_file_that_is_no_use_stops_nobody_and_lets_no_stale_primary_in() {
    let scene = Scene::start();
    let state = crate::support::folder("state");
    let config = scene.config().set("clusters.main", "hold_timeout", "1s");
    let config = config.pooler("state_dir", state.as_path());
    let file = state.join("cluster-main.state");
    let lost = "what was remembered of a cluster is lost";
    // All nodes are there and agree: nobody has to do anything.
    for text in ["nonsense", "pooler-cluster 2\nfrom the future\n", ""] {
        std::fs::write(&file, text).unwrap();
        let pooler = config.start();
        assert_eq!(port(&mut pooler.connect()), scene.ports[0].to_string());
        assert!(pooler.log().contains(lost), "{}", pooler.log());
        let aside = std::fs::read_to_string(state.join("cluster-main.state.corrupt"));
        assert_eq!(aside.unwrap(), text);
    }
    // The new primary is down, the old one is up, and the pooler knows of nothing.
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    scene.cluster().stop(1, Stop::Fast).unwrap();
    scene.cluster().restart(0).unwrap();
    std::fs::write(&file, "nonsense").unwrap();
    let refused = |pooler: &Pooler| match pooler.login().try_connect() {
        Ok(_) => panic!("a stale primary is served"),
        Err(refusal) => refusal.told(),
    };
    let pooler = config.start();
    assert_eq!(refused(&pooler).code, "57P03");
    drop(pooler);
    // It does not forget that it has forgotten.
    let pooler = config.start();
    assert!(!pooler.log().contains(lost));
    let fault = refused(&pooler);
    assert_eq!(fault.code, "57P03");
    let why = pooler.show("SHOW CLUSTERS").column("why").remove(0);
    assert!(why.contains("UNFENCE main"), "{why} {fault:?}");
    // An operator may know better.
    pooler.show("UNFENCE main");
    assert_eq!(port(&mut pooler.connect()), scene.ports[0].to_string());
    drop(pooler);
    // With the new primary back, it alone is right.
    std::fs::write(&file, "nonsense").unwrap();
    scene.cluster().restart(1).unwrap();
    let pooler = config.start();
    assert_eq!(port(&mut pooler.connect()), scene.ports[1].to_string());
}

#[test]
fn a_read_dsn_goes_to_replicas_that_are_near_and_to_the_primary_when_none_is() {
    let scene = Scene::start();
    let pooler = scene
        .config()
        .database("ro", "cluster", "main")
        .database("ro", "dbname", "postgres")
        .database("ro", "user", "postgres")
        .database("ro", "route", "replica")
        .set("clusters.main", "max_lag", "500ms")
        .set("clusters.main", "readmit_after", "100ms")
        .start();
    let read_port = || port(&mut pooler.login().database("ro").connect());
    let replicas = [scene.ports[1].to_string(), scene.ports[2].to_string()];
    eventually(LONG, "both replicas serve reads", || {
        let ports = [read_port(), read_port()];
        ports[0] != ports[1] && ports.iter().all(|port| replicas.contains(port))
    });
    let mut reader = pooler.login().database("ro").connect();
    let reply = reader.query("insert into t values (1)");
    assert_eq!(
        reply.error().code,
        "25006",
        "a hint never sends a write elsewhere"
    );
    // Replay stops on both, and the primary goes on: they fall behind, and the primary serves.
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_pause()");
    }
    let mut writer = pooler.connect();
    let mut last = 1;
    eventually(LONG, "nobody reads what is too old", || {
        last += 1;
        writer
            .query(&format!("insert into t values ({last})"))
            .good();
        port(&mut reader) == scene.ports[0].to_string()
    });
    assert_eq!(reader.value("select max(id) from t"), last.to_string());
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_resume()");
    }
    eventually(LONG, "they serve again", || {
        replicas.contains(&port(&mut reader))
    });
    assert_eq!(reader.value("select max(id) from t"), last.to_string());
    // Without a primary reads go on, and a replica that is killed is left at once.
    scene.cluster().stop(0, Stop::Fast).unwrap();
    assert!(replicas.contains(&port(&mut reader)));
    assert!(replicas.contains(&read_port()));
    // The other replica follows the new primary, and serves reads again once it is known to: pg_monitor sees that at once.
    scene.cluster().promote(1).unwrap();
    scene.sql(1, "grant pg_monitor to probe");
    scene.cluster().follow(2, 1).unwrap();
    scene.sql(2, "select pg_reload_conf()");
    let began = Instant::now();
    eventually(LONG, "the replica of the new primary serves reads", || {
        last += 1;
        writer
            .query(&format!("insert into t values ({last})"))
            .good();
        read_port() == replicas[1]
    });
    println!("reads came back {:?} after the promotion", began.elapsed());
    reader.value("select max(id) from t");
}

#[test]
fn a_client_that_listens_is_told_of_the_change_and_hears_the_new_primary() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let mut client = pooler.connect();
    client.query("listen news").good();
    scene.sql(0, "notify news, 'before'");
    assert_eq!(client.until(b'A').notifications[0].1, "before");
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    // It is told by a NOTICE that it may have missed something; from then on nothing is missed.
    eventually(Duration::from_secs(60), "the client is told", || {
        let notices = client.query("select 1").notices;
        notices
            .iter()
            .any(|notice| notice.message.contains("missed"))
    });
    scene.sql(1, "notify news, 'after'");
    assert_eq!(client.until(b'A').notifications[0].1, "after");
}
