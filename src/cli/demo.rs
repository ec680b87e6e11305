//! `pooler demo`: a primary, two replicas, this very program in front of them, and a thousand clients.
//!
//! It needs nothing that is not there or cannot be fetched, shows what happens, and takes everything away again: after
//! Ctrl-C, after `--for`, after an error, and (by the [`guardian`](super::guardian)) after SIGKILL.
//!
//! The pooler runs as a process of its own, as it would in earnest, so what is measured includes it and what it logs can be read.

use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::cli::ask::ask;
use crate::cli::cluster::{Cluster, SUPERUSER};
use crate::cli::driver::{Client, Load, Plan};
use crate::cli::packets::Answer;
use crate::cli::problem::Problem;
use crate::cli::stage::{DEMO, Stage, set_up};
use crate::cli::tally::Tally;
use crate::cli::view::{Moments, Row, Screen, print, split, summary};
use crate::clock::{self, Moment};

/// Transactions a second of all clients together.
const RATE: usize = 2_000;
/// Open files beside one for each client: the pooler's servers, listeners, logs.
const MORE_FILES: usize = 200;
/// Set when the demo has started itself again under a higher limit.
const RAISED: &str = "POOLER_DEMO_RAISED";

/// The arguments of `pooler demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Stop after this time, such as 30s, 5m or 1h; without it, at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    pub time: Option<Duration>,
    /// How many clients
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
    /// Fetch PostgreSQL with pip, even if it is installed
    #[arg(long)]
    pub fetch: bool,
    /// Stop the replay of the second replica for ten seconds, again and again: its reads leave, and come back
    #[arg(long)]
    pub lag: bool,
}

/// Runs the demo to its end. Success means that there were transactions and no errors.
pub fn run(args: &DemoArgs) -> ExitCode {
    let outcome = raise_limit(args.clients.into()).and_then(|clients| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Problem::io("starting the runtime"))?;
        runtime.block_on(perform(args, clients))
    });
    match outcome {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::Badly) => ExitCode::FAILURE,
        Err(problem) => {
            // Not `eprintln!`, which panics when nobody reads.
            let _ = writeln!(std::io::stderr(), "pooler demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Well,
    Badly,
}

async fn perform(args: &DemoArgs, clients: usize) -> Result<Outcome, Problem> {
    let mut interrupt = Interrupt::new()?;
    let fetch = args.fetch;
    // Not to be cut off in the middle: what it started must be taken away again.
    let mut setting_up = tokio::task::spawn_blocking(move || set_up(fetch, clients));
    let (stage, is_interrupted) = tokio::select! {
        stage = &mut setting_up => (stage, false),
        () = interrupt.heard() => {
            print("\nStopping …\n");
            (setting_up.await, true)
        }
    };
    let stage = stage.map_err(|_| Problem::Protocol {
        what: "setting up panicked",
    })?;
    if is_interrupted {
        return Ok(Outcome::Badly);
    }
    let mut stage = stage?;
    let outcome = show(&mut stage, args, clients, &mut interrupt).await;
    let log = stage.log_tail();
    print("Stopping the pooler and PostgreSQL, removing the folder … ");
    drop(stage);
    print("done.\n");
    if matches!(outcome, Ok(Outcome::Badly)) {
        print(&format!("The end of the pooler's log was:\n{log}"));
    }
    outcome
}

/// The load and the live view, until told to stop.
async fn show(
    stage: &mut Stage,
    args: &DemoArgs,
    clients: usize,
    interrupt: &mut Interrupt,
) -> Result<Outcome, Problem> {
    let (time, tally) = (args.time, Arc::new(Tally::default()));
    let plan = Plan {
        port: stage.port(),
        user: DEMO.to_owned(),
        clients,
        rate: RATE,
        database: DEMO.to_owned(),
    };
    let start = clock::now();
    let load = Load::start(&plan, &tally);
    let mut show = Show {
        start,
        last: start,
        time,
        clients,
        screen: Screen::stdout(),
        console: None,
        rows: rows(stage.cluster()),
        split: (0, 0),
        is_lagging: args.lag.then_some(false),
        is_console_seen: false,
    };
    let end = async {
        match time {
            Some(time) => sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = interrupt.heard() => Ok(()),
        () = end => Ok(()),
        outcome = show.run(stage, &tally) => outcome,
    };
    let elapsed = clock::now().since(start);
    load.finish().await;
    let counts = tally.look();
    print(&format!("\n{}", summary(&counts, elapsed)));
    outcome?;
    if !show.is_console_seen {
        print("The console did not answer SHOW POOLS.\n");
    }
    let is_well = counts.total.count() > 0 && counts.errors == 0;
    Ok(if is_well {
        Outcome::Well
    } else {
        Outcome::Badly
    })
}

fn rows(cluster: &Cluster) -> Vec<Row> {
    (0..cluster.len())
        .map(|node| Row {
            database: if node == 0 { DEMO } else { "" }.to_owned(),
            role: if node == 0 { "primary" } else { "replica" },
            port: cluster.port(node),
            ..Row::default()
        })
        .collect()
}

/// What is kept from one second to the next.
struct Show {
    start: Moment,
    last: Moment,
    time: Option<Duration>,
    clients: usize,
    screen: Screen,
    console: Option<Client>,
    rows: Vec<Row>,
    split: (u64, u64),
    /// Whether the second replica stands still, where it is to now and then.
    is_lagging: Option<bool>,
    is_console_seen: bool,
}

impl Show {
    /// Draws once a second. Ends only when the pooler does.
    async fn run(&mut self, stage: &mut Stage, tally: &Tally) -> Result<(), Problem> {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.tick().await; // the first comes at once
        loop {
            seconds.tick().await;
            stage.check()?;
            let complaint = self.look_at_pools(stage.port()).await.err();
            self.look_at_lag(stage.cluster()).await;
            self.let_lag(stage.cluster()).await;
            let now = clock::now();
            self.screen.draw(&Moments {
                elapsed: now.since(self.start),
                end: self.time,
                wanted: self.clients,
                counts: tally.look(),
                window: now.since(self.last),
                rows: self.rows.clone(),
                split: self.split,
                console: complaint.map(|problem| format!("console: {problem}")),
            });
            self.last = now;
        }
    }

    async fn look_at_pools(&mut self, port: u16) -> Result<(), Problem> {
        const LATE: Problem = Problem::Protocol {
            what: "nothing for a second",
        };
        let console = self.console.take(); // it comes back only if it answers
        let pools = timeout(Duration::from_secs(1), pools(console, port));
        let (console, [pools, servers, routing]) = pools.await.map_err(|_| LATE)??;
        self.console = Some(console);
        for row in &mut self.rows {
            row.read(&pools, &servers);
        }
        self.split = split(&routing);
        self.is_console_seen = true;
        Ok(())
    }

    /// Stops the replay of the last replica and lets it go on, ten seconds each.
    async fn let_lag(&mut self, cluster: &Cluster) {
        let Some(is_lagging) = &mut self.is_lagging else {
            return;
        };
        let is_time = clock::now().since(self.start).as_secs() % 20 >= 10;
        if *is_lagging == is_time {
            return;
        }
        *is_lagging = is_time;
        let sql = if is_time {
            "SELECT pg_wal_replay_pause()"
        } else {
            "SELECT pg_wal_replay_resume()"
        };
        let socket = cluster.socket(cluster.len() - 1);
        let asking = tokio::task::spawn_blocking(move || ask(&socket, SUPERUSER, "postgres", sql));
        let _ = asking.await; // it is tried again after ten seconds
    }

    /// How far the replicas are behind, from the primary itself. Not knowing it is no error.
    async fn look_at_lag(&mut self, cluster: &Cluster) {
        const LAG: &str = "SELECT application_name, \
             greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint FROM pg_stat_replication";
        let socket = cluster.socket(0);
        let asking = tokio::task::spawn_blocking(move || ask(&socket, SUPERUSER, "postgres", LAG));
        let answer = asking.await.ok().and_then(Result::ok).unwrap_or_default();
        for (node, row) in self.rows.iter_mut().enumerate().skip(1) {
            let name = format!("node{node}");
            row.lag_bytes = answer
                .rows
                .iter()
                .find(|values| values.first().and_then(Option::as_deref) == Some(&name))
                .and_then(|values| values.get(1)?.as_deref()?.parse().ok());
        }
    }
}

async fn pools(console: Option<Client>, port: u16) -> Result<(Client, [Answer; 3]), Problem> {
    let mut console = match console {
        Some(console) => console,
        None => Client::connect(port, DEMO, "pgbouncer").await?,
    };
    let pools = console.ask("SHOW POOLS").await?;
    let servers = console.ask("SHOW SERVERS").await?;
    let routing = console.ask("SHOW ROUTING").await?;
    Ok((console, [pools, servers, routing]))
}

/// The signals that mean "stop".
struct Interrupt([Signal; 3]);

impl Interrupt {
    /// From now on these signals no longer end us by themselves.
    fn new() -> Result<Self, Problem> {
        let listen = |kind| signal(kind).map_err(Problem::io("listening for signals"));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn heard(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Sees that enough files may be open; returns how many clients there can be.
///
/// Only a process's own system call can raise its limit, and std has none; a shell has `ulimit`. So the demo replaces itself by
/// a shell that raises the limit and becomes the demo again: same process id, same terminal, and nothing was started yet. The
/// pooler inherits the limit.
fn raise_limit(clients: usize) -> Result<usize, Problem> {
    const SCRIPT: &str =
        r#"ulimit -S -n "$0" 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"; exec "$@""#;
    let needed = clients + MORE_FILES;
    let output = Command::new("sh")
        .args(["-c", "ulimit -n"])
        .output()
        .map_err(Problem::io("starting sh"))?;
    let allowed = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or(usize::MAX); // "unlimited"
    if allowed >= needed {
        return Ok(clients);
    }
    if env::var_os(RAISED).is_none() {
        let program = env::current_exe().map_err(Problem::io("finding this program"))?;
        let failed = Command::new("sh")
            .args(["-c", SCRIPT, &needed.to_string()])
            .arg(program)
            .args(env::args_os().skip(1))
            .env(RAISED, "1")
            .exec();
        return Err(Problem::io("starting sh")(failed));
    }
    let fitting = allowed.saturating_sub(MORE_FILES).max(1);
    print(&format!(
        "Only {allowed} files may be open here, so there are {fitting} clients.\n"
    ));
    Ok(fitting)
}

/// Reads `30s`, `5m`, `1h`, `500ms` or a number of seconds.
fn span(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let millis = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    millis
        .and_then(|millis| number.parse::<u64>().ok()?.checked_mul(millis))
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time looks like 30s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::{DemoArgs, span};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(span("30"), Ok(Duration::from_secs(30)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "s", "-1s", "1d", "0s", "99999999999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_thousand_clients_come_unless_told_otherwise() {
        let line = Line::try_parse_from(["demo"]).unwrap();
        assert_eq!((line.demo.clients, line.demo.time), (1_000, None));
        let line = Line::try_parse_from(["demo", "--for", "5s", "--clients", "10", "--fetch"]);
        assert!(line.is_ok_and(|line| line.demo.fetch && line.demo.clients == 10));
        assert!(Line::try_parse_from(["demo", "--clients", "0"]).is_err());
    }
}
