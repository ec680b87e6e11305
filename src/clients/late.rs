//! A transaction whose node is chosen by its first statement, and which may move from a replica to the primary.
//!
//! The pooler answers BEGIN itself. The first statement decides: a server is borrowed for it, and BEGIN is put before it. On a replica
//! every request is judged before it passes. One that needs the primary ends the part on the replica (ROLLBACK, which nobody
//! hears of); then the transaction begins again there. Under READ COMMITTED that is no more than a later statement seeing newer
//! data. What promised more (one snapshot, a cursor, a moment) is *fixed* where it is, and is not begun on a replica unless READ
//! ONLY.
//!
//! Must never happen: a statement of a transaction is run outside of one, twice where the first time may have had an effect, or after
//! one that has failed.

use std::task::Context;

use bytes::BytesMut;

use crate::clients::session::{Next, Session, Station};
use crate::clients::split::{Gate, judge};
use crate::clients::steering::texts_asked;
use crate::clock::{self, Moment};
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::pools::policy::Reason;
use crate::protocol::effects::{Access, Isolation, Modes};
use crate::protocol::lexer::first_word;
use crate::protocol::lone::Lone;
use crate::protocol::pipeline::Owed;
use crate::protocol::prepared::{begin, end};
use crate::routing::bond::Bond;
use crate::routing::intent::Intent;
use crate::routing::standing::Transaction;
use crate::stats::census::ClientState;
use crate::stats::counters::micros;
use crate::topology::view::NodeView;

const ISOLATION: &str = "SHOW default_transaction_isolation";
const ROLLBACK: &str = "ROLLBACK";
/// After it, as after any query, nobody may say what the transaction is.
const QUERY: &str = "SELECT 1";
/// Makes a transaction one that has failed.
const FAILS: &str = "failed on a replica";

/// A transaction that the client has begun and that is not over.
#[derive(Debug, Clone)]
pub(super) struct Late {
    /// What its BEGIN said.
    pub(super) modes: Modes,
    /// BEGIN is to be put before what the server gets next.
    is_due: bool,
    /// Its part on a replica is being rolled back.
    pub(super) is_moving: bool,
    /// What it has been told, or holds, is only where it is.
    pub(super) is_fixed: bool,
    /// It has had a query on a replica, before which some things must be said.
    pub(super) has_queried: bool,
    /// It has failed, and is to have failed wherever it goes.
    pub(super) has_failed: bool,
    /// What its next request is answered, in the place of any server.
    pub(super) refusal: Option<Error>,
}

impl Late {
    pub(super) fn of(modes: Modes) -> Self {
        Self {
            modes,
            is_due: false,
            is_moving: false,
            is_fixed: false,
            has_queried: false,
            has_failed: false,
            refusal: None,
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.modes.access == Some(Access::ReadOnly)
    }
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    let mut words = words.iter();
    words.any(|one| word.eq_ignore_ascii_case(one.as_bytes()))
}

fn put_query(out: &mut Vec<u8>, sql: &str) {
    let at = begin(out, b'Q');
    out.extend_from_slice(sql.as_bytes());
    out.push(0);
    end(out, at);
}

impl Session {
    /// Whether the client is in a transaction that no server knows of.
    pub(super) fn is_unbound(&self) -> bool {
        self.late.is_some() && !matches!(self.station, Station::Linked(_))
    }

    /// The transaction, as a route depends on it, of a client that holds no server.
    pub(super) fn transaction(&self) -> Transaction {
        self.late.as_ref().map_or(Transaction::None, |late| {
            let is_read_only = late.is_read_only();
            Transaction::Unbound { is_read_only }
        })
    }

    /// Notes whether what is asked is a statement that the pooler may answer by itself.
    pub(super) fn note_lone(&mut self, chunk: &[u8]) {
        let is_possible = self.rules.mode == PoolMode::Transaction && self.late.is_none();
        if let Some(split) = self.split()
            && split.asked.ask.begins.is_some()
        {
            let request = chunk.get(..split.asked.size).unwrap_or_default();
            split.asked.ask.is_lone = is_possible && Lone::of(request).is_some();
        }
    }

    /// Answers BEGIN; what stands behind it in `chunk` is held.
    pub(super) fn answer_begin(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
        now: Moment,
    ) -> Result<Next, Error> {
        let Some((modes, size)) = self.split().and_then(|split| {
            let asked = split.asked;
            asked.ask.begins.map(|modes| (modes, asked.size))
        }) else {
            return Err(Error::Internal);
        };
        let modes = Modes {
            access: modes.access.or(self.default_access()),
            ..modes
        };
        let (request, rest) = chunk.split_at(size);
        let lone = Lone::of(request).ok_or(Error::Internal)?;
        let is_start = first_word(lone.text).eq_ignore_ascii_case(b"start");
        let tag = if is_start {
            "START TRANSACTION"
        } else {
            "BEGIN"
        };
        let mut out = BytesMut::new();
        lone.answer(&mut out, None, tag, b'T');
        self.count_answer(request.len(), out.len());
        self.late = Some(Box::new(Late::of(modes)));
        self.asked = None;
        self.xact = Some(now);
        self.card.xact_begins(now);
        self.card.enter(ClientState::Holding, now);
        self.held.extend_from_slice(rest);
        self.send_to_client(cx, &out)?;
        Ok(Next::On)
    }

    pub(super) fn default_access(&mut self) -> Option<Access> {
        self.split()?.standing.defaults.access
    }

    /// Answers COMMIT or ROLLBACK of a transaction that no server knows of; false where `chunk` is something else.
    pub(super) fn answer_end(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<bool, Error> {
        if !self.is_unbound() {
            return Ok(false);
        }
        let Some(asked) = self.split().map(|split| split.asked) else {
            return Ok(false);
        };
        let tag = match asked.ask.bond {
            Bond::Commit => "COMMIT",
            Bond::Rollback => ROLLBACK,
            Bond::None | Bond::Lives | Bond::Primary | Bond::Leaves | Bond::Chains => {
                return Ok(false);
            }
        };
        let (request, rest) = chunk.split_at(asked.size.min(chunk.len()));
        let Some(lone) = Lone::of(request) else {
            return Ok(false);
        };
        let mut out = BytesMut::new();
        lone.answer(&mut out, None, tag, b'I');
        let now = clock::now();
        let tally = self.pool.tally();
        tally.queries.add(1);
        tally.received.add(request.len() as u64);
        tally.sent.add(out.len() as u64);
        if let Some(began) = self.xact.take() {
            tally.xact_micros.add(micros(now.since(began)));
        }
        self.late = None;
        self.forget_primary();
        self.card.enter(ClientState::Idle, now);
        self.held.extend_from_slice(rest);
        self.send_to_client(cx, &out)?;
        Ok(true)
    }

    /// What the client's next request is refused with.
    pub(super) fn take_refusal(&mut self) -> Option<Error> {
        let refusal = self.late.as_mut()?.refusal.take()?;
        self.forget_primary();
        Some(refusal)
    }

    /// The transaction will have no server any more: where it would have gone is nothing to the next request.
    fn forget_primary(&mut self) {
        if let Some(split) = self.split() {
            split.must_be_primary = false;
        }
    }

    /// A link begins: the transaction is to begin there.
    pub(super) fn want_begin(&mut self) {
        if let Some(late) = &mut self.late {
            late.is_due = true;
        }
    }

    /// Puts before the first request of a link what it needs: the question how the server isolates by itself, and BEGIN.
    pub(super) fn put_begin(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let is_due = self.late.as_ref().is_some_and(|late| late.is_due);
        let Some((asked, is_replica, default)) = self.split().map(|split| {
            let default = split.standing.defaults.isolation;
            (split.asked, split.flight.is_some(), default)
        }) else {
            if is_due {
                self.put_plain_begin(out);
            }
            return;
        };
        let late = self.late.as_ref().filter(|late| late.is_due);
        let Some(modes) = late.map(|late| late.modes).or(asked.ask.begins) else {
            return;
        };
        let isolation = modes.isolation.or(default);
        if is_replica && isolation.is_none() {
            put_query(out, ISOLATION);
            self.owe();
            let is_read_only = modes.access.or(self.default_access()) == Some(Access::ReadOnly);
            if let Some(split) = self.split()
                && let Some(trial) = &mut split.trial
            {
                trial.must_be_read_committed = !is_read_only;
            }
        }
        if !is_due {
            return;
        }
        if let Some(late) = &mut self.late {
            let is_strict = isolation == Some(Isolation::RepeatableRead);
            late.is_fixed = is_replica && (is_strict || asked.ask.bond == Bond::Lives);
            if is_replica && late.modes.access == Some(Access::ReadWrite) {
                // A standby does not take the word, and the promise is kept by moving.
                let plain = Modes {
                    access: None,
                    ..late.modes
                };
                put_query(out, &plain.begin());
                late.is_due = false;
                return self.owe();
            }
        }
        if !is_replica && let Some(split) = self.split() {
            // Whatever follows is part of it. What passes now has been read, unless the gate is open.
            split.is_watched = split.is_closed() && split.asked.ask.intent == Intent::Read;
            if !split.is_watched {
                split.asked.ask.intent = Intent::Unknown;
            }
        }
        self.put_plain_begin(out);
        if !is_replica && self.is_said_too_late(chunk) {
            put_query(out, QUERY);
            self.owe();
        }
    }

    fn put_plain_begin(&mut self, out: &mut Vec<u8>) {
        if let Some(late) = &mut self.late {
            late.is_due = false;
            let has_failed = late.has_failed;
            put_query(out, &late.modes.begin());
            self.owe();
            if has_failed {
                put_query(out, FAILS);
                self.server().side.pipeline.push(Owed::Aside);
            }
        }
    }

    /// Whether `chunk` begins with what must stand before every query, and there was one on a replica.
    fn is_said_too_late(&self, chunk: &[u8]) -> bool {
        let late = self.late.as_ref();
        let has_queried = late.is_some_and(|late| late.has_queried && !late.has_failed);
        let word = || texts_asked(&self.side.names, chunk).next().map(first_word);
        has_queried && word().is_some_and(|word| is_one_of(word, &["set", "begin", "start"]))
    }

    /// A transaction passes `chunk` to its server: notes a query that a replica gets, and on the primary whether it goes on reading.
    pub(super) fn note_passing(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        if let Some(late) = &mut self.late
            && !late.has_queried
        {
            let course = self.course.as_ref();
            let split = course.and_then(|course| course.split.as_ref());
            let is_there = split.is_some_and(|split| split.flight.is_some());
            let queries = &["select", "with", "values", "table", "explain", "copy"];
            let mut texts = texts_asked(&self.side.names, chunk);
            late.has_queried = is_there && texts.any(|text| is_one_of(first_word(text), queries));
        }
        let is_between = self.side.walk.is_between();
        let (params, user, names) = (&self.side.params, &self.pool.user, &self.side.names);
        let Some(split) = (self.course.as_mut()).and_then(|course| course.split.as_deref_mut())
        else {
            return;
        };
        if !split.is_watched {
            return;
        }
        let asked = judge(split, params, user, names, chunk, (false, None));
        let is_read = asked.filter(|_| is_between).is_some_and(|asked| {
            let ask = asked.ask;
            let ends = ask.bond.is_end();
            asked.is_whole
                && asked.size == chunk.len()
                && ask.begins.is_none()
                && (ends || ask.intent == Intent::Read)
        });
        if !is_read {
            split.is_watched = false;
            split.asked.ask.intent = Intent::Unknown;
        }
    }

    fn owe(&mut self) {
        self.server().side.pipeline.push(Owed::Ours);
    }

    /// The first answer is here, and with it how the server isolates where BEGIN does not say.
    pub(super) fn note_isolation(&mut self, told: Option<Isolation>) {
        let Some(told) = told else { return };
        if let Some(split) = self.split() {
            split.told = Some(told);
        }
        if let Some(late) = &mut self.late {
            late.is_fixed |= told != Isolation::ReadCommitted;
        }
    }

    /// Whether a part of a transaction on a replica is being rolled back.
    pub(super) fn rolls_back_there(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.is_moving)
    }

    /// Rolls back what a transaction has done on a replica; what is held begins it again on the primary.
    pub(super) fn move_away(&mut self, cx: &mut Context<'_>) -> Result<Next, Error> {
        if let Some(late) = &mut self.late {
            late.is_moving = true;
        }
        let is_readable = self.course.as_ref().is_some_and(|course| {
            let view = course.board.view();
            let node = view.node(course.bound().0);
            node.is_some_and(NodeView::serves_somebody)
        });
        if !is_readable {
            // Who knows when it would answer.
            self.unbind();
            return Ok(Next::On);
        }
        if let Some(split) = self.split() {
            (split.gate, split.trial) = (Gate::Closed, None);
        }
        let mut out = Vec::new();
        put_query(&mut out, ROLLBACK);
        self.owe();
        self.send_to_server(cx, &out)?;
        Ok(Next::On)
    }

    /// The link of a transaction that moves is over.
    pub(super) fn note_late_over(&mut self) {
        let Some(late) = &mut self.late else { return };
        if !late.is_moving {
            self.late = None;
            return;
        }
        (late.is_moving, late.is_fixed) = (false, false);
        if let Some(split) = self.split() {
            split.must_be_primary = true;
        }
    }

    /// Leaves a replica's server, of which nothing is wanted any more; it is closed. The transaction is one that no server knows.
    pub(super) fn unbind(&mut self) {
        let now = clock::now();
        self.card.link_to(0);
        self.is_trying = false;
        self.note_link_over(now);
        if let Some(late) = &mut self.late {
            // It is not over, wherever it goes on.
            late.is_moving |= late.has_failed;
            let must_be_primary = std::mem::take(&mut late.is_moving);
            late.is_fixed = false;
            if let Some(split) = self.split() {
                split.must_be_primary = must_be_primary;
            }
        }
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            lease.end(Reason::Unasked);
        }
    }

    /// Whether a transaction on a lost replica can begin again elsewhere: nothing is owed, and nothing is only there.
    pub(super) fn may_unbind(&mut self) -> bool {
        let is_free = self.late.as_ref().is_some_and(|late| !late.is_fixed);
        let is_reading = self.split().is_some_and(|split| split.flight.is_some());
        let side = &self.server().side;
        let is_quiet = side.pipeline.is_empty() && !side.batch_open && side.status == b'T';
        let is_between = self.side.walk.is_between() && self.side.keeps.pins.is_empty();
        is_reading && ((is_free && is_quiet && is_between) || self.rolls_back_there())
    }
}
