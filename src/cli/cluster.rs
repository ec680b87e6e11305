//! A primary and its streaming replicas, in a folder of their own, gone when dropped.
//!
//! Replicas are copies of the primary's data folder made before it first starts: a copy of a stopped server is a base backup,
//! and it needs no `pg_basebackup` and no second of waiting.
//!
//! Everybody reaches the servers through their Unix sockets without a password, but the sockets lie in a folder that only the
//! owner may enter; TCP on 127.0.0.1 asks what [`Auth`] says. What must differ between nodes stands in `node.conf`, the rest
//! in `postgresql.conf`, alike on all. `fsync` is off: a crash of the machine loses data that nobody will miss.

mod making;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cli::ask;
use crate::cli::folder::Folder;
use crate::cli::guardian::Guardian;
use crate::cli::packets::Answer;
use crate::cli::postgres::{Binaries, run, tail};
use crate::cli::problem::Problem;
use crate::cli::server::{Server, until};
use crate::clock;

/// The superuser.
pub const SUPERUSER: &str = "postgres";
/// How a cluster is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many streaming replicas beside the primary.
    pub replicas: usize,
    /// More lines of `postgresql.conf`, name and value, for all nodes; they win over ours.
    pub settings: Vec<(String, String)>,
    /// Lines put before ours in `pg_hba.conf`.
    pub hba: Vec<String>,
    /// What TCP asks for.
    pub auth: Auth,
    /// The primary's port, and the replicas' after it. 0 takes free ones.
    pub port: u16,
}

/// What a client that comes by TCP must prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    #[default]
    Trust,
    /// A password, by SCRAM-SHA-256.
    Scram {
        /// The superuser's.
        password: String,
    },
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Waits for its clients to leave.
    Smart,
    /// Ends its clients, then writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
}

impl Stop {
    fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// A primary (node 0) and its replicas (node 1 …), running.
///
/// Dropping it stops the servers and removes the folder; so does our own death, by a [`Guardian`].
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: servers, the guardian, the folder.
    nodes: Vec<Node>,
    guardian: Guardian,
    folder: Folder,
    binaries: Binaries,
}

#[derive(Debug)]
struct Node {
    port: u16,
    server: Option<Server>,
}

impl Cluster {
    /// Makes and starts a cluster. Returns when the primary takes writes and every replica streams from it.
    ///
    /// # Errors
    /// Whatever goes wrong, with the end of the server's log. Nothing is left running or lying around then.
    pub fn start(binaries: &Binaries, options: &Options) -> Result<Self, Problem> {
        let folder = Folder::new(binaries.account())?;
        let mut cluster = Self {
            guardian: Guardian::over(folder.path())?,
            nodes: Vec::new(),
            folder,
            binaries: binaries.clone(),
        };
        cluster.make(options)?;
        for node in 0..cluster.nodes.len() {
            cluster.launch(node)?;
        }
        if let Auth::Scram { password } = &options.auth {
            let quoted = password.replace('\'', "''");
            cluster.query(
                0,
                "postgres",
                &format!("ALTER ROLE {SUPERUSER} PASSWORD '{quoted}'"),
            )?;
        }
        cluster.wait_for(
            0,
            &format!(
                "SELECT count(*) >= {} FROM pg_stat_replication WHERE state = 'streaming'",
                options.replicas
            ),
        )?;
        Ok(cluster)
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node; there always is.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The TCP port of `node` on 127.0.0.1.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// The folder of the Unix sockets, and of everything else. It is removed at the end; whoever needs a place for files
    /// that live as long as the cluster may put them here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder to give as `host` to reach a node by its Unix socket, as [`SUPERUSER`] and without a password.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder of `node`.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node{node}"))
    }

    /// The log of `node`.
    pub fn log(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node{node}.log"))
    }

    /// The process id of `node`'s postmaster, if it runs.
    pub fn pid(&self, node: usize) -> Option<u32> {
        self.nodes[node].server.as_ref().map(|server| server.pid())
    }

    /// Who sees to it that nothing outlives us; others may have their processes watched too.
    pub fn guardian(&mut self) -> &mut Guardian {
        &mut self.guardian
    }

    /// The Unix socket of `node`.
    pub fn socket(&self, node: usize) -> PathBuf {
        self.folder
            .path()
            .join(format!(".s.PGSQL.{}", self.nodes[node].port))
    }

    /// Runs `sql` on `node` as superuser, on a connection of its own.
    ///
    /// # Errors
    /// As [`ask::ask`].
    pub fn query(&self, node: usize, database: &str, sql: &str) -> Result<Answer, Problem> {
        ask::ask(&self.socket(node), SUPERUSER, database, sql)
    }

    /// Waits until `sql` answers `t` on `node`.
    ///
    /// # Errors
    /// [`Problem::NotReady`] after a minute; [`Problem::Refused`] and the like at once.
    pub fn wait_for(&self, node: usize, sql: &str) -> Result<(), Problem> {
        let answer = until(|| {
            let answer = self.query(node, "postgres", sql)?;
            Ok((answer.first() == Some("t")).then_some(()))
        })?;
        answer.ok_or_else(|| Problem::NotReady {
            what: sql.to_owned(),
            log: self.log_tail(node),
        })
    }

    /// Waits until every running replica has replayed what `primary` has written so far.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub fn catch_up(&self, primary: usize) -> Result<(), Problem> {
        let written = self.query(primary, "postgres", "SELECT pg_current_wal_insert_lsn()")?;
        let written = written.first().unwrap_or("0/0");
        for node in (0..self.nodes.len()).filter(|node| *node != primary) {
            if self.nodes[node].server.is_some() {
                self.wait_for(
                    node,
                    &format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)"),
                )?;
            }
        }
        Ok(())
    }

    /// Stops `node` and waits until it has ended. Nothing happens when it does not run.
    ///
    /// # Errors
    /// [`Problem::NotReady`] when it still runs after a minute.
    pub fn stop(&mut self, node: usize, how: Stop) -> Result<(), Problem> {
        let Some(mut server) = self.nodes[node].server.take() else {
            return Ok(());
        };
        if !server.end(how.signal())? {
            self.nodes[node].server = Some(server);
            return Err(Problem::NotReady {
                what: format!("the end of node {node}"),
                log: self.log_tail(node),
            });
        }
        self.guardian.forget(server.pid());
        Ok(())
    }

    /// Kills the postmaster of `node` with SIGKILL. Its children notice and end by themselves a moment later.
    ///
    /// # Errors
    /// [`Problem::Io`] when the system refuses.
    pub fn kill9(&mut self, node: usize) -> Result<(), Problem> {
        let Some(mut server) = self.nodes[node].server.take() else {
            return Ok(());
        };
        server.kill()?;
        self.guardian.forget(server.pid());
        Ok(())
    }

    /// Starts `node` again on its port, stopping it first (fast) when it runs. Returns when it takes connections.
    ///
    /// # Errors
    /// [`Problem::NotReady`] with the end of its log when it does not come up within a minute.
    pub fn restart(&mut self, node: usize) -> Result<(), Problem> {
        self.stop(node, Stop::Fast)?;
        self.launch(node)
    }

    /// Makes the replica `node` a primary. Returns when it takes writes.
    ///
    /// # Errors
    /// As [`Cluster::query`].
    pub fn promote(&self, node: usize) -> Result<(), Problem> {
        self.query(node, "postgres", "SELECT pg_promote(wait => true)")?;
        self.wait_for(node, "SELECT NOT pg_is_in_recovery()")
    }

    /// Makes `node` a replica of `primary` from its next start on ([`Cluster::restart`]).
    ///
    /// # Errors
    /// [`Problem::Io`] when its files cannot be written.
    pub fn follow(&self, node: usize, primary: usize) -> Result<(), Problem> {
        let signal_file = self.data_dir(node).join("standby.signal");
        self.write(&signal_file, "")?;
        self.configure(node, Some(primary))
    }

    /// Has the running replica `node` follow `primary` from now on.
    ///
    /// # Errors
    /// [`Problem::Io`] when its files cannot be written; as [`Cluster::query`].
    pub fn repoint(&self, node: usize, primary: usize) -> Result<(), Problem> {
        self.configure(node, Some(primary))?;
        self.query(node, "postgres", "SELECT pg_reload_conf()")
            .map(drop)
    }

    /// Takes back what `node` has that `primary` has not, and starts it as a replica of that one. Needs `pg_rewind`, and
    /// `wal_log_hints` or checksums.
    ///
    /// # Errors
    /// [`Problem::Failed`] with what `pg_rewind` said; as [`Cluster::restart`].
    pub fn rewind(&mut self, node: usize, primary: usize) -> Result<(), Problem> {
        // Before PostgreSQL 16 the source's control file tells of a promotion only after a checkpoint.
        self.query(primary, "postgres", "CHECKPOINT")?;
        self.stop(node, Stop::Fast)?;
        let source = format!(
            "host={} port={} user={SUPERUSER} dbname=postgres",
            self.folder.path().display(),
            self.nodes[primary].port
        );
        run(self
            .binaries
            .command("pg_rewind")
            .arg("-D")
            .arg(self.data_dir(node))
            .args(["--no-sync", "--source-server", &source]))?;
        self.follow(node, primary)?;
        self.launch(node)
    }

    /// The programs that run it.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Starts `node` and waits for it. A postmaster that was killed may have left children that hold its memory for a moment:
    /// then the start is tried again.
    fn launch(&mut self, node: usize) -> Result<(), Problem> {
        let mut log = String::new();
        until(|| match self.launch_once(node) {
            Ok(()) => Ok(Some(())),
            Err(Problem::NotReady { log: said, .. }) if said.contains("is still in use") => {
                log = said;
                Ok(None)
            }
            Err(problem) => Err(problem),
        })?
        .ok_or_else(|| Problem::NotReady {
            what: format!("node {node}"),
            log,
        })
    }

    fn launch_once(&mut self, node: usize) -> Result<(), Problem> {
        let path = self.log(node);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Problem::io(format!("opening {}", path.display())))?;
        let errors = log.try_clone().map_err(Problem::io("sharing a log"))?;
        let mut postgres = self.binaries.command("postgres");
        postgres
            .arg("-D")
            .arg(self.data_dir(node))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0); // Ctrl-C is for us, not for it
        let mut server = Server::start(&mut postgres, "QUIT")?;
        let pid = server.pid();
        self.guardian.watch(pid);
        let ready = self.answers(node, &mut server);
        if ready.is_ok() {
            self.nodes[node].server = Some(server);
            return Ok(());
        }
        drop(server);
        self.guardian.forget(pid);
        ready
    }

    fn answers(&self, node: usize, server: &mut Server) -> Result<(), Problem> {
        let ready = until(|| {
            if server.has_ended() {
                return Ok(Some(false));
            }
            Ok(self.query(node, "postgres", "SELECT 1").ok().map(|_| true))
        })?;
        if ready == Some(true) {
            return Ok(());
        }
        Err(Problem::NotReady {
            what: format!("node {node}"),
            log: self.log_tail(node),
        })
    }

    fn log_tail(&self, node: usize) -> String {
        fs::read(self.log(node))
            .map(|log| tail(&log, 12))
            .unwrap_or_default()
    }
}

/// The port of `node`: as wanted, or a free one.
///
/// Free ones are drawn from below 32768, where no system takes the near end of outgoing connections from: a node keeps its
/// port while it is down, and nobody must slip in.
fn port(first: u16, node: usize) -> Result<u16, Problem> {
    if first != 0 {
        return u16::try_from(node)
            .ok()
            .and_then(|node| first.checked_add(node))
            .ok_or(Problem::Protocol {
                what: "a port above 65535",
            });
    }
    free_port()
}

/// A port of 127.0.0.1 that nobody listens on at the moment.
///
/// # Errors
/// [`Problem::Io`] when a hundred draws found none.
pub fn free_port() -> Result<u16, Problem> {
    const FROM: u16 = 10_240;
    const TO: u16 = 32_000;
    let mut last = None;
    for _ in 0..100 {
        let port = FROM + u16::from_ne_bytes(clock::entropy()) % (TO - FROM);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(Problem::io("looking for a free port")(source))
}

#[cfg(test)]
mod tests;
