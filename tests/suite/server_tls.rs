//! PostgreSQL's own TLS, as `server_tls_*` says: never in clear where that is forbidden, never to a server that cannot show who
//! it is, never with another's certificate.

use std::sync::OnceLock;

use crate::support::packages::postgres_with_tls;
use crate::support::pooler::{Config, config};
use crate::support::postgres::Postgres;
use crate::support::tls::{Authority, Identity};
use crate::support::wire::{Client, Fault, batch};

/// What the server asks of whom.
const HBA: [&str; 6] = [
    "hostnossl all tls_user all reject",
    "hostssl all tls_user all trust",
    "hostssl all cert_user all cert",
    "hostssl all scram_user all scram-sha-256 clientcert=verify-ca",
    "hostnossl all scram_user all reject",
    "hostssl all clear_user all reject",
];

/// How the session that asks is encrypted, if it is.
const HOW: &str = "select ssl || ' ' || coalesce(version, '-') || ' ' || coalesce(client_dn, '-') from pg_stat_ssl where pid = pg_backend_pid()";

/// A PostgreSQL that shows a certificate for `localhost`, signed by an authority of its own.
struct Scene {
    postgres: Postgres,
    authority: Authority,
    /// Signs nothing that the server or the pooler should believe.
    stranger: Authority,
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let authority = Authority::new("the authority of servers");
        let postgres = Postgres::start_of(postgres_with_tls(), &HBA);
        postgres.run(
            "create role tls_user login; create role cert_user login; create role clear_user login",
        );
        let identity = authority.sign("a server", &["localhost"]);
        let setting = |name: &str, file: &str, content: &str| {
            let path = postgres.private_file(file, content);
            postgres.run(&format!("alter system set {name} = '{}'", path.display()));
        };
        setting("ssl_cert_file", "own.crt", &identity.certificate);
        setting("ssl_key_file", "own.key", &identity.key);
        setting("ssl_ca_file", "clients.crt", &authority.pem());
        postgres.run("alter system set ssl = on");
        postgres.again();
        assert_eq!(postgres.watch("postgres").value("show ssl"), "on");
        Scene {
            postgres,
            authority,
            stranger: Authority::new("a stranger"),
        }
    })
}

/// A pooler before that server which logs in as `user`, by the name `host`.
fn before(host: &str, user: &str, mode: &str) -> Config {
    config()
        .server("app", scene().postgres.server(), "app")
        .database("app", "host", host)
        .database("app", "user", user)
        .pooler("server_tls_sslmode", mode)
        .pooler("query_wait_timeout", "5s")
}

fn trusting(config: Config, authority: &Authority) -> Config {
    config
        .pooler("server_tls_ca_file", "{folder}/ca.crt")
        .file("ca.crt", &authority.pem())
}

fn showing(config: Config, identity: &Identity) -> Config {
    config
        .pooler("server_tls_cert_file", "{folder}/client.crt")
        .pooler("server_tls_key_file", "{folder}/client.key")
        .file("client.crt", &identity.certificate)
        .file("client.key", &identity.key)
}

/// What a client gets: the server's word on the session's encryption, or the error that it is told.
fn outcome(config: &Config) -> Result<String, Fault> {
    let pooler = config.start();
    match pooler.login().try_connect() {
        Ok(mut client) => {
            let reply = client.query(HOW);
            match reply.errors.first() {
                None => Ok(reply.value().to_owned()),
                Some(fault) => Err(fault.clone()),
            }
        }
        Err(refusal) => Err(refusal.told()),
    }
}

#[track_caller]
fn works(config: &Config, how: &str) {
    let outcome = outcome(config);
    assert!(
        outcome.as_ref().is_ok_and(|said| said.starts_with(how)),
        "{outcome:?}, not {how}"
    );
}

#[track_caller]
fn fails(config: &Config, code: &str) {
    let outcome = outcome(config);
    assert!(
        outcome
            .as_ref()
            .is_err_and(|fault| fault.code.starts_with(code)),
        "{outcome:?}, not {code}"
    );
}

#[test]
fn each_sslmode_asks_of_postgres_what_it_says() {
    let (own, stranger) = (&scene().authority, &scene().stranger);
    let user = "tls_user";
    fails(&before("localhost", user, "disable"), "28000");
    works(&before("localhost", user, "prefer"), "true TLSv1.3");
    works(&before("127.0.0.1", user, "require"), "true TLSv1.3");
    works(
        &trusting(before("127.0.0.1", user, "verify-ca"), own),
        "true",
    );
    works(
        &trusting(before("localhost", user, "verify-full"), own),
        "true",
    );
    fails(
        &trusting(before("localhost", user, "verify-ca"), stranger),
        "08",
    );
    fails(
        &trusting(before("127.0.0.1", user, "verify-full"), own),
        "08",
    );
}

#[test]
fn verify_full_asks_for_the_name_of_the_host_that_is_used() {
    let both = |list: &str| trusting(before(list, "tls_user", "verify-full"), &scene().authority);
    works(&both("127.0.0.1,localhost"), "true");
    fails(&both("127.0.0.1,127.0.0.1"), "08");
}

#[test]
fn a_certificate_whose_time_is_over_is_worth_nothing_to_who_verifies() {
    let authority = Authority::new("an old authority");
    let postgres = Postgres::start_of(postgres_with_tls(), &[]);
    let identity = authority.sign_expired("a server", &["localhost"]);
    for (name, file, content) in [
        ("ssl_cert_file", "own.crt", &identity.certificate),
        ("ssl_key_file", "own.key", &identity.key),
    ] {
        let path = postgres.private_file(file, content);
        postgres.run(&format!("alter system set {name} = '{}'", path.display()));
    }
    postgres.run("alter system set ssl = on");
    postgres.again();
    let before = |mode: &str| {
        let config = config().server("app", postgres.server(), "app");
        let config = config.database("app", "host", "localhost");
        config.pooler("server_tls_sslmode", mode)
    };
    works(&before("require"), "true");
    fails(&trusting(before("verify-ca"), &authority), "08");
    fails(&trusting(before("verify-full"), &authority), "08");
}

#[test]
fn prefer_speaks_in_clear_only_with_a_server_that_has_no_tls() {
    fails(&before("localhost", "clear_user", "prefer"), "28000");
    works(&before("localhost", "clear_user", "disable"), "false");
}

#[test]
fn the_versions_of_tls_are_those_allowed() {
    for (protocols, version) in [("tlsv1.2", "true TLSv1.2"), ("tlsv1.3", "true TLSv1.3")] {
        let config = before("localhost", "tls_user", "require");
        works(&config.pooler("server_tls_protocols", protocols), version);
    }
}

#[test]
fn postgres_knows_the_pooler_by_its_certificate() {
    let own = &scene().authority;
    let config = || trusting(before("localhost", "cert_user", "verify-full"), own);
    works(
        &showing(config(), &own.sign("cert_user", &[])),
        "true TLSv1.3 /CN=cert_user",
    );
    fails(&config(), "28000");
    fails(&showing(config(), &own.sign("somebody_else", &[])), "28000");
    fails(
        &showing(config(), &scene().stranger.sign("cert_user", &[])),
        "08",
    );
}

#[test]
fn a_password_can_be_asked_for_besides() {
    let own = &scene().authority;
    let config = trusting(before("localhost", "scram_user", "verify-full"), own);
    let config = showing(config, &own.sign("anybody", &[]));
    works(
        &config.clone().database("app", "password", "scram-secret"),
        "true TLSv1.3 /CN=anybody",
    );
    fails(&config.database("app", "password", "wrong"), "28P01");
}

#[test]
fn a_cancel_reaches_a_server_that_speaks_only_tls() {
    let own = &scene().authority;
    let pooler = trusting(before("localhost", "tls_user", "verify-full"), own).start();
    let mut client: Client = pooler.connect();
    let marker = format!("tls_cancel_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    scene().postgres.runs(&marker);
    client.cancel();
    assert_eq!(client.until_ready().error().code, "57014");
}

/// A pooler before a cluster of that one server, which speaks clear text to all other servers.
fn cluster(host: &str, user: &str, mode: &str) -> Config {
    let node = format!("{host}:{}", scene().postgres.server().port);
    config()
        .without_key("databases.app", "host")
        .without_key("databases.app", "port")
        .database("app", "cluster", "main")
        .database("app", "user", user)
        .set("clusters.main", "nodes", [node.as_str()])
        .set("clusters.main", "probe_user", "tls_user")
        .set("clusters.main", "hold_timeout", "2s")
        .set("clusters.main", "server_tls_sslmode", mode)
        .pooler("server_tls_sslmode", "disable")
        .pooler("query_wait_timeout", "5s")
}

fn cluster_trusts(config: Config, authority: &Authority) -> Config {
    config
        .set("clusters.main", "server_tls_ca_file", "{folder}/own-ca.crt")
        .file("own-ca.crt", &authority.pem())
}

#[test]
fn a_cluster_has_a_tls_of_its_own_beside_that_of_all_other_servers() {
    let (own, stranger) = (&scene().authority, &scene().stranger);
    // The probes' user is let in by TLS alone, too.
    works(&cluster("127.0.0.1", "tls_user", "require"), "true TLSv1.3");
    fails(&cluster("localhost", "tls_user", "disable"), "57P03");
    let config = cluster_trusts(cluster("localhost", "tls_user", "verify-full"), own);
    works(&config, "true");
    let server = scene().postgres.server();
    let beside = config
        .clone()
        .server("plain", server, "app")
        .database("plain", "user", "clear_user")
        .start();
    let mut plain = beside.login().database("plain").connect();
    assert!(plain.value(HOW).starts_with("false"));
    assert!(beside.connect().value(HOW).starts_with("true"));
    fails(
        &cluster_trusts(cluster("localhost", "tls_user", "verify-ca"), stranger),
        "57P03",
    );
    fails(
        &cluster_trusts(cluster("127.0.0.1", "tls_user", "verify-full"), own),
        "57P03",
    );
    let old = cluster("localhost", "tls_user", "require");
    works(
        &old.set("clusters.main", "server_tls_protocols", "tlsv1.2"),
        "true TLSv1.2",
    );
    let shown = own.sign("cert_user", &[]);
    let config = cluster_trusts(cluster("localhost", "cert_user", "verify-full"), own)
        .set("clusters.main", "server_tls_cert_file", "{folder}/own.crt")
        .set("clusters.main", "server_tls_key_file", "{folder}/own.key")
        .file("own.crt", &shown.certificate)
        .file("own.key", &shown.key);
    works(&config, "true TLSv1.3 /CN=cert_user");
}

#[test]
fn a_reload_puts_another_tls_of_a_cluster_in_force_or_refuses_it_whole() {
    let (own, stranger) = (&scene().authority, &scene().stranger);
    let config = cluster_trusts(cluster("localhost", "tls_user", "verify-full"), own);
    let pooler = config.start();
    let mut client = pooler.connect();
    assert!(client.value(HOW).starts_with("true"));
    let mut hopeful = pooler.console();
    pooler.rewrite(&config.clone().set(
        "clusters.main",
        "server_tls_ca_file",
        "{folder}/missing.crt",
    ));
    let fault = hopeful.query("RELOAD").error().clone();
    assert!(fault.says("clusters.main.server_tls_ca_file"), "{fault:?}");
    assert!(client.value(HOW).starts_with("true"));
    let wrong = config.set("clusters.main", "server_tls_ca_file", "{folder}/ca.crt");
    pooler.reload(&wrong.file("ca.crt", &stranger.pem()));
    crate::support::eventually(
        std::time::Duration::from_secs(30),
        "nobody trusts it",
        || {
            let reply = client.query(HOW);
            reply
                .errors
                .first()
                .is_some_and(|fault| fault.code == "57P03")
        },
    );
}
