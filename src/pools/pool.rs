//! One pool: the servers of one database, one user and one node.
//!
//! `pool_size` is a promise to PostgreSQL: a server counts from before it is dialled until PostgreSQL has closed its end, and the
//! count is exact over all workers, because everything that decides lies behind one short lock. Idle servers lie with
//! the worker whose runtime watches them; a worker without one takes another's.
//!
//! A server travels only as a lease. It comes back by [`Pool::give_back`], or is closed by [`Pool::close`]; both free what is to be
//! freed and serve who waits.
//!
//! Here is what a pool holds. `pool/lending.rs` moves servers, `pool/seats.rs` counts their seats, `pool/failure.rs` knows how
//! dialling went, `pool/upkeep.rs` and `pool/orders.rs` do what the janitor and the operator want, `pool/headcount.rs` shows counts,
//! `pool/passing.rs` passes servers from one process to another.

mod failure;
mod headcount;
mod lending;
mod orders;
mod passing;
mod seats;
mod upkeep;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use arc_swap::ArcSwap;

pub use self::failure::{Failure, PATIENCE};
pub use self::headcount::Headcount;
pub use self::lending::{Asked, Asker};
pub use self::passing::Away;
use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::locked::Locked;
use crate::pools::group::Group;
use crate::pools::guest::Guest;
use crate::pools::limits::{Database, User};
use crate::pools::line::Lines;
use crate::pools::plan::Plan;
use crate::pools::policy::is_too_old;
use crate::pools::registry::Registry;
use crate::servers::login::Watch;
use crate::servers::proof::Derived;
use crate::servers::server::Server;
use crate::stats::counters::Tally;
use crate::thread;

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
    /// Of the open ones, those that the process still has which this one takes over from.
    elsewhere: usize,
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
            elsewhere: 0,
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
        self.state.locked()
    }

    /// The counts of this worker.
    #[inline]
    pub fn tally(&self) -> &Tally {
        &self.tallies[thread::place(thread::worker(), self.tallies.len())]
    }

    /// The pool itself, to be kept.
    pub fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a pool that is called lives")
    }

    /// The reign under which a server that is dialled now belongs.
    pub fn generation(&self) -> u64 {
        self.lock().generation
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
}
