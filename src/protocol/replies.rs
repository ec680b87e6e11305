//! What a server answers: matched with what it owes, noted, and passed on.
//!
//! A reply that nobody asked for is left out, an answer of the pooler's own is put where its turn is. A server that says what
//! PostgreSQL would not say at this point is doomed: it is closed, and its client told.

use std::sync::Arc;

use crate::config::value::PoolMode;
use crate::error::{Error, IMPOSSIBLE_LENGTH, OVERSIZED, Refusal};
use crate::protocol::dialogue::{Dialogue, Look, head, walk};
use crate::protocol::errors;
use crate::protocol::parameters::is_carried;
use crate::protocol::pipeline::{Duplicate, Owed, Undo, Was};
use crate::protocol::run::Run;
use crate::protocol::sides::Unnamed;

/// How much of an error is looked at: the SQLSTATE stands at its beginning.
const ERROR_HEAD: usize = 1024;
const LARGEST_PARAMETER: usize = 1 << 20;
const DISCARD_ALL: &[u8] = b"DISCARD ALL\0";
const DISCARD_SEQUENCES: &[u8] = b"DISCARD SEQUENCES\0";
const DEALLOCATE_ALL: &[u8] = b"DEALLOCATE ALL\0";

impl Dialogue<'_> {
    /// Judges `chunk` from the server. What goes to the client is in `run`.
    ///
    /// # Errors
    /// [`Error::ServerProtocol`] when the server breaks the protocol; [`Error::TransactionInStatementMode`].
    pub fn from_server(&mut self, chunk: &[u8], run: &mut Run<'_>) -> Result<(), Error> {
        walk(
            self,
            |dialogue| &mut dialogue.server.walk,
            chunk,
            run,
            Self::reply,
            Self::give_answers,
        )
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one straight way, which every query takes"
    )]
    fn reply(&mut self, view: &[u8], run: &mut Run<'_>) -> Result<Look, Error> {
        let (tag, size) = head(view);
        let Some(size) = size else {
            return self.nonsense(IMPOSSIBLE_LENGTH);
        };
        if size > self.rules.max_packet {
            return self.nonsense(OVERSIZED);
        }
        // Most frames of most answers.
        match (self.server.pipeline.front(), tag) {
            (Some(Owed::Query | Owed::Execute(_)), b'D' | b'd' | b'T') => {
                return Ok(Look::Pass(size));
            }
            (Some(Owed::Bind(_)), b'2') | (Some(Owed::Describe(_)), b'T' | b'n') => {
                self.server.pipeline.settle();
                return Ok(Look::Pass(size));
            }
            _ => {}
        }
        // Answers that fell due while only the head of this frame was here: nothing of it has gone out yet.
        self.give_answers(run);
        let is_ours = matches!(
            self.server.pipeline.front(),
            Some(Owed::Ours | Owed::Aside | Owed::Look | Owed::Catalog)
        );
        let is_look = is_ours
            && matches!(
                self.server.pipeline.front(),
                Some(Owed::Look | Owed::Catalog)
            );
        let seen = match tag {
            b'D' if is_look && size <= LARGEST_PARAMETER => size,
            b'D' | b'd' | b'T' | b't' | b'n' | b'c' | b'V' | b'H' => size.min(5),
            b'Z' => 6,
            b'E' => size.min(ERROR_HEAD),
            b'S' => size,
            b'C' if size == 5 + DISCARD_ALL.len() || size == 5 + DEALLOCATE_ALL.len() => size,
            b'C' if size == 5 + DISCARD_SEQUENCES.len() => size,
            _ => 5,
        };
        if view.len() < seen {
            return if seen > LARGEST_PARAMETER {
                self.nonsense("a parameter is too large")
            } else {
                Ok(Look::Need(seen))
            };
        }
        match tag {
            b'D' | b'd' | b't' | b'c' | b'V' => {
                if self.server.pipeline.is_empty() {
                    return self.nonsense("rows that nobody asked for");
                }
                if is_look && view.len() >= size {
                    self.look_row(&view[5..size]);
                } else if is_look {
                    self.look_past();
                }
            }
            b'1' | b'2' | b'3' | b'T' | b'n' | b's' | b'I' | b'C' => {
                return self.completion(tag, view, size, is_ours);
            }
            b'G' | b'W' | b'H' => self.copy_begins(tag),
            b'E' => return self.failure(&view[..seen], size, is_ours, run),
            b'S' => self.parameter(&view[5..size], is_ours),
            b'Z' => return self.ready(view[5], size),
            b'A' if self.rules.keeps() && !self.listens_here() => {
                // The pool's listener tells it.
                return Ok(Look::Hide(size));
            }
            b'A' => return Ok(Look::Pass(size)),
            b'N' => {}
            _ => return self.nonsense("an unknown or unexpected message"),
        }
        Ok(if is_ours {
            Look::Hide(size)
        } else {
            Look::Pass(size)
        })
    }

    fn nonsense<T>(&mut self, what: &'static str) -> Result<T, Error> {
        self.server.doomed = Some(what);
        Err(Error::ServerProtocol(what))
    }

    fn completion(
        &mut self,
        tag: u8,
        view: &[u8],
        size: usize,
        is_ours: bool,
    ) -> Result<Look, Error> {
        if tag == b'C' && view.len() >= size {
            match &view[5..size] {
                all @ (DISCARD_ALL | DEALLOCATE_ALL) => self.discarded(all == DISCARD_ALL),
                DISCARD_SEQUENCES if !is_ours => self.note_no_sequences(),
                [b'A', b'L', b'T', b'E', b'R', ..] | [b'D', b'R', b'O', b'P', ..] => {
                    // Now for this transaction, and again for everybody when it has been committed.
                    self.server.changed_tables = true;
                    self.dictionary.tables_changed();
                }
                _ => {}
            }
        }
        let (settles, hidden) = match (self.server.pipeline.front(), tag) {
            (Some(Owed::Parse | Owed::Refusal(_)), b'1')
            | (Some(Owed::Bind(_)), b'2')
            | (Some(Owed::Close), b'3')
            | (Some(Owed::Describe(_)), b'T' | b'n')
            | (Some(Owed::Execute(_)), b'C' | b'I' | b's') => (true, false),
            (Some(Owed::HiddenParse), b'1') | (Some(Owed::HiddenClose), b'3') => (true, true),
            (Some(Owed::Query | Owed::Execute(_)), b'C' | b'I' | b'T') => (false, false),
            (Some(Owed::Ours | Owed::Aside | Owed::Look | Owed::Catalog), b'C' | b'I' | b'T') => {
                (false, is_ours)
            }
            _ => return self.nonsense("a reply that nobody asked for"),
        };
        if tag == b'C' {
            self.server.doubtful_syncs = 0; // a COPY that has read its data has ignored them
        }
        if matches!(tag, b'C' | b'I') {
            self.step_succeeded();
        }
        if settles {
            self.settled();
        }
        Ok(if hidden {
            Look::Hide(size)
        } else {
            Look::Pass(size)
        })
    }

    /// Gives the answers whose turn has come, between two frames of the server's.
    #[inline(always)]
    fn give_answers(&mut self, run: &mut Run<'_>) {
        if matches!(self.server.pipeline.front(), Some(Owed::Answer(_))) {
            self.give_due_answers(run);
        }
    }

    #[cold]
    fn give_due_answers(&mut self, run: &mut Run<'_>) {
        while let Some(Owed::Answer(bytes)) = self.server.pipeline.front() {
            run.put(bytes);
            self.server.pipeline.settle();
        }
    }

    fn settled(&mut self) {
        match self.server.pipeline.settle() {
            Some((Owed::Parse | Owed::HiddenParse, undo)) => {
                for change in undo {
                    // Where it has been closed and prepared again since, that is what remains to be proven.
                    if let Undo::Held(statement, _) = change
                        && self
                            .server
                            .pipeline
                            .ground_of_statement(statement.id)
                            .is_none()
                    {
                        self.server.held.prove(statement.id);
                        if self.server.status == b'I' {
                            statement.accept();
                        }
                    }
                }
            }
            Some((Owed::Refusal(duplicate), _)) => self.given_again(*duplicate),
            _ => {}
        }
    }

    /// A DEALLOCATE ALL was under way: the name was free after all, and the server has the new text under the old number.
    fn given_again(&mut self, duplicate: Duplicate) {
        let Duplicate {
            name,
            existing,
            wanted,
        } = duplicate;
        let is_same = existing.id == wanted.id;
        self.set_held(&existing, if is_same { Was::There } else { Was::Stale });
        self.set_name(name, Some(wanted));
    }

    fn discarded(&mut self, everything: bool) {
        let remains = self.server.pipeline.discarded();
        self.server.held.clear_except(&remains.ids);
        self.client
            .names
            .retain(|name, _| remains.names.contains(name));
        self.client.names.extend(remains.given_again);
        if everything {
            self.note_discarded();
            self.server.params = Arc::clone(&self.server.base);
        }
    }

    fn copy_begins(&mut self, tag: u8) {
        if tag == b'H' {
            return;
        }
        let is_execute = matches!(self.server.pipeline.front(), Some(Owed::Execute(_)));
        let (ignored_syncs, is_ended) = self.server.pipeline.copy_begins();
        self.server.copying = !is_ended;
        self.server.doubtful_syncs += ignored_syncs;
        if ignored_syncs > 0 && is_execute && !is_ended {
            self.server.batch_open = true;
        }
    }

    fn failure(
        &mut self,
        view: &[u8],
        size: usize,
        is_ours: bool,
        run: &mut Run<'_>,
    ) -> Result<Look, Error> {
        let code = errors::field(&view[5..], b'C').unwrap_or(b"XX000");
        let is_last = errors::field(&view[5..], b'V').is_some_and(|severity| severity == b"FATAL");
        if self.rules.is_followed && is_last {
            self.server.doomed = Some("it said its last words");
            return Ok(Look::Hide(size));
        }
        match self.server.pipeline.front() {
            None => {
                self.server.doomed = Some("the server said an error that nobody asked for");
                let concerns_client = self.rules.mode == PoolMode::Session
                    || self.server.status != b'I'
                    || self.is_tied();
                return Ok(if concerns_client {
                    Look::Pass(size)
                } else {
                    Look::Hide(size)
                });
            }
            Some(Owed::RefusedQuery(_)) => {
                self.note_failure();
                return Ok(self.refuse(code, size, run));
            }
            Some(Owed::Aside | Owed::Look | Owed::Catalog) => {
                self.look_failed();
                return Ok(Look::Hide(size));
            }
            Some(Owed::Ours) => {
                let message = errors::field(&view[5..], b'M').unwrap_or(b"");
                self.server.refused_ours = Some(Refusal {
                    code: String::from_utf8_lossy(code).into_owned(),
                    message: String::from_utf8_lossy(message).into_owned(),
                });
                return Ok(if is_ours {
                    Look::Hide(size)
                } else {
                    Look::Pass(size)
                });
            }
            Some(Owed::Query | Owed::Function | Owed::Sync) => {
                self.note_failure();
                self.end_copy();
                return Ok(Look::Pass(size));
            }
            Some(_) => {}
        }
        Ok(self.step_failed(view, size, code, run))
    }

    /// A step of an extended batch has failed, and with it all that was asked up to the next Sync.
    fn step_failed(&mut self, view: &[u8], size: usize, code: &[u8], run: &mut Run<'_>) -> Look {
        self.note_failure();
        self.end_copy();
        let named = match self.server.pipeline.front() {
            Some(Owed::Bind(id) | Owed::Describe(id)) => Some(*id),
            _ => None,
        };
        let spoiled = named.filter(|_| code == b"0A000").unwrap_or(0);
        let is_refusal = match self.server.pipeline.front() {
            Some(Owed::RefusedParse(_)) => self.refuse(code, size, run) == Look::Hide(size),
            Some(Owed::Refusal(duplicate)) if code == b"42P05" => {
                duplicate.write_error(run.tail());
                true
            }
            _ => false,
        };
        if self.server.unnamed == Unnamed::Fresh {
            self.server.unnamed = Unnamed::Foreign;
        }
        let (undo, sync_was_sent) = self.server.pipeline.skip_to_sync();
        self.undo(undo); // a Close that was skipped gives its name back
        let is_retold = named.is_some_and(|id| {
            let body = view.get(5..size);
            body.is_some_and(|body| self.client.restore_names(id, body, run.tail()))
        });
        if let Some(statement) = self.server.held.get(spoiled) {
            statement.retire();
            self.set_held(&statement, Was::Stale);
        }
        self.server.skipping = !sync_was_sent;
        self.server.batch_open = self.server.batch_open && sync_was_sent;
        if is_refusal || is_retold {
            Look::Hide(size)
        } else {
            Look::Pass(size)
        }
    }

    /// The server has failed what was sent in the place of a text that is refused: the client hears why.
    fn refuse(&mut self, code: &[u8], size: usize, run: &mut Run<'_>) -> Look {
        match self.server.pipeline.front() {
            // In a transaction that has failed already that is what there is to say.
            Some(Owed::RefusedQuery(error) | Owed::RefusedParse(error)) if code != b"25P02" => {
                run.put(error);
                Look::Hide(size)
            }
            _ => Look::Pass(size),
        }
    }

    /// The server gave the COPY up; the client may not know yet.
    fn end_copy(&mut self) {
        if self.server.copying {
            self.server.copying = false;
            self.client.copy_tail = true;
        }
    }

    fn parameter(&mut self, body: &[u8], is_ours: bool) {
        let mut parts = body.split(|byte| *byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return;
        };
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        if !is_carried(&name) {
            return;
        }
        if let Some(heard) = self.server.heard.as_mut().filter(|_| is_ours) {
            heard.push(name.clone().into_owned());
        }
        let same = Arc::ptr_eq(&self.server.params, &self.client.params);
        self.server.params = self.interner.with(&self.server.params, &name, &value);
        if same {
            self.client.params = Arc::clone(&self.server.params);
        } else if !is_ours {
            self.client.params = self.interner.with(&self.client.params, &name, &value);
        }
    }

    fn ready(&mut self, status: u8, size: usize) -> Result<Look, Error> {
        if size != 6 || !matches!(status, b'I' | b'T' | b'E') {
            return self.nonsense("a broken ReadyForQuery");
        }
        let is_ours = match self.server.pipeline.front() {
            Some(Owed::Ours | Owed::Aside | Owed::Look | Owed::Catalog) => true,
            Some(Owed::Query | Owed::RefusedQuery(_) | Owed::Sync | Owed::Function) => false,
            None if self.server.doubtful_syncs > 0 => {
                // The COPY failed before it read anything: the Sync sent along with it counts after all.
                self.server.doubtful_syncs -= 1;
                self.server.skipping = false;
                self.server.status = status;
                return Ok(Look::Pass(size));
            }
            _ => return self.nonsense("a ReadyForQuery that nobody asked for"),
        };
        let settled = self.server.pipeline.settle();
        self.server.status = status;
        if self.server.changed_tables && status == b'I' {
            self.server.changed_tables = false;
            self.dictionary.tables_changed();
        }
        match settled {
            Some((Owed::Look, _)) => self.looked(),
            Some((Owed::Catalog, _)) => self.catalog_read(),
            _ => {}
        }
        if status == b'I' && self.rules.is_followed {
            self.server.settled = Some(Arc::clone(&self.client.params));
        }
        if is_ours {
            let is_strict = matches!(settled, Some((Owed::Ours, _)));
            if is_strict && self.server.refused_ours.is_none() {
                self.client.params.accept();
            }
            return Ok(Look::Hide(size));
        }
        if status != b'I' && self.rules.mode == PoolMode::Statement {
            self.server.doomed = Some("a transaction block in statement mode");
            return Err(Error::TransactionInStatementMode);
        }
        self.note_end(status);
        Ok(Look::Pass(size))
    }
}
