//! A cancel request reaches the query it was meant for, and no other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::pooler::{Config, config};
use crate::support::postgres::postgres;
use crate::support::wire::{VERSION_3_2, batch, cancel};
use crate::support::{Raise, long};

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

#[test]
fn the_running_query_is_cancelled_and_the_session_goes_on() {
    let pooler = single().start();
    for version in [196_608, VERSION_3_2] {
        let mut client = pooler.login().version(version).connect();
        let marker = format!("the_running_query_{version}_{}", pooler.port);
        client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
        postgres().runs(&marker);
        client.cancel();
        assert_eq!(client.until_ready().error().code, "57014");
        assert_eq!(client.value("select 'goes on'"), "goes on");
    }
}

#[test]
fn a_query_of_the_extended_protocol_is_cancelled() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let marker = format!("extended_{}", pooler.port);
    client.send(
        batch()
            .parse("s", &format!("select '{marker}' from pg_sleep(60)"))
            .run("s", &[])
            .sync(),
    );
    postgres().runs(&marker);
    client.cancel();
    assert_eq!(client.until_ready().error().code, "57014");
    assert_eq!(client.value("select 'goes on'"), "goes on");
}

#[test]
fn a_cancelled_statement_fails_its_transaction_and_keeps_the_server() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.query("begin").good();
    let server = client.server();
    let marker = format!("in_transaction_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(&marker);
    client.cancel();
    assert_eq!(client.until_ready().status, 'E');
    client.query("rollback").good();
    assert_eq!(client.server(), server);
}

#[test]
fn a_cancel_for_an_idle_client_hits_nobody_elses_query() {
    let pooler = single().start();
    let (mut idle, mut busy) = (pooler.connect(), pooler.connect());
    idle.query("select 1").good();
    let marker = format!("not_yours_{}", pooler.port);
    busy.send(batch().query(&format!("select '{marker}' from pg_sleep(0.5)")));
    postgres().runs(&marker);
    for _ in 0..10 {
        idle.cancel();
    }
    assert_eq!(busy.until_ready().value(), marker);
    assert_eq!(idle.value("select 'unharmed'"), "unharmed");
}

#[test]
fn a_cancel_with_a_wrong_key_is_ignored() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let marker = format!("wrong_key_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(0.5)")));
    postgres().runs(&marker);
    let key = client.welcome.key.clone();
    let flipped = |at: usize| {
        key.iter()
            .enumerate()
            .map(|(i, byte)| byte ^ u8::from(i == at))
            .collect::<Vec<_>>()
    };
    for wrong in [
        flipped(0),
        flipped(4),
        flipped(7),
        key[..7].to_vec(),
        [key.as_slice(), b"x"].concat(),
        vec![],
    ] {
        cancel(&client.address, &wrong);
    }
    assert_eq!(client.until_ready().value(), marker);
}

#[test]
fn a_cancel_never_hits_the_next_client_on_the_same_server() {
    let rounds = if long() { 3000 } else { 300 };
    let pooler = single().start();
    let mut canceller = pooler.connect();
    let mut victim = pooler.connect();
    let (address, key) = (canceller.address.clone(), canceller.welcome.key.clone());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Cancels arrive at any moment: before, during and after the query they are for.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                cancel(&address, &key);
            }
        });
        let _raised_at_the_end = Raise(&over);
        let cancelled = (0..rounds)
            .filter(|round| {
                canceller.send(batch().query("select 'mine' from pg_sleep(0.002)"));
                let marker = round.to_string();
                victim.send(batch().query(&format!("select '{marker}' from pg_sleep(0.002)")));
                let own = canceller.until_ready();
                let other = victim.until_ready();
                assert_eq!(other.value(), marker, "in round {round}");
                own.errors.iter().any(|fault| fault.code == "57014")
            })
            .count();
        assert!(cancelled > 0, "not one cancel of {rounds} arrived in time");
    });
}

#[tokio::test]
async fn a_driver_cancels() {
    let pooler = single().start();
    let dsn = format!(
        "host=127.0.0.1 port={} user=app dbname=app password=app",
        pooler.port
    );
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let token = client.cancel_token();
    let marker = format!("driver_{}", pooler.port);
    let query = format!("select '{marker}' from pg_sleep(60)");
    let running = tokio::spawn(async move { client.simple_query(&query).await });
    tokio::task::spawn_blocking(move || postgres().runs(&marker))
        .await
        .unwrap();
    token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
}
