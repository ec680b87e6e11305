//! The line for a primary.
//!
//! It is fair and bounded: first come, first served; who comes when it is full is told so at once. When a primary appears a few are let
//! go, and each that goes lets the next one go: thousands of clients do not fall upon a fresh primary in one instant.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Board;
use crate::clock::Moment;
use crate::locked::Locked;

/// The limits of waiting for a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// How long one client waits.
    pub timeout: Duration,
    /// How many wait.
    pub clients: usize,
}

/// What becomes of a client that waits for a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// There may be one now: look again.
    Go,
    /// It has waited for as long as it may.
    TimedOut,
}

/// What became of the wait.
#[derive(Debug)]
enum Call {
    Awaited(Waker),
    Made(Held),
    Left,
}

/// A client in the line.
#[derive(Debug)]
pub(super) struct Waiter {
    /// It waits for another view, whatever that shows, and is in nobody's way.
    is_for_view: bool,
    since: Moment,
    until: Moment,
    may_read: bool,
    call: Mutex<Call>,
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, Call> {
        self.call.locked()
    }

    /// Calls it, if it still waits.
    pub(super) fn call(&self, held: Held) -> bool {
        let mut call = self.lock();
        if !matches!(*call, Call::Awaited(_)) {
            return false;
        }
        let before = std::mem::replace(&mut *call, Call::Made(held));
        drop(call);
        if let Call::Awaited(waker) = before {
            waker.wake();
        }
        true
    }
}

/// A place in line, left when dropped.
pub struct Hold {
    board: Arc<Board>,
    waiter: Arc<Waiter>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.waiter.fmt(out)
    }
}

impl Hold {
    /// Whether it is called.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Held> {
        let mut call = self.waiter.lock();
        match &mut *call {
            Call::Awaited(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Call::Made(held) => Poll::Ready(*held),
            Call::Left => Poll::Pending,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.waiter.lock(), Call::Left);
        if self.waiter.is_for_view {
            return;
        }
        self.board.waiting.fetch_sub(1, SeqCst);
        // Where the primary has gone again, the others wait for the next one: each would only let the next look in vain.
        let is_called = matches!(before, Call::Made(Held::Go));
        if is_called && self.board.view.load().primary().is_some() {
            self.board.let_go(1);
        }
    }
}

impl Board {
    /// Calls those who could do with a replica.
    pub(super) fn let_readers_look(&self) {
        let mut readers = Vec::new();
        self.line.locked().retain(|waiter| {
            if waiter.may_read {
                readers.push(Arc::clone(waiter));
            }
            !waiter.may_read
        });
        for waiter in readers {
            waiter.call(Held::Go);
        }
    }

    /// Joins the line for a primary; none when it is full. Whoever has waited already says since when.
    pub fn hold(self: &Arc<Self>, since: Moment, waker: &Waker) -> Option<Hold> {
        self.hold_for(since, waker, false)
    }

    /// The same; who `may_read` from a replica is also called when another may serve reads while there is no writer.
    pub fn hold_for(
        self: &Arc<Self>,
        since: Moment,
        waker: &Waker,
        may_read: bool,
    ) -> Option<Hold> {
        let limits = self.limits();
        let is_in = self.waiting.fetch_update(SeqCst, SeqCst, |waiting| {
            (waiting < limits.clients).then_some(waiting + 1)
        });
        is_in.ok()?;
        let waiter = Arc::new(Waiter {
            is_for_view: false,
            since,
            until: since.after(limits.timeout),
            may_read,
            call: Mutex::new(Call::Awaited(waker.clone())),
        });
        self.line.locked().push_back(Arc::clone(&waiter));
        Some(Hold {
            board: Arc::clone(self),
            waiter,
        })
    }

    /// Waits for the next view, whatever that shows.
    pub fn look_out(self: &Arc<Self>, now: Moment, waker: &Waker) -> Hold {
        let waiter = Arc::new(Waiter {
            is_for_view: true,
            since: now,
            until: now.after(self.limits().timeout),
            may_read: false,
            call: Mutex::new(Call::Awaited(waker.clone())),
        });
        self.curious.locked().push(Arc::clone(&waiter));
        Hold {
            board: Arc::clone(self),
            waiter,
        }
    }

    /// Since when the client that has waited longest waits for a primary.
    pub fn oldest(&self) -> Option<Moment> {
        let line = self.line.locked();
        let waiting = line
            .iter()
            .filter(|waiter| matches!(*waiter.lock(), Call::Awaited(_)));
        waiting.map(|waiter| waiter.since).min()
    }

    /// How many wait for a primary.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Calls those whose time is over.
    pub fn expire(&self, now: Moment) {
        let mut over = Vec::new();
        let mut stays = |waiter: &Arc<Waiter>| {
            let is_waiting = matches!(*waiter.lock(), Call::Awaited(_));
            let is_over = is_waiting && now >= waiter.until;
            if is_over {
                over.push(Arc::clone(waiter));
            }
            is_waiting && !is_over
        };
        self.line.locked().retain(&mut stays);
        self.curious.locked().retain(&mut stays);
        for waiter in over {
            waiter.call(Held::TimedOut);
        }
    }

    /// Lets so many go, the first first.
    pub(super) fn let_go(&self, count: usize) {
        for _ in 0..count {
            loop {
                let Some(waiter) = self.line.locked().pop_front() else {
                    return;
                };
                if waiter.call(Held::Go) {
                    break;
                }
            }
        }
    }
}
