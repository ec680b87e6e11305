//! The end of a query, and of the link: what is noted then, and when the server goes back.

use std::sync::Arc;
use std::task::Context;

use crate::clients::session::{Session, Station};
use crate::clock::{self, Moment};
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::stats::census::ClientState;
use crate::stats::counters::micros;
use crate::thread;

impl Session {
    /// Notes the end of a query, and of the transaction where it ended too. When that was.
    pub(super) fn query_ends(&mut self) -> Moment {
        let now = self.about_now();
        let tally = &self.pool.tallies[thread::place(thread::worker(), self.pool.tallies.len())];
        if let Some(began) = self.query.take() {
            let took = micros(now.since(began));
            tally.query_micros.add(took);
            tally.query_times.record(took);
        }
        self.server().card.serve(0);
        let is_outside = self.server().side.status == b'I';
        if !is_outside {
            self.card.enter(ClientState::Holding, now);
            return now;
        }
        self.late = None;
        self.card.enter(ClientState::Idle, now);
        if self.course.is_some() {
            self.note_written(now);
        }
        if let Some(began) = self.xact.take() {
            self.pool.tally().xact_micros.add(micros(now.since(began)));
        }
        now
    }

    /// When a query begins or ends: exactly, where it matters for what replicas may serve.
    pub(super) fn about_now(&self) -> Moment {
        if self.course.is_some() {
            clock::now()
        } else {
            clock::lately()
        }
    }

    /// Notes on the cards what SHOW tells of statements and of the application's name.
    fn note_names(&mut self) {
        let server = self.server();
        server.card.set_prepared(server.side.held.len());
        server.note_application_name();
        self.card.set_prepared(self.side.names.len());
        if !Arc::ptr_eq(&self.shown, &self.side.params) {
            self.shown = Arc::clone(&self.side.params);
            let name = self.shown.get("application_name").unwrap_or_default();
            self.card.set_application_name(name);
        }
    }

    /// Gives the server back when the client needs it no longer. `ended` is when its query ended, if that was just now.
    pub(super) fn end_if_over(
        &mut self,
        cx: &mut Context<'_>,
        ended: Option<Moment>,
    ) -> Result<(), Error> {
        if !self.server().side.pipeline.is_empty() {
            self.note_pins();
            return Ok(());
        }
        let is_session = self.rules.mode == PoolMode::Session;
        if !is_session && self.server().side.speaks_out_of_turn() {
            self.server().side.doomed = Some("it said what nobody asked for");
            let now = self.query_ends();
            self.note_link_over(now);
            if self.dialogue(|dialogue| dialogue.is_tied()) {
                return Err(Error::ServerLost(
                    "and what this client had set up there with it",
                ));
            }
            self.card.link_to(0);
            self.station = Station::Idle;
            return Ok(());
        }
        let mut is_over = self.may_end();
        if !is_over && self.look_around(cx)? {
            // Somebody else was about to ask the same.
            is_over = self.may_end();
        }
        if !is_over {
            return Ok(());
        }
        let now = if self.query.is_some() && !self.rolls_back_there() {
            self.query_ends()
        } else {
            ended.unwrap_or_else(clock::now)
        };
        if self.asked.take().is_some() {
            // Only the beginning of a message has come.
            self.card.enter(ClientState::Idle, now);
        }
        self.note_names();
        self.card.link_to(0);
        if self.course.is_some() {
            self.note_link_over(now);
        }
        self.note_late_over();
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            lease.release_at(now);
        }
        self.note_pins();
        Ok(())
    }

    /// Whether nothing that the client said is for this server.
    pub(super) fn has_said_all(&self) -> bool {
        self.held.is_empty() || (self.course.is_some() && self.is_held_back())
    }

    fn may_end(&mut self) -> bool {
        !self.is_trying
            && self.has_said_all()
            && self.dialogue(|dialogue| dialogue.is_over())
            && self.server().out.is_empty()
    }
}
