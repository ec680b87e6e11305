//! A client made of raw frames.
//!
//! Drivers hide the order of messages, and that order is what a pooler is judged by. This client sends any bytes it is
//! told to and shows every frame that comes back. It blocks, and it never waits longer than [`PATIENCE`], so a pooler
//! that answers nothing makes a failed test and not a hung one.
//!
//! Frames: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::collections::BTreeMap;
use std::fmt;
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

/// One message as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(120)];
        write!(
            f,
            "{}[{}]{:?}",
            self.tag as char,
            self.body.len(),
            String::from_utf8_lossy(shown)
        )
    }
}

/// A body being read from its front.
pub struct Body<'a>(pub &'a [u8]);

impl Body<'_> {
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    pub fn text(&mut self) -> String {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .expect("a text ends with a zero byte");
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        text
    }
}

/// What an ErrorResponse or NoticeResponse says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Fault {
    pub fn read(body: &[u8]) -> Self {
        let mut body = Body(body);
        let mut fields = BTreeMap::new();
        while body.0.first().is_some_and(|&field| field != 0) {
            let field = body.bytes(1)[0];
            fields.insert(field, body.text());
        }
        let mut take = |field: u8| fields.remove(&field).unwrap_or_default();
        Self {
            severity: take(b'S'),
            code: take(b'C'),
            message: take(b'M'),
            detail: take(b'D'),
            hint: take(b'H'),
        }
    }

    /// Whether any of the texts a person sees contains `words`.
    pub fn says(&self, words: &str) -> bool {
        [&self.message, &self.detail, &self.hint]
            .iter()
            .any(|text| text.contains(words))
    }
}

/// Everything that came back up to ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The tags of all frames, in order: `"TDDCZ"`.
    pub shape: String,
    /// Column names and type OIDs of the last RowDescription.
    pub columns: Vec<(String, i32)>,
    pub rows: Vec<Vec<Option<String>>>,
    pub tags: Vec<String>,
    pub errors: Vec<Fault>,
    pub notices: Vec<Fault>,
    pub parameters: Vec<(String, String)>,
    /// Channel and payload of each NotificationResponse.
    pub notifications: Vec<(String, String)>,
    pub copied: Vec<u8>,
    /// `I`, `T` or `E`.
    pub status: char,
    pub frames: Vec<Frame>,
}

impl Reply {
    fn take(&mut self, frame: Frame) {
        self.shape.push(frame.tag as char);
        let mut body = Body(&frame.body);
        match frame.tag {
            b'T' => {
                let count = body.i16();
                self.columns = (0..count)
                    .map(|_| {
                        let name = body.text();
                        body.bytes(6);
                        let oid = body.i32();
                        body.bytes(8);
                        (name, oid)
                    })
                    .collect();
            }
            b'D' => {
                let count = body.i16();
                let row = (0..count)
                    .map(|_| {
                        let length = body.i32();
                        usize::try_from(length)
                            .ok()
                            .map(|length| String::from_utf8_lossy(&body.bytes(length)).into())
                    })
                    .collect();
                self.rows.push(row);
            }
            b'C' => self.tags.push(body.text()),
            b'E' => self.errors.push(Fault::read(&frame.body)),
            b'N' => self.notices.push(Fault::read(&frame.body)),
            b'S' => self.parameters.push((body.text(), body.text())),
            b'A' => {
                body.i32();
                self.notifications.push((body.text(), body.text()));
            }
            b'd' => self.copied.extend_from_slice(&frame.body),
            b'Z' => self.status = frame.body[0] as char,
            _ => {}
        }
        self.frames.push(frame);
    }

    /// The first cell of the first row.
    #[track_caller]
    pub fn value(&self) -> String {
        assert!(
            self.errors.is_empty(),
            "an error instead of a value: {:?}",
            self.errors
        );
        self.rows
            .first()
            .and_then(|row| row.first())
            .cloned()
            .flatten()
            .unwrap_or_else(|| panic!("no value in {self:?}"))
    }

    /// The only error.
    #[track_caller]
    pub fn error(&self) -> &Fault {
        assert_eq!(
            self.errors.len(),
            1,
            "one error expected in {:?}",
            (&self.shape, &self.errors, &self.rows)
        );
        &self.errors[0]
    }

    /// Itself, if no error came.
    #[track_caller]
    pub fn good(self) -> Self {
        assert!(
            self.errors.is_empty(),
            "unexpected error: {:?}",
            self.errors
        );
        self
    }

    /// The cells of one column, by its name.
    #[track_caller]
    pub fn column(&self, name: &str) -> Vec<String> {
        let at = self
            .columns
            .iter()
            .position(|(column, _)| column == name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.columns));
        self.rows
            .iter()
            .map(|row| row[at].clone().unwrap_or_default())
            .collect()
    }

    /// The first row in which `column` reads `value`, as a map by column name.
    pub fn row_where(&self, column: &str, value: &str) -> Option<BTreeMap<String, String>> {
        let at = self.columns.iter().position(|(name, _)| name == column)?;
        let row = self
            .rows
            .iter()
            .find(|row| row[at].as_deref() == Some(value))?;
        Some(
            self.columns
                .iter()
                .zip(row)
                .map(|((name, _), cell)| (name.clone(), cell.clone().unwrap_or_default()))
                .collect(),
        )
    }
}

/// A connection that ended before ReadyForQuery, and what had come by then.
#[derive(Debug)]
pub struct Cut {
    pub reply: Box<Reply>,
    pub error: io::Error,
}

/// Messages put together before they are sent, in one write.
#[derive(Clone, Default)]
pub struct Batch(pub Vec<u8>);

/// An empty batch.
pub fn batch() -> Batch {
    Batch::default()
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}

fn count(length: usize) -> [u8; 2] {
    i16::try_from(length)
        .expect("few enough for a test")
        .to_be_bytes()
}

fn size(length: usize) -> [u8; 4] {
    i32::try_from(length)
        .expect("small enough for a frame")
        .to_be_bytes()
}

impl Batch {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Any tag with any body.
    pub fn frame(mut self, tag: u8, body: &[u8]) -> Self {
        self.0.push(tag);
        self.0.extend_from_slice(&size(body.len() + 4));
        self.0.extend_from_slice(body);
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn query(self, sql: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, sql);
        self.frame(b'Q', &body)
    }

    pub fn parse(self, name: &str, sql: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, name);
        text(&mut body, sql);
        body.extend_from_slice(&count(0));
        self.frame(b'P', &body)
    }

    /// Binds the unnamed portal, values and results as text.
    pub fn bind(self, statement: &str, values: &[&str]) -> Self {
        self.bind_portal("", statement, values)
    }

    pub fn bind_portal(self, portal: &str, statement: &str, values: &[&str]) -> Self {
        let mut body = Vec::new();
        text(&mut body, portal);
        text(&mut body, statement);
        body.extend_from_slice(&count(0));
        body.extend_from_slice(&count(values.len()));
        for value in values {
            body.extend_from_slice(&size(value.len()));
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&count(0));
        self.frame(b'B', &body)
    }

    fn kind_and_name(self, tag: u8, kind: u8, name: &str) -> Self {
        let mut body = vec![kind];
        text(&mut body, name);
        self.frame(tag, &body)
    }

    pub fn describe_statement(self, name: &str) -> Self {
        self.kind_and_name(b'D', b'S', name)
    }

    pub fn describe_portal(self, name: &str) -> Self {
        self.kind_and_name(b'D', b'P', name)
    }

    pub fn close_statement(self, name: &str) -> Self {
        self.kind_and_name(b'C', b'S', name)
    }

    pub fn close_portal(self, name: &str) -> Self {
        self.kind_and_name(b'C', b'P', name)
    }

    /// Executes the unnamed portal to its end.
    pub fn execute(self) -> Self {
        self.execute_portal("", 0)
    }

    pub fn execute_portal(self, portal: &str, max_rows: i32) -> Self {
        let mut body = Vec::new();
        text(&mut body, portal);
        body.extend_from_slice(&max_rows.to_be_bytes());
        self.frame(b'E', &body)
    }

    /// Bind, Execute of the unnamed portal.
    pub fn run(self, statement: &str, values: &[&str]) -> Self {
        self.bind(statement, values).execute()
    }

    pub fn sync(self) -> Self {
        self.frame(b'S', b"")
    }

    pub fn flush(self) -> Self {
        self.frame(b'H', b"")
    }

    pub fn copy_data(self, bytes: &[u8]) -> Self {
        self.frame(b'd', bytes)
    }

    pub fn copy_done(self) -> Self {
        self.frame(b'c', b"")
    }

    pub fn copy_fail(self, why: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, why);
        self.frame(b'f', &body)
    }

    /// A call of a function by its OID, with text arguments and a text result.
    pub fn function_call(self, oid: i32, arguments: &[&str]) -> Self {
        let mut body = oid.to_be_bytes().to_vec();
        body.extend_from_slice(&count(0));
        body.extend_from_slice(&count(arguments.len()));
        for argument in arguments {
            body.extend_from_slice(&size(argument.len()));
            body.extend_from_slice(argument.as_bytes());
        }
        body.extend_from_slice(&count(0));
        self.frame(b'F', &body)
    }

    pub fn terminate(self) -> Self {
        self.frame(b'X', b"")
    }
}

/// A startup packet: length, version, names and values.
pub fn startup_packet(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        text(&mut body, name);
        text(&mut body, value);
    }
    body.push(0);
    [&size(body.len() + 4)[..], &body].concat()
}

/// SSLRequest, GSSENCRequest: a startup packet that is a number.
pub fn request_packet(code: i32) -> Vec<u8> {
    [size(8), code.to_be_bytes()].concat()
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

/// Why a login did not become a session.
#[derive(Debug)]
pub enum Refusal {
    /// An ErrorResponse came.
    Told(Fault),
    /// The connection ended, or TLS failed, without one.
    Closed(io::Error),
}

impl Refusal {
    #[track_caller]
    pub fn told(self) -> Fault {
        match self {
            Self::Told(fault) => fault,
            Self::Closed(error) => panic!("closed without a word: {error}"),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

/// How a client introduces itself.
#[derive(Clone)]
pub struct Login {
    address: Address,
    version: i32,
    parameters: Vec<(String, String)>,
    password: Option<String>,
    tls: Option<(Arc<ClientConfig>, String)>,
    direct_tls: bool,
}

impl Login {
    pub fn at(address: Address) -> Self {
        Self {
            address,
            version: VERSION_3_0,
            parameters: Vec::new(),
            password: None,
            tls: None,
            direct_tls: false,
        }
    }

    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// A parameter of the startup packet; a later value replaces an earlier one.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.into(), value.into()));
        self
    }

    pub fn user(self, user: &str) -> Self {
        self.parameter("user", user)
    }

    pub fn database(self, database: &str) -> Self {
        self.parameter("database", database)
    }

    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Through TLS after SSLRequest, the server being known as `name`.
    pub fn tls(mut self, config: Arc<ClientConfig>, name: &str) -> Self {
        self.tls = Some((config, name.into()));
        self
    }

    /// Through TLS from the first byte on.
    pub fn direct_tls(mut self, config: Arc<ClientConfig>, name: &str) -> Self {
        self.direct_tls = true;
        self.tls(config, name)
    }

    /// Connects and sends the startup packet, no more.
    pub fn begin(&self) -> io::Result<Wire> {
        let mut wire = Wire::dial(&self.address)?;
        if let Some((config, name)) = &self.tls {
            let config = Arc::clone(config);
            wire = if self.direct_tls {
                wire.into_tls(config, name)?
            } else {
                wire.start_tls(config, name)?
            };
        }
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        wire.send_bytes(&startup_packet(self.version, &parameters))?;
        Ok(wire)
    }

    /// Logs in up to the first ReadyForQuery.
    pub fn try_connect(&self) -> Result<Client, Refusal> {
        let mut wire = self.begin()?;
        let mut client = Welcome::default();
        let mut scram: Option<ScramSha256> = None;
        loop {
            let frame = wire.read_frame()?;
            let mut body = Body(&frame.body);
            match frame.tag {
                b'R' => {
                    let method = body.i32();
                    client.methods.push(method);
                    if let Some(answer) = self.prove(method, &mut body, &mut scram)? {
                        wire.send_bytes(&batch().frame(b'p', &answer).0)?;
                    }
                }
                b'E' => return Err(Refusal::Told(Fault::read(&frame.body))),
                b'N' => client.notices.push(Fault::read(&frame.body)),
                b'S' => drop(client.parameters.insert(body.text(), body.text())),
                b'K' => client.key = frame.body,
                b'v' => {
                    let offered = body.i32();
                    let count = body.i32();
                    client.negotiated = Some((offered, (0..count).map(|_| body.text()).collect()));
                }
                b'Z' => {
                    return Ok(Client {
                        wire,
                        welcome: client,
                        address: self.address.clone(),
                    });
                }
                other => panic!("{:?} during login", other as char),
            }
        }
    }

    /// The answer to one authentication message; `None` where none is due.
    fn prove(
        &self,
        method: i32,
        body: &mut Body<'_>,
        scram: &mut Option<ScramSha256>,
    ) -> io::Result<Option<Vec<u8>>> {
        let password = self.password.clone().unwrap_or_default();
        let user = self
            .parameters
            .iter()
            .find(|(name, _)| name == "user")
            .map(|(_, user)| user.clone())
            .unwrap_or_default();
        let with_zero = |text: String| Some([text.as_bytes(), b"\0"].concat());
        Ok(match method {
            0 => None,
            3 => with_zero(password),
            5 => {
                let salt = body.bytes(4).try_into().expect("four bytes");
                with_zero(md5_hash(user.as_bytes(), password.as_bytes(), salt))
            }
            10 => {
                assert_eq!(body.text(), SCRAM_SHA_256, "the first mechanism offered");
                let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                let mut answer = [SCRAM_SHA_256.as_bytes(), b"\0"].concat();
                answer.extend_from_slice(&size(exchange.message().len()));
                answer.extend_from_slice(exchange.message());
                *scram = Some(exchange);
                Some(answer)
            }
            11 => {
                let exchange = scram.as_mut().expect("SASLContinue follows SASL");
                exchange.update(body.0)?;
                Some(exchange.message().to_vec())
            }
            12 => {
                scram
                    .as_mut()
                    .expect("SASLFinal follows SASL")
                    .finish(body.0)?;
                None
            }
            other => panic!("authentication method {other}"),
        })
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        self.try_connect()
            .unwrap_or_else(|refusal| panic!("login refused: {refusal:?}"))
    }

    /// The error that a login ends with; it must not succeed, and the connection must end after it.
    #[track_caller]
    pub fn refused(&self) -> Fault {
        match self.try_connect() {
            Ok(_) => panic!("the login should have been refused"),
            Err(refusal) => refusal.told(),
        }
    }
}

/// What was said between the startup packet and the first ReadyForQuery.
#[derive(Debug, Default)]
pub struct Welcome {
    /// Codes of the authentication messages, in order.
    pub methods: Vec<i32>,
    pub parameters: BTreeMap<String, String>,
    pub notices: Vec<Fault>,
    /// Body of BackendKeyData: four bytes of process id and the secret.
    pub key: Vec<u8>,
    /// Version and unknown options of NegotiateProtocolVersion.
    pub negotiated: Option<(i32, Vec<String>)>,
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
