//! Rules of HBA and ident files, from outside; and what is said when a login cannot be. What must never happen: a rule that is gone
//! lets somebody in, or a client is told that its password was wrong when the pooler's was.

use postgres_protocol::password::{md5, scram_sha_256};

use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{postgres, program};
use crate::support::wire::{Address, Login, batch, code};

fn ruled(rules: &str) -> Config {
    config()
        .pooler("auth_type", "hba")
        .pooler("auth_hba_file", "{folder}/hba")
        .pooler("unix_socket_dir", "{folder}")
        .file("hba", rules)
        .database("app", "user", "app")
}

fn by_socket(pooler: &Pooler) -> Login {
    let path = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
    Login::at(Address::Unix(path))
        .user("app")
        .database("app")
        .password("app")
}

#[test]
fn rules_are_read_again_at_a_reload_and_the_last_good_ones_stay() {
    let pooler = ruled("host all all all trust\n").start();
    assert_eq!(code(&pooler.login().password("wrong")), Ok(()));
    pooler.rewrite(&ruled(
        "host all app all password\nhost pgbouncer all all trust\n",
    ));
    pooler.show("RELOAD");
    assert_eq!(code(&pooler.login().password("wrong")), Err("28P01".into()));
    assert_eq!(code(&pooler.login()), Ok(()));
    let nobody = Config::without_key(ruled(""), "pooler", "auth_hba_file")
        .pooler("auth_hba_file", "{folder}/gone");
    pooler.rewrite(&nobody);
    let reply = pooler.console().query("RELOAD");
    assert!(!reply.errors.is_empty());
    assert_eq!(code(&pooler.login().password("wrong")), Err("28P01".into()));
}

#[test]
fn a_bad_line_is_named_in_the_log_and_by_check_and_the_rest_holds() {
    let rules = "# rules\nhost all all samehost trust\nhost all +group all trust\nhost all all 10.0.0.1/8 trust\nhost all all all password\n";
    let pooler = ruled(rules).start();
    assert_eq!(code(&pooler.login().password("wrong")), Err("28P01".into()));
    assert_eq!(code(&pooler.login()), Ok(()));
    let log = pooler.log();
    for line in ["hba:2: ", "hba:3: ", "hba:4: "] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("hba:5: "), "{log}");
}

#[test]
fn names_may_stand_in_files_beside_the_rules() {
    let pooler = ruled("host all @people all trust\n")
        .file("people", "app,\"other one\"\nstats\n")
        .start();
    assert_eq!(code(&pooler.login()), Ok(()));
    assert_eq!(code(&pooler.login().user("admin")), Err("28000".into()));
}

#[test]
fn the_console_is_a_database_with_rules_like_any_other() {
    let pooler = ruled("host pgbouncer admin all password\nhost app all all trust\n").start();
    let console = pooler.login().user("admin").database("pgbouncer");
    assert_eq!(console.clone().password("wrong").refused().code, "28P01");
    console.password("admin").connect();
}

#[test]
fn physical_replication_needs_a_rule_of_its_own() {
    let pooler = ruled("host all all all trust\n").start();
    let physical = pooler.login().parameter("replication", "true");
    assert_eq!(physical.refused().code, "28000");
}

#[test]
fn tls_is_not_demanded_of_unix_sockets() {
    let authority = crate::support::tls::Authority::new("the tests' authority");
    let identity = authority.sign("pooler", &["localhost"]);
    let pooler = config()
        .pooler("client_tls_sslmode", "require")
        .pooler("client_tls_cert_file", "{folder}/server.crt")
        .pooler("client_tls_key_file", "{folder}/server.key")
        .pooler("unix_socket_dir", "{folder}")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
        .start();
    assert_eq!(code(&by_socket(&pooler)), Ok(()));
    assert_eq!(code(&pooler.login()), Err("28000".into()));
}

#[test]
fn whose_password_a_server_refused_is_said() {
    let pooler = config()
        .pooler("auth_type", "plain")
        .database("app", "user", "scram_user")
        .database("app", "password", "not the server's")
        .start();
    let fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    let port = postgres().server().port.to_string();
    assert!(
        fault.says("password authentication failed for user \"scram_user\""),
        "{fault:?}"
    );
    assert!(
        fault.detail.contains("The pooler itself") && fault.detail.contains(&port),
        "{fault:?}"
    );
    assert!(fault.detail.contains("\"scram_user\""), "{fault:?}");
    assert!(
        fault.hint.contains("not the client's password"),
        "{fault:?}"
    );
    let own = pooler.login().password("wrong").refused();
    assert_eq!((own.detail.as_str(), own.hint.as_str()), ("", ""));
}

#[test]
fn a_secret_that_cannot_open_the_server_is_named_by_its_kind() {
    for (server_user, secret, why) in [
        (
            "scram_user",
            md5(b"scram-secret", "scram_user"),
            "neither the password nor a SCRAM secret",
        ),
        (
            "plain_user",
            md5(b"plain-secret", "plain_user"),
            "only a hash of it is known",
        ),
        (
            "md5_user",
            scram_sha_256(b"md5-secret"),
            "neither the password nor its MD5 hash",
        ),
        (
            "scram_user",
            scram_sha_256(b"scram-secret"),
            "did not provide SCRAM keys",
        ),
    ] {
        let pooler = config()
            .pooler("auth_type", "trust")
            .userlist(server_user, &secret)
            .start();
        let fault = pooler.login().user(server_user).refused();
        assert!(
            fault.says("server login failed: wrong password type"),
            "{fault:?}"
        );
        assert!(fault.detail.contains(why), "{fault:?}");
    }
}

#[test]
fn keys_of_another_secret_are_not_shown_to_a_server() {
    let verifier = postgres()
        .watch("postgres")
        .value("select rolpassword from pg_authid where rolname = 'scram_user'");
    let other = scram_sha_256(b"scram-secret");
    // The password is right and the secret another than the server's: the server, asked with these keys, refuses.
    let listed = |secret: &str| {
        config()
            .pooler("auth_type", "plain")
            .userlist("scram_user", secret)
    };
    let pooler = listed(&other).start();
    let login = pooler.login().user("scram_user").password("scram-secret");
    assert_eq!(login.refused().code, "28P01");
    // With the server's own secret a password in clear gives the keys as well as a proof does.
    pooler.rewrite(&listed(&verifier));
    pooler.signal("HUP");
    crate::support::eventually(
        crate::support::wire::PATIENCE,
        "the new secret opens",
        || login.try_connect().is_ok(),
    );
}

#[test]
fn an_md5_secret_under_scram_is_told_to_the_operator_once_and_to_no_client() {
    let pooler = config()
        .pooler("auth_type", "scram-sha-256")
        .userlist("old", &md5(b"secret", "old"))
        .start();
    for _ in 0..3 {
        let fault = pooler.login().user("old").password("secret").refused();
        assert_eq!(
            fault.message,
            "password authentication failed for user \"old\""
        );
        assert_eq!((fault.detail.as_str(), fault.hint.as_str()), ("", ""));
    }
    assert_eq!(
        pooler
            .log()
            .matches("the stored password is an MD5 hash")
            .count(),
        1
    );
}

#[test]
fn psql_and_pgbench_log_in_by_rules() {
    let rules = "host all app all scram-sha-256\nlocal all app md5\n";
    let pooler = ruled(rules).start();
    let port = pooler.port.to_string();
    for host in ["127.0.0.1", pooler.folder.to_str().unwrap()] {
        let run = |password: &str| {
            program("psql")
                .args([
                    "-X",
                    "-At",
                    "-h",
                    host,
                    "-p",
                    &port,
                    "-U",
                    "app",
                    "-c",
                    "select 'in'",
                    "app",
                ])
                .env("PGPASSWORD", password)
                .output()
                .expect("psql is there")
        };
        assert_eq!(run("app").stdout, b"in\n", "{host}");
        let refused = run("wrong");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("password authentication failed"),
            "{refused:?}"
        );
        let bench = program("pgbench")
            .args([
                "-n",
                "-h",
                host,
                "-p",
                &port,
                "-U",
                "app",
                "-c",
                "2",
                "-t",
                "5",
                "-f",
                "/dev/stdin",
                "app",
            ])
            .env("PGPASSWORD", "app")
            .stdin(std::fs::File::open(script(&pooler)).unwrap())
            .output()
            .expect("pgbench is there");
        assert!(
            bench.status.success(),
            "{host}: {}",
            String::from_utf8_lossy(&bench.stderr)
        );
    }
}

fn script(pooler: &Pooler) -> std::path::PathBuf {
    let path = pooler.folder.join("bench.sql");
    std::fs::write(&path, "select 1;\n").unwrap();
    path
}
