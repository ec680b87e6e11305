//! Which PostgreSQL instance: the third part of a pool's name, beside database and user.

use std::fmt;
use std::net::Ipv6Addr;
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

/// Whether `host` seems to have a port behind it: it has a colon, and is neither an address of IPv6, perhaps with its scope
/// (`fe80::1%eth0`), nor a Unix socket.
pub fn has_port(host: &str) -> bool {
    let address = host.split('%').next().unwrap_or(host);
    host.contains(':') && !host.starts_with(['/', '@']) && address.parse::<Ipv6Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::{Node, has_port};

    #[test]
    fn a_port_behind_a_host_is_told_from_an_address() {
        for host in ["::1", "fe80::1%e0", "/run/a:b", "@a:b", "db1", "10.0.0.1"] {
            assert!(!has_port(host), "{host}");
        }
        for host in ["127.0.0.1:5432", "db1:5432", "[::1]:5432", "[::1]"] {
            assert!(has_port(host), "{host}");
        }
    }

    #[test]
    fn a_node_is_written_as_an_address() {
        let shown = |host| Node::at(host, 5432).to_string();
        assert_eq!(shown("db1"), "db1:5432");
        assert_eq!(shown("::1"), "[::1]:5432");
        assert_eq!(shown("/run"), "/run:5432");
    }
}
