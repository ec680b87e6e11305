//! What the janitor asks of a pool: idle servers that have had their time are closed, and what is missing is opened.

use super::Pool;
use crate::clock::Moment;
use crate::pools::policy::Reason;

impl Pool {
    /// Closes the idle server that was used least recently; false when there is none. Used to make room for others.
    pub fn evict_one(&self) -> bool {
        let mut state = self.lock();
        let oldest = (0..state.idle.len())
            .filter(|index| !state.idle[*index].is_empty())
            .min_by_key(|index| state.idle[*index].front().map(|server| server.used));
        let Some(server) = oldest.and_then(|index| state.idle[index].pop_front()) else {
            return false;
        };
        drop(state);
        self.close(server, Reason::Evicted);
        true
    }

    /// When the idle server that was used least recently was used.
    pub fn oldest_idle(&self) -> Option<Moment> {
        self.lock()
            .idle
            .iter()
            .filter_map(|store| store.front())
            .map(|server| server.used)
            .min()
    }

    /// Closes idle servers that are too old, idle for too long, too many, or no longer silent; opens what is missing.
    pub fn tidy(&self, now: Moment) {
        let plan = self.plan.load_full();
        let mut state = self.lock();
        let mut doomed = Vec::new();
        let surplus = if plan.size == 0 {
            0
        } else {
            state.staying().saturating_sub(plan.size + plan.reserve)
        };
        let spare = state.staying().saturating_sub(plan.min_size);
        let mut idlers = 0;
        for index in 0..state.idle.len() {
            let store = std::mem::take(&mut state.idle[index]);
            for mut server in store {
                let is_idle =
                    !plan.idle_timeout.is_zero() && now.since(server.used) >= plan.idle_timeout;
                let reason = if server.card.close_needed() {
                    Some(Reason::Obsolete)
                } else if doomed.len() < surplus {
                    Some(Reason::TooMany)
                } else if !plan.lifetime.is_zero() && state.age_out(server.born, now, &plan) {
                    Some(Reason::Lifetime)
                } else if is_idle && idlers < spare {
                    idlers += 1;
                    Some(Reason::Idle)
                } else {
                    (!server.is_silent(&self.registry.interner)).then_some(Reason::Unasked)
                };
                match reason {
                    Some(reason) => doomed.push((server, reason)),
                    None => state.idle[index].push_back(server),
                }
            }
        }
        drop(state);
        for (server, reason) in doomed {
            self.close(server, reason);
        }
        self.grow();
        self.fill(now);
    }
}
