//! Reading the configuration again: all of it, or nothing.
//!
//! File, environment, password file and certificates are read and checked first. Only when all are good is anything
//! changed; nobody is disconnected but the clients of databases that are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::auth::access::Access;
use crate::auth::password::Verifier;
use crate::auth::users::{self, Users};
use crate::clients::presence::limits;
use crate::config::change::{Change, in_force};
use crate::config::dsn;
use crate::config::environment::Environment;
use crate::config::load;
use crate::config::problem::Problems;
use crate::config::server_tls::ServerTlsSettings;
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect, TlsMode};
use crate::net::tls::{
    ClientCertificates, ClientTls, Files, ServerTls, TlsProblem, Verify, Versions,
};
use crate::pools::registry::Registry;
use crate::process::access;
use crate::servers::security::TlsWays;
use crate::telemetry::{log, sinks};

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, under the environment.
    File(PathBuf),
    /// `DATABASE_URL` or its like alone.
    Environment,
}

/// Everything that is read at a start or a reload.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// All passwords that files and settings hold.
    pub users: Users,
    /// What the files and options about logins say.
    pub access: Access,
    /// What is wrong and served all the same, as PgBouncer does.
    pub errors: Vec<String>,
    /// What is amiss and no reason to refuse.
    pub warnings: Vec<String>,
    /// TLS towards clients.
    pub client_tls: Option<Arc<ServerConfig>>,
    /// TLS towards servers.
    pub server_tls: TlsWays,
}

/// Whether variables of the environment are enough to make a configuration.
pub fn is_in_environment() -> bool {
    dsn::from_environment(&Environment::of_process()).is_some()
}

/// Reads and checks everything.
///
/// # Errors
/// A text that names every problem with its place.
pub fn read(source: &Source) -> Result<Loaded, String> {
    let environment = Environment::of_process();
    let load::Read {
        mut settings,
        warnings,
    } = match source {
        Source::File(path) => {
            load::load_file(path, &environment).map_err(|problems| problems.to_string())?
        }
        Source::Environment => load::Read {
            settings: dsn::from_environment(&environment)
                .ok_or("no configuration: name a file, or set DATABASE_URL")?
                .map_err(|problems| problems.to_string())?,
            warnings: Problems::default(),
        },
    };
    if let Source::File(path) = source {
        // What SHOW CONFIG tells.
        let file = &mut settings.pooler.conffile;
        file.get_or_insert_with(|| path.clone());
    }
    let (users, errors) = read_users(&settings)?;
    let (access, more) = access::read(&settings)?;
    let warnings = warnings.0.iter().map(ToString::to_string);
    let warnings = warnings
        .chain(more)
        .chain(unusable(&settings, &users))
        .chain(unknown_facility(&settings))
        .collect();
    let client_tls = client_tls(&settings)?;
    let server_tls = server_tls(&settings)?;
    Ok(Loaded {
        settings,
        users,
        access,
        errors,
        warnings,
        client_tls,
        server_tls,
    })
}

/// All passwords, and what is wrong with the file of them and served all the same.
pub(super) fn read_users(settings: &Settings) -> Result<(Users, Vec<String>), String> {
    let (mut all, mut errors) = (Users::default(), Vec::new());
    if let Some(path) = &settings.pooler.auth_file {
        let is_ini = settings.dialect == Dialect::PgBouncer;
        let text = match load::text_of(path) {
            Ok(text) => text,
            // As in PgBouncer, nobody of the list can log in then, but others can.
            Err(why) if is_ini => {
                errors.push(format!(
                    "could not open auth_file {}: {why}",
                    path.display()
                ));
                String::new()
            }
            Err(why) => {
                return Err(format!(
                    "pooler.auth_file: cannot read {}: {why}",
                    path.display()
                ));
            }
        };
        let (listed, bad) = users::parse(&text);
        let (listed, garbled): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(name, secret)| {
            ![name, secret.expose()]
                .iter()
                .any(|text| text.contains(char::REPLACEMENT_CHARACTER))
        });
        if !garbled.is_empty() {
            let problem = format!(
                "{}: {} users whose name or password is not UTF-8",
                path.display(),
                garbled.len()
            );
            if !is_ini {
                return Err(problem);
            }
            errors.push(format!("{problem} are left out"));
        }
        if let Some(bad) = bad {
            let problem = format!(
                "{}:{}: broken auth file: a line is \"user\" \"password\"",
                path.display(),
                bad.line
            );
            if !is_ini {
                return Err(problem);
            }
            errors.push(format!(
                "{problem}; users up to this line are known, later ones are not"
            ));
        }
        for (name, secret) in listed {
            all.insert(name, Verifier::parse(secret.expose()));
        }
    }
    for (name, user) in &settings.users {
        if let Some(secret) = &user.password {
            all.insert(name.clone(), Verifier::parse(secret.expose()));
        }
    }
    Ok((all, errors))
}

/// A name of `syslog_facility` that there is not.
fn unknown_facility(settings: &Settings) -> Option<String> {
    let name = &settings.pooler.syslog_facility;
    let is_unknown = !sinks::is_facility(name);
    is_unknown.then(|| {
        let known = sinks::facilities().collect::<Vec<_>>().join(", ");
        format!("syslog_facility: \"{name}\" is not known, daemon is used; known are {known}")
    })
}

/// Users whose stored password is no use under `auth_type`: an md5 hash proves nothing to SCRAM.
fn unusable(settings: &Settings, users: &Users) -> Option<String> {
    if settings.pooler.auth_type != AuthType::ScramSha256 {
        return None;
    }
    let of_md5 = users
        .iter()
        .filter(|(_, verifier)| matches!(verifier, Verifier::Md5(_)));
    let mut names: Vec<_> = of_md5.map(|(name, _)| format!("\"{name}\"")).collect();
    names.sort();
    let (first, others) = (names.first()?, names.len() - 1);
    let more = match others {
        0 => String::new(),
        others => format!(", as {others} more"),
    };
    Some(format!(
        "the stored password of user {first} is an md5 hash{more}, with which nobody can log in while auth_type is \"scram-sha-256\"; \
         store a SCRAM secret or the password, or set auth_type to \"md5\", which serves both"
    ))
}

pub(super) fn client_tls(settings: &Settings) -> Result<Option<Arc<ServerConfig>>, String> {
    let all = &settings.pooler;
    let certificates = match all.client_tls_sslmode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => ClientCertificates::Optional,
        TlsMode::VerifyCa | TlsMode::VerifyFull => ClientCertificates::Required,
    };
    let files = Files {
        ca: all.client_tls_ca_file.clone(),
        certificate: all.client_tls_cert_file.clone(),
        key: all.client_tls_key_file.clone(),
    };
    let versions = Versions {
        tls12: all.client_tls_protocols.tls12,
        tls13: all.client_tls_protocols.tls13,
    };
    ServerTls::load(certificates, &files, versions)
        .map(Some)
        .map_err(|problem| tls_problem(settings, "client", &problem.to_string()))
}

/// Sets up TLS towards servers, those of each cluster apart.
pub(super) fn server_tls(settings: &Settings) -> Result<TlsWays, String> {
    let wanted = settings.server_tls(None);
    let common = client_config(wanted)
        .map_err(|problem| tls_problem(settings, "server", &problem.to_string()))?;
    let mut tls = TlsWays {
        common,
        ..TlsWays::default()
    };
    for name in settings.clusters.keys() {
        let own = settings.server_tls(Some(name));
        let config = if own == wanted {
            tls.common.clone()
        } else {
            client_config(own).map_err(|problem| {
                format!("clusters.{name}.server_tls_sslmode: server TLS: {problem}")
            })?
        };
        tls.clusters.insert(name.clone(), config);
    }
    Ok(tls)
}

fn client_config(wanted: ServerTlsSettings<'_>) -> Result<Option<Arc<ClientConfig>>, TlsProblem> {
    let verify = match wanted.mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => Verify::No,
        TlsMode::VerifyCa => Verify::Chain,
        TlsMode::VerifyFull => Verify::Full,
    };
    let files = Files {
        ca: wanted.ca.map(Path::to_owned),
        certificate: wanted.certificate.map(Path::to_owned),
        key: wanted.key.map(Path::to_owned),
    };
    let versions = Versions {
        tls12: wanted.protocols.tls12,
        tls13: wanted.protocols.tls13,
    };
    ClientTls::load(verify, &files, versions).map(Some)
}

/// What is said of TLS that cannot be set up for one side.
fn tls_problem(settings: &Settings, side: &str, problem: &str) -> String {
    match settings.dialect {
        Dialect::Native => format!("pooler.{side}_tls_sslmode: {side} TLS: {problem}"),
        Dialect::PgBouncer => format!("TLS setup failed: {side} TLS: {problem}"),
    }
}

/// Reads everything again and puts it in force. What comes back are keys that changed and wait for a restart.
///
/// # Errors
/// As [`read`]; then nothing has changed.
pub fn reload(source: &Source, registry: &Arc<Registry>) -> Result<Vec<String>, String> {
    let running = registry.settings.load_full();
    let source = match (source, &running.pooler.conffile) {
        (Source::File(_), Some(other)) => &Source::File(other.clone()),
        (source, _) => source,
    };
    let mut loaded = read(source)?;
    if running.dialect != loaded.settings.dialect {
        return Err(
            "a running pooler cannot change from pgbouncer.ini to pooler.toml or back".into(),
        );
    }
    if running.dialect == Dialect::PgBouncer {
        keep_as_pgbouncer(&running, &mut loaded.settings);
        (loaded.users, loaded.errors) = read_users(&loaded.settings)?;
        let (access, _) = access::read(&loaded.settings)?;
        loaded.access = access;
    }
    log::follow(&loaded.settings);
    let change = Change::between(&registry.settings.load(), &loaded.settings);
    for key in &change.needs_restart {
        tracing::warn!(
            key,
            "this key has changed and takes effect at the next start"
        );
    }
    registry.client_tls.store(loaded.client_tls);
    registry.server_tls.store(Arc::new(loaded.server_tls));
    let settings = in_force(&registry.settings.load(), loaded.settings);
    tell(&loaded.errors, &loaded.warnings);
    put_in_force(registry, settings, loaded.users, loaded.access);
    tracing::info!("configuration reloaded");
    Ok(change.needs_restart)
}

/// As in PgBouncer, keys that have no default stay what they are when the file does not name them, and a database does not lose its
/// forced user.
fn keep_as_pgbouncer(running: &Settings, new: &mut Settings) {
    fn keep<T: Clone>(old: &Option<T>, new: &mut Option<T>) {
        if new.is_none() {
            new.clone_from(old);
        }
    }
    let (old, pooler) = (&running.pooler, &mut new.pooler);
    keep(&old.auth_file, &mut pooler.auth_file);
    keep(&old.auth_user, &mut pooler.auth_user);
    keep(&old.auth_dbname, &mut pooler.auth_dbname);
    keep(&old.auth_ident_file, &mut pooler.auth_ident_file);
    keep(&old.auth_ldap_options, &mut pooler.auth_ldap_options);
    keep(&old.client_tls13_ciphers, &mut pooler.client_tls13_ciphers);
    keep(&old.server_tls13_ciphers, &mut pooler.server_tls13_ciphers);
    keep(&old.conffile, &mut pooler.conffile);
    if pooler.verbose == 0 {
        pooler.verbose = old.verbose;
    }
    for (name, database) in &mut new.databases {
        let before = running
            .databases
            .get(name)
            .and_then(|old| old.user.as_ref());
        if let (Some(user), None) = (before, &database.user) {
            tracing::warn!("{name}: losing forced user not supported, keeping old setting");
            database.user = Some(user.clone());
        }
    }
}

/// Says what is wrong or amiss, and no reason to refuse.
pub fn tell(errors: &[String], warnings: &[String]) {
    for error in errors {
        tracing::error!("{error}");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Puts settings and passwords in force for everybody, those who are logged in included.
pub(super) fn put_in_force(
    registry: &Arc<Registry>,
    settings: Settings,
    users: Users,
    access: Access,
) {
    // Before the settings: rules that are not there yet let nobody in.
    registry.access.store(Arc::new(access));
    registry.follow(settings, users);
    let settings = registry.settings.load();
    for card in &registry.census.clients {
        card.set_limits(limits(&settings, &card.facts.database, &card.facts.user));
    }
}
