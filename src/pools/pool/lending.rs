//! Servers on their way: lent to who asks, taken back, looked at before anybody else gets them, and closed.

use std::sync::Arc;
use std::task::Waker;

use super::{Pool, State};
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::pools::dialer;
use crate::pools::limits::Quota;
use crate::pools::line::Spot;
use crate::pools::plan::Plan;
use crate::pools::policy::{AfterUse, Reason, Returned, after_use};
use crate::pools::registry::Phase;
use crate::servers::server::Server;
use crate::stats::census::ServerState;
use crate::telemetry::events::Who;
use crate::telemetry::{events, log};
use crate::thread;

/// What a client that asks for a server gets.
#[derive(Debug)]
pub enum Asked {
    /// A server.
    Server(Box<Server>),
    /// A place in line.
    Line(Arc<Spot<Server>>),
    /// There is no server to be had.
    Refused(Error),
}

/// Who asks for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client that is logged in.
    Client,
    /// A login that waits for the pool's first server, or the pooler itself.
    Login,
    /// Whoever was told that none can be opened, and waits until then all the same.
    Patient(Moment),
}

impl Pool {
    /// Asks for a server: an idle one, or a place in line, where `waker` is woken. `plan` is the one in force.
    pub fn ask(&self, plan: &Plan, waker: &Waker, now: Moment, asker: Asker) -> Asked {
        loop {
            let mut state = self.lock();
            state.last_used = now;
            if self.is_retired() {
                let cluster = self.database.name.clone();
                let standing = "The writer has changed.".to_owned();
                return Asked::Refused(Error::NoPrimary { cluster, standing });
            }
            if !state.paused && !state.lines.has_waiting() {
                let idle = take_idle(&mut state, thread::worker(), plan.round_robin);
                if let Some(server) = idle {
                    drop(state);
                    match self.vet(plan, server, now) {
                        Some(server) => return Asked::Server(server),
                        None => continue,
                    }
                }
            }
            if state.removed {
                return Asked::Refused(Error::DatabaseRemoved(self.database.name.clone()));
            }
            if state.paused && self.registry.phase() == Phase::Closing {
                return Asked::Refused(Error::ShuttingDown);
            }
            if let Some(error) = self.hopeless(&state, now, asker) {
                return Asked::Refused(error);
            }
            let spot = Arc::new(match asker {
                Asker::Client => Spot::new(waker, now),
                Asker::Login => Spot::of_login(waker, now),
                Asker::Patient(until) => Spot::patient(waker, now, until),
            });
            state.lines.join(thread::worker(), Arc::clone(&spot));
            drop(state);
            self.grow();
            return Asked::Line(spot);
        }
    }

    /// An idle server that may be lent as it is. Others are closed or checked, and come back later.
    fn vet(&self, plan: &Plan, mut server: Box<Server>, now: Moment) -> Option<Box<Server>> {
        if server.card.close_needed() {
            self.close(server, Reason::ObsoleteWanted);
            return None;
        }
        if !server.is_silent(&self.registry.interner) {
            self.close(server, Reason::Unasked);
            return None;
        }
        if plan.check_query.is_some() && now.since(server.used) >= plan.check_delay {
            self.lock().tested += 1;
            server.card.enter(ServerState::Tested, now);
            dialer::check(self.arc(), server);
            return None;
        }
        self.bring_here(server).ok()
    }

    /// Brings a server to the calling worker. One that is lost on the way leaves its seat.
    ///
    /// # Errors
    /// [`Error::ServerLost`] when it was lost.
    pub fn bring_here(&self, server: Box<Server>) -> Result<Box<Server>, Error> {
        let id = server.card.id;
        server.come_here().map_err(|_| {
            self.registry.census.servers.remove(&id);
            self.leave_seat(false);
            Error::ServerLost("while it changed its thread")
        })
    }

    /// Takes back a server that a client is done with.
    pub fn give_back(&self, server: Box<Server>) {
        self.give_back_at(server, clock::now());
    }

    /// The same where it is known what time it is.
    pub fn give_back_at(&self, mut server: Box<Server>, now: Moment) {
        server.used = now;
        let plan = self.plan.load();
        // One that has only told a login what it is like has not been used: a lifetime of 0 is a use.
        let is_old = server.has_served && now.since(server.born) >= plan.lifetime;
        let returned = Returned {
            is_free: server.side.is_free() && server.out.is_empty(),
            is_obsolete: server.card.close_needed(),
            is_spoiled: server.side.doubt.is_spoiled,
            needs_reset: server.side.doubt.needs_reset,
            is_too_old: is_old && self.lock().age_out(server.born, now, &plan),
        };
        match after_use(returned, plan.upkeep) {
            AfterUse::Close(reason) => self.close(server, reason),
            AfterUse::Empty => {
                self.lock().tested += 1;
                server.card.enter(ServerState::Tested, now);
                dialer::empty(self.arc(), server);
            }
            AfterUse::Reset => {
                self.lock().tested += 1;
                server.card.enter(ServerState::Tested, now);
                dialer::reset(self.arc(), server);
            }
            AfterUse::Keep => self.lay_down(&plan, server),
        }
    }

    /// A server that was reset or checked is ready again.
    pub fn tested(&self, server: Box<Server>) {
        self.lock().tested -= 1;
        self.shelve(server);
    }

    /// A server that was reset or checked is of no more use.
    pub fn failed_test(&self, server: Box<Server>) {
        self.lock().tested -= 1;
        self.close(server, Reason::Reset);
    }

    /// Lends a clean server to who waits, or lays it down.
    pub(super) fn shelve(&self, server: Box<Server>) {
        self.lay_down(&self.plan.load(), server);
    }

    fn lay_down(&self, plan: &Plan, mut server: Box<Server>) {
        loop {
            let mut state = self.lock();
            if state.paused || server.generation != state.generation {
                drop(state);
                return self.close(server, Reason::Ordered);
            }
            if server.card.close_needed() {
                // While it logged in or was tested.
                drop(state);
                return self.close(server, Reason::ObsoleteGivenBack);
            }
            if server.card.is_being_cancelled() {
                server.card.enter(ServerState::BeingCanceled, server.used);
                state.parked.push(server);
                let settled = state
                    .parked
                    .iter()
                    .position(|parked| !parked.card.is_being_cancelled());
                match settled {
                    None => return,
                    Some(index) => server = state.parked.swap_remove(index),
                }
            }
            if state.is_guests_turn() {
                drop(state);
                return self.close(server, Reason::Evicted);
            }
            let mut quotas = [&self.database.servers, &self.owner.servers].into_iter();
            if !state.lines.has_waiting()
                && let Some(quota) = quotas.find(|quota| quota.wants_place())
            {
                drop(state);
                if self.makes_room(quota) {
                    return self.close(server, Reason::Evicted);
                }
                continue;
            }
            if plan.size > 0 && state.staying() > plan.size + plan.reserve {
                drop(state);
                return self.close(server, Reason::TooMany);
            }
            if let Some(server) = state.lines.give(thread::worker(), server) {
                server.card.enter(ServerState::Idle, server.used);
                let home = thread::place(server.home, state.idle.len());
                state.idle[home].push_back(server);
            }
            return;
        }
    }

    /// Whether a server is to be closed for another pool that found no place of `quota`. Its clients may have found servers meanwhile.
    fn makes_room(&self, quota: &Quota) -> bool {
        if quota.is_insisted() {
            return true;
        }
        let heir = self.registry.starving_beside(self, quota);
        match &heir {
            Some(heir) => quota.promise(heir),
            None => quota.sate(),
        }
        heir.is_some()
    }

    /// A cancel request has been delivered: servers that were put aside for it come back.
    pub fn unpark(&self) {
        loop {
            let mut state = self.lock();
            let Some(index) = state
                .parked
                .iter()
                .position(|server| !server.card.is_being_cancelled())
            else {
                return;
            };
            let mut server = state.parked.swap_remove(index);
            drop(state);
            if server.is_silent(&self.registry.interner) {
                self.give_back(server);
            } else {
                self.close(server, Reason::Unasked);
            }
        }
    }

    /// Closes a server. Its seat is free when PostgreSQL has closed its end.
    pub fn close(&self, server: Box<Server>, reason: Reason) {
        let words = if log::is_as_pgbouncer() {
            reason.pgbouncer_words()
        } else {
            reason.as_str()
        };
        let is_logged = self.registry.settings.load().pooler.log_disconnections;
        let who = Who::server(server.card.id, &server.card.facts);
        events::server_closed(who, words, clock::now().since(server.born), is_logged);
        server.card.enter(ServerState::Closing, clock::now());
        self.lock().closing += 1;
        dialer::close(self.arc(), server);
    }

    /// A server that was being closed is closed at both ends.
    pub fn closed(&self, id: u64) {
        self.registry.census.servers.remove(&id);
        self.leave_seat(true);
    }
}

fn take_idle(state: &mut State, worker: usize, round_robin: bool) -> Option<Box<Server>> {
    let own = thread::place(worker, state.idle.len());
    let store = if state.idle[own].is_empty() {
        let fullest = (0..state.idle.len()).max_by_key(|index| state.idle[*index].len())?;
        &mut state.idle[fullest]
    } else {
        &mut state.idle[own]
    };
    if round_robin {
        store.pop_front()
    } else {
        store.pop_back()
    }
}
