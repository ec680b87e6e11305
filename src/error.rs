//! Every failure of the pooler: one variant per reason, facts as fields.
//!
//! [`Error::sqlstate`] is what a client may act on, [`Error::message`], [`Error::detail`] and [`Error::hint`] are for
//! the person behind it, [`Error::blame`] labels logs. Only `clients/` turns an error into bytes; deeper
//! code returns it. No variant holds a secret.

pub mod wording;
mod words;

use std::fmt;
use std::time::Duration;

/// What is wrong with a server's message that is larger than `max_packet_size`.
pub const OVERSIZED: &str = "a message is larger than max_packet_size";
/// What is wrong with a server's message whose length nobody could mean.
pub const IMPOSSIBLE_LENGTH: &str = "a message has an impossible length";

/// Whether a client's session survives the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word PostgreSQL uses for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// Whose doing a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The application did what it must not, or left.
    Client,
    /// PostgreSQL, or the way to it, failed.
    Server,
    /// The pooler's limits or state.
    Pooler,
    /// Somebody with the console, a signal or the configuration.
    Operator,
}

/// By what a client could not prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was asked, but the user is unknown.
    Trust,
    /// A password, in clear or hashed with md5.
    Password,
    /// SCRAM.
    Scram,
    /// The certificate of its TLS connection.
    Certificate,
    /// The user that the system names at the other end of a Unix socket.
    Peer,
    /// What PAM says of its password.
    Pam,
    /// What a directory says of its password.
    Ldap,
    /// A rule rejects it, whatever it could prove.
    Rejected,
    /// No rule is about it.
    NoRule,
}

/// What a server said when it refused: kept so that the client hears it in the server's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The server's SQLSTATE.
    pub code: String,
    /// The server's message.
    pub message: String,
}

/// What was in the way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The host's name has no address.
    Name,
    /// Nobody answered there, or not in time.
    Address,
    /// It answered, but TLS did not come about.
    Tls,
}

impl Obstacle {
    /// What to look at.
    const fn hint(self) -> &'static str {
        match self {
            Self::Name => {
                "Check the spelling of host in [databases], and that the pooler's machine can resolve it."
            }
            Self::Address => {
                "Check that PostgreSQL runs there and that host and port in [databases] are right."
            }
            Self::Tls => {
                "PostgreSQL answers there. Check ssl in postgresql.conf, and server_tls_sslmode and server_tls_ca_file here."
            }
        }
    }
}

/// A reason for which something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The client waited longer than `query_wait_timeout` for a server.
    QueryWaitTimeout(Duration),
    /// The same, while PAUSE held the servers back.
    PausedTooLong(Duration),
    /// A query ran longer than `query_timeout`.
    QueryTimeout(Duration),
    /// A query waited for a server longer than `query_timeout`.
    QueuedQueryTimeout(Duration),
    /// The client held a transaction open, doing nothing, longer than `idle_transaction_timeout`.
    IdleTransactionTimeout(Duration),
    /// A transaction took longer than `transaction_timeout`.
    TransactionTimeout(Duration),
    /// The client sent nothing for longer than `client_idle_timeout`.
    ClientIdleTimeout(Duration),
    /// Session state tied the client to its server while it did nothing for longer than `pin_timeout`.
    PinTimeout(Duration, String),
    /// The client waited longer than `query_wait_timeout` for a server, while others kept theirs for their session state.
    Pinned(Duration, String),
    /// So many bytes of notifications wait for the client, and it does not read them.
    NotificationsUnread(usize),
    /// `max_db_connections` leaves no place for the connection that listens.
    NoPlaceToListen(usize),
    /// The client did not finish its login within `client_login_timeout`.
    LoginTimeout(Duration),
    /// The login was good, but no server could be reached within `client_login_timeout`.
    ServerDownAtLogin(Duration),
    /// `max_client_conn` clients are connected already.
    TooManyClients(usize),
    /// The database's client limit is reached.
    TooManyDatabaseClients(String, usize),
    /// The user's client limit is reached.
    TooManyUserClients(String, usize),
    /// No such database is configured.
    NoSuchDatabase(String),
    /// `DISABLE` was said for this database.
    DatabaseDisabled(String),
    /// A reload removed the database, or `KILL` ended it.
    DatabaseRemoved(String),
    /// The startup packet names no user.
    NoUser,
    /// The user's name is longer than any may be.
    UserTooLong,
    /// The proof that was asked for is wrong or missing, or the user is unknown.
    LoginFailed {
        /// Who wanted in.
        user: String,
        /// What it should have proved itself by.
        by: Proof,
    },
    /// The client answered the demand for a password with nothing.
    EmptyPassword(String),
    /// `auth_query` found no such user; told only where PgBouncer tells it.
    NoSuchUser(String),
    /// The settings leave this client no way to log in; the log says why.
    LoginMisconfigured,
    /// `auth_query` belongs to a database for which `DISABLE` was said.
    AuthDatabaseDisabled(String),
    /// The user is not in `admin_users` nor in `stats_users`.
    ConsoleRefused(String),
    /// The client must use TLS and does not.
    TlsRequired,
    /// The client sent bytes in clear behind its request for encryption, which is named here.
    ClearBytesBeforeTls(&'static str),
    /// The client speaks protocol 2, out of use since 2003.
    OldProtocol,
    /// The client speaks another protocol; the beginning of its packet, in hex.
    UnknownProtocol(String),
    /// A server's answer to a login, in its own words.
    ServerRefused(Refusal),
    /// The same, to a login for a client that speaks the replication protocol.
    ReplicationRefused(Refusal),
    /// RECONNECT, or a reload that changed where the servers are, ended a client that would not have given its server back.
    ServersReplaced,
    /// A server refused the pooler's own login, in its words or ours: no fault of the client.
    ServerLoginRefused {
        /// The reason.
        refusal: Refusal,
        /// Where the pooler gave up before the server did: why.
        why: Option<&'static str>,
        /// The address of the server.
        address: String,
        /// As whom the pooler wanted to log in.
        user: String,
    },
    /// No connection to the server could be made.
    ServerUnreachable {
        /// What was in the way.
        at: Obstacle,
        /// The address that was tried.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Servers of the pool could not be had a moment ago, for this reason, and it is too early to try again.
    ServerKeepsFailing(String),
    /// The server went away in the middle of something.
    ServerLost(&'static str),
    /// The server said what PostgreSQL does not say.
    ServerProtocol(&'static str),
    /// The server did not accept a setting that the client carries.
    InvalidParameter(Refusal),
    /// A client's message breaks the protocol.
    Protocol(String),
    /// A client's message of this kind does not hold what it must.
    BrokenMessage(&'static str),
    /// A client's message of a kind that no client may send.
    UnknownMessage(u8),
    /// A client prepares a statement under a name that it gave already.
    StatementExists(String),
    /// A client uses a prepared statement that it did not prepare.
    StatementUnknown(String),
    /// A client's message is larger than it may be.
    TooLarge(&'static str),
    /// A feature that the pooler does not have.
    NotSupported(String),
    /// BEGIN in statement mode.
    TransactionInStatementMode,
    /// `disable_pqexec` is set and the client sent a simple query.
    SimpleQueryDisallowed,
    /// The pooler is going down.
    ShuttingDown,
    /// The pooler is going down and lets nobody in.
    NotAdmitting,
    /// It could not be brought to a standstill within `suspend_timeout`.
    SuspendTimeout,
    /// `KILL_CLIENT`.
    Killed,
    /// `auth_query` could not be run.
    AuthQuery(String),
    /// No node of the cluster is known to take writes, and the client has waited as long as it may.
    NoPrimary {
        /// The cluster.
        cluster: String,
        /// How it stands, for people.
        standing: String,
    },
    /// No replica of the cluster may serve a read, and the settings allow nobody else.
    NoReplica {
        /// The cluster.
        cluster: String,
    },
    /// The server was lost after it had been sent what may have been committed.
    OutcomeUnknown,
    /// The server was lost before it had answered all of what is known to read and nothing else, and which is not asked again.
    ReadLost,
    /// The server was lost inside a transaction, of which nothing is committed.
    TransactionLost,
    /// A statement is the primary's, and its transaction has promised on a replica what only that has.
    SnapshotOnReplica,
    /// The client went away.
    ClientGone,
    /// A panic, stopped at the client's border.
    Internal,
}

impl Error {
    /// The code a client may act on (PostgreSQL's appendix A).
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::QueryWaitTimeout(_)
            | Self::Pinned(..)
            | Self::NoPlaceToListen(_)
            | Self::TooManyClients(_)
            | Self::TooManyDatabaseClients(..)
            | Self::TooManyUserClients(..) => "53300",
            Self::PausedTooLong(_) => "57P03",
            Self::NotificationsUnread(_) => "54000",
            Self::QueryTimeout(_) | Self::QueuedQueryTimeout(_) => "57014",
            Self::IdleTransactionTimeout(_) => "25P03",
            Self::TransactionTimeout(_) => "25P04",
            Self::ClientIdleTimeout(_) | Self::PinTimeout(..) => "57P05",
            Self::LoginTimeout(_) | Self::ServerDownAtLogin(_) => "08006",
            Self::NoSuchDatabase(_) => "3D000",
            Self::DatabaseDisabled(_) | Self::NoPrimary { .. } | Self::NoReplica { .. } => "57P03",
            Self::OutcomeUnknown => "08007",
            Self::TransactionLost | Self::SnapshotOnReplica => "40001",
            Self::DatabaseRemoved(_)
            | Self::ServersReplaced
            | Self::ShuttingDown
            | Self::NotAdmitting
            | Self::SuspendTimeout
            | Self::Killed => "57P01",
            Self::NoUser | Self::ConsoleRefused(_) | Self::TlsRequired => "28000",
            Self::EmptyPassword(_) => "28P01",
            Self::NoSuchUser(_) => "28000",
            Self::LoginMisconfigured => "58000",
            Self::AuthDatabaseDisabled(_) => "57P03",
            Self::LoginFailed { by, .. } => match by {
                Proof::Trust | Proof::Password | Proof::Scram | Proof::Pam | Proof::Ldap => "28P01",
                Proof::Certificate | Proof::Peer | Proof::Rejected | Proof::NoRule => "28000",
            },
            Self::ServerRefused(refusal)
            | Self::ReplicationRefused(refusal)
            | Self::ServerLoginRefused { refusal, .. }
            | Self::InvalidParameter(refusal) => &refusal.code,
            Self::ServerUnreachable { .. }
            | Self::ServerKeepsFailing(_)
            | Self::ServerLost(_)
            | Self::ReadLost
            | Self::ClientGone => "08006",
            Self::ServerProtocol(_)
            | Self::Protocol(_)
            | Self::BrokenMessage(_)
            | Self::UnknownMessage(_)
            | Self::ClearBytesBeforeTls(_)
            | Self::SimpleQueryDisallowed => "08P01",
            Self::StatementExists(_) => "42P05",
            Self::StatementUnknown(_) => "26000",
            Self::TooLarge(_) | Self::UserTooLong => "54000",
            Self::NotSupported(_)
            | Self::OldProtocol
            | Self::UnknownProtocol(_)
            | Self::TransactionInStatementMode => "0A000",
            Self::AuthQuery(_) => "58000",
            Self::Internal => "XX000",
        }
    }

    /// Whether the session ends: all of the pooler's own errors end it, but those that tell a client what a server that is lost, or not to be had,
    /// means for its request.
    pub fn severity(&self) -> Severity {
        let is_survived = matches!(
            self,
            Self::NoPrimary { .. }
                | Self::NoReplica { .. }
                | Self::OutcomeUnknown
                | Self::ReadLost
                | Self::TransactionLost
                | Self::SnapshotOnReplica
        );
        if is_survived {
            Severity::Error
        } else {
            Severity::Fatal
        }
    }

    /// Whose doing it is.
    #[expect(clippy::too_many_lines, reason = "a plain table, one line per reason")]
    pub fn blame(&self) -> Blame {
        match self {
            Self::IdleTransactionTimeout(_)
            | Self::NotificationsUnread(_)
            | Self::ClientIdleTimeout(_)
            | Self::PinTimeout(..)
            | Self::LoginTimeout(_)
            | Self::NoSuchDatabase(_)
            | Self::NoUser
            | Self::UserTooLong
            | Self::LoginFailed { .. }
            | Self::EmptyPassword(_)
            | Self::NoSuchUser(_)
            | Self::ConsoleRefused(_)
            | Self::TlsRequired
            | Self::ClearBytesBeforeTls(_)
            | Self::OldProtocol
            | Self::UnknownProtocol(_)
            | Self::BrokenMessage(_)
            | Self::UnknownMessage(_)
            | Self::StatementExists(_)
            | Self::StatementUnknown(_)
            | Self::InvalidParameter(_)
            | Self::Protocol(_)
            | Self::TooLarge(_)
            | Self::NotSupported(_)
            | Self::TransactionInStatementMode
            | Self::SimpleQueryDisallowed
            | Self::ClientGone => Blame::Client,
            Self::ServerRefused(_)
            | Self::ReplicationRefused(_)
            | Self::ServerLoginRefused { .. }
            | Self::ServerUnreachable { .. }
            | Self::ServerKeepsFailing(_)
            | Self::ServerLost(_)
            | Self::ServerProtocol(_)
            | Self::ServerDownAtLogin(_)
            | Self::QueryTimeout(_)
            | Self::TransactionTimeout(_)
            | Self::NoPrimary { .. }
            | Self::NoReplica { .. }
            | Self::OutcomeUnknown
            | Self::ReadLost
            | Self::TransactionLost
            | Self::SnapshotOnReplica => Blame::Server,
            Self::QueryWaitTimeout(_)
            | Self::NoPlaceToListen(_)
            | Self::Pinned(..)
            | Self::QueuedQueryTimeout(_)
            | Self::TooManyClients(_)
            | Self::TooManyDatabaseClients(..)
            | Self::TooManyUserClients(..)
            | Self::AuthQuery(_)
            | Self::LoginMisconfigured
            | Self::Internal => Blame::Pooler,
            Self::PausedTooLong(_)
            | Self::DatabaseDisabled(_)
            | Self::AuthDatabaseDisabled(_)
            | Self::DatabaseRemoved(_)
            | Self::ServersReplaced
            | Self::ShuttingDown
            | Self::NotAdmitting
            | Self::SuspendTimeout
            | Self::Killed => Blame::Operator,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message())?;
        if let Some(detail) = self.detail() {
            write!(formatter, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::{Error, Refusal, Severity};

    #[test]
    fn a_session_outlives_its_server_and_no_order_to_end() {
        assert_eq!(Error::TransactionLost.severity(), Severity::Error);
        assert_eq!(Error::Killed.severity(), Severity::Fatal);
    }

    #[test]
    fn a_refusal_keeps_the_servers_own_code_and_words() {
        let refused = Error::ServerRefused(Refusal {
            code: "3D000".into(),
            message: "no".into(),
        });
        assert_eq!(
            (refused.sqlstate(), refused.message().as_str()),
            ("3D000", "no")
        );
    }
}
