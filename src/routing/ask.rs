//! What a request asks for, and what keeps it from every replica.

use crate::protocol::effects::{Isolation, Modes};
use crate::routing::bond::Bond;
use crate::routing::intent::{Hint, Intent};
use crate::routing::standing::{Standing, Transaction};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The strictest intent of its texts.
    pub intent: Intent,
    /// The hint in them.
    pub hint: Option<Hint>,
    /// It is a BEGIN, and perhaps reads behind it: then [`Ask::intent`] is a read.
    pub begins: Option<Modes>,
    /// How it stands to the transaction around it.
    pub bond: Bond,
    /// It is one statement by itself, which the pooler can answer.
    pub is_lone: bool,
    /// What keeps it from every replica, whatever it asks for.
    pub bar: Option<Bar>,
}

/// What keeps a session's request from every replica, whatever it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// A replica could not serve it.
    Again,
    /// The session's default is SERIALIZABLE, which a standby does not take.
    Serializable,
    /// A READ ONLY transaction of the session has needed the primary: the next ones go there.
    Avoided,
}

impl Ask {
    /// Of an intent, with neither hint nor BEGIN.
    pub const fn of(intent: Intent) -> Self {
        Self {
            intent,
            hint: None,
            begins: None,
            bond: Bond::None,
            is_lone: false,
            bar: None,
        }
    }

    /// What a session that stands so asks for with this: something may keep it from every replica. A transaction that is somewhere
    /// decides for itself.
    #[must_use]
    pub fn by(self, standing: &Standing) -> Self {
        if matches!(standing.transaction, Transaction::On { .. }) {
            return self;
        }
        let is_read = self.intent == Intent::Read || self.hint == Some(Hint::Replica);
        let is_serializable = standing.defaults.isolation == Some(Isolation::Serializable);
        match self.begins {
            None if is_serializable && is_read => Self::barred(Bar::Serializable),
            Some(_) if standing.avoids_replicas => Self::barred(Bar::Avoided),
            None | Some(_) => self,
        }
    }

    /// Of what only the primary can answer, whatever it is.
    pub const fn barred(bar: Bar) -> Self {
        Self {
            bond: Bond::Primary,
            bar: Some(bar),
            ..Self::of(Intent::Unknown)
        }
    }
}
