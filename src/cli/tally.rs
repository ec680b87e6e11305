//! What the demo's clients lived through, counted.
//!
//! Latencies go into buckets of fixed bounds, eight to an octave, so a percentile is wrong by an eighth at most and a
//! thousand clients cost no memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::locked::Locked;

/// Bits of a value that tell buckets of one octave apart.
const FINE: u32 = 3;
/// Buckets of one octave.
const PER_OCTAVE: usize = 1 << FINE;
/// Up to 2^36 µs, which is nineteen hours.
const BUCKETS: usize = PER_OCTAVE * 34;

/// Durations, counted by size.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, span: Duration) {
        self.buckets[bucket(span)] += 1;
        self.count += 1;
    }

    /// Counts everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A duration that at least `percent` of all do not exceed; zero when nothing was counted.
    pub fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper(index);
            }
        }
        Duration::ZERO
    }
}

fn bucket(span: Duration) -> usize {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.checked_ilog2().filter(|octave| *octave >= FINE) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let steps = usize::try_from(micros >> (octave - FINE)).unwrap_or(PER_OCTAVE);
    let octaves = usize::try_from(octave - FINE).unwrap_or(0);
    (octaves * PER_OCTAVE + steps).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn upper(index: usize) -> Duration {
    if index < PER_OCTAVE {
        return Duration::from_micros(index as u64);
    }
    let octaves = index / PER_OCTAVE - 1;
    let steps = (index % PER_OCTAVE + PER_OCTAVE + 1) as u64;
    Duration::from_micros((steps << octaves) - 1)
}

/// Counters that all clients share.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// The counters' values at one moment.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Clients that are logged in.
    pub connected: usize,
    /// Transactions since the last look.
    pub window: Histogram,
    /// Transactions up to the last look.
    pub total: Histogram,
    /// What went wrong, and how often.
    pub errors: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// What went wrong, by SQLSTATE; `""` where there was none.
    pub codes: BTreeMap<String, u64>,
    /// Writes that were acknowledged.
    pub written: u64,
    /// Writes of which nobody told whether they were done.
    pub unknown: u64,
}

impl Tally {
    /// Changes the counters.
    pub fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.locked());
    }

    /// The counters now; the window goes on.
    pub fn glance(&self) -> Counts {
        self.0.locked().clone()
    }

    /// The counters now; what they hold as window becomes part of the total.
    pub fn look(&self) -> Counts {
        let mut counts = self.0.locked();
        let window = std::mem::take(&mut counts.window);
        counts.total.merge(&window);
        Counts {
            window,
            ..counts.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, Tally, bucket, upper};

    #[test]
    fn a_bucket_holds_what_its_bound_says() {
        for micros in (0..5_000).chain([1 << 20, (1 << 30) + 12_345]) {
            let span = Duration::from_micros(micros);
            let bound = upper(bucket(span));
            assert!(
                bound >= span && bound <= span + span / 8,
                "{span:?} in {bound:?}"
            );
        }
        assert!(upper(bucket(Duration::MAX)) > Duration::from_secs(3600));
    }

    #[test]
    fn percentiles_are_of_what_was_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(99), Duration::ZERO);
        (0..98).for_each(|_| histogram.add(Duration::from_micros(5)));
        (0..2).for_each(|_| histogram.add(Duration::from_millis(50)));
        assert_eq!(histogram.percentile(50), Duration::from_micros(5));
        assert!(histogram.percentile(99) >= Duration::from_millis(50));
    }

    #[test]
    fn a_look_empties_the_window_and_keeps_the_total() {
        let tally = Tally::default();
        tally.note(|counts| counts.window.add(Duration::from_millis(1)));
        assert_eq!(tally.look().window.count(), 1);
        let second = tally.look();
        assert_eq!((second.window.count(), second.total.count()), (0, 1));
    }
}
