//! What becomes of a server, decided from plain facts.

use std::time::Duration;

use crate::clock::Moment;
use crate::config::value::PoolMode;

/// Why a server is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is in the middle of something.
    Dirty,
    /// RECONNECT, or its address or login changed.
    Obsolete,
    /// As `Obsolete`, found when it had just logged in.
    ObsoleteAtLogin,
    /// As `Obsolete`, found when its client gave it back.
    ObsoleteGivenBack,
    /// As `Obsolete`, found when a client wanted it.
    ObsoleteWanted,
    /// It is older than `server_lifetime`.
    Lifetime,
    /// It was idle longer than `server_idle_timeout`.
    Idle,
    /// It said something, or went away, while idle.
    Unasked,
    /// The reset or check query failed.
    Reset,
    /// The pool has become smaller.
    TooMany,
    /// Another pool of the database or the user needs its place.
    Evicted,
    /// PAUSE, KILL or the end of the process.
    Ordered,
    /// Its client left something on it that nothing takes away.
    Spoiled,
    /// Its client was ended, by a time limit or an order, while it was at work.
    Abandoned,
}

impl Reason {
    /// The reason, in the words of the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dirty => "client went away in the middle of something",
            Self::Obsolete
            | Self::ObsoleteAtLogin
            | Self::ObsoleteGivenBack
            | Self::ObsoleteWanted => "connect string changed",
            Self::Lifetime => "server lifetime over",
            Self::Idle => "server idle timeout",
            Self::Unasked => "server spoke or closed while idle",
            Self::Reset => "reset or check query failed",
            Self::TooMany => "too many servers in the pool",
            Self::Evicted => "evicted",
            Self::Ordered => "closed by order",
            Self::Spoiled => "its client left something that nothing takes away",
            Self::Abandoned => "its client was ended while it was at work",
        }
    }

    /// The reason, in PgBouncer's words.
    pub const fn pgbouncer_words(self) -> &'static str {
        match self {
            Self::Dirty | Self::Abandoned | Self::Spoiled => {
                "client disconnect while server was not ready"
            }
            Self::Obsolete => "database configuration changed",
            Self::ObsoleteAtLogin => "connect string changed",
            Self::ObsoleteGivenBack => "close_needed",
            Self::ObsoleteWanted => "obsolete connection",
            Self::Unasked => "server conn crashed?",
            Self::Reset => "reset query failed",
            Self::Ordered => "pause mode",
            Self::Lifetime | Self::Idle | Self::TooMany | Self::Evicted => self.as_str(),
        }
    }
}

/// What to do with a server that a client gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterUse {
    /// Lend it again.
    Keep,
    /// Run `server_reset_query` first.
    Reset,
    /// Take away first what its client left on it.
    Empty,
    /// Close it.
    Close(Reason),
}

/// The facts about a server that comes back.
#[derive(Debug, Clone, Copy)]
pub struct Returned {
    /// It is outside any transaction and owes nothing.
    pub is_free: bool,
    /// It must be closed: RECONNECT, or its target changed.
    pub is_obsolete: bool,
    /// Its lifetime is over: see [`is_too_old`].
    pub is_too_old: bool,
    /// Its client left something on it that nothing takes away.
    pub is_spoiled: bool,
    /// Its client left something on it, or may have.
    pub needs_reset: bool,
}

/// What the pool's settings say about servers that come back.
#[derive(Debug, Clone, Copy)]
pub struct Upkeep {
    /// When servers go back.
    pub mode: PoolMode,
    /// A reset query is set.
    pub has_reset: bool,
    /// It runs in all modes.
    pub reset_always: bool,
}

/// What becomes of a server when its client is done with it.
pub fn after_use(server: Returned, upkeep: Upkeep) -> AfterUse {
    if !server.is_free {
        return AfterUse::Close(Reason::Dirty);
    }
    if server.is_obsolete {
        return AfterUse::Close(Reason::ObsoleteGivenBack);
    }
    if server.is_too_old {
        return AfterUse::Close(Reason::Lifetime);
    }
    if server.is_spoiled {
        return AfterUse::Close(Reason::Spoiled);
    }
    if server.needs_reset {
        return AfterUse::Empty;
    }
    if upkeep.has_reset && (upkeep.reset_always || upkeep.mode == PoolMode::Session) {
        return AfterUse::Reset;
    }
    AfterUse::Keep
}

/// Whether a server of this `age` is closed for its age.
///
/// A `lifetime` of 0 uses each server once. Servers that were opened together are not closed together: between two of a pool of
/// `size` lies a `size`th of the lifetime, as with PgBouncer. `since_last` is how long ago one was closed for its age.
pub fn is_too_old(
    age: Duration,
    lifetime: Duration,
    since_last: Option<Duration>,
    size: usize,
) -> bool {
    let gap = lifetime / u32::try_from(size.max(1)).unwrap_or(u32::MAX);
    age >= lifetime && since_last.is_none_or(|since| since >= gap)
}

/// How many servers a pool may open now, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Seats {
    /// `pool_size`; 0 is no limit.
    pub size: usize,
    /// `reserve_pool_size`.
    pub reserve: usize,
    /// `reserve_pool_timeout`; 0 turns the reserve off.
    pub reserve_timeout: Duration,
    /// Servers that live, those that are being opened included.
    pub open: usize,
    /// Servers that are being opened.
    pub dialing: usize,
    /// Clients in line; counted no further than it takes to see that they are more than `dialing`.
    pub waiting: usize,
    /// Since when the oldest waits.
    pub oldest: Option<Moment>,
}

/// Where a new server's seat comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// None is to be had, or none is needed.
    None,
    /// From `pool_size`.
    Ordinary,
    /// From the reserve.
    Reserve,
}

/// Whether one more server is to be opened for the clients in line.
pub fn seat_for_next(seats: Seats, now: Moment) -> Seat {
    if seats.waiting <= seats.dialing {
        return Seat::None;
    }
    if seats.size == 0 || seats.open < seats.size {
        return Seat::Ordinary;
    }
    let waited = seats
        .oldest
        .map_or(Duration::ZERO, |since| now.since(since));
    let reserve_is_on = seats.reserve > 0 && !seats.reserve_timeout.is_zero();
    if reserve_is_on && waited >= seats.reserve_timeout && seats.open < seats.size + seats.reserve {
        return Seat::Reserve;
    }
    Seat::None
}

#[cfg(test)]
mod tests {
    use super::{
        AfterUse, Reason, Returned, Seat, Seats, Upkeep, after_use, is_too_old, seat_for_next,
    };
    use crate::clock::Moment;
    use crate::config::value::PoolMode;
    use std::time::Duration;

    const UPKEEP: Upkeep = Upkeep {
        mode: PoolMode::Transaction,
        has_reset: true,
        reset_always: false,
    };
    const FREE: Returned = Returned {
        is_free: true,
        is_obsolete: false,
        is_too_old: false,
        is_spoiled: false,
        needs_reset: false,
    };

    #[test]
    fn a_server_in_the_middle_of_something_is_never_lent_again() {
        assert_eq!(
            after_use(
                Returned {
                    is_free: false,
                    ..FREE
                },
                UPKEEP
            ),
            AfterUse::Close(Reason::Dirty)
        );
    }

    #[test]
    fn what_a_client_left_is_taken_away_or_goes_with_the_server() {
        let left = Returned {
            needs_reset: true,
            ..FREE
        };
        assert_eq!(after_use(left, UPKEEP), AfterUse::Empty);
        let spoiled = Returned {
            is_spoiled: true,
            ..left
        };
        assert_eq!(after_use(spoiled, UPKEEP), AfterUse::Close(Reason::Spoiled));
    }

    #[test]
    fn only_session_mode_resets_unless_told_always() {
        assert_eq!(after_use(FREE, UPKEEP), AfterUse::Keep);
        assert_eq!(
            after_use(
                FREE,
                Upkeep {
                    mode: PoolMode::Session,
                    ..UPKEEP
                }
            ),
            AfterUse::Reset
        );
        assert_eq!(
            after_use(
                FREE,
                Upkeep {
                    reset_always: true,
                    ..UPKEEP
                }
            ),
            AfterUse::Reset
        );
    }

    #[test]
    fn a_lifetime_of_zero_uses_each_server_once() {
        let zero = Duration::ZERO;
        assert!(is_too_old(zero, zero, Some(zero), 20));
        let old = Returned {
            is_too_old: true,
            ..FREE
        };
        assert_eq!(after_use(old, UPKEEP), AfterUse::Close(Reason::Lifetime));
    }

    #[test]
    fn servers_that_were_opened_together_are_not_closed_together() {
        let second = Duration::from_secs(1);
        let is_closed = |since_last| is_too_old(second * 11, second * 10, since_last, 5);
        assert!(is_closed(None));
        assert!(!is_closed(Some(second)));
        assert!(is_closed(Some(second * 2)));
    }

    const SEATS: Seats = Seats {
        size: 2,
        reserve: 1,
        reserve_timeout: Duration::from_secs(5),
        open: 0,
        dialing: 0,
        waiting: 1,
        oldest: Some(Moment::from_micros(0)),
    };

    #[test]
    fn one_server_is_opened_per_client_in_line_up_to_the_size() {
        let now = Moment::from_micros(10);
        assert_eq!(seat_for_next(SEATS, now), Seat::Ordinary);
        assert_eq!(
            seat_for_next(
                Seats {
                    dialing: 1,
                    open: 1,
                    ..SEATS
                },
                now
            ),
            Seat::None
        );
        assert_eq!(seat_for_next(Seats { open: 2, ..SEATS }, now), Seat::None);
        assert_eq!(
            seat_for_next(
                Seats {
                    open: 200,
                    size: 0,
                    ..SEATS
                },
                now
            ),
            Seat::Ordinary
        );
    }

    #[test]
    fn the_reserve_is_for_who_waited_long_enough() {
        let late = Moment::from_micros(5_000_000);
        assert_eq!(
            seat_for_next(Seats { open: 2, ..SEATS }, late),
            Seat::Reserve
        );
        assert_eq!(seat_for_next(Seats { open: 3, ..SEATS }, late), Seat::None);
        assert_eq!(
            seat_for_next(
                Seats {
                    open: 2,
                    reserve_timeout: Duration::ZERO,
                    ..SEATS
                },
                late
            ),
            Seat::None
        );
    }
}
