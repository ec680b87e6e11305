//! What a client says of the pooler's own settings and of routes, answered by the pooler alone, in or out of a transaction.

use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::clients::session::{Next, Session, Station};
use crate::error::Error;
use crate::pools::plan::Splitting;
use crate::protocol::frame;
use crate::protocol::lone::Lone;
use crate::routing::own::{self, Complaint, Order, Own, shown};
use crate::routing::request::LARGEST;
use crate::routing::talk::{Owner, Ran, Taken};

/// Who answers for one session.
struct Answerer<'a> {
    session: &'a mut Session,
    splitting: &'a Splitting,
    ran: usize,
}

impl Owner for Answerer<'_> {
    fn named(&self, name: &[u8]) -> Option<Box<[u8]>> {
        let statement = self.session.side.names.get(name)?;
        statement.is_own().then(|| statement.definition.clone())
    }

    fn has(&self, name: &[u8]) -> bool {
        self.session.side.names.contains_key(name)
    }

    fn keep(&mut self, name: &[u8], definition: &[u8]) -> bool {
        let session = &mut *self.session;
        if !session.pool.plan.load().rules.track_statements() {
            return false;
        }
        let statement = session.pool.group.dictionary.find(definition);
        statement.make_own();
        session.side.names.insert(name.into(), statement);
        session.pool.tally().client_parses.add(1);
        if let Some(split) = session.split() {
            split.owns_names = true;
        }
        true
    }

    fn forget(&mut self, name: &[u8]) {
        self.session.side.names.remove(name);
    }

    fn run(&mut self, text: &[u8]) -> Result<Ran, Complaint> {
        self.ran += 1;
        match own::own(text) {
            Some(Own::Explain(sql)) => Ok(self.session.explain_route(self.splitting, sql)),
            Some(Own::Order(order)) => self.session.obey_own(self.splitting, order?),
            None => Err(Complaint::new("XX000", "it is not the pooler's".to_owned())),
        }
    }
}

/// What is asked for in a Parse message, from behind its head.
fn parsed(body: &[u8]) -> &[u8] {
    let name = body.iter().position(|byte| *byte == 0);
    name.map_or(&[], |name| &body[name + 1..])
}

impl Session {
    /// Whether `chunk` may be about the pooler's own settings, by a glance.
    pub(super) fn may_be_own(&mut self, chunk: &[u8]) -> bool {
        let is_own = match chunk {
            [b'Q', _, _, _, _, text @ ..] | [b'P', _, _, _, _, 0, text @ ..] => {
                own::may_concern(text)
            }
            [b'P', _, _, _, _, body @ ..] => own::may_concern(parsed(body)),
            _ => false,
        };
        if is_own {
            return true;
        }
        let names = matches!(chunk.first(), Some(b'B' | b'D' | b'C'));
        let split = self.split();
        split.is_some_and(|split| split.talk.is_some() || (names && split.owns_names))
    }

    /// What ReadyForQuery said last, where nothing is owed to the client.
    pub(super) fn status_at_rest(&mut self) -> Option<u8> {
        match &mut self.station {
            Station::Idle => Some(match &self.late {
                Some(late) if late.has_failed => b'E',
                Some(_) => b'T',
                None => b'I',
            }),
            Station::Linked(lease) => {
                let side = &lease.server().side;
                side.is_quiet().then_some(side.status)
            }
            Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => None,
        }
    }

    /// Counts a request that the pooler answered itself.
    pub(super) fn count_answer(&self, received: usize, sent: usize) {
        let tally = self.pool.tally();
        tally.queries.add(1);
        if matches!(self.station, Station::Idle) && self.late.is_none() {
            tally.xacts.add(1);
        }
        tally.received.add(received as u64);
        tally.sent.add(sent as u64);
    }

    /// Answers what `chunk` begins with and is about the pooler's own settings, where nothing else is owed; the rest is held. False
    /// where it begins with something else.
    pub(super) fn answer_own(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<bool, Error> {
        if !self.side.walk.is_between() {
            return Ok(false);
        }
        let talk = self.split().and_then(|split| split.talk.take());
        let plan = self.pool.plan.load();
        let status = self.status_at_rest();
        let Some(splitting) = plan.split.clone() else {
            return Ok(false);
        };
        self.ensure_split();
        self.forgets_all(chunk);
        let Some(status) = status.filter(|status| *status != b'E') else {
            return Ok(false);
        };
        let is_begun = talk.is_some();
        let mut talk = talk.unwrap_or_default();
        let mut out = BytesMut::new();
        let mut rest = &chunk[talk.skip(chunk, status, &mut out)..];
        let mut owner = Answerer {
            session: self,
            splitting: &splitting,
            ran: 0,
        };
        let mut is_cut_off = false;
        while !rest.is_empty() {
            let before = rest;
            let frame = match frame::next(&mut rest, frame::MAX_LEN) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    is_cut_off = rest.len() < LARGEST;
                    break;
                }
                Err(_) => break,
            };
            if talk.message(frame, status, &mut owner, &mut out) == Taken::Not {
                rest = before;
                break;
            }
            rest = &rest[talk.skip(rest, status, &mut out)..];
        }
        let (ran, taken) = (owner.ran, chunk.len() - rest.len());
        let waits = is_cut_off && (taken > 0 || is_begun);
        if taken == 0 && !waits {
            return Ok(false);
        }
        self.held.extend_from_slice(rest);
        let held = self.held.len();
        if let Some(split) = self.split() {
            split.talk = (waits || talk.is_going_on()).then_some(talk);
            split.gathered = if waits { held } else { 0 };
        }
        if ran > 0 {
            self.count_answer(taken, out.len());
        }
        self.send_to_client(cx, &out)?;
        Ok(true)
    }

    /// Reads more of what is held and not whole.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Error> {
        match self.poll_in_line(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(next)) => Ok(Poll::Ready(next)),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// RESET ALL and DISCARD ALL concern the server, too.
    fn forgets_all(&mut self, chunk: &[u8]) {
        let lone = Lone::of(chunk).filter(|lone| own::may_concern(lone.text));
        let is_all = lone.is_some_and(|lone| own::order(lone.text) == Ok(Some(Order::ResetAll)));
        if let Some(course) = self.course.as_mut().filter(|_| is_all) {
            let startup = course.startup_wish;
            if let Some(split) = &mut course.split {
                split.wish = startup;
            }
        }
    }

    fn obey_own(&mut self, splitting: &Splitting, order: Order) -> Result<Ran, Complaint> {
        let startup = self.course.as_ref().map(|course| course.startup_wish);
        let Some(split) = self.split() else {
            let message = "reads of this database are not split off".to_owned();
            return Err(Complaint::new("55000", message));
        };
        let mut rows = Vec::new();
        let tag = match order {
            Order::Set(wish) => {
                split.wish = split.wish.and(wish);
                "SET"
            }
            Order::Reset(setting) => {
                split.wish = split.wish.with(setting, startup.unwrap_or_default());
                "RESET"
            }
            Order::Show(setting) => {
                let value = shown(setting, &split.wish.over(&splitting.policy));
                rows.push(vec![value.to_owned()]);
                "SHOW"
            }
            Order::ResetAll => "RESET",
        };
        Ok(Ran { rows, tag })
    }
}
