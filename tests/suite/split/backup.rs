//! A replica that is put back from a backup taken long ago.

use std::fs;

use pooler::cli::cluster::Stop;

use super::{LONG, scene, split, start};
use crate::support::eventually;
use crate::support::scene::Scene;

/// Runs a program of PostgreSQL's, or of the system, as the servers' user.
fn run(command: &mut std::process::Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Takes a base backup of the primary into the cluster's folder.
fn back_up(scene: &Scene, name: &str) -> std::path::PathBuf {
    let cluster = scene.cluster();
    let backup = cluster.folder().join(name);
    let port = cluster.port(0).to_string();
    let mut command = cluster.binaries().command("pg_basebackup");
    let socket = cluster.socket_dir().display().to_string();
    run(command
        .args(["-h", &socket, "-p", &port, "-U", "postgres"])
        .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
        .arg("-D")
        .arg(&backup));
    backup
}

/// Puts `backup` in the place of node 1, which follows the primary again.
fn put_back(scene: &Scene, backup: &std::path::Path) {
    let mut cluster = scene.cluster();
    cluster.stop(1, Stop::Fast).unwrap();
    let place = cluster.data_dir(1);
    fs::remove_dir_all(&place).unwrap();
    run(cluster
        .binaries()
        .other("cp")
        .arg("-Rp")
        .arg(backup)
        .arg(&place));
    cluster.follow(1, 0).unwrap();
    cluster.restart(1).unwrap();
}

#[test]
fn a_replica_restored_from_an_old_backup_serves_no_reads_before_it_has_caught_up() {
    let scene = scene();
    scene.alter(0, "wal_keep_size", "0");
    scene.sql(0, "insert into t values (1, 0)");
    scene.catch_up();
    let pooler = start(&split(&scene));
    let old = back_up(&scene, "old-backup");
    // Life goes on, and the primary throws away the WAL that whoever begins with that backup needs.
    for value in 1..=5 {
        scene.sql(0, &format!("update t set value = {value}"));
        scene.sql(0, "select pg_switch_wal()");
        // Who still follows must not lack it.
        scene.catch_up();
        scene.sql(0, "checkpoint");
    }
    let recent = back_up(&scene, "recent-backup");
    scene.sql(0, "update t set value = 6");
    put_back(&scene, &old);
    assert_eq!(scene.sql(1, "select value from t"), "0", "it is an old one");
    let address = scene.address(1);
    let node = || {
        pooler
            .show("SHOW NODES")
            .row_where("node", &address)
            .unwrap()
    };
    eventually(LONG, "it is known to be a replica", || {
        node()["role"] == "replica"
    });
    let replica = scene.ports[1].to_string();
    let removed = "has already been removed";
    let log = scene.cluster().log(1);
    let mut reads = 0;
    eventually(
        LONG,
        "it has asked for what is gone, again and again",
        || {
            for _ in 0..20 {
                let read = "select value, current_setting('port') from t";
                let reply = pooler.connect().query(read).good();
                assert_eq!(reply.value(), "6", "{reply:?}");
                assert_ne!(reply.rows[0][1].as_ref(), Some(&replica));
                reads += 1;
            }
            let node = node();
            assert_eq!(node["readable"], "no");
            assert_ne!(node["why"], "");
            fs::read_to_string(&log).unwrap().matches(removed).count() > 2
        },
    );
    println!("{reads} reads, none of them there: {}", node()["why"]);
    // One that lacks nothing serves as soon as it has caught up, and not before.
    put_back(&scene, &recent);
    eventually(LONG, "it serves reads", || {
        let reply = pooler
            .connect()
            .query("select value, current_setting('port') from t");
        assert_eq!(reply.clone().good().value(), "6");
        reply.rows[0][1].as_ref() == Some(&replica)
    });
}
