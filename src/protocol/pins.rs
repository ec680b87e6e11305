//! What ties a client to its server: session state that cannot be carried to another one.

use std::ops::{BitOr, BitOrAssign};

/// A set of reasons for which a client keeps its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pins(u16);

/// Each reason: its bit, and its name in SHOW PINS and in errors.
const NAMES: [(Pins, &str); 13] = [
    (Pins::TEMPORARY, "temporary object"),
    (Pins::LOCKS, "session advisory lock"),
    (Pins::CURSORS, "cursor WITH HOLD"),
    (Pins::SEQUENCES, "currval or lastval"),
    (Pins::LOADED, "LOAD"),
    (Pins::SEED, "setseed"),
    (Pins::ORIGIN, "replication origin or slot"),
    (Pins::BACKUP, "backup"),
    (Pins::DBLINK, "dblink connection"),
    (Pins::PREPARE, "PREPARE among other statements"),
    (Pins::LISTENING, "LISTEN out of sight"),
    (Pins::UNREAD, "state too large or not readable"),
    (Pins::FUNCTION, "function that may leave something unseen"),
];

impl Pins {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Temporary tables, views, types, functions.
    pub const TEMPORARY: Self = Self(1);
    /// Advisory locks of the session.
    pub const LOCKS: Self = Self(1 << 1);
    /// Cursors that outlive their transaction.
    pub const CURSORS: Self = Self(1 << 2);
    /// What `currval` and `lastval` will be asked for.
    pub const SEQUENCES: Self = Self(1 << 3);
    /// A library.
    pub const LOADED: Self = Self(1 << 4);
    /// The state of `random()`.
    pub const SEED: Self = Self(1 << 5);
    /// A replication origin, or a slot that ends with its session.
    pub const ORIGIN: Self = Self(1 << 6);
    /// `pg_backup_start` without its stop.
    pub const BACKUP: Self = Self(1 << 7);
    /// Connections of dblink.
    pub const DBLINK: Self = Self(1 << 8);
    /// A PREPARE whose text holds other statements, too, and so cannot be sent again.
    pub const PREPARE: Self = Self(1 << 9);
    /// A channel that the server listens on, asked for where the pooler did not see it.
    pub const LISTENING: Self = Self(1 << 10);
    /// More than is carried, or what could not be read.
    pub const UNREAD: Self = Self(1 << 11);
    /// What a function may have made that nobody can look for.
    pub const FUNCTION: Self = Self(1 << 12);
    /// Those that DISCARD ALL does not end, or that nobody can look for: the server is closed when its client leaves.
    pub const LASTING: Self = Self(
        Self::LOADED.0
            | Self::SEED.0
            | Self::ORIGIN.0
            | Self::BACKUP.0
            | Self::DBLINK.0
            | Self::FUNCTION.0,
    );
    /// Those that stay whatever a look finds.
    pub const UNSEEN: Self = Self(Self::LASTING.0 | Self::SEQUENCES.0);

    /// Whether there is no reason.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `other` is among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those that are in `other`, too.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// As a number, for a card.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Out of a card's number.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The name of each reason.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = NAMES.iter().filter(move |(pin, _)| self.has(*pin));
        all.map(|(_, name)| *name)
    }

    /// The reasons as one text.
    pub fn listed(self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

impl BitOr for Pins {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Pins {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::Pins;

    #[test]
    fn reasons_are_named_in_one_text() {
        let pins = Pins::LOCKS | Pins::TEMPORARY;
        assert_eq!(pins.listed(), "temporary object, session advisory lock");
        assert_eq!(Pins::from_bits(pins.bits()), pins);
        assert!(Pins::NONE.listed().is_empty());
    }
}
