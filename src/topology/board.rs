//! Where the newest view of a cluster hangs, and where clients wait for one with a primary.
//!
//! The line is fair and bounded: first come, first served; who comes when it is full is told so at once. When a primary appears
//! a few are let go, and each that goes lets the next one go: thousands of clients do not fall upon a fresh primary in one instant.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Moment;
use crate::locked::Locked;
use crate::topology::membership::Service;
use crate::topology::node::{NodeId, Observation};
use crate::topology::outage::{Chronicle, Toll};
use crate::topology::phase::{Change, Phase};
use crate::topology::view::ClusterView;

/// Between two samples that somebody waits for, in microseconds.
const CURIOSITY: u64 = 5_000;
/// The same while the writer does not let us ask, so that each attempt costs it a login.
const KNOCKING: u64 = 100_000;
/// How many are let go at once when a primary appears.
const FIRST_WAVE: usize = 32;

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

/// What a client had to wait for a primary came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It got a server.
    Through,
    /// It was refused.
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

/// Tells whether anything runs on the node at an address.
pub type Runs = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// How a switchover comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switched {
    /// Whoever keeps the cluster has done it.
    ByKeeper,
    /// Nobody keeps the cluster: new transactions wait for a promotion by hand.
    ByHand {
        /// The address of the node that is to be replaced.
        primary: String,
        /// For how long they wait at most.
        within: Duration,
    },
}

/// Why a switchover is not known to have come about, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unswitched {
    /// It did not come about.
    Not(String),
    /// It may have, or may still.
    Unknown(String),
}

/// A switchover that an operator asks for, and what becomes of it.
pub struct Wish {
    /// The node or member that is to be the next primary; none leaves the choice to the keeper.
    pub to: Option<String>,
    runs: Runs,
    outcome: Mutex<Option<Result<Switched, Unswitched>>>,
}

impl fmt::Debug for Wish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Wish")
            .field("to", &self.to)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Wish {
    /// A switchover to `to`.
    pub fn new(to: Option<String>, runs: Runs) -> Arc<Self> {
        Arc::new(Self {
            to,
            runs,
            outcome: Mutex::default(),
        })
    }

    /// Whether anything runs on the node at `address` that it would end.
    pub fn would_end_something(&self, address: &str) -> bool {
        (self.runs)(address)
    }

    /// Says what became of it.
    pub fn answer(&self, outcome: Result<Switched, Unswitched>) {
        self.outcome.locked().get_or_insert(outcome);
    }

    /// What became of it; none while that is not known.
    pub fn outcome(&self) -> Option<Result<Switched, Unswitched>> {
        self.outcome.locked().clone()
    }
}

#[derive(Debug)]
enum Call {
    Awaited(Waker),
    Made(Held),
    Left,
}

/// A client in the line.
#[derive(Debug)]
struct Waiter {
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
    fn call(&self, held: Held) -> bool {
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

    /// Calls those who could do with a replica.
    fn let_readers_look(&self) {
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
    fn let_go(&self, count: usize) {
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

fn has_same_readers(one: &ClusterView, other: &ClusterView) -> bool {
    let of = |view: &ClusterView| {
        let nodes = view.nodes.iter();
        let services = nodes.flat_map(|node| std::iter::once(&node.own).chain(&node.others));
        services.map(Service::is_on).collect::<Vec<_>>()
    };
    of(one) == of(other)
}

#[cfg(test)]
mod tests {
    use super::{Board, Held, HoldLimits};
    use crate::clock::Moment;
    use crate::topology::choice::Memory;
    use crate::topology::cluster::Cluster;
    use crate::topology::membership::{Out, Service};
    use crate::topology::node::Observation;
    use crate::topology::phase::Phase;
    use crate::topology::tests::{A, B, RULES, places};
    use crate::topology::view::ClusterView;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    fn board(clients: usize) -> Arc<Board> {
        let now = Moment::from_micros(0);
        let cluster = Cluster::new("main", RULES, places(), Memory::default(), now);
        let limits = HoldLimits {
            timeout: Duration::from_secs(1),
            clients,
        };
        Board::new(cluster.view(), limits, Box::new(|_| {}))
    }

    #[test]
    fn the_line_is_bounded_and_who_leaves_makes_room() {
        let board = board(1);
        let now = Moment::from_micros(0);
        let hold = board.hold(now, Waker::noop()).unwrap();
        assert!(board.hold(now, Waker::noop()).is_none());
        drop(hold);
        assert!(board.hold(now, Waker::noop()).is_some());
    }

    #[test]
    fn each_that_goes_lets_the_next_go() {
        let limits = HoldLimits {
            timeout: Duration::from_secs(1),
            clients: 100,
        };
        let view = crate::topology::tests::stable().view();
        let board = Board::new(view, limits, Box::new(|_| {}));
        let mut cx = Context::from_waker(Waker::noop());
        let now = Moment::from_micros(0);
        let first = board.hold(now, Waker::noop()).unwrap();
        let second = board.hold(now, Waker::noop()).unwrap();
        board.let_go(1);
        assert_eq!(first.poll(&mut cx), Poll::Ready(Held::Go));
        assert_eq!(second.poll(&mut cx), Poll::Pending);
        drop(first);
        assert_eq!(second.poll(&mut cx), Poll::Ready(Held::Go));
    }

    #[test]
    fn without_a_writer_only_who_could_read_looks_again_and_nobody_else_is_let_go() {
        let limits = HoldLimits {
            timeout: Duration::from_secs(1),
            clients: 100,
        };
        let view = crate::topology::tests::stable().view();
        let board = Board::new(view.clone(), limits, Box::new(|_| {}));
        let mut cx = Context::from_waker(Waker::noop());
        let now = Moment::from_micros(0);
        let reader = board.hold_for(now, Waker::noop(), true).unwrap();
        let writer = board.hold(now, Waker::noop()).unwrap();
        let suspect = ClusterView {
            phase: Phase::Suspect,
            ..view.clone()
        };
        board.publish(suspect, &[], None);
        assert_eq!(reader.poll(&mut cx), Poll::Pending);
        let lost = ClusterView {
            phase: Phase::NoWriter,
            writer: None,
            ..view
        };
        board.publish(lost.clone(), &[], None);
        assert_eq!(reader.poll(&mut cx), Poll::Ready(Held::Go));
        drop(reader);
        assert_eq!(writer.poll(&mut cx), Poll::Pending);
        let again = board.hold_for(now, Waker::noop(), true).unwrap();
        board.publish(lost.clone(), &[], None);
        assert_eq!(again.poll(&mut cx), Poll::Pending, "nothing has changed");
        let mut fewer = lost;
        fewer
            .nodes
            .iter_mut()
            .for_each(|node| node.own = Service::none(Out::Behind));
        board.publish(fewer, &[], None);
        assert_eq!(again.poll(&mut cx), Poll::Ready(Held::Go));
    }

    #[test]
    fn who_waits_for_a_view_is_called_once_by_the_next_and_calls_nobody() {
        let board = board(1);
        let mut cx = Context::from_waker(Waker::noop());
        let now = Moment::from_micros(0);
        let look = || board.look_out(now, Waker::noop());
        let (one, other) = (look(), look());
        assert_eq!(one.poll(&mut cx), Poll::Pending);
        assert_eq!(board.waiting(), 0, "that is no wait for a primary");
        board.publish(ClusterView::clone(&board.view()), &[], None);
        assert_eq!(one.poll(&mut cx), Poll::Ready(Held::Go));
        let again = look();
        drop((one, other));
        assert_eq!(again.poll(&mut cx), Poll::Pending);
        board.expire(Moment::from_micros(1_000_000));
        assert_eq!(again.poll(&mut cx), Poll::Ready(Held::TimedOut));
    }

    #[test]
    fn a_writer_that_does_not_let_us_ask_is_not_asked_every_few_milliseconds() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let limits = HoldLimits {
            timeout: Duration::from_secs(1),
            clients: 1,
        };
        let view = crate::topology::tests::stable().view();
        let teller = move |_| {
            count.fetch_add(1, SeqCst);
        };
        let board = Board::new(view.clone(), limits, Box::new(teller));
        let asked = |from: u64| {
            let before = told.load(SeqCst);
            (from..from + 1000).for_each(|ms| board.want_sample(Moment::from_micros(ms * 1000)));
            told.load(SeqCst) - before
        };
        assert_eq!(asked(1_000), 200);
        let mut denied = view;
        denied.nodes[usize::from(A.0)].trouble = Some("sorry, too many clients already".into());
        board.publish(denied, &[], None);
        assert_eq!(asked(3_000), 10);
    }

    #[test]
    fn who_has_waited_long_enough_is_told() {
        let board = board(100);
        let mut cx = Context::from_waker(Waker::noop());
        let hold = board.hold(Moment::from_micros(0), Waker::noop()).unwrap();
        board.expire(Moment::from_micros(999_999));
        assert_eq!(hold.poll(&mut cx), Poll::Pending);
        board.expire(Moment::from_micros(1_000_000));
        assert_eq!(hold.poll(&mut cx), Poll::Ready(Held::TimedOut));
    }

    #[test]
    fn a_bad_sign_holds_new_transactions_before_the_machine_has_heard_of_it() {
        let limits = HoldLimits {
            timeout: Duration::from_secs(1),
            clients: 1,
        };
        let view = crate::topology::tests::stable().view();
        let board = Board::new(view, limits, Box::new(|_| {}));
        let sign = |node| Observation::BadSign {
            node,
            at: Moment::from_micros(50_000),
            why: "a server was lost".into(),
        };
        board.tell(sign(B));
        assert_eq!(board.view().primary(), Some(A), "only the writer matters");
        board.tell(sign(A));
        assert_eq!(board.view().primary(), None);
        assert_eq!(board.view().writer, Some(A), "it stays in office");
    }
}
