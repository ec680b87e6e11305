//! Every way to log in, with every kind of user, password and connection: who is let in, and with which code the others are refused.
//!
//! The table is the promise; no cell is left out. What must never happen: an "in" that the table does not have. Where PgBouncer 1.18
//! has the method (it has no directory, and no maps for `peer`), it was tried with psql and lets in exactly whom this table lets in;
//! its code is 08P01 for every refusal.

use std::process::Command;

use crate::support::directory::{BASE, Directory};
use crate::support::pooler::{Config, Pooler, config};
use crate::support::tls::{Authority, Identity};
use crate::support::wire::{Address, Login, Refusal};

/// For each method: a known user with the right, a wrong and an empty proof in clear, the same through TLS, then an unknown user alike.
///
/// The proof is the password; for `cert` the certificate's name, or no certificate; for `peer` it is that the map lets the user in
/// (clear is the Unix socket there, TLS is TCP), and there is no empty one. `cut` is a connection that ends without a word.
const CELLS: &[(&str, [&str; 4])] = &[
    ("any", ["in in in", "in in in", "in in in", "in in in"]),
    (
        "trust",
        [
            "in in in",
            "in in in",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "plain",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "md5",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "scram-sha-256",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "cert",
        [
            "28000 28000 28000",
            "in 28000 cut",
            "28000 28000 28000",
            "28000 28000 cut",
        ],
    ),
    (
        "ldap",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba trust",
        [
            "in in in",
            "in in in",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba password",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba md5",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba scram-sha-256",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba cert",
        [
            "28000 28000 28000",
            "in 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
        ],
    ),
    (
        "hba peer",
        [
            "in 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
        ],
    ),
    (
        "hba ldap",
        [
            "in 28P01 28P01",
            "in 28P01 28P01",
            "28P01 28P01 28P01",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba reject",
        [
            "28000 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
        ],
    ),
    (
        "hba nothing",
        [
            "28000 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
            "28000 28000 28000",
        ],
    ),
    (
        "hba hostssl",
        [
            "28000 28000 28000",
            "in 28P01 28P01",
            "28000 28000 28000",
            "28P01 28P01 28P01",
        ],
    ),
    (
        "hba hostnossl",
        [
            "in 28P01 28P01",
            "28000 28000 28000",
            "28P01 28P01 28P01",
            "28000 28000 28000",
        ],
    ),
];

const PROOFS: [&str; 3] = ["right", "wrong", "empty"];

struct Scene {
    authority: Authority,
    directory: Directory,
}

/// Whom the tests run as.
fn account() -> String {
    let output = Command::new("id").arg("-un").output().expect("id is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Scene {
    fn pooler(&self, method: &str) -> Pooler {
        let Identity { certificate, key } = self.authority.sign("pooler", &["localhost"]);
        let directory = format!(
            "ldapserver=127.0.0.1 ldapport={} ldapbasedn=\"{BASE}\"",
            self.directory.port
        );
        let auth_type = method.split(' ').next().unwrap();
        let mode = if method == "cert" {
            "verify-full"
        } else {
            "prefer"
        };
        let config = config()
            .pooler("auth_type", auth_type)
            .pooler("client_tls_sslmode", mode)
            .pooler("client_tls_cert_file", "{folder}/server.crt")
            .pooler("client_tls_key_file", "{folder}/server.key")
            .pooler("client_tls_ca_file", "{folder}/ca.crt")
            .pooler("unix_socket_dir", "{folder}")
            .file("server.crt", &certificate)
            .file("server.key", &key)
            .file("ca.crt", &self.authority.pem())
            .database("app", "user", "app");
        match method.strip_prefix("hba ") {
            Some(rule) => with_rule(config, rule, &directory).start(),
            None if method == "ldap" => config.pooler("auth_ldap_options", directory).start(),
            None => config.start(),
        }
    }

    fn login(&self, pooler: &Pooler, method: &str, cell: Cell) -> Login {
        let Cell {
            is_known,
            proof,
            has_tls,
        } = cell;
        let (right, other) = if is_known {
            ("app", "other")
        } else {
            ("nobody", "other")
        };
        // Known, and not in the map.
        let user = match (method, proof) {
            ("hba peer", "wrong" | "empty") if is_known => "stats",
            _ => right,
        };
        let password = match proof {
            "right" => right,
            "wrong" => "wrong",
            _ => "",
        };
        let login = pooler.login().user(user).password(password);
        let shows = matches!(method, "cert" | "hba cert");
        let identity = match proof {
            "right" if shows => Some(self.authority.sign(right, &[])),
            "wrong" if shows => Some(self.authority.sign(other, &[])),
            _ => None,
        };
        match (method, has_tls) {
            ("hba peer", false) => {
                let path = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
                Login::at(Address::Unix(path)).user(user).database("app")
            }
            (_, true) => login.tls(self.authority.trusted(identity.as_ref()), "localhost"),
            (_, false) => login,
        }
    }
}

fn with_rule(config: Config, rule: &str, directory: &str) -> Config {
    let rules = match rule {
        "peer" => "local all all peer map=m\n".to_owned(),
        "ldap" => format!("host all all all ldap {directory}\n"),
        "nothing" => "host another all all trust\nlocal all all trust\n".to_owned(),
        "hostssl" => "hostssl all all 127.0.0.0/8 password\n".to_owned(),
        "hostnossl" => "hostnossl all all 127.0.0.0 255.0.0.0 password\n".to_owned(),
        method => format!("host all all 127.0.0.1/32 {method}\n"),
    };
    let account = account();
    config
        .pooler("auth_hba_file", "{folder}/hba")
        .pooler("auth_ident_file", "{folder}/ident")
        .file("hba", &rules)
        .file(
            "ident",
            &format!("m {account} app\nm {account} nobody\nm another stats\n"),
        )
}

#[derive(Clone, Copy)]
struct Cell {
    is_known: bool,
    proof: &'static str,
    has_tls: bool,
}

fn outcome(login: &Login) -> String {
    match login.try_connect() {
        Ok(mut client) => {
            assert_eq!(client.value("select current_user"), "app");
            "in".to_owned()
        }
        Err(Refusal::Told(fault)) => fault.code,
        Err(_) => "cut".to_owned(),
    }
}

#[test]
fn every_way_to_log_in_lets_in_exactly_whom_the_table_says() {
    let scene = Scene {
        authority: Authority::new("the tests' authority"),
        directory: Directory::start(),
    };
    let mut wrong = Vec::new();
    for (method, rows) in CELLS {
        let pooler = scene.pooler(method);
        for (row, (is_known, has_tls)) in
            rows.iter()
                .zip([(true, false), (true, true), (false, false), (false, true)])
        {
            let expected: Vec<_> = row.split(' ').collect();
            assert_eq!(expected.len(), PROOFS.len(), "{method}");
            for (expected, proof) in expected.into_iter().zip(PROOFS) {
                let cell = Cell {
                    is_known,
                    proof,
                    has_tls,
                };
                let found = outcome(&scene.login(&pooler, method, cell));
                if found != expected {
                    wrong.push(format!(
                        "{method}, known: {is_known}, TLS: {has_tls}, {proof}: {expected} expected, {found} found"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
