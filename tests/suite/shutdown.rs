//! How the process ends.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::pooler::{Config, config};
use crate::support::postgres::postgres;
use crate::support::wire::{PATIENCE, batch};

fn pair() -> Config {
    config().database("app", "pool_size", 2)
}

#[test]
fn sigterm_ends_idle_clients_and_lets_transactions_finish() {
    let database = postgres().database();
    let pooler = pair().app_is(&database).start();
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("create table t (id int)").good();
    idle.query("select 1").good();
    busy.query("begin").good();
    busy.query("insert into t values (1)").good();

    pooler.signal("TERM");
    assert_eq!(idle.ended().code, "57P01");
    assert!(
        pooler.login().try_connect().is_err(),
        "nobody new is let in"
    );
    busy.query("insert into t values (2)").good();
    assert!(pooler.is_running());

    let reply = busy.query("commit").good();
    assert_eq!(
        (reply.tags[0].as_str(), reply.status),
        ("COMMIT", 'I'),
        "the answer comes before the end"
    );
    assert_eq!(busy.ended().code, "57P01");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    assert_eq!(
        postgres().watch(&database).value("select count(*) from t"),
        "2"
    );
}

#[test]
fn sigterm_lets_a_running_query_be_answered() {
    let pooler = pair().start();
    let mut client = pooler.connect();
    let marker = format!("answered_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(0.5)")));
    postgres().runs(&marker);
    pooler.signal("TERM");
    assert_eq!(client.until_ready().value(), marker);
    assert_eq!(client.ended().code, "57P01");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
}

#[test]
fn sigterm_lets_a_pipeline_and_a_copy_come_to_their_end() {
    let pooler = pair().app_is(&postgres().database()).start();
    let (mut copying, mut piping) = (pooler.connect(), pooler.connect());
    copying.query("create table t (id int)").good();
    copying.send(batch().query("copy t from stdin").copy_data(b"1\n"));
    assert_eq!(copying.frame().tag, b'G');
    piping.send(batch().parse("", "select 'half'").run("", &[]).flush());
    assert_eq!(piping.until(b'C').shape, "12DC");
    pooler.signal("TERM");
    eventually(PATIENCE, "it drains", || {
        pooler.login().try_connect().is_err()
    });
    assert_eq!(
        copying.ask(batch().copy_data(b"2\n").copy_done()).tags,
        ["COPY 2"]
    );
    assert_eq!(piping.ask(batch().run("", &[]).sync()).value(), "half");
    assert_eq!(
        (copying.ended().code, piping.ended().code),
        ("57P01".into(), "57P01".into())
    );
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
}

#[test]
fn shutdown_timeout_bounds_the_draining() {
    let pooler = pair().pooler("shutdown_timeout", "700ms").start();
    let mut stubborn = pooler.connect();
    stubborn.query("begin").good();
    let began = Instant::now();
    pooler.signal("TERM");
    assert_eq!(stubborn.ended().code, "57P01");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(600) && took < Duration::from_secs(4),
        "it took {took:?}"
    );
}

#[test]
fn with_nobody_there_sigterm_ends_it_at_once() {
    let pooler = pair().pooler("shutdown_timeout", "60s").start();
    pooler.connect().query("select 1").good();
    let began = Instant::now();
    pooler.signal("TERM");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn sigint_lets_transactions_finish_and_a_second_signal_does_not() {
    let pooler = pair().pooler("shutdown_timeout", "60s").start();
    let mut busy = pooler.connect();
    busy.query("begin").good();
    pooler.signal("INT");
    eventually(PATIENCE, "nobody new is let in", || {
        pooler.login().try_connect().is_err()
    });
    assert_eq!(busy.value("select 'still served'"), "still served");
    pooler.signal("INT");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
}

#[test]
fn sigquit_ends_it_at_once() {
    let pooler = pair().pooler("shutdown_timeout", "60s").start();
    let mut busy = pooler.connect();
    busy.query("begin").good();
    let began = Instant::now();
    pooler.signal("QUIT");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn sigusr1_pauses_and_sigusr2_resumes() {
    let pooler = pair().start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    pooler.signal("USR1");
    eventually(PATIENCE, "it is paused", || {
        pooler
            .show("SHOW STATE")
            .row_where("key", "paused")
            .is_some_and(|row| row["value"] == "yes")
    });
    client.send(batch().query("select 'later'"));
    pooler.pool_shows("cl_waiting", 1);
    pooler.signal("USR2");
    assert_eq!(client.until_ready().value(), "later");
}

#[test]
fn the_unix_socket_is_gone_after_the_end_and_in_the_way_of_no_start() {
    let pooler = pair().pooler("unix_socket_dir", "{folder}").start();
    let socket = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
    assert!(socket.exists());
    pooler.signal("TERM");
    assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn servers_are_left_in_good_order() {
    let database = postgres().database();
    let pooler = pair().app_is(&database).start();
    pooler.connect().query("select 1").good();
    assert_eq!(postgres().count(&database), 1);
    pooler.signal("TERM");
    pooler.exit(PATIENCE);
    eventually(PATIENCE, "no server is left behind", || {
        postgres().count(&database) == 0
    });
}
