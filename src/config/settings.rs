//! What `pooler.toml` says, as plain data: one field per key, spelled alike.
//!
//! The comment on a field is the manual of its key: meaning, unit, default. A length of time that is zero is off,
//! unless its field says otherwise; a count that is zero is "no limit". Keys marked *restart* are read once, when the
//! process starts; a reload changes all others.

mod defaults;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::clusters::ClusterSettings;
use crate::config::routing::{Consistency, RoutingSettings, Transactions};
use crate::config::value::{
    AuthType, Dialect, LoadBalance, LogFormat, PoolMode, Route, SessionState, TlsMode, TlsProtocols,
};
use crate::secret::Secret;

/// The query that finds a user's password when `auth_query` is not set; PgBouncer's.
pub const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

/// The value of `server_check_query` that stands for an empty Query.
pub const EMPTY_QUERY: &str = "<empty>";

/// The name of the database that answers for names not listed.
pub const FALLBACK: &str = "*";

/// Everything a file and the environment say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Whose habits clients meet; it follows from the kind of file.
    pub dialect: Dialect,
    /// `[pooler]`: what holds for the whole process, and for databases and users that say nothing else.
    pub pooler: PoolerSettings,
    /// `[users.NAME]`: users by name, beside those of `auth_file`.
    pub users: BTreeMap<String, UserSettings>,
    /// `[databases.NAME]`: what clients may connect to, by the name they use; `"*"` stands for all names not listed.
    pub databases: BTreeMap<String, DatabaseSettings>,
    /// `[peers.NUMBER]`: other poolers behind the same address, by their `peer_id`.
    pub peers: BTreeMap<String, PeerSettings>,
    /// `[clusters.NAME]`: nodes that replicate, by the name that databases call them.
    pub clusters: BTreeMap<String, ClusterSettings>,
    /// `[routing]`: which reads go to replicas.
    pub routing: RoutingSettings,
    /// `[telemetry]`: what is told to the outside.
    pub telemetry: TelemetrySettings,
}

/// `[pooler]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolerSettings {
    /// Addresses to listen on for TCP; `"*"` is all of them, an empty list none. Default `127.0.0.1`. *Restart.*
    pub listen_addr: Vec<String>,
    /// The port to listen on; it also names the Unix socket, `.s.PGSQL.<port>`. Default 6432. *Restart.*
    pub listen_port: u16,
    /// How many connections the system may hold for us before we accept them. Default 128. *Restart.*
    pub listen_backlog: u32,
    /// Where the Unix socket lies, and where servers without `host` are looked for. `""` is none. Default `/tmp`.
    /// *Restart.*
    pub unix_socket_dir: String,
    /// Permissions of the Unix socket; in a file an octal string or a number. Default `"0777"`. *Restart.*
    pub unix_socket_mode: u32,
    /// The group that the Unix socket belongs to, by name or number. Default none: the one the process has. *Restart.*
    pub unix_socket_group: Option<String>,
    /// Worker threads; 0 is one per core. Default 0. *Restart.*
    pub threads: usize,

    /// When a server goes back to its pool. Default `transaction`.
    pub pool_mode: PoolMode,
    /// Servers per pool (one database and user); 0 is no limit. Default 20.
    pub default_pool_size: usize,
    /// Servers that a pool keeps open even when idle. Default 0.
    pub min_pool_size: usize,
    /// Servers that a pool may open beyond its size for clients that wait too long. Default 0.
    pub reserve_pool_size: usize,
    /// How long a client waits before the reserve is used; 0 leaves it unused. Default 5s.
    pub reserve_pool_timeout: Duration,
    /// Client connections of the whole process. Default 10000.
    pub max_client_conn: usize,
    /// Servers per database over all its pools; 0 is no limit. Default 0.
    pub max_db_connections: usize,
    /// Servers per user over all pools; 0 is no limit. Default 0.
    pub max_user_connections: usize,
    /// Clients per database; 0 is no limit. Default 0.
    pub max_db_client_connections: usize,
    /// Clients per user; 0 is no limit. Default 0.
    pub max_user_client_connections: usize,
    /// Prepared statements kept per server, the least used leave first; 0 turns their tracking off. Default 200.
    pub max_prepared_statements: usize,
    /// What becomes of session state in transaction mode: it follows its client (`keep`), is refused (`refuse`), or stays on the
    /// server for whoever comes next (`pgbouncer`). Default `keep`.
    pub session_state: SessionState,

    /// How clients prove who they are. Default `scram-sha-256`.
    pub auth_type: AuthType,
    /// PgBouncer's list of users and passwords. Relative paths start at the directory of `pooler.toml`. Default none.
    pub auth_file: Option<PathBuf>,
    /// The rules for `auth_type = "hba"`, in the format of pg_hba.conf. Default none.
    pub auth_hba_file: Option<PathBuf>,
    /// Maps for `map=` in `auth_hba_file`, in the format of pg_ident.conf. Default none.
    pub auth_ident_file: Option<PathBuf>,
    /// Where the directory for `auth_type = "ldap"` is and how it is asked: `key=value`, separated by blanks. Hidden, for a
    /// password may stand in it. Default none.
    pub auth_ldap_options: Option<Secret>,
    /// Who runs `auth_query` for users found nowhere else. Default none: unknown users are refused.
    pub auth_user: Option<String>,
    /// Finds a user's password; `$1` is the user, two columns are returned. Default [`AUTH_QUERY`].
    pub auth_query: String,
    /// The database, of those listed, in which `auth_query` runs. Default: the one the client asks for.
    pub auth_dbname: Option<String>,
    /// Iterations of SCRAM secrets that are made here from plain passwords. Default 4096.
    pub scram_iterations: u32,
    /// Who may do everything on the console. Default none.
    pub admin_users: Vec<String>,
    /// Who may look, but not act, on the console. Default none.
    pub stats_users: Vec<String>,

    /// Sent when a client of session mode leaves its server; `""` is nothing. Default `DISCARD ALL`.
    pub server_reset_query: String,
    /// Send it in all modes, whenever a server is given back. Default false.
    pub server_reset_query_always: bool,
    /// Sent to a server that was idle for `server_check_delay` before it is lent; `<empty>` is an empty Query, `""`
    /// no check at all. Default `<empty>`.
    pub server_check_query: String,
    /// How long a server may be idle before it is checked; 0 checks always. Default 30s.
    pub server_check_delay: Duration,
    /// The age at which a server is closed once it is free; 0 uses each server once. Default 1h.
    pub server_lifetime: Duration,
    /// How long an idle server is kept beyond `min_pool_size`; 0 is for ever. Default 10m.
    pub server_idle_timeout: Duration,
    /// How long connecting and logging in to a server may take. Default 15s.
    pub server_connect_timeout: Duration,
    /// Close a server that must be replaced as soon as it is outside a transaction, also where session mode lends it to a client
    /// for good: that client is ended, too. Default false.
    pub server_fast_close: bool,
    /// How long to leave a server alone after it could not be reached or refused the login. Default 15s.
    pub server_login_retry: Duration,
    /// Lend the server that was idle longest, instead of the one given back last. Default false.
    pub server_round_robin: bool,

    /// How long a client may take to log in. Default 60s.
    pub client_login_timeout: Duration,
    /// How long a client without a server may say nothing. Default 0: for ever.
    pub client_idle_timeout: Duration,
    /// How long a client may do nothing while session state ties it to its server; 0 is for ever. Default 0.
    pub pin_timeout: Duration,
    /// How long one query may run. Default 0: for ever.
    pub query_timeout: Duration,
    /// How long a client may wait for a server. Default 120s.
    pub query_wait_timeout: Duration,
    /// After how long a waiting client is told that it waits, by a NOTICE. Default 5s.
    pub query_wait_notify: Duration,
    /// How long a transaction may lie idle. Default 0: for ever.
    pub idle_transaction_timeout: Duration,
    /// How long a transaction may take in all. Default 0: for ever.
    pub transaction_timeout: Duration,
    /// How long a cancel request may wait for a connection. Default 10s.
    pub cancel_wait_timeout: Duration,
    /// How long `SUSPEND` waits for those who cannot stand still before it ends them; 0 is for ever. Default 10s.
    pub suspend_timeout: Duration,
    /// How long SIGTERM waits for transactions to end before it ends them. Default 60s.
    pub shutdown_timeout: Duration,
    /// How long a database made from `"*"` is kept with nobody in it. Default 1h.
    pub autodb_idle_timeout: Duration,
    /// How long a pool is kept with no client and no server. Default 0: for ever.
    pub pool_idle_timeout: Duration,

    /// TLS towards clients. Default `disable`.
    pub client_tls_sslmode: TlsMode,
    /// The key that belongs to `client_tls_cert_file`, PEM. Default none.
    pub client_tls_key_file: Option<PathBuf>,
    /// The certificate shown to clients, PEM. Default none.
    pub client_tls_cert_file: Option<PathBuf>,
    /// Who may have signed the certificates of clients, PEM. Default none.
    pub client_tls_ca_file: Option<PathBuf>,
    /// Versions of TLS spoken with clients. Default `secure`: 1.2 and 1.3.
    pub client_tls_protocols: TlsProtocols,
    /// TLS towards servers. Default `prefer`.
    pub server_tls_sslmode: TlsMode,
    /// The key that belongs to `server_tls_cert_file`, PEM. Default none.
    pub server_tls_key_file: Option<PathBuf>,
    /// The certificate shown to servers, PEM. Default none.
    pub server_tls_cert_file: Option<PathBuf>,
    /// Who may have signed the certificates of servers, PEM. Default none.
    pub server_tls_ca_file: Option<PathBuf>,
    /// Versions of TLS spoken with servers. Default `secure`: 1.2 and 1.3.
    pub server_tls_protocols: TlsProtocols,

    /// Let the system probe silent TCP connections. Default true.
    pub tcp_keepalive: bool,
    /// Probes that may be lost; 0 is the system's default. Default 0.
    pub tcp_keepcnt: u32,
    /// Silence before the first probe; 0 is the system's default. Default 0.
    pub tcp_keepidle: Duration,
    /// Time between probes; 0 is the system's default. Default 0.
    pub tcp_keepintvl: Duration,
    /// How long sent bytes may stay unacknowledged; 0 is the system's default. Alone among all keys, a plain number
    /// counts *milliseconds*, as in PgBouncer. Default 0.
    pub tcp_user_timeout: Duration,
    /// Size of the system's buffers of a socket, in bytes; 0 is the system's default. Default 0. A reload suffices for servers; a smaller one
    /// for clients takes a restart, as the listening sockets have it, and 0 again one without `-R`, which goes on with these sockets.
    pub tcp_socket_buffer: usize,
    /// Let several processes share the port, by SO_REUSEPORT. Default false. *Restart.*
    pub so_reuseport: bool,

    /// How long the addresses of a name are kept, whatever the name server says; 0 asks again for every server. The names of a
    /// cluster's nodes are then looked up again by themselves, at most once in `probe_interval`. Default 15s.
    pub dns_max_ttl: Duration,
    /// How long it is remembered that a name has no address, or could not be looked up. Default 15s.
    pub dns_nxdomain_ttl: Duration,
    /// How often the serial number of each zone (a name without its first part) is asked for; when it has grown, the names of
    /// the zone are looked up again. Default 0: never.
    pub dns_zone_check_period: Duration,
    /// Ask the name servers of this file, written as `/etc/resolv.conf`, and `/etc/hosts`. `nameserver ADDRESS:PORT` may name
    /// a port. Default none: ask as the system is set up. *Restart.*
    pub resolv_conf: Option<PathBuf>,

    /// The number of this pooler among those that share an address: cancel requests that come to the wrong one are passed on
    /// to the one in `[peers]`. 1 to 65535. Default 0: alone.
    pub peer_id: u32,

    /// Startup parameters that are accepted and dropped. Default none.
    pub ignore_startup_parameters: Vec<String>,
    /// Known for PgBouncer's sake, as those up to `sbuf_loopcnt` below: in `pooler.toml` it may stand only at its default; an ini may set
    /// it, with a warning, and rustls's own suites are used all the same.
    pub client_tls_ciphers: String,
    /// As `client_tls_ciphers`.
    pub client_tls13_ciphers: Option<String>,
    /// As `client_tls_ciphers`: keys are agreed on by elliptic curves only.
    pub client_tls_dheparams: String,
    /// As `client_tls_ciphers`: the curves are those of rustls.
    pub client_tls_ecdhcurve: String,
    /// As `client_tls_ciphers`.
    pub server_tls_ciphers: String,
    /// As `client_tls_ciphers`.
    pub server_tls13_ciphers: Option<String>,
    /// As `client_tls_ciphers`: the name of a service of Windows. *Restart.*
    pub job_name: String,
    /// As `client_tls_ciphers`: buffers have a size of their own here. *Restart.*
    pub pkt_buf: usize,
    /// As `client_tls_ciphers`: a connection has one buffer per turn here.
    pub sbuf_loopcnt: usize,
    /// As `client_tls_ciphers`: a connection is taken before its first byte is there.
    pub tcp_defer_accept: bool,

    /// Known for PgBouncer's sake: here every parameter that a server reports follows the client, listed or not. Default
    /// `IntervalStyle`. *Restart.*
    pub track_extra_parameters: Vec<String>,
    /// Add the client's address and port to `application_name` at login. Default false.
    pub application_name_add_host: bool,
    /// Refuse the simple query protocol. Default false. *Restart.*
    pub disable_pqexec: bool,
    /// The largest message that is let through, in bytes, from a client or a server; a larger one ends its sender. Default 2147483647.
    pub max_packet_size: usize,
    /// A NOTICE that each client gets at login; `""` is none. Default none.
    pub login_notify_message: String,

    /// Become this user once the configuration is read, where the process is started as root. Default none. *Restart.*
    pub user: Option<String>,
    /// Holds the process's number while it runs; needed for `-d`. Default none. *Restart.*
    pub pidfile: Option<PathBuf>,
    /// Read this file instead at the next reload. Default none: the one that was named at the start.
    pub conffile: Option<PathBuf>,

    /// A file that the log is written to, beside standard error. It is opened anew at each reload. Default none.
    pub logfile: Option<PathBuf>,
    /// Write the log to syslog, too. Default false.
    pub syslog: bool,
    /// As what: `auth`, `authpriv`, `daemon`, `user` or `local0` to `local7`. Default `daemon`.
    pub syslog_facility: String,
    /// Under which name. Default `pooler`.
    pub syslog_ident: String,
    /// How much more is logged: 1 is PgBouncer's DEBUG, 2 its NOISE. Default 0.
    pub verbose: u32,
    /// Log each login. Default true.
    pub log_connections: bool,
    /// Log each disconnect, with its reason. Default true.
    pub log_disconnections: bool,
    /// Log each error that the pooler itself sends to a client. Default true.
    pub log_pooler_errors: bool,
    /// Log a line of totals every `stats_period`. Default true.
    pub log_stats: bool,
    /// Where the highest timeline seen of each cluster is kept over a restart. Relative paths start at the directory of
    /// `pooler.toml`. Default none, with a warning where clusters are used. *Restart.*
    pub state_dir: Option<PathBuf>,
    /// Over how long averages are taken, and how often they are logged. Default 60s.
    pub stats_period: Duration,
}

/// `[databases.NAME]`. `None` means: as `[pooler]` says.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSettings {
    /// Name or address of the server; a path starting with `/` is the directory of its Unix socket, one starting with `@` that
    /// of an abstract one. Several stand with commas between them. `None`: a Unix socket in `unix_socket_dir`.
    pub host: Option<String>,
    /// Port of the server, or of the first host of a list. Default 5432.
    pub port: u16,
    /// Ports of the other hosts of a list, in a file written behind the first one (`"5432,5433"`). Empty: the same port.
    pub more_ports: Vec<u16>,
    /// Which host of a list the next server is opened at. `None`: the next one of the list.
    pub load_balance_hosts: Option<LoadBalance>,
    /// Its name on the server. `None`: the name the client used.
    pub dbname: Option<String>,
    /// Log in to the server as this user, whoever the client is. `None`: as the client.
    pub user: Option<String>,
    /// The cluster it belongs to, in place of a host. Default none.
    pub cluster: Option<String>,
    /// Which nodes of its cluster transactions go to. Default `primary`.
    pub route: Option<Route>,
    /// How old the data of a replica may be, in place of the cluster's `max_lag`.
    pub max_lag: Option<Duration>,
    /// How many bytes of WAL it may be behind, in place of the cluster's `max_lag_bytes`; 0 is no bound.
    pub max_lag_bytes: Option<usize>,
    /// How fresh reads must be that are split off by `route = "auto"`. Default `session`.
    pub consistency: Option<Consistency>,
    /// Which transactions may go to a replica. Default as `[routing]` says.
    pub transactions: Option<Transactions>,
    /// The password of `user`. `None`: the one of `[users]` or `auth_file`.
    pub password: Option<Secret>,
    /// Who runs `auth_query` here.
    pub auth_user: Option<String>,
    /// Finds the password of a user of this database.
    pub auth_query: Option<String>,
    /// Where `auth_query` runs for this database.
    pub auth_dbname: Option<String>,
    /// Servers per pool.
    pub pool_size: Option<usize>,
    /// Servers kept open per pool.
    pub min_pool_size: Option<usize>,
    /// Servers beyond the size, per pool.
    pub reserve_pool_size: Option<usize>,
    /// Servers of this database over all its pools; 0 is as `[pooler]` says.
    pub max_db_connections: Option<usize>,
    /// Clients of this database; 0 is as `[pooler]` says.
    pub max_db_client_connections: Option<usize>,
    /// The age at which a server is closed; 0 is as `[pooler]` says.
    pub server_lifetime: Option<Duration>,
    /// How long a client may wait for a server; 0 is for ever.
    pub query_wait_timeout: Option<Duration>,
    /// When a server goes back to its pool.
    pub pool_mode: Option<PoolMode>,
    /// Sent to each new server before anybody uses it.
    pub connect_query: Option<String>,
    /// `client_encoding` of new servers.
    pub client_encoding: Option<String>,
    /// `DateStyle` of new servers.
    pub datestyle: Option<String>,
    /// `TimeZone` of new servers.
    pub timezone: Option<String>,
    /// `application_name` of new servers.
    pub application_name: Option<String>,
    /// What becomes of session state.
    pub session_state: Option<SessionState>,
}

/// `[users.NAME]`. `None` means: as the database or `[pooler]` says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserSettings {
    /// In clear, as `md5…`, or as `SCRAM-SHA-256$…`. `None`: the one of `auth_file`, or what `auth_query` finds.
    pub password: Option<Secret>,
    /// When a server goes back to its pool.
    pub pool_mode: Option<PoolMode>,
    /// Servers per pool.
    pub pool_size: Option<usize>,
    /// Servers beyond the size, per pool.
    pub reserve_pool_size: Option<usize>,
    /// Servers of this user over all pools; 0 is as `[pooler]` says.
    pub max_user_connections: Option<usize>,
    /// Clients of this user; 0 is as `[pooler]` says.
    pub max_user_client_connections: Option<usize>,
    /// How long a transaction may take; 0 is as `[pooler]` says.
    pub transaction_timeout: Option<Duration>,
    /// How long a transaction may lie idle; 0 is as `[pooler]` says.
    pub idle_transaction_timeout: Option<Duration>,
    /// How long one query may run; 0 is as `[pooler]` says.
    pub query_timeout: Option<Duration>,
    /// How long a client may wait for a server; 0 is for ever, whatever the others say.
    pub query_wait_timeout: Option<Duration>,
    /// How long a client without a server may say nothing; 0 is as `[pooler]` says.
    pub client_idle_timeout: Option<Duration>,
    /// What becomes of session state.
    pub session_state: Option<SessionState>,
    /// Which nodes of a cluster transactions go to.
    pub route: Option<Route>,
    /// How fresh reads must be that are split off.
    pub consistency: Option<Consistency>,
    /// Which transactions may go to a replica.
    pub transactions: Option<Transactions>,
    /// How old the data of a replica may be.
    pub max_lag: Option<Duration>,
}

/// `[peers.NUMBER]`: a pooler that shares the address of this one. An entry with the own number says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSettings {
    /// Its own name or address, which it shares with nobody, or the directory of its Unix socket.
    pub host: Option<String>,
    /// Its port. Default 6432.
    pub port: u16,
    /// How many cancel requests may be on their way to it at once; 0 is no limit. `None`: `default_pool_size`.
    pub pool_size: Option<usize>,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// What a line of the log looks like. Default `text`.
    pub log_format: LogFormat,
    /// The least that is logged: `off`, `error`, `warn`, `info`, `debug`, `trace`, or a list of `target=level`.
    /// Default `info`.
    pub log_level: String,
}

impl PoolerSettings {
    /// PgBouncer's defaults, where they are others: those of an empty `pgbouncer.ini`.
    pub fn of_pgbouncer() -> Self {
        Self {
            listen_addr: Vec::new(),
            threads: 1,
            pool_mode: PoolMode::Session,
            max_client_conn: 100,
            session_state: SessionState::PgBouncer,
            auth_type: AuthType::Md5,
            syslog_ident: "pgbouncer".to_owned(),
            tcp_defer_accept: true,
            ..Self::default()
        }
    }
}
