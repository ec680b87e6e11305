//! A cluster is followed through what happens to it, under clients of every kind. Prints a row of the table for each event.
//!
//! `POOLER_LONG=1 cargo test --test suite -- failover:: --nocapture --test-threads 1` runs each event three times and shows the worst; without
//! it only what fits into a minute or two is tried, once. What needs a network of its own says so where none may be made.

mod crash;
mod keepers;
mod network;
mod plain;
mod planned;
mod replicas;

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::support::load::verdict::Verdict;
use crate::support::load::{COLUMNS, TABLES, assert_good, past, under_load, with_splitting};
use crate::support::patroni::{NODES, Patroni, SCOPE};
use crate::support::pooler::{Pooler, Raw, config};
use crate::support::{eventually, long};

const LONG: Duration = Duration::from_secs(90);

/// Runs an event again and again, as often as asked for, and says the worst of what came of it.
fn rounds(what: &str, mut round: impl FnMut() -> Verdict) -> Verdict {
    let count = if long() { 3 } else { 1 };
    let mut worst: Option<Verdict> = None;
    for number in 1..=count {
        let verdict = round();
        println!("{what}, round {number}: {verdict}");
        worst = Some(match worst {
            Some(worst) => worst.worse(&verdict),
            None => verdict,
        });
    }
    worst.unwrap()
}

/// A cluster that Patroni keeps, and a pooler that is told nothing but where Patroni and etcd are.
struct Scene {
    // The clients' pooler goes first.
    pooler: Pooler,
    patroni: Patroni,
}

impl Scene {
    fn start(keepers: usize, more: &str) -> Self {
        Self::with(Patroni::start(keepers, more), keepers)
    }

    /// Each node has a cable that can be pulled.
    fn with_cables(more: &str) -> Self {
        Self::with(Patroni::with_cables(1, more), 1)
    }

    fn with(patroni: Patroni, keepers: usize) -> Self {
        let leader = patroni.leads();
        patroni.sql(leader, &format!("create table t ({COLUMNS}); {TABLES}"));
        patroni.sql(leader, "create role probe login in role pg_monitor");
        let endpoints: Vec<String> = (0..keepers)
            .map(|keeper| format!("http://{}", patroni.keeper(keeper)))
            .collect();
        let etcd = format!("{{ endpoints = {endpoints:?}, scope = {SCOPE:?} }}");
        let rest: Vec<String> = (0..NODES)
            .map(|node| format!("http://{}", patroni.rest(node)))
            .collect();
        let pooler = with_splitting(config())
            .without("databases.app")
            .database("app", "cluster", "main")
            .database("app", "dbname", "postgres")
            .database("app", "user", "postgres")
            .database("app", "pool_size", 6)
            .pooler("state_dir", ".")
            .set("clusters.main", "probe_user", "probe")
            .set("clusters.main", "max_lag", "1s")
            .set(
                "clusters.main",
                "patroni",
                [rest[0].as_str(), &rest[1], &rest[2]],
            )
            .set("clusters.main", "etcd", Raw(etcd))
            .start();
        // Before the catalog is read, a read's text is not known to be one, and its session waits for the primary.
        let mut reader = pooler.login().database("auto").connect();
        eventually(LONG, "reads go to replicas", || {
            reader.query("select n from pulse where k = 0").good();
            let routing = pooler.show("SHOW ROUTING");
            routing.column("went_to").contains(&"replica".to_owned())
        });
        Self { pooler, patroni }
    }

    /// Has `story` happen to the whole cluster, as often as asked for; no client may hear of more than `errors` errors.
    #[track_caller]
    fn tells(
        &mut self,
        what: &str,
        errors: usize,
        mut story: impl FnMut(&mut Patroni, &Pooler, &AtomicUsize),
    ) -> Verdict {
        let mut known = 0;
        phases(&self.pooler, &mut known);
        let worst = rounds(what, || {
            self.patroni.wait_until_whole();
            let direct = (0..NODES).map(|node| past(self.patroni.address(node)));
            let direct = direct.collect();
            let (patroni, pooler) = (&mut self.patroni, &self.pooler);
            let load = under_load(pooler, direct, |written| story(patroni, pooler, written));
            let mut leader = None;
            eventually(LONG, "somebody leads", || {
                leader = self.patroni.leader();
                leader.is_some()
            });
            println!("{}", phases(&self.pooler, &mut known));
            load.verdict(|sql| self.patroni.sql(leader.unwrap(), sql))
        });
        if !worst.is_sound() {
            println!("{}", self.pooler.log());
        }
        assert_good(what, &worst, errors);
        worst
    }
}

/// The changes of phase after the first `known`, with what the pooler says of their reasons.
fn phases(pooler: &Pooler, known: &mut usize) -> String {
    let shown = pooler.show("SHOW PHASES");
    let all = shown.column("to").into_iter().zip(shown.column("why"));
    let new = all.skip(*known).map(|(to, why)| format!("{to} ({why})"));
    let told = new.collect::<Vec<_>>().join(", ");
    *known = shown.rows.len();
    let outages = pooler.show("SHOW FAILOVERS");
    let moments = ["kind", "no_writer_ms", "confirmed_ms", "first_write_ms"];
    let last = moments.map(|name| outages.column(name).pop().unwrap_or_default());
    format!("{told}; the last time without a writer: {last:?}")
}

/// Waits until somebody else than `before` leads.
fn another_leads(patroni: &Patroni, before: usize) -> usize {
    let mut leader = before;
    eventually(LONG, "another leads", || {
        leader = patroni.leader().unwrap_or(before);
        leader != before
    });
    leader
}

/// All processes of a postmaster.
fn family(postmaster: u32) -> Vec<u32> {
    let listed = std::process::Command::new("ps")
        .args(["-o", "pid=", "--ppid", &postmaster.to_string()])
        .output()
        .unwrap();
    let children = String::from_utf8_lossy(&listed.stdout).into_owned();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    std::iter::once(postmaster).chain(children).collect()
}

/// The other two, the synchronous standby first.
fn others(patroni: &Patroni, leader: usize) -> [usize; 2] {
    let standby = patroni.standby();
    [standby, NODES - leader - standby]
}
