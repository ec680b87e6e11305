//! The card of a server: where it stands, whom it works for, and the cancel requests that are under way to it.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use super::replication::Replication;
use super::shown::Shown;
use crate::clock::Moment;

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
    /// The number of the socket's descriptor.
    pub descriptor: i32,
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
    silent: AtomicBool,
    prepared: AtomicUsize,
    application_name: Shown,
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
            silent: AtomicBool::new(false),
            prepared: AtomicUsize::new(0),
            application_name: Shown::default(),
        }
    }

    /// Notes that its node is the writer no longer: nothing that it says counts any more.
    pub fn fence(&self) {
        self.fenced.store(true, SeqCst);
    }

    /// Notes whether its node has not answered a probe in time: what it reads may be read elsewhere.
    pub fn set_silent(&self, is_silent: bool) {
        self.silent.store(is_silent, SeqCst);
    }

    /// Whether its node has not answered a probe in time.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
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
        if client == 0 && self.serving() == 0 {
            return;
        }
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
        self.application_name.get()
    }

    /// Notes the `application_name` that it has now.
    pub fn set_application_name(&self, name: &str) {
        self.application_name.set(name);
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

#[cfg(test)]
mod tests {
    use super::{ServerCard, ServerFacts};
    use crate::clock::Moment;
    const NOW: Moment = Moment::from_micros(1);

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
}
