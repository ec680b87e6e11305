//! A database may have several hosts, and a host several addresses that change. A server at an address that its name has lost
//! is never lent again once that is known, and a dead host never keeps clients from a living one.

use crate::support::dns::NameServer;
use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{Server, postgres};
use crate::support::relay::Relay;
use crate::support::wire::{Client, PATIENCE};

/// A host at which nobody listens.
const DEAD: &str = "127.0.0.77";

fn hosts(list: &str, port: u16) -> Config {
    let server = Server {
        host: list.into(),
        port,
    };
    config().server("app", server, "app")
}

/// Opens `count` servers at once, each held by one of the clients.
fn hold(pooler: &Pooler, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| pooler.connect()).collect();
    for client in &mut clients {
        client.query("begin").good();
    }
    clients
}

/// The addresses of the servers that are not to be closed, in order.
fn addresses(pooler: &Pooler) -> Vec<String> {
    let servers = pooler.show("SHOW SERVERS");
    let rows = servers.column("addr").into_iter();
    let closing = servers.column("close_needed");
    let mut all: Vec<_> = rows
        .zip(closing)
        .filter(|(_, closing)| closing == "0")
        .map(|(address, _)| address)
        .collect();
    all.sort();
    all
}

fn with_names(names: &NameServer, host: &str, port: u16) -> Config {
    hosts(host, port)
        .pooler("resolv_conf", "{folder}/resolv.conf")
        .file("resolv.conf", &names.resolv_conf())
}

#[test]
fn new_servers_go_round_the_hosts_of_a_list() {
    let relays = two_relays();
    let pooler = hosts("127.0.0.2,127.0.0.3", relays[0].port()).start();
    let held = hold(&pooler, 4);
    let all = addresses(&pooler);
    assert_eq!(all, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
    let shown = pooler.show("SHOW DATABASES").row_where("name", "app");
    assert_eq!(shown.unwrap()["load_balance_hosts"], "round-robin");
    drop(held);
}

/// Two relays to the shared PostgreSQL at the same port of two addresses.
fn two_relays() -> [Relay; 2] {
    let server = postgres().server();
    let [first, second] = Relay::pair(&server, &server);
    [second, first]
}

#[test]
fn each_host_of_a_list_may_have_its_port() {
    let first = Relay::start("127.0.0.2", &postgres().server());
    let second = Relay::start("127.0.0.3", &postgres().server());
    let ports = format!("{},{}", first.port(), second.port());
    let pooler = hosts("127.0.0.2, 127.0.0.3", 1)
        .database("app", "port", ports)
        .start();
    let held = hold(&pooler, 2);
    assert_eq!(addresses(&pooler), ["127.0.0.2", "127.0.0.3"]);
    drop(held);
}

#[test]
fn without_balancing_one_host_is_kept_until_it_fails() {
    let [second, first] = two_relays();
    let pooler = hosts("127.0.0.2,127.0.0.3", first.port())
        .database("app", "load_balance_hosts", "disable")
        .start();
    let held = hold(&pooler, 3);
    assert_eq!((first.taken(), second.taken()), (3, 0));
    drop(held);
    drop(first);
    let held = hold(&pooler, 3);
    assert_eq!(addresses(&pooler), ["127.0.0.3"; 3]);
    drop(held);
}

#[test]
fn a_dead_host_keeps_nobody_from_the_living_ones() {
    let relay = Relay::start("127.0.0.2", &postgres().server());
    let pooler = hosts(&format!("{DEAD},127.0.0.2,{DEAD}"), relay.port()).start();
    let held = hold(&pooler, 5);
    assert_eq!(addresses(&pooler), ["127.0.0.2"; 5]);
    drop(held);
}

#[test]
fn a_list_of_dead_hosts_is_told_when_all_were_tried() {
    let relay = Relay::start("127.0.0.2", &postgres().server());
    let port = relay.port();
    let pooler = hosts(&[DEAD; 3].join(","), port).start();
    let fault = pooler.login().refused();
    assert_eq!(fault.code, "08006");
    assert!(fault.says(DEAD), "{fault:?}");
}

#[test]
fn servers_are_spread_over_the_addresses_of_a_name() {
    let (names, relays) = (NameServer::start(), two_relays());
    names.set("db.example.test", &["127.0.0.2", "127.0.0.3"]);
    let pooler = with_names(&names, "db.example.test", relays[0].port()).start();
    let held = hold(&pooler, 4);
    let all = addresses(&pooler);
    assert_eq!(all, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
    assert_eq!(names.asked(), 1, "the answer is kept for dns_max_ttl");
    let shown = pooler.show("SHOW DNS_HOSTS");
    assert_eq!(shown.column("hostname"), ["db.example.test"]);
    assert_eq!(shown.column("addrs"), ["127.0.0.2:0,127.0.0.3:0"]);
    let left: u64 = shown.column("ttl")[0].parse().unwrap();
    assert!((1..=15).contains(&left), "{left}");
    drop(held);
}

#[test]
fn an_address_that_does_not_answer_leaves_time_for_the_others_of_its_name() {
    let (names, relay) = (
        NameServer::start(),
        Relay::start("127.0.0.2", &postgres().server()),
    );
    // Nobody answers there: the network is reserved for documentation.
    names.set("db.example.test", &["192.0.2.1", "127.0.0.2"]);
    let pooler = with_names(&names, "db.example.test", relay.port())
        .pooler("server_connect_timeout", "4s")
        .start();
    let held = hold(&pooler, 2);
    assert_eq!(addresses(&pooler), ["127.0.0.2"; 2]);
    drop(held);
}

#[test]
fn servers_at_an_address_that_a_name_has_lost_are_closed() {
    let (names, [second, first]) = (NameServer::start(), two_relays());
    names.set("db.example.test", &["127.0.0.2"]);
    let pooler = with_names(&names, "db.example.test", first.port())
        .pooler("dns_max_ttl", "100ms")
        .start();
    let mut client = pooler.connect();
    client.query("begin").good();
    assert_eq!(addresses(&pooler), ["127.0.0.2"]);
    names.set("db.example.test", &["127.0.0.3"]);
    // Others need a new server, for which the name is looked up again.
    eventually(PATIENCE, "the new address is used", || {
        drop(hold(&pooler, 2));
        second.taken() > 0
    });
    eventually(PATIENCE, "the old one is marked", || {
        addresses(&pooler)
            .iter()
            .all(|address| address == "127.0.0.3")
    });
    assert_eq!(
        client.value("select 'goes on'"),
        "goes on",
        "to the end of its transaction"
    );
    client.query("commit").good();
    eventually(PATIENCE, "the server at the old address is gone", || {
        !pooler
            .show("SHOW SERVERS")
            .column("addr")
            .contains(&"127.0.0.2".to_owned())
    });
}

#[test]
fn a_zone_whose_serial_number_grows_is_looked_up_at_once() {
    let (names, [_second, first]) = (NameServer::start(), two_relays());
    names.set("db.example.test", &["127.0.0.2"]);
    names.serial("example.test", 7);
    let pooler = with_names(&names, "db.example.test", first.port())
        .pooler("dns_max_ttl", "1h")
        .pooler("dns_zone_check_period", "100ms")
        .start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    eventually(PATIENCE, "the zone is known", || {
        let zones = pooler.show("SHOW DNS_ZONES");
        zones.column("serial") == ["7"] && zones.column("count") == ["1"]
    });
    names.set("db.example.test", &["127.0.0.3"]);
    names.serial("example.test", 8);
    eventually(PATIENCE, "the idle server is closed", || {
        addresses(&pooler).is_empty()
    });
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(addresses(&pooler), ["127.0.0.3"]);
}

#[test]
fn a_name_that_does_not_exist_is_told_and_remembered_until_its_time_is_over() {
    let (names, relay) = (
        NameServer::start(),
        Relay::start("127.0.0.2", &postgres().server()),
    );
    let pooler = with_names(&names, "db.example.test", relay.port())
        .pooler("dns_nxdomain_ttl", "2s")
        .start();
    let fault = pooler.login().refused();
    assert!(fault.says("DNS lookup failed"), "{fault:?}");
    assert_eq!(names.asked(), 1, "a failure is kept for dns_nxdomain_ttl");
    names.set("db.example.test", &["127.0.0.2"]);
    eventually(PATIENCE, "the name is asked for again", || {
        pooler.login().try_connect().is_ok()
    });
    assert_eq!(addresses(&pooler), ["127.0.0.2"]);
}
