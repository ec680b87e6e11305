//! Where the newest view of a cluster hangs, and where clients wait for one with a primary (`board/waiting.rs`).

pub mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::waiting::{Held, HoldLimits, Waiter};
use crate::clock::Moment;
use crate::locked::Locked;
use crate::topology::membership::Service;
use crate::topology::node::{NodeId, Observation};
use crate::topology::outage::{Chronicle, Toll};
use crate::topology::phase::{Change, Phase};
use crate::topology::view::ClusterView;
use crate::topology::wish::Wish;

/// Between two samples that somebody waits for, in microseconds.
const CURIOSITY: u64 = 5_000;
/// The same while the writer does not let us ask, so that each attempt costs it a login.
const KNOCKING: u64 = 100_000;
/// How many are let go at once when a primary appears.
const FIRST_WAVE: usize = 32;

/// What a client had to wait for a primary came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It got a server.
    Through,
    /// It was refused, or has left.
    ToNothing,
}

/// A client waits for a primary: since when, and in which outage.
#[derive(Debug)]
pub struct Wait {
    /// Since when.
    pub since: Moment,
    /// Where it is counted.
    pub toll: Arc<Toll>,
}

/// Takes what must be told to the machine.
pub type Teller = Box<dyn Fn(Observation) + Send + Sync>;

/// The board of one cluster.
pub struct Board {
    view: ArcSwap<ClusterView>,
    story: ArcSwap<Vec<Change>>,
    chronicle: Mutex<Chronicle>,
    limits: ArcSwap<HoldLimits>,
    line: Mutex<VecDeque<Arc<Waiter>>>,
    waiting: AtomicUsize,
    turn: AtomicUsize,
    /// When somebody last asked for a newer sample, in microseconds.
    asked: AtomicU64,
    followers: Mutex<Vec<Waker>>,
    wishes: Mutex<VecDeque<Arc<Wish>>>,
    /// The last bad sign.
    doubts: Mutex<Option<(NodeId, Moment)>>,
    curious: Mutex<Vec<Arc<Waiter>>>,
    teller: Teller,
}

impl fmt::Debug for Board {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Board")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Board {
    /// A board with a first view on it. What is seen of the cluster on the way is told to `teller`.
    pub fn new(view: ClusterView, limits: HoldLimits, teller: Teller) -> Arc<Self> {
        let mut chronicle = Chronicle::default();
        if view.primary().is_none() {
            chronicle.doubted(view.since, None, &view.why);
        }
        Arc::new(Self {
            chronicle: Mutex::new(chronicle),
            view: ArcSwap::from_pointee(view),
            story: ArcSwap::default(),
            limits: ArcSwap::from_pointee(limits),
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            followers: Mutex::default(),
            wishes: Mutex::default(),
            doubts: Mutex::default(),
            curious: Mutex::default(),
            teller,
        })
    }

    /// The newest view.
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.load_full()
    }

    /// The node that new transactions go to, and the reign: none while they wait.
    pub fn primary(&self, now: Moment) -> Option<NodeId> {
        self.view.load().primary_at(now)
    }

    /// Whose turn it is, of those among whom clients are spread.
    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, SeqCst)
    }

    /// Puts other limits of waiting in force.
    pub fn set_limits(&self, limits: HoldLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// The limits of waiting.
    pub fn limits(&self) -> HoldLimits {
        **self.limits.load()
    }

    /// Hangs up a new view; `news` are the changes of phase since the one before, `story` those so far, where there are news.
    pub fn publish(&self, view: ClusterView, news: &[Change], story: Option<Vec<Change>>) {
        let has_primary = view.primary().is_some();
        let (writer, epoch) = (view.writer, view.epoch);
        let view = Arc::new(view);
        let before = self.view.swap(Arc::clone(&view));
        if let Some(story) = story {
            self.story.store(Arc::new(story));
        }
        let mut chronicle = self.chronicle();
        news.iter().for_each(|change| chronicle.changed(change));
        if has_primary {
            chronicle.recovered(writer, epoch);
        }
        drop(chronicle);
        let followers = std::mem::take(&mut *self.followers.locked());
        followers.into_iter().for_each(Waker::wake);
        let curious = std::mem::take(&mut *self.curious.locked());
        for waiter in curious {
            waiter.call(Held::Go);
        }
        if has_primary {
            self.let_go(FIRST_WAVE);
        } else if writer.is_none() && (before.writer.is_some() || !has_same_readers(&before, &view))
        {
            self.let_readers_look();
        }
    }

    /// The times without a writer, and what they cost.
    pub fn chronicle(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.locked()
    }

    /// A client begins to wait for a primary.
    pub fn begins_to_wait(&self, now: Moment) -> Wait {
        let toll = self.chronicle().toll(now);
        toll.held.fetch_add(1, SeqCst);
        Wait { since: now, toll }
    }

    /// A client waits for a primary no longer.
    pub fn stops_waiting(&self, wait: &Wait, came: Came, now: Moment) {
        let count = match came {
            Came::Through => &wait.toll.released,
            Came::ToNothing => &wait.toll.failed,
        };
        count.fetch_add(1, SeqCst);
        self.chronicle().waited(now.since(wait.since));
    }

    /// The changes of phase, oldest first.
    pub fn story(&self) -> Arc<Vec<Change>> {
        self.story.load_full()
    }

    /// Wakes `waker` at the next view.
    fn wake_at_next(&self, waker: &Waker) {
        self.followers.locked().push(waker.clone());
    }

    /// Resolves when a view later than `before` hangs here.
    pub fn next_after(&self, before: &Arc<ClusterView>) -> impl Future<Output = ()> + use<'_> {
        let before = Arc::clone(before);
        poll_fn(move |cx| {
            if !Arc::ptr_eq(&before, &self.view()) {
                return Poll::Ready(());
            }
            self.wake_at_next(cx.waker());
            // One that was hung up in between has woken nobody.
            if Arc::ptr_eq(&before, &self.view()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
    }

    /// Tells the machine something that was seen on the way.
    ///
    /// A bad sign holds new transactions at once, and not only when the machine has heard of it: whoever has just been told of one lost
    /// server must not be lent another that is dying in the same moment. The machine hangs up a view of its own for every sign, so
    /// this one does not stay.
    pub fn tell(&self, observation: Observation) {
        if let Observation::BadSign { node, at, why } = &observation {
            *self.doubts.locked() = Some((*node, *at));
            self.doubt(*node, *at, why);
        }
        (self.teller)(observation);
    }

    /// Whether `node` was the last of which there was a bad sign, after `moment`.
    pub fn is_doubted_since(&self, node: NodeId, moment: Moment) -> bool {
        self.doubts
            .locked()
            .is_some_and(|(doubted, at)| doubted == node && at > moment)
    }

    /// An operator wants a switchover, at `at`.
    pub fn wish(&self, wish: &Arc<Wish>, at: Moment) {
        self.wishes.locked().push_back(Arc::clone(wish));
        let grace = Duration::ZERO;
        (self.teller)(Observation::Drain { at, grace });
    }

    /// The first wish that nobody has taken yet.
    pub fn take_wish(&self) -> Option<Arc<Wish>> {
        self.wishes.locked().pop_front()
    }

    fn doubt(&self, node: NodeId, at: Moment, why: &str) {
        let view = self.view();
        if view.primary() != Some(node) {
            return;
        }
        let doubtful = ClusterView {
            phase: Phase::Suspect,
            since: at,
            why: why.into(),
            holding_since: Some(at),
            ..ClusterView::clone(&view)
        };
        self.chronicle().doubted(at, view.writer, why);
        // Should another view hang there by now, then that one counts.
        self.view.compare_and_swap(&view, Arc::new(doubtful));
    }

    /// Somebody waits for a sample of the writer's position that is newer than now: everybody is asked, at most once in
    /// [`CURIOSITY`], or in [`KNOCKING`].
    pub fn want_sample(&self, now: Moment) {
        let (last, now_micros) = (self.asked.load(SeqCst), now.as_micros());
        if now_micros < last + CURIOSITY || (now_micros < last + KNOCKING && self.is_denied()) {
            return;
        }
        let is_mine = self
            .asked
            .compare_exchange(last, now_micros, SeqCst, SeqCst);
        if is_mine.is_ok() {
            self.tell(Observation::Curious { at: now });
        }
    }

    /// Whether the writer does not let us ask.
    fn is_denied(&self) -> bool {
        let view = self.view.load();
        let writer = view.writer.and_then(|id| view.node(id));
        writer.is_some_and(|writer| writer.trouble.is_some())
    }
}

fn has_same_readers(one: &ClusterView, other: &ClusterView) -> bool {
    let of = |view: &ClusterView| {
        let nodes = view.nodes.iter();
        let services = nodes.flat_map(|node| std::iter::once(&node.own).chain(&node.others));
        services.map(Service::is_on).collect::<Vec<_>>()
    };
    of(one) == of(other)
}

#[cfg(test)]
mod tests;
