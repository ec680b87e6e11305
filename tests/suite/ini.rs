//! A `pgbouncer.ini` is served as PgBouncer would serve it: its command line, its words, its log, its reload.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::eventually;
use crate::support::pooler::{Pooler, as_somebody, filled, ini, run, start_ini};
use crate::support::wire::{Login, PATIENCE, VERSION_3_2, Wire, startup_packet};

/// A file with which `app` and `admin` come in by trust.
fn plain() -> String {
    let main = "\
auth_type = trust
logfile = {folder}/p.log
pidfile = {folder}/p.pid
server_login_retry = 1
";
    let ini = ini("app = {server} dbname=app\n* = {server}\n", main);
    format!("; as PgBouncer's manual has it\n{ini}")
}

const USERS: &str = "\"app\" \"app\"\n\"admin\" \"admin\"\n\"md5_user\" \"md5-secret\"\n";

fn start_with(more: &str) -> Pooler {
    start_ini(&[], &[("p.ini", &(plain() + more)), ("users.txt", USERS)])
}

fn rewrite(pooler: &Pooler, text: &str) {
    let text = filled(text, &pooler.folder, pooler.port);
    fs::write(pooler.folder.join("p.ini"), text).unwrap();
}

fn logfile(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.folder.join("p.log")).unwrap_or_default()
}

fn admin(pooler: &Pooler) -> Login {
    pooler.login().user("admin").database("pgbouncer")
}

#[test]
fn a_file_of_pgbouncers_serves_clients() {
    let pooler = start_with("");
    assert_eq!(pooler.connect().value("select 'served'"), "served");
    let version = admin(&pooler).connect().value("show version");
    assert_eq!(version, "PgBouncer 1.25.2");
    // Session mode: a client keeps its server.
    let mut client = pooler.connect();
    client.query("set search_path to pg_catalog").good();
    assert_eq!(client.value("show search_path"), "pg_catalog");
}

#[test]
fn errors_have_pgbouncers_words_its_code_and_no_other_fields() {
    let pooler = start_with("max_db_client_connections = 1\n[users]\nother = pool_size=1\n");
    let refused = pooler.login().user("stranger").refused();
    assert_eq!(refused.code, "08P01");
    assert_eq!(refused.message, "\"trust\" authentication failed");

    let mut wire = Wire::dial(&pooler.address()).unwrap();
    let packet = startup_packet(196_608, &[("user", "app"), ("extra_float_digits", "3")]);
    wire.send_bytes(&packet).unwrap();
    let frame = wire.read_frame().unwrap();
    let told = String::from_utf8_lossy(&frame.body).into_owned();
    assert_eq!(
        told,
        "SFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0"
    );

    let _first = pooler.connect();
    let refused = pooler.login().refused();
    assert_eq!(
        refused.message,
        "client connections exceeded (max_db_client_connections)"
    );
}

#[test]
fn the_protocol_is_talked_down_to_3_0() {
    let pooler = start_with("");
    let client = pooler.login().version(VERSION_3_2).connect();
    drop(client);
    let mut wire = Wire::dial(&pooler.address()).unwrap();
    wire.send_bytes(&startup_packet(
        VERSION_3_2,
        &[("user", "app"), ("_pq_.x", "1")],
    ))
    .unwrap();
    let frame = wire.read_frame().unwrap();
    assert_eq!(frame.tag, b'v');
    assert_eq!(frame.body, b"\0\x03\0\0\0\0\0\x01_pq_.x\0");
}

#[test]
fn a_statement_name_given_twice_ends_the_client_as_in_pgbouncer() {
    let pooler = start_with("pool_mode = transaction\n");
    let mut client = pooler.connect();
    let batch = crate::support::wire::batch;
    client.ask(batch().parse("a", "select 1").sync());
    client.send(batch().parse("a", "select 2").sync());
    let ended = client.ended();
    assert_eq!(ended.message, "prepared statement name is already in use");
    let mut client = pooler.connect();
    client.send(batch().bind("gone", &[]).sync());
    assert_eq!(client.ended().message, "prepared statement did not exist");
}

#[test]
fn the_log_has_pgbouncers_lines() {
    let pooler = start_with("");
    let mut client = pooler.connect();
    client.query("select 1").good();
    drop(client);
    pooler.login().user("stranger").refused();
    let log = logfile(&pooler);
    let line = log.lines().find(|line| line.contains("stranger")).unwrap();
    let words: Vec<_> = line.split(' ').collect();
    // 2030-01-31 23:59:59.123 UTC [4711] LOG C-0x1: …
    assert_eq!((words[0].len(), words[1].len()), (10, 12), "{line}");
    assert!(
        words[3].starts_with('[') && words[3].ends_with(']'),
        "{line}"
    );
    assert_eq!(words[4], "LOG", "{line}");
    for expected in [
        " login attempt: db=app user=app tls=no replication=no\n",
        " new connection to server (from 127.0.0.1:",
        " closing because: \"trust\" authentication failed (age=0s)\n",
        " WARNING C-0x",
        " pooler error: \"trust\" authentication failed\n",
        "process up: PgBouncer 1.25.2, ",
    ] {
        assert!(log.contains(expected), "{expected:?} is missing:\n{log}");
    }
    eventually(PATIENCE, "the client's end is told", || {
        logfile(&pooler).contains("closing because: client close request (age=")
            || logfile(&pooler).contains("closing because: client unexpected eof (age=")
    });
}

#[test]
fn a_reload_that_fails_changes_nothing_and_says_where() {
    let pooler = start_with("");
    rewrite(
        &pooler,
        &(plain() + "max_client_conn = 1\nquery_timeout = 5s\n"),
    );
    let failed = admin(&pooler).connect().query("RELOAD");
    let error = failed.error();
    assert_eq!(error.code, "F0000");
    assert_eq!(
        error.message,
        "RELOAD failed, see logs for additional details"
    );
    assert!(
        logfile(&pooler).contains("p.ini:17:17: pgbouncer.query_timeout: "),
        "{}",
        logfile(&pooler)
    );
    let _one = pooler.connect();
    let _two = pooler.connect();
}

#[test]
fn a_reload_forgets_what_the_file_forgets_but_for_keys_without_a_default() {
    let pooler = start_with("max_client_conn = 50\n");
    let mut console = admin(&pooler).connect();
    rewrite(
        &pooler,
        &plain().replace("auth_file = {folder}/users.txt\n", ""),
    );
    console.query("RELOAD").good();
    let row = console
        .query("SHOW CONFIG")
        .good()
        .row_where("key", "max_client_conn");
    assert_eq!(row.unwrap()["value"], "100");
    assert_eq!(pooler.connect().value("select 1"), "1", "auth_file stays");
}

#[test]
fn a_key_that_needs_a_restart_keeps_its_value_and_is_named_in_the_log() {
    let pooler = start_with("");
    rewrite(&pooler, &(plain() + "listen_backlog = 77\n"));
    admin(&pooler).connect().query("RELOAD").good();
    let log = logfile(&pooler);
    let line = log.lines().find(|line| line.contains("listen_backlog"));
    assert!(
        line.is_some_and(|line| line.contains("next start")),
        "{log}"
    );
}

#[test]
fn a_database_keeps_its_forced_user_and_the_star_is_taken_back() {
    let text = plain().replace(
        "app = {server} dbname=app",
        "app = {server} dbname=app user=other",
    );
    let pooler = start_ini(&[], &[("p.ini", &text), ("users.txt", USERS)]);
    assert_eq!(pooler.connect().value("select current_user"), "other");
    assert_eq!(
        pooler
            .login()
            .database("postgres")
            .connect()
            .value("select 1"),
        "1"
    );
    rewrite(&pooler, &plain().replace("* = {server}\n", ""));
    admin(&pooler).connect().query("RELOAD").good();
    assert_eq!(pooler.connect().value("select current_user"), "other");
    assert!(logfile(&pooler).contains("losing forced user not supported"));
    let refused = pooler.login().database("postgres").refused();
    assert_eq!(refused.message, "no such database: postgres");
}

#[test]
fn an_auth_file_that_is_missing_or_breaks_off_is_told_and_the_rest_is_served() {
    let pooler = start_with("");
    let users = pooler.folder.join("users.txt");
    fs::write(
        &users,
        "\"app\" \"app\"\nnonsense\n\"md5_user\" \"md5-secret\"\n",
    )
    .unwrap();
    admin(&pooler).connect().query("RELOAD").good();
    assert!(logfile(&pooler).contains("users.txt:2: broken auth file"));
    assert_eq!(pooler.connect().value("select 1"), "1");
    let refused = pooler.login().user("md5_user").refused();
    assert_eq!(refused.message, "\"trust\" authentication failed");

    fs::remove_file(&users).unwrap();
    pooler.signal("HUP");
    eventually(PATIENCE, "the missing file is told", || {
        logfile(&pooler).contains("could not open auth_file ")
    });
    eventually(PATIENCE, "its users are forgotten", || {
        pooler.login().try_connect().is_err()
    });
}

#[test]
fn another_encoding_does_no_harm_in_a_comment_and_elsewhere_only_to_its_line() {
    let pooler = start_with("");
    let (ini, users) = (pooler.folder.join("p.ini"), pooler.folder.join("users.txt"));
    let latin = |text: &str| text.chars().map(|each| each as u8).collect::<Vec<_>>();
    fs::write(&users, latin(&format!("; café\n\"café\" \"x\"\n{USERS}"))).unwrap();
    let good = fs::read(&ini).unwrap();
    fs::write(&ini, [&good[..], &latin("; café\n")].concat()).unwrap();
    admin(&pooler).connect().query("RELOAD").good();
    assert_eq!(pooler.connect().value("select 1"), "1");
    let told = "users.txt: 1 users whose name or password is not UTF-8 are left out";
    assert!(logfile(&pooler).contains(told), "{}", logfile(&pooler));

    fs::write(
        &ini,
        [&good[..], &latin("login_notify_message = café\n")].concat(),
    )
    .unwrap();
    let mut console = admin(&pooler).connect();
    assert_eq!(console.query("RELOAD").error().code, "F0000");
    let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
    let told = format!("p.ini:{line}:24: login_notify_message: the value is not UTF-8");
    assert!(logfile(&pooler).contains(&told), "{}", logfile(&pooler));
}

#[test]
fn a_log_file_that_was_moved_away_is_made_anew_at_a_reload() {
    let pooler = start_with("");
    let (now, old) = (pooler.folder.join("p.log"), pooler.folder.join("old.log"));
    fs::rename(&now, &old).unwrap();
    admin(&pooler).connect().query("RELOAD").good();
    assert!(logfile(&pooler).contains("configuration reloaded"));
    assert!(fs::read_to_string(old).unwrap().contains("process up"));
}

#[test]
fn sigterm_waits_for_all_clients_and_the_second_one_does_not() {
    let pooler = start_with("");
    let mut client = pooler.connect();
    client.query("select 1").good();
    pooler.signal("TERM");
    eventually(PATIENCE, "the signal is told", || {
        logfile(&pooler).contains("got SIGTERM, shutting down, waiting for all clients disconnect")
    });
    assert_eq!(client.value("select 2"), "2");
    pooler.signal("TERM");
    assert!(pooler.exit(PATIENCE).success());
    assert!(!pooler.folder.join("p.pid").exists());
}

#[test]
fn a_server_that_refuses_the_login_is_heard_in_its_own_words_and_one_that_is_away_is_waited_for() {
    let pooler = start_with("query_wait_timeout = 2\n");
    let refused = pooler.login().database("no_such_database").refused();
    assert_eq!(refused.code, "3D000");
    assert_eq!(
        refused.message,
        "database \"no_such_database\" does not exist"
    );
    let log = logfile(&pooler);
    assert!(
        log.contains("server login failed: FATAL database \"no_such_database\" does not exist"),
        "{log}"
    );

    let away = start_ini(
        &[],
        &[
            (
                "p.ini",
                &(plain() + "query_wait_timeout = 1\n")
                    .replace("app = {server}", "app = host=127.0.0.1 port=1"),
            ),
            ("users.txt", USERS),
        ],
    );
    let refused = away.login().refused();
    assert_eq!(refused.message, "query_wait_timeout");
}

#[test]
fn what_cannot_start_says_why_in_the_last_line_and_ends_with_1() {
    let whole = |text: &str| filled(text, std::path::Path::new("."), 1);
    let cases = [
        (
            "[pgbouncer]\nlisten_port = many\n",
            "FATAL cannot load config file",
        ),
        (
            "[pgbouncer]\n%include gone.ini\n",
            "FATAL cannot load config file",
        ),
        ("[databases]\na = host=x\n", "FATAL cannot load config file"),
        (
            "[pgbouncer]\nlisten_addr =\nunix_socket_dir =\n",
            "FATAL cannot load config file",
        ),
        (
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nclient_tls_sslmode = require\nclient_tls_key_file = a\nclient_tls_cert_file = b\n",
            "FATAL cannot load config file",
        ),
    ];
    for (text, last) in cases {
        let arguments = [as_somebody(), &["p.ini"]].concat();
        let ran = run(&arguments, &[("p.ini", &whole(text))], &[]);
        assert_eq!(ran.status.code(), Some(1), "{}", ran.output);
        let line = ran.output.lines().last().unwrap_or_default();
        assert!(line.ends_with(last), "{text}: {}", ran.output);
        assert!(ran.output.contains("] ERROR "), "{}", ran.output);
    }
    let daemon = [as_somebody(), &["-d", "p.ini"]].concat();
    let text = "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n";
    let ran = run(&daemon, &[("p.ini", text)], &[]);
    assert!(
        ran.output
            .ends_with("FATAL daemon needs pidfile configured\n"),
        "{}",
        ran.output
    );
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn the_command_line_is_pgbouncers() {
    for arguments in [&["-x"][..], &["a.ini", "b.ini"], &[]] {
        let ran = run(arguments, &[], &[]);
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {}", ran.output);
        assert!(
            ran.output
                .trim_end()
                .ends_with("--help\" for more information."),
            "{}",
            ran.output
        );
    }
    let ran = run(&["--version"], &[], &[]);
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(ran.output.lines().next(), Some("PgBouncer 1.25.2"));
    let ran = run(&["-h"], &[], &[]);
    assert_eq!(ran.status.code(), Some(0));
    assert!(ran.output.contains("--daemon"), "{}", ran.output);
}

#[test]
fn a_daemon_leaves_its_parent_and_writes_its_number() {
    let pooler = start_with("");
    // A second one on the same socket is refused, and says so.
    let mut command = std::process::Command::new(crate::support::pooler::binary());
    let second = command
        .args(as_somebody())
        .arg("p.ini")
        .current_dir(&pooler.folder)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        told.contains("FATAL unix socket is in use, cannot continue"),
        "{told}"
    );

    let pid = fs::read_to_string(pooler.folder.join("p.pid")).unwrap();
    assert!(
        pid.ends_with('\n') && pid.trim().parse::<u32>().is_ok(),
        "{pid:?}"
    );
    let mode = fs::metadata(pooler.folder.join("p.pid"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    pooler.signal("QUIT");
    assert!(pooler.exit(PATIENCE).success());

    let mut command = std::process::Command::new(crate::support::pooler::binary());
    let mut daemon = command
        .args(as_somebody())
        .args(["-d", "-q", "-R", "p.ini"])
        .current_dir(&pooler.folder)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(daemon.wait().unwrap().success());
    // Nobody holds the pipe any more: the daemon has let go of it.
    let mut rest = String::new();
    daemon
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    let path = pooler.folder.join("p.pid");
    eventually(PATIENCE, "the daemon writes its number", || {
        fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid: u32 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    crate::support::guard(pid);
    assert_eq!(pooler.connect().value("select 'served'"), "served");
    let status = std::process::Command::new("kill")
        .arg(pid.to_string())
        .status();
    assert!(status.unwrap().success());
    eventually(Duration::from_secs(10), "the daemon ends", || {
        !path.exists()
    });
    crate::support::unguard(pid);
}
