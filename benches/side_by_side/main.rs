//! The pooler and PgBouncer, side by side, in front of the same PostgreSQL.
//!
//! `cargo bench --bench side_by_side` starts a PostgreSQL of its own, the pooler with one thread and, where there is one,
//! PgBouncer with the same pool, and takes everything away again. Figures of a machine that does other things drift by a third
//! between two runs, so both take turns (A B, B A, …) and the ratio is taken within each round: trust the ratios, and compare
//! no absolute figure with one of another run.
//!
//! CPU is what the kernel charges to the pooler's process. Most of it is the kernel's own work on sockets, which no pooler can
//! save. PgBouncer is looked for in `PGBOUNCER`, on the PATH and in `/usr/sbin`; without it there are no ratios.

#![expect(unreachable_pub, reason = "nobody imports a benchmark")]

mod candidate;
mod load;
mod process;
mod table;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;
use pooler::cli::cluster::{Cluster, Options};
use pooler::cli::postgres::{Binaries, run};
use pooler::cli::problem::Problem;

use candidate::{Candidate, DATABASE, POOL_SIZE, Running};
use load::{CLIENTS, IdleClients, SCENARIOS, Scenario, pgbench};
use process::{SystemCalls, Ticks, Usage};
use table::{Figure, Table};

/// Accounts for pgbench, in hundred thousands; not fewer than clients, lest they wait for one another's branch.
const SCALE: &str = "16";
/// How long the kernel and the poolers get to come to rest before memory is looked at.
const REST: Duration = Duration::from_millis(300);

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
    /// What cargo says to a benchmark that is to run in earnest
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("to be run by: cargo bench --bench side_by_side");
        return ExitCode::SUCCESS;
    }
    match compare(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("side_by_side: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Problem> {
    process::raise_file_limit(usize::from(arguments.clients) + 500)?;
    let binaries = Binaries::find(false)?;
    let mut bench = Bench {
        candidates: Candidate::all(&binaries),
        cluster: start(&binaries)?,
        calls: SystemCalls::find(),
        ticks: Ticks::ask()?,
        binaries,
    };
    bench.say_what_runs(arguments);
    bench.busy(arguments)?;
    if arguments.clients > 0 {
        bench.idle(arguments)?;
    }
    Ok(())
}

/// A PostgreSQL with pgbench's tables.
fn start(binaries: &Binaries) -> Result<Cluster, Problem> {
    let settings = [
        ("shared_buffers", "256MB"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("autovacuum", "off"),
        ("max_wal_size", "4GB"),
    ];
    let options = Options {
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Options::default()
    };
    let cluster = Cluster::start(binaries, &options)?;
    cluster.query(0, "postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    run(pgbench(binaries, cluster.port(0)).args(["-i", "-q", "-s", SCALE]))?;
    Ok(cluster)
}

struct Bench {
    candidates: Vec<Candidate>,
    cluster: Cluster,
    calls: Option<SystemCalls>,
    ticks: Ticks,
    binaries: Binaries,
}

impl Bench {
    fn say_what_runs(&self, arguments: &Arguments) {
        let names: Vec<&str> = self
            .candidates
            .iter()
            .map(|one| one.title.as_str())
            .collect();
        println!(
            "{} before PostgreSQL {}: {} x {} s, {CLIENTS} clients, pools of {POOL_SIZE}",
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

    /// Every scenario, round after round.
    fn busy(&mut self, arguments: &Arguments) -> Result<(), Problem> {
        let mut running = Vec::new();
        for candidate in &self.candidates {
            let running_one = candidate.start(&mut self.cluster, 0)?;
            load::warm_up(&self.binaries, running_one.port())?;
            running.push(running_one);
        }
        for scenario in &SCENARIOS {
            let mut table = Table::new(
                scenario.title,
                &self.names(),
                vec![
                    Figure::new("CPU us/tx", 1),
                    Figure::new("switches/tx", 3),
                    Figure::new("calls/tx", 2),
                    Figure::new("tx/s", 0),
                ],
            );
            for round in 0..arguments.rounds {
                for index in self.order(round) {
                    if !self.candidates[index].can(scenario) {
                        continue;
                    }
                    let turn = self.turn(&running[index], scenario, arguments.seconds)?;
                    table.add(index, 0, turn.cpu_micros);
                    table.add(index, 1, turn.switches);
                    table.add(index, 3, turn.rate);
                }
            }
            for (index, one) in running.iter().enumerate() {
                if self.candidates[index].can(scenario)
                    && let Some(calls) = self.calls_per_transaction(one, scenario)?
                {
                    table.add(index, 2, calls);
                }
            }
            table.print();
        }
        for one in running {
            one.stop(&mut self.cluster)?;
        }
        Ok(())
    }

    /// What idle clients that have asked something once cost, each round with fresh poolers.
    fn idle(&mut self, arguments: &Arguments) -> Result<(), Problem> {
        let title = format!("{} idle clients", arguments.clients);
        let figures = vec![Figure::new("bytes/client", 0)];
        let mut table = Table::new(&title, &self.names(), figures);
        for round in 0..arguments.rounds {
            for index in self.order(round) {
                let limit = usize::from(arguments.clients);
                let running = self.candidates[index].start(&mut self.cluster, limit)?;
                let first = IdleClients::connect(running.port(), 1)?;
                sleep(REST);
                let before = process::resident_bytes(running.pid())?;
                let idle = IdleClients::connect(running.port(), limit)?;
                sleep(REST);
                let after = process::resident_bytes(running.pid())?;
                table.add(index, 0, (after - before) / idle.len() as f64);
                drop((first, idle));
                running.stop(&mut self.cluster)?;
            }
        }
        table.print();
        Ok(())
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

    fn turn(&self, running: &Running, scenario: &Scenario, seconds: u32) -> Result<Turn, Problem> {
        let before = Usage::of(running.pid(), self.ticks)?;
        let done = scenario.run(&self.binaries, running.port(), seconds)?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        Ok(Turn {
            cpu_micros: used.cpu_micros / done.transactions,
            switches: used.switches / done.transactions,
            rate: done.rate,
        })
    }

    /// `None` when nobody may count.
    fn calls_per_transaction(
        &self,
        running: &Running,
        scenario: &Scenario,
    ) -> Result<Option<f64>, Problem> {
        let Some(calls) = &self.calls else {
            return Ok(None);
        };
        let counting = calls.begin(running.pid())?;
        let done = scenario.run(&self.binaries, running.port(), 1)?;
        let count = counting.end()?;
        Ok(count.map(|count| count / done.transactions))
    }
}

/// One run of pgbench through one pooler.
struct Turn {
    cpu_micros: f64,
    switches: f64,
    rate: f64,
}
