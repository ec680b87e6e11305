//! The seats that servers take: when one more is opened, whose places it takes, and who gets a seat that is free again.

use super::Pool;
use super::failure::retry_after;
use super::passing::share;
use crate::clock::{self, Moment};
use crate::config::value::Dialect;
use crate::pools::dialer;
use crate::pools::limits::Quota;
use crate::pools::plan::Plan;
use crate::pools::policy::{Seat, Seats, seat_for_next};
use crate::telemetry::events;

impl Pool {
    /// Opens servers for who waits, as far as the limits allow.
    pub fn grow(&self) {
        while self.grow_by_one() {}
    }

    fn grow_by_one(&self) -> bool {
        let plan = self.plan.load_full();
        let (size, reserve) = if self.registry.hands_over() {
            (share(plan.size), 0)
        } else {
            (plan.size, plan.reserve)
        };
        let now = clock::now();
        let mut state = self.lock();
        let is_full = size > 0 && state.open >= size + reserve;
        if state.paused || is_full || !self.registry.may_open(now) {
            return false;
        }
        let coming = state.dialing + state.tested;
        let seats = Seats {
            size,
            reserve,
            reserve_timeout: plan.reserve_timeout,
            open: state.open,
            dialing: coming,
            waiting: state.lines.count_up_to(coming + 1),
            oldest: state.lines.oldest(),
        };
        let seat = seat_for_next(seats, now);
        if seat == Seat::None {
            return false;
        }
        let is_alone = plan.rules.dialect == Dialect::PgBouncer && state.open == state.dialing;
        if is_alone && state.dialing > 0 {
            // Whoever waits for a server that refuses everybody hears of one attempt.
            return false;
        }
        if let Some(failure) = &state.failure
            && (state.dialing > 0 || now.since(failure.last) < retry_after(&plan))
        {
            return false;
        }
        state.open += 1;
        state.dialing += 1;
        drop(state);
        if !self.take_places(&plan) {
            let mut state = self.lock();
            state.open -= 1;
            state.dialing -= 1;
            return false;
        }
        if seat == Seat::Reserve {
            events::reserve_taken(&self.database.name, &self.user);
        }
        dialer::dial(self.arc());
        true
    }

    /// Takes a place of the database's and of the user's servers, or asks for one to be freed.
    fn take_places(&self, plan: &Plan) -> bool {
        if !self.take_seat_of_host() {
            return false;
        }
        if !self.take_shared_places(plan) {
            self.leave_seat_of_host();
            return false;
        }
        true
    }

    fn take_shared_places(&self, plan: &Plan) -> bool {
        if !take_or_starve(&self.database.servers, plan.max_db) {
            self.registry.evict_for_database(self);
            return false;
        }
        if !take_or_starve(&self.owner.servers, plan.max_user) {
            self.database.servers.give_back();
            self.registry.evict_for_user(self);
            return false;
        }
        true
    }

    fn take_seat_of_host(&self) -> bool {
        let Some(guest) = &self.guest else {
            return true;
        };
        let since = self.lock().lines.oldest();
        guest.host().seat_guest(since.unwrap_or_else(clock::now))
    }

    fn leave_seat_of_host(&self) {
        if let Some(guest) = &self.guest {
            guest.host().guest_left();
        }
    }

    /// Gives a seat to a guest that has waited since then; false where all are taken. An idle server makes room for it then.
    fn seat_guest(&self, since: Moment) -> bool {
        let size = self.plan.load().size;
        let mut state = self.lock();
        if size == 0 || state.open < size {
            state.open += 1;
            state.guests += 1;
            return true;
        }
        let earlier = state.guest_waits.into_iter().chain([since]).min();
        state.guest_waits = earlier;
        let is_one_coming = state.closing > 0;
        drop(state);
        if !is_one_coming {
            self.evict_one();
        }
        false
    }

    fn guest_left(&self) {
        let mut state = self.lock();
        state.open -= 1;
        state.guests -= 1;
        drop(state);
        self.offer_seat();
    }

    /// A seat is free: whoever has waited longest may have it.
    fn offer_seat(&self) {
        if self.lock().guest_waits.take().is_some() {
            self.registry.grow_all();
        } else {
            self.grow();
        }
    }

    /// Opens one server beyond who waits, when fewer than `min_pool_size` are open. A pool without clients is filled
    /// only where its user is forced.
    pub(super) fn fill(&self, now: Moment) {
        let plan = self.plan.load_full();
        let is_wanted = plan.is_forced || self.database.clients.used() > 0;
        if is_wanted && !self.registry.hands_over() {
            self.open_beyond(&plan, plan.min_size, now);
        }
    }

    /// Opens the server for which another pool has closed one, though nobody may wait for it any more.
    fn open_promised(&self, now: Moment) {
        let plan = self.plan.load_full();
        let most = if plan.size == 0 {
            usize::MAX
        } else {
            plan.size
        };
        if self.guest.is_none() {
            self.open_beyond(&plan, most, now);
        }
    }

    /// Opens one server, when fewer than `least` are open and none is on its way.
    fn open_beyond(&self, plan: &Plan, least: usize, now: Moment) {
        let mut state = self.lock();
        let is_resting = state
            .failure
            .as_ref()
            .is_some_and(|failure| now.since(failure.last) < plan.login_retry);
        if is_resting || state.paused || state.dialing > 0 || state.open >= least {
            return;
        }
        state.open += 1;
        state.dialing += 1;
        drop(state);
        let has_places = self.database.servers.take(plan.max_db) && {
            let taken = self.owner.servers.take(plan.max_user);
            if !taken {
                self.database.servers.give_back();
            }
            taken
        };
        if has_places {
            dialer::dial(self.arc());
        } else {
            let mut state = self.lock();
            state.open -= 1;
            state.dialing -= 1;
        }
    }

    pub(super) fn leave_seat(&self, was_closing: bool) {
        let mut state = self.lock();
        state.open -= 1;
        state.closing -= usize::from(was_closing);
        drop(state);
        self.leave_places();
        self.offer_seat();
    }

    pub(super) fn leave_places(&self) {
        self.leave_seat_of_host();
        let quotas = [&self.database.servers, &self.owner.servers];
        quotas.iter().for_each(|quota| quota.give_back());
        let heirs = quotas.map(Quota::take_heir);
        let [database, user] = quotas.map(Quota::feed);
        if database || user {
            self.registry.grow_all();
        }
        for heir in heirs.into_iter().flatten() {
            heir.open_promised(clock::now());
        }
    }
}

/// Takes a place of `quota`, or leaves word that one is missed. A place that came back between the two is seen.
fn take_or_starve(quota: &Quota, max: usize) -> bool {
    if quota.take(max) {
        return true;
    }
    quota.starve();
    quota.take(max)
}
