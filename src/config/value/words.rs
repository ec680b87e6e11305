//! How each of the words is spelled.

use std::fmt;
use std::str::FromStr;

use crate::config::value::{
    AuthType, LoadBalance, LogFormat, PoolMode, Route, SessionState, TlsMode,
};

/// A set of words of which a setting is one.
pub trait Word: Copy + 'static {
    /// Every member, in the order in which a person would list them.
    const ALL: &'static [Self];
    /// Words that PgBouncer or a later version knows, and this one does not.
    const UNBUILT: &'static [&'static str] = &[];

    /// How it is spelled in a file.
    fn word(self) -> &'static str;
}

/// A text that is none of the words asked for; it carries what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The words that would have been understood.
    pub expected: Vec<&'static str>,
    /// Whether the text means something this version does not have yet.
    pub unbuilt: bool,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unbuilt {
            formatter.write_str("known, but not built in this version; ")?;
        }
        write!(formatter, "expected one of: {}", self.expected.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// The member of `W` spelled `text`.
///
/// # Errors
/// [`UnknownWord`] when there is none.
pub fn word<W: Word>(text: &str) -> Result<W, UnknownWord> {
    let text = text.trim();
    let same = |known: &str| known.eq_ignore_ascii_case(text);
    let found = W::ALL.iter().copied().find(|one| same(one.word()));
    found.ok_or_else(|| UnknownWord {
        expected: W::ALL.iter().map(|one| one.word()).collect(),
        unbuilt: W::UNBUILT.iter().any(|known| same(known)),
    })
}

impl PoolMode {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

impl AuthType {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Plain => "plain",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
            Self::Hba => "hba",
            Self::Ldap => "ldap",
            Self::Pam => "pam",
            Self::Any => "any",
        }
    }
}

impl TlsMode {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the other side's certificate is checked.
    pub const fn is_verifying(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl LogFormat {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::PgBouncer => "pgbouncer",
        }
    }
}

impl SessionState {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Refuse => "refuse",
            Self::PgBouncer => "pgbouncer",
        }
    }
}

impl LoadBalance {
    /// How it is spelled in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Disable => "disable",
        }
    }
}

impl Word for Route {
    const ALL: &'static [Self] = &[Self::Primary, Self::Replica, Self::Auto];

    fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Auto => "auto",
        }
    }
}

impl Word for LoadBalance {
    const ALL: &'static [Self] = &[Self::RoundRobin, Self::Disable];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for PoolMode {
    const ALL: &'static [Self] = &[Self::Session, Self::Transaction, Self::Statement];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for AuthType {
    const ALL: &'static [Self] = &[
        Self::Trust,
        Self::Plain,
        Self::Md5,
        Self::ScramSha256,
        Self::Cert,
        Self::Hba,
        Self::Ldap,
        Self::Pam,
        Self::Any,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for TlsMode {
    const ALL: &'static [Self] = &[
        Self::Disable,
        Self::Allow,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for LogFormat {
    const ALL: &'static [Self] = &[Self::Text, Self::Json, Self::PgBouncer];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for SessionState {
    const ALL: &'static [Self] = &[Self::Keep, Self::Refuse, Self::PgBouncer];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl FromStr for PoolMode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
    }
}

impl FromStr for AuthType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
    }
}

impl FromStr for TlsMode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
    }
}

impl FromStr for LogFormat {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
    }
}

impl FromStr for SessionState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
    }
}
