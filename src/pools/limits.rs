//! Limits that several pools share: servers per database and per user, and clients per database and per user.
//!
//! A pool that finds no place is *starving*: the next server that another pool could spare is closed for it. Whose that place will be is
//! noted, since its client may have got a server by then: as in PgBouncer, who closes one opens one, and as many servers are there as before.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::clock::Moment;
use crate::locked::Locked;
use crate::pools::pool::Pool;

/// How many there are, of at most so many.
#[derive(Debug, Default)]
pub struct Quota {
    used: AtomicUsize,
    starving: AtomicBool,
    /// Who waits stands in no line, so nobody can see whether it still does.
    insisting: AtomicBool,
    /// A place is being freed for who waits.
    freeing: AtomicBool,
    /// The pool that it is freed for.
    heir: Mutex<Weak<Pool>>,
}

impl Quota {
    /// Takes one place of `max`; 0 is no limit. False when all are taken.
    pub fn take(&self, max: usize) -> bool {
        self.used
            .fetch_update(SeqCst, SeqCst, |used| {
                (max == 0 || used < max).then_some(used + 1)
            })
            .is_ok()
    }

    /// Gives one place back.
    pub fn give_back(&self) {
        self.freeing.store(false, SeqCst);
        self.used.fetch_sub(1, SeqCst);
    }

    /// How many are taken.
    pub fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// Notes that somebody found no place and waits for one.
    pub fn starve(&self) {
        self.starving.store(true, SeqCst);
    }

    /// The same for who stands in no line.
    pub fn insist(&self) {
        self.insisting.store(true, SeqCst);
        self.starve();
    }

    /// Whether somebody waits that stands in no line.
    pub fn is_insisted(&self) -> bool {
        self.insisting.load(SeqCst)
    }

    /// Nobody waits any more: the place stays whose it is.
    pub fn sate(&self) {
        self.starving.store(false, SeqCst);
        self.nothing_freed();
    }

    /// Notes for whom a place is being freed.
    pub fn promise(&self, heir: &Arc<Pool>) {
        *self.heir.locked() = Arc::downgrade(heir);
    }

    /// The pool that a free place was promised to.
    pub fn take_heir(&self) -> Option<Arc<Pool>> {
        let mut heir = self.heir.locked();
        std::mem::take(&mut *heir).upgrade()
    }

    /// Whether somebody waits for a place and nobody frees one yet. Who is told so must free one.
    pub fn wants_place(&self) -> bool {
        self.starving.load(SeqCst) && !self.freeing.swap(true, SeqCst)
    }

    /// Who was told to free a place could not.
    pub fn nothing_freed(&self) {
        self.freeing.store(false, SeqCst);
    }

    /// Clears that somebody waits; true when somebody did.
    pub fn feed(&self) -> bool {
        self.insisting.store(false, SeqCst);
        self.starving.swap(false, SeqCst)
    }
}

/// What all pools of one database share.
#[derive(Debug)]
pub struct Database {
    /// The name that clients use.
    pub name: String,
    /// It came out of the `"*"` entry.
    pub is_auto: bool,
    /// Its servers.
    pub servers: Quota,
    /// Its clients.
    pub clients: Quota,
    /// PAUSE was said.
    pub paused: AtomicBool,
    /// DISABLE was said.
    pub disabled: AtomicBool,
    /// Since when it is seen to have neither clients nor servers.
    left: Mutex<Option<Moment>>,
}

impl Database {
    /// A database that nobody uses yet.
    pub fn new(name: &str, is_auto: bool) -> Self {
        Self {
            name: name.to_owned(),
            is_auto,
            servers: Quota::default(),
            clients: Quota::default(),
            paused: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    /// PAUSE or DISABLE was said.
    pub fn is_held_back(&self) -> bool {
        self.paused.load(SeqCst) || self.disabled.load(SeqCst)
    }

    /// It was seen to have clients or servers.
    pub fn note_use(&self) {
        *self.left.locked() = None;
    }

    /// It was seen to have neither clients nor servers. Returns for how long that has been so; `last_used` is its latest use that is known.
    pub fn unused_for(&self, last_used: Option<Moment>, now: Moment) -> Duration {
        let since = *self.left.locked().get_or_insert(now);
        now.since(last_used.map_or(since, |last| last.max(since)))
    }
}

/// What all pools of one user share.
#[derive(Debug, Default)]
pub struct User {
    /// Servers logged in as this user.
    pub servers: Quota,
    /// Clients logged in as this user.
    pub clients: Quota,
}

/// A client's places in its database and its user, given back when dropped.
#[derive(Debug)]
pub struct ClientPlaces {
    /// The database it connected to.
    pub database: Arc<Database>,
    /// The user it logged in as.
    pub user: Arc<User>,
}

impl Drop for ClientPlaces {
    fn drop(&mut self) {
        self.database.clients.give_back();
        self.user.clients.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;

    #[test]
    fn a_quota_is_never_exceeded() {
        let quota = Quota::default();
        assert!(quota.take(2) && quota.take(2) && !quota.take(2));
        quota.give_back();
        assert!(quota.take(2));
        assert_eq!(quota.used(), 2);
    }

    #[test]
    fn one_place_is_freed_at_a_time_for_who_waits() {
        let quota = Quota::default();
        assert!(quota.take(1) && !quota.wants_place());
        quota.starve();
        assert!(quota.wants_place() && !quota.wants_place());
        quota.give_back();
        assert!(quota.wants_place(), "it still waits");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let quota = Quota::default();
        assert!((0..100).all(|_| quota.take(0)));
    }
}
