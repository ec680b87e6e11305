//! No file at all: `DATABASE_URL`, or `DB_HOST` and its kin, make one database.
//!
//! An application in a container has such variables already, so the pooler can stand beside it with nothing else to
//! configure. Clients log in with the user and password that the variables name; the pooler logs in to the server
//! with the same. `POOLER__SECTION__KEY` variables apply on top.

use std::path::Path;

use crate::config::environment::Environment;
use crate::config::load::{finish, secret_in};
use crate::config::problem::{Position, Problems, Refusal, did_you_mean};
use crate::config::reading::Reading;
use crate::config::settings::{DatabaseSettings, PoolerSettings, Settings, UserSettings};
use crate::config::slot::{Given, Slot};
use crate::secret::Secret;

const URL: &str = "DATABASE_URL";

/// What the parameters after `?` are called.
const PARAMETERS: &[&str] = &[
    "application_name",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "host",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Settings out of `DATABASE_URL`, or of `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER` and `DB_PASSWORD`; `None` when
/// neither `DATABASE_URL` nor `DB_HOST` is set. The URL wins when both are.
///
/// # Errors
/// Inside the `Some`: everything that is wrong with them. The URL itself, which holds a password, is never shown.
pub fn from_environment(env: &Environment) -> Option<Result<Settings, Problems>> {
    let mut wanted = Wanted::default();
    let (variable, outcome) = if let Some(url) = env.get_filled(URL) {
        (URL, wanted.url(url))
    } else if env.get_filled("DB_HOST").is_some() {
        ("DB_HOST", wanted.parts(env))
    } else {
        return None;
    };
    let position = Position {
        source: format!("environment variable {variable}"),
        ..Position::default()
    };
    let outcome = outcome.and_then(|()| wanted.user_and_name());
    let (user, name) = match outcome {
        Ok(both) => both,
        Err(refusal) => return Some(Err(Problems(vec![refusal.at(&position, "")]))),
    };
    let here = Path::new("");
    let mut reading = Reading::new(env, here, &secret_in);
    let settings = &mut reading.settings;
    let password = wanted.database.password.clone();
    let client = UserSettings {
        password,
        ..UserSettings::default()
    };
    settings.pooler = wanted.pooler;
    settings.users.insert(user, client);
    settings.databases.insert(name, wanted.database);
    Some(finish(reading, &position, here).map(|read| read.settings))
}

/// What the variables ask for.
#[derive(Default)]
struct Wanted {
    pooler: PoolerSettings,
    database: DatabaseSettings,
}

impl Wanted {
    fn parts(&mut self, env: &Environment) -> Result<(), Refusal> {
        let variables = [
            ("host", "DB_HOST"),
            ("port", "DB_PORT"),
            ("dbname", "DB_NAME"),
            ("user", "DB_USER"),
            ("password", "DB_PASSWORD"),
        ];
        for (name, variable) in variables {
            if let Some(value) = env.get_filled(variable) {
                self.take(name, value.to_owned())
                    .map_err(|refusal| Refusal {
                        message: format!("{variable}: {}", refusal.message),
                        ..refusal
                    })?;
            }
        }
        Ok(())
    }

    /// Takes a URL apart: `postgres://user:password@host:port/dbname?parameter=value`.
    fn url(&mut self, url: &str) -> Result<(), Refusal> {
        let schemes = ["postgres://", "postgresql://"];
        let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| {
            Refusal::new("expected a URL of Postgres")
                .hint("for example postgres://user:password@host:5432/dbname")
        })?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some((user, _)) = authority.rsplit_once('@') {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            self.take("user", decoded(user)?)?;
            self.take("password", decoded(password)?)?;
        }
        let address = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for address in address.split(',') {
            let (host, port) = host_and_port(address)?;
            hosts.push(decoded(host)?);
            ports.push(port);
        }
        self.take("host", hosts.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            let each = ports.into_iter();
            let each = each.map(|port| if port.is_empty() { "5432" } else { port });
            self.take("port", each.collect::<Vec<_>>().join(","))?;
        }
        self.take("dbname", decoded(name)?)?;
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            self.take(&decoded(name)?, decoded(value)?)?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        let Self { pooler, database } = self;
        let slot = match name {
            "host" => Slot::MaybeText(&mut database.host),
            "port" => Slot::Ports(&mut database.port, &mut database.more_ports),
            "dbname" => Slot::MaybeText(&mut database.dbname),
            "user" => Slot::MaybeText(&mut database.user),
            "password" => Slot::Hidden(&mut database.password),
            "application_name" => Slot::MaybeText(&mut database.application_name),
            "client_encoding" => Slot::MaybeText(&mut database.client_encoding),
            "sslmode" => Slot::Word(&mut pooler.server_tls_sslmode),
            "sslrootcert" => Slot::Path(&mut pooler.server_tls_ca_file),
            "sslcert" => Slot::Path(&mut pooler.server_tls_cert_file),
            "sslkey" => Slot::Path(&mut pooler.server_tls_key_file),
            "connect_timeout" => Slot::Span(&mut pooler.server_connect_timeout),
            _ => {
                let refusal = Refusal::new(format!("parameter \"{name}\" is not known here"));
                return Err(match did_you_mean(name, PARAMETERS.iter().copied()) {
                    Some(hint) => refusal.hint(hint),
                    None => refusal.hint(format!("those known are {}", PARAMETERS.join(", "))),
                });
            }
        };
        slot.read(&Given::Loose(value)).map_err(|refusal| Refusal {
            message: format!("{name}: {}", refusal.message),
            ..refusal
        })
    }

    /// Who logs in, and what clients call the database; a database without a name is called as its user, as in libpq.
    fn user_and_name(&mut self) -> Result<(String, String), Refusal> {
        let user = self.database.user.clone().ok_or_else(|| {
            Refusal::new("names no user")
                .hint("write postgres://user:password@host/dbname, or set DB_USER")
        })?;
        let password = self.database.password.as_ref();
        if password.is_none_or(Secret::is_empty) {
            return Err(Refusal::new("holds no password")
                .hint("clients log in with it, so there must be one; or write a pooler.toml"));
        }
        let name = self.database.dbname.get_or_insert_with(|| user.clone());
        Ok((user, name.clone()))
    }
}

/// The host, without brackets, and the port, if there is one.
fn host_and_port(address: &str) -> Result<(&str, &str), Refusal> {
    let Some(inside) = address.strip_prefix('[') else {
        return Ok(address.split_once(':').unwrap_or((address, "")));
    };
    let (host, rest) = inside
        .split_once(']')
        .ok_or_else(|| Refusal::new("the address after \"[\" has no \"]\""))?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => Err(Refusal::new("expected a port after \"]\"").hint("for example [::1]:5432")),
    }
}

/// `text` with `%41` made `A`.
fn decoded(text: &str) -> Result<String, Refusal> {
    let wrong = || {
        Refusal::new("holds a \"%\" that is not followed by two hexadecimal digits of UTF-8")
            .hint("a plain % is written %25")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|&byte| char::from(byte).to_digit(16))
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(wrong());
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::TlsMode;

    fn url(url: &str) -> Result<Settings, Problems> {
        from_environment(&Environment::from([(URL, url)])).unwrap()
    }

    #[test]
    fn a_url_alone_makes_one_database_and_a_user_for_its_clients() {
        let settings = url("postgres://ann:p%40ss%2Fword@db1:5433/shop?sslmode=require").unwrap();

        let shop = &settings.databases["shop"];
        assert_eq!(shop.host.as_deref(), Some("db1"));
        assert_eq!(shop.port, 5433);
        assert_eq!(shop.dbname.as_deref(), Some("shop"));
        assert_eq!(shop.user.as_deref(), Some("ann"));
        assert_eq!(shop.password, Some(Secret::new("p@ss/word")));
        assert_eq!(
            settings.users["ann"].password,
            Some(Secret::new("p@ss/word"))
        );
        assert_eq!(settings.pooler.server_tls_sslmode, TlsMode::Require);
        assert_eq!(settings.pooler.listen_port, 6432);
    }

    #[test]
    fn an_address_of_ipv6_stands_in_brackets() {
        let settings = url("postgresql://ann:x@[::1]:5433/shop").unwrap();
        assert_eq!(settings.server_host("shop"), "::1");
        assert_eq!(settings.databases["shop"].port, 5433);
        assert!(url("postgresql://ann:x@[::1/shop").is_err());
    }

    #[test]
    fn a_unix_socket_is_named_by_its_directory() {
        let settings = url("postgres://ann:x@/shop?host=/run/postgresql&port=5444").unwrap();
        assert_eq!(settings.server_host("shop"), "/run/postgresql");
        assert_eq!(settings.databases["shop"].port, 5444);
    }

    #[test]
    fn parts_of_an_address_may_stand_in_variables_of_their_own() {
        let env = Environment::from([
            ("DB_HOST", "db1"),
            ("DB_USER", "ann"),
            ("DB_PASSWORD", "x"),
            ("POOLER__POOLER__LISTEN_ADDR", "*"),
        ]);
        let settings = from_environment(&env).unwrap().unwrap();
        assert_eq!(settings.databases["ann"].host.as_deref(), Some("db1"));

        let several = url("postgres://ann:x@db1,[::2]:5433/shop").unwrap();
        assert_eq!(
            several.server_hosts("shop"),
            [("db1".to_owned(), 5432), ("::2".to_owned(), 5433)]
        );
        assert_eq!(settings.pooler.listen_addr, ["*"]);
    }

    #[test]
    fn without_such_variables_there_are_no_settings() {
        let env = Environment::from([("HOME", "/root"), (URL, "")]);
        assert!(from_environment(&env).is_none());
    }

    #[test]
    fn a_url_that_is_wrong_is_refused_without_being_shown() {
        let broken = [
            ("mysql://ann:hunter2@db1/shop", "expected a URL"),
            (
                "postgres://ann:hunter2@db1:port/shop",
                "port: expected a port",
            ),
            ("postgres://ann:hunter2%4@db1/shop", "holds a \"%\""),
            (
                "postgres://ann:hunter2@db1/shop?sslmoed=require",
                "did you mean \"sslmode\"?",
            ),
            ("postgres://db1/shop?password=hunter2", "names no user"),
            (
                "postgres://ann:hunter2@db1,db2/shop?port=1,2,3",
                "3 ports do not fit 2 hosts",
            ),
            ("postgres://ann@db1/shop", "holds no password"),
        ];
        for (text, said) in broken {
            let problems = url(text).unwrap_err().to_string();
            assert!(problems.contains(said), "{text}: {problems}");
            assert!(problems.starts_with("environment variable DATABASE_URL: "));
            assert!(!problems.contains("hunter2"), "{problems}");
        }
    }
}
