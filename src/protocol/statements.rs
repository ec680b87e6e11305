//! Prepared statements on their way to a server: looked up, renamed, prepared where they are lacking.
//!
//! Mistakes with names get PostgreSQL's own errors, because the server is made to commit them: an unknown name is sent as it
//! is, a name that exists is parsed twice.

use std::sync::Arc;

use crate::config::value::Dialect;
use crate::error::Error;
use crate::protocol::carried::{REFUSED, error};
use crate::protocol::dialogue::{Dialogue, Look};
use crate::protocol::pipeline::{Duplicate, Owed, Undo, Was};
use crate::protocol::prepared::{Statement, begin, end};
use crate::protocol::run::Run;
use crate::protocol::sides::Unnamed;
use crate::protocol::traces::{LARGEST_TEXT, Traces};

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// A named Parse must be kept, so it must fit: 64 MB.
const LARGEST_PARSE: usize = 64 << 20;
/// The errors about names of what the pooler answers itself.
const TAKEN: (&str, &str) = ("42P05", "a prepared statement of that name already exists");
const NOT_ALONE: (&str, &str) = (
    "0A000",
    "a statement about settings of the pooler or routes cannot be run behind others",
);
/// The names in Bind, Describe and Close together.
const LARGEST_NAMES: usize = 1 << 16;

impl Dialogue<'_> {
    pub(super) fn parse(
        &mut self,
        view: &[u8],
        size: usize,
        run: &mut Run<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<Look, Error> {
        if size > 5 && view.len() < 6 {
            return Ok(Look::Need(6));
        }
        if !self.rules.track_statements() || size < 6 || view[5] == 0 {
            if self.rules.reads_texts() {
                if view.len() < size && size <= LARGEST_TEXT {
                    return Ok(Look::Need(size));
                }
                if let Some(look) = self.parse_unnamed(view, size, run) {
                    return Ok(look);
                }
            }
            if self.counts_unnamed() {
                self.tally.client_parses.add(1);
                self.tally.server_parses.add(1);
            }
            if self.rules.track_statements() {
                self.server.unnamed = Unnamed::Fresh;
            }
            self.extended(Owed::Parse);
            return Ok(Look::Pass(size));
        }
        if size > LARGEST_PARSE {
            return Err(Error::TooLarge("the text of a named prepared statement"));
        }
        if view.len() < size {
            return Ok(Look::Need(size));
        }
        self.tally.client_parses.add(1);
        let body = &view[5..size];
        let Some(split) = body.iter().position(|byte| *byte == 0) else {
            return Err(Error::BrokenMessage("Parse"));
        };
        let (name, definition) = (&body[..split], &body[split + 1..]);
        if let Some(existing) = self.client.names.get(name).map(Arc::clone) {
            if self.is_poolers(&existing) {
                self.refuse_own(TAKEN, run);
                return Ok(Look::Took { seen: size, size });
            }
            if self.rules.dialect == Dialect::PgBouncer {
                return Err(Error::StatementExists(shown(name)));
            }
            self.refuse_duplicate(name, definition, &existing, run);
        } else {
            self.new_name(name, definition, run, answers);
        }
        Ok(Look::Took { seen: size, size })
    }

    /// PgBouncer counts the statements that it keeps track of, no others.
    fn counts_unnamed(&self) -> bool {
        self.rules.dialect == Dialect::Native
    }

    /// Reads the text of an unnamed statement; `Some` when it is refused.
    fn parse_unnamed(&mut self, view: &[u8], size: usize, run: &mut Run<'_>) -> Option<Look> {
        let body = view.get(5..size).filter(|_| size <= LARGEST_TEXT);
        let name = body.and_then(|body| body.iter().position(|byte| *byte == 0));
        let (Some(body), Some(name)) = (body, name) else {
            self.note_unnamed(Traces::unknown(), b"");
            return None;
        };
        let (text, traces) = self.client.harmless.read(&body[name + 1..]);
        if let Some(refusal) = self.refusal(&traces, text) {
            write_refused(&body[..name], run.tail());
            self.extended(Owed::RefusedParse(refusal));
            return Some(Look::Took { seen: size, size });
        }
        self.forget_sequences(&traces, run);
        self.note_unnamed(traces, text);
        None
    }

    fn new_name(
        &mut self,
        name: &[u8],
        definition: &[u8],
        run: &mut Run<'_>,
        answers: &mut Vec<u8>,
    ) {
        let statement = self.dictionary.find(definition);
        if let Some(refusal) = self.refusal(&statement.traces, statement.text()) {
            write_refused(name, run.tail());
            self.extended(Owed::RefusedParse(refusal));
            return;
        }
        if self.rules.keeps() {
            self.forget_sequences(&statement.traces, run);
        }
        self.client
            .names
            .insert(name.into(), Arc::clone(&statement));
        let named = Undo::Name(name.into(), None);
        if self.is_certain(statement.id)
            && self.server.status != b'E'
            && !self.server.pipeline.may_discard()
        {
            self.answer(PARSE_COMPLETE, named, answers);
            return;
        }
        // Where the server holds it, but may lose it (a DISCARD ALL may be under way), or refuses what is not the end
        // of a failed transaction, it is closed there and prepared again.
        self.send_parse(&statement, Owed::Parse, Some(named), run);
    }

    /// The name exists: the server is made to say so, by parsing twice what it holds already. What it is given is the
    /// client's new text, for a mistake in that is told first.
    fn refuse_duplicate(
        &mut self,
        name: &[u8],
        definition: &[u8],
        existing: &Arc<Statement>,
        run: &mut Run<'_>,
    ) {
        self.ensure(name, existing, run);
        existing.write_parse_of(definition, run.tail());
        let duplicate = Duplicate {
            name: name.into(),
            existing: Arc::clone(existing),
            wanted: self.dictionary.find(definition),
        };
        self.extended(Owed::Refusal(Box::new(duplicate)));
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one straight way, which every query takes"
    )]
    pub(super) fn bind(
        &mut self,
        view: &[u8],
        size: usize,
        run: &mut Run<'_>,
    ) -> Result<Look, Error> {
        if !self.rules.track_statements() {
            if self.counts_unnamed() {
                self.tally.binds.add(1);
            }
            if self.rules.reads_texts() {
                self.note(&Traces::unknown());
            }
            self.extended(Owed::Bind(0));
            return Ok(Look::Pass(size));
        }
        let body = &view[5..view.len().min(size)];
        let names = body.iter().position(|byte| *byte == 0).and_then(|portal| {
            body[portal + 1..]
                .iter()
                .position(|byte| *byte == 0)
                .map(|length| (portal, portal + 1 + length))
        });
        let Some((portal, statement)) = names else {
            return more_names(view, size, "Bind");
        };
        let name = &body[portal + 1..statement];
        if !name.is_empty() || self.counts_unnamed() {
            self.tally.binds.add(1);
        }
        let known = self.client.names.get(name).map(Arc::clone);
        if known.as_ref().is_some_and(|known| self.is_poolers(known)) {
            self.refuse_own(NOT_ALONE, run);
            return Ok(Look::Hide(size));
        }
        let is_foreign = name.is_empty() && self.server.unnamed == Unnamed::Foreign;
        if name.is_empty() && !is_foreign {
            self.server.unnamed = Unnamed::Own;
        }
        if self.rules.reads_texts() {
            if let Some(known) = &known {
                self.forget_sequences(&known.traces, run);
                self.note(&known.traces);
                self.note_suspects(&known.traces, known.text());
                let steps = self.note_steps(&known.traces, known.text());
                self.bind_steps(steps);
            } else if name.is_empty() {
                self.bind_unnamed();
            }
        }
        if !is_foreign && known.is_none() && !is_ours(name) {
            self.refuse_unknown(name)?;
            self.extended(Owed::Bind(0));
            return Ok(Look::Pass(size));
        }
        let id = known.as_ref().map_or(0, |known| known.id);
        if let Some(known) = &known {
            self.ensure(name, known, run);
        }
        let out = run.tail();
        let at = begin(out, b'B');
        out.extend_from_slice(&body[..=portal]);
        write_renamed(known.as_ref(), name, out);
        out.push(0);
        let written = out.len() - at + (size - 5 - (statement + 1));
        out[at..at + 4].copy_from_slice(&u32::try_from(written).unwrap_or(u32::MAX).to_be_bytes());
        self.extended(Owed::Bind(id));
        Ok(Look::Took {
            seen: 5 + statement + 1,
            size,
        })
    }

    pub(super) fn describe(
        &mut self,
        view: &[u8],
        size: usize,
        run: &mut Run<'_>,
    ) -> Result<Look, Error> {
        let name = match self.statement_name(view, size, "Describe")? {
            Ok(name) => name,
            Err(look) => {
                if matches!(look, Look::Pass(_)) {
                    self.extended(Owed::Describe(0));
                }
                return Ok(look);
            }
        };
        let known = self.client.names.get(name).map(Arc::clone);
        if known.is_none() && !name.is_empty() && !is_ours(name) {
            self.refuse_unknown(name)?;
            self.extended(Owed::Describe(0));
            return Ok(Look::Pass(size));
        }
        if let Some(known) = &known {
            if self.is_poolers(known) {
                self.refuse_own(NOT_ALONE, run);
                return Ok(Look::Took { seen: size, size });
            }
            self.ensure(name, known, run);
        }
        let out = run.tail();
        let at = begin(out, b'D');
        out.push(b'S');
        write_renamed(known.as_ref(), name, out);
        out.push(0);
        end(out, at);
        self.extended(Owed::Describe(known.map_or(0, |known| known.id)));
        Ok(Look::Took { seen: size, size })
    }

    /// Whether no server may hear of `statement`.
    fn is_poolers(&self, statement: &Statement) -> bool {
        self.rules.is_split && statement.is_own()
    }

    /// Answers `error` in the place of a request for what no server has; the server is made to fail there.
    fn refuse_own(&mut self, (code, message): (&str, &str), run: &mut Run<'_>) {
        if self.server.status == b'E' && self.server.pipeline.is_empty() {
            // In a transaction that has failed the server says that of anything.
            let failing = self.dictionary.find(b"SELECT 1\0\0\0");
            failing.write_parse(run.tail());
            return self.extended(Owed::Parse);
        }
        write_refused(b"POOLER_0", run.tail());
        let hint = "It is answered where nothing else is owed: wait for the answers before it.";
        let error = error(code, message, hint);
        self.extended(Owed::RefusedParse(error));
    }

    pub(super) fn close(
        &mut self,
        view: &[u8],
        size: usize,
        answers: &mut Vec<u8>,
    ) -> Result<Look, Error> {
        let name = match self.statement_name(view, size, "Close")? {
            Ok(name) => name,
            Err(look) => {
                if matches!(look, Look::Pass(_)) {
                    self.extended(Owed::Close);
                }
                return Ok(look);
            }
        };
        let before = self.client.names.remove(name);
        self.answer(CLOSE_COMPLETE, Undo::Name(name.into(), before), answers);
        Ok(Look::Took { seen: size, size })
    }

    /// A name that the client did not prepare is the server's to judge: it may come from an SQL PREPARE. PgBouncer ends the client.
    fn refuse_unknown(&self, name: &[u8]) -> Result<(), Error> {
        if name.is_empty() || self.rules.dialect == Dialect::Native {
            return Ok(());
        }
        Err(Error::StatementUnknown(shown(name)))
    }

    /// The statement that a Describe or Close names; `Err` when the message does not name one, or must be seen whole.
    fn statement_name<'v>(
        &self,
        view: &'v [u8],
        size: usize,
        what: &'static str,
    ) -> Result<Result<&'v [u8], Look>, Error> {
        if !self.rules.track_statements() || size < 7 {
            return Ok(Err(Look::Pass(size)));
        }
        if view.len() < size {
            return more_names(view, size, what).map(Err);
        }
        let is_foreign = what == "Describe" && self.server.unnamed == Unnamed::Foreign;
        if view[5] != b'S' || (view[6] == 0 && !is_foreign) {
            return Ok(Err(Look::Pass(size)));
        }
        let name = &view[6..size];
        match name.iter().position(|byte| *byte == 0) {
            Some(length) => Ok(Ok(&name[..length])),
            None => Err(Error::BrokenMessage(what)),
        }
    }

    /// Answers in the server's place, when the replies before it have come to their ends.
    fn answer(&mut self, bytes: &'static [u8], undo: Undo, answers: &mut Vec<u8>) {
        self.server.batch_open = true;
        if self.server.pipeline.is_empty() && self.server.walk.is_between() {
            answers.extend_from_slice(bytes);
        } else {
            self.server
                .pipeline
                .push_with(Owed::Answer(bytes), vec![undo]);
        }
    }

    /// Sees to it that the server holds `statement`, which the client calls `name`, when the next message arrives.
    fn ensure(&mut self, name: &[u8], statement: &Arc<Statement>, run: &mut Run<'_>) {
        let id = statement.id;
        // Where the name itself is not certain yet, the server decides whether there is such a statement.
        if self.is_certain(id) || (self.holds(id) && self.server.pipeline.changes_name(name)) {
            return;
        }
        self.send_parse(statement, Owed::HiddenParse, None, run);
    }

    fn holds(&mut self, id: u64) -> bool {
        self.server.held.touch(id)
    }

    /// Whether the server will hold statement `id`, whatever becomes of earlier batches.
    fn is_certain(&mut self, id: u64) -> bool {
        self.holds(id)
            && (self.server.held.is_proven(id) || !self.server.pipeline.may_skip_parse_of(id))
    }

    /// Has the server prepare `statement`, anew if it holds it.
    fn send_parse(
        &mut self,
        statement: &Arc<Statement>,
        owed: Owed,
        named: Option<Undo>,
        run: &mut Run<'_>,
    ) {
        self.close_stale(run);
        if self.holds(statement.id) {
            self.send_close(statement, Was::There, run);
        } else if self.server.pipeline.may_skip_change_of(statement.id) {
            self.send_close(statement, Was::Missing, run);
        }
        statement.write_parse(run.tail());
        self.tally.server_parses.add(1);
        self.server.batch_open = true;
        let mut undo = vec![Undo::Held(Arc::clone(statement), Was::Missing)];
        undo.extend(named);
        self.server.pipeline.push_with(owed, undo);
        self.server.held.add(statement);
        while let Some(oldest) = self.server.held.take_oldest_above(self.rules.max_prepared) {
            self.send_close(&oldest, Was::There, run);
        }
    }

    fn close_stale(&mut self, run: &mut Run<'_>) {
        if self.server.held.has_stale() {
            for statement in self.server.held.take_stale() {
                self.send_close(&statement, Was::Stale, run);
            }
        }
    }

    fn send_close(&mut self, statement: &Arc<Statement>, was: Was, run: &mut Run<'_>) {
        statement.write_close(run.tail());
        self.server.pipeline.push_with(
            Owed::HiddenClose,
            vec![Undo::Held(Arc::clone(statement), was)],
        );
    }
}

/// More of the message must be seen, because its names do not end in view.
fn more_names(view: &[u8], size: usize, what: &'static str) -> Result<Look, Error> {
    if view.len() >= size {
        return Err(Error::BrokenMessage(what));
    }
    if view.len() >= LARGEST_NAMES {
        return Err(Error::TooLarge("a name"));
    }
    Ok(Look::Need(size.min((view.len() * 2).max(64))))
}

/// A statement's name, for a message.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Appends a Parse message of a text that fails.
fn write_refused(name: &[u8], out: &mut Vec<u8>) {
    let at = begin(out, b'P');
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(REFUSED.as_bytes());
    out.extend_from_slice(&[0; 3]);
    end(out, at);
}

/// Whether a client uses a name that only the pooler gives.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"POOLER_")
}

/// The server's name for a known statement; for an unknown one that looks like ours, a name that no server knows.
fn write_renamed(known: Option<&Arc<Statement>>, name: &[u8], out: &mut Vec<u8>) {
    if let Some(known) = known {
        known.write_name(out);
    } else {
        out.extend_from_slice(b"unknown ");
        out.extend_from_slice(name);
    }
}
