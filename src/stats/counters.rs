//! The numbers of one pool, kept per worker and added up by who shows them.
//!
//! Each [`Tally`] has one writer, the worker it belongs to, so a count is a plain load and store; readers may see
//! a number a moment old, never a torn one. PgBouncer's counting rules: a *query* is everything from the first byte after an
//! idle point until nothing is owed, an *xact* ends with ReadyForQuery `I`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `amount`. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The number now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

const BUCKETS: usize = 128;

/// How long something took, in buckets that are a quarter of a power of two wide.
///
/// Bucket `4 * e + q` holds microseconds from `2^e * (1 + q/4)`; so a percentile is at most a quarter too high.
#[derive(Debug)]
pub struct Histogram([Count; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl Histogram {
    /// Counts one that took `micros`.
    #[inline]
    pub fn record(&self, micros: u64) {
        self.0[bucket(micros)].add(1);
    }

    /// Adds this histogram's buckets to `sum`.
    pub fn add_to(&self, sum: &mut [u64; BUCKETS]) {
        for (total, count) in sum.iter_mut().zip(&self.0) {
            *total += count.get();
        }
    }
}

fn bucket(micros: u64) -> usize {
    let value = micros.max(1);
    let exponent = value.ilog2();
    let quarter = if exponent >= 2 {
        (value >> (exponent - 2)) & 3
    } else {
        (value << (2 - exponent)) & 3
    };
    usize::try_from(u64::from(exponent) * 4 + quarter)
        .unwrap_or(BUCKETS - 1)
        .min(BUCKETS - 1)
}

/// The smallest time in microseconds that `share` (0 to 1) of what `sum` holds did not exceed; `None` of nothing.
pub fn percentile(sum: &[u64; BUCKETS], share: f64) -> Option<u64> {
    let total: u64 = sum.iter().sum();
    if total == 0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    for (index, count) in sum.iter().enumerate() {
        seen += count;
        if seen >= rank {
            let (exponent, quarter) = (index / 4, (index % 4) as u64);
            return Some(((4 + quarter + 1) << exponent) / 4);
        }
    }
    None
}

/// An empty sum to add histograms to.
pub const fn no_buckets() -> [u64; BUCKETS] {
    [0; BUCKETS]
}

/// What one worker counted for one pool. Times are in microseconds.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are the columns of SHOW STATS")]
pub struct Tally {
    pub server_assignments: Count,
    pub xacts: Count,
    pub pins: Count,
    pub queries: Count,
    pub received: Count,
    pub sent: Count,
    pub xact_micros: Count,
    pub query_micros: Count,
    pub wait_micros: Count,
    pub client_parses: Count,
    pub server_parses: Count,
    pub binds: Count,
    pub logins: Count,
    pub query_times: Histogram,
    pub wait_times: Histogram,
}

/// The sum of some tallies, in the order of `SHOW STATS`: assignments, xacts, queries, received, sent, xact time, query
/// time, wait time, client parses, server parses, binds, logins.
pub type Totals = [u64; 12];

impl Tally {
    /// Adds these counts to `totals`.
    pub fn add_to(&self, totals: &mut Totals) {
        let counts = [
            &self.server_assignments,
            &self.xacts,
            &self.queries,
            &self.received,
            &self.sent,
            &self.xact_micros,
            &self.query_micros,
            &self.wait_micros,
            &self.client_parses,
            &self.server_parses,
            &self.binds,
            &self.logins,
        ];
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count.get();
        }
    }
}

/// A duration in whole microseconds, as counters keep it.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Histogram, no_buckets, percentile};

    #[test]
    fn a_percentile_is_at_most_a_quarter_too_high() {
        for micros in [1_u64, 2, 3, 7, 90, 1_000, 123_456, 99_999_999] {
            let (histogram, mut sum) = (Histogram::default(), no_buckets());
            histogram.record(micros);
            histogram.add_to(&mut sum);
            let shown = percentile(&sum, 0.5).unwrap();
            assert!(
                shown >= micros && shown <= micros + micros / 4 + 1,
                "{micros} shown as {shown}"
            );
        }
    }

    #[test]
    fn half_of_the_quick_and_the_slow_is_quick() {
        let (histogram, mut sum) = (Histogram::default(), no_buckets());
        (0..99).for_each(|_| histogram.record(100));
        histogram.record(1_000_000);
        histogram.add_to(&mut sum);
        assert!(percentile(&sum, 0.5).unwrap() < 130);
        assert!(percentile(&sum, 0.999).unwrap() > 900_000);
        assert_eq!(percentile(&no_buckets(), 0.5), None);
    }
}
