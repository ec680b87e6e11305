//! Time and chance: the only file that asks the system for either.
//!
//! Everything else takes a [`Moment`] as an argument, so that a test can write one down.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// `N` bytes from the system's entropy.
///
/// # Panics
/// When the system has no entropy to give, which no supported system does.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives entropy");
    bytes
}
