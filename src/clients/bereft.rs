//! A client whose server is lost stays: it is told what became of its request, and goes on.
//!
//! What it must never do: call a write done that may be lost, call one failed that may be done, or run anything of a lost
//! transaction on another server. What was sent and not answered outside a transaction, or may have been a COMMIT, is answered with
//! 08007: nobody knows; with 08006 where it is known to read only, and cannot be asked of another server any more. Inside a
//! transaction nothing is committed: 40001, so that a driver repeats it, and the session is in a failed transaction until the
//! client ends it.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use crate::clients::answer;
use crate::clients::buffers::{MARK, with_gathered, with_scratch};
use crate::clients::session::{Next, Session, Station};
use crate::clock;
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::pools::policy::Reason;
use crate::protocol::commits::Commit;
use crate::protocol::dialogue::Dialogue;
use crate::protocol::phantom::Phantom;
use crate::protocol::pipeline::Owed;
use crate::protocol::requests::Flow;
use crate::protocol::run::Run;
use crate::protocol::sides::{ServerSide, Walk};
use crate::stats::census::ClientState;

/// What stands in for a server.
#[derive(Debug)]
pub struct Bereft {
    side: ServerSide,
    phantom: Phantom,
}

impl Session {
    /// Answers the client's request, of which no server has seen a byte, with `error`; the session goes on.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<Next, Error> {
        if self.rules.mode == PoolMode::Session {
            return Err(error.clone());
        }
        let mut reason = Vec::new();
        answer::tell(&mut reason, error, self.rules.dialect);
        let mut side = ServerSide::new(self.side.params.clone());
        let phantom = if self.late.take().is_some() {
            side.status = b'E';
            Phantom::in_lost_transaction(Some(reason))
        } else {
            Phantom::refusing(reason)
        };
        let bereft = Bereft { side, phantom };
        if let Some(course) = &mut self.course {
            course.gave_up();
        }
        self.station = Station::Bereft(Box::new(bereft));
        let held = std::mem::take(&mut self.held);
        self.bereft_said(cx, &held)
    }

    /// The server is lost. True when the client stays all the same, and has been told.
    pub(super) fn survive(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        if !self.can_lose_its_server() {
            return Ok(false);
        }
        if self.may_unbind() {
            self.unbind();
            return Ok(true);
        }
        // What it answered before it went is the client's.
        self.hear_out(cx);
        self.late = None;
        if self.is_within_frame() || !matches!(self.station, Station::Linked(_)) {
            return Ok(!matches!(self.station, Station::Linked(_)));
        }
        let mut side = self.part_from_server();
        let is_owed = !side.pipeline.is_empty() || side.batch_open;
        let is_inside = side.status != b'I';
        if is_inside && let Some(before) = side.settled.take() {
            // What the lost transaction SET is rolled back with it.
            self.side.params = before;
        }
        let commit = self.course.as_ref().map(|course| course.commits.found());
        let commit = commit.filter(|_| is_owed).unwrap_or_default();
        let error = if !is_owed || (is_inside && commit == Commit::No) {
            Error::TransactionLost
        } else if !is_inside && self.split().is_some_and(|split| split.changes_nothing()) {
            Error::ReadLost
        } else {
            Error::OutcomeUnknown
        };
        self.count_loss(&error);
        let mut reason = Vec::new();
        answer::tell(&mut reason, &error, self.rules.dialect);
        // Who has asked for more than a COMMIT may believe to be inside still: what it sends next must not be done by itself.
        let stays_inside = is_inside && commit != Commit::Alone;
        let (mut phantom, after) = if stays_inside {
            let untold = (!is_owed).then(|| reason.clone());
            (Phantom::in_lost_transaction(untold), b'E')
        } else {
            (Phantom::refusing(reason.clone()), b'I')
        };
        let mut bereft = Bereft {
            side,
            phantom: Phantom::refusing(Vec::new()),
        };
        let told = self.tell_what_is_owed(cx, &mut bereft.side, &reason, after);
        if bereft.side.batch_open || bereft.side.skipping {
            phantom.skip_to_sync();
        }
        bereft.side.status = after;
        bereft.phantom = phantom;
        self.station = Station::Bereft(Box::new(bereft));
        told?;
        self.end_bereft();
        Ok(true)
    }

    /// Whether all that its server has of the client is known, and nothing ties it to this one.
    fn can_lose_its_server(&mut self) -> bool {
        let is_followed = self.course.is_some() && self.rules.mode != PoolMode::Session;
        if !is_followed || !matches!(self.station, Station::Linked(_)) {
            return false;
        }
        // What ties it to its server is gone with it, and cannot be given back. Nor is it known what it had set, when nobody has
        // looked since.
        self.side.keeps.pins.is_empty() && !self.server().side.doubt.is_unseen()
    }

    /// Closes the lost server; its side stays, as it was before the server went.
    fn part_from_server(&mut self) -> ServerSide {
        // What was answered before may have been written.
        self.note_link_over(clock::now());
        let was_fenced = self.server().card.is_fenced();
        let mut side = ServerSide::new(self.side.params.clone());
        std::mem::swap(&mut side, &mut self.server().side);
        (side.walk, side.doomed) = (Walk::default(), None);
        (side.copying, side.doubtful_syncs) = (false, 0);
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            lease.end(Reason::Dirty);
        }
        self.card.link_to(0);
        self.is_trying = false;
        if let Some(course) = &self.course
            && !was_fenced
        {
            course.bad_sign("a server was lost");
        }
        side
    }

    /// Counts what the loss of a server did to this client.
    fn count_loss(&self, error: &Error) {
        let Some(course) = &self.course else { return };
        let toll = course.board.chronicle().toll(clock::now());
        let count = match error {
            Error::OutcomeUnknown => &toll.unknown,
            _ => &toll.undone,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Answers all that the server owed with `reason`.
    fn tell_what_is_owed(
        &mut self,
        cx: &mut Context<'_>,
        side: &mut ServerSide,
        reason: &[u8],
        status: u8,
    ) -> Result<(), Error> {
        let mut ready = BytesMut::new();
        crate::protocol::message::ready_for_query(&mut ready, status);
        while !side.pipeline.is_empty() || (side.batch_open && !side.skipping) {
            let is_lonely = side.pipeline.is_empty();
            let owed = side.pipeline.len();
            self.phantom_said(cx, side, reason)?;
            if side.pipeline.front().is_some_and(Owed::ends_ready) {
                self.phantom_said(cx, side, &ready)?;
            }
            if side.pipeline.len() >= owed && !is_lonely {
                // Nothing may be owed for ever.
                return Err(Error::Internal);
            }
            if is_lonely {
                (side.skipping, side.batch_open) = (true, false);
            }
        }
        side.doomed = None;
        Ok(())
    }

    /// Judges what the phantom said, and passes it on.
    fn phantom_said(
        &mut self,
        cx: &mut Context<'_>,
        side: &mut ServerSide,
        said: &[u8],
    ) -> Result<(), Error> {
        if said.is_empty() {
            return Ok(());
        }
        with_gathered(|gathered| {
            let mut run = Run::new(said, gathered);
            let registry = &self.pool.registry;
            let mut dialogue = Dialogue {
                client: &mut self.side,
                server: side,
                rules: self.rules,
                dictionary: &self.pool.group.dictionary,
                interner: &registry.interner,
                tally: self.pool.tally(),
            };
            dialogue.from_server(said, &mut run)?;
            let bytes = run.finish();
            self.send_to_client(cx, bytes)
        })
    }

    /// A client without a server says something.
    fn bereft_said(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<Next, Error> {
        let Station::Bereft(mut bereft) = std::mem::replace(&mut self.station, Station::Idle)
        else {
            return Ok(Next::On);
        };
        let (mut said, mut answers) = (BytesMut::new(), Vec::new());
        let flow = with_gathered(|gathered| {
            let mut run = Run::new(chunk, gathered);
            let registry = &self.pool.registry;
            let mut dialogue = Dialogue {
                client: &mut self.side,
                server: &mut bereft.side,
                rules: self.rules,
                dictionary: &self.pool.group.dictionary,
                interner: &registry.interner,
                tally: self.pool.tally(),
            };
            let flow = dialogue.from_client(chunk, &mut run, &mut answers);
            bereft.phantom.take(run.finish(), &mut said);
            flow
        })?;
        self.send_to_client(cx, &answers)?;
        let said = said.freeze();
        let told = self.phantom_said(cx, &mut bereft.side, &said);
        self.station = Station::Bereft(bereft);
        told?;
        if flow == Flow::Left {
            return Ok(Next::Left);
        }
        self.end_bereft();
        Ok(Next::On)
    }

    /// Goes on as an idle client, once nothing is owed and no transaction is open.
    fn end_bereft(&mut self) {
        let Station::Bereft(bereft) = &mut self.station else {
            return;
        };
        let side = &bereft.side;
        let now = clock::now();
        if side.is_quiet() {
            self.query = None;
            self.asked = None;
        }
        if side.status != b'I' {
            self.card.enter(ClientState::Holding, now);
            return;
        }
        if side.is_quiet() && self.side.walk.body == 0 {
            self.xact = None;
            self.station = Station::Idle;
            self.card.enter(ClientState::Idle, now);
        }
    }

    /// Waits for what a client without a server says next.
    pub(super) fn poll_bereft(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        if self.out.len() > MARK {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(self.bereft_said(cx, &held));
        }
        with_scratch(|scratch| {
            let count = ready!(self.read_client(cx, scratch)).map_err(|_| Error::ClientGone)?;
            if count == 0 {
                return Poll::Ready(Err(Error::ClientGone));
            }
            Poll::Ready(self.bereft_said(cx, &scratch[..count]))
        })
    }

    /// Notes whether what the client sends may end its transaction with a COMMIT.
    pub(super) fn note_commits(&mut self, sent: &[u8]) {
        let Station::Linked(lease) = &mut self.station else {
            return;
        };
        let Some(course) = &mut self.course else {
            return;
        };
        let side = &lease.server().side;
        if side.is_quiet() {
            course.commits.all_answered();
            if side.status == b'I' && course.commits.may_pass(sent) {
                return;
            }
        }
        let names = &self.side.names;
        let known = |name: &[u8]| names.get(name).map(|statement| statement.commit);
        course.commits.sends(sent, known);
    }
}
