//! Whether a replica serves reads: it leaves at once when it is too far behind, and comes back after a while of being well below the
//! limits, so that one at the edge does not come and go.

use std::time::Duration;

use crate::clock::Moment;
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

/// Whether one replica serves reads: it leaves at once, and comes back after a while of being well below the limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Membership {
    is_in: bool,
    was_in: bool,
    was_in_at_loss: bool,
    well_since: Option<Moment>,
    cut_off_at: Option<Moment>,
    readmitted: Option<Moment>,
}

impl Membership {
    /// Judges a measured lag. The first one of a replica needs no waiting.
    pub fn judge(&mut self, lag: Lag, limits: LagLimits, now: Moment) {
        if !lag.is_within(limits.time, limits.bytes) {
            self.is_in = false;
            self.well_since = None;
            return;
        }
        if self.is_in {
            return;
        }
        let half = if limits.bytes == 0 {
            0
        } else {
            (limits.bytes / 2).max(1)
        };
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

    /// The writer is lost, and with it the measure: who serves reads now goes on.
    ///
    /// A dying writer lets go of its replicas a moment before its own end is noticed: one that was cut off no longer than `grace` ago
    /// is not to blame.
    pub fn freeze(&mut self, now: Moment, grace: Duration) {
        let was_just_cut_off = self.cut_off_at.is_some_and(|at| now.since(at) <= grace);
        self.was_in_at_loss = self.is_in || was_just_cut_off;
    }

    /// Its WAL receiver is not connected: out, until it is again.
    pub fn is_cut_off(&mut self, now: Moment) {
        if self.is_in {
            self.cut_off_at = Some(now);
        }
        self.is_in = false;
        self.well_since = None;
    }

    /// The replica answers while there is no writer.
    pub fn answer_without_measure(&mut self) {
        self.is_in = self.was_in_at_loss;
    }

    /// There is a measure again: out until the next answer is measured, which needs no waiting.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Nothing is known any more: out.
    pub fn leave(&mut self) {
        self.is_in = false;
        self.well_since = None;
    }

    /// Since when it serves reads again; none where it always did.
    pub fn readmitted(&self) -> Option<Moment> {
        self.readmitted
    }

    /// Whether it serves reads.
    pub fn is_in(&self) -> bool {
        self.is_in
    }
}

#[cfg(test)]
mod tests {
    use super::{LagLimits, Membership};
    use crate::clock::Moment;
    use crate::topology::lag::Lag;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    #[test]
    fn a_replica_leaves_at_once_and_comes_back_after_a_while_of_being_well() {
        let limits = LagLimits {
            time: Duration::from_millis(1000),
            bytes: 0,
            readmit_after: Duration::from_millis(1000),
        };
        let known = |millis| Lag::Known {
            time: Duration::from_millis(millis),
            bytes: millis,
            at: at(0),
        };
        let mut member = Membership::default();
        member.judge(known(400), limits, at(0));
        assert!(member.is_in(), "the first answer needs no waiting");
        assert_eq!(member.readmitted(), None);
        member.judge(known(900), limits, at(250));
        assert!(member.is_in());
        member.judge(known(1001), limits, at(500));
        assert!(!member.is_in());
        member.judge(known(700), limits, at(750));
        member.judge(known(400), limits, at(1000));
        member.judge(known(400), limits, at(1750));
        assert!(!member.is_in(), "well for 750 ms only");
        member.judge(known(400), limits, at(2000));
        assert!(member.is_in());
        assert_eq!(member.readmitted(), Some(at(2000)));
    }
}
