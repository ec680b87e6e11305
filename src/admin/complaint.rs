//! Why a command of the console is not carried out.

use std::borrow::Cow;

/// The code of the console's errors, as PgBouncer gives it to all but one.
const PROTOCOL: &str = "08P01";

/// What a complaint is about; each has PostgreSQL's code for its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the codes")]
pub enum About {
    SyntaxError,
    InsufficientPrivilege,
    UndefinedDatabase,
    UndefinedObject,
    WrongState,
    InvalidValue,
    Cancelled,
    NotSupported,
    ProtocolViolation,
    ConfigFile,
}

impl About {
    /// The SQLSTATE.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SyntaxError => "42601",
            Self::InsufficientPrivilege => "42501",
            Self::UndefinedDatabase => "3D000",
            Self::UndefinedObject => "42704",
            Self::WrongState => "55000",
            Self::InvalidValue => "22023",
            Self::Cancelled => "57014",
            Self::NotSupported => "0A000",
            Self::ProtocolViolation => PROTOCOL,
            Self::ConfigFile => "F0000",
        }
    }
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What it is about.
    pub about: About,
    /// The message.
    pub message: String,
    /// What is behind it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
}

impl Complaint {
    /// A complaint that is all in its message.
    pub fn new(about: About, message: impl Into<String>) -> Self {
        Self {
            about,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same, with what to do about it. Under an ini only the message is told.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The code that PgBouncer gives it: 08P01 for all but a RELOAD that failed. A command that was cancelled, which PgBouncer never
    /// answers, has PostgreSQL's code.
    pub fn pgbouncer_code(&self) -> &'static str {
        match self.about {
            About::ConfigFile | About::Cancelled => self.about.code(),
            _ => PROTOCOL,
        }
    }
}
