//! What an event did to clients, judged from what each of them wrote down. Pure.
//!
//! | word | meaning |
//! |---|---|
//! | lost | an acknowledged write that the winner does not have |
//! | doubled | a row that is there twice |
//! | part | a transaction of which one half is there |
//! | split | a write acknowledged on an older timeline than one that was known when it was sent |
//! | unknown | told as failed, and there; only 08007, 08006 and 57P01 leave that open |
//! | hung | something asked for that never ended |
//! | stale | a read that missed the same client's own write before it, or what it had read before and was acknowledged to somebody |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Errors that say that nobody knows.
const OPEN: [&str; 3] = ["08007", "08006", "57P01"];
/// Writes past the pooler further apart than this are an outage of the cluster's own.
const OUTAGE: Duration = Duration::from_millis(100);

/// What was asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A row `id` was written: one, or two halves in a transaction of several requests.
    Row { id: u64, is_halved: bool },
    /// The counter `key` was set, to a value higher than before.
    Count { key: u64, value: u64 },
    /// The counter `key` was read.
    Read { key: u64, value: u64 },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Done, on a timeline (0 where that is not known), with the highest that was known when it was sent.
    Done { timeline: u32, known: u32 },
    /// Refused with this SQLSTATE.
    Failed(String),
    /// Never.
    Hung,
}

/// One thing that a client did; times since the beginning.
#[derive(Debug, Clone)]
pub struct Deed {
    pub began: Duration,
    pub ended: Duration,
    pub what: What,
    pub end: End,
}

/// What the winner has.
#[derive(Debug, Default)]
pub struct Found {
    /// How often each row is there, by its id and half (0 where it has none).
    pub rows: BTreeMap<(u64, u8), usize>,
    /// The counters.
    pub counters: BTreeMap<u64, u64>,
}

/// A row of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub writes: usize,
    pub reads: usize,
    /// The longest time between two writes of a client.
    pub gap: Duration,
    /// The part of such a time in which the cluster took writes.
    pub added: Duration,
    /// The longest of these parts before the cluster took none, and the longest after it took some again.
    pub before: Duration,
    pub after: Duration,
    /// The longest time between two reads of a client that only reads.
    pub read_gap: Duration,
    /// How long what was missing in a read had been acknowledged to others; time in which the cluster took no writes does not count.
    pub oldest_read: Duration,
    /// By SQLSTATE: of writes, and of reads.
    pub errors: BTreeMap<String, usize>,
    pub read_errors: BTreeMap<String, usize>,
    /// The most errors of one client.
    pub most: usize,
    pub lost: usize,
    pub doubled: usize,
    pub part: usize,
    pub split: usize,
    pub unknown: usize,
    /// As unknown, after an error that leaves nothing open.
    pub undone: usize,
    pub hung: usize,
    pub stale: usize,
}

/// Judges what clients did, `journals`, by what the winner has; `direct` is when writes past the pooler were done.
pub fn judge(journals: &[Vec<Deed>], direct: &[Duration], found: &Found) -> Verdict {
    let mut verdict = Verdict::default();
    let sets = acknowledged_counts(journals);
    for journal in journals {
        verdict.judge_ends(journal, found);
        verdict.judge_gaps(journal, direct);
        verdict.judge_reads(journal, &sets, direct);
    }
    let twice = found.rows.values().filter(|count| **count > 1);
    verdict.doubled = twice.count();
    verdict
}

/// Of each counter the values in order, and when each was acknowledged.
fn acknowledged_counts(journals: &[Vec<Deed>]) -> BTreeMap<u64, Vec<(u64, Duration)>> {
    let mut sets: BTreeMap<u64, Vec<(u64, Duration)>> = BTreeMap::new();
    for deed in journals.iter().flatten() {
        if let (What::Count { key, value }, End::Done { .. }) = (&deed.what, &deed.end) {
            sets.entry(*key).or_default().push((*value, deed.ended));
        }
    }
    for counts in sets.values_mut() {
        counts.sort_unstable();
    }
    sets
}

impl Verdict {
    fn judge_ends(&mut self, journal: &[Deed], found: &Found) {
        let mut errors = 0;
        for deed in journal {
            let is_read = matches!(deed.what, What::Read { .. });
            match &deed.end {
                End::Done { timeline, known } => {
                    *(if is_read {
                        &mut self.reads
                    } else {
                        &mut self.writes
                    }) += 1;
                    self.split += usize::from(!is_read && timeline < known);
                    self.lost += usize::from(!deed.what.is_whole(found));
                }
                End::Failed(code) => {
                    let all = if is_read {
                        &mut self.read_errors
                    } else {
                        &mut self.errors
                    };
                    *all.entry(code.clone()).or_default() += 1;
                    errors += 1;
                    if deed.what.is_there(found) {
                        self.unknown += 1;
                        self.undone += usize::from(!OPEN.contains(&code.as_str()));
                    }
                }
                End::Hung => self.hung += 1,
            }
            self.part += usize::from(deed.what.is_there(found) && !deed.what.is_whole(found));
        }
        self.most = self.most.max(errors);
    }

    /// Looks at the longest time without a success.
    fn judge_gaps(&mut self, journal: &[Deed], direct: &[Duration]) {
        let is_reader = journal
            .iter()
            .all(|deed| matches!(deed.what, What::Read { .. }));
        let done = journal.iter().filter(|deed| {
            let is_read = matches!(deed.what, What::Read { .. });
            matches!(deed.end, End::Done { .. }) && is_read == is_reader
        });
        let ends: Vec<Duration> = done.map(|deed| deed.ended).collect();
        let longest = ends.windows(2).max_by_key(|gap| gap[1] - gap[0]);
        let Some(&[from, to]) = longest else {
            return;
        };
        if is_reader {
            self.read_gap = self.read_gap.max(to - from);
            return;
        }
        let own = outage(direct, from, to);
        self.gap = self.gap.max(to - from);
        self.added = self.added.max((to - from).saturating_sub(own));
        if let Some([last, first]) = longest_outage(direct, from, to) {
            self.before = self.before.max(last.saturating_sub(from));
            self.after = self.after.max(to.saturating_sub(first));
        }
    }

    fn judge_reads(
        &mut self,
        journal: &[Deed],
        sets: &BTreeMap<u64, Vec<(u64, Duration)>>,
        direct: &[Duration],
    ) {
        // What the client knows of each counter.
        let mut known: BTreeMap<u64, u64> = BTreeMap::new();
        for deed in journal {
            let End::Done { .. } = deed.end else { continue };
            match deed.what {
                What::Row { .. } => {}
                What::Count { key, value } => drop(known.insert(key, value)),
                What::Read { key, value } => {
                    let all = sets.get(&key).map_or(&[][..], Vec::as_slice);
                    let least = known.entry(key).or_default();
                    self.stale += usize::from(value < *least);
                    // What was never acknowledged may be seen on a replica that was ahead of the winner, and be gone.
                    let above = all.partition_point(|(known, _)| *known <= value);
                    let seen = above.checked_sub(1).map_or(0, |index| all[index].0);
                    *least = seen.max(*least);
                    let missing = all[above..].iter().map(|(_, at)| *at).min();
                    let age = missing
                        .filter(|at| *at < deed.began)
                        .map_or(Duration::ZERO, |at| {
                            (deed.began - at).saturating_sub(outage(direct, at, deed.began))
                        });
                    self.oldest_read = self.oldest_read.max(age);
                }
            }
        }
    }

    /// Whether everything holds that must hold always.
    pub fn is_sound(&self) -> bool {
        let sins = [
            self.lost,
            self.doubled,
            self.part,
            self.split,
            self.undone,
            self.hung,
            self.stale,
        ];
        sins == [0; 7]
    }

    /// All errors.
    pub fn errors(&self) -> usize {
        self.errors.values().chain(self.read_errors.values()).sum()
    }

    /// Of two rounds the worse, number for number; how much was done is what was done in the shorter one.
    pub fn worse(self, other: &Self) -> Self {
        let most = |one: BTreeMap<String, usize>, other: &BTreeMap<String, usize>| {
            let codes: BTreeSet<String> = one.keys().chain(other.keys()).cloned().collect();
            let worst = |code: String| {
                let count = one.get(&code).max(other.get(&code)).copied();
                (code, count.unwrap_or(0))
            };
            codes.into_iter().map(worst).collect()
        };
        Self {
            writes: self.writes.min(other.writes),
            reads: self.reads.min(other.reads),
            gap: self.gap.max(other.gap),
            added: self.added.max(other.added),
            before: self.before.max(other.before),
            after: self.after.max(other.after),
            read_gap: self.read_gap.max(other.read_gap),
            oldest_read: self.oldest_read.max(other.oldest_read),
            errors: most(self.errors, &other.errors),
            read_errors: most(self.read_errors, &other.read_errors),
            most: self.most.max(other.most),
            lost: self.lost.max(other.lost),
            doubled: self.doubled.max(other.doubled),
            part: self.part.max(other.part),
            split: self.split.max(other.split),
            unknown: self.unknown.max(other.unknown),
            undone: self.undone.max(other.undone),
            hung: self.hung.max(other.hung),
            stale: self.stale.max(other.stale),
        }
    }
}

/// The longest time without a write past the pooler that touches the time from `from` to `to`: its last write, and the next.
fn longest_outage(direct: &[Duration], from: Duration, to: Duration) -> Option<[Duration; 2]> {
    let outages = direct.windows(2).filter(|gap| gap[1] - gap[0] > OUTAGE);
    let outages = outages.filter(|gap| gap[0] < to && gap[1] > from);
    let longest = outages.max_by_key(|gap| gap[1] - gap[0])?;
    Some([longest[0], longest[1]])
}

/// For how long of the time from `from` to `to` the cluster itself took no writes, by those past the pooler.
fn outage(direct: &[Duration], from: Duration, to: Duration) -> Duration {
    let outages = direct.windows(2).filter(|gap| gap[1] - gap[0] > OUTAGE);
    outages
        .map(|gap| gap[1].min(to).saturating_sub(gap[0].max(from)))
        .sum()
}

impl What {
    fn halves(&self) -> &'static [u8] {
        match self {
            Self::Row {
                is_halved: true, ..
            } => &[1, 2],
            Self::Row { .. } => &[0],
            Self::Count { .. } | Self::Read { .. } => &[],
        }
    }

    fn has(&self, half: u8, found: &Found) -> bool {
        let Self::Row { id, .. } = self else {
            return false;
        };
        found.rows.contains_key(&(*id, half))
    }

    /// Whether all of it is there.
    fn is_whole(&self, found: &Found) -> bool {
        match self {
            Self::Count { key, value } => found.counters.get(key).is_some_and(|it| it >= value),
            Self::Row { .. } | Self::Read { .. } => {
                self.halves().iter().all(|half| self.has(*half, found))
            }
        }
    }

    /// Whether anything of it is there. Of a counter nobody can tell.
    fn is_there(&self, found: &Found) -> bool {
        self.halves().iter().any(|half| self.has(*half, found))
    }
}

/// The head of the table.
pub const HEAD: &str = "| what happens | writes, reads | write gap | added (before + after) | read gap | oldest read | errors of writes | of reads | lost | doubled | part | split | unknown | hung | stale |\n\
    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = |all: &BTreeMap<String, usize>| {
            let named = all.iter().map(|(code, count)| format!("{count} × {code}"));
            let named: Vec<String> = named.collect();
            if named.is_empty() {
                "none".to_owned()
            } else {
                named.join(", ")
            }
        };
        write!(
            out,
            "{}, {} | {} ms | {} ms ({} + {}) | {} ms | {} ms | {} | {} | {} | {} | {} | {} | {} | {} | {}",
            self.writes,
            self.reads,
            self.gap.as_millis(),
            self.added.as_millis(),
            self.before.as_millis(),
            self.after.as_millis(),
            self.read_gap.as_millis(),
            self.oldest_read.as_millis(),
            codes(&self.errors),
            codes(&self.read_errors),
            self.lost,
            self.doubled,
            self.part,
            self.split,
            self.unknown,
            self.hung,
            self.stale
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn deed(began: u64, ended: u64, what: What, end: End) -> Deed {
        Deed {
            began: ms(began),
            ended: ms(ended),
            what,
            end,
        }
    }

    fn row(id: u64) -> What {
        What::Row {
            id,
            is_halved: false,
        }
    }

    fn halves(id: u64) -> What {
        What::Row {
            id,
            is_halved: true,
        }
    }

    const fn on(timeline: u32, known: u32) -> End {
        End::Done { timeline, known }
    }

    fn failed(code: &str) -> End {
        End::Failed(code.to_owned())
    }

    fn found(rows: &[(u64, u8, usize)]) -> Found {
        Found {
            rows: rows
                .iter()
                .map(|(id, half, count)| ((*id, *half), *count))
                .collect(),
            counters: BTreeMap::from([(1, 5)]),
        }
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost_and_what_is_there_twice_is_doubled() {
        let journal = vec![
            deed(0, 1, row(1), on(1, 1)),
            deed(1, 2, row(2), on(1, 1)),
            deed(2, 3, halves(3), on(1, 1)),
            deed(3, 4, halves(4), on(1, 1)),
        ];
        let found = found(&[(1, 0, 2), (3, 1, 1), (3, 2, 1), (4, 2, 1)]);
        let verdict = judge(&[journal], &[], &found);
        assert_eq!((verdict.lost, verdict.doubled, verdict.part), (2, 1, 1));
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_counter_must_not_be_behind_its_last_acknowledged_value() {
        let set = |value| {
            let what = What::Count { key: 1, value };
            judge(&[vec![deed(0, 1, what, on(1, 1))]], &[], &found(&[])).lost
        };
        assert_eq!((set(5), set(6)), (0, 1));
    }

    #[test]
    fn what_was_called_failed_may_be_there_only_where_nobody_could_know() {
        let journal = vec![
            deed(0, 1, row(1), failed("08007")),
            deed(1, 2, row(2), failed("40001")),
            deed(2, 3, row(3), failed("40001")),
        ];
        let verdict = judge(&[journal], &[], &found(&[(1, 0, 1), (2, 0, 1)]));
        assert_eq!((verdict.unknown, verdict.undone, verdict.most), (2, 1, 3));
        assert_eq!(
            verdict.errors,
            BTreeMap::from([("08007".into(), 1), ("40001".into(), 2)])
        );
    }

    #[test]
    fn a_write_on_an_older_timeline_than_was_known_is_split() {
        let journal = vec![deed(0, 1, row(1), on(1, 2)), deed(1, 2, row(1), on(2, 2))];
        assert_eq!(judge(&[journal], &[], &found(&[(1, 0, 1)])).split, 1);
    }

    #[test]
    fn of_the_longest_gap_only_what_the_cluster_did_not_need_itself_was_added() {
        let journal = vec![
            deed(0, 10, row(1), on(1, 1)),
            deed(10, 20, row(1), on(1, 1)),
            deed(20, 900, row(1), on(1, 1)),
        ];
        // The cluster itself took no writes from 100 to 700, a hiccup does not count.
        let direct = [ms(0), ms(90), ms(100), ms(700), ms(750), ms(1000)];
        let verdict = judge(&[journal], &direct, &found(&[(1, 0, 1)]));
        assert_eq!((verdict.gap, verdict.added), (ms(880), ms(130)));
        assert_eq!((verdict.before, verdict.after), (ms(80), ms(200)));
    }

    #[test]
    fn a_read_is_as_old_as_the_first_acknowledged_write_that_it_misses() {
        let count = |value| What::Count { key: 1, value };
        let read = |value| What::Read { key: 1, value };
        let writer = vec![
            deed(0, 10, count(1), on(1, 1)),
            deed(10, 20, count(2), on(1, 1)),
            deed(20, 30, count(3), on(1, 1)),
        ];
        let reads = |value| {
            let reader = vec![deed(100, 101, read(value), on(0, 0))];
            judge(&[writer.clone(), reader], &[], &found(&[])).oldest_read
        };
        assert_eq!((reads(3), reads(2), reads(0)), (ms(0), ms(70), ms(90)));
        let reader = vec![deed(1_000, 1_001, read(2), on(0, 0))];
        let verdict = judge(&[writer, reader], &[ms(40), ms(900)], &found(&[]));
        assert_eq!(
            verdict.oldest_read,
            ms(110),
            "while nobody could write nothing aged"
        );
    }

    #[test]
    fn who_misses_its_own_write_or_goes_back_reads_what_is_stale() {
        let read = |value| deed(0, 0, What::Read { key: 1, value }, on(0, 0));
        let set = deed(0, 0, What::Count { key: 1, value: 4 }, on(1, 1));
        let set_to = |value| deed(0, 0, What::Count { key: 1, value }, on(1, 1));
        let unknown = deed(0, 0, What::Count { key: 1, value: 9 }, failed("08007"));
        let stale = |journal: &[Deed]| judge(&[journal.to_vec()], &[], &found(&[])).stale;
        assert_eq!(stale(&[set.clone(), read(4), unknown.clone(), read(4)]), 0);
        assert_eq!(stale(&[set, read(3), read(4)]), 1);
        assert_eq!(
            stale(&[read(7), read(6), read(7)]),
            0,
            "7 may never have been"
        );
        let writer = vec![set_to(6), set_to(7)];
        let reader = vec![read(7), read(6), read(7)];
        assert_eq!(judge(&[writer, reader], &[], &found(&[])).stale, 1);
    }

    #[test]
    fn of_several_rounds_the_worst_is_shown() {
        let one = Verdict {
            added: ms(7),
            errors: BTreeMap::from([("08007".into(), 2)]),
            ..Verdict::default()
        };
        let other = Verdict {
            lost: 1,
            errors: BTreeMap::from([("08007".into(), 1), ("40001".into(), 1)]),
            ..Verdict::default()
        };
        let worse = one.worse(&other);
        assert_eq!((worse.added, worse.lost, worse.errors()), (ms(7), 1, 3));
    }
}
