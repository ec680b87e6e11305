//! What was counted, as it is shown: totals per database, and averages over the last `stats_period`.
//!
//! The averages are those between the last two turns of the page, so all who look within one period see the same; before
//! the first turn they are zero. Counts and bytes are per second; the time of a transaction, of a query and of waiting
//! is per transaction, per query and per server assigned.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;
use crate::locked::Locked;
use crate::stats::counters::{Totals, micros};

/// The name under which the console's commands and logins are counted.
pub const CONSOLE: &str = "pgbouncer";

/// Places in [`Totals`], as `SHOW STATS` orders them.
pub mod at {
    #![expect(missing_docs, reason = "the names are the columns of SHOW STATS")]
    pub const SERVER_ASSIGNMENTS: usize = 0;
    pub const XACTS: usize = 1;
    pub const QUERIES: usize = 2;
    pub const RECEIVED: usize = 3;
    pub const SENT: usize = 4;
    pub const XACT_TIME: usize = 5;
    pub const QUERY_TIME: usize = 6;
    pub const WAIT_TIME: usize = 7;
    pub const CLIENT_PARSES: usize = 8;
    pub const SERVER_PARSES: usize = 9;
    pub const BINDS: usize = 10;
    pub const LOGINS: usize = 11;
}

/// Totals by database.
pub type PerDatabase = BTreeMap<String, Totals>;

/// One database's numbers, or everybody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Since the start.
    pub totals: Totals,
    /// Over the last `stats_period`.
    pub averages: Totals,
}

/// All numbers, gathered once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By database, the console's among them.
    pub databases: BTreeMap<String, Numbers>,
    /// All of them together.
    pub all: Numbers,
}

/// What must be remembered between two looks: the console's own counts, and what the counters showed at the last two
/// turns of the page.
#[derive(Debug, Default)]
pub struct Ledger {
    commands: AtomicU64,
    logins: AtomicU64,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    older: Page,
    newer: Page,
}

#[derive(Debug, Default)]
struct Page {
    at: Moment,
    totals: PerDatabase,
}

impl Ledger {
    /// Counts a login to the console.
    pub fn count_login(&self) {
        self.logins.fetch_add(1, Relaxed);
    }

    /// Counts a command of the console.
    pub fn count_command(&self) {
        self.commands.fetch_add(1, Relaxed);
    }

    /// The console's counts: each command is a query and a transaction; its time and bytes are not measured.
    pub fn console(&self) -> Totals {
        let commands = self.commands.load(Relaxed);
        let mut totals = Totals::default();
        totals[at::XACTS] = commands;
        totals[at::QUERIES] = commands;
        totals[at::LOGINS] = self.logins.load(Relaxed);
        totals
    }

    /// Notes what the counters show at the end of a `stats_period`.
    pub fn turn_page(&self, now: Moment, totals: PerDatabase) {
        let mut pages = self.pages.locked();
        let last = std::mem::replace(&mut pages.newer, Page { at: now, totals });
        pages.older = last;
    }

    /// The report, when the counters show `totals` now.
    pub fn report(&self, totals: PerDatabase) -> Report {
        let pages = self.pages.locked();
        let span = pages.newer.at.since(pages.older.at);
        let averages_of = |name: &str| {
            let of = |page: &Page| page.totals.get(name).copied().unwrap_or_default();
            averages(&of(&pages.older), &of(&pages.newer), span)
        };
        let all = Numbers {
            totals: sum(&totals),
            averages: averages(&sum(&pages.older.totals), &sum(&pages.newer.totals), span),
        };
        let numbers = |(name, totals): (String, Totals)| {
            let averages = averages_of(&name);
            (name, Numbers { totals, averages })
        };
        let databases = totals.into_iter().map(numbers).collect();
        Report { databases, all }
    }
}

fn sum(totals: &PerDatabase) -> Totals {
    let mut all = Totals::default();
    for one in totals.values() {
        for (sum, count) in all.iter_mut().zip(one) {
            *sum += count;
        }
    }
    all
}

/// What happened between two looks at the counters, per second or per event; zero where nothing happened.
///
/// A counter that went backwards belongs to a pool that was forgotten and made anew: it counts as no change.
pub fn averages(older: &Totals, newer: &Totals, span: Duration) -> Totals {
    let change: Totals = std::array::from_fn(|place| newer[place].saturating_sub(older[place]));
    let per = |place: usize, events: u64| change[place].checked_div(events).unwrap_or(0);
    let span = u128::from(micros(span));
    std::array::from_fn(|place| match place {
        at::XACT_TIME => per(place, change[at::XACTS]),
        at::QUERY_TIME => per(place, change[at::QUERIES]),
        at::WAIT_TIME => per(place, change[at::SERVER_ASSIGNMENTS]),
        _ => {
            let per_second = (u128::from(change[place]) * 1_000_000).checked_div(span);
            u64::try_from(per_second.unwrap_or(0)).unwrap_or(u64::MAX)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CONSOLE, Ledger, PerDatabase, averages};
    use crate::clock::Moment;

    const NOTHING: [u64; 12] = [0; 12];

    #[test]
    fn counts_are_per_second_and_times_per_event() {
        let older = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let newer = [21, 42, 83, 2_004, 5, 4_006, 16_007, 2_008, 29, 10, 31, 12];
        let shown = averages(&older, &newer, Duration::from_secs(10));
        assert_eq!(shown, [2, 4, 8, 200, 0, 100, 200, 100, 2, 0, 2, 0]);
    }

    #[test]
    fn nothing_in_no_time_is_nothing() {
        assert_eq!(averages(&NOTHING, &[9; 12], Duration::ZERO)[0], 0);
        assert_eq!(
            averages(&[9; 12], &NOTHING, Duration::from_secs(1)),
            NOTHING
        );
    }

    #[test]
    fn averages_are_those_of_the_last_whole_period() {
        let ledger = Ledger::default();
        let counts = |queries| {
            PerDatabase::from([("app".to_owned(), {
                let mut t = NOTHING;
                t[2] = queries;
                t
            })])
        };
        assert_eq!(ledger.report(counts(50)).databases["app"].averages, NOTHING);

        ledger.turn_page(Moment::from_micros(10_000_000), counts(100));
        ledger.turn_page(Moment::from_micros(20_000_000), counts(300));
        let report = ledger.report(counts(999));

        assert_eq!(report.databases["app"].totals[2], 999);
        assert_eq!(report.databases["app"].averages[2], 20);
        assert_eq!(report.all.averages[2], 20);
    }

    #[test]
    fn a_console_command_is_a_query_and_a_transaction() {
        let ledger = Ledger::default();
        ledger.count_login();
        ledger.count_command();
        ledger.count_command();
        let report = ledger.report(PerDatabase::from([(CONSOLE.to_owned(), ledger.console())]));
        assert_eq!(report.all.totals, [0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
