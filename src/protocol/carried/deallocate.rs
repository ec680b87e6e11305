//! DEALLOCATE of a statement that the client prepared by the protocol, as drivers say it that have no Close of their own.
//!
//! Servers know the statement by another name and share it with other clients. So the server is given an empty one under the
//! client's name, just before, and does what it is told with that.

use super::write_query;
use crate::protocol::channels::Step;
use crate::protocol::dialogue::Dialogue;
use crate::protocol::effects::{self, Effect};
use crate::protocol::lexer::Strings;
use crate::protocol::pipeline::Owed;
use crate::protocol::run::Run;
use crate::protocol::sql::quote_name;
use crate::protocol::traces::{Marks, Traces};

impl Dialogue<'_> {
    /// Prepares the server for a simple query that is one DEALLOCATE of such a name; what it does, once it has succeeded, is
    /// added to `steps`.
    pub(in crate::protocol) fn note_deallocate(
        &mut self,
        traces: &Traces,
        text: &[u8],
        steps: &mut Vec<Step>,
        run: &mut Run<'_>,
    ) {
        if !traces.marks.has(Marks::PREPARED) || self.client.names.is_empty() {
            return;
        }
        let Some(name) = deallocated(text).filter(|name| self.client.names.contains_key(&**name))
        else {
            return;
        };
        if self.rules.track_statements() && self.is_between() {
            let quoted = String::from_utf8_lossy(&quote_name(&name)).into_owned();
            write_query(run.tail(), &format!("PREPARE {quoted} AS SELECT"));
            self.server.pipeline.push(Owed::Aside);
            *steps = vec![Step::Deallocate(name)];
        }
    }
}

/// The name, where `text` is one statement and that is DEALLOCATE of a name.
fn deallocated(text: &[u8]) -> Option<Box<[u8]>> {
    let effects = effects::of(text, Strings::Standard, &mut Vec::new());
    if effects.statements() != Some(1) {
        return None;
    }
    effects.of(0).find_map(|effect| match effect {
        Effect::Deallocate { name, .. } => Some(name.clone()),
        _ => None,
    })
}
