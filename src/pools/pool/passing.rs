//! Servers that come from another process or go to one, and the seats that are taken there.
//!
//! While two processes serve the same clients, one taking over from the other, `pool_size` holds for both together: the younger one
//! keeps a seat for each server that the older one still has. A server that is passed on takes one of those.
//!
//! Clients that can never be passed on share the pool with those of the younger process: at most half of it is theirs. What they use
//! again and again stays with them. It would be opened anew for each of their transactions otherwise, and be one too many over there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use crate::clock::{self, Moment};
use crate::net::letter::Letter;
use crate::net::stream::Stream;
use crate::pools::dialer;
use crate::pools::lease::Lease;
use crate::pools::policy::Reason;
use crate::servers::parcel::{self, Taker};
use crate::servers::server::Server;
use crate::stats::census::ServerState;
use crate::thread;

/// For how long after their last request clients that stay here keep the idle servers of their share.
const REST: Duration = Duration::from_secs(1);

/// A server that has left its pool for another process. Dropped it leaves its seat; the other process has its connection then.
#[derive(Debug)]
pub struct Away {
    server: Option<Box<Server>>,
    pool: Arc<Pool>,
}

impl Away {
    /// Takes `server` out of `pool`, which has lent it or shelved it.
    pub fn from(pool: &Arc<Pool>, server: Box<Server>) -> Self {
        Self {
            server: Some(server),
            pool: Arc::clone(pool),
        }
    }

    /// The server.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_deref()
    }

    /// Whose it is.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// It cannot be passed on: it ends.
    pub fn close(mut self) {
        if let Some(server) = self.server.take() {
            self.pool.close(server, Reason::Ordered);
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let id = server.card.id;
            drop(server);
            self.pool.registry.census.servers.remove(&id);
            self.pool.leave_seat(false);
        }
    }
}

/// How many servers a pool of `size` may have for clients that stay, while another process has the others. Without a limit (0) there is none.
pub(super) const fn share(size: usize) -> usize {
    match size {
        0 | 1 => size,
        _ => size / 2,
    }
}

impl Pool {
    /// Takes out every idle server.
    pub fn send_away(&self) -> Vec<Away> {
        self.send_away_up_to(usize::MAX)
    }

    /// Takes out the idle servers that clients which stay do not need; `since` all others had gone.
    pub fn send_spare(&self, since: Moment, now: Moment) -> Vec<Away> {
        let share = share(self.plan.load().size);
        let surplus = {
            let state = self.lock();
            let is_at_work = state.last_used > since && now.since(state.last_used) < REST;
            match (is_at_work, share) {
                (false, _) => usize::MAX,
                (true, 0) => 0,
                (true, share) => state.staying().saturating_sub(share),
            }
        };
        self.send_away_up_to(surplus)
    }

    /// How many seats another process has to keep for the servers that are here; `since` all clients had gone but those that stay. The only
    /// seat of a pool is not kept for these: they have theirs beside it.
    pub fn seats_here(&self, since: Moment) -> usize {
        let is_lone = self.plan.load().size == 1;
        let state = self.lock();
        let is_beside = is_lone && state.last_used > since && !state.paused;
        if is_beside { 0 } else { state.open }
    }

    /// Takes out those idle servers that were used least recently.
    fn send_away_up_to(&self, count: usize) -> Vec<Away> {
        let pool = self.arc();
        let mut state = self.lock();
        let stores = state.idle.iter_mut();
        let mut idle: Vec<_> = stores.flat_map(|store| store.drain(..)).collect();
        idle.sort_by_key(|server| server.used);
        for server in idle.split_off(count.min(idle.len())) {
            let home = thread::place(server.home, state.idle.len());
            state.idle[home].push_back(server);
        }
        drop(state);
        idle.into_iter()
            .map(|server| Away::from(&pool, server))
            .collect()
    }

    /// Another process has so many servers of this pool.
    pub fn seats_elsewhere(&self, count: usize) {
        let mut state = self.lock();
        let known = std::mem::replace(&mut state.elsewhere, count);
        if count > known {
            state.open += count - known;
            drop(state);
            for _ in known..count {
                self.database.servers.take(0);
                self.owner.servers.take(0);
            }
            return;
        }
        drop(state);
        for _ in count..known {
            self.leave_seat(false);
        }
    }

    /// Takes in a server of another process, and has it forget all that its clients did there.
    ///
    /// # Errors
    /// When the letter that came with it says too little.
    pub fn adopt(&self, letter: &Letter, stream: Stream) -> io::Result<()> {
        let server = self.take_in(letter, stream)?;
        self.lock().tested += 1;
        server.card.enter(ServerState::Tested, clock::now());
        dialer::empty(self.arc(), server);
        Ok(())
    }

    /// Takes in a server that its client has kept.
    ///
    /// # Errors
    /// As [`Pool::adopt`].
    pub fn adopt_lent(&self, letter: &Letter, stream: Stream) -> io::Result<Lease> {
        let server = self.take_in(letter, stream)?;
        server.card.enter(ServerState::Active, clock::now());
        Ok(Lease::new(&self.arc(), server))
    }

    fn take_in(&self, letter: &Letter, stream: Stream) -> io::Result<Box<Server>> {
        let plan = self.plan.load();
        let taker = Taker {
            database: &self.database.name,
            id: self.id,
            generation: self.generation(),
            target: &plan.target,
            census: &self.registry.census,
            interner: &self.registry.interner,
        };
        let server = parcel::adopt(letter, stream, taker)?;
        let mut state = self.lock();
        if state.elsewhere > 0 {
            state.elsewhere -= 1;
        } else {
            state.open += 1;
            drop(state);
            self.database.servers.take(0);
            self.owner.servers.take(0);
        }
        self.group.note_welcome(&server.reported);
        Ok(server)
    }
}
