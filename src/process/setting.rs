//! SET at the console: one running setting gets another value.
//!
//! It is an order like RELOAD, so that the two never overtake each other. The value is read and checked as if the environment had
//! set it; what it needs from files (certificates, passwords) is read before anything changes. The next reload forgets it.

use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use crate::admin::order::SetRefusal;
use crate::config::change::Change;
use crate::config::environment::Environment;
use crate::config::ini::value::{self, Within};
use crate::config::load;
use crate::config::problem::{self, Position, Problem};
use crate::config::reading::Reading;
use crate::config::schema::POOLER;
use crate::config::settings::Settings;
use crate::config::value::Dialect;
use crate::pools::registry::Registry;
use crate::process::access;
use crate::process::reload;
use crate::telemetry::log;

/// PgBouncer's notice where a setting is taken and its files are not.
const TLS_STAYS: &str = "TLS settings could not be applied, still using old configuration";

/// Gives `key` of `[pooler]` another value. What comes back is for a notice.
///
/// # Errors
/// Why it cannot be; then nothing has changed.
pub fn set(registry: &Arc<Registry>, key: &str, value: &str) -> Result<Option<String>, SetRefusal> {
    let old = registry.settings.load_full();
    let is_pgbouncer = old.dialect == Dialect::PgBouncer;
    if is_pgbouncer && POOLER.key(key).is_some_and(|known| known.needs_restart) && !is_own(key) {
        // PgBouncer says that it has done it, whatever the value.
        return Ok(Some(format!("{key} takes effect at the next start")));
    }
    let new = changed(&old, key, value)?;
    let change = Change::between(&old, &new);
    if !change.needs_restart.is_empty() {
        return Err(SetRefusal {
            detail: format!("{key} is read only when the process starts"),
            hint: Some("Change it in the configuration file, then restart."),
        });
    }
    let refuse = |detail| SetRefusal { detail, hint: None };
    let users = if old.pooler.auth_file == new.pooler.auth_file {
        registry.users.load().as_ref().clone()
    } else {
        let (users, errors) = reload::read_users(&new).map_err(refuse)?;
        reload::tell(&errors, &[]);
        users
    };
    let (access, warnings) = access::read(&new).map_err(refuse)?;
    let client_tls = change.client_tls.then(|| reload::client_tls(&new));
    let server_tls = change.server_tls.then(|| reload::server_tls(&new));
    let tls = client_tls
        .transpose()
        .and_then(|client| Ok((client, server_tls.transpose()?)));
    let (client_tls, server_tls, notice) = match tls {
        Ok((client, server)) => (client, server, None),
        Err(why) if is_pgbouncer => {
            warn!("TLS stays as it was: {why}");
            (None, None, Some(TLS_STAYS.to_owned()))
        }
        Err(why) => return Err(refuse(why)),
    };
    if let Some(tls) = client_tls {
        registry.client_tls.store(tls);
    }
    if let Some(tls) = server_tls {
        registry.server_tls.store(Arc::new(tls));
    }
    info!(key, "SET command issued");
    reload::tell(&[], &warnings);
    log::follow(&new);
    reload::put_in_force(registry, new, users, access);
    Ok(notice)
}

/// The settings with another value for a key of `[pooler]`, read and checked as if the environment had set it; under a
/// `pgbouncer.ini`, as if it stood there.
fn changed(settings: &Settings, key: &str, value: &str) -> Result<Settings, SetRefusal> {
    let is_pgbouncer = settings.dialect == Dialect::PgBouncer;
    let variable = format!("POOLER__POOLER__{}", key.to_uppercase());
    let set = Environment::from([(variable.as_str(), value)]);
    let environment = if is_pgbouncer {
        Environment::default()
    } else {
        set
    };
    let nowhere = Path::new("");
    let mut reading = Reading::new(&environment, nowhere, &load::secret_in);
    reading.settings = settings.clone();
    if is_pgbouncer {
        write(&mut reading.settings, key, value)?;
    }
    let written = reading.settings.clone();
    let read = load::finish(reading, &Position::default(), nowhere);
    if is_pgbouncer && key.contains("_tls") && read.is_err() {
        // PgBouncer takes one key after the other, and says whether it can do what they say together.
        return Ok(written);
    }
    read.map(|read| read.settings).map_err(|problems| {
        let said: Vec<_> = problems.0.into_iter().map(said).collect();
        SetRefusal {
            detail: said.join("\n"),
            hint: None,
        }
    })
}

/// Puts a value that is written as in a `pgbouncer.ini` in its place.
fn write(settings: &mut Settings, key: &str, text: &str) -> Result<(), SetRefusal> {
    let known = POOLER.key(key).filter(|_| !is_own(key));
    let known = known.ok_or_else(|| SetRefusal::from("there is no such key"))?;
    let refuse = |why: problem::Refusal| SetRefusal {
        detail: format!("{key}: {}", why.message),
        hint: None,
    };
    let slot = (known.place)(&mut settings.pooler);
    let text = value::without_sign(key, text);
    let given = value::given(&slot, text, Within::Line).map_err(refuse)?;
    given.map_or(Ok(()), |given| slot.read(&given).map_err(refuse))
}

/// Whether PgBouncer has no such key.
fn is_own(key: &str) -> bool {
    matches!(
        key,
        "pin_timeout" | "session_state" | "shutdown_timeout" | "state_dir" | "threads"
    )
}

fn said(problem: Problem) -> String {
    match problem.hint {
        Some(hint) => format!("{}: {}; {hint}", problem.key, problem.message),
        None => format!("{}: {}", problem.key, problem.message),
    }
}

#[cfg(test)]
mod tests {
    use super::{changed, set};
    use crate::auth::users::Users;
    use crate::config::settings::{DatabaseSettings, Settings};
    use crate::config::value::{AuthType, Dialect};
    use crate::pools::registry::Registry;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.pooler.auth_type = AuthType::Trust;
        settings
            .databases
            .insert("app".to_owned(), DatabaseSettings::default());
        settings
    }

    #[test]
    fn set_changes_a_running_setting_and_nothing_else() {
        let new = changed(&settings(), "default_pool_size", "7").unwrap();
        assert_eq!(new.pooler.default_pool_size, 7);
        assert_eq!(new.databases, settings().databases);
    }

    #[test]
    fn under_an_ini_values_are_written_as_in_it() {
        let mut settings = settings();
        settings.dialect = Dialect::PgBouncer;
        let new = changed(&settings, "default_pool_size", "0x10").unwrap();
        assert_eq!(new.pooler.default_pool_size, 16);
        let new = changed(&settings, "max_db_connections", "-1").unwrap();
        assert_eq!(new.pooler.max_db_connections, 0);
        for (key, value) in [
            ("query_timeout", "5s"),
            ("log_connections", "true"),
            ("threads", "2"),
            ("nix", "1"),
        ] {
            assert!(changed(&settings, key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn under_an_ini_what_needs_a_restart_is_acknowledged_and_stays() {
        let mut settings = settings();
        settings.dialect = Dialect::PgBouncer;
        let registry = Registry::new(
            settings.clone(),
            Users::default(),
            None,
            crate::servers::security::TlsWays::default(),
            1,
        );
        for (key, value) in [
            ("listen_port", "7000"),
            ("listen_port", "many"),
            ("pidfile", ""),
        ] {
            assert!(set(&registry, key, value).is_ok(), "{key}={value}");
        }
        assert!(
            set(&registry, "threads", "2").is_err(),
            "PgBouncer has no such key"
        );
        assert_eq!(*registry.settings.load().as_ref(), settings);
    }

    #[test]
    fn set_says_why_it_failed_and_changes_nothing() {
        let registry = Registry::new(
            settings(),
            Users::default(),
            None,
            crate::servers::security::TlsWays::default(),
            1,
        );
        let why = |key, value| set(&registry, key, value).unwrap_err();
        assert!(why("default_pool_size", "many").detail.contains("many"));
        let misspelled = why("default_pool_sice", "7").detail;
        assert!(misspelled.contains("\"default_pool_size\""), "{misspelled}");
        assert!(why("listen_port", "7000").detail.contains("starts"));
        assert!(why("client_tls_sslmode", "require").detail.contains("tls"));
        assert_eq!(*registry.settings.load().as_ref(), settings());
        assert_eq!(set(&registry, "query_timeout", "1.5"), Ok(None));
        let seconds = registry.settings.load().pooler.query_timeout;
        assert_eq!(seconds.as_secs_f64(), 1.5);
    }
}
