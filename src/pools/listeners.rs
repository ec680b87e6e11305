//! LISTEN for all clients of a database and user, over one connection.
//!
//! A client in transaction mode has no server of its own to listen on. So one connection listens on every channel that any
//! client wants, and what it hears is put, in order and once, into the mailbox of each client that listens there. The
//! connection counts in `max_db_connections` and not in `pool_size`.
//!
//! What is wanted stands behind one lock; the task that owns the connection brings the server to it and says so. A channel is
//! *confirmed* from when the server has answered its LISTEN: nothing that is notified from then on is missed. When the
//! connection is lost everything is listened to again, and the clients are told by a NOTICE that they may have missed
//! something.
//!
//! Must never happen: a client that was told that it listens misses a notification and is not told.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::error::Error;
use crate::locked::Locked;
use crate::pools::dialer;
use crate::pools::mailbox::Mailbox;
use crate::pools::pool::Pool;
use crate::protocol::message::{self, Say, Severity};
use crate::protocol::prepared::{begin, end};
use crate::servers::frames::{Frame, Frames};
use crate::servers::server::Server;

/// Between two attempts to open the connection.
const RETRY: Duration = Duration::from_millis(200);
/// For how long clients wait for the connection before they are told that there is none.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long the connection stays when nobody listens any more.
const LINGER: Duration = Duration::from_secs(60);
/// So often the connection is looked at, whether it is still wanted, and still leads to the right place.
const TICK: Duration = Duration::from_secs(1);
/// A notification is at most 8000 bytes.
const LARGEST: usize = 1 << 16;
const MISSED: &str =
    "the connection that listens was lost and opened again: notifications may have been missed";

/// Who listens where, among the clients of one database and user.
#[derive(Debug, Default)]
pub struct Listeners {
    state: Mutex<State>,
    changed: Notify,
}

/// How far one client's LISTEN has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server is still to be told.
    New,
    /// It has been told and has not answered.
    Asked,
    /// It has answered: what it says from now on is for this client, too.
    Live,
}

#[derive(Debug)]
struct Listener {
    mailbox: Arc<Mailbox>,
    stage: Stage,
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<Box<str>, Vec<Listener>>,
    is_running: bool,
}

impl State {
    fn everybody(&mut self) -> impl Iterator<Item = &mut Listener> {
        self.wanted.values_mut().flatten()
    }
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.locked()
    }

    /// From now on what is notified on `channel` is to go to `mailbox`, too.
    pub fn listen(self: &Arc<Self>, pool: &Arc<Pool>, channel: &str, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        let heard = state.wanted.entry(channel.into()).or_default();
        if heard
            .iter()
            .any(|other| Arc::ptr_eq(&other.mailbox, mailbox))
        {
            return;
        }
        heard.push(Listener {
            mailbox: Arc::clone(mailbox),
            stage: Stage::New,
        });
        let is_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if is_running {
            self.changed.notify_one();
        } else {
            let (listeners, pool) = (Arc::clone(self), Arc::clone(pool));
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(async move { run(&listeners, &pool).await });
            }
        }
    }

    /// Nothing of `channel` goes to `mailbox` any more.
    pub fn unlisten(&self, channel: &str, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        if let Some(heard) = state.wanted.get_mut(channel) {
            heard.retain(|other| !Arc::ptr_eq(&other.mailbox, mailbox));
            if heard.is_empty() {
                state.wanted.remove(channel);
                self.changed.notify_one();
            }
        }
    }

    /// Whether the server has confirmed every channel of `mailbox`.
    pub fn are_confirmed(&self, mailbox: &Arc<Mailbox>) -> bool {
        let mut state = self.lock();
        state
            .everybody()
            .filter(|listener| Arc::ptr_eq(&listener.mailbox, mailbox))
            .all(|listener| listener.stage == Stage::Live)
    }

    /// The connection is lost: everything is to be asked for again.
    fn lost(&self) {
        self.lock()
            .everybody()
            .for_each(|listener| listener.stage = Stage::New);
    }

    fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let mut all: Vec<Arc<Mailbox>> = Vec::new();
        for listener in self.lock().everybody() {
            if !all
                .iter()
                .any(|other| Arc::ptr_eq(other, &listener.mailbox))
            {
                all.push(Arc::clone(&listener.mailbox));
            }
        }
        all
    }

    /// What the server must be told to come from `listening` to what is wanted, and what that is.
    ///
    /// A channel that somebody is new to is asked for again, though the server listens there: what was notified earlier comes
    /// before the answer, and is not for that client.
    fn difference(&self, listening: &BTreeSet<Box<str>>) -> (String, BTreeSet<Box<str>>) {
        let mut state = self.lock();
        let (mut sql, mut wanted) = (String::new(), BTreeSet::new());
        for (channel, heard) in &mut state.wanted {
            wanted.insert(channel.clone());
            let mut is_asked = !listening.contains(channel);
            for listener in heard
                .iter_mut()
                .filter(|listener| listener.stage == Stage::New)
            {
                listener.stage = Stage::Asked;
                is_asked = true;
            }
            if is_asked {
                push_command(&mut sql, "LISTEN", channel);
            }
        }
        for channel in listening.difference(&wanted) {
            push_command(&mut sql, "UNLISTEN", channel);
        }
        (sql, wanted)
    }

    /// The server has answered; whoever waited for that is woken.
    fn confirm(&self, was_lost: bool) {
        for listener in self.lock().everybody() {
            if listener.stage == Stage::Asked {
                listener.stage = Stage::Live;
            }
        }
        let mut notice = BytesMut::new();
        let say = Say {
            severity: Severity::Notice,
            code: "01000",
            message: MISSED,
            detail: None,
            hint: Some("Look at what the notifications would have told of."),
        };
        message::notice(&mut notice, &say);
        let notice: Arc<[u8]> = notice[..].into();
        for mailbox in self.mailboxes() {
            if was_lost {
                mailbox.put(None, &notice);
            }
            mailbox.recovered();
        }
    }

    /// The server tells a notification: process, channel, payload.
    fn hear(&self, body: &[u8]) {
        let channel = body
            .get(4..)
            .and_then(|rest| rest.split(|byte| *byte == 0).next());
        let Some(Ok(channel)) = channel.map(std::str::from_utf8) else {
            return;
        };
        let state = self.lock();
        let Some(heard) = state.wanted.get(channel) else {
            return;
        };
        let mut frame = Vec::with_capacity(body.len() + 5);
        let at = begin(&mut frame, b'A');
        frame.extend_from_slice(body);
        end(&mut frame, at);
        let frame: Arc<[u8]> = frame.into();
        let live = heard
            .iter()
            .filter(|listener| listener.stage == Stage::Live);
        live.for_each(|listener| listener.mailbox.put(Some(channel), &frame));
    }
}

fn push_command(sql: &mut String, command: &str, channel: &str) {
    sql.push_str(command);
    sql.push_str(" \"");
    sql.push_str(&channel.replace('"', "\"\""));
    sql.push_str("\";");
}

/// The place that the connection takes among those of its database.
struct ServerPlace<'a>(&'a Pool);

impl Drop for ServerPlace<'_> {
    fn drop(&mut self) {
        let servers = &self.0.database.servers;
        servers.give_back();
        if servers.feed() {
            self.0.registry.grow_all();
        }
    }
}

/// How the connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody listens any more.
    Unwanted,
    /// The server, or the way to it.
    Lost,
}

/// Owns the connection as long as somebody listens.
async fn run(listeners: &Arc<Listeners>, pool: &Arc<Pool>) {
    let (database, user) = (pool.database.name.as_str(), pool.user.as_str());
    let mut was_lost = false;
    let mut failing: Option<Moment> = None;
    while !is_over(listeners) {
        let Some(pool) = pool_of_writer(pool) else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        match open(&pool).await {
            Ok((mut server, place)) => {
                failing = None;
                let end = serve(listeners, &pool, &mut server, &mut was_lost).await;
                listeners.lost();
                pool.registry.own_census.servers.remove(&server.card.id);
                dialer::say_goodbye(&mut server.stream).await;
                drop(place);
                if end == End::Unwanted {
                    continue;
                }
                was_lost = true;
                tracing::warn!(database, user, "the connection that listens was lost");
            }
            Err(error) => {
                tracing::warn!(database, user, %error, "no connection to listen on");
                let since = *failing.get_or_insert_with(clock::now);
                if clock::now().since(since) >= PATIENCE {
                    let everybody = listeners.mailboxes();
                    everybody.iter().for_each(|mailbox| mailbox.fail(&error));
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The pool of the node where notifications are made: in a cluster, the primary's. None while there is no primary.
fn pool_of_writer(pool: &Arc<Pool>) -> Option<Arc<Pool>> {
    let registry = &pool.registry;
    let Some(board) = registry.board_of(&pool.database.name) else {
        return Some(Arc::clone(pool));
    };
    let view = board.view();
    let place = &view.node(view.primary_at(clock::now())?)?.place;
    registry.pool_at(&pool.group, &Node::at(&place.host, place.port))
}

/// Whether nobody listens; then the task is no longer there.
fn is_over(listeners: &Listeners) -> bool {
    let mut state = listeners.lock();
    let is_over = state.wanted.is_empty();
    if is_over {
        state.is_running = false;
    }
    is_over
}

async fn open(pool: &Arc<Pool>) -> Result<(Box<Server>, ServerPlace<'_>), Error> {
    let max = pool.plan.load().max_db;
    if !pool.database.servers.take(max) {
        pool.database.servers.insist();
        pool.registry.evict_for_database(pool);
        pool.evict_one();
        return Err(Error::NoPlaceToListen(max));
    }
    let place = ServerPlace(pool);
    let server = dialer::open_own(pool).await?;
    Ok((server, place))
}

/// Brings the server to what is wanted, again and again, and delivers what it says.
async fn serve(
    listeners: &Listeners,
    pool: &Arc<Pool>,
    server: &mut Server,
    was_lost: &mut bool,
) -> End {
    let mut frames = Frames::default();
    let (mut listening, mut asked) = (BTreeSet::new(), None);
    let mut last_wanted = clock::now();
    loop {
        let facts = &server.card.facts;
        let has_moved = pool.registry.names.has_left(&facts.host, &facts.address);
        let is_deposed = || pool_of_writer(pool).is_some_and(|now| now.id != pool.id);
        if pool.generation() != server.generation || has_moved || is_deposed() {
            return End::Lost;
        }
        if asked.is_none() {
            let (sql, wanted) = listeners.difference(&listening);
            if !wanted.is_empty() {
                last_wanted = clock::now();
            } else if clock::now().since(last_wanted) >= LINGER {
                return End::Unwanted;
            }
            if !sql.is_empty() {
                let mut out = BytesMut::new();
                message::query(&mut out, sql.as_bytes());
                if server.stream.write_all(&out).await.is_err() {
                    return End::Lost;
                }
                asked = Some(wanted);
            }
        }
        let frame = tokio::select! {
            frame = frames.next(&mut server.stream, LARGEST) => frame,
            () = listeners.changed.notified() => continue,
            () = tokio::time::sleep(TICK) => continue,
        };
        match frame {
            Ok(Frame { tag: b'A', body }) => listeners.hear(&body),
            Ok(Frame { tag: b'Z', .. }) => {
                if let Some(wanted) = asked.take() {
                    listeners.confirm(std::mem::take(was_lost));
                    listening = wanted;
                }
            }
            Ok(Frame { tag: b'E', .. }) | Err(_) => return End::Lost,
            Ok(_) => {}
        }
    }
}
