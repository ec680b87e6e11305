//! What a text does to the session, if it succeeds.
//!
//! A pooler that lends a server for a transaction must know what the transaction leaves behind: a setting, a prepared
//! statement, a lock, a temporary table. [`of`] reads that off the statement's words, in order, statement by statement, for
//! each of them succeeds or fails on its own. It never guesses: what it cannot read is [`PinReason::Unknown`], and a setting
//! whose value the text does not tell is [`PinReason::Setting`].
//!
//! Functions, triggers and views can do any of this unseen; only a catalog knows them. `routing/classify` adds
//! [`PinReason::Function`] where it cannot rule that out.

use std::fmt;

use crate::protocol::lexer::{self, Strings, Token, Unread};
use crate::protocol::sql::{self, Name, Statement};

pub mod calls;
pub mod names;
mod set;
mod transaction;

pub use self::transaction::{Access, Isolation, Modes};

/// A text with more statements than this is [`PinReason::Unknown`] as a whole.
const MOST_STATEMENTS: usize = 5_000;

/// Where in the text a token stands: the first byte, and the one after the last.
pub type Extent = (u32, u32);

/// One thing that a statement does to the session, if it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A setting has a new value: SET in all its forms, set_config with constants.
    Set {
        /// The setting in lower case: `search_path`, `role`, `session_authorization`, `timezone`, `client_encoding` …
        name: Name,
        /// A statement that sets it again, for the session, on any server.
        sql: Box<[u8]>,
        /// SET LOCAL: only until the transaction ends.
        is_local: bool,
    },
    /// A setting is back at the session's default: RESET, SET … TO DEFAULT. SET LOCAL … TO DEFAULT is not told.
    Reset(Name),
    /// RESET ALL: all of them but `role` and `session_authorization`.
    ResetAll,
    /// SET TRANSACTION, or SET of `transaction_isolation` and its like: what this transaction is.
    SetTransaction(Modes),
    /// SQL PREPARE.
    Prepare {
        /// The statement's name.
        name: Name,
        /// Where the name stands in the text.
        at: Extent,
        /// What follows the name: `(types) AS statement`. `PREPARE`, any name, and this prepare it again.
        sql: Box<[u8]>,
        /// What each EXECUTE of it does.
        does: Box<[Effect]>,
    },
    /// EXECUTE, also within EXPLAIN ANALYZE and CREATE TABLE AS; within EXPLAIN alone, too, for it needs the statement.
    Execute {
        /// The statement's name.
        name: Name,
        /// Where the name stands in the text.
        at: Extent,
    },
    /// DEALLOCATE of one name.
    Deallocate {
        /// The statement's name.
        name: Name,
        /// Where the name stands in the text.
        at: Extent,
    },
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// LISTEN.
    Listen(Name),
    /// UNLISTEN of one channel.
    Unlisten(Name),
    /// UNLISTEN *.
    UnlistenAll,
    /// NOTIFY or pg_notify.
    Notify,
    /// BEGIN, START TRANSACTION.
    Begin(Modes),
    /// COMMIT, END.
    Commit {
        /// AND CHAIN: a new transaction begins at once.
        is_chained: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN: a new transaction begins at once.
        is_chained: bool,
    },
    /// SAVEPOINT.
    Savepoint(Name),
    /// ROLLBACK TO: what happened since the savepoint did not.
    RollbackTo(Name),
    /// RELEASE.
    Release(Name),
    /// PREPARE TRANSACTION: ends the transaction, its settings are gone.
    PrepareTransaction,
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD TEMP.
    DiscardTemp,
    /// DISCARD SEQUENCES.
    DiscardSequences,
    /// DISCARD PLANS.
    DiscardPlans,
    /// Something may be left that lives in this server only.
    Pins(PinReason),
    /// pg_advisory_unlock and its like: a lock may be gone.
    Unlocks,
    /// DROP of anything: a temporary object may be gone.
    Drops,
    /// CLOSE: a held cursor may be gone.
    Closes,
}

/// What may be left in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// A temporary table, view, sequence, function or type.
    TempTable,
    /// An advisory lock of the session (not of the transaction).
    AdvisoryLock,
    /// DECLARE … WITH HOLD.
    HeldCursor,
    /// currval or lastval: reads what nextval left in this server.
    Sequence,
    /// nextval, setval, or a statement whose defaults may call them: currval would now answer.
    NextVal,
    /// LOAD: a library.
    Load,
    /// A large object's descriptor. The server closes it when the transaction ends.
    LargeObject,
    /// pg_replication_origin_session_setup.
    ReplicationOrigin,
    /// A setting, but the text does not tell which or what.
    Setting,
    /// It calls a function, or fires a trigger, that may do any of this unseen.
    Function,
    /// DO, CALL, or a text that could not be read: any of this.
    Unknown,
}

/// What the statements of one text do, in order. Most do nothing, and cost nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    statements: Option<u32>,
    list: Box<[(u32, Effect)]>,
}

impl Effects {
    /// How many statements the text has; each that succeeds is answered by one CommandComplete. `None` if it could not be read.
    pub fn statements(&self) -> Option<u32> {
        self.statements
    }

    /// Whether no statement does anything to the session.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Every effect with the number of its statement, from 0.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Effect)> {
        self.list.iter().map(|(number, effect)| (*number, effect))
    }

    /// What statement `number` does.
    pub fn of(&self, number: u32) -> impl Iterator<Item = &Effect> {
        let from = self.list.partition_point(|(at, _)| *at < number);
        self.list[from..]
            .iter()
            .take_while(move |(at, _)| *at == number)
            .map(|(_, effect)| effect)
    }

    /// Of a text that could not be read.
    pub fn unknown() -> Self {
        Self {
            statements: None,
            list: Box::new([(0, Effect::Pins(PinReason::Unknown))]),
        }
    }

    /// From the effects in order of their statements.
    pub fn new(statements: u32, list: Vec<(u32, Effect)>) -> Self {
        Self {
            statements: Some(statements),
            list: list.into(),
        }
    }

    /// Adds that statement `number` pins for `reason`, unless it says so already.
    #[must_use]
    pub fn and_pins(self, number: u32, reason: PinReason) -> Self {
        let pin = Effect::Pins(reason);
        if self.of(number).any(|effect| *effect == pin) {
            return self;
        }
        let mut list = self.list.into_vec();
        let at = list.partition_point(|(other, _)| *other <= number);
        list.insert(at, (number, pin));
        Self {
            statements: self.statements,
            list: list.into(),
        }
    }

    /// Bytes of memory behind this value, about.
    pub fn weight(&self) -> usize {
        self.list.iter().map(|(_, effect)| weight(effect)).sum()
    }
}

fn weight(effect: &Effect) -> usize {
    let behind = match effect {
        Effect::Set { name, sql, .. } => name.len() + sql.len(),
        Effect::Prepare {
            name, sql, does, ..
        } => name.len() + sql.len() + does.iter().map(weight).sum::<usize>(),
        Effect::Reset(name)
        | Effect::Execute { name, .. }
        | Effect::Deallocate { name, .. }
        | Effect::Listen(name)
        | Effect::Unlisten(name)
        | Effect::Savepoint(name)
        | Effect::RollbackTo(name)
        | Effect::Release(name) => name.len(),
        _ => 0,
    };
    size_of::<(u32, Effect)>() + behind
}

/// What `text` does to the session. `tokens` is scratch room.
pub fn of(text: &[u8], strings: Strings, tokens: &mut Vec<Token>) -> Effects {
    let read = lexer::cut(text, strings, tokens);
    of_tokens(text, tokens, read)
}

/// What `text` does to the session, of whose cutting into `tokens` came `read`.
///
/// A text that the server itself cannot read does nothing, but whether it really is such a text is the server's to say.
pub fn of_tokens(text: &[u8], tokens: &[Token], read: Result<(), Unread>) -> Effects {
    if read.is_err() {
        return Effects::unknown();
    }
    let mut list = Vec::new();
    let (mut count, mut found) = (0, Vec::new());
    for (number, statement) in (0u32..).zip(sql::statements(text, tokens)) {
        if number as usize == MOST_STATEMENTS {
            return Effects::unknown();
        }
        of_statement(statement, &mut found);
        list.extend(found.drain(..).map(|effect| (number, effect)));
        count = number + 1;
    }
    Effects::new(count, list)
}

/// Adds what one statement does to `found`.
fn of_statement(statement: Statement<'_>, found: &mut Vec<Effect>) {
    let Some(first) = statement.tokens.first() else {
        return;
    };
    let word = first.of(statement.text).to_ascii_lowercase();
    let mut cursor = statement.cursor();
    cursor.at = 1;
    match &*word {
        b"set" => set::set(cursor, found),
        b"reset" => set::reset(cursor, found),
        b"begin" | b"start" | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint"
        | b"release" => transaction::of(&word, cursor, found),
        b"prepare" | b"execute" | b"deallocate" | b"discard" | b"listen" | b"unlisten"
        | b"notify" | b"declare" | b"close" | b"load" => names::of(&word, cursor, found),
        b"drop" => found.push(Effect::Drops),
        b"do" | b"call" => found.push(Effect::Pins(PinReason::Unknown)),
        b"create" => names::create(statement, found),
        b"explain" => names::explain(statement, found),
        b"select" | b"with" | b"values" | b"table" | b"insert" | b"update" | b"delete"
        | b"merge" | b"copy" | b"alter" | b"(" => {
            calls::of(statement, found);
            if matches!(&*word, b"select" | b"with" | b"(") && names::is_into_temp(statement) {
                found.push(Effect::Pins(PinReason::TempTable));
            }
        }
        _ => {}
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        match self {
            Self::Set { name, is_local, .. } => {
                let kind = if *is_local {
                    "sets, for the transaction, "
                } else {
                    "sets "
                };
                write!(out, "{kind}{}", text(name))
            }
            Self::Reset(name) => write!(out, "resets {}", text(name)),
            Self::ResetAll => out.write_str("resets all settings"),
            Self::SetTransaction(_) => out.write_str("says what the transaction is"),
            Self::Prepare { name, .. } => write!(out, "prepares {}", text(name)),
            Self::Execute { name, .. } => write!(out, "executes {}", text(name)),
            Self::Deallocate { name, .. } => write!(out, "deallocates {}", text(name)),
            Self::DeallocateAll => out.write_str("deallocates all"),
            Self::Listen(name) => write!(out, "listens to {}", text(name)),
            Self::Unlisten(name) => write!(out, "listens no more to {}", text(name)),
            Self::UnlistenAll => out.write_str("listens no more"),
            Self::Notify => out.write_str("notifies"),
            Self::Begin(_) => out.write_str("begins a transaction"),
            Self::Commit { .. } => out.write_str("commits"),
            Self::Rollback { .. } => out.write_str("rolls back"),
            Self::Savepoint(name) => write!(out, "sets savepoint {}", text(name)),
            Self::RollbackTo(name) => write!(out, "rolls back to {}", text(name)),
            Self::Release(name) => write!(out, "releases {}", text(name)),
            Self::PrepareTransaction => out.write_str("prepares the transaction"),
            Self::DiscardAll => out.write_str("discards all state"),
            Self::DiscardTemp => out.write_str("discards temporary tables"),
            Self::DiscardSequences => out.write_str("discards what is known of sequences"),
            Self::DiscardPlans => out.write_str("discards plans"),
            Self::Pins(reason) => write!(out, "may stay with its server: {}", reason.as_str()),
            Self::Unlocks => out.write_str("may give back a lock"),
            Self::Drops => out.write_str("may drop something temporary"),
            Self::Closes => out.write_str("may close a held cursor"),
        }
    }
}

impl PinReason {
    /// The words for it in the console and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TempTable => "temporary table",
            Self::AdvisoryLock => "advisory lock",
            Self::HeldCursor => "held cursor",
            Self::Sequence => "currval or lastval",
            Self::NextVal => "nextval",
            Self::Load => "loaded library",
            Self::LargeObject => "large object",
            Self::ReplicationOrigin => "replication origin",
            Self::Setting => "setting not told by the text",
            Self::Function => "function or trigger",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests;
