//! Which node a client of a cluster goes to: where the writer is now, or into the line for one.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::clients::session::{Next, Session, Standing};
use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::error::Error;
use crate::pools::group::Group;
use crate::pools::pool::Pool;
use crate::pools::registry::Registry;
use crate::protocol::parameters::Parameters;
use crate::stats::census::ClientState;
use crate::topology::board::{Board, Held};
use crate::topology::node::{NodeId, Observation};
use crate::topology::phase::Epoch;
use crate::topology::view::ClusterView;

/// The course of a client whose database is in a cluster.
#[derive(Debug)]
pub struct Course {
    /// Where the views of its cluster hang.
    pub board: Arc<Board>,
    group: Arc<Group>,
    /// The node whose pool the session holds, and the reign in which it was chosen.
    bound: (NodeId, Epoch),
    /// The client's parameters before the link under way.
    pub(super) params_before: Option<Arc<Parameters>>,
    /// Since when the request under way has waited for a primary.
    waits_since: Option<Moment>,
}

/// The pool of the writer for `group`. None while there is no writer.
///
/// # Errors
/// [`Error::DatabaseRemoved`] when the group has gone.
pub fn pool_of_writer(
    registry: &Arc<Registry>,
    group: &Arc<Group>,
    view: &ClusterView,
    now: Moment,
) -> Result<Option<(Arc<Pool>, NodeId)>, Error> {
    let Some(node) = view.primary_at(now).and_then(|id| view.node(id)) else {
        return Ok(None);
    };
    let place = Node::at(&node.place.host, node.place.port);
    let pool = registry.pool_at(group, &place);
    let pool = pool.ok_or_else(|| Error::DatabaseRemoved(group.database.name.clone()))?;
    Ok(Some((pool, node.id)))
}

/// Why a client of this cluster got no server.
pub fn no_primary(board: &Board) -> Error {
    let view = board.view();
    let nodes = view.nodes.iter().filter(|node| node.is_listed).map(|node| {
        let trouble = node.trouble.as_deref();
        let trouble = trouble.map_or_else(String::new, |why| format!(" ({why})"));
        format!(
            "{} is {}{trouble}",
            node.place.address(),
            node.role.as_str()
        )
    });
    Error::NoPrimary {
        cluster: view.name.to_string(),
        standing: format!(
            "It is {}: {}. {}.",
            view.phase.as_str(),
            view.why,
            nodes.collect::<Vec<_>>().join("; ")
        ),
    }
}

/// Whether an error that kept a client from a server may pass with a failover.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::ServerUnreachable { .. } | Error::ServerLost(_) | Error::NoPrimary { .. } => true,
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. } => {
            matches!(refusal.code.as_str(), "57P03" | "57P01")
        }
        _ => false,
    }
}

impl Course {
    /// The course of a client that has just logged in and holds the pool of node `bound`.
    pub fn new(board: Arc<Board>, group: Arc<Group>, bound: NodeId) -> Self {
        let epoch = board.view().epoch;
        Self {
            board,
            group,
            bound: (bound, epoch),
            params_before: None,
            waits_since: None,
        }
    }

    /// Tells the machine that something is wrong with the node.
    pub fn bad_sign(&self, why: &str) {
        self.board.tell(Observation::BadSign {
            node: self.bound.0,
            at: clock::now(),
            why: why.to_owned(),
        });
    }

    /// Whether the node is still the one for new transactions.
    pub(super) fn is_right(&self, now: Moment) -> bool {
        let view = self.board.view();
        view.primary_at(now) == Some(self.bound.0) && view.epoch == self.bound.1
    }

    /// A server was got: the wait is over.
    pub(super) fn arrived(&mut self) {
        self.waits_since = None;
    }
}

impl Session {
    /// Chooses the pool for what the client is about to ask; false while there is no primary. Costs a look at the board.
    pub(super) fn steer(&mut self, now: Moment) -> Result<bool, Error> {
        let is_followed = self.pool.plan.load().rules.is_followed;
        if self.pool.is_retired() || is_followed != self.course.is_some() {
            self.change_course()?;
        }
        let Some(course) = &mut self.course else {
            return Ok(true);
        };
        let view = course.board.view();
        let Some(writer) = view.primary_at(now) else {
            return Ok(false);
        };
        if course.bound == (writer, view.epoch) && !self.pool.is_retired() {
            return Ok(true);
        }
        let registry = Arc::clone(&self.pool.registry);
        let Some((pool, node)) = pool_of_writer(&registry, &course.group, &view, now)? else {
            return Ok(false);
        };
        self.pool = pool;
        course.bound = (node, view.epoch);
        Ok(true)
    }

    /// A reload has moved the database into a cluster, out of it, or into another.
    fn change_course(&mut self) -> Result<(), Error> {
        let registry = Arc::clone(&self.pool.registry);
        let group = Arc::clone(&self.pool.group);
        let gone = || Error::DatabaseRemoved(group.database.name.clone());
        let Some(board) = registry.board_of(&group.database.name) else {
            if registry
                .settings
                .load()
                .cluster_of(&group.database.name)
                .is_none()
            {
                self.pool = registry.pool_at(&group, &Node::Own).ok_or_else(gone)?;
                self.course = None;
            }
            return Ok(());
        };
        let known = self.course.as_ref();
        if known.is_none_or(|course| !Arc::ptr_eq(&course.board, &board)) {
            let nobody = NodeId(u16::MAX);
            self.course = Some(Box::new(Course::new(board, group, nobody)));
        }
        Ok(())
    }

    /// Puts the client into the line for a primary, its request kept. Where the line is full the request is refused.
    pub(super) fn hold(&mut self, cx: &mut Context<'_>, now: Moment) -> Result<Next, Error> {
        let Some(course) = &mut self.course else {
            return Ok(Next::On);
        };
        let since = *course.waits_since.get_or_insert(now);
        let board = Arc::clone(&course.board);
        let is_over = now.since(since) >= board.limits().timeout;
        let hold = (!is_over).then(|| board.hold(since, cx.waker())).flatten();
        match hold {
            Some(hold) => {
                self.card.enter(ClientState::Waiting, now);
                self.standing = Standing::Holding(hold);
                Ok(Next::On)
            }
            None => self.refuse(cx, &no_primary(&board)),
        }
    }

    /// In the line for a primary.
    pub(super) fn poll_holding(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        let Standing::Holding(hold) = &self.standing else {
            return Poll::Ready(Ok(Next::On));
        };
        match hold.poll(cx) {
            Poll::Ready(Held::Go) => {
                self.standing = Standing::Idle;
                Poll::Ready(Ok(Next::On))
            }
            Poll::Ready(Held::TimedOut) => {
                self.standing = Standing::Idle;
                let board = self.course.as_ref().map(|course| Arc::clone(&course.board));
                let error = board.map_or(Error::Internal, |board| no_primary(&board));
                Poll::Ready(self.refuse(cx, &error))
            }
            Poll::Pending => self.poll_in_line(cx),
        }
    }

    /// Whether a client in line for a server of a node should be in line for another.
    pub(super) fn has_lost_its_way(&self) -> bool {
        let course = self.course.as_ref();
        course.is_some_and(|course| !course.is_right(clock::now()))
    }

    /// Whether an error that kept a client from a server only means that it must go on waiting.
    pub(super) fn may_weather(&self, error: &Error) -> bool {
        let Some(course) = self.course.as_ref().filter(|_| is_passing(error)) else {
            return false;
        };
        course.bad_sign("a server could not be opened");
        true
    }
}
