//! Rules that one key alone cannot break, and values that are possible but senseless.
//!
//! Pure: whether files exist is looked up by [`super::load`]. Every rule is asked, so that all that is wrong is known
//! at once; a rule about a key that was refused already keeps silent, for it would only repeat the refusal.

use std::collections::BTreeSet;

use crate::config::clusters;
use crate::config::node::has_port;
use crate::config::problem::{Position, Problem, Problems, Refusal, path};
use crate::config::routing;
use crate::config::schema::POOLER;
use crate::config::settings::{DatabaseSettings, PoolerSettings, Settings};
use crate::config::unserved;
use crate::config::value::{Dialect, TlsMode};

mod logins;

/// Names that belong to the console.
pub const CONSOLE_NAMES: &[&str] = &["pgbouncer", "pooler"];

/// The longest name Postgres knows, in bytes.
const LONGEST_NAME: usize = 63;

/// Everything that is wrong with `settings`; problems carry the key, not the line.
pub fn check(settings: &Settings) -> Problems {
    Problems(all_but(settings, &BTreeSet::new()))
}

/// As [`check`], but silent about keys that were `refused` already.
pub fn all_but(settings: &Settings, refused: &BTreeSet<String>) -> Vec<Problem> {
    let mut findings = Findings {
        settings,
        refused,
        found: Vec::new(),
    };
    findings.listening();
    findings.tls();
    findings.auth_type();
    if settings.dialect == Dialect::Native {
        findings.limits();
        findings.unserved();
        findings.clients_can_log_in();
        findings.require_databases();
    }
    findings.auth_query();
    findings.databases();
    findings.clusters();
    findings.peers();
    findings.users();
    findings.log_level();
    findings.found
}

struct Findings<'s> {
    settings: &'s Settings,
    refused: &'s BTreeSet<String>,
    found: Vec<Problem>,
}

impl Findings<'_> {
    /// Notes a problem of the first of `keys`, unless one of them was refused.
    fn note(&mut self, keys: &[&[&str]], refusal: Refusal) {
        let keys: Vec<String> = keys.iter().map(|parts| path(parts)).collect();
        if keys.iter().any(|key| self.refused.contains(key)) {
            return;
        }
        let key = keys.first().map_or("", String::as_str);
        self.found.push(refusal.at(&Position::default(), key));
    }

    /// Whether anything in the sections `[kind.*]` was refused.
    fn has_refused(&self, kind: &str) -> bool {
        let within = format!("{kind}.");
        let mut refused = self.refused.iter();
        refused.any(|key| key == kind || key.starts_with(&within))
    }

    fn listening(&mut self) {
        let pooler = &self.settings.pooler;
        if pooler.listen_addr.is_empty() && pooler.unix_socket_dir.is_empty() {
            self.note(
                &[&["pooler", "listen_addr"], &["pooler", "unix_socket_dir"]],
                Refusal::new("nothing to listen on: no address, and no unix_socket_dir")
                    .hint("for example listen_addr = \"127.0.0.1\""),
            );
        }
        if pooler.listen_addr.iter().any(String::is_empty) {
            let refusal = Refusal::new("holds an empty address").hint("\"*\" means all addresses");
            self.note(&[&["pooler", "listen_addr"]], refusal);
        }
    }

    /// Keys that could change nothing, and do not ask for what is done anyhow.
    fn unserved(&mut self) {
        let (mut pooler, mut usual) = (self.settings.pooler.clone(), PoolerSettings::default());
        for key in POOLER.keys {
            let value = (key.place)(&mut pooler).print();
            if value == (key.place)(&mut usual).print() {
                continue;
            }
            if let Some(warning) = unserved::warning(key.name, &value) {
                let refusal = Refusal::new(warning).hint("leave it out");
                self.note(&[&["pooler", key.name]], refusal);
            }
        }
    }

    fn limits(&mut self) {
        let pooler = &self.settings.pooler;
        let too_small = [
            ("max_client_conn", pooler.max_client_conn == 0, "10000"),
            ("scram_iterations", pooler.scram_iterations == 0, "4096"),
            ("listen_backlog", pooler.listen_backlog == 0, "128"),
            ("stats_period", pooler.stats_period.is_zero(), "\"60s\""),
        ];
        for (key, is_zero, usual) in too_small {
            if is_zero {
                let refusal = Refusal::new("may not be 0").hint(format!("the default is {usual}"));
                self.note(&[&["pooler", key]], refusal);
            }
        }
        if pooler.threads > 1_024 {
            let refusal = Refusal::new(format!("{} threads are too many", pooler.threads));
            self.note(
                &[&["pooler", "threads"]],
                refusal.hint("0 means one per core"),
            );
        }
        if pooler.max_packet_size < 1_024 {
            let refusal = Refusal::new("is too small to log in with");
            self.note(
                &[&["pooler", "max_packet_size"]],
                refusal.hint("the default is 2147483647"),
            );
        }
        let (least, most) = (pooler.min_pool_size, pooler.default_pool_size);
        if most > 0 && least > most {
            self.note(
                &[
                    &["pooler", "min_pool_size"],
                    &["pooler", "default_pool_size"],
                ],
                Refusal::new(format!(
                    "{least} is more than default_pool_size, which is {most}"
                )),
            );
        }
    }

    fn tls(&mut self) {
        let pooler = &self.settings.pooler;
        let (cert, key) = ("client_tls_cert_file", "client_tls_key_file");
        let files = [
            (cert, pooler.client_tls_cert_file.is_some()),
            (key, pooler.client_tls_key_file.is_some()),
        ];
        for (file, is_given) in files {
            if pooler.client_tls_sslmode != TlsMode::Disable && !is_given {
                let mode = pooler.client_tls_sslmode.as_str();
                self.note(
                    &[&["pooler", "client_tls_sslmode"], &["pooler", file]],
                    Refusal::new(format!("\"{mode}\" needs {file}"))
                        .hint(format!("set {file}, or client_tls_sslmode = \"disable\"")),
                );
            }
        }
        if pooler.server_tls_cert_file.is_some() != pooler.server_tls_key_file.is_some() {
            let (given, missing) = if pooler.server_tls_cert_file.is_some() {
                ("server_tls_cert_file", "server_tls_key_file")
            } else {
                ("server_tls_key_file", "server_tls_cert_file")
            };
            self.note(
                &[&["pooler", given], &["pooler", missing]],
                Refusal::new(format!("needs {missing} beside it")),
            );
        }
        let sides = [
            (
                "client_tls_sslmode",
                "client_tls_ca_file",
                pooler.client_tls_sslmode,
                &pooler.client_tls_ca_file,
            ),
            (
                "server_tls_sslmode",
                "server_tls_ca_file",
                pooler.server_tls_sslmode,
                &pooler.server_tls_ca_file,
            ),
        ];
        for (mode_key, ca_key, mode, ca) in sides {
            if mode.is_verifying() && ca.is_none() {
                self.note(
                    &[&["pooler", mode_key], &["pooler", ca_key]],
                    Refusal::new(format!("\"{}\" needs {ca_key}", mode.as_str())),
                );
            }
        }
    }

    fn is_console(&self, database: &str) -> bool {
        match self.settings.dialect {
            Dialect::Native => CONSOLE_NAMES.contains(&database),
            Dialect::PgBouncer => database == CONSOLE_NAMES[0],
        }
    }

    fn require_databases(&mut self) {
        let settings = self.settings;
        if settings.databases.is_empty() && !self.has_refused("databases") {
            self.note(
                &[&["databases"]],
                Refusal::new("no database is listed")
                    .hint("add one, for example [databases.app] with host = \"127.0.0.1\""),
            );
        }
    }

    fn databases(&mut self) {
        let settings = self.settings;
        for (name, database) in &settings.databases {
            self.database_name(name);
            self.database(name, database);
        }
    }

    fn database_name(&mut self, name: &str) {
        let refusal = if self.is_console(name) {
            Refusal::new(format!("\"{name}\" is the name of the console"))
                .hint("give it another name, and the real one as dbname")
        } else if name.is_empty() {
            Refusal::new("a database needs a name")
        } else if name.len() > LONGEST_NAME {
            Refusal::new(format!(
                "a name may have {LONGEST_NAME} bytes, this has {}",
                name.len()
            ))
        } else {
            return;
        };
        self.note(&[&["databases", name]], refusal);
    }

    fn database(&mut self, name: &str, database: &DatabaseSettings) {
        let pooler = &self.settings.pooler;
        let within = ["databases", name];
        let key = |key| [within.as_slice(), &[key]].concat();
        let is_nowhere = database.host.is_none() && database.cluster.is_none();
        if is_nowhere && pooler.unix_socket_dir.is_empty() {
            self.note(
                &[&within, &key("host"), &["pooler", "unix_socket_dir"]],
                Refusal::new("has no host, and there is no unix_socket_dir to look in")
                    .hint("for example host = \"127.0.0.1\""),
            );
        }
        self.hosts(name, database);
        let least = database.min_pool_size.unwrap_or(pooler.min_pool_size);
        let most = database.pool_size.unwrap_or(pooler.default_pool_size);
        // PgBouncer takes the smaller one.
        let is_own = self.settings.dialect == Dialect::Native
            && (database.min_pool_size.is_some() || database.pool_size.is_some());
        if is_own && most > 0 && least > most {
            self.note(
                &[&key("min_pool_size"), &key("pool_size")],
                Refusal::new(format!(
                    "{least} servers kept are more than the pool's {most}"
                )),
            );
        }
    }

    fn hosts(&mut self, name: &str, database: &DatabaseSettings) {
        let key = |key| ["databases", name, key];
        if database.port == 0 || database.more_ports.contains(&0) {
            let refusal = Refusal::new("may not be 0").hint("the default is 5432");
            self.note(&[&key("port")], refusal);
        }
        let hosts: Vec<_> = database
            .host
            .iter()
            .flat_map(|all| all.split(','))
            .collect();
        if hosts.iter().any(|host| host.trim().is_empty()) {
            let refusal = Refusal::new("holds an empty host");
            self.note(
                &[&key("host")],
                refusal.hint("for example host = \"db1,db2\""),
            );
        }
        let wrong = hosts.iter().find(|host| has_port(host.trim()));
        // PgBouncer takes it for a name: reading an ini warns of it.
        if let Some(host) = wrong.filter(|_| self.settings.dialect == Dialect::Native) {
            let refusal = Refusal::new(format!("{host:?} is no host"));
            self.note(
                &[&key("host")],
                refusal.hint("the port stands beside it, as port"),
            );
        }
        let ports = database.more_ports.len() + 1;
        if ports > 1 && ports != hosts.len().max(1) {
            let refusal = Refusal::new(format!(
                "{ports} ports do not fit {} hosts",
                hosts.len().max(1)
            ));
            self.note(
                &[&key("port"), &key("host")],
                refusal.hint("give one port, or one for each host"),
            );
        }
    }

    fn clusters(&mut self) {
        let found = clusters::wrongs(self.settings).into_iter();
        for (parts, refusal) in found.chain(routing::wrongs(self.settings)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            // A cluster whose section was refused is not missing.
            let is_echo = parts.last() == Some(&"cluster") && self.has_refused("clusters");
            if !is_echo {
                self.note(&[&parts], refusal);
            }
        }
    }

    fn peers(&mut self) {
        let settings = self.settings;
        if settings.pooler.peer_id > u32::from(u16::MAX) {
            let refusal =
                Refusal::new("is no number of a pooler").hint("choose one from 1 to 65535");
            self.note(&[&["pooler", "peer_id"]], refusal);
        }
        for (name, peer) in &settings.peers {
            let id = name.parse::<u16>().ok();
            if id.is_none_or(|id| id == 0 || id.to_string() != *name) {
                let refusal = Refusal::new(format!("{name:?} is no number of a pooler"));
                self.note(
                    &[&["peers", name]],
                    refusal.hint("it is the other's peer_id, from 1 to 65535"),
                );
            }
            if peer.host.is_none() {
                let refusal =
                    Refusal::new("has no host").hint("name the host of that pooler alone");
                self.note(&[&["peers", name], &["peers", name, "host"]], refusal);
            }
            if peer.port == 0 {
                let refusal = Refusal::new("may not be 0").hint("the default is 6432");
                self.note(&[&["peers", name, "port"]], refusal);
            }
        }
    }

    fn users(&mut self) {
        let settings = self.settings;
        for name in settings.users.keys() {
            if name.is_empty() || name.len() > LONGEST_NAME {
                let refusal = Refusal::new(format!("a name has 1 to {LONGEST_NAME} bytes"));
                self.note(&[&["users", name]], refusal);
            }
        }
    }

    fn log_level(&mut self) {
        const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
        let mut parts = self.settings.telemetry.log_level.split(',');
        let is_level = |part: &str| {
            let level = part.rsplit('=').next().unwrap_or_default().trim();
            LEVELS.contains(&level.to_ascii_lowercase().as_str())
        };
        if let Some(wrong) = parts.find(|part| !is_level(part)) {
            self.note(
                &[&["telemetry", "log_level"]],
                Refusal::new(format!(
                    "expected one of {}, found {wrong:?}",
                    LEVELS.join(", ")
                )),
            );
        }
    }
}

#[cfg(test)]
mod tests;
