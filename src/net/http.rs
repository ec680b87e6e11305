//! A small HTTP/1.1 client for those who keep clusters: it follows no redirect, and everything that it reads is bounded.
//!
//! What is asked are a few documents and one endless stream of lines, so this reads lengths, chunks and lines, and nothing else.
//! Time limits are the caller's: every call may be dropped at any moment, and the stream of lines goes on where it was.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::config::url::Url;
use crate::net::names::Names;
use crate::net::stream::{SocketOptions, Stream};

/// The longest head of an answer, and the longest line that says a chunk's length.
const MOST_HEAD: usize = 16 << 10;
/// Read at once.
const PIECE: usize = 8 << 10;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path, from `/` on.
    pub path: &'a str,
    /// The document that goes with it.
    pub json: &'a str,
    /// What stands in the head as `Authorization`.
    pub token: Option<&'a str>,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    /// So much of the present chunk is left; none between two.
    Chunk(Option<u64>),
    ToTheEnd,
    Over,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    host: String,
    /// Received and not used yet.
    unread: Vec<u8>,
    /// What was taken out of the body and makes no line yet.
    line: Vec<u8>,
    body: Body,
    is_last: bool,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Link {
    /// Dials `url`.
    ///
    /// # Errors
    /// What the resolver, the kernel or TLS say; of several addresses, of the last.
    pub async fn open(
        url: &Url,
        names: &Names,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let found = names.addresses(&url.host).await?;
        let mut last = wrong("the name has no address");
        for address in found.addresses {
            let address = SocketAddr::new(address, url.port);
            match Stream::connect_tcp(address, &SocketOptions::default()).await {
                Ok(stream) => return Self::over(url, stream, tls).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn over(url: &Url, stream: Stream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = match (url.is_secure, tls) {
            (false, _) => stream,
            (true, Some(tls)) => {
                let name = ServerName::try_from(url.host.clone())
                    .map_err(|_| wrong("the host is no name that TLS can check"))?;
                stream.connect_tls(Arc::clone(tls), name).await?
            }
            (true, None) => return Err(wrong("there is no TLS for it")),
        };
        Ok(Self {
            stream,
            host: url.authority(),
            unread: Vec::new(),
            line: Vec::new(),
            body: Body::Over,
            is_last: false,
        })
    }

    /// Whether another request may follow.
    pub fn is_free(&self) -> bool {
        self.body == Body::Over && !self.is_last
    }

    /// Sends `request` and reads the head of the answer; its status.
    ///
    /// # Errors
    /// When the connection ends, or what comes is no HTTP.
    pub async fn ask(&mut self, request: Request<'_>) -> io::Result<u16> {
        let token = request.token.map_or_else(String::new, |token| {
            let is_fine = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
            let token: String = token.chars().filter(is_fine).collect();
            format!("Authorization: {token}\r\n")
        });
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Type: application/json\r\n{token}\
             Content-Length: {}\r\n\r\n{}",
            request.method,
            request.path,
            self.host,
            request.json.len(),
            request.json
        );
        self.line.clear();
        self.stream.write_all(text.as_bytes()).await?;
        self.head().await
    }

    async fn head(&mut self) -> io::Result<u16> {
        let first = self.head_line().await?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        let (Some(status), true) = (status, version.starts_with("HTTP/1.")) else {
            return Err(wrong("its answer is no HTTP/1"));
        };
        self.is_last = version == "HTTP/1.0";
        self.body = Body::ToTheEnd;
        let mut read = first.len();
        loop {
            let line = self.head_line().await?;
            read += line.len();
            if line.is_empty() {
                break;
            }
            if read > MOST_HEAD {
                return Err(wrong("the head of its answer is too long"));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            self.field(&name.to_ascii_lowercase(), value.trim())?;
        }
        self.is_last |= self.body == Body::ToTheEnd;
        if self.body == Body::Length(0) {
            self.body = Body::Over;
        }
        Ok(status)
    }

    fn field(&mut self, name: &str, value: &str) -> io::Result<()> {
        match name {
            "content-length" if !matches!(self.body, Body::Chunk(_)) => {
                let length = value
                    .parse()
                    .map_err(|_| wrong("its length is no number"))?;
                self.body = Body::Length(length);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                self.body = Body::Chunk(None);
            }
            "transfer-encoding" => return Err(wrong("its answer is encoded in an unknown way")),
            "connection" if value.eq_ignore_ascii_case("close") => self.is_last = true,
            _ => {}
        }
        Ok(())
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        let count = self.stream.read_some(&mut piece).await?;
        self.unread.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }

    /// A line of the head, without its end.
    async fn head_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > MOST_HEAD {
                return Err(wrong("the head of its answer is too long"));
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next piece of the body; none at its end.
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let most = match self.body {
                Body::Over => return Ok(None),
                Body::Chunk(None) => {
                    self.next_chunk().await?;
                    continue;
                }
                Body::Chunk(Some(left)) | Body::Length(left) => left,
                Body::ToTheEnd => u64::MAX,
            };
            if self.unread.is_empty() && !self.fill().await? {
                if self.body == Body::ToTheEnd {
                    self.body = Body::Over;
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count =
                usize::try_from(most).map_or(self.unread.len(), |most| most.min(self.unread.len()));
            let piece: Vec<u8> = self.unread.drain(..count).collect();
            let left = most - count as u64;
            self.body = match self.body {
                Body::Length(_) if left == 0 => Body::Over,
                Body::Length(_) => Body::Length(left),
                Body::Chunk(_) if left == 0 => Body::Chunk(None),
                Body::Chunk(_) => Body::Chunk(Some(left)),
                Body::ToTheEnd | Body::Over => self.body,
            };
            return Ok(Some(piece));
        }
    }

    /// Reads the length of the next chunk. The end of the one before, an empty line, is passed over.
    async fn next_chunk(&mut self) -> io::Result<()> {
        let line = self.head_line().await?;
        if line.is_empty() {
            return Ok(());
        }
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| wrong("a chunk has no length"))?;
        if length > 0 {
            self.body = Body::Chunk(Some(length));
            return Ok(());
        }
        while !self.head_line().await?.is_empty() {}
        self.body = Body::Over;
        Ok(())
    }

    /// The whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// When it is longer, or the connection ends before it does.
    pub async fn whole(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            if all.len() + piece.len() > most {
                return Err(wrong("its answer is too long"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The next line of the body, of at most `most` bytes; none at the end of the body. Cancel-safe.
    ///
    /// # Errors
    /// As [`Link::whole`].
    pub async fn line(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.line.drain(..=end).collect()));
            }
            if self.line.len() > most {
                return Err(wrong("a line of its answer is too long"));
            }
            match self.piece().await? {
                Some(piece) => self.line.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::{Link, Request};
    use crate::config::url::Url;
    use crate::net::names::{NameRules, Names};

    /// What `answer`, said by a server to one request, is taken for.
    fn heard(answer: &'static [u8], most: usize) -> std::io::Result<(u16, Vec<u8>, bool)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let heard = runtime.block_on(async {
            let names = Names::new(NameRules {
                max_ttl: Duration::from_secs(1),
                nxdomain_ttl: Duration::from_secs(1),
                resolv_conf: None,
            });
            let url = Url::parse(&format!("http://{address}")).unwrap();
            let mut link = Link::open(&url, &names, None).await?;
            let request = Request {
                method: "GET",
                path: "/",
                json: "",
                token: None,
            };
            let status = link.ask(request).await?;
            let body = link.whole(most).await?;
            Ok((status, body, link.is_free()))
        });
        server.join().unwrap();
        heard
    }

    #[test]
    fn a_body_ends_by_its_length_its_last_chunk_or_with_the_connection() {
        let is = |answer, status, body: &str, is_free| {
            assert_eq!(
                heard(answer, 100).unwrap(),
                (status, body.as_bytes().to_vec(), is_free)
            );
        };
        is(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            200,
            "{}",
            true,
        );
        is(b"HTTP/1.0 503 No\r\nx: y\r\n\r\nabc", 503, "abc", false);
        is(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\n\r\n",
            200,
            "ab0123456789",
            true,
        );
    }

    #[test]
    fn what_is_too_long_too_short_or_no_http_is_an_error() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n0123456789",
            b"SSH-2.0-x\r\n\r\n",
            b"",
        ] {
            assert!(heard(answer, 5).is_err(), "{answer:?}");
        }
        let endless: &'static [u8] = vec![b'a'; 1 << 20].leak();
        assert!(heard(endless, 5).is_err());
    }
}
