//! The keys of each section, as tables.
//!
//! A key is a name and a place. Reading, overriding from the environment, showing and "did you mean" all go by these
//! tables, so a key that is added here and in [`super::settings`] is known everywhere.
//!
//! The second table of a section holds keys that PgBouncer or a later version has and this one does not. They are
//! refused, for a setting that is taken and does nothing is a trap, except at a value that means "off" or "as ever":
//! `""`, 0, false, an empty list, or one of the words beside the key.

use crate::config::settings::{
    DatabaseSettings, PeerSettings, PoolerSettings, TelemetrySettings, UserSettings,
};
use crate::config::slot::Slot;

/// One key of a section that is kept as an `S`.
pub struct Key<S: 'static> {
    /// How it is spelled.
    pub name: &'static str,
    /// Whether it is read only when the process starts.
    pub needs_restart: bool,
    /// Where its value goes.
    pub place: for<'a> fn(&'a mut S) -> Slot<'a>,
}

/// A key this version does not have, and the words it may stand at all the same.
pub type Unbuilt = (&'static str, &'static [&'static str]);

/// One section that is kept as an `S`.
pub struct Section<S: 'static> {
    /// Its keys, in alphabetical order.
    pub keys: &'static [Key<S>],
    /// Keys it does not have yet.
    pub unbuilt: &'static [Unbuilt],
    /// Whether `password_file` may stand in place of `password`.
    pub has_password: bool,
}

impl<S> Section<S> {
    /// The key spelled `name`.
    pub fn key(&self, name: &str) -> Option<&'static Key<S>> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Every name that may stand in it, for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let file = self.has_password.then_some(PASSWORD_FILE);
        self.keys.iter().map(|key| key.name).chain(file)
    }
}

/// Names the file that holds a password.
pub const PASSWORD_FILE: &str = "password_file";

/// A key that a reload changes.
pub const fn key<S>(name: &'static str, place: for<'a> fn(&'a mut S) -> Slot<'a>) -> Key<S> {
    Key {
        name,
        needs_restart: false,
        place,
    }
}

/// A key that is read only when the process starts.
const fn fixed<S>(name: &'static str, place: for<'a> fn(&'a mut S) -> Slot<'a>) -> Key<S> {
    Key {
        name,
        needs_restart: true,
        place,
    }
}

/// `[pooler]`.
pub static POOLER: Section<PoolerSettings> = Section {
    keys: &[
        key("admin_users", |s| Slot::List(&mut s.admin_users)),
        key("application_name_add_host", |s| {
            Slot::Flag(&mut s.application_name_add_host)
        }),
        key("auth_dbname", |s| Slot::MaybeText(&mut s.auth_dbname)),
        key("auth_file", |s| Slot::Path(&mut s.auth_file)),
        key("auth_hba_file", |s| Slot::Path(&mut s.auth_hba_file)),
        key("auth_ident_file", |s| Slot::Path(&mut s.auth_ident_file)),
        key("auth_ldap_options", |s| {
            Slot::Hidden(&mut s.auth_ldap_options)
        }),
        key("auth_query", |s| Slot::Text(&mut s.auth_query)),
        key("auth_type", |s| Slot::Word(&mut s.auth_type)),
        key("auth_user", |s| Slot::MaybeText(&mut s.auth_user)),
        key("autodb_idle_timeout", |s| {
            Slot::Span(&mut s.autodb_idle_timeout)
        }),
        key("cancel_wait_timeout", |s| {
            Slot::Span(&mut s.cancel_wait_timeout)
        }),
        key("client_idle_timeout", |s| {
            Slot::Span(&mut s.client_idle_timeout)
        }),
        key("client_login_timeout", |s| {
            Slot::Span(&mut s.client_login_timeout)
        }),
        key("client_tls13_ciphers", |s| {
            Slot::MaybeText(&mut s.client_tls13_ciphers)
        }),
        key("client_tls_ca_file", |s| {
            Slot::Path(&mut s.client_tls_ca_file)
        }),
        key("client_tls_cert_file", |s| {
            Slot::Path(&mut s.client_tls_cert_file)
        }),
        key("client_tls_ciphers", |s| {
            Slot::Text(&mut s.client_tls_ciphers)
        }),
        key("client_tls_dheparams", |s| {
            Slot::Text(&mut s.client_tls_dheparams)
        }),
        key("client_tls_ecdhcurve", |s| {
            Slot::Text(&mut s.client_tls_ecdhcurve)
        }),
        key("client_tls_key_file", |s| {
            Slot::Path(&mut s.client_tls_key_file)
        }),
        key("client_tls_protocols", |s| {
            Slot::Protocols(&mut s.client_tls_protocols)
        }),
        key("client_tls_sslmode", |s| {
            Slot::Word(&mut s.client_tls_sslmode)
        }),
        key("conffile", |s| Slot::Path(&mut s.conffile)),
        key("default_pool_size", |s| {
            Slot::Count(&mut s.default_pool_size)
        }),
        fixed("disable_pqexec", |s| Slot::Flag(&mut s.disable_pqexec)),
        key("dns_max_ttl", |s| Slot::Span(&mut s.dns_max_ttl)),
        key("dns_nxdomain_ttl", |s| Slot::Span(&mut s.dns_nxdomain_ttl)),
        key("dns_zone_check_period", |s| {
            Slot::Span(&mut s.dns_zone_check_period)
        }),
        key("idle_transaction_timeout", |s| {
            Slot::Span(&mut s.idle_transaction_timeout)
        }),
        key("ignore_startup_parameters", |s| {
            Slot::List(&mut s.ignore_startup_parameters)
        }),
        fixed("job_name", |s| Slot::Text(&mut s.job_name)),
        fixed("listen_addr", |s| Slot::List(&mut s.listen_addr)),
        fixed("listen_backlog", |s| Slot::Small(&mut s.listen_backlog)),
        fixed("listen_port", |s| Slot::Port(&mut s.listen_port)),
        key("log_connections", |s| Slot::Flag(&mut s.log_connections)),
        key("log_disconnections", |s| {
            Slot::Flag(&mut s.log_disconnections)
        }),
        key("log_pooler_errors", |s| {
            Slot::Flag(&mut s.log_pooler_errors)
        }),
        key("log_stats", |s| Slot::Flag(&mut s.log_stats)),
        key("logfile", |s| Slot::Path(&mut s.logfile)),
        key("login_notify_message", |s| {
            Slot::Text(&mut s.login_notify_message)
        }),
        key("max_client_conn", |s| Slot::Count(&mut s.max_client_conn)),
        key("max_db_client_connections", |s| {
            Slot::Count(&mut s.max_db_client_connections)
        }),
        key("max_db_connections", |s| {
            Slot::Count(&mut s.max_db_connections)
        }),
        key("max_packet_size", |s| Slot::Bytes(&mut s.max_packet_size)),
        key("max_prepared_statements", |s| {
            Slot::Count(&mut s.max_prepared_statements)
        }),
        key("max_user_client_connections", |s| {
            Slot::Count(&mut s.max_user_client_connections)
        }),
        key("max_user_connections", |s| {
            Slot::Count(&mut s.max_user_connections)
        }),
        key("min_pool_size", |s| Slot::Count(&mut s.min_pool_size)),
        key("peer_id", |s| Slot::Small(&mut s.peer_id)),
        fixed("pidfile", |s| Slot::Path(&mut s.pidfile)),
        key("pin_timeout", |s| Slot::Span(&mut s.pin_timeout)),
        fixed("pkt_buf", |s| Slot::Count(&mut s.pkt_buf)),
        key("pool_idle_timeout", |s| {
            Slot::Span(&mut s.pool_idle_timeout)
        }),
        key("pool_mode", |s| Slot::Word(&mut s.pool_mode)),
        key("query_timeout", |s| Slot::Span(&mut s.query_timeout)),
        key("query_wait_notify", |s| {
            Slot::Span(&mut s.query_wait_notify)
        }),
        key("query_wait_timeout", |s| {
            Slot::Span(&mut s.query_wait_timeout)
        }),
        key("reserve_pool_size", |s| {
            Slot::Count(&mut s.reserve_pool_size)
        }),
        key("reserve_pool_timeout", |s| {
            Slot::Span(&mut s.reserve_pool_timeout)
        }),
        fixed("resolv_conf", |s| Slot::Path(&mut s.resolv_conf)),
        key("sbuf_loopcnt", |s| Slot::Count(&mut s.sbuf_loopcnt)),
        key("scram_iterations", |s| Slot::Small(&mut s.scram_iterations)),
        key("server_check_delay", |s| {
            Slot::Span(&mut s.server_check_delay)
        }),
        key("server_check_query", |s| {
            Slot::Text(&mut s.server_check_query)
        }),
        key("server_connect_timeout", |s| {
            Slot::Span(&mut s.server_connect_timeout)
        }),
        key("server_fast_close", |s| {
            Slot::Flag(&mut s.server_fast_close)
        }),
        key("server_idle_timeout", |s| {
            Slot::Span(&mut s.server_idle_timeout)
        }),
        key("server_lifetime", |s| Slot::Span(&mut s.server_lifetime)),
        key("server_login_retry", |s| {
            Slot::Span(&mut s.server_login_retry)
        }),
        key("server_reset_query", |s| {
            Slot::Text(&mut s.server_reset_query)
        }),
        key("server_reset_query_always", |s| {
            Slot::Flag(&mut s.server_reset_query_always)
        }),
        key("server_round_robin", |s| {
            Slot::Flag(&mut s.server_round_robin)
        }),
        key("server_tls13_ciphers", |s| {
            Slot::MaybeText(&mut s.server_tls13_ciphers)
        }),
        key("server_tls_ca_file", |s| {
            Slot::Path(&mut s.server_tls_ca_file)
        }),
        key("server_tls_cert_file", |s| {
            Slot::Path(&mut s.server_tls_cert_file)
        }),
        key("server_tls_ciphers", |s| {
            Slot::Text(&mut s.server_tls_ciphers)
        }),
        key("server_tls_key_file", |s| {
            Slot::Path(&mut s.server_tls_key_file)
        }),
        key("server_tls_protocols", |s| {
            Slot::Protocols(&mut s.server_tls_protocols)
        }),
        key("server_tls_sslmode", |s| {
            Slot::Word(&mut s.server_tls_sslmode)
        }),
        key("session_state", |s| Slot::Word(&mut s.session_state)),
        key("shutdown_timeout", |s| Slot::Span(&mut s.shutdown_timeout)),
        fixed("so_reuseport", |s| Slot::Flag(&mut s.so_reuseport)),
        fixed("state_dir", |s| Slot::Path(&mut s.state_dir)),
        key("stats_period", |s| Slot::Span(&mut s.stats_period)),
        key("stats_users", |s| Slot::List(&mut s.stats_users)),
        key("suspend_timeout", |s| Slot::Span(&mut s.suspend_timeout)),
        key("syslog", |s| Slot::Flag(&mut s.syslog)),
        key("syslog_facility", |s| Slot::Text(&mut s.syslog_facility)),
        key("syslog_ident", |s| Slot::Text(&mut s.syslog_ident)),
        key("tcp_defer_accept", |s| Slot::Flag(&mut s.tcp_defer_accept)),
        key("tcp_keepalive", |s| Slot::Flag(&mut s.tcp_keepalive)),
        key("tcp_keepcnt", |s| Slot::Small(&mut s.tcp_keepcnt)),
        key("tcp_keepidle", |s| Slot::Span(&mut s.tcp_keepidle)),
        key("tcp_keepintvl", |s| Slot::Span(&mut s.tcp_keepintvl)),
        key("tcp_socket_buffer", |s| {
            Slot::Bytes(&mut s.tcp_socket_buffer)
        }),
        key("tcp_user_timeout", |s| {
            Slot::Millis(&mut s.tcp_user_timeout)
        }),
        fixed("threads", |s| Slot::Count(&mut s.threads)),
        fixed("track_extra_parameters", |s| {
            Slot::List(&mut s.track_extra_parameters)
        }),
        key("transaction_timeout", |s| {
            Slot::Span(&mut s.transaction_timeout)
        }),
        fixed("unix_socket_dir", |s| Slot::Text(&mut s.unix_socket_dir)),
        fixed("unix_socket_group", |s| {
            Slot::MaybeText(&mut s.unix_socket_group)
        }),
        fixed("unix_socket_mode", |s| {
            Slot::Permissions(&mut s.unix_socket_mode)
        }),
        fixed("user", |s| Slot::MaybeText(&mut s.user)),
        key("verbose", |s| Slot::Small(&mut s.verbose)),
    ],
    unbuilt: &[("daemon", &[]), ("service_name", &[])],
    has_password: false,
};

/// `[databases.NAME]`.
pub static DATABASE: Section<DatabaseSettings> = Section {
    keys: &[
        key("application_name", |s| {
            Slot::MaybeText(&mut s.application_name)
        }),
        key("auth_dbname", |s| Slot::MaybeText(&mut s.auth_dbname)),
        key("auth_query", |s| Slot::MaybeText(&mut s.auth_query)),
        key("auth_user", |s| Slot::MaybeText(&mut s.auth_user)),
        key("client_encoding", |s| {
            Slot::MaybeText(&mut s.client_encoding)
        }),
        key("cluster", |s| Slot::MaybeText(&mut s.cluster)),
        key("connect_query", |s| Slot::MaybeText(&mut s.connect_query)),
        key("consistency", |s| Slot::Word(&mut s.consistency)),
        key("datestyle", |s| Slot::MaybeText(&mut s.datestyle)),
        key("dbname", |s| Slot::MaybeText(&mut s.dbname)),
        key("host", |s| Slot::MaybeText(&mut s.host)),
        key("load_balance_hosts", |s| {
            Slot::Word(&mut s.load_balance_hosts)
        }),
        key("max_db_client_connections", |s| {
            Slot::MaybeCount(&mut s.max_db_client_connections)
        }),
        key("max_db_connections", |s| {
            Slot::MaybeCount(&mut s.max_db_connections)
        }),
        key("max_lag", |s| Slot::MaybeSpan(&mut s.max_lag)),
        key("max_lag_bytes", |s| Slot::MaybeBytes(&mut s.max_lag_bytes)),
        key("min_pool_size", |s| Slot::MaybeCount(&mut s.min_pool_size)),
        key("password", |s| Slot::Hidden(&mut s.password)),
        key("pool_mode", |s| Slot::Word(&mut s.pool_mode)),
        key("pool_size", |s| Slot::MaybeCount(&mut s.pool_size)),
        key("port", |s| Slot::Ports(&mut s.port, &mut s.more_ports)),
        key("query_wait_timeout", |s| {
            Slot::MaybeSpan(&mut s.query_wait_timeout)
        }),
        key("reserve_pool_size", |s| {
            Slot::MaybeCount(&mut s.reserve_pool_size)
        }),
        key("route", |s| Slot::Word(&mut s.route)),
        key("server_lifetime", |s| {
            Slot::MaybeSpan(&mut s.server_lifetime)
        }),
        key("session_state", |s| Slot::Word(&mut s.session_state)),
        key("timezone", |s| Slot::MaybeText(&mut s.timezone)),
        key("transactions", |s| Slot::Word(&mut s.transactions)),
        key("user", |s| Slot::MaybeText(&mut s.user)),
    ],
    unbuilt: &[],
    has_password: true,
};

/// `[users.NAME]`.
pub static USER: Section<UserSettings> = Section {
    keys: &[
        key("client_idle_timeout", |s| {
            Slot::MaybeSpan(&mut s.client_idle_timeout)
        }),
        key("consistency", |s| Slot::Word(&mut s.consistency)),
        key("idle_transaction_timeout", |s| {
            Slot::MaybeSpan(&mut s.idle_transaction_timeout)
        }),
        key("max_lag", |s| Slot::MaybeSpan(&mut s.max_lag)),
        key("max_user_client_connections", |s| {
            Slot::MaybeCount(&mut s.max_user_client_connections)
        }),
        key("max_user_connections", |s| {
            Slot::MaybeCount(&mut s.max_user_connections)
        }),
        key("password", |s| Slot::Hidden(&mut s.password)),
        key("pool_mode", |s| Slot::Word(&mut s.pool_mode)),
        key("pool_size", |s| Slot::MaybeCount(&mut s.pool_size)),
        key("query_timeout", |s| Slot::MaybeSpan(&mut s.query_timeout)),
        key("query_wait_timeout", |s| {
            Slot::MaybeSpan(&mut s.query_wait_timeout)
        }),
        key("reserve_pool_size", |s| {
            Slot::MaybeCount(&mut s.reserve_pool_size)
        }),
        key("route", |s| Slot::Word(&mut s.route)),
        key("session_state", |s| Slot::Word(&mut s.session_state)),
        key("transaction_timeout", |s| {
            Slot::MaybeSpan(&mut s.transaction_timeout)
        }),
        key("transactions", |s| Slot::Word(&mut s.transactions)),
    ],
    unbuilt: &[],
    has_password: true,
};

/// `[peers.NUMBER]`.
pub static PEER: Section<PeerSettings> = Section {
    keys: &[
        key("host", |s| Slot::MaybeText(&mut s.host)),
        key("pool_size", |s| Slot::MaybeCount(&mut s.pool_size)),
        key("port", |s| Slot::Port(&mut s.port)),
    ],
    unbuilt: &[],
    has_password: false,
};

/// `[telemetry]`.
pub static TELEMETRY: Section<TelemetrySettings> = Section {
    keys: &[
        key("log_format", |s| Slot::Word(&mut s.log_format)),
        key("log_level", |s| Slot::Text(&mut s.log_level)),
    ],
    unbuilt: &[("otlp_endpoint", &[]), ("trace_sample", &[])],
    has_password: false,
};

/// `[web]`, of which nothing is built yet.
pub static WEB: Section<()> = Section {
    keys: &[],
    unbuilt: &[("listen", &[])],
    has_password: false,
};

/// Sections that this version does not have; they may stand empty.
pub const UNBUILT_SECTIONS: &[&str] = &[];

/// Every section there is, for suggestions.
pub const SECTIONS: &[&str] = &[
    "pooler",
    "users",
    "databases",
    "peers",
    "clusters",
    "routing",
    "web",
    "telemetry",
];

/// Keys that go by another name here.
pub const OTHER_NAMES: &[(&str, &str)] = &[
    ("auth_db", "auth_dbname"),
    ("database", "dbname"),
    ("hostname", "host"),
    ("max_client_connections", "max_client_conn"),
    ("pool_size", "default_pool_size"),
    ("reserve_pool", "reserve_pool_size"),
    ("sslmode", "server_tls_sslmode"),
    ("username", "user"),
];

#[cfg(test)]
mod tests;
