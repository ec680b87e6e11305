//! Who let clients in: one acceptor per listening socket, which deals connections to the workers.
//!
//! A single worker accepts for itself: what another thread takes costs two changes of threads. Where there are several, the main
//! thread accepts for all of them.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use crate::clients::entrance::Accepted;
use crate::net::stream::{Address, Fresh, FreshSocket, Socket};
use crate::pools::plan::socket_options;
use crate::pools::registry::Registry;
use crate::process::lasting;
use crate::process::listener::Listener;
use crate::process::worker::Worker;

/// How long the acceptor rests when the system has no descriptor, or no memory, left.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

/// Between two looks whether an acceptor has ended.
const ENDING: Duration = Duration::from_millis(1);

const TOO_MANY_FILES: &str = "where files are too many, raise their limit (ulimit -n)";

/// The acceptors at work.
#[derive(Debug)]
pub struct Acceptors(Vec<Acceptor>);

#[derive(Debug)]
struct Acceptor {
    listener: Arc<Listener>,
    task: AbortHandle,
}

impl Acceptor {
    /// Accepts no more. A socket that is not ours stays open: the next process gets who knocks meanwhile.
    fn stop(&self) {
        self.task.abort();
        if !self.listener.is_handed() {
            let _ = self.listener.socket().shutdown(Shutdown::Both);
        }
    }

    /// Accepts no more from a socket that goes on to listen, for another process.
    async fn let_go(&self) {
        self.task.abort();
        // It may be accepting in this moment, on another thread.
        while !self.task.is_finished() {
            tokio::time::sleep(ENDING).await;
        }
    }
}

impl Acceptors {
    /// Starts one task per listening socket.
    ///
    /// # Errors
    /// When the system watches no more sockets.
    pub fn start(
        listeners: Vec<Arc<Listener>>,
        workers: &Arc<Vec<Worker>>,
        registry: &Arc<Registry>,
    ) -> io::Result<Self> {
        let port = registry.settings.load().pooler.listen_port;
        let doors = listeners.iter().map(|listener| listener.door(port));
        registry.doors.store(Arc::new(doors.collect()));
        let _entered = match &workers[..] {
            [alone] => Some(alone.runtime().enter()),
            _ => None,
        };
        let options = socket_options(&registry.settings.load());
        let start = |listener: Arc<Listener>| {
            if !listener.is_unix() {
                // What the system refuses is no reason to let nobody in.
                let _ = options.prepare(listener.socket());
            }
            let watched = Arc::new(Watched::new(&listener)?);
            let (ours, workers) = (Arc::clone(&listener), Arc::clone(workers));
            let registry = Arc::clone(registry);
            let task = lasting::task("acceptor", move || {
                let (watched, ours) = (Arc::clone(&watched), Arc::clone(&ours));
                accept(watched, ours, Arc::clone(&workers), Arc::clone(&registry))
            });
            Ok(Acceptor { listener, task })
        };
        listeners
            .into_iter()
            .map(start)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The sockets that are accepted from.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        let all = self.0.iter();
        all.map(|acceptor| Arc::clone(&acceptor.listener)).collect()
    }

    /// Accepts no more from sockets that go on to listen, for another process.
    pub async fn let_go(&self) {
        for acceptor in &self.0 {
            acceptor.let_go().await;
        }
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

/// A socket that listens, watched by a runtime.
enum Watched {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Watched {
    fn new(listener: &Listener) -> io::Result<Self> {
        let socket = listener.socket().try_clone()?;
        if listener.is_unix() {
            UnixListener::from_std(socket.into()).map(Self::Unix)
        } else {
            TcpListener::from_std(socket.into()).map(Self::Tcp)
        }
    }

    /// A connection, and who is at its other end.
    async fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket), Address::Tcp(peer)))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), Address::Unix))
            }
        }
    }
}

/// Accepts until the socket is shut or the task is aborted.
async fn accept(
    watched: Arc<Watched>,
    listener: Arc<Listener>,
    workers: Arc<Vec<Worker>>,
    registry: Arc<Registry>,
) {
    loop {
        let accepted = watched.accept().await;
        if registry.standstill.is_on() {
            registry.standstill.over().await;
        }
        let dealt = accepted.and_then(|fresh| deal(&listener, fresh, &workers, &registry));
        match dealt {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
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
fn deal(
    listener: &Listener,
    (socket, peer): (Socket, Address),
    workers: &[Worker],
    registry: &Registry,
) -> io::Result<()> {
    let Some(worker) = workers.iter().min_by_key(|worker| worker.clients()) else {
        return Ok(());
    };
    // Here, so that ids go by the order in which clients came.
    let id = registry.census.next_id();
    if let Socket::Tcp(socket) = &socket {
        let _ = socket_options(&registry.settings.load()).apply(socket);
    }
    let socket = match workers.len() {
        1 => FreshSocket::Known(socket),
        _ => FreshSocket::Loose(socket.loosen()?),
    };
    let local = listener.local();
    let fresh = Fresh {
        socket,
        peer,
        local,
    };
    worker.deal(Accepted::Fresh(fresh, id));
    Ok(())
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
