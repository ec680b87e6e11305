//! The words a setting may be, and how lengths of time and sizes are written.
//!
//! Every word is spelled as in PgBouncer and read without regard to case. What PgBouncer knows and this version does
//! not is listed with each enum, so that the refusal can say "not built yet" instead of "no such thing".

mod words;

use std::str::FromStr;
use std::time::Duration;

pub use self::words::{UnknownWord, Word, word};

/// Whose habits the pooler has towards clients: which words and codes its own errors have, which startup packets it takes.
///
/// It follows from the file: a `pgbouncer.ini` is served as PgBouncer would serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Our own: PostgreSQL's codes, sentences for a person, protocol 3.2.
    #[default]
    Native,
    /// PgBouncer's: its words, 08P01, protocol 3.0.
    PgBouncer,
}

/// The release of PgBouncer that is followed, as tools are told that ask for it.
pub const PGBOUNCER_VERSION: &str = "1.25.2";

/// When a server goes back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    #[default]
    Transaction,
    /// After each statement; transactions of several statements are refused.
    Statement,
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AuthType {
    /// They need not; the user must be known all the same.
    Trust,
    /// A password in clear.
    Plain,
    /// An md5 challenge; SCRAM for users whose stored password is a SCRAM secret.
    Md5,
    /// SCRAM-SHA-256.
    #[default]
    ScramSha256,
    /// A TLS certificate with the user's name.
    Cert,
    /// As the first fitting rule of `auth_hba_file` says.
    Hba,
    /// A password that a directory knows (`auth_ldap_options`).
    Ldap,
    /// A password that the system's PAM knows (service `pgbouncer`).
    Pam,
    /// Nothing: the name is ignored, and the database must have a forced user.
    Any,
}

/// How much TLS one side of the pooler wants, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// None at all.
    Disable,
    /// When the other side asks for it.
    Allow,
    /// When the other side can.
    Prefer,
    /// Always; certificates are not looked at.
    Require,
    /// Always, with a certificate signed by a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must bear the right name.
    VerifyFull,
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// As PgBouncer writes it, for programs that read that.
    PgBouncer,
}

/// What becomes of session state (`SET`, temporary tables, advisory locks …) in transaction mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SessionState {
    /// It follows its client, and nobody else ever meets it.
    #[default]
    Keep,
    /// What would make some is refused.
    Refuse,
    /// It stays on the server for whoever comes next, as in PgBouncer.
    PgBouncer,
}

/// Which of several hosts of a database the next server is opened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoadBalance {
    /// The next one of the list.
    #[default]
    RoundRobin,
    /// The same as before, until it cannot be reached; then the next one of the list.
    Disable,
}

/// Which nodes of a cluster a client's transactions go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Route {
    /// To the one that takes writes.
    #[default]
    Primary,
    /// To a replica that is not too far behind; to the primary where there is none.
    Replica,
    /// Reads to replicas, everything else to the primary.
    Auto,
}

/// The versions of TLS that may be spoken; at least one of them is set. Two are equal that allow the same.
#[derive(Debug, Clone, Eq)]
pub struct TlsProtocols {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
    /// How the file spells it. A `pgbouncer.ini` may name versions that are not spoken here.
    pub text: String,
}

impl PartialEq for TlsProtocols {
    fn eq(&self, other: &Self) -> bool {
        (self.tls12, self.tls13) == (other.tls12, other.tls13)
    }
}

impl Default for TlsProtocols {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
            text: "secure".to_owned(),
        }
    }
}

impl TlsProtocols {
    /// How it is best spelled in a file.
    pub const fn as_str(&self) -> &'static str {
        match (self.tls12, self.tls13) {
            (true, true) => "secure",
            (true, false) => "tlsv1.2",
            (false, _) => "tlsv1.3",
        }
    }
}

impl FromStr for TlsProtocols {
    type Err = String;

    /// Names separated by commas, colons or blanks: `tlsv1.2`, `tlsv1.3`, `secure`, `default`, `all`; `!name` takes
    /// one away. TLS below 1.2 is refused: rustls does not speak it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut chosen = Self {
            tls12: false,
            tls13: false,
            text: text.to_owned(),
        };
        for item in text.split([',', ':', ' ']).filter(|item| !item.is_empty()) {
            let (name, wanted) = match item.strip_prefix('!') {
                Some(name) => (name, false),
                None => (item, true),
            };
            match name.to_ascii_lowercase().as_str() {
                "tlsv1.2" => chosen.tls12 = wanted,
                "tlsv1.3" => chosen.tls13 = wanted,
                "secure" | "default" | "all" => {
                    chosen.tls12 = wanted;
                    chosen.tls13 = wanted;
                }
                "tlsv1" | "tlsv1.0" | "tlsv1.1" if wanted => {
                    return Err(format!(
                        "\"{name}\" is not spoken here: TLS below 1.2 is unsafe and rustls leaves it out"
                    ));
                }
                "tlsv1" | "tlsv1.0" | "tlsv1.1" => {}
                _ => {
                    return Err(format!(
                        "\"{name}\" is no version of TLS; expected tlsv1.2, tlsv1.3 or secure"
                    ));
                }
            }
        }
        if chosen.tls12 || chosen.tls13 {
            Ok(chosen)
        } else {
            Err("no version of TLS is left; expected tlsv1.2, tlsv1.3 or secure".to_owned())
        }
    }
}

/// Reads a length of time: a number, with or without one of the units us, ms, s, m, h, d. A bare number counts in
/// `unit`. `None` when `text` is nothing of the kind, is negative or too long to count.
pub fn duration(text: &str, unit: Duration) -> Option<Duration> {
    let (number, suffix) = split_unit(text);
    let unit = match suffix {
        "" => unit,
        "us" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u32>() {
        return unit.checked_mul(whole);
    }
    let seconds = number.parse::<f64>().ok()? * unit.as_secs_f64();
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads a size in bytes: a whole number, with or without one of the units B, kB, MB, GB (powers of 1024, as in
/// Postgres). `None` when `text` is nothing of the kind.
pub fn bytes(text: &str) -> Option<usize> {
    let (number, suffix) = split_unit(text);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|each: char| !each.is_ascii_digit() && each != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// A length of time in seconds, as PgBouncer prints it: whole where it is whole.
pub fn seconds(span: Duration) -> String {
    if span.subsec_nanos() == 0 {
        return span.as_secs().to_string();
    }
    let text = format!("{}.{:06}", span.as_secs(), span.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
