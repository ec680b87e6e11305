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
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::sleep;

use crate::cli::driver::{Load, Plan};
use crate::cli::failover::Scene;
use crate::cli::live::Show;
use crate::cli::problem::Problem;
use crate::cli::stage::{DEMO, Stage, Wishes, set_up};
use crate::cli::tally::Tally;
use crate::cli::view::{print, summary};
use crate::clock;

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
    /// Kill the primary under the load, promote a replica, bring the old primary back; say what clients saw of it. Then end
    #[arg(long, conflicts_with = "lag")]
    pub failover: bool,
}

/// Runs the demo to its end. Success means that there were transactions and no errors; with a failover, none but those of the requests
/// that it met, and no write that was lost.
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
    let wishes = Wishes {
        fetch: args.fetch,
        clients,
        failover: args.failover,
    };
    // Not to be cut off in the middle: what it started must be taken away again.
    let mut setting_up = tokio::task::spawn_blocking(move || set_up(wishes));
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
    let tally = Arc::new(Tally::default());
    let plan = Plan {
        port: stage.port(),
        user: DEMO.to_owned(),
        clients,
        rate: RATE,
        database: DEMO.to_owned(),
    };
    let (teller, lines) = unbounded_channel();
    let scene = Scene {
        cluster: stage.cluster(),
        nodes: stage.nodes().to_vec(),
        port: stage.port(),
        clients,
        tally: Arc::clone(&tally),
        teller,
    };
    let start = clock::now();
    let load = Load::start(&plan, &tally);
    let mut show = Show::new(stage, args, clients, start, lines);
    let mut story = None;
    let ending = async {
        if args.failover {
            story = Some(scene.perform().await);
        }
        match args.time {
            Some(time) => sleep(time.saturating_sub(clock::now().since(start))).await,
            None if story.is_some() => {}
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = interrupt.heard() => Ok(()),
        () = ending => Ok(()),
        outcome = show.run(stage, &tally) => outcome,
    };
    show.last_lines();
    let elapsed = clock::now().since(start);
    load.finish().await;
    let counts = tally.look();
    print(&format!("\n{}", summary(&counts, elapsed)));
    outcome?;
    if !show.is_console_seen() {
        print("The console did not answer SHOW POOLS.\n");
    }
    let is_well = if args.failover {
        let told = story.transpose()?;
        scene.verdict(told, &counts).await?
    } else {
        counts.errors == 0
    };
    Ok(if is_well && counts.total.count() > 0 {
        Outcome::Well
    } else {
        Outcome::Badly
    })
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
