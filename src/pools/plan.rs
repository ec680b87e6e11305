//! What the settings mean for one pool: a plain snapshot, made anew at each reload.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::password::Verifier;
use crate::config::routing::{LagBound, RoutingMode};
use crate::config::settings::{DatabaseSettings, Settings};
use crate::config::value::{Route, TlsMode};
use crate::net::names::NameRules;
use crate::net::stream::SocketOptions;
use crate::pools::deeds::Deeds;
use crate::pools::policy::Upkeep;
use crate::protocol::dialogue::Rules;
use crate::routing::circumstances::{Policy, Target};
use crate::servers::target::{self, Host};

/// Whether transactions go to replicas, and to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// They do: `route = "replica"`.
    pub are_wanted: bool,
    /// How far a replica may be behind, in place of what its cluster says.
    pub bound: LagBound,
}

/// How reads are told from writes and sent to replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Splitting {
    /// On what conditions.
    pub policy: Policy,
    /// It is only counted where they would go.
    pub is_observed: bool,
}

/// The settings in force for one pool.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where its servers are.
    pub target: Arc<target::Target>,
    /// How TLS towards them is set up. Servers that were opened under another set-up are replaced.
    pub tls_setup: String,
    /// For the judge.
    pub rules: Rules,
    /// `pool_size`.
    pub size: usize,
    /// `min_pool_size`.
    pub min_size: usize,
    /// `reserve_pool_size`.
    pub reserve: usize,
    /// `reserve_pool_timeout`.
    pub reserve_timeout: Duration,
    /// `max_db_connections`.
    pub max_db: usize,
    /// `max_user_connections`.
    pub max_user: usize,
    /// `server_lifetime`; 0 uses each server once.
    pub lifetime: Duration,
    /// For servers that come back.
    pub upkeep: Upkeep,
    /// `server_idle_timeout`.
    pub idle_timeout: Duration,
    /// `server_reset_query`.
    pub reset_query: String,
    /// `server_check_query`, with `<empty>` made into an empty text; `None` is no check.
    pub check_query: Option<String>,
    /// `server_check_delay`.
    pub check_delay: Duration,
    /// `server_login_retry`.
    pub login_retry: Duration,
    /// FIFO of idle servers.
    pub round_robin: bool,
    /// Which nodes of a cluster its clients' transactions go to.
    pub reads: Reads,
    /// How reads are split off: `route = "auto"`.
    pub split: Option<Arc<Splitting>>,
    /// What is done to its database, where that is in a cluster.
    pub deeds: Option<Arc<Deeds>>,
    /// The user is forced, so the pool keeps `min_pool_size` without clients.
    pub is_forced: bool,
}

/// What a server's TLS depends on beside the mode: PgBouncer replaces servers when any of it is written in another way.
fn tls_setup(settings: &Settings, cluster: Option<&str>) -> String {
    let (tls, all) = (settings.server_tls(cluster), &settings.pooler);
    if tls.mode == TlsMode::Disable {
        return String::new();
    }
    let files = (tls.ca, tls.certificate, tls.key);
    let ciphers = (&all.server_tls_ciphers, &all.server_tls13_ciphers);
    format!("{files:?} {:?} {ciphers:?}", tls.protocols.text)
}

/// Makes the plan for the pool of `name` (which `database` describes) and the server-side `user`, whose password, where one
/// is known, is `password`. What is shared with others ([`Plan::deeds`]) is left open.
pub fn plan(
    settings: &Settings,
    name: &str,
    database: &DatabaseSettings,
    user: &str,
    password: Option<Verifier>,
) -> Plan {
    let all = &settings.pooler;
    let mode = settings.effective_pool_mode(name, user);
    Plan {
        target: Arc::new(target_of(settings, name, database, user, password)),
        tls_setup: tls_setup(settings, database.cluster.as_deref()),
        rules: Rules {
            mode,
            max_prepared: all.max_prepared_statements,
            max_packet: all.max_packet_size,
            no_simple_query: all.disable_pqexec,
            state: settings.effective_session_state(name, user),
            is_followed: settings.cluster_of(name).is_some(),
            is_split: settings.is_split(name, user),
            dialect: settings.dialect,
        },
        size: settings.effective_pool_size(name, user),
        min_size: settings.effective_min_pool_size(name, user),
        reserve: settings.effective_reserve_pool_size(name, user),
        reserve_timeout: all.reserve_pool_timeout,
        max_db: settings.effective_max_db_connections(name),
        max_user: settings.effective_max_user_connections(user),
        lifetime: settings.effective_server_lifetime(name),
        upkeep: Upkeep {
            mode,
            has_reset: !all.server_reset_query.is_empty(),
            reset_always: all.server_reset_query_always,
        },
        idle_timeout: all.server_idle_timeout,
        reset_query: all.server_reset_query.clone(),
        check_query: match all.server_check_query.as_str() {
            "" => None,
            "<empty>" => Some(String::new()),
            query => Some(query.to_owned()),
        },
        check_delay: all.server_check_delay,
        login_retry: all.server_login_retry,
        round_robin: all.server_round_robin,
        reads: Reads {
            are_wanted: settings.effective_route(name, user) == Route::Replica,
            bound: settings.effective_lag_bound(name, user),
        },
        split: settings
            .is_split(name, user)
            .then(|| Arc::new(splitting(settings, name, user))),
        deeds: None,
        is_forced: database.user.is_some(),
    }
}

fn target_of(
    settings: &Settings,
    name: &str,
    database: &DatabaseSettings,
    user: &str,
    password: Option<Verifier>,
) -> target::Target {
    let startup = [
        ("client_encoding", &database.client_encoding),
        ("DateStyle", &database.datestyle),
        ("TimeZone", &database.timezone),
        ("application_name", &database.application_name),
    ];
    target::Target {
        hosts: settings
            .server_hosts(name)
            .into_iter()
            .map(|(name, port)| Host { name, port })
            .collect(),
        balance: settings.load_balance(name).unwrap_or_default(),
        dbname: settings.server_dbname(name).to_owned(),
        user: user.to_owned(),
        password: database
            .password
            .as_ref()
            .map(|secret| Verifier::parse(secret.expose()))
            .or(password),
        tls: settings.server_tls(database.cluster.as_deref()).mode,
        cluster: database.cluster.clone(),
        startup: startup
            .into_iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), value)))
            .collect(),
        connect_query: database.connect_query.clone(),
        timeout: connect_limit(settings),
        socket: socket_options(settings),
    }
}

fn splitting(settings: &Settings, name: &str, user: &str) -> Splitting {
    let routing = &settings.routing;
    Splitting {
        policy: Policy {
            target: Target::Auto,
            consistency: settings.effective_consistency(name, user),
            transactions: settings.effective_transactions(name, user),
            primary_reads: routing.primary_reads,
            no_replica: routing.no_replica,
            bound: settings.effective_lag_bound(name, user),
            seats: settings.effective_pool_size(name, user),
            max_ejected: routing.max_ejected,
        },
        is_observed: routing.mode == RoutingMode::Observe,
    }
}

/// How long it may take to reach a server and to log in.
pub fn connect_limit(settings: &Settings) -> Duration {
    match settings.pooler.server_connect_timeout {
        Duration::ZERO => Duration::MAX,
        limit => limit,
    }
}

/// How names of hosts are looked up.
pub fn name_rules(settings: &Settings) -> NameRules {
    let all = &settings.pooler;
    NameRules {
        max_ttl: all.dns_max_ttl,
        nxdomain_ttl: all.dns_nxdomain_ttl,
        resolv_conf: all.resolv_conf.clone(),
    }
}

/// The options of TCP sockets, both sides'.
pub fn socket_options(settings: &Settings) -> SocketOptions {
    let all = &settings.pooler;
    let set = |span: Duration| (!span.is_zero()).then_some(span);
    SocketOptions {
        keepalive: all.tcp_keepalive,
        keepcnt: (all.tcp_keepcnt > 0).then_some(all.tcp_keepcnt),
        keepidle: set(all.tcp_keepidle),
        keepintvl: set(all.tcp_keepintvl),
        user_timeout: set(all.tcp_user_timeout),
        socket_buffer: (all.tcp_socket_buffer > 0).then_some(all.tcp_socket_buffer),
    }
}
