//! What a server may have to be asked about, as a set.

use std::ops::BitOrAssign;

/// What the server must be asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Settings, the role, the session's user.
    pub const SETTINGS: Self = Self(1);
    /// Statements of SQL's PREPARE.
    pub const PREPARED: Self = Self(1 << 1);
    /// Advisory locks of the session.
    pub const LOCKS: Self = Self(1 << 2);
    /// Cursors that outlive their transaction.
    pub const CURSORS: Self = Self(1 << 3);
    /// Temporary objects.
    pub const TEMPORARY: Self = Self(1 << 4);
    /// Channels.
    pub const LISTENING: Self = Self(1 << 5);
    /// Something may be gone: a pinned client is looked at again.
    pub const ENDS: Self = Self(1 << 6);
    /// What the startup packet set comes back by RESET and DISCARD.
    pub const RESETS: Self = Self(1 << 7);
    /// Settings that no look finds: their names stand nowhere.
    pub const HIDDEN: Self = Self(1 << 8);
    /// Whatever code may do.
    pub const ANYTHING: Self = Self(0x3f);

    /// Whether nothing is marked.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `other` is marked.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether something may have been left behind.
    pub const fn leaves(self) -> bool {
        self.has(Self::ANYTHING)
    }
}

impl BitOrAssign for Marks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
