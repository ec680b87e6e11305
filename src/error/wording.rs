//! PgBouncer's words for the pooler's errors.
//!
//! Programs match them, so they are PgBouncer's to the letter. Its code is 08P01 for everything that is not a server's own
//! refusal, and a message of its own has at most 127 bytes.

use std::borrow::Cow;

use crate::error::{Error, IMPOSSIBLE_LENGTH, OVERSIZED, Proof};

/// The code of PgBouncer's own errors.
pub const CODE: &str = "08P01";

/// The longest message of its own, in bytes.
const LONGEST: usize = 127;

impl Error {
    /// The code PgBouncer gives it.
    pub fn pgbouncer_code(&self) -> &str {
        match self {
            Self::ServerRefused(refusal)
            | Self::ServerLoginRefused {
                refusal, why: None, ..
            } => &refusal.code,
            _ => CODE,
        }
    }

    /// What PgBouncer says; a server's refusal is passed on whole.
    pub fn pgbouncer_message(&self) -> Cow<'_, str> {
        if let Self::ServerRefused(refusal) | Self::ServerLoginRefused { refusal, .. } = self {
            return Cow::Borrowed(&refusal.message);
        }
        if let Self::ServerKeepsFailing(_) = self {
            return self.message().into();
        }
        cut(self.pgbouncer_words())
    }

    fn pgbouncer_words(&self) -> Cow<'_, str> {
        let fixed = match self {
            Self::QueryWaitTimeout(_) | Self::PausedTooLong(_) => "query_wait_timeout",
            Self::QueryTimeout(_) => "query timeout",
            Self::QueuedQueryTimeout(_) => "query_timeout",
            Self::IdleTransactionTimeout(_) => "idle transaction timeout",
            Self::TransactionTimeout(_) => "transaction timeout",
            Self::ClientIdleTimeout(_) => "client_idle_timeout",
            Self::LoginTimeout(_) => "client_login_timeout",
            Self::ServerDownAtLogin(_) => "client_login_timeout (server down)",
            Self::DatabaseRemoved(_) => "database removed",
            Self::ReplicationRefused(_) => "login failed",
            Self::NoUser => "no username supplied",
            Self::UserTooLong => "username too long",
            Self::LoginFailed { by, .. } => by.pgbouncer_words(),
            Self::ConsoleRefused(_) => "not allowed",
            Self::OldProtocol => "old V2 protocol not supported",
            Self::ServerUnreachable { .. } => "connect failed",
            Self::ServerLost(_) => "server conn crashed?",
            Self::ServerProtocol(OVERSIZED | IMPOSSIBLE_LENGTH) => "bad pkt header",
            Self::ServerProtocol(_) => "unknown pkt from server",
            Self::InvalidParameter(_) => "invalid server parameter",
            Self::StatementExists(_) => "prepared statement name is already in use",
            Self::StatementUnknown(_) => "prepared statement did not exist",
            Self::UnknownMessage(_) => "unknown pkt",
            Self::ShuttingDown => "server shutting down",
            Self::NotAdmitting => "pooler is shutting down",
            Self::NoSuchUser(_) => "no such user",
            Self::AuthQuery(_) | Self::LoginMisconfigured => "bouncer config error",
            Self::BrokenMessage(what) => return format!("broken {what} packet").into(),
            Self::UnknownProtocol(header) => {
                return format!("bad packet header: '{header}'").into();
            }
            // Here both say the same.
            _ => return self.message().into(),
        };
        fixed.into()
    }
}

impl Proof {
    fn pgbouncer_words(self) -> &'static str {
        match self {
            Self::Trust => "\"trust\" authentication failed",
            Self::Password => "password authentication failed",
            Self::Scram => "SASL authentication failed",
            Self::Certificate => "certificate authentication failed",
            Self::Peer => "unix socket login rejected",
            Self::Pam => "PAM authentication failed",
            Self::Ldap => "LDAP authentication failed",
            Self::Rejected => "login rejected",
            Self::NoRule => "no authentication method is found",
        }
    }
}

impl Error {
    /// What a client is told that asks for a server while they cannot be had for this reason.
    pub fn cached(&self) -> Self {
        /// How much of the reason is told, in bytes.
        const TOLD: usize = 99;
        let reason = self.pgbouncer_message();
        let end = (0..=TOLD.min(reason.len()))
            .rev()
            .find(|&at| reason.is_char_boundary(at));
        Self::ServerKeepsFailing(reason[..end.unwrap_or(0)].to_owned())
    }
}

/// The first bytes of `text`, as many whole characters as fit.
pub fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text;
    }
    let end = (0..=LONGEST)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    text[..end].to_owned().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Refusal;

    #[test]
    fn its_own_errors_have_its_words_and_its_code() {
        let limit = Duration::from_secs(1);
        let errors = [
            (Error::QueryWaitTimeout(limit), "query_wait_timeout"),
            (Error::QueryTimeout(limit), "query timeout"),
            (Error::QueuedQueryTimeout(limit), "query_timeout"),
            (Error::NoSuchDatabase("x".into()), "no such database: x"),
            (Error::ConsoleRefused("u".into()), "not allowed"),
            (
                Error::DatabaseDisabled("x".into()),
                "database \"x\" is disabled",
            ),
            (
                Error::TooManyClients(1),
                "no more connections allowed (max_client_conn)",
            ),
            (Error::BrokenMessage("Bind"), "broken Bind packet"),
        ];
        for (error, words) in errors {
            assert_eq!(error.pgbouncer_message(), words);
            assert_eq!(error.pgbouncer_code(), "08P01");
        }
    }

    #[test]
    fn a_servers_refusal_is_passed_on_whole() {
        let refused = Error::ServerRefused(Refusal {
            code: "3D000".into(),
            message: "x".repeat(300),
        });
        assert_eq!(refused.pgbouncer_code(), "3D000");
        assert_eq!(refused.pgbouncer_message().len(), 300);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let error = Error::NoSuchDatabase("ä".repeat(100));
        let said = error.pgbouncer_message();
        assert_eq!(said.len(), 126);
        assert!(said.ends_with('ä'));
    }
}
