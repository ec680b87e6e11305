//! Poolers that share an address pass cancel requests on to the one they are meant for. A request that comes to the wrong
//! pooler never cancels anything there, and never goes round for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::tls::Authority;
use crate::support::wire::{
    Address, CANCEL_REQUEST, Client, PATIENCE, SSL_REQUEST, VERSION_3_2, batch, cancel,
};
use crate::support::{eventually, folder};

/// The configuration of pooler `id` of two that share a port, each with a Unix socket of its own below `place`.
fn one_of_two(place: &Path, id: i32) -> Config {
    let own = place.join(id.to_string());
    std::fs::create_dir_all(&own).unwrap();
    let mut config = config()
        .pooler("so_reuseport", true)
        .pooler("peer_id", id)
        .pooler("unix_socket_dir", own.as_path());
    for peer in [1, 2] {
        let there: PathBuf = place.join(peer.to_string());
        let section = format!("peers.{peer}");
        config = config
            .set(&section, "host", there.as_path())
            .set(&section, "port", 0);
    }
    config
}

/// Two poolers on one port.
fn two() -> [Pooler; 2] {
    let place = folder("peers");
    let configs = [1, 2].map(|id| one_of_two(&place, id));
    let port = pooler::cli::cluster::free_port().unwrap();
    configs.map(|config| {
        let config = [1, 2].into_iter().fold(config, |config, peer| {
            config.set(&format!("peers.{peer}"), "port", port)
        });
        let pooler = config.start_at(port);
        eventually(PATIENCE, "it is up", || pooler.log().contains("process up"));
        pooler
    })
}

/// Which pooler gave the client its key.
fn home(client: &Client) -> u16 {
    u16::from_le_bytes([client.welcome.key[1], client.welcome.key[2]])
}

/// A client of each of the two, however the system deals connections.
fn a_client_of_each(pooler: &Pooler, version: i32) -> [Client; 2] {
    let mut of_each = [None, None];
    eventually(PATIENCE, "both poolers get clients", || {
        let client = pooler.login().version(version).connect();
        let home = usize::from(home(&client));
        of_each[home - 1].get_or_insert(client);
        of_each.iter().all(Option::is_some)
    });
    of_each.map(Option::unwrap)
}

fn sleep(client: &mut Client, marker: &str) {
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(marker);
}

/// The Unix socket of the pooler that is not the client's.
fn wrong_door(poolers: &[Pooler; 2], client: &Client) -> Address {
    let wrong = &poolers[2 - usize::from(home(client))];
    let text = std::fs::read_to_string(wrong.folder.join("pooler.toml")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("unix_socket_dir"));
    let dir = line.unwrap().split('"').nth(1).unwrap();
    Address::Unix(Path::new(dir).join(format!(".s.PGSQL.{}", wrong.port)))
}

#[test]
fn a_cancel_that_comes_to_the_wrong_pooler_reaches_the_query() {
    let poolers = two();
    for version in [196_608, VERSION_3_2] {
        for mut client in a_client_of_each(&poolers[0], version) {
            let marker = format!("peer_{}_{version}_{}", home(&client), poolers[0].port);
            sleep(&mut client, &marker);
            let key = client.welcome.key.clone();
            cancel(&wrong_door(&poolers, &client), &key);
            assert_eq!(client.until_ready().error().code, "57014");
            assert_eq!(client.value("select 'goes on'"), "goes on");
        }
    }
}

#[test]
fn on_a_shared_port_every_cancel_reaches_its_query_wherever_it_lands() {
    let poolers = two();
    for mut client in a_client_of_each(&poolers[0], 196_608) {
        for round in 0..8 {
            let marker = format!("shared_{}_{round}_{}", home(&client), poolers[0].port);
            sleep(&mut client, &marker);
            client.cancel();
            assert_eq!(client.until_ready().error().code, "57014");
        }
    }
}

#[test]
fn a_request_that_was_passed_on_too_often_or_names_no_peer_is_dropped() {
    let poolers = two();
    let [mut client, _] = a_client_of_each(&poolers[0], 196_608);
    let marker = format!("too_often_{}", poolers[0].port);
    sleep(&mut client, &marker);
    let door = wrong_door(&poolers, &client);
    let mut tired = client.welcome.key.clone();
    tired[7] &= !3;
    cancel(&door, &tired);
    let mut stranger = client.welcome.key.clone();
    stranger[1] = 99;
    cancel(&door, &stranger);
    postgres().runs(&marker);
    let mut last = client.welcome.key.clone();
    last[7] = (last[7] & !3) | 1;
    cancel(&door, &last);
    assert_eq!(client.until_ready().error().code, "57014");
}

#[test]
fn peers_that_speak_tls_with_their_clients_speak_it_with_each_other() {
    let authority = Authority::new("peers");
    let identity = authority.sign("pooler", &["127.0.0.1"]);
    let config = |id: i32| {
        config()
            .pooler("peer_id", id)
            .pooler("client_tls_sslmode", "prefer")
            .pooler("client_tls_cert_file", "{folder}/cert.pem")
            .pooler("client_tls_key_file", "{folder}/key.pem")
            .file("cert.pem", &identity.certificate)
            .file("key.pem", &identity.key)
    };
    let first = config(1).start();
    let second = config(2)
        .set("peers.1", "host", "127.0.0.1")
        .set("peers.1", "port", first.port)
        .set("peers.1", "pool_size", 1)
        .start();
    let mut client = first.connect();
    let marker = format!("tls_peer_{}", first.port);
    sleep(&mut client, &marker);
    cancel(&second.address(), &client.welcome.key);
    assert_eq!(client.until_ready().error().code, "57014");

    let peers = second.show("SHOW PEERS");
    assert_eq!(peers.column("peer_id"), ["1"]);
    assert_eq!(peers.column("host"), ["127.0.0.1"]);
    assert_eq!(peers.column("port"), [first.port.to_string()]);
    assert_eq!(peers.column("pool_size"), ["1"]);
    let pools = second.show("SHOW PEER_POOLS");
    assert_eq!(pools.column("peer_id"), ["1"]);
    assert_eq!(pools.column("cl_active_cancel_req"), ["0"]);
}

/// A pooler with one peer, at which `listener` listens.
fn beside(listener: &TcpListener) -> Config {
    config()
        .pooler("peer_id", 1)
        .set("peers.2", "host", "127.0.0.1")
        .set("peers.2", "port", listener.local_addr().unwrap().port())
        .set("peers.2", "pool_size", 1)
}

/// A key that pooler 2 gave.
const KEY: [u8; 8] = [0, 2, 0, 9, 9, 9, 9, 0x73];

#[test]
fn a_peer_is_asked_for_tls_first_and_gets_the_key_with_one_step_less() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pooler = beside(&listener).start();
    std::thread::scope(|scope| {
        scope.spawn(|| cancel(&pooler.address(), &KEY));
        let (mut socket, _) = listener.accept().unwrap();
        let mut packet = [0; 8];
        socket.read_exact(&mut packet).unwrap();
        assert_eq!(packet[4..], SSL_REQUEST.to_be_bytes());
        socket.write_all(b"N").unwrap();
        let mut packet = [0; 16];
        socket.read_exact(&mut packet).unwrap();
        assert_eq!(packet[4..8], CANCEL_REQUEST.to_be_bytes());
        assert_eq!(packet[8..], [0, 2, 0, 9, 9, 9, 9, 0x72]);
    });
}

#[test]
fn requests_beyond_the_size_of_a_peers_pool_wait_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pooler = beside(&listener)
        .pooler("cancel_wait_timeout", "60s")
        .start();
    let shows = |column: &str| pooler.show("SHOW PEER_POOLS").column(column);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| cancel(&pooler.address(), &KEY));
        }
        eventually(PATIENCE, "one is passed on, one waits", || {
            shows("cl_active_cancel_req") == ["1"] && shows("cl_waiting_cancel_req") == ["1"]
        });
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
    });
    assert_eq!(shows("cl_active_cancel_req"), ["0"]);
    assert_eq!(shows("cl_waiting_cancel_req"), ["0"]);
}

#[test]
fn a_peer_that_does_not_answer_holds_a_request_no_longer_than_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let pooler = beside(&silent)
        .pooler("cancel_wait_timeout", "300ms")
        .start();
    cancel(&pooler.address(), &KEY);
    pooler.serves();
}
