//! A server that does what PostgreSQL never would.
//!
//! Each accepted connection is logged in with `trust` and then handed to the script, on a thread of its own. Only for
//! what a real server cannot be made to do; whatever it can, it is asked to.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::postgres::Server;
use super::wire::{Batch, Frame, PATIENCE, batch};

/// A connection that a scripted server accepted.
pub struct Peer {
    stream: TcpStream,
}

impl Peer {
    fn exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A packet without a tag: its version or code, and the rest.
    pub fn packet(&mut self) -> io::Result<(i32, Vec<u8>)> {
        let length = i32::from_be_bytes(self.exact(4)?.try_into().expect("four bytes"));
        let body = self.exact(usize::try_from(length - 4).map_err(io::Error::other)?)?;
        Ok((
            i32::from_be_bytes(body[..4].try_into().expect("four bytes")),
            body[4..].to_vec(),
        ))
    }

    pub fn frame(&mut self) -> io::Result<Frame> {
        let header = self.exact(5)?;
        let length = i32::from_be_bytes(header[1..].try_into().expect("four bytes"));
        let body = self.exact(usize::try_from(length - 4).map_err(io::Error::other)?)?;
        Ok(Frame {
            tag: header[0],
            body,
        })
    }

    pub fn send(&mut self, batch: &Batch) -> io::Result<()> {
        self.stream.write_all(&batch.0)
    }

    /// Answers every SSLRequest with `N` and takes the startup packet; `false` for a cancel request.
    pub fn greet(&mut self) -> io::Result<bool> {
        loop {
            match self.packet()? {
                (80_877_103 | 80_877_104, _) => self.stream.write_all(b"N")?,
                (80_877_102, _) => return Ok(false),
                _ => return Ok(true),
            }
        }
    }

    /// Ends the login: AuthenticationOk, the parameters that matter, a key, ReadyForQuery.
    pub fn welcome(&mut self) -> io::Result<()> {
        let mut login = batch().frame(b'R', &0_i32.to_be_bytes());
        for (name, value) in [
            ("server_version", "15.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
            ("application_name", ""),
        ] {
            login = login.frame(b'S', format!("{name}\0{value}\0").as_bytes());
        }
        self.send(
            &login
                .frame(b'K', &[0, 0, 0, 7, 0, 0, 0, 9])
                .frame(b'Z', b"I"),
        )
    }

    /// Answers queries with one row that says `text`, until `stop` says that a query is not an ordinary one.
    ///
    /// Returns that query; an error when the other side has gone.
    pub fn serve(&mut self, text: &str, stop: impl Fn(&str) -> bool) -> io::Result<String> {
        loop {
            let frame = self.frame()?;
            if frame.tag != b'Q' {
                continue;
            }
            let sql = String::from_utf8_lossy(&frame.body[..frame.body.len() - 1]).into_owned();
            if stop(&sql) {
                return Ok(sql);
            }
            let reply = if sql.to_ascii_lowercase().starts_with("select") {
                row(text)
            } else {
                batch().frame(b'C', b"SET\0")
            };
            self.send(&reply.frame(b'Z', b"I"))?;
        }
    }

    /// Waits until the other side closes.
    pub fn until_closed(&mut self) {
        let mut chunk = [0; 4096];
        while self.stream.read(&mut chunk).is_ok_and(|length| length > 0) {}
    }
}

/// RowDescription of one text column, a row, CommandComplete.
pub fn row(text: &str) -> Batch {
    cells(&[Some(text)])
}

/// RowDescription of so many text columns, a row, CommandComplete.
pub fn cells(texts: &[Option<&str>]) -> Batch {
    let count = i16::try_from(texts.len()).expect("a few columns");
    let (mut described, mut data) = (count.to_be_bytes().to_vec(), count.to_be_bytes().to_vec());
    for text in texts {
        described.extend_from_slice(b"text\0");
        described.extend_from_slice(&[0; 6]);
        described.extend_from_slice(&25_i32.to_be_bytes());
        described.extend_from_slice(&[0xff; 6]);
        described.extend_from_slice(&[0, 0]);
        let length = text.map_or(-1, |text| i32::try_from(text.len()).expect("a short text"));
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    batch()
        .frame(b'T', &described)
        .frame(b'D', &data)
        .frame(b'C', b"SELECT 1\0")
}

/// An address at which a script answers.
pub struct Scripted {
    pub server: Server,
}

impl Scripted {
    /// A server that logs everybody in and then follows `script`; the number counts sessions from 0.
    pub fn new(
        script: impl Fn(usize, &mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::raw(move |number, peer| {
            peer.welcome()?;
            script(number, peer)
        })
    }

    /// A server that follows `script` right after the startup packet.
    pub fn raw(
        script: impl Fn(usize, &mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let count = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                thread::spawn(move || {
                    stream
                        .set_read_timeout(Some(PATIENCE + Duration::from_secs(20)))
                        .expect("a timeout can be set");
                    let mut peer = Peer { stream };
                    if peer.greet().unwrap_or(false) {
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        // The script's errors are those of a peer that went away.
                        drop(script(number, &mut peer));
                    }
                });
            }
        });
        Self {
            server: Server {
                host: "127.0.0.1".into(),
                port,
            },
        }
    }
}
