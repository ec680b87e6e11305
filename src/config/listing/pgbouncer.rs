//! The rows of PgBouncer's SHOW CONFIG: its keys in its order, with the defaults it prints.
//!
//! Tools look rows up by key and compare `value` with `default`, so this is what they meet where a `pgbouncer.ini` is served. A
//! key that this pooler has no use for stands at PgBouncer's default: no other value of it is taken.

use crate::config::listing::Listed;
use crate::config::schema::{Key, POOLER};
use crate::config::settings::{PoolerSettings, Settings};

/// A key, its default as PgBouncer prints it (`None` is NULL), and whether a reload changes it.
type Row = (&'static str, Option<&'static str>, bool);

const fn live(key: &'static str, default: Option<&'static str>) -> Row {
    (key, default, true)
}

const fn fixed(key: &'static str, default: Option<&'static str>) -> Row {
    (key, default, false)
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    live("admin_users", Some("")),
    live("application_name_add_host", Some("0")),
    live("auth_dbname", None),
    live("auth_file", None),
    live("auth_hba_file", Some("")),
    live("auth_ident_file", None),
    live("auth_ldap_options", None),
    live("auth_query", Some("SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin")),
    live("auth_type", Some("md5")),
    live("auth_user", None),
    live("autodb_idle_timeout", Some("3600")),
    live("cancel_wait_timeout", Some("10")),
    live("client_idle_timeout", Some("0")),
    live("client_login_timeout", Some("60")),
    live("client_tls13_ciphers", None),
    live("client_tls_ca_file", Some("")),
    live("client_tls_cert_file", Some("")),
    live("client_tls_ciphers", Some("default")),
    live("client_tls_dheparams", Some("auto")),
    live("client_tls_ecdhcurve", Some("auto")),
    live("client_tls_key_file", Some("")),
    live("client_tls_protocols", Some("secure")),
    live("client_tls_sslmode", Some("disable")),
    live("conffile", None),
    live("default_pool_size", Some("20")),
    fixed("disable_pqexec", Some("0")),
    live("dns_max_ttl", Some("15")),
    live("dns_nxdomain_ttl", Some("15")),
    live("dns_zone_check_period", Some("0")),
    live("idle_transaction_timeout", Some("0")),
    live("ignore_startup_parameters", Some("")),
    fixed("job_name", Some("pgbouncer")),
    fixed("listen_addr", Some("")),
    fixed("listen_backlog", Some("128")),
    fixed("listen_port", Some("6432")),
    live("log_connections", Some("1")),
    live("log_disconnections", Some("1")),
    live("log_pooler_errors", Some("1")),
    live("log_stats", Some("1")),
    live("logfile", Some("")),
    live("login_notify_message", Some("")),
    live("max_client_conn", Some("100")),
    live("max_db_client_connections", Some("0")),
    live("max_db_connections", Some("0")),
    live("max_packet_size", Some("2147483647")),
    live("max_prepared_statements", Some("200")),
    live("max_user_client_connections", Some("0")),
    live("max_user_connections", Some("0")),
    live("min_pool_size", Some("0")),
    live("peer_id", Some("0")),
    fixed("pidfile", Some("")),
    fixed("pkt_buf", Some("4096")),
    live("pool_mode", Some("session")),
    live("pool_idle_timeout", Some("0")),
    live("query_timeout", Some("0")),
    live("query_wait_notify", Some("5")),
    live("query_wait_timeout", Some("120")),
    live("reserve_pool_size", Some("0")),
    live("reserve_pool_timeout", Some("5")),
    fixed("resolv_conf", Some("")),
    live("sbuf_loopcnt", Some("5")),
    live("scram_iterations", Some("4096")),
    live("server_check_delay", Some("30")),
    live("server_check_query", Some("<empty>")),
    live("server_connect_timeout", Some("15")),
    live("server_fast_close", Some("0")),
    live("server_idle_timeout", Some("600")),
    live("server_lifetime", Some("3600")),
    live("server_login_retry", Some("15")),
    live("server_reset_query", Some("DISCARD ALL")),
    live("server_reset_query_always", Some("0")),
    live("server_round_robin", Some("0")),
    live("server_tls13_ciphers", None),
    live("server_tls_ca_file", Some("")),
    live("server_tls_cert_file", Some("")),
    live("server_tls_ciphers", Some("default")),
    live("server_tls_key_file", Some("")),
    live("server_tls_protocols", Some("secure")),
    live("server_tls_sslmode", Some("prefer")),
    fixed("so_reuseport", Some("0")),
    live("stats_period", Some("60")),
    live("stats_users", Some("")),
    live("suspend_timeout", Some("10")),
    live("syslog", Some("0")),
    live("syslog_facility", Some("daemon")),
    live("syslog_ident", Some("pgbouncer")),
    live("tcp_defer_accept", Some("1")),
    live("tcp_keepalive", Some("1")),
    live("tcp_keepcnt", Some("0")),
    live("tcp_keepidle", Some("0")),
    live("tcp_keepintvl", Some("0")),
    live("tcp_socket_buffer", Some("0")),
    live("tcp_user_timeout", Some("0")),
    fixed("track_extra_parameters", Some("IntervalStyle")),
    live("transaction_timeout", Some("0")),
    fixed("unix_socket_dir", Some("/tmp")),
    fixed("unix_socket_group", Some("")),
    fixed("unix_socket_mode", Some("0777")),
    fixed("user", None),
    live("verbose", None),
];

/// Every key of PgBouncer's, in its order.
pub(super) fn show(settings: &Settings) -> Vec<Listed> {
    let mut pooler = settings.pooler.clone();
    let rows = ROWS.iter().map(|&(key, default, is_changeable)| Listed {
        key,
        value: value(&mut pooler, key, default),
        default: default.map(str::to_owned),
        is_changeable,
    });
    rows.collect()
}

fn value(pooler: &mut PoolerSettings, key: &str, default: Option<&str>) -> Option<String> {
    let print = |known: &Key<PoolerSettings>| (known.place)(pooler).print();
    match (POOLER.key(key).map(print), default) {
        (None, None) if key == "verbose" => Some("0".to_owned()),
        (None, default) => default.map(str::to_owned),
        (Some(printed), None) if printed.is_empty() => None,
        (Some(printed), _) => Some(printed),
    }
}

#[cfg(test)]
mod tests {
    use super::show;
    use crate::config::settings::Settings;

    #[test]
    fn the_rows_are_pgbouncers_in_its_order() {
        let rows = show(&Settings::default());
        assert_eq!(rows.len(), 100);
        let odd: Vec<_> = rows
            .windows(2)
            .filter(|pair| pair[0].key > pair[1].key)
            .map(|pair| pair[1].key)
            .collect();
        assert_eq!(
            odd,
            ["pool_idle_timeout"],
            "all others are in alphabetical order"
        );
    }

    #[test]
    fn values_are_those_in_force_and_null_where_pgbouncer_has_null() {
        let mut settings = Settings::default();
        settings.pooler.query_timeout = std::time::Duration::from_millis(1_500);
        let rows = show(&settings);
        let row = |key: &str| {
            let row = rows.iter().find(|row| row.key == key).unwrap();
            (row.value.as_deref(), row.default.as_deref())
        };
        assert_eq!(row("query_timeout"), (Some("1.5"), Some("0")));
        assert_eq!(row("unix_socket_mode"), (Some("511"), Some("0777")));
        assert_eq!(row("auth_user"), (None, None));
        assert_eq!(row("verbose"), (Some("0"), None));
        assert_eq!(
            row("server_check_query"),
            (Some("<empty>"), Some("<empty>"))
        );
    }
}
