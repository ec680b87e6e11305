//! What the operator does to pools and clients.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tracing::info;

use crate::admin::clusters;
use crate::admin::command::{CLIENT_HINT, Command};
use crate::admin::complaint::{About, Complaint};
use crate::admin::pause::{self, Wait};
use crate::admin::suspend;
use crate::clients::gate::is_console;
use crate::config::problem::nearest_word;
use crate::pools::limits::Database;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::stats::arrival::Dismissal;
use crate::stats::census::Order;

/// What comes of a command.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; this is its tag.
    Done(&'static str),
    /// It is done when this is over; this is its tag.
    Wait(&'static str, Wait),
}

/// Carries out a command about pools or clients.
///
/// # Errors
/// Why it is not done.
///
/// # Panics
/// For commands that are the console's own: SHOW, SET, RELOAD, TAKEOVER and SHUTDOWN.
pub fn carry_out(registry: &Arc<Registry>, command: &Command) -> Result<Outcome, Complaint> {
    match command {
        Command::Pause(None) => pause::pause_everything(registry),
        Command::Pause(Some(name)) => pause::pause(registry, name),
        Command::Resume(None) => pause::resume_everything(registry),
        Command::Resume(Some(name)) => pause::resume(registry, name),
        Command::Suspend => suspend::suspend(registry),
        Command::Kill(name) => pause::kill(registry, name.as_deref()),
        Command::KillClient(id) => kill_client(registry, *id),
        Command::Disable(name) => {
            issued("DISABLE", Some(name));
            let database = find(registry, name, "disable")?;
            database.disabled.store(true, SeqCst);
            Ok(Outcome::Done("DISABLE"))
        }
        Command::Enable(name) => {
            issued("ENABLE", Some(name));
            let database = find_known(registry, name, "enable")?;
            database.disabled.store(false, SeqCst);
            Ok(Outcome::Done("ENABLE"))
        }
        Command::Reconnect(name) => {
            issued("RECONNECT", name.as_deref());
            let database = find_any(registry, name.as_deref(), "reconnect")?;
            pools(registry, database.as_deref())
                .iter()
                .for_each(|pool| pool.reconnect());
            Ok(Outcome::Done("RECONNECT"))
        }
        Command::WaitClose(name) => {
            issued("WAIT_CLOSE", name.as_deref());
            let database = find_any(registry, name.as_deref(), "wait in")?;
            Ok(Outcome::Wait("WAIT_CLOSE", Wait::Replaced(database)))
        }
        Command::Switchover(name, to) => {
            let wish = clusters::switch_over(registry, name, to.clone())?;
            Ok(Outcome::Wait("SWITCHOVER", Wait::Switchover(wish)))
        }
        Command::Unfence(name) => {
            clusters::tell(registry, name, clusters::Word::Unfence)?;
            Ok(Outcome::Done("UNFENCE"))
        }
        Command::Show(_)
        | Command::SetIgnored
        | Command::Set { .. }
        | Command::Reload
        | Command::TakeOver
        | Command::ExplainRoute { .. }
        | Command::Shutdown(_) => unreachable!("the console does these itself"),
    }
}

/// Carries out a command that is about pools, here and in the process that this one takes over from, if there is one. (PAUSE and
/// RESUME tell that themselves.)
///
/// # Errors
/// As [`carry_out`]; the other process says nothing.
pub fn heed(registry: &Arc<Registry>, text: &str, command: &Command) -> Result<Outcome, Complaint> {
    let outcome = carry_out(registry, command)?;
    let is_for_both = matches!(
        command,
        Command::Kill(_) | Command::Disable(_) | Command::Enable(_) | Command::Reconnect(_)
    );
    if let Some(elder) = registry.elder.load_full().filter(|_| is_for_both) {
        elder.command(text);
    }
    Ok(outcome)
}

/// Notes in the log that a command was given.
pub(super) fn issued(command: &str, database: Option<&str>) {
    match database {
        Some(name) => info!("{command} '{name}' command issued"),
        None => info!("{command} command issued"),
    }
}

/// The pools of a database, or all.
pub(super) fn pools(registry: &Registry, database: Option<&Database>) -> Vec<Arc<Pool>> {
    match database {
        None => registry.pools(),
        Some(database) => registry.pools_of(&database.name),
    }
}

/// The database `name`; one is made out of the `"*"` entry where that is configured.
pub(super) fn find(
    registry: &Registry,
    name: &str,
    verb: &str,
) -> Result<Arc<Database>, Complaint> {
    not_the_console(registry, name, verb)?;
    // A script whose variable is empty must not make a database out of the "*" entry.
    let named = Some(name).filter(|name| !name.is_empty());
    named
        .and_then(|name| registry.database(name))
        .ok_or_else(|| no_such_database(registry, name))
}

/// The database `name` that is listed, or in use.
pub(super) fn find_known(
    registry: &Registry,
    name: &str,
    verb: &str,
) -> Result<Arc<Database>, Complaint> {
    not_the_console(registry, name, verb)?;
    registry
        .known_database(name)
        .ok_or_else(|| no_such_database(registry, name))
}

fn no_such_database(registry: &Registry, name: &str) -> Complaint {
    let message = format!("no such database: {name}");
    let known = registry.databases();
    let near = nearest_word(name, known.iter().map(|known| known.name.as_str()));
    let hint = match near {
        Some(near) => format!("Did you mean {near}? SHOW DATABASES lists them."),
        None => "SHOW DATABASES lists them.".to_owned(),
    };
    Complaint::new(About::UndefinedDatabase, message).hint(hint)
}

fn not_the_console(registry: &Registry, name: &str, verb: &str) -> Result<(), Complaint> {
    if is_console(name, registry.settings.load().dialect) {
        let message = format!("cannot {verb} admin db: {name}");
        return Err(Complaint::new(About::WrongState, message));
    }
    Ok(())
}

fn find_any(
    registry: &Registry,
    name: Option<&str>,
    verb: &str,
) -> Result<Option<Arc<Database>>, Complaint> {
    name.map(|name| find(registry, name, verb)).transpose()
}

fn kill_client(registry: &Registry, id: u64) -> Result<Outcome, Complaint> {
    let card = registry
        .census
        .clients
        .get(&id)
        .map(|card| Arc::clone(&card));
    // Who was killed before is no client any more, though its task may still be about to end.
    let card = card.filter(|card| card.order() != Order::Kill);
    let arrival = registry.census.arrivals.get(&id);
    let arrival = arrival.filter(|arrival| arrival.is_waiting_for_server());
    if let Some(card) = card {
        card.give(Order::Kill);
    } else if let Some(arrival) = arrival.filter(|arrival| !arrival.is_dismissed()) {
        arrival.dismiss(Dismissal::Killed);
    } else {
        return Err(Complaint::new(About::UndefinedObject, "client not found").hint(CLIENT_HINT));
    }
    info!(client = id, "KILL_CLIENT command issued");
    Ok(Outcome::Done("KILL_CLIENT"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Outcome, carry_out};
    use crate::admin::command::{Command, Role, parse};
    use crate::admin::complaint::Complaint;
    use crate::admin::pause::Progress;
    use crate::auth::users::Users;
    use crate::clock;
    use crate::config::settings::{DatabaseSettings, FALLBACK, Settings};
    use crate::config::value::AuthType;
    use crate::pools::registry::Registry;
    use crate::stats::census::{ClientCard, ClientFacts, ClientLimits, Order};

    fn registry() -> Arc<Registry> {
        Registry::new(
            settings(),
            Users::default(),
            None,
            crate::servers::security::TlsWays::default(),
            1,
        )
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
        match carry_out(
            registry,
            &parse(text, Role::Acts).map_err(|why| why.message)?,
        ) {
            Ok(Outcome::Done(tag)) => Ok(tag.to_owned()),
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
    fn who_resumes_what_is_not_paused_is_told_what_is() {
        let registry = registry();
        let hint = |text: &str| {
            let command = parse(text, Role::Acts).unwrap();
            let complaint = carry_out(&registry, &command).unwrap_err();
            complaint.hint.unwrap_or_default().into_owned()
        };
        assert_eq!(hint("RESUME"), "");
        assert!(hint("RESUME app").contains("SHOW DATABASES"));
        assert!(hint("RESUME ap").contains("Did you mean app?"));
        assert_eq!(say(&registry, "PAUSE app"), ok("PAUSE"));
        assert!(hint("RESUME").contains("are app: RESUME <db>"));
        assert_eq!(say(&registry, "RESUME app"), ok("RESUME"));
        assert_eq!(say(&registry, "PAUSE"), ok("PAUSE"));
        assert!(hint("RESUME app").contains("RESUME without a name"));
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
        let registry = Registry::new(
            settings,
            Users::default(),
            None,
            crate::servers::security::TlsWays::default(),
            1,
        );
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
}
