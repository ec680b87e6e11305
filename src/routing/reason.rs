//! Why a request goes where it goes: counted, listed and explained.

use crate::routing::ask::Bar;
use crate::routing::intent::Intent;

/// Why a route was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The transaction is there.
    InTransaction,
    /// A hint or the session's setting says so.
    Asked,
    /// Its intent needs the primary.
    Intent(Intent),
    /// A transaction that may write.
    ReadWriteTransaction,
    /// A transaction that began on a replica writes for the first time, or cannot stay there.
    FirstWrite,
    /// A read, and this replica qualifies.
    Read,
    /// A read, and the primary takes its share.
    Share,
    /// A read, but no replica qualifies.
    NoReplica,
    /// A read, and only who served the last one is surely not behind it.
    SameNode,
    /// No replica may have it.
    Barred(Bar),
    /// Nobody chose: the session keeps its server.
    Pinned,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = 17;

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let intents = [
            Intent::Read,
            Intent::NodeLocal,
            Intent::Session,
            Intent::Write,
            Intent::Unknown,
        ];
        [
            Self::InTransaction,
            Self::Asked,
            Self::ReadWriteTransaction,
            Self::FirstWrite,
            Self::Read,
            Self::Share,
            Self::NoReplica,
            Self::SameNode,
        ]
        .into_iter()
        .chain(intents.into_iter().map(Self::Intent))
        .chain([Bar::Again, Bar::Serializable, Bar::Avoided].map(Self::Barred))
        .chain([Self::Pinned])
    }

    /// Its number, below [`Reason::COUNT`].
    pub const fn number(self) -> usize {
        match self {
            Self::InTransaction => 0,
            Self::Asked => 1,
            Self::ReadWriteTransaction => 2,
            Self::FirstWrite => 3,
            Self::Read => 4,
            Self::Share => 5,
            Self::NoReplica => 6,
            Self::SameNode => 7,
            Self::Intent(Intent::Read) => 8,
            Self::Intent(Intent::NodeLocal) => 9,
            Self::Intent(Intent::Session) => 10,
            Self::Intent(Intent::Write) => 11,
            Self::Intent(Intent::Unknown) => 12,
            Self::Barred(Bar::Again) => 13,
            Self::Barred(Bar::Serializable) => 14,
            Self::Barred(Bar::Avoided) => 15,
            Self::Pinned => 16,
        }
    }

    /// The words for it in the console.
    pub fn text(self) -> String {
        match self {
            Self::InTransaction => "the transaction is there".into(),
            Self::Asked => "a hint or a setting asks for it".into(),
            Self::Intent(intent) => format!("{intent} goes to the primary"),
            Self::ReadWriteTransaction => "the transaction may write".into(),
            Self::FirstWrite => "the transaction leaves its replica".into(),
            Self::Read => "a read, and the replica qualifies".into(),
            Self::Share => "a read, and the primary takes its share".into(),
            Self::NoReplica => "a read, but no replica qualifies".into(),
            Self::SameNode => "a read, and who served the last one is surely not behind it".into(),
            Self::Barred(Bar::Again) => "a read, asked again of the primary".into(),
            Self::Barred(Bar::Serializable) => {
                "SERIALIZABLE is the session's default, and no standby takes it".into()
            }
            Self::Barred(Bar::Avoided) => {
                "a READ ONLY transaction of the session has needed the primary before".into()
            }
            Self::Pinned => "the session is pinned to its server".into(),
        }
    }
}
