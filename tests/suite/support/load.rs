//! Clients of every kind that work without pause, and write down what they were told: two that write, two with transactions of several
//! requests, two that write and read what they wrote, two that only read. What it all means is said by [`verdict`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::pooler::{Config, Pooler};
use super::wire::{Address, Batch, Client, Login, Reply, batch, is_patience};
use super::{Raise, eventually};

pub mod verdict;

use verdict::{Deed, End, Found, HEAD, Verdict, What};

const PATIENCE: Duration = Duration::from_secs(90);
/// What has no answer by then has none.
const HANGS: Duration = Duration::from_secs(120);
/// Between two things that a client does which reads.
const THINKS: Duration = Duration::from_millis(1);
/// Between two writes past the pooler.
const BETWEEN: Duration = Duration::from_millis(15);
/// The columns of the table `t` that the clients need.
pub const COLUMNS: &str = "id bigint, half int default 0";
/// The other tables.
pub const TABLES: &str = "create table pulse (k bigint primary key, n bigint); \
    create table direct (at timestamptz default now())";
const TIMELINE: &str = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
/// Ids of one round are below those of the next.
const ROUND: u64 = 1_000_000_000;

/// Adds the database `auto`, whose reads are split off, beside `app`.
pub fn with_splitting(config: Config) -> Config {
    config
        .database("auto", "cluster", "main")
        .database("auto", "dbname", "postgres")
        .database("auto", "user", "postgres")
        .database("auto", "pool_size", 6)
        .database("auto", "route", "auto")
}

/// Tries a write past the pooler; on which timeline it was done.
pub type Direct = Box<dyn FnMut() -> Option<u32> + Send>;

/// Writes to the node at `address`, on one connection as long as it lasts.
pub fn past(address: Address) -> Direct {
    let login = Login::at(address).user("postgres").database("postgres");
    let sql = format!("insert into direct default values returning {TIMELINE}");
    let mut client: Option<Client> = None;
    Box::new(move || {
        if client.is_none() {
            client = login.try_connect().ok();
        }
        let known = client.as_mut()?;
        known.wire.be_patient_for(Duration::from_secs(2));
        let sent = known.wire.send_bytes(&batch().query(&sql).0);
        let Some(reply) = sent.ok().and_then(|()| known.try_until_ready().ok()) else {
            client = None;
            return None;
        };
        let row = reply.rows.first()?.first()?.as_deref()?;
        u32::from_str_radix(row, 16).ok()
    })
}

/// What the clients share.
struct Shared {
    began: Instant,
    over: AtomicBool,
    written: AtomicUsize,
    /// By those who only read.
    read: AtomicUsize,
    /// Past the pooler.
    directly: AtomicUsize,
    timeline: AtomicU32,
    round: u64,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    fn saw(&self, timeline: u32) -> u32 {
        self.timeline.fetch_max(timeline, SeqCst).max(timeline)
    }

    /// The counters of this round.
    fn counter(&self, number: u64) -> u64 {
        self.round * 2 + number % 2
    }
}

/// A client, and what it wrote down. Its connection must never end.
struct Voice<'a> {
    client: Client,
    shared: &'a Shared,
    journal: Vec<Deed>,
}

/// Why there is no reply to go on with.
enum Trouble {
    Failed(String),
    Hung,
}

impl<'a> Voice<'a> {
    fn new(pooler: &Pooler, database: &str, shared: &'a Shared) -> Self {
        let client = pooler.login().database(database).connect();
        client.wire.be_patient_for(HANGS);
        Self {
            client,
            shared,
            journal: Vec::new(),
        }
    }

    /// Asks; a transaction that fails is ended.
    fn ask(&mut self, batch: Batch) -> Result<Reply, Trouble> {
        self.client.send(batch);
        let reply = match self.client.try_until_ready() {
            Ok(reply) => reply,
            Err(cut) if is_patience(&cut.error) => return Err(Trouble::Hung),
            Err(cut) => panic!("a client was cut off: {cut:?}"),
        };
        let Some(fault) = reply.errors.first() else {
            return Ok(reply);
        };
        if reply.status != 'I' {
            self.client.query("rollback").good();
        }
        Err(Trouble::Failed(fault.code.clone()))
    }

    /// Does something, and writes down what came of it. False when nothing more will come.
    fn act(
        &mut self,
        what: What,
        act: impl FnOnce(&mut Self) -> Result<(What, End), Trouble>,
    ) -> bool {
        let began = self.shared.began.elapsed();
        let (what, end) = match act(self) {
            Ok(done) => done,
            Err(Trouble::Failed(code)) => (what, End::Failed(code)),
            Err(Trouble::Hung) => (what, End::Hung),
        };
        let is_write = !matches!(what, What::Read { .. });
        if is_write && matches!(end, End::Done { .. }) {
            self.shared.written.fetch_add(1, SeqCst);
        }
        let is_hung = end == End::Hung;
        self.journal.push(Deed {
            began,
            ended: self.shared.began.elapsed(),
            what,
            end,
        });
        !is_hung && !self.shared.is_over()
    }

    /// Asks for something that says its timeline.
    fn write(&mut self, what: What, batch: Batch) -> Result<(What, End), Trouble> {
        let known = self.shared.timeline.load(SeqCst);
        let reply = self.ask(batch)?;
        let timeline = u32::from_str_radix(&reply.value(), 16).unwrap();
        self.shared.saw(timeline);
        Ok((what, End::Done { timeline, known }))
    }

    /// One row after the other, in each protocol.
    fn writes(mut self, who: u64) -> Vec<Deed> {
        for turn in 1.. {
            let id = self.shared.round * ROUND + who * 1_000_000 + turn;
            let insert = format!("insert into t values ({id}) returning {TIMELINE}");
            let request = match turn % 3 {
                0 => batch().query(&insert),
                1 => batch().parse("", &insert).run("", &[]).sync(),
                _ => batch().query(&format!("begin; {insert}; commit")),
            };
            let what = What::Row {
                id,
                is_halved: false,
            };
            if !self.act(what.clone(), |voice| voice.write(what, request)) {
                break;
            }
        }
        self.journal
    }

    /// Two rows in a transaction of four requests, one transaction after the other.
    fn transacts(mut self, who: u64) -> Vec<Deed> {
        for turn in 1.. {
            let id = self.shared.round * ROUND + who * 1_000_000 + turn;
            let what = What::Row {
                id,
                is_halved: true,
            };
            let insert =
                |half: u8| format!("insert into t values ({id}, {half}) returning {TIMELINE}");
            let whole = |voice: &mut Self| {
                voice.ask(batch().query("begin"))?;
                voice.ask(batch().query(&insert(1)))?;
                let reply = voice.ask(batch().query(&insert(2)))?;
                let timeline = u32::from_str_radix(&reply.value(), 16).unwrap();
                let known = voice.shared.timeline.load(SeqCst);
                let reply = voice.ask(batch().query("commit"))?;
                if reply.tags != ["COMMIT"] {
                    return Err(Trouble::Failed(reply.tags.concat()));
                }
                voice.shared.saw(timeline);
                Ok((what.clone(), End::Done { timeline, known }))
            };
            if !self.act(what.clone(), whole) {
                break;
            }
        }
        self.journal
    }

    fn read(&mut self, key: u64, turn: u64) -> bool {
        let sql = format!("select n from pulse where k = {key}");
        let request = match turn % 2 {
            0 => batch().query(&sql),
            _ => batch().parse("", &sql).run("", &[]).sync(),
        };
        self.act(What::Read { key, value: 0 }, |voice| {
            let reply = voice.ask(request)?;
            let cell = reply.rows.first().and_then(|row| row[0].as_deref());
            let value = cell.map_or(0, |cell| cell.parse().unwrap());
            let done = End::Done {
                timeline: 0,
                known: 0,
            };
            Ok((What::Read { key, value }, done))
        })
    }

    /// Sets its counter, and reads it.
    fn checks(mut self, who: u64) -> Vec<Deed> {
        let key = self.shared.counter(who);
        for value in 1.. {
            let what = What::Count { key, value };
            let sql = format!("update pulse set n = {value} where k = {key} returning {TIMELINE}");
            let request = batch().query(&sql);
            if !self.act(what.clone(), |voice| voice.write(what, request)) || !self.read(key, value)
            {
                break;
            }
            thread::sleep(THINKS);
        }
        self.journal
    }

    /// Reads the counters of others.
    fn reads(mut self) -> Vec<Deed> {
        for turn in 0.. {
            if !self.read(self.shared.counter(turn / 2), turn) {
                break;
            }
            self.shared.read.fetch_add(1, SeqCst);
            thread::sleep(THINKS);
        }
        self.journal
    }
}

/// What all clients were told, and when the cluster itself took writes.
pub struct Load {
    journals: Vec<Vec<Deed>>,
    direct: Vec<Duration>,
    round: u64,
}

/// Waits for so many more writes, or reads.
pub fn more(written: &AtomicUsize, count: usize) {
    let goal = written.load(SeqCst) + count;
    eventually(PATIENCE, "the clients go on", || {
        written.load(SeqCst) >= goal
    });
}

/// Runs the clients while `story` happens. Each of `direct` tries a write on one node, past the pooler.
pub fn under_load(pooler: &Pooler, direct: Vec<Direct>, story: impl FnOnce(&AtomicUsize)) -> Load {
    static ROUNDS: AtomicU64 = AtomicU64::new(1);
    let shared = Shared {
        began: Instant::now(),
        over: AtomicBool::new(false),
        written: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        directly: AtomicUsize::new(0),
        timeline: AtomicU32::new(0),
        round: ROUNDS.fetch_add(1, SeqCst),
    };
    let counters = [shared.counter(0), shared.counter(1)];
    let [one, other] = counters;
    let begin = format!("insert into pulse values ({one}, 0), ({other}, 0)");
    pooler.connect().query(&begin).good();
    thread::scope(|scope| {
        let _raise = Raise(&shared.over);
        let shared = &shared;
        let watchers: Vec<_> = direct
            .into_iter()
            .map(|write| scope.spawn(move || watch(write, shared)))
            .collect();
        let voices: Vec<_> = (1..=8)
            .map(|who| {
                let database = if matches!(who, 1..=3) { "app" } else { "auto" };
                let voice = Voice::new(pooler, database, shared);
                scope.spawn(move || match who {
                    1 | 2 => voice.writes(who),
                    3 | 4 => voice.transacts(who),
                    5 | 6 => voice.checks(who),
                    _ => voice.reads(),
                })
            })
            .collect();
        more(&shared.written, 50);
        // A new session reads at the primary until a later probe tells what a replica must have; who is there when it is lost waits for the next.
        more(&shared.read, 800);
        if !watchers.is_empty() {
            more(&shared.directly, 3);
        }
        story(&shared.written);
        shared.over.store(true, SeqCst);
        let journals = voices.into_iter().map(|one| one.join().unwrap());
        let journals = journals.collect();
        let moments = watchers.into_iter().flat_map(|one| one.join().unwrap());
        let mut direct: Vec<Duration> = moments.collect();
        direct.sort();
        Load {
            journals,
            direct,
            round: shared.round,
        }
    })
}

/// When writes past the pooler were done by somebody who was not behind.
fn watch(mut write: Direct, shared: &Shared) -> Vec<Duration> {
    let mut moments = Vec::new();
    while !shared.is_over() {
        if let Some(timeline) = write()
            && shared.saw(timeline) == timeline
        {
            moments.push(shared.began.elapsed());
            shared.directly.fetch_add(1, SeqCst);
        }
        thread::sleep(BETWEEN);
    }
    moments
}

/// Reads `1 2 3,4 5 6`.
fn numbers(text: &str) -> impl Iterator<Item = Vec<u64>> {
    let rows = text.split(',').filter(|row| !row.is_empty());
    rows.map(|row| row.split(' ').map(|cell| cell.parse().unwrap()).collect())
}

impl Load {
    /// Compares with what the winner has.
    pub fn verdict(&self, winner: impl Fn(&str) -> String) -> Verdict {
        let (first, end) = (self.round * ROUND, (self.round + 1) * ROUND);
        let rows = winner(&format!(
            "select coalesce(string_agg(id || ' ' || half || ' ' || n, ','), '') from \
             (select id, half, count(*) n from t where id >= {first} and id < {end} group by id, half) x"
        ));
        let counters = winner("select coalesce(string_agg(k || ' ' || n, ','), '') from pulse");
        let found = Found {
            rows: numbers(&rows)
                .map(|row| ((row[0], u8::try_from(row[1]).unwrap()), row[2] as usize))
                .collect(),
            counters: numbers(&counters)
                .map(|row| (row[0], row[1]))
                .collect::<BTreeMap<_, _>>(),
        };
        verdict::judge(&self.journals, &self.direct, &found)
    }
}

/// Prints a row of the table, and asserts what must hold always: all is sound, no client heard of more than `errors` errors, and only of those
/// that say that nobody knows (08007) or that nothing was done (40001; 08006 for a read).
#[track_caller]
pub fn assert_good(what: &str, verdict: &Verdict, errors: usize) {
    println!("{HEAD}\n| {what} | {verdict} |");
    assert!(verdict.is_sound(), "{what}: {verdict:?}");
    let is_fair = |code: &String| code == "08007" || code == "40001";
    let mut reads = verdict.read_errors.keys();
    assert!(
        verdict.errors.keys().all(is_fair) && reads.all(|code| is_fair(code) || code == "08006"),
        "{what}: {verdict:?}"
    );
    assert!(
        verdict.most <= errors,
        "{what}: only work in flight may fail: {verdict:?}"
    );
}
