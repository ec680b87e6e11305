//! Where clients knock: TCP and Unix sockets, one acceptor that deals connections to the workers.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::clients::entrance::Accepted;
use crate::config::settings::Settings;
use crate::pools::plan::socket_options;
use crate::pools::registry::Registry;
use crate::process::lasting;
use crate::process::worker::Worker;

/// How long the acceptor rests when the system has no descriptor, or no memory, left.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

const TOO_MANY_FILES: &str = "where files are too many, raise their limit (ulimit -n)";

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens, to be shown.
    pub place: String,
    /// The file of a Unix socket that is ours to remove.
    path: Option<PathBuf>,
    kind: Kind,
}

/// What a listening socket is, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Our own, over TCP.
    Tcp,
    /// Our own, a Unix socket.
    Unix,
    /// Handed over by systemd, which keeps it when we end: it is never shut.
    Handed {
        /// Over TCP.
        is_tcp: bool,
    },
}

impl Listener {
    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.kind, Kind::Unix | Kind::Handed { is_tcp: false })
    }

    fn remove_path(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens all listening sockets that the settings name, or takes those that were `handed` over instead.
///
/// # Errors
/// Says which address could not be had and why; addresses that fail are skipped while another one works.
pub fn open(settings: &Settings, handed: Vec<Socket>) -> Result<Vec<Listener>, String> {
    let all = &settings.pooler;
    if !handed.is_empty() {
        return take_over(handed);
    }
    let (mut listeners, mut problems) = (Vec::new(), Vec::new());
    if !all.unix_socket_dir.is_empty() {
        let path =
            PathBuf::from(&all.unix_socket_dir).join(format!(".s.PGSQL.{}", all.listen_port));
        match open_unix(&path, settings) {
            Ok(listener) => listeners.push(listener),
            Err(error) => problems.push(format!("cannot listen on {}: {error}", path.display())),
        }
    }
    // TCP comes last: whoever finds the port open may use the socket, too.
    for address in addresses(settings, &mut problems) {
        match open_tcp(address, settings) {
            Ok(listener) => listeners.push(listener),
            Err(error) => problems.push(format!("cannot listen on {address}: {error}")),
        }
    }
    if listeners.is_empty() {
        return Err(problems.join("; "));
    }
    for problem in problems {
        tracing::warn!("{problem}");
    }
    for listener in &listeners {
        tracing::info!("listening on {}", listener.place);
    }
    Ok(listeners)
}

fn take_over(handed: Vec<Socket>) -> Result<Vec<Listener>, String> {
    tracing::warn!(
        "listening on sockets passed by systemd: listen_addr, listen_port and unix_socket_dir are ignored"
    );
    let problem = |error: io::Error| format!("a socket passed by systemd: {error}");
    let mut listeners = Vec::new();
    for socket in handed {
        socket.set_nonblocking(true).map_err(problem)?;
        let address = socket.local_addr().map_err(problem)?;
        let place = match address.as_socket() {
            Some(address) => address.to_string(),
            None => address.as_pathname().map_or_else(
                || "unix:".to_owned(),
                |path| format!("unix:{}", path.display()),
            ),
        };
        tracing::info!("listening on {place}");
        let is_tcp = address.as_socket().is_some();
        listeners.push(Listener {
            socket,
            place,
            path: None,
            kind: Kind::Handed { is_tcp },
        });
    }
    Ok(listeners)
}

fn addresses(settings: &Settings, problems: &mut Vec<String>) -> Vec<SocketAddr> {
    let port = settings.pooler.listen_port;
    let mut found = Vec::new();
    for name in &settings.pooler.listen_addr {
        if name == "*" {
            found.push(SocketAddr::from(([0, 0, 0, 0], port)));
            found.push(SocketAddr::from(([0_u16; 8], port)));
            continue;
        }
        match (name.as_str(), port).to_socket_addrs() {
            Ok(addresses) => found.extend(addresses),
            Err(error) => problems.push(format!("listen_addr {name}: {error}")),
        }
    }
    found.sort();
    found.dedup();
    found
}

fn open_tcp(address: SocketAddr, settings: &Settings) -> io::Result<Listener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if settings.pooler.so_reuseport {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    let place = socket
        .local_addr()?
        .as_socket()
        .map_or_else(|| address.to_string(), |local| local.to_string());
    listen(socket, settings, place, None)
}

fn open_unix(path: &PathBuf, settings: &Settings) -> io::Result<Listener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        ));
    }
    let _ = fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    if let Some(group) = &settings.pooler.unix_socket_group {
        std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
    }
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(settings.pooler.unix_socket_mode),
    )?;
    listen(
        socket,
        settings,
        format!("unix:{}", path.display()),
        Some(path.clone()),
    )
}

/// The number of a group that is given by name or number.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let found = nix::unistd::Group::from_name(group)?;
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no group \"{group}\""));
    Ok(found.ok_or_else(unknown)?.gid.as_raw())
}

fn listen(
    socket: Socket,
    settings: &Settings,
    place: String,
    path: Option<PathBuf>,
) -> io::Result<Listener> {
    socket.listen(i32::try_from(settings.pooler.listen_backlog).unwrap_or(i32::MAX))?;
    let kind = match path {
        Some(_) => Kind::Unix,
        None => Kind::Tcp,
    };
    Ok(Listener {
        socket,
        place,
        path,
        kind,
    })
}

/// The acceptors at work.
#[derive(Debug)]
pub struct Acceptors(Vec<Acceptor>);

#[derive(Debug)]
struct Acceptor {
    listener: Arc<Listener>,
    /// The task that accepts; a socket of our own has a thread.
    task: Option<AbortHandle>,
}

impl Acceptor {
    /// Accepts no more. A socket that is not ours stays open: the next process gets who knocks meanwhile.
    fn stop(&self) {
        match &self.task {
            Some(task) => task.abort(),
            None => {
                let _ = self.listener.socket.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Acceptors {
    /// Starts one thread per listening socket of our own: a thread that only accepts needs no epoll. It is stopped by shutting
    /// the socket, which must not happen to a socket that was handed over: those are accepted from in a task.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        listeners: Vec<Listener>,
        workers: &Arc<Vec<Worker>>,
        registry: &Arc<Registry>,
    ) -> io::Result<Self> {
        let mut acceptors = Vec::new();
        for listener in listeners.into_iter().map(Arc::new) {
            let runtime = Handle::current();
            let (ours, workers, registry) = (
                Arc::clone(&listener),
                Arc::clone(workers),
                Arc::clone(registry),
            );
            let task = if matches!(listener.kind, Kind::Handed { .. }) {
                Some(lasting::task("acceptor", move || {
                    accept_handed(
                        Arc::clone(&ours),
                        Arc::clone(&workers),
                        Arc::clone(&registry),
                    )
                }))
            } else {
                std::thread::Builder::new()
                    .name("acceptor".into())
                    .spawn(move || {
                        lasting::until_done("acceptor", || {
                            accept(&ours, &workers, &registry, &runtime);
                        });
                    })?;
                None
            };
            acceptors.push(Acceptor { listener, task });
        }
        Ok(Self(acceptors))
    }

    /// Stops accepting over TCP: who knocks there from now on is refused by the system. Unix sockets stay open to the end, so
    /// that the console can be reached.
    pub fn stop_tcp(&self) {
        let mut all = self.0.iter();
        while let Some(acceptor) = all.find(|acceptor| !acceptor.listener.is_unix()) {
            acceptor.stop();
        }
    }

    /// Stops accepting, and removes the Unix sockets.
    pub fn stop(self) {
        for acceptor in self.0 {
            acceptor.stop();
            acceptor.listener.remove_path();
        }
    }
}

/// Accepts until the socket is shut; each connection goes to the worker with the fewest clients.
fn accept(listener: &Listener, workers: &[Worker], registry: &Registry, runtime: &Handle) {
    loop {
        let accepted = listener.socket.accept();
        if registry.standstill.is_on() {
            runtime.block_on(registry.standstill.over());
        }
        match accepted {
            Ok((socket, _)) => deal(listener, socket, workers, registry),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) if is_of_the_client(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, hint = TOO_MANY_FILES, "cannot accept");
                std::thread::sleep(OUT_OF_RESOURCES);
            }
        }
    }
}

/// A socket that was handed over, watched by this runtime.
enum Watched {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Watched {
    fn new(listener: &Listener) -> io::Result<Self> {
        let socket = listener.socket.try_clone()?;
        if listener.is_unix() {
            UnixListener::from_std(socket.into()).map(Self::Unix)
        } else {
            TcpListener::from_std(socket.into()).map(Self::Tcp)
        }
    }

    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => Ok(listener.accept().await?.0.into_std()?.into()),
            Self::Unix(listener) => Ok(listener.accept().await?.0.into_std()?.into()),
        }
    }
}

/// Accepts from a socket that was handed over, until the task is aborted.
async fn accept_handed(
    listener: Arc<Listener>,
    workers: Arc<Vec<Worker>>,
    registry: Arc<Registry>,
) {
    let watched = match Watched::new(&listener) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!(%error, "cannot accept from {}", listener.place);
            return;
        }
    };
    loop {
        let accepted = watched.accept().await;
        registry.standstill.over().await;
        match accepted {
            Ok(socket) => deal(&listener, socket, &workers, &registry),
            Err(error) if is_of_the_client(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, hint = TOO_MANY_FILES, "cannot accept");
                tokio::time::sleep(OUT_OF_RESOURCES).await;
            }
        }
    }
}

/// Deals a connection to the worker with the fewest clients.
fn deal(listener: &Listener, socket: Socket, workers: &[Worker], registry: &Registry) {
    let Some(worker) = workers.iter().min_by_key(|worker| worker.clients()) else {
        return;
    };
    // Here, so that ids go by the order in which clients came.
    let id = registry.census.next_id();
    if listener.is_unix() {
        worker.deal(Accepted::Unix(socket.into(), id));
    } else {
        let _ = socket_options(&registry.settings.load()).apply(&socket);
        worker.deal(Accepted::Tcp(socket.into(), id));
    }
}

/// Whether only the connection that was to be accepted is broken, so that the next may be tried at once.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::WouldBlock
            | Kind::TimedOut
            | Kind::PermissionDenied
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
