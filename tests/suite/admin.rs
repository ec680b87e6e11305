//! The console, as PgBouncer's users and their tools know it.

mod commands;

use crate::support::columns::{CONNECTIONS, DATABASES, INT4, INT8, NUMERIC, POOLS, TEXT};
use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{postgres, program};
use crate::support::wire::{Login, PATIENCE, batch};

/// `"a b"` with one type, as the console describes columns.
fn typed(names: &str, oid: i32) -> Vec<(String, i32)> {
    names
        .split_whitespace()
        .map(|name| (name.to_owned(), oid))
        .collect()
}

fn columns(parts: &[(&str, i32)]) -> Vec<(String, i32)> {
    parts
        .iter()
        .flat_map(|(names, oid)| typed(names, *oid))
        .collect()
}

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

fn console(pooler: &Pooler, user: &str, database: &str) -> Login {
    pooler.login().user(user).password(user).database(database)
}

#[track_caller]
fn cell(pooler: &Pooler, show: &str, key: (&str, &str), column: &str) -> String {
    let row = pooler
        .show(show)
        .row_where(key.0, key.1)
        .unwrap_or_else(|| panic!("{show} has no {key:?}"));
    row[column].clone()
}

fn pool_columns() -> Vec<(String, i32)> {
    let ours = [("sv_closing cl_pinned", INT4), ("total_pins", INT8)];
    columns(&[POOLS, &ours].concat())
}

fn user_columns() -> Vec<(String, i32)> {
    columns(&[
        ("name pool_size reserve_pool_size pool_mode", TEXT),
        (
            "max_user_connections current_connections max_user_client_connections current_client_connections",
            INT4,
        ),
    ])
}

/// Of SHOW STATS: each count twice, under its own prefix.
fn stats_columns() -> Vec<(String, i32)> {
    let names = "server_assignment_count xact_count query_count received sent xact_time query_time wait_time \
                 client_parse_count server_parse_count bind_count client_login_count";
    let prefixed = |prefix: &str, names: &str| -> String {
        names
            .split_whitespace()
            .map(|name| format!("{prefix}{name} "))
            .collect()
    };
    let (totals, averages) = (
        prefixed("total_", names),
        prefixed("avg_", &names.replace("received", "recv")),
    );
    columns(&[("database", TEXT), (&totals, NUMERIC), (&averages, NUMERIC)])
}

#[test]
fn every_show_has_pgbouncers_columns_in_pgbouncers_order() {
    let pooler = single().start();
    pooler.connect().query("select 1").good();
    let counts = "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time";
    let parses = "client_parse_count server_parse_count bind_count client_login_count";
    let averaged =
        "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count";
    let expected = [
        ("VERSION", columns(&[("version", TEXT)])),
        ("STATE", columns(&[("key value", TEXT)])),
        ("LISTS", columns(&[("list", TEXT), ("items", INT4)])),
        ("CONFIG", columns(&[("key value default changeable", TEXT)])),
        ("DATABASES", columns(DATABASES)),
        ("POOLS", pool_columns()),
        ("USERS", user_columns()),
        ("CLIENTS", columns(CONNECTIONS)),
        ("SERVERS", columns(CONNECTIONS)),
        ("STATS", stats_columns()),
        (
            "STATS_TOTALS",
            columns(&[("database", TEXT), (counts, NUMERIC), (parses, NUMERIC)]),
        ),
        (
            "STATS_AVERAGES",
            columns(&[("database", TEXT), (counts, NUMERIC), (averaged, NUMERIC)]),
        ),
        ("TOTALS", columns(&[("name", TEXT), ("value", NUMERIC)])),
    ];
    let mut client = pooler.console();
    for (show, columns) in expected {
        let reply = client.query(&format!("SHOW {show}")).good();
        assert_eq!(reply.columns, columns, "SHOW {show}");
        assert_eq!(
            (reply.tags, reply.status),
            (vec!["SHOW".to_owned()], 'I'),
            "SHOW {show}"
        );
    }
}

#[test]
fn show_version_names_the_pooler() {
    let pooler = single().start();
    assert_eq!(
        pooler.show("SHOW VERSION").rows,
        [[Some(format!("pooler {}", env!("CARGO_PKG_VERSION")))]]
    );
}

#[test]
fn both_names_lead_to_the_console_and_only_for_operators() {
    let pooler = single().start();
    for database in ["pgbouncer", "pooler"] {
        for user in ["admin", "stats"] {
            assert_eq!(
                console(&pooler, user, database)
                    .connect()
                    .query("SHOW STATE")
                    .good()
                    .rows
                    .len(),
                3
            );
        }
        let fault = console(&pooler, "app", database).refused();
        assert_eq!(
            (fault.severity.as_str(), fault.code.as_str()),
            ("FATAL", "28000"),
            "{fault:?}"
        );
    }
}

#[test]
fn commands_are_read_in_any_case_with_or_without_semicolon() {
    let pooler = single().start();
    let mut client = pooler.console();
    for command in [
        "SHOW STATE",
        "show state;",
        "  Show   State ;",
        "select state",
    ] {
        assert_eq!(client.query(command).good().rows.len(), 3, "{command:?}");
    }
    for command in [
        "SHOW NOTHING",
        "FROBNICATE",
        "",
        ";",
        "SHOW STATE; SHOW STATE",
        "SHOW",
    ] {
        let fault = client.query(command).error().clone();
        assert_eq!(
            (fault.severity.as_str(), fault.code.as_str()),
            ("ERROR", "42601"),
            "{command:?}"
        );
        assert!(fault.says("SHOW HELP"), "{command:?}: {fault:?}");
    }
    assert_eq!(
        client.query("SHOW STATE").good().status,
        'I',
        "the session goes on"
    );
}

#[test]
fn show_help_lists_every_command() {
    let pooler = single().start();
    let reply = pooler.console().query("SHOW HELP").good();
    assert!(reply.rows.is_empty());
    let help = &reply.notices[0].detail;
    for word in [
        "SHOW",
        "PAUSE",
        "RESUME",
        "RELOAD",
        "RECONNECT",
        "KILL",
        "DISABLE",
        "ENABLE",
        "WAIT_CLOSE",
        "SHUTDOWN",
        "SET",
    ] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
}

#[test]
fn who_may_only_look_may_not_act() {
    let pooler = single().start();
    let mut stats = console(&pooler, "stats", "pgbouncer").connect();
    for command in [
        "PAUSE",
        "PAUSE app",
        "RESUME",
        "RELOAD",
        "RECONNECT",
        "KILL app",
        "DISABLE app",
        "ENABLE app",
        "WAIT_CLOSE",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SET server_lifetime = 5",
        "SUSPEND",
    ] {
        let fault = stats.query(command).error().clone();
        assert!(fault.says("admin access needed"), "{command}: {fault:?}");
    }
    assert_eq!(stats.query("SHOW POOLS").good().status, 'I');
    pooler.serves();
}

#[test]
fn the_console_speaks_the_simple_protocol_only_and_says_so() {
    let pooler = single().start();
    let mut client = pooler.console();
    client.send(batch().parse("", "SHOW STATE").run("", &[]).sync());
    let mut told = false;
    while let Ok(frame) = client.wire.read_frame() {
        told |= frame.tag == b'E'
            && String::from_utf8_lossy(&frame.body).contains("extended query protocol");
    }
    assert!(told);
    pooler.serves();
}

#[test]
fn psql_works_at_the_console() {
    let pooler = single().start();
    let output = program("psql")
        .args(["-X", "-A", "-h", "127.0.0.1", "-U", "admin", "-p"])
        .arg(pooler.port.to_string())
        .args([
            "-d",
            "pgbouncer",
            "-c",
            "SHOW POOLS",
            "-c",
            "SHOW VERSION",
            "-c",
            "PAUSE",
            "-c",
            "RESUME",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("database|user|cl_active"), "{text}");
    assert!(
        text.contains("pooler ") && text.contains("PAUSE\nRESUME"),
        "{text}"
    );
}

#[test]
fn drivers_find_the_parameters_they_need_at_the_console() {
    let pooler = single().start();
    let parameters = pooler.console().welcome.parameters;
    for name in [
        "server_version",
        "client_encoding",
        "server_encoding",
        "DateStyle",
        "standard_conforming_strings",
    ] {
        assert!(
            parameters.contains_key(name),
            "{name} is missing in {parameters:?}"
        );
    }
    let mut client = pooler.console();
    for (name, value) in [
        ("client_encoding", "UTF-8"),
        ("datestyle", "ISO"),
        ("standard_conforming_strings", "on"),
    ] {
        assert_eq!(
            client.query(&format!("SHOW {name}")).good().column(name),
            [value]
        );
        let set = client.query(&format!("SET {name} = 'x'")).good();
        assert_eq!(set.notices.len(), 1, "SET {name} is ignored with a notice");
    }
}

#[test]
fn show_pools_and_lists_tell_what_is_going_on() {
    let pooler = config().database("app", "pool_size", 2).start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    let (mut third, _idle) = (pooler.connect(), pooler.connect());
    one.query("begin").good();
    other.query("begin").good();
    third.send(batch().query("select 1"));
    pooler.pool_shows("cl_waiting", 1);
    let row = pooler
        .show("SHOW POOLS")
        .row_where("database", "app")
        .unwrap();
    let shown = ["user", "cl_active", "sv_active", "sv_idle", "pool_mode"]
        .map(|column| row[column].as_str());
    assert_eq!(shown, ["app", "3", "2", "0", "transaction"]);
    one.query("commit").good();
    other.query("commit").good();
    third.until_ready().good();
    pooler.pool_shows("sv_idle", 2);
    pooler.pool_shows("sv_active", 0);
    assert_eq!(
        cell(&pooler, "SHOW LISTS", ("list", "databases"), "items"),
        "2",
        "the console counts as one"
    );
    assert_eq!(
        cell(&pooler, "SHOW LISTS", ("list", "used_servers"), "items"),
        "2"
    );
}

#[test]
fn show_clients_and_servers_tell_who_is_who() {
    let pooler = single().start();
    let mut client = pooler
        .login()
        .parameter("application_name", "whoever")
        .connect();
    client.query("begin").good();
    let server = client.server();

    let shown = pooler
        .show("SHOW CLIENTS")
        .row_where("application_name", "whoever")
        .unwrap();
    let expected = [
        ("type", "C"),
        ("user", "app"),
        ("database", "app"),
        ("state", "active"),
        ("addr", "127.0.0.1"),
        ("tls", ""),
    ];
    for (column, value) in expected {
        assert_eq!(shown[column], value, "{column}");
    }
    assert_eq!(shown["local_port"], pooler.port.to_string());
    let its_server = pooler.show("SHOW SERVERS").row_where("type", "S").unwrap();
    let port = postgres().server().port.to_string();
    let expected = [
        ("user", "app"),
        ("state", "active"),
        ("port", &port),
        ("remote_pid", &server),
        ("ptr", &shown["link"]),
    ];
    for (column, value) in expected {
        assert_eq!(its_server[column], value, "{column}");
    }
    client.query("commit").good();
    eventually(PATIENCE, "it is idle", || {
        let row = pooler
            .show("SHOW CLIENTS")
            .row_where("application_name", "whoever")
            .unwrap();
        row["state"] == "idle" && row["link"].is_empty()
    });
    assert_eq!(
        cell(&pooler, "SHOW SERVERS", ("type", "S"), "state"),
        "idle"
    );
}

#[test]
fn show_databases_and_config_tell_the_settings() {
    let pooler = single()
        .database("app", "min_pool_size", 1)
        .database("app", "pool_mode", "session")
        .pooler("query_timeout", "77s")
        .start();
    let row = pooler
        .show("SHOW DATABASES")
        .row_where("name", "app")
        .unwrap();
    let expected = [
        ("host", "127.0.0.1"),
        ("database", "app"),
        ("pool_size", "1"),
        ("min_pool_size", "1"),
        ("pool_mode", "session"),
        ("paused", "0"),
        ("disabled", "0"),
    ];
    for (column, value) in expected {
        assert_eq!(row[column], value, "{column}");
    }
    assert!(
        pooler
            .show("SHOW DATABASES")
            .row_where("name", "pgbouncer")
            .is_some()
    );
    assert_eq!(
        cell(&pooler, "SHOW CONFIG", ("key", "query_timeout"), "value"),
        "77"
    );
    assert_eq!(
        cell(
            &pooler,
            "SHOW CONFIG",
            ("key", "query_timeout"),
            "changeable"
        ),
        "yes"
    );
    assert_eq!(
        cell(&pooler, "SHOW CONFIG", ("key", "listen_port"), "changeable"),
        "no"
    );
    assert_eq!(
        cell(&pooler, "SHOW CONFIG", ("key", "listen_port"), "value"),
        pooler.port.to_string()
    );
    let file = cell(&pooler, "SHOW CONFIG", ("key", "conffile"), "value");
    assert!(file.ends_with("pooler.toml"), "{file:?}");
    assert!(pooler.show("SHOW USERS").row_where("name", "app").is_some());
}

#[test]
fn stats_count_transactions_queries_and_bytes_exactly() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let totals = |column: &str| -> i64 {
        cell(&pooler, "SHOW STATS_TOTALS", ("database", "app"), column)
            .parse()
            .unwrap()
    };
    client.query("select 1").good();
    let before = ["xact_count", "query_count", "bytes_received", "bytes_sent"].map(totals);
    client.query("select 2").good(); // 1 transaction, 1 query, 13 + 1 bytes
    client.query("begin").good();
    client.query("select 3; select 4").good();
    client.query("commit").good(); // 1 transaction, 3 queries
    client
        .ask(batch().parse("", "select 5").run("", &[]).sync())
        .good(); // 1 and 1
    let after = ["xact_count", "query_count", "bytes_received", "bytes_sent"].map(totals);
    assert_eq!((after[0] - before[0], after[1] - before[1]), (3, 5));
    assert!(
        after[2] > before[2] && after[3] > before[3],
        "{before:?} {after:?}"
    );
    assert_eq!(
        cell(
            &pooler,
            "SHOW STATS",
            ("database", "app"),
            "total_xact_count"
        ),
        after[0].to_string()
    );
}

#[test]
fn set_changes_a_running_setting_until_the_next_reload() {
    let pooler = single().start();
    let mut console = pooler.console();
    let set = console.query("SET query_wait_timeout = '1'").good();
    assert!(set.tags[0].starts_with("SET"));
    assert_eq!(
        cell(
            &pooler,
            "SHOW CONFIG",
            ("key", "query_wait_timeout"),
            "value"
        ),
        "1"
    );
    let mut holder = pooler.connect();
    holder.query("begin").good();
    let mut waiting = pooler.connect();
    waiting.send(batch().query("select 1"));
    assert!(waiting.ended().says("query_wait_timeout"));
    assert_eq!(
        console.query("SET no_such_setting = 1").error().severity,
        "ERROR"
    );
    assert_eq!(
        console
            .query("SET query_wait_timeout = 'soon'")
            .error()
            .severity,
        "ERROR"
    );
    console.query("RELOAD").good();
    assert_ne!(
        cell(
            &pooler,
            "SHOW CONFIG",
            ("key", "query_wait_timeout"),
            "value"
        ),
        "1"
    );
}
