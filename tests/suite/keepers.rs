//! Those who keep a cluster may be wrong, silent, or gone: what they say is never more than a hint, and never harms.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::cluster::Scene;
use crate::support::eventually;
use crate::support::patroni::{Patroni, SCOPE};
use crate::support::pooler::{Config, Pooler, Raw};
use crate::support::tls::Authority;
use crate::support::wire::Client;

const LONG: Duration = Duration::from_secs(60);

/// A server that does `answer` with each connection, for as long as the process lives; its address.
fn server(answer: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

fn heard(mut stream: &TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

fn hangs(stream: TcpStream) {
    heard(&stream);
    let _ = (&stream).read_to_end(&mut Vec::new());
}

fn says(mut stream: &TcpStream, text: &str) {
    heard(stream);
    let _ = stream.write_all(text.as_bytes());
}

fn redirects(stream: TcpStream) {
    says(
        &stream,
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/cluster\r\nContent-Length: 0\r\n\r\n",
    );
}

fn babbles(stream: TcpStream) {
    says(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"membe\u{0}",
    );
}

fn floods(mut stream: TcpStream) {
    says(&stream, "HTTP/1.1 200 OK\r\n\r\n");
    let piece = vec![b'['; 1 << 20];
    for _ in 0..100 {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
}

/// Names a member that is none, and no member that is one.
fn lies(stream: TcpStream) {
    let body = r#"{"members": [{"name": "x", "role": "leader", "host": "127.0.0.1", "port": 1}]}"#;
    let length = body.len();
    says(
        &stream,
        &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
    );
}

fn phase(pooler: &Pooler) -> String {
    pooler.show("SHOW CLUSTERS").column("phase")[0].clone()
}

#[test]
fn a_patroni_that_hangs_redirects_floods_or_lies_harms_nobody() {
    let scene = Scene::start();
    let all = [hangs, redirects, babbles, floods, lies].map(server);
    let urls: [&str; 5] = std::array::from_fn(|index| all[index].as_str());
    let pooler = scene.config().set("clusters.main", "patroni", urls).start();
    let mut client = pooler.connect();
    eventually(LONG, "the last of them was asked, too", || {
        client.query("insert into t values (1)").good();
        pooler.log().contains("127.0.0.1:1\"") || pooler.log().contains("127.0.0.1:1 ")
    });
    assert_eq!(phase(&pooler), "stable");
    let peak = pooler.memory("VmHWM");
    assert!(peak < 80 << 20, "{peak}");
    client.query("insert into t values (2)").good();
}

/// Tells etcd of the cluster that `scene` is, and that node `leader` leads.
fn tell(patroni: &Patroni, scene: &Scene, leader: usize) {
    for node in 0..3 {
        let url = format!("postgres://127.0.0.1:{}/postgres", scene.ports[node]);
        let member = format!(r#"{{"conn_url": "{url}"}}"#);
        patroni.put(&format!("members/n{node}"), Some(&member));
    }
    patroni.put("leader", Some(&format!("n{leader}")));
    patroni.put("initialize", Some("1"));
}

#[test]
fn etcd_is_asked_over_tls_by_a_user_of_its_own_and_believed_only_then() {
    let scene = Scene::start();
    let authority = Authority::new("keepers");
    let patroni = Patroni::with_secure_keeper(&authority);
    // A leader that is no primary: whoever hears of it holds writes.
    tell(&patroni, &scene, 1);
    patroni.have_users("asker", "secret");
    let endpoint = patroni.secure_keeper();
    let told = |password: &str, ca: &str| {
        let etcd = format!(
            "{{ endpoints = [\"{endpoint}\"], scope = \"{SCOPE}\", user = \"asker\", password = \"{password}\"{ca} }}"
        );
        let config = scene.config().set("clusters.main", "etcd", Raw(etcd));
        config.file("keepers.pem", &authority.pem()).start()
    };
    let pooler = told("secret", ", ca_file = \"{folder}/keepers.pem\"");
    eventually(LONG, "the leader is heard of", || {
        phase(&pooler) == "orphan"
    });
    for (password, ca) in [
        ("wrong", ", ca_file = \"{folder}/keepers.pem\""),
        ("secret", ""),
    ] {
        let pooler = told(password, ca);
        eventually(LONG, "etcd is not heard", || {
            pooler.log().contains("etcd does not answer")
        });
        client_writes(&pooler, 1);
        assert_eq!(phase(&pooler), "stable");
        assert!(!pooler.log().contains("secret"));
    }
}

/// A pooler that is told of its cluster by etcd.
fn told_by(patroni: &Patroni, config: &Config) -> Config {
    let etcd = format!(
        "{{ endpoints = [\"http://{}\"], scope = {SCOPE:?} }}",
        patroni.keeper(0)
    );
    config.clone().set("clusters.main", "etcd", Raw(etcd))
}

#[test]
fn a_lost_leader_key_holds_writes_and_an_etcd_that_knows_nothing_does_not() {
    let scene = Scene::start();
    let mut patroni = Patroni::with_keepers(1);
    tell(&patroni, &scene, 0);
    let pooler = told_by(&patroni, &scene.config()).start();
    let mut client = pooler.connect();
    let enters = |wanted: &str| eventually(LONG, wanted, || phase(&pooler) == wanted);
    enters("stable");
    patroni.put("leader", None);
    enters("orphan");
    patroni.put("leader", Some("n1"));
    // Named, and no primary: nothing is sent there.
    client.send(crate::support::wire::batch().query("insert into t values (1)"));
    enters("orphan");
    patroni.put("leader", Some("n0"));
    client.until_ready().good();
    enters("stable");
    // Somebody leads who is no member.
    patroni.put("leader", Some("n9"));
    enters("orphan");
    let why = pooler.show("SHOW CLUSTERS").column("why").remove(0);
    assert_eq!(why, "its keeper names a leader that is no node here");
    // He is a member of whom nobody can read where he is: what was heard counts for a moment only.
    patroni.put("members/n9", Some(r#"{"role": "primary"}"#));
    enters("stable");
    patroni.put("leader", Some("n0"));
    patroni.put("members/n9", None);
    // Whoever does nothing at the moment may have no leader.
    patroni.put("config", Some(r#"{"pause": true}"#));
    patroni.put("leader", None);
    patroni.put(
        "failover",
        Some(r#"{"leader": "n0", "scheduled_at": "2999-01-01T00:00:00+00:00"}"#),
    );
    let lasts = || {
        for turn in 0..40 {
            client_writes(&pooler, turn);
            assert_eq!(phase(&pooler), "stable");
            thread::sleep(Duration::from_millis(25));
        }
    };
    lasts();
    patroni.put("leader", Some("n0"));
    patroni.put(
        "failover",
        Some(r#"{"leader": "n0", "scheduled_at": "2001-01-01T00:00:00+00:00"}"#),
    );
    lasts();
    tell(&patroni, &scene, 0);
    enters("draining");
    patroni.put("failover", Some("{}"));
    enters("stable");
    // One that was asked for now begins when the leader sets about it.
    patroni.put("failover", Some(r#"{"leader": "n0", "member": "n1"}"#));
    lasts();
    patroni.put("status", Some(r#"{"optime": 1}"#));
    lasts();
    // What it writes while it is still at work tells where its WAL is.
    let url = format!("postgres://127.0.0.1:{}/postgres", scene.ports[0]);
    let at_work = format!(r#"{{"conn_url": "{url}", "xlog_location": 68858784}}"#);
    patroni.put("members/n0", Some(&at_work));
    lasts();
    tell(&patroni, &scene, 0);
    enters("draining");
    patroni.put("failover", Some("{}"));
    enters("stable");
    // It forgets its history, once while it is watched and once while it is away.
    patroni.compact();
    lasts();
    patroni.put("config", Some("{}"));
    patroni.put("leader", None);
    enters("orphan");
    patroni.kill_keeper(0);
    patroni.start_keeper(0);
    patroni.put("leader", Some("n0"));
    patroni.compact();
    enters("stable");
    lasts();
    // etcd goes, and comes back without anything.
    patroni.kill_keeper(0);
    patroni.empty_keeper(0);
    lasts();
    patroni.start_keeper(0);
    eventually(LONG, "it was asked again", || {
        pooler.log().contains("etcd knows nothing")
    });
    lasts();
    tell(&patroni, &scene, 0);
    lasts();
}

#[test]
fn a_configured_node_that_turns_out_to_be_a_member_goes_on_with_etcd_and_without_it() {
    let scene = Scene::start();
    let patroni = Patroni::with_keepers(1);
    tell(&patroni, &scene, 0);
    let name = format!("localhost:{}", scene.ports[0]);
    let alone = scene.config();
    let alone = alone.set("clusters.main", "nodes", [name.as_str()]);
    let pooler = alone.start();
    let mut client = pooler.connect();
    let nodes = || pooler.show("SHOW NODES");
    let goes_on_as_it_was = |client: &mut Client| {
        eventually(LONG, "all is well", || phase(&pooler) == "stable");
        client.query("insert into t values (2); commit").good();
        assert_eq!(
            pooler.show("SHOW CLUSTERS").column("primary"),
            [name.as_str()]
        );
        assert_eq!(pooler.show("SHOW CLUSTERS").column("epoch"), ["1"]);
    };
    client.query("begin; insert into t values (1)").good();
    pooler.reload(&told_by(&patroni, &alone));
    eventually(LONG, "it is known to be the member", || {
        let member = nodes().row_where("node", &scene.address(0));
        member.is_some_and(|member| member["why"].contains("by another address"))
    });
    goes_on_as_it_was(&mut client);
    client.query("begin; insert into t values (1)").good();
    pooler.reload(&alone);
    eventually(LONG, "the members are not known any more", || {
        nodes().column("node") == [name.as_str()]
    });
    goes_on_as_it_was(&mut client);
}

#[test]
fn a_failover_is_followed_where_the_keeper_knows_every_node_by_another_address() {
    let scene = Scene::start();
    let patroni = Patroni::with_keepers(1);
    tell(&patroni, &scene, 0);
    let names: [String; 3] = std::array::from_fn(|node| format!("localhost:{}", scene.ports[node]));
    let nodes: [&str; 3] = std::array::from_fn(|node| names[node].as_str());
    let config = scene.config().set("clusters.main", "nodes", nodes);
    let pooler = told_by(&patroni, &config).start();
    let mut client = pooler.connect();
    client.query("insert into t values (1)").good();
    eventually(
        LONG,
        "every server is known by two addresses, and read by one",
        || {
            let nodes = pooler.show("SHOW NODES");
            let why = nodes.column("why");
            let twice = why.iter().filter(|why| why.contains("by another address"));
            let read = nodes
                .column("readable")
                .into_iter()
                .filter(|it| it == "yes");
            (nodes.rows.len(), twice.count(), read.count()) == (6, 3, 2)
        },
    );
    let primary = |epoch: &str, node: usize| {
        eventually(LONG, "all is well", || phase(&pooler) == "stable");
        let clusters = pooler.show("SHOW CLUSTERS");
        assert_eq!(clusters.column("epoch"), [epoch]);
        assert_eq!(clusters.column("primary"), [nodes[node]]);
    };
    primary("1", 0);
    scene.cluster().restart(0).unwrap();
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (2)").errors.is_empty()
    });
    primary("1", 0);
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    tell(&patroni, &scene, 1);
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (3)").errors.is_empty()
    });
    primary("2", 1);
    let kinds = pooler.show("SHOW FAILOVERS").column("kind");
    let failovers = kinds.iter().filter(|kind| *kind == "failover");
    assert_eq!(failovers.count(), 1, "{kinds:?}");
}

fn client_writes(pooler: &Pooler, id: u64) {
    pooler
        .connect()
        .query(&format!("insert into t values ({id})"))
        .good();
}
