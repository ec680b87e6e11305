//! Connections that speak the replication protocol have a server of their own, which counts as any other and which nobody
//! else ever gets.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{postgres, program};
use crate::support::wire::{Client, Login, PATIENCE, batch};
use crate::support::{eventually, folder};

/// `postgres` may replicate, `app` may not.
fn replicating() -> Config {
    config().user("postgres", "password", "postgres").server(
        "replication",
        postgres().server(),
        "postgres",
    )
}

fn login(pooler: &Pooler) -> Login {
    pooler.login().user("postgres").password("postgres")
}

fn logical(pooler: &Pooler) -> Login {
    login(pooler).parameter("replication", "database")
}

/// A session that is in the middle of a stream.
fn streaming(pooler: &Pooler, name: &str) -> Client {
    let mut client = logical(pooler).connect();
    client.query(&format!("create publication {name}")).good();
    client
        .query(&format!(
            "CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput"
        ))
        .good();
    client.send(batch().query(&format!(
        "START_REPLICATION SLOT {name} LOGICAL 0/0 (proto_version '1', publication_names '{name}')"
    )));
    assert_eq!(client.frame().tag, b'W');
    client
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A folder that PostgreSQL's programs can write to, whoever they run as.
fn open_folder(name: &str) -> PathBuf {
    let folder = folder(name);
    std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Where the write-ahead log ends.
fn end_of_log() -> String {
    postgres()
        .watch("postgres")
        .value("select pg_current_wal_flush_lsn()")
}

/// How many servers of `user` the pooler has in the database of the tests, by PostgreSQL's own count.
fn servers(pooler: &Pooler, user: &str) -> usize {
    let shown = pooler.show("SHOW SERVERS");
    let users = shown.column("user");
    users.iter().filter(|shown| *shown == user).count()
}

#[test]
fn pg_receivewal_receives_the_log_through_the_pooler() {
    let pooler = replicating().start();
    let directory = open_folder("wal");
    let until = end_of_log();
    run(program("pg_receivewal")
        .args(["-h", "127.0.0.1", "-p", &pooler.port.to_string()])
        .args(["-U", "postgres", "--no-loop", "--no-password"])
        .args(["--endpos", &until, "-D"])
        .arg(&directory)
        .env("PGPASSWORD", "postgres"));
    assert!(has_log(&directory), "no segment in {directory:?}");
    eventually(PATIENCE, "its server is closed", || {
        servers(&pooler, "postgres") == 0
    });
}

fn has_log(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .any(|name| name.trim_end_matches(".partial").len() == 24)
}

#[test]
fn pg_recvlogical_receives_changes_through_the_pooler() {
    let pooler = replicating().start();
    let (name, out) = (
        format!("recvlogical_{}", pooler.port),
        open_folder("changes").join("changes"),
    );
    let mut direct = postgres().watch("app");
    direct.query(&format!("create publication {name}")).good();
    let recvlogical = || {
        let mut command = program("pg_recvlogical");
        command
            .args(["-h", "127.0.0.1", "-p", &pooler.port.to_string()])
            .args(["-U", "postgres", "-d", "app", "--no-password", "-S", &name])
            .env("PGPASSWORD", "postgres");
        command
    };
    run(recvlogical().args(["--create-slot", "-P", "pgoutput"]));
    // Written out, for the end of the log is asked for next.
    direct.query("set synchronous_commit = on").good();
    direct
        .query("select pg_logical_emit_message(true, 'words', 'passed on')")
        .good();
    run(recvlogical()
        .args(["--start", "--no-loop", "--endpos", &end_of_log()])
        .args(["-o", "proto_version=1", "-o", "messages=true"])
        .args(["-o", &format!("publication_names={name}"), "-f"])
        .arg(&out));
    let changes = std::fs::read(&out).unwrap();
    let changes = String::from_utf8_lossy(&changes).into_owned();
    assert!(changes.contains("passed on"), "{changes:?}");
    run(recvlogical().arg("--drop-slot"));
    direct.query(&format!("drop publication {name}")).good();
}

#[test]
fn its_server_takes_a_seat_of_the_pool_and_an_idle_one_makes_room() {
    let pooler = replicating().database("app", "pool_size", 2).start();
    let mut others = [(); 2].map(|()| login(&pooler).connect());
    for other in &mut others {
        other.query("begin").good();
    }
    others[0].query("commit").good();
    assert_eq!(servers(&pooler, "postgres"), 2);

    let mut client = logical(&pooler).connect();
    assert_eq!(client.query("IDENTIFY_SYSTEM").good().rows.len(), 1);
    assert_eq!(servers(&pooler, "postgres"), 2, "pool_size holds");

    // The seat is taken for as long as the client stays: with the other one busy nobody gets a third.
    others[0].send(batch().query("select 'at last'"));
    eventually(PATIENCE, "it waits", || {
        let row = pooler.show("SHOW POOLS").row_where("user", "postgres");
        row.unwrap()["cl_waiting"] == "1"
    });
    client.send(batch().terminate());
    assert_eq!(others[0].until_ready().value(), "at last");
}

#[test]
fn where_all_servers_are_busy_it_waits_in_turn() {
    let pooler = replicating().database("app", "pool_size", 1).start();
    let mut busy = login(&pooler).connect();
    busy.query("begin").good();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| logical(&pooler).connect());
        eventually(PATIENCE, "it waits", || {
            pooler
                .show("SHOW LISTS")
                .row_where("list", "login_clients")
                .unwrap()["items"]
                != "0"
        });
        busy.query("commit").good();
        let mut client = waiting.join().unwrap();
        client.query("IDENTIFY_SYSTEM").good();
        assert_eq!(servers(&pooler, "postgres"), 1, "pool_size holds");
    });
}

#[test]
fn its_server_is_never_used_again() {
    let pooler = replicating().database("app", "pool_size", 1).start();
    let client = streaming(&pooler, &format!("not_again_{}", pooler.port));
    let shown = pooler.show("SHOW SERVERS");
    assert_eq!(shown.column("replication"), ["logical"]);
    let pid = shown.column("remote_pid")[0].clone();
    drop(client);
    let mut next = login(&pooler).connect();
    assert_ne!(next.server(), pid);
    next.query(&format!("drop publication not_again_{}", pooler.port))
        .good();
}

#[test]
fn reconnect_ends_it_at_once() {
    let pooler = replicating().start();
    let name = format!("reconnect_{}", pooler.port);
    let mut client = streaming(&pooler, &name);
    let mut idle = logical(&pooler).connect();
    let mut ordinary = login(&pooler).connect();
    ordinary.query("begin").good();
    pooler.show("RECONNECT app");
    for client in [&mut client, &mut idle] {
        let fault = client.ended();
        assert_eq!(fault.code, "57P01", "{fault:?}");
        assert!(fault.says("configuration changed"), "{fault:?}");
    }
    ordinary.query("commit").good();
    ordinary.query(&format!("drop publication {name}")).good();
    let mut again = logical(&pooler).connect();
    again.query("IDENTIFY_SYSTEM").good();
}

#[test]
fn a_reload_that_moves_the_database_ends_it_and_one_that_does_not_leaves_it() {
    let pooler = replicating().start();
    let mut client = logical(&pooler).connect();
    pooler.reload(&replicating().pooler("query_wait_notify", "7s"));
    client.query("IDENTIFY_SYSTEM").good();
    pooler.reload(&replicating().app_is("postgres"));
    assert!(client.ended().says("configuration changed"));
}

#[test]
fn a_refused_replication_login_is_told_and_disturbs_nobody_else() {
    let pooler = replicating().database("app", "pool_size", 1).start();
    let mut busy = pooler.connect();
    busy.query("begin").good();
    let mut waiting = pooler.connect();
    waiting.send(batch().query("select 'unharmed'"));
    pooler.pool_shows("cl_waiting", 1);
    // `app` may not replicate; its login needs the seat that the busy client has, so another database asks.
    let other = replicating().server("other", postgres().server(), "app");
    pooler.reload(&other.database("app", "pool_size", 1));
    let fault = pooler
        .login()
        .database("other")
        .parameter("replication", "true")
        .refused();
    assert_eq!(fault.code, "42501", "{fault:?}");
    busy.query("commit").good();
    assert_eq!(waiting.until_ready().value(), "unharmed");
}

#[test]
fn options_reach_its_server_as_they_are() {
    let pooler = replicating().start();
    let mut client = logical(&pooler)
        .parameter("options", "-c work_mem=7MB -c geqo=off")
        .connect();
    assert_eq!(client.value("SHOW work_mem"), "7MB");
    assert_eq!(client.value("SHOW geqo"), "off");
}

#[test]
fn a_paused_database_holds_it_back_until_resume() {
    let pooler = replicating().start();
    pooler.show("PAUSE app");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| logical(&pooler).connect());
        eventually(PATIENCE, "it waits", || {
            pooler
                .show("SHOW LISTS")
                .row_where("list", "login_clients")
                .unwrap()["items"]
                != "0"
        });
        assert_eq!(servers(&pooler, "postgres"), 0);
        pooler.show("RESUME app");
        waiting.join().unwrap().query("IDENTIFY_SYSTEM").good();
    });
}
