//! The pooler and PgBouncer, side by side, in front of the same PostgreSQL: what everything costs, and what it may cost.
//!
//! `cargo bench --bench end_to_end` starts a PostgreSQL of its own, the pooler with one thread and, where there is one,
//! PgBouncer with the same pool, and takes everything away again. Figures of a machine that does other things drift by a third
//! between two runs, so both take turns (A B, B A, …) and the ratio is taken within each round: trust the ratios, and compare
//! no absolute figure with one of another run. With `--growth` it shows instead how CPU and memory grow with clients, pools, statements
//! and messages, with `--crowd` how 256 clients fare with one thread and with two.
//!
//! CPU is what the kernel charges to the pooler's process. Most of it is the kernel's own work on sockets, which no pooler can
//! save. PgBouncer is looked for in `PGBOUNCER`, on the PATH and in `/usr/sbin`; without it there are no ratios. One that cannot
//! follow prepared statements runs the same as simple queries.

#![expect(unreachable_pub, reason = "nobody imports a benchmark")]

mod candidate;
mod client;
mod crowd;
mod growth;
mod load;
mod process;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;
use pooler::cli::cluster::{Cluster, Options};
use pooler::cli::postgres::{Binaries, run};
use pooler::cli::problem::Problem;
use rustls::{ClientConfig, RootCertStore};

use candidate::{Candidate, DATABASE, Entry, Identity, POOL_SIZE, Running, Stage};
use client::Client;
use load::{SCENARIOS, Scenario, Target, pgbench};
use process::{SystemCalls, Ticks, Usage};
use table::{Figure, Table, Verdict};

/// Accounts for pgbench, in hundred thousands; not fewer than clients, lest they wait for one another's branch.
const SCALE: &str = "16";
/// How long the kernel and the poolers get to come to rest before memory is looked at.
const REST: Duration = Duration::from_millis(300);
/// What an idle client may cost in bytes, plain and under TLS.
const IDLE: [(&str, Entry, f64); 2] = [
    ("idle client", Entry::Trust, 6.0 * 1024.0),
    ("idle client, TLS", Entry::Tls, 16.0 * 1024.0),
];

/// Runs the pooler and PgBouncer side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each takes its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one turn takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many idle clients memory is measured with; 0 for none
    #[arg(long, default_value_t = 2_000)]
    clients: u16,
    /// Only what has this in its title
    #[arg(long, default_value = "")]
    only: String,
    /// How many threads the pooler has; each target may then be exceeded by a tenth
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Another build of the pooler, in place of the one cargo has just built
    #[arg(long, value_name = "FILE")]
    pooler: Option<PathBuf>,
    /// How 256 clients fare with one thread and with two, instead of how costs compare
    #[arg(long)]
    crowd: bool,
    /// How costs grow, instead of how they compare
    #[arg(long)]
    growth: bool,
    /// What cargo says to a benchmark that is to run in earnest
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// The pooler's file, absolute.
    fn program(&self) -> Result<PathBuf, Problem> {
        let Some(file) = &self.pooler else {
            return Ok(env!("CARGO_BIN_EXE_pooler").into());
        };
        fs::canonicalize(file).map_err(Problem::io(format!("the pooler {}", file.display())))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("to be run by: cargo bench --bench end_to_end");
        return ExitCode::SUCCESS;
    }
    match compare(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("end_to_end: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Problem> {
    let most = if arguments.growth {
        growth::MOST_CLIENTS
    } else {
        usize::from(arguments.clients)
    };
    process::raise_file_limit(most + 1_500)?;
    let pooler = arguments.program()?;
    let binaries = Binaries::find(false)?;
    let cluster = start(&binaries, 0)?;
    let mut bench = Bench {
        candidates: Candidate::all(&binaries, pooler),
        identity: Identity::new(cluster.folder())?,
        cluster,
        calls: SystemCalls::find(),
        ticks: Ticks::ask()?,
        binaries,
        threads: arguments.threads,
        verdicts: Vec::new(),
    };
    bench.say_what_runs(arguments);
    if arguments.growth {
        return bench.growth(&arguments.only);
    }
    if arguments.crowd {
        return bench.crowd(arguments);
    }
    for entry in [Entry::Trust, Entry::Scram, Entry::Tls] {
        bench.busy(arguments, entry)?;
    }
    for (title, entry, limit) in IDLE {
        if arguments.clients > 0 && title.contains(&arguments.only) {
            bench.idle(arguments, title, entry, limit)?;
        }
    }
    bench.split(arguments)?;
    table::print_verdicts(&bench.verdicts);
    Ok(())
}

/// A PostgreSQL with pgbench's tables, and so many replicas of it.
fn start(binaries: &Binaries, replicas: usize) -> Result<Cluster, Problem> {
    let settings = [
        ("shared_buffers", "256MB"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("autovacuum", "off"),
        ("max_wal_size", "4GB"),
        ("max_connections", "1200"),
    ];
    let options = Options {
        replicas,
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Options::default()
    };
    let cluster = Cluster::start(binaries, &options)?;
    cluster.query(0, "postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    cluster.query(0, DATABASE, "CREATE UNLOGGED TABLE copied(line text)")?;
    run(pgbench(binaries, cluster.port(0), Entry::Trust).args(["-i", "-q", "-s", SCALE]))?;
    cluster.catch_up(0)?;
    Ok(cluster)
}

struct Bench {
    candidates: Vec<Candidate>,
    identity: Identity,
    cluster: Cluster,
    calls: Option<SystemCalls>,
    ticks: Ticks,
    binaries: Binaries,
    threads: u16,
    verdicts: Vec<Verdict>,
}

impl Bench {
    fn say_what_runs(&self, arguments: &Arguments) {
        let names: Vec<&str> = self
            .candidates
            .iter()
            .map(|one| one.title.as_str())
            .collect();
        println!(
            "{} before PostgreSQL {}: {} x {} s, pools of {POOL_SIZE}, 16 clients where nothing else is said",
            names.join(" and "),
            self.binaries.version(),
            arguments.rounds,
            arguments.seconds,
        );
        if self.candidates.len() == 1 {
            println!(
                "no PgBouncer here (PGBOUNCER names one), so there is nothing to compare with"
            );
        }
        match &self.calls {
            Some(calls) => println!(
                "system calls counted by {}, in a run of their own",
                calls.name()
            ),
            None => println!("system calls not counted: neither perf nor strace may look"),
        }
    }

    /// Every scenario whose clients come in by this way, round after round.
    fn busy(&mut self, arguments: &Arguments, entry: Entry) -> Result<(), Problem> {
        let is_meant = |one: &&Scenario| one.entry == entry && one.title.contains(&arguments.only);
        let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(is_meant).collect();
        if scenarios.is_empty() {
            return Ok(());
        }
        let mut running = Vec::new();
        for index in 0..self.candidates.len() {
            let one = self.start(index, entry, 0, 0)?;
            load::warm_up(&self.binaries, one.port(), entry)?;
            running.push(one);
        }
        for scenario in scenarios {
            let table = self.measure(arguments, scenario, &running)?;
            table.print();
            self.verdicts.push(match scenario.target {
                Target::Ratio(most) => table.verdict_of_ratio(0, most * self.leeway()),
                Target::AtMost(most) => table.verdict_of_value(0, most * self.leeway()),
            });
        }
        for one in running {
            one.stop(&mut self.cluster)?;
        }
        Ok(())
    }

    /// Reads split off, in front of a primary with a replica.
    fn split(&mut self, arguments: &Arguments) -> Result<(), Problem> {
        let mut all = SCENARIOS.iter().filter(|one| one.entry == Entry::Split);
        if !all.any(|one| one.title.contains(&arguments.only)) {
            return Ok(());
        }
        self.cluster = start(&self.binaries, 1)?;
        self.busy(arguments, Entry::Split)?;
        // Else something else has been measured.
        let came =
            format!("SELECT xact_commit > 1000 FROM pg_stat_database WHERE datname = '{DATABASE}'");
        self.cluster.wait_for(1, &came)
    }

    fn measure(
        &self,
        arguments: &Arguments,
        scenario: &Scenario,
        running: &[Running],
    ) -> Result<Table, Problem> {
        let unit = scenario.job.unit();
        let figures = vec![
            Figure::new(format!("CPU us/{unit}"), 1),
            Figure::new(format!("switches/{unit}"), 3),
            Figure::new(format!("calls/{unit}"), 2),
            Figure::new(format!("{unit}/s"), if unit == "GB" { 2 } else { 0 }),
        ];
        let mut table = Table::new(scenario.title, &self.names(), figures);
        for round in 0..arguments.rounds {
            for index in self.order(round) {
                let turn = self.turn(index, &running[index], scenario, arguments.seconds)?;
                table.add(index, 0, turn.cpu_micros);
                table.add(index, 1, turn.switches);
                table.add(index, 3, turn.rate);
            }
        }
        for (index, one) in running.iter().enumerate() {
            if let Some(calls) = self.calls_per_unit(index, one, scenario)? {
                table.add(index, 2, calls);
            }
        }
        Ok(table)
    }

    /// What idle clients that have asked something once cost, each round with fresh poolers.
    fn idle(
        &mut self,
        arguments: &Arguments,
        title: &str,
        entry: Entry,
        limit: f64,
    ) -> Result<(), Problem> {
        let figures = vec![Figure::new("bytes/client".to_owned(), 0)];
        let mut table = Table::new(title, &self.names(), figures);
        for round in 0..arguments.rounds {
            for index in self.order(round) {
                let count = usize::from(arguments.clients);
                let running = self.start(index, entry, count, 0)?;
                let first = self.idle_clients(running.port(), entry, 1)?;
                sleep(REST);
                let before = process::resident_bytes(running.pid())?;
                let idle = self.idle_clients(running.port(), entry, count)?;
                sleep(REST);
                let after = process::resident_bytes(running.pid())?;
                table.add(index, 0, (after - before) / idle.len() as f64);
                drop((first, idle));
                running.stop(&mut self.cluster)?;
            }
        }
        table.print();
        self.verdicts.push(table.verdict_of_value(0, limit));
        Ok(())
    }

    /// Connects `count` clients, one after the other, of which each asks one thing.
    fn idle_clients(&self, port: u16, entry: Entry, count: usize) -> Result<Vec<Client>, Problem> {
        let tls = (entry == Entry::Tls).then(|| self.trusting());
        let connect = |_| {
            let mut client = Client::connect(port, DATABASE, tls.as_ref())?;
            client.ask("SELECT 1")?;
            Ok(client)
        };
        let clients: std::io::Result<Vec<Client>> = (0..count).map(connect).collect();
        clients.map_err(Problem::io("an idle client"))
    }

    fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.identity.der.clone().into())
            .expect("a certificate that we have made");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    fn start(
        &mut self,
        index: usize,
        entry: Entry,
        clients: usize,
        databases: usize,
    ) -> Result<Running, Problem> {
        let stage = Stage {
            entry,
            clients,
            databases,
            threads: self.threads,
            identity: &self.identity,
        };
        self.candidates[index].start(&mut self.cluster, stage)
    }

    /// Threads that share something may cost a little more.
    fn leeway(&self) -> f64 {
        if self.threads > 1 { 1.1 } else { 1.0 }
    }

    fn names(&self) -> Vec<&'static str> {
        self.candidates.iter().map(|one| one.name).collect()
    }

    /// Who comes first changes from round to round.
    fn order(&self, round: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order
    }

    fn run(
        &self,
        index: usize,
        running: &Running,
        scenario: &Scenario,
        seconds: u32,
    ) -> Result<load::Done, Problem> {
        let job = if self.candidates[index].can_prepare() {
            scenario.job
        } else {
            scenario.job.without_prepared()
        };
        job.run(&self.binaries, running.port(), scenario.entry, seconds)
    }

    fn turn(
        &self,
        index: usize,
        running: &Running,
        scenario: &Scenario,
        seconds: u32,
    ) -> Result<Turn, Problem> {
        let before = Usage::of(running.pid(), self.ticks)?;
        let done = self.run(index, running, scenario, seconds)?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        Ok(Turn {
            cpu_micros: used.cpu_micros / done.units,
            switches: used.switches / done.units,
            rate: done.rate,
        })
    }

    /// `None` when nobody may count.
    fn calls_per_unit(
        &self,
        index: usize,
        running: &Running,
        scenario: &Scenario,
    ) -> Result<Option<f64>, Problem> {
        let Some(calls) = &self.calls else {
            return Ok(None);
        };
        let counting = calls.begin(running.pid())?;
        let done = self.run(index, running, scenario, 1)?;
        let count = counting.end()?;
        Ok(count.map(|count| count / done.units))
    }
}

/// One run through one pooler.
struct Turn {
    cpu_micros: f64,
    switches: f64,
    rate: f64,
}
