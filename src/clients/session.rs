//! A client that is logged in: idle, in line, or tied to a server.
//!
//! One task drives both sockets through one `poll`. An idle client owns its socket and this struct; buffers are the
//! worker's. What happens while it is tied to a server stands in `link.rs`.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::clients::again::or_again;
use crate::clients::answer;
use crate::clients::bereft::Bereft;
use crate::clients::buffers::{MARK, with_scratch};
use crate::clients::course::{Course, Way};
use crate::clients::ears::Ears;
use crate::clients::late::Late;
use crate::clients::presence::{is_cut_off, tell_end};
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::janitor;
use crate::pools::lease::Lease;
use crate::pools::limits::ClientPlaces;
use crate::pools::line::Spot;
use crate::pools::pool::{Asked, Asker, Pool};
use crate::protocol::dialogue::Rules;
use crate::protocol::offhand;
use crate::protocol::parameters::Parameters;
use crate::protocol::pins::Pins;
use crate::protocol::sides::ClientSide;
use crate::servers::server::Server;
use crate::stats::census::{ClientCard, ClientState, Order, ServerState};
use crate::stats::counters::micros;
use crate::topology::board::Hold;

const QUEUED: &str = "No server connection available in postgres backend, client being queued";

/// Where the client stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// No server is held.
    Idle,
    /// In line.
    Waiting(Arc<Spot<Server>>),
    /// Tied to a server.
    Linked(Lease),
    /// In line for a primary.
    Holding(Hold),
    /// Its server was lost, or there is none; the pooler answers.
    Bereft(Box<Bereft>),
}

/// What the client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    On,
    /// It has left.
    Left,
}

/// A client that is logged in.
#[derive(Debug)]
pub struct Session {
    pub(super) stream: Stream,
    pub(super) side: ClientSide,
    pub(super) card: Arc<ClientCard>,
    pub(super) pool: Arc<Pool>,
    /// Bytes that the client's socket did not take yet.
    pub(super) out: Vec<u8>,
    /// Bytes from the client that no server has seen yet.
    pub(super) held: Vec<u8>,
    pub(super) standing: Standing,
    pub(super) rules: Rules,
    /// The parameters whose `application_name` stands on the card.
    pub(super) shown: Arc<Parameters>,
    /// The link has begun and nothing was sent yet.
    pub(super) is_fresh: bool,
    /// The server must accept the client's parameters before it gets anything else.
    pub(super) is_trying: bool,
    /// When the client asked for something of which nothing has been sent to a server yet.
    pub(super) asked: Option<Moment>,
    /// When the query under way began.
    pub(super) query: Option<Moment>,
    /// When the transaction under way began.
    pub(super) xact: Option<Moment>,
    /// Which node to go to, where there are several.
    pub(super) course: Option<Box<Course>>,
    /// The transaction that the client is in, where its server may not know of it.
    pub(super) late: Option<Box<Late>>,
    /// What is under way may end the transaction with a COMMIT.
    pub(super) may_have_committed: bool,
    /// Once it has listened.
    pub(super) ears: Option<Box<Ears>>,
    /// The parameters that its server had before it was brought to the client's, where that is told.
    pub(super) before: Option<Arc<Parameters>>,
    /// It goes over to another process, and nothing is under way.
    pub(super) is_moving: bool,
    _places: ClientPlaces,
}

/// The servers remember by its number whose sequences they hold.
fn known_as(id: u64, mut side: ClientSide) -> ClientSide {
    side.keeps.id = id;
    side
}

impl Session {
    /// A session of a client whose login is done; `rest` is what it sent behind its login.
    pub fn new(
        stream: Stream,
        side: ClientSide,
        card: Arc<ClientCard>,
        pool: Arc<Pool>,
        places: ClientPlaces,
        course: Option<Course>,
        rest: Vec<u8>,
    ) -> Self {
        let rules = pool.plan.load().rules;
        Self {
            stream,
            shown: Arc::clone(&side.params),
            side: known_as(card.id, side),
            card,
            pool,
            out: Vec::new(),
            held: rest,
            standing: Standing::Idle,
            rules,
            is_fresh: false,
            is_trying: false,
            asked: None,
            query: None,
            xact: None,
            course: course.map(Box::new),
            late: None,
            may_have_committed: false,
            ears: None,
            before: None,
            is_moving: false,
            _places: places,
        }
    }

    /// Serves the client until it leaves. The reason, which the log knows already, is an error where somebody else ended it.
    pub async fn serve(&mut self) -> Result<(), Error> {
        poll_fn(|cx| {
            self.card.wake_by(cx.waker());
            Poll::Ready(())
        })
        .await;
        let result = poll_fn(|cx| self.poll(cx)).await;
        if self.is_moving {
            return Ok(());
        }
        if matches!(result, Err(Error::ServerLost(_))) {
            poll_fn(|cx| {
                self.hear_out(cx);
                Poll::Ready(())
            })
            .await;
        }
        let is_within_frame = self.is_within_frame();
        self.leave();
        let is_mute = is_cut_off(&self.card, self.rules.dialect);
        if !is_mute {
            // Whoever hears of it can read of it in the log.
            tell_end(&self.pool.registry, &self.card, &result);
        }
        if let Err(error) = &result
            && !is_mute
            && !is_within_frame
        {
            answer::tell(&mut self.out, error, self.rules.dialect);
        }
        if result.is_err() || !self.out.is_empty() || self.stream.is_tls() {
            let last_words = poll_fn(|cx| self.poll_last_words(cx));
            let _ = tokio::time::timeout(Duration::from_secs(1), last_words).await;
        }
        result
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.obey()?;
            if self.is_moving {
                return Poll::Ready(Ok(()));
            }
            if self.stands_still(cx)? {
                return Poll::Pending;
            }
            let has_more = self.tend_ears()?;
            if let Poll::Ready(Err(_)) = self.poll_out(cx) {
                return Poll::Ready(Err(Error::ClientGone));
            }
            if has_more && self.out.is_empty() {
                continue;
            }
            let polled = match self.standing {
                Standing::Idle => self.poll_idle(cx),
                Standing::Waiting(_) => self.poll_waiting(cx),
                Standing::Linked(_) => self.poll_link(cx),
                Standing::Holding(_) => self.poll_holding(cx),
                Standing::Bereft(_) => self.poll_bereft(cx),
            };
            if or_again(self, cx, ready!(polled))? == Next::Left {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// While everything is held still: passes on what was read before, and reads no more. Who is in line stays there; once it has its
    /// server its request is passed on, too.
    fn stands_still(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let number = self.pool.registry.standstill.number();
        if number == 0 || matches!(self.standing, Standing::Waiting(_)) {
            return Ok(false);
        }
        let mut has_rest = false;
        if matches!(self.standing, Standing::Linked(_)) {
            // A server that is lost has nothing more to get; that it is lost is found out later.
            let has_moved = self.poll_server_out(cx);
            let server = self.server();
            let is_behind = !server.out.is_empty() || server.stream.has_pending_output();
            has_rest = has_moved.is_ok() && is_behind;
        }
        has_rest |= match self.poll_out(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Err(Error::ClientGone),
            Poll::Pending => true,
        };
        if !has_rest {
            self.card.stand_still(number);
        }
        Ok(true)
    }

    /// Sends what the client's socket did not take before.
    #[inline]
    pub(super) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() && !self.stream.has_pending_output() {
            return Poll::Ready(Ok(()));
        }
        self.poll_waiting_out(cx)
    }

    fn poll_waiting_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_kept_back() {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let sent = ready!(self.stream.poll_write(cx, &self.out))?;
            if sent == self.out.len() {
                self.out = Vec::new();
            } else {
                self.out.drain(..sent);
            }
        }
        if self.stream.has_pending_output() {
            self.stream.poll_flush(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        self.stream.poll_close(cx)
    }

    /// Whether the client has got the beginning of a message whose rest will never come: an error in its place would be taken
    /// for that rest.
    pub(super) fn is_within_frame(&mut self) -> bool {
        match &mut self.standing {
            Standing::Idle | Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => {
                false
            }
            Standing::Linked(lease) => {
                let walk = &lease.server().side.walk;
                walk.body > 0 && !walk.hide
            }
        }
    }

    /// Does what somebody ordered by the card.
    #[inline]
    pub(super) fn obey(&mut self) -> Result<(), Error> {
        match self.card.order() {
            Order::None => Ok(()),
            _ => self.obey_order(),
        }
    }

    #[cold]
    fn obey_order(&mut self) -> Result<(), Error> {
        let limit = Duration::from_micros;
        let limits = match self.card.order() {
            Order::None => return Ok(()),
            Order::MoveOn => {
                self.is_moving = self.may_move();
                return Ok(());
            }
            order if order.is_timeout() && janitor::due(&self.card, clock::now()) != order => {
                // It went on in the very moment its time was found to be over.
                self.card.withdraw(order);
                return Ok(());
            }
            Order::SuspendTimeout if self.has_stopped() => {
                self.card.withdraw(Order::SuspendTimeout);
                return Ok(());
            }
            Order::FastClose => return self.close_fast(),
            Order::Drain => {
                let is_at_rest = match &mut self.standing {
                    Standing::Idle => self.side.walk.is_between() && self.late.is_none(),
                    Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => false,
                    Standing::Linked(lease) => {
                        lease.server().side.is_free() && self.side.walk.is_between()
                    }
                };
                return if is_at_rest && self.held.is_empty() {
                    Err(Error::ShuttingDown)
                } else {
                    Ok(())
                };
            }
            _ => self.card.limits(),
        };
        Err(match self.card.order() {
            Order::IdleTimeout => Error::ClientIdleTimeout(limit(limits.client_idle_timeout)),
            Order::QueryTimeout if matches!(self.standing, Standing::Waiting(_)) => {
                Error::QueuedQueryTimeout(limit(limits.query_timeout))
            }
            Order::QueryTimeout => Error::QueryTimeout(limit(limits.query_timeout)),
            Order::WaitTimeout if self.pool.standing().paused => {
                Error::PausedTooLong(limit(limits.query_wait_timeout))
            }
            Order::WaitTimeout => {
                let waited = limit(limits.query_wait_timeout);
                match self.pinned_by_others() {
                    Some(pins) => Error::Pinned(waited, pins),
                    None => Error::QueryWaitTimeout(waited),
                }
            }
            Order::PinTimeout => {
                let pins = Pins::from_bits(self.card.pins()).listed();
                Error::PinTimeout(limit(limits.pin_timeout), pins)
            }
            Order::IdleTransaction => {
                Error::IdleTransactionTimeout(limit(limits.idle_transaction_timeout))
            }
            Order::TransactionTimeout => {
                Error::TransactionTimeout(limit(limits.transaction_timeout))
            }
            Order::ServersReplaced => Error::ServersReplaced,
            Order::DatabaseRemoved => Error::DatabaseRemoved(self.card.facts.database.clone()),
            Order::SuspendTimeout => Error::SuspendTimeout,
            Order::Kill => Error::Killed,
            Order::None | Order::MoveOn | Order::FastClose | Order::Drain | Order::Shutdown => {
                Error::ShuttingDown
            }
        })
    }

    /// Whether it stands still, or need not any more.
    fn has_stopped(&self) -> bool {
        let number = self.pool.registry.standstill.number();
        number == 0 || self.card.stands_still(number)
    }

    /// Ends the client of a server that must be replaced, between two transactions.
    fn close_fast(&mut self) -> Result<(), Error> {
        let (is_meant, is_free) = match &mut self.standing {
            Standing::Idle | Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => {
                (false, false)
            }
            Standing::Linked(lease) => {
                let server = lease.server();
                (
                    server.card.close_needed(),
                    server.side.is_free() && server.out.is_empty(),
                )
            }
        };
        if !is_meant {
            // It has got another one meanwhile, or none.
            self.card.withdraw(Order::FastClose);
            return Ok(());
        }
        if is_free && self.side.walk.is_between() && self.held.is_empty() {
            return Err(Error::ServersReplaced);
        }
        Ok(())
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        if self.out.len() > MARK {
            return Poll::Pending;
        }
        if self.is_gathering() {
            return self.poll_in_line(cx);
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(self.begin(cx, &held));
        }
        with_scratch(|scratch| {
            let count =
                ready!(self.stream.poll_read(cx, scratch)).map_err(|_| Error::ClientGone)?;
            if count == 0 {
                return Poll::Ready(Err(Error::ClientGone));
            }
            Poll::Ready(self.begin(cx, &scratch[..count]))
        })
    }

    /// An idle client has sent something: ask for a server.
    fn begin(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<Next, Error> {
        let tail = self.side.copy_tail_in(chunk);
        let chunk = &chunk[tail..];
        match chunk.first() {
            None => return Ok(Next::On),
            Some(b'X') if self.side.walk.is_between() => return Ok(Next::Left),
            Some(_)
                if self.course.is_some()
                    && self.may_be_own(chunk)
                    && self.answer_own(cx, chunk)? =>
            {
                return Ok(Next::On);
            }
            Some(b'P' | b'C') if self.late.is_none() && self.answer_offhand(cx, chunk)? => {
                return Ok(Next::On);
            }
            Some(b'Q') if self.course.is_some() && self.answer_explain(cx, chunk)? => {
                return Ok(Next::On);
            }
            Some(_) => {}
        }
        if self.course.is_some() && !self.read_ahead(chunk) {
            return Ok(Next::On);
        }
        if self.late.is_some() {
            if let Some(error) = self.take_refusal() {
                self.held.extend_from_slice(chunk);
                return self.refuse(cx, &error);
            }
            if self.answer_end(cx, chunk)? {
                return Ok(Next::On);
            }
        }
        let now = clock::now();
        self.asked = Some(now);
        self.card.query_begins(now);
        self.card.enter(ClientState::Active, now);
        match self.steer(now)? {
            Way::There => {}
            Way::Later => return self.answer_begin(cx, chunk, now),
            Way::Nowhere => {
                self.held.extend_from_slice(chunk);
                return self.hold(cx, now);
            }
            Way::Soon => {
                self.held.extend_from_slice(chunk);
                self.wait_for_view(cx, now);
                return Ok(Next::On);
            }
            Way::Refused(error) => {
                self.held.extend_from_slice(chunk);
                return self.refuse(cx, &error);
            }
        }
        if self.course.is_some() {
            self.list_decision(chunk);
        }
        let plan = self.pool.plan.load();
        match self.pool.ask(&plan, cx.waker(), now, Asker::Client) {
            Asked::Server(server) => {
                self.link(server, plan.rules);
                self.client_said(cx, chunk)
            }
            Asked::Line(spot) => {
                self.held.extend_from_slice(chunk);
                self.card.enter(ClientState::Waiting, now);
                self.standing = Standing::Waiting(spot);
                Ok(Next::On)
            }
            Asked::Refused(error) if self.may_weather(&error) => {
                self.held.extend_from_slice(chunk);
                self.weather(cx, now)
            }
            Asked::Refused(error) => Err(error),
        }
    }

    /// Answers what needs no server; false where one is needed.
    fn answer_offhand(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<bool, Error> {
        if !self.pool.plan.load().rules.track_statements() {
            return Ok(false);
        }
        let tally = self.pool.tally();
        let mut answers = Vec::new();
        if !offhand::answer(
            &mut self.side,
            &self.pool.group.dictionary,
            chunk,
            tally,
            &mut answers,
        ) {
            return Ok(false);
        }
        tally.queries.add(1);
        tally.xacts.add(1);
        tally.received.add(chunk.len() as u64);
        tally.sent.add(answers.len() as u64);
        self.send_to_client(cx, &answers)?;
        Ok(true)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        let Standing::Waiting(spot) = &self.standing else {
            return Poll::Ready(Ok(Next::On));
        };
        let since = spot.since;
        if let Poll::Ready(given) = self.poll_given(cx) {
            if let Err(error) = &given
                && self.may_weather(error)
            {
                self.standing = Standing::Idle;
                return Poll::Ready(self.weather(cx, clock::now()));
            }
            let Some(server) = given? else {
                self.standing = Standing::Idle;
                return Poll::Ready(Ok(Next::On));
            };
            if self.has_lost_its_way() {
                self.pool.give_back(server);
                self.standing = Standing::Idle;
                return Poll::Ready(Ok(Next::On));
            }
            let now = clock::now();
            let waited = micros(now.since(since));
            self.pool.tally().wait_micros.add(waited);
            self.pool.tally().wait_times.record(waited);
            self.card.enter(ClientState::Active, now);
            let rules = self.pool.plan.load().rules;
            self.link(server, rules);
            if let Some(flight) = self.split().and_then(|split| split.flight.as_mut()) {
                flight.leaves(now);
            }
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(self.client_said(cx, &held));
        }
        if self.card.take_notice() {
            answer::notice(&mut self.out, QUEUED, self.rules.dialect);
            return Poll::Ready(Ok(Next::On));
        }
        self.poll_in_line(cx)
    }

    /// A client that went away must leave the line.
    pub(super) fn poll_in_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        if self.held.len() > MARK {
            return Poll::Pending;
        }
        with_scratch(|scratch| {
            let count =
                ready!(self.stream.poll_read(cx, scratch)).map_err(|_| Error::ClientGone)?;
            if count == 0 {
                return Poll::Ready(Err(Error::ClientGone));
            }
            self.held.extend_from_slice(&scratch[..count]);
            Poll::Ready(Ok(Next::On))
        })
    }

    /// Ties the client to `server`, under the rules in force.
    fn link(&mut self, mut server: Box<Server>, rules: Rules) {
        server.kept.begin();
        server.has_served = true;
        self.pool.tally().server_assignments.add(1);
        server
            .card
            .enter(ServerState::Active, self.asked.unwrap_or_default());
        server.card.lend_to(self.card.id);
        self.card.link_to(server.card.id);
        self.rules = rules;
        if let Some(course) = &mut self.course {
            course.arrived();
            server.card.set_silent(false);
            server.side.settled = Some(Arc::clone(&self.side.params));
        }
        self.late_is_due();
        self.may_have_committed = false;
        self.is_fresh = true;
        self.standing = Standing::Linked(Lease::new(&self.pool, server));
    }

    /// Notes the beginning of a query, and of a transaction where none is open.
    pub(super) fn query_begins(&mut self) {
        let asked = self.asked.take();
        if self.query.is_some() {
            return;
        }
        let now = asked.unwrap_or_else(clock::now);
        self.query = Some(now);
        self.pool.tally().queries.add(1);
        self.card.query_begins(now);
        self.card.enter(ClientState::Active, now);
        if self.xact.is_none() {
            self.xact = Some(now);
            self.pool.tally().xacts.add(1);
            self.card.xact_begins(now);
        }
    }

    /// Gives the server back, or closes it where it is in the middle of something.
    fn leave(&mut self) {
        self.shut_ears();
        let is_linked = matches!(self.standing, Standing::Linked(_));
        let is_looked_at = is_linked && self.is_looked_at();
        if is_linked && !is_looked_at {
            self.dialogue(|dialogue| dialogue.leave_behind());
        }
        match std::mem::replace(&mut self.standing, Standing::Idle) {
            Standing::Idle | Standing::Holding(_) | Standing::Bereft(_) => {}
            Standing::Waiting(spot) => {
                if let Some(server) = spot.leave() {
                    self.pool.give_back(server);
                }
            }
            Standing::Linked(lease) if is_looked_at => self.leave_looking(lease),
            Standing::Linked(mut lease) => {
                let server = lease.server();
                if server.side.is_free() && server.out.is_empty() && self.side.walk.body == 0 {
                    lease.release();
                } else if self.card.order() != Order::None {
                    lease.abandon();
                }
            }
        }
        self.note_pins();
        self.card.link_to(0);
    }
}

impl Drop for Session {
    /// Whatever ended the session, a server that was given in that moment must not be lost.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Standing::Linked(lease) = std::mem::replace(&mut self.standing, Standing::Idle)
        {
            // Nobody knows what the server was told last.
            drop(lease);
            answer::tell(&mut self.out, &Error::Internal, self.rules.dialect);
            let _ = self.stream.try_write(&self.out);
        }
        self.leave();
    }
}
