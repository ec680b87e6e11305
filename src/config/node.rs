//! Which PostgreSQL instance: the third part of a pool's name, beside database and user.

use std::fmt;
use std::sync::Arc;

/// A PostgreSQL instance, as pools are told apart by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// Wherever the `host` and `port` of the database lead: one instance, or a list of hosts that share one pool, as in
    /// PgBouncer. It stays the same node when a reload changes that address; its servers are then replaced.
    Own,
    /// The instance that listens there: a name, an address, or, starting with `/`, the directory of a Unix socket.
    At {
        /// Name, address or directory.
        host: Arc<str>,
        /// The port; it also names the Unix socket.
        port: u16,
    },
}

impl Node {
    /// The instance that listens on `host` and `port`.
    pub fn at(host: &str, port: u16) -> Self {
        Self::At {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => formatter.write_str("own"),
            Self::At { host, port } if host.contains(':') => {
                write!(formatter, "[{host}]:{port}")
            }
            Self::At { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn a_node_is_written_as_an_address() {
        let shown = |host| Node::at(host, 5432).to_string();
        assert_eq!(shown("db1"), "db1:5432");
        assert_eq!(shown("::1"), "[::1]:5432");
        assert_eq!(shown("/run"), "/run:5432");
    }
}
