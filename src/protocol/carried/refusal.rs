//! What a client is told whose session state is refused, and what its server is told instead.

use crate::protocol::dialogue::Dialogue;
use crate::protocol::effects::{self, Effect, PinReason};
use crate::protocol::lexer::Strings;
use crate::protocol::prepared::{begin, end};
use crate::protocol::traces::Traces;

/// What a server is told in the place of a text that is refused: it must fail, so that its transaction does.
pub(in crate::protocol) const REFUSED: &str = "refused by the pooler: session_state";

/// How an effect is called that is refused, where session state is.
fn refused(effect: &Effect) -> Option<&'static str> {
    Some(match effect {
        Effect::Set {
            is_local: false, ..
        } => "SET",
        Effect::Prepare { .. } => "PREPARE",
        Effect::Listen(_) => "LISTEN",
        Effect::Pins(reason) => match reason {
            PinReason::TempTable => "a temporary table",
            PinReason::AdvisoryLock => "a session advisory lock",
            PinReason::HeldCursor => "a cursor WITH HOLD",
            PinReason::Load => "LOAD",
            PinReason::ReplicationOrigin => "a replication origin",
            PinReason::Setting => "set_config or an UPDATE of pg_settings",
            PinReason::Sequence => "currval or lastval",
            PinReason::NextVal
            | PinReason::LargeObject
            | PinReason::Function
            | PinReason::Unknown => return None,
        },
        _ => return None,
    })
}

impl Dialogue<'_> {
    /// The error that a text is refused with, where session state is.
    pub(in crate::protocol) fn refusal(&self, traces: &Traces, text: &[u8]) -> Option<Box<[u8]>> {
        if traces.sequences.asks && self.meets_foreign_sequences() {
            return Some(error(
                "55000",
                "currval or lastval asks for what this session has not drawn on this server",
                "It is asked in the middle of a pipeline, for the first time since the pooler started: ask again.",
            ));
        }
        if self.rules.is_split && sets_own(traces, text) {
            return Some(error(
                "0A000",
                "settings of the pooler are set by a statement that comes by itself",
                "Send SET pooler.… alone and wait for its answer, or say it in the options of the startup packet.",
            ));
        }
        traces.refused.filter(|_| self.rules.refuses())?;
        // A word may stand in a string: only what the text really does is refused.
        let effects = effects::of(text, Strings::Standard, &mut Vec::new());
        let what = effects.all().find_map(|(_, effect)| refused(effect))?;
        let message = format!("{what} is refused: it would outlive its transaction");
        let hint = format!(
            "session_state = \"refuse\" is set for this database or user of the pooler. Use \"keep\" to let {what} work, or pool_mode = \"session\"."
        );
        Some(error("0A000", &message, &hint))
    }
}

/// Whether `text` sets what is the pooler's own. A server would take it, and nothing would come of it.
fn sets_own(traces: &Traces, text: &[u8]) -> bool {
    let is_own = |name: &[u8]| {
        let prefix = name.get(..b"pooler.".len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"pooler."))
    };
    if !traces.custom.iter().any(|name| is_own(name.as_bytes())) {
        return false;
    }
    // A word may stand in a string.
    let effects = effects::of(text, Strings::Standard, &mut Vec::new());
    effects
        .all()
        .any(|(_, effect)| matches!(effect, Effect::Set { name, .. } if is_own(name)))
}

/// An ErrorResponse that a statement is answered with in the server's place.
pub(in crate::protocol) fn error(code: &str, message: &str, hint: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    let at = begin(&mut out, b'E');
    for (field, text) in [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', code),
        (b'M', message),
        (b'H', hint),
    ] {
        out.push(field);
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
    out.push(0);
    end(&mut out, at);
    out.into()
}
