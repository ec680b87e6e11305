//! Reading the configuration again: all of it, or nothing.
//!
//! File, environment, password file and certificates are read and checked first. Only when all are good is anything
//! changed; nobody is disconnected but the clients of databases that are gone.

use std::path::PathBuf;
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
use crate::config::settings::Settings;
use crate::config::value::TlsMode;
use crate::net::tls::{ClientCertificates, ClientTls, Files, ServerTls, Verify, Versions};
use crate::pools::registry::Registry;
use crate::process::access;

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
    /// What is amiss and no reason to refuse.
    pub warnings: Vec<String>,
    /// TLS towards clients.
    pub client_tls: Option<Arc<ServerConfig>>,
    /// TLS towards servers.
    pub server_tls: Option<Arc<ClientConfig>>,
}

/// Reads and checks everything.
///
/// # Errors
/// A text that names every problem with its place.
pub fn read(source: &Source) -> Result<Loaded, String> {
    let environment = Environment::of_process();
    let settings = match source {
        Source::File(path) => {
            load::load_file(path, &environment).map_err(|problems| problems.to_string())?
        }
        Source::Environment => dsn::from_environment(&environment)
            .ok_or("no configuration: name a file, or set DATABASE_URL")?
            .map_err(|problems| problems.to_string())?,
    };
    let users = read_users(&settings)?;
    let (access, warnings) = access::read(&settings)?;
    let client_tls = client_tls(&settings)?;
    let server_tls = server_tls(&settings)?;
    Ok(Loaded {
        settings,
        users,
        access,
        warnings,
        client_tls,
        server_tls,
    })
}

pub(super) fn read_users(settings: &Settings) -> Result<Users, String> {
    let mut all = Users::default();
    if let Some(path) = &settings.pooler.auth_file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("pooler.auth_file: cannot read {}: {error}", path.display())
        })?;
        let (listed, bad) = users::parse(&text);
        if let Some(bad) = bad {
            return Err(format!(
                "{}:{}: broken auth file: a line is \"user\" \"password\"",
                path.display(),
                bad.line
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
    Ok(all)
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
        .map_err(|problem| format!("client TLS: {problem}"))
}

pub(super) fn server_tls(settings: &Settings) -> Result<Option<Arc<ClientConfig>>, String> {
    let all = &settings.pooler;
    let verify = match all.server_tls_sslmode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => Verify::No,
        TlsMode::VerifyCa => Verify::Chain,
        TlsMode::VerifyFull => Verify::Full,
    };
    let files = Files {
        ca: all.server_tls_ca_file.clone(),
        certificate: all.server_tls_cert_file.clone(),
        key: all.server_tls_key_file.clone(),
    };
    let versions = Versions {
        tls12: all.server_tls_protocols.tls12,
        tls13: all.server_tls_protocols.tls13,
    };
    ClientTls::load(verify, &files, versions)
        .map(Some)
        .map_err(|problem| format!("server TLS: {problem}"))
}

/// Reads everything again and puts it in force.
///
/// # Errors
/// As [`read`]; then nothing has changed.
pub fn reload(source: &Source, registry: &Arc<Registry>) -> Result<(), String> {
    let loaded = read(source)?;
    let change = Change::between(&registry.settings.load(), &loaded.settings);
    for key in &change.needs_restart {
        tracing::warn!(
            key,
            "this key has changed and takes effect at the next start"
        );
    }
    registry.client_tls.store(loaded.client_tls);
    registry.server_tls.store(loaded.server_tls);
    let settings = in_force(&registry.settings.load(), loaded.settings);
    warn_of(&loaded.warnings);
    put_in_force(registry, settings, loaded.users, loaded.access);
    tracing::info!("configuration reloaded");
    Ok(())
}

/// Says what is amiss and no reason to refuse.
pub fn warn_of(warnings: &[String]) {
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
