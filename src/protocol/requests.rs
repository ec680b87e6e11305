//! What a client sends: judged, renamed, and noted as owed.
//!
//! | message | what happens |
//! |---|---|
//! | Query, FunctionCall, Sync, Flush, CopyData, CopyDone, CopyFail | pass |
//! | Parse of a name | the text is looked up in the dictionary; sent under its own name, or answered here when the server has it |
//! | Bind, Describe of a name | renamed; the statement is parsed first where the server lacks it |
//! | Close of a name | answered here, nothing is sent |
//! | Terminate | the client leaves |
//!
//! What becomes of statements and their names stands in `statements.rs`.

use crate::config::value::Dialect;
use crate::error::Error;
use crate::protocol::carried::{REFUSED, write_query};
use crate::protocol::dialogue::{Dialogue, Look, head, walk};
use crate::protocol::pipeline::Owed;
use crate::protocol::run::Run;
use crate::protocol::sides::Unnamed;
use crate::protocol::startup::hex;
use crate::protocol::traces::{LARGEST_TEXT, Traces, traces};

/// Whether the client goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    On,
    /// It sent Terminate.
    Left,
}

impl Dialogue<'_> {
    /// Judges `chunk` from the client. What goes to the server is in `run`; `answers` gets what the client is answered at once.
    ///
    /// # Errors
    /// [`Error::Protocol`] and [`Error::TooLarge`] for what no client may send.
    pub fn from_client(
        &mut self,
        chunk: &[u8],
        run: &mut Run<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<Flow, Error> {
        let mut flow = Flow::On;
        walk(
            self,
            |dialogue| &mut dialogue.client.walk,
            chunk,
            run,
            |dialogue, view, run| dialogue.request(view, run, answers, &mut flow),
            |_, _| {},
        )?;
        Ok(flow)
    }

    fn request(
        &mut self,
        view: &[u8],
        run: &mut Run<'_>,
        answers: &mut Vec<u8>,
        flow: &mut Flow,
    ) -> Result<Look, Error> {
        let (tag, size) = head(view);
        let size = size.ok_or_else(|| Error::Protocol("invalid message length".into()))?;
        if size > self.rules.max_packet {
            return Err(match self.rules.dialect {
                Dialect::Native => Error::TooLarge("the message"),
                Dialect::PgBouncer => {
                    Error::Protocol(format!("bad packet header: '{}'", hex(view)))
                }
            });
        }
        if *flow == Flow::Left {
            return Ok(Look::Hide(size));
        }
        match tag {
            b'X' => {
                *flow = Flow::Left;
                return Ok(Look::Hide(size));
            }
            b'S' if self.server.skipping || !self.server.copying => {
                self.server.skipping = false;
                self.server.batch_open = false;
                self.server.pipeline.push(Owed::Sync);
            }
            b'c' | b'f' => self.copy_ends(),
            b'S' => self.server.doubtful_syncs += 1,
            b'd' | b'H' => {}
            b'Q' if self.rules.no_simple_query => return Err(Error::SimpleQueryDisallowed),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if self.server.skipping => {}
            b'Q' if self.rules.reads_texts() => return self.query(view, size, run),
            b'Q' => self.simple(Owed::Query),
            b'F' => {
                // Which function that is, its number does not say.
                self.note_unknown(run);
                self.simple(Owed::Function);
            }
            b'E' => self.execute(),
            b'P' => return self.parse(view, size, run, answers),
            b'B' => return self.bind(view, size, run),
            b'D' => return self.describe(view, size, run),
            b'C' => return self.close(view, size, answers),
            _ => {
                return Err(Error::UnknownMessage(tag));
            }
        }
        Ok(Look::Pass(size))
    }

    /// The client ends a COPY, or the tail of one that failed, or one that the server has yet to begin.
    fn copy_ends(&mut self) {
        self.client.copy_tail = false;
        if !self.server.copying && !self.server.pipeline.is_empty() {
            self.server.pipeline.push(Owed::CopyEnd);
        }
        self.server.copying = false;
    }

    /// A simple query, where session state is followed: its text is read.
    fn query(&mut self, view: &[u8], size: usize, run: &mut Run<'_>) -> Result<Look, Error> {
        if size > LARGEST_TEXT {
            self.note_unknown(run);
            self.simple(Owed::Query);
            return Ok(Look::Pass(size));
        }
        if view.len() < size {
            return Ok(Look::Need(size));
        }
        let text = &view[5..size];
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        let traces = traces(text);
        if let Some(refusal) = self.refusal(&traces, text) {
            write_query(run.tail(), REFUSED);
            self.simple(Owed::RefusedQuery(refusal));
            return Ok(Look::Took { seen: size, size });
        }
        self.note(&traces);
        self.note_suspects(&traces, text);
        self.forget_sequences(&traces, run);
        let mut steps = self.note_steps(&traces, text);
        self.note_deallocate(&traces, text, &mut steps, run);
        self.simple(Owed::Query);
        self.server.pipeline.follow(steps);
        Ok(Look::Pass(size))
    }

    /// Something is run of which nobody knows what it does.
    fn note_unknown(&mut self, run: &mut Run<'_>) {
        if self.rules.reads_texts() {
            let traces = Traces::unknown();
            self.note(&traces);
            self.note_suspects(&traces, b"");
            self.forget_sequences(&traces, run);
        }
    }

    fn execute(&mut self) {
        self.extended(Owed::Execute(0));
        let steps = self.take_bound();
        self.server.pipeline.follow(steps);
    }

    /// Its ReadyForQuery ends the extended messages before it, too.
    fn simple(&mut self, owed: Owed) {
        self.server.batch_open = false;
        // A simple query takes the unnamed statement away.
        self.server.unnamed = Unnamed::Foreign;
        self.server.pipeline.push(owed);
    }

    pub(super) fn extended(&mut self, owed: Owed) {
        self.server.batch_open = true;
        self.server.pipeline.push(owed);
    }
}
