//! The rows of SHOW CONFIG: every key of `[pooler]`, its value and its default, printed as PgBouncer prints them.
//!
//! Booleans are 0 and 1, lengths of time are seconds (milliseconds for `tcp_user_timeout`), `unix_socket_mode` is
//! decimal, what is not set is empty. No key of `[pooler]` is a secret.

use crate::config::schema::{Key, POOLER};
use crate::config::settings::{PoolerSettings, Settings};
use crate::config::value::Dialect;

mod pgbouncer;

/// One key, as SHOW CONFIG shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// How it is spelled.
    pub key: &'static str,
    /// What it is; `None` is NULL.
    pub value: Option<String>,
    /// What it is when nobody sets it; `None` is NULL.
    pub default: Option<String>,
    /// Whether a reload changes it.
    pub is_changeable: bool,
}

/// Every key of `[pooler]`, in alphabetical order; where a `pgbouncer.ini` is served, every key of PgBouncer's in its order.
pub fn show(settings: &Settings) -> Vec<Listed> {
    if settings.dialect == Dialect::PgBouncer {
        return pgbouncer::show(settings);
    }
    let mut pooler = settings.pooler.clone();
    let mut default = PoolerSettings::default();
    let row = |key: &Key<PoolerSettings>| Listed {
        key: key.name,
        value: Some((key.place)(&mut pooler).print()),
        default: Some((key.place)(&mut default).print()),
        is_changeable: !key.needs_restart,
    };
    POOLER.keys.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(settings: &Settings, key: &str) -> (String, String, bool) {
        let rows = show(settings);
        let row = rows.iter().find(|row| row.key == key).unwrap();
        let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
        (text(&row.value), text(&row.default), row.is_changeable)
    }

    #[test]
    fn values_are_printed_as_pgbouncer_prints_them() {
        let mut settings = Settings::default();
        settings.pooler.query_timeout = Duration::from_millis(1_500);
        settings.pooler.tcp_user_timeout = Duration::from_millis(250);
        settings.pooler.admin_users = vec!["ann".to_owned(), "bob".to_owned()];
        let is = |key, value: &str, default: &str, changeable| {
            let expected = (value.to_owned(), default.to_owned(), changeable);
            assert_eq!(shown(&settings, key), expected, "{key}");
        };

        is("query_timeout", "1.5", "0", true);
        is("tcp_user_timeout", "250", "0", true);
        is("server_lifetime", "3600", "3600", true);
        is("tcp_keepalive", "1", "1", true);
        is("admin_users", "ann,bob", "", true);
        is("unix_socket_mode", "511", "511", false);
        is("listen_port", "6432", "6432", false);
        is("auth_type", "scram-sha-256", "scram-sha-256", true);
        is("client_tls_protocols", "secure", "secure", true);
        is("server_check_query", "<empty>", "<empty>", true);
        is("auth_file", "", "", true);
    }

    #[test]
    fn the_rows_are_in_order() {
        assert!(show(&Settings::default()).is_sorted_by(|a, b| a.key < b.key));
    }
}
