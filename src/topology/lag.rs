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

    /// What it was at `moment`, where nothing was measured since: data grows old by itself.
    pub fn back_at(self, moment: Moment) -> Self {
        match self {
            Self::Known { time, bytes, at } => Self::Known {
                time: time.saturating_sub(at.since(moment)),
                bytes,
                at: moment,
            },
            Self::Unknown => Self::Unknown,
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

#[cfg(test)]
mod tests {
    use super::{Lag, Ring};
    use crate::clock::Moment;
    use crate::topology::node::Lsn;
    use crate::topology::view::Sample;

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
}
