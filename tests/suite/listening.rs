//! LISTEN in transaction mode: told once, in order, between transactions, also while idle; and never lost without a word.

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE, batch};

fn own() -> Config {
    config().app_is(&postgres().database())
}

/// What the client is told without asking: so many notifications.
fn heard(client: &mut Client, count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|_| {
            let reply = client.until(b'A');
            assert_eq!(reply.shape, "A", "{reply:?}");
            reply.notifications[0].clone()
        })
        .collect()
}

fn hears_nothing(client: &mut Client) {
    let reply = client.query("select 'nothing'").good();
    assert!(reply.notifications.is_empty(), "{:?}", reply.notifications);
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.into(), payload.into())
}

#[test]
fn idle_clients_are_told_in_order_and_once_though_they_hold_no_server() {
    let pooler = own().database("app", "pool_size", 1).start();
    let mut listeners: Vec<_> = (0..5).map(|_| pooler.connect()).collect();
    for client in &mut listeners {
        client.query("listen jobs").good();
        client.query("listen \"Odd \"\"one\"").good();
    }
    let mut speaker = pooler.connect();
    for number in 0..20 {
        speaker.query(&format!("notify jobs, '{number}'")).good();
    }
    speaker
        .query("begin; notify jobs, 'a'; notify \"Odd \"\"one\", 'b'; commit")
        .good();
    let mut expected: Vec<_> = (0..20)
        .map(|number| pair("jobs", &number.to_string()))
        .collect();
    expected.extend([pair("jobs", "a"), pair("Odd \"one", "b")]);
    for client in &mut listeners {
        assert_eq!(heard(client, 22), expected);
        hears_nothing(client);
    }
    hears_nothing(&mut speaker);
}

#[test]
fn a_notification_that_follows_the_answer_to_listen_is_never_lost() {
    let pooler = own().database("app", "pool_size", 2).start();
    let mut speaker = postgres_speaker(&pooler);
    for round in 0..30 {
        let mut client = pooler.connect();
        let channel = format!("c{round}");
        if round % 2 == 0 {
            client.query(&format!("listen {channel}")).good();
        } else {
            client
                .ask(
                    batch()
                        .parse("", &format!("listen {channel}"))
                        .bind("", &[])
                        .execute()
                        .sync(),
                )
                .good();
        }
        speaker.query(&format!("notify {channel}, 'now'")).good();
        assert_eq!(heard(&mut client, 1), [pair(&channel, "now")]);
    }
}

/// Somebody who notifies past the pooler.
fn postgres_speaker(pooler: &Pooler) -> Client {
    let mut any = pooler.connect();
    let database = any.value("select current_database()");
    postgres().login().database(&database).connect()
}

#[test]
fn listening_begins_and_ends_with_the_commit() {
    let pooler = own().database("app", "pool_size", 2).start();
    let mut speaker = postgres_speaker(&pooler);
    let mut client = pooler.connect();
    let mut say = |text: &str| {
        speaker.query(&format!("notify a, '{text}'")).good();
    };
    client.query("begin").good();
    client.query("listen a").good();
    client.query("rollback").good();
    say("1");
    hears_nothing(&mut client);

    client.query("begin").good();
    client.query("savepoint s").good();
    client.query("listen a").good();
    client.query("rollback to s").good();
    client.query("commit").good();
    say("2");
    hears_nothing(&mut client);

    client.query("listen a; select 1/0");
    say("3");
    hears_nothing(&mut client);

    client.query("begin").good();
    client.query("listen a").good();
    client.query("notify a, 'own'").good();
    client.query("commit").good();
    assert_eq!(heard(&mut client, 1), [pair("a", "own")]);

    client.query("begin").good();
    client.query("unlisten a").good();
    client.query("rollback").good();
    say("4");
    assert_eq!(heard(&mut client, 1), [pair("a", "4")]);

    client.query("unlisten a").good();
    say("5");
    hears_nothing(&mut client);
    client.query("listen a").good();
    say("6");
    assert_eq!(heard(&mut client, 1), [pair("a", "6")]);
    client.query("discard all").good();
    say("7");
    hears_nothing(&mut client);
}

#[test]
fn nobody_is_told_within_a_transaction() {
    let pooler = own().start();
    let (mut client, mut speaker) = (pooler.connect(), pooler.connect());
    client.query("listen a").good();
    client.query("begin").good();
    speaker.query("notify a, 'x'").good();
    for _ in 0..20 {
        let reply = client.query("select pg_sleep(0.01)").good();
        assert!(reply.notifications.is_empty());
    }
    let reply = client.query("commit").good();
    assert!(reply.notifications.is_empty());
    assert_eq!(heard(&mut client, 1), [pair("a", "x")]);
}

#[test]
fn the_next_client_of_the_server_hears_nothing() {
    let pooler = own().database("app", "pool_size", 1).start();
    let (mut client, mut other) = (pooler.connect(), pooler.connect());
    client.query("listen a").good();
    assert_eq!(
        other.value("select count(*) from pg_listening_channels()"),
        "0"
    );
    other.query("notify a").good();
    hears_nothing(&mut other);
    assert_eq!(heard(&mut client, 1), [pair("a", "")]);
}

#[test]
fn a_listener_that_is_lost_comes_back_and_says_so() {
    let pooler = own().start();
    let (mut client, mut speaker) = (pooler.connect(), postgres_speaker(&pooler));
    client.query("listen a").good();
    let database = speaker.value("select current_database()");
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and query like 'LISTEN%'"
    );
    postgres().watch("postgres").query(&sql).good();
    let notice = client.until(b'N');
    assert!(notice.notices[0].message.contains("missed"), "{notice:?}");
    speaker.query("notify a, 'again'").good();
    assert_eq!(heard(&mut client, 1), [pair("a", "again")]);
}

#[test]
fn a_client_that_does_not_read_is_ended_and_others_are_told_all() {
    let pooler = own().start();
    let (mut deaf, mut client, mut speaker) =
        (pooler.connect(), pooler.connect(), pooler.connect());
    deaf.query("listen a").good();
    client.query("listen a").good();
    // Less than what may wait for one client, for the other one reads only when all of it was said.
    let flood = "do $$begin for i in 1..400 loop perform pg_notify('a', i || repeat('x', 7000)); end loop; end$$";
    for _ in 0..10 {
        speaker.query(flood).good();
        assert_eq!(heard(&mut client, 400).len(), 400);
    }
    eventually(PATIENCE, "the deaf one is gone", || {
        pooler.log().contains("does not read its notifications")
    });
    assert!(
        pooler.memory("VmHWM:") < 200_000,
        "{}",
        pooler.memory("VmHWM:")
    );
    client.query("notify a, 'still'").good();
    assert_eq!(heard(&mut client, 1), [pair("a", "still")]);
}

#[test]
fn the_listener_counts_among_the_servers_of_its_database() {
    let pooler = own()
        .database("app", "pool_size", 1)
        .database("app", "max_db_connections", 2)
        .start();
    let mut client = pooler.connect();
    client.query("listen a").good();
    client.query("notify a, 'x'").good();
    assert_eq!(heard(&mut client, 1), [pair("a", "x")]);
    assert_eq!(
        pooler
            .show("SHOW DATABASES")
            .row_where("name", "app")
            .unwrap()["current_connections"],
        "2"
    );
}
