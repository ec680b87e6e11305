//! The judge: a verdict on every frame that passes between a client and its server.
//!
//! A [`Dialogue`] borrows both sides for the moment of one read and owns nothing. Bodies are looked at only where a rule needs
//! it; everything else passes as a slice, counted and never gathered, so that messages of any size stream through.
//! `requests.rs` judges what the client sends, `replies.rs` what the server answers; here is what both share.

use std::sync::Arc;

use crate::config::value::{Dialect, PoolMode, SessionState};
use crate::error::Error;
use crate::protocol::carried::write_query;
use crate::protocol::parameters::Interner;
use crate::protocol::pipeline::{Owed, Undo, Was};
use crate::protocol::prepared::{Dictionary, Statement};
use crate::protocol::run::Run;
use crate::protocol::sides::{ClientSide, ServerSide, Unnamed, Walk};
use crate::stats::counters::Tally;

/// What the pool's settings mean for the judge.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// When the server goes back.
    pub mode: PoolMode,
    /// How many statements a server may hold; 0 leaves prepared statements alone.
    pub max_prepared: usize,
    /// The largest message, in bytes, that is let through.
    pub max_packet: usize,
    /// Whether simple queries are refused.
    pub no_simple_query: bool,
    /// What becomes of session state.
    pub state: SessionState,
    /// Whether the client outlives its server: what a dying one says last is not for it.
    pub is_followed: bool,
    /// Whether settings that begin with `pooler.` are the pooler's own.
    pub is_split: bool,
    /// In whose words the client is told what went wrong.
    pub dialect: Dialect,
}

impl Rules {
    /// Whether statement names are followed and renamed.
    pub fn track_statements(&self) -> bool {
        self.max_prepared > 0 && self.mode != PoolMode::Session
    }
}

/// Both ends of a link, and what judging needs besides.
#[derive(Debug)]
pub struct Dialogue<'a> {
    /// The application's end.
    pub client: &'a mut ClientSide,
    /// PostgreSQL's end.
    pub server: &'a mut ServerSide,
    /// The pool's settings.
    pub rules: Rules,
    /// All prepared statements.
    pub dictionary: &'a Dictionary,
    /// All parameter sets.
    pub interner: &'a Interner,
    /// Where parses and binds are counted.
    pub tally: &'a Tally,
}

/// What the head of a frame says about the rest of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// So many bytes of it must be in view.
    Need(usize),
    /// The frame passes as it is; its size.
    Pass(usize),
    /// The frame is left out; its size.
    Hide(usize),
    /// `seen` bytes have been replaced; the rest of the frame, `size` in all, passes.
    Took { seen: usize, size: usize },
}

/// The tag and the whole size of the frame at the beginning of `view`, five bytes at least.
pub(super) fn head(view: &[u8]) -> (u8, Option<usize>) {
    let length = u32::from_be_bytes([view[1], view[2], view[3], view[4]]);
    let is_possible = (4..=i32::MAX.unsigned_abs()).contains(&length);
    let size = usize::try_from(length)
        .ok()
        .filter(|_| is_possible)
        .map(|length| length + 1);
    (view[0], size)
}

/// Walks over `chunk`, asking `judge` about every frame's head.
///
/// `judge` gets the bytes in view and the run to put replacements into; `ended` the run, when the last byte of a frame is
/// through.
#[expect(
    clippy::too_many_lines,
    reason = "one straight way, which every query takes"
)]
pub(super) fn walk<S>(
    state: &mut S,
    place: fn(&mut S) -> &mut Walk,
    chunk: &[u8],
    run: &mut Run<'_>,
    mut judge: impl FnMut(&mut S, &[u8], &mut Run<'_>) -> Result<Look, Error>,
    ended: impl Fn(&mut S, &mut Run<'_>),
) -> Result<(), Error> {
    let mut at = 0;
    while at < chunk.len() {
        let walk = place(state);
        if walk.body > 0 {
            let part = walk.body.min(chunk.len() - at);
            if !walk.hide {
                run.pass(at, at + part);
            }
            walk.body -= part;
            at += part;
            if walk.body == 0 {
                ended(state, run);
            }
            continue;
        }
        if walk.stash.is_empty() {
            let rest = &chunk[at..];
            let look = if rest.len() < 5 {
                Look::Need(5)
            } else {
                judge(state, rest, run)?
            };
            let walk = place(state);
            let (size, hide, seen) = match look {
                Look::Pass(size) if size <= rest.len() => {
                    run.pass(at, at + size);
                    at += size;
                    ended(state, run);
                    continue;
                }
                Look::Need(want) => {
                    walk.stash.extend_from_slice(rest);
                    walk.want = want;
                    return Ok(());
                }
                Look::Pass(size) => (size, false, 0),
                Look::Hide(size) => (size, true, 0),
                Look::Took { seen, size } => (size, false, seen),
            };
            (walk.body, walk.hide) = (size - seen, hide);
            at += seen;
            if size == seen {
                ended(state, run);
            }
        } else {
            let part = walk
                .want
                .saturating_sub(walk.stash.len())
                .min(chunk.len() - at);
            walk.stash.extend_from_slice(&chunk[at..at + part]);
            at += part;
            if walk.stash.len() < walk.want {
                return Ok(());
            }
            let mut stash = std::mem::take(&mut walk.stash);
            let look = judge(state, &stash, run)?;
            let walk = place(state);
            let (size, hide, seen) = match look {
                Look::Need(want) => {
                    stash.reserve(want.saturating_sub(stash.len()).min(1 << 16));
                    (walk.stash, walk.want) = (stash, want);
                    continue;
                }
                Look::Pass(size) => (size, false, 0),
                Look::Hide(size) => (size, true, stash.len()),
                Look::Took { seen, size } => (size, false, seen),
            };
            run.put(&stash[seen..]);
            (walk.body, walk.hide) = (size - stash.len(), hide);
            if size == stash.len() {
                ended(state, run);
            }
        }
    }
    Ok(())
}

impl Dialogue<'_> {
    /// Puts into `out` what the server must be told before the client's first request, so that it has the client's session
    /// parameters. False when the server has to accept them first, because no server ever did.
    pub fn prepare(&mut self, out: &mut Vec<u8>) -> bool {
        self.server.unnamed = Unnamed::Foreign;
        self.meet_server(out);
        if Arc::ptr_eq(&self.client.params, &self.server.params) {
            return true;
        }
        let Some(batch) = self.client.params.batch_from(&self.server.params) else {
            self.server.params = Arc::clone(&self.client.params);
            return true;
        };
        for sql in &batch.settings {
            write_query(out, sql);
            self.server.pipeline.push(Owed::Ours);
        }
        for sql in &batch.prepares {
            write_query(out, sql);
            self.server.pipeline.push(Owed::Aside);
        }
        self.server.params = Arc::clone(&self.client.params);
        self.client.params.are_accepted()
    }

    /// Whether the client needs its server no longer, be it fit for another client or not.
    pub fn is_over(&self) -> bool {
        self.rules.mode != PoolMode::Session
            && self.client.walk.body == 0
            && self.server.status == b'I'
            && self.server.unnamed != Unnamed::Fresh
            && self.server.is_quiet()
            && !self.is_tied()
            && !self.wants_look()
    }

    /// Takes back all that is owed: none of it was read.
    pub fn take_back(&mut self) {
        while !self.server.pipeline.is_empty() {
            let (undo, _) = self.server.pipeline.skip_to_sync();
            self.undo(undo);
            self.server.pipeline.settle();
        }
    }

    /// Takes back what requests that the server skipped would have done.
    pub(super) fn undo(&mut self, undo: Vec<Undo>) {
        for change in undo {
            match change {
                Undo::Name(name, before) => self.set_name(name, before),
                Undo::Held(statement, was) => self.set_held(&statement, was),
                Undo::Steps(_) => {}
            }
        }
    }

    /// `name` means `statement`, or would, if later requests had not changed that already.
    pub(super) fn set_name(&mut self, name: Box<[u8]>, statement: Option<Arc<Statement>>) {
        if let Some(ground) = self.server.pipeline.ground_of_name(&name) {
            *ground = statement;
        } else if let Some(statement) = statement {
            self.client.names.insert(name, statement);
        } else {
            self.client.names.remove(&name);
        }
    }

    /// The server has `statement` so, or would, if later requests had not changed that already.
    pub(super) fn set_held(&mut self, statement: &Arc<Statement>, so: Was) {
        if let Some(ground) = self.server.pipeline.ground_of_statement(statement.id) {
            *ground = so;
            return;
        }
        match so {
            Was::There => self.server.held.restore(statement),
            Was::Missing => self.server.held.forget(statement.id),
            Was::Stale => self.server.held.spoil(statement),
        }
    }
}
