//! Whole files, good and broken.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::environment::Environment;
use crate::config::ini::reading::defaults;
use crate::config::load::{Read, from_ini};
use crate::config::problem::Problems;
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect, PoolMode, SessionState, TlsProtocols};

fn files(file: &Path) -> io::Result<String> {
    let text = match file.to_str() {
        Some("users.ini") => "[users]\nann = pool_size=3\n",
        Some("rest.ini") => "default_pool_size = 7\n[databases]\nfrom_include = host=h\n",
        Some("loop.ini") => "%include loop.ini\n",
        Some("bad.ini") => "[pgbouncer]\nnonsense\n",
        _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Ok(text.to_owned())
}

fn read(text: &str) -> Result<Read, Problems> {
    from_ini(text, "p.ini", &files, &Environment::default())
}

fn load(text: &str) -> Settings {
    read(text).unwrap().settings
}

fn told(text: &str) -> Vec<String> {
    let problems = read(text).unwrap_err().to_string();
    problems.lines().map(str::to_owned).collect()
}

#[test]
fn an_empty_file_means_pgbouncers_defaults() {
    let settings = load("[pgbouncer]\n");
    assert_eq!(settings, defaults());
    assert_eq!(settings.dialect, Dialect::PgBouncer);
    let pooler = settings.pooler;
    assert_eq!(pooler.pool_mode, PoolMode::Session);
    assert_eq!(pooler.session_state, SessionState::PgBouncer);
    assert_eq!(pooler.auth_type, AuthType::Md5);
    assert_eq!((pooler.max_client_conn, pooler.threads), (100, 1));
    assert!(pooler.listen_addr.is_empty());
}

#[test]
fn values_are_written_as_in_pgbouncer() {
    let settings = load(
        "[pgbouncer]\nlisten_addr = 127.0.0.1, ::1\nunix_socket_mode = 0700\nmax_client_conn = 0x10\n\
         query_timeout = 0.5\nlog_connections = 0\nadmin_users = ann bob,carl\npool_mode = Transaction\n\
         tcp_user_timeout = 250\nserver_reset_query = select 1; select 2\n",
    );
    let pooler = settings.pooler;
    assert_eq!(pooler.listen_addr, ["127.0.0.1", "::1"]);
    assert_eq!(
        (pooler.unix_socket_mode, pooler.max_client_conn),
        (0o700, 16)
    );
    assert_eq!(pooler.query_timeout, Duration::from_millis(500));
    assert!(!pooler.log_connections);
    assert_eq!(pooler.admin_users, ["ann", "bob", "carl"]);
    assert_eq!(pooler.pool_mode, PoolMode::Transaction);
    assert_eq!(pooler.tcp_user_timeout, Duration::from_millis(250));
    assert_eq!(pooler.server_reset_query, "select 1; select 2");
}

#[test]
fn databases_and_users_are_pairs_behind_a_name() {
    let settings = load(
        "[databases]\napp = host=db1 port=6000 dbname=real user = ann password='it''s' reserve_pool=2 pool_size=-1\n\
         * = host=db2\n'a b' =\n[users]\nann = pool_mode=session query_timeout=5\n[pgbouncer]\n",
    );
    let app = &settings.databases["app"];
    assert_eq!((app.host.as_deref(), app.port), (Some("db1"), 6000));
    assert_eq!(
        (app.dbname.as_deref(), app.user.as_deref()),
        (Some("real"), Some("ann"))
    );
    assert_eq!(app.password.as_ref().unwrap().expose(), "it's");
    assert_eq!((app.reserve_pool_size, app.pool_size), (Some(2), None));
    assert!(settings.databases.contains_key("*") && settings.databases.contains_key("a b"));
    let ann = &settings.users["ann"];
    assert_eq!(ann.pool_mode, Some(PoolMode::Session));
    assert_eq!(ann.query_timeout, Some(Duration::from_secs(5)));
}

#[test]
fn the_last_of_two_equal_keys_counts_alone() {
    let settings = load(
        "[databases]\na = host=x pool_size=3\na = host=y\n[pgbouncer]\nlisten_port=1\nlisten_port=2\n",
    );
    assert_eq!(settings.databases["a"].host.as_deref(), Some("y"));
    assert_eq!(settings.databases["a"].pool_size, None);
    assert_eq!(settings.pooler.listen_port, 2);
}

#[test]
fn a_second_main_section_begins_with_the_defaults_and_says_so() {
    let read = read(
        "[pgbouncer]\nlisten_port = 1\nmax_client_conn = 5\n[databases]\na = host=x\n[databases]\nb = host=y\n\
         [pgbouncer]\nmax_client_conn = 7\n",
    )
    .unwrap();
    assert_eq!(read.settings.pooler.listen_port, 6432);
    assert_eq!(read.settings.pooler.max_client_conn, 7);
    assert_eq!(read.settings.databases.len(), 2);
    let warnings = read.warnings.to_string();
    assert!(
        warnings.starts_with("p.ini:8:1: pgbouncer: a second [pgbouncer]"),
        "{warnings}"
    );
}

#[test]
fn files_are_included_and_the_section_carries_over() {
    let settings = load("%include users.ini\n[pgbouncer]\n%include rest.ini\nmore = host=h\n");
    assert_eq!(settings.users["ann"].pool_size, Some(3));
    assert_eq!(settings.pooler.default_pool_size, 7);
    assert!(settings.databases.contains_key("more"));
    assert_eq!(
        told("[pgbouncer]\n%include gone.ini\n"),
        ["p.ini:2:1: cannot read \"gone.ini\": entity not found"]
    );
    assert_eq!(
        told("[pgbouncer]\n%include loop.ini\n"),
        ["loop.ini:1:1: files include each other more than 10 deep"]
    );
    assert_eq!(
        told("%include bad.ini\n"),
        ["bad.ini:2:9: expected \"=\" behind the key"]
    );
}

#[test]
fn keys_that_could_change_nothing_are_taken_with_one_warning() {
    let read = read(
        "[pgbouncer]\nclient_tls_ciphers = HIGH:!aNULL\nserver_tls_ciphers = secure\nclient_tls_protocols = tlsv1.0,tlsv1.2\n\
         server_tls_protocols = tlsv1.1\npkt_buf = 8192\ntcp_defer_accept = 0\n",
    )
    .unwrap();
    let warnings = read.warnings.to_string();
    let lines: Vec<_> = warnings.lines().collect();
    assert_eq!(lines.len(), 4, "{warnings}");
    assert!(
        lines[0].starts_with("p.ini:2:22: pgbouncer.client_tls_ciphers: "),
        "{warnings}"
    );
    assert!(
        lines[0].contains("cipher suites are those of rustls"),
        "{warnings}"
    );
    let pooler = read.settings.pooler;
    assert_eq!(pooler.client_tls_protocols.as_str(), "tlsv1.2");
    assert_eq!(pooler.server_tls_protocols, TlsProtocols::default());
    assert_eq!(pooler.pkt_buf, 8192);
}

#[test]
fn what_pgbouncer_takes_and_nobody_means_is_warned_of() {
    let read = read(
        "[databases]\napp = host=127.0.0.1:5433\ntwo = host=::1,db1 port=5433\n[pgbouncer]\nadmin_users = root, \"admin\n[peers]\n1 = host=db:1\n",
    )
    .unwrap();
    let warnings = read.warnings.to_string();
    let lines: Vec<_> = warnings.lines().collect();
    assert_eq!(
        lines,
        [
            "p.ini:2:12: databases.app.host: \"127.0.0.1:5433\" is looked up as a name, for no address has a colon but one of IPv6; a port stands beside its host, as port=5432",
            "p.ini:5:15: pgbouncer.admin_users: a quote is part of the name here; names stand without, separated by commas",
            "p.ini:7:10: peers.1.host: \"db:1\" is looked up as a name, for no address has a colon but one of IPv6; a port stands beside its host, as port=5432",
        ]
    );
    assert_eq!(read.settings.pooler.admin_users, ["root", "\"admin"]);
}

#[test]
fn below_zero_is_no_limit_on_servers() {
    let keys = [
        "max_db_connections",
        "max_user_connections",
        "min_pool_size",
        "reserve_pool_size",
    ];
    let lines: String = keys.iter().map(|key| format!("{key} = -1\n")).collect();
    let pooler = load(&format!("[pgbouncer]\n{lines}")).pooler;
    assert_eq!(
        (pooler.max_db_connections, pooler.max_user_connections),
        (0, 0)
    );
    assert_eq!((pooler.min_pool_size, pooler.reserve_pool_size), (0, 0));
}

/// Broken files, and the whole of what is said about them.
const BROKEN: &[(&str, &[&str])] = &[
    ("", &["p.ini:1:1: there is no section [pgbouncer]"]),
    (
        "[pgbouncer]\npool_moed = session\n",
        &["p.ini:2:1: pgbouncer.pool_moed: unknown key; did you mean \"pool_mode\"?"],
    ),
    (
        "[pgbouncer]\nquery_timeout = 5s\nlog_stats = yes\nlisten_port = many\n",
        &[
            "p.ini:2:17: pgbouncer.query_timeout: expected a number of seconds, found \"5s\"; units are not understood here; for example 5 or 0.25",
            "p.ini:3:13: pgbouncer.log_stats: expected 0 or 1, found \"yes\"",
            "p.ini:4:15: pgbouncer.listen_port: expected a whole number, found \"many\"",
        ],
    ),
    (
        "[pgbouncer]\nlisten_port = 70000\ndefault_pool_size = -5\n",
        &[
            "p.ini:2:15: pgbouncer.listen_port: 70000 is out of range, expected a port from 0 to 65535",
            "p.ini:3:21: pgbouncer.default_pool_size: -5 is out of range, expected a whole number, 0 or more",
        ],
    ),
    (
        "[pgbuoncer]\nlisten_port = 1\n[pgbouncer]\n",
        &["p.ini:1:1: unknown section [pgbuoncer]; did you mean \"pgbouncer\"?"],
    ),
    (
        "listen_port = 1\n[pgbouncer]\n",
        &["p.ini:1:1: listen_port: stands outside of any section"],
    ),
    (
        "[pgbouncer]\nlisten_port 6432\n",
        &["p.ini:2:13: expected \"=\" behind the key"],
    ),
    (
        "[pgbouncer\nlisten_port = 1\n[pgbouncer]\n",
        &[
            "p.ini:1:11: expected \"]\" at the end of a section's name",
            "p.ini:2:1: listen_port: stands outside of any section",
        ],
    ),
    (
        "[pgbouncer]\n[databases]\na = host=x ; the first\n\"b c\" = host=x\n",
        &[
            "p.ini:3:12: databases.a: expected key=value; a comment has a line of its own",
            "p.ini:4:1: expected a key; one with other characters than letters, digits and _.*- stands in single quotes",
        ],
    ),
    (
        "[pgbouncer]\n[databases]\na = host=x hots=y port=0 pool_size=many\n",
        &[
            "p.ini:3:12: databases.a.hots: unknown key; did you mean \"host\"?",
            "p.ini:3:24: databases.a.port: may not be 0; the default is 5432",
            "p.ini:3:36: databases.a.pool_size: expected a whole number, found \"many\"",
        ],
    ),
    (
        "[pgbouncer]\n[databases]\npgbouncer = host=x\na = password=''\n",
        &[
            "p.ini:3:1: databases.pgbouncer: \"pgbouncer\" is the name of the console; give it another name, and the real one as dbname",
            "p.ini:4:14: databases.a: expected a value: an empty one cannot be given, leave the key out",
        ],
    ),
    (
        "[pgbouncer]\nauth_dbname = pgbouncer\n[users]\nann = pool_mode=sesion\n",
        &[
            "p.ini:2:15: pgbouncer.auth_dbname: cannot use the reserved \"pgbouncer\" database as an auth_dbname",
            "p.ini:4:17: users.ann.pool_mode: expected one of session, transaction, statement, found \"sesion\"; did you mean \"session\"?",
        ],
    ),
];

#[test]
fn everything_that_is_wrong_is_told_with_line_and_column() {
    for (text, expected) in BROKEN {
        assert_eq!(told(text), *expected, "{text}");
    }
}

#[test]
fn a_database_called_pooler_is_none_of_the_consoles() {
    let settings = load("[databases]\npooler = host=x\n[pgbouncer]\n");
    assert!(settings.databases.contains_key("pooler"));
}

#[test]
fn the_example_loads_without_a_warning() {
    let text = include_str!("../../../../examples/pgbouncer.ini");
    let read = read(text).unwrap();
    assert!(read.warnings.is_empty(), "{}", read.warnings);
    assert_eq!(read.settings.pooler.pool_mode, PoolMode::Transaction);
    assert_eq!(read.settings.databases.len(), 2);
}
