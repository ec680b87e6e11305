//! What sequences leave on a server for `currval`: another client's is forgotten before anybody can ask for it.

use super::write_query;
use crate::protocol::dialogue::Dialogue;
use crate::protocol::pins::Pins;
use crate::protocol::pipeline::Owed;
use crate::protocol::run::Run;
use crate::protocol::traces::{Marks, Sequences, Traces};

impl Dialogue<'_> {
    /// The client has its sequences forgotten.
    pub(in crate::protocol) fn note_no_sequences(&mut self) {
        let keeps = &mut self.client.keeps;
        keeps.lasting = keeps.lasting.without(Pins::SEQUENCES);
        keeps.pins = keeps.pins.without(Pins::SEQUENCES);
        self.server.doubt.sequences = Sequences::default();
        self.server.doubt.has_foreign_sequences = false;
    }

    /// A client asks for `currval`: what other clients' sequences left on the server must not be met.
    pub(in crate::protocol) fn forget_sequences(&mut self, traces: &Traces, run: &mut Run<'_>) {
        let may_ask = traces.sequences.asks || traces.marks.has(Marks::HIDDEN);
        if may_ask && self.rules.keeps() {
            if traces.sequences.asks {
                self.dictionary.note_sequences();
            }
            if self.is_between() && self.server.status != b'E' {
                self.discard_sequences(run.tail());
            }
        }
    }

    /// Whether another client's sequences are on the server and cannot be forgotten now, in the middle of a batch.
    pub(super) fn meets_foreign_sequences(&self) -> bool {
        self.rules.keeps() && self.server.doubt.has_foreign_sequences && !self.is_between()
    }

    /// Whether no message of a batch is under way.
    pub(super) fn is_between(&self) -> bool {
        !self.server.batch_open && !self.server.copying && !self.server.skipping
    }

    fn discard_sequences(&mut self, out: &mut Vec<u8>) {
        if self.server.doubt.has_foreign_sequences {
            self.server.doubt.has_foreign_sequences = false;
            write_query(out, "DISCARD SEQUENCES");
            self.server.pipeline.push(Owed::Aside);
        }
    }

    /// The client gets a server: what another one left there in sequences is forgotten, where that matters to anybody.
    pub(in crate::protocol) fn meet_server(&mut self, out: &mut Vec<u8>) {
        if !self.rules.keeps() {
            return;
        }
        let doubt = &mut self.server.doubt;
        doubt.marks = Marks::NONE;
        doubt.is_unseen = false;
        let id = self.client.keeps.id;
        if doubt.used_by != id {
            doubt.has_foreign_sequences = doubt.used_by != 0;
            doubt.used_by = id;
        }
        if self.dictionary.asks_sequences() || self.dictionary.code_asks_sequences() {
            self.discard_sequences(out);
        }
    }
}
