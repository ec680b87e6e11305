//! A client that is tied to a replica, by a transaction or by what it has there, says something: each request is read, and judged before it
//! passes. Some stay, some move the transaction to the primary, some cannot be had.

use std::task::{Context, Poll};

use crate::clients::answer;
use crate::clients::buffers::with_scratch;
use crate::clients::late::Late;
use crate::clients::session::{Next, Session, Station};
use crate::clients::split::{Gate, judge};
use crate::clients::trial::Trial;
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::protocol::effects::Isolation;
use crate::protocol::sides::Unnamed;
use crate::routing::ask::Ask;
use crate::routing::bond::Bond;
use crate::routing::circumstances::Circumstances;
use crate::routing::intent::Intent;
use crate::routing::request::Cutter;
use crate::routing::route::{Outcome, route};
use crate::routing::standing::Transaction;

impl Session {
    /// Reads and judges the next request of a client that is tied to a replica.
    pub(super) fn poll_judging(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Error> {
        let (is_quiet, status) = {
            let side = &self.server().side;
            (side.is_quiet(), side.status)
        };
        let Some(split) = self.split() else {
            return Ok(Poll::Ready(Next::On));
        };
        if !is_quiet {
            split.gate = Gate::Closed;
            return Ok(Poll::Ready(Next::On));
        }
        let is_behind = split.gathered > 0;
        let gathered = std::mem::take(&mut split.gathered);
        if self.rolls_back_there() {
            // Something ties it here, which the transaction that is rolled back has left.
            self.give_up_ties();
            return Ok(Poll::Ready(Next::On));
        }
        if (self.held.is_empty() || (is_behind && gathered == self.held.len()))
            && self.poll_held(cx)?.is_pending()
        {
            if let Some(split) = self.split() {
                split.gathered = gathered;
            }
            return Ok(Poll::Pending);
        }
        let held = std::mem::take(&mut self.held);
        if held[0] == b'X' {
            return self.pass_on(cx, &held, None).map(Poll::Ready);
        }
        if self.may_be_own(&held) && self.answer_own(cx, &held)? {
            return Ok(Poll::Ready(Next::On));
        }
        let (params, user, names) = (&self.side.params, &self.pool.user, &self.side.names);
        let split = self
            .course
            .as_mut()
            .and_then(|course| course.split.as_mut());
        let Some(split) = split else {
            return self.client_said(cx, &held).map(Poll::Ready);
        };
        let Some(asked) = judge(split, params, user, names, &held, (true, None)) else {
            split.gathered = held.len();
            self.held = held;
            return Ok(Poll::Ready(Next::On));
        };
        let before = std::mem::replace(&mut split.asked, asked);
        if status == b'E' {
            if !matches!(asked.ask.bond, Bond::Leaves | Bond::Chains) {
                return self.pass_on(cx, &held, None).map(Poll::Ready);
            }
            // What comes behind the end of what has failed may be anything.
            split.asked.ask.bond = Bond::Leaves;
        }
        self.held = held;
        if status == b'I' {
            return self.go_on_tied(cx).map(Poll::Ready);
        }
        self.note_late(before.ask, status);
        self.go_on(cx).map(Poll::Ready)
    }

    /// Reads more of what the client says, and holds it.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Error> {
        let read = with_scratch(|scratch| {
            let read = self.read_client(cx, scratch);
            if let Poll::Ready(Ok(count)) = &read {
                self.held.extend_from_slice(&scratch[..*count]);
            }
            read
        });
        match read {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(1..)) => Ok(Poll::Ready(())),
            Poll::Ready(Ok(0) | Err(_)) => Err(Error::ClientGone),
        }
    }

    /// Notes the transaction on the replica, where the request `first` began it together with what was read first.
    /// The transaction's status there is `status`.
    fn note_late(&mut self, first: Ask, status: u8) {
        if self.late.is_none() {
            let isolation = first.begins.and_then(|modes| modes.isolation);
            let isolation = isolation.or(self.known_isolation());
            let mut late = Late::of(first.begins.unwrap_or_default());
            late.modes.access = late.modes.access.or(self.default_access());
            late.is_fixed = isolation != Some(Isolation::ReadCommitted) || first.bond != Bond::None;
            self.late = Some(Box::new(late));
        }
        if let Some(late) = &mut self.late {
            late.has_failed = status == b'E';
        }
    }

    fn known_isolation(&mut self) -> Option<Isolation> {
        let split = self.split()?;
        split.standing.defaults.isolation.or(split.told)
    }

    /// Lets one request pass to the replica, with a trial where it may still be asked of the primary.
    fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        held: &[u8],
        trial: Option<Trial>,
    ) -> Result<Next, Error> {
        if let Some(split) = self.split() {
            split.gate = if trial.is_some() {
                Gate::Judged(split.asked.size)
            } else {
                Gate::One(Cutter::default())
            };
            split.trial = trial;
        }
        self.client_said(cx, held)
    }

    /// The next request of a transaction on a replica has been read, and is held.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Result<Next, Error> {
        let outcome = self.outcome_of_next(clock::now());
        match outcome {
            Some(Outcome::Move(_) | Outcome::Wait(_)) => return self.move_away(cx),
            Some(Outcome::Stuck) => {
                if let Some(late) = &mut self.late {
                    late.refusal = Some(Error::SnapshotOnReplica);
                }
                if let Some(split) = self.split() {
                    split.standing.avoids_replicas = true;
                }
                return self.move_away(cx);
            }
            Some(Outcome::To(_) | Outcome::Later | Outcome::Refuse(_)) | None => {}
        }
        let asked = self.split().map(|split| split.asked);
        let is_regular = asked.is_some_and(|asked| asked.is_whole);
        let lives = asked.is_some_and(|asked| matches!(asked.ask.bond, Bond::Lives | Bond::Chains));
        let is_fixed = self.late.as_mut().is_none_or(|late| {
            late.is_fixed |= lives || !is_regular;
            late.is_fixed
        });
        let held = std::mem::take(&mut self.held);
        self.pass_on(cx, &held, (!is_fixed).then(Trial::default))
    }

    fn outcome_of_next(&mut self, now: Moment) -> Option<Outcome> {
        let splitting = self.pool.plan.load().split.clone()?;
        let late = self.late.as_ref()?;
        let (is_read_only, is_fixed) = (late.is_read_only(), late.is_fixed);
        let course = self.course.as_mut()?;
        let view = course.board.view();
        let (node, _) = course.bound();
        let split = course.split.as_mut()?;
        let policy = split.wish.over(&splitting.policy);
        let around = Circumstances {
            view: &view,
            policy: &policy,
            written_by_all: split.routes.written(&view, &policy),
            load: &|node| split.routes.load(node),
            now,
        };
        split.standing.transaction = Transaction::On {
            node,
            is_read_only,
            is_fixed,
        };
        let outcome = route(
            split.asked.ask,
            &mut split.standing,
            &around,
            &mut split.dice,
        );
        split.standing.transaction = Transaction::None;
        Some(outcome)
    }

    /// The next request of a client that something ties to a replica outside any transaction has been read, and is held.
    ///
    /// What it reads, and what it does with its own state, stays there. All else belongs to the primary, and what ties it is given
    /// up: a lock on a replica keeps nobody away, and a write must not fail because of where a read went.
    fn go_on_tied(&mut self, cx: &mut Context<'_>) -> Result<Next, Error> {
        let plan = self.pool.plan.load();
        let Some(split) = self.split() else {
            return Ok(Next::On);
        };
        let asked = split.asked;
        let is_led = plan
            .split
            .as_ref()
            .is_some_and(|splitting| split.wish.over(&splitting.policy).is_led_to_replicas());
        let is_fresh = self.server().side.unnamed == Unnamed::Fresh;
        let is_own = asked.ask.intent == Intent::Session
            && asked.ask.bond == Bond::Lives
            && asked.ask.begins.is_none();
        if is_led || is_fresh || is_own || asked.ask.intent == Intent::Read {
            let held = std::mem::take(&mut self.held);
            return self.pass_on(cx, &held, None);
        }
        let pins = self.side.keeps.pins.listed();
        self.give_up_ties();
        let text = format!("the session's state on a replica was given up: {pins}");
        answer::notice(&mut self.out, &text, self.rules.dialect);
        Ok(Next::On)
    }

    /// Gives the server back, with what ties the client to it left behind.
    fn give_up_ties(&mut self) {
        self.dialogue(|dialogue| dialogue.give_up_ties());
        self.card.link_to(0);
        self.note_link_over(clock::now());
        self.note_late_over();
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            lease.release();
        }
        self.note_pins();
    }
}
