//! The TLS over a socket: what turns clear bytes into records and back.
//!
//! rustls is driven by hand. A batch of clear bytes becomes records in rustls' own list and leaves with one `send`
//! (`writev` when there are several records); what the socket refuses stays in that list, and until it is gone no new
//! clear bytes are accepted. So the list never holds more than a batch and its headers. Records that come in are
//! received into one buffer that the thread's connections share, hence an idle connection holds none.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig};

use crate::net::socket::Socket;

/// How many clear bytes one write accepts at most: four full records.
const BATCH: usize = 64 * 1024;

/// How many bytes are received at once: two full records.
const INTAKE: usize = 32 * 1024;

/// rustls refuses more records while it holds more clear bytes than this.
const UNREAD: usize = 16 * 1024;

thread_local! {
    /// Where this thread receives records, for all its connections.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; INTAKE]);
}

/// The TLS state of one connection.
pub struct Secure {
    rustls: Connection,
    /// How many clear bytes rustls holds for the next read.
    unread: usize,
    /// Records received that rustls had no room for. Mostly empty, and then without memory.
    unfed: Vec<u8>,
    /// The other side has said goodbye, or has closed.
    ended: bool,
    /// Goodbye has been said to the other side.
    said_goodbye: bool,
    /// rustls' own buffer may have grown past what an idle connection should hold.
    swollen: bool,
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Secure")
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

impl Secure {
    /// Shakes hands as the server. `first_bytes` are what was already read of the client's hello.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] around a [`rustls::Error`] when the two cannot agree (the other side has been told
    /// so); [`io::ErrorKind::UnexpectedEof`] when it closed; else what the socket says.
    pub async fn accept(
        socket: &mut Socket,
        config: Arc<ServerConfig>,
        first_bytes: &[u8],
    ) -> io::Result<Box<Self>> {
        let mut acceptor = Acceptor::default();
        let mut received = first_bytes.to_vec();
        loop {
            let mut rest = received.as_slice();
            while !rest.is_empty() {
                acceptor.read_tls(&mut rest)?;
                let accepted = match acceptor.accept() {
                    Ok(None) => continue,
                    Ok(Some(accepted)) => accepted,
                    Err((error, mut alert)) => {
                        // The alert is a courtesy: whether it leaves changes nothing.
                        let _ = alert.write(&mut Outlet { socket, cx: None });
                        return Err(refused(error));
                    }
                };
                let connection =
                    accepted
                        .into_connection(config)
                        .map_err(|(error, mut alert)| {
                            let _ = alert.write(&mut Outlet { socket, cx: None });
                            refused(error)
                        })?;
                let mut secure = Box::new(Self::new(connection.into()));
                secure.unfed = rest.to_vec();
                std::future::poll_fn(|cx| secure.poll_handshake(socket, cx)).await?;
                return Ok(secure);
            }
            received.resize(4096, 0);
            let count = std::future::poll_fn(|cx| socket.poll_read(cx, &mut received)).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.truncate(count);
        }
    }

    /// Shakes hands as the client of the server called `name`.
    ///
    /// # Errors
    /// As [`Secure::accept`].
    pub async fn connect(
        socket: &mut Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Box<Self>> {
        let connection = ClientConnection::new(config, name).map_err(refused)?;
        let mut secure = Box::new(Self::new(connection.into()));
        std::future::poll_fn(|cx| secure.poll_handshake(socket, cx)).await?;
        Ok(secure)
    }

    fn new(mut rustls: Connection) -> Self {
        // The bound is kept here: nothing is encrypted while anything waits to be sent.
        rustls.set_buffer_limit(None);
        Self {
            rustls,
            unread: 0,
            unfed: Vec::new(),
            ended: false,
            said_goodbye: false,
            swollen: false,
        }
    }

    fn poll_handshake(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.digest(socket)?;
            ready!(self.poll_flush(socket, cx))?;
            if !self.rustls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_receive(socket, cx, &mut []))?;
        }
    }

    /// Reads clear bytes into `into`, receiving at most once per turn of waiting; 0 is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when the records are not what was agreed on; else what the socket says.
    pub fn poll_read(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let mut count = self.take(into)?;
            if !self.unfed.is_empty() {
                self.digest(socket)?;
                count += self.take(&mut into[count..])?;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            if !self.unfed.is_empty() {
                continue;
            }
            match self.poll_receive(socket, cx, into) {
                Poll::Ready(Ok(0)) => {}
                Poll::Pending => {
                    self.shrink();
                    return Poll::Pending;
                }
                done => return done,
            }
        }
    }

    /// Accepts clear bytes, and sends them as far as the socket takes them. What is accepted and not sent leaves with
    /// [`Secure::poll_flush`], or before the next bytes are accepted; the task is woken when it can.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(socket, cx))?;
        let accepted = self.encrypt(slices)?;
        if let Poll::Ready(sent) = self.poll_flush(socket, cx) {
            sent?;
        }
        Poll::Ready(Ok(accepted))
    }

    /// [`Secure::poll_write`] for who does not want to be woken.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when earlier bytes wait still; else what the socket says.
    pub fn try_write(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        self.send(socket, None)?;
        let accepted = self.encrypt(&[IoSlice::new(bytes)])?;
        match self.send(socket, None) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_flush(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.send(socket, Some(cx)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            done => Poll::Ready(done),
        }
    }

    /// Says goodbye, once, and sends it.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_goodbye(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.queue_goodbye();
        self.poll_flush(socket, cx)
    }

    /// Says goodbye as far as that goes without waiting.
    pub fn goodbye(&mut self, socket: &mut Socket) {
        self.queue_goodbye();
        // Who does not hear it sees the socket close.
        let _ = self.send(socket, None);
    }

    /// Whether records wait to be sent.
    pub fn has_pending_output(&self) -> bool {
        self.rustls.wants_write()
    }

    /// Whether a read finds something without asking the socket.
    pub fn has_unread(&self) -> bool {
        self.unread > 0 || !self.unfed.is_empty() || self.ended
    }

    /// What rustls knows of the connection.
    pub fn connection(&self) -> &Connection {
        &self.rustls
    }

    fn queue_goodbye(&mut self) {
        if !self.said_goodbye {
            self.said_goodbye = true;
            self.rustls.send_close_notify();
        }
    }

    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [] => Ok(0),
            [one] => {
                let bytes = &one[..one.len().min(BATCH)];
                self.rustls.writer().write(bytes)
            }
            [first, ..] if first.len() >= BATCH => self.rustls.writer().write(&first[..BATCH]),
            several => {
                let mut room = BATCH;
                let fitting = several.iter().take_while(|slice| {
                    let fits = slice.len() <= room;
                    room -= slice.len().min(room);
                    fits
                });
                let count = fitting.count();
                self.rustls.writer().write_vectored(&several[..count])
            }
        }
    }

    /// Sends until nothing waits or the socket is full.
    fn send(&mut self, socket: &mut Socket, mut cx: Option<&mut Context<'_>>) -> io::Result<()> {
        while self.rustls.wants_write() {
            let cx = cx.as_deref_mut();
            if self.rustls.write_tls(&mut Outlet { socket, cx })? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Receives once, and reads what came of it into `into`. 0 when no clear bytes came of it, yet or ever.
    fn poll_receive(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            // More than fits into `into` would have to be kept.
            let wanted = into.len().clamp(UNREAD, INTAKE);
            let received = ready!(socket.poll_read(cx, &mut scratch[..wanted]))?;
            if received == 0 {
                self.ended = true;
                return Poll::Ready(Ok(0));
            }
            let mut rest = &scratch[..received];
            let mut count = 0;
            while self.feed(&mut rest, socket)? {
                count += self.take(&mut into[count..])?;
            }
            count += self.take(&mut into[count..])?;
            self.unfed.extend_from_slice(rest);
            Poll::Ready(Ok(count))
        })
    }

    /// Gives rustls what it had no room for before.
    fn digest(&mut self, socket: &mut Socket) -> io::Result<()> {
        if self.unfed.is_empty() {
            return Ok(());
        }
        let unfed = std::mem::take(&mut self.unfed);
        let mut rest = unfed.as_slice();
        while self.feed(&mut rest, socket)? {}
        self.unfed = rest.to_vec();
        Ok(())
    }

    /// Gives rustls some of `records`, and answers what it wants answered. False when it takes no more: they are used up, it is full, or
    /// the other side has said goodbye.
    fn feed(&mut self, records: &mut &[u8], socket: &mut Socket) -> io::Result<bool> {
        if self.ended {
            *records = &[];
        }
        if records.is_empty() || self.unread > UNREAD {
            return Ok(false);
        }
        self.rustls.read_tls(records)?;
        self.swollen = true;
        let state = match self.rustls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                let _ = self.send(socket, None);
                return Err(refused(error));
            }
        };
        self.unread = state.plaintext_bytes_to_read();
        self.ended = state.peer_has_closed();
        if self.rustls.wants_write() && !self.rustls.is_handshaking() {
            // A new key or an answer to one. What the socket refuses leaves with the next write.
            let _ = self.send(socket, None);
        }
        Ok(true)
    }

    /// Takes clear bytes that rustls holds.
    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.unread == 0 || into.is_empty() {
            return Ok(0);
        }
        let count = self.rustls.reader().read(into)?;
        self.unread -= count;
        Ok(count)
    }

    /// Gives back what rustls' buffer has grown by. rustls does so when it is about to read and holds nothing, even if
    /// that read comes to nothing.
    fn shrink(&mut self) {
        if self.swollen {
            self.swollen = false;
            let _ = self.rustls.read_tls(&mut Nothing);
        }
    }
}

/// A source that has nothing yet.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Where rustls writes its records: the socket, as far as it takes them.
struct Outlet<'a, 'b, 'c> {
    socket: &'a mut Socket,
    /// Who is woken when the socket takes more; nobody without it.
    cx: Option<&'b mut Context<'c>>,
}

impl Write for Outlet<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(cx) = self.cx.as_deref_mut() else {
            return self.socket.try_write(bytes);
        };
        match self.socket.poll_write(cx, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [one] = slices {
            return self.write(one);
        }
        let Some(cx) = self.cx.as_deref_mut() else {
            return self.socket.try_write_vectored(slices);
        };
        match self.socket.poll_write_vectored(cx, slices) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
