//! The younger process: it knocks at the older one's console, and takes what that gives.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    ALL, CANCEL, CANCELLED, CLIENT, COMMAND, ENDING, HEEDED, LISTENER, ORDER, POOL, READY, SEATS,
    SERVER, UP, YOURS,
};
use crate::auth::password::Verifier;
use crate::auth::scram::Keys;
use crate::clients::entrance::Accepted;
use crate::net::letter::Letter;
use crate::net::passing::{Packet, Way};
use crate::net::socket;
use crate::net::stream::Stream;
use crate::pools::elder::{Elder, Tidings};
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::process::listener::Listener;
use crate::process::worker::Worker;
use crate::protocol::message;

/// How long the older process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Knocks at the console of the process that listens at `socket`, and says TAKEOVER.
///
/// # Errors
/// What it answers instead of letting us in.
pub fn knock(socket: &Path) -> Result<UnixStream, String> {
    let problem = |why: String| format!("could not take over from the process that runs: {why}");
    let ask = || -> io::Result<Result<UnixStream, String>> {
        let mut stream = socket::knock(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut out = BytesMut::new();
        let who: [(&[u8], &[u8]); 2] = [(b"user", b"pgbouncer"), (b"database", b"pgbouncer")];
        message::startup_message(&mut out, 0, &who);
        stream.write_all(&out)?;
        if let Err(refusal) = until_ready(&mut stream)? {
            return Ok(Err(refusal));
        }
        let length = u32::try_from(COMMAND.len() + 5).unwrap_or_default();
        let query = [b"Q", &length.to_be_bytes()[..], COMMAND.as_bytes(), &[0]].concat();
        stream.write_all(&query)?;
        Ok(until_ready(&mut stream)?.map(|()| stream))
    };
    ask()
        .map_err(|error| problem(error.to_string()))?
        .map_err(problem)
}

/// Reads up to ReadyForQuery and not a byte more; or what the error says that comes before it.
fn until_ready(stream: &mut UnixStream) -> io::Result<Result<(), String>> {
    let mut refusal = None;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = Vec::new();
        stream.take(length.into()).read_to_end(&mut body)?;
        match head[0] {
            b'E' => {
                let mut fields = body.split(|byte| *byte == 0);
                let text = fields.find_map(|field| field.strip_prefix(b"M"));
                let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
                if body.starts_with(b"SFATAL") {
                    return Ok(Err(text));
                }
                refusal = Some(text);
            }
            b'R' if body != [0; 4] => return Ok(Err("it asks for a password".to_owned())),
            b'Z' => return Ok(refusal.map_or(Ok(()), Err)),
            _ => {}
        }
    }
}

/// What is taken over.
#[derive(Debug)]
pub struct Legacy {
    way: Way,
    words: UnboundedReceiver<Tidings>,
    clients: usize,
    servers: usize,
}

impl Legacy {
    /// Over the connection that [`knock`] gave. From now on cancel requests for clients that nobody knows here wait for an answer.
    ///
    /// # Errors
    /// When epoll refuses it.
    pub fn over(socket: UnixStream, registry: &Registry) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let way = Way::over(tokio::net::UnixStream::from_std(socket)?);
        let (asks, words) = unbounded_channel();
        registry.elder.store(Some(Arc::new(Elder::at(asks))));
        Ok(Self {
            way,
            words,
            clients: 0,
            servers: 0,
        })
    }

    /// The listening sockets.
    ///
    /// # Errors
    /// When the older process ends.
    pub async fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        loop {
            let packet = self.way.next().await?;
            let letter = Letter::read(&packet.bytes)?;
            match letter.kind() {
                ALL => return Ok(listeners),
                LISTENER => {
                    let mut descriptors = packet.descriptors.into_iter();
                    let socket = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                    listeners.push(Listener::taken(&letter, socket)?);
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Says that this process accepts, and waits until the older one does no more.
    ///
    /// # Errors
    /// When the older process ends.
    pub async fn begin(&mut self) -> io::Result<()> {
        self.way.send(&Letter::new(READY).write(), &[]).await?;
        loop {
            let packet = self.way.next().await?;
            if Letter::read(&packet.bytes)?.kind() == YOURS {
                return Ok(());
            }
        }
    }

    /// Says that this process is up, and takes clients and servers in until the older one has ended.
    pub async fn take_all(mut self, registry: Arc<Registry>, workers: Arc<Vec<Worker>>) {
        let end = self.take_until_end(&registry, &workers).await;
        registry.elder.store(None);
        for pool in registry.pools() {
            pool.seats_elsewhere(0);
        }
        let (clients, servers) = (self.clients, self.servers);
        match end {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                warn!(%error, clients, servers, "lost the process that was taken over from");
            }
            _ => info!(
                "old process killed, resuming work: {clients} clients and {servers} servers have come over"
            ),
        }
    }

    async fn take_until_end(
        &mut self,
        registry: &Arc<Registry>,
        workers: &[Worker],
    ) -> io::Result<()> {
        self.way.send(&Letter::new(UP).write(), &[]).await?;
        let (mut asked, mut number) = (HashMap::<u64, oneshot::Sender<bool>>::new(), 0);
        loop {
            let packet = tokio::select! {
                packet = self.way.next() => packet?,
                Some(word) = self.words.recv() => {
                    number += 1;
                    let letter = match word {
                        Tidings::Cancel { key, answer } => {
                            asked.insert(number, answer);
                            Letter::new(CANCEL).with("number", number).with_bytes("key", &key)
                        }
                        Tidings::Command(text) => Letter::new(ORDER).with("text", text),
                        Tidings::Ending { said } => {
                            self.way.send(&Letter::new(ENDING).write(), &[]).await?;
                            drop(said);
                            continue;
                        }
                    };
                    self.way.send(&letter.write(), &[]).await?;
                    continue;
                }
            };
            let letter = Letter::read(&packet.bytes)?;
            match letter.kind() {
                CLIENT => {
                    self.clients += 1;
                    if let Some(worker) = workers.iter().min_by_key(|worker| worker.clients()) {
                        worker.deal(Accepted::Moved(packet));
                    }
                }
                SERVER => {
                    self.servers += 1;
                    take_server(registry, &letter, packet)?;
                }
                POOL => learn(registry, &letter)?,
                SEATS => {
                    let open = usize::try_from(letter.number("open")?).unwrap_or(usize::MAX);
                    if let Some(pool) = pool_of(registry, &letter)? {
                        pool.seats_elsewhere(open);
                    }
                }
                HEEDED => {
                    let count = letter.number("count")?;
                    if let Some(elder) = registry.elder.load_full() {
                        elder.note_heeded(count);
                    }
                }
                CANCELLED => {
                    if let Some(answer) = asked.remove(&letter.number("number")?) {
                        let _ = answer.send(letter.says("was_here")?);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The pool that a letter is about; none where the settings know its database no more, or as a cluster's.
fn pool_of(registry: &Arc<Registry>, letter: &Letter) -> io::Result<Option<Arc<Pool>>> {
    let (name, user) = (letter.text("database")?, letter.text("user")?);
    if registry.settings.load().cluster_of(name).is_some() {
        return Ok(None);
    }
    let password = letter.text("password").ok().map(Verifier::parse);
    let database = registry.database(name);
    let pool = database.and_then(|database| registry.pool(&database, user, password));
    Ok(pool.filter(|pool| pool.user == user))
}

/// Takes note of what logins have taught the older process: a client is welcomed here though no server has logged in yet.
fn learn(registry: &Arc<Registry>, letter: &Letter) -> io::Result<()> {
    let Some(pool) = pool_of(registry, letter)? else {
        return Ok(());
    };
    if let Some(keys) = letter.bytes("keys").ok().and_then(|bytes| Keys::of(&bytes)) {
        pool.group.learn_keys(Arc::new(keys));
    }
    let target = Arc::clone(&pool.plan.load().target);
    if letter.text("place").ok() == target.place(target.host(0)).as_deref() {
        let welcome = letter.texts("welcome")?;
        pool.group.note_welcome(&Arc::new(welcome));
    }
    Ok(())
}

fn take_server(registry: &Arc<Registry>, letter: &Letter, packet: Packet) -> io::Result<()> {
    let pool = pool_of(registry, letter)?;
    let server = letter.letter(SERVER)?;
    if let (Some(pool), Some(server), Some(descriptor)) =
        (pool, server, packet.descriptors.into_iter().next())
    {
        pool.adopt(&server, Stream::from_descriptor(descriptor)?)?;
    }
    Ok(())
}
