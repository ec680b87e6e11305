//! From the command line to a process that may listen: who it runs as, whether another one runs already, in the background or not.
//!
//! All of this happens before the first thread is started: a process with threads must not fork.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use daemonize::Daemonize;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Gid, Uid, User, getuid, initgroups, setgid, setuid};
use tracing::info;

use crate::config::node::Node;
use crate::config::settings::{FALLBACK, Settings};
use crate::config::value::Dialect;
use crate::net::socket::knock;
use crate::process::handover::take;
use crate::process::pidfile;
use crate::process::reload::Source;
use crate::telemetry::log;

/// Files that PgBouncer reckons with beside clients and servers; two are the console's.
const FILES_OF_OUR_OWN: usize = 12;

/// So many databases are told of by name.
const TOLD_DATABASES: usize = 8;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Start {
    /// Where the configuration comes from.
    pub source: Source,
    /// `-d`: go into the background.
    pub is_daemon: bool,
    /// `-R`: take over from a process that runs.
    pub is_takeover: bool,
    /// `-u`: run as this user, whatever the configuration says.
    pub user: Option<String>,
    /// What it says about the log.
    pub log: log::Wishes,
}

impl Start {
    /// A start with nothing but a configuration.
    pub fn from(source: Source) -> Self {
        Self {
            source,
            is_daemon: false,
            is_takeover: false,
            user: None,
            log: log::Wishes::default(),
        }
    }

    /// Whether PgBouncer's file is read.
    pub fn is_ini(&self) -> bool {
        match &self.source {
            Source::File(file) => crate::config::load::is_ini(file),
            Source::Environment => false,
        }
    }
}

/// Becomes the user that the command line or the settings name.
///
/// # Errors
/// Why that cannot be.
pub fn take_user(start: &Start, settings: &Settings) -> Result<(), String> {
    match start.user.as_ref().or(settings.pooler.user.as_ref()) {
        Some(user) => become_user(user),
        None => Ok(()),
    }
}

/// PgBouncer's first line: how many files may be open, and how many the settings may lead to with so many `users`.
pub fn about_descriptors(settings: &Settings, users: usize) -> Option<String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let most = settings.pooler.max_client_conn;
    let of_pools = settings.databases.iter().map(|(name, database)| {
        let size = database
            .pool_size
            .unwrap_or(settings.pooler.default_pool_size);
        let is_listed = name != FALLBACK;
        match &database.user {
            Some(_) => size,
            // The user of the console is counted, too.
            None if is_listed => size.saturating_mul(users + 1),
            None => 0,
        }
    });
    let expected = most + of_pools.sum::<usize>() + FILES_OF_OUR_OWN;
    Some(format!(
        "kernel file descriptor limit: {soft} (hard: {hard}); max_client_conn: {most}, max expected fd use: {expected}"
    ))
}

/// Says which databases are served and where each has its servers: the first of them, and how many more there are.
pub fn tell_databases(settings: &Settings) {
    for name in settings.databases.keys().take(TOLD_DATABASES) {
        info!(
            database = name,
            at = whereabouts(settings, name),
            "database served"
        );
    }
    let more = settings.databases.len().saturating_sub(TOLD_DATABASES);
    if more > 0 {
        info!(more, "further databases served: SHOW DATABASES lists them");
    }
}

/// Where the servers of `database` are.
fn whereabouts(settings: &Settings, database: &str) -> String {
    let hosts = settings.server_hosts(database).into_iter();
    let hosts: Vec<String> = hosts
        .map(|(host, port)| Node::at(&host, port).to_string())
        .collect();
    let hosts = hosts.join(", ");
    match settings.cluster_of(database) {
        None => hosts,
        Some((cluster, _)) if hosts.is_empty() => format!("cluster {cluster}"),
        Some((cluster, _)) => format!("cluster {cluster}: {hosts}"),
    }
}

/// Whether the user that the settings name is there.
///
/// # Errors
/// That it is not.
pub fn check_user(settings: &Settings) -> Result<(), String> {
    let name = settings.pooler.user.as_deref();
    name.map_or(Ok(()), |name| find_user(name).map(drop))
}

/// Does what must be done before anything listens. When it comes back, this is the process that serves; with the connection to the
/// process that it takes over from, if there is one.
///
/// # Errors
/// Why the process cannot start.
pub fn prepare(start: &Start, settings: &Settings) -> Result<Option<UnixStream>, String> {
    let pooler = &settings.pooler;
    if settings.dialect == Dialect::PgBouncer && getuid().is_root() {
        return Err("PgBouncer should not run as root; set user, or start it with -u USER".into());
    }
    let socket = socket_path(settings);
    // Sockets that systemd hands over answer already, and are ours.
    let has_sockets = std::env::var_os("LISTEN_FDS").is_some();
    let is_taken = !has_sockets && socket.as_deref().is_some_and(is_answered);
    if start.is_takeover && has_sockets {
        return Err("-R is of no use with sockets of systemd: they outlive the process".into());
    }
    let elder = match socket {
        Some(socket) if start.is_takeover && is_taken => Some(take::knock(&socket)?),
        _ => None,
    };
    if start.is_takeover && elder.is_none() {
        info!("old process not found, try to continue normally");
    }
    if settings.dialect == Dialect::PgBouncer && is_taken && elder.is_none() {
        return Err("unix socket is in use, cannot continue".into());
    }
    match &pooler.pidfile {
        // The older process gives it up.
        Some(_) if elder.is_some() => {}
        Some(path) => pidfile::make_way(path)?,
        None if start.is_daemon => return Err("daemon needs pidfile configured".into()),
        None => {}
    }
    if start.is_daemon {
        go_into_background()?;
    }
    Ok(elder)
}

/// Where the Unix socket lies, if there is to be one.
fn socket_path(settings: &Settings) -> Option<PathBuf> {
    let pooler = &settings.pooler;
    let directory = &pooler.unix_socket_dir;
    (!directory.is_empty())
        .then(|| Path::new(directory).join(format!(".s.PGSQL.{}", pooler.listen_port)))
}

fn is_answered(socket: &Path) -> bool {
    knock(socket).is_ok()
}

/// Gives up root's rights for those of `name`.
fn become_user(name: &str) -> Result<(), String> {
    let user = find_user(name)?;
    if getuid() == user.uid {
        return Ok(());
    }
    let drop_all = |uid: Uid, gid: Gid| -> nix::Result<()> {
        let name = std::ffi::CString::new(name).map_err(|_| nix::errno::Errno::EINVAL)?;
        initgroups(&name, gid)?;
        setgid(gid)?;
        setuid(uid)
    };
    drop_all(user.uid, user.gid).map_err(|why| cannot_become(name, &why.to_string()))
}

fn find_user(name: &str) -> Result<User, String> {
    let user = User::from_name(name).map_err(|why| cannot_become(name, &why.to_string()))?;
    user.ok_or_else(|| cannot_become(name, "there is no such user"))
}

fn cannot_become(name: &str, why: &str) -> String {
    format!("could not become user '{name}': {why}")
}

/// Forks twice; the parent ends here. The current directory and the mask of permissions stay.
fn go_into_background() -> Result<(), String> {
    let problem = |why: String| format!("could not go into the background: {why}");
    let directory = std::env::current_dir().map_err(|why| problem(why.to_string()))?;
    Daemonize::new()
        .working_directory(directory)
        .umask(umask())
        .start()
        .map_err(|why| problem(why.to_string()))
}

/// The process's mask of permissions, as the system tells it; the usual one where it does not.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    mask.unwrap_or(0o022)
}

#[cfg(test)]
mod tests {
    use super::whereabouts;
    use crate::config::clusters::ClusterSettings;
    use crate::config::settings::{DatabaseSettings, Settings};

    #[test]
    fn a_database_is_told_with_the_addresses_of_its_servers() {
        let mut settings = Settings::default();
        let database = DatabaseSettings {
            host: Some("db1, ::1".to_owned()),
            ..DatabaseSettings::default()
        };
        settings.databases.insert("app".to_owned(), database);
        assert_eq!(whereabouts(&settings, "app"), "db1:5432, [::1]:5432");
        let database = DatabaseSettings {
            cluster: Some("main".to_owned()),
            ..DatabaseSettings::default()
        };
        settings.databases.insert("ha".to_owned(), database);
        let cluster = ClusterSettings::default();
        settings.clusters.insert("main".to_owned(), cluster);
        assert_eq!(whereabouts(&settings, "ha"), "cluster main");
    }
}
