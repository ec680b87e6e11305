//! Which node a client of a cluster goes to: where the writer is now, or into the line for one.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clients::session::{Next, Session, Station};
use crate::clients::split::Split;
use crate::clients::waiting::Waiting;
use crate::clock::{self, Moment};
use crate::config::node::Node;
use crate::error::Error;
use crate::pools::deeds::Deeds;
use crate::pools::group::Group;
use crate::pools::plan::{Plan, Reads};
use crate::pools::pool::Asker;
use crate::protocol::commits::Commits;
use crate::routing::own::Wish;
use crate::routing::route::Route;
use crate::stats::census::ClientState;
use crate::topology::board::Board;
use crate::topology::board::waiting::Held;
use crate::topology::node::{NodeId, Observation, Role};
use crate::topology::outage::Toll;
use crate::topology::phase::Epoch;
use crate::topology::reader::{self, Read};
use crate::topology::view::ClusterView;

/// For how long a client reads from no replica at which no server could be opened for it.
const SHUNNED: Duration = Duration::from_secs(5);

/// The course of a client whose database is in a cluster.
#[derive(Debug)]
pub struct Course {
    /// Where the views of its cluster hang.
    pub board: Arc<Board>,
    group: Arc<Group>,
    /// The node whose pool the session holds, and the reign in which it was chosen.
    bound: (NodeId, Epoch),
    /// What it has read from replicas.
    read: Read,
    /// Replicas at which no server could be opened for it, and until when it goes to none of them.
    shunned: (Vec<NodeId>, Moment),
    /// The request under way has waited for a primary.
    wait: Option<Waiting>,
    /// Since when no server can be opened for it at a primary that is well.
    lacking: Option<Moment>,
    /// An outage is over for this client, and nobody may have written since.
    unwritten: Option<Arc<Toll>>,
    /// Whether what is under way may end the transaction with a COMMIT.
    pub(super) commits: Box<Commits>,
    /// What its startup packet said of the pooler's own settings.
    pub startup_wish: Wish,
    /// Where reads are split off.
    pub(super) split: Option<Box<Split>>,
    /// What is done to the database of its server, by whomever.
    pub(super) deeds: Option<Arc<Deeds>>,
}

/// What became of the search for a node.
#[derive(Debug)]
pub(super) enum Way {
    /// The session holds its pool.
    There,
    /// There is none at the moment.
    Nowhere,
    /// There may be a better one in a moment.
    Soon,
    /// None is needed yet: the transaction's first statement decides.
    Later,
    /// There is none, and nobody waits for one.
    Refused(Error),
}

/// The node for new transactions: a replica where those are wanted and one is good enough, else the writer. None while there is
/// neither.
pub fn node_for(
    board: &Board,
    view: &ClusterView,
    reads: Reads,
    (read, shunned): (Read, &[NodeId]),
    now: Moment,
) -> Option<NodeId> {
    let reader = reads.are_wanted.then(|| {
        let turn = if read.from.is_none() {
            board.next_turn()
        } else {
            0
        };
        reader::choose(view, reads.bound, read, shunned, turn)
    });
    reader.flatten().or_else(|| view.primary_at(now))
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
            "Its phase is {}: {}. {}.",
            view.phase.as_str(),
            view.why.trim_end_matches('.'),
            nodes.collect::<Vec<_>>().join("; ")
        ),
    }
}

/// Why a client of this cluster got no server though its primary is well.
fn no_server(board: &Board, why: &Error) -> Error {
    match no_primary(board) {
        Error::NoPrimary { cluster, standing } => {
            let detail = why.detail().unwrap_or_default();
            let why = why.message();
            let standing = format!("No server can be opened: {why} {detail} {standing}");
            Error::NoPrimary { cluster, standing }
        }
        other => other,
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

/// Whether a node itself has refused a login: at a replica that is the replica's own trouble, such as no seat left, or a password that has not
/// come there yet.
pub fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(_) | Error::ServerLoginRefused { .. }
    )
}

impl Course {
    /// The course of a client that has just logged in and holds the pool of node `bound`.
    pub fn new(board: Arc<Board>, group: Arc<Group>, bound: NodeId) -> Self {
        let view = board.view();
        let epoch = view.epoch;
        let is_reader = view
            .node(bound)
            .is_some_and(|node| node.role == Role::Replica);
        let mut course = Self {
            board,
            group,
            bound: (bound, epoch),
            read: Read::default(),
            shunned: (Vec::new(), Moment::default()),
            wait: None,
            lacking: None,
            unwritten: None,
            commits: Box::default(),
            startup_wish: Wish::default(),
            split: None,
            deeds: None,
        };
        if is_reader {
            course.note_read(&view, bound);
        }
        course
    }

    /// Tells the machine that something is wrong with the node.
    pub fn bad_sign(&self, why: &str) {
        self.board.tell(Observation::BadSign {
            node: self.bound.0,
            at: clock::now(),
            why: why.to_owned(),
        });
    }

    /// Whether what the client asks goes to a replica.
    pub(super) fn is_at_replica(&self) -> bool {
        let is_in_flight = |split: &Split| split.flight.is_some();
        self.read.from == Some(self.bound.0) || self.split.as_deref().is_some_and(is_in_flight)
    }

    /// Leaves the replica that it holds the pool of, as no server can be opened there. False where that is none.
    pub(super) fn shuns_replica(&mut self, now: Moment) -> bool {
        let (node, _) = self.bound;
        if self.read.from != Some(node) {
            return false;
        }
        self.read.from = None;
        self.shunned.0.push(node);
        self.shunned.1 = now.after(SHUNNED);
        true
    }

    /// Whether the node is still good for new transactions.
    pub(super) fn is_right(&self, now: Moment) -> bool {
        let view = self.board.view();
        if self.read.from == Some(self.bound.0) {
            let node = view.node(self.bound.0);
            return node.is_some_and(|node| node.is_listed && node.role == Role::Replica);
        }
        view.primary_at(now) == Some(self.bound.0) && view.epoch == self.bound.1
    }

    /// Notes how far the replica is known to be that the client reads from now.
    fn note_read(&mut self, view: &ClusterView, reader: NodeId) {
        let lsn = view.node(reader).and_then(|node| node.lsn);
        let known = self.read.seen.filter(|(epoch, _)| *epoch == view.epoch);
        let lsn = lsn.max(known.map(|(_, lsn)| lsn));
        self.read = Read {
            from: Some(reader),
            seen: lsn.map(|lsn| (view.epoch, lsn)).or(self.read.seen),
        };
    }

    /// Notes that the client reads from the primary, where it sees at least what a probe has last seen there.
    fn note_primary(&mut self, view: &ClusterView) {
        self.read.from = None;
        if let Some(sample) = view.sample {
            self.read.seen = Some((view.epoch, sample.lsn));
        }
    }

    /// The node whose pool the session holds, and the reign in which it was chosen.
    pub(super) fn bound(&self) -> (NodeId, Epoch) {
        self.bound
    }

    /// The reign in which its server writes what it writes now.
    pub(super) fn reign(&self) -> Epoch {
        let view = self.board.view();
        if view.writer == Some(self.bound.0) {
            view.epoch
        } else {
            self.bound.1
        }
    }

    /// Whether what is under way may write. On a replica it does once that has become the primary.
    pub(super) fn may_write(&self) -> bool {
        let is_on_replica = match &self.split {
            Some(split) if split.has_only_read() => return false,
            Some(split) => split.flight.is_some(),
            None => self.read.from.is_some(),
        };
        !is_on_replica || self.board.view().writer == Some(self.bound.0)
    }

    /// Notes what its next server's database is.
    fn follow_deeds(&mut self, plan: &Plan) {
        let is_known = match (&self.deeds, &plan.deeds) {
            (Some(known), Some(new)) => Arc::ptr_eq(known, new),
            (known, new) => known.is_none() && new.is_none(),
        };
        if !is_known {
            self.deeds.clone_from(&plan.deeds);
        }
    }

    /// Notes whether what comes is read from a replica.
    pub(super) fn reads_from(&mut self, route: Route, view: &ClusterView) {
        if route.role == Role::Replica {
            self.note_read(view, route.node);
        } else {
            self.read.from = None;
        }
    }

    /// A server was got: the wait, where there was one, is over.
    pub(super) fn arrived(&mut self) {
        self.lacking = None;
        if let Some(wait) = self.wait.take() {
            self.unwritten = Some(wait.came_through());
        }
    }

    /// There is no server to be got: the wait, where there was one, was in vain.
    pub(super) fn gave_up(&mut self) {
        self.lacking = None;
        self.wait = None;
    }

    /// A transaction is over; where it may have written it may be the first since an outage.
    pub(super) fn note_first_write(&mut self, now: Moment) {
        if self.unwritten.is_some()
            && self.read.from.is_none()
            && let Some(toll) = self.unwritten.take()
        {
            toll.wrote(now);
        }
    }
}

impl Session {
    /// Chooses the pool for what the client is about to ask; `plan` is that of the pool it has. Costs a look at the board.
    pub(super) fn steer(&mut self, plan: &Plan, now: Moment) -> Result<Way, Error> {
        let splitting = plan.split.as_ref().filter(|_| self.course.is_some());
        if self.pool.is_retired() || plan.rules.is_followed != self.course.is_some() {
            self.change_course()?;
        }
        if let Some(course) = &mut self.course {
            course.follow_deeds(plan);
        }
        if let Some(splitting) = splitting
            && self.split().is_some()
        {
            return self.steer_by(splitting, now);
        }
        let Some(course) = &mut self.course else {
            return Ok(Way::There);
        };
        let view = course.board.view();
        if now >= course.shunned.1 {
            course.shunned.0.clear();
        }
        let read = (course.read, &*course.shunned.0);
        let Some(node) = node_for(&course.board, &view, plan.reads, read, now) else {
            return Ok(Way::Nowhere);
        };
        if view.primary_at(now) == Some(node) {
            course.note_primary(&view);
        } else {
            course.note_read(&view, node);
        }
        self.bind(&view, node)
    }

    /// Takes the pool of `node`.
    pub(super) fn bind(&mut self, view: &ClusterView, node: NodeId) -> Result<Way, Error> {
        let Some(course) = &mut self.course else {
            return Ok(Way::There);
        };
        if course.bound == (node, view.epoch) && !self.pool.is_retired() {
            return Ok(Way::There);
        }
        let Some(place) = view.node(node).map(|node| &node.place) else {
            return Ok(Way::Nowhere);
        };
        let place = Node::at(&place.host, place.port);
        let pool = self.pool.registry.pool_at(&course.group, &place);
        let gone = || Error::DatabaseRemoved(course.group.database.name.clone());
        self.pool = pool.ok_or_else(gone)?;
        if course.bound.1 != view.epoch {
            course.unwritten = course.board.chronicle().unwritten();
        }
        course.bound = (node, view.epoch);
        Ok(Way::There)
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
        let is_reader = self.pool.plan.load().reads.are_wanted;
        let may_read = is_reader || self.split().is_some_and(|split| split.may_read());
        let Some(course) = &mut self.course else {
            return Ok(Next::On);
        };
        let board = Arc::clone(&course.board);
        let begin = || Waiting::begin(&board, now);
        let since = course.wait.get_or_insert_with(begin).since();
        let is_over = now.since(since) >= board.limits().timeout;
        let hold = (!is_over).then(|| board.hold_for(since, cx.waker(), may_read));
        match hold.flatten() {
            Some(hold) => {
                self.card.enter(ClientState::Waiting, now);
                self.station = Station::Holding(hold);
                Ok(Next::On)
            }
            None => self.refuse(cx, &no_primary(&board)),
        }
    }

    /// In the line for a primary.
    pub(super) fn poll_holding(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        let Station::Holding(hold) = &self.station else {
            return Poll::Ready(Ok(Next::On));
        };
        match hold.poll(cx) {
            Poll::Ready(Held::Go) => {
                self.station = Station::Idle;
                Poll::Ready(Ok(Next::On))
            }
            Poll::Ready(Held::TimedOut) => {
                self.station = Station::Idle;
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
    ///
    /// It may be the first that is seen of a failover, so every node is asked at once. But it may be this pool's own trouble, and servers
    /// that are open work: nobody else is held for it.
    pub(super) fn may_weather(&self, error: &Error) -> bool {
        let Some(course) = &self.course else {
            return false;
        };
        let may_pass = is_passing(error) || (course.is_at_replica() && is_refusal(error));
        if may_pass {
            course.board.want_sample(clock::now());
        }
        may_pass
    }

    /// No server can be opened at a primary that is well: the client waits in its pool's own line, as at any server that cannot be reached,
    /// for as long as it would wait for a primary.
    pub(super) fn lack(
        &mut self,
        cx: &mut Context<'_>,
        error: &Error,
        now: Moment,
    ) -> Result<Next, Error> {
        let Some(course) = &mut self.course else {
            return Ok(Next::On);
        };
        let since = *course.lacking.get_or_insert(now);
        let until = since.after(course.board.limits().timeout);
        self.station = Station::Idle;
        if now >= until {
            let refusal = no_server(&course.board, error);
            return self.refuse(cx, &refusal);
        }
        let (plan, held) = (self.pool.plan.load_full(), std::mem::take(&mut self.held));
        self.ask_for_server(cx, &held, &plan, Asker::Patient(until), now)
    }
}
