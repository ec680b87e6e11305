//! What clients of a `pgbouncer.ini` meet when servers refuse, limits are reached and the process ends, where PgBouncer's own tests look.

use std::fs;
use std::thread;

use crate::support::eventually;
use crate::support::pooler::{Pooler, ini, start_ini};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE, batch};

const DATABASES: &str = "\
app = {server} dbname=app
one = {server} dbname=app pool_size=1
few = {server} dbname=app max_db_connections=2
away = host=127.0.0.1 port=1 dbname=app
* = {server}
";
const MAIN: &str = "\
auth_type = trust
stats_users = stats
logfile = {folder}/p.log
server_login_retry = 1
pool_mode = transaction
";
const USERS: &str =
    "\"app\" \"app\"\n\"admin\" \"admin\"\n\"other\" \"other\"\n\"stats\" \"stats\"\n";

fn start(more: &str) -> Pooler {
    let ini = ini(DATABASES, MAIN) + more;
    start_ini(&[], &[("p.ini", &ini), ("users.txt", USERS)])
}

fn log(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.folder.join("p.log")).unwrap_or_default()
}

fn value(client: &mut Client, command: &str, (key, row): (&str, &str), column: &str) -> String {
    let shown = client.query(command).good();
    shown.row_where(key, row).unwrap()[column].clone()
}

#[test]
fn a_refusal_of_the_auth_querys_server_is_passed_on() {
    let pooler = start("auth_user = app\n");
    let refused = pooler.login().user("stranger").database("gone").refused();
    assert_eq!(refused.message, "database \"gone\" does not exist");
    assert_eq!(refused.code, "3D000");
    let log = log(&pooler);
    for line in [
        "server login failed: FATAL database \"gone\" does not exist",
        "closing because: database \"gone\" does not exist",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn a_login_hears_of_a_refusal_though_a_server_of_its_pool_still_works() {
    let name = postgres().database();
    let ini = ini(DATABASES, MAIN).replace(
        "app = {server} dbname=app",
        &format!("app = {{server}} dbname={name}"),
    );
    let pooler = start_ini(&[], &[("p.ini", &ini), ("users.txt", USERS)]);
    let mut busy = pooler.connect();
    busy.query("begin").good();
    let mut console = pooler.console();
    console.query("RECONNECT").good();
    let mut own = postgres().login().database("postgres").connect();
    own.query(&format!(
        "alter database \"{name}\" allow_connections false"
    ))
    .good();
    let refused = pooler.login().refused();
    assert!(
        refused.says("not currently accepting connections"),
        "{refused:?}"
    );
    assert_eq!(refused.code, "55000");
    busy.query("commit").good();
}

#[test]
fn a_login_that_waits_for_a_server_waits_no_longer_than_query_timeout() {
    let pooler = start("query_timeout = 0.3\n");
    let refused = pooler.login().database("away").refused();
    assert_eq!(refused.message, "query_timeout");
}

#[test]
fn only_statements_that_are_kept_track_of_are_counted() {
    let pooler = start("");
    let mut client = pooler.connect();
    client
        .ask(batch().parse("", "select 1").run("", &[]).sync())
        .good();
    client
        .ask(batch().parse("s", "select 2").run("s", &[]).sync())
        .good();
    let mut console = pooler.console();
    let mut count = |column: &str| value(&mut console, "SHOW STATS", ("database", "app"), column);
    assert_eq!(count("total_client_parse_count"), "1");
    assert_eq!(count("total_server_parse_count"), "1");
    assert_eq!(count("total_bind_count"), "1");
    client.send(batch().parse("s", "select 3").sync());
    assert_eq!(
        client.ended().message,
        "prepared statement name is already in use"
    );
    let log = log(&pooler);
    assert!(
        log.contains("prepared statement 's' was already prepared"),
        "{log}"
    );
}

#[test]
fn guests_of_the_console_are_counted_and_limited_but_for_admins() {
    let pooler = start("max_db_client_connections = 2\nmax_user_client_connections = 1\n");
    let mut console = pooler.console();
    let _stats = pooler.login().user("stats").database("pgbouncer").connect();
    let refused = pooler.login().user("stats").database("pgbouncer").refused();
    assert_eq!(
        refused.message,
        "client connections exceeded (max_db_client_connections)"
    );
    let _second_admin = pooler.console();
    let shown = |console: &mut Client, column: &str| {
        value(console, "SHOW DATABASES", ("name", "pgbouncer"), column)
    };
    assert_eq!(shown(&mut console, "max_client_connections"), "2");
    assert_eq!(shown(&mut console, "current_client_connections"), "3");
    let of_stats = value(
        &mut console,
        "SHOW USERS",
        ("name", "stats"),
        "current_client_connections",
    );
    assert_eq!(of_stats, "1");
    // Elsewhere an admin is a client like any other.
    let refused = pooler.login().user("admin").refused();
    assert_eq!(
        refused.message,
        "client connections exceeded (max_user_client_connections)"
    );
}

#[test]
fn for_one_client_that_waits_for_a_place_of_its_database_one_server_is_closed() {
    let pooler = start("");
    let of = |user: &str| pooler.login().user(user).database("few");
    let (mut one, mut two) = (of("app").connect(), of("app").connect());
    one.query("begin").good();
    two.query("begin").good();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| of("other").connect().value("select 'in'"));
        eventually(PATIENCE, "it waits", || {
            let pools = pooler.show("SHOW POOLS");
            let row = pools.row_where("user", "other");
            row.is_some_and(|row| row["cl_waiting"] == "1")
        });
        one.query("commit").good();
        two.query("commit").good();
        assert_eq!(waiting.join().unwrap(), "in");
    });
    let log = log(&pooler);
    assert_eq!(log.matches("closing because: evicted").count(), 1, "{log}");
}

#[test]
fn a_server_that_has_only_welcomed_a_client_is_not_used_up() {
    let pooler = start("server_lifetime = 0\n");
    pooler.connect().query("select 1").good();
    let log = log(&pooler);
    assert_eq!(log.matches("new connection to server").count(), 1, "{log}");
}

#[test]
fn who_is_there_when_the_process_ends_at_once_hears_nothing_more() {
    for signals in [&["QUIT"][..], &["TERM", "TERM"]] {
        let pooler = start("");
        let (mut client, mut console) = (pooler.connect(), pooler.console());
        client.query("begin").good();
        for (index, signal) in signals.iter().enumerate() {
            pooler.signal(signal);
            eventually(PATIENCE, "the signal is told", || {
                log(&pooler).matches(&format!("got SIG{signal}")).count() > index
            });
        }
        client.wire.closed().unwrap();
        console.wire.closed().unwrap();
        assert_eq!(pooler.exit(PATIENCE).code(), Some(0));
    }
}

#[test]
fn at_verbose_2_the_log_tells_once_how_a_server_is_brought_to_a_clients_parameters() {
    let pooler = start("");
    pooler.show("SET verbose = 2");
    let login = pooler.login().parameter("options", "-c DateStyle=ISO");
    let mut client = login.connect();
    client.query("select 1").good();
    client.query("select 1").good();
    let log = log(&pooler);
    for line in [
        " DEBUG S-0x",
        " varcache_apply: SET DateStyle='ISO';",
        " varcache_set_canonical: setting DateStyle to its canonical version ISO -> ISO, MDY",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let applied = log.matches("varcache_apply: ").count();
    assert_eq!(applied, 1, "{log}");
}

#[test]
fn a_parameter_of_track_extra_parameters_is_taken_at_the_login_and_each_client_keeps_its_own() {
    let name = "default_transaction_read_only";
    let login = |pooler: &Pooler, value: &str| {
        let login = pooler.login().database("one");
        login.parameter(name, value)
    };
    let usual = start("");
    let refused = login(&usual, "on").refused();
    let told = format!("unsupported startup parameter: {name}");
    assert_eq!((&*refused.code, &*refused.message), ("08P01", &*told));
    // It takes the place of the default, and what PgBouncer always follows is followed still.
    let pooler = start("track_extra_parameters = Default_Transaction_Read_Only\n");
    let refused = pooler.login().parameter("IntervalStyle", "iso_8601");
    assert_eq!(
        refused.refused().message,
        "unsupported startup parameter: IntervalStyle"
    );
    let (mut on, mut off) = (
        login(&pooler, "on").connect(),
        login(&pooler, "off").connect(),
    );
    let shown = format!("show {name}");
    // One server is all they have.
    for _ in 0..3 {
        assert_eq!(on.value(&shown), "on");
        assert_eq!(off.value(&shown), "off");
    }
    assert_eq!(
        on.value("select pg_backend_pid()"),
        off.value("select pg_backend_pid()")
    );
    off.query(&format!("set {name} = on")).good();
    on.query(&format!("set {name} = off")).good();
    assert_eq!(
        (off.value(&shown), on.value(&shown)),
        ("on".into(), "off".into())
    );
    let mut zone = login(&pooler, "on")
        .parameter("TimeZone", "Asia/Tokyo")
        .connect();
    assert_eq!(zone.value("show timezone"), "Asia/Tokyo");
}
