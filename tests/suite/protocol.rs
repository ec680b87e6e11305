//! Everything the protocol has passes through as if nobody stood between.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::eventually;
use crate::support::pooler::config;
use crate::support::postgres::postgres;
use crate::support::wire::{
    Address, GSSENC_REQUEST, Login, PATIENCE, SSL_REQUEST, VERSION_3_0, VERSION_3_2, Wire, batch,
    request_packet, startup_packet,
};

#[test]
fn a_simple_query_is_answered() {
    let pooler = config().start();
    let reply = pooler
        .connect()
        .query("select 'x' as a, 1::int4 as b")
        .good();
    assert_eq!(reply.shape, "TDCZ");
    assert_eq!(reply.columns, [("a".into(), 25), ("b".into(), 23)]);
    assert_eq!(
        (reply.tags, reply.status),
        (vec!["SELECT 1".to_owned()], 'I')
    );
}

#[test]
fn a_string_of_statements_is_answered_one_by_one() {
    let pooler = config().start();
    let mut client = pooler.connect();
    assert_eq!(
        client
            .query("select 1; select 2; set extra_float_digits = 1")
            .shape,
        "TDCTDCCZ"
    );
    let failed = client.query("select 1; select 1/0; select 3");
    assert_eq!(
        (failed.shape.as_str(), failed.error().code.as_str()),
        ("TDCEZ", "22012")
    );
}

#[test]
fn an_empty_query_is_answered_as_empty() {
    let pooler = config().start();
    let mut client = pooler.connect();
    assert_eq!(client.query("").shape, "IZ");
    assert_eq!(
        client.ask(batch().parse("", "").run("", &[]).sync()).shape,
        "12IZ"
    );
}

#[test]
fn an_extended_query_is_answered_frame_by_frame() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let asked = batch()
        .parse("", "select $1::text as a")
        .bind("", &["x"])
        .describe_portal("")
        .execute()
        .sync();
    let reply = client.ask(asked);
    assert_eq!(
        (reply.shape.as_str(), reply.value().as_str()),
        ("12TDCZ", "x")
    );
    assert_eq!(client.ask(batch().sync()).shape, "Z");
}

#[test]
fn a_pipeline_of_many_syncs_is_answered_in_order() {
    let pooler = config().database("app", "pool_size", 1).start();
    let mut client = pooler.connect();
    let mut all = batch();
    for number in 0..100 {
        all = all
            .parse("", &format!("select '{number}'"))
            .run("", &[])
            .sync();
    }
    client.send(all);
    for number in 0..100 {
        assert_eq!(client.until_ready().value(), number.to_string());
    }
}

#[test]
fn an_error_in_a_pipeline_swallows_everything_up_to_the_sync_and_no_more() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let failing = batch()
        .parse("", "select 1")
        .run("", &[])
        .parse("", "select 1/(n-$1::int) from generate_series(1, 1) n")
        .run("", &["1"]);
    client.send(
        failing
            .parse("never", "select 2")
            .run("never", &[])
            .sync()
            .parse("", "select 'after'")
            .run("", &[])
            .sync(),
    );

    let first = client.until_ready();
    assert_eq!(first.shape, "12DC12EZ");
    assert_eq!(first.error().code, "22012");
    assert_eq!(client.until_ready().value(), "after");
    assert_eq!(
        client.ask(batch().run("never", &[]).sync()).error().code,
        "26000",
        "its Parse was swallowed"
    );
}

#[test]
fn a_flush_brings_what_is_owed_before_the_sync() {
    let pooler = config().start();
    let mut client = pooler.connect();
    client.send(
        batch()
            .parse("", "select $1::int4 as a")
            .describe_statement("")
            .flush(),
    );
    assert_eq!(client.until(b'T').shape, "1tT");
    client.send(batch().bind("", &["7"]).flush());
    assert_eq!(client.frame().tag, b'2');
    let reply = client.ask(batch().execute().sync());
    assert_eq!((reply.shape.as_str(), reply.value().as_str()), ("DCZ", "7"));
}

#[test]
fn a_portal_is_read_in_portions() {
    let pooler = config().database("app", "pool_size", 1).start();
    let mut client = pooler.connect();
    client.query("begin").good();
    let opened = batch()
        .parse("", "select generate_series(1, 5)")
        .bind_portal("p", "", &[])
        .execute_portal("p", 2)
        .sync();
    assert_eq!(client.ask(opened).shape, "12DDsZ");
    assert_eq!(
        client.ask(batch().execute_portal("p", 2).sync()).shape,
        "DDsZ"
    );
    assert_eq!(
        client
            .ask(batch().execute_portal("p", 2).close_portal("p").sync())
            .shape,
        "DC3Z"
    );
    client.query("commit").good();

    let in_one = batch()
        .parse("", "select generate_series(1, 3)")
        .bind("", &[])
        .execute_portal("", 2)
        .execute_portal("", 2)
        .sync();
    assert_eq!(client.ask(in_one).shape, "12DDsDCZ");
}

#[test]
fn a_simple_query_may_follow_an_extended_one_without_sync() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let reply = client.ask(batch().parse("", "select 1").query("select 'simple'"));
    assert_eq!(
        (reply.shape.as_str(), reply.value().as_str()),
        ("1TDCZ", "simple")
    );
}

#[test]
fn a_function_is_called_by_its_number() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let oid = client
        .value("select 'pg_catalog.textcat(text, text)'::regprocedure::oid::int")
        .parse()
        .unwrap();
    let reply = client.ask(batch().function_call(oid, &["one and ", "other"]));
    assert_eq!(reply.shape, "VZ");
    assert_eq!(reply.frames[0].body, b"\0\0\0\x0done and other");
}

#[test]
fn notices_reach_the_client_that_caused_them() {
    let pooler = config().start();
    let reply = pooler
        .connect()
        .query("do $$ begin raise notice 'seen'; raise warning 'too'; end $$");
    let texts: Vec<_> = reply
        .notices
        .iter()
        .map(|notice| notice.message.as_str())
        .collect();
    assert_eq!((reply.shape.as_str(), texts), ("NNCZ", vec!["seen", "too"]));
}

#[test]
fn in_session_mode_a_notification_reaches_an_idle_listener() {
    let pooler = config().pooler("pool_mode", "session").start();
    let mut listener = pooler.connect();
    let mut speaker = pooler.connect();
    listener.query("listen news").good();
    for number in 0..3 {
        speaker
            .query(&format!("notify news, 'number {number}'"))
            .good();
        let heard = listener.until(b'A');
        assert_eq!(
            heard.notifications,
            [("news".to_owned(), format!("number {number}"))]
        );
    }
}

#[test]
fn a_newer_minor_version_is_negotiated_down_to_3_2() {
    let pooler = config().start();
    let asked = |version| pooler.login().version(version).connect().welcome.negotiated;
    assert_eq!(asked(VERSION_3_0), None);
    assert_eq!(asked(VERSION_3_2), None);
    assert_eq!(asked(VERSION_3_0 + 9), Some((VERSION_3_2, vec![])));
}

#[test]
fn unknown_protocol_options_are_named_and_the_session_goes_on() {
    let pooler = config().start();
    let login = pooler
        .login()
        .parameter("_pq_.one", "1")
        .parameter("_pq_.two", "");
    for version in [VERSION_3_0, VERSION_3_2] {
        let mut client = login.clone().version(version).connect();
        let named = vec!["_pq_.one".to_owned(), "_pq_.two".to_owned()];
        assert_eq!(client.welcome.negotiated, Some((version, named)));
        assert_eq!(client.value("select 1"), "1");
    }
}

#[test]
fn the_cancel_key_is_long_in_3_2_and_eight_bytes_before() {
    let pooler = config().start();
    assert_eq!(pooler.connect().welcome.key.len(), 8);
    let key = pooler.login().version(VERSION_3_2).connect().welcome.key;
    assert!((16..=260).contains(&key.len()), "{} bytes", key.len());
}

#[test]
fn tls_that_is_not_offered_is_declined_and_the_startup_may_follow() {
    let pooler = config().start();
    let startup = startup_packet(VERSION_3_0, &[("user", "app"), ("database", "app")]);
    for requests in [
        vec![SSL_REQUEST],
        vec![GSSENC_REQUEST],
        vec![GSSENC_REQUEST, SSL_REQUEST],
    ] {
        let mut wire = Wire::dial(&pooler.address()).unwrap();
        for request in &requests {
            wire.send_bytes(&request_packet(*request)).unwrap();
            assert_eq!(wire.byte().unwrap(), b'N', "{requests:?}");
        }
        wire.send_bytes(&startup).unwrap();
        assert_eq!(wire.read_frame().unwrap().tag, b'R', "{requests:?}");
    }
}

#[test]
fn clients_come_through_the_unix_socket() {
    let pooler = config().pooler("unix_socket_dir", "{folder}").start();
    let socket = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
    let login = Login::at(Address::Unix(socket))
        .user("app")
        .database("app")
        .password("app");
    assert_eq!(login.connect().value("select 'unix'"), "unix");
}

#[test]
fn clients_come_through_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    let pooler = config().pooler("listen_addr", ["127.0.0.1", "::1"]).start();
    let login = Login::at(Address::Tcp("::1".into(), pooler.port))
        .user("app")
        .database("app")
        .password("app");
    assert_eq!(login.connect().value("select 'six'"), "six");
    pooler.serves();
}

#[test]
fn a_server_is_reached_through_its_unix_socket() {
    let pooler = config()
        .server("app", postgres().by_socket(), "app")
        .start();
    assert_eq!(
        pooler.connect().value("select inet_client_addr() is null"),
        "t"
    );
}

#[test]
fn the_client_is_told_what_the_server_would_have_told_it() {
    let pooler = config().start();
    let direct = postgres().login().connect().welcome.parameters;
    assert!(direct.contains_key("server_version"), "{direct:?}");
    assert_eq!(pooler.connect().welcome.parameters, direct);
    assert_eq!(
        pooler.connect().welcome.parameters,
        direct,
        "also when a server was there already"
    );
}

#[test]
fn a_result_of_50_mb_passes_in_bounded_memory_however_slow_its_reader() {
    const SIZE: usize = 50_000_000;
    let pooler = config().start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    let before = pooler.memory("VmHWM");

    client.send(batch().query(&format!("select repeat('x', {SIZE}) as slow_reader")));
    let mut watch = postgres().watch("postgres");
    let stuck = "select count(*) from pg_stat_activity where query like '%slow_reader%' and wait_event = 'ClientWrite'";
    eventually(PATIENCE, "the server cannot get rid of its result", || {
        watch.value(stuck) == "1"
    });
    assert_eq!(client.until_ready().value().len(), SIZE);

    let grown = pooler.memory("VmHWM") - before;
    assert!(grown < 12_000, "{grown} KB more for one result");
}

#[test]
fn a_parameter_of_50_mb_passes_in_bounded_memory() {
    const SIZE: usize = 50_000_000;
    let pooler = config().start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    let before = pooler.memory("VmHWM");

    let value = "y".repeat(SIZE);
    for name in ["", "named"] {
        let reply = client.ask(
            batch()
                .parse(name, "select length($1::text)")
                .run(name, &[&value])
                .sync(),
        );
        assert_eq!(reply.value(), SIZE.to_string());
    }
    let reply = client.query(&format!("select length('{value}')"));
    assert_eq!(reply.value(), SIZE.to_string());

    let grown = pooler.memory("VmHWM") - before;
    assert!(grown < 12_000, "{grown} KB more for one parameter");
}

#[test]
fn bytes_of_any_encoding_are_relayed_as_they_are() {
    let pooler = config().start();
    let mut client = pooler
        .login()
        .parameter("client_encoding", "LATIN1")
        .connect();
    let reply =
        client.ask(batch().frame(b'Q', b"select 'caf\xe9' as \"\xe0\", length('caf\xe9')\0"));
    assert_eq!(reply.rows[0][1].as_deref(), Some("4"));
    assert_eq!(reply.frames[1].body[..10], *b"\0\x02\0\0\0\x04caf\xe9");

    let named = client.ask(
        batch()
            .frame(b'P', b"st\xe9\0select 'n\xe9'\0\0\0")
            .frame(b'B', b"\0st\xe9\0\0\0\0\0\0\0")
            .execute()
            .sync(),
    );
    assert_eq!(named.shape, "12DCZ");
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_a_frame() {
    let pooler = config().start();
    let mut client = pooler.connect();
    let asked = batch()
        .parse("slow", "select $1::text")
        .run("slow", &["byte by byte"])
        .sync();
    for byte in &asked.0 {
        client.wire.send_bytes(&[*byte]).unwrap();
    }
    assert_eq!(client.until_ready().value(), "byte by byte");
}

#[test]
fn copy_both_carries_a_replication_stream() {
    let pooler = config().user("postgres", "password", "postgres").start();
    let name = format!("copy_both_{}", pooler.port);
    let mut client = pooler
        .login()
        .user("postgres")
        .password("postgres")
        .parameter("replication", "database")
        .connect();
    client.query(&format!("create publication {name}")).good();
    client
        .query(&format!(
            "CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput"
        ))
        .good();

    let options = format!("(proto_version '1', publication_names '{name}')");
    client.send(batch().query(&format!(
        "START_REPLICATION SLOT {name} LOGICAL 0/0 {options}"
    )));
    assert_eq!(client.frame().tag, b'W');
    postgres()
        .login()
        .user("postgres")
        .connect()
        .query("select pg_logical_emit_message(true, 'x', 'y')")
        .good();
    assert_eq!(client.frame().tag, b'd', "a keepalive or a change");
    client.send(batch().copy_done());
    let reply = client.until_ready();
    assert!(reply.shape.ends_with("CZ"), "{}", reply.shape);
    client.query(&format!("drop publication {name}")).good();
}

#[tokio::test]
async fn a_driver_runs_a_hundred_queries_in_one_pipeline() {
    let pooler = config().database("app", "pool_size", 2).start();
    let dsn = format!(
        "host=127.0.0.1 port={} user=app dbname=app password=app",
        pooler.port
    );
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
        .await
        .unwrap();
    let driven = tokio::spawn(connection);
    let statement = client.prepare("select $1::int4 * 2").await.unwrap();
    let client = Arc::new(client);
    let mut queries = JoinSet::new();
    for number in 0..100 {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        queries.spawn(async move {
            client
                .query_one(&statement, &[&number])
                .await
                .unwrap()
                .get::<_, i32>(0)
                == number * 2
        });
    }
    assert!(
        queries
            .join_all()
            .await
            .into_iter()
            .all(|is_right| is_right)
    );
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), driven)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
