//! How 256 clients fare that want 20 servers, with one thread and with more: who waits longest, and how many servers there are.

use std::fs;
use std::path::Path;

use pooler::cli::postgres::run;
use pooler::cli::problem::Problem;

use crate::candidate::{DATABASE, Entry, POOL_SIZE};
use crate::load::{self, pgbench};
use crate::process::Usage;
use crate::{Arguments, Bench};

const CLIENTS: &str = "256";

impl Bench {
    /// Prints a line for each candidate, round and number of threads.
    pub fn crowd(&mut self, arguments: &Arguments) -> Result<(), Problem> {
        println!("\n{CLIENTS} clients that want {POOL_SIZE} servers, select-only");
        let most = self.threads.max(2);
        for round in 1..=arguments.rounds {
            for index in 0..self.candidates.len() {
                let is_ours = index + 1 == self.candidates.len();
                for threads in if is_ours { vec![1, most] } else { vec![1] } {
                    self.threads = threads;
                    let name = self.candidates[index].name;
                    let figures = self.press(index, arguments.seconds)?;
                    println!("  round {round}  {name:<12}threads {threads}  {figures}");
                }
            }
        }
        Ok(())
    }

    fn press(&mut self, index: usize, seconds: u32) -> Result<String, Problem> {
        let running = self.start(index, Entry::Trust, 0, 0)?;
        load::warm_up(&self.binaries, running.port(), Entry::Trust)?;
        let logs = self.cluster.folder().join("waits");
        let before = Usage::of(running.pid(), self.ticks)?;
        let mut command = pgbench(&self.binaries, running.port(), Entry::Trust);
        command.args(["-n", "-S", "-j", "2", "-c", CLIENTS, "-l"]);
        command.args(["-T", &seconds.to_string(), "--log-prefix"]);
        run(command.arg(&logs))?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        let servers = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}'
             AND backend_type = 'client backend'"
        );
        let servers = self.cluster.query(0, "postgres", &servers)?;
        let mut took = read_logs(&logs)?;
        took.sort_by(f64::total_cmp);
        let count = took.len() as f64;
        let slow = took.get(took.len() * 999 / 1_000).copied().unwrap_or(0.0);
        let slowest = took.last().copied().unwrap_or(0.0);
        running.stop(&mut self.cluster)?;
        Ok(format!(
            "{:>8.0} tx/s  {:>5.1} us/tx  99.9 % within {:>5.1} ms, all within {:>6.1} ms  {} servers",
            count / f64::from(seconds),
            used.cpu_micros / count,
            slow / 1e3,
            slowest / 1e3,
            servers.first().unwrap_or("?"),
        ))
    }
}

/// How long each transaction took that pgbench has noted in files that begin with `prefix`, in microseconds. The files are removed.
fn read_logs(prefix: &Path) -> Result<Vec<f64>, Problem> {
    let mut all = Vec::new();
    let mut read = || -> std::io::Result<()> {
        let folder = prefix.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("waits.") {
                continue;
            }
            for line in fs::read_to_string(&path)?.lines() {
                all.extend(
                    line.split(' ')
                        .nth(2)
                        .and_then(|took| took.parse::<f64>().ok()),
                );
            }
            fs::remove_file(&path)?;
        }
        Ok(())
    };
    read().map_err(Problem::io("the log of pgbench"))?;
    Ok(all)
}
