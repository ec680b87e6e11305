//! What an operator has done at the console: PAUSE, KILL, DISABLE, SHUTDOWN and their like.

use std::thread;
use std::time::Duration;

use super::{cell, single};
use crate::support::eventually;
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE, batch};

/// Sends a command that is not answered before the test lets it be.
fn begin(pooler: &Pooler, command: &str) -> Client {
    let mut client = pooler.console();
    client.send(batch().query(command));
    client
}

#[test]
fn pause_waits_for_transactions_and_resume_serves_who_queued() {
    let pooler = single().start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    for (pause, resume) in [("PAUSE", "RESUME"), ("PAUSE app", "RESUME app")] {
        busy.query("begin").good();
        let mut pausing = begin(&pooler, pause);
        idle.send(batch().query("select 'later'"));
        pooler.pool_shows("cl_waiting", 1);
        assert_eq!(busy.value("select 'goes on'"), "goes on");
        busy.query("commit").good();
        assert_eq!(pausing.until_ready().good().tags, ["PAUSE"]);
        pooler.pool_shows("cl_waiting", 1);
        pooler.pool_shows("sv_idle", 0);
        assert_eq!(pooler.pool("sv_active"), 0, "{pause}: no server is left");
        assert_eq!(pooler.show(resume).tags, ["RESUME"]);
        assert_eq!(idle.until_ready().value(), "later", "{resume}");
    }
}

#[test]
fn pause_and_resume_refuse_what_makes_no_sense() {
    let pooler = single().start();
    let mut console = pooler.console();
    assert!(console.query("RESUME").error().says("not paused"));
    assert!(
        console
            .query("PAUSE nowhere")
            .error()
            .says("no such database: nowhere")
    );
    assert!(console.query("RESUME app").error().says("not paused"));
    console.query("PAUSE").good();
    assert!(
        console
            .query("PAUSE")
            .error()
            .says("already suspended/paused")
    );
    assert_eq!(
        cell(&pooler, "SHOW STATE", ("key", "paused"), "value"),
        "yes"
    );
    console.query("RESUME").good();
    assert_eq!(
        cell(&pooler, "SHOW STATE", ("key", "paused"), "value"),
        "no"
    );
}

#[test]
fn reconnect_replaces_servers_between_transactions_and_wait_close_waits_for_it() {
    let pooler = config().database("app", "pool_size", 2).start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("begin").good();
    let (kept, replaced) = (busy.server(), idle.server());
    assert_eq!(pooler.show("RECONNECT").tags, ["RECONNECT"]);
    assert_ne!(idle.server(), replaced);
    assert_eq!(busy.server(), kept, "not under a transaction");

    let waiting = begin(&pooler, "WAIT_CLOSE");
    thread::scope(|scope| {
        let answer = scope.spawn(move || {
            let mut waiting = waiting;
            waiting.until_ready().good().tags
        });
        eventually(PATIENCE, "it is marked", || {
            pooler
                .show("SHOW SERVERS")
                .column("close_needed")
                .contains(&"1".to_owned())
        });
        assert!(!answer.is_finished(), "a server is still to be closed");
        busy.query("commit").good();
        assert_eq!(answer.join().unwrap(), ["WAIT_CLOSE"]);
    });
    assert_ne!(busy.server(), kept);
    assert_eq!(
        pooler.show("WAIT_CLOSE app").tags,
        ["WAIT_CLOSE"],
        "at once, when there is nothing to wait for"
    );
}

#[test]
fn kill_ends_clients_and_servers_of_a_database_until_resume() {
    let pooler = single()
        .server("spared", postgres().server(), "app")
        .start();
    let mut spared = pooler.login().database("spared").connect();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("begin").good();
    assert_eq!(pooler.show("KILL app").tags, ["KILL"]);
    assert_eq!(busy.ended().code, "57P01");
    assert_eq!(idle.ended().code, "57P01");
    assert_eq!(spared.value("select 'spared'"), "spared");
    assert_eq!(
        cell(&pooler, "SHOW DATABASES", ("name", "app"), "paused"),
        "1"
    );
    pooler.show("RESUME app");
    pooler.serves();
    assert!(
        pooler
            .console()
            .query("KILL nowhere")
            .error()
            .says("no such database: nowhere")
    );
}

#[test]
fn kill_client_ends_one_client() {
    let pooler = single().start();
    let (mut one, mut other) = (
        pooler
            .login()
            .parameter("application_name", "doomed")
            .connect(),
        pooler.connect(),
    );
    let id = cell(
        &pooler,
        "SHOW CLIENTS",
        ("application_name", "doomed"),
        "id",
    );
    assert_eq!(
        pooler.show(&format!("KILL_CLIENT {id}")).tags,
        ["KILL_CLIENT"]
    );
    assert_eq!(one.ended().code, "57P01");
    assert_eq!(other.value("select 'spared'"), "spared");
    assert!(
        pooler
            .console()
            .query(&format!("KILL_CLIENT {id}"))
            .error()
            .says("client not found")
    );
}

#[test]
fn disable_refuses_new_clients_and_spares_old_ones() {
    let pooler = single().start();
    let mut old = pooler.connect();
    assert_eq!(pooler.show("DISABLE app").tags, ["DISABLE"]);
    let fault = pooler.login().refused();
    assert!(fault.says("app") && fault.says("disabled"), "{fault:?}");
    assert_eq!(old.value("select 'old'"), "old");
    assert_eq!(pooler.show("ENABLE app").tags, ["ENABLE"]);
    pooler.serves();
    let mut console = pooler.console();
    assert!(
        console
            .query("DISABLE")
            .error()
            .says("database is required")
    );
    assert!(
        console
            .query("DISABLE nowhere")
            .error()
            .says("no such database: nowhere")
    );
}

#[test]
fn shutdown_ends_the_process_at_once() {
    let pooler = single().start();
    let mut busy = pooler.connect();
    busy.query("begin").good();
    let mut console = pooler.console();
    console.send(batch().query("SHUTDOWN"));
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
}

#[test]
fn shutdown_wait_for_clients_serves_to_the_last() {
    let pooler = single().start();
    let (mut one, other) = (pooler.connect(), pooler.connect());
    let mut console = pooler.console();
    assert_eq!(
        console.query("SHUTDOWN WAIT_FOR_CLIENTS").good().tags,
        ["SHUTDOWN"]
    );
    drop(console);
    eventually(PATIENCE, "nobody new is let in", || {
        pooler.login().try_connect().is_err()
    });
    assert_eq!(one.value("select 'served to the end'"), "served to the end");
    drop(other);
    assert_eq!(one.value("select 'still'"), "still");
    assert!(pooler.is_running());
    drop(one);
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
}

#[test]
fn shutdown_wait_for_servers_finishes_transactions_only() {
    let pooler = config().database("app", "pool_size", 2).start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("begin").good();
    let mut console = pooler.console();
    assert_eq!(
        console.query("SHUTDOWN WAIT_FOR_SERVERS").good().tags,
        ["SHUTDOWN"]
    );
    // It may be told at once or when it asks for a server.
    drop(idle.wire.send_bytes(&batch().query("select 1").0));
    assert_eq!(idle.ended().code, "57P01");
    assert_eq!(busy.value("select 'to its end'"), "to its end");
    busy.send(batch().query("commit"));
    assert_eq!(busy.until(b'C').tags, ["COMMIT"]);
    assert_eq!(pooler.exit(Duration::from_secs(10)).code(), Some(0));
}
