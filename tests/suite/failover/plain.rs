//! Clusters that nobody keeps: what is done to them is done by hand.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use pooler::cli::cluster::Cluster;

use super::rounds;
use crate::support::load::verdict::Verdict;
use crate::support::load::{assert_good, more, past, under_load, with_splitting};
use crate::support::long;
use crate::support::scene::Scene;
use crate::support::wire::Address;

/// A round of `story`, on a cluster of its own of which `winner` is the primary in the end.
fn round(winner: usize, story: impl FnOnce(&mut Cluster, &AtomicUsize)) -> Verdict {
    let scene = Scene::start();
    let config = scene.config().set("clusters.main", "max_lag", "1s");
    let pooler = with_splitting(config).start();
    let address = |port: &u16| Address::tcp(*port);
    let direct = scene.ports.iter().map(address).map(past).collect();
    let load = under_load(&pooler, direct, |written| {
        story(&mut scene.cluster(), written);
    });
    load.verdict(|sql| scene.sql(winner, sql))
}

#[track_caller]
fn tells(
    what: &str,
    errors: usize,
    winner: usize,
    story: fn(&mut Cluster, &AtomicUsize),
) -> Verdict {
    let worst = rounds(what, || round(winner, story));
    assert_good(what, &worst, errors);
    worst
}

fn sql(cluster: &Cluster, node: usize, sql: &str) {
    cluster.query(node, "postgres", sql).unwrap();
}

#[test]
fn a_replica_that_replays_nothing_serves_no_old_reads() {
    let verdict = tells("replay stops on a replica", 0, 0, |cluster, written| {
        sql(cluster, 2, "select pg_wal_replay_pause()");
        more(written, if long() { 2_000 } else { 500 });
        sql(cluster, 2, "select pg_wal_replay_resume()");
        more(written, 100);
    });
    // max_lag is a second.
    assert!(verdict.oldest_read < Duration::from_secs(2), "{verdict:?}");
}

#[test]
fn the_old_primary_that_comes_back_gets_nothing() {
    if !long() {
        return;
    }
    tells(
        "promotion of a replica while the primary goes on",
        1,
        1,
        |cluster, written| {
            cluster.promote(1).unwrap();
            more(written, 300);
        },
    );
    tells(
        "kill -9, promotion, revival of the old primary",
        1,
        1,
        |cluster, written| {
            cluster.kill9(0).unwrap();
            cluster.promote(1).unwrap();
            more(written, 50);
            cluster.restart(0).unwrap();
            sql(
                cluster,
                0,
                "alter system set synchronous_standby_names = ''",
            );
            sql(cluster, 0, "select pg_reload_conf()");
            more(written, 500);
        },
    );
}

#[test]
fn reads_in_the_way_of_replay_are_nobodys_error() {
    if !long() {
        return;
    }
    tells(
        "recovery conflicts on the replicas",
        0,
        0,
        |cluster, written| {
            for node in [1, 2] {
                sql(
                    cluster,
                    node,
                    "alter system set max_standby_streaming_delay = 0",
                );
                sql(cluster, node, "select pg_reload_conf()");
            }
            for _ in 0..40 {
                sql(cluster, 0, "vacuum pulse");
                sql(
                    cluster,
                    0,
                    "begin; lock table pulse in access exclusive mode; commit",
                );
                more(written, 20);
            }
        },
    );
}
