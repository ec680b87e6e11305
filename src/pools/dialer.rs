//! Opens, checks, resets and closes servers, each in a task of its own.
//!
//! A client is never tied to a dial of its own: it takes whatever server is free first.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::pool::Pool;
use crate::protocol::suspects::{CATALOG, Suspects};
use crate::servers::dial;
use crate::servers::login;
use crate::servers::query;
use crate::servers::server::Server;
use crate::stats::census::Census;
use crate::telemetry::events::{self, Who};
use crate::telemetry::log;

/// How long PostgreSQL may take to close its end of a connection that ends.
const CLOSING: Duration = Duration::from_secs(5);
/// How long the reset or the check query may take.
const TESTING: Duration = Duration::from_secs(10);
/// By how much the next attempt to reach a server is later than it may be.
pub const RETRY_SLACK: Duration = Duration::from_millis(10);

/// Spawns on the calling thread's runtime. Without one (the process ends) the future is dropped.
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(future);
    }
}

/// The seat of a server that is being dialled: freed even if the dialling panics.
struct Dialing {
    pool: Arc<Pool>,
    turn: usize,
    is_settled: bool,
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if !self.is_settled {
            let _ = self.pool.failed(&Error::Internal, self.turn);
        }
    }
}

/// Opens one server for `pool`.
pub fn dial(pool: Arc<Pool>) {
    let (turn, begun) = (pool.next_turn(), clock::now());
    let id = pool.registry.census.next_id();
    let mut dialing = Dialing {
        pool,
        turn,
        is_settled: false,
    };
    spawn(async move {
        let result = open(&dialing.pool, turn, id).await;
        dialing.is_settled = true;
        match result {
            Ok(server) => dialing.pool.arrived(server),
            Err(error) => {
                let pool = &dialing.pool;
                let age = clock::now().since(begun);
                if log::is_as_pgbouncer() {
                    // Before anybody hears of it.
                    tell_failure(pool, &error, (id, turn), age);
                    let _ = pool.failed(&error, turn);
                } else if pool.failed(&error, turn) {
                    tell_failure(pool, &error, (id, turn), age);
                }
            }
        }
    });
}

fn tell_failure(pool: &Pool, error: &Error, (id, turn): (u64, usize), age: Duration) {
    let plan = pool.plan.load();
    let host = plan.target.host(turn);
    let address = host.shown();
    let who = Who::dialled(id, (&pool.database.name, &pool.user), (&address, host.port));
    let of_replication = match error {
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. }
            if pool.guest.is_some() =>
        {
            Some(Error::ReplicationRefused(refusal.clone()))
        }
        _ => None,
    };
    let error = of_replication.as_ref().unwrap_or(error);
    let is_logged = pool.registry.settings.load().pooler.log_disconnections;
    events::server_failed(who, error, age, is_logged);
}

/// Opens a connection of the pooler's own to where the servers of `pool` are. It takes no seat.
///
/// # Errors
/// What keeps it from the server.
pub async fn open_own(pool: &Arc<Pool>) -> Result<Box<Server>, Error> {
    let census = &pool.registry.own_census;
    open_in(pool, 0, census.next_id(), census).await
}

async fn open(pool: &Arc<Pool>, turn: usize, id: u64) -> Result<Box<Server>, Error> {
    let mut server = open_in(pool, turn, id, &pool.registry.census).await?;
    let dictionary = &pool.group.dictionary;
    if pool.plan.load().rules.keeps() && dictionary.suspects().is_none() {
        let generation = dictionary.begin_reading();
        let asked = query::ask(&mut server, &pool.registry.interner, CATALOG).await;
        let suspects = match asked {
            Ok(rows) => Suspects::of(&rows),
            // What cannot be read may be anything.
            Err(Error::ServerRefused(_)) => Suspects::all(),
            Err(error) => return Err(error),
        };
        dictionary.know_suspects(generation, Arc::new(suspects));
    }
    Ok(server)
}

async fn open_in(
    pool: &Arc<Pool>,
    turn: usize,
    id: u64,
    census: &Census,
) -> Result<Box<Server>, Error> {
    let generation = pool.generation();
    let plan = pool.plan.load_full();
    let registry = &pool.registry;
    let keys = pool.group.keys();
    let tls = registry.server_tls.load().of(&plan.target);
    let host = plan.target.host(turn);
    let login = login::Login {
        target: &plan.target,
        host,
        names: &registry.names,
        tls,
        keys,
        derived: &pool.derived,
        database: &pool.database.name,
        id,
        census,
        interner: &registry.interner,
        generation,
        is_logged: registry.settings.load().pooler.log_connections,
        pool: pool.id,
        watch: Some(&pool.watch),
    };
    let dialled = tokio::time::timeout(plan.target.timeout, Box::pin(login::log_in(login))).await;
    dialled.unwrap_or_else(|_| Err(dial::too_late(host, plan.target.timeout)))
}

/// Lets `pool` try again `after` a while.
pub fn try_later(pool: Arc<Pool>, after: Duration) {
    spawn(async move {
        tokio::time::sleep(after).await;
        pool.grow();
    });
}

/// Runs the reset query on a server that a client is done with.
pub fn reset(pool: Arc<Pool>, server: Box<Server>) {
    let sql = pool.plan.load().reset_query.clone();
    test(pool, server, sql);
}

/// Takes everything that a client left on a server away.
pub fn empty(pool: Arc<Pool>, mut server: Box<Server>) {
    server.side.doubt.settle();
    test(pool, server, "DISCARD ALL".into());
}

/// Runs the check query on a server that was idle for long.
pub fn check(pool: Arc<Pool>, server: Box<Server>) {
    let sql = pool.plan.load().check_query.clone().unwrap_or_default();
    test(pool, server, sql);
}

/// A server that is being tested: closed, unless the test ends well.
struct Testing {
    pool: Arc<Pool>,
    server: Option<Box<Server>>,
}

impl Drop for Testing {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.pool.failed_test(server);
        }
    }
}

fn test(pool: Arc<Pool>, server: Box<Server>, sql: String) {
    let mut testing = Testing {
        pool,
        server: Some(server),
    };
    spawn(async move {
        let Some(server) = &mut testing.server else {
            return;
        };
        let interner = &testing.pool.registry.interner;
        match tokio::time::timeout(TESTING, query::ask(server, interner, &sql)).await {
            Ok(Ok(_)) if server.side.is_free() => {
                server.used = clock::now();
                if let Some(server) = testing.server.take() {
                    testing.pool.tested(server);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(server = server.card.id, %error, sql, "reset or check query failed");
            }
            Ok(Ok(_)) => {
                tracing::warn!(
                    server = server.card.id,
                    sql,
                    "reset or check query began a transaction"
                );
            }
            Err(_) => {
                tracing::warn!(
                    server = server.card.id,
                    sql,
                    "reset or check query timed out"
                );
            }
        }
    });
}

/// Says goodbye and waits until PostgreSQL has closed its end: only then is the seat free.
///
/// No cancel request is sent, whatever the backend is doing: one that meets a commit which waits for its standby makes PostgreSQL
/// report success for what no standby has. A backend that is told to (see [`login::log_in`]) notices by itself that its client
/// is gone, and ends at a point where that is safe; the seat of one that does not notice counts until it ends.
pub fn close(pool: Arc<Pool>, server: Box<Server>) {
    let id = server.card.id;
    let seat = Seat { pool, id };
    spawn(async move {
        let mut server = server;
        server.stream.watch_end(CLOSING);
        say_goodbye(&mut server.stream).await;
        let closed = tokio::time::timeout(CLOSING, until_closed(&mut server.stream)).await;
        if closed.is_err() {
            let pid = server.card.facts.pid;
            tracing::warn!(
                server = id,
                pid,
                "a backend goes on though nobody waits for it; its seat counts until it ends (client_connection_check_interval bounds that)"
            );
            until_closed(&mut server.stream).await;
        }
        drop(server);
        drop(seat);
    });
}

/// The seat of a server that is being closed: freed however the closing ends.
struct Seat {
    pool: Arc<Pool>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.closed(self.id);
    }
}

/// Says goodbye as far as that goes without waiting. The end of the stream says it to a server in the middle of a message.
pub async fn say_goodbye(stream: &mut Stream) {
    const TERMINATE: &[u8] = b"X\0\0\0\x04";
    poll_fn(|cx| {
        let _ = stream.poll_write(cx, TERMINATE);
        let _ = stream.poll_close(cx);
        Poll::Ready(())
    })
    .await;
}

async fn until_closed(stream: &mut Stream) {
    let mut scratch = [0; 8192];
    while let Ok(1..) = stream.read_some(&mut scratch).await {}
}
