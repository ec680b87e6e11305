//! A connection to a client or a server: TCP or Unix, with or without TLS, as one type.
//!
//! A plain stream costs one `recv` or `send` per poll and holds no buffer. A TLS stream boxes its state, so that a plain
//! one stays small. A stream belongs to the runtime of one thread; [`Stream::rehome`] takes it out, and
//! [`Homeless::adopt`] brings it, with its TLS state and whatever that has decrypted already, into another.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use socket2::SockRef;

use crate::net::secure::Secure;
use crate::net::tls::describe;

pub use crate::net::socket::{Address, LooseSocket, Socket, SocketOptions};

/// A connection, known to the runtime of this thread.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Secure>>,
    peer: Address,
    local: Address,
}

/// A connection that was accepted, and what accepting it has told.
#[derive(Debug)]
pub struct Fresh {
    /// Its socket.
    pub socket: FreshSocket,
    /// Who is at the other end.
    pub peer: Address,
    /// Where it ends on this side; what is not known costs a system call.
    pub local: Option<Address>,
}

/// The socket of a connection that was accepted.
#[derive(Debug)]
pub enum FreshSocket {
    /// By the runtime that is to serve it.
    Known(Socket),
    /// By another one.
    Loose(LooseSocket),
}

/// A connection between two runtimes, on its way from one thread to another.
#[derive(Debug)]
pub struct Homeless {
    socket: LooseSocket,
    tls: Option<Box<Secure>>,
    peer: Address,
    local: Address,
}

impl Homeless {
    /// Makes the connection known to the runtime of this thread.
    ///
    /// # Errors
    /// When epoll refuses it.
    pub fn adopt(self) -> io::Result<Stream> {
        Ok(Stream {
            socket: self.socket.adopt()?,
            tls: self.tls,
            peer: self.peer,
            local: self.local,
        })
    }
}

impl Stream {
    /// Dials `address`. Cancel-safe: dropping the future closes the socket.
    ///
    /// # Errors
    /// What the kernel answers to `connect`, or to the options.
    pub async fn connect_tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        Self::over(Socket::connect_tcp(address, options).await?)
    }

    /// Dials the Unix socket at `path`; a path that begins with `@` is in the abstract namespace, as with libpq.
    ///
    /// # Errors
    /// What the kernel answers to `connect`.
    pub async fn connect_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::over(Socket::connect_unix(path.as_ref()).await?)
    }

    /// Takes an accepted TCP connection; [`SocketOptions::apply`] has its own call.
    ///
    /// # Errors
    /// When the connection is gone already, or epoll refuses it.
    pub fn from_accepted_tcp(socket: std::net::TcpStream) -> io::Result<Self> {
        Self::over(Socket::from_accepted_tcp(socket)?)
    }

    /// Takes an accepted Unix connection.
    ///
    /// # Errors
    /// When epoll refuses it.
    pub fn from_accepted_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Self::over(Socket::from_accepted_unix(socket)?)
    }

    /// Takes an accepted connection of which something is known already.
    ///
    /// # Errors
    /// When the connection is gone already, or epoll refuses it.
    pub fn from_fresh(fresh: Fresh) -> io::Result<Self> {
        let socket = match fresh.socket {
            FreshSocket::Known(socket) => socket,
            FreshSocket::Loose(socket) => socket.adopt()?,
        };
        Ok(Self {
            peer: fresh.peer,
            local: fresh.local.map_or_else(|| socket.local(), Ok)?,
            socket,
            tls: None,
        })
    }

    fn over(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            peer: socket.peer()?,
            local: socket.local()?,
            socket,
            tls: None,
        })
    }

    /// Shakes hands as a server. `first_bytes` are what was already read of the client's hello; nothing clear may have
    /// been read behind the client's request for TLS.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] around a [`rustls::Error`] when the two cannot agree (the client has been told
    /// so); [`io::ErrorKind::UnexpectedEof`] when it closed; [`io::ErrorKind::InvalidInput`] on a stream that has TLS.
    pub async fn accept_tls(
        mut self,
        config: Arc<ServerConfig>,
        first_bytes: &[u8],
    ) -> io::Result<Stream> {
        self.refuse_second_tls()?;
        self.tls = Some(Secure::accept(&mut self.socket, config, first_bytes).await?);
        Ok(self)
    }

    /// Shakes hands as the client of the server called `name`.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    ///
    /// # Errors
    /// As [`Stream::accept_tls`].
    pub async fn connect_tls(
        mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Stream> {
        self.refuse_second_tls()?;
        self.tls = Some(Secure::connect(&mut self.socket, config, name).await?);
        Ok(self)
    }

    fn refuse_second_tls(&self) -> io::Result<()> {
        match self.tls {
            Some(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS inside TLS",
            )),
            None => Ok(()),
        }
    }

    /// Takes the connection away from the runtime of this thread.
    ///
    /// # Errors
    /// When epoll refuses to let it go; the connection is closed then.
    pub fn rehome(self) -> io::Result<Homeless> {
        Ok(Homeless {
            socket: self.socket.loosen()?,
            tls: self.tls,
            peer: self.peer,
            local: self.local,
        })
    }

    /// Reads into `into`; 0 is the end, be it a goodbye of TLS or the socket's.
    ///
    /// # Errors
    /// What the kernel answers; [`io::ErrorKind::InvalidData`] when the TLS records are not what was agreed on.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_read(cx, into),
            Some(tls) => tls.poll_read(&mut self.socket, cx, into),
        }
    }

    /// Writes some of `bytes`, with one `send`. Under TLS the bytes accepted may be sent in part only: the rest leaves
    /// with [`Stream::poll_flush`] or before the next write.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_write(cx, bytes),
            Some(tls) => tls.poll_write(&mut self.socket, cx, &[IoSlice::new(bytes)]),
        }
    }

    /// [`Stream::poll_write`] of several slices as one batch.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_write_vectored(cx, slices),
            Some(tls) => tls.poll_write(&mut self.socket, cx, slices),
        }
    }

    /// Writes what can be written now; nobody is woken later.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing can, else what the kernel answers.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_write(bytes),
            Some(tls) => tls.try_write(&mut self.socket, bytes),
        }
    }

    /// Sends the TLS records that wait; a plain stream has none.
    ///
    /// # Errors
    /// What the kernel answers.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.poll_flush(&mut self.socket, cx),
        }
    }

    /// Whether TLS records wait to be sent.
    #[inline]
    pub fn has_pending_output(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.has_pending_output())
    }

    /// Whether a read may find something, as far as the runtime has heard. Costs no system call and no lock, and wakes nobody.
    #[inline]
    pub fn has_heard(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unread()) || self.socket.has_heard()
    }

    /// Whether the socket holds bytes, an end or an error, known to the runtime or not. Costs a system call.
    pub fn has_unheard_bytes(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            Socket::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        !matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends what waits, says goodbye, and shuts the sending half. What the other side sends can still be read.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            ready!(tls.poll_goodbye(&mut self.socket, cx))?;
        }
        self.socket.shut(cx)
    }

    /// Whether the other end, which had closed already, has refused bytes that were sent after it (TCP). Asked once, after
    /// the end: asking forgets it.
    pub fn has_refused_bytes(&self) -> bool {
        let error = match &self.socket {
            Socket::Tcp(socket) => socket.take_error(),
            Socket::Unix(socket) => socket.take_error(),
        };
        matches!(error, Ok(Some(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Has the kernel give the connection up when the other end is silent, to what was sent or to a probe, for about `limit`:
    /// for one of which only the end is awaited. Without effect on a Unix socket, whose other end cannot be lost.
    pub fn watch_end(&self, limit: Duration) {
        let options = SocketOptions {
            keepalive: true,
            keepcnt: Some(2),
            keepidle: Some(limit),
            keepintvl: Some(limit),
            user_timeout: Some(limit * 2),
            socket_buffer: None,
        };
        if let Socket::Tcp(socket) = &self.socket {
            let _ = options.apply(socket);
        }
    }

    /// Closes at once: says goodbye as far as that goes without waiting.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.goodbye(&mut self.socket);
        }
    }

    /// Reads some bytes; 0 is the end. Cancel-safe: nothing read is lost.
    ///
    /// # Errors
    /// As [`Stream::poll_read`].
    pub async fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, into)).await
    }

    /// Writes all of `bytes` and flushes. Not cancel-safe: some may have been written.
    ///
    /// # Errors
    /// What the kernel answers.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, rest)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[count..];
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// Where the connection ends on this side.
    pub fn local(&self) -> Address {
        self.local
    }

    /// The user at the other end of a Unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match &self.socket {
            Socket::Unix(socket) => Some(socket.peer_cred().ok()?.uid()),
            Socket::Tcp(_) => None,
        }
    }

    /// The process at the other end of a Unix socket, where the system tells.
    pub fn peer_pid(&self) -> Option<i32> {
        match &self.socket {
            Socket::Unix(socket) => socket.peer_cred().ok()?.pid(),
            Socket::Tcp(_) => None,
        }
    }

    /// The number of its descriptor.
    pub fn number(&self) -> i32 {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
    }

    /// A second descriptor of the plain connection, for another process; this one is then to be dropped without a word.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] under TLS, whose state cannot be passed on; what the system answers.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        if self.is_tls() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Socket::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }

    /// Takes a plain connection that another process has passed on.
    ///
    /// # Errors
    /// When it is gone already, or epoll refuses it.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        if socket.local_addr()?.is_unix() {
            Self::from_accepted_unix(socket.into())
        } else {
            Self::from_accepted_tcp(socket.into())
        }
    }

    /// The bare socket, where it is a plain one of Unix.
    pub fn into_unix(self) -> Option<tokio::net::UnixStream> {
        match (self.socket, self.tls) {
            (Socket::Unix(socket), None) => Some(socket),
            _ => None,
        }
    }

    /// Whether TLS lies over the socket.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The protocol agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.connection().alpn_protocol()
    }

    /// Version and cipher in OpenSSL's words, like `TLSv1.3/TLS_AES_256_GCM_SHA384`.
    pub fn tls_description(&self) -> Option<String> {
        let connection = self.tls.as_ref()?.connection();
        let suite = connection.negotiated_cipher_suite()?.suite();
        Some(describe(connection.protocol_version()?, suite))
    }

    /// The certificate the other side showed.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref()?.connection().peer_certificates()?.first()
    }
}
