//! What one client does counts for those who read through another name of its database, whoever it is and in whatever mode.

use super::{beside, port, scene, split, start};
use crate::support::eventually;
use crate::support::pooler::{Config, Pooler};
use crate::support::scene::Scene;
use crate::support::wire::Client;

/// Other names of the database of `app`: to the primary, in each mode.
const WAYS: [&str; 3] = ["plain", "whole", "bare"];

fn ways(scene: &Scene) -> Config {
    let mut config = split(scene).database("app", "consistency", "global");
    for way in WAYS {
        config = beside(config, way).database(way, "route", "primary");
    }
    config
        .database("whole", "pool_mode", "session")
        .database("bare", "session_state", "pgbouncer")
}

fn clients(pooler: &Pooler) -> [Client; 3] {
    WAYS.map(|way| pooler.login().database(way).connect())
}

#[test]
fn with_global_consistency_a_write_counts_by_whichever_way_it_came() {
    let scene = scene();
    scene.sql(0, "insert into t values (1, 0)");
    for replica in [1, 2] {
        scene.alter(replica, "recovery_min_apply_delay", "200ms");
    }
    scene.catch_up();
    let pooler = start(&ways(&scene));
    let mut writers = clients(&pooler);
    let mut reader = pooler.connect();
    let mut turn = 0;
    for _ in 0..5 {
        for writer in &mut writers {
            eventually(super::LONG, "a replica serves it", || {
                scene.is_replica(&port(&mut reader))
            });
            turn += 1;
            let write = format!("update t set value = {turn} where id = 1");
            writer.query(&write).good();
            assert_eq!(reader.value("select value from t"), turn.to_string());
        }
    }
}

#[test]
fn code_that_is_changed_by_whichever_way_is_known_at_once_to_who_reads() {
    let scene = scene();
    let pooler = start(&ways(&scene));
    let mut writers = clients(&pooler);
    let mut reader = pooler.connect();
    let mut intent = |of: &str| {
        let told = reader.query(&format!("explain route select {of}()"));
        told.good().column("finding")[0].clone()
    };
    for (way, writer) in WAYS.iter().zip(&mut writers) {
        let define = |kind: &str| {
            format!(
                "/* {way} */ create or replace function f() returns int {kind} language sql as 'select 1'"
            )
        };
        writer.query(&define("stable")).good();
        eventually(super::LONG, "the catalog is known", || {
            intent("f") == "read"
        });
        writer.query("begin").good();
        writer.query(&define("volatile")).good();
        eventually(super::LONG, "it is known as it was", || {
            intent("f") == "read"
        });
        writer.query("commit").good();
        assert_eq!(intent("f"), "write", "{way}");
    }
}
