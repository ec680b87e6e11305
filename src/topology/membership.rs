//! Whether a replica serves reads: it leaves at once when it is too far behind, and comes back after a while of being well below the
//! limits, so that one at the edge does not come and go.
//!
//! A database may have limits of its own, wider or narrower than its cluster's. A replica is a member under each of them by itself.

use std::time::Duration;

use crate::clock::Moment;
use crate::config::routing::LagBound;
use crate::topology::lag::Lag;

/// The limits of lag, and how a replica comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagLimits {
    /// Behind in time.
    pub time: Duration,
    /// Behind in bytes of WAL; 0 is no bound.
    pub bytes: u64,
    /// For how long a replica must have been below half of them before it is used again.
    pub readmit_after: Duration,
}

impl LagLimits {
    /// These, but as `bound` says.
    #[must_use]
    pub fn under(self, bound: LagBound) -> Self {
        Self {
            time: bound.time.unwrap_or(self.time),
            bytes: bound.bytes.unwrap_or(self.bytes),
            ..self
        }
    }
}

/// Why a replica serves no reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Out {
    /// Its last answer is missing, or none of them could be measured yet.
    #[default]
    Unmeasured,
    /// It is of another system.
    OtherSystem,
    /// It does not follow the primary's timeline, or nobody can see that it does.
    OtherTimeline,
    /// Its WAL receiver is not connected.
    CutOff,
    /// It has replayed what the primary has never written.
    Ahead,
    /// It was not of the cluster when an operator said UNFENCE.
    GivenUp,
    /// It is behind everything that was sampled of the primary.
    OffTheRing,
    /// The primary has not said for too long how far it is.
    Unsampled,
    /// It is behind the bound of lag.
    Behind,
    /// It is within the bound, but not yet for long enough below half of it.
    Waiting,
    /// There is no primary, and it did not serve when that was lost.
    OutAtLoss,
    /// Two nodes take writes with equal right, and it may follow either.
    Conflict,
    /// Its weight is 0.
    Weightless,
    /// Its server is listed by another address, too, which is used.
    Twice,
    /// The pooler itself has not looked for too long.
    Stale,
}

impl Out {
    /// The words for it in the console.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unmeasured => "its lag is not known yet",
            Self::OtherSystem => "it is of another system",
            Self::OtherTimeline => {
                "it is not seen to follow the primary's timeline (where probe_user has no pg_monitor: until its next restartpoint)"
            }
            Self::CutOff => "its WAL receiver is not connected",
            Self::Ahead => "it has replayed what the primary has never written",
            Self::GivenUp => {
                "it was not of the cluster when UNFENCE was said: it counts again once it follows as a replica, \
                    or its keeper names it (UNFENCE while there is no primary follows it, and leaves behind what was written since)"
            }
            Self::OffTheRing => "its lag is not known: it is behind all that was sampled",
            Self::Unsampled => "its lag is not known: the primary does not say how far it is",
            Self::Behind => "its lag is beyond the bounds",
            Self::Waiting => "it is not below half of the bounds for readmit_after yet",
            Self::OutAtLoss => "there is no primary, and it did not serve before",
            Self::Conflict => {
                "two nodes take writes with equal right, and nobody knows which of them it follows"
            }
            Self::Weightless => "its weight is 0",
            Self::Twice => "it is a server that is used by another address",
            Self::Stale => "nothing was heard of the cluster for too long",
        }
    }
}

/// How a replica serves reads under one bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// Why it does not; none where it does.
    pub out: Option<Out>,
    /// Since when it serves again; none where it always did.
    pub readmitted: Option<Moment>,
}

impl Service {
    /// None, and why.
    pub const fn none(why: Out) -> Self {
        Self {
            out: Some(why),
            readmitted: None,
        }
    }

    /// Whether it serves.
    pub const fn is_on(&self) -> bool {
        self.out.is_none()
    }
}

/// The writer is lost.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// When that was noticed.
    pub at: Moment,
    /// How long before it may have begun to die.
    pub grace: Duration,
    /// When it was heard last.
    pub heard: Moment,
}

/// Whether one replica serves reads under one bound.
#[derive(Debug, Clone, Copy, Default)]
struct Membership {
    is_in: bool,
    why_not: Out,
    was_in: bool,
    was_in_at_loss: bool,
    well_since: Option<Moment>,
    cut_off_at: Option<Moment>,
    fell_behind_at: Option<Moment>,
    readmitted: Option<Moment>,
}

impl Membership {
    fn judge(&mut self, lag: Lag, limits: LagLimits, now: Moment) {
        if lag == Lag::Unknown {
            return self.leave(Out::OffTheRing);
        }
        if !lag.is_within(limits.time, limits.bytes) {
            if self.is_in {
                self.fell_behind_at = Some(now);
            }
            return self.leave(Out::Behind);
        }
        self.fell_behind_at = None;
        if self.is_in {
            return;
        }
        let half = if limits.bytes == 0 {
            0
        } else {
            (limits.bytes / 2).max(1)
        };
        self.why_not = Out::Waiting;
        if !lag.is_within(limits.time / 2, half) {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        if !self.was_in || now.since(since) >= limits.readmit_after {
            self.readmitted = self.was_in.then_some(now);
            self.is_in = true;
            self.was_in = true;
            self.cut_off_at = None;
        }
    }

    fn freeze(&mut self, loss: &Loss, lag: Lag, limits: LagLimits) {
        let was_just_cut_off = self
            .cut_off_at
            .is_some_and(|at| loss.at.since(at) <= loss.grace);
        let was_in = self.is_in || was_just_cut_off;
        self.was_in_at_loss = was_in || self.is_late_by_silence(loss.heard, lag, limits);
    }

    fn is_late_by_silence(&self, heard: Moment, lag: Lag, limits: LagLimits) -> bool {
        let fell_since = self.fell_behind_at.is_some_and(|at| at > heard);
        fell_since && lag.back_at(heard).is_within(limits.time, limits.bytes)
    }

    fn miss_the_writer(&mut self, heard: Moment, lag: Lag, limits: LagLimits, now: Moment) {
        if self.is_in || self.is_late_by_silence(heard, lag, limits) {
            self.cut_off_at = Some(now);
        }
        self.leave(Out::Unsampled);
    }

    fn cut_off(&mut self, why: Out, now: Moment) {
        if self.is_in {
            self.cut_off_at = Some(now);
        }
        self.leave(why);
    }

    fn answer_without_measure(&mut self) {
        self.is_in = self.was_in_at_loss;
        self.why_not = Out::OutAtLoss;
    }

    fn distrust(&mut self, why: Out) {
        self.leave(why);
        self.was_in_at_loss = false;
    }

    fn leave(&mut self, why: Out) {
        self.is_in = false;
        self.why_not = why;
        self.well_since = None;
    }

    fn service(&self) -> Service {
        Service {
            out: (!self.is_in).then_some(self.why_not),
            readmitted: self.readmitted,
        }
    }
}

/// Whether one replica serves reads: under the cluster's own limits, and under each bound that a database has in their place.
#[derive(Debug, Clone, Default)]
pub struct Memberships {
    own: Membership,
    others: Vec<(LagBound, Membership)>,
}

impl Memberships {
    fn all(&mut self) -> impl Iterator<Item = &mut Membership> {
        let others = self.others.iter_mut().map(|(_, member)| member);
        std::iter::once(&mut self.own).chain(others)
    }

    /// Says which bounds there are. One that is new is judged by the lag that was measured last.
    pub fn bound_by(&mut self, bounds: &[LagBound], lag: Lag, limits: LagLimits) {
        let known = std::mem::take(&mut self.others);
        let own = self.own;
        let member = |bound: LagBound| {
            let mut known = known.iter().filter(|(one, _)| *one == bound);
            if let Some((_, member)) = known.next() {
                return *member;
            }
            let mut member = Membership {
                is_in: false,
                was_in: false,
                well_since: None,
                readmitted: None,
                ..own
            };
            if let Lag::Known { at, .. } = lag {
                member.judge(lag, limits.under(bound), at);
            }
            member
        };
        self.others = bounds
            .iter()
            .map(|bound| (*bound, member(*bound)))
            .collect();
    }

    /// Judges a measured lag; `limits` are the cluster's own. The first one of a replica needs no waiting.
    pub fn judge(&mut self, lag: Lag, limits: LagLimits, now: Moment) {
        self.own.judge(lag, limits, now);
        for (bound, member) in &mut self.others {
            member.judge(lag, limits.under(*bound), now);
        }
    }

    /// The writer is lost, and with it the measure: who serves reads now goes on.
    ///
    /// A dying writer lets go of its replicas a moment before its own end is noticed: one that was cut off no longer than its grace ago
    /// is not to blame. Neither is one that was within its bound, with `lag`, when the writer was heard last: what it shows grew old because
    /// nothing new was heard of.
    pub fn freeze(&mut self, loss: &Loss, lag: Lag, limits: LagLimits) {
        self.own.freeze(loss, lag, limits);
        for (bound, member) in &mut self.others {
            member.freeze(loss, lag, limits.under(*bound));
        }
    }

    /// The writer was heard last at `heard`, which is too long ago to measure anything by: out, as if cut off.
    pub fn miss_the_writer(&mut self, heard: Moment, lag: Lag, limits: LagLimits, now: Moment) {
        self.own.miss_the_writer(heard, lag, limits, now);
        for (bound, member) in &mut self.others {
            member.miss_the_writer(heard, lag, limits.under(*bound), now);
        }
    }

    /// It follows nobody: out, until it does again.
    pub fn cut_off(&mut self, why: Out, now: Moment) {
        self.all().for_each(|member| member.cut_off(why, now));
    }

    /// The replica answers while there is no writer.
    pub fn answer_without_measure(&mut self) {
        self.all().for_each(Membership::answer_without_measure);
    }

    /// There is a measure again: out until the next answer is measured, which needs no waiting.
    pub fn begin_anew(&mut self) {
        self.all()
            .for_each(|member| *member = Membership::default());
    }

    /// Nothing is known any more: out.
    pub fn leave(&mut self, why: Out) {
        self.all().for_each(|member| member.leave(why));
    }

    /// It may show another history than the cluster's: out, also while there is no writer, until there is a measure again.
    pub fn distrust(&mut self, why: Out) {
        self.all().for_each(|member| member.distrust(why));
    }

    /// How it serves under the cluster's own limits.
    pub fn own(&self) -> Service {
        self.own.service()
    }

    /// How it serves under each other bound, in the order in which they were said.
    pub fn others(&self) -> impl Iterator<Item = Service> {
        self.others.iter().map(|(_, member)| member.service())
    }
}

#[cfg(test)]
mod tests {
    use super::{LagLimits, Memberships, Out};
    use crate::clock::Moment;
    use crate::config::routing::LagBound;
    use crate::topology::lag::Lag;
    use std::time::Duration;

    const LIMITS: LagLimits = LagLimits {
        time: Duration::from_millis(1000),
        bytes: 0,
        readmit_after: Duration::from_millis(1000),
    };

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn known(millis: u64) -> Lag {
        Lag::Known {
            time: Duration::from_millis(millis),
            bytes: millis,
            at: at(0),
        }
    }

    fn within(millis: u64) -> LagBound {
        LagBound {
            time: Some(Duration::from_millis(millis)),
            bytes: None,
        }
    }

    /// Whether it is in, first under the cluster's own limits.
    fn ins(members: &Memberships) -> Vec<bool> {
        let all = std::iter::once(members.own()).chain(members.others());
        all.map(|service| service.is_on()).collect()
    }

    #[test]
    fn a_replica_leaves_at_once_and_comes_back_after_a_while_of_being_well() {
        let mut member = Memberships::default();
        member.judge(known(400), LIMITS, at(0));
        assert!(member.own().is_on(), "the first answer needs no waiting");
        assert_eq!(member.own().readmitted, None);
        member.judge(known(900), LIMITS, at(250));
        assert!(member.own().is_on());
        member.judge(known(1001), LIMITS, at(500));
        assert_eq!(member.own().out, Some(Out::Behind));
        member.judge(known(700), LIMITS, at(750));
        member.judge(known(400), LIMITS, at(1000));
        member.judge(known(400), LIMITS, at(1750));
        assert_eq!(member.own().out, Some(Out::Waiting), "well for 750 ms only");
        member.judge(known(400), LIMITS, at(2000));
        assert!(member.own().is_on());
        assert_eq!(member.own().readmitted, Some(at(2000)));
    }

    #[test]
    fn under_each_bound_it_leaves_and_comes_back_by_itself() {
        let mut member = Memberships::default();
        member.bound_by(&[within(300), within(5000)], Lag::Unknown, LIMITS);
        member.judge(known(0), LIMITS, at(0));
        assert_eq!(ins(&member), [true, true, true]);
        member.judge(known(500), LIMITS, at(250));
        assert_eq!(ins(&member), [true, false, true]);
        member.judge(known(2000), LIMITS, at(500));
        assert_eq!(ins(&member), [false, false, true], "a wider bound is wider");
        member.judge(known(200), LIMITS, at(1000));
        member.judge(known(200), LIMITS, at(2000));
        assert_eq!(
            ins(&member),
            [true, false, true],
            "not below half of 300 ms"
        );
        member.judge(known(100), LIMITS, at(2250));
        member.judge(known(100), LIMITS, at(3250));
        assert_eq!(ins(&member), [true, true, true]);
        member.cut_off(Out::CutOff, at(4000));
        assert_eq!(ins(&member), [false, false, false]);
    }

    #[test]
    fn a_bound_that_is_new_counts_at_once_and_one_that_stays_forgets_nothing() {
        let mut member = Memberships::default();
        member.bound_by(&[within(300)], Lag::Unknown, LIMITS);
        member.judge(known(0), LIMITS, at(0));
        member.judge(known(400), LIMITS, at(250));
        member.bound_by(&[within(100), within(900), within(300)], known(100), LIMITS);
        assert_eq!(ins(&member), [true, false, true, false]);
        member.bound_by(&[], known(100), LIMITS);
        assert_eq!(ins(&member), [true]);
        let bytes = LagBound {
            bytes: Some(300),
            ..LagBound::default()
        };
        member.bound_by(&[bytes], known(400), LIMITS);
        assert_eq!(ins(&member), [true, false]);
    }
}
