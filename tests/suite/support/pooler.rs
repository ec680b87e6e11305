//! The real binary with a generated `pooler.toml`, on a free port, in a folder of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ::pooler::cli::cluster::free_port;

use super::postgres::{Server, postgres};
use super::wire::{Address, Client, Login, PATIENCE, Reply};
use super::{eventually, folder, guard, panics, unguard};

/// What a TOML value is made of.
pub trait Literal {
    fn literal(&self) -> String;
}

/// A value as it stands in the file, such as a table.
pub struct Raw(pub String);

impl Literal for Raw {
    fn literal(&self) -> String {
        self.0.clone()
    }
}

impl Literal for &str {
    fn literal(&self) -> String {
        format!(
            "\"{}\"",
            self.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        )
    }
}

impl Literal for String {
    fn literal(&self) -> String {
        self.as_str().literal()
    }
}

impl Literal for &Path {
    fn literal(&self) -> String {
        self.to_str().expect("paths of tests are plain").literal()
    }
}

impl Literal for i32 {
    fn literal(&self) -> String {
        self.to_string()
    }
}

impl Literal for u16 {
    fn literal(&self) -> String {
        self.to_string()
    }
}

impl Literal for bool {
    fn literal(&self) -> String {
        self.to_string()
    }
}

impl<const N: usize> Literal for [&str; N] {
    fn literal(&self) -> String {
        let items: Vec<_> = self.iter().map(Literal::literal).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A `pooler.toml` in the making. A key set twice has the later value.
#[derive(Clone)]
pub struct Config {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    userlist: String,
    files: Vec<(String, String)>,
    under: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A pooler for the user `app` and the database `app`, with `trust`, so that a test says only what it is about.
///
/// `admin` may use the console, `stats` may look at it.
pub fn config() -> Config {
    Config {
        sections: BTreeMap::new(),
        userlist: String::new(),
        files: Vec::new(),
        under: Vec::new(),
        environment: Vec::new(),
    }
    .pooler("listen_addr", "127.0.0.1")
    .pooler("unix_socket_dir", "")
    .pooler("auth_type", "trust")
    .pooler("admin_users", ["admin"])
    .pooler("stats_users", ["stats"])
    .pooler("shutdown_timeout", "5s")
    .pooler("server_login_retry", "200ms")
    .user("app", "password", "app")
    .user("admin", "password", "admin")
    .user("stats", "password", "stats")
    .server("app", postgres().server(), "app")
}

impl Config {
    /// A key of any section.
    pub fn set(mut self, section: &str, key: &str, value: impl Literal) -> Self {
        self.sections
            .entry(section.into())
            .or_default()
            .insert(key.into(), value.literal());
        self
    }

    /// A key of `[pooler]`.
    pub fn pooler(self, key: &str, value: impl Literal) -> Self {
        self.set("pooler", key, value)
    }

    /// A key of `[users.NAME]`.
    pub fn user(self, name: &str, key: &str, value: impl Literal) -> Self {
        self.set(&format!("users.{}", quoted(name)), key, value)
    }

    /// A key of `[databases.NAME]`.
    pub fn database(self, name: &str, key: &str, value: impl Literal) -> Self {
        self.set(&format!("databases.{}", quoted(name)), key, value)
    }

    /// A database `name` that is `dbname` of `server`.
    pub fn server(self, name: &str, server: Server, dbname: &str) -> Self {
        self.database(name, "host", server.host)
            .database(name, "port", server.port)
            .database(name, "dbname", dbname)
    }

    /// The database `app` is `dbname` of the shared server.
    pub fn app_is(self, dbname: &str) -> Self {
        self.server("app", postgres().server(), dbname)
    }

    pub fn without(mut self, section: &str) -> Self {
        self.sections.remove(section);
        self
    }

    pub fn without_key(mut self, section: &str, key: &str) -> Self {
        if let Some(section) = self.sections.get_mut(section) {
            section.remove(key);
        }
        self
    }

    /// A line of the auth_file.
    pub fn userlist(mut self, user: &str, secret: &str) -> Self {
        writeln!(self.userlist, "\"{user}\" \"{secret}\"").expect("a string takes everything");
        self
    }

    /// A file in the pooler's folder; `{folder}` in values stands for that folder.
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// A variable of the pooler's environment; `{folder}` stands for its folder.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The text of the file.
    pub fn text(&self, folder: &Path, port: u16) -> String {
        let lines = |keys: &BTreeMap<String, String>| -> String {
            keys.iter()
                .map(|(key, value)| format!("{key} = {value}\n"))
                .collect()
        };
        let mut sections = self.sections.clone();
        let own = sections.remove("pooler").unwrap_or_default();
        let auth_file = folder.join("userlist.txt").as_path().literal();
        let mut text = format!(
            "[pooler]\nlisten_port = {port}\nauth_file = {auth_file}\n{}",
            lines(&own)
        );
        for (name, keys) in &sections {
            text += &format!("\n[{name}]\n{}", lines(keys));
        }
        text.replace(
            "{folder}",
            folder.to_str().expect("paths of tests are plain"),
        )
    }

    fn write(&self, folder: &Path, port: u16) {
        fs::write(folder.join("userlist.txt"), &self.userlist).expect("the folder is writable");
        for (name, content) in &self.files {
            fs::write(folder.join(name), content).expect("the folder is writable");
        }
        fs::write(folder.join("pooler.toml"), self.text(folder, port))
            .expect("the folder is writable");
    }

    /// Runs the pooler under a program that becomes it: the words before its command line.
    pub fn under(mut self, words: Vec<String>) -> Self {
        self.under = words;
        self
    }

    /// Starts a pooler and waits until it accepts connections.
    #[track_caller]
    pub fn start(&self) -> Pooler {
        self.start_at(free_port().expect("a free port"))
    }

    /// The same, on a port that another may share.
    #[track_caller]
    pub fn start_at(&self, port: u16) -> Pooler {
        let mut words = self
            .under
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<&OsStr>>();
        let binary = binary();
        words.push(binary.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.start_by(port, command)
    }

    /// The same, by a command that ends up being the pooler; the file is added to its arguments.
    #[track_caller]
    pub fn start_by(&self, port: u16, command: Command) -> Pooler {
        Pooler::start(self, port, command)
    }
}

fn quoted(name: &str) -> String {
    if name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    {
        name.into()
    } else {
        name.literal()
    }
}

/// The binary under test; `POOLER_TEST_BIN` names another build of it, such as the release's.
pub fn binary() -> PathBuf {
    std::env::var_os("POOLER_TEST_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_pooler").into(), PathBuf::from)
}

/// A running pooler. Dropping it kills it; a test that fails shows its log.
pub struct Pooler {
    child: Mutex<Child>,
    pub folder: PathBuf,
    pub port: u16,
}

impl Pooler {
    #[track_caller]
    fn start(config: &Config, port: u16, command: Command) -> Self {
        panics::listen();
        let folder = folder("pooler");
        config.write(&folder, port);
        let pooler = Self::run(folder, port, config, command);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = pooler
                .child
                .lock()
                .unwrap()
                .try_wait()
                .expect("a child can be asked");
            assert!(
                ended.is_none(),
                "pooler ended with {ended:?}:\n{}",
                pooler.log()
            );
            assert!(
                Instant::now() < deadline,
                "pooler does not listen:\n{}",
                pooler.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        pooler
    }

    fn run(folder: PathBuf, port: u16, config: &Config, mut command: Command) -> Self {
        let here = folder.to_str().expect("paths of tests are plain");
        let variables = config.environment.iter();
        let environment = variables.map(|(name, value)| (name, value.replace("{folder}", here)));
        let log = log_in(&folder);
        let child = command
            .arg(folder.join("pooler.toml"))
            .current_dir(&folder)
            .env_remove("DATABASE_URL")
            .env("NO_COLOR", "1")
            .envs(environment)
            .stderr(log)
            .spawn()
            .expect("the pooler's binary starts");
        guard(child.id());
        Self {
            child: Mutex::new(child),
            folder,
            port,
        }
    }

    pub fn address(&self) -> Address {
        Address::tcp(self.port)
    }

    /// A login as `app` to the database `app`, to be refined.
    pub fn login(&self) -> Login {
        Login::at(self.address())
            .user("app")
            .database("app")
            .password("app")
    }

    /// A session of `app` in the database `app`.
    #[track_caller]
    pub fn connect(&self) -> Client {
        self.login().connect()
    }

    /// A session at the console.
    #[track_caller]
    pub fn console(&self) -> Client {
        self.login()
            .user("admin")
            .password("admin")
            .database("pgbouncer")
            .connect()
    }

    /// One answer of the console.
    #[track_caller]
    pub fn show(&self, command: &str) -> Reply {
        self.console().query(command).good()
    }

    /// A cell of `SHOW POOLS` for the pool of `app` in the database `app`, as a number.
    #[track_caller]
    pub fn pool(&self, column: &str) -> i64 {
        let row = self
            .show("SHOW POOLS")
            .row_where("database", "app")
            .expect("the pool of app");
        row[column].parse().expect("a number")
    }

    /// Waits until a cell of `SHOW POOLS` for that pool has the value.
    #[track_caller]
    pub fn pool_shows(&self, column: &str, value: i64) {
        let mut console = self.console();
        eventually(
            PATIENCE,
            &format!("SHOW POOLS says {column} {value}"),
            || {
                let row = console
                    .query("SHOW POOLS")
                    .good()
                    .row_where("database", "app");
                row.is_some_and(|row| row[column] == value.to_string())
            },
        );
    }

    /// A number of `/proc/PID/status`, in KB, such as `VmHWM`: the most memory it ever had.
    #[track_caller]
    pub fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.lock().unwrap().id());
        let status = fs::read_to_string(path).expect("the process is there");
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("the kernel tells");
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// How many descriptors it has open.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.lock().unwrap().id());
        fs::read_dir(path).expect("the process is there").count()
    }

    #[track_caller]
    pub fn signal(&self, name: &str) {
        let pid = self.child.lock().unwrap().id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill is there");
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// Puts another file in the place of `pooler.toml`, without a word to the pooler.
    pub fn rewrite(&self, config: &Config) {
        config.write(&self.folder, self.port);
    }

    pub fn rewrite_text(&self, text: &str) {
        fs::write(self.folder.join("pooler.toml"), text).expect("the folder is writable");
    }

    /// Another file, and `RELOAD` at the console.
    #[track_caller]
    pub fn reload(&self, config: &Config) {
        self.rewrite(config);
        self.show("RELOAD");
    }

    /// Everything the pooler has written so far.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("pooler.log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn exit(&self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        eventually(deadline, "the pooler ends", || {
            status = self
                .child
                .lock()
                .unwrap()
                .try_wait()
                .expect("a child can be asked");
            status.is_some()
        });
        status.expect("it has just ended")
    }

    /// Starts another process in the place of this one, by the same file and with `arguments`, and returns the one that was there. From
    /// now on everything here is about the new one.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> Old {
        let file = log_in(&self.folder);
        let mut command = Command::new(binary());
        if self.folder.join("p.ini").exists() {
            command.args(as_somebody()).arg("p.ini");
        } else {
            command.arg("pooler.toml");
        }
        let young = command
            .args(arguments)
            .current_dir(&self.folder)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("one more descriptor"))
            .stderr(file)
            .spawn()
            .expect("the pooler's binary starts");
        guard(young.id());
        let ups = |log: &str| log.matches("process up: ").count();
        let before = ups(&self.log());
        let old = std::mem::replace(&mut *self.child.lock().unwrap(), young);
        eventually(PATIENCE, "the next process is up or has ended", || {
            !self.is_running() || ups(&self.log()) > before
        });
        assert!(self.is_running(), "it ended:\n{}", self.log());
        Old(old)
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn is_running(&self) -> bool {
        self.child
            .lock()
            .unwrap()
            .try_wait()
            .expect("a child can be asked")
            .is_none()
    }

    /// Fails unless a stranger is served, now.
    #[track_caller]
    pub fn serves(&self) {
        assert!(self.is_running(), "the pooler has ended:\n{}", self.log());
        assert_eq!(self.connect().value("select 'served'"), "served");
    }
}

/// A process in whose place another one has been started.
pub struct Old(Child);

impl Old {
    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(PATIENCE, "the old process ends", || {
            status = self.0.try_wait().expect("a child can be asked");
            status.is_some()
        });
        status.expect("it has just ended")
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child can be asked").is_none()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
        unguard(self.0.id());
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            drop(child.kill());
            drop(child.wait());
            unguard(child.id());
        }
        if std::thread::panicking() {
            eprintln!(
                "--- its configuration\n{}---",
                fs::read_to_string(self.folder.join("pooler.toml")).unwrap_or_default()
            );
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "--- the last lines of the pooler on port {}\n{}\n---",
                self.port,
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
            // Once more, since whoever cuts a long report short keeps its end.
            eprintln!("--- panics so far\n{}\n---", panics::told());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A `pgbouncer.ini`: the lines of `[databases]`, and those of `[pgbouncer]` after the ones that every test needs.
pub fn ini(databases: &str, main: &str) -> String {
    let needed = "\
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_file = {folder}/users.txt
admin_users = admin
";
    format!("[databases]\n{databases}\n[pgbouncer]\n{needed}{main}")
}

/// A pooler that serves a `pgbouncer.ini`: `files` with `{folder}`, `{port}` and `{server}` filled in, `p.ini` among them.
#[track_caller]
pub fn start_ini(arguments: &[&str], files: &[(&str, &str)]) -> Pooler {
    let (folder, port) = (folder("ini"), free_port().expect("a free port"));
    open_to_all(&folder);
    for (name, content) in files {
        fs::write(folder.join(name), filled(content, &folder, port))
            .expect("the folder is writable");
    }
    let log = log_in(&folder);
    let child = Command::new(binary())
        .args(as_somebody())
        .args(arguments)
        .arg("p.ini")
        .current_dir(&folder)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("one more descriptor"))
        .stderr(log)
        .spawn()
        .expect("the pooler's binary starts");
    guard(child.id());
    let pooler = Pooler {
        child: Mutex::new(child),
        folder,
        port,
    };
    eventually(PATIENCE, "the pooler is up or has ended", || {
        !pooler.is_running() || pooler.log().contains("process up: ")
    });
    assert!(pooler.is_running(), "pooler ended:\n{}", pooler.log());
    pooler
}

/// Where the processes of a folder write what they say, each behind the others.
fn log_in(folder: &Path) -> File {
    let mut options = File::options();
    let log = options.create(true).append(true);
    log.open(folder.join("pooler.log"))
        .expect("the folder is writable")
}

/// `content` with the folder, the port and the shared PostgreSQL in their places.
pub fn filled(content: &str, folder: &Path, port: u16) -> String {
    let server = postgres().server();
    content
        .replace(
            "{folder}",
            folder.to_str().expect("paths of tests are plain"),
        )
        .replace("{port}", &port.to_string())
        .replace(
            "{server}",
            &format!("host={} port={}", server.host, server.port),
        )
}

/// PgBouncer's file is not served as root: where the tests run as root, the pooler becomes somebody else.
pub fn as_somebody() -> &'static [&'static str] {
    let uid = fs::metadata("/proc/self").expect("the system tells").uid();
    if uid == 0 { &["-u", "nobody"] } else { &[] }
}

fn open_to_all(folder: &Path) {
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder, all).expect("the folder is ours");
}

/// Two servers, of which one is always held by somebody else: a client's next request goes where the test wants it.
pub struct Shuttle {
    pub pooler: Pooler,
    holder: Client,
}

impl Shuttle {
    pub fn new(config: Config) -> Self {
        let pooler = config.database("app", "pool_size", 2).start();
        let mut holder = pooler.connect();
        holder.query("begin").good();
        Self { pooler, holder }
    }

    /// From now on the other server is the only free one.
    pub fn switch(&mut self) {
        let mut next = self.pooler.connect();
        next.query("begin").good();
        self.holder.query("rollback").good();
        self.holder = next;
    }
}

/// What a run of the binary that is expected to end by itself said.
pub struct Ran {
    pub status: ExitStatus,
    pub output: String,
}

/// Runs `pooler ARGUMENTS` in a folder of its own that holds `files`, to its end.
pub fn run(arguments: &[&str], files: &[(&str, &str)], environment: &[(&str, &str)]) -> Ran {
    let folder = folder("run");
    open_to_all(&folder);
    for (name, content) in files {
        fs::write(folder.join(name), content).expect("the folder is writable");
    }
    let output = Command::new(binary())
        .args(arguments)
        .current_dir(&folder)
        .env_remove("DATABASE_URL")
        .env("NO_COLOR", "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the pooler's binary starts");
    drop(fs::remove_dir_all(&folder));
    let output_text = [output.stdout, output.stderr].concat();
    Ran {
        status: output.status,
        output: String::from_utf8_lossy(&output_text).into_owned(),
    }
}
