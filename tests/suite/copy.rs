//! COPY in both directions, to its end or not.

use bytes::Bytes;
use futures_util::SinkExt;

use crate::support::pooler::{Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, batch};

/// A pooler with one server, a client, and the table `t (id int)`.
fn with_table() -> (Pooler, Client) {
    let pooler = config()
        .app_is(&postgres().database())
        .database("app", "pool_size", 1)
        .start();
    let mut client = pooler.connect();
    client.query("create table t (id int)").good();
    (pooler, client)
}

/// Sends `COPY t FROM STDIN` and sees that it began.
fn begin_copy(client: &mut Client) {
    client.send(batch().query("copy t from stdin"));
    assert_eq!(client.frame().tag, b'G');
}

#[test]
fn copy_out_brings_every_row() {
    let pooler = config().start();
    let reply = pooler
        .connect()
        .query("copy (select generate_series(1, 100000)) to stdout")
        .good();
    assert_eq!(reply.tags, ["COPY 100000"]);
    assert_eq!(
        reply.copied.iter().filter(|&&byte| byte == b'\n').count(),
        100_000
    );
    assert!(reply.shape.starts_with('H') && reply.shape.ends_with("dcCZ"));
}

#[test]
fn copy_out_that_fails_midway_is_an_error_and_the_session_goes_on() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let reply = client.query("copy (select 1/(5000-n) from generate_series(1, 10000) n) to stdout");
    assert_eq!(reply.error().code, "22012");
    assert!(!reply.copied.is_empty());
    assert_eq!(client.value("select 'goes on'"), "goes on");
}

#[test]
fn copy_in_takes_every_row() {
    let (_pooler, mut client) = with_table();
    begin_copy(&mut client);
    let reply = client.ask(batch().copy_data(b"1\n2").copy_data(b"\n3\n").copy_done());
    assert_eq!(
        (reply.shape.as_str(), reply.tags[0].as_str()),
        ("CZ", "COPY 3")
    );
    assert_eq!(client.value("select sum(id) from t"), "6");
}

#[test]
fn copy_in_of_20_mb_passes() {
    let (pooler, mut client) = with_table();
    let before = pooler.memory("VmHWM");
    begin_copy(&mut client);
    let lines = "1234567\n".repeat(10_000);
    for _ in 0..250 {
        client.send(batch().copy_data(lines.as_bytes()));
    }
    assert_eq!(client.ask(batch().copy_done()).tags, ["COPY 2500000"]);
    let grown = pooler.memory("VmHWM") - before;
    assert!(grown < 12_000, "{grown} KB more");
}

#[test]
fn a_copy_that_the_client_gives_up_takes_nothing() {
    let (_pooler, mut client) = with_table();
    begin_copy(&mut client);
    let reply = client.ask(batch().copy_data(b"1\n").copy_fail("changed my mind"));
    assert_eq!(
        (reply.shape.as_str(), reply.error().code.as_str()),
        ("EZ", "57014")
    );
    assert!(reply.error().says("changed my mind"));
    assert_eq!(client.value("select count(*) from t"), "0");
}

#[test]
fn a_copy_that_fails_early_disturbs_neither_its_client_nor_the_next() {
    let (pooler, mut client) = with_table();
    for end in [batch().copy_done(), batch().copy_fail("too late")] {
        begin_copy(&mut client);
        let failed = client.ask(batch().copy_data(b"not a number\n"));
        assert_eq!(
            (failed.shape.as_str(), failed.error().code.as_str()),
            ("EZ", "22P02")
        );

        // The client has not heard yet and goes on sending; a stranger asks meanwhile.
        let mut other = pooler.connect();
        other.send(batch().query("select 'the stranger''s'"));
        client.send(batch().copy_data(b"2\n").copy_data(b"3\n"));
        client.send(batch().raw(&end.0).query("select 'its own'"));
        assert_eq!(client.until_ready().value(), "its own");
        assert_eq!(other.until_ready().value(), "the stranger's");
    }
    assert_eq!(client.value("select count(*) from t"), "0");
}

#[test]
fn copy_in_works_within_a_transaction_and_rolls_back_with_it() {
    let (_pooler, mut client) = with_table();
    client.query("begin").good();
    begin_copy(&mut client);
    assert_eq!(
        client.ask(batch().copy_data(b"1\n").copy_done()).status,
        'T'
    );
    assert_eq!(client.value("select count(*) from t"), "1");
    client.query("rollback").good();
    assert_eq!(client.value("select count(*) from t"), "0");
}

#[test]
fn copy_in_by_the_extended_protocol_is_ended_by_the_second_sync() {
    let (_pooler, mut client) = with_table();
    // A Sync that arrives during the copy is ignored: the one behind it counts.
    client.send(batch().parse("", "copy t from stdin").run("", &[]).sync());
    client.send(batch().copy_data(b"1\n").copy_done().sync());
    let reply = client.until_ready().good();
    assert_eq!(
        (reply.shape.as_str(), reply.tags[0].as_str()),
        ("12GCZ", "COPY 1")
    );
    assert_eq!(
        client.value("select count(*) from t"),
        "1",
        "and no other ReadyForQuery is under way"
    );
}

#[test]
fn copy_in_by_the_extended_protocol_without_an_early_sync_works() {
    let (_pooler, mut client) = with_table();
    client.send(batch().parse("", "copy t from stdin").run("", &[]).flush());
    assert_eq!(client.until(b'G').shape, "12G");
    assert_eq!(
        client
            .ask(batch().copy_data(b"1\n").copy_done().sync())
            .shape,
        "CZ"
    );

    client.send(
        batch()
            .parse("c", "copy t from stdin")
            .run("c", &[])
            .flush(),
    );
    client.until(b'G');
    let failed = client.ask(
        batch()
            .copy_data(b"x\n")
            .copy_data(b"y\n")
            .copy_done()
            .sync(),
    );
    assert_eq!(
        (failed.shape.as_str(), failed.error().code.as_str()),
        ("EZ", "22P02")
    );
    assert_eq!(client.value("select count(*) from t"), "1");
}

#[test]
fn a_statement_may_follow_a_copy_in_the_same_string() {
    let (_pooler, mut client) = with_table();
    client.send(batch().query("copy t from stdin; select 'after'; copy t to stdout"));
    assert_eq!(client.frame().tag, b'G');
    let reply = client.ask(batch().copy_data(b"7\n").copy_done()).good();
    assert_eq!(
        (reply.value().as_str(), reply.copied.as_slice()),
        ("after", b"7\n".as_slice())
    );
}

#[test]
fn a_client_that_vanishes_amid_a_copy_in_leaves_no_row_and_no_dirty_server() {
    let (pooler, mut client) = with_table();
    let server = client.server();
    begin_copy(&mut client);
    client.send(batch().copy_data(b"1\n2\n"));
    client.wire.vanish();
    let mut next = pooler.connect();
    assert_ne!(next.server(), server);
    assert_eq!(next.value("select count(*) from t"), "0");
}

#[test]
fn a_client_that_vanishes_amid_a_copy_out_leaves_no_dirty_server() {
    let (pooler, mut client) = with_table();
    client.send(
        batch().query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout"),
    );
    assert_eq!(client.until(b'd').shape, "Hd");
    client.wire.vanish();
    assert_eq!(pooler.connect().value("select 'clean'"), "clean");
}

#[tokio::test]
async fn a_driver_copies_in_and_out() {
    let (pooler, _client) = with_table();
    let dsn = format!(
        "host=127.0.0.1 port={} user=app dbname=app password=app",
        pooler.port
    );
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    for round in 1..=3_u64 {
        let mut sink = Box::pin(
            client
                .copy_in::<_, Bytes>("copy t from stdin")
                .await
                .unwrap(),
        );
        for _ in 0..100 {
            sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
        }
        assert_eq!(sink.as_mut().finish().await.unwrap(), 200);
        assert_eq!(
            client.query("select from t", &[]).await.unwrap().len() as u64,
            200 * round
        );
    }
}
