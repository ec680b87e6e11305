//! PAUSE, RESUME, KILL and what commands wait for.
//!
//! A pool is paused while its database is, or while everything is. RESUME undoes the pause of everything and leaves those
//! of single databases, as PgBouncer does; so KILL, which pauses databases one by one, is undone by `RESUME db`.
//!
//! A flag is always set before the pools that exist are told: a pool made meanwhile reads the flag, so none is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tracing::info;

use crate::admin::clusters;
use crate::admin::complaint::{About, Complaint};
use crate::admin::control::{Outcome, find, find_known, issued, pools};
use crate::admin::suspend;
use crate::clients::gate::is_console;
use crate::clock::Moment;
use crate::error::Error;
use crate::pools::limits::Database;
use crate::pools::registry::{Phase, Registry};
use crate::topology::wish::{Unswitched, Wish};

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
    /// Since then, until everybody stands still.
    Still(Moment),
    /// Until it is known what became of it.
    Switchover(Arc<Wish>),
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
    /// It did not come about.
    Refused,
}

impl Wait {
    /// How far it is.
    pub fn progress(&self, registry: &Registry) -> Progress {
        let is_over = match self {
            Self::Still(since) => return suspend::progress(registry, *since),
            Self::Switchover(wish) => {
                return match wish.outcome() {
                    None => Progress::Waiting,
                    Some(Ok(_)) => Progress::Over,
                    Some(Err(_)) => Progress::Refused,
                };
            }
            Self::Paused { database, .. } => {
                let is_paused = registry.is_paused()
                    || database
                        .as_ref()
                        .is_some_and(|database| database.paused.load(SeqCst));
                if !is_paused {
                    return Progress::Undone;
                }
                let is_known =
                    (registry.elder.load().as_ref()).is_none_or(|elder| elder.heeds_all());
                // Servers that are being opened are closed as soon as they have logged in.
                is_known
                    && pools(registry, database.as_deref()).iter().all(|pool| {
                        let headcount = pool.headcount();
                        headcount.open <= headcount.dialing
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

    /// Why it was refused.
    pub fn complaint(&self) -> Complaint {
        let why = match self {
            Self::Switchover(wish) => wish.outcome().and_then(Result::err),
            Self::Paused { .. } | Self::Replaced(_) | Self::Still(_) => None,
        };
        clusters::not_switched(&why.unwrap_or_else(|| Unswitched::Not(String::new())))
    }

    /// What the guest is told beside that it is over: a message, and what follows from it.
    pub fn notice(&self) -> Option<(String, String)> {
        match self {
            Self::Switchover(wish) => clusters::by_hand(&wish.outcome()?.ok()?),
            Self::Paused { .. } | Self::Replaced(_) | Self::Still(_) => None,
        }
    }

    /// Gives up: what the command paused goes on.
    pub fn give_up(&self, registry: &Registry) {
        match self {
            Self::Paused {
                was_paused: true, ..
            }
            | Self::Replaced(_)
            | Self::Switchover(_) => {}
            Self::Still(_) => {
                registry.go_on();
            }
            Self::Paused { database: None, .. } => pause_all(registry, false),
            Self::Paused {
                database: Some(database),
                ..
            } => pause_one(registry, database, false),
        }
    }
}

/// Refuses what cannot be done while everything is paused or stands still.
pub(super) fn refuse_while_paused(registry: &Registry) -> Result<(), Complaint> {
    if registry.is_paused() || registry.standstill.is_on() {
        return Err(Complaint::new(
            About::WrongState,
            "already suspended/paused",
        ));
    }
    Ok(())
}

/// SIGUSR1.
pub fn pause_by_signal(registry: &Registry) {
    if registry.is_paused() || registry.standstill.is_on() {
        info!("got SIGUSR1, but already paused/suspended");
        return;
    }
    info!("got SIGUSR1, pausing all activity");
    pause_all(registry, true);
}

/// SIGUSR2.
pub fn resume_by_signal(registry: &Registry) {
    if registry.phase() != Phase::Serving {
        info!("got SIGUSR2 while shutting down, ignoring");
    } else if registry.go_on() {
        info!("got SIGUSR2, continuing from SUSPEND");
    } else if registry.is_paused() {
        info!("got SIGUSR2, continuing from PAUSE");
        pause_all(registry, false);
    } else {
        info!("got SIGUSR2, but not paused/suspended");
    }
}

/// Pauses or resumes everything, but for databases that are paused themselves.
pub fn pause_all(registry: &Registry, pause: bool) {
    if registry.phase() == Phase::Closing && !pause {
        tracing::info!("shutting down, nothing is resumed");
        return;
    }
    registry.set_paused(pause);
    for pool in registry.pools_and_guests() {
        pool.heed_pause();
    }
    if registry.phase() == Phase::Serving {
        tell_elder(registry, if pause { "PAUSE" } else { "RESUME" });
    }
}

/// The process that this one takes over from heeds it, too.
fn tell_elder(registry: &Registry, command: &str) {
    if let Some(elder) = registry.elder.load_full() {
        elder.command(command);
    }
}

fn pause_one(registry: &Registry, database: &Database, pause: bool) {
    database.paused.store(pause, SeqCst);
    for pool in registry.pools_and_guests_of(&database.name) {
        pool.heed_pause();
    }
    let verb = if pause { "PAUSE" } else { "RESUME" };
    let name = database.name.replace('"', "\"\"");
    tell_elder(registry, &format!("{verb} \"{name}\""));
}

/// PAUSE.
pub(super) fn pause_everything(registry: &Registry) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    issued("PAUSE", None);
    pause_all(registry, true);
    let wait = Wait::Paused {
        database: None,
        was_paused: false,
    };
    Ok(Outcome::Wait("PAUSE", wait))
}

/// PAUSE of one database.
pub(super) fn pause(registry: &Registry, name: &str) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    issued("PAUSE", Some(name));
    let database = find(registry, name, "pause")?;
    let was_paused = database.paused.load(SeqCst);
    pause_one(registry, &database, true);
    let wait = Wait::Paused {
        database: Some(database),
        was_paused,
    };
    Ok(Outcome::Wait("PAUSE", wait))
}

/// RESUME.
pub(super) fn resume_everything(registry: &Registry) -> Result<Outcome, Complaint> {
    issued("RESUME", None);
    if registry.phase() != Phase::Serving {
        return Err(Complaint::new(About::WrongState, "pooler is shutting down"));
    }
    if registry.go_on() {
        return Ok(Outcome::Done("RESUME"));
    }
    if !registry.is_paused() {
        let complaint = Complaint::new(About::WrongState, "pooler is not paused/suspended");
        let databases = registry.databases().into_iter();
        let paused = databases.filter(|database| database.paused.load(SeqCst));
        let names: Vec<String> = paused.map(|database| database.name.clone()).collect();
        if names.is_empty() {
            return Err(complaint);
        }
        let names = names.join(", ");
        let hint = format!("Paused by themselves are {names}: RESUME <db> ends that for one.");
        return Err(complaint.hint(hint));
    }
    pause_all(registry, false);
    Ok(Outcome::Done("RESUME"))
}

/// RESUME of one database.
pub(super) fn resume(registry: &Registry, name: &str) -> Result<Outcome, Complaint> {
    issued("RESUME", Some(name));
    let not_paused = || {
        let hint = if registry.is_paused() {
            "Everything is paused: RESUME without a name ends that."
        } else {
            "SHOW DATABASES tells which are, in its column paused."
        };
        Complaint::new(About::WrongState, format!("database {name} is not paused")).hint(hint)
    };
    if is_console(name, registry.settings.load().dialect) {
        return Err(not_paused());
    }
    let database = find_known(registry, name, "resume")?;
    if !database.paused.load(SeqCst) {
        return Err(not_paused());
    }
    pause_one(registry, &database, false);
    Ok(Outcome::Done("RESUME"))
}

/// KILL of one database, or of all that have a pool: a database that nobody has a pool of has nothing to kill, and stays open.
pub(super) fn kill(registry: &Registry, name: Option<&str>) -> Result<Outcome, Complaint> {
    refuse_while_paused(registry)?;
    issued("KILL", name);
    let meant: BTreeMap<String, Arc<Database>> = match name {
        Some(name) => [(name.to_owned(), find(registry, name, "kill")?)].into(),
        None => {
            let pools = registry.pools().into_iter();
            pools
                .map(|pool| (pool.database.name.clone(), Arc::clone(&pool.database)))
                .collect()
        }
    };
    for (name, database) in meant {
        pause_one(registry, &database, true);
        registry.end_clients(&name);
        for pool in registry.pools_and_guests_of(&name) {
            // Those who wait for the first server of their pool are not logged in yet.
            pool.dismiss(&Error::DatabaseRemoved(name.clone()));
        }
    }
    Ok(Outcome::Done("KILL"))
}
