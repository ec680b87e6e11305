//! The harness against PostgreSQL itself, with no pooler between: what fails here says nothing about the pooler.

use crate::support::postgres::postgres;
use crate::support::tls::{Authority, Front, trusting_all};
use crate::support::wire::{Address, Login, VERSION_3_2, batch, cancel};
use std::thread;

#[test]
fn the_raw_client_speaks_with_postgres() {
    let mut client = postgres().login().connect();

    let reply = client.query("select 'one' as a, 2::int4 as b").good();
    assert_eq!(reply.shape, "TDCZ");
    assert_eq!(reply.columns, [("a".to_owned(), 25), ("b".to_owned(), 23)]);
    assert_eq!(reply.rows, [[Some("one".to_owned()), Some("2".to_owned())]]);

    let reply = client.ask(
        batch()
            .parse("s", "select $1::text")
            .run("s", &["x"])
            .close_statement("s")
            .sync(),
    );
    assert_eq!(
        (reply.shape.as_str(), reply.value().as_str()),
        ("12DC3Z", "x")
    );
    assert_eq!(client.query("select 1/0").error().code, "22012");
}

#[test]
fn the_raw_client_proves_itself_by_every_method() {
    for (user, password, method) in [
        ("scram_user", "scram-secret", 10),
        ("md5_user", "md5-secret", 5),
        ("plain_user", "plain-secret", 3),
    ] {
        let login = postgres().login().user(user);
        assert_eq!(
            login.clone().password(password).connect().welcome.methods[0],
            method,
            "{user}"
        );
        assert_eq!(login.password("wrong").refused().code, "28P01", "{user}");
    }
}

#[test]
fn the_raw_client_cancels() {
    let mut client = postgres().login().connect();
    client.send(batch().query("select pg_sleep(60)"));
    let (address, key) = (client.address.clone(), client.welcome.key.clone());
    let reply = thread::scope(|scope| {
        // Postgres ignores a cancel that comes before the query: repeated until it has come after it.
        let (tell, told) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while told.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                cancel(&address, &key);
                thread::yield_now();
            }
        });
        let reply = client.until_ready();
        drop(tell);
        reply
    });
    assert_eq!(reply.error().code, "57014");
}

#[test]
fn the_front_adds_tls_to_a_server() {
    let authority = Authority::new("the tests' authority");
    let front = Front::new(
        postgres().server(),
        &authority.sign("server", &["localhost"]),
        None,
    );
    let login = Login::at(Address::tcp(front.server.port))
        .user("app")
        .database("app");

    let big = login
        .clone()
        .tls(authority.trusted(None), "localhost")
        .connect()
        .value("select repeat('x', 3000000)");
    assert_eq!(big.len(), 3_000_000);
    assert!(
        login
            .clone()
            .tls(authority.trusted(None), "elsewhere")
            .try_connect()
            .is_err()
    );
    assert!(
        login
            .clone()
            .tls(Authority::new("another").trusted(None), "localhost")
            .try_connect()
            .is_err()
    );
    assert!(
        login
            .clone()
            .tls(trusting_all(), "elsewhere")
            .try_connect()
            .is_ok()
    );
    assert!(login.try_connect().is_err(), "not without TLS");
    assert_eq!(front.sessions(), 2);
}

#[test]
fn each_database_of_a_test_is_its_own() {
    let (one, other) = (postgres().database(), postgres().database());
    assert_ne!(one, other);
    let _client = postgres().login().database(&one).connect();
    assert_eq!((postgres().count(&one), postgres().count(&other)), (1, 0));
}

#[test]
fn the_raw_client_asks_for_any_version() {
    let client = postgres().login().version(VERSION_3_2).connect();
    let answered = client.welcome.negotiated.clone();
    assert!(
        answered.is_none() || answered == Some((196_608, Vec::new())),
        "{answered:?}"
    );
}
