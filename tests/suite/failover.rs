//! A cluster that Patroni keeps is followed through what happens to it. Prints a row of the table for each scenario.

use std::time::Duration;

use crate::support::load::{Load, more, under_load};
use crate::support::patroni::{NODES, Patroni, SCOPE, signal};
use crate::support::pooler::{Pooler, Raw, config};
use crate::support::{eventually, long};

const LONG: Duration = Duration::from_secs(90);

/// A cluster that Patroni keeps, with a table, and a pooler that is told nothing but where Patroni and etcd are.
struct Scene {
    // The clients' pooler goes first.
    pooler: Pooler,
    patroni: Patroni,
}

impl Scene {
    fn start(keepers: usize, more: &str) -> Self {
        let patroni = Patroni::start(keepers, more);
        let leader = patroni.leader().unwrap();
        patroni.sql(
            leader,
            "create table t (id bigint, at timestamptz default now())",
        );
        patroni.sql(leader, "create table direct (at timestamptz default now())");
        patroni.sql(leader, "create role probe login in role pg_monitor");
        let endpoints: Vec<String> = (0..keepers)
            .map(|keeper| format!("http://{}", patroni.keeper(keeper)))
            .collect();
        let etcd = format!("{{ endpoints = {endpoints:?}, scope = {SCOPE:?} }}");
        let rest: Vec<String> = (0..NODES)
            .map(|node| format!("http://{}", patroni.rest(node)))
            .collect();
        let pooler = config()
            .without("databases.app")
            .database("app", "cluster", "main")
            .database("app", "dbname", "postgres")
            .database("app", "user", "postgres")
            .database("app", "pool_size", 6)
            .pooler("state_dir", ".")
            .set("clusters.main", "probe_user", "probe")
            .set(
                "clusters.main",
                "patroni",
                [rest[0].as_str(), &rest[1], &rest[2]],
            )
            .set("clusters.main", "etcd", Raw(etcd))
            .start();
        Self { pooler, patroni }
    }

    /// Runs the writers while `story` happens to the cluster.
    fn under_load(
        &mut self,
        story: impl FnOnce(&mut Patroni, &Pooler, &std::sync::atomic::AtomicUsize),
    ) -> Load {
        let leader = self.patroni.leader().unwrap();
        self.patroni.sql(leader, "truncate t");
        let direct = (0..NODES)
            .map(|node| self.patroni.writes_directly(node))
            .collect();
        let (patroni, pooler) = (&mut self.patroni, &self.pooler);
        under_load(pooler, direct, |written| story(patroni, pooler, written))
    }

    /// The other two, the synchronous standby first.
    fn others(&self, leader: usize) -> [usize; 2] {
        let standby = self.patroni.standby();
        [standby, NODES - leader - standby]
    }

    #[track_caller]
    fn judge(&self, load: &Load, what: &str, unknown: usize) -> (usize, Duration) {
        let mut leader = None;
        eventually(LONG, "somebody leads", || {
            leader = self.patroni.leader();
            leader.is_some()
        });
        let winner = |sql: &str| self.patroni.sql(leader.unwrap(), sql);
        let (errors, added) = load.judge(what, unknown, winner);
        (errors.values().sum(), added)
    }
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

#[test]
fn a_switchover_and_a_crash_under_patroni_lose_double_and_split_nothing() {
    let mut scene = Scene::start(1, r#", "primary_start_timeout": 0"#);
    let before = scene.patroni.leader().unwrap();
    let [standby, _] = scene.others(before);
    let load = scene.under_load(|patroni, _, written| {
        patroni.switchover(before, standby);
        more(written, 300);
    });
    let (errors, added) = scene.judge(&load, "switchover", 1);
    assert_eq!(errors, 0, "a planned switchover is nobody's error");
    assert!(added < Duration::from_secs(2), "{added:?}");
    scene.patroni.wait_until_whole();

    let load = scene.under_load(|patroni, pooler, written| {
        pooler.show("SWITCHOVER main");
        another_leads(patroni, standby);
        more(written, 300);
    });
    let (errors, _) = scene.judge(&load, "SWITCHOVER in the console", 1);
    assert_eq!(errors, 0, "nor is one that the pooler has asked for");
    scene.patroni.wait_until_whole();

    let load = scene.under_load(|patroni, _, written| {
        let leader = patroni.leader().unwrap();
        signal(patroni.postmaster(leader).unwrap(), "KILL");
        another_leads(patroni, leader);
        more(written, 300);
    });
    scene.judge(&load, "kill -9 of PostgreSQL", 1);
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

#[test]
fn a_frozen_node_is_left_when_patroni_has_promoted_another() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    let load = scene.under_load(|patroni, _, written| {
        let leader = patroni.leader().unwrap();
        let mut frozen = family(patroni.postmaster(leader).unwrap());
        frozen.push(patroni.manager(leader));
        frozen.iter().for_each(|pid| signal(*pid, "STOP"));
        let others: Vec<usize> = (0..NODES).filter(|node| *node != leader).collect();
        eventually(LONG, "another is promoted", || {
            let mut asked = others.iter();
            asked.any(|node| {
                patroni
                    .try_sql(*node, "select pg_is_in_recovery()")
                    .as_deref()
                    == Some("f")
            })
        });
        more(written, 300);
        frozen.iter().for_each(|pid| signal(*pid, "CONT"));
        more(written, 300);
    });
    scene.judge(&load, "freeze of the primary's node", 1);
}

#[test]
fn restarts_in_place_and_one_after_the_other_are_followed() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    let restart = |patroni: &Patroni, node: usize| {
        let answer = patroni.http(node, "POST", "/restart", "{}").unwrap();
        assert_eq!(answer.0, 200, "{}", answer.1);
    };
    let load = scene.under_load(|patroni, _, written| {
        restart(patroni, patroni.leader().unwrap());
        more(written, 300);
    });
    scene.judge(&load, "restart of the primary", 1);
    scene.patroni.wait_until_whole();

    let before = scene.patroni.leader().unwrap();
    let [standby, other] = scene.others(before);
    let load = scene.under_load(|patroni, _, written| {
        for node in [other, standby] {
            restart(patroni, node);
            patroni.wait_until_whole();
        }
        let next = patroni.standby();
        patroni.switchover(before, next);
        patroni.wait_until_whole();
        restart(patroni, before);
        more(written, 300);
    });
    let (errors, _) = scene.judge(&load, "rolling restart", 1);
    assert_eq!(errors, 0);
}

#[test]
fn the_loss_of_etcds_quorum_does_not_stop_what_patroni_lets_go_on() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(3, r#", "failsafe_mode": true"#);
    let load = scene.under_load(|patroni, _, written| {
        patroni.kill_keeper(1);
        more(written, 300);
        patroni.kill_keeper(2);
        // Longer than all words and leases last.
        std::thread::sleep(Duration::from_secs(25));
        more(written, 300);
        patroni.start_keeper(1);
        patroni.start_keeper(2);
        more(written, 300);
    });
    let (errors, _) = scene.judge(&load, "loss of etcd's quorum, failsafe_mode", 1);
    assert_eq!(errors, 0);
}

#[test]
fn a_primary_whose_patroni_is_dead_is_left_before_another_is_promoted() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    let load = scene.under_load(|patroni, _, written| {
        let leader = patroni.leader().unwrap();
        patroni.kill_manager(leader);
        another_leads(patroni, leader);
        more(written, 300);
    });
    scene.judge(&load, "Patroni is killed, PostgreSQL lives", 1);
}

#[test]
fn a_replica_that_is_killed_is_no_writers_error() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    let [_, other] = scene.others(scene.patroni.leader().unwrap());
    let load = scene.under_load(|patroni, _, written| {
        signal(patroni.postmaster(other).unwrap(), "KILL");
        more(written, 300);
    });
    let (errors, _) = scene.judge(&load, "kill -9 of a replica", 0);
    assert_eq!(errors, 0);
}
