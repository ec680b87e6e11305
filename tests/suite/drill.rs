//! `pooler drill` has a real cluster switch over, says what came of it, and does nothing that was not confirmed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::Scene;
use crate::support::patroni::{NODES, Patroni, SCOPE};
use crate::support::pooler::{Config, Raw, config};

/// Runs the drill with a configuration; whether it ended well, and what it said.
fn drill(file: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pooler"))
        .arg("drill")
        .arg(file)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the drill starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

fn of_patroni(patroni: &Patroni) -> Config {
    let rest: [String; NODES] =
        std::array::from_fn(|node| format!("http://{}", patroni.rest(node)));
    let etcd = format!(
        "{{ endpoints = [\"http://{}\"], scope = {SCOPE:?} }}",
        patroni.keeper(0)
    );
    config()
        .without("databases.app")
        .database("app", "cluster", "main")
        .database("app", "dbname", "postgres")
        .database("app", "user", "postgres")
        // The drill logs in as everybody does.
        .pooler("auth_type", "scram-sha-256")
        .pooler("state_dir", ".")
        .set("clusters.main", "probe_user", "probe")
        .set(
            "clusters.main",
            "patroni",
            [rest[0].as_str(), &rest[1], &rest[2]],
        )
        .set("clusters.main", "etcd", Raw(etcd))
}

#[test]
fn a_drill_switches_over_where_it_is_told_loses_nothing_and_leaves_nothing_behind() {
    let patroni = Patroni::start(1, "");
    let leader = patroni.leads();
    patroni.sql(leader, "create role probe login in role pg_monitor");
    let next = patroni.standby();
    let pooler = of_patroni(&patroni).start();
    pooler
        .login()
        .password("app")
        .connect()
        .query("select 1")
        .good();
    let file = pooler.folder.join("pooler.toml");
    let to = format!("n{next}");
    let arguments = ["--cluster", "main", "--user", "app", "--to", &to];
    let (is_good, text) = drill(&file, &arguments);
    assert!(!is_good && text.contains("say --yes"), "{text}");
    assert_eq!(patroni.leader(), Some(leader), "nothing was done");
    let (is_good, text) = drill(&file, &[&arguments[..], &["--yes"]].concat());
    assert!(is_good, "{text}");
    assert!(
        text.contains("0 lost, 0 doubled, 0 called failed"),
        "{text}"
    );
    assert!(text.contains("errors     none"), "{text}");
    assert!(text.contains("pooler     switchover, "), "{text}");
    assert_eq!(patroni.leader(), Some(next), "{text}");
    let left = "select count(*) from pg_class where relname like 'pooler_drill%'";
    assert_eq!(patroni.sql(next, left), "0", "{text}");
    // What Patroni refuses is told, and nothing stays behind then either.
    let refused = [
        "--cluster",
        "main",
        "--user",
        "app",
        "--to",
        "nobody",
        "--yes",
    ];
    let (is_good, text) = drill(&file, &refused);
    assert!(
        !is_good && text.contains("Patroni refuses: status "),
        "{text}"
    );
    assert_eq!(patroni.sql(next, left), "0", "{text}");
}

#[test]
fn a_drill_refuses_politely_what_it_cannot_do() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let file = pooler.folder.join("pooler.toml");
    let refused = |arguments: &[&str], why: &str| {
        let (is_good, text) = drill(&file, arguments);
        assert!(!is_good && text.contains(why), "{text}");
    };
    refused(&["--cluster", "other"], "(clusters: main)");
    refused(
        &["--cluster", "main"],
        "name Patroni in clusters.main.patroni",
    );
    refused(&[], "--cluster");
    // The same, kept by Patroni, but nobody listens there.
    let told = std::fs::read_to_string(&file).unwrap();
    let told = told
        .replace(
            "[clusters.main]",
            "[clusters.main]\npatroni = [\"http://127.0.0.1:1\"]",
        )
        .replace(&format!("listen_port = {}", pooler.port), "listen_port = 1");
    let other = pooler.folder.join("other.toml");
    std::fs::write(&other, told).unwrap();
    let (is_good, text) = drill(&other, &["--cluster", "main", "--user", "app", "--yes"]);
    assert!(!is_good && text.contains("does not let admin in"), "{text}");
}
