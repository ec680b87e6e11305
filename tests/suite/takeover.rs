//! `-R`: another process takes over while clients work.

mod sharing;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::pooler::{Pooler, as_somebody, binary, config, ini, start_ini};
use crate::support::postgres::postgres;
use crate::support::tls::Authority;
use crate::support::wire::{Client, Login, PATIENCE, batch};
use crate::support::{Raise, eventually};

const USERS: &str = "\"app\" \"app\"\n\"admin\" \"admin\"\n";

fn ini_at(database: &str, more: &str) -> String {
    let databases = format!("app = {{server}} dbname={database}\n");
    ini(&databases, "auth_type = trust\npidfile = {folder}/p.pid\n") + more
}

fn start_at(database: &str, more: &str) -> Pooler {
    let ini = ini_at(database, more);
    start_ini(&[], &[("p.ini", &ini), ("users.txt", USERS)])
}

fn start(more: &str) -> Pooler {
    start_at("app", more)
}

fn written_pid(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.folder.join("p.pid")).unwrap_or_default()
}

fn pid(client: &mut Client) -> String {
    client.value("select pg_backend_pid()")
}

/// A process that is to take over, and cannot.
fn fails_to_take_over(pooler: &Pooler) -> String {
    let mut command = Command::new(binary());
    let command = command.args(as_somebody()).args(["-R", "p.ini"]);
    let ran = command.current_dir(&pooler.folder).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[test]
fn idle_clients_stay_connected_and_the_old_process_ends() {
    for mode in ["session", "transaction", "statement"] {
        let pooler = start(&format!("pool_mode = {mode}\n"));
        let (mut fresh, mut used) = (pooler.connect(), pooler.connect());
        let backend = pid(&mut used);
        let first = pooler.pid();
        let mut old = pooler.succeed(&["-R"]);
        assert!(old.exit().success(), "{mode}");
        assert_ne!(pooler.pid(), first);
        assert_eq!(written_pid(&pooler), format!("{}\n", pooler.pid()));
        assert_eq!(fresh.value("select 'one'"), "one", "{mode}");
        assert_eq!(pid(&mut used), backend, "{mode}: the server came, too");
        assert_eq!(pooler.connect().value("select 'new'"), "new", "{mode}");
        let clients = pooler.show("SHOW LISTS").row_where("list", "used_clients");
        assert_eq!(clients.unwrap()["items"], "3", "{mode}: the console is one");
        let mut old = pooler.succeed(&["-R"]);
        assert!(old.exit().success(), "{mode}, once more");
        assert_eq!(used.value("select 'two'"), "two", "{mode}");
    }
}

/// Works without pause until told to stop; every request must be answered as if nothing had happened.
fn work(pooler: &Pooler, who: usize, is_over: &AtomicBool, done: &AtomicUsize) -> Vec<usize> {
    let mut client = pooler.connect();
    client.ask(
        batch()
            .parse("add", "insert into t values ($1::int)")
            .sync(),
    );
    let mut written = Vec::new();
    while !is_over.load(SeqCst) {
        let id = who * 1_000_000 + written.len();
        let insert = format!("insert into t values ({id})");
        match written.len() % 4 {
            0 => drop(client.query(&insert).good()),
            1 => drop(
                client
                    .ask(batch().run("add", &[&id.to_string()]).sync())
                    .good(),
            ),
            2 => {
                client.query("begin").good();
                client.query(&insert).good();
                client.query("select pg_sleep(0.002)").good();
                client.query("commit").good();
            }
            _ => {
                // Two requests at once: the second lies in the socket while the first is answered.
                client.send(batch().query(&insert).query("select 'second'"));
                client.until_ready().good();
                assert_eq!(client.until_ready().value(), "second");
            }
        }
        written.push(id);
        done.fetch_add(1, SeqCst);
    }
    written
}

#[test]
fn clients_at_work_notice_nothing_and_nothing_is_lost_or_done_twice() {
    let database = postgres().database();
    postgres()
        .watch(&database)
        .query("create table t (id int); alter table t owner to app")
        .good();
    let pooler = start_at(
        &database,
        "pool_mode = transaction\ndefault_pool_size = 3\n",
    );
    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let most = AtomicUsize::new(0);
    let mut written = thread::scope(|scope| {
        let _raise = Raise(&is_over);
        let (pooler, is_over, done, most) = (&pooler, &is_over, &done, &most);
        let workers: Vec<_> = (1..=8)
            .map(|who| scope.spawn(move || work(pooler, who, is_over, done)))
            .collect();
        scope.spawn(move || {
            let mut watch = postgres().watch("postgres");
            let sql = format!("select count(*) from pg_stat_activity where datname = '{database}'");
            while !is_over.load(SeqCst) {
                most.fetch_max(watch.value(&sql).parse().unwrap(), SeqCst);
            }
        });
        let more = |count| {
            let goal = done.load(SeqCst) + count;
            eventually(PATIENCE, "work goes on", || done.load(SeqCst) >= goal);
        };
        for _ in 0..3 {
            more(100);
            let mut old = pooler.succeed(&["-R"]);
            assert!(old.exit().success());
            assert_eq!(written_pid(pooler), format!("{}\n", pooler.pid()));
        }
        more(100);
        is_over.store(true, SeqCst);
        let all = workers.into_iter().flat_map(|one| one.join().unwrap());
        all.collect::<Vec<_>>()
    });
    assert!(most.load(SeqCst) <= 3, "{} servers", most.load(SeqCst));
    written.sort_unstable();
    let mut client = pooler.connect();
    let there = client.value("select string_agg(id::text, ' ' order by id) from t");
    let there: Vec<usize> = there.split(' ').map(|id| id.parse().unwrap()).collect();
    assert_eq!(there, written);
}

#[test]
fn who_is_in_the_middle_of_something_comes_over_when_that_is_done() {
    let pooler = start("pool_mode = transaction\ndefault_pool_size = 2\n");
    let (mut writing, mut waiting) = (pooler.connect(), pooler.connect());
    writing.query("begin").good();
    let backend = pid(&mut writing);
    let marker = format!("middle_{}", pooler.port);
    waiting.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(&marker);

    let mut old = pooler.succeed(&["-R"]);
    assert_eq!(
        pid(&mut writing),
        backend,
        "a transaction stays where it is"
    );
    let mut patient = pooler.connect();
    assert!(old.is_running());
    // The request comes to the new process, and the query is the old one's.
    waiting.cancel();
    assert_eq!(waiting.until_ready().error().code, "57014");
    assert_eq!(patient.value("select 'a seat is free'"), "a seat is free");
    writing.query("commit").good();
    assert!(old.exit().success());
    assert_eq!(writing.value("select 'on'"), "on");
    assert_eq!(waiting.value("select 'on'"), "on");
}

#[test]
fn who_waits_in_line_comes_over_with_its_request() {
    let pooler = start("pool_mode = transaction\ndefault_pool_size = 1\n");
    let (mut holder, mut waiting) = (pooler.connect(), pooler.connect());
    holder.query("begin").good();
    waiting.send(batch().query("select 'answered once'"));
    pooler.pool_shows("cl_waiting", 1);
    let mut old = pooler.succeed(&["-R"]);
    pooler.pool_shows("cl_waiting", 1);
    holder.query("commit").good();
    assert_eq!(waiting.until_ready().value(), "answered once");
    assert!(old.exit().success());
}

#[test]
fn what_a_client_has_set_up_comes_over_with_it() {
    let pooler = start("pool_mode = transaction\n");
    let mut client = pooler.connect();
    client.query("set application_name to 'mover'").good();
    client.ask(batch().parse("name", "select $1::text").sync());
    client.ask(batch().run("name", &["x"]).sync());
    let mut old = pooler.succeed(&["-R"]);
    assert!(old.exit().success());
    let reply = client.ask(batch().run("name", &["kept"]).sync());
    assert_eq!(reply.value(), "kept");
    assert_eq!(client.value("show application_name"), "mover");
    let marker = format!("comes_over_{}", pooler.port);
    client.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(&marker);
    client.cancel();
    let told = client.until_ready();
    assert_eq!(told.error().code, "57014", "its key is known");
    client.ask(batch().close_statement("name").sync());
    client.send(batch().run("name", &["gone"]).sync());
    assert_eq!(client.ended().message, "prepared statement did not exist");
}

#[test]
fn in_session_mode_a_client_keeps_its_server_with_all_that_is_on_it() {
    let pooler = start("pool_mode = session\n");
    let (mut client, mut writing) = (pooler.connect(), pooler.connect());
    client
        .query("create temporary table mine as select 1 as x")
        .good();
    client
        .query("set search_path to pg_catalog, pg_temp")
        .good();
    client.ask(batch().parse("s", "select x from mine").sync());
    client.query("listen somebody").good();
    writing.query("begin").good();
    let mut old = pooler.succeed(&["-R"]);
    assert_eq!(client.ask(batch().run("s", &[]).sync()).value(), "1");
    assert_eq!(client.value("show search_path"), "pg_catalog, pg_temp");
    writing.query("commit").good();
    assert!(old.exit().success());
    assert_eq!(writing.value("select 'on'"), "on");
    let backend = pid(&mut client);
    drop(client);
    let mut next = pooler.connect();
    eventually(PATIENCE, "its server is given on, reset", || {
        pid(&mut next) == backend || {
            next = pooler.connect();
            false
        }
    });
    let left = next.value("select count(*) from pg_listening_channels()");
    assert_eq!(left, "0");
}

/// A pooler for clients with and without TLS, and how the former log in.
fn start_with_tls(database: &str, more: &str) -> (Pooler, Login) {
    let authority = Authority::new("takeover");
    let server = authority.sign("pooler", &["localhost"]);
    let tls = "client_tls_sslmode = allow\nclient_tls_cert_file = {folder}/server.crt\nclient_tls_key_file = {folder}/server.key\npool_mode = transaction\n";
    let files = [
        ("p.ini", &*ini_at(database, &format!("{tls}{more}"))),
        ("users.txt", USERS),
        ("server.crt", &*server.certificate),
        ("server.key", &*server.key),
    ];
    let pooler = start_ini(&[], &files);
    let login = pooler.login().tls(authority.trusted(None), "localhost");
    (pooler, login)
}

#[test]
fn a_client_under_tls_stays_until_it_leaves_however_many_processes_come() {
    let (pooler, login) = start_with_tls("app", "");
    let (mut hidden, mut plain) = (login.connect(), pooler.connect());
    hidden.query("select 1").good();
    let mut first = pooler.succeed(&["-R"]);
    let mut second = pooler.succeed(&["-R"]);
    assert_eq!(plain.value("select 'here'"), "here");
    assert_eq!(hidden.value("select 'there'"), "there");
    let marker = format!("two_before_{}", pooler.port);
    hidden.send(batch().query(&format!("select '{marker}' from pg_sleep(60)")));
    postgres().runs(&marker);
    hidden.cancel();
    assert_eq!(hidden.until_ready().error().code, "57014");
    assert!(first.is_running() && second.is_running());
    drop(hidden);
    assert!(first.exit().success() && second.exit().success());
    assert_eq!(login.connect().value("select 'new'"), "new");
}

#[test]
fn who_has_not_come_over_heeds_the_new_process_operator() {
    let (pooler, login) = start_with_tls("app", "");
    let (mut hidden, mut busy) = (login.connect(), login.connect());
    hidden.query("select 1").good();
    let mut old = pooler.succeed(&["-R"]);
    busy.query("begin").good();
    let mut console = pooler.console();
    console.send(batch().query("PAUSE"));
    eventually(PATIENCE, "both are paused", || {
        pooler.log().matches("PAUSE command issued").count() == 2
    });
    busy.query("select 'a transaction is not disturbed'").good();
    hidden.send(batch().query("select 'later'"));
    assert!(hidden.wire.is_silent_for(Duration::from_millis(100)));
    assert!(console.wire.is_silent_for(Duration::from_millis(100)));
    busy.query("commit").good();
    assert_eq!(console.until_ready().good().tags, ["PAUSE"]);
    pooler.show("RESUME");
    assert_eq!(hidden.until_ready().value(), "later");
    pooler.show("KILL app");
    assert_eq!(hidden.ended().message, "database removed");
    assert_eq!(busy.ended().message, "database removed");
    assert!(old.exit().success());
}

#[test]
fn a_process_that_cannot_take_over_changes_nothing() {
    let pooler = start("pool_mode = transaction\n");
    let mut client = pooler.connect();
    client.query("select 1").good();

    pooler.show("PAUSE app");
    let told = fails_to_take_over(&pooler);
    assert!(
        told.contains("cannot suspend with paused databases"),
        "{told}"
    );
    pooler.show("RESUME app");

    // It is let in, has the sockets, and ends when it has to write its number.
    let path = pooler.folder.join("p.ini");
    let ini = fs::read_to_string(&path).unwrap();
    let broken = ini.replace("/p.pid", "/none/p.pid");
    fs::write(&path, broken).unwrap();
    let told = fails_to_take_over(&pooler);
    assert!(told.contains("could not write pidfile"), "{told}");
    eventually(PATIENCE, "the old process goes on", || {
        written_pid(&pooler) == format!("{}\n", pooler.pid())
    });
    assert_eq!(client.value("select 'on'"), "on");
    assert_eq!(pooler.connect().value("select 'new'"), "new");

    fs::write(&path, ini).unwrap();
    assert!(pooler.succeed(&["-R"]).exit().success());
    assert_eq!(client.value("select 'on'"), "on");
}

#[test]
fn nobody_but_the_poolers_own_user_takes_over() {
    let pooler = start("");
    let refused = pooler.console().query("TAKEOVER").error().message.clone();
    assert!(
        refused.contains("for a process of the same user"),
        "{refused}"
    );
    pooler.serves();
}

#[test]
fn a_database_that_is_gone_is_told_so() {
    let pooler = start("pool_mode = transaction\n");
    let mut client = pooler.connect();
    client.query("select 1").good();
    let path = pooler.folder.join("p.ini");
    let ini = fs::read_to_string(&path).unwrap();
    fs::write(&path, ini.replace("app = ", "other = ")).unwrap();
    assert!(pooler.succeed(&["-R"]).exit().success());
    assert_eq!(client.ended().message, "database removed");
}

#[test]
fn a_new_process_that_is_told_to_end_takes_the_old_one_with_it() {
    let pooler = start("pool_mode = transaction\n");
    let (mut busy, mut idle) = (pooler.connect(), pooler.connect());
    busy.query("begin").good();
    let mut old = pooler.succeed(&["-R"]);
    assert_eq!(idle.value("select 'here'"), "here");
    pooler.signal("QUIT");
    assert!(pooler.exit(PATIENCE).success());
    assert!(
        pooler.login().try_connect().is_err(),
        "nobody new is let in"
    );
    busy.query("commit").good();
    drop(busy);
    assert!(old.exit().success());
}

#[test]
fn show_fds_tells_every_socket_and_which_belong_together() {
    let pooler = start("pool_mode = session\n");
    let (mut client, _idle) = (pooler.connect(), pooler.connect());
    let server: i64 = pid(&mut client).parse().unwrap();
    let shown = pooler.show("SHOW FDS");
    assert_eq!(
        shown.column("task"),
        ["pooler", "pooler", "client", "client", "server"]
    );
    let (numbers, links) = (shown.column("fd"), shown.column("link"));
    assert_eq!((&links[2], &links[4]), (&numbers[4], &numbers[2]));
    assert_eq!(links[3], "0");
    let key: i64 = shown.column("cancel")[4].parse().unwrap();
    assert_eq!(key >> 32, server, "a server's key begins with its process");
    for number in numbers {
        let path = format!("/proc/{}/fd/{number}", pooler.pid());
        let target = fs::read_link(path).unwrap();
        assert!(
            target.to_string_lossy().starts_with("socket:"),
            "{target:?}"
        );
    }
}

#[test]
fn with_a_pooler_toml_what_follows_a_client_comes_over_and_who_is_pinned_stays() {
    let pooler = config()
        .pooler("unix_socket_dir", "{folder}")
        .pooler("pool_mode", "transaction")
        .pooler("threads", 3)
        .start();
    let (mut client, mut pinned) = (pooler.connect(), pooler.connect());
    client.query("set search_path to pg_catalog").good();
    pinned.query("select pg_advisory_lock(7)").good();
    let mut old = pooler.succeed(&["-R"]);
    assert_eq!(client.value("show search_path"), "pg_catalog");
    let others = pooler.connect().value("show search_path");
    assert_eq!(others, "\"$user\", public", "nobody else is told");
    client.query("reset search_path").good();
    assert_eq!(client.value("show search_path"), "\"$user\", public");
    assert_eq!(
        pinned.value(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        ),
        "1"
    );
    assert!(old.is_running());
    pinned.query("select pg_advisory_unlock(7)").good();
    assert!(old.exit().success());
    assert_eq!(pinned.value("select 'on'"), "on");
}
