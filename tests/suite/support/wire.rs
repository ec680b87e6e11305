//! A client made of raw frames.
//!
//! Drivers hide the order of messages, and that order is what a pooler is judged by. This client sends any bytes it is
//! told to and shows every frame that comes back. It blocks, and it never waits longer than [`PATIENCE`], so a pooler
//! that answers nothing makes a failed test and not a hung one.
//!
//! Frames: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

mod batch;
mod login;
mod reply;

use self::batch::size;
pub use self::batch::{Batch, batch, request_packet, startup_packet};
pub use self::login::{Login, Refusal, Welcome};
pub use self::reply::{Body, Cut, Fault, Frame, Reply};

/// The longest silence a test takes for an answer on its way.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const VERSION_3_0: i32 = 196_608;
pub const VERSION_3_2: i32 = 196_610;
pub const SSL_REQUEST: i32 = 80_877_103;
pub const GSSENC_REQUEST: i32 = 80_877_104;
pub const CANCEL_REQUEST: i32 = 80_877_102;

/// Where something listens.
#[derive(Clone, Debug)]
pub enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    pub fn tcp(port: u16) -> Self {
        Self::Tcp("127.0.0.1".into(), port)
    }

    fn dial(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Socket::Unix(stream))
            }
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            // A read with a time limit is interrupted by any signal, such as that a child has been stopped.
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A socket and what was read from it beyond the last frame.
pub struct Wire {
    socket: Socket,
    inbound: Vec<u8>,
    read: usize,
}

impl Wire {
    pub fn dial(address: &Address) -> io::Result<Self> {
        Ok(Self {
            socket: address.dial()?,
            inbound: Vec::new(),
            read: 0,
        })
    }

    /// Speaks TLS from here on. Nothing may have been read ahead.
    pub fn into_tls(self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        assert_eq!(
            self.inbound.len(),
            self.read,
            "bytes came before the handshake"
        );
        let Socket::Tcp(mut stream) = self.socket else {
            panic!("TLS is for TCP")
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self {
            socket: Socket::Tls(Box::new(StreamOwned::new(connection, stream))),
            inbound: Vec::new(),
            read: 0,
        })
    }

    /// Asks for TLS and takes it; an error when the answer is not `S`.
    pub fn start_tls(mut self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        self.send_bytes(&request_packet(SSL_REQUEST))?;
        match self.byte()? {
            b'S' => self.into_tls(config, name),
            other => Err(io::Error::other(format!(
                "TLS refused with {:?}",
                other as char
            ))),
        }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)?;
        self.socket.flush()
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.read > 0 && self.inbound.len() - self.read < wanted {
            self.inbound.drain(..self.read);
            self.read = 0;
        }
        let mut chunk = vec![0; 65_536];
        while self.inbound.len() - self.read < wanted {
            match self.socket.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.inbound.extend_from_slice(&chunk[..length]),
            }
        }
        Ok(())
    }

    /// One byte without a frame, as the answer to SSLRequest is.
    pub fn byte(&mut self) -> io::Result<u8> {
        self.fill(1)?;
        self.read += 1;
        Ok(self.inbound[self.read - 1])
    }

    pub fn read_frame(&mut self) -> io::Result<Frame> {
        self.fill(5)?;
        let header = &self.inbound[self.read..self.read + 5];
        let tag = header[0];
        let length = u32::from_be_bytes(header[1..5].try_into().unwrap()) as usize;
        assert!(
            (4..1 << 30).contains(&length),
            "a frame {:?} with length {length}",
            tag as char
        );
        self.fill(length + 1)?;
        let body = self.inbound[self.read + 5..self.read + 1 + length].to_vec();
        self.read += length + 1;
        Ok(Frame { tag, body })
    }

    /// Waits for the other side to close; an error when it says something more or stays.
    pub fn closed(&mut self) -> io::Result<()> {
        match self.fill(1) {
            Ok(()) => Err(io::Error::other(format!(
                "bytes instead of the end: {:?}",
                &self.inbound[self.read..]
            ))),
            Err(error) if is_patience(&error) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// Whether not a byte comes within `span`.
    pub fn is_silent_for(&mut self, span: Duration) -> bool {
        self.wait_at_most(span);
        let filled = self.fill(1);
        self.wait_at_most(PATIENCE);
        filled.is_err_and(|error| is_patience(&error))
    }

    /// Waits for an answer for so long, from now on.
    pub fn be_patient_for(&self, span: Duration) {
        self.wait_at_most(span);
    }

    fn wait_at_most(&self, span: Duration) {
        let set = match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(span)),
            Socket::Unix(stream) => stream.set_read_timeout(Some(span)),
            Socket::Tls(stream) => stream.sock.set_read_timeout(Some(span)),
        };
        set.expect("a length of time");
    }

    /// Shuts the socket in both directions, as a process that dies does.
    pub fn vanish(self) {
        match &self.socket {
            Socket::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Socket::Unix(stream) => drop(stream.shutdown(Shutdown::Both)),
            Socket::Tls(stream) => drop(stream.sock.shutdown(Shutdown::Both)),
        }
    }
}

/// Whether the read ran out of [`PATIENCE`], as opposed to being closed or reset.
pub fn is_patience(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// A session.
pub struct Client {
    pub wire: Wire,
    pub welcome: Welcome,
    pub address: Address,
}

impl Client {
    #[track_caller]
    pub fn send(&mut self, batch: Batch) -> &mut Self {
        self.wire
            .send_bytes(&batch.0)
            .expect("the pooler takes what is sent");
        self
    }

    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.wire
            .read_frame()
            .unwrap_or_else(|error| panic!("no frame: {error}"))
    }

    /// Reads up to and with the next ReadyForQuery.
    #[track_caller]
    pub fn until_ready(&mut self) -> Reply {
        self.until(b'Z')
    }

    /// Reads up to and with the first frame of that tag.
    #[track_caller]
    pub fn until(&mut self, tag: u8) -> Reply {
        let mut reply = Reply::default();
        loop {
            match self.wire.read_frame() {
                Ok(frame) => {
                    let last = frame.tag == tag;
                    reply.take(frame);
                    if last {
                        return reply;
                    }
                }
                Err(error) => panic!(
                    "no {:?} after {:?}: {error}, {:?}",
                    tag as char, reply.shape, reply.errors
                ),
            }
        }
    }

    /// Like [`Client::until_ready`], for a connection that may end instead.
    pub fn try_until_ready(&mut self) -> Result<Reply, Cut> {
        let mut reply = Reply::default();
        loop {
            match self.wire.read_frame() {
                Ok(frame) => {
                    let last = frame.tag == b'Z';
                    reply.take(frame);
                    if last {
                        return Ok(reply);
                    }
                }
                Err(error) => {
                    return Err(Cut {
                        reply: Box::new(reply),
                        error,
                    });
                }
            }
        }
    }

    /// A batch, and everything up to the ReadyForQuery it brings.
    #[track_caller]
    pub fn ask(&mut self, batch: Batch) -> Reply {
        self.send(batch).until_ready()
    }

    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Reply {
        self.ask(batch().query(sql))
    }

    /// The first cell that a query brings.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql).value()
    }

    /// The process id of the server that answers.
    #[track_caller]
    pub fn server(&mut self) -> String {
        self.value("select pg_backend_pid()")
    }

    /// Reads to the end of the connection and gives the last error: it must be FATAL, and nothing may follow it.
    #[track_caller]
    pub fn ended(&mut self) -> Fault {
        let mut faults = Vec::new();
        loop {
            match self.wire.read_frame() {
                Ok(frame) if frame.tag == b'E' => faults.push(Fault::read(&frame.body)),
                Ok(_) => {}
                Err(error) => {
                    assert!(
                        !is_patience(&error),
                        "the connection stays open; so far {faults:?}"
                    );
                    let fault = faults
                        .pop()
                        .expect("an error before the end of the connection");
                    assert_eq!(fault.severity, "FATAL", "{fault:?}");
                    return fault;
                }
            }
        }
    }

    /// Asks for the cancellation of what this session is running, as a driver does: from a connection of its own.
    ///
    /// Returns when the pooler has closed that connection.
    #[track_caller]
    pub fn cancel(&self) {
        cancel(&self.address, &self.welcome.key);
    }
}

/// Whether a login succeeds and is served; the code of the error that it is told otherwise.
pub fn code(login: &Login) -> Result<(), String> {
    login
        .try_connect()
        .map(|mut client| assert_eq!(client.value("select 'in'"), "in"))
        .map_err(|refusal| refusal.told().code)
}

/// A cancel request with any key; returns when the other side has closed.
#[track_caller]
pub fn cancel(address: &Address, key: &[u8]) {
    let mut wire = Wire::dial(address).expect("a connection for the cancel request");
    let packet = [&size(8 + key.len())[..], &CANCEL_REQUEST.to_be_bytes(), key].concat();
    wire.send_bytes(&packet)
        .expect("the cancel request is taken");
    wire.closed()
        .expect("a cancel request is answered by closing");
}
