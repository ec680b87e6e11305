//! The card of a client: where it stands, its limits, and the order that lies there for it.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Mutex, OnceLock};
use std::task::Waker;

use super::order::{ORDERS, Order};
use super::replication::Replication;
use super::shown::Shown;
use crate::clock::Moment;
use crate::locked::Locked;

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientState {
    /// No request is under way and no server is held.
    Idle,
    /// In line for a server.
    Waiting,
    /// A server works for it.
    Active,
    /// It holds a server inside a transaction (or a session) and asks nothing.
    Holding,
    /// A connection that is there to cancel what another client does.
    Cancelling,
}

/// The time limits of one client in microseconds; 0 means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the settings")]
pub struct ClientLimits {
    pub client_idle_timeout: u64,
    pub pin_timeout: u64,
    pub query_timeout: u64,
    pub query_wait_timeout: u64,
    pub query_wait_notify: u64,
    pub idle_transaction_timeout: u64,
    pub transaction_timeout: u64,
}

/// What is known of a client when its login is done.
#[derive(Debug, Clone, Default)]
pub struct ClientFacts {
    /// The database it named.
    pub database: String,
    /// The user it logged in as.
    pub user: String,
    /// Its address: an IP or `unix`.
    pub address: String,
    /// Its port; on a Unix socket the one in its name.
    pub port: u16,
    /// The pooler's address it came to.
    pub local_address: String,
    /// The pooler's port.
    pub local_port: u16,
    /// `TLSv1.3/…`, or empty.
    pub tls: String,
    /// Seconds since 1970.
    pub connected: u64,
    /// The same moment, exactly.
    pub came: Moment,
    /// The process at the other end of a Unix socket.
    pub remote_pid: u32,
    /// The number of the socket's descriptor.
    pub descriptor: i32,
    /// Which replication protocol it speaks.
    pub replication: Replication,
}

/// A client that is logged in.
#[derive(Debug)]
pub struct ClientCard {
    /// One counter for clients and servers.
    pub id: u64,
    /// What its login said.
    pub facts: ClientFacts,
    state: AtomicU8,
    since: AtomicU64,
    query_start: AtomicU64,
    xact_start: AtomicU64,
    link: AtomicU64,
    order: AtomicU8,
    notice_due: AtomicBool,
    noticed: AtomicU64,
    cancel_asked: AtomicBool,
    waker: OnceLock<Waker>,
    limits: Mutex<ClientLimits>,
    may_idle: AtomicBool,
    application_name: Shown,
    prepared: AtomicUsize,
    pins: AtomicU16,
    still_in: AtomicU64,
}

impl ClientCard {
    /// A card for a client that has just logged in.
    pub fn new(id: u64, facts: ClientFacts, limits: ClientLimits, now: Moment) -> Self {
        Self {
            id,
            facts,
            state: AtomicU8::new(ClientState::Idle as u8),
            since: AtomicU64::new(now.as_micros()),
            query_start: AtomicU64::new(now.as_micros()),
            xact_start: AtomicU64::new(now.as_micros()),
            link: AtomicU64::new(0),
            order: AtomicU8::new(0),
            notice_due: AtomicBool::new(false),
            noticed: AtomicU64::new(u64::MAX),
            cancel_asked: AtomicBool::new(false),
            waker: OnceLock::new(),
            limits: Mutex::new(limits),
            may_idle: AtomicBool::new(limits.client_idle_timeout == 0),
            application_name: Shown::default(),
            prepared: AtomicUsize::new(0),
            pins: AtomicU16::new(0),
            still_in: AtomicU64::new(0),
        }
    }

    /// What ties it to its server, as a set of bits; 0 when nothing does.
    #[inline]
    pub fn pins(&self) -> u16 {
        self.pins.load(Relaxed)
    }

    /// Notes what ties it to its server.
    pub fn set_pins(&self, pins: u16) {
        self.pins.store(pins, Relaxed);
    }

    /// Notes that it stands still in the standstill of this number: all that it said and was told has been passed on.
    pub fn stand_still(&self, number: u64) {
        self.still_in.store(number, SeqCst);
    }

    /// Whether it stands still in the standstill of this number.
    pub fn stands_still(&self, number: u64) -> bool {
        self.still_in.load(SeqCst) == number
    }

    /// Notes that the client is in `state` since `now`.
    #[inline]
    pub fn enter(&self, state: ClientState, now: Moment) {
        self.state.store(state as u8, Relaxed);
        self.since.store(now.as_micros(), Relaxed);
    }

    /// Where it stands.
    pub fn state(&self) -> ClientState {
        match self.state.load(Relaxed) {
            0 => ClientState::Idle,
            1 => ClientState::Waiting,
            2 => ClientState::Active,
            3 => ClientState::Holding,
            _ => ClientState::Cancelling,
        }
    }

    /// Since when it stands there.
    pub fn since(&self) -> Moment {
        Moment::from_micros(self.since.load(Relaxed))
    }

    /// Notes the beginning of a query.
    #[inline]
    pub fn query_begins(&self, now: Moment) {
        self.query_start.store(now.as_micros(), Relaxed);
    }

    /// When the last query began.
    pub fn query_start(&self) -> Moment {
        Moment::from_micros(self.query_start.load(Relaxed))
    }

    /// Notes the beginning of a transaction.
    #[inline]
    pub fn xact_begins(&self, now: Moment) {
        self.xact_start.store(now.as_micros(), Relaxed);
    }

    /// When the last transaction began.
    pub fn xact_start(&self) -> Moment {
        Moment::from_micros(self.xact_start.load(Relaxed))
    }

    /// Notes the server that works for it; 0 for none. Where to look, no more: who cancels asks that server's own card.
    #[inline]
    pub fn link_to(&self, server: u64) {
        self.link.store(server, Release);
    }

    /// The id of the server that works for it; 0 for none.
    pub fn link(&self) -> u64 {
        self.link.load(Acquire)
    }

    /// Where the client's task can be woken. Called once, by that task.
    pub fn wake_by(&self, waker: &Waker) {
        let _ = self.waker.set(waker.clone());
    }

    /// Leaves an order and wakes the client's task. A stronger order is never replaced by a weaker one.
    pub fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Takes back `order`, if no stronger one has come.
    pub fn withdraw(&self, order: Order) {
        let _ = self
            .order
            .compare_exchange(order as u8, Order::None as u8, SeqCst, SeqCst);
    }

    /// Wakes the client's task, to look again at what it waits for.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// The order that lies there.
    #[inline]
    pub fn order(&self) -> Order {
        let order = self.order.load(Relaxed);
        if order == 0 {
            Order::None
        } else {
            ORDERS[usize::from(order)]
        }
    }

    /// Says that the notice of `query_wait_notify` is due for who waits since `since`; once for each wait.
    pub fn want_notice(&self, since: Moment) {
        if self.noticed.swap(since.as_micros(), SeqCst) == since.as_micros() {
            return;
        }
        self.notice_due.store(true, SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether the notice is due; asking clears it.
    pub fn take_notice(&self) -> bool {
        self.notice_due.load(Relaxed) && self.notice_due.swap(false, SeqCst)
    }

    /// Notes a cancel request meant for what the pooler itself does for this client.
    pub fn ask_cancel(&self) {
        self.cancel_asked.store(true, SeqCst);
    }

    /// Whether such a cancel request came; asking clears it.
    pub fn take_cancel(&self) -> bool {
        self.cancel_asked.swap(false, SeqCst)
    }

    /// The limits in force.
    pub fn limits(&self) -> ClientLimits {
        *self.limits.locked()
    }

    /// Whether it stands idle and no limit will ever end that: so most of many clients stand, and the answer costs no lock.
    pub fn rests(&self) -> bool {
        let is_idle = self.state.load(Relaxed) == ClientState::Idle as u8;
        is_idle && self.may_idle.load(Relaxed) && self.pins() == 0
    }

    /// Puts other limits in force, after a reload.
    pub fn set_limits(&self, limits: ClientLimits) {
        self.may_idle
            .store(limits.client_idle_timeout == 0, Relaxed);
        *self.limits.locked() = limits;
    }

    /// The client's `application_name`.
    pub fn application_name(&self) -> String {
        self.application_name.get()
    }

    /// Notes the client's `application_name`.
    pub fn set_application_name(&self, name: &str) {
        self.application_name.set(name);
    }

    /// How many statements it has prepared.
    pub fn prepared(&self) -> usize {
        self.prepared.load(Relaxed)
    }

    /// Notes how many statements it has prepared.
    pub fn set_prepared(&self, count: usize) {
        self.prepared.store(count, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientCard, ClientFacts, ClientLimits, ClientState, Order};
    use crate::clock::Moment;
    const NOW: Moment = Moment::from_micros(1);

    #[test]
    fn only_an_idle_client_without_a_limit_on_that_rests() {
        let card = ClientCard::new(1, ClientFacts::default(), ClientLimits::default(), NOW);
        assert!(card.rests());
        card.enter(ClientState::Waiting, NOW);
        assert!(!card.rests());
        card.enter(ClientState::Idle, NOW);
        card.set_pins(1);
        assert!(!card.rests());
        card.set_pins(0);
        card.set_limits(ClientLimits {
            client_idle_timeout: 1,
            ..ClientLimits::default()
        });
        assert!(!card.rests());
    }

    #[test]
    fn a_stronger_order_is_not_replaced_by_a_weaker_one() {
        let card = ClientCard::new(1, ClientFacts::default(), ClientLimits::default(), NOW);
        card.give(Order::Kill);
        card.give(Order::Drain);
        assert_eq!(card.order(), Order::Kill);
    }
}
