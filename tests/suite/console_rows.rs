//! What the console's rows tell of connections: every one that takes a place is shown, under an id that counts connections.

use std::collections::BTreeMap;
use std::thread;

use crate::support::eventually;
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE, Reply, Wire, batch};

type Row = BTreeMap<String, String>;

fn show(console: &mut Client, what: &str) -> Reply {
    console.query(&format!("SHOW {what}")).good()
}

fn find(console: &mut Client, what: &str, column: &str, value: &str) -> Option<Row> {
    show(console, what).row_where(column, value)
}

fn ids(reply: &Reply) -> Vec<u64> {
    let ids = reply.column("id").into_iter();
    ids.map(|id| id.parse().unwrap()).collect()
}

#[test]
fn ids_count_clients_from_their_first_byte_and_servers_from_their_first_try() {
    let pooler = config().database("app", "pool_mode", "session").start();
    let mut console = pooler.console();
    let first = *ids(&show(&mut console, "CLIENTS")).iter().max().unwrap();
    for round in 0..3 {
        let mut client = pooler.connect();
        client.query("select 1").good();
        // The server of the first round is used again, and no id is spent on it.
        let client_id = first + 1 + round + u64::from(round > 0);
        let mut shown = ids(&show(&mut console, "SOCKETS"));
        shown.retain(|id| ![first, first + 2].contains(id));
        assert_eq!(shown.last(), Some(&client_id), "{shown:?}");
        assert_eq!(ids(&show(&mut console, "SERVERS")), [first + 2]);
    }
    drop(Wire::dial(&pooler.address()).unwrap());
    let mut stranger = Wire::dial(&pooler.address()).unwrap();
    stranger.send_bytes(b"\0").unwrap();
    let newcomer = (first + 6).to_string();
    eventually(PATIENCE, "both that said nothing have spent an id", || {
        let row = find(&mut console, "SOCKETS", "state", "cl_login");
        row.is_some_and(|row| row["id"] == newcomer && row["user"] == "(nouser)")
    });
    assert!(
        find(&mut console, "CLIENTS", "id", &newcomer).is_none(),
        "who is not logged in is no client"
    );
    let row = find(&mut console, "LISTS", "list", "login_clients").unwrap();
    assert_eq!(row["items"], "1");
}

#[test]
fn a_server_tells_whose_application_it_serves() {
    let pooler = config().database("app", "pool_size", 1).start();
    let mut console = pooler.console();
    for name in ["first", "second"] {
        let login = pooler.login().parameter("application_name", name);
        let mut client = login.connect();
        client.query("begin").good();
        let row = find(&mut console, "SERVERS", "state", "active").unwrap();
        assert_eq!(row["application_name"], name);
        client.query("set application_name to 'changed'").good();
        client.query("commit").good();
        eventually(PATIENCE, "the new name is shown", || {
            let row = find(&mut console, "SERVERS", "type", "S").unwrap();
            row["application_name"] == "changed"
        });
    }
}

#[test]
fn a_server_that_logs_in_is_shown_with_where_it_goes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pooler = config()
        .database("app", "host", "127.0.0.1")
        .database("app", "port", port)
        .start();
    let _waiting = pooler.login().begin().unwrap();
    let mut console = pooler.console();
    eventually(PATIENCE, "the server is new", || {
        let row = find(&mut console, "SERVERS", "state", "new");
        row.is_some_and(|row| row["port"] == port.to_string() && row["database"] == "app")
    });
    assert!(find(&mut console, "SOCKETS", "state", "sv_login").is_some());
    let pool = find(&mut console, "POOLS", "database", "app").unwrap();
    assert_eq!(
        (pool["sv_login"].as_str(), pool["cl_waiting"].as_str()),
        ("1", "1")
    );
}

/// A client whose query goes on though nobody waits for it.
fn abandon(pooler: &Pooler, marker: &str) {
    let mut client = pooler.connect();
    client.send(batch().query(&format!("select pg_sleep(60) /* {marker} */")));
    postgres().runs(marker);
    client.wire.vanish();
}

#[test]
fn a_server_that_is_being_closed_is_shown_as_long_as_it_keeps_its_seat() {
    let pooler = config().database("app", "pool_size", 1).start();
    pooler.serves();
    abandon(&pooler, "console_rows_abandoned");
    let mut console = pooler.console();
    eventually(PATIENCE, "it is closing", || {
        let row = find(&mut console, "SERVERS", "state", "closing");
        let pool = find(&mut console, "POOLS", "database", "app").unwrap();
        row.is_some() && pool["sv_closing"] == "1"
    });
    eventually(PATIENCE, "its seat is free", || {
        find(&mut console, "SERVERS", "state", "closing").is_none()
    });
    pooler.serves();
}

#[test]
fn a_client_that_waits_in_vain_for_a_paused_database_hears_of_the_pause() {
    let pooler = config().start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    pooler.show("SET query_wait_timeout = '300ms'");
    assert_eq!(pooler.show("PAUSE app").tags, ["PAUSE"]);
    client.send(batch().query("select 1"));
    let fault = client.ended();
    assert!(
        fault.says("query_wait_timeout") && fault.says("paused") && fault.says("RESUME"),
        "{fault:?}"
    );
    pooler.show("RECONNECT app");
    let fault = pooler.login().refused();
    assert!(
        fault.says("paused"),
        "who waits for the welcome, too: {fault:?}"
    );
}

#[test]
fn operators_who_contradict_each_other_leave_all_pools_of_one_mind() {
    let pooler = config().start();
    pooler.serves();
    thread::scope(|scope| {
        for command in ["PAUSE", "RESUME", "PAUSE", "RESUME"] {
            let pooler = &pooler;
            scope.spawn(move || {
                let mut console = pooler.console();
                for _ in 0..50 {
                    // One of the two is refused where the other was first.
                    console.query(command);
                }
            });
        }
    });
    let mut console = pooler.console();
    let paused = find(&mut console, "STATE", "key", "paused").unwrap();
    if paused["value"] == "yes" {
        console.query("RESUME").good();
    }
    pooler.serves();
}

#[test]
fn an_administrator_is_let_in_beyond_the_limits_of_clients() {
    let pooler = config()
        .database("app", "max_db_client_connections", 1)
        .start();
    let _one = pooler.connect();
    assert!(pooler.login().refused().says("max_db_client_connections"));
    let admin = pooler.login().user("admin").password("admin");
    assert_eq!(admin.connect().value("select 'in'"), "in");
}
