//! `pooler convert`: a `pgbouncer.ini` becomes a `pooler.toml`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::convert::{Converted, Paths, convert};
use crate::config::environment::Environment;
use crate::config::load::{self, Read};

/// What is converted, and where to.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The pgbouncer.ini.
    file: PathBuf,
    /// Write the pooler.toml to this file, which must not be there yet, but with --force. Without it, to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over that file if it is there. Its owner and its group may read it as before, others may not.
    #[arg(short, long, requires = "output")]
    force: bool,
}

/// Converts, and says what was left behind. Variables of the environment have no part in it. It fails where the ini cannot be
/// read, nothing can be written, or what is written must be mended before it can be served.
pub fn run(args: &ConvertArgs) -> ExitCode {
    match write(args) {
        Ok(converted) => {
            for one in &converted.left {
                eprintln!("not carried over: {one}");
            }
            for one in &converted.to_mend {
                eprintln!("mend before it can be served: {one}");
            }
            if converted.to_mend.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn write(args: &ConvertArgs) -> Result<Converted, String> {
    let name = args.file.display().to_string();
    let read = read(&args.file, &name)?;
    let Some(output) = &args.output else {
        let converted = convert(read, &name, Paths::Kept);
        let written = io::stdout().write_all(converted.text.as_bytes());
        written.map_err(|why| format!("cannot write to standard output: {why}"))?;
        return Ok(converted);
    };
    let failed = |why: io::Error| format!("cannot write {}: {why}", output.display());
    let here = std::env::current_dir().map_err(failed)?;
    let parent = output.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(failed)?;
    let is_here = fs::canonicalize(&here).map_err(failed)? == folder;
    let paths = if is_here {
        Paths::Kept
    } else {
        Paths::From(&here)
    };
    let converted = convert(read, &name, paths);
    let open = if args.force { open_emptied } else { make };
    let mut file = open(output).map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{} is there already and stays as it is; name another file, or say --force",
            output.display()
        ),
        _ => failed(why),
    })?;
    file.write_all(converted.text.as_bytes()).map_err(failed)?;
    Ok(converted)
}

/// How a file is written to that only its owner may read when it is made: passwords may stand in it.
fn writing() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes the file that is written to.
fn make(output: &Path) -> io::Result<fs::File> {
    writing().create_new(true).open(output)
}

/// Opens the file that is written to, be it there or not, and empties it once nobody may read it but its owner and the group that could.
fn open_emptied(output: &Path) -> io::Result<fs::File> {
    let file = writing().create(true).truncate(false).open(output)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(file);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o640 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o640))?;
    }
    file.set_len(0)?;
    Ok(file)
}

fn read(file: &Path, name: &str) -> Result<Read, String> {
    let text = fs::read_to_string(file).map_err(|why| format!("{name}: cannot be read: {why}"))?;
    let files = |file: &Path| fs::read_to_string(file);
    load::from_ini(&text, name, &files, &Environment::default())
        .map_err(|problems| problems.to_string())
}
