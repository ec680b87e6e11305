//! What is ordered from outside: new settings, PAUSE and RESUME, a writer that has changed, a database that is gone.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, MutexGuard};

use super::{Pool, State};
use crate::clock;
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::pools::guest::Guest;
use crate::pools::plan::Plan;
use crate::pools::policy::Reason;

impl Pool {
    /// Puts a new plan in force. Servers of another place are closed when they are free.
    pub fn follow(&self, plan: Plan) {
        self.derived.clear();
        let before = self.plan.load_full();
        let moved =
            !plan.target.is_same_place(&before.target) || plan.tls_setup != before.tls_setup;
        self.plan.store(Arc::new(plan));
        if moved {
            self.reconnect();
        }
        self.lock().failure = None;
        self.tidy(clock::now());
    }

    /// Closes every server as soon as it is free; new ones take their places.
    pub fn reconnect(&self) {
        self.lock().generation += 1;
        self.group.forget_welcome();
        for card in &self.registry.census.servers {
            if card.facts.pool == self.id {
                card.need_close();
            }
        }
        for guest in self.registry.guests_of(self) {
            guest.end_guest();
        }
        self.tidy(clock::now());
    }

    /// Ends a pool that is one client's own, and that client.
    pub fn end_guest(&self) {
        if let Some(guest) = &self.guest {
            guest.end(&self.registry.census);
            self.dismiss(&Error::ServersReplaced);
            self.pause(true);
        }
    }

    /// Whether a client keeps its server until it leaves.
    pub fn keeps_sessions(&self) -> bool {
        self.plan.load().upkeep.mode == PoolMode::Session
    }

    /// Whether its node is the writer no longer: then nobody may ask it for a server.
    pub fn is_retired(&self) -> bool {
        self.retired.load(SeqCst)
    }

    /// Its node is the writer no longer: who waits looks for another, idle servers are closed, and nothing that busy ones say
    /// counts any more.
    pub fn fence(&self) {
        self.retired.store(true, SeqCst);
        let cluster = self.database.name.clone();
        let standing = "The writer has changed.".to_owned();
        self.lock()
            .lines
            .fail_all(&Error::NoPrimary { cluster, standing });
        for card in &self.registry.census.servers {
            if card.facts.pool == self.id {
                self.registry.census.fence(&card);
            }
        }
        self.reconnect();
    }

    /// The name of its node has moved, and servers that are where it was are fenced by now. Who waits was sent here for what another server
    /// was: it looks again.
    pub fn follow_move(&self) {
        let cluster = self.database.name.clone();
        let standing = "The name of the node has moved.".to_owned();
        self.dismiss(&Error::NoPrimary { cluster, standing });
        self.group.forget_welcome();
        for guest in self.registry.guests_of(self) {
            let mut cards = self.registry.census.servers.iter();
            if cards.any(|card| card.facts.pool == guest.id && card.close_needed()) {
                guest.end_guest();
            }
        }
        self.tidy(clock::now());
    }

    /// Its node, a replica, has not answered a probe in time. What clients read there is read elsewhere where that may be; who waits for a
    /// server looks for another node. Where it `is_gone`, having missed a second one, nobody waits for it any longer.
    pub fn hush(&self, is_gone: bool) {
        let cluster = self.database.name.clone();
        let standing = "The replica does not answer.".to_owned();
        self.dismiss(&Error::NoPrimary { cluster, standing });
        for card in &self.registry.census.servers {
            let client = self.registry.census.client(card.lent_to());
            if card.facts.pool != self.id || client.is_none() {
                continue;
            }
            card.set_silent(true);
            if is_gone {
                card.fence();
            }
            client.inspect(|client| client.wake());
        }
    }

    /// Its database is gone: nobody gets a server any more, and who waits is told.
    pub fn remove(&self) {
        {
            let mut state = self.lock();
            state.removed = true;
            let error = Error::DatabaseRemoved(self.database.name.clone());
            state.lines.fail_all(&error);
        }
        self.pause(true);
    }

    /// Does what PAUSE and RESUME say now. Flags are read under the pool's own lock, so that of two operators who contradict
    /// each other the later one is heeded by every pool.
    pub fn heed_pause(&self) {
        let mut state = self.lock();
        state.paused =
            state.removed || self.registry.is_paused() || self.database.paused.load(SeqCst);
        state.paused |= self.guest.as_ref().is_some_and(Guest::is_over);
        self.settle_pause(state);
    }

    /// Stops lending and closes idle servers; or goes on.
    pub fn pause(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused || self.guest.as_ref().is_some_and(Guest::is_over);
        self.settle_pause(state);
    }

    fn settle_pause(&self, mut state: MutexGuard<'_, State>) {
        let paused = state.paused;
        let idle: Vec<_> = if paused {
            let parked = std::mem::take(&mut state.parked);
            let idle = state.idle.iter_mut().flat_map(|store| store.drain(..));
            idle.chain(parked).collect()
        } else {
            vec![]
        };
        drop(state);
        for server in idle {
            self.close(server, Reason::Ordered);
        }
        self.grow();
    }

    /// Tells everybody in line that it is in vain, and why.
    pub fn dismiss(&self, why: &Error) {
        self.lock().lines.fail_all(why);
    }
}
