//! Every way to log in, with every kind of user, password and connection: who is let in, and with which code the others are refused.
//!
//! The table is the promise; no cell is left out. What must never happen: an "in" that the table does not have. The same table holds
//! for a `pgbouncer.ini`, where each refusal has PgBouncer's words and 08P01; Debian's PgBouncer 1.18 runs beside with the same file,
//! where it has the method (it has no directory, and no maps for `peer`).

use std::path::Path;
use std::process::Command;

use crate::support::directory::{BASE, Directory};
#[cfg(feature = "pam")]
use crate::support::pam::Service;
use crate::support::pgbouncer::{Side, Which};
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{binaries, postgres};
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

/// What a build with the cargo feature `pam` adds. PAM alone says who is known; the user lists are not asked.
#[cfg(feature = "pam")]
const BY_PAM: &[(&str, [&str; 4])] = &[(
    "pam",
    [
        "in 28P01 28P01",
        "in 28P01 28P01",
        "28P01 28P01 28P01",
        "28P01 28P01 28P01",
    ],
)];

/// What both are started from; the user lists of `pooler.toml` and of the ini hold the same.
const INI: &str = "\
[databases]
app = host=127.0.0.1 port={pg} dbname=app user=app

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = {type}
auth_file = {folder}/users.txt
client_tls_sslmode = {mode}
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
client_tls_ca_file = {folder}/ca.crt
";

const USERS: &str = "\"app\" \"app\"\n\"admin\" \"admin\"\n\"stats\" \"stats\"\n";

const PROOFS: [&str; 3] = ["right", "wrong", "empty"];

pub struct Scene {
    pub authority: Authority,
    pub directory: Directory,
}

/// Whom the tests run as.
pub fn account() -> String {
    let output = Command::new("id").arg("-un").output().expect("id is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whom PostgreSQL's programs run as: another one where the tests run as root.
pub fn account_of_programs() -> String {
    let other = binaries().account();
    other.map_or_else(account, |other| other.name().to_owned())
}

impl Scene {
    /// How the directory is asked.
    fn asking(&self) -> String {
        let port = self.directory.port;
        format!("ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"{BASE}\"")
    }

    fn pooler(&self, method: &str) -> Pooler {
        let Identity { certificate, key } = self.authority.sign("pooler", &["localhost"]);
        let directory = self.asking();
        let (auth_type, mode) = type_and_mode(method);
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

    /// The same by a `pgbouncer.ini`.
    pub fn side(&self, which: Which, method: &str) -> Side {
        let Identity { certificate, key } = self.authority.sign("pooler", &["localhost"]);
        let (auth_type, mode) = type_and_mode(method);
        let (port, directory) = (postgres().server().port, self.asking());
        let mut ini = INI
            .replace("{pg}", &port.to_string())
            .replace("{type}", auth_type)
            .replace("{mode}", mode);
        let mut files = vec![
            ("server.crt".to_owned(), certificate),
            ("server.key".to_owned(), key),
            ("ca.crt".to_owned(), self.authority.pem()),
        ];
        if method == "ldap" {
            ini += &format!("auth_ldap_options = {directory}\n");
        }
        if let Some(rule) = method.strip_prefix("hba ") {
            ini += "auth_hba_file = {folder}/hba\n";
            if rule == "peer" {
                ini += "auth_ident_file = {folder}/ident\n";
            }
            files.push(("hba".to_owned(), rules(rule, &directory)));
            files.push(("ident".to_owned(), ident()));
        }
        let names = [account(), account_of_programs()];
        let users: String = names
            .iter()
            .map(|name| format!("\"{name}\" \"\"\n"))
            .collect();
        let users = format!("{USERS}{users}");
        Side::start_beside(which, &ini, &users, &files)
    }

    fn login(&self, folder: &Path, port: u16, method: &str, cell: Cell) -> Login {
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
        let login = Login::at(Address::tcp(port))
            .user(user)
            .database("app")
            .password(password);
        let shows = matches!(method, "cert" | "hba cert");
        let identity = match proof {
            "right" if shows => Some(self.authority.sign(right, &[])),
            "wrong" if shows => Some(self.authority.sign(other, &[])),
            _ => None,
        };
        match (method, has_tls) {
            ("hba peer", false) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                Login::at(Address::Unix(path)).user(user).database("app")
            }
            (_, true) => login.tls(self.authority.trusted(identity.as_ref()), "localhost"),
            (_, false) => login,
        }
    }
}

/// The `auth_type` of a method, and the TLS that it demands.
fn type_and_mode(method: &str) -> (&str, &'static str) {
    let mode = match method {
        "cert" => "verify-full",
        _ => "prefer",
    };
    (method.split(' ').next().unwrap(), mode)
}

fn rules(rule: &str, directory: &str) -> String {
    match rule {
        "peer" => "local all all peer map=m\n".to_owned(),
        "peer of one name" => "local all all peer\n".to_owned(),
        "ldap" => format!("host all all all ldap {directory}\n"),
        "nothing" => "host another all all trust\nlocal all all trust\n".to_owned(),
        "hostssl" => "hostssl all all 127.0.0.0/8 password\n".to_owned(),
        "hostnossl" => "hostnossl all all 127.0.0.0 255.0.0.0 password\n".to_owned(),
        method => format!("host all all 127.0.0.1/32 {method}\n"),
    }
}

fn ident() -> String {
    let account = account();
    format!("m {account} app\nm {account} nobody\nm another stats\n")
}

fn with_rule(config: Config, rule: &str, directory: &str) -> Config {
    config
        .pooler("auth_hba_file", "{folder}/hba")
        .pooler("auth_ident_file", "{folder}/ident")
        .file("hba", &rules(rule, directory))
        .file("ident", &ident())
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    is_known: bool,
    proof: &'static str,
    has_tls: bool,
}

/// Whether the client is in, and else in which words it was refused.
fn tried(login: &Login) -> Result<(), String> {
    match login.try_connect() {
        Ok(mut client) => {
            assert_eq!(client.value("select current_user"), "app");
            Ok(())
        }
        Err(Refusal::Told(fault)) => Err(format!(
            "{} {} {}",
            fault.severity, fault.code, fault.message
        )),
        Err(_) => Err("cut".to_owned()),
    }
}

/// An authority for certificates and a directory.
pub fn scene() -> Scene {
    Scene {
        authority: Authority::new("the tests' authority"),
        directory: Directory::start(),
    }
}

/// Every cell of a method with what the table says of it.
fn cells(rows: &[&'static str; 4]) -> Vec<(Cell, &'static str)> {
    let kinds = [(true, false), (true, true), (false, false), (false, true)];
    let mut cells = Vec::new();
    for (row, (is_known, has_tls)) in rows.iter().zip(kinds) {
        let expected: Vec<_> = row.split(' ').collect();
        assert_eq!(expected.len(), PROOFS.len(), "{row}");
        for (expected, proof) in expected.into_iter().zip(PROOFS) {
            let cell = Cell {
                is_known,
                proof,
                has_tls,
            };
            cells.push((cell, expected));
        }
    }
    cells
}

/// Tries every cell of `table` with a `pooler.toml`.
fn try_all(table: &[(&str, [&'static str; 4])]) {
    let scene = scene();
    let mut wrong = Vec::new();
    for (method, rows) in table {
        let pooler = scene.pooler(method);
        for (cell, expected) in cells(rows) {
            let login = scene.login(&pooler.folder, pooler.port, method, cell);
            let found = match tried(&login) {
                Ok(()) => "in".to_owned(),
                Err(told) => told.split(' ').nth(1).unwrap_or("cut").to_owned(),
            };
            if found != expected {
                wrong.push(format!(
                    "{method}, {cell:?}: {expected} expected, {found} found"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_way_to_log_in_lets_in_exactly_whom_the_table_says() {
    try_all(CELLS);
}

#[cfg(feature = "pam")]
#[test]
fn pam_lets_in_exactly_whom_the_table_says() {
    let _service = Service::install();
    try_all(BY_PAM);
}

#[cfg(feature = "pam")]
#[test]
fn pam_is_asked_over_the_unix_socket_too_and_its_account_modules_are_heeded() {
    let _service = Service::install();
    let pooler = scene().pooler("pam");
    let socket = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
    for address in [Address::Unix(socket), Address::tcp(pooler.port)] {
        let login = |user: &str| Login::at(address.clone()).user(user).password(user);
        assert_eq!(tried(&login("app").database("app")), Ok(()));
        let refused = tried(&login("banned").database("app")).unwrap_err();
        assert!(refused.starts_with("FATAL 28P01 "), "{refused}");
    }
}

/// PgBouncer's words for a cell that the table does not let in.
fn words(which: Which, method: &str, cell: Cell) -> &'static str {
    let has_rule = match method {
        "hba nothing" => false,
        "hba hostssl" => cell.has_tls,
        "hba hostnossl" | "hba peer" => !cell.has_tls,
        _ => true,
    };
    if !has_rule {
        // Later releases tell it from a rule that rejects.
        return match which {
            Which::PgBouncer => "login rejected",
            Which::Pooler => "no authentication method is found",
        };
    }
    match method {
        "cert" if !cell.has_tls => "SSL required",
        "trust" | "hba trust" => "\"trust\" authentication failed",
        "md5" | "hba md5" => "password authentication failed",
        "scram-sha-256" | "hba scram-sha-256" => "SASL authentication failed",
        "cert" | "hba cert" => "certificate authentication failed",
        "hba peer" => "unix socket login rejected",
        "hba reject" => "login rejected",
        // What is left sends the password itself.
        _ if cell.proof == "empty" => "empty password returned by client",
        "ldap" | "hba ldap" => "LDAP authentication failed",
        "pam" => "PAM authentication failed",
        _ => "password authentication failed",
    }
}

/// Tries every cell of `table` with an ini, before PgBouncer and the pooler.
fn try_all_by_ini(table: &[(&str, [&'static str; 4])]) {
    let scene = scene();
    let mut wrong = Vec::new();
    for (method, rows) in table {
        for which in [Which::PgBouncer, Which::Pooler] {
            if which == Which::PgBouncer && (method.ends_with("ldap") || *method == "hba peer") {
                continue;
            }
            let side = scene.side(which, method);
            for (cell, expected) in cells(rows) {
                let expected = match expected {
                    "in" => Ok(()),
                    "cut" => Err("cut".to_owned()),
                    _ => Err(format!("FATAL 08P01 {}", words(which, method, cell))),
                };
                let found = tried(&scene.login(&side.folder, side.port, method, cell));
                if found != expected {
                    wrong.push(format!(
                        "{which:?}, {method}, {cell:?}: {expected:?} expected, {found:?} found"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn from_an_ini_each_refusal_has_pgbouncers_words_and_its_code() {
    try_all_by_ini(CELLS);
}

#[cfg(feature = "pam")]
#[test]
fn from_an_ini_each_refusal_of_pam_has_pgbouncers_words_and_its_code() {
    let _service = Service::install();
    try_all_by_ini(BY_PAM);
}
