//! Where a server is, and how to log in to it.

use std::fmt;
use std::time::Duration;

use crate::auth::password::Verifier;
use crate::config::value::{LoadBalance, TlsMode};
use crate::net::stream::SocketOptions;
use crate::stats::census::Replication;

/// One place where PostgreSQL listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the directory of a Unix socket.
    pub name: String,
    /// Its port; it also names the Unix socket.
    pub port: u16,
}

impl Host {
    /// Its address as SHOW tells it before a connection stands.
    pub fn shown(&self) -> String {
        self.socket_path()
            .map_or_else(|| self.name.clone(), |_| "unix".to_owned())
    }

    /// The path of its Unix socket, where it is one; it begins with `@` in the abstract namespace.
    pub fn socket_path(&self) -> Option<String> {
        let is_socket = self.name.starts_with(['/', '@']);
        is_socket.then(|| format!("{}/.s.PGSQL.{}", self.name, self.port))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, self.port)
    }
}

/// Where a server is and how to log in to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where servers may be opened; at least one.
    pub hosts: Vec<Host>,
    /// Which of them the next one is opened at.
    pub balance: LoadBalance,
    /// The database's name on the server.
    pub dbname: String,
    /// The user to log in as.
    pub user: String,
    /// What is known of the user's password.
    pub password: Option<Verifier>,
    /// How much TLS.
    pub tls: TlsMode,
    /// Whose nodes they are, where they are a cluster's.
    pub cluster: Option<String>,
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
    /// The host whose turn it is; the turns go round.
    pub fn host(&self, turn: usize) -> &Host {
        &self.hosts[turn % self.hosts.len()]
    }

    /// Which replication protocol its servers speak.
    pub fn replication(&self) -> Replication {
        let wish = self.startup.iter().find(|(name, _)| name == "replication");
        wish.and_then(|(_, value)| Replication::asked_by(value))
            .unwrap_or_default()
    }

    /// What two targets have in common whose servers do for each other, as far as `host` is one of them; of no other use.
    pub fn place(&self, host: &Host) -> Option<String> {
        let (startup, query) = (&self.startup, &self.connect_query);
        let tls = (self.tls, &self.cluster);
        let place = (host, &self.dbname, &self.user, tls, query, startup);
        self.hosts.contains(host).then(|| format!("{place:?}"))
    }

    /// Whether a server opened for `other` would do for this, too. Passwords do not count.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (
            &self.hosts,
            &self.dbname,
            &self.user,
            (self.tls, &self.cluster),
            &self.connect_query,
            &self.startup,
        ) == (
            &other.hosts,
            &other.dbname,
            &other.user,
            (other.tls, &other.cluster),
            &other.connect_query,
            &other.startup,
        )
    }
}
