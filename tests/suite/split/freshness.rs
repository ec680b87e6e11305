//! Nobody reads what is older than its own writes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{LONG, beside, port, scene, split, start};
use crate::support::pooler::Pooler;
use crate::support::scene::Scene;
use crate::support::wire::batch;
use crate::support::{Raise, eventually, long};

const CLIENTS: usize = 32;
/// How far a commit has got when the client hears of it; each client has one of these.
const MODES: [&str; 4] = ["on", "off", "local", "remote_apply"];

/// What clients saw that write and read back what was written.
#[derive(Debug, Default)]
struct Seen {
    writes: usize,
    reads: usize,
    /// Older than what had been acknowledged when the read was sent.
    stale: usize,
    /// Older than what the same client had read before.
    backwards: usize,
    /// The same on the primary, after a replica. While a commit waits for a standby it is seen there first: so PostgreSQL itself is.
    before_primary: usize,
    on_replicas: usize,
    errors: Vec<String>,
}

impl Seen {
    fn add(&mut self, one: Self) {
        self.writes += one.writes;
        self.reads += one.reads;
        self.stale += one.stale;
        self.backwards += one.backwards;
        self.before_primary += one.before_primary;
        self.on_replicas += one.on_replicas;
        self.errors.extend(one.errors);
    }

    fn tell(&self, what: &str) {
        let percent = self.on_replicas * 100 / self.reads.max(1);
        println!(
            "{what}: {} writes, {} reads, {percent} % of them on replicas, {} stale, {} backwards, {} on a replica before on the primary",
            self.writes, self.reads, self.stale, self.backwards, self.before_primary
        );
    }
}

/// Clients that write their own number and read: their own, or everybody's.
struct Storm<'a> {
    scene: &'a Scene,
    pooler: &'a Pooler,
    database: &'a str,
    reads_others: bool,
    /// What each was told is written.
    acknowledged: [AtomicUsize; CLIENTS],
    over: AtomicBool,
}

impl Storm<'_> {
    fn client(&self, who: usize) -> Seen {
        let mut client = self.pooler.login().database(self.database).connect();
        let mode = MODES[who % MODES.len()];
        client
            .query(&format!("set synchronous_commit = {mode}"))
            .good();
        let mut seen = Seen::default();
        let mut last = [0; CLIENTS];
        let mut value = 0;
        while !self.over.load(Ordering::SeqCst) {
            seen.writes += 1;
            value += 1;
            let write = format!("update t set value = {value} where id = {who}");
            let reply = match value % 3 {
                0 => client.query(&write),
                1 => client.ask(batch().parse("", &write).run("", &[]).sync()),
                _ => client.query(&format!("begin; {write}; commit")),
            };
            seen.errors
                .extend(reply.errors.iter().map(|fault| fault.code.clone()));
            self.acknowledged[who].fetch_max(value, Ordering::SeqCst);
            for turn in 0..10 {
                let whose = if self.reads_others {
                    (who + turn) % CLIENTS
                } else {
                    who
                };
                let bound = self.acknowledged[whose].load(Ordering::SeqCst);
                let read =
                    format!("select value, current_setting('port') from t where id = {whose}");
                let reply = client.query(&read);
                seen.errors
                    .extend(reply.errors.iter().map(|fault| fault.code.clone()));
                let Some(row) = reply.rows.first() else {
                    continue;
                };
                let got: usize = row[0].as_ref().unwrap().parse().unwrap();
                seen.reads += 1;
                seen.stale += usize::from(got < bound);
                let is_on_replica = self.scene.is_replica(row[1].as_ref().unwrap());
                let is_back = got < last[whose];
                seen.backwards += usize::from(is_back && is_on_replica);
                seen.before_primary += usize::from(is_back && !is_on_replica);
                seen.on_replicas += usize::from(is_on_replica);
                last[whose] = got;
            }
        }
        seen
    }

    /// Delays replay on node 1 by something else each moment, from nothing to 300 ms.
    fn delay(&self) {
        for millis in [300, 40, 0, 180, 90, 250, 10].iter().cycle() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let delay = format!("{millis}ms");
            self.scene.alter(1, "recovery_min_apply_delay", &delay);
            thread::sleep(Duration::from_millis(400));
        }
    }
}

/// 32 clients at once, for `lasts`, while one replica replays late; what they saw, and each kind of commit.
fn storm(scene: &Scene, pooler: &Pooler, database: &str, lasts: Duration) -> Seen {
    scene.sql(0, "update t set value = 0");
    scene.catch_up();
    let storm = Storm {
        scene,
        pooler,
        database,
        reads_others: database == "global",
        acknowledged: [const { AtomicUsize::new(0) }; CLIENTS],
        over: AtomicBool::new(false),
    };
    let mut by_mode: [Seen; MODES.len()] = Default::default();
    thread::scope(|scope| {
        let _raise = Raise(&storm.over);
        let storm = &storm;
        scope.spawn(|| storm.delay());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|who| scope.spawn(move || storm.client(who)))
            .collect();
        thread::sleep(lasts);
        storm.over.store(true, Ordering::SeqCst);
        for (who, one) in clients.into_iter().enumerate() {
            by_mode[who % MODES.len()].add(one.join().unwrap());
        }
    });
    let mut all = Seen::default();
    for (mode, seen) in MODES.into_iter().zip(by_mode) {
        seen.tell(&format!("{database}, synchronous_commit = {mode}"));
        all.add(seen);
    }
    all.tell(&format!("{database} for {lasts:?}"));
    all
}

#[test]
fn nobody_reads_what_is_older_than_its_own_writes_however_late_a_replica_replays() {
    let scene = scene();
    scene.sql(
        0,
        "insert into t select id, 0 from generate_series(0, 31) id",
    );
    scene.alter(0, "synchronous_standby_names", "ANY 1 (node1, node2)");
    let config = beside(split(&scene), "none").database("none", "consistency", "none");
    let config = beside(config, "global").database("global", "consistency", "global");
    let pooler = start(&config);
    let seconds = |short, whole| Duration::from_secs(if long() { whole } else { short });
    let own = storm(&scene, &pooler, "app", seconds(4, 60));
    assert_eq!(own.errors, [""; 0]);
    assert_eq!((own.stale, own.backwards, own.before_primary), (0, 0, 0));
    assert!(own.on_replicas > 0, "replicas serve reads, too");
    // Here everybody reads what the others have just been told is written.
    let all = storm(&scene, &pooler, "global", seconds(3, 60));
    assert_eq!(all.errors, [""; 0]);
    assert_eq!((all.stale, all.backwards), (0, 0));
    // The same without the promise: what it is worth.
    eventually(LONG, "stale reads where nothing is promised", || {
        let none = storm(&scene, &pooler, "none", seconds(2, 20));
        assert_eq!(none.errors, [""; 0]);
        none.stale > 0
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
