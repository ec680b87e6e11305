//! The data folders of a cluster, and what stands in their files.

use std::fs;
use std::path::Path;

use super::{Auth, Cluster, Node, Options, SUPERUSER, port};
use crate::cli::postgres::run;
use crate::cli::problem::Problem;

/// The same on all nodes.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_permissions = 0700
fsync = off
max_connections = 200
shared_buffers = '32MB'
wal_keep_size = '512MB'
wal_retrieve_retry_interval = '200ms'
wal_receiver_status_interval = '1s'
max_wal_senders = 20
password_encryption = 'scram-sha-256'
logging_collector = off
log_destination = 'stderr'
";

impl Cluster {
    /// Data folders for all nodes, none started.
    pub(super) fn make(&mut self, options: &Options) -> Result<(), Problem> {
        let primary = self.data_dir(0);
        run(self
            .binaries
            .command("initdb")
            .arg("-D")
            .arg(&primary)
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync"]))?;
        self.write(
            &primary.join("pg_hba.conf"),
            &hba(&options.hba, &options.auth),
        )?;
        let path = primary.join("postgresql.conf");
        let theirs = fs::read_to_string(&path).map_err(Problem::io("reading postgresql.conf"))?;
        self.write(&path, &(theirs + &settings(&options.settings)))?;
        for node in 0..=options.replicas {
            self.nodes.push(Node {
                port: port(options.port, node)?,
                server: None,
            });
            if node == 0 {
                self.configure(node, None)?;
                continue;
            }
            self.copy(&primary, &self.data_dir(node))?;
            self.follow(node, 0)?;
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Problem> {
        let mut cp = self.binaries.other("cp");
        run(cp.arg("-Rp").arg(from).arg(to)).map(drop)
    }

    pub(super) fn configure(&self, node: usize, primary: Option<usize>) -> Result<(), Problem> {
        let sockets = self.folder.path().display();
        let mut lines = format!(
            "port = {}\nunix_socket_directories = '{sockets}'\ncluster_name = 'node{node}'\n",
            self.nodes[node].port
        );
        if let Some(primary) = primary {
            lines += &format!(
                "primary_conninfo = 'host={sockets} port={} user={SUPERUSER} application_name=node{node}'\n",
                self.nodes[primary].port
            );
        }
        self.write(&self.data_dir(node).join("node.conf"), &lines)
    }

    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), Problem> {
        fs::write(path, text).map_err(Problem::io(format!("writing {}", path.display())))?;
        self.binaries
            .account()
            .map_or(Ok(()), |account| account.own(path))
    }
}

pub(super) fn settings(more: &[(String, String)]) -> String {
    let more: String = more
        .iter()
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect();
    format!("\n{SETTINGS}{more}include = 'node.conf'\n")
}

pub(super) fn hba(first: &[String], auth: &Auth) -> String {
    let method = match auth {
        Auth::Trust => "trust",
        Auth::Scram { .. } => "scram-sha-256",
    };
    let mut lines: String = first.iter().map(|line| format!("{line}\n")).collect();
    lines += "local all all trust\nlocal replication all trust\n";
    for address in ["127.0.0.1/32", "::1/128"] {
        lines += &format!("host all all {address} {method}\n");
        lines += &format!("host replication all {address} {method}\n");
    }
    lines
}
