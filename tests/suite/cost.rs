//! What a transaction costs: system calls and allocations are counted, never times.
//!
//! Two runs of different length are compared, so that what a start, a login or an end costs falls out, and what remains is the
//! transactions' own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pooler::auth::users::Users;
use pooler::clients::session::Session;
use pooler::clock;
use pooler::config::settings::{DatabaseSettings, Settings};
use pooler::net::stream::Stream;
use pooler::pools::limits::ClientPlaces;
use pooler::pools::registry::Registry;
use pooler::protocol::sides::ClientSide;
use pooler::stats::census::{ClientCard, ClientFacts, ClientLimits};

use crate::support::pooler::config;
use crate::support::postgres::{postgres, program};
use crate::support::wire::batch;
use crate::support::{eventually, folder};

const CLIENTS: usize = 16;
/// Transactions of one client in the short run and in the long one.
const RUNS: [usize; 2] = [50, 350];
/// How long a tracer may take to write its table on a busy machine.
const WRITTEN: Duration = Duration::from_secs(60);

/// The tracer, with the folder of libraries it came with where it had to be fetched.
pub fn strace() -> (PathBuf, Option<PathBuf>) {
    let works = |path: &Path| Command::new(path).arg("-V").output().is_ok();
    if works(Path::new("strace")) {
        return ("strace".into(), None);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("strace");
    let (program, libraries) = (cache.join("usr/bin/strace"), cache.join("usr/lib"));
    if !program.exists() {
        fs::create_dir_all(&cache).unwrap();
        let fetch = "apt-get download -q strace libunwind8 && for file in *.deb; do dpkg -x \"$file\" .; done";
        let fetched = Command::new("sh")
            .args(["-c", fetch])
            .current_dir(&cache)
            .output();
        assert!(
            program.exists(),
            "this test needs strace: install it, or let apt-get fetch it ({fetched:?})"
        );
    }
    let multiarch = fs::read_dir(&libraries).unwrap().flatten().next();
    (program, multiarch.map(|entry| entry.path()))
}

/// How often each system call was made while pgbench ran so many transactions per client through a pooler of its own.
fn calls(database: &str, protocol: &str, transactions: usize) -> BTreeMap<String, i64> {
    let table = folder("cost").join("calls");
    let (strace, libraries) = strace();
    let mut words: Vec<String> = vec![];
    if let Some(libraries) = libraries {
        words.push("env".into());
        words.push(format!("LD_LIBRARY_PATH={}", libraries.display()));
    }
    words.push(strace.to_str().unwrap().into());
    // -D: the pooler is our own child, and the tracer its.
    words.extend(["-D", "-f", "-qq", "-c", "-o"].map(String::from));
    words.push(table.to_str().unwrap().into());
    let pooler = config()
        .app_is(database)
        .database("app", "pool_size", 8)
        .pooler("threads", 1)
        .under(words)
        .start();
    let (port, clients, each) = (
        pooler.port.to_string(),
        CLIENTS.to_string(),
        transactions.to_string(),
    );
    let output = program("pgbench")
        .args(["-h", "127.0.0.1", "-U", "app", "-n", "-S", "-M", protocol])
        .args(["-p", &port, "-c", &clients, "-t", &each, "app"])
        .output()
        .expect("pgbench starts");
    assert!(output.status.success(), "{output:?}");
    pooler.signal("TERM");
    pooler.exit(WRITTEN);
    let mut counts = BTreeMap::new();
    eventually(WRITTEN, "the table of calls is written", || {
        let text = fs::read_to_string(&table).unwrap_or_default();
        counts = read_table(&text);
        text.lines().any(|line| line.trim_end().ends_with(" total"))
    });
    counts
}

/// The calls of strace's table: share, seconds, microseconds each, calls, errors where there were some, name.
fn read_table(text: &str) -> BTreeMap<String, i64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count = words.get(3)?.parse().ok()?;
        words
            .last()
            .filter(|name| **name != "total")
            .map(|name| ((*name).to_owned(), count))
    };
    text.lines().filter_map(row).collect()
}

fn each_transaction_sends_and_receives_twice(protocol: &str) {
    let database = postgres().database();
    let made = program("pgbench")
        .args(["-i", "-q", "-s", "1", "-h", "127.0.0.1", "-U", "app"])
        .args(["-p", &postgres().server().port.to_string(), &database])
        .output()
        .expect("pgbench starts");
    assert!(made.status.success(), "{made:?}");
    let [short, long] = RUNS.map(|transactions| calls(&database, protocol, transactions));
    let more = ((RUNS[1] - RUNS[0]) * CLIENTS) as f64;
    let mut moved = 0.0;
    for (name, count) in &long {
        let each = (count - short.get(name).unwrap_or(&0)) as f64 / more;
        match name.as_str() {
            "recvfrom" | "sendto" | "read" | "write" | "readv" | "writev" | "recvmsg"
            | "sendmsg" => moved += each,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => {}
            _ => assert!(each <= 0.1, "{protocol}: {each:.3} {name} per transaction"),
        }
    }
    assert!(
        (moved - 4.0).abs() <= 0.1,
        "{protocol}: {moved:.3} sends and receives per transaction\n{short:?}\n{long:?}"
    );
}

#[test]
fn a_simple_query_costs_four_system_calls() {
    each_transaction_sends_and_receives_twice("simple");
}

#[test]
fn a_prepared_query_costs_four_system_calls() {
    each_transaction_sends_and_receives_twice("prepared");
}

/// Sends `request` again and again; each answer ends outside a transaction.
fn converse(mut socket: TcpStream, first: &[u8], request: &[u8], times: usize) {
    let mut buffer = [0; 4096];
    let mut ask = |request: &[u8]| {
        socket.write_all(request).unwrap();
        let mut end = [0; 6];
        while end != *b"Z\0\0\0\x05I" {
            let count = socket.read(&mut buffer).unwrap();
            assert!(count > 0, "the pooler goes on");
            for byte in &buffer[..count] {
                end.rotate_left(1);
                end[5] = *byte;
            }
        }
    };
    ask(first);
    (0..times).for_each(|_| ask(request));
    socket.write_all(b"X\0\0\0\x04").unwrap();
}

/// How often the thread of a session allocates while its client asks `first` and then so many times `request`: a real client's socket, a real
/// session and pool, a real PostgreSQL.
fn allocations(first: &[u8], request: &[u8], times: usize) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    let (first, request) = (first.to_vec(), request.to_vec());
    let client = thread::spawn(move || converse(theirs, &first, &request, times));
    let mut settings = Settings::default();
    let server = postgres().server();
    let database = DatabaseSettings {
        host: Some(server.host),
        port: server.port,
        ..DatabaseSettings::default()
    };
    settings.databases.insert("app".to_owned(), database);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            let registry = Registry::new(
                settings,
                Users::default(),
                None,
                pooler::servers::security::TlsWays::default(),
                1,
            );
            let database = registry.database("app").unwrap();
            let pool = registry.pool(&database, "app", None).unwrap();
            let card = ClientCard::new(
                1,
                ClientFacts::default(),
                ClientLimits::default(),
                clock::now(),
            );
            let places = ClientPlaces {
                user: registry.user("app"),
                database,
            };
            let side = ClientSide::new(registry.interner.make([("TimeZone", "UTC")]));
            let stream = Stream::from_accepted_tcp(ours).unwrap();
            let mut session =
                Session::new(stream, side, Arc::new(card), pool, places, None, vec![]);
            session.serve().await.unwrap();
        });
    });
    client.join().unwrap();
    info.count_total
}

#[test]
fn in_the_steady_state_nothing_is_allocated() {
    let simple = batch().query("select 1").0;
    let parse = batch().parse("s", "select $1::text").sync().0;
    let prepared = batch().run("s", &["x"]).sync().0;
    for (first, request) in [(&simple, &simple), (&parse, &prepared)] {
        allocations(first, request, 1); // what is made once in a process is made here
        let (short, long) = (
            allocations(first, request, 200),
            allocations(first, request, 1200),
        );
        // How the two ends meet at the start and at the end of a run may differ by a few.
        assert!(
            long <= short + 20,
            "a thousand transactions more: {long} allocations, not {short}"
        );
    }
}
