//! What the person behind a client is told: the message, the facts, what to do about it.

use std::borrow::Cow;

use crate::error::{Error, Proof};

const ELSEWHERE: &str = "this statement needs the primary, and its transaction has a snapshot, or what is like it, on a replica";
const UNKNOWN: &str =
    "the server was lost before it answered: whether this was committed is not known";
const READ_LOST: &str =
    "the server was lost before it answered: this only reads, and nothing was changed";

impl Error {
    /// What happened, in a sentence.
    #[expect(clippy::too_many_lines, reason = "a plain table, one line per reason")]
    pub fn message(&self) -> String {
        match self {
            Self::QueryWaitTimeout(_) | Self::Pinned(..) => {
                "query_wait_timeout: no server became free in time".into()
            }
            Self::NotificationsUnread(_) => "the client does not read its notifications".into(),
            Self::NoPlaceToListen(_) => "there is no server connection to listen on".into(),
            Self::PinTimeout(_, pins) => pinned_too_long(pins),
            Self::PausedTooLong(_) => "query_wait_timeout: the database is paused".into(),
            Self::QueryTimeout(_) => {
                "query timeout: the query ran longer than query_timeout".into()
            }
            Self::QueuedQueryTimeout(_) => {
                "query_timeout: no server became free within query_timeout".into()
            }
            Self::IdleTransactionTimeout(_) => "idle transaction timeout".into(),
            Self::TransactionTimeout(_) => "transaction timeout".into(),
            Self::ClientIdleTimeout(_) => {
                "client_idle_timeout: the connection was idle for too long".into()
            }
            Self::LoginTimeout(_) => "client_login_timeout: the login took too long".into(),
            Self::ServerDownAtLogin(_) => "client_login_timeout: the server is down".into(),
            Self::TooManyClients(_) => "no more connections allowed (max_client_conn)".into(),
            Self::TooManyDatabaseClients(..) => {
                "client connections exceeded (max_db_client_connections)".into()
            }
            Self::TooManyUserClients(..) => {
                "client connections exceeded (max_user_client_connections)".into()
            }
            Self::NoSuchDatabase(name) => format!("no such database: {name}"),
            Self::DatabaseDisabled(name) => format!("database \"{name}\" is disabled"),
            Self::DatabaseRemoved(name) => format!("database \"{name}\" was removed"),
            Self::NoUser => "no user name in the startup packet".into(),
            Self::UserTooLong => "the user name is too large".into(),
            Self::LoginFailed { user, by } => format!("{} for user \"{user}\"", by.failed()),
            Self::ConsoleRefused(user) => format!("user \"{user}\" is not allowed on the console"),
            Self::TlsRequired => "SSL required".into(),
            Self::ClearBytesBeforeTls(request) => {
                format!("received unencrypted data after {request}")
            }
            Self::OldProtocol | Self::UnknownProtocol(_) => {
                "this version of the frontend/backend protocol is not supported".into()
            }
            Self::ServerRefused(refusal)
            | Self::ReplicationRefused(refusal)
            | Self::ServerLoginRefused { refusal, .. }
            | Self::InvalidParameter(refusal) => refusal.message.clone(),
            Self::EmptyPassword(_) => "empty password returned by client".into(),
            Self::NoSuchUser(user) => format!("no such user: \"{user}\""),
            Self::LoginMisconfigured => {
                "the pooler is not configured to let this client log in".into()
            }
            Self::AuthDatabaseDisabled(name) => {
                format!("authentication database \"{name}\" is disabled")
            }
            Self::ServersReplaced => "database configuration changed".into(),
            Self::ServerUnreachable { address, .. } => {
                format!("cannot connect to the server at {address}")
            }
            Self::ServerKeepsFailing(reason) => {
                format!(
                    "server login has been failing, cached error: {reason} (server_login_retry)"
                )
            }
            Self::ServerLost(_) => "the server closed the connection unexpectedly".into(),
            Self::ServerProtocol(_) => "the server broke the protocol".into(),
            Self::Protocol(what) => what.clone(),
            Self::BrokenMessage(what) => format!("broken {what} message"),
            Self::UnknownMessage(tag) => format!("unknown message type {:?}", char::from(*tag)),
            Self::StatementExists(name) => {
                format!("prepared statement \"{name}\" already exists")
            }
            Self::StatementUnknown(name) => {
                format!("prepared statement \"{name}\" does not exist")
            }
            Self::TooLarge(what) => format!("{what} is too large"),
            Self::NotSupported(what) => format!("{what} is not supported"),
            Self::TransactionInStatementMode => {
                "transaction blocks not allowed in statement pooling mode".into()
            }
            Self::SimpleQueryDisallowed => "PQexec disallowed".into(),
            Self::ShuttingDown | Self::NotAdmitting => {
                "terminating connection: the pooler is shutting down".into()
            }
            Self::SuspendTimeout => "suspend_timeout".into(),
            Self::Killed => "admin forced disconnect".into(),
            Self::AuthQuery(_) => "auth_query failed".into(),
            Self::NoPrimary { cluster, .. } => no_node(cluster, "takes writes"),
            Self::NoReplica { cluster } => no_node(cluster, "may serve reads"),
            Self::OutcomeUnknown => UNKNOWN.into(),
            Self::ReadLost => READ_LOST.into(),
            Self::TransactionLost => {
                "the server was lost: nothing of this transaction was committed".into()
            }
            Self::SnapshotOnReplica => ELSEWHERE.into(),
            Self::ClientGone => "client unexpected eof".into(),
            Self::Internal => "internal error of the pooler".into(),
        }
    }

    /// The facts behind the message, where there are some.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::QueryWaitTimeout(limit)
            | Self::Pinned(limit, _)
            | Self::PinTimeout(limit, _)
            | Self::PausedTooLong(limit)
            | Self::ServerDownAtLogin(limit)
            | Self::QueryTimeout(limit)
            | Self::QueuedQueryTimeout(limit)
            | Self::IdleTransactionTimeout(limit)
            | Self::TransactionTimeout(limit)
            | Self::ClientIdleTimeout(limit)
            | Self::LoginTimeout(limit) => Some(format!("The limit is {limit:?}.")),
            Self::NotificationsUnread(limit) => {
                Some(format!("More than {limit} bytes were waiting for it."))
            }
            Self::NoPlaceToListen(limit) => Some(format!("max_db_connections is {limit}.")),
            Self::TooManyClients(limit)
            | Self::TooManyDatabaseClients(_, limit)
            | Self::TooManyUserClients(_, limit) => Some(format!("The limit is {limit}.")),
            Self::ServerUnreachable { reason, .. } => Some(reason.clone()),
            Self::ServerLost(when) => Some(format!("It happened {when}.")),
            Self::ServerProtocol(what) => Some((*what).into()),
            Self::InvalidParameter(_) => {
                Some("The setting came with the connection's startup packet.".into())
            }
            Self::AuthQuery(why) => Some(why.clone()),
            Self::LoginMisconfigured => Some("The pooler's log says why.".into()),
            Self::ServerLoginRefused {
                why, address, user, ..
            } => Some(format!(
                "The pooler itself could not log in to the server at {address} as user \"{user}\".{}{}",
                if why.is_some() { " " } else { "" },
                why.unwrap_or_default()
            )),
            Self::NoPrimary { standing, .. } => Some(standing.clone()),
            _ => None,
        }
    }

    /// What to do about it, where the pooler can tell.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        if let Self::Pinned(_, pins) = self {
            let what = "SHOW PINS lists them; shorten that state's life, raise pool_size, or set pin_timeout.";
            return Some(Cow::Owned(format!("{pins}. {what}")));
        }
        self.fixed_hint().map(Cow::Borrowed)
    }

    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Self::PausedTooLong(_) => {
                Some("An operator said PAUSE or KILL at the console; RESUME ends that.")
            }
            Self::ServerDownAtLogin(_) => {
                Some("No server of this pool has logged in yet: the pooler's log says why.")
            }
            Self::QueryWaitTimeout(_) | Self::QueuedQueryTimeout(_) => Some(
                "All servers of the pool are busy: shorten transactions, or raise pool_size or query_wait_timeout.",
            ),
            Self::TooManyClients(_) => {
                Some("Raise max_client_conn, or let idle clients go (client_idle_timeout).")
            }
            Self::NoSuchDatabase(_) => Some(
                "Add it under [databases] in the pooler's configuration, or add a \"*\" entry.",
            ),
            Self::OutcomeUnknown => Some("Check whether it was done before it is done again."),
            Self::ReadLost => Some("Run it again."),
            Self::TransactionLost => Some("Roll it back and run it again."),
            Self::SnapshotOnReplica => Some(
                "Roll it back and run it again: this session's READ ONLY transactions go to the primary from now on.",
            ),
            Self::TlsRequired => Some("Connect with sslmode=require."),
            Self::TransactionInStatementMode => {
                Some("Use pool_mode = \"transaction\" for this database.")
            }
            Self::ServerLost(_) => {
                Some("If a COMMIT was under way its outcome is unknown: check before repeating it.")
            }
            Self::ServerUnreachable { at, .. } => Some(at.hint()),
            Self::ServerLoginRefused { refusal, .. } if refusal.code.starts_with("28") => Some(
                "It is not the client's password that was wrong. Check the password that the pooler has for this user ([databases], [users], auth_file, or what auth_query returned), and pg_hba.conf of that server.",
            ),
            Self::Internal => Some("This is a bug: the pooler's log says where."),
            Self::ConsoleRefused(_) => Some(
                "Add the user to admin_users or stats_users; where there is no file, to POOLER__POOLER__ADMIN_USERS.",
            ),
            Self::NoPrimary { .. } => {
                Some("SHOW NODES in the pooler's console says what each node answers.")
            }
            _ => None,
        }
    }
}

impl Proof {
    /// What did not work.
    fn failed(self) -> &'static str {
        match self {
            Self::Trust | Self::Password | Self::Scram => "password authentication failed",
            Self::Certificate => "certificate authentication failed",
            Self::Peer => "peer authentication failed",
            Self::Pam => "PAM authentication failed",
            Self::Ldap => "LDAP authentication failed",
            Self::Rejected => "a rule of auth_hba_file rejects the login",
            Self::NoRule => "no rule of auth_hba_file is about the login",
        }
    }
}

fn no_node(cluster: &str, does: &str) -> String {
    format!("no node of the cluster \"{cluster}\" {does}")
}

fn pinned_too_long(pins: &str) -> String {
    format!(
        "pin_timeout: the connection was idle for too long while its session state kept a server: {pins}"
    )
}
