//! Debian's PgBouncer, to stand beside the pooler with the same `pgbouncer.ini`.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use ::pooler::cli::cluster::free_port;

use super::packages::{is_forced, runnable, unpacked};
use super::pooler::binary;
use super::postgres::binaries;
use super::wire::{Address, Login, PATIENCE};
use super::{eventually, folder, guard, unguard};

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// PgBouncer, of the release that Debian has.
    PgBouncer,
    /// The pooler.
    Pooler,
}

/// The program: as installed, else unpacked out of its package.
pub fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let installed = Path::new("/usr/sbin/pgbouncer");
        if installed.exists() && !is_forced() {
            return installed.to_owned();
        }
        let root = unpacked(&["pgbouncer"]);
        runnable(&root, &root.join("usr/sbin/pgbouncer"))
    })
}

/// An ini with its places; started by root, both become another user first.
fn filled(ini: &str, port: u16, folder: &str) -> String {
    let user = binaries().account().map(|account| account.name());
    let user = user.map_or(String::new(), |name| {
        format!("[pgbouncer]\nuser = {name}\n")
    });
    ini.replace("{port}", &port.to_string())
        .replace("{folder}", folder)
        .replace("[pgbouncer]\n", &user)
}

/// One of the two, running with an ini. Dropping it kills it.
pub struct Side {
    pub which: Which,
    pub port: u16,
    pub folder: PathBuf,
    child: Child,
}

impl Side {
    /// Starts `which` with `ini`, in which `{port}` and `{folder}` stand for its own, and `userlist` as its `auth_file`.
    #[track_caller]
    pub fn start(which: Which, ini: &str, userlist: &str) -> Self {
        Self::start_beside(which, ini, userlist, &[])
    }

    /// The same, with more files in its folder, by name and content.
    #[track_caller]
    pub fn start_beside(
        which: Which,
        ini: &str,
        userlist: &str,
        files: &[(String, String)],
    ) -> Self {
        let folder = folder("beside");
        let port = free_port().expect("a free port");
        let file = folder.join("pgbouncer.ini");
        let place = folder.to_str().expect("paths of tests are plain");
        let text = filled(ini, port, place);
        fs::write(&file, text).expect("the folder is writable");
        let users = folder.join("users.txt");
        fs::write(&users, userlist).expect("the folder is writable");
        let mut paths = vec![folder.clone(), file.clone(), users];
        for (name, content) in files {
            fs::write(folder.join(name), content).expect("the folder is writable");
            paths.push(folder.join(name));
        }
        if let Some(account) = binaries().account() {
            for path in &paths {
                account.own(path).expect("root may give files away");
            }
        }
        let mut command = Command::new(match which {
            Which::PgBouncer => program().clone(),
            Which::Pooler => binary(),
        });
        let log = File::create(folder.join("log")).expect("the folder is writable");
        let child = command
            .arg(&file)
            .current_dir(&folder)
            .env_remove("DATABASE_URL")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("one more descriptor"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        guard(child.id());
        let mut side = Self {
            which,
            port,
            folder,
            child,
        };
        side.wait();
        side
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{:?} ended:\n{}", self.which, self.log());
            assert!(
                Instant::now() < deadline,
                "{:?}: {}",
                self.which,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A login over TCP as `user` to `database`.
    pub fn login(&self, user: &str, database: &str) -> Login {
        Login::at(Address::tcp(self.port))
            .user(user)
            .password(user)
            .database(database)
    }

    /// Puts another `pgbouncer.ini` in place of its own, without a word to it.
    pub fn rewrite(&self, ini: &str) {
        let place = self.folder.to_str().expect("paths of tests are plain");
        let text = filled(ini, self.port, place);
        fs::write(self.folder.join("pgbouncer.ini"), text).expect("the folder is writable");
    }

    /// Sends the process a signal, by name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill is there").success(), "kill -s {name}");
    }

    /// Waits until the process has ended by itself, and gives its exit code.
    #[track_caller]
    pub fn exit(&mut self) -> Option<i32> {
        let mut status = None;
        eventually(PATIENCE, "the process ends", || {
            status = self.child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        unguard(self.child.id());
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- the last lines of {:?}\n{end}\n---", self.which);
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}
