//! A client that waits for its answers and looks at nothing but their end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use pooler::cli::cluster::SUPERUSER;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// What a server says last, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection, plain or under TLS.
trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

/// A client that has logged in without proving anything.
pub struct Client {
    connection: Box<dyn Connection>,
}

impl Client {
    /// Logs in, under TLS where `tls` is given.
    ///
    /// # Errors
    /// When it is not served.
    pub fn connect(port: u16, database: &str, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let connection: Box<dyn Connection> = match tls {
            None => Box::new(socket),
            Some(config) => {
                socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?; // SSLRequest
                let mut answer = [0];
                socket.read_exact(&mut answer)?;
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name);
                Box::new(StreamOwned::new(session.map_err(io::Error::other)?, socket))
            }
        };
        let mut client = Self { connection };
        let startup = format!("\0\x03\0\0user\0{SUPERUSER}\0database\0{database}\0\0");
        let mut message = length(startup.len()).to_vec();
        message.extend(startup.as_bytes());
        client.send(&message)?;
        client.until_ready()?;
        Ok(client)
    }

    /// Asks one thing and reads the answer to its end.
    ///
    /// # Errors
    /// When it is not answered, or with an error.
    pub fn ask(&mut self, sql: &str) -> io::Result<()> {
        self.send(&frame(b'Q', sql.as_bytes(), b"\0"))?;
        self.until_ready()
    }

    /// Copies `bytes` bytes in rows of `row` bytes to the server.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn copy_in(&mut self, sql: &str, bytes: usize, row: usize) -> io::Result<()> {
        self.send(&frame(b'Q', sql.as_bytes(), b"\0"))?;
        let mut head = [0; 5];
        self.connection.read_exact(&mut head)?;
        if head[0] != b'G' {
            return Err(io::Error::other("no CopyInResponse"));
        }
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(size).map_err(io::Error::other)? - 4];
        self.connection.read_exact(&mut body)?;
        let one = frame(b'd', &vec![b'x'; row - 1], b"\n");
        let block = one.repeat(64);
        for _ in 0..bytes / row / 64 {
            self.connection.write_all(&block)?;
        }
        self.send(&frame(b'c', b"", b""))?;
        self.until_ready()
    }

    /// Prepares `sql` under a name, closes it, and waits.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn prepare_and_close(&mut self, texts: impl Iterator<Item = String>) -> io::Result<()> {
        let mut batch = Vec::new();
        for sql in texts {
            batch.extend(frame(b'P', format!("s\0{sql}").as_bytes(), b"\0\0\0"));
            batch.extend(frame(b'C', b"Ss", b"\0"));
        }
        batch.extend(frame(b'S', b"", b""));
        self.send(&batch)?;
        self.until_ready()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write_all(bytes)?;
        self.connection.flush()
    }

    /// Reads up to ReadyForQuery, which the server says last.
    fn until_ready(&mut self) -> io::Result<()> {
        let (mut end, mut part, mut is_first) = (Vec::new(), vec![0; 1 << 17], true);
        while end != READY {
            let count = self.connection.read(&mut part)?;
            let seen = &part[..count];
            if count == 0 || (is_first && seen[0] == b'E') {
                return Err(io::Error::other(String::from_utf8_lossy(seen)));
            }
            is_first = false;
            end.extend_from_slice(&seen[count.saturating_sub(READY.len())..]);
            end.drain(..end.len().saturating_sub(READY.len()));
        }
        Ok(())
    }
}

fn length(body: usize) -> [u8; 4] {
    u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes()
}

fn frame(tag: u8, body: &[u8], end: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend(length(body.len() + end.len()));
    frame.extend(body);
    frame.extend(end);
    frame
}
