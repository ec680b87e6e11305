//! Every client and every server that is alive, each with a card.
//!
//! A card is written by the task it belongs to (plain relaxed stores, no lock on the path of a query) and read by the
//! console and the janitor. It is also the way to reach the task: whoever wants a client to end leaves an [`Order`] on its card and wakes it.
//!
//! **Cancel.** A cancel request may reach a server only while it runs a query of the client that asked. Whom a server works for and
//! how many cancel requests are under way to it stand in one atomic word, so a canceller either finds the query running and
//! announces itself in the same step, or finds nothing to cancel. While one is under way the server is given no other
//! query, neither another client's nor the next one of the same client.

use std::net::IpAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use dashmap::DashMap;

use crate::clock::Moment;
use crate::stats::arrival::Arrival;

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

/// Which replication protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// None: an ordinary connection.
    #[default]
    None,
    /// Logical replication, of one database.
    Logical,
    /// Physical replication.
    Physical,
}

impl Replication {
    /// What the value of the startup parameter `replication` asks for; `None` for what is none. A boolean is read as PostgreSQL
    /// reads it: its words, and whatever they clearly begin with. Nothing at all is false.
    pub fn asked_by(value: &str) -> Option<Self> {
        let value = value.to_ascii_lowercase();
        let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
        match value.as_str() {
            "database" => Some(Self::Logical),
            "" | "0" => Some(Self::None),
            "1" | "on" => Some(Self::Physical),
            _ if begins("true", 1) || begins("yes", 1) => Some(Self::Physical),
            _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(Self::None),
            _ => None,
        }
    }

    /// PgBouncer's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Logical => "logical",
            Self::Physical => "physical",
        }
    }
}

/// Where a server stands; PgBouncer's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerState {
    /// Logging in.
    Login,
    /// In the store.
    Idle,
    /// On loan.
    Active,
    /// The reset or the check query runs.
    Tested,
    /// Put aside until a cancel request has been delivered.
    BeingCanceled,
    /// A connection that carries a cancel request.
    ActiveCancel,
    /// Being closed.
    Closing,
}

/// What a client must do next, said from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    None,
    /// End at the next idle point (shutdown).
    Drain,
    /// End: `client_idle_timeout`.
    IdleTimeout,
    /// End: `query_timeout`.
    QueryTimeout,
    /// End: `query_wait_timeout`.
    WaitTimeout,
    /// End: `idle_transaction_timeout`.
    IdleTransaction,
    /// End: `transaction_timeout`.
    TransactionTimeout,
    /// End: `pin_timeout`.
    PinTimeout,
    /// End: the servers of its database are being replaced, and it would keep its own.
    ServersReplaced,
    /// End: the database is gone.
    DatabaseRemoved,
    /// End: `KILL_CLIENT`.
    Kill,
    /// End: the process goes down now.
    Shutdown,
}

impl Order {
    /// Whether it says that some time is over: it may come too late to be true.
    pub fn is_timeout(self) -> bool {
        (Self::IdleTimeout..=Self::PinTimeout).contains(&self)
    }
}

const ORDERS: [Order; 12] = [
    Order::None,
    Order::Drain,
    Order::IdleTimeout,
    Order::QueryTimeout,
    Order::WaitTimeout,
    Order::IdleTransaction,
    Order::TransactionTimeout,
    Order::PinTimeout,
    Order::ServersReplaced,
    Order::DatabaseRemoved,
    Order::Kill,
    Order::Shutdown,
];

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
    /// Its port; 0 on a Unix socket.
    pub port: u16,
    /// The pooler's address it came to.
    pub local_address: String,
    /// The pooler's port.
    pub local_port: u16,
    /// `TLSv1.3/…`, or empty.
    pub tls: String,
    /// Seconds since 1970.
    pub connected: u64,
    /// The process at the other end of a Unix socket.
    pub remote_pid: u32,
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
    application_name: Mutex<String>,
    prepared: AtomicUsize,
    pins: AtomicU16,
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
            application_name: Mutex::new(String::new()),
            prepared: AtomicUsize::new(0),
            pins: AtomicU16::new(0),
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

    /// Notes the server that works for it; 0 for none.
    #[inline]
    pub fn link_to(&self, server: u64) {
        self.link.store(server, SeqCst);
    }

    /// The id of the server that works for it; 0 for none.
    pub fn link(&self) -> u64 {
        self.link.load(SeqCst)
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
    pub fn notice_is_due(&self, since: Moment) {
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
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other limits in force, after a reload.
    pub fn set_limits(&self, limits: ClientLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// The client's `application_name`.
    pub fn application_name(&self) -> String {
        self.application_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes the client's `application_name`.
    pub fn set_application_name(&self, name: &str) {
        let mut kept = self
            .application_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *kept != name {
            *kept = name.to_owned();
        }
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

/// What is known of a server when its login is done.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// The database's name in the configuration.
    pub database: String,
    /// The user it is logged in as.
    pub user: String,
    /// The number of its pool; 0 for none.
    pub pool: u64,
    /// The name of its host, as the settings have it.
    pub host: String,
    /// Its address: an IP or `unix`.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The pooler's end.
    pub local_address: String,
    /// The pooler's end.
    pub local_port: u16,
    /// `TLSv1.3/…`, or empty.
    pub tls: String,
    /// Seconds since 1970.
    pub connected: u64,
    /// The backend's process id.
    pub pid: u32,
    /// Which replication protocol it speaks.
    pub replication: Replication,
}

/// The lowest bits of a server's work count its cancel requests.
const CANCEL_BITS: u32 = 8;
const CANCELS: u64 = (1 << CANCEL_BITS) - 1;

/// A server connection.
#[derive(Debug)]
pub struct ServerCard {
    /// One counter for clients and servers.
    pub id: u64,
    /// What its login said.
    pub facts: ServerFacts,
    /// The bytes that cancel what it does (process id and secret).
    pub key: Vec<u8>,
    state: AtomicU8,
    since: AtomicU64,
    lent_to: AtomicU64,
    /// The client whose query runs (0 for none), and in the lowest bits how many cancel requests are under way.
    work: AtomicU64,
    close_needed: AtomicBool,
    fenced: AtomicBool,
    prepared: AtomicUsize,
    application_name: Mutex<String>,
}

impl ServerCard {
    /// A card for a server that has just logged in.
    pub fn new(id: u64, facts: ServerFacts, key: Vec<u8>, now: Moment) -> Self {
        Self {
            id,
            facts,
            key,
            state: AtomicU8::new(ServerState::Login as u8),
            since: AtomicU64::new(now.as_micros()),
            lent_to: AtomicU64::new(0),
            work: AtomicU64::new(0),
            close_needed: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            prepared: AtomicUsize::new(0),
            application_name: Mutex::new(String::new()),
        }
    }

    /// Notes that its node is the writer no longer: nothing that it says counts any more.
    pub fn fence(&self) {
        self.fenced.store(true, SeqCst);
    }

    /// Whether nothing that it says counts any more.
    #[inline]
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Relaxed)
    }

    /// Notes that the server is in `state` since `now`.
    #[inline]
    pub fn enter(&self, state: ServerState, now: Moment) {
        self.state.store(state as u8, Relaxed);
        self.since.store(now.as_micros(), Relaxed);
    }

    /// Where it stands.
    pub fn state(&self) -> ServerState {
        match self.state.load(Relaxed) {
            0 => ServerState::Login,
            1 => ServerState::Idle,
            2 => ServerState::Active,
            3 => ServerState::Tested,
            4 => ServerState::BeingCanceled,
            5 => ServerState::ActiveCancel,
            _ => ServerState::Closing,
        }
    }

    /// Since when it stands there.
    pub fn since(&self) -> Moment {
        Moment::from_micros(self.since.load(Relaxed))
    }

    /// Notes the client that holds it; 0 for none.
    #[inline]
    pub fn lend_to(&self, client: u64) {
        self.lent_to.store(client, Relaxed);
    }

    /// The client that holds it; 0 for none.
    pub fn lent_to(&self) -> u64 {
        self.lent_to.load(Relaxed)
    }

    /// Notes the client whose query runs on it; 0 when none does.
    #[inline]
    pub fn serve(&self, client: u64) {
        let keep_cancels = |work| Some((client << CANCEL_BITS) | (work & CANCELS));
        let _ = self.work.fetch_update(SeqCst, SeqCst, keep_cancels);
    }

    /// The client whose query runs on it; 0 for none.
    pub fn serving(&self) -> u64 {
        self.work.load(SeqCst) >> CANCEL_BITS
    }

    /// Announces a cancel request meant for what the server does for `client`. False, with nothing announced, when the
    /// server does not work for that client any more.
    pub fn begin_cancel(&self, client: u64) -> bool {
        let announce = |work| {
            let has_room = work & CANCELS < CANCELS;
            (work >> CANCEL_BITS == client && has_room).then_some(work + 1)
        };
        self.work.fetch_update(SeqCst, SeqCst, announce).is_ok()
    }

    /// The cancel request has been delivered. True when it was the last one under way.
    pub fn end_cancel(&self) -> bool {
        self.work.fetch_sub(1, SeqCst) & CANCELS == 1
    }

    /// Whether a cancel request is under way: such a server is not lent out.
    #[inline]
    pub fn is_being_cancelled(&self) -> bool {
        self.work.load(SeqCst) & CANCELS > 0
    }

    /// Says that the server must be closed when it is free.
    pub fn need_close(&self) {
        self.close_needed.store(true, SeqCst);
    }

    /// Whether the server must be closed when it is free.
    #[inline]
    pub fn close_needed(&self) -> bool {
        self.close_needed.load(Relaxed)
    }

    /// The `application_name` that it has now.
    pub fn application_name(&self) -> String {
        self.application_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes the `application_name` that it has now.
    pub fn set_application_name(&self, name: &str) {
        let mut kept = self
            .application_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut kept);
    }

    /// How many statements are prepared on it.
    pub fn prepared(&self) -> usize {
        self.prepared.load(Relaxed)
    }

    /// Notes how many statements are prepared on it.
    pub fn set_prepared(&self, count: usize) {
        self.prepared.store(count, Relaxed);
    }
}

/// All who live.
#[derive(Debug, Default)]
pub struct Census {
    /// The clients that are logged in, by id.
    pub clients: DashMap<u64, Arc<ClientCard>>,
    /// The servers, by id.
    pub servers: DashMap<u64, Arc<ServerCard>>,
    /// Those who have connected and are not logged in, by id.
    pub arrivals: DashMap<u64, Arc<Arrival>>,
    /// Cancel key to client.
    pub keys: DashMap<Vec<u8>, Arc<ClientCard>>,
    /// Client sockets of any kind, those that still log in included.
    pub sockets: AtomicUsize,
    last_id: AtomicU64,
}

impl Census {
    /// Marks for closing every server of the host called `host` that is at none of `addresses`: it has moved.
    pub fn only_at(&self, host: &str, addresses: &[IpAddr]) {
        let stays = |card: &ServerCard| match card.facts.address.parse() {
            Ok(address) => addresses.contains(&address),
            Err(_) => true,
        };
        for card in &self.servers {
            if card.facts.host == host && !stays(&card) {
                tracing::info!(
                    server = card.id,
                    host,
                    address = card.facts.address,
                    "the host is there no more, the server is closed when it is free"
                );
                card.need_close();
            }
        }
    }

    /// The client with this id, while it lives.
    pub fn client(&self, id: u64) -> Option<Arc<ClientCard>> {
        self.clients.get(&id).map(|card| Arc::clone(&card))
    }

    /// The next id; clients and servers share one counter.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ClientCard, ClientFacts, ClientLimits, Order, Replication, ServerCard, ServerFacts,
    };
    use crate::clock::Moment;
    const NOW: Moment = Moment::from_micros(1);

    #[test]
    fn a_stronger_order_is_not_replaced_by_a_weaker_one() {
        let card = ClientCard::new(1, ClientFacts::default(), ClientLimits::default(), NOW);
        card.give(Order::Kill);
        card.give(Order::Drain);
        assert_eq!(card.order(), Order::Kill);
    }

    #[test]
    fn a_cancel_meant_for_another_clients_query_is_not_announced() {
        let card = ServerCard::new(2, ServerFacts::default(), vec![], NOW);
        card.serve(7);
        assert!(!card.begin_cancel(8));
        assert!(!card.is_being_cancelled());
        assert!(card.begin_cancel(7));
        assert!(card.is_being_cancelled());
        assert!(card.end_cancel());
    }

    #[test]
    fn the_wish_for_replication_is_a_boolean_as_postgresql_reads_it_or_a_word() {
        let is = |text: &str, what| assert_eq!(Replication::asked_by(text), what, "{text}");
        for text in ["t", "TRUE", "y", "on", "1"] {
            is(text, Some(Replication::Physical));
        }
        for text in ["f", "no", "of", "0", ""] {
            is(text, Some(Replication::None));
        }
        is("Database", Some(Replication::Logical));
        is("o", None);
    }
}
