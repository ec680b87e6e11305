//! `pooler drill`: a switchover of a cluster of one's own, and what an application saw of it.
//!
//! It talks to the pooler that runs, as an application and an operator do: writes into a table that it makes for itself, has the pooler
//! ask Patroni for a switchover, compares what it was told with what is there, and takes the table away again. It never does anything
//! that was not confirmed.

pub mod door;
pub mod ledger;
pub mod plan;
pub mod writer;

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::auth::users::Users;
use crate::cli::drill::door::{Door, Named, told};
use crate::cli::drill::ledger::{Ledger, Verdict, judge};
use crate::cli::drill::plan::Plan;
use crate::cli::drill::writer::{PACE, Style, Writer};
use crate::cli::view::print;
use crate::clock;
use crate::config::settings::Settings;
use crate::servers::query::Row;
use crate::servers::server::Server;

/// How long it writes before the switchover, and after.
const CALM: Duration = Duration::from_secs(2);

/// How long it waits for a cluster that is not well.
const BLINK: Duration = Duration::from_secs(3);

/// The arguments of `pooler drill`.
#[derive(Debug, Clone, clap::Args)]
pub struct DrillArgs {
    /// The configuration of the pooler that runs
    pub file: PathBuf,
    /// The cluster that is to switch over
    #[arg(long, value_name = "NAME")]
    pub cluster: String,
    /// The node or member that is to be the next primary; without it Patroni chooses
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// The database to write in; without it, the first of the cluster
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Who writes, and may make a table; without it, the only one in [users]. A password that is in no list is taken from PGPASSWORD
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Who uses the console; without it, the first of admin_users
    #[arg(long, value_name = "NAME")]
    pub admin: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Runs the drill. Success means that the cluster has switched over, and no write was lost, doubled or called failed though it is there.
pub fn run(args: &DrillArgs, settings: &Settings, users: &Users) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(perform(args, settings, users)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(io::stderr(), "pooler drill: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(args: &DrillArgs, settings: &Settings, users: &Users) -> Result<bool, String> {
    let plan = plan::plan(args, settings)?;
    let door = Arc::new(Door::new(settings, users)?);
    let mut console = door
        .enter(&plan.admin, "pgbouncer")
        .await
        .map_err(|error| {
            format!(
                "the console of the pooler at {} does not let {} in: {}",
                door.shown(),
                plan.admin,
                told(&error)
            )
        })?;
    let primary = primary(&plan, &door, &mut console).await?;
    print(&plan.announcement(&door.shown(), &primary));
    if !args.yes {
        confirmed(&plan.cluster)?;
    }
    let mut keeper = door
        .enter(&plan.user, &plan.database)
        .await
        .map_err(|error| {
            format!(
                "{} cannot log in to {}: {}",
                plan.user,
                plan.database,
                told(&error)
            )
        })?;
    let make = format!("CREATE TABLE {} (id bigint NOT NULL)", plan.table);
    ask(&door, &mut keeper, &make).await?;
    let outcome = tokio::select! {
        outcome = exercise(&plan, &door, &mut console) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    let judged = match outcome {
        Ok(ledgers) => there(&plan, &door)
            .await
            .map(|there| judge(&ledgers, &there)),
        Err(why) => Err(why),
    };
    tidy_up(&plan, &door).await;
    let verdict = judged?;
    let outages = look(&door, &mut console, "SHOW FAILOVERS").await?;
    print(&report(&verdict));
    print(&plan::seen_by_pooler(&plan, &outages));
    Ok(verdict.lost + verdict.doubled + verdict.untrue == 0)
}

/// The primary of a cluster that is well; a pooler that has just begun, or has just seen a blink, is given a moment.
async fn primary(plan: &Plan, door: &Door, console: &mut Server) -> Result<String, String> {
    let start = clock::now();
    loop {
        let clusters = look(door, console, "SHOW CLUSTERS").await?;
        let nodes = look(door, console, "SHOW NODES").await?;
        let found = plan::check_fit(plan, &clusters, &nodes);
        if found.is_ok() || clock::now().since(start) > BLINK {
            return found;
        }
        sleep(BLINK / 10).await;
    }
}

async fn ask(door: &Door, server: &mut Server, sql: &str) -> Result<Vec<Row>, String> {
    let answer = door.ask(server, sql).await;
    answer.map_err(|error| told(&error))
}

async fn look(door: &Door, console: &mut Server, sql: &str) -> Result<Vec<Named>, String> {
    let answer = door.look(console, sql).await;
    answer.map_err(|error| told(&error))
}

/// Writers write, and the cluster switches over.
async fn exercise(
    plan: &Plan,
    door: &Arc<Door>,
    console: &mut Server,
) -> Result<Vec<Ledger>, String> {
    let (stop, stopped) = watch::channel(false);
    let writer = |number, style| Writer {
        door: Arc::clone(door),
        user: plan.user.clone(),
        database: plan.database.clone(),
        table: plan.table.clone(),
        number,
        style,
    };
    let writers = [
        writer(1, Style::Statements),
        writer(2, Style::Transactions),
        writer(3, Style::Statements),
        writer(4, Style::Transactions),
    ];
    let tasks = writers.map(|writer| tokio::spawn(writer.write(stopped.clone())));
    sleep(CALM).await;
    print("  Asking Patroni for the switchover … ");
    let start = clock::now();
    let outcome = ask(door, console, &plan.command()).await;
    let took = clock::now().since(start).as_secs_f64();
    let word = if outcome.is_ok() {
        "done"
    } else {
        "no success"
    };
    print(&format!("{word} after {took:.1} s\n"));
    if outcome.is_ok() {
        sleep(CALM).await;
    }
    let _ = stop.send(true); // fails only when no writer is left
    let mut ledgers = Vec::new();
    for task in tasks {
        let ledger = task.await;
        ledgers.push(ledger.map_err(|_| "a writer panicked".to_owned())?);
    }
    outcome.map(|_| ledgers)
}

/// How often each write is there.
async fn there(plan: &Plan, door: &Door) -> Result<BTreeMap<u64, u64>, String> {
    let mut server = door
        .enter(&plan.user, &plan.database)
        .await
        .map_err(|error| told(&error))?;
    let sql = format!(
        "/* pooler: primary */ SELECT id, count(*) FROM {} GROUP BY id",
        plan.table
    );
    let rows = ask(door, &mut server, &sql).await?;
    let pair = |row: &Row| {
        let number = |at: usize| row.get(at)?.as_deref()?.parse().ok();
        Some((number(0)?, number(1)?))
    };
    Ok(rows.iter().filter_map(pair).collect())
}

/// Takes the table away, or says that it is still there.
async fn tidy_up(plan: &Plan, door: &Door) {
    let dropped = async {
        let mut server = door.enter(&plan.user, &plan.database).await?;
        let sql = format!("DROP TABLE IF EXISTS {}", plan.table);
        door.ask(&mut server, &sql).await
    };
    let text = match dropped.await {
        Ok(_) => format!("  The table {} is gone.\n", plan.table),
        Err(error) => format!(
            "  The table {} could not be dropped, drop it yourself: {}\n",
            plan.table,
            told(&error)
        ),
    };
    print(&text);
}

/// Has a person say the cluster's name.
fn confirmed(cluster: &str) -> Result<(), String> {
    if !io::stdin().is_terminal() {
        return Err("nobody is there to confirm it: say --yes".to_owned());
    }
    print(&format!(
        "Type the name of the cluster ({cluster}) to begin: "
    ));
    let mut line = String::new();
    let _ = io::stdin().lock().read_line(&mut line); // nothing read is nothing said
    if line.trim() == cluster {
        Ok(())
    } else {
        Err("nothing was done".to_owned())
    }
}

/// What the writers saw.
fn report(verdict: &Verdict) -> String {
    let millis = |span: Duration| format!("{:.0} ms", span.as_secs_f64() * 1e3);
    let mut text = format!(
        "\n  outage     {} between two writes of a writer at most; {} usually, with {} of rest\n",
        millis(verdict.longest),
        millis(verdict.usual),
        millis(PACE),
    );
    if verdict.codes.is_empty() {
        text += "  errors     none\n";
    }
    for (code, count) in &verdict.codes {
        let code = if code.is_empty() {
            "connection lost"
        } else {
            code
        };
        text += &format!("  errors     {code} x {count}\n");
    }
    text += &format!(
        "  writes     {} acknowledged, {} unknown, {} failed\n",
        verdict.acknowledged, verdict.unknown, verdict.failed
    );
    text += &format!(
        "  verdict    {} lost, {} doubled, {} called failed and there\n",
        verdict.lost, verdict.doubled, verdict.untrue
    );
    if verdict.lost > 0 {
        text += "             (without a synchronous standby a failover may lose what was acknowledged)\n";
    }
    text
}
