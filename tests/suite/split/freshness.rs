//! Nobody reads what is older than its own writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{LONG, beside, port, scene, split, start};
use crate::support::pooler::Pooler;
use crate::support::scene::Scene;
use crate::support::wire::batch;
use crate::support::{Raise, eventually, long};

/// What clients saw that write and read back what they wrote.
#[derive(Default)]
struct Seen {
    writes: usize,
    reads: usize,
    stale: usize,
    backwards: usize,
    on_replicas: usize,
    errors: Vec<String>,
}

/// One client writes a number and reads it back a few times, again and again.
fn write_and_read(scene: &Scene, pooler: &Pooler, who: usize, over: &AtomicBool) -> Seen {
    let mut client = pooler.connect();
    let mut seen = Seen::default();
    let read = format!("select value, current_setting('port') from t where id = {who}");
    let mut last = 0;
    while !over.load(Ordering::SeqCst) {
        seen.writes += 1;
        let value = seen.writes;
        let write = format!("update t set value = {value} where id = {who}");
        let reply = match value % 3 {
            0 => client.query(&write),
            1 => client.ask(batch().parse("", &write).run("", &[]).sync()),
            _ => client.query(&format!("begin; {write}; commit")),
        };
        seen.errors
            .extend(reply.errors.iter().map(|fault| fault.code.clone()));
        for _ in 0..10 {
            let reply = client.query(&read);
            seen.errors
                .extend(reply.errors.iter().map(|fault| fault.code.clone()));
            let Some(row) = reply.rows.first() else {
                continue;
            };
            let got: usize = row[0].as_ref().unwrap().parse().unwrap();
            seen.reads += 1;
            seen.stale += usize::from(got < value);
            seen.backwards += usize::from(got < last);
            seen.on_replicas += usize::from(scene.is_replica(row[1].as_ref().unwrap()));
            last = got;
        }
    }
    seen
}

/// 32 clients at once, for `lasts`, while one replica replays late.
fn storm(scene: &Scene, pooler: &Pooler, lasts: Duration) -> Seen {
    let over = AtomicBool::new(false);
    let all = thread::scope(|scope| {
        let _raise = Raise(&over);
        let clients: Vec<_> = (1..=32)
            .map(|who| {
                let over = &over;
                scope.spawn(move || write_and_read(scene, pooler, who, over))
            })
            .collect();
        thread::sleep(lasts);
        over.store(true, Ordering::SeqCst);
        let seen: Vec<Seen> = clients.into_iter().map(|one| one.join().unwrap()).collect();
        seen
    });
    all.into_iter().fold(Seen::default(), |mut sum, one| {
        sum.writes += one.writes;
        sum.reads += one.reads;
        sum.stale += one.stale;
        sum.backwards += one.backwards;
        sum.on_replicas += one.on_replicas;
        sum.errors.extend(one.errors);
        sum
    })
}

#[test]
fn nobody_reads_what_is_older_than_its_own_writes_however_late_a_replica_replays() {
    let scene = scene();
    scene.sql(
        0,
        "insert into t select id, 0 from generate_series(1, 32) id",
    );
    scene.alter(1, "recovery_min_apply_delay", "150ms");
    scene.catch_up();
    let lasts = Duration::from_secs(if long() { 60 } else { 3 });
    let config = beside(split(&scene), "none").database("none", "consistency", "none");
    let pooler = start(&config);
    let seen = storm(&scene, &pooler, lasts);
    println!(
        "session: {} writes, {} reads, {} on replicas, {} stale, {} backwards",
        seen.writes, seen.reads, seen.on_replicas, seen.stale, seen.backwards
    );
    assert_eq!(seen.errors, [""; 0]);
    assert_eq!((seen.stale, seen.backwards), (0, 0));
    assert!(seen.on_replicas > 0, "replicas serve reads, too");
    // The same without the promise: what it is worth.
    let mut client = pooler.login().database("none").connect();
    let mut stale = 0;
    eventually(LONG, "a stale read where nothing is promised", || {
        stale += 1;
        client
            .query(&format!("update t set value = {stale} where id = 1"))
            .good();
        client.value("select value from t where id = 1") != stale.to_string()
    });
}

#[test]
fn with_global_consistency_nobody_reads_what_is_older_than_anybodys_write() {
    let scene = scene();
    scene.sql(0, "insert into t values (1, 0)");
    scene.alter(1, "recovery_min_apply_delay", "100ms");
    scene.catch_up();
    let config = split(&scene).database("app", "consistency", "global");
    let pooler = start(&config);
    let (mut writer, mut reader) = (pooler.connect(), pooler.connect());
    for turn in 1..=100 {
        let write = format!("update t set value = {turn} where id = 1");
        writer.query(&write).good();
        assert_eq!(reader.value("select value from t"), turn.to_string());
    }
    eventually(LONG, "replicas serve again", || {
        scene.is_replica(&port(&mut reader))
    });
    assert_eq!(reader.value("select value from t"), "100");
}
