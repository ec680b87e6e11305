//! Time and chance: the only file that asks the system for either.
//!
//! Everything else takes a [`Moment`] as an argument, so that a test can write one down.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A point in time, in microseconds since the process started. Copy, comparable, printable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment `micros` microseconds after the process started.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the process started.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// `span` before this moment; the start of the process where that is later.
    pub fn before(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// This moment and `span` more.
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

static START: LazyLock<Instant> = LazyLock::new(start);

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
fn start() -> Instant {
    Instant::now()
}

/// The moment it is now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
pub fn now() -> Moment {
    let start = *START;
    Moment(u64::try_from(Instant::now().duration_since(start).as_micros()).unwrap_or(u64::MAX))
}

/// How often the same moment is told before the clock is read again.
const MOST_TOLD: u32 = 8;

/// A moment that is told more than once.
#[derive(Debug, Clone, Copy)]
struct Told {
    moment: Moment,
    /// The kernel's tick in which it was read.
    tick: u64,
    /// How often it may still be told.
    left: u32,
}

thread_local! {
    /// None where nobody says when the thread has slept.
    static TOLD: Cell<Option<Told>> = const { Cell::new(None) };
}

/// About now, for what is counted and shown of a query and for its limits: the clock is read once for a few queries that a worker finds together.
///
/// At most one tick of the kernel ago (1 to 10 ms), and not from before the thread last slept. Never for what must not be early: how fresh a
/// replica is, when something was written.
#[inline]
pub fn lately() -> Moment {
    let Some(told) = TOLD.get() else {
        return now();
    };
    let tick = tick();
    if told.left > 0 && told.tick == tick {
        let left = told.left - 1;
        TOLD.set(Some(Told { left, ..told }));
        return told.moment;
    }
    let (moment, left) = (now(), MOST_TOLD - 1);
    TOLD.set(Some(Told { moment, tick, left }));
    moment
}

/// Notes that this thread has slept: what it knew of the time is old. Whoever calls this once calls it after every sleep.
#[inline]
pub fn note_sleep() {
    let (moment, tick, left) = (Moment(0), 0, 0);
    TOLD.set(Some(Told { moment, tick, left }));
}

/// A clock that goes in ticks, and costs a seventh of the exact one.
#[cfg(target_os = "linux")]
#[inline]
fn tick() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let seconds = now.tv_sec.unsigned_abs();
    seconds * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(not(target_os = "linux"))]
fn tick() -> u64 {
    now().as_micros()
}

/// The wall clock for a line of a log: `2030-01-31 23:59:59.123 CET`, in the system's time zone.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
pub fn wall_text() -> String {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let local = now.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
}

/// The wall clock as old syslog wants it: `Jan  2 03:04:05`, in the system's time zone.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
pub fn syslog_text() -> String {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let local = now.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("%b %e %H:%M:%S").to_string()
}

/// The wall clock, in seconds since 1970; only for people to read.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
pub fn wall_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The wall clock, for what was set to happen at a time of it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one file that may ask"
)]
pub fn wall() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or_default()
}

/// A moment of the wall clock, in seconds since 1970, as `YYYY-MM-DD HH:MM:SS TZ` in the system's time zone.
pub fn local_time(seconds: u64) -> String {
    zoned(seconds, TimeZone::system())
}

/// When `moment` was by the wall clock: `2030-01-31 23:59:59.123+01:00`, in the system's time zone.
pub fn local_moment(moment: Moment) -> String {
    let ago = jiff::SignedDuration::try_from(now().since(moment)).unwrap_or_default();
    let zoned = (wall() - ago).to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.3f%:z").to_string()
}

/// Reads what [`local_moment`] wrote.
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f%:z", text).ok()
}

fn zoned(seconds: u64, zone: TimeZone) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let zoned = moment.to_zoned(zone);
    zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// `N` bytes from the system's entropy.
///
/// # Panics
/// When the system has no entropy to give, which no supported system does.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives entropy");
    bytes
}

#[cfg(test)]
mod tests {
    use super::{lately, local_moment, local_time, note_sleep, now, parse_moment, wall, zoned};
    use jiff::tz::TimeZone;
    use std::time::Duration;

    #[test]
    fn a_moment_is_told_again_within_a_tick_and_not_after_a_sleep() {
        let pass = |before| while now() == before {};
        let told = lately();
        pass(told);
        assert_ne!(lately(), told, "nobody says when this thread sleeps");
        // A tick may end between two questions, but not between every two.
        let is_told_again = || {
            note_sleep();
            let told = lately();
            pass(told);
            lately() == told
        };
        assert!((0..100).any(|_| is_told_again()));
        note_sleep();
        let told = lately();
        while now().since(told) < Duration::from_millis(20) {}
        assert_ne!(lately(), told, "more than a tick has passed");
        let told = lately();
        pass(told);
        note_sleep();
        assert_ne!(lately(), told);
        let told = lately();
        pass(told);
        assert!((0..8).any(|_| lately() != told));
    }

    #[test]
    fn a_moment_keeps_its_milliseconds_and_its_zone() {
        let read = parse_moment(&local_moment(now())).unwrap();
        assert!((wall() - read).total(jiff::Unit::Second).unwrap() < 60.0);
        assert_eq!(parse_moment("yesterday"), None);
    }

    #[test]
    fn a_moment_is_read_by_people_in_their_own_zone() {
        assert_eq!(zoned(951_782_400, TimeZone::UTC), "2000-02-29 00:00:00 UTC");
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(zoned(0, berlin.clone()), "1970-01-01 01:00:00 CET");
        assert_eq!(zoned(1_751_328_000, berlin), "2025-07-01 02:00:00 CEST");
        assert_eq!(local_time(u64::MAX).len(), local_time(0).len());
    }
}
