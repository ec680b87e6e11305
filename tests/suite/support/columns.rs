//! The columns of what the console shows, where several tests know them.

pub const TEXT: i32 = 25;
pub const INT4: i32 = 23;
pub const INT8: i32 = 20;
pub const NUMERIC: i32 = 1700;

/// Names with the oid of their type, after each other.
pub type Columns = &'static [(&'static str, i32)];

/// Of SHOW CLIENTS and SHOW SERVERS.
pub const CONNECTIONS: Columns = &[
    ("type user database replication state addr", TEXT),
    ("port", INT4),
    ("local_addr", TEXT),
    ("local_port", INT4),
    ("connect_time request_time", TEXT),
    ("wait wait_us close_needed", INT4),
    ("ptr link", TEXT),
    ("remote_pid", INT4),
    ("tls application_name", TEXT),
    ("prepared_statements id", INT4),
];

/// Of SHOW DATABASES.
pub const DATABASES: Columns = &[
    ("name host", TEXT),
    ("port", INT4),
    ("database force_user", TEXT),
    (
        "pool_size min_pool_size reserve_pool_size server_lifetime",
        INT4,
    ),
    ("pool_mode load_balance_hosts", TEXT),
    (
        "max_connections current_connections max_client_connections current_client_connections",
        INT4,
    ),
    ("paused disabled", INT4),
];

/// Of SHOW POOLS, as PgBouncer has them.
pub const POOLS: Columns = &[
    ("database user", TEXT),
    (
        "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req",
        INT4,
    ),
    (
        "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login",
        INT4,
    ),
    ("maxwait maxwait_us", INT4),
    ("pool_mode load_balance_hosts", TEXT),
];
