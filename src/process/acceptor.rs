//! Who let clients in: one acceptor per listening socket, which deals connections to the workers.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::clients::entrance::Accepted;
use crate::pools::plan::socket_options;
use crate::pools::registry::Registry;
use crate::process::lasting;
use crate::process::listener::Listener;
use crate::process::worker::Worker;

/// How long the acceptor rests when the system has no descriptor, or no memory, left.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

/// How long a thread that accepts may take to look up.
const WAKING: Duration = Duration::from_millis(5);

const TOO_MANY_FILES: &str = "where files are too many, raise their limit (ulimit -n)";

/// The acceptors at work.
#[derive(Debug)]
pub struct Acceptors(Vec<Acceptor>);

#[derive(Debug)]
struct Acceptor {
    listener: Arc<Listener>,
    work: Work,
    /// It is to accept no more.
    is_over: Arc<AtomicBool>,
}

/// Who accepts.
#[derive(Debug)]
enum Work {
    /// A thread.
    Thread(JoinHandle<()>),
    /// A task.
    Task(AbortHandle),
}

impl Acceptor {
    /// Accepts no more. A socket that is not ours stays open: the next process gets who knocks meanwhile.
    fn stop(&self) {
        match &self.work {
            Work::Task(task) => task.abort(),
            Work::Thread(_) => {
                let _ = self.listener.socket().shutdown(Shutdown::Both);
            }
        }
    }

    /// Accepts no more from a socket that goes on to listen, for another process.
    async fn let_go(&self) {
        self.is_over.store(true, SeqCst);
        match &self.work {
            Work::Task(task) => task.abort(),
            Work::Thread(thread) => {
                // The other process may take the client that was to wake it.
                while !thread.is_finished() {
                    self.listener.wake();
                    tokio::time::sleep(WAKING).await;
                }
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
        listeners: Vec<Arc<Listener>>,
        workers: &Arc<Vec<Worker>>,
        registry: &Arc<Registry>,
    ) -> io::Result<Self> {
        let port = registry.settings.load().pooler.listen_port;
        let doors = listeners.iter().map(|listener| listener.door(port));
        registry.doors.store(Arc::new(doors.collect()));
        let mut acceptors = Vec::new();
        for listener in listeners {
            let runtime = Handle::current();
            let (ours, workers, registry) = (
                Arc::clone(&listener),
                Arc::clone(workers),
                Arc::clone(registry),
            );
            let is_over = Arc::new(AtomicBool::new(false));
            let work = if listener.is_handed() {
                Work::Task(lasting::task("acceptor", move || {
                    accept_handed(
                        Arc::clone(&ours),
                        Arc::clone(&workers),
                        Arc::clone(&registry),
                    )
                }))
            } else {
                let thread = std::thread::Builder::new().name("acceptor".into());
                let ends = Arc::clone(&is_over);
                Work::Thread(thread.spawn(move || {
                    lasting::until_done("acceptor", || {
                        accept(&ours, &workers, &registry, (&runtime, &ends));
                    });
                })?)
            };
            acceptors.push(Acceptor {
                listener,
                work,
                is_over,
            });
        }
        Ok(Self(acceptors))
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

/// Accepts until the socket is shut; each connection goes to the worker with the fewest clients.
fn accept(
    listener: &Listener,
    workers: &[Worker],
    registry: &Registry,
    (runtime, is_over): (&Handle, &AtomicBool),
) {
    while !is_over.load(SeqCst) {
        let accepted = listener.socket().accept();
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
        let socket = listener.socket().try_clone()?;
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
