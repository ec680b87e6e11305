//! A server that cannot be reached: the client hears where the way ended, and the log is not flooded.

use crate::support::eventually;
use crate::support::pooler::config;
use crate::support::postgres::{Postgres, Server, postgres};
use crate::support::wire::{PATIENCE, Refusal};

#[test]
fn the_hint_fits_where_the_way_to_the_server_ended() {
    let nowhere = |host: &str, port| Server {
        host: host.into(),
        port,
    };
    let plain = postgres().server();
    for (server, mode, words) in [
        (nowhere("no-such-host.invalid", 5432), "prefer", "resolve"),
        (nowhere("127.0.0.1", 1), "prefer", "PostgreSQL runs there"),
        (plain, "require", "ssl in postgresql.conf"),
    ] {
        let pooler = config()
            .server("app", server, "app")
            .pooler("server_tls_sslmode", mode)
            .start();
        let fault = pooler.login().refused();
        assert_eq!(fault.code, "08006", "{fault:?}");
        assert!(fault.hint.contains(words), "{fault:?}");
    }
}

#[test]
fn the_log_tells_of_a_server_that_is_down_once_and_of_its_return() {
    let server = Postgres::start();
    let pooler = config()
        .server("app", server.server(), "app")
        .pooler("server_login_retry", "100ms")
        .start();
    server.crash();
    for _ in 0..3 {
        let refused = pooler.login().try_connect().err();
        assert_eq!(refused.map(Refusal::told).unwrap().code, "08006");
    }
    let told = |what: &str| pooler.log().matches(what).count();
    assert_eq!(told("server login failed"), 1, "{}", pooler.log());
    server.again();
    eventually(PATIENCE, "it is used again", || {
        pooler.login().try_connect().is_ok()
    });
    eventually(PATIENCE, "its return is told", || {
        told("server login works again") > 0
    });
    assert_eq!(told("server login works again"), 1, "{}", pooler.log());
}
