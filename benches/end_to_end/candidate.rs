//! Who takes part, and with which settings: the pooler with one thread, for PgBouncer has one, unless it is asked for more, and
//! else both's defaults.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pooler::cli::cluster::{Cluster, SUPERUSER, free_port};
use pooler::cli::postgres::{Binaries, tail};
use pooler::cli::problem::Problem;
use pooler::cli::server::{Server, until};

/// Where pgbench's tables are.
pub const DATABASE: &str = "bench";
/// What clients prove themselves with, where they must.
pub const PASSWORD: &str = "bench";
/// How many servers each pooler may open.
pub const POOL_SIZE: usize = 20;
/// The signal for an end at once; it means the same to PgBouncer and to the pooler.
const PARTING: &str = "QUIT";

/// How clients come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Without a proof.
    Trust,
    /// With a password, by SCRAM.
    Scram,
    /// Without a proof, under TLS.
    Tls,
    /// Without a proof, reads split off to a replica where the pooler can do that.
    Split,
}

/// A certificate for this run, and its key, where every candidate can read them.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    /// The certificate itself, for who is to trust it.
    pub der: Vec<u8>,
}

impl Identity {
    /// Makes one in `folder`.
    ///
    /// # Errors
    /// [`Problem::Io`] when it cannot be made or written.
    pub fn new(folder: &Path) -> Result<Self, Problem> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(std::io::Error::other)
            .map_err(Problem::io("making a certificate"))?;
        let identity = Self {
            certificate: folder.join("bench.crt"),
            key: folder.join("bench.key"),
            der: made.cert.der().to_vec(),
        };
        write(&identity.certificate, &made.cert.pem())?;
        write(&identity.key, &made.signing_key.serialize_pem())?;
        Ok(identity)
    }
}

/// What a candidate is started for.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// How clients come in.
    pub entry: Entry,
    /// How many clients there may be, beside a few.
    pub clients: usize,
    /// How many databases there are beside [`DATABASE`]: `bench1`, `bench2` and so on, all of them the same one.
    pub databases: usize,
    /// How many threads the pooler has.
    pub threads: u16,
    /// What it shows under TLS.
    pub identity: &'a Identity,
}

/// A pooler that can be started.
#[derive(Debug)]
pub struct Candidate {
    /// Its name in the tables.
    pub name: &'static str,
    /// Its name and version.
    pub title: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    PgBouncer {
        program: PathBuf,
        binaries: Binaries,
        can_prepare: bool,
    },
    Pooler {
        program: PathBuf,
    },
}

impl Candidate {
    /// PgBouncer, if there is one, then the pooler that is `program`: the first is what the others are compared with.
    pub fn all(binaries: &Binaries, program: PathBuf) -> Vec<Self> {
        let pooler = Self {
            name: "pooler",
            title: format!("the pooler {}", program.display()),
            kind: Kind::Pooler { program },
        };
        pgbouncer(binaries).into_iter().chain([pooler]).collect()
    }

    /// Whether it follows prepared statements; PgBouncer does since 1.21.
    pub fn can_prepare(&self) -> bool {
        match self.kind {
            Kind::PgBouncer { can_prepare, .. } => can_prepare,
            Kind::Pooler { .. } => true,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Problem::NotReady`] with the end of its log when it does not listen.
    pub fn start(&self, cluster: &mut Cluster, stage: Stage<'_>) -> Result<Running, Problem> {
        let port = free_port()?;
        let file = |end: &str| cluster.folder().join(format!("{}-{port}.{end}", self.name));
        let (config, log) = (file("conf"), file("log"));
        let text = match &self.kind {
            Kind::PgBouncer { can_prepare, .. } => {
                let users = file("users");
                write(&users, &format!("\"{SUPERUSER}\" \"{PASSWORD}\"\n"))?;
                ini(cluster.port(0), port, stage, &users, *can_prepare)
            }
            Kind::Pooler { .. } => toml(cluster, port, stage),
        };
        write(&config, &text)?;
        let output = File::create(&log).map_err(Problem::io("making a log"))?;
        let errors = output.try_clone().map_err(Problem::io("making a log"))?;
        let mut command = match &self.kind {
            Kind::PgBouncer {
                program, binaries, ..
            } => binaries.other(program),
            Kind::Pooler { program } => Command::new(program),
        };
        command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let server = Server::start(&mut command, PARTING)?;
        cluster.guardian().watch(server.pid());
        let mut running = Running { server, port };
        running.wait(&log)?;
        Ok(running)
    }
}

/// A pooler that runs; ended when dropped.
#[derive(Debug)]
pub struct Running {
    server: Server,
    port: u16,
}

impl Running {
    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends it: at once, but in order, so that one that is built to count what it does can write that down.
    ///
    /// # Errors
    /// [`Problem::Io`] when the system refuses.
    pub fn stop(mut self, cluster: &mut Cluster) -> Result<(), Problem> {
        if !self.server.end(PARTING)? {
            self.server.kill()?;
        }
        cluster.guardian().forget(self.server.pid());
        Ok(())
    }

    fn wait(&mut self, log: &Path) -> Result<(), Problem> {
        let listens = until(|| {
            let is_over = self.server.has_ended();
            let is_up = !is_over && TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            Ok((is_over || is_up).then_some(is_up))
        })?;
        if listens == Some(true) {
            return Ok(());
        }
        Err(Problem::NotReady {
            what: "a pooler that listens".to_owned(),
            log: tail(&fs::read(log).unwrap_or_default(), 10),
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    fs::write(path, text).map_err(Problem::io(format!("writing {}", path.display())))
}

fn toml(cluster: &Cluster, port: u16, stage: Stage<'_>) -> String {
    let auth = match stage.entry {
        Entry::Scram => "scram-sha-256",
        Entry::Trust | Entry::Tls | Entry::Split => "trust",
    };
    let mut text = format!(
        "[pooler]\n\
         listen_addr = \"127.0.0.1\"\n\
         listen_port = {port}\n\
         unix_socket_dir = \"\"\n\
         auth_type = \"{auth}\"\n\
         pool_mode = \"transaction\"\n\
         default_pool_size = {POOL_SIZE}\n\
         max_client_conn = {}\n\
         threads = {}\n\
         log_connections = false\n\
         log_disconnections = false\n",
        stage.clients + 300,
        stage.threads
    );
    if stage.entry == Entry::Tls {
        let _ = writeln!(text, "client_tls_sslmode = \"require\"");
        for (key, path) in files(stage.identity) {
            let _ = writeln!(text, "{key} = {path:?}");
        }
    }
    let _ = write!(text, "[users.{SUPERUSER}]\npassword = \"{PASSWORD}\"\n");
    let (writer, reader) = (cluster.port(0), cluster.port(cluster.len() - 1));
    let place = if stage.entry == Entry::Split {
        let _ = write!(
            text,
            "[clusters.both]\n\
             nodes = [\"127.0.0.1:{writer}\", \"127.0.0.1:{reader}\"]\n\
             probe_user = \"{SUPERUSER}\"\n"
        );
        "cluster = \"both\"\nroute = \"auto\"".to_owned()
    } else {
        format!("host = \"127.0.0.1\"\nport = {writer}")
    };
    for name in names(stage) {
        let _ = write!(
            text,
            "[databases.{name}]\n{place}\ndbname = \"{DATABASE}\"\n"
        );
    }
    text
}

fn ini(postgres: u16, port: u16, stage: Stage<'_>, users: &Path, can_prepare: bool) -> String {
    let auth = match stage.entry {
        Entry::Scram => "scram-sha-256",
        Entry::Trust | Entry::Tls | Entry::Split => "trust",
    };
    let mut text = "[databases]\n".to_owned();
    for name in names(stage) {
        let _ = writeln!(
            text,
            "{name} = host=127.0.0.1 port={postgres} dbname={DATABASE}"
        );
    }
    let _ = write!(
        text,
        "[pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = {auth}\n\
         auth_file = {}\n\
         pool_mode = transaction\n\
         default_pool_size = {POOL_SIZE}\n\
         max_client_conn = {}\n\
         log_connections = 0\n\
         log_disconnections = 0\n",
        users.display(),
        stage.clients + 300
    );
    if can_prepare {
        text.push_str("max_prepared_statements = 200\n");
    }
    if stage.entry == Entry::Tls {
        text.push_str("client_tls_sslmode = require\n");
        for (key, path) in files(stage.identity) {
            let _ = writeln!(text, "{key} = {}", path.display());
        }
    }
    text
}

fn names(stage: Stage<'_>) -> impl Iterator<Item = String> {
    let more = (1..=stage.databases).map(|number| format!("{DATABASE}{number}"));
    std::iter::once(DATABASE.to_owned()).chain(more)
}

fn files(identity: &Identity) -> [(&'static str, &Path); 2] {
    [
        ("client_tls_cert_file", &identity.certificate),
        ("client_tls_key_file", &identity.key),
    ]
}

/// PgBouncer, where it is installed and runs as the user that servers run as.
fn pgbouncer(binaries: &Binaries) -> Option<Candidate> {
    let named = env::var_os("PGBOUNCER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("pgbouncer"));
    let elsewhere = PathBuf::from("/usr/sbin/pgbouncer");
    let mut places = named.into_iter().chain(on_path).chain([elsewhere]);
    places.find_map(|program| {
        let output = binaries.other(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let title = text.lines().next()?.trim().to_owned();
        let can_prepare = version_in(&title)? >= (1, 21);
        Some(Candidate {
            name: "pgbouncer",
            title,
            kind: Kind::PgBouncer {
                program,
                binaries: binaries.clone(),
                can_prepare,
            },
        })
    })
}

/// 1 and 18 of `PgBouncer 1.18.0`.
fn version_in(title: &str) -> Option<(u32, u32)> {
    let mut numbers = title.strip_prefix("PgBouncer ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
