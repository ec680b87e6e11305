//! SHOW: columns, their types and their order, as literals; and what came since 1.18.

use super::both;
use crate::support::columns::{CONNECTIONS, Columns, DATABASES, INT4, INT8, NUMERIC, POOLS, TEXT};
use crate::support::pgbouncer::{Side, Which};
use crate::support::wire::{Client, Reply};

const BYTEA: i32 = 17;

/// A SHOW: its columns, and those among them that PgBouncer 1.18 has not.
struct Shown {
    what: &'static str,
    columns: Columns,
    since: &'static [&'static str],
}

const fn shown(what: &'static str, columns: Columns) -> Shown {
    Shown {
        what,
        columns,
        since: &[],
    }
}

const fn grown(what: &'static str, columns: Columns, since: &'static [&'static str]) -> Shown {
    Shown {
        what,
        columns,
        since,
    }
}

const COUNTS: &str = "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time";

const SOCKETS_SINCE: &[&str] = &["replication", "prepared_statements", "id"];

const BUFFERS: Columns = &[
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
    (
        "recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail",
        INT4,
    ),
];

const ALL: &[Shown] = &[
    shown("VERSION", &[("version", TEXT)]),
    grown("STATE", &[("key value", TEXT)], &["*"]),
    shown("LISTS", &[("list", TEXT), ("items", INT4)]),
    shown("CONFIG", &[("key value default changeable", TEXT)]),
    grown(
        "DATABASES",
        DATABASES,
        &[
            "server_lifetime",
            "load_balance_hosts",
            "max_client_connections",
            "current_client_connections",
        ],
    ),
    grown("POOLS", POOLS, &["load_balance_hosts"]),
    grown(
        "PEER_POOLS",
        &[(
            "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
            INT4,
        )],
        &["*"],
    ),
    grown(
        "PEERS",
        &[("peer_id", INT4), ("host", TEXT), ("port pool_size", INT4)],
        &["*"],
    ),
    grown(
        "USERS",
        &[
            ("name pool_size reserve_pool_size pool_mode", TEXT),
            (
                "max_user_connections current_connections max_user_client_connections current_client_connections",
                INT4,
            ),
        ],
        &[
            "pool_size",
            "reserve_pool_size",
            "max_user_connections",
            "current_connections",
            "max_user_client_connections",
            "current_client_connections",
        ],
    ),
    grown("CLIENTS", CONNECTIONS, SOCKETS_SINCE),
    grown("SERVERS", CONNECTIONS, SOCKETS_SINCE),
    grown("SOCKETS", BUFFERS, SOCKETS_SINCE),
    grown("ACTIVE_SOCKETS", BUFFERS, SOCKETS_SINCE),
    shown(
        "FDS",
        &[
            ("fd", INT4),
            ("task user database addr", TEXT),
            ("port", INT4),
            ("cancel", INT8),
            ("link", INT4),
            (
                "client_encoding std_strings datestyle timezone password",
                TEXT,
            ),
            ("scram_client_key scram_server_key", BYTEA),
        ],
    ),
    grown(
        "STATS",
        &[
            ("database", TEXT),
            (
                "total_server_assignment_count total_xact_count total_query_count total_received total_sent \
                 total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
                 total_bind_count total_client_login_count",
                NUMERIC,
            ),
            (
                "avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time \
                 avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count \
                 avg_client_login_count",
                NUMERIC,
            ),
        ],
        &[
            "total_server_assignment_count",
            "total_client_parse_count",
            "total_server_parse_count",
            "total_bind_count",
            "total_client_login_count",
            "avg_server_assignment_count",
            "avg_client_parse_count",
            "avg_server_parse_count",
            "avg_bind_count",
            "avg_client_login_count",
        ],
    ),
    grown(
        "STATS_TOTALS",
        &[
            ("database", TEXT),
            (COUNTS, NUMERIC),
            (
                "client_parse_count server_parse_count bind_count client_login_count",
                NUMERIC,
            ),
        ],
        &[
            "server_assignment_count",
            "client_parse_count",
            "server_parse_count",
            "bind_count",
            "client_login_count",
        ],
    ),
    grown(
        "STATS_AVERAGES",
        &[
            ("database", TEXT),
            (COUNTS, NUMERIC),
            (
                "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
                NUMERIC,
            ),
        ],
        &[
            "server_assignment_count",
            "avg_client_parse_count",
            "avg_server_parse_count",
            "avg_bind_count",
            "avg_client_login_count",
        ],
    ),
    shown("TOTALS", &[("name", TEXT), ("value", NUMERIC)]),
    shown("MEM", &[("name", TEXT), ("size used free memtotal", INT4)]),
    shown(
        "DNS_HOSTS",
        &[("hostname", TEXT), ("ttl", INT8), ("addrs", TEXT)],
    ),
    shown(
        "DNS_ZONES",
        &[("zonename", TEXT), ("serial", INT8), ("count", INT4)],
    ),
];

fn columns(shown: &Shown, which: Which) -> Vec<(String, i32)> {
    let all = shown.columns.iter();
    let all =
        all.flat_map(|(names, oid)| names.split_whitespace().map(|name| (name.to_owned(), *oid)));
    all.filter(|(name, _)| which == Which::Pooler || !shown.since.contains(&name.as_str()))
        .map(|(name, oid)| (name_for(&name, which).to_owned(), oid))
        .collect()
}

fn console(side: &Side) -> Client {
    side.login("admin", "pgbouncer").connect()
}

/// Columns that have another name since 1.18: how they were called.
const RENAMED: &[(&str, &str)] = &[("reserve_pool_size", "reserve_pool")];

/// The name that `which` has for a column of a SHOW other than USERS.
fn name_for(name: &str, which: Which) -> &str {
    let old = RENAMED.iter().find(|(new, _)| *new == name);
    match (which, old) {
        (Which::PgBouncer, Some((_, old))) => old,
        _ => name,
    }
}

/// One client that waits for nothing, so that there is a row of everything.
fn with_a_client(side: &Side) -> Client {
    let mut client = side.login("app", "app").connect();
    client.query("select 1").good();
    client
}

#[test]
fn every_show_has_the_same_columns_in_the_same_order() {
    let mut findings = Vec::new();
    for side in both("") {
        let _client = with_a_client(&side);
        let mut console = console(&side);
        for shown in ALL {
            if side.which == Which::PgBouncer && shown.since == ["*"] {
                continue;
            }
            let reply = console.query(&format!("SHOW {}", shown.what)).good();
            let expected = columns(shown, side.which);
            if reply.columns != expected {
                let (which, what) = (side.which, shown.what);
                findings.push(format!(
                    "{which:?}: SHOW {what}\n  {:?}\n  {expected:?}",
                    reply.columns
                ));
            }
            assert_eq!(reply.tags, ["SHOW"], "{:?} {}", side.which, shown.what);
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// The cells of a row that do not depend on the moment, by name.
fn cells(reply: &Reply, which: Which, key: (&str, &str), names: &str) -> String {
    let row = reply.row_where(key.0, key.1);
    let row = row.unwrap_or_else(|| panic!("no row {key:?} in {reply:?}"));
    let shown = names.split_whitespace().map(|name| {
        format!(
            "{name}={}",
            row.get(name_for(name, which)).map_or("-", String::as_str)
        )
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A SHOW, a row of it and the cells of that row.
const CELLS: &[(&str, (&str, &str), &str, &str)] = &[
    (
        "DATABASES",
        ("name", "pgbouncer"),
        "host database force_user pool_size min_pool_size reserve_pool_size pool_mode max_connections current_connections paused disabled",
        "host= database=pgbouncer force_user=pgbouncer pool_size=2 min_pool_size=0 reserve_pool_size=0 \
         pool_mode=statement max_connections=0 current_connections=0 paused=0 disabled=0",
    ),
    (
        "DATABASES",
        ("name", "one"),
        "host database force_user pool_size min_pool_size reserve_pool_size pool_mode max_connections current_connections",
        "host=127.0.0.1 database=app force_user= pool_size=1 min_pool_size=0 reserve_pool_size=0 pool_mode= \
         max_connections=0 current_connections=0",
    ),
    (
        "DATABASES",
        ("name", "forced"),
        "force_user pool_size current_connections",
        "force_user=other pool_size=20 current_connections=0",
    ),
    (
        "DATABASES",
        ("name", "app"),
        "current_connections paused",
        "current_connections=1 paused=0",
    ),
    (
        "POOLS",
        ("database", "app"),
        "user cl_active cl_waiting sv_active sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode",
        "user=app cl_active=1 cl_waiting=0 sv_active=0 sv_idle=1 sv_used=0 sv_tested=0 sv_login=0 maxwait=0 \
         maxwait_us=0 pool_mode=transaction",
    ),
    (
        "POOLS",
        ("database", "pgbouncer"),
        "user cl_active cl_waiting sv_active sv_idle pool_mode",
        "user=pgbouncer cl_active=1 cl_waiting=0 sv_active=0 sv_idle=0 pool_mode=statement",
    ),
    (
        "CLIENTS",
        ("database", "app"),
        "type user addr tls close_needed link application_name",
        "type=C user=app addr=127.0.0.1 tls= close_needed=0 link= application_name=beside",
    ),
    (
        "SERVERS",
        ("database", "app"),
        "type user state addr tls close_needed link application_name wait wait_us",
        "type=S user=app state=idle addr=127.0.0.1 tls= close_needed=0 link= application_name=beside wait=0 wait_us=0",
    ),
    ("STATE", ("key", "active"), "value", "value=yes"),
    ("STATE", ("key", "paused"), "value", "value=no"),
    ("STATE", ("key", "suspended"), "value", "value=no"),
    ("LISTS", ("list", "databases"), "items", "items=8"),
    ("LISTS", ("list", "pools"), "items", "items=2"),
    ("LISTS", ("list", "used_clients"), "items", "items=2"),
    ("LISTS", ("list", "login_clients"), "items", "items=0"),
    ("LISTS", ("list", "used_servers"), "items", "items=1"),
    (
        "STATS",
        ("database", "app"),
        "total_xact_count total_query_count",
        "total_xact_count=2 total_query_count=5",
    ),
    (
        "CONFIG",
        ("key", "pool_mode"),
        "value default changeable",
        "value=transaction default=session changeable=yes",
    ),
    (
        "CONFIG",
        ("key", "auth_type"),
        "value changeable",
        "value=trust changeable=yes",
    ),
    (
        "CONFIG",
        ("key", "listen_addr"),
        "value default changeable",
        "value=127.0.0.1 default= changeable=no",
    ),
    (
        "CONFIG",
        ("key", "unix_socket_mode"),
        "value default",
        "value=511 default=0777",
    ),
    (
        "CONFIG",
        ("key", "query_wait_timeout"),
        "value default",
        "value=120 default=120",
    ),
    (
        "CONFIG",
        ("key", "server_check_delay"),
        "value default",
        "value=30 default=30",
    ),
    (
        "CONFIG",
        ("key", "admin_users"),
        "value default changeable",
        "value=admin default= changeable=yes",
    ),
];

#[test]
fn rows_tell_the_same() {
    let mut findings = Vec::new();
    for side in both("") {
        let login = side.login("app", "app");
        let mut client = login.parameter("application_name", "beside").connect();
        client.query("select 1").good();
        client.query("begin").good();
        client.query("select 1; select 2").good();
        client.query("select 3").good();
        client.query("commit").good();
        let mut console = console(&side);
        for (what, key, names, expected) in CELLS {
            if side.which == Which::PgBouncer && *what == "STATE" {
                continue;
            }
            let mut got = String::new();
            // The server is back in its pool a moment after the client has heard.
            for _ in 0..200 {
                let reply = console.query(&format!("SHOW {what}")).good();
                got = cells(&reply, side.which, *key, names);
                if got == *expected {
                    break;
                }
            }
            if got != *expected {
                findings.push(format!(
                    "{:?}: SHOW {what} {key:?}\n  {got}\n  {expected}",
                    side.which
                ));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn rows_come_in_the_same_order() {
    for side in both("") {
        let _clients = ["one", "app", "sessions"].map(|name| {
            let mut client = side.login("app", name).connect();
            client.query("select 1").good();
            client
        });
        let mut console = console(&side);
        let names = |console: &mut Client, what: &str, column: &str| {
            console
                .query(&format!("SHOW {what}"))
                .good()
                .column(column)
                .join(" ")
        };
        let databases = names(&mut console, "DATABASES", "name");
        assert_eq!(
            databases,
            "app forced missing odd-name.x one pgbouncer sessions statements"
        );
        assert_eq!(
            names(&mut console, "POOLS", "database"),
            "app one pgbouncer sessions"
        );
        assert_eq!(
            names(&mut console, "STATS", "database"),
            "app one pgbouncer sessions"
        );
        assert_eq!(
            names(&mut console, "CLIENTS", "database"),
            "app one pgbouncer sessions"
        );
        assert_eq!(
            names(&mut console, "SERVERS", "database"),
            "app one sessions"
        );
        assert_eq!(
            names(&mut console, "USERS", "name"),
            "admin app other pgbouncer stats"
        );
    }
}

#[test]
fn every_key_of_pgbouncers_is_listed_with_its_default() {
    let [old, new] = both("");
    let (old, new) = (
        console(&old).query("SHOW CONFIG").good(),
        console(&new).query("SHOW CONFIG").good(),
    );
    let keys = new.column("key");
    let mut findings = Vec::new();
    for row in &old.rows {
        let key = row[0].clone().unwrap();
        match new
            .rows
            .iter()
            .find(|other| other[0].as_deref() == Some(&key))
        {
            None if GONE.contains(&key.as_str()) => {}
            None => findings.push(format!("{key} is not listed")),
            Some(other) if other[2..] != row[2..] && !CHANGED.contains(&key.as_str()) => {
                findings.push(format!("{key}: {row:?} {other:?}"));
            }
            Some(_) => {}
        }
    }
    assert!(keys.len() >= 100, "{keys:?}");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Keys of 1.18 that are no more.
const GONE: &[&str] = &[];
/// Keys whose default has changed since 1.18.
const CHANGED: &[&str] = &[
    "client_tls_ciphers",
    "server_check_query",
    "server_tls_ciphers",
    "server_tls_sslmode",
];
