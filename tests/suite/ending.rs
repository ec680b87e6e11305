//! What becomes of a statement that nobody waits for: it must never be cancelled where it may be committing, and its server
//! keeps its seat until PostgreSQL has ended it.

use std::time::Duration;

use crate::support::eventually;
use crate::support::pooler::config;
use crate::support::postgres::{Postgres, postgres};
use crate::support::wire::{PATIENCE, batch};

/// How long a pooler may take to find that a backend does not end: twice its own patience, on a busy machine.
const FOUND: Duration = Duration::from_secs(30);

#[test]
fn a_commit_that_waits_for_its_standby_is_never_cancelled() {
    let server = Postgres::start();
    let database = server.database();
    let pooler = config()
        .server("app", server.server(), &database)
        .database("app", "pool_size", 1)
        .pooler("query_timeout", "400ms")
        .pooler("query_wait_timeout", "60s")
        .start();
    pooler.connect().query("create table t (id int)").good();
    server.run("alter system set synchronous_standby_names = 'nobody'");
    server.run("select pg_reload_conf()");
    let mut watch = server.watch("postgres");
    eventually(PATIENCE, "commits wait for a standby", || {
        watch.value("show synchronous_standby_names") == "nobody"
    });
    let waits = format!(
        "select count(*) from pg_stat_activity where datname = '{database}' and wait_event = 'SyncRep'"
    );

    let mut client = pooler.connect();
    client.query("set synchronous_commit = on").good();
    client.send(batch().query("insert into t values (1)"));
    let fault = client.ended();
    assert_eq!(fault.code, "57014", "it is told no success: {fault:?}");
    eventually(FOUND, "the log says that the backend goes on", || {
        pooler.log().contains("a backend goes on")
    });
    assert_eq!(watch.value(&waits), "1", "it waits on, uncancelled");

    // Its seat is taken meanwhile: of the next client PostgreSQL hears nothing.
    let mut next = pooler.login().connect();
    next.send(batch().query("select count(*) from t"));
    pooler.pool_shows("cl_waiting", 1);
    assert_eq!(server.count(&database), 1);
    server.run("alter system reset synchronous_standby_names");
    server.run("select pg_reload_conf()");
    assert_eq!(
        next.until_ready().value(),
        "1",
        "the row was there all along"
    );
}

#[test]
fn a_query_whose_client_vanished_ends_soon_and_the_pool_is_never_larger_than_its_size() {
    let database = postgres().database();
    let pooler = config()
        .app_is(&database)
        .database("app", "pool_size", 1)
        .start();
    let mut client = pooler.connect();
    let marker = format!("vanishing_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(600)")));
    postgres().runs(&marker);
    client.wire.vanish();
    let mut next = pooler.connect();
    next.send(batch().query("select 'next'"));
    pooler.pool_shows("cl_waiting", 1);
    assert_eq!(postgres().count(&database), 1, "one seat, one server");
    assert_eq!(next.until_ready().value(), "next");
    assert_eq!(postgres().count(&database), 1);
}
