//! One pool: the servers of one database, one user and one node.
//!
//! `pool_size` is a promise to PostgreSQL: a server counts from before it is dialled until PostgreSQL has closed its end, and the
//! count is exact over all workers, because everything that decides lies behind one short lock. Idle servers lie with
//! the worker whose runtime watches them; a worker without one takes another's.
//!
//! A server travels only as a lease. It comes back by [`Pool::give_back`], or is closed by [`Pool::close`]; both free what is to be
//! freed and serve who waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::config::value::Dialect;
use crate::config::value::LoadBalance;
use crate::error::Error;
use crate::pools::dialer;
use crate::pools::group::Group;
use crate::pools::guest::Guest;
use crate::pools::limits::{Database, Quota, User};
use crate::pools::line::{Lines, Spot};
use crate::pools::plan::Plan;
use crate::pools::policy::{
    AfterUse, Reason, Returned, Seat, Seats, after_use, is_too_old, seat_for_next,
};
use crate::pools::registry::{Phase, Registry};
use crate::servers::login::Watch;
use crate::servers::proof::Derived;
use crate::servers::server::Server;
use crate::stats::census::ServerState;
use crate::stats::counters::Tally;
use crate::telemetry::events::Who;
use crate::telemetry::{events, log};
use crate::thread;

/// For how long a pool tries again and again before it tells clients that its server cannot be reached.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines of the log that tell of the same failure.
const REMINDER: Duration = Duration::from_secs(60);

/// What went wrong the last times a server was dialled.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The first time, since the last success.
    pub since: Moment,
    /// The last time.
    pub last: Moment,
    /// How often.
    pub tries: usize,
    /// When the log last told of it.
    pub told: Moment,
    /// What happened.
    pub error: Error,
}

impl Failure {
    /// Whether the log shall tell of `error` at `now`: when it is another than before, and else once a minute.
    fn is_news(&self, error: &Error, now: Moment) -> bool {
        self.error != *error || now.since(self.told) >= REMINDER
    }
}

#[derive(Debug)]
struct State {
    idle: Vec<VecDeque<Box<Server>>>,
    #[expect(clippy::vec_box, reason = "a server is large, and travels in its box")]
    parked: Vec<Box<Server>>,
    lines: Lines<Server>,
    open: usize,
    dialing: usize,
    tested: usize,
    closing: usize,
    /// Of the open ones, those of guests.
    guests: usize,
    /// Since when a guest that found no seat has waited.
    guest_waits: Option<Moment>,
    paused: bool,
    removed: bool,
    generation: u64,
    failure: Option<Failure>,
    last_used: Moment,
    last_aged_out: Option<Moment>,
}

impl State {
    /// Servers that are here to stay.
    fn staying(&self) -> usize {
        self.open - self.closing
    }

    /// Servers that clients in line may get.
    fn own(&self) -> usize {
        self.open - self.guests
    }

    /// Whether a guest has waited for longer than everybody in line.
    fn is_guests_turn(&mut self) -> bool {
        let Some(since) = self.guest_waits else {
            return false;
        };
        self.lines.oldest().is_none_or(|oldest| since < oldest)
    }

    /// Whether the lifetime of a server opened at `born` is over and it is its turn; then the turn is taken.
    fn age_out(&mut self, born: Moment, now: Moment, plan: &Plan) -> bool {
        let since_last = self.last_aged_out.map(|last| now.since(last));
        let is_too_old = is_too_old(now.since(born), plan.lifetime, since_last, plan.size);
        if is_too_old {
            self.last_aged_out = Some(now);
        }
        is_too_old
    }
}

/// How many servers of a pool stand where, and who waits.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the names are the columns of SHOW POOLS")]
pub struct Standing {
    pub open: usize,
    pub idle: usize,
    pub dialing: usize,
    pub tested: usize,
    pub parked: usize,
    pub waiting: usize,
    pub oldest: Option<Moment>,
    pub paused: bool,
}

impl Standing {
    /// Whether there is no server and nobody who waits for one.
    pub fn is_empty(&self) -> bool {
        self.open == 0 && self.waiting == 0
    }

    /// Both together, for the pools of several nodes.
    pub fn and(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            idle: self.idle + other.idle,
            dialing: self.dialing + other.dialing,
            tested: self.tested + other.tested,
            parked: self.parked + other.parked,
            waiting: self.waiting + other.waiting,
            oldest: self.oldest.into_iter().chain(other.oldest).min(),
            paused: self.paused || other.paused,
        }
    }
}

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

/// The servers of one database, user and node.
#[derive(Debug)]
pub struct Pool {
    /// A number of its own, which its servers' cards bear.
    pub id: u64,
    /// Where its servers are.
    pub node: Node,
    /// What it shares with the pools of other nodes.
    pub group: Arc<Group>,
    /// Its database.
    pub database: Arc<Database>,
    /// Who its servers log in as.
    pub user: String,
    /// The limits of that user.
    pub owner: Arc<User>,
    /// The settings in force.
    pub plan: ArcSwap<Plan>,
    /// What its group counts, per worker.
    pub tallies: Arc<[Tally]>,
    /// Keys for logging in, derived from the password once.
    pub derived: Derived,
    /// Whether its servers notice that a client is gone.
    pub watch: Watch,
    /// What all pools share.
    pub registry: Arc<Registry>,
    retired: AtomicBool,
    state: Mutex<State>,
    turn: AtomicUsize,
    /// Set where it is one client's own.
    pub guest: Option<Guest>,
    me: Weak<Self>,
}

impl Pool {
    /// A pool without servers.
    pub fn new(registry: &Arc<Registry>, group: &Arc<Group>, node: Node, plan: Plan) -> Arc<Self> {
        Self::make(registry, group, node, plan, None)
    }

    /// A pool for one client, whose server takes a seat of `host`.
    pub fn guest(host: &Arc<Self>, group: &Arc<Group>, plan: Plan) -> Arc<Self> {
        let (registry, node) = (&host.registry, host.node.clone());
        Self::make(registry, group, node, plan, Some(Guest::of(host)))
    }

    fn make(
        registry: &Arc<Registry>,
        group: &Arc<Group>,
        node: Node,
        plan: Plan,
        guest: Option<Guest>,
    ) -> Arc<Self> {
        let (workers, database) = (registry.workers, &group.database);
        let state = State {
            idle: (0..workers).map(|_| VecDeque::new()).collect(),
            parked: Vec::new(),
            lines: Lines::new(workers),
            open: 0,
            dialing: 0,
            tested: 0,
            closing: 0,
            guests: 0,
            guest_waits: None,
            removed: false,
            last_aged_out: None,
            paused: database.paused.load(SeqCst) || registry.is_paused(),
            generation: 0,
            failure: None,
            last_used: clock::now(),
        };
        Arc::new_cyclic(|me| Self {
            id: registry.next_pool(),
            node,
            group: Arc::clone(group),
            database: Arc::clone(database),
            user: group.user.clone(),
            owner: Arc::clone(&group.owner),
            plan: ArcSwap::from_pointee(plan),
            tallies: Arc::clone(&group.tallies),
            derived: Derived::default(),
            watch: Watch::default(),
            registry: Arc::clone(registry),
            retired: AtomicBool::new(false),
            state: Mutex::new(state),
            turn: AtomicUsize::new(0),
            guest,
            me: me.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts of this worker.
    #[inline]
    pub fn tally(&self) -> &Tally {
        &self.tallies[thread::worker() % self.tallies.len()]
    }

    /// Asks for a server: an idle one, or a place in line, where `waker` is woken.
    pub fn ask(&self, waker: &Waker, now: Moment, asker: Asker) -> Asked {
        loop {
            let mut state = self.lock();
            state.last_used = now;
            if self.is_retired() {
                let cluster = self.database.name.clone();
                let standing = "The writer has changed.".to_owned();
                return Asked::Refused(Error::NoPrimary { cluster, standing });
            }
            if !state.paused && !state.lines.has_waiting() {
                let round_robin = self.plan.load().round_robin;
                if let Some(server) = take_idle(&mut state, thread::worker(), round_robin) {
                    drop(state);
                    match self.vet(server, now) {
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
            let spot = Arc::new(Spot::new(waker, now));
            state.lines.join(thread::worker(), Arc::clone(&spot));
            drop(state);
            self.grow();
            return Asked::Line(spot);
        }
    }

    /// An idle server that may be lent as it is. Others are closed or checked, and come back later.
    fn vet(&self, mut server: Box<Server>, now: Moment) -> Option<Box<Server>> {
        let plan = self.plan.load();
        if server.card.close_needed() {
            self.close(server, Reason::Obsolete);
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

    fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a pool that is called lives")
    }

    /// The last error, while servers cannot be had and it is too early to try again.
    ///
    /// As PgBouncer, a login waits all the same, and nobody else does.
    fn hopeless(&self, state: &State, now: Moment, asker: Asker) -> Option<Error> {
        let failure = state.failure.as_ref()?;
        let plan = self.plan.load();
        if plan.rules.dialect == Dialect::PgBouncer {
            let is_early = now.since(failure.last) < plan.login_retry;
            let is_told = asker == Asker::Client && state.open == 0 && is_early;
            return is_told.then(|| failure.error.cached());
        }
        let retry = plan.login_retry.min(PATIENCE);
        let tried_long = self.was_everywhere(failure.tries)
            && (failure.last.since(failure.since) >= PATIENCE || is_final(&failure.error));
        (state.own() == 0 && tried_long && now.since(failure.last) < retry)
            .then(|| failure.error.clone())
    }

    /// Opens servers for who waits, as far as the limits allow.
    pub fn grow(&self) {
        while self.grow_by_one() {}
    }

    fn grow_by_one(&self) -> bool {
        let plan = self.plan.load_full();
        let mut state = self.lock();
        let is_full = plan.size > 0 && state.open >= plan.size + plan.reserve;
        if state.paused || is_full {
            return false;
        }
        let now = clock::now();
        let coming = state.dialing + state.tested;
        let seats = Seats {
            size: plan.size,
            reserve: plan.reserve,
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
            self.registry.evict_for_database(&self.database.name, self);
            return false;
        }
        if !take_or_starve(&self.owner.servers, plan.max_user) {
            self.database.servers.give_back();
            self.registry.evict_for_user(&self.user, self);
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
        self.seat_is_free();
    }

    /// A seat is free: whoever has waited longest may have it.
    fn seat_is_free(&self) {
        if self.lock().guest_waits.take().is_some() {
            self.registry.grow_all();
        } else {
            self.grow();
        }
    }

    /// Opens one server beyond who waits, when fewer than `min_pool_size` are open. A pool without clients is filled
    /// only where its user is forced.
    fn fill(&self, now: Moment) {
        let plan = self.plan.load_full();
        let is_wanted = plan.is_forced || self.database.clients.used() > 0;
        let mut state = self.lock();
        let is_resting = state
            .failure
            .as_ref()
            .is_some_and(|failure| now.since(failure.last) < plan.login_retry);
        if !is_wanted
            || is_resting
            || state.paused
            || state.dialing > 0
            || state.open >= plan.min_size
        {
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

    /// The reign under which a server that is dialled now belongs.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// A dialled server has logged in.
    pub fn arrived(&self, server: Box<Server>) {
        let mut state = self.lock();
        state.dialing -= 1;
        let was_failing = state.failure.take().is_some();
        let is_obsolete = server.generation != state.generation;
        drop(state);
        if is_obsolete {
            self.close(server, Reason::Obsolete);
        } else {
            self.group.note_welcome(&server.reported);
            self.shelve(server);
        }
        if was_failing && !log::is_as_pgbouncer() {
            tracing::info!(database = %self.database.name, user = %self.user, "server login works again");
        }
        let is_one_by_one = self.plan.load().rules.dialect == Dialect::PgBouncer;
        if was_failing || is_one_by_one {
            // While the server could not be reached one was dialled at a time; now everybody who waits gets one.
            self.grow();
        }
    }

    /// Which host of the list the server is opened at that is dialled next.
    pub fn next_turn(&self) -> usize {
        match self.plan.load().target.balance {
            LoadBalance::RoundRobin => self.turn.fetch_add(1, SeqCst),
            LoadBalance::Disable => self.turn.load(SeqCst),
        }
    }

    /// Whether so many tries in a row have met every host of the list.
    fn was_everywhere(&self, tries: usize) -> bool {
        tries >= self.plan.load().target.hosts.len()
    }

    /// A server could not be dialled, at the host whose turn it was. Returns whether the log shall tell of it.
    #[must_use]
    pub fn failed(&self, error: &Error, turn: usize) -> bool {
        let now = clock::now();
        if self.plan.load().target.balance == LoadBalance::Disable {
            let next = turn.wrapping_add(1);
            let _ = self.turn.compare_exchange(turn, next, SeqCst, SeqCst);
        }
        let mut state = self.lock();
        state.dialing -= 1;
        state.open -= 1;
        let (since, tries) = state
            .failure
            .as_ref()
            .map_or((now, 1), |failure| (failure.since, failure.tries + 1));
        let was_everywhere = self.was_everywhere(tries);
        let known = state.failure.as_ref();
        let is_news = known.is_none_or(|failure| failure.is_news(error, now));
        let told = known
            .filter(|_| !is_news)
            .map_or(now, |failure| failure.told);
        state.failure = Some(Failure {
            told,
            since,
            last: now,
            tries,
            error: error.clone(),
        });
        let plan = self.plan.load();
        let was_patient = plan.rules.dialect == Dialect::Native
            && now.since(since) >= PATIENCE
            && !is_starting(error);
        let give_up = was_everywhere && (is_final(error) || was_patient);
        if give_up && state.own() == 0 {
            state.lines.fail_all(error);
        }
        let retry = state.lines.has_waiting();
        drop(state);
        self.leave_places();
        if retry {
            dialer::try_later(self.arc(), retry_after(&plan) + dialer::RETRY_SLACK);
        }
        is_news
    }

    /// Takes back a server that a client is done with.
    pub fn give_back(&self, mut server: Box<Server>) {
        let now = clock::now();
        server.used = now;
        let plan = self.plan.load();
        let is_old = now.since(server.born) >= plan.lifetime;
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
            AfterUse::Keep => self.shelve(server),
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

    /// Whether the pool stays without clients and servers: it is to be filled by itself.
    pub fn is_kept(&self) -> bool {
        let plan = self.plan.load();
        plan.is_forced && plan.min_size > 0
    }

    /// When a client last asked for a server.
    pub fn last_used(&self) -> Moment {
        self.lock().last_used
    }

    /// Lends a clean server to who waits, or lays it down.
    fn shelve(&self, mut server: Box<Server>) {
        let plan = self.plan.load();
        let mut state = self.lock();
        if state.paused || server.generation != state.generation {
            drop(state);
            return self.close(server, Reason::Ordered);
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
        let others_starve = self.database.servers.is_starving() || self.owner.servers.is_starving();
        if others_starve && !state.lines.has_waiting() {
            drop(state);
            return self.close(server, Reason::Evicted);
        }
        if plan.size > 0 && state.staying() > plan.size + plan.reserve {
            drop(state);
            return self.close(server, Reason::TooMany);
        }
        if let Some(server) = state.lines.give(thread::worker(), server) {
            server.card.enter(ServerState::Idle, server.used);
            let home = server.home % state.idle.len();
            state.idle[home].push_back(server);
        }
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

    fn leave_seat(&self, was_closing: bool) {
        let mut state = self.lock();
        state.open -= 1;
        state.closing -= usize::from(was_closing);
        drop(state);
        self.leave_places();
        self.seat_is_free();
    }

    fn leave_places(&self) {
        self.leave_seat_of_host();
        self.database.servers.give_back();
        self.owner.servers.give_back();
        let (database, user) = (self.database.servers.feed(), self.owner.servers.feed());
        if database || user {
            self.registry.grow_all();
        }
    }

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

    /// Puts a new plan in force. Servers of another place are closed when they are free.
    pub fn follow(&self, plan: Plan) {
        self.derived.clear();
        let moved = !plan.target.is_same_place(&self.plan.load().target);
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
                card.fence();
                if let Some(client) = self.registry.census.client(card.lent_to()) {
                    client.wake();
                }
            }
        }
        self.reconnect();
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

    /// How many servers stand where.
    pub fn standing(&self) -> Standing {
        let mut state = self.lock();
        Standing {
            open: state.open,
            idle: state.idle.iter().map(VecDeque::len).sum(),
            dialing: state.dialing,
            tested: state.tested,
            parked: state.parked.len(),
            waiting: state.lines.waiting(),
            oldest: state.lines.oldest(),
            paused: state.paused,
        }
    }
}

fn take_idle(state: &mut State, worker: usize, round_robin: bool) -> Option<Box<Server>> {
    let own = worker % state.idle.len();
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

/// Takes a place of `quota`, or leaves word that one is missed. A place that came back between the two is seen.
fn take_or_starve(quota: &Quota, max: usize) -> bool {
    if quota.take(max) {
        return true;
    }
    quota.starve();
    quota.take(max)
}

/// Whether trying again cannot help: the server itself refused the login.
/// Who asks for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client that is logged in.
    Client,
    /// A login that waits for the pool's first server, or the pooler itself.
    Login,
}

/// How long a server that could not be had is left alone while somebody waits: as PgBouncer, for all of `server_login_retry`.
fn retry_after(plan: &Plan) -> Duration {
    match plan.rules.dialect {
        Dialect::Native => Duration::from_millis(200),
        Dialect::PgBouncer => plan.login_retry,
    }
}

fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(_) | Error::ServerLoginRefused { .. }
    ) && !is_starting(error)
}

/// Whether the server said that it is starting up.
fn is_starting(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. } if refusal.code == "57P03"
    )
}
