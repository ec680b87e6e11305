//! What a `pgbouncer.ini` does when something is missing, late or wrong: the file itself, what it names, the server behind it. What must
//! never happen: a part of a bad file is in force, somebody is let in by rules that could not be read, or a client that waits is not seen.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::eventually;
use crate::support::pgbouncer::{Side, Which};
use crate::support::pooler::{Pooler, filled, ini, start_ini};
use crate::support::postgres::postgres;
use crate::support::tls::{Authority, Identity};
use crate::support::wire::{Address, Client, PATIENCE, batch, cancel};

fn plain() -> String {
    let main = "auth_type = trust\nlogfile = {folder}/p.log\nserver_login_retry = 1\n";
    ini("app = {server} dbname=app\n", main)
}

const USERS: &str = "\"app\" \"app\"\n\"admin\" \"admin\"\n";

fn start_with(more: &str, files: &[(&str, &str)]) -> Pooler {
    let ini = plain() + more;
    let mut all = vec![("p.ini", ini.as_str()), ("users.txt", USERS)];
    all.extend(files);
    start_ini(&[], &all)
}

fn logfile(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.folder.join("p.log")).unwrap_or_default()
}

fn setting(console: &mut Client, key: &str) -> String {
    let row = console.query("SHOW CONFIG").good().row_where("key", key);
    row.unwrap()["value"].clone()
}

#[test]
fn a_bad_file_at_a_reload_changes_nothing_and_is_named_with_its_line() {
    let pooler = start_with("", &[]);
    let mut console = pooler.console();
    let line = plain().lines().count() + 2;
    for bad in [
        "no_such_key = 1",
        "max_client_conn = many",
        "pool_mode = both",
        "log_connections = true",
        "query_timeout = 5s",
        "%include gone.ini",
        "[nonsense]",
        "no equals sign",
    ] {
        let text = plain() + &format!("max_client_conn = 7\n{bad}\n");
        let text = filled(&text, &pooler.folder, pooler.port);
        fs::write(pooler.folder.join("p.ini"), text).unwrap();
        let before = logfile(&pooler).len();
        let failed = console.query("RELOAD");
        assert_eq!(failed.error().code, "F0000", "{bad}");
        let log = logfile(&pooler).split_off(before);
        assert!(log.contains(&format!("p.ini:{line}")), "{bad}: {log}");
        assert_eq!(setting(&mut console, "max_client_conn"), "100", "{bad}");
    }
}

#[test]
fn a_second_header_takes_back_what_the_first_one_said() {
    let text = format!("[pgbouncer]\nmax_client_conn = 7\n{}", plain());
    let pooler = start_ini(&[], &[("p.ini", &text), ("users.txt", USERS)]);
    assert_eq!(setting(&mut pooler.console(), "max_client_conn"), "100");
}

#[test]
fn bad_lines_of_rules_are_left_out_and_rules_that_cannot_be_read_reject_everybody() {
    let hba = "auth_type = hba\nauth_hba_file = {folder}/hba\n";
    let rules = "host all all samehost trust\nnonsense\nhost all app all password\nhost all admin all trust\n";
    let pooler = start_with(hba, &[("hba", rules)]);
    assert_eq!(pooler.connect().value("select 'in'"), "in");
    let refused = pooler.login().password("wrong").refused();
    assert_eq!(refused.message, "password authentication failed");
    let log = logfile(&pooler);
    assert!(log.contains("hba:1: ") && log.contains("hba:2: "), "{log}");
    assert!(!log.contains("hba:3: "), "{log}");

    let pooler = start_with(hba, &[]);
    let refused = pooler.login().refused();
    assert_eq!(refused.code, "08P01");
    assert_eq!(refused.message, "no authentication method is found");
}

#[test]
fn a_user_list_that_is_missing_at_the_start_is_told_and_nobody_is_known() {
    let text = plain().replace("users.txt", "gone.txt");
    let pooler = start_ini(&[], &[("p.ini", &text)]);
    // The file of the log is opened once the settings are known.
    assert!(pooler.log().contains("could not open auth_file "));
    let refused = pooler.login().refused();
    assert_eq!(refused.message, "\"trust\" authentication failed");
}

#[test]
fn whom_the_auth_query_does_not_find_is_told_so() {
    let asking = "auth_user = app\nauth_query = select 'x', 'x' where $1 = 'nobody here'\n";
    let pooler = start_with(asking, &[]);
    let refused = pooler.login().user("stranger").refused();
    assert_eq!(refused.code, "08P01");
    assert_eq!(refused.message, "no such user");
    let log = logfile(&pooler);
    assert!(log.contains("closing because: no such user (age="), "{log}");
}

#[test]
fn tls_may_begin_at_once_without_a_protocols_name_and_is_told_in_the_log() {
    let authority = Authority::new("the tests' authority");
    let Identity { certificate, key } = authority.sign("pooler", &["localhost"]);
    let tls = "client_tls_sslmode = require\nclient_tls_cert_file = {folder}/server.crt\nclient_tls_key_file = {folder}/server.key\n";
    let pooler = start_with(tls, &[("server.crt", &certificate), ("server.key", &key)]);
    let login = pooler.login();
    let direct = login.direct_tls(authority.trusted(None), "localhost");
    assert_eq!(direct.connect().value("select 'in'"), "in");
    let log = logfile(&pooler);
    assert!(
        log.contains(" login attempt: db=app user=app tls=TLSv1.3/TLS_"),
        "{log}"
    );
    assert_eq!(pooler.login().refused().message, "SSL required");
}

#[test]
fn the_line_of_numbers_is_pgbouncers() {
    let pooler = start_with("stats_period = 1\n", &[]);
    pooler.serves();
    let shape = "stats: N xacts/s, N queries/s, N client parses/s, N server parses/s, N binds/s, N client logins/s, in N B/s, \
                 out N B/s, xact N us, query N us, wait N us";
    let of = |line: &str| {
        let words = line.split(' ').map(|word| match word.parse::<u64>() {
            Ok(_) => "N",
            Err(_) => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    eventually(PATIENCE, "the numbers are told", || {
        let log = logfile(&pooler);
        log.lines()
            .any(|line| of(line).ends_with(&format!(" LOG {shape}")))
    });
}

#[test]
fn a_client_that_waits_for_the_first_server_of_its_pool_is_seen_to_wait() {
    // It accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let ini = plain()
        .replace("{server}", &format!("host=127.0.0.1 port={port}"))
        .replace("logfile = {folder}/p.log\n", "");
    for which in [Which::PgBouncer, Which::Pooler] {
        let side = Side::start(which, &ini, USERS);
        let mut waiting = side.login("app", "app").begin().unwrap();
        let mut console = side.login("admin", "pgbouncer").connect();
        let mut row = |show: &str| {
            let shown = console.query(&format!("SHOW {show}")).good();
            shown.row_where("database", "app")
        };
        eventually(PATIENCE, "the pool shows that it waits", || {
            row("POOLS").is_some_and(|pool| pool["cl_waiting"] == "1" && pool["cl_active"] == "0")
        });
        // PgBouncer counts no time before the first query.
        if which == Which::Pooler {
            eventually(PATIENCE, "the pool shows for how long", || {
                row("POOLS").is_some_and(|pool| pool["maxwait"] != "0")
            });
        }
        let client = row("CLIENTS").unwrap_or_else(|| panic!("{which:?} hides it"));
        assert_eq!(client["state"], "waiting", "{which:?}");
        assert_eq!(client["user"], "app", "{which:?}");
        assert_eq!(client["wait"] != "0", which == Which::Pooler, "{which:?}");
        let socket = row("SOCKETS").unwrap();
        assert_eq!(socket["state"], "cl_waiting", "{which:?}");
        if which == Which::Pooler {
            let kill = format!("KILL_CLIENT {}", client["id"]);
            console.query(&kill).good();
            let mut last = waiting.read_frame().unwrap();
            while last.tag != b'E' {
                last = waiting.read_frame().unwrap();
            }
            waiting.closed().unwrap();
            assert!(console.query(&kill).error().says("client not found"));
        }
    }
}

/// Passes a connection on to PostgreSQL, until one of both ends it.
fn pass_on(near: TcpStream) {
    let server = postgres().server();
    let far = TcpStream::connect((server.host.as_str(), server.port)).unwrap();
    let (mut near_too, mut far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let (mut near, mut far) = (near, far);
    thread::spawn(move || {
        drop(io::copy(&mut near, &mut far));
        drop(far.shutdown(std::net::Shutdown::Write));
    });
    thread::spawn(move || {
        drop(io::copy(&mut far_too, &mut near_too));
        drop(near_too.shutdown(std::net::Shutdown::Write));
    });
}

#[test]
fn a_cancel_request_is_a_row_of_its_own_until_it_is_delivered() {
    for which in [Which::PgBouncer, Which::Pooler] {
        let between = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = between.local_addr().unwrap().port();
        let ini = plain()
            .replace("{server}", &format!("host=127.0.0.1 port={port}"))
            .replace("logfile = {folder}/p.log\n", "");
        let side = Side::start(which, &ini, USERS);
        let address = Address::tcp(side.port);
        let mut console = side.login("admin", "pgbouncer").connect();
        let mut count = |show: &str, state: &str| {
            let shown = console.query(&format!("SHOW {show}")).good();
            let states = shown.column("state");
            states.iter().filter(|found| *found == state).count()
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| pass_on(between.accept().unwrap().0));
            let mut client = side.login("app", "app").connect();
            first.join().unwrap();
            let marker = format!("ini_beyond_{port}");
            client.send(batch().query(&format!("select pg_sleep(60) /* {marker} */")));
            postgres().runs(&marker);
            let key = client.welcome.key.clone();
            scope.spawn(move || cancel(&address, &key));
            // It is made and not served yet.
            let (carrier, _) = between.accept().unwrap();
            let mut rows = || {
                (
                    count("CLIENTS", "active_cancel_req"),
                    count("SERVERS", "active_cancel"),
                )
            };
            eventually(PATIENCE, &format!("{which:?} shows both ends"), || {
                rows() == (1, 1)
            });
            pass_on(carrier);
            assert_eq!(client.until_ready().error().code, "57014");
            eventually(PATIENCE, &format!("{which:?} shows neither"), || {
                rows() == (0, 0)
            });
        });
    }
}
