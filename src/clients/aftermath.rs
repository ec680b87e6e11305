//! What a request that is over, or has failed, means for those that come: what was read or written up to where, and whom to blame.

use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::time::Duration;

use crate::clients::session::{Next, Session, Station};
use crate::clients::split::{Split, judge};
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::protocol::traces::may_change_code;
use crate::routing::balance::Ejected;
use crate::routing::standing::Mark;
use crate::topology::board::Board;
use crate::topology::node::NodeId;

impl Session {
    /// The link is over and the server goes back: what was read or written on it counts for what comes.
    pub(super) fn note_link_over(&mut self, now: Moment) {
        let Some(course) = &mut self.course else {
            return;
        };
        let (node, epoch) = course.bound();
        let Some(split) = &mut course.split else {
            return;
        };
        split.must_be_primary = false;
        split.is_asked_again = false;
        split.trial = None;
        if let Some(share) = split.share.take() {
            share.landed(now);
        }
        if let Some(flight) = split.flight.take() {
            tell(flight.landed(now), &course.board, node);
            return split.standing.note_read(node, now, epoch);
        }
        if split.has_only_read() {
            split.standing.note_read(node, now, epoch);
        } else {
            self.note_written(now);
        }
    }

    /// A transaction on the primary is over that may have written.
    pub(super) fn note_written(&mut self, now: Moment) {
        self.note_code();
        let Some(course) = &mut self.course else {
            return;
        };
        let (_, epoch) = course.bound();
        let has_read = |split: &Split| split.flight.is_some() || split.has_only_read();
        if course.split.as_deref().is_some_and(has_read) {
            return;
        }
        course.note_first_write(now);
        let Some(split) = &mut course.split else {
            return;
        };
        split.standing.note_write(now, epoch);
        course.board.want_sample(now);
    }

    /// The primary says something, which may be the end of a write, or of what changes code: before the client hears it, everybody's
    /// reads count on it.
    pub(super) fn mark_for_all(&mut self) {
        let Some(course) = &self.course else {
            return;
        };
        let Some(deeds) = &course.deeds else {
            return;
        };
        if self.side.keeps.changed_code {
            self.pool.registry.code_changed(deeds);
        }
        if deeds.are_followed() && course.may_write() {
            deeds.wrote(Mark::new(clock::now(), course.reign()));
        }
    }

    /// A transaction is over, and what it changed of the code is known to all: at its last words, or now, where there were none.
    fn note_code(&mut self) {
        let has_changed = std::mem::take(&mut self.side.keeps.changed_code);
        if has_changed
            && let Some(course) = &self.course
            && let Some(deeds) = &course.deeds
        {
            self.pool.registry.code_changed(deeds);
        }
    }

    /// Notes whether what the client sends may change code, where nobody else reads its texts: by its words, for to say so too often
    /// is safe.
    pub(super) fn note_code_in(&mut self, chunk: &[u8]) {
        if self.rules.reads_texts() || self.server().side.copying {
            return;
        }
        self.side.keeps.changed_code |= may_change_code(chunk);
    }

    /// A replica could not serve what was judged to be a read: its texts go to the primary for so long.
    pub(super) fn note_offence(&mut self, request: &[u8], lasts: Duration) {
        let now = clock::now();
        let Some(split) = self
            .course
            .as_mut()
            .and_then(|course| course.split.as_deref_mut())
        else {
            return;
        };
        let (params, names) = (&self.side.params, &self.side.names);
        let until = Some(now.after(lasts));
        judge(
            split,
            params,
            &self.pool.user,
            names,
            request,
            (false, until),
        );
        let counts = &split.routes.counts;
        counts.offences.fetch_add(1, Relaxed);
    }

    /// There is no server to be had where the client's request goes, because of `error`: it goes to another node where a replica was meant,
    /// else it waits for a primary, or for a server of the one there is.
    pub(super) fn weather(
        &mut self,
        cx: &mut Context<'_>,
        error: &Error,
        now: Moment,
    ) -> Result<Next, Error> {
        let bound = self.course.as_ref().map(|course| course.bound());
        if let Some((node, _)) = bound
            && let Some(split) = self.split()
            && split.flight.take().is_some()
        {
            split.must_be_primary = true;
            self.blame(node, now);
            self.station = Station::Idle;
            return Ok(Next::On);
        }
        let is_retired = self.pool.is_retired();
        let course = self.course.as_mut();
        if let Some(course) = course.filter(|_| !is_retired) {
            if course.shuns_replica(now) {
                self.station = Station::Idle;
                return Ok(Next::On);
            }
            if course.is_right(now) {
                return self.lack(cx, error, now);
            }
        }
        self.hold(cx, now)
    }

    /// The replica `node` could not serve a read.
    pub(super) fn blame(&mut self, node: NodeId, now: Moment) {
        if let Some(course) = &mut self.course
            && let Some(split) = &mut course.split
        {
            tell(split.routes.failed(node, now), &course.board, node);
        }
    }
}

/// Says that a replica serves no reads for a while.
fn tell(ejected: Option<Ejected>, board: &Board, node: NodeId) {
    let Some(why) = ejected else {
        return;
    };
    let view = board.view();
    let place = view.node(node).map(|node| node.place.address());
    tracing::warn!(
        cluster = &*view.name,
        node = place.unwrap_or_default(),
        why = why.text(),
        "replica is left out of reads for a while"
    );
}
