//! Transactions: their ends, their savepoints, and what they are.

use crate::protocol::effects::Effect;
use crate::protocol::sql::Cursor;

/// Whether a transaction may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// What a transaction sees of others. READ UNCOMMITTED is READ COMMITTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// A new snapshot for each statement.
    ReadCommitted,
    /// One snapshot.
    RepeatableRead,
    /// As if alone.
    Serializable,
}

/// What was said about a transaction; `None` is what the session's default says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Modes {
    /// READ ONLY or READ WRITE.
    pub access: Option<Access>,
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// DEFERRABLE, or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
    /// SET TRANSACTION SNAPSHOT: another session's snapshot.
    pub is_shared_snapshot: bool,
}

impl Modes {
    /// A BEGIN that says this.
    pub fn begin(&self) -> String {
        let mut sql = String::from("BEGIN");
        if let Some(isolation) = self.isolation {
            sql.push_str(match isolation {
                Isolation::ReadCommitted => " ISOLATION LEVEL READ COMMITTED",
                Isolation::RepeatableRead => " ISOLATION LEVEL REPEATABLE READ",
                Isolation::Serializable => " ISOLATION LEVEL SERIALIZABLE",
            });
        }
        if let Some(access) = self.access {
            sql.push_str(match access {
                Access::ReadOnly => " READ ONLY",
                Access::ReadWrite => " READ WRITE",
            });
        }
        if let Some(deferrable) = self.deferrable {
            sql.push_str(if deferrable {
                " DEFERRABLE"
            } else {
                " NOT DEFERRABLE"
            });
        }
        sql
    }
}

/// The effects of BEGIN, START, COMMIT, END, ROLLBACK, ABORT, SAVEPOINT, RELEASE; the cursor stands behind `word`.
pub(super) fn of(word: &[u8], mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    match word {
        b"savepoint" => found.extend(cursor.name().map(Effect::Savepoint)),
        b"release" => {
            let named = cursor.eat("savepoint");
            let name = if named && cursor.is_at_end() {
                Some((*b"savepoint").into())
            } else {
                cursor.name()
            };
            found.extend(name.map(Effect::Release));
        }
        b"begin" => {
            let _ = cursor.eat("work") || cursor.eat("transaction");
            found.push(Effect::Begin(modes(&mut cursor)));
        }
        b"start" => {
            cursor.eat("transaction");
            found.push(Effect::Begin(modes(&mut cursor)));
        }
        b"commit" | b"end" => {
            // COMMIT PREPARED ends somebody else's transaction.
            if !cursor.eat("prepared") {
                let is_chained = is_chained(&mut cursor);
                found.push(Effect::Commit { is_chained });
            }
        }
        _ => {
            if cursor.eat("prepared") {
                return;
            }
            let _ = cursor.eat("work") || cursor.eat("transaction");
            if cursor.eat("to") {
                let name = cursor.name();
                let name = if name.as_deref() == Some(b"savepoint") {
                    cursor.name().or(name)
                } else {
                    name
                };
                found.extend(name.map(Effect::RollbackTo));
                return;
            }
            let is_chained = is_chained(&mut cursor);
            found.push(Effect::Rollback { is_chained });
        }
    }
}

fn is_chained(cursor: &mut Cursor<'_>) -> bool {
    let _ = cursor.eat("work") || cursor.eat("transaction");
    cursor.eat_all(&["and", "chain"])
}

/// Reads transaction modes up to the end, or up to a word that is none. The last of two wins.
pub(super) fn modes(cursor: &mut Cursor<'_>) -> Modes {
    let mut modes = Modes::default();
    while !cursor.is_at_end() {
        if cursor.eat_all(&["read", "only"]) {
            modes.access = Some(Access::ReadOnly);
        } else if cursor.eat_all(&["read", "write"]) {
            modes.access = Some(Access::ReadWrite);
        } else if cursor.eat_all(&["isolation", "level"]) {
            modes.isolation = isolation(cursor);
        } else if cursor.eat("deferrable") {
            modes.deferrable = Some(true);
        } else if cursor.eat_all(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else if cursor.eat("snapshot") {
            modes.is_shared_snapshot = true;
            cursor.at += 1;
        } else if !cursor.eat_mark(b',') {
            break;
        }
    }
    modes
}

fn isolation(cursor: &mut Cursor<'_>) -> Option<Isolation> {
    if cursor.eat_all(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else if cursor.eat("serializable") {
        Some(Isolation::Serializable)
    } else if cursor.eat_all(&["read", "committed"]) || cursor.eat_all(&["read", "uncommitted"]) {
        Some(Isolation::ReadCommitted)
    } else {
        None
    }
}
