//! What a login waits for: the writer of its cluster, and what the first server of its pool says.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Login, Writer};
use crate::clients::course;
use crate::clients::waiting::Waiting;
use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::config::settings::Settings;
use crate::config::value::Route;
use crate::error::Error;
use crate::pools::lease;
use crate::pools::plan::Reads;
use crate::pools::pool::{Asker, Pool};
use crate::servers::server::Reported;
use crate::topology::board::Board;
use crate::topology::board::waiting::Held;
use crate::topology::node::{NodeId, Role};
use crate::topology::reader::Read;

/// Where a login has found that no server can be opened.
#[derive(Debug, Default)]
pub(super) struct Lack {
    /// Replicas.
    shunned: Vec<NodeId>,
    /// At a primary that is well; until when it is waited for all the same.
    until: Option<Moment>,
}

impl Lack {
    /// As whom the login asks for a server.
    pub(super) fn asker(&self) -> Asker {
        self.until.map_or(Asker::Login, Asker::Patient)
    }

    /// No server could be opened at `node`, because of `error`: makes the login go elsewhere, or wait.
    ///
    /// # Errors
    /// `error`, once it has waited for long enough.
    pub(super) async fn go_around(
        &mut self,
        board: &Board,
        node: NodeId,
        error: Error,
    ) -> Result<(), Error> {
        let (view, now) = (board.view(), clock::now());
        board.want_sample(now);
        if view
            .node(node)
            .is_some_and(|node| node.role == Role::Replica)
        {
            self.shunned.push(node);
            return Ok(());
        }
        if view.primary_at(now) != Some(node) {
            // The writer was lost meanwhile: the login waits for the next one.
            board.next_after(&view).await;
            return Ok(());
        }
        let until = *self
            .until
            .get_or_insert_with(|| now.after(board.limits().timeout));
        if now < until { Ok(()) } else { Err(error) }
    }
}

impl Login<'_> {
    /// The writer of the cluster that the database belongs to, if it belongs to one; waits until there is one.
    pub(super) async fn writer_of(
        &self,
        database: &str,
        lack: &Lack,
    ) -> Result<Option<Writer>, Error> {
        let settings = self.registry.settings.load_full();
        let Some((cluster, _)) = settings.cluster_of(database) else {
            return Ok(None);
        };
        let Some(board) = self.registry.board_of(database) else {
            let (cluster, standing) = (cluster.to_owned(), "It is not watched.".to_owned());
            return Err(Error::NoPrimary { cluster, standing });
        };
        let user = settings.server_user(database, &self.startup.user);
        let reads = Reads {
            are_wanted: settings.effective_route(database, user) == Route::Replica,
            bound: settings.effective_lag_bound(database, user),
        };
        let since = clock::now();
        let mut wait = None;
        loop {
            let view = board.view();
            let read = (Read::default(), &*lack.shunned);
            let node = course::node_for(&board, &view, reads, read, clock::now());
            if let Some(node) = node.and_then(|id| view.node(id)) {
                let place = Node::at(&node.place.host, node.place.port);
                let node = node.id;
                wait.map(Waiting::came_through);
                return Ok(Some(Writer { board, node, place }));
            }
            self.arrival.waits_for_server(since);
            wait.get_or_insert_with(|| Waiting::begin(&board, since));
            let hold = poll_fn(|cx| Poll::Ready(board.hold(since, cx.waker()))).await;
            let called = match &hold {
                Some(hold) => poll_fn(|cx| hold.poll(cx)).await,
                None => Held::TimedOut,
            };
            if called == Held::TimedOut {
                return Err(course::no_primary(&board));
            }
        }
    }

    /// The parameters of the pool's servers; waits for the first server where none has logged in yet.
    pub(super) async fn welcome_of(
        &self,
        pool: &Arc<Pool>,
        settings: &Settings,
        asker: Asker,
    ) -> Result<Reported, Error> {
        if let Some(welcome) = pool.group.welcome() {
            return Ok(welcome);
        }
        let queue = settings.effective_query_wait_timeout(&pool.database.name, &self.startup.user);
        let query = settings.effective_query_timeout(&pool.user);
        let is_set = |limit: &Duration| !limit.is_zero();
        let wait = [queue, query].into_iter().filter(is_set).min();
        let wait = wait.unwrap_or(Duration::from_secs(86_400));
        let first = async {
            loop {
                let mut told = std::pin::pin!(pool.group.has_welcome.notified());
                told.as_mut().enable();
                if let Some(welcome) = pool.group.welcome() {
                    return Ok(welcome);
                }
                self.arrival.waits_for_server(clock::now());
                // It need not wait for a server of its own: what another login learned will do.
                tokio::select! {
                    () = told => {}
                    borrowed = lease::borrow(pool, asker) => {
                        let mut lease = borrowed?;
                        let reported = Arc::clone(&lease.server().reported);
                        lease.release();
                        return Ok(reported);
                    }
                }
            }
        };
        let waited = tokio::time::timeout(wait, Box::pin(first)).await;
        waited.map_err(|_| {
            if pool.headcount().paused {
                Error::PausedTooLong(wait)
            } else if wait == query {
                Error::QueuedQueryTimeout(wait)
            } else {
                Error::QueryWaitTimeout(wait)
            }
        })?
    }
}
