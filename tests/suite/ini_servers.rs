//! Under a `pgbouncer.ini`: how servers are replaced and given up, and when a client hears that there is no room.

use std::fs;
use std::net::TcpListener;

use crate::support::eventually;
use crate::support::packages::postgres_with_tls;
use crate::support::pooler::{Pooler, filled, ini, run, start_ini};
use crate::support::wire::{Address, Client, Login, PATIENCE, batch};

const DATABASES: &str = "\
app = {server} dbname=app user=app password=app
loose = {server} dbname=app user=app password=app pool_mode=transaction
";

const LOGFILE: &str = "logfile = {folder}/p.log\n";

const USERS: &str = "\"app\" \"app\"\n\"other\" \"other\"\n\"admin\" \"admin\"\n";

fn start(databases: &str, main: &str) -> Pooler {
    let ini = ini(&format!("{DATABASES}{databases}"), LOGFILE) + main;
    start_ini(&[], &[("p.ini", &ini), ("users.txt", USERS)])
}

fn logfile(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.folder.join("p.log")).unwrap_or_default()
}

fn logs(pooler: &Pooler, line: &str) {
    eventually(PATIENCE, line, || logfile(pooler).contains(line));
}

fn console(pooler: &Pooler) -> Client {
    pooler
        .login()
        .user("admin")
        .database("pgbouncer")
        .password("admin")
        .connect()
}

#[test]
fn server_fast_close_ends_a_session_between_transactions_and_nobody_else() {
    let pooler = start("", "auth_type = trust\nserver_fast_close = 1\n");
    let mut at_rest = pooler.connect();
    at_rest.query("select 1").good();
    let mut within = pooler.connect();
    within.query("begin").good();
    let mut loose = pooler.login().database("loose").connect();
    loose.query("begin").good();
    let mut not_yet = pooler.connect();

    console(&pooler).query("RECONNECT").good();
    let told = at_rest.ended();
    assert_eq!(told.message, "database configuration changed");
    assert_eq!(told.code, "08P01");
    // The others have been looked at, too, by now; a transaction is never cut.
    assert_eq!(within.value("select 2"), "2");
    assert_eq!(loose.value("select 3"), "3");
    within.query("commit").good();
    assert_eq!(within.ended().message, "database configuration changed");
    loose.query("commit").good();
    assert_eq!(loose.value("select 4"), "4", "its server changes, it stays");
    assert_eq!(not_yet.value("select 5"), "5", "it had no server");
    assert_eq!(not_yet.value("select 6"), "6");
}

#[test]
fn servers_that_reconnect_replaces_are_closed_in_pgbouncers_words() {
    let pooler = start("", "auth_type = trust\n");
    let mut client = pooler.login().database("loose").connect();
    client.query("begin").good();
    let mut idle = pooler.login().database("loose").connect();
    idle.query("select 1").good();
    console(&pooler).query("RECONNECT loose").good();
    client.query("commit").good();
    logs(&pooler, "closing because: close_needed (age=");
    eventually(PATIENCE, "the idle server is closed", || {
        let log = logfile(&pooler);
        log.contains("closing because: database configuration changed (age=")
            || log.contains("closing because: obsolete connection (age=")
    });
}

#[test]
fn a_server_that_answers_nothing_is_closed_for_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let entry = format!("silent = host=127.0.0.1 port={port} user=app password=app\n");
    let main = "auth_type = trust\nserver_connect_timeout = 0.2\n";
    let pooler = start(&entry, main);
    let _waits = pooler.login().database("silent").begin().unwrap();
    logs(&pooler, "closing because: connect timeout (age=");
}

#[test]
fn a_client_too_many_hears_so_before_it_is_asked_for_its_password() {
    let databases = "[users]\nother = max_user_client_connections=1\n";
    let main = "auth_type = scram-sha-256\nmax_db_client_connections = 2\n";
    let pooler = start(databases, main);
    let wrong = |user: &str, database: &str| {
        let login = pooler.login().user(user).database(database);
        login.password("wrong").refused().message
    };
    let _one = pooler.login().user("other").password("other").connect();
    assert_eq!(
        wrong("other", "loose"),
        "client connections exceeded (max_user_client_connections)"
    );
    assert_eq!(wrong("app", "app"), "SASL authentication failed");
    let _two = pooler.login().password("app").connect();
    assert_eq!(
        wrong("app", "app"),
        "client connections exceeded (max_db_client_connections)"
    );
    // An admin is let in whatever the limits say, but to the console alone.
    assert_eq!(
        wrong("admin", "app"),
        "client connections exceeded (max_db_client_connections)"
    );
    assert_eq!(wrong("admin", "pgbouncer"), "SASL authentication failed");
}

#[test]
fn check_notices_a_password_that_is_no_use() {
    let ini =
        "[databases]\na = host=h\n[pgbouncer]\nauth_type = scram-sha-256\nauth_file = users.txt\n";
    let users = "\"ann\" \"md50123456789abcdef0123456789abcdef\"\n\"bob\" \"md5-is-a-password\"\n";
    let checked = |ini: &str| {
        run(
            &["check", "p.ini"],
            &[("p.ini", ini), ("users.txt", users)],
            &[],
        )
    };
    let ran = checked(ini);
    assert!(ran.status.success(), "{}", ran.output);
    let warning =
        "warning: the stored password of user \"ann\" is an md5 hash, with which nobody can log in";
    assert!(ran.output.contains(warning), "{}", ran.output);
    let ran = checked(&ini.replace("scram-sha-256", "md5"));
    assert!(!ran.output.contains("warning"), "{}", ran.output);
}

#[test]
fn another_word_for_the_versions_of_tls_replaces_the_servers_and_is_shown_as_it_is_written() {
    let with = |protocols: &str| format!("auth_type = trust\nserver_tls_protocols = {protocols}\n");
    let pooler = start("", &with("tlsv1.0"));
    let mut client = pooler.login().database("loose").connect();
    let mut pid = || client.value("select pg_backend_pid()");
    let first = pid();
    let shown = |console: &mut Client| {
        let rows = console.query("SHOW CONFIG").good();
        rows.row_where("key", "server_tls_protocols").unwrap()["value"].clone()
    };
    let mut console = console(&pooler);
    assert_eq!(shown(&mut console), "tlsv1.0");
    let ini = ini(DATABASES, LOGFILE) + &with("secure");
    let text = filled(&ini, &pooler.folder, pooler.port);
    fs::write(pooler.folder.join("p.ini"), text).unwrap();
    console.query("RELOAD").good();
    assert_eq!(shown(&mut console), "secure");
    assert_ne!(pid(), first);
    let second = pid();
    console.query("RELOAD").good();
    assert_eq!(pid(), second, "nothing has changed");
}

#[test]
fn a_message_beyond_max_packet_size_ends_its_sender() {
    let pooler = start("", "auth_type = trust\nmax_packet_size = 20000\n");
    let mut client = pooler.connect();
    let long = format!("select length('{}')", "x".repeat(30_000));
    client.send(batch().query(&long));
    let told = client.ended();
    assert_eq!(
        told.message,
        format!("bad packet header: '51{:08x}73656c'", long.len() + 5)
    );
    let mut client = pooler.connect();
    assert_eq!(client.value("select length(repeat('x', 30000))"), "30000");
    client.send(batch().query("select repeat('x', 30000)"));
    assert_eq!(client.ended().message, "bad pkt header");
    assert_eq!(pooler.connect().value("select 'others'"), "others");
}

#[test]
fn the_applications_name_says_where_it_comes_from() {
    let pooler = start("", "auth_type = trust\napplication_name_add_host = 1\n");
    let mut near = pooler.connect();
    let name = near.value("show application_name");
    assert!(name.starts_with("app - 127.0.0.1:"), "{name}");
    let socket = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
    let login = Login::at(Address::Unix(socket)).user("app").database("app");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (pid, host) = (std::process::id(), host.trim());
    let mut named = login.clone().parameter("application_name", "cli").connect();
    let name = named.value("show application_name");
    assert_eq!(name, format!("cli - unix({pid}@{host}):{}", pooler.port));
}

#[test]
fn a_reset_query_runs_in_session_mode_and_everywhere_only_when_it_is_asked_for() {
    let reset = "auth_type = trust\ndefault_pool_size = 1\nserver_reset_query = deallocate all\n";
    let pooler = start("", reset);
    let prepared = "select count(*) from pg_prepared_statements where name = 'mine'";
    for (database, always, left) in [
        ("app", false, "0"),
        ("loose", false, "1"),
        ("loose", true, "0"),
    ] {
        if always {
            console(&pooler)
                .query("SET server_reset_query_always = 1")
                .good();
        }
        let mut first = pooler.login().database(database).connect();
        first.query("prepare mine as select 1").good();
        drop(first);
        let mut next = pooler.login().database(database).connect();
        assert_eq!(next.value(prepared), left, "{database}, {always}");
        next.query("deallocate all").good();
    }
}

#[test]
fn a_socket_without_a_file_serves_clients_and_a_takeover() {
    let ini = ini(DATABASES, LOGFILE).replace(
        "unix_socket_dir = {folder}",
        "unix_socket_dir = @pooler-{port}",
    ) + "auth_type = trust\n";
    let pooler = start_ini(&[], &[("p.ini", &ini), ("users.txt", USERS)]);
    let port = pooler.port.to_string();
    let host = format!("@pooler-{port}");
    let asked = || {
        let mut psql = postgres_with_tls().command("psql");
        psql.args([
            "-X",
            "-At",
            "-h",
            &host,
            "-p",
            &port,
            "-U",
            "app",
            "-c",
            "select 'in'",
            "app",
        ]);
        String::from_utf8_lossy(&psql.output().expect("psql is there").stdout).into_owned()
    };
    assert_eq!(asked(), "in\n");
    logs(
        &pooler,
        &format!("listening on unix:{host}/.s.PGSQL.{port}"),
    );
    let mut old = pooler.succeed(&["-R"]);
    assert!(old.exit().success());
    assert_eq!(asked(), "in\n");
}
