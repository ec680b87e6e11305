//! PostgreSQL's own programs: found where they are installed, else [fetched](super::fetch); and the user they run as.
//!
//! PostgreSQL refuses to run as root. Then its programs run as an [`Account`] from `/etc/passwd`, which must be able to reach
//! them: a candidate counts only if `initdb --version` runs as that user.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cli::fetch;
use crate::cli::problem::Problem;

/// The oldest that knows everything that we configure (`wal_keep_size`).
const OLDEST: u32 = 13;

/// A folder with at least `initdb` and `postgres` that can be run.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
    version: String,
    major: u32,
    account: Option<Account>,
}

impl Binaries {
    /// Finds PostgreSQL 13 or newer: in `POOLER_PG_BIN`, on the PATH, in the folders of the distributions (newest first), and
    /// fetches it when there is none.
    ///
    /// `force_fetch`, or `POOLER_PG_FETCH=1` in the environment, goes straight to the fetched one.
    ///
    /// # Errors
    /// [`Problem::BadFolder`] when `POOLER_PG_BIN` names a folder of no use, [`Problem::NotFetched`] when there is nothing
    /// installed and nothing to be had, [`Problem::NoAccount`] when root finds nobody to run servers as.
    pub fn find(force_fetch: bool) -> Result<Self, Problem> {
        let account = Account::for_servers()?;
        if force_fetch || env::var_os("POOLER_PG_FETCH").is_some_and(|value| value == "1") {
            return fetch::fetch(account.as_ref());
        }
        if let Some(folder) = env::var_os("POOLER_PG_BIN").filter(|value| !value.is_empty()) {
            let folder = PathBuf::from(folder);
            return Self::inspect(&folder, account.as_ref()).ok_or(Problem::BadFolder { folder });
        }
        let installed = candidates()
            .iter()
            .find_map(|folder| Self::inspect(folder, account.as_ref()));
        installed.map_or_else(|| fetch::fetch(account.as_ref()), Ok)
    }

    /// The folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The version as PostgreSQL writes it, such as `18.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Whom servers run as; `None` is ourselves.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Whether the program `name` (`psql`, `pgbench`, `pg_basebackup` …) is there.
    pub fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// The program `name`, run as the account, without any `PG…` variable of ours, in English.
    pub fn command(&self, name: &str) -> Command {
        self.other(self.folder.join(name))
    }

    /// A program that is not PostgreSQL's, run in the same way.
    pub fn other(&self, program: impl AsRef<Path>) -> Command {
        command(program.as_ref(), self.account.as_ref())
    }

    /// What is in `folder`, if it is of use to `account`.
    pub fn inspect(folder: &Path, account: Option<&Account>) -> Option<Self> {
        // A folder of links to some of the programs leads to the folder of all of them.
        let folder = fs::canonicalize(folder.join("initdb")).ok()?;
        let folder = folder.parent()?;
        if !folder.join("postgres").is_file() || !folder.join("initdb").is_file() {
            return None;
        }
        let output = command(&folder.join("initdb"), account)
            .arg("--version")
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let version = version_in(&String::from_utf8_lossy(&output.stdout))?;
        let major = major_of(&version)?;
        (major >= OLDEST).then(|| Self {
            folder: folder.to_owned(),
            version,
            major,
            account: account.cloned(),
        })
    }
}

/// An unprivileged user that root runs servers as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// `postgres`, else `nobody`, when we are root; `None` when we are not, for then we run servers ourselves.
    ///
    /// # Errors
    /// [`Problem::NoAccount`] when `/etc/passwd` has neither.
    pub fn for_servers() -> Result<Option<Self>, Problem> {
        if our_uid()? != 0 {
            return Ok(None);
        }
        let passwd =
            fs::read_to_string("/etc/passwd").map_err(Problem::io("reading /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::in_passwd(&passwd, name))
            .map(Some)
            .ok_or(Problem::NoAccount)
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes `path` theirs.
    ///
    /// # Errors
    /// [`Problem::Io`] when the system refuses.
    pub fn own(&self, path: &Path) -> Result<(), Problem> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(Problem::io(
            format!("giving {} to {}", path.display(), self.name),
        ))
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then(|| Self {
            name: name.to_owned(),
            uid,
            gid,
        })
    }
}

/// Whether any user may walk down to `folder` and into it.
pub fn is_reachable(folder: &Path) -> bool {
    fs::canonicalize(folder).is_ok_and(|folder| {
        folder
            .ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|data| data.mode() & 0o001 != 0))
    })
}

/// Runs `command` to its end.
///
/// # Errors
/// [`Problem::Io`] when it cannot be started, [`Problem::Failed`] with the end of its output when it fails.
pub fn run(command: &mut Command) -> Result<Output, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(Problem::io(format!("starting {program}")))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Problem::Failed {
        program,
        output: tail(&output.stdout, 10) + &tail(&output.stderr, 20),
    })
}

/// The last `lines` lines of `bytes`, each ended.
pub fn tail(bytes: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir("/");
    if let Some(account) = account {
        // std drops the supplementary groups with `uid` when we are root.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// The user that we are.
///
/// # Errors
/// As [`run`].
pub fn our_uid() -> Result<u32, Problem> {
    let output = run(Command::new("id").arg("-u"))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| Problem::Failed {
            program: "id -u".to_owned(),
            output: tail(&output.stdout, 1),
        })
}

/// Folders to look into, the most wanted first.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.extend(versioned("/usr/lib/postgresql", "", "bin")); // Debian, Ubuntu
    folders.extend(versioned("/usr", "pgsql-", "bin")); // PGDG on Red Hat
    folders.extend(versioned("/usr/libexec", "postgresql", "")); // Alpine
    folders.extend(versioned("/opt/homebrew/opt", "postgresql@", "bin"));
    folders.extend(versioned("/usr/local/opt", "postgresql@", "bin"));
    folders.extend(versioned("/Library/PostgreSQL", "", "bin"));
    folders.push(PathBuf::from(
        "/Applications/Postgres.app/Contents/Versions/latest/bin",
    ));
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders
}

/// Every `PARENT/PREFIX<number>/INSIDE`, the highest number first.
fn versioned(parent: &str, prefix: &str, inside: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    newest_first(names, prefix)
        .into_iter()
        .map(|name| Path::new(parent).join(name).join(inside))
        .collect()
}

fn newest_first(names: Vec<String>, prefix: &str) -> Vec<String> {
    let mut numbered: Vec<(u32, String)> = names
        .into_iter()
        .filter_map(|name| {
            let number = name.strip_prefix(prefix).and_then(major_of)?;
            Some((number, name))
        })
        .collect();
    numbered.sort_by(|one, other| other.cmp(one));
    numbered.into_iter().map(|(_, name)| name).collect()
}

/// `18.1` out of `initdb (PostgreSQL) 18.1 (Debian …)`.
fn version_in(line: &str) -> Option<String> {
    line.split(' ')
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(|word| word.trim().to_owned())
}

/// 18 out of `18`, `18.1` and `18beta2`.
fn major_of(version: &str) -> Option<u32> {
    let end = version
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Account, major_of, newest_first, tail, version_in};

    #[test]
    fn versions_are_read_as_postgres_prints_them() {
        let debian = "initdb (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n";
        assert_eq!(version_in(debian).as_deref(), Some("15.14"));
        assert_eq!(
            version_in("initdb (PostgreSQL) 18.1\n").as_deref(),
            Some("18.1")
        );
        assert_eq!(version_in("command not found"), None);
        assert_eq!(major_of("19beta2"), Some(19));
        assert_eq!(major_of("9.6"), Some(9));
        assert_eq!(major_of("common"), None);
    }

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let names = ["pgsql-9.6", "pgsql-18", "pgsql-13", "bin"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(
            newest_first(names, "pgsql-"),
            ["pgsql-18", "pgsql-13", "pgsql-9.6"]
        );
    }

    #[test]
    fn the_account_is_read_from_passwd_and_is_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        let nobody = Account::in_passwd(passwd, "nobody").unwrap();
        assert_eq!(
            (nobody.name(), nobody.uid, nobody.gid),
            ("nobody", 65534, 65533)
        );
        assert_eq!(Account::in_passwd(passwd, "postgres"), None);
        assert_eq!(
            Account::in_passwd(passwd, "root"),
            None,
            "postgres refuses to run as root"
        );
    }

    #[test]
    fn the_end_of_an_output_is_shown() {
        assert_eq!(tail(b"a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail(b"a", 2), "a\n");
        assert_eq!(tail(b"", 2), "");
    }
}
