//! TLS towards clients and towards servers.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::tls::{
    Authority, Front, Identity, asked_for_certificate, trusting_all, with_alpn,
};
use crate::support::wire::{
    Fault, GSSENC_REQUEST, Login, PATIENCE, SSL_REQUEST, VERSION_3_0, Wire, batch, request_packet,
    startup_packet,
};

/// A pooler that shows `identity`, with clients of `authority` for the modes that verify them.
fn offering(mode: &str, identity: &Identity, authority: &Authority) -> Config {
    config()
        .pooler("client_tls_sslmode", mode)
        .pooler("client_tls_cert_file", "{folder}/server.crt")
        .pooler("client_tls_key_file", "{folder}/server.key")
        .pooler("client_tls_ca_file", "{folder}/ca.crt")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
        .file("ca.crt", &authority.pem())
}

fn authority() -> Authority {
    Authority::new("the tests' authority")
}

fn served(login: &Login) -> bool {
    login
        .try_connect()
        .is_ok_and(|mut client| client.query("select 1").errors.is_empty())
}

#[test]
fn with_prefer_and_allow_tls_is_the_clients_choice() {
    let authority = authority();
    for mode in ["allow", "prefer"] {
        let pooler = offering(mode, &authority.sign("pooler", &["localhost"]), &authority).start();
        assert!(served(&pooler.login()), "{mode}, in clear");
        assert!(
            served(&pooler.login().tls(authority.trusted(None), "localhost")),
            "{mode}, through TLS"
        );
        eventually(
            PATIENCE,
            "only the console is left, and it came in clear",
            || pooler.show("SHOW CLIENTS").column("tls") == [""],
        );
    }
}

#[test]
fn with_require_nobody_enters_in_clear() {
    let authority = authority();
    let pooler = offering(
        "require",
        &authority.sign("pooler", &["localhost"]),
        &authority,
    )
    .start();
    let fault = pooler.login().refused();
    assert_eq!(
        (fault.severity.as_str(), fault.code.as_str()),
        ("FATAL", "28000"),
        "{fault:?}"
    );
    let login = pooler.login().tls(authority.trusted(None), "localhost");
    assert_eq!(
        login.connect().value("select repeat('x', 1000000)").len(),
        1_000_000
    );
}

#[test]
fn the_console_shows_what_tls_a_client_has() {
    let authority = authority();
    let pooler = offering(
        "require",
        &authority.sign("pooler", &["localhost"]),
        &authority,
    )
    .start();
    let console = pooler
        .login()
        .user("admin")
        .password("admin")
        .database("pgbouncer")
        .tls(trusting_all(), "localhost");
    let shown = console.connect().query("SHOW CLIENTS").good().column("tls");
    assert!(shown[0].starts_with("TLSv1.3/TLS_"), "{shown:?}");
}

#[test]
fn only_clients_with_a_certificate_of_the_right_authority_enter_where_it_is_verified() {
    let (authority, stranger) = (authority(), Authority::new("a stranger"));
    let server = authority.sign("pooler", &["localhost"]);
    for mode in ["verify-ca", "verify-full"] {
        let pooler = offering(mode, &server, &authority).start();
        let with = |identity: Option<&Identity>| {
            pooler.login().tls(authority.trusted(identity), "localhost")
        };
        assert!(served(&with(Some(&authority.sign("app", &[])))), "{mode}");
        assert!(!served(&with(None)), "{mode}: without a certificate");
        assert!(
            !served(&with(Some(&stranger.sign("app", &[])))),
            "{mode}: signed by a stranger"
        );
        assert!(!served(&pooler.login()), "{mode}: in clear");
    }
}

#[test]
fn a_certificate_is_asked_for_only_where_it_can_be_verified_and_then_it_is() {
    let (authority, stranger) = (authority(), Authority::new("a stranger"));
    let server = authority.sign("pooler", &["localhost"]);
    for mode in ["allow", "prefer", "require"] {
        let config = offering(mode, &server, &authority);
        let pooler = config.start();
        assert!(asked_for_certificate(&pooler.address()), "{mode}");
        let with = |identity: Option<&Identity>| {
            pooler.login().tls(authority.trusted(identity), "localhost")
        };
        assert!(served(&with(None)), "{mode}: none is needed");
        assert!(served(&with(Some(&authority.sign("app", &[])))), "{mode}");
        assert!(
            !served(&with(Some(&stranger.sign("app", &[])))),
            "{mode}: signed by a stranger"
        );
        let without = config.without_key("pooler", "client_tls_ca_file").start();
        assert!(!asked_for_certificate(&without.address()), "{mode}");
    }
    let pooler = offering("verify-ca", &server, &authority).start();
    assert!(asked_for_certificate(&pooler.address()));
}

#[test]
fn tls_may_begin_at_once_if_it_names_the_protocol() {
    let authority = authority();
    let pooler = offering(
        "require",
        &authority.sign("pooler", &["localhost"]),
        &authority,
    )
    .start();
    let direct = |config: Arc<ClientConfig>| pooler.login().direct_tls(config, "localhost");
    assert!(served(&direct(with_alpn(
        &authority.trusted(None),
        &["postgresql"]
    ))));
    assert!(served(&direct(with_alpn(
        &authority.trusted(None),
        &["http/1.1", "postgresql"]
    ))));
    assert!(
        !served(&direct(authority.trusted(None))),
        "without ALPN it may be anything"
    );
    assert!(!served(&direct(with_alpn(
        &authority.trusted(None),
        &["http/1.1"]
    ))));
    let classic = pooler.login().tls(
        with_alpn(&authority.trusted(None), &["postgresql"]),
        "localhost",
    );
    assert!(served(&classic), "ALPN does not hurt after SSLRequest");
}

#[test]
fn where_tls_is_off_a_handshake_is_not_answered() {
    let pooler = config().start();
    let login = pooler.login();
    assert!(
        login
            .clone()
            .tls(trusting_all(), "localhost")
            .try_connect()
            .is_err()
    );
    let direct = with_alpn(&trusting_all(), &["postgresql"]);
    assert!(login.direct_tls(direct, "localhost").try_connect().is_err());
    pooler.serves();
}

#[test]
fn bytes_in_clear_before_a_handshake_close_the_connection() {
    let authority = authority();
    let pooler = offering(
        "prefer",
        &authority.sign("pooler", &["localhost"]),
        &authority,
    )
    .start();
    let startup = startup_packet(VERSION_3_0, &[("user", "app"), ("database", "app")]);
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = Wire::dial(&pooler.address()).unwrap();
        wire.send_bytes(
            &[
                request_packet(request),
                startup.clone(),
                batch().query("select 1").0,
            ]
            .concat(),
        )
        .unwrap();
        let first = wire.byte();
        assert!(
            matches!(first, Ok(b'S' | b'N' | b'E') | Err(_)),
            "{first:?}"
        );
        let rest = if matches!(first, Ok(b'E')) {
            Ok(())
        } else {
            wire.closed()
        };
        // An error in clear is allowed, an authentication request is not.
        assert!(
            rest.is_ok()
                || first.is_ok_and(|byte| byte == b'S')
                    && wire.read_frame().is_ok_and(|frame| frame.tag == b'E')
        );
    }
    pooler.serves();
}

#[test]
fn a_certificate_is_replaced_by_a_reload_under_running_sessions() {
    let (old, new) = (authority(), Authority::new("the new authority"));
    let pooler = offering("require", &old.sign("pooler", &["localhost"]), &old).start();
    let login = pooler.login();
    let mut running = login.clone().tls(old.trusted(None), "localhost").connect();

    let renewed = offering("require", &new.sign("pooler", &["localhost"]), &new);
    pooler.rewrite(&renewed);
    pooler.signal("HUP");
    eventually(PATIENCE, "the new certificate is shown", || {
        served(&login.clone().tls(new.trusted(None), "localhost"))
    });
    assert!(!served(&login.clone().tls(old.trusted(None), "localhost")));
    assert_eq!(running.value("select 'still here'"), "still here");
}

#[test]
fn a_broken_certificate_is_refused_by_a_reload_and_the_old_one_stays() {
    let authority = authority();
    let server = authority.sign("pooler", &["localhost"]);
    let pooler = offering("require", &server, &authority).start();
    let login = pooler.login().tls(authority.trusted(None), "localhost");
    let console = || {
        login
            .clone()
            .user("admin")
            .password("admin")
            .database("pgbouncer")
            .connect()
    };
    let mixed = Identity {
        certificate: server.certificate.clone(),
        key: authority.sign("other", &[]).key,
    };
    let broken = Identity {
        certificate: "not a certificate".into(),
        key: server.key.clone(),
    };
    for identity in [mixed, broken] {
        pooler.rewrite(&offering("require", &identity, &authority));
        assert_eq!(console().query("RELOAD").errors.len(), 1);
        assert!(served(&login));
    }
}

/// A pooler whose database `app` is behind a front that speaks TLS, with that front.
fn behind_front(
    mode: &str,
    host: &str,
    hosts: &[&str],
    trusted: Option<&Authority>,
    authority: &Authority,
) -> (Pooler, Front) {
    let front = Front::new(postgres().server(), &authority.sign("server", hosts), None);
    let mut config = config()
        .server("app", front.server.clone(), "app")
        .database("app", "host", host)
        .pooler("server_tls_sslmode", mode)
        .pooler("query_wait_timeout", "3s");
    if let Some(trusted) = trusted {
        config = config
            .pooler("server_tls_ca_file", "{folder}/ca.crt")
            .file("ca.crt", &trusted.pem());
    }
    (config.start(), front)
}

#[test]
fn servers_are_verified_as_far_as_server_tls_sslmode_says() {
    let (own, stranger) = (authority(), Authority::new("a stranger"));
    for (mode, hosts, trusted, works) in [
        ("prefer", vec!["elsewhere"], None, true),
        ("require", vec!["elsewhere"], None, true),
        ("verify-ca", vec!["elsewhere"], Some(&own), true),
        ("verify-ca", vec!["localhost"], Some(&stranger), false),
        ("verify-full", vec!["localhost"], Some(&own), true),
        ("verify-full", vec!["elsewhere"], Some(&own), false),
        ("verify-full", vec!["localhost"], Some(&stranger), false),
    ] {
        let (pooler, front) = behind_front(mode, "localhost", &hosts, trusted, &own);
        assert_eq!(served(&pooler.login()), works, "{mode}, {hosts:?}");
        assert_eq!(front.sessions() > 0, works, "{mode}, {hosts:?}");
    }
    let (pooler, _front) =
        behind_front("verify-full", "127.0.0.1", &["127.0.0.1"], Some(&own), &own);
    assert!(served(&pooler.login()), "an address is a name too");
}

#[test]
fn a_server_without_tls_is_good_enough_for_prefer_and_not_for_require() {
    assert!(served(
        &config()
            .pooler("server_tls_sslmode", "prefer")
            .start()
            .login()
    ));
    assert!(served(
        &config()
            .pooler("server_tls_sslmode", "disable")
            .start()
            .login()
    ));
    let pooler = config()
        .pooler("server_tls_sslmode", "require")
        .pooler("query_wait_timeout", "3s")
        .start();
    let fault: Fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(&fault.code[..2], "08", "{fault:?}");
}

#[test]
fn the_pooler_shows_its_certificate_to_servers_that_ask() {
    let authority = authority();
    let front = Front::new(
        postgres().server(),
        &authority.sign("server", &["localhost"]),
        Some(&authority),
    );
    let identity = authority.sign("pooler", &[]);
    let without = config()
        .server("app", front.server.clone(), "app")
        .pooler("server_tls_sslmode", "require")
        .pooler("query_wait_timeout", "2s");
    assert!(!served(&without.start().login()));
    let with = without
        .pooler("server_tls_cert_file", "{folder}/client.crt")
        .pooler("server_tls_key_file", "{folder}/client.key")
        .file("client.crt", &identity.certificate)
        .file("client.key", &identity.key);
    assert!(served(&with.start().login()));
}

#[test]
fn a_cancel_goes_through_tls_where_the_server_needs_it() {
    let authority = authority();
    let (pooler, front) = behind_front("require", "localhost", &["localhost"], None, &authority);
    let mut client = pooler.connect();
    let marker = format!("through_tls_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(&marker);
    client.cancel();
    assert_eq!(client.until_ready().error().code, "57014");
    assert_eq!(front.cancels(), 1);
}

#[test]
fn big_results_and_copies_pass_through_tls_on_both_sides() {
    let authority = authority();
    let front = Front::new(
        postgres().server(),
        &authority.sign("server", &["localhost"]),
        None,
    );
    let pooler = offering(
        "require",
        &authority.sign("pooler", &["localhost"]),
        &authority,
    )
    .app_is(&postgres().database())
    .database("app", "host", front.server.host.as_str())
    .database("app", "port", front.server.port)
    .pooler("server_tls_sslmode", "require")
    .start();
    let mut client = pooler
        .login()
        .tls(authority.trusted(None), "localhost")
        .connect();
    assert_eq!(client.value("select repeat('x', 5000000)").len(), 5_000_000);
    client.query("create table t (line text)").good();
    client.send(batch().query("copy t from stdin"));
    client.until(b'G');
    let lines = format!("{}\n", "y".repeat(999)).repeat(1000);
    for _ in 0..5 {
        client.send(batch().copy_data(lines.as_bytes()));
    }
    assert_eq!(client.ask(batch().copy_done()).tags, ["COPY 5000"]);
}
