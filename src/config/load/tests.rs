use std::time::Duration;

use super::*;
use crate::config::value::{AuthType, PoolMode, TlsMode, TlsProtocols};
use crate::secret::Secret;

/// What a file needs beside the line that a test is about.
const REST: &str = "\n[users.u]\npassword = \"x\"\n[databases.d]\nhost = \"h\"\n";

fn load_with(text: &str, env: &Environment) -> Result<Settings, Problems> {
    from_text(text, "pooler.toml", Path::new("/nowhere"), env).map(|read| read.settings)
}

fn load(text: &str) -> Result<Settings, Problems> {
    load_with(text, &Environment::default())
}

/// `lines` of `[pooler]`, and the rest.
fn pooler(lines: &str) -> Result<Settings, Problems> {
    load(&format!("[pooler]\n{lines}{REST}"))
}

fn overridden(pairs: &[(&str, &str)]) -> Result<Settings, Problems> {
    load_with(&format!("[pooler]{REST}"), &pairs.iter().copied().collect())
}

fn example() -> String {
    include_str!("../../../pooler.toml").to_owned()
}

#[test]
fn the_example_loads_as_it_is_and_says_nothing_but_defaults() {
    let settings = load(&example()).unwrap();
    assert_eq!(settings.pooler, Settings::default().pooler);
    assert_eq!(settings.databases["app"].host.as_deref(), Some("127.0.0.1"));
    assert_eq!(
        settings.users["app"].password,
        Some(Secret::new("change-me"))
    );
}

#[test]
fn the_example_shows_every_key_of_the_pooler_at_its_default() {
    let text = example();
    let start = text.find("\n[pooler]").unwrap();
    let section = text[start..].replace("\n#", "\n").replace("\n ", "\n# ");
    for key in POOLER.keys {
        assert!(
            section.contains(&format!("\n{} = ", key.name)),
            "{}",
            key.name
        );
    }
    let settings = load(&format!("{section}{REST}")).unwrap();
    assert_eq!(settings.pooler, Settings::default().pooler);
    assert_eq!(settings.telemetry, Settings::default().telemetry);
}

#[test]
fn the_example_shows_nothing_that_does_not_exist() {
    let text = example()
        .replace("\n#", "\n")
        .replace("\n ", "\n# ")
        .replace("\n--", "\n# ");
    let env = Environment::from([("APP_OWNER_PASSWORD", "x"), ("PROBE_PASSWORD", "x")]);
    let problems = load_with(&text, &env).unwrap_err();
    let keys: Vec<_> = problems
        .0
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(
        keys,
        ["databases.app.auth_user"],
        "its password is not in the example"
    );
}

#[test]
fn values_are_read_in_every_way_they_may_be_written() {
    let settings = pooler(
        r#"
            listen_addr = "127.0.0.1, ::1"
            admin_users = ["ann", "bob"]
            unix_socket_mode = "0700"
            pool_mode = "Session"
            query_timeout = 1.5
            server_lifetime = "2h"
            query_wait_timeout = "250ms"
            tcp_user_timeout = 250
            tcp_keepidle = 30
            max_packet_size = "16MB"
            log_connections = false
            log_stats = 0
            client_tls_protocols = ["tlsv1.3"]
            auth_type = "md5"
            "#,
    );
    let pooler = settings.unwrap().pooler;
    assert_eq!(pooler.listen_addr, ["127.0.0.1", "::1"]);
    assert_eq!(pooler.admin_users, ["ann", "bob"]);
    assert_eq!(pooler.unix_socket_mode, 0o700);
    assert_eq!(pooler.pool_mode, PoolMode::Session);
    assert_eq!(pooler.query_timeout, Duration::from_millis(1_500));
    assert_eq!(pooler.server_lifetime, Duration::from_secs(7_200));
    assert_eq!(pooler.query_wait_timeout, Duration::from_millis(250));
    assert_eq!(pooler.tcp_user_timeout, Duration::from_millis(250));
    assert_eq!(pooler.tcp_keepidle, Duration::from_secs(30));
    assert_eq!(pooler.max_packet_size, 16 << 20);
    assert!(!pooler.log_connections && !pooler.log_stats);
    let only_13 = TlsProtocols {
        tls12: false,
        tls13: true,
        text: "tlsv1.3".to_owned(),
    };
    assert_eq!(pooler.client_tls_protocols, only_13);
    assert_eq!(pooler.auth_type, AuthType::Md5);
}

#[test]
fn what_is_not_built_may_stand_at_a_value_that_means_off() {
    let settings = load(&format!(
        "[pooler]\nsyslog = 0\nlogfile = \"\"\nserver_tls_ciphers = \"default\"\nstate_dir = \"\"\n\
             [web]\nlisten = \"\"\n[telemetry]\notlp_endpoint = \"\"\ntrace_sample = 0.0\n\
             [routing]\nmode = \"off\"\n[clusters]\n{REST}"
    ));
    assert_eq!(settings.unwrap().pooler, Settings::default().pooler);
}

#[test]
fn a_file_as_programs_write_it_loads() {
    let settings = load(
        "[pooler]\nlisten_addr = \"127.0.0.1\"\nlisten_port = 6432\nunix_socket_dir = \"\"\nthreads = 1\n\
             auth_type = \"trust\"\ndefault_pool_size = 20\nmax_client_conn = 15000\nlog_connections = false\n\
             log_disconnections = false\nlog_pooler_errors = false\n[users.postgres]\npassword = \"x\"\n\
             [databases.postgres]\nhost = \"127.0.0.1\"\nport = 5432\n[web]\nlisten = \"\"",
    );
    let settings = settings.unwrap();
    assert_eq!(settings.pooler.unix_socket_dir, "");
    assert_eq!(settings.pooler.auth_type, AuthType::Trust);
}

/// Broken files and the whole of what is said about them.
const BROKEN: &[(&str, &[&str])] = &[
    (
        "[pooler]\n    pool_moed = \"session\"",
        &["2:5: pooler.pool_moed: unknown key; did you mean \"pool_mode\"?"],
    ),
    (
        "[pooler]\nlisten_port = \"many\"",
        &["2:15: pooler.listen_port: expected a port, found \"many\"; for example 6432"],
    ),
    (
        "[pooler]\nlisten_port = 70000",
        &["2:15: pooler.listen_port: 70000 is out of range, expected a port from 0 to 65535"],
    ),
    (
        "[pooler]\nquery_timeout = \"5 parsecs\"\nserver_lifetime = -1",
        &[
            "2:17: pooler.query_timeout: expected a length of time: seconds, or a text with one of us, ms, s, m, h, d, found \"5 parsecs\"; for example \"5s\"",
            "3:19: pooler.server_lifetime: expected a length of time: seconds, or a text with one of us, ms, s, m, h, d, found -1; for example \"5s\"",
        ],
    ),
    (
        "[pooler]\nlog_stats = \"yes\"",
        &["2:13: pooler.log_stats: expected true or false, found \"yes\"; for example true"],
    ),
    (
        "[pooler]\npool_mode = \"sesion\"",
        &[
            "2:13: pooler.pool_mode: expected one of session, transaction, statement, found \"sesion\"; did you mean \"session\"?",
        ],
    ),
    (
        "[pooler]\nauth_type = \"magic\"\nsession_state = \"leak\"",
        &[
            "2:13: pooler.auth_type: expected one of trust, plain, md5, scram-sha-256, cert, hba, ldap, pam, any, found \"magic\"",
            "3:17: pooler.session_state: expected one of keep, refuse, pgbouncer, found \"leak\"",
        ],
    ),
    (
        "[pooler]\ndaemon = true\njob_name = \"x\"",
        &[
            "2:1: pooler.daemon: known, but not built in this version; leave it out",
            "3:12: pooler.job_name: \"x\" changes nothing: it names a service of Windows, and this is none; leave it out",
        ],
    ),
    (
        "[web]\nlisten = \"127.0.0.1:9127\"\nlsten = \"\"",
        &[
            "2:1: web.listen: known, but not built in this version; leave it out",
            "3:1: web.lsten: unknown key",
        ],
    ),
    (
        "[clusters.main]\nnodes = [\"a:x\"]\nprobe_user = \"p\"\nserver_tls_sslmode = \"e\"",
        &[
            "2:9: clusters.main.nodes: \"a:x\" is no node; a node is \"host\" or \"host:port\"; an IPv6 address stands in brackets",
            "4:22: clusters.main.server_tls_sslmode: expected one of disable, allow, prefer, require, verify-ca, verify-full, found \"e\"",
        ],
    ),
    (
        "[pooler]\nlisten_port = 6432\nlisten_port = 6433",
        &["3:1: not TOML: duplicate key"],
    ),
    (
        "[pooler]\nlisten_addr = \"127.0.0.1",
        &["2:25: not TOML: invalid basic string, expected `\"`"],
    ),
    (
        "[pgbouncer]\nlisten_port = 6432",
        &["1:2: pgbouncer: unknown section; here it is called [pooler]"],
    ),
    (
        "listen_port = 6432",
        &["1:1: listen_port: stands outside of any section; it belongs below [pooler]"],
    ),
    (
        "[pooler]\nclient_tls_protocols = \"tlsv1.0\"",
        &[
            "2:24: pooler.client_tls_protocols: \"tlsv1.0\" is not spoken here: TLS below 1.2 is unsafe and rustls leaves it out",
        ],
    ),
    (
        "[pooler]\nadmin_users = [\"ann\", 5]",
        &[
            "2:15: pooler.admin_users: expected a list of texts, found a whole number in it; for example [\"a\", \"b\"]",
        ],
    ),
    (
        "[pooler]\nauth_user = \"${NOBODY}\"",
        &["2:13: pooler.auth_user: environment variable \"NOBODY\" is not set"],
    ),
    (
        "[pooler]\nclient_tls_sslmode = \"require\"",
        &[
            "2:22: pooler.client_tls_sslmode: \"require\" needs client_tls_cert_file; set client_tls_cert_file, or client_tls_sslmode = \"disable\"",
            "2:22: pooler.client_tls_sslmode: \"require\" needs client_tls_key_file; set client_tls_key_file, or client_tls_sslmode = \"disable\"",
        ],
    ),
    (
        "[pooler]\nserver_tls_sslmode = \"verify-full\"",
        &["2:22: pooler.server_tls_sslmode: \"verify-full\" needs server_tls_ca_file"],
    ),
    (
        "[pooler]\nauth_file = \"users.txt\"",
        &[
            "2:13: pooler.auth_file: cannot use \"/nowhere/users.txt\": No such file or directory (os error 2)",
        ],
    ),
    (
        "[pooler]\nmin_pool_size = 30",
        &["2:17: pooler.min_pool_size: 30 is more than default_pool_size, which is 20"],
    ),
    (
        "[databases.pgbouncer]\nhost = \"h\"\nreserve_pool = 1",
        &[
            "1:12: databases.pgbouncer: \"pgbouncer\" is the name of the console; give it another name, and the real one as dbname",
            "3:1: databases.pgbouncer.reserve_pool: unknown key; here it is called \"reserve_pool_size\"",
        ],
    ),
    (
        "[databases.\"*\"]\nhost = \"a,,b\"\npassword = 12345",
        &[
            "2:8: databases.\"*\".host: holds an empty host; for example host = \"db1,db2\"",
            "3:12: databases.\"*\".password: expected a text, found a whole number; put it in quotes, for example \"text\"",
        ],
    ),
    (
        "[users.ann]\npassword = \"a\"\npassword_file = \"b\"\nroute = \"both\"",
        &[
            "3:1: users.ann.password_file: stands beside password; keep one of the two",
            "4:9: users.ann.route: expected one of primary, replica, auto, found \"both\"",
        ],
    ),
    (
        "[users.ann]\npassword_file = \"gone\"",
        &[
            "2:17: users.ann.password_file: cannot read \"/nowhere/gone\": No such file or directory (os error 2)",
        ],
    ),
];

#[test]
fn everything_that_is_wrong_is_told_with_line_and_column() {
    for (text, expected) in BROKEN {
        let problems = load(&format!("{text}{REST}")).unwrap_err().to_string();
        let told: Vec<_> = problems.lines().collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|e| format!("pooler.toml:{e}"))
            .collect();
        assert_eq!(told, expected, "{text}");
    }
}

#[test]
fn a_file_that_lists_nothing_is_told_what_to_add() {
    let problems = load("# nothing yet\n").unwrap_err();
    let keys: Vec<_> = problems
        .0
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(keys, ["pooler.auth_type", "databases"]);
    assert!(problems.0.iter().all(|problem| problem.hint.is_some()));
    assert!(
        problems
            .0
            .iter()
            .all(|problem| (problem.line, problem.column) == (1, 1))
    );
}

#[test]
fn a_refused_key_is_not_complained_of_a_second_time() {
    let text =
        "[pooler]\nauth_user = \"ann\"\n[users.ann]\npassword = 5\n[databases.d]\nhots = \"h\"";
    let problems = load(text).unwrap_err();
    let keys: Vec<_> = problems
        .0
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(keys, ["users.ann.password", "databases.d.hots"]);
}

#[test]
fn variables_override_the_file() {
    let settings = overridden(&[
        ("POOLER__POOLER__LISTEN_PORT", "7000"),
        ("POOLER__POOLER__LISTEN_ADDR", "10.0.0.1,10.0.0.2"),
        ("POOLER__POOLER__SERVER_TLS_SSLMODE", "disable"),
        ("POOLER__DATABASES__D__HOST", "db2"),
        ("POOLER__DATABASES__NEW__PORT", "5433"),
        ("POOLER__USERS__U__PASSWORD", "12345"),
    ])
    .unwrap();
    assert_eq!(settings.pooler.listen_port, 7000);
    assert_eq!(settings.pooler.listen_addr, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(settings.pooler.server_tls_sslmode, TlsMode::Disable);
    assert_eq!(settings.databases["d"].host.as_deref(), Some("db2"));
    assert_eq!(settings.databases["new"].port, 5433);
    assert_eq!(settings.users["u"].password, Some(Secret::new("12345")));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let problems = overridden(&[
        ("POOLER__POOLER__LISTEN_PROT", "7000"),
        ("POOLER__POOLER__THREADS", "two"),
        ("POOLER__DATABASES__D", "db2"),
        ("POOLER__SERVER__PORT", "1"),
    ]);
    let told = problems.unwrap_err().to_string();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(
        told,
        [
            "environment variable POOLER__DATABASES__D: names no setting; such variables are called POOLER__DATABASES__NAME__KEY",
            "environment variable POOLER__POOLER__LISTEN_PROT: pooler.listen_prot: unknown key; did you mean \"listen_port\"?",
            "environment variable POOLER__POOLER__THREADS: pooler.threads: expected a whole number, found \"two\"; for example 20",
            "environment variable POOLER__SERVER__PORT: names no setting; such variables are called POOLER__SECTION__KEY, for example POOLER__POOLER__LISTEN_PORT",
        ]
    );
}

#[test]
fn a_variable_in_a_text_may_become_a_number() {
    let env = Environment::from([("PORT", "7000"), ("HOST", "db1"), ("PW", "p$w")]);
    let text = "[pooler]\nlisten_port = \"${PORT}\"\n[users.u]\npassword = \"${PW}\"\n\
                    [databases.d]\nhost = \"${HOST}.example\"";
    let settings = load_with(text, &env).unwrap();
    assert_eq!(settings.pooler.listen_port, 7000);
    assert_eq!(settings.databases["d"].host.as_deref(), Some("db1.example"));
    assert_eq!(settings.users["u"].password, Some(Secret::new("p$w")));
}

#[test]
fn a_password_may_be_kept_in_a_file() {
    let dir = std::env::temp_dir().join(format!("pooler-password-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("secret"), "two\nlines\n").unwrap();
    fs::write(dir.join("empty"), "\n").unwrap();
    let text =
        |file| format!("[users.u]\npassword_file = \"{file}\"\n[databases.d]\nhost = \"h\"\n");
    fs::write(dir.join("pooler.toml"), text("secret")).unwrap();

    let env = Environment::default();
    let settings = load_file(&dir.join("pooler.toml"), &env).unwrap().settings;
    let empty = from_text(&text("empty"), "x", &dir, &env).unwrap_err();

    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(
        settings.users["u"].password,
        Some(Secret::new("two\nlines"))
    );
    assert_eq!(empty.0.len(), 1);
    assert!(empty.to_string().contains("holds no password"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = load_file(Path::new("/nowhere/pooler.toml"), &Environment::default());
    let told = problems.unwrap_err().to_string();
    assert!(
        told.starts_with("/nowhere/pooler.toml: cannot be read: "),
        "{told}"
    );
}
