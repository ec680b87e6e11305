//! What a session has done, as far as its next route depends on it.
//!
//! A write's position is not asked for. The first position of the primary whose probe was *sent* after the write's reply is an upper bound
//! of it: until that sample is here, the session reads from the primary. The same holds for what it has read: whoever served the
//! read may have been further than the last sample of it says, so only the same node may serve the next one until a sample is
//! sent after it. Positions belong to a reign; after a failover they count only up to where the new one began.

use crate::clock::Moment;
use crate::protocol::effects::{Access, Isolation, Modes};
use crate::routing::catalog::Path;
use crate::routing::classify::Reading;
use crate::topology::node::{Lsn, NodeId};
use crate::topology::phase::Epoch;
use crate::topology::view::ClusterView;

/// Something that later reads must not be behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When its reply was here.
    pub at: Moment,
    /// In which reign.
    pub epoch: Epoch,
    /// The position that it is surely not behind, once known.
    pub lsn: Option<Lsn>,
}

impl Mark {
    /// Of what was answered at `at` in reign `epoch`.
    pub const fn new(at: Moment, epoch: Epoch) -> Self {
        Self {
            at,
            epoch,
            lsn: None,
        }
    }

    /// Takes the position from a view, if its sample was asked for after the mark.
    pub fn learn(&mut self, view: &ClusterView) {
        if self.lsn.is_some() || self.epoch != view.epoch {
            return;
        }
        if let Some(sample) = view.sample.filter(|sample| sample.sent >= self.at) {
            self.lsn = Some(sample.lsn);
        }
    }

    /// What a replica must have replayed; `None` while that is not known.
    pub fn needed(&self, view: &ClusterView) -> Option<Lsn> {
        if self.epoch == view.epoch {
            self.lsn
        } else {
            view.floor
        }
    }
}

/// What a session's settings mean for its route.
#[derive(Debug)]
pub struct Terms {
    /// Where its names are looked up.
    pub path: Path,
    /// How its texts are read.
    pub reading: Reading,
    /// How its transactions begin.
    pub defaults: Modes,
}

impl Terms {
    /// Of a session of `user` with the settings that `get` knows.
    pub fn of<'a>(get: impl Fn(&str) -> Option<&'a str>, user: &str) -> Self {
        let is_somebody_else = get("role").is_some() || get("session_authorization").is_some();
        let path = get("search_path").filter(|_| !is_somebody_else);
        let or = |name, usual| get(name).unwrap_or(usual).as_bytes();
        Self {
            path: path.map_or_else(Path::default, |path| {
                Path::parse(path.as_bytes(), user.as_bytes())
            }),
            reading: Reading::of(
                or("standard_conforming_strings", "on"),
                or("client_encoding", "UTF8"),
            ),
            defaults: defaults(
                get("default_transaction_read_only"),
                get("default_transaction_isolation"),
            ),
        }
    }
}

/// What the values of `default_transaction_read_only` and `default_transaction_isolation` say of a session's transactions, as whoever
/// set them has written them. PostgreSQL takes them in any case, and a switch by its first letters. What cannot be read is taken
/// for the strictest.
fn defaults(read_only: Option<&str>, isolation: Option<&str>) -> Modes {
    Modes {
        access: read_only
            .filter(|value| is_on(value))
            .map(|_| Access::ReadOnly),
        isolation: isolation.map(|level| match &*level.to_ascii_lowercase() {
            "read committed" | "read uncommitted" => Isolation::ReadCommitted,
            "repeatable read" => Isolation::RepeatableRead,
            _ => Isolation::Serializable,
        }),
        ..Modes::default()
    }
}

fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    // Of "o" it is not known whether it is on.
    begins("true") || begins("yes") || value == "on" || value == "1"
}

/// The transaction a session is in, as far as its next statement may go elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// None, or one that stays where it is.
    None,
    /// BEGIN was answered by the pooler; the first statement decides.
    Unbound {
        /// It is READ ONLY.
        is_read_only: bool,
    },
    /// It is on this replica.
    On {
        /// The replica.
        node: NodeId,
        /// It is READ ONLY.
        is_read_only: bool,
        /// It has a snapshot there, or something else that is nowhere else.
        is_fixed: bool,
    },
}

/// What a session has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The transaction it is in.
    pub transaction: Transaction,
    /// Its defaults for transactions: `default_transaction_read_only` and its like.
    pub defaults: Modes,
    /// Its last write, or the last transaction on the primary that was not READ ONLY.
    pub written: Option<Mark>,
    /// Its last read, and who served it.
    pub read: Option<(NodeId, Mark)>,
    /// A READ ONLY transaction of the session has needed the primary: the next ones go there.
    pub avoids_replicas: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            transaction: Transaction::None,
            defaults: Modes::default(),
            written: None,
            read: None,
            avoids_replicas: false,
        }
    }
}

impl Standing {
    /// The session's write was answered.
    pub fn note_write(&mut self, at: Moment, epoch: Epoch) {
        self.written = Some(Mark::new(at, epoch));
    }

    /// The session's read was answered by `node`. What it read before is not newer than what `node` shows, or it had not been sent
    /// there.
    pub fn note_read(&mut self, node: NodeId, at: Moment, epoch: Epoch) {
        self.read = Some((node, Mark::new(at, epoch)));
    }

    /// Takes positions from a new view.
    pub fn learn(&mut self, view: &ClusterView) {
        if let Some(mark) = &mut self.written {
            mark.learn(view);
        }
        if let Some((_, mark)) = &mut self.read {
            mark.learn(view);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Isolation, Path, Terms, defaults};

    #[test]
    fn who_has_become_somebody_else_has_a_path_that_nobody_knows() {
        let path = |role: Option<&'static str>| {
            let get = |name: &str| match name {
                "search_path" => Some("\"$user\", public"),
                "role" => role,
                _ => None,
            };
            Terms::of(get, "joe").path
        };
        assert_eq!(path(None), Path::of_user(b"joe"));
        assert_eq!(path(Some("ann")), Path::default());
    }

    #[test]
    fn defaults_are_read_in_whatever_case_and_as_short_as_postgresql_does() {
        for on in ["on", "ON", "true", "Tr", "t", "yes", "Y", "1"] {
            assert_eq!(defaults(Some(on), None).access, Some(Access::ReadOnly));
        }
        for off in ["off", "OF", "o", "", "f", "False", "no", "0", "11"] {
            assert_eq!(defaults(Some(off), None).access, None, "{off}");
        }
        for (level, wanted) in [
            ("READ COMMITTED", Isolation::ReadCommitted),
            ("read uncommitted", Isolation::ReadCommitted),
            ("Repeatable Read", Isolation::RepeatableRead),
            ("REPEATABLE READ", Isolation::RepeatableRead),
            ("SERIALIZABLE", Isolation::Serializable),
            ("snapshot", Isolation::Serializable),
        ] {
            assert_eq!(defaults(None, Some(level)).isolation, Some(wanted));
        }
        assert_eq!(defaults(None, None).isolation, None, "the server knows");
    }
}
