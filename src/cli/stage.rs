//! The demo's stage: servers, a table, and this very program as a pooler in front of them.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::cli::cluster::{Auth, Cluster, Options, SUPERUSER, free_port};
use crate::cli::driver::ACCOUNTS;
use crate::cli::postgres::{Binaries, tail};
use crate::cli::problem::Problem;
use crate::cli::server::{Server, until};
use crate::cli::view::print;
use crate::clock;
use crate::locked::Locked;

/// Whom the clients log in as, and the name of their database.
pub const DEMO: &str = "demo";
/// Who asks the nodes about their state.
const PROBE: &str = "probe";
/// Servers a node.
const POOL_SIZE: usize = 20;

/// What is running, in the order in which it ends.
pub struct Stage {
    pooler: Pooler,
    cluster: Arc<Mutex<Cluster>>,
    ports: Vec<u16>,
    port: u16,
}

/// The pooler's process.
struct Pooler {
    server: Server,
    log: PathBuf,
}

impl Stage {
    /// The servers; node 0 is the primary at the beginning.
    pub fn cluster(&self) -> Arc<Mutex<Cluster>> {
        Arc::clone(&self.cluster)
    }

    /// The Unix socket of `node`.
    pub fn socket(&self, node: usize) -> PathBuf {
        self.cluster.locked().socket(node)
    }

    /// The nodes' ports on 127.0.0.1.
    pub fn nodes(&self) -> &[u16] {
        &self.ports
    }

    /// The pooler's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the pooler still runs.
    ///
    /// # Errors
    /// [`Problem::Failed`] with the end of its log when it has ended.
    pub fn check(&mut self) -> Result<(), Problem> {
        self.pooler.check()
    }

    /// The end of the pooler's log.
    pub fn log_tail(&self) -> String {
        self.pooler.log_tail()
    }
}

/// How the stage is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Fetch PostgreSQL, even where it is installed.
    pub fetch: bool,
    /// How many clients will come.
    pub clients: usize,
    /// The primary will fail.
    pub failover: bool,
}

/// Everything up to the first client: says what it does, and at the end where everything is.
///
/// # Errors
/// Whatever goes wrong. Nothing is left running or lying around then.
pub fn set_up(wishes: Wishes) -> Result<Stage, Problem> {
    let binaries = step("Looking for PostgreSQL (fetching it if need be)", || {
        Binaries::find(wishes.fetch)
    })?;
    let account = binaries.account().map_or(String::new(), |account| {
        format!(", run as {}", account.name())
    });
    print(&format!(
        "  PostgreSQL {} in {}{account}\n",
        binaries.version(),
        binaries.folder().display()
    ));
    let password = secret();
    let mut options = Options {
        replicas: 2,
        auth: Auth::Scram { password: secret() },
        ..Options::default()
    };
    if wishes.failover {
        // What was acknowledged is on node 1, too, and the old primary can be rewound.
        let more = [
            ("synchronous_standby_names", "ANY 1 (node1)"),
            ("wal_log_hints", "on"),
        ];
        options.settings = more.map(|(name, value)| (name.into(), value.into())).into();
    }
    let mut cluster = step("Starting a primary and two streaming replicas", || {
        Cluster::start(&binaries, &options)
    })?;
    step(&format!("Filling a table with {ACCOUNTS} rows"), || {
        fill(&cluster, &password)
    })?;
    if wishes.failover {
        free_the_replicas(&cluster)?;
    }
    let port = wanted_port()?;
    let file = cluster.folder().join("pooler.toml");
    write_private(&file, &settings(&cluster, port, wishes.clients, &password))?;
    let pooler = step("Starting the pooler", || {
        start_pooler(&mut cluster, &file, port)
    })?;
    print(&introduction(
        &pooler,
        &cluster,
        port,
        &file,
        &psql(&binaries),
    ));
    Ok(Stage {
        pooler,
        ports: (0..cluster.len()).map(|node| cluster.port(node)).collect(),
        cluster: Arc::new(Mutex::new(cluster)),
        port,
    })
}

/// Says what is done, does it, says how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    print(&format!("{what} … "));
    let start = clock::now();
    let result = work();
    let end = if result.is_ok() { "" } else { "failed after " };
    let took = clock::now().since(start).as_secs_f64();
    print(&format!("{end}{took:.1} s\n"));
    result
}

/// Whoever is promoted has nobody to wait for.
fn free_the_replicas(cluster: &Cluster) -> Result<(), Problem> {
    for node in 1..cluster.len() {
        let free = "ALTER SYSTEM SET synchronous_standby_names = ''";
        cluster.query(node, "postgres", free)?;
        cluster.query(node, "postgres", "SELECT pg_reload_conf()")?;
    }
    Ok(())
}

fn fill(cluster: &Cluster, password: &str) -> Result<(), Problem> {
    let role = format!(
        "CREATE ROLE {DEMO} LOGIN PASSWORD '{password}'; \
         CREATE ROLE {PROBE} LOGIN PASSWORD '{password}' IN ROLE pg_monitor"
    );
    cluster.query(0, "postgres", &role)?;
    cluster.query(
        0,
        "postgres",
        &format!("CREATE DATABASE {DEMO} OWNER {DEMO}"),
    )?;
    cluster.query(
        0,
        DEMO,
        &format!(
            "SET ROLE {DEMO}; CREATE SCHEMA {DEMO}; \
             CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50); \
             INSERT INTO accounts SELECT id, 0 FROM generate_series(1, {ACCOUNTS}) AS id"
        ),
    )?;
    cluster.query(0, DEMO, "VACUUM ANALYZE")?;
    cluster.catch_up(0)
}

/// The usual port if nobody has it, so that the DSN is one that people remember.
fn wanted_port() -> Result<u16, Problem> {
    const USUAL: u16 = 6432;
    TcpListener::bind(("127.0.0.1", USUAL)).map_or_else(|_| free_port(), |_| Ok(USUAL))
}

/// The generated `pooler.toml`.
///
/// The clients prove nothing, for they come from this machine and may do nothing but play with one table; the pooler logs in
/// with a password that nobody else knows.
fn settings(cluster: &Cluster, port: u16, clients: usize, password: &str) -> String {
    let mut text = format!(
        "[pooler]\n\
         listen_addr = \"127.0.0.1\"\n\
         listen_port = {port}\n\
         unix_socket_dir = \"\"\n\
         pool_mode = \"transaction\"\n\
         default_pool_size = {POOL_SIZE}\n\
         max_client_conn = {}\n\
         auth_type = \"trust\"\n\
         admin_users = [\"{DEMO}\"]\n\
         state_dir = \"{}\"\n\
         \n\
         [users.{DEMO}]\n\
         password = \"{password}\"\n\
         \n\
         [web]\n\
         listen = \"\"\n",
        clients + 100,
        cluster.folder().display()
    );
    let nodes: Vec<String> = (0..cluster.len())
        .map(|node| format!("\"127.0.0.1:{}\"", cluster.port(node)))
        .collect();
    text += &format!(
        "\n[clusters.main]\n\
         nodes = [{}]\n\
         probe_user = \"{PROBE}\"\n\
         probe_password = \"{password}\"\n\
         probe_dbname = \"{DEMO}\"\n\
         \n\
         [databases.{DEMO}]\n\
         cluster = \"main\"\n\
         route = \"auto\"\n",
        nodes.join(", ")
    );
    text
}

/// A password made of letters and digits.
fn secret() -> String {
    let bytes: [u8; 16] = clock::entropy();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_private(path: &Path, text: &str) -> Result<(), Problem> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Problem::io(format!("writing {}", path.display())))
}

fn start_pooler(cluster: &mut Cluster, file: &Path, port: u16) -> Result<Pooler, Problem> {
    let program = env::current_exe().map_err(Problem::io("finding this program"))?;
    let log = cluster.folder().join("pooler.log");
    let output = File::create(&log).map_err(Problem::io("making the pooler's log"))?;
    let errors = output.try_clone().map_err(Problem::io("sharing a log"))?;
    let mut command = Command::new(program);
    command
        .arg(file)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0); // Ctrl-C is for us, not for it
    let server = Server::start(&mut command, "TERM")?;
    cluster.guardian().watch(server.pid());
    let mut pooler = Pooler { server, log };
    let address = ("127.0.0.1", port);
    let ready = until(|| {
        pooler.check()?;
        Ok(TcpStream::connect(address).ok())
    })?;
    if ready.is_none() {
        return Err(Problem::NotReady {
            what: "the pooler".to_owned(),
            log: pooler.log_tail(),
        });
    }
    // Somebody else may have taken the port, and then ours is gone.
    pooler.check()?;
    Ok(pooler)
}

impl Pooler {
    /// An error if it has ended.
    fn check(&mut self) -> Result<(), Problem> {
        if !self.server.has_ended() {
            return Ok(());
        }
        Err(Problem::Failed {
            program: "the pooler".to_owned(),
            output: self.log_tail(),
        })
    }

    fn log_tail(&self) -> String {
        fs::read(&self.log)
            .map(|log| tail(&log, 12))
            .unwrap_or_default()
    }
}

/// How `psql` is called here: by its whole path where the PATH does not lead to one.
fn psql(binaries: &Binaries) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_on_path = env::split_paths(&path).any(|folder| folder.join("psql").is_file());
    if is_on_path || !binaries.has("psql") {
        return "psql".to_owned();
    }
    binaries.folder().join("psql").display().to_string()
}

fn introduction(pooler: &Pooler, cluster: &Cluster, port: u16, file: &Path, psql: &str) -> String {
    let folder = cluster.folder().display();
    let mut text = format!(
        "\n  DSN       postgres://{DEMO}@127.0.0.1:{port}/{DEMO}   (reads go to replicas)\n\
         \x20 console   {psql} -h 127.0.0.1 -p {port} -U {DEMO} pgbouncer\n\
         \x20 settings  {}\n\
         \x20 log       {}\n\
         \x20 folder    {folder}   (removed at the end)\n",
        file.display(),
        pooler.log.display(),
    );
    for node in 0..cluster.len() {
        text += &format!(
            "  node {node}    {psql} -h {folder} -p {} -U {SUPERUSER} {DEMO}   (log: node{node}.log)\n",
            cluster.port(node)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::secret;

    #[test]
    fn passwords_need_no_quoting() {
        assert!(secret().chars().all(char::is_alphanumeric));
        assert_ne!(secret(), secret());
    }
}
