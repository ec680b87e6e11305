//! From a client's first byte to its server: what is answered at once, where the rest goes, and the wait in line.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::clients::answer;
use crate::clients::buffers::{MARK, with_scratch};
use crate::clients::course::Way;
use crate::clients::session::{Next, Session, Station};
use crate::clock::{self, Moment};
use crate::config::value::Dialect;
use crate::error::Error;
use crate::pools::lease::Lease;
use crate::pools::plan::Plan;
use crate::pools::pool::{Asked, Asker};
use crate::protocol::dialogue::Rules;
use crate::protocol::offhand;
use crate::servers::server::Server;
use crate::stats::census::{ClientState, ServerState};
use crate::stats::counters::micros;

const QUEUED: &str = "No server connection available in postgres backend, client being queued";

impl Session {
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
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
            let count = ready!(self.read_client(cx, scratch)).map_err(|_| Error::ClientGone)?;
            if count == 0 {
                return Poll::Ready(Err(Error::ClientGone));
            }
            Poll::Ready(self.begin(cx, &scratch[..count]))
        })
    }

    /// An idle client has sent something: answers it, or asks for a server.
    fn begin(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<Next, Error> {
        let tail = self.side.copy_tail_in(chunk);
        let chunk = &chunk[tail..];
        match chunk.first() {
            None => return Ok(Next::On),
            Some(b'X') if self.side.walk.is_between() => return Ok(Next::Left),
            Some(_) => {}
        }
        if self.answer_here(cx, chunk)? {
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
        let now = self.about_now();
        self.asked = Some(now);
        self.card.query_begins(now);
        self.card.enter(ClientState::Active, now);
        let (plan, asked) = (self.pool.plan.load(), Arc::as_ptr(&self.pool));
        match self.steer(&plan, now)? {
            Way::There if Arc::as_ptr(&self.pool) == asked => {
                self.ask_for_server(cx, chunk, &plan, Asker::Client, now)
            }
            Way::There => {
                let plan = self.pool.plan.load();
                self.ask_for_server(cx, chunk, &plan, Asker::Client, now)
            }
            Way::Later => self.answer_begin(cx, chunk, now),
            Way::Nowhere => {
                self.held.extend_from_slice(chunk);
                self.hold(cx, now)
            }
            Way::Soon => {
                self.held.extend_from_slice(chunk);
                self.wait_for_view(cx, now);
                Ok(Next::On)
            }
            Way::Refused(error) => {
                self.held.extend_from_slice(chunk);
                self.refuse(cx, &error)
            }
        }
    }

    /// Whether what came needs no server: it is answered, or more of it must come first.
    fn answer_here(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<bool, Error> {
        let is_steered = self.course.is_some();
        let first = chunk.first();
        if is_steered && self.may_be_own(chunk) && self.answer_own(cx, chunk)? {
            return Ok(true);
        }
        if !is_steered && self.rules.dialect == Dialect::Native && self.answer_plain(cx, chunk)? {
            return Ok(true);
        }
        let is_name = matches!(first, Some(b'P' | b'C')) && self.late.is_none();
        if is_name && self.answer_offhand(cx, chunk)? {
            return Ok(true);
        }
        Ok(is_steered && !self.read_ahead(chunk))
    }

    /// Asks the pool for a server: `chunk` goes to it at once, or waits in line with the client.
    pub(super) fn ask_for_server(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
        plan: &Plan,
        asker: Asker,
        now: Moment,
    ) -> Result<Next, Error> {
        if self.course.is_some() {
            self.list_decision(chunk);
        }
        match self.pool.ask(plan, cx.waker(), now, asker) {
            Asked::Server(server) => {
                self.link(server, plan.rules);
                self.client_said(cx, chunk)
            }
            Asked::Line(spot) => {
                self.held.extend_from_slice(chunk);
                self.card.enter(ClientState::Waiting, now);
                self.station = Station::Waiting(spot);
                Ok(Next::On)
            }
            Asked::Refused(error) if self.may_weather(&error) => {
                self.held.extend_from_slice(chunk);
                self.weather(cx, &error, now)
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

    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        let Station::Waiting(spot) = &self.station else {
            return Poll::Ready(Ok(Next::On));
        };
        let since = spot.since;
        if let Poll::Ready(given) = self.poll_given(cx) {
            if let Err(error) = &given
                && self.may_weather(error)
            {
                self.station = Station::Idle;
                return Poll::Ready(self.weather(cx, error, clock::now()));
            }
            let Some(server) = given? else {
                self.station = Station::Idle;
                return Poll::Ready(Ok(Next::On));
            };
            if self.has_lost_its_way() {
                self.pool.give_back(server);
                self.station = Station::Idle;
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
            let count = ready!(self.read_client(cx, scratch)).map_err(|_| Error::ClientGone)?;
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
            course.commits.begin(&self.side.walk);
            server.card.set_silent(false);
            server.side.settled = Some(Arc::clone(&self.side.params));
        }
        self.want_begin();
        self.is_fresh = true;
        self.station = Station::Linked(Lease::new(&self.pool, server));
    }

    /// Notes the beginning of a query, and of a transaction where none is open.
    pub(super) fn query_begins(&mut self, chunk: &[u8]) {
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
            self.count_pinned(chunk, now);
            self.xact = Some(now);
            self.pool.tally().xacts.add(1);
            self.card.xact_begins(now);
        }
    }
}
