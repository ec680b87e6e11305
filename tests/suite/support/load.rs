//! Clients that write without pause, what each was told of every write, and the verdict over all of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::pooler::Pooler;
use super::wire::batch;
use super::{Raise, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
const WRITERS: u64 = 6;
/// Direct writes further apart than this are an outage of the cluster's own.
const OUTAGE: Duration = Duration::from_millis(100);

/// What became of the writes of one client.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<u64>,
    /// Said to have failed, and so must not be there.
    failed: Vec<u64>,
    /// 08007.
    unknown: Vec<u64>,
    /// When each acknowledgement came.
    moments: Vec<Instant>,
    /// Acknowledged by a node of an older timeline than one that was known when they were sent.
    split: usize,
    errors: BTreeMap<String, usize>,
}

/// What the writers share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    written: AtomicUsize,
    timeline: AtomicU32,
}

/// Writes one row after the other until it is over; the connection must never end.
fn write(pooler: &Pooler, who: u64, shared: &Shared) -> Ledger {
    let mut client = pooler.connect();
    // Without a primary it waits, and with one that is frozen until another is known.
    client.wire.is_patient(PATIENCE);
    let mut ledger = Ledger::default();
    ledger.moments.push(Instant::now());
    let mut turn = 0;
    while !shared.over.load(Ordering::SeqCst) {
        turn += 1;
        let id = who * 1_000_000 + turn;
        let insert = format!(
            "insert into t values ({id}) returning substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        );
        let request = match turn % 3 {
            0 => batch().query(&insert),
            1 => batch().parse("", &insert).run("", &[]).sync(),
            _ => batch().query(&format!("begin; {insert}; commit")),
        };
        let known = shared.timeline.load(Ordering::SeqCst);
        let reply = client.ask(request);
        match reply.errors.first() {
            None => {
                let timeline = u32::from_str_radix(&reply.value(), 16).unwrap();
                shared.timeline.fetch_max(timeline, Ordering::SeqCst);
                ledger.split += usize::from(timeline < known);
                ledger.acknowledged.push(id);
                ledger.moments.push(Instant::now());
                shared.written.fetch_add(1, Ordering::SeqCst);
            }
            Some(fault) => {
                *ledger.errors.entry(fault.code.clone()).or_default() += 1;
                if fault.code == "08007" {
                    ledger.unknown.push(id);
                } else {
                    ledger.failed.push(id);
                }
                if reply.status != 'I' {
                    client.query("rollback").good();
                }
            }
        }
    }
    ledger
}

/// What all writers were told, and when the cluster itself took writes.
pub struct Load {
    ledgers: Vec<Ledger>,
    direct: Vec<Instant>,
}

/// Waits for so many more writes.
pub fn more(written: &AtomicUsize, count: usize) {
    let goal = written.load(Ordering::SeqCst) + count;
    eventually(PATIENCE, "writes go on", || {
        written.load(Ordering::SeqCst) >= goal
    });
}

/// Runs writers while `story` happens. Each of `direct` tries a write on one node, past the pooler, and says whether it was done.
pub fn under_load(
    pooler: &Pooler,
    direct: Vec<Box<dyn FnMut() -> bool + Send>>,
    story: impl FnOnce(&AtomicUsize),
) -> Load {
    let shared = Shared::default();
    thread::scope(|scope| {
        let _raise = Raise(&shared.over);
        let shared = &shared;
        let watchers: Vec<_> = direct
            .into_iter()
            .map(|mut is_done| {
                scope.spawn(move || {
                    let mut moments = Vec::new();
                    while !shared.over.load(Ordering::SeqCst) {
                        if is_done() {
                            moments.push(Instant::now());
                        }
                        thread::sleep(Duration::from_millis(15));
                    }
                    moments
                })
            })
            .collect();
        let writers: Vec<_> = (1..=WRITERS)
            .map(|who| scope.spawn(move || write(pooler, who, shared)))
            .collect();
        more(&shared.written, 50);
        story(&shared.written);
        shared.over.store(true, Ordering::SeqCst);
        let mut load = Load {
            ledgers: writers.into_iter().map(|one| one.join().unwrap()).collect(),
            direct: watchers
                .into_iter()
                .flat_map(|one| one.join().unwrap())
                .collect(),
        };
        load.direct.sort();
        load
    })
}

impl Load {
    /// The longest time between two acknowledged writes of a client, and the part of it in which the cluster took writes.
    fn longest(&self) -> (Duration, Duration) {
        let gaps = self
            .ledgers
            .iter()
            .flat_map(|ledger| ledger.moments.windows(2));
        let longest = gaps.max_by_key(|gap| gap[1] - gap[0]);
        let Some(&[from, to]) = longest else {
            return Default::default();
        };
        let outages = self
            .direct
            .windows(2)
            .filter(|gap| gap[1] - gap[0] > OUTAGE);
        let own: Duration = outages
            .map(|gap| gap[1].min(to).saturating_duration_since(gap[0].max(from)))
            .sum();
        (to - from, (to - from).saturating_sub(own))
    }

    /// Compares with what the winner has, prints a row of the table, and asserts what must hold always: nothing lost, doubled or split,
    /// nothing there that was called failed, and of each client no more than `unknown` writes of which nobody knows.
    /// Returns the errors by SQLSTATE, and the added outage.
    #[track_caller]
    pub fn judge(
        &self,
        what: &str,
        unknown: usize,
        winner: impl Fn(&str) -> String,
    ) -> (BTreeMap<String, usize>, Duration) {
        let there = |ids: &[u64]| -> usize {
            let list: Vec<String> = ids.iter().map(u64::to_string).collect();
            let sql = format!(
                "select count(distinct id) from t where id in ({})",
                list.join(",")
            );
            if ids.is_empty() {
                return 0;
            }
            winner(&sql).parse().unwrap()
        };
        let mut errors = BTreeMap::new();
        let (mut all, mut lost, mut undone, mut split, mut most) = (0, 0, 0, 0, 0);
        for ledger in &self.ledgers {
            all += ledger.acknowledged.len();
            lost += ledger.acknowledged.len() - there(&ledger.acknowledged);
            undone += there(&ledger.failed);
            split += ledger.split;
            most = most.max(ledger.unknown.len());
            for (code, count) in &ledger.errors {
                *errors.entry(code.clone()).or_insert(0) += count;
            }
        }
        let twice = "select count(*) from (select id from t group by id having count(*) > 1) x";
        let doubled = winner(twice);
        let (gap, added) = self.longest();
        println!(
            "| {what} | {all} writes | longest gap {} ms | added {} ms | errors {errors:?} | lost {lost} | doubled {doubled} | split {split} |",
            gap.as_millis(),
            added.as_millis()
        );
        assert_eq!(
            (lost, doubled.as_str(), split),
            (0, "0", 0),
            "{what}: lost, doubled, split"
        );
        assert_eq!(undone, 0, "{what}: called failed, and is there");
        assert!(
            most <= unknown,
            "{what}: only work in flight is unknown: {errors:?}"
        );
        (errors, added)
    }
}
