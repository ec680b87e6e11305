//! What the poolers are asked to do: pgbench's transactions, and clients that do nothing.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use pooler::cli::cluster::SUPERUSER;
use pooler::cli::postgres::{Binaries, run};
use pooler::cli::problem::Problem;

use crate::candidate::DATABASE;

/// How many clients pgbench has.
pub const CLIENTS: usize = 16;

/// One kind of transaction over one protocol.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in the tables.
    pub title: &'static str,
    script: &'static str,
    protocol: &'static str,
}

/// All of them.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario::new("select, simple", "select-only", "simple"),
    Scenario::new("select, extended", "select-only", "extended"),
    Scenario::new("select, prepared", "select-only", "prepared"),
    Scenario::new("TPC-B, simple", "tpcb-like", "simple"),
];

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    /// How many transactions, never 0.
    pub transactions: f64,
    /// How many a second, logging in not counted.
    pub rate: f64,
}

impl Scenario {
    const fn new(title: &'static str, script: &'static str, protocol: &'static str) -> Self {
        Self {
            title,
            script,
            protocol,
        }
    }

    /// Whether its statements must survive transaction pooling.
    pub fn needs_prepared(&self) -> bool {
        self.protocol == "prepared"
    }

    /// Runs it against `port`.
    ///
    /// # Errors
    /// [`Problem::Failed`] with what pgbench said.
    pub fn run(&self, binaries: &Binaries, port: u16, seconds: u32) -> Result<Done, Problem> {
        let output = run(pgbench(binaries, port)
            .args(["-n", "-j", "2", "-b", self.script, "-M", self.protocol])
            .args(["-c", &CLIENTS.to_string(), "-T", &seconds.to_string()]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        done(&text).ok_or_else(|| Problem::Failed {
            program: "pgbench".to_owned(),
            output: text,
        })
    }
}

/// Opens the servers that the scenarios use.
///
/// # Errors
/// [`Problem::Failed`] with what pgbench said.
pub fn warm_up(binaries: &Binaries, port: u16) -> Result<(), Problem> {
    let clients = CLIENTS.to_string();
    run(pgbench(binaries, port).args(["-n", "-S", "-t", "100", "-c", &clients])).map(drop)
}

/// pgbench, bound for `port`.
pub fn pgbench(binaries: &Binaries, port: u16) -> Command {
    let mut command = if binaries.has("pgbench") {
        binaries.command("pgbench")
    } else {
        binaries.other("pgbench")
    };
    command
        .env("PGDATABASE", DATABASE)
        .args(["-h", "127.0.0.1", "-U", SUPERUSER, "-p"])
        .arg(port.to_string());
    command
}

fn done(text: &str) -> Option<Done> {
    let number_after = |start: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
        rest.split([' ', '/']).next()?.parse().ok()
    };
    let transactions = number_after("number of transactions actually processed: ")?;
    let rate = number_after("tps = ")?;
    (transactions > 0.0).then_some(Done { transactions, rate })
}

/// Clients that have logged in, asked one thing, and stay.
#[derive(Debug)]
pub struct IdleClients(Vec<TcpStream>);

impl IdleClients {
    /// Connects `count` of them, one after the other.
    ///
    /// # Errors
    /// [`Problem::Io`] when one is not served.
    pub fn connect(port: u16, count: usize) -> Result<Self, Problem> {
        let clients: io::Result<Vec<TcpStream>> = (0..count).map(|_| idle_client(port)).collect();
        clients.map(Self).map_err(Problem::io("an idle client"))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn idle_client(port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let startup = format!("\0\x03\0\0user\0{SUPERUSER}\0database\0{DATABASE}\0\0");
    let length = |body: usize| u32::try_from(body + 4).expect("a short message");
    let mut message = length(startup.len()).to_be_bytes().to_vec();
    message.extend(startup.as_bytes());
    stream.write_all(&message)?;
    until_ready(&mut stream)?;
    let query = b"SELECT 1\0";
    let mut message = vec![b'Q'];
    message.extend(length(query.len()).to_be_bytes());
    message.extend(query);
    stream.write_all(&message)?;
    until_ready(&mut stream)?;
    Ok(stream)
}

/// Reads up to ReadyForQuery, which the server says last.
fn until_ready(stream: &mut TcpStream) -> io::Result<()> {
    const READY: &[u8] = b"Z\0\0\0\x05I";
    let (mut seen, mut part) = (Vec::new(), [0; 2048]);
    while !seen.ends_with(READY) {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::Error::other(String::from_utf8_lossy(&seen)));
        }
        seen.extend_from_slice(&part[..count]);
    }
    Ok(())
}
