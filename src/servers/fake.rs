//! A server for tests that speaks just enough of the protocol, so that they need no PostgreSQL.
//!
//! Whatever it is asked it answers with CommandComplete, but: `hang` is never answered, `begin` opens a transaction, `rows N` sends
//! `N` rows of 1,000 bytes, `torn` begins a row that never ends, `die` is read and answered with FATAL and the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::node::Node;
use crate::config::settings::{DatabaseSettings, Settings};
use crate::config::value::SessionState;

/// A fake server; it ends with the test's runtime.
#[derive(Debug)]
pub struct Fake {
    folder: PathBuf,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    port: u16,
    trigger: std::os::unix::net::UnixStream,
}

impl Fake {
    /// Starts one.
    pub fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "pooler-fake-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, SeqCst)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (trigger, pulled) = std::os::unix::net::UnixStream::pair().unwrap();
        pulled.set_nonblocking(true).unwrap();
        let fake = Self {
            folder,
            open: Arc::default(),
            most: Arc::default(),
            asked: Arc::default(),
            port: tcp.local_addr().unwrap().port(),
            trigger,
        };
        let house = House {
            open: Arc::clone(&fake.open),
            most: Arc::clone(&fake.most),
            asked: Arc::clone(&fake.asked),
            pulled: Arc::new(UnixStream::from_std(pulled).unwrap()),
        };
        let tcp = TcpListener::from_std(tcp).unwrap();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Ok((socket, _)) = listener.accept() => house.welcome(socket),
                    Ok((socket, _)) = tcp.accept() => house.welcome(socket),
                    else => return,
                }
            }
        });
        fake
    }

    /// Ends the connection that is open with FATAL 57P01, at the next turn of the runtime: before anything that
    /// arrives after this call is looked at, and with no turn in between.
    pub fn end_at_next_turn(&self) {
        use std::io::Write as _;
        (&self.trigger).write_all(b"!").unwrap();
    }

    /// How many requests it has read.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// [`Fake::settings`], over TCP.
    pub fn settings_over_tcp(&self) -> Settings {
        let mut settings = self.settings();
        let database = settings.databases.get_mut("app").unwrap();
        database.host = Some("127.0.0.1".to_owned());
        database.port = self.port;
        settings
    }

    /// Settings with a database `app` on this server.
    pub fn settings(&self) -> Settings {
        let database = DatabaseSettings {
            host: Some(self.folder.to_str().unwrap().to_owned()),
            ..DatabaseSettings::default()
        };
        let mut settings = Settings::default();
        // It has no catalog to be asked about.
        settings.pooler.session_state = SessionState::PgBouncer;
        settings.databases.insert("app".to_owned(), database);
        settings
    }

    /// The node it is, as far as a pool is concerned.
    pub fn node(&self) -> Node {
        Node::at(self.folder.to_str().unwrap(), 5432)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// How many were open at once.
    pub fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the connections share.
struct House {
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    pulled: Arc<UnixStream>,
}

const FATAL: &[u8] = b"E\0\0\0\x15SFATAL\0C57P01\0M\0\0";

impl House {
    fn welcome<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, mut socket: S) {
        let (open, asked) = (Arc::clone(&self.open), Arc::clone(&self.asked));
        let pulled = Arc::clone(&self.pulled);
        self.most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::spawn(async move {
            let is_ended = tokio::select! {
                biased;
                _ = pulled.readable() => true,
                _ = serve(&mut socket, &asked) => false,
            };
            if is_ended {
                while pulled.try_read(&mut [0; 8]).is_ok() {}
                let _ = socket.write_all(FATAL).await;
            }
            open.fetch_sub(1, SeqCst);
        });
    }
}

async fn serve(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let length = socket.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await?;
    let hello =
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x11TimeZone\0UTC\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
    socket.write_all(hello).await?;
    let mut status = b'I';
    loop {
        let tag = socket.read_u8().await?;
        let mut body = vec![0; socket.read_u32().await? as usize - 4];
        socket.read_exact(&mut body).await?;
        asked.fetch_add(1, SeqCst);
        let text = String::from_utf8_lossy(&body);
        let mut out = Vec::new();
        match (tag, text.trim_end_matches('\0')) {
            (b'X', _) => return Ok(()),
            (_, "die") => return socket.write_all(FATAL).await,
            (_, "hang") => continue,
            (_, "torn") => out.extend_from_slice(b"D\0\0\x10\0\0\x01"),
            (_, "begin") => status = b'T',
            (_, "commit") => status = b'I',
            (_, query) => {
                let rows = query.strip_prefix("rows ").and_then(|n| n.parse().ok());
                for _ in 0..rows.unwrap_or(0) {
                    out.extend_from_slice(b"D\0\0\x03\xf2\0\x01\0\0\x03\xe8");
                    out.resize(out.len() + 1000, b'x');
                }
            }
        }
        if text.trim_end_matches('\0') != "torn" {
            out.extend_from_slice(b"C\0\0\0\x06X\0Z\0\0\0\x05");
            out.push(status);
        }
        socket.write_all(&out).await?;
    }
}

/// Waits until something is so.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
