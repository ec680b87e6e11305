//! How far a replica is behind: measured, not read off a timestamp.
//!
//! The replay timestamp of a replica grows while the primary is idle and stands still while WAL does not arrive. So the writer's
//! insert position is sampled with every probe. A replica that has replayed the newest sample is not behind; otherwise the data it
//! shows is as old as the newest sample that it has replayed. No clock of another machine, no privilege, no heartbeat table.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::topology::node::Lsn;
use crate::topology::view::Sample;

/// How many samples are kept: over a minute of a busy primary at the fastest probing, ten at the ordinary.
const KEPT: usize = 2400;

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// Measured.
    Known {
        /// How old the data is that it shows; wrong by at most one interval between probes.
        time: Duration,
        /// WAL that it has yet to replay.
        bytes: u64,
        /// When it was measured.
        at: Moment,
    },
    /// Not known: nobody may rely on it.
    Unknown,
}

impl Lag {
    /// Whether it is within `time` and `bytes`; 0 bytes is no bound in bytes.
    pub fn is_within(&self, time: Duration, bytes: u64) -> bool {
        match self {
            Self::Known {
                time: behind,
                bytes: missing,
                ..
            } => *behind <= time && (bytes == 0 || *missing <= bytes),
            Self::Unknown => false,
        }
    }
}

/// The writer's positions, sampled in one reign.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    samples: VecDeque<Sample>,
    floor: Option<Lsn>,
}

impl Ring {
    /// Takes in a sample. Of samples that say the same position the latest counts. A position before the last one means that the
    /// writer crashed and lost what it had not flushed: earlier samples are void.
    pub fn add(&mut self, sample: Sample) {
        if self.newest().is_some_and(|last| sample.lsn < last.lsn) {
            self.clear();
        }
        if self.floor.is_none() {
            self.floor = Some(sample.lsn);
        }
        match self.samples.back_mut() {
            Some(last) if sample.sent < last.sent => return,
            Some(last) if sample.lsn == last.lsn => {
                *last = sample;
                return;
            }
            Some(_) | None => {}
        }
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Begins a new reign: positions of another timeline say nothing.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.floor = None;
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    /// The first position seen in this reign.
    pub fn floor(&self) -> Option<Lsn> {
        self.floor
    }

    /// How far behind is who has replayed up to `replayed`.
    pub fn lag(&self, replayed: Lsn, now: Moment) -> Lag {
        let Some(newest) = self.newest() else {
            return Lag::Unknown;
        };
        let bytes = newest.lsn.ahead_of(replayed);
        if bytes == 0 {
            let time = Duration::ZERO;
            return Lag::Known {
                time,
                bytes,
                at: now,
            };
        }
        let after = self
            .samples
            .partition_point(|sample| sample.lsn <= replayed);
        // Behind everything that was sampled: older than the oldest sample, by nobody knows how much.
        let Some(reached) = after
            .checked_sub(1)
            .and_then(|index| self.samples.get(index))
        else {
            return Lag::Unknown;
        };
        Lag::Known {
            time: now.since(reached.sent),
            bytes,
            at: now,
        }
    }
}

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
    use super::{Lag, LagLimits, Membership, Ring};
    use crate::clock::Moment;
    use crate::topology::node::Lsn;
    use crate::topology::view::Sample;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn ring(samples: &[(u64, u64)]) -> Ring {
        let mut ring = Ring::default();
        for (millis, lsn) in samples {
            ring.add(Sample {
                sent: at(*millis),
                lsn: Lsn(*lsn),
            });
        }
        ring
    }

    fn time(lag: Lag) -> Option<u128> {
        match lag {
            Lag::Known { time, .. } => Some(time.as_millis()),
            Lag::Unknown => None,
        }
    }

    #[test]
    fn a_replica_of_an_idle_primary_is_never_behind() {
        let ring = ring(&[(0, 100), (250, 100), (500, 100)]);
        assert_eq!(time(ring.lag(Lsn(100), at(60_000))), Some(0));
    }

    #[test]
    fn lag_is_the_age_of_the_newest_sample_that_was_replayed() {
        let ring = ring(&[(0, 100), (250, 100), (500, 200), (750, 300)]);
        assert_eq!(time(ring.lag(Lsn(250), at(1000))), Some(500));
        assert_eq!(time(ring.lag(Lsn(100), at(1000))), Some(750));
    }

    #[test]
    fn behind_every_sample_is_unknown_and_so_is_no_sample() {
        assert_eq!(ring(&[(0, 100)]).lag(Lsn(99), at(1)), Lag::Unknown);
        assert_eq!(ring(&[]).lag(Lsn(99), at(1)), Lag::Unknown);
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
