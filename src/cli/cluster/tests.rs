use crate::cli::guardian::signal;

use super::making::{hba, settings};
use super::{Auth, Binaries, Cluster, Options, Stop, free_port, port};

#[test]
fn own_settings_come_last_and_are_quoted() {
    let text = settings(&[("log_line_prefix".to_owned(), "it's %p ".to_owned())]);
    assert!(text.contains("log_line_prefix = 'it''s %p '\ninclude"));
}

#[test]
fn own_hba_lines_come_first() {
    let auth = Auth::Scram {
        password: String::new(),
    };
    let text = hba(&["host all old 127.0.0.1/32 md5".to_owned()], &auth);
    assert!(text.starts_with("host all old 127.0.0.1/32 md5\n"));
    assert!(text.contains("\nhost all all 127.0.0.1/32 scram-sha-256\n"));
}

#[test]
fn a_cluster_replicates_fails_over_and_leaves_nothing_behind() {
    let binaries = Binaries::find(false).unwrap();
    let options = Options {
        replicas: 1,
        ..Options::default()
    };
    let mut cluster = Cluster::start(&binaries, &options).unwrap();
    let folder = cluster.folder().to_owned();

    let make = "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 10)";
    cluster.query(0, "postgres", make).unwrap();
    cluster.catch_up(0).unwrap();
    let count = cluster
        .query(1, "postgres", "SELECT count(*) FROM t")
        .unwrap();
    assert_eq!(count.first(), Some("10"));

    cluster.kill9(0).unwrap();
    cluster.promote(1).unwrap();
    cluster
        .query(1, "postgres", "INSERT INTO t VALUES (11)")
        .unwrap();
    cluster.restart(0).unwrap();
    cluster.stop(0, Stop::Immediate).unwrap();
    assert!(cluster.query(0, "postgres", "SELECT 1").is_err());

    let pid = cluster.pid(1).unwrap();
    drop(cluster);
    assert!(!folder.exists());
    assert!(signal(pid, "0").is_err(), "no server is left");
}

#[test]
fn wanted_ports_follow_each_other() {
    assert_eq!(port(7_000, 2).unwrap(), 7_002);
    assert!(port(65_535, 1).is_err());
}

#[test]
fn free_ports_are_none_that_outgoing_connections_use() {
    assert!((0..20).all(|_| (10_240..32_000).contains(&free_port().unwrap())));
}
