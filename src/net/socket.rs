//! A bare socket: TCP or Unix, known to the runtime of the thread that holds it.
//!
//! Every poll is one system call at most. A read or a write that filled less than it was given tells tokio that the
//! kernel has no more, so the next poll waits for epoll without asking the kernel again.
//!
//! What a query reads and writes goes past the C library: there `recv` and `send` are points at which a thread may be cancelled, and saying
//! so costs two atomic operations each.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// The kernel takes so many bytes as a whole or not at all, but for rare cases.
const SMALL: usize = 4096;

/// What the kernel is asked to do for a TCP socket. The default leaves everything to the kernel, as PgBouncer's zeroes do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Whether an idle connection is probed (`tcp_keepalive`).
    pub keepalive: bool,
    /// After how many lost probes the connection is given up (`tcp_keepcnt`).
    pub keepcnt: Option<u32>,
    /// How long a connection is idle before the first probe (`tcp_keepidle`), in whole seconds.
    pub keepidle: Option<Duration>,
    /// How long between two probes (`tcp_keepintvl`), in whole seconds.
    pub keepintvl: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`tcp_user_timeout`).
    pub user_timeout: Option<Duration>,
    /// The size of the kernel's buffers in bytes, each way (`tcp_socket_buffer`).
    pub socket_buffer: Option<usize>,
}

impl SocketOptions {
    /// Sets the options on a TCP socket, whoever made it.
    ///
    /// # Errors
    /// What the kernel answers, for example when a value is out of its range.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        self.prepare(socket)?;
        let socket = SockRef::from(socket);
        if self.keepalive {
            socket.set_tcp_keepalive(&self.probes())?;
        }
        #[cfg(target_os = "linux")]
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }

    /// Sets on a listening socket what whoever is accepted must have from the start: the size of the buffers. It is told to the other end
    /// before the connection is accepted. Made smaller after that it is less than that end believes it may send at once, which then waits
    /// for the system's timer, 200 ms, before each piece.
    ///
    /// # Errors
    /// As [`SocketOptions::apply`].
    pub fn prepare(&self, listening: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(listening);
        if let Some(bytes) = self.socket_buffer {
            socket.set_send_buffer_size(bytes)?;
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    fn probes(&self) -> TcpKeepalive {
        let mut probes = TcpKeepalive::new();
        if let Some(idle) = self.keepidle {
            probes = probes.with_time(idle);
        }
        if let Some(interval) = self.keepintvl {
            probes = probes.with_interval(interval);
        }
        if let Some(count) = self.keepcnt {
            probes = probes.with_retries(count);
        }
        probes
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// A TCP address and port.
    Tcp(SocketAddr),
    /// A Unix socket; its path says nothing about who is there.
    Unix,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(formatter),
            Address::Unix => formatter.write_str("unix"),
        }
    }
}

/// What the kernel calls the Unix socket at `path`: one that begins with `@` is in the abstract namespace, as with libpq.
pub fn unix_name(path: &Path) -> PathBuf {
    let name = path.to_str().and_then(|text| text.strip_prefix('@'));
    name.map_or_else(|| path.to_owned(), |name| format!("\0{name}").into())
}

/// Dials the Unix socket at `path`, and waits for it.
///
/// # Errors
/// What the kernel answers to `connect`.
pub fn knock(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&SockAddr::unix(unix_name(path))?)?;
    Ok(OwnedFd::from(socket).into())
}

/// A socket known to a runtime.
#[derive(Debug)]
pub enum Socket {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A socket that no runtime knows, non-blocking still.
#[derive(Debug)]
pub enum LooseSocket {
    /// TCP over IPv4 or IPv6.
    Tcp(std::net::TcpStream),
    /// A Unix stream socket.
    Unix(std::os::unix::net::UnixStream),
}

impl LooseSocket {
    /// Makes the socket known to the runtime of this thread.
    ///
    /// # Errors
    /// When epoll refuses it.
    pub fn adopt(self) -> io::Result<Socket> {
        match self {
            LooseSocket::Tcp(socket) => TcpStream::from_std(socket).map(Socket::Tcp),
            LooseSocket::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        }
    }
}

impl Socket {
    /// Dials `address`. Cancel-safe: dropping the future closes the socket.
    ///
    /// # Errors
    /// What the kernel answers to `connect`, or to the options.
    pub async fn connect_tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        options.apply(&socket)?;
        socket.set_nodelay(true)?;
        Ok(Socket::Tcp(socket.connect(address).await?))
    }

    /// Dials the Unix socket at `path`; a path that begins with `@` is in the abstract namespace, as with libpq.
    ///
    /// # Errors
    /// What the kernel answers to `connect`.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Socket::Unix(UnixStream::connect(unix_name(path)).await?))
    }

    /// Makes an accepted TCP connection known to the runtime of this thread.
    ///
    /// # Errors
    /// When the connection is gone already, or epoll refuses it.
    pub fn from_accepted_tcp(socket: std::net::TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        LooseSocket::Tcp(socket).adopt()
    }

    /// Makes an accepted Unix connection known to the runtime of this thread.
    ///
    /// # Errors
    /// When epoll refuses it.
    pub fn from_accepted_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        LooseSocket::Unix(socket).adopt()
    }

    /// Takes the socket away from its runtime.
    ///
    /// # Errors
    /// When epoll refuses to let it go.
    pub fn loosen(self) -> io::Result<LooseSocket> {
        match self {
            Socket::Tcp(socket) => socket.into_std().map(LooseSocket::Tcp),
            Socket::Unix(socket) => socket.into_std().map(LooseSocket::Unix),
        }
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(socket) => socket.peer_addr().map(Address::Tcp),
            Socket::Unix(_) => Ok(Address::Unix),
        }
    }

    /// Where the connection ends on this side.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn local(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Socket::Unix(_) => Ok(Address::Unix),
        }
    }

    /// Reads into `into` with one `recv`; 0 is the end.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self {
                Socket::Tcp(socket) => ready!(socket.poll_read_ready(cx))?,
                Socket::Unix(socket) => ready!(socket.poll_read_ready(cx))?,
            }
            match self.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads what the kernel has. Where that is less than there is room for, it has no more, and the next read waits for epoll.
    #[inline]
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut drained = None;
        let mut receive = |socket: BorrowedFd<'_>| {
            let (count, _) = recv(socket, &mut *into, RecvFlags::empty())?;
            if count > 0 && count < into.len() {
                drained = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        };
        let read = match self {
            Socket::Tcp(socket) => socket.try_io(Interest::READABLE, || receive(socket.as_fd())),
            Socket::Unix(socket) => socket.try_io(Interest::READABLE, || receive(socket.as_fd())),
        };
        drained.map_or(read, Ok)
    }

    /// Writes what the kernel takes of `bytes` with one `send`.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() <= SMALL {
            // Cheaper, as long as the kernel takes all of it.
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
        match self {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    /// Writes what the kernel takes of `slices`, in order, with one `writev`.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    /// Writes what the kernel takes of `bytes` now; nobody is woken later.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing, else what the kernel answers.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let give = |socket: BorrowedFd<'_>| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?);
        match self {
            Socket::Tcp(socket) => socket.try_io(Interest::WRITABLE, || give(socket.as_fd())),
            Socket::Unix(socket) => socket.try_io(Interest::WRITABLE, || give(socket.as_fd())),
        }
    }

    /// [`Socket::try_write`] of several slices.
    ///
    /// # Errors
    /// The same.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.try_write_vectored(slices),
            Socket::Unix(socket) => socket.try_write_vectored(slices),
        }
    }

    /// Whether the runtime has heard that a read may find something: no system call, no lock, and nobody is woken later.
    #[inline]
    pub fn has_heard(&self) -> bool {
        let heard = || Ok(());
        match self {
            Socket::Tcp(socket) => socket.try_io(Interest::READABLE, heard).is_ok(),
            Socket::Unix(socket) => socket.try_io(Interest::READABLE, heard).is_ok(),
        }
    }

    /// Tells the other end that nothing more comes.
    ///
    /// # Errors
    /// What the kernel answers; a connection that is gone already is no error.
    pub fn shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match self {
            Socket::Tcp(socket) => ready!(Pin::new(socket).poll_shutdown(cx)),
            Socket::Unix(socket) => ready!(Pin::new(socket).poll_shutdown(cx)),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}
