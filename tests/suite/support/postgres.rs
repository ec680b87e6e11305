//! One real PostgreSQL for all tests of this process, and more of them for tests that break theirs.
//!
//! Who may log in how is decided by the role's name, so that a test chooses a method by choosing a user:
//!
//! | role | proves itself by | password |
//! |---|---|---|
//! | `postgres` (superuser), `app`, `other`, `admin`, `stats`, any role not listed | nothing (`trust`) | - |
//! | `scram_user` | SCRAM-SHA-256 | `scram-secret` |
//! | `md5_user` | MD5 | `md5-secret` |
//! | `plain_user` | the password in clear | `plain-secret` |
//! | `refused_user` | never | - |

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use pooler::cli::cluster::{Cluster, Options, Stop};
use pooler::cli::postgres::Binaries;

use super::eventually;
use super::wire::{Address, Client, Login, PATIENCE};

/// Host and port of something that speaks as PostgreSQL does.
#[derive(Clone, Debug)]
pub struct Server {
    pub host: String,
    pub port: u16,
}

/// Roles, a database and a table that every test may read.
const SCENE: &str = "
    create role app login; create role other login; create role admin login; create role stats login;
    set password_encryption = 'scram-sha-256';
    create role scram_user login password 'scram-secret';
    create role plain_user login password 'plain-secret';
    set password_encryption = 'md5';
    create role md5_user login password 'md5-secret';
    create role refused_user login;
";

const HBA: [&str; 4] = [
    "host all scram_user all scram-sha-256",
    "host all md5_user all md5",
    "host all plain_user all password",
    "host all refused_user all reject",
];

const SETTINGS: [(&str, &str); 8] = [
    ("max_connections", "300"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("wal_level", "logical"),
    ("max_replication_slots", "20"),
];

/// A running PostgreSQL.
pub struct Postgres {
    cluster: Mutex<Cluster>,
    port: u16,
    databases: AtomicUsize,
}

/// The shared one.
pub fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    POSTGRES.get_or_init(Postgres::start)
}

/// PostgreSQL's programs.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        Binaries::find(false).unwrap_or_else(|problem| panic!("no PostgreSQL: {problem}"))
    })
}

/// One of PostgreSQL's client programs, from the folder of the server or else from the PATH.
pub fn program(name: &str) -> Command {
    let mut command = if binaries().has(name) {
        binaries().command(name)
    } else {
        Command::new(name)
    };
    command.env("PGCONNECT_TIMEOUT", "10");
    command
}

impl Postgres {
    /// Initialises and starts one, for a test that kills it.
    pub fn start() -> Self {
        Self::start_of(binaries(), &HBA)
    }

    /// One that `binaries` run, with the lines `hba` before those that let everybody in.
    pub fn start_of(binaries: &Binaries, hba: &[&str]) -> Self {
        let options = Options {
            settings: SETTINGS
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            hba: hba.iter().map(|line| (*line).into()).collect(),
            ..Options::default()
        };
        let cluster =
            Cluster::start(binaries, &options).unwrap_or_else(|problem| panic!("{problem}"));
        let port = cluster.port(0);
        let postgres = Self {
            cluster: Mutex::new(cluster),
            port,
            databases: AtomicUsize::new(0),
        };
        postgres.run(SCENE);
        postgres.run("create database app owner app");
        postgres
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("nobody panics while holding it")
    }

    /// Writes a file that only the server may read, and returns its path.
    pub fn private_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.cluster().data_dir(0).join(name);
        fs::write(&path, content).expect("the folder is writable");
        let owner = fs::metadata(self.cluster().data_dir(0)).expect("it is there");
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("root may give files away");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is there");
        path
    }

    /// Where it listens.
    pub fn server(&self) -> Server {
        Server {
            host: "127.0.0.1".into(),
            port: self.port,
        }
    }

    /// The same server by the folder of its Unix socket.
    pub fn by_socket(&self) -> Server {
        Server {
            host: self
                .cluster()
                .socket_dir()
                .to_str()
                .expect("a plain path")
                .into(),
            port: self.port,
        }
    }

    /// Where it listens, for a client of our own.
    pub fn address(&self) -> Address {
        Address::tcp(self.port)
    }

    /// A login as `app` straight to it, past any pooler.
    pub fn login(&self) -> Login {
        Login::at(self.address()).user("app").database("app")
    }

    fn superuser(&self, database: &str) -> Login {
        Login::at(Address::tcp(self.port))
            .user("postgres")
            .database(database)
    }

    /// A session of the superuser in `database`.
    pub fn watch(&self, database: &str) -> Client {
        self.superuser(database).connect()
    }

    /// Runs one statement as the superuser.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.watch("postgres").query(sql).good();
    }

    /// A new, empty database that belongs to `app`: for tests that count what is in it.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("create database {name} owner app"));
        name
    }

    /// How many servers the pooler has in `database`, by PostgreSQL's own count.
    pub fn count(&self, database: &str) -> usize {
        let sql = format!("select count(*) from pg_stat_activity where datname = '{database}'");
        self.watch("postgres")
            .value(&sql)
            .parse()
            .expect("a number")
    }

    /// Waits until a statement that contains `marker` runs.
    #[track_caller]
    pub fn runs(&self, marker: &str) {
        let sql = format!(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%{marker}%' and pid <> pg_backend_pid()"
        );
        let mut watch = self.watch("postgres");
        eventually(PATIENCE, &format!("{marker} runs"), || {
            watch.value(&sql) != "0"
        });
    }

    /// Ends every backend of `database` that is there now, and waits until these are gone. Others may come meanwhile.
    #[track_caller]
    pub fn terminate_all(&self, database: &str) {
        let sql = format!(
            "select coalesce(string_agg(pid::text, ','), '0') from pg_stat_activity where datname = '{database}'"
        );
        let mut watch = self.watch("postgres");
        let pids = watch.value(&sql);
        let ended = format!("select pg_terminate_backend(pid) from unnest(array[{pids}]) pid");
        watch.query(&ended).good();
        let left = format!("select count(*) from pg_stat_activity where pid in ({pids})");
        eventually(PATIENCE, "they are gone", || watch.value(&left) == "0");
    }

    /// Ends the backend `pid`, as an administrator does.
    pub fn terminate(&self, pid: &str) {
        self.run(&format!("select pg_terminate_backend({pid})"));
        let mut watch = self.watch("postgres");
        let sql = format!("select count(*) from pg_stat_activity where pid = {pid}");
        eventually(PATIENCE, "the backend ends", || watch.value(&sql) == "0");
    }

    /// Sends SIGKILL to one backend, which makes PostgreSQL restart them all.
    pub fn kill_backend(&self, pid: &str) {
        let status = Command::new("kill")
            .args(["-s", "KILL", pid])
            .status()
            .expect("kill is there");
        assert!(status.success(), "no backend {pid}");
    }

    /// Stops it at once, as a crash does.
    pub fn crash(&self) {
        self.cluster()
            .stop(0, Stop::Immediate)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Starts it again: after [`Postgres::crash`], or with settings that need it.
    pub fn again(&self) {
        self.cluster()
            .restart(0)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }
}
