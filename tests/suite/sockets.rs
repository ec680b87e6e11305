//! What the system is asked to do for the pooler's sockets: the mode and the owner of the Unix socket's file, and the options of TCP
//! connections, which are read off the pooler's system calls.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cost::strace;
use crate::support::folder;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;

/// A group that a file of ours can be given to, by name and number.
fn group() -> (String, u32) {
    let (uid, own) = fs::metadata("/proc/self")
        .map(|it| (it.uid(), it.gid()))
        .unwrap();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let mut all = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        Some((name.to_owned(), number))
    });
    // Only root may give a file away to any group.
    let found = all.find(|(_, number)| (*number == own) != (uid == 0));
    found.expect("there is such a group")
}

#[test]
fn the_unix_socket_has_the_mode_and_the_group_that_the_settings_say() {
    let base = || config().pooler("unix_socket_dir", "{folder}");
    let (name, number) = group();
    let own = fs::metadata("/proc/self").unwrap().gid();
    let by_number = number.to_string();
    let cases: [(Config, u32, u32); 4] = [
        (base(), 0o777, own),
        (base().pooler("unix_socket_mode", "0600"), 0o600, own),
        (
            base()
                .pooler("unix_socket_mode", "0o660")
                .pooler("unix_socket_group", name),
            0o660,
            number,
        ),
        (base().pooler("unix_socket_group", by_number), 0o777, number),
    ];
    for (config, mode, group) in cases {
        let pooler = config.start();
        let socket = pooler.folder.join(format!(".s.PGSQL.{}", pooler.port));
        let file = fs::metadata(&socket).unwrap();
        assert_eq!((file.mode() & 0o7777, file.gid()), (mode, group));
        pooler.serves();
    }
}

/// A TCP socket of the pooler's.
#[derive(Debug, Default)]
struct Seen {
    descriptor: String,
    /// It was accepted; else it was made to dial.
    is_accepted: bool,
    /// The port that it has dialled.
    dialled: Option<u16>,
    /// What was set, as `TCP_KEEPIDLE 7`.
    options: BTreeSet<String>,
}

/// The sockets in a table of system calls, oldest first.
fn sockets(calls: &str) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for line in calls.lines() {
        let result = line.rsplit_once(" = ").map(|(_, result)| result.trim());
        let begun = result.and_then(|result| result.split(' ').next());
        let begun = begun.filter(|number| number.parse::<u32>().is_ok());
        let is_accepted = line.contains("accept4(") || line.contains("accept4 resumed");
        if is_accepted || line.contains("socket(AF_INET") {
            if let Some(descriptor) = begun {
                all.push(Seen {
                    descriptor: descriptor.to_owned(),
                    is_accepted,
                    ..Seen::default()
                });
            }
            continue;
        }
        let Some((call, arguments)) = line.split_once('(') else {
            continue;
        };
        let mut arguments = arguments.split(", ");
        let descriptor = arguments.next().unwrap_or_default();
        let known = all.iter_mut().rev();
        let Some(socket) = known.into_iter().find(|it| it.descriptor == descriptor) else {
            continue;
        };
        if call.ends_with("setsockopt") {
            let (name, value) = (arguments.nth(1), arguments.next());
            let value = value.unwrap_or_default().trim_matches(['[', ']']);
            let name = name.unwrap_or_default();
            socket.options.insert(format!("{name} {value}"));
        } else if call.ends_with("connect") {
            let port = line.split_once("htons(").map(|(_, rest)| rest);
            let port = port.and_then(|rest| rest.split(')').next());
            socket.dialled = port.and_then(|port| port.parse().ok());
        }
    }
    all
}

/// A pooler whose calls about sockets are written down.
fn traced(config: Config) -> (Pooler, PathBuf) {
    let table = folder("sockets").join("calls");
    let (program, libraries) = strace();
    let mut words: Vec<String> = Vec::new();
    if let Some(libraries) = libraries {
        words.push("env".into());
        words.push(format!("LD_LIBRARY_PATH={}", libraries.display()));
    }
    words.push(program.to_str().unwrap().into());
    words.extend(["-D", "-f", "-qq", "-o", table.to_str().unwrap()].map(String::from));
    words.push("-e".into());
    words.push("trace=socket,accept4,connect,setsockopt".into());
    (config.under(words).start(), table)
}

/// What is set on the connection of a new client, and on that of its new server.
fn set_on_new_ones(pooler: &Pooler, table: &Path) -> [BTreeSet<String>; 2] {
    let seen = || sockets(&fs::read_to_string(table).unwrap_or_default());
    pooler.show("RECONNECT");
    let before = seen().len();
    // The tracer writes a call down before it comes back.
    assert_eq!(pooler.connect().value("select 1"), "1");
    let server = Some(postgres().server().port);
    let (mut accepted, mut dialled) = (None, None);
    for mut socket in seen().into_iter().skip(before) {
        // Both ends of every connection send at once.
        socket.options.remove("TCP_NODELAY 1");
        if socket.is_accepted {
            accepted = Some(socket.options);
        } else if socket.dialled == server {
            dialled = Some(socket.options);
        }
    }
    [accepted.unwrap(), dialled.unwrap()]
}

#[test]
fn tcp_connections_get_the_options_that_the_settings_say_on_both_sides_also_after_a_reload() {
    let set = |options: &[&str]| options.iter().map(|it| (*it).to_owned()).collect();
    let off = config().pooler("tcp_keepalive", false);
    let all = config()
        .pooler("tcp_keepidle", "7s")
        .pooler("tcp_keepintvl", "3s")
        .pooler("tcp_keepcnt", 5)
        .pooler("tcp_user_timeout", 12_345)
        .pooler("tcp_socket_buffer", 65_536);
    let (pooler, table) = traced(config());
    let usual: BTreeSet<String> = set(&["SO_KEEPALIVE 1"]);
    assert_eq!(set_on_new_ones(&pooler, &table), [usual.clone(), usual]);
    pooler.reload(&all);
    let wanted: BTreeSet<String> = set(&[
        "SO_KEEPALIVE 1",
        "TCP_KEEPIDLE 7",
        "TCP_KEEPINTVL 3",
        "TCP_KEEPCNT 5",
        "TCP_USER_TIMEOUT 12345",
        "SO_SNDBUF 65536",
        "SO_RCVBUF 65536",
    ]);
    assert_eq!(set_on_new_ones(&pooler, &table), [wanted.clone(), wanted]);
    pooler.reload(&off);
    let none = BTreeSet::new();
    assert_eq!(set_on_new_ones(&pooler, &table), [none.clone(), none]);
}

#[test]
fn everything_passes_through_the_smallest_buffers() {
    let pooler = config().pooler("tcp_socket_buffer", 4096).start();
    let mut client = pooler.connect();
    let text = "x".repeat(100_000);
    for _ in 0..3 {
        let asked = format!("select length('{text}'), '{text}'");
        let reply = client.query(&asked).good();
        assert_eq!(reply.rows[0][0].as_deref(), Some("100000"));
        assert_eq!(reply.rows[0][1].as_ref(), Some(&text));
    }
}

#[test]
fn the_listening_socket_has_the_buffers_too_for_their_size_is_told_before_the_accept() {
    let (pooler, table) = traced(config().pooler("tcp_socket_buffer", 4096));
    pooler.serves();
    let all = sockets(&fs::read_to_string(&table).unwrap());
    let mut listening = all
        .iter()
        .filter(|it| it.options.contains("SO_REUSEADDR 1"));
    let options = &listening.next().unwrap().options;
    for option in ["SO_SNDBUF 4096", "SO_RCVBUF 4096"] {
        assert!(options.contains(option), "{options:?}");
    }
}
