//! What nodes say of themselves is not always true, and what is not known is no reason to read there.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::eventually;
use crate::support::scene::port;
use crate::support::scripted::{Scripted, cells};

use super::{LONG, readable, scene, split};

/// How a made-up node answers its probes.
#[derive(Clone, PartialEq)]
enum Says {
    /// This row.
    Row(Vec<Option<String>>),
    /// No row at all.
    NoRow,
    /// The row, too late.
    Late(Vec<Option<String>>),
    /// Nothing, ever.
    Nothing,
}

/// The answer of a replica of `system` that has replayed up to `lsn`.
fn replica(system: &str, lsn: &str) -> Vec<Option<String>> {
    let row = [
        "t",
        lsn,
        lsn,
        "00000001",
        system,
        "2026-01-01 00:00:00+00",
        "1",
        "16777216",
        "",
    ];
    row.map(|cell| Some(cell.to_owned())).to_vec()
}

/// A node that answers its probes as `says` tells.
fn liar(says: &Arc<Mutex<Says>>) -> Scripted {
    let saying = Arc::clone(says);
    Scripted::new(move |_, peer| {
        loop {
            let sql = peer.serve("", |sql| sql.contains("pg_is_in_recovery"))?;
            assert!(!sql.is_empty());
            let now = saying.lock().unwrap().clone();
            let row = match now {
                Says::Row(row) => row,
                Says::NoRow => Vec::new(),
                Says::Late(row) => {
                    thread::sleep(Duration::from_millis(400));
                    row
                }
                Says::Nothing => {
                    peer.until_closed();
                    return Ok(());
                }
            };
            let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            let reply = if row.is_empty() {
                crate::support::wire::batch().frame(b'C', b"SELECT 0\0")
            } else {
                cells(&row)
            };
            peer.send(&reply.frame(b'Z', b"I"))?;
        }
    })
}

#[test]
fn a_node_whose_answers_make_no_sense_serves_no_reads_and_writes_go_on() {
    let scene = scene();
    let says = Arc::new(Mutex::new(Says::NoRow));
    let liar = liar(&says);
    let place = format!("127.0.0.1:{}", liar.server.port);
    let (primary, other) = (scene.address(0), scene.address(1));
    let config = split(&scene)
        .set("clusters.main", "probe_interval", "50ms")
        .set("clusters.main", "probe_timeout", "200ms")
        .set("clusters.main", "nodes", [primary.as_str(), &other, &place]);
    let pooler = config.start();
    let mut client = pooler.connect();
    let system = scene.sql(0, "select system_identifier from pg_control_system()");
    let honest = || {
        let lsn = scene.sql(0, "select pg_current_wal_flush_lsn()");
        replica(&system, &lsn)
    };
    let mut is_readable = |word: &str, what: &str, why: &str| {
        eventually(LONG, what, || {
            client.query("insert into t values (1, 1)").good();
            if word == "yes" {
                *says.lock().unwrap() = Says::Row(honest());
            }
            let nodes = pooler.show("SHOW NODES");
            let row = nodes.row_where("node", &place);
            row.is_some_and(|row| row["readable"] == word && row["why"].contains(why))
        });
        let primary = client.value("/* pooler: primary */ select current_setting('port')");
        assert!(scene.is_primary(&primary), "{what}");
    };
    let with = |cell: usize, value: Option<&str>| {
        let mut row = honest();
        row[cell] = value.map(str::to_owned);
        Says::Row(row)
    };
    let lies = [
        ("no role", with(0, None), ""),
        ("it takes writes", with(0, Some("f")), ""),
        ("no position", with(1, None), ""),
        ("a negative position", with(1, Some("-1/0")), ""),
        (
            "a position that was never written",
            with(1, Some("FFFFFFFF/0")),
            "it has replayed what the primary has never written",
        ),
        (
            "a position long ago, as of an old backup",
            with(1, Some("0/1000028")),
            "its lag is not known: it is behind all that was sampled",
        ),
        ("no timeline", with(3, None), ""),
        (
            "another timeline",
            with(3, Some("00000009")),
            "it is not seen to follow the primary's timeline",
        ),
        ("no system", with(4, None), ""),
        (
            "another system",
            with(4, Some("7")),
            "it is of another system",
        ),
        (
            "no receiver",
            with(6, Some("0")),
            "its WAL receiver is not connected",
        ),
        ("less than no receiver", with(6, Some("-1")), ""),
        ("no row", Says::NoRow, ""),
        ("a short row", Says::Row(honest()[..3].to_vec()), ""),
        ("a late answer", Says::Late(honest()), ""),
        ("no answer", Says::Nothing, ""),
    ];
    for (what, lie, why) in lies {
        is_readable("yes", "it is a replica as far as anybody can see", "");
        *says.lock().unwrap() = lie;
        is_readable("no", what, why);
    }
}

#[test]
fn what_hides_behind_a_name_is_not_run_on_a_replica_while_the_catalog_is_not_known() {
    let scene = scene();
    for sql in [
        "create view locks as select pg_advisory_lock_shared(77) is null as held",
        "create domain evil as int check (pg_advisory_lock_shared(77) is null or true)",
        "revoke select on pg_proc from public",
    ] {
        scene.sql(0, sql);
    }
    scene.catch_up();
    let pooler = split(&scene).start();
    eventually(LONG, "both replicas serve reads", || readable(&pooler) == 2);
    let held = |node| {
        let locks = "select count(*) from pg_locks where locktype = 'advisory'";
        scene.cluster().query(node, "postgres", locks).unwrap().rows[0][0].clone()
    };
    for sql in ["select * from locks", "table locks", "select 5::evil"] {
        let mut client = pooler.connect();
        for _ in 0..20 {
            client.query(sql).good();
        }
        for node in [1, 2] {
            assert_eq!(held(node).as_deref(), Some("0"), "{sql}");
        }
    }
}

#[test]
fn without_the_catalog_reads_go_to_the_primary_and_that_is_said_once() {
    let scene = scene();
    for sql in [
        "create function reads() returns text stable language sql as $$ select current_setting('port') $$",
        "revoke select on pg_proc from public",
    ] {
        scene.sql(0, sql);
    }
    scene.catch_up();
    let pooler = split(&scene).start();
    eventually(LONG, "both replicas serve reads", || readable(&pooler) == 2);
    let mut client = pooler.connect();
    let log = scene.cluster().log(0);
    let refused = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.matches("permission denied").count()
    };
    for attempt in 1..=3 {
        client
            .query(&format!(
                "create or replace function f() returns int language sql as 'select {attempt}'"
            ))
            .good();
        eventually(LONG, "the catalog is asked for", || refused() >= attempt);
        assert!(scene.is_primary(&client.value("select reads()")));
    }
    let said = pooler.log().matches("could not be loaded").count();
    assert_eq!(said, 1, "{}", pooler.log());
    for _ in 0..20 {
        assert!(scene.is_primary(&port(&mut client)));
    }
    scene.sql(0, "grant select on pg_proc to public");
    eventually(LONG, "the catalog is known", || {
        let port = client.value("select reads()");
        scene.is_replica(&port)
    });
}
