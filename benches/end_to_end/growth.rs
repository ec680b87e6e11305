//! How CPU and memory grow: with clients, with pools, with statements, with messages.

use std::thread::sleep;

use pooler::cli::problem::Problem;

use crate::candidate::{DATABASE, Entry, Running};
use crate::client::Client;
use crate::load::Job;
use crate::process::{self, Usage};
use crate::{Bench, REST};

/// The most clients that are connected at once.
pub const MOST_CLIENTS: usize = 10_000;
const CLIENTS: [usize; 4] = [10, 100, 1_000, MOST_CLIENTS];
const POOLS: [usize; 4] = [1, 10, 100, 1_000];
const STATEMENTS: [usize; 4] = [1, 1_000, 100_000, 1_000_000];
/// How many statements are prepared in one batch.
const BATCH: usize = 100;
const MESSAGES: [usize; 6] = [
    100,
    10_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];
/// How many bytes a run of messages of one size has at least.
const VOLUME: usize = 200_000_000;
/// The most messages of one size.
const MOST_MESSAGES: usize = 20_000;
const MEGABYTE: f64 = 1e6;
const SECONDS: u32 = 3;
const JOB: Job = Job::Transactions {
    script: "select-only",
    protocol: "simple",
    clients: 16,
};

impl Bench {
    /// All growth tables whose title has `only` in it.
    pub fn growth(&mut self, only: &str) -> Result<(), Problem> {
        type Grow = fn(&mut Bench, usize, usize) -> Result<String, Problem>;
        let tables: [(&str, &[usize], Grow); 4] = [
            (
                "idle clients beside 16 busy ones",
                &CLIENTS,
                Self::grow_clients,
            ),
            (
                "pools, one client each, beside 16 busy clients",
                &POOLS,
                Self::grow_pools,
            ),
            (
                "distinct statements, prepared by name and closed",
                &STATEMENTS,
                Self::grow_statements,
            ),
            ("bytes of one row", &MESSAGES, Self::grow_messages),
        ];
        for (title, sizes, grow) in tables {
            if !title.contains(only) {
                continue;
            }
            println!("\n{title}");
            for &size in sizes {
                for index in 0..self.candidates.len() {
                    let name = self.candidates[index].name;
                    let figures = grow(self, index, size)?;
                    println!("  {size:<12}{name:<12}{figures}");
                }
            }
        }
        Ok(())
    }

    fn grow_clients(&mut self, index: usize, count: usize) -> Result<String, Problem> {
        let running = self.start(index, Entry::Trust, count, 0)?;
        let before = process::resident_bytes(running.pid())?;
        let idle = self.idle_clients(running.port(), Entry::Trust, count)?;
        let cpu = self.busy_beside(&running)?;
        let after = process::resident_bytes(running.pid())?;
        drop(idle);
        running.stop(&mut self.cluster)?;
        let each = (after - before) / count as f64;
        Ok(format!(
            "{cpu:.1} us/tx, {:.1} MB, {each:.0} bytes each",
            after / MEGABYTE
        ))
    }

    fn grow_pools(&mut self, index: usize, count: usize) -> Result<String, Problem> {
        let running = self.start(index, Entry::Trust, count, count)?;
        let before = process::resident_bytes(running.pid())?;
        let mut idle = Vec::new();
        for number in 1..=count {
            let connected = Client::connect(running.port(), &format!("{DATABASE}{number}"), None);
            let mut client = connected.map_err(Problem::io("a client of one pool"))?;
            let asked = client.ask("SELECT 1");
            asked.map_err(Problem::io("a client of one pool"))?;
            idle.push(client);
        }
        let cpu = self.busy_beside(&running)?;
        let after = process::resident_bytes(running.pid())?;
        drop(idle);
        running.stop(&mut self.cluster)?;
        let each = (after - before) / count as f64;
        Ok(format!(
            "{cpu:.1} us/tx, {:.1} MB, {each:.0} bytes each",
            after / MEGABYTE
        ))
    }

    fn grow_statements(&mut self, index: usize, count: usize) -> Result<String, Problem> {
        if !self.candidates[index].can_prepare() {
            return Ok("does not follow them".to_owned());
        }
        let running = self.start(index, Entry::Trust, 1, 0)?;
        let problem = Problem::io("preparing statements");
        let prepare = || {
            let mut client = Client::connect(running.port(), DATABASE, None)?;
            for first in (0..count).step_by(BATCH) {
                let numbers = first..count.min(first + BATCH);
                let texts = numbers.map(|number| format!("SELECT $1::int + {number} AS sum"));
                client.prepare_and_close(texts)?;
            }
            Ok(())
        };
        let before = Usage::of(running.pid(), self.ticks)?;
        prepare().map_err(problem)?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        sleep(REST);
        let memory = process::resident_bytes(running.pid())?;
        running.stop(&mut self.cluster)?;
        let each = used.cpu_micros / count as f64;
        Ok(format!("{each:.1} us each, {:.1} MB", memory / MEGABYTE))
    }

    fn grow_messages(&mut self, index: usize, size: usize) -> Result<String, Problem> {
        let running = self.start(index, Entry::Trust, 1, 0)?;
        let count = (VOLUME / size).clamp(1, MOST_MESSAGES);
        let ask = || {
            let mut client = Client::connect(running.port(), DATABASE, None)?;
            // The longest text that PostgreSQL makes is a little shorter than its longest message.
            let sql = format!("SELECT repeat('x', {})", size.min((1 << 30) - 100));
            (0..count).try_for_each(|_| client.ask(&sql))
        };
        let before = Usage::of(running.pid(), self.ticks)?;
        ask().map_err(Problem::io("a large message"))?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        let most = process::most_resident_bytes(running.pid())?;
        running.stop(&mut self.cluster)?;
        let each = used.cpu_micros / count as f64;
        let volume = used.cpu_micros / 1e6 / (count as f64 * size as f64 / 1e9);
        Ok(format!(
            "{each:.1} us each, {volume:.2} s/GB, {:.1} MB at most",
            most / MEGABYTE
        ))
    }

    /// What a transaction of 16 busy clients costs, in microseconds of CPU.
    fn busy_beside(&self, running: &Running) -> Result<f64, Problem> {
        let port = running.port();
        JOB.run(&self.binaries, port, Entry::Trust, 1)?;
        let before = Usage::of(running.pid(), self.ticks)?;
        let done = JOB.run(&self.binaries, port, Entry::Trust, SECONDS)?;
        let used = Usage::of(running.pid(), self.ticks)?.since(before);
        Ok(used.cpu_micros / done.units)
    }
}
