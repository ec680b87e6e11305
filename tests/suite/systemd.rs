//! Under systemd: it hears when the pooler is ready, reloads, ends and lives, and its sockets are used and never shut.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::folder;
use crate::support::pooler::{Config, Pooler, binary, config};
use crate::support::wire::{Address, Login, PATIENCE};

/// systemd's end of the notify socket.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ear {
    fn new() -> Self {
        let path = folder("notify").join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The next message that says `what`; others are passed over.
    fn hear_of(&self, what: &str) -> String {
        loop {
            let message = self.hear();
            if message.lines().any(|line| line.starts_with(what)) {
                return message;
            }
        }
    }

    /// Starts a pooler that talks to it.
    fn start(&self, config: &Config) -> Pooler {
        let mut command = Command::new("sh");
        // A watchdog is meant for one process, which is the one the shell becomes.
        command
            .args(["-c", r#"WATCHDOG_PID=$$ exec "$0" "$1""#])
            .arg(binary())
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "400000")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        config.start_by(pooler::cli::cluster::free_port().unwrap(), command)
    }
}

#[test]
fn it_is_told_ready_reloading_and_stopping() {
    let ear = Ear::new();
    let pooler = ear.start(&config());
    ear.hear_of("READY=1");
    pooler.serves();
    pooler.show("RELOAD");
    let reloading = ear.hear_of("RELOADING=1");
    let since = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0, "{reloading:?}");
    ear.hear_of("READY=1");

    pooler.rewrite_text("nonsense");
    pooler.signal("HUP");
    ear.hear_of("RELOADING=1");
    ear.hear_of("READY=1");

    pooler.signal("TERM");
    ear.hear_of("STOPPING=1");
    assert!(pooler.exit(PATIENCE).success());
}

#[test]
fn it_gets_signs_of_life_and_a_line_of_status() {
    let ear = Ear::new();
    let pooler = ear.start(&config().pooler("stats_period", "300ms"));
    for _ in 0..3 {
        ear.hear_of("WATCHDOG=1");
    }
    pooler.serves();
    let status = ear.hear_of("STATUS=");
    assert!(status.contains("xacts/s"), "{status:?}");
    ear.hear_of("WATCHDOG=1");
}

/// Starts a pooler with a TCP and a Unix socket of ours, as systemd would.
fn activated(config: &Config, tcp: &TcpListener, unix: &UnixListener) -> Pooler {
    let script = r#"exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$1""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(binary())
        .stdin(OwnedFd::from(tcp.try_clone().unwrap()))
        .stdout(OwnedFd::from(unix.try_clone().unwrap()));
    config.start_by(tcp.local_addr().unwrap().port(), command)
}

#[test]
fn it_listens_on_the_sockets_it_is_handed_and_never_shuts_them() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = folder("sockets").join("door");
    let unix = UnixListener::bind(&path).unwrap();
    let config = config().pooler("listen_addr", "127.0.0.66");
    let pooler = activated(&config, &tcp, &unix);
    let by_unix = Login::at(Address::Unix(path.clone()))
        .user("app")
        .database("app")
        .password("app");
    pooler.serves();
    assert_eq!(by_unix.connect().value("select 'by unix'"), "by unix");
    assert!(
        pooler
            .log()
            .contains("listen_addr, listen_port and unix_socket_dir are ignored")
    );
    let elsewhere = std::net::TcpStream::connect(("127.0.0.66", pooler.port));
    assert!(elsewhere.is_err(), "listen_addr is ignored");

    pooler.signal("TERM");
    assert!(pooler.exit(PATIENCE).success());
    assert!(path.exists(), "the socket is not ours to remove");
    // Who knocks while nobody serves is served by the next process.
    let early = [pooler.login().begin(), by_unix.begin()].map(Result::unwrap);
    let next = activated(&config, &tcp, &unix);
    for mut wire in early {
        assert_eq!(wire.read_frame().unwrap().tag, b'R');
    }
    next.serves();
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let pooler = {
        let mut command = Command::new(binary());
        command
            .env("LISTEN_PID", "1")
            .env("LISTEN_FDS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        config().start_by(pooler::cli::cluster::free_port().unwrap(), command)
    };
    pooler.serves();
    assert!(!pooler.log().contains("ignored"));
}

#[test]
fn it_is_told_which_process_has_taken_over() {
    let ear = Ear::new();
    let pooler = ear.start(&config().pooler("unix_socket_dir", "{folder}"));
    ear.hear_of("READY=1");
    pooler.serves();
    let mut old = pooler.succeed(&["-R"]);
    let told = ear.hear_of("MAINPID=");
    assert_eq!(told.trim(), format!("MAINPID={}", pooler.pid()));
    assert!(old.exit().success());
    ear.socket.set_nonblocking(true).unwrap();
    let mut message = [0; 4096];
    while let Ok(length) = ear.socket.recv(&mut message) {
        let said = String::from_utf8_lossy(&message[..length]).into_owned();
        assert!(!said.contains("STOPPING=1"), "the service goes on");
    }
}
