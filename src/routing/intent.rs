//! What a text asks for, and why it is thought so.

use std::fmt;

/// What a statement, a text or a request asks for. The strictest wins; they stand in the order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent {
    /// It only reads what every node has: any replica may answer.
    Read,
    /// It reads what each node has for itself: the primary, unless the session chose its node.
    NodeLocal,
    /// It uses or changes state of the session: where that state lives.
    Session,
    /// It writes, locks, or does what a standby refuses: the primary.
    Write,
    /// It could not be read: the primary.
    Unknown,
}

impl Intent {
    /// The word for it in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::NodeLocal => "node-local",
            Self::Session => "session",
            Self::Write => "write",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Which rule decided an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Every part is known to read only.
    OnlyReads,
    /// There is no statement.
    Empty,
    /// EXPLAIN does not run what it explains.
    OnlyExplained,
    /// The statement's kind, by its first word.
    Kind(Box<str>),
    /// INSERT, UPDATE, DELETE or MERGE within a query.
    DataModifying(&'static str),
    /// SELECT … INTO makes a table.
    Into,
    /// FOR UPDATE, FOR SHARE and the like.
    RowLock,
    /// COPY from or to something that is not the client.
    CopyFile,
    /// A function, and what is known of it.
    Function(Box<str>, &'static str),
    /// A relation, and what is known of it.
    Relation(Box<str>, &'static str),
    /// A type whose casts or checks call a function that may write.
    Type(Box<str>),
    /// An operator, and what is known of it.
    Operator(Box<str>, &'static str),
    /// A setting that tells which node answers.
    Setting(Box<str>),
    /// It is no SQL that could be read.
    Unreadable(&'static str),
    /// The two readers of SQL do not agree.
    Disagreement(&'static str),
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyReads => out.write_str("every part only reads"),
            Self::Empty => out.write_str("no statement"),
            Self::OnlyExplained => out.write_str("EXPLAIN without ANALYZE runs nothing"),
            Self::Kind(word) => write!(out, "{word}"),
            Self::DataModifying(word) => write!(out, "{word} within a query"),
            Self::Into => out.write_str("SELECT INTO makes a table"),
            Self::RowLock => out.write_str("it locks rows"),
            Self::CopyFile => out.write_str("COPY with the server's files or programs"),
            Self::Function(name, reason) => write!(out, "function {name}: {reason}"),
            Self::Relation(name, reason) => write!(out, "relation {name}: {reason}"),
            Self::Type(name) => write!(out, "type {name}: a cast or check of it may write"),
            Self::Operator(symbol, reason) => write!(out, "operator {symbol}: {reason}"),
            Self::Setting(name) => write!(out, "{name} differs from node to node"),
            Self::Unreadable(reason) | Self::Disagreement(reason) => out.write_str(reason),
        }
    }
}

/// Where a comment in the text asks to go: `/* pooler: primary */`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
}
