//! What is told of clients and servers, in our words or in PgBouncer's.
//!
//! PgBouncer's lines begin with who it is about, `C-…: db/user@host:port ` or `S-…: …`, and programs match what follows.

use std::fmt;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::error::{Error, Obstacle};
use crate::stats::census::{ClientFacts, ServerFacts};
use crate::telemetry::log;

/// Who a line is about.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// `C` or `S`.
    pub kind: char,
    /// Its number in the census.
    pub id: u64,
    /// Its database, if it has said so.
    pub database: &'a str,
    /// Its user, if it has said so.
    pub user: &'a str,
    /// The other end's address; `unix` for a Unix socket.
    pub address: &'a str,
    /// The other end's port; for a Unix socket the port in its name.
    pub port: u16,
    /// The process at the other end of a Unix socket; 0 where it is not known.
    pub pid: u32,
}

impl<'a> Who<'a> {
    /// A client that is logged in.
    pub fn client(id: u64, facts: &'a ClientFacts) -> Self {
        Self {
            kind: 'C',
            id,
            database: &facts.database,
            user: &facts.user,
            address: &facts.address,
            port: facts.port,
            pid: facts.remote_pid,
        }
    }

    /// A connection on its way to a server of a database, for a user, at an address.
    pub fn dialled(id: u64, of: (&'a str, &'a str), at: (&'a str, u16)) -> Self {
        Self {
            kind: 'S',
            id,
            database: of.0,
            user: of.1,
            address: at.0,
            port: at.1,
            pid: 0,
        }
    }

    /// A server.
    pub fn server(id: u64, facts: &'a ServerFacts) -> Self {
        Self {
            kind: 'S',
            id,
            database: &facts.database,
            user: &facts.user,
            address: &facts.address,
            port: facts.port,
            pid: 0,
        }
    }
}

const UNIX: &str = "unix";

impl fmt::Display for Who<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |name, nobody| {
            if self.database.is_empty() && self.user.is_empty() {
                nobody
            } else {
                name
            }
        };
        let (database, user) = (named(self.database, "(nodb)"), named(self.user, "(nouser)"));
        let (kind, id) = (self.kind, self.id);
        write!(formatter, "{kind}-{id:#x}: {database}/{user}@")?;
        if self.address == UNIX && self.pid != 0 {
            write!(formatter, "unix({}):{}", self.pid, self.port)
        } else if self.address.contains(':') {
            write!(formatter, "[{}]:{}", self.address, self.port)
        } else {
            write!(formatter, "{}:{}", self.address, self.port)
        }
    }
}

/// What a client's login says of it, beside who it is.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// `TLSv1.3/…`, or empty.
    pub tls: &'a str,
    /// The value of the startup parameter `replication`, where it asks for that.
    pub replication: Option<&'a str>,
}

/// A client that wants in has said who it is.
pub fn login_attempt(who: Who<'_>, attempt: Attempt<'_>) {
    if !log::is_as_pgbouncer() {
        return;
    }
    let tls = if attempt.tls.is_empty() {
        "no"
    } else {
        attempt.tls
    };
    let replication = match attempt.replication {
        None => "no",
        Some(word) if word.eq_ignore_ascii_case("database") => "database",
        Some(_) => "yes",
    };
    let (database, user) = (who.database, who.user);
    info!("{who} login attempt: db={database} user={user} tls={tls} replication={replication}");
}

/// A server is brought to a client's parameters.
pub fn parameters_applied(server: Who<'_>, sql: &str) {
    debug!("{server} varcache_apply: {sql}");
}

/// A server has taken a parameter of a client's by a spelling of its own.
pub fn parameter_taken(client: Who<'_>, name: &str, (from, to): (&str, &str)) {
    debug!(
        "{client} varcache_set_canonical: setting {name} to its canonical version {from} -> {to}"
    );
}

/// A client is logged in.
pub fn client_logged_in(who: Who<'_>, tls: &str) {
    if !log::is_as_pgbouncer() {
        let address = Address(who);
        info!(client = who.id, database = who.database, user = who.user, %address, tls, "client logged in");
    }
}

/// A login was refused.
pub fn login_refused(who: Who<'_>, error: &Error, age: Duration, wishes: Wishes) {
    if !log::is_as_pgbouncer() {
        if wishes.errors {
            let client = Address(who);
            info!(%client, %error, code = error.sqlstate(), "login refused");
        }
        return;
    }
    closing(who, &error.pgbouncer_message(), age, wishes.disconnections);
    if wishes.errors {
        warn!("{who} pooler error: {}", error.pgbouncer_message());
    }
}

/// Which of its doings are logged: `log_disconnections` and `log_pooler_errors`.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// `log_disconnections`.
    pub disconnections: bool,
    /// `log_pooler_errors`.
    pub errors: bool,
}

/// A client's session is over.
pub fn client_ended(who: Who<'_>, result: &Result<(), Error>, age: Duration, wishes: Wishes) {
    if log::is_as_pgbouncer() {
        return match result {
            Ok(()) => closing(who, "client close request", age, wishes.disconnections),
            Err(Error::ClientGone) => {
                closing(who, "client unexpected eof", age, wishes.disconnections);
            }
            Err(error) => {
                if let Error::StatementExists(name) = error {
                    error!("{who} prepared statement '{name}' was already prepared");
                }
                let said = error.pgbouncer_message();
                closing(who, &said, age, wishes.disconnections);
                if wishes.errors {
                    warn!("{who} pooler error: {said}");
                }
            }
        };
    }
    let (client, database, user) = (who.id, who.database, who.user);
    match result {
        Err(error) if *error != Error::ClientGone && wishes.errors => {
            let (code, blame, reason) = (error.sqlstate(), error.blame(), error.to_string());
            warn!(client, database, user, code, ?blame, reason, "client ended");
        }
        Ok(()) | Err(_) if wishes.disconnections => {
            let reason = match result {
                Ok(()) => "client close request".to_owned(),
                Err(error) => error.to_string(),
            };
            info!(client, database, user, reason, "client left");
        }
        Ok(()) | Err(_) => {}
    }
}

/// A connection to a server has been made, before anything is said there; `from` is our end of it.
pub fn server_connected(who: Who<'_>, from: &str, tls: &str) {
    if !log::is_as_pgbouncer() {
        return;
    }
    if who.address == UNIX {
        info!("{who} new connection to server");
    } else {
        info!("{who} new connection to server (from {from})");
    }
    if !tls.is_empty() {
        info!("{who} SSL established: {tls}");
    }
}

/// A server is closed.
pub fn server_closed(who: Who<'_>, reason: &str, age: Duration, is_logged: bool) {
    if log::is_as_pgbouncer() {
        closing(who, reason, age, is_logged);
    } else {
        debug!(
            server = who.id,
            database = who.database,
            user = who.user,
            reason,
            "server closed"
        );
    }
}

/// A server refused the login, or could not be reached.
pub fn server_failed(who: Who<'_>, error: &Error, age: Duration, is_logged: bool) {
    if !log::is_as_pgbouncer() {
        let (database, user) = (who.database, who.user);
        return warn!(database, user, %error, "server login failed");
    }
    let reason = match error {
        Error::ReplicationRefused(refusal) => {
            warn!("{who} server login failed: FATAL {}", refusal.message);
            "login failed"
        }
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. } => {
            warn!("{who} server login failed: FATAL {}", refusal.message);
            refusal.message.as_str()
        }
        Error::ServerUnreachable {
            at: Obstacle::Tls,
            reason,
            ..
        } => {
            // Programs look for OpenSSL's words.
            let is_certificate = reason.contains("certificate");
            let verdict = if is_certificate {
                "certificate verify failed: "
            } else {
                ""
            };
            warn!("{who} TLS handshake error: {verdict}{reason}");
            "server conn crashed?"
        }
        Error::ServerUnreachable { reason, .. } if reason.contains("lookup") => {
            "server DNS lookup failed"
        }
        Error::ServerUnreachable { reason, .. } if reason.starts_with("connect timeout") => {
            "connect timeout"
        }
        Error::ServerUnreachable { .. } => "connect failed",
        _ => "server conn crashed?",
    };
    closing(who, reason, age, is_logged);
}

/// A pool opens a server beyond its size.
pub fn reserve_taken(database: &str, user: &str) {
    if log::is_as_pgbouncer() {
        warn!("{database}/{user}: taking connection from reserve_pool");
    } else {
        warn!(database, user, "taking connection from reserve_pool");
    }
}

/// A database was made out of the `*` entry.
pub fn database_made(name: &str) {
    if log::is_as_pgbouncer() {
        info!("registered new auto-database: {name}");
    } else {
        info!(database = name, "registered new auto-database");
    }
}

/// A database is there no more.
pub fn database_dropped(name: &str) {
    if log::is_as_pgbouncer() {
        warn!("dropping database '{name}' as it does not exist anymore or inactive auto-database");
    } else {
        info!(
            database = name,
            "database dropped: it is not configured any more, or made from \"*\" and unused"
        );
    }
}

/// A command of the console was refused.
pub fn command_refused(who: Who<'_>, message: &str, wishes: Wishes) {
    if !log::is_as_pgbouncer() {
        if wishes.errors {
            let (client, user) = (who.id, who.user);
            info!(client, user, reason = message, "console command refused");
        }
        return;
    }
    error!("{message}");
    if wishes.errors {
        warn!("{who} pooler error: {message}");
    }
}

fn closing(who: Who<'_>, reason: &str, age: Duration, is_logged: bool) {
    if is_logged {
        info!("{who} closing because: {reason} (age={}s)", age.as_secs());
    }
}

/// Address and port of somebody, for a field.
struct Address<'a>(Who<'a>);

impl fmt::Display for Address<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.0;
        if who.address == UNIX {
            formatter.write_str(UNIX)
        } else if who.address.contains(':') {
            write!(formatter, "[{}]:{}", who.address, who.port)
        } else {
            write!(formatter, "{}:{}", who.address, who.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Who;

    #[test]
    fn a_line_begins_with_who_it_is_about() {
        let who = |address, port| Who {
            kind: 'C',
            id: 26,
            database: "app",
            user: "ann",
            address,
            port,
            pid: 77,
        };
        assert_eq!(who("10.0.0.1", 5).to_string(), "C-0x1a: app/ann@10.0.0.1:5");
        assert_eq!(who("::1", 5).to_string(), "C-0x1a: app/ann@[::1]:5");
        assert_eq!(who("unix", 5).to_string(), "C-0x1a: app/ann@unix(77):5");
        let server = Who {
            pid: 0,
            ..who("unix", 5)
        };
        assert_eq!(server.to_string(), "C-0x1a: app/ann@unix:5");
        let nobody = Who {
            database: "",
            user: "",
            ..who("10.0.0.1", 5)
        };
        assert_eq!(nobody.to_string(), "C-0x1a: (nodb)/(nouser)@10.0.0.1:5");
    }
}
