//! SUSPEND: everything is held still until RESUME.
//!
//! As in PgBouncer: idle clients and those whose query is under way stand still once nothing of theirs waits to be passed on. Who is in line
//! for a server, or in the middle of its login, is in the way until it is through, and is ended when `suspend_timeout` is over.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::admin::complaint::{About, Complaint};
use crate::admin::control::{Outcome, issued};
use crate::admin::pause::{Progress, Wait, refuse_while_paused};
use crate::clients::credentials::own_uid;
use crate::clients::gate::is_console;
use crate::clock::{self, Moment};
use crate::pools::registry::{Phase, Registry};
use crate::stats::census::{ClientState, Order};

/// SUSPEND.
pub(super) fn suspend(registry: &Registry) -> Result<Outcome, Complaint> {
    refuse_any_pause(registry)?;
    issued("SUSPEND", None);
    registry.suspend();
    Ok(Outcome::Wait("SUSPEND", Wait::Still(clock::now())))
}

fn refuse_any_pause(registry: &Registry) -> Result<(), Complaint> {
    refuse_while_paused(registry)?;
    let databases = registry.databases();
    let mut paused = databases
        .iter()
        .map(|database| database.paused.load(SeqCst));
    if paused.any(|is_paused| is_paused) {
        let message = "cannot suspend with paused databases";
        return Err(Complaint::new(About::WrongState, message));
    }
    Ok(())
}

/// Checks that everything may be given to a process of user `uid`, which asks for it: one of our own, while nothing is paused.
pub(super) fn check_handover(registry: &Registry, uid: Option<u32>) -> Result<(), Complaint> {
    if uid != Some(own_uid()) {
        let message = "TAKEOVER is for a process of the same user, over the Unix socket";
        return Err(Complaint::new(About::InsufficientPrivilege, message));
    }
    if registry.phase() != Phase::Serving {
        return Err(Complaint::new(About::WrongState, "pooler is shutting down"));
    }
    refuse_any_pause(registry)
}

/// How far a standstill is that was ordered at `since`. Ends those who are in its way when they had time enough.
pub(super) fn progress(registry: &Registry, since: Moment) -> Progress {
    let number = registry.standstill.number();
    if number == 0 {
        return Progress::Undone;
    }
    let settings = registry.settings.load();
    let limit = settings.pooler.suspend_timeout;
    let is_over = limit > Duration::ZERO && clock::now().since(since) >= limit;
    let mut all_stand_still = true;
    for card in &registry.census.clients {
        let is_meant = !is_console(&card.facts.database, settings.dialect)
            && card.state() != ClientState::Cancelling;
        if is_meant && !card.stands_still(number) {
            all_stand_still = false;
            if is_over {
                card.give(Order::SuspendTimeout);
            }
        }
    }
    if is_over {
        registry.standstill.run_out();
    }
    if all_stand_still && registry.census.arrivals.is_empty() {
        Progress::Over
    } else {
        Progress::Waiting
    }
}

/// Goes on when the last guest of the console has left a pooler that stands still: nobody else could be let in to say so.
pub(super) fn go_on_without_guests(registry: &Registry) {
    let dialect = registry.settings.load().dialect;
    let mut cards = registry.census.clients.iter();
    if registry.standstill.is_on()
        && !cards.any(|card| is_console(&card.facts.database, dialect))
        && registry.go_on()
    {
        tracing::info!("admin disappeared when suspended, doing RESUME");
    }
}
