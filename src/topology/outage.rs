//! Outages: from the first sign of trouble to the moment in which a writer is used again, and what each of them cost the clients.
//!
//! The machine tells changes of phase; who waits, and what became of whom, is counted by the clients themselves, on the [`Toll`] of the
//! outage that they met. That one opens with the first client that says so, which may be before the machine has heard of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;
use crate::stats::counters::{Histogram, micros, no_buckets, percentile};
use crate::topology::node::NodeId;
use crate::topology::phase::{Change, Epoch, Phase, UNLISTED};

/// Outages that are remembered.
const REMEMBERED: usize = 100;
/// For so long after its end an outage counts who had seen it.
const LINGERS: Duration = Duration::from_secs(1);

/// What an outage cost the clients.
#[derive(Debug, Default)]
pub struct Toll {
    /// Requests and logins that had to wait for a primary.
    pub held: AtomicU64,
    /// Those of them that got one.
    pub released: AtomicU64,
    /// Those of them that were refused: 57P03.
    pub failed: AtomicU64,
    /// Requests of which nobody knows whether they were done: 08007.
    pub unknown: AtomicU64,
    /// Transactions that were lost with their server, undone: 40001.
    pub undone: AtomicU64,
    /// When the first transaction was over on the primary, in microseconds; 0 while there is none.
    first_write: AtomicU64,
}

impl Toll {
    /// A transaction that may have written is over.
    pub fn wrote(&self, now: Moment) {
        let _ = self
            .first_write
            .compare_exchange(0, now.as_micros(), Relaxed, Relaxed);
    }

    /// When the first transaction that may have written was over.
    pub fn first_write(&self) -> Option<Moment> {
        let micros = self.first_write.load(Relaxed);
        (micros != 0).then(|| Moment::from_micros(micros))
    }
}

/// What an outage was, by what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The pooler had just begun to watch.
    Start,
    /// Another node is the writer, and it was known beforehand.
    Switchover,
    /// Another node is the writer.
    Failover,
    /// The writer was away, and came back.
    Restart,
    /// The writer was taken off the list of nodes, by a reload or by the cluster's keeper.
    Unlisted,
    /// A switchover was announced, and did not come.
    Drain,
    /// The writer had lost its leader key for a while.
    Orphan,
    /// There was a bad sign, and nothing in it: a server that somebody ended, or an answer that came late.
    Doubt,
    /// It is not over.
    Open,
}

impl Kind {
    /// The word for it in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Restart => "restart",
            Self::Unlisted => "unlisted",
            Self::Drain => "drain",
            Self::Orphan => "orphan",
            Self::Doubt => "doubt",
            Self::Open => "open",
        }
    }
}

/// A time without a writer in use.
#[derive(Debug, Clone)]
pub struct Outage {
    /// When the first sign of it was seen.
    pub began: Moment,
    /// The phases that it went through, and when each was entered first.
    phases: Vec<(Phase, Moment)>,
    /// When a writer was confirmed.
    pub over: Option<Moment>,
    /// The writer before.
    pub from: Option<NodeId>,
    /// The writer since.
    pub to: Option<NodeId>,
    /// The reign since.
    pub epoch: Epoch,
    /// What the first sign was.
    pub why: String,
    /// What it cost.
    pub toll: Arc<Toll>,
}

impl Outage {
    fn new(began: Moment, from: Option<NodeId>, why: &str) -> Self {
        Self {
            began,
            phases: Vec::new(),
            over: None,
            from,
            to: None,
            epoch: Epoch::default(),
            why: why.to_owned(),
            toll: Arc::default(),
        }
    }

    /// When `phase` was entered first.
    pub fn entered(&self, phase: Phase) -> Option<Moment> {
        let entry = self.phases.iter().find(|(entered, _)| *entered == phase);
        entry.map(|(_, at)| *at)
    }

    /// What it was.
    pub fn kind(&self) -> Kind {
        let has = |phase| self.entered(phase).is_some();
        match (self.over, self.from) {
            (None, _) => Kind::Open,
            (Some(_), None) => Kind::Start,
            (Some(_), Some(_)) if self.why == UNLISTED => Kind::Unlisted,
            (Some(_), Some(_)) if self.from != self.to && has(Phase::Draining) => Kind::Switchover,
            (Some(_), Some(_)) if self.from != self.to => Kind::Failover,
            (Some(_), Some(_)) if has(Phase::NoWriter) => Kind::Restart,
            (Some(_), Some(_)) if has(Phase::Orphan) => Kind::Orphan,
            (Some(_), Some(_)) if has(Phase::Draining) => Kind::Drain,
            (Some(_), Some(_)) => Kind::Doubt,
        }
    }
}

/// Numbers since the process began: of times without a writer, and of those who waited meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many are over.
    pub count: u64,
    /// All of them together, in microseconds.
    pub total: u64,
    /// The longest, in microseconds.
    pub longest: u64,
    /// What half of them did not exceed, in microseconds.
    pub p50: Option<u64>,
    /// What 99 of 100 did not exceed, in microseconds.
    pub p99: Option<u64>,
}

#[derive(Debug, Default)]
struct Times {
    histogram: Histogram,
    count: u64,
    total: u64,
    longest: u64,
}

impl Times {
    fn add(&mut self, span: Duration) {
        let micros = micros(span);
        self.histogram.record(micros);
        self.count += 1;
        self.total += micros;
        self.longest = self.longest.max(micros);
    }

    fn sums(&self) -> Sums {
        let mut buckets = no_buckets();
        self.histogram.add_to(&mut buckets);
        let at_most = |share| percentile(&buckets, share).map(|micros| micros.min(self.longest));
        Sums {
            count: self.count,
            total: self.total,
            longest: self.longest,
            p50: at_most(0.5),
            p99: at_most(0.99),
        }
    }
}

/// The outages of a cluster.
#[derive(Debug, Default)]
pub struct Chronicle {
    outages: VecDeque<Outage>,
    /// Of those who waited though there was none.
    stray: Arc<Toll>,
    outage_times: Times,
    wait_times: Times,
}

impl Chronicle {
    /// The outage that is not over.
    fn open(&mut self) -> Option<&mut Outage> {
        self.outages.back_mut().filter(|last| last.over.is_none())
    }

    /// Something is wrong with the writer, and from now on it is not used.
    pub fn doubted(&mut self, at: Moment, writer: Option<NodeId>, why: &str) {
        if self.open().is_some() {
            return;
        }
        if self.outages.len() == REMEMBERED {
            // Mere doubts are many where sessions are ended by hand; they must not push out what matters.
            let doubt = self
                .outages
                .iter()
                .position(|one| one.kind() == Kind::Doubt);
            self.outages.remove(doubt.unwrap_or(0));
        }
        self.outages.push_back(Outage::new(at, writer, why));
    }

    /// The phase has changed.
    pub fn changed(&mut self, change: &Change) {
        if change.to == Phase::Stable {
            return self.ended(change.at, change.node, change.epoch);
        }
        // At the start nobody has been the writer.
        let writer = change.node.filter(|_| change.from == Phase::Stable);
        self.doubted(change.sign, writer, &change.why);
        let Some(outage) = self.open() else { return };
        outage.began = outage.began.min(change.sign);
        if outage.entered(change.to).is_none() {
            outage.phases.push((change.to, change.at));
        }
    }

    /// A writer is in use. Whoever doubted it in vain has not been heard by the machine at all.
    pub fn recovered(&mut self, writer: Option<NodeId>, epoch: Epoch) {
        if let Some(open) = self.open() {
            let began = open.began;
            self.ended(began, writer, epoch);
        }
    }

    fn ended(&mut self, at: Moment, writer: Option<NodeId>, epoch: Epoch) {
        let Some(outage) = self.open() else { return };
        (outage.over, outage.to, outage.epoch) = (Some(at), writer, epoch);
        let lasted = at.since(outage.began);
        if outage.kind() != Kind::Start {
            self.outage_times.add(lasted);
        }
    }

    /// On whose toll a client is counted that is met by an outage now.
    pub fn toll(&self, now: Moment) -> Arc<Toll> {
        let last = self.outages.back();
        let last = last.filter(|last| last.over.is_none_or(|over| now.since(over) < LINGERS));
        Arc::clone(last.map_or(&self.stray, |last| &last.toll))
    }

    /// The toll of the last outage, while nobody has written since.
    pub fn unwritten(&self) -> Option<Arc<Toll>> {
        let last = self.outages.back()?;
        let is_unwritten = last.over.is_some() && last.toll.first_write().is_none();
        is_unwritten.then(|| Arc::clone(&last.toll))
    }

    /// Somebody has waited for so long.
    pub fn waited(&mut self, span: Duration) {
        self.wait_times.add(span);
    }

    /// The outages that are remembered, oldest first.
    pub fn outages(&self) -> impl Iterator<Item = &Outage> {
        self.outages.iter()
    }

    /// Times without a writer, but for the one at the start.
    pub fn outage_sums(&self) -> Sums {
        self.outage_times.sums()
    }

    /// How long clients have waited for a primary, be it that they got one or were refused.
    pub fn wait_sums(&self) -> Sums {
        self.wait_times.sums()
    }
}

#[cfg(test)]
mod tests {
    use super::{Chronicle, Kind, Outage};
    use crate::clock::Moment;
    use crate::topology::node::NodeId;
    use crate::topology::phase::{Change, Epoch, Phase, UNLISTED};
    use crate::topology::tests::{A, B};

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn change(millis: u64, from: Phase, to: Phase, node: NodeId) -> Change {
        Change {
            at: at(millis),
            sign: at(millis),
            from,
            to,
            epoch: Epoch(2),
            node: Some(node),
            why: "because".to_owned(),
        }
    }

    /// What is remembered after these changes.
    fn told(changes: &[(u64, Phase, Phase, NodeId)]) -> Outage {
        let mut chronicle = Chronicle::default();
        for (millis, from, to, node) in changes {
            chronicle.changed(&change(*millis, *from, *to, *node));
        }
        let mut all: Vec<_> = chronicle.outages().cloned().collect();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn a_failover_is_one_outage_with_the_moments_of_its_phases() {
        use Phase::{Confirming, NoWriter, Stable, Suspect};
        let outage = told(&[
            (10, Stable, Suspect, A),
            (12, Suspect, NoWriter, A),
            (90, NoWriter, Confirming, B),
            (95, Confirming, Stable, B),
        ]);
        assert_eq!(outage.kind(), Kind::Failover);
        assert_eq!((outage.from, outage.to), (Some(A), Some(B)));
        assert_eq!(outage.began, at(10));
        assert_eq!(outage.entered(NoWriter), Some(at(12)));
        assert_eq!(outage.over, Some(at(95)));
    }

    #[test]
    fn what_an_outage_was_is_told_by_its_end() {
        use Phase::{Draining, NoWriter, Orphan, Stable, Suspect};
        let kind = |phase, to| told(&[(1, Stable, phase, A), (2, phase, Stable, to)]).kind();
        assert_eq!(kind(Draining, B), Kind::Switchover);
        assert_eq!(kind(Draining, A), Kind::Drain);
        assert_eq!(kind(Suspect, A), Kind::Doubt);
        assert_eq!(kind(NoWriter, A), Kind::Restart);
        assert_eq!(kind(Orphan, A), Kind::Orphan);
        let mut unlisted = told(&[(1, Stable, NoWriter, A), (2, NoWriter, Stable, A)]);
        unlisted.why = UNLISTED.to_owned();
        assert_eq!(unlisted.kind(), Kind::Unlisted);
        assert_eq!(told(&[(1, Stable, Suspect, A)]).kind(), Kind::Open);
        assert_eq!(
            told(&[(1, NoWriter, Stable, A)].map(|(m, f, _, n)| (m, f, NoWriter, n))).kind(),
            Kind::Open
        );
    }

    #[test]
    fn who_is_met_by_an_outage_is_counted_on_it_even_before_the_machine_knows() {
        let mut chronicle = Chronicle::default();
        chronicle.doubted(at(5), Some(A), "a server was lost");
        let toll = chronicle.toll(at(5));
        chronicle.changed(&change(6, Phase::Stable, Phase::Suspect, A));
        assert!(std::sync::Arc::ptr_eq(&toll, &chronicle.toll(at(6))));
        chronicle.changed(&change(9, Phase::Suspect, Phase::Stable, A));
        assert!(std::sync::Arc::ptr_eq(&toll, &chronicle.toll(at(500))));
        assert!(!std::sync::Arc::ptr_eq(&toll, &chronicle.toll(at(5_000))));
        let unwritten = chronicle.unwritten().unwrap();
        unwritten.wrote(at(11));
        unwritten.wrote(at(12));
        assert_eq!(toll.first_write(), Some(at(11)));
        assert!(chronicle.unwritten().is_none());
    }

    #[test]
    fn a_doubt_that_the_machine_never_heard_is_over_with_the_next_view() {
        let mut chronicle = Chronicle::default();
        chronicle.doubted(at(5), Some(A), "a server was lost");
        chronicle.recovered(Some(A), Epoch(1));
        assert_eq!(chronicle.outages().next().unwrap().kind(), Kind::Doubt);
        assert_eq!(chronicle.outage_sums().count, 1);
    }

    #[test]
    fn many_doubts_do_not_push_out_a_failover() {
        let mut chronicle = Chronicle::default();
        chronicle.changed(&change(1, Phase::Stable, Phase::NoWriter, A));
        chronicle.changed(&change(2, Phase::NoWriter, Phase::Stable, B));
        for turn in 0..500 {
            chronicle.doubted(at(10 + turn), Some(B), "a server was lost");
            chronicle.recovered(Some(B), Epoch(2));
        }
        assert_eq!(chronicle.outages().next().unwrap().kind(), Kind::Failover);
        assert_eq!(chronicle.outages().count(), super::REMEMBERED);
    }
}
