//! Where clients knock: TCP and Unix sockets, one acceptor that deals connections to the workers.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::clients::entrance::Accepted;
use crate::config::settings::Settings;
use crate::pools::plan::socket_options;
use crate::pools::registry::Registry;
use crate::process::lasting;
use crate::process::worker::Worker;

/// How long the acceptor rests when the system has no descriptor, or no memory, left.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens, to be shown.
    pub place: String,
    path: Option<PathBuf>,
}

impl Listener {
    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.path.is_some()
    }

    fn remove_path(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens all listening sockets that the settings name.
///
/// # Errors
/// Says which address could not be had and why; addresses that fail are skipped while another one works.
pub fn open(settings: &Settings) -> Result<Vec<Listener>, String> {
    let all = &settings.pooler;
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

fn listen(
    socket: Socket,
    settings: &Settings,
    place: String,
    path: Option<PathBuf>,
) -> io::Result<Listener> {
    socket.listen(i32::try_from(settings.pooler.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(Listener {
        socket,
        place,
        path,
    })
}

/// The acceptors at work.
#[derive(Debug)]
pub struct Acceptors(Vec<Arc<Listener>>);

impl Acceptors {
    /// Starts one thread per listening socket: a thread that only accepts needs no epoll.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        listeners: Vec<Listener>,
        workers: &Arc<Vec<Worker>>,
        registry: &Arc<Registry>,
    ) -> io::Result<Self> {
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        for listener in &listeners {
            let (listener, workers, registry) = (
                Arc::clone(listener),
                Arc::clone(workers),
                Arc::clone(registry),
            );
            std::thread::Builder::new()
                .name("acceptor".into())
                .spawn(move || {
                    lasting::until_done("acceptor", || accept(&listener, &workers, &registry));
                })?;
        }
        Ok(Self(listeners))
    }

    /// Stops accepting over TCP: who knocks there from now on is refused by the system. Unix sockets stay open to the end, so
    /// that the console can be reached.
    pub fn stop_tcp(&self) {
        for listener in self.0.iter().filter(|listener| !listener.is_unix()) {
            let _ = listener.socket.shutdown(Shutdown::Both);
        }
    }

    /// Stops accepting, and removes the Unix sockets.
    pub fn stop(self) {
        for listener in self.0 {
            let _ = listener.socket.shutdown(Shutdown::Both);
            listener.remove_path();
        }
    }
}

/// Accepts until the socket is shut; each connection goes to the worker with the fewest clients.
fn accept(listener: &Listener, workers: &[Worker], registry: &Registry) {
    loop {
        match listener.socket.accept() {
            Ok((socket, _)) => {
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
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) if is_of_the_client(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                let hint = "where files are too many, raise their limit (ulimit -n)";
                tracing::error!(%error, hint, "cannot accept");
                std::thread::sleep(OUT_OF_RESOURCES);
            }
        }
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
