//! What holds where nothing is set.

use std::time::Duration;

use crate::config::settings::{
    AUTH_QUERY, DatabaseSettings, EMPTY_QUERY, PeerSettings, PoolerSettings, TelemetrySettings,
};
use crate::config::value::{AuthType, LogFormat, PoolMode, SessionState, TlsMode, TlsProtocols};

impl Default for PoolerSettings {
    #[expect(clippy::too_many_lines, reason = "a plain table, one line per key")]
    fn default() -> Self {
        Self {
            listen_addr: vec!["127.0.0.1".to_owned()],
            listen_port: 6432,
            listen_backlog: 128,
            unix_socket_dir: "/tmp".to_owned(),
            unix_socket_mode: 0o777,
            unix_socket_group: None,
            threads: 0,
            pool_mode: PoolMode::Transaction,
            default_pool_size: 20,
            min_pool_size: 0,
            reserve_pool_size: 0,
            reserve_pool_timeout: Duration::from_secs(5),
            max_client_conn: 10_000,
            max_db_connections: 0,
            max_user_connections: 0,
            max_db_client_connections: 0,
            max_user_client_connections: 0,
            max_prepared_statements: 200,
            session_state: SessionState::Keep,
            auth_type: AuthType::ScramSha256,
            auth_file: None,
            auth_hba_file: None,
            auth_ident_file: None,
            auth_ldap_options: None,
            auth_user: None,
            auth_query: AUTH_QUERY.to_owned(),
            auth_dbname: None,
            scram_iterations: 4_096,
            admin_users: Vec::new(),
            stats_users: Vec::new(),
            server_reset_query: "DISCARD ALL".to_owned(),
            server_reset_query_always: false,
            server_check_query: EMPTY_QUERY.to_owned(),
            server_check_delay: Duration::from_secs(30),
            server_lifetime: Duration::from_secs(3_600),
            server_idle_timeout: Duration::from_secs(600),
            server_connect_timeout: Duration::from_secs(15),
            server_fast_close: false,
            server_login_retry: Duration::from_secs(15),
            server_round_robin: false,
            client_login_timeout: Duration::from_secs(60),
            client_idle_timeout: Duration::ZERO,
            pin_timeout: Duration::ZERO,
            query_timeout: Duration::ZERO,
            query_wait_timeout: Duration::from_secs(120),
            query_wait_notify: Duration::from_secs(5),
            idle_transaction_timeout: Duration::ZERO,
            transaction_timeout: Duration::ZERO,
            cancel_wait_timeout: Duration::from_secs(10),
            suspend_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(60),
            autodb_idle_timeout: Duration::from_secs(3_600),
            pool_idle_timeout: Duration::ZERO,
            client_tls_sslmode: TlsMode::Disable,
            client_tls_key_file: None,
            client_tls_cert_file: None,
            client_tls_ca_file: None,
            client_tls_protocols: TlsProtocols::default(),
            server_tls_sslmode: TlsMode::Prefer,
            server_tls_key_file: None,
            server_tls_cert_file: None,
            server_tls_ca_file: None,
            server_tls_protocols: TlsProtocols::default(),
            tcp_keepalive: true,
            tcp_keepcnt: 0,
            tcp_keepidle: Duration::ZERO,
            tcp_keepintvl: Duration::ZERO,
            tcp_user_timeout: Duration::ZERO,
            tcp_socket_buffer: 0,
            so_reuseport: false,
            dns_max_ttl: Duration::from_secs(15),
            dns_nxdomain_ttl: Duration::from_secs(15),
            dns_zone_check_period: Duration::ZERO,
            resolv_conf: None,
            peer_id: 0,
            ignore_startup_parameters: Vec::new(),
            client_tls_ciphers: "default".to_owned(),
            client_tls13_ciphers: None,
            client_tls_dheparams: "auto".to_owned(),
            client_tls_ecdhcurve: "auto".to_owned(),
            server_tls_ciphers: "default".to_owned(),
            server_tls13_ciphers: None,
            job_name: "pgbouncer".to_owned(),
            pkt_buf: 4_096,
            sbuf_loopcnt: 5,
            tcp_defer_accept: false,
            track_extra_parameters: vec!["IntervalStyle".to_owned()],
            application_name_add_host: false,
            disable_pqexec: false,
            max_packet_size: 2_147_483_647,
            login_notify_message: String::new(),
            user: None,
            pidfile: None,
            conffile: None,
            logfile: None,
            syslog: false,
            syslog_facility: "daemon".to_owned(),
            syslog_ident: "pooler".to_owned(),
            verbose: 0,
            log_connections: true,
            log_disconnections: true,
            log_pooler_errors: true,
            log_stats: true,
            state_dir: None,
            stats_period: Duration::from_secs(60),
        }
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            host: None,
            port: 5432,
            more_ports: Vec::new(),
            load_balance_hosts: None,
            dbname: None,
            user: None,
            cluster: None,
            route: None,
            max_lag: None,
            max_lag_bytes: None,
            consistency: None,
            transactions: None,
            password: None,
            auth_user: None,
            auth_query: None,
            auth_dbname: None,
            pool_size: None,
            min_pool_size: None,
            reserve_pool_size: None,
            max_db_connections: None,
            max_db_client_connections: None,
            server_lifetime: None,
            query_wait_timeout: None,
            pool_mode: None,
            connect_query: None,
            client_encoding: None,
            datestyle: None,
            timezone: None,
            application_name: None,
            session_state: None,
        }
    }
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            host: None,
            port: 6432,
            pool_size: None,
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}
