//! What goes wrong on a replica is not the client's to hear.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pooler::cli::cluster::Stop;

use super::{LONG, PORT, knows, port, readable, scene, split, start};
use crate::support::pooler::Pooler;
use crate::support::scene::Scene;
use crate::support::wire::{Client, batch};
use crate::support::{Raise, eventually, long};

#[test]
fn no_read_fails_when_a_replica_is_killed_and_it_serves_again_when_it_is_back() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = |count: usize| {
        let goal = answered.load(Ordering::SeqCst) + count;
        eventually(LONG, "reads go on", || {
            answered.load(Ordering::SeqCst) >= goal
        });
    };
    let errors: Vec<String> = thread::scope(|scope| {
        let _raise = Raise(&over);
        let readers: Vec<_> = (0..8)
            .map(|who| {
                let (pooler, over, answered) = (&pooler, &over, &answered);
                scope.spawn(move || {
                    let mut client = pooler.connect();
                    client.ask(batch().parse("s", PORT).sync()).good();
                    let mut errors = Vec::new();
                    while !over.load(Ordering::SeqCst) {
                        let reply = match who % 3 {
                            0 => client.query(PORT),
                            1 => client.ask(batch().run("s", &[]).sync()),
                            _ => client.ask(batch().parse("", PORT).run("", &[]).sync()),
                        };
                        errors.extend(reply.errors.iter().map(|fault| format!("{fault:?}")));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    errors
                })
            })
            .collect();
        more(200);
        for how in ["kill", "restart", "stop"] {
            match how {
                "kill" => scene.cluster().kill9(1).unwrap(),
                "restart" => scene.cluster().restart(1).unwrap(),
                _ => scene.cluster().stop(1, Stop::Fast).unwrap(),
            }
            more(400);
        }
        over.store(true, Ordering::SeqCst);
        readers
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    assert_eq!(errors, [""; 0]);
    scene.cluster().restart(1).unwrap();
    let began = Instant::now();
    eventually(LONG, "it has its share again", || {
        port(&mut pooler.connect()) == scene.ports[1].to_string()
    });
    println!("it serves again after {:?}", began.elapsed());
}

/// Waits until `node` has been probed, and that was heard.
fn is_probed(scene: &Scene, node: usize) {
    let last = "select max(query_start) from pg_stat_activity where usename = 'probe'";
    for _ in 0..2 {
        let before = scene.sql(node, last);
        eventually(LONG, "it is probed", || {
            let now = scene.sql(node, last);
            !now.is_empty() && now != before
        });
    }
}

#[test]
fn reads_go_on_where_replicas_follow_the_primary_that_has_become_one_of_them() {
    let scene = scene();
    scene.sql(0, "grant pg_monitor to probe");
    for node in [1, 2] {
        scene.alter(node, "wal_retrieve_retry_interval", "100ms");
    }
    scene.catch_up();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    scene.cluster().stop(0, Stop::Fast).unwrap();
    // Nobody leads, as where Patroni has lost its etcd.
    let first = port(&mut client);
    assert!(scene.is_replica(&first));
    fs::write(scene.cluster().data_dir(0).join("standby.signal"), "").unwrap();
    scene.cluster().restart(0).unwrap();
    for node in [1, 2] {
        let streams = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
        eventually(LONG, "it receives again", || {
            scene.sql(node, streams) == "1"
        });
        is_probed(&scene, node);
    }
    assert_eq!(readable(&pooler), 2);
    assert_eq!(port(&mut client), first);
}

#[test]
fn a_read_that_is_in_the_way_of_replay_is_answered_by_the_primary() {
    let scene = scene();
    for node in [1, 2] {
        scene.alter(node, "max_standby_streaming_delay", "0");
    }
    scene.sql(0, "insert into t select 1, 1 from generate_series(1, 1000)");
    scene.catch_up();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    // Only a replica takes its time.
    let slow = format!(
        "select current_setting('port'), (select count(*) from t), pg_sleep(case current_setting('port') when '{}' then 0 else 60 end)",
        scene.ports[0]
    );
    client.send(batch().query(&slow));
    let is_running = "select count(*) from pg_stat_activity where query like 'select current_setting%pg_sleep(case%' and state = 'active'";
    eventually(LONG, "a replica works on it", || {
        let running = [1, 2].map(|node| scene.sql(node, is_running));
        running.contains(&"1".to_owned())
    });
    scene.sql(0, "delete from t");
    scene.sql(0, "vacuum t");
    let reply = client.until_ready().good();
    assert!(scene.is_primary(&reply.value()), "{reply:?}");
}

#[test]
fn what_fails_on_a_replica_is_asked_of_the_primary_also_where_it_might_have_drawn_a_number() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    // From now on whoever draws a number keeps its server.
    client.query("create sequence s").good();
    client.query("select nextval('s'), currval('s')").good();
    for turn in 0..5 {
        let missing = format!("explain select nextval('missing_{turn}')");
        let reply = pooler.connect().query(&missing);
        assert_eq!((reply.error().code.as_str(), reply.status), ("42P01", 'I'));
    }
}

fn lag_is_none(pooler: &Pooler) -> bool {
    pooler.show("SHOW LAG").column("lag_ms") == ["0", "0"]
}

#[test]
fn a_replica_that_replays_nothing_is_left_and_an_idle_primary_makes_nobody_late() {
    let scene = scene();
    let (interval, max_lag) = (Duration::from_millis(250), Duration::from_millis(300));
    let config = split(&scene)
        .set("clusters.main", "probe_interval", "250ms")
        .set("clusters.main", "max_lag", "300ms");
    let pooler = start(&config);
    scene.catch_up();
    let lags = || pooler.show("SHOW LAG").column("lag_ms");
    eventually(LONG, "nobody is behind", || lag_is_none(&pooler));
    let idle = Instant::now();
    let lasts = if long() { 120_000 } else { 500 };
    let position = || scene.sql(0, "select pg_current_wal_insert_lsn()");
    let (mut written, mut moved) = (position(), 0);
    while idle.elapsed() < Duration::from_millis(lasts) {
        let (lags, since) = (lags(), idle.elapsed());
        if lags != ["0", "0"] {
            // PostgreSQL writes by itself now and then. That is behind for no longer than until the next samples.
            let now = position();
            assert_ne!(now, written, "after {since:?}: {lags:?} of an idle primary");
            let most = interval * 2;
            assert!(
                lags.iter()
                    .all(|lag| lag.parse::<u128>().unwrap() <= most.as_millis()),
                "{lags:?}"
            );
            eventually(LONG, "nobody is behind", || lag_is_none(&pooler));
            (written, moved) = (position(), moved + 1);
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!(
        "idle for {:?}: lag only for what PostgreSQL wrote by itself, {moved} times",
        idle.elapsed()
    );
    let paused = scene.ports[1].to_string();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _raise = Raise(&over);
        scope.spawn(|| {
            let mut writer = pooler.connect();
            while !over.load(Ordering::SeqCst) {
                writer.query("insert into t values (1, 1)").good();
                thread::sleep(Duration::from_millis(2));
            }
        });
        scene.sql(1, "select pg_wal_replay_pause()");
        let stopped = Instant::now();
        let (mut last, mut elsewhere) = (stopped, 0);
        while elsewhere < 40 {
            elsewhere += 1;
            if port(&mut pooler.connect()) == paused {
                (last, elsewhere) = (Instant::now(), 0);
            }
            let nodes = pooler.show("SHOW NODES");
            let row = nodes.row_where("node", &scene.address(1)).unwrap();
            if row["readable"] == "yes" {
                elsewhere = 0;
            }
            assert!(stopped.elapsed() < LONG, "its reads leave");
        }
        let took = last - stopped;
        println!(
            "the last read there began {took:?} after replay stopped, with max_lag {max_lag:?} and a probe each {interval:?}"
        );
        // And what a busy machine adds.
        let slack = Duration::from_millis(500);
        assert!(took <= interval + max_lag + slack, "{took:?}");
    });
    scene.sql(1, "select pg_wal_replay_resume()");
    eventually(LONG, "they come back", || {
        port(&mut pooler.connect()) == paused
    });
}

#[test]
fn what_is_too_new_for_a_replica_is_read_from_the_primary_and_costs_no_connection() {
    let scene = scene();
    let pooler = start(&split(&scene).set("clusters.main", "max_lag", "60s"));
    let mut client = pooler
        .login()
        .parameter("application_name", "mine")
        .connect();
    for _ in 0..20 {
        port(&mut client);
    }
    for node in [1, 2] {
        scene.sql(node, "select pg_wal_replay_pause()");
    }
    let servers = || {
        let all = "select string_agg(pid::text, ',' order by pid) from pg_stat_activity where application_name = 'mine'";
        [1, 2].map(|node| scene.sql(node, all))
    };
    let before = servers();
    for sql in [
        "create table fresh (id int)",
        "insert into fresh values (7)",
        "alter table t add column added int default 8",
        "insert into t values (1, 1)",
        "create schema new",
        "create table new.t as select 9 as id",
    ] {
        scene.sql(0, sql);
    }
    for (sql, value) in [
        ("select id from fresh", "7"),
        ("select added from t", "8"),
        ("select id from new.t", "9"),
    ] {
        assert_eq!(client.value(sql), value);
        let reply = client.ask(batch().parse("", sql).run("", &[]).sync());
        assert_eq!(reply.good().value(), value);
    }
    // A mistake is one on the primary, too.
    let reply = client.query("select nothing from t");
    assert_eq!((reply.error().code.as_str(), reply.status), ("42703", 'I'));
    let many = "select 1; select id from fresh; select 3";
    assert_eq!(client.query(many).good().rows.len(), 3);
    assert_eq!(client.value("select 5"), "5");
    let (before, after) = (before.join(","), servers().join(","));
    let mut lost = before.split(',').filter(|pid| !after.contains(pid));
    assert_eq!(lost.next(), None, "the servers of the replicas: {after}");
}

#[test]
fn a_read_whose_primary_is_killed_is_asked_again_and_goes_on_without_one() {
    let scene = Scene::start();
    let config = split(&scene).set("clusters.main", "max_lag", "60s");
    let pooler = start(&config);
    let mut client = pooler.connect();
    // A word that no replica may answer, and that is known to read.
    client.query("set pooler.route = 'primary'").good();
    client.send(batch().query("select current_setting('port'), pg_sleep(1)"));
    let is_running = "select count(*) from pg_stat_activity where query like '%pg_sleep(1)' and state = 'active'";
    eventually(LONG, "the primary works on it", || {
        scene.sql(0, is_running) == "1"
    });
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    let reply = client.until_ready().good();
    assert_eq!(reply.value(), scene.ports[1].to_string());
}

/// Sends `signal` to a server and all its processes.
fn signal_all(postmaster: u32, signal: &str) {
    let children = std::process::Command::new("ps")
        .args(["-o", "pid=", "--ppid", &postmaster.to_string()])
        .output()
        .unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let mut all = vec![postmaster.to_string()];
    all.extend(children.split_whitespace().map(str::to_owned));
    // Some may have ended meanwhile.
    let _ = std::process::Command::new("kill")
        .arg(format!("-{signal}"))
        .args(&all)
        .status();
}

#[test]
fn a_replica_that_freezes_keeps_no_read_for_longer_than_its_probes_take_to_be_missed() {
    let scene = scene();
    let pooler = start(&split(&scene).database("app", "transactions", "late"));
    let over = AtomicBool::new(false);
    let frozen = scene.cluster().pid(1).unwrap();
    // One is in the middle of a read there, one in a transaction.
    let is_there = |port: &str| port == scene.ports[1].to_string();
    let mut within = pooler.connect();
    eventually(LONG, "its transaction is on that replica", || {
        within.query("begin").good();
        let is_there = is_there(&port(&mut within));
        if !is_there {
            within.query("rollback").good();
        }
        is_there
    });
    thread::scope(|scope| {
        let _stop = Raise(&over);
        let readers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = pooler.connect();
                    let (mut longest, mut count) = (Duration::ZERO, 0);
                    while !over.load(Ordering::SeqCst) {
                        let began = Instant::now();
                        client.query(PORT).good();
                        longest = longest.max(began.elapsed());
                        count += 1;
                    }
                    (longest, count)
                })
            })
            .collect();
        let mut probe = pooler.connect();
        for _ in 0..50 {
            port(&mut probe);
        }
        signal_all(frozen, "STOP");
        eventually(LONG, "nobody uses it", || {
            pooler.show("SHOW NODES").column("readable")[1] == "no"
        });
        for _ in 0..50 {
            port(&mut probe);
        }
        // What it has only read so far it reads elsewhere.
        assert!(!is_there(&port(&mut within)));
        let insert = within.query("insert into t values (1, 1)").good();
        assert_eq!(insert.status, 'T', "it is the same transaction");
        within.query("commit").good();
        over.store(true, Ordering::SeqCst);
        let all = readers.into_iter().map(|reader| reader.join().unwrap());
        let (longest, count) = all.fold((Duration::ZERO, 0), |sum, one| {
            (sum.0.max(one.0), sum.1 + one.1)
        });
        println!("{count} reads, none lost, the longest took {longest:?}");
        // An interval of 250 ms may pass before the probe that is not answered within 500 ms.
        assert!(longest < Duration::from_secs(3), "{longest:?}");
    });
    signal_all(frozen, "CONT");
    eventually(LONG, "it has its share again", || {
        port(&mut pooler.connect()) == scene.ports[1].to_string()
    });
}

/// How often a replica could not serve what was asked of it.
fn asked_again(pooler: &Pooler) -> String {
    let counted = pooler.show("SHOW ROUTING");
    let row = counted.row_where("why", "a replica could not serve it");
    row.map_or_else(String::new, |row| row["requests"].clone())
}

#[test]
fn what_a_replica_has_refused_is_remembered_though_the_catalog_is_read_again() {
    let scene = scene();
    let define = "create or replace function listed() returns int volatile language sql as 'insert into t values (1, 1) returning 1'";
    scene.sql(0, define);
    scene.catch_up();
    // The operator says so, and is wrong.
    let pooler = start(&split(&scene).set("routing", "read_functions", ["list*"]));
    let mut client = pooler.connect();
    client
        .ask(batch().parse("named", "select listed()").sync())
        .good();
    let called = |client: &mut Client| {
        client.query("select listed()").good();
        client.ask(batch().run("named", &[]).sync()).good();
    };
    eventually(LONG, "a replica was asked", || {
        called(&mut client);
        !asked_again(&pooler).is_empty()
    });
    called(&mut client);
    let before = asked_again(&pooler);
    for _ in 0..3 {
        // Nothing new, but it must be read again to be known.
        client.query(define).good();
        knows(&pooler, "app");
        let mut fresh = pooler.connect();
        fresh
            .ask(batch().parse("named", "select listed()").sync())
            .good();
        called(&mut fresh);
    }
    assert_eq!(asked_again(&pooler), before);
}
