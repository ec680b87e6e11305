//! A client that has connected and is not logged in yet.
//!
//! It has its id from the start, so that ids count connections, but no card: nobody can give it orders but the janitor, who ends
//! a login that takes too long, and an operator who kills it. SHOW SOCKETS tells of it, and once only the first server of its pool is missing SHOW CLIENTS does,
//! too: to its pool it is a client that waits.

use std::sync::{Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Moment;
use crate::locked::Locked;
use crate::stats::census::ClientFacts;

/// What is known of a connection before its login is done.
#[derive(Debug)]
pub struct Arrival {
    /// One counter for clients and servers.
    pub id: u64,
    /// What its socket says; user and database are empty.
    pub facts: ClientFacts,
    /// When it connected.
    pub since: Moment,
    name: Mutex<Option<Name>>,
    waits_since: OnceLock<Moment>,
    notice: Mutex<Notice>,
}

/// Why a login is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dismissal {
    /// It has taken as long as a login may.
    TooSlow(Duration),
    /// Everything has to stand still.
    Standstill,
    /// An operator has ended it.
    Killed,
}

#[derive(Debug, Default)]
struct Notice {
    given: Option<Dismissal>,
    waker: Option<Waker>,
}

/// Whom a startup packet names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
}

impl Arrival {
    /// A client that has just connected.
    pub fn new(id: u64, facts: ClientFacts, since: Moment) -> Self {
        Self {
            id,
            facts,
            since,
            name: Mutex::new(None),
            waits_since: OnceLock::new(),
            notice: Mutex::default(),
        }
    }

    fn notice(&self) -> MutexGuard<'_, Notice> {
        self.notice.locked()
    }

    /// Ends the login.
    pub fn dismiss(&self, why: Dismissal) {
        let mut notice = self.notice();
        notice.given.get_or_insert(why);
        let waker = notice.waker.take();
        drop(notice);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until somebody ends the login. One task at a time may wait.
    pub fn poll_dismissed(&self, cx: &mut Context<'_>) -> Poll<Dismissal> {
        let mut notice = self.notice();
        match notice.given {
            Some(why) => Poll::Ready(why),
            None => {
                notice.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Notes what the startup packet says.
    pub fn note_name(&self, user: &str, database: &str) {
        let name = Name {
            user: user.to_owned(),
            database: database.to_owned(),
        };
        *self.name.locked() = Some(name);
    }

    /// What the startup packet said; `None` before it came.
    pub fn name(&self) -> Option<Name> {
        let name = self.name.locked();
        name.clone()
    }

    /// Notes that from `now` on nothing is missing but the first server of its pool, or a primary to open it at.
    pub fn waits_for_server(&self, now: Moment) {
        self.waits_since.get_or_init(|| now);
    }

    /// Since when nothing is missing but the first server of its pool; `None` while it is not so.
    pub fn waits_since(&self) -> Option<Moment> {
        self.waits_since.get().copied()
    }

    /// Whether its login has been ended, though its task may still be about to hear of it.
    pub fn is_dismissed(&self) -> bool {
        self.notice().given.is_some()
    }

    /// Whether nothing is missing but the first server of its pool.
    pub fn is_waiting_for_server(&self) -> bool {
        self.waits_since().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Dismissal};
    use crate::clock::Moment;
    use crate::stats::census::ClientFacts;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn who_is_dismissed_hears_the_first_reason_whenever_it_asks() {
        let arrival = Arrival::new(1, ClientFacts::default(), Moment::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(arrival.poll_dismissed(&mut cx).is_pending());
        arrival.dismiss(Dismissal::Standstill);
        arrival.dismiss(Dismissal::TooSlow(std::time::Duration::ZERO));
        for _ in 0..2 {
            let said = Poll::Ready(Dismissal::Standstill);
            assert_eq!(arrival.poll_dismissed(&mut cx), said);
        }
    }
}
