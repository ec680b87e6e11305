//! What the poolers are asked to do: pgbench's transactions and connections, large results, and clients that do nothing.

use std::io;
use std::process::Command;

use pooler::cli::cluster::SUPERUSER;
use pooler::cli::postgres::{Binaries, run};
use pooler::cli::problem::Problem;
use pooler::clock;

use crate::candidate::{DATABASE, Entry, PASSWORD};
use crate::client::Client;

/// How many bytes a large result or COPY has.
const LARGE: usize = 200_000_000;
/// How many bytes a row of it has.
const ROW: usize = 1_000;

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// One of pgbench's scripts.
    Transactions {
        /// Its name.
        script: &'static str,
        /// `simple`, `extended` or `prepared`.
        protocol: &'static str,
        /// How many clients run it.
        clients: u16,
    },
    /// A new connection for every transaction, eight at a time.
    Connections,
    /// One result of 200 MB.
    Select,
    /// 200 MB from the server.
    CopyOut,
    /// 200 MB to the server.
    CopyIn,
}

/// What the pooler is to come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// So many times PgBouncer's CPU.
    Ratio(f64),
    /// So much CPU, in the unit of the job.
    AtMost(f64),
}

/// One kind of work, and what it may cost.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in the tables.
    pub title: &'static str,
    /// How clients come in.
    pub entry: Entry,
    /// What they do.
    pub job: Job,
    /// What it may cost.
    pub target: Target,
}

const fn transactions(script: &'static str, protocol: &'static str, clients: u16) -> Job {
    Job::Transactions {
        script,
        protocol,
        clients,
    }
}

const fn scenario(title: &'static str, entry: Entry, job: Job, target: Target) -> Scenario {
    Scenario {
        title,
        entry,
        job,
        target,
    }
}

const SELECT: &str = "select-only";
const TPCB: &str = "tpcb-like";

/// All of them, those that come in by the same way together.
#[rustfmt::skip]
pub const SCENARIOS: [Scenario; 17] = {
    use Entry::{Scram, Split, Tls, Trust};
    use Target::{AtMost, Ratio};
    [
        scenario("select, simple", Trust, transactions(SELECT, "simple", 16), Ratio(1.0)),
        scenario("select, simple, 64", Trust, transactions(SELECT, "simple", 64), Ratio(1.0)),
        scenario("select, extended", Trust, transactions(SELECT, "extended", 16), Ratio(1.0)),
        scenario("select, extended, 64", Trust, transactions(SELECT, "extended", 64), Ratio(1.0)),
        scenario("select, prepared", Trust, transactions(SELECT, "prepared", 16), Ratio(1.1)),
        scenario("TPC-B, simple", Trust, transactions(TPCB, "simple", 16), Ratio(1.05)),
        scenario("TPC-B, extended", Trust, transactions(TPCB, "extended", 16), Ratio(1.15)),
        scenario("large result", Trust, Job::Select, Ratio(0.75)),
        scenario("COPY out", Trust, Job::CopyOut, Ratio(0.75)),
        scenario("COPY in", Trust, Job::CopyIn, Ratio(0.75)),
        scenario("connections", Trust, Job::Connections, Ratio(1.2)),
        scenario("connections, SCRAM", Scram, Job::Connections, AtMost(300.0)),
        scenario("connections, TLS", Tls, Job::Connections, Ratio(1.0)),
        scenario("select, TLS", Tls, transactions(SELECT, "simple", 16), Ratio(1.1)),
        scenario("split, simple", Split, transactions(SELECT, "simple", 16), Ratio(1.25)),
        scenario("split, extended", Split, transactions(SELECT, "extended", 16), Ratio(1.25)),
        scenario("split, prepared", Split, transactions(SELECT, "prepared", 16), Ratio(1.2)),
    ]
};

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    /// How many transactions, connections or GB, never 0.
    pub units: f64,
    /// How many a second, logging in not counted.
    pub rate: f64,
}

impl Job {
    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Transactions { .. } => "tx",
            Self::Connections => "connection",
            Self::Select | Self::CopyOut | Self::CopyIn => "GB",
        }
    }

    /// The same for a pooler that cannot follow prepared statements.
    pub fn without_prepared(self) -> Self {
        match self {
            Self::Transactions {
                script,
                protocol: "prepared",
                clients,
            } => transactions(script, "simple", clients),
            other => other,
        }
    }

    /// Does it for so many seconds, or once where it is large.
    ///
    /// # Errors
    /// [`Problem::Failed`] with what pgbench said; [`Problem::Io`] when a client is not served.
    pub fn run(
        self,
        binaries: &Binaries,
        port: u16,
        entry: Entry,
        seconds: u32,
    ) -> Result<Done, Problem> {
        let mut command = pgbench(binaries, port, entry);
        command.args(["-n", "-j", "2", "-T", &seconds.to_string()]);
        match self {
            Self::Transactions {
                script,
                protocol,
                clients,
            } => {
                let clients = clients.to_string();
                done(command.args(["-b", script, "-M", protocol, "-c", &clients]))
            }
            Self::Connections => done(command.args(["-b", SELECT, "-C", "-c", "8"])),
            Self::Select | Self::CopyOut | Self::CopyIn => {
                self.large(port).map_err(Problem::io("a large transfer"))
            }
        }
    }

    fn large(self, port: u16) -> io::Result<Done> {
        let mut client = Client::connect(port, DATABASE, None)?;
        let rows = format!(
            "SELECT repeat('x', {ROW}) FROM generate_series(1, {})",
            LARGE / ROW
        );
        let began = clock::now();
        match self {
            Self::CopyOut => client.ask(&format!("COPY ({rows}) TO STDOUT"))?,
            Self::CopyIn => client.copy_in("COPY copied FROM STDIN WHERE false", LARGE, ROW)?,
            _ => client.ask(&rows)?,
        };
        let units = LARGE as f64 / 1e9;
        let rate = units / clock::now().since(began).as_secs_f64();
        Ok(Done { units, rate })
    }
}

/// Opens the servers that the scenarios use.
///
/// # Errors
/// [`Problem::Failed`] with what pgbench said.
pub fn warm_up(binaries: &Binaries, port: u16, entry: Entry) -> Result<(), Problem> {
    run(pgbench(binaries, port, entry).args(["-n", "-S", "-t", "100", "-c", "32"])).map(drop)
}

/// pgbench, bound for `port`.
pub fn pgbench(binaries: &Binaries, port: u16, entry: Entry) -> Command {
    let mut command = if binaries.has("pgbench") {
        binaries.command("pgbench")
    } else {
        binaries.other("pgbench")
    };
    let tls = if entry == Entry::Tls {
        "require"
    } else {
        "disable"
    };
    command
        .env("PGDATABASE", DATABASE)
        .env("PGPASSWORD", PASSWORD)
        .env("PGSSLMODE", tls)
        .env("HOME", "/nonexistent") // where somebody's own certificate would be looked for
        .args(["-h", "127.0.0.1", "-U", SUPERUSER, "-p"])
        .arg(port.to_string());
    command
}

fn done(command: &mut Command) -> Result<Done, Problem> {
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number_after = |start: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
        rest.split([' ', '/']).next()?.parse().ok()
    };
    let read = || {
        let units = number_after("number of transactions actually processed: ")?;
        let rate = number_after("tps = ")?;
        (units > 0.0).then_some(Done { units, rate })
    };
    read().ok_or_else(|| Problem::Failed {
        program: "pgbench".to_owned(),
        output: text.clone(),
    })
}
