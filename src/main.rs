//! The command line: PgBouncer's, and verbs of our own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use pooler::cli::{convert, demo, drill, route};
use pooler::config::problem::did_you_mean;
use pooler::config::value::PGBOUNCER_VERSION;
use pooler::process::reload::{self, Source};
use pooler::process::run;
use pooler::process::start::{self, Start};
use pooler::telemetry::log;

/// A PostgreSQL connection pooler.
#[derive(Debug, Parser)]
#[command(
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
    /// Say which version this is.
    #[arg(short = 'V', long)]
    version: bool,
}

#[derive(Debug, Args)]
struct Run {
    /// Go into the background; needs pidfile.
    #[arg(short, long)]
    daemon: bool,
    /// Log nothing to standard error.
    #[arg(short, long)]
    quiet: bool,
    /// Take over from the process that runs: its sockets, its clients and its servers.
    #[arg(short = 'R', long)]
    reboot: bool,
    /// Run as this user.
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Log more; twice for even more.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// The configuration: a pgbouncer.ini if its name ends in .ini, else a pooler.toml. Without it, DATABASE_URL or DB_HOST … make one.
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the pooler (what happens without a verb, too).
    Run(Run),
    /// Check a configuration and say everything that is wrong with it.
    Check {
        /// The configuration; without it, what DATABASE_URL or DB_HOST … make.
        file: Option<PathBuf>,
    },
    /// Say what each statement of a file asks for, why, and what it does to the session.
    Route {
        /// SQL. No database is asked: functions that are not PostgreSQL's own count as writes.
        file: PathBuf,
    },
    /// Write a pooler.toml that means the same as a pgbouncer.ini.
    Convert(convert::ConvertArgs),
    /// Start three PostgreSQL servers, a pooler and a load, and watch them.
    Demo(demo::DemoArgs),
    /// Have Patroni switch over a cluster behind the pooler that runs, and say what an application saw of it. Asks first.
    Drill(drill::DrillArgs),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    if arguments.version {
        println!("{}", version());
        return ExitCode::SUCCESS;
    }
    match arguments.verb {
        None => {
            if let Some(problem) = arguments.run.file.as_deref().and_then(is_no_verb) {
                eprintln!("{problem}");
                return ask_for_help();
            }
            serve(arguments.run)
        }
        Some(Verb::Run(run)) => serve(run),
        Some(Verb::Check { file }) => check(file),
        Some(Verb::Route { file }) => route::run(&file),
        Some(Verb::Convert(args)) => convert::run(&args),
        Some(Verb::Demo(demo)) => demo::run(&demo),
        Some(Verb::Drill(args)) => drill_with(&args),
    }
}

/// Help was asked for, or something that there is not.
fn misused(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    eprint!("{error}");
    ask_for_help()
}

fn ask_for_help() -> ExitCode {
    let name = std::env::args().next().unwrap_or_else(|| "pooler".into());
    eprintln!("Try \"{name} --help\" for more information.");
    ExitCode::FAILURE
}

/// The first line is what tools expect that look for PgBouncer.
fn version() -> String {
    format!(
        "PgBouncer {PGBOUNCER_VERSION}\npooler {}\ntokio (no libevent)\nadns: tokio\ntls: rustls with aws-lc\nsystemd: yes",
        env!("CARGO_PKG_VERSION")
    )
}

fn source(file: Option<PathBuf>) -> Source {
    file.map_or(Source::Environment, Source::File)
}

/// What was typed in the place of a verb, where it is none, and no file either.
fn is_no_verb(file: &Path) -> Option<String> {
    let word = file.to_str()?;
    if word.contains(['/', '.']) || file.exists() {
        return None;
    }
    let command = Arguments::command();
    let verbs: Vec<&str> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let meant = did_you_mean(word, verbs.iter().copied());
    let meant = meant.map_or_else(String::new, |meant| format!("; {meant}"));
    Some(format!(
        "{word}: there is no such file, and no such command (there are {}){meant}",
        verbs.join(", ")
    ))
}

fn serve(run: Run) -> ExitCode {
    if run.file.is_none() && !reload::is_in_environment() {
        eprintln!("no configuration: name a file, or set DATABASE_URL");
        return ask_for_help();
    }
    run::run(&Start {
        source: source(run.file),
        is_daemon: run.daemon,
        is_takeover: run.reboot,
        user: run.user,
        log: log::Wishes {
            is_quiet: run.quiet,
            verbose: run.verbose.into(),
        },
    })
}

fn drill_with(args: &drill::DrillArgs) -> ExitCode {
    match reload::read(&source(Some(args.file.clone()))) {
        Ok(loaded) => drill::run(args, &loaded.settings, &loaded.users),
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: Option<PathBuf>) -> ExitCode {
    let shown = file.as_ref().map_or_else(
        || "environment".to_owned(),
        |file| file.display().to_string(),
    );
    match reload::read(&source(file)) {
        Ok(loaded) => {
            let mut errors = loaded.errors;
            errors.extend(start::check_user(&loaded.settings).err());
            for error in &errors {
                eprintln!("error: {error}");
            }
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            if !errors.is_empty() {
                return ExitCode::FAILURE;
            }
            println!("{shown}: good");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}
