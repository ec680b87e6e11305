//! What has a bound ends there, and says so.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::pooler::{Config, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, Cut, Fault, PATIENCE, Wire, batch};

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

#[track_caller]
fn must_be_fatal(fault: &Fault, code: &str, words: &str) {
    assert_eq!(
        (fault.severity.as_str(), fault.code.as_str()),
        ("FATAL", code),
        "{fault:?}"
    );
    assert!(
        fault.says(words) || fault.says(&words.replace('_', " ")),
        "{fault:?} should say {words}"
    );
}

/// Logs in one after the other until a login is refused; those that succeeded, and the refusal.
fn until_refused(
    mut login: impl FnMut() -> Result<Client, crate::support::wire::Refusal>,
) -> (Vec<Client>, Fault) {
    let mut clients = Vec::new();
    loop {
        assert!(clients.len() < 20, "no login is refused");
        match login() {
            Ok(client) => clients.push(client),
            Err(refusal) => return (clients, refusal.told()),
        }
    }
}

#[test]
fn max_client_conn_refuses_one_too_many_but_not_the_operator() {
    let pooler = config().pooler("max_client_conn", 3).start();
    // The connection by which the harness saw that the pooler listens may not have been noticed gone.
    eventually(PATIENCE, "three clients fit", || {
        until_refused(|| pooler.login().try_connect()).0.len() == 3
    });
    let (mut clients, fault) = until_refused(|| pooler.login().try_connect());
    must_be_fatal(&fault, "53300", "max_client_conn");
    assert_eq!(pooler.console().query("SHOW VERSION").good().rows.len(), 1);
    assert_eq!(clients[0].value("select 'still served'"), "still served");
    clients.pop().unwrap().send(batch().terminate());
    eventually(PATIENCE, "room for one", || {
        pooler.login().try_connect().is_ok()
    });
}

#[test]
fn max_db_client_connections_counts_the_clients_of_a_database() {
    let pooler = config()
        .server("roomy", postgres().server(), "app")
        .database("app", "max_db_client_connections", 2)
        .start();
    let (clients, fault) = until_refused(|| pooler.login().try_connect());
    must_be_fatal(&fault, "53300", "max_db_client_connections");
    assert_eq!(clients.len(), 2);
    let _three: Vec<_> = (0..3)
        .map(|_| pooler.login().database("roomy").connect())
        .collect();
    drop(clients);
    eventually(PATIENCE, "room again", || {
        pooler.login().try_connect().is_ok()
    });
}

#[test]
fn max_user_client_connections_counts_the_clients_of_a_user() {
    let pooler = config()
        .user("other", "password", "other")
        .user("app", "max_user_client_connections", 2)
        .start();
    let (clients, fault) = until_refused(|| pooler.login().try_connect());
    must_be_fatal(&fault, "53300", "max_user_client_connections");
    assert_eq!(clients.len(), 2);
    let other = pooler.login().user("other").password("other");
    let _three: Vec<_> = (0..3).map(|_| other.connect()).collect();
    drop(clients);
    eventually(PATIENCE, "room again", || {
        pooler.login().try_connect().is_ok()
    });
}

#[test]
fn a_refused_login_takes_no_place() {
    let pooler = config()
        .pooler("max_client_conn", 5)
        .pooler("auth_type", "plain")
        .start();
    for _ in 0..20 {
        // Whether the place is free again is known only once the pooler has seen the connection end.
        eventually(PATIENCE, "the password is what it fails by", || {
            pooler.login().password("wrong").refused().code == "28P01"
        });
    }
    pooler.serves();
}

#[test]
fn who_does_not_log_in_in_time_is_sent_away() {
    let pooler = config().pooler("auth_type", "plain").start();
    // Not before there is a server, whose opening takes its time.
    pooler.serves();
    pooler.show("SET client_login_timeout = '300ms'");
    let mut silent = Wire::dial(&pooler.address()).unwrap();
    while silent.read_frame().is_ok() {}
    silent.closed().expect("a silent connection is closed");

    let mut wire = pooler.login().begin().unwrap();
    assert_eq!(
        wire.read_frame().unwrap().tag,
        b'R',
        "the password is asked for"
    );
    let frame = wire.read_frame().expect("an error before the end");
    must_be_fatal(
        &Fault::read(&frame.body),
        &Fault::read(&frame.body).code,
        "client_login_timeout",
    );
    wire.closed().unwrap();

    // Time enough for a login on a busy machine.
    pooler.show("SET client_login_timeout = '2s'");
    let mut client = pooler.connect();
    assert_eq!(
        client.value("select 'in time' from pg_sleep(2.3)"),
        "in time",
        "who is in is in"
    );
}

#[test]
fn client_idle_timeout_ends_who_says_nothing() {
    let pooler = single().pooler("client_idle_timeout", "400ms").start();
    let mut idle = pooler.connect();
    let mut busy = pooler.connect();
    busy.query("begin").good();
    assert_eq!(busy.value("select 'busy' from pg_sleep(0.8)"), "busy");
    must_be_fatal(&idle.ended(), "57P05", "client_idle_timeout");
    busy.query("commit").good();
    must_be_fatal(&busy.ended(), "57P05", "client_idle_timeout");
}

#[test]
fn query_timeout_ends_a_query_that_runs_too_long_and_its_server() {
    let pooler = single().pooler("query_timeout", "2500ms").start();
    let mut client = pooler.connect();
    let server = client.server();
    client.query("begin").good();
    assert_eq!(client.value("select 'short' from pg_sleep(0.1)"), "short");
    client.query("commit").good();

    let began = Instant::now();
    client.send(batch().query("select pg_sleep(60)"));
    must_be_fatal(&client.ended(), "57014", "query_timeout");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        began.elapsed()
    );
    // PostgreSQL notices within a second that nobody wants the answer; until then the old server keeps its seat.
    assert_ne!(pooler.connect().server(), server);
}

#[test]
fn what_limits_queries_is_asked_of_the_user_whom_the_server_knows() {
    let pooler = single()
        .database("app", "user", "other")
        .user("app", "query_timeout", "1ms")
        .user("other", "query_timeout", "300ms")
        .start();
    let mut client = pooler.connect();
    client.query("select pg_sleep(0.05)").good();
    client.send(batch().query("select pg_sleep(4)"));
    must_be_fatal(&client.ended(), "57014", "query_timeout");
}

#[test]
fn a_user_may_have_its_own_query_timeout() {
    let pooler = config()
        .user("app", "query_timeout", "300ms")
        .user("other", "password", "other")
        .start();
    let mut app = pooler.connect();
    let mut other = pooler.login().user("other").password("other").connect();
    app.send(batch().query("select pg_sleep(4)"));
    must_be_fatal(&app.ended(), "57014", "query_timeout");
    assert_eq!(
        other.value("select 'no hurry' from pg_sleep(0.8)"),
        "no hurry"
    );
}

#[test]
fn query_wait_timeout_ends_who_waits_too_long() {
    let pooler = single().start();
    let (mut holder, mut waiting) = (pooler.connect(), pooler.connect());
    holder.query("begin").good();
    // Not before they have their server: it takes its time to open.
    pooler
        .console()
        .query("SET query_wait_timeout = '400ms'")
        .good();
    waiting.send(batch().query("select 1"));
    must_be_fatal(&waiting.ended(), "53300", "query_wait_timeout");
    assert_eq!(holder.query("commit").good().status, 'I');
    pooler.serves();
}

#[test]
fn who_waits_is_told_that_it_waits() {
    let pooler = single().pooler("query_wait_notify", "1s").start();
    let (mut holder, mut waiting) = (pooler.connect(), pooler.connect());
    holder.query("begin").good();
    waiting.send(batch().query("select 'at last'"));
    let notice = waiting.until(b'N').notices.remove(0);
    assert_eq!(
        (notice.severity.as_str(), notice.code.as_str()),
        ("NOTICE", "00000")
    );
    holder.query("commit").good();
    let reply = waiting.until_ready();
    assert_eq!(
        (reply.value().as_str(), reply.notices.len()),
        ("at last", 0),
        "it is told once"
    );
}

#[test]
fn idle_transaction_timeout_ends_who_leaves_a_transaction_lying() {
    let pooler = single().pooler("idle_transaction_timeout", "500ms").start();
    for statements in [vec!["begin"], vec!["begin", "select 1/0"]] {
        let mut client = pooler.connect();
        for statement in statements {
            client.query(statement);
        }
        must_be_fatal(&client.ended(), "25P03", "idle_transaction_timeout");
        pooler.serves();
    }
    let mut working = pooler.connect();
    working.query("begin").good();
    assert_eq!(
        working.value("select 'working' from pg_sleep(1)"),
        "working"
    );
    working.query("commit").good();
}

#[test]
fn transaction_timeout_ends_a_transaction_however_busy() {
    let pooler = single().pooler("transaction_timeout", "700ms").start();
    let mut client = pooler.connect();
    client.query("begin").good();
    let began = Instant::now();
    let fault = loop {
        client.send(batch().query("select pg_sleep(0.1)"));
        match client.try_until_ready() {
            Ok(_) => assert!(began.elapsed() < PATIENCE, "it goes on"),
            Err(Cut { mut reply, .. }) => {
                break reply.errors.pop().expect("an error before the end");
            }
        }
    };
    must_be_fatal(&fault, "25P04", "transaction_timeout");
    pooler.serves();
    let mut outside = pooler.connect();
    for _ in 0..10 {
        outside.query("select pg_sleep(0.1)").good();
    }
}
