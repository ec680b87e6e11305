//! How a text stands to the transaction around it: whether that may still be on a replica, and leave it, when the text has run.

use crate::protocol::effects::{Access, Effect, Modes, PinReason};
use crate::routing::classify::Facts;
use crate::routing::intent::{Intent, Why};

/// How a text stands to the transaction around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bond {
    /// It leaves nothing in it.
    #[default]
    None,
    /// What it makes lives in the transaction, where that is: savepoints, cursors, settings, snapshots, the moment of its beginning.
    Lives,
    /// What it does is the primary's even if READ ONLY: LISTEN, NOTIFY, advisory locks, cursors WITH HOLD.
    Primary,
    /// It ends the transaction, and the next one begins: AND CHAIN.
    Chains,
    /// It ends the transaction first, and goes on outside.
    Leaves,
    /// COMMIT and nothing else.
    Commit,
    /// ROLLBACK and nothing else.
    Rollback,
}

impl Bond {
    /// Of what is known of a text.
    pub fn of(facts: &Facts) -> Self {
        let mut worst = if facts.intent == Intent::Session || facts.tells_of_transaction {
            Self::Lives
        } else {
            Self::None
        };
        if facts.effects.statements().is_none() {
            return Self::Lives;
        }
        let is_alone = facts.effects.statements() == Some(1);
        for (number, effect) in facts.effects.all() {
            match effect {
                Effect::Commit { is_chained: true } | Effect::Rollback { is_chained: true }
                    if is_alone =>
                {
                    return Self::Chains;
                }
                Effect::Commit { is_chained: false } if is_alone => return Self::Commit,
                Effect::Rollback { is_chained: false } if is_alone => return Self::Rollback,
                Effect::Commit { is_chained: false } | Effect::Rollback { is_chained: false }
                    if number == 0 =>
                {
                    return Self::Leaves;
                }
                Effect::Commit { .. } | Effect::Rollback { .. }
                    if Some(number + 1) == facts.effects.statements() =>
                {
                    worst = worst.and(Self::Lives);
                }
                effect => worst = worst.and(Self::of_effect(effect)),
            }
        }
        // A lock of the transaction keeps nobody away from the primary.
        if facts.intent == Intent::Session && matches!(facts.why, Why::Function(..)) {
            worst = Self::Primary;
        }
        worst
    }

    /// Of one effect in a text; a COMMIT or ROLLBACK is one with something behind it.
    fn of_effect(effect: &Effect) -> Self {
        match effect {
            Effect::Commit { .. }
            | Effect::Rollback { .. }
            | Effect::PrepareTransaction
            // Within a transaction it says what that is, and a standby does not take it.
            | Effect::Begin(Modes {
                access: Some(Access::ReadWrite),
                ..
            })
            | Effect::SetTransaction(_)
            | Effect::Listen(_)
            | Effect::Notify
            | Effect::Unlocks
            | Effect::Pins(
                PinReason::AdvisoryLock
                | PinReason::HeldCursor
                | PinReason::Sequence
                | PinReason::Load
                | PinReason::ReplicationOrigin,
            ) => Self::Primary,
            Effect::Begin(_)
            | Effect::Unlisten(_)
            | Effect::UnlistenAll
            | Effect::DiscardAll
            | Effect::DiscardTemp
            | Effect::DiscardSequences
            | Effect::DiscardPlans
            | Effect::Set { .. }
            | Effect::Reset(_)
            | Effect::ResetAll
            | Effect::Prepare { .. }
            | Effect::Execute { .. }
            | Effect::Deallocate { .. }
            | Effect::DeallocateAll
            | Effect::Savepoint(_)
            | Effect::RollbackTo(_)
            | Effect::Release(_)
            | Effect::Pins(
                PinReason::LargeObject
                | PinReason::TempTable
                | PinReason::NextVal
                | PinReason::Setting
                | PinReason::Function
                | PinReason::Unknown,
            )
            | Effect::Drops
            | Effect::Closes => Self::Lives,
        }
    }

    /// Of two texts in one request, `other` the later one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            // What comes behind the end is outside the transaction.
            (Self::Leaves | Self::Commit | Self::Rollback, _) => Self::Leaves,
            (Self::Primary, _) | (_, Self::Primary | Self::Leaves) => Self::Primary,
            (Self::None | Self::Lives | Self::Chains, _) => Self::Lives,
        }
    }

    /// Whether it ends the transaction.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }

    /// As a number below 8.
    pub const fn to_bits(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Lives => 1,
            Self::Primary => 2,
            Self::Commit => 3,
            Self::Rollback => 4,
            Self::Leaves => 5,
            Self::Chains => 6,
        }
    }

    /// What [`Bond::to_bits`] made a number of, with any other bits above it.
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::None,
            1 => Self::Lives,
            3 => Self::Commit,
            4 => Self::Rollback,
            5 => Self::Leaves,
            6 => Self::Chains,
            _ => Self::Primary,
        }
    }
}
