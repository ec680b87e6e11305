//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use pooler::cli::demo;
use pooler::process::reload::{self, Source};
use pooler::process::run;

/// A PostgreSQL connection pooler.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The configuration; without it, DATABASE_URL or DB_HOST … make one.
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the pooler (what happens without a verb, too).
    Run {
        /// The configuration.
        file: Option<PathBuf>,
    },
    /// Check a configuration and say everything that is wrong with it.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Start three PostgreSQL servers, a pooler and a load, and watch them.
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb {
        None => run::run(&source(arguments.file)),
        Some(Verb::Run { file }) => run::run(&source(file)),
        Some(Verb::Check { file }) => check(file),
        Some(Verb::Demo(demo)) => demo::run(&demo),
    }
}

fn source(file: Option<PathBuf>) -> Source {
    file.map_or(Source::Environment, Source::File)
}

fn check(file: PathBuf) -> ExitCode {
    let shown = file.display().to_string();
    match reload::read(&Source::File(file)) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                eprintln!("{warning}");
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
