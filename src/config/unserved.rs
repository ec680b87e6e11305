//! Keys that say how PgBouncer is built: about OpenSSL, its buffers, its sockets. Here there is nothing that they could change.
//!
//! A `pgbouncer.ini` that sets them is served all the same, with one warning each that says what is done instead. In a
//! `pooler.toml` they are refused, unless they ask for what is done anyhow.

/// A key, the values that mean what is done anyhow, and what is done instead of any other.
pub struct Unserved {
    /// The key.
    pub key: &'static str,
    /// Values that need no warning.
    pub as_ever: &'static [&'static str],
    /// What is done instead.
    pub instead: &'static str,
}

const SUITES: &str = "cipher suites are those of rustls (TLS 1.3 AES-GCM and ChaCha20, TLS 1.2 ECDHE with AES-GCM and ChaCha20), which are all secure";

/// All of them.
pub const UNSERVED: &[Unserved] = &[
    Unserved {
        key: "client_tls_ciphers",
        as_ever: CIPHERS,
        instead: SUITES,
    },
    Unserved {
        key: "server_tls_ciphers",
        as_ever: CIPHERS,
        instead: SUITES,
    },
    Unserved {
        key: "client_tls13_ciphers",
        as_ever: &[""],
        instead: SUITES,
    },
    Unserved {
        key: "server_tls13_ciphers",
        as_ever: &[""],
        instead: SUITES,
    },
    Unserved {
        key: "client_tls_dheparams",
        as_ever: &["auto", "none", ""],
        instead: "keys are agreed on by elliptic curves only, never by finite-field DH",
    },
    Unserved {
        key: "client_tls_ecdhcurve",
        as_ever: &["auto", ""],
        instead: "the curves are those of rustls: X25519, P-256, P-384 and X25519MLKEM768",
    },
    Unserved {
        key: "job_name",
        as_ever: &["pgbouncer", ""],
        instead: "it names a service of Windows, and this is none",
    },
    Unserved {
        key: "pkt_buf",
        as_ever: &["4096"],
        instead: "buffers have a size of their own, and an idle connection has none",
    },
    Unserved {
        key: "sbuf_loopcnt",
        as_ever: &["5"],
        instead: "each connection has one buffer per turn",
    },
    Unserved {
        key: "tcp_defer_accept",
        as_ever: &["0"],
        instead: "a connection is accepted before its first byte is there",
    },
];

const CIPHERS: &[&str] = &["default", "secure", "normal", "fast", ""];

/// What is said of `key` standing at `value`; `None` where nothing need be said.
pub fn warning(key: &str, value: &str) -> Option<String> {
    let found = UNSERVED.iter().find(|unserved| unserved.key == key)?;
    let is_as_ever = found
        .as_ever
        .iter()
        .any(|known| known.eq_ignore_ascii_case(value));
    (!is_as_ever).then(|| format!("{value:?} changes nothing: {}", found.instead))
}

/// The versions of TLS of `list` that are spoken here, and those that are not.
pub fn without_old_tls(list: &str) -> (String, Vec<&str>) {
    let is_old = |name: &&str| {
        ["tlsv1", "tlsv1.0", "tlsv1.1"]
            .iter()
            .any(|old| old.eq_ignore_ascii_case(name))
    };
    let items = list.split([',', ':', ' ']).filter(|item| !item.is_empty());
    let (old, kept): (Vec<_>, Vec<_>) = items.partition(|item| is_old(item));
    (kept.join(","), old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_said_unless_it_is_as_ever() {
        assert_eq!(warning("client_tls_ciphers", "secure"), None);
        let said = warning("client_tls_dheparams", "legacy").unwrap();
        assert!(said.contains("elliptic curves"), "{said}");
        assert_eq!(warning("query_timeout", "1"), None);
    }

    #[test]
    fn old_tls_is_taken_out_of_a_list() {
        let (kept, old) = without_old_tls("tlsv1.0,tlsv1.1:tlsv1.3");
        assert_eq!(
            (kept.as_str(), old),
            ("tlsv1.3", vec!["tlsv1.0", "tlsv1.1"])
        );
    }
}
