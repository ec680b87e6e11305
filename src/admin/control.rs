//! What the operator does to pools, clients and settings.
//!
//! A pool is paused while its database is, or while everything is. RESUME undoes the pause of everything and leaves those
//! of single databases, as PgBouncer does; so KILL, which pauses databases one by one, is undone by `RESUME db`.
//!
//! A flag is always set before the pools that exist are told: a pool made meanwhile reads the flag, so none is missed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tracing::info;

use crate::admin::command::Command;
use crate::clients::login::{is_console, limits};
use crate::config::change::Change;
use crate::config::environment::Environment;
use crate::config::load;
use crate::config::problem::Place;
use crate::config::reading::Reading;
use crate::config::settings::Settings;
use crate::pools::limits::Database;
use crate::pools::pool::Pool;
use crate::pools::registry::{Phase, Registry};
use crate::stats::census::Order;

/// The code of the console's errors.
pub const CODE: &str = "08P01";

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The SQLSTATE.
    pub code: &'static str,
    /// The message.
    pub message: String,
    /// What is behind it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Complaint {
    /// A complaint that is all in its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: CODE,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// What comes of a command.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; this is its tag.
    Done(String),
    /// It is done when this is over; this is its tag.
    Wait(&'static str, Wait),
}

/// What a command waits for.
#[derive(Debug)]
pub enum Wait {
    /// Until no server is left.
    Paused {
        /// Of which database; `None` for all.
        database: Option<Arc<Database>>,
        /// It was paused before, so giving up does not undo it.
        was_paused: bool,
    },
    /// Until no server is left that must be replaced.
    Replaced(Option<Arc<Database>>),
}

/// How far a wait is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Go on waiting.
    Waiting,
    /// It is over.
    Over,
    /// Somebody else resumed meanwhile.
    Undone,
}

impl Wait {
    /// How far it is.
    pub fn progress(&self, registry: &Registry) -> Progress {
        let is_over = match self {
            Self::Paused { database, .. } => {
                let is_paused = registry.is_paused()
                    || database
                        .as_ref()
                        .is_some_and(|database| database.paused.load(SeqCst));
                if !is_paused {
                    return Progress::Undone;
                }
                // Servers that are being opened are closed as soon as they have logged in.
                pools(registry, database.as_deref()).iter().all(|pool| {
                    let standing = pool.standing();
                    standing.open <= standing.dialing
                })
            }
            Self::Replaced(database) => !registry.census.servers.iter().any(|card| {
                let is_meant = database
                    .as_ref()
                    .is_none_or(|database| database.name == card.facts.database);
                is_meant && card.close_needed()
            }),
        };
        if is_over {
            Progress::Over
        } else {
            Progress::Waiting
        }
    }

    /// Gives up: what the command paused goes on.
    pub fn give_up(&self, registry: &Registry) {
        match self {
            Self::Paused {
                was_paused: true, ..
            }
            | Self::Replaced(_) => {}
            Self::Paused { database: None, .. } => pause_all(registry, false),
            Self::Paused {
                database: Some(database),
                ..
            } => pause_one(registry, database, false),
        }
    }
}

fn pools(registry: &Registry, database: Option<&Database>) -> Vec<Arc<Pool>> {
    match database {
        None => registry.pools(),
        Some(database) => registry.pools_of(&database.name),
    }
}

/// Carries out a command about pools, clients or settings.
///
/// # Errors
/// Why it is not done.
///
/// # Panics
/// For commands that are the console's own: SHOW, RELOAD and SHUTDOWN.
pub fn carry_out(registry: &Arc<Registry>, command: &Command) -> Result<Outcome, Complaint> {
    match command {
        Command::Set { key, value } => set(registry, key, value),
        Command::Pause(None) => pause_everything(registry),
        Command::Pause(Some(name)) => pause(registry, name),
        Command::Resume(None) => resume_everything(registry),
        Command::Resume(Some(name)) => resume(registry, name),
        Command::Suspend => Err(Complaint {
            hint: Some(
                "A takeover by another process (-R) is not built in this version; PAUSE holds the servers back.",
            ),
            ..Complaint::new("SUSPEND is not supported")
        }),
        Command::Kill(name) => kill(registry, name.as_deref()),
        Command::KillClient(id) => kill_client(registry, *id),
        Command::Disable(name) => {
            find(registry, name, "disable")?
                .disabled
                .store(true, SeqCst);
            Ok(done("DISABLE", Some(name)))
        }
        Command::Enable(name) => {
            find(registry, name, "enable")?
                .disabled
                .store(false, SeqCst);
            Ok(done("ENABLE", Some(name)))
        }
        Command::Reconnect(name) => {
            let database = find_any(registry, name.as_deref(), "reconnect")?;
            pools(registry, database.as_deref())
                .iter()
                .for_each(|pool| pool.reconnect());
            Ok(done("RECONNECT", name.as_deref()))
        }
        Command::WaitClose(name) => {
            let database = find_any(registry, name.as_deref(), "wait in")?;
            Ok(Outcome::Wait("WAIT_CLOSE", Wait::Replaced(database)))
        }
        Command::Show(_) | Command::SetIgnored | Command::Reload | Command::Shutdown(_) => {
            unreachable!("the console does these itself")
        }
    }
}

fn issued(command: &str, database: Option<&str>) {
    match database {
        Some(name) => info!("{command} '{name}' command issued"),
        None => info!("{command} command issued"),
    }
}

fn done(command: &str, database: Option<&str>) -> Outcome {
    issued(command, database);
    Outcome::Done(command.to_owned())
}

fn find(registry: &Registry, name: &str, verb: &str) -> Result<Arc<Database>, Complaint> {
    if is_console(name) {
        return Err(Complaint::new(format!("cannot {verb} admin db: {name}")));
    }
    registry
        .database(name)
        .ok_or_else(|| Complaint::new(format!("no such database: {name}")))
}

fn find_any(
    registry: &Registry,
    name: Option<&str>,
    verb: &str,
) -> Result<Option<Arc<Database>>, Complaint> {
    name.map(|name| find(registry, name, verb)).transpose()
}

fn refuse_while_paused(registry: &Registry) -> Result<(), Complaint> {
    if registry.is_paused() {
        return Err(Complaint::new("already suspended/paused"));
    }
    Ok(())
}

/// Pauses or resumes everything, but for databases that are paused themselves.
pub fn pause_all(registry: &Registry, pause: bool) {
    if registry.phase() == Phase::Closing && !pause {
        tracing::info!("shutting down, nothing is resumed");
        return;
    }
    registry.set_paused(pause);
    for pool in registry.pools() {
        pool.pause(pause || pool.database.paused.load(SeqCst));
    }
}

fn pause_one(registry: &Registry, database: &Database, pause: bool) {
    database.paused.store(pause, SeqCst);
    for pool in registry.pools_of(&database.name) {
        pool.pause(pause || registry.is_paused());
    }
}

fn pause_everything(registry: &Registry) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    issued("PAUSE", None);
    pause_all(registry, true);
    Ok(Outcome::Wait(
        "PAUSE",
        Wait::Paused {
            database: None,
            was_paused: false,
        },
    ))
}

fn pause(registry: &Registry, name: &str) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    let database = find(registry, name, "pause")?;
    issued("PAUSE", Some(name));
    let was_paused = database.paused.load(SeqCst);
    pause_one(registry, &database, true);
    Ok(Outcome::Wait(
        "PAUSE",
        Wait::Paused {
            database: Some(database),
            was_paused,
        },
    ))
}

fn resume_everything(registry: &Registry) -> Result<Outcome, Complaint> {
    if registry.phase() == Phase::Closing {
        return Err(Complaint::new("pooler is shutting down"));
    }
    if !registry.is_paused() {
        return Err(Complaint::new("pooler is not paused/suspended"));
    }
    pause_all(registry, false);
    Ok(done("RESUME", None))
}

fn resume(registry: &Registry, name: &str) -> Result<Outcome, Complaint> {
    let database = find(registry, name, "resume")?;
    if !database.paused.load(SeqCst) {
        return Err(Complaint::new(format!("database {name} is not paused")));
    }
    pause_one(registry, &database, false);
    Ok(done("RESUME", Some(name)))
}

fn kill(registry: &Registry, name: Option<&str>) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    let meant = match name {
        Some(name) => vec![find(registry, name, "kill")?],
        None => {
            // A database that nobody has a pool of has nothing to kill, and stays open, as with PgBouncer.
            let names: BTreeSet<_> = registry
                .pools()
                .iter()
                .map(|pool| pool.database.name.clone())
                .collect();
            names
                .iter()
                .filter_map(|name| registry.database(name))
                .collect()
        }
    };
    issued("KILL", name);
    for database in meant {
        pause_one(registry, &database, true);
        registry.end_clients(&database.name);
    }
    Ok(Outcome::Done("KILL".to_owned()))
}

fn kill_client(registry: &Registry, id: u64) -> Result<Outcome, Complaint> {
    let card = registry
        .census
        .clients
        .get(&id)
        .map(|card| Arc::clone(&card));
    let card = card.ok_or_else(|| Complaint::new("client not found"))?;
    info!(client = id, "KILL_CLIENT command issued");
    card.give(Order::Kill);
    Ok(Outcome::Done("KILL_CLIENT".to_owned()))
}

fn set(registry: &Arc<Registry>, key: &str, value: &str) -> Result<Outcome, Complaint> {
    let settings = changed(&registry.settings.load(), key, value)?;
    info!(key, "SET command issued");
    registry.follow(settings, registry.users.load().as_ref().clone());
    let settings = registry.settings.load();
    for card in &registry.census.clients {
        card.set_limits(limits(&settings, &card.facts.database, &card.facts.user));
    }
    Ok(Outcome::Done(format!("SET {key}={value}")))
}

/// The settings with another value for a key of `[pooler]`, read and checked as if the environment had set it.
fn changed(settings: &Settings, key: &str, value: &str) -> Result<Settings, Complaint> {
    let failed = |detail: String, hint| Complaint {
        detail: Some(detail),
        hint,
        ..Complaint::new("SET failed")
    };
    let variable = format!("POOLER__POOLER__{}", key.to_uppercase());
    let environment = Environment::from([(variable.as_str(), value)]);
    let nowhere = Path::new("");
    let mut reading = Reading::new(&environment, nowhere);
    reading.settings = settings.clone();
    let new = load::finish(reading, &Place::default(), nowhere).map_err(|problems| {
        let said = problems.0.into_iter().map(|problem| match problem.hint {
            Some(hint) => format!("{}: {}; {hint}", problem.key, problem.message),
            None => format!("{}: {}", problem.key, problem.message),
        });
        failed(said.collect::<Vec<_>>().join("\n"), None)
    })?;
    let change = Change::between(settings, &new);
    if !change.needs_restart.is_empty() {
        return Err(failed(
            format!("{key} is read only when the process starts"),
            None,
        ));
    }
    let reads_files =
        change.client_tls || change.server_tls || settings.pooler.auth_file != new.pooler.auth_file;
    if reads_files {
        let hint = Some("Change it in the configuration file, then RELOAD.");
        return Err(failed(
            format!("{key} says which files are read, and they are read all together"),
            hint,
        ));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Complaint, Outcome, Progress, carry_out, changed};
    use crate::admin::command::{Command, Role, parse};
    use crate::auth::users::Users;
    use crate::clock;
    use crate::config::settings::{DatabaseSettings, FALLBACK, Settings};
    use crate::config::value::AuthType;
    use crate::pools::registry::Registry;
    use crate::stats::census::{ClientCard, ClientFacts, ClientLimits, Order};

    fn registry() -> Arc<Registry> {
        Registry::new(settings(), Users::default(), None, None, 1)
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.pooler.auth_type = AuthType::Trust;
        settings
            .databases
            .insert("app".to_owned(), DatabaseSettings::default());
        settings
    }

    /// What the command is answered at once: its tag, or its complaint.
    fn say(registry: &Arc<Registry>, text: &str) -> Result<String, String> {
        match carry_out(registry, &parse(text, Role::Acts)?) {
            Ok(Outcome::Done(tag)) => Ok(tag),
            Ok(Outcome::Wait(tag, wait)) => {
                assert_eq!(wait.progress(registry), Progress::Over);
                Ok(tag.to_owned())
            }
            Err(Complaint { message, .. }) => Err(message),
        }
    }

    fn ok(tag: &str) -> Result<String, String> {
        Ok(tag.to_owned())
    }

    fn no(message: &str) -> Result<String, String> {
        Err(message.to_owned())
    }

    #[test]
    fn resume_undoes_the_pause_of_everything_only() {
        let registry = registry();
        assert_eq!(
            say(&registry, "RESUME"),
            no("pooler is not paused/suspended")
        );
        assert_eq!(say(&registry, "PAUSE app"), ok("PAUSE"));
        assert_eq!(say(&registry, "PAUSE app"), ok("PAUSE"));
        assert_eq!(say(&registry, "PAUSE"), ok("PAUSE"));
        assert_eq!(say(&registry, "PAUSE"), no("already suspended/paused"));
        assert_eq!(say(&registry, "PAUSE app"), no("already suspended/paused"));
        assert_eq!(say(&registry, "KILL app"), no("already suspended/paused"));
        assert_eq!(say(&registry, "RESUME"), ok("RESUME"));
        assert_eq!(say(&registry, "RESUME app"), ok("RESUME"));
        assert_eq!(
            say(&registry, "RESUME app"),
            no("database app is not paused")
        );
    }

    #[test]
    fn databases_that_are_not_there_and_the_console_are_refused() {
        let registry = registry();
        for verb in [
            "PAUSE",
            "RESUME",
            "KILL",
            "DISABLE",
            "ENABLE",
            "RECONNECT",
            "WAIT_CLOSE",
        ] {
            assert_eq!(
                say(&registry, &format!("{verb} nix")),
                no("no such database: nix"),
                "{verb}"
            );
        }
        assert_eq!(
            say(&registry, "PAUSE pgbouncer"),
            no("cannot pause admin db: pgbouncer")
        );
        assert_eq!(
            say(&registry, "KILL pooler"),
            no("cannot kill admin db: pooler")
        );
        assert_eq!(
            say(&registry, "WAIT_CLOSE pgbouncer"),
            no("cannot wait in admin db: pgbouncer")
        );
    }

    #[test]
    fn a_database_that_the_star_answers_for_can_be_paused_before_anybody_came() {
        let mut settings = settings();
        settings
            .databases
            .insert(FALLBACK.to_owned(), DatabaseSettings::default());
        let registry = Registry::new(settings, Users::default(), None, None, 1);
        assert_eq!(say(&registry, "PAUSE later"), ok("PAUSE"));
        assert_eq!(say(&registry, "RESUME later"), ok("RESUME"));
    }

    #[test]
    fn a_pause_that_somebody_else_resumed_is_told_so() {
        let registry = registry();
        let Ok(Outcome::Wait(_, wait)) = carry_out(&registry, &Command::Pause(None)) else {
            panic!()
        };
        assert_eq!(say(&registry, "RESUME"), ok("RESUME"));
        assert_eq!(wait.progress(&registry), Progress::Undone);
    }

    #[test]
    fn a_pause_given_up_is_undone_unless_it_was_there_before() {
        let registry = registry();
        let pause = |name: Option<&str>| {
            let command = Command::Pause(name.map(str::to_owned));
            let Ok(Outcome::Wait(_, wait)) = carry_out(&registry, &command) else {
                panic!()
            };
            wait
        };
        pause(None).give_up(&registry);
        assert!(!registry.is_paused());
        pause(Some("app"));
        pause(Some("app")).give_up(&registry);
        assert_eq!(
            say(&registry, "RESUME app"),
            ok("RESUME"),
            "the first pause stands"
        );
    }

    #[test]
    fn a_client_is_ended_by_its_id() {
        let registry = registry();
        let card = Arc::new(ClientCard::new(
            7,
            ClientFacts::default(),
            ClientLimits::default(),
            clock::now(),
        ));
        registry.census.clients.insert(7, Arc::clone(&card));
        assert_eq!(say(&registry, "KILL_CLIENT 8"), no("client not found"));
        assert_eq!(say(&registry, "KILL_CLIENT 7"), ok("KILL_CLIENT"));
        assert_eq!(card.order(), Order::Kill);
    }

    #[test]
    fn set_changes_a_running_setting_and_nothing_else() {
        let new = changed(&settings(), "default_pool_size", "7").unwrap();
        assert_eq!(new.pooler.default_pool_size, 7);
        assert_eq!(new.databases, settings().databases);
    }

    #[test]
    fn set_says_why_it_failed() {
        let why = |key, value| changed(&settings(), key, value).unwrap_err();
        assert_eq!(why("default_pool_size", "many").message, "SET failed");
        assert!(
            why("default_pool_sice", "7")
                .detail
                .unwrap()
                .contains("default_pool_size")
        );
        assert!(
            why("listen_port", "7000")
                .detail
                .unwrap()
                .contains("starts")
        );
        assert!(why("server_tls_sslmode", "disable").hint.is_some());
        assert_eq!(
            say(&registry(), "SET query_timeout = '1.5'"),
            ok("SET query_timeout=1.5")
        );
    }
}
