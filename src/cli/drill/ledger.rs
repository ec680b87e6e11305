//! What a writer was told of each of its writes, and the verdict when it is known what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;

/// What became of a write, as its writer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was done.
    Done,
    /// Nobody knows, with this code; `""` where the connection was lost.
    Unknown(String),
    /// It was not done, with this code.
    Failed(String),
}

/// The writes of one writer.
#[derive(Debug, Default)]
pub struct Ledger {
    fates: BTreeMap<u64, Fate>,
    /// When it began, and when each write was acknowledged.
    moments: Vec<Moment>,
}

impl Ledger {
    /// Nothing was written yet.
    pub fn beginning(now: Moment) -> Self {
        Self {
            fates: BTreeMap::new(),
            moments: vec![now],
        }
    }

    /// Notes what became of the write `id`.
    pub fn note(&mut self, id: u64, fate: Fate, now: Moment) {
        if fate == Fate::Done {
            self.moments.push(now);
        }
        self.fates.insert(id, fate);
    }

    /// Times between acknowledged writes, one after the other.
    fn gaps(&self) -> impl Iterator<Item = Duration> {
        self.moments.windows(2).map(|pair| pair[1].since(pair[0]))
    }
}

/// What is true of the writes of all writers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Those that were acknowledged.
    pub acknowledged: usize,
    /// Those of which nobody knows, though some may be there.
    pub unknown: usize,
    /// Those that were said not to be done.
    pub failed: usize,
    /// Acknowledged, and not there.
    pub lost: usize,
    /// There more than once.
    pub doubled: usize,
    /// Said not to be done, and there.
    pub untrue: usize,
    /// Errors by SQLSTATE; `""` is a lost connection.
    pub codes: BTreeMap<String, usize>,
    /// The longest time between two acknowledged writes of a writer.
    pub longest: Duration,
    /// The usual time: the median.
    pub usual: Duration,
}

/// Compares what writers were told with how often each write is `there`.
pub fn judge(ledgers: &[Ledger], there: &BTreeMap<u64, u64>) -> Verdict {
    let mut verdict = Verdict::default();
    let count = |id: &u64| there.get(id).copied().unwrap_or(0);
    for (id, fate) in ledgers.iter().flat_map(|ledger| &ledger.fates) {
        let times = count(id);
        verdict.doubled += usize::from(times > 1);
        match fate {
            Fate::Done => {
                verdict.acknowledged += 1;
                verdict.lost += usize::from(times == 0);
            }
            Fate::Unknown(code) => {
                verdict.unknown += 1;
                *verdict.codes.entry(code.clone()).or_default() += 1;
            }
            Fate::Failed(code) => {
                verdict.failed += 1;
                verdict.untrue += usize::from(times > 0);
                *verdict.codes.entry(code.clone()).or_default() += 1;
            }
        }
    }
    let mut gaps: Vec<Duration> = ledgers.iter().flat_map(Ledger::gaps).collect();
    gaps.sort_unstable();
    verdict.longest = gaps.last().copied().unwrap_or_default();
    verdict.usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    verdict
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Fate, Ledger, judge};
    use crate::clock::Moment;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    #[test]
    fn what_was_told_is_held_against_what_is_there() {
        let mut ledger = Ledger::beginning(at(0));
        let code = |code: &str| code.to_owned();
        ledger.note(1, Fate::Done, at(10));
        ledger.note(2, Fate::Unknown(code("08007")), at(15));
        ledger.note(3, Fate::Failed(code("40001")), at(16));
        ledger.note(4, Fate::Done, at(210));
        ledger.note(5, Fate::Done, at(220));
        let whole = BTreeMap::from([(1, 1), (2, 1), (4, 1), (5, 1)]);
        let verdict = judge(&[ledger], &whole);
        assert_eq!(
            (verdict.acknowledged, verdict.unknown, verdict.failed),
            (3, 1, 1)
        );
        assert_eq!((verdict.lost, verdict.doubled, verdict.untrue), (0, 0, 0));
        assert_eq!(verdict.longest, Duration::from_millis(200));
        assert_eq!(verdict.usual, Duration::from_millis(10));
        assert_eq!(verdict.codes["08007"], 1);
    }

    #[test]
    fn what_is_lost_doubled_or_untrue_is_found() {
        let mut ledger = Ledger::beginning(at(0));
        ledger.note(1, Fate::Done, at(1));
        ledger.note(2, Fate::Done, at(2));
        ledger.note(3, Fate::Failed(String::new()), at(3));
        let verdict = judge(&[ledger], &BTreeMap::from([(2, 2), (3, 1)]));
        assert_eq!((verdict.lost, verdict.doubled, verdict.untrue), (1, 1, 1));
    }
}
