//! Where a server is, and how to log in to it.

use std::time::Duration;

use crate::auth::password::Verifier;
use crate::config::value::TlsMode;
use crate::net::stream::SocketOptions;

/// Where a server is and how to log in to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name, an address, or a directory with a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database's name on the server.
    pub dbname: String,
    /// The user to log in as.
    pub user: String,
    /// What is known of the user's password.
    pub password: Option<Verifier>,
    /// How much TLS.
    pub tls: TlsMode,
    /// Parameters for the startup packet.
    pub startup: Vec<(String, String)>,
    /// Run after the login.
    pub connect_query: Option<String>,
    /// Limit for connecting and logging in.
    pub timeout: Duration,
    /// For TCP.
    pub socket: SocketOptions,
}

impl Target {
    /// Whether a server opened for `other` would do for this, too. Passwords do not count.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (
            &self.host,
            self.port,
            &self.dbname,
            &self.user,
            self.tls,
            &self.connect_query,
            &self.startup,
        ) == (
            &other.host,
            other.port,
            &other.dbname,
            &other.user,
            other.tls,
            &other.connect_query,
            &other.startup,
        )
    }
}
