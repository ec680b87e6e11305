//! A read on a replica may fail for reasons that the primary knows nothing of. Until the first byte of its answer has gone to the
//! client it is asked again, once, there. So is a read that was known to read and whose primary is lost, of whoever may serve it then.
//!
//! What the server says is held back until it is known what it will come to: rows or a good end pass, a failure of the replica's own
//! is heard by nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::time::Duration;

use crate::clients::buffers::with_gathered;
use crate::clients::session::{Session, Station};
use crate::clock;
use crate::error::Error;
use crate::pools::policy::Reason;
use crate::protocol::effects::Isolation;
use crate::protocol::fields::{self, Heard};
use crate::protocol::frame;
use crate::protocol::message::Severity;
use crate::protocol::prepared::Statement;
use crate::protocol::run::Run;
use crate::protocol::sides::Walk;

/// A text that a replica refused because it writes goes to the primary for so long.
const WRITES: Duration = Duration::from_secs(3600);
/// One that was in the way of replay.
const CONFLICTS: Duration = Duration::from_secs(60);
const LOST: Error = Error::ServerLost("while it read for this client");
/// So much is held back at most.
const MOST: usize = 64 * 1024;

/// A name of the client's and what it meant.
type Named = (Box<[u8]>, Option<Arc<Statement>>);

/// What is under way on a replica, until its fate is known.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// The request, once it has been sent.
    request: Vec<u8>,
    /// What the client's names meant before it.
    before: Vec<Named>,
    /// What the client is answered before the server says anything.
    early: Vec<u8>,
    said: Vec<u8>,
    read: usize,
    /// The server must isolate transactions by READ COMMITTED, where it is asked.
    pub(super) must_be_read_committed: bool,
    told: Option<Isolation>,
    /// So many queries of the pooler's own are answered first.
    ours: Option<usize>,
    is_texts_fault: bool,
    /// It has failed, and the rest of the answer is heard by nobody.
    has_failed: bool,
    /// It is the primary that reads: what it says is the answer, unless it is lost.
    is_on_primary: bool,
}

/// What a replica's words mean for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// More must be heard.
    Open,
    /// It is answered.
    Answered,
    /// It is to be asked of the primary.
    Failed(Fault),
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text's: for so long it goes to the primary.
    Text(Duration),
    /// Perhaps nobody's: what it names may be too new for the replica, as may the right to use it.
    Unknown,
    /// The node's.
    Node,
    /// Nobody's: the transaction would have one snapshot, on a node that it may have to leave.
    Snapshot,
}

impl Trial {
    /// Of a read on the primary.
    pub(super) fn on_primary() -> Self {
        Self {
            is_on_primary: true,
            ..Self::default()
        }
    }

    /// Takes in what the server says.
    fn hear(&mut self, chunk: &[u8]) -> Fate {
        self.said.extend_from_slice(chunk);
        let mut ours = self.ours.unwrap_or(0);
        let mut rest = &self.said[self.read..];
        let fate = loop {
            let Ok(next) = frame::next(&mut rest, frame::MAX_LEN) else {
                break Fate::Answered;
            };
            let Some((tag, body)) = next else {
                // Rows may be long, and their tag tells enough.
                let is_decided = rest.first().is_some_and(|tag| ours == 0 && is_answer(*tag));
                break if is_decided || self.said.len() > MOST {
                    Fate::Answered
                } else {
                    Fate::Open
                };
            };
            if tag == b'E' {
                break match fate(&Heard::of(body), ours > 0) {
                    Fate::Failed(Fault::Text(_) | Fault::Unknown) if self.is_on_primary => {
                        Fate::Answered
                    }
                    fate => fate,
                };
            }
            if ours > 0 {
                ours -= usize::from(tag == b'Z');
                if tag == b'D' {
                    let told = isolation(body);
                    self.told = Some(told);
                    if self.must_be_read_committed && told != Isolation::ReadCommitted {
                        break Fate::Failed(Fault::Snapshot);
                    }
                }
            } else if tag == b'C' && matches!(body, b"BEGIN\0" | b"START TRANSACTION\0") {
                // What matters stands behind it.
            } else if is_answer(tag) {
                break Fate::Answered;
            }
        };
        self.read = self.said.len() - rest.len();
        self.ours = Some(ours);
        fate
    }
}

/// The level of isolation that a server names in its only row.
fn isolation(row: &[u8]) -> Isolation {
    let values = fields::data_row(row).unwrap_or_default();
    match values.first().copied().flatten() {
        Some(b"read committed" | b"read uncommitted") => Isolation::ReadCommitted,
        Some(b"repeatable read") => Isolation::RepeatableRead,
        _ => Isolation::Serializable,
    }
}

/// Whether a message means that the request is being answered.
fn is_answer(tag: u8) -> bool {
    !matches!(
        tag,
        b'1' | b'2' | b'3' | b'n' | b't' | b'T' | b'S' | b'N' | b'A' | b'E'
    )
}

fn fate(heard: &Heard<'_>, is_ours: bool) -> Fate {
    let is_last = heard
        .severity
        .is_some_and(|severity| severity == Severity::Fatal);
    match heard.sqlstate {
        b"57P01" | b"57P02" | b"57P03" => Fate::Failed(Fault::Node),
        [b'0', b'8', ..] => Fate::Failed(Fault::Node),
        _ if is_last => Fate::Failed(Fault::Node),
        _ if is_ours => Fate::Answered,
        b"25006" | b"0A000" | b"55000" => Fate::Failed(Fault::Text(WRITES)),
        b"40001" | b"40P01" => Fate::Failed(Fault::Text(CONFLICTS)),
        // No relation, column, function, type, right: but not a mistake of grammar, of which no DDL makes sense.
        [b'4', b'2', ..] if heard.sqlstate != b"42601" => Fate::Failed(Fault::Unknown),
        // No schema; no such label of an enum.
        b"3F000" | b"22P02" => Fate::Failed(Fault::Unknown),
        _ => Fate::Answered,
    }
}

impl Session {
    fn trial(&mut self) -> Option<&mut Trial> {
        self.split()?.trial.as_mut()
    }

    /// Whether what the server says decides if its read is asked again.
    pub(super) fn is_on_trial(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| {
            split
                .trial
                .as_ref()
                .is_some_and(|trial| !trial.request.is_empty())
        })
    }

    /// The request of a link to a replica is about to be sent: keeps what is needed to ask again.
    pub(super) fn begin_trial(&mut self, request: &[u8]) {
        let split = self
            .course
            .as_mut()
            .and_then(|course| course.split.as_mut());
        let trial = split.and_then(|split| split.trial.as_mut());
        let Some(trial) = trial.filter(|trial| trial.request.is_empty()) else {
            return;
        };
        trial.request.extend_from_slice(request);
        let mut rest = request;
        while let Ok(Some((tag, body))) = frame::next(&mut rest, frame::MAX_LEN) {
            let name = match (tag, body) {
                (b'P', named) => frame::cstr(&mut &*named),
                (b'C', [b'S', named @ ..]) => frame::cstr(&mut &*named),
                _ => None,
            };
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let meant = self.side.names.get(name).map(Arc::clone);
                trial.before.push((name.into(), meant));
            }
        }
    }

    /// Keeps back what the client is answered at once. False where nothing is to be kept back.
    pub(super) fn keep_answers(&mut self, answers: &[u8]) -> bool {
        let Some(trial) = self.trial() else {
            return false;
        };
        trial.early.extend_from_slice(answers);
        true
    }

    /// A replica says something while its read may still be asked of the primary. What is to be passed on now; `None` while nothing is.
    ///
    /// # Errors
    /// [`Error::ServerLost`] where the read is to be asked again.
    pub(super) fn hear_trial(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let ours = self.server().side.pipeline.ours_in_front();
        let Some(trial) = self.trial() else {
            return Ok(Some(chunk.to_vec()));
        };
        if trial.has_failed {
            self.hear_failed(cx, chunk)?;
            return Ok(None);
        }
        trial.ours.get_or_insert(ours);
        let mut fate = trial.hear(chunk);
        if !self.side.keeps.pins.is_empty() && !matches!(fate, Fate::Open) {
            // What ties the client to this server cannot be asked for elsewhere.
            fate = Fate::Answered;
        }
        let Some(trial) = self.trial() else {
            return Ok(None);
        };
        match fate {
            Fate::Open => {
                if trial.ours == Some(0) {
                    // What it runs now is the client's.
                    self.take_cancels();
                }
                Ok(None)
            }
            Fate::Failed(fault) => {
                let request = std::mem::take(&mut trial.request);
                trial.is_texts_fault = fault != Fault::Node;
                if let Fault::Text(lasts) = fault {
                    self.note_offence(&request, lasts);
                }
                let Some(trial) = self.trial() else {
                    return Ok(None);
                };
                trial.request = request;
                if fault == Fault::Node {
                    return Err(LOST);
                }
                trial.has_failed = true;
                let said = std::mem::take(&mut trial.said);
                self.hear_failed(cx, &said)?;
                Ok(None)
            }
            Fate::Answered => {
                let (early, said) = (
                    std::mem::take(&mut trial.early),
                    std::mem::take(&mut trial.said),
                );
                let told = trial.told;
                self.end_trial();
                self.note_isolation(told);
                self.send_to_client(cx, &early)?;
                Ok(Some(said))
            }
        }
    }

    /// Hears the rest of an answer that is for nobody, and gives the replica's server back when it has said all.
    fn hear_failed(&mut self, cx: &mut Context<'_>, said: &[u8]) -> Result<(), Error> {
        let ties = self.side.keeps.ties();
        let heard = with_gathered(|gathered| {
            let mut run = Run::new(said, gathered);
            self.dialogue(|dialogue| dialogue.from_server(said, &mut run))
        });
        // What came to nothing here ties the client to nobody: it is asked for again elsewhere.
        self.side.keeps.tie_as(ties);
        let server = self.server();
        if heard.is_err() || server.side.refused_ours.is_some() || server.side.doomed.is_some() {
            return Err(LOST);
        }
        if !server.side.is_quiet() || !server.out.is_empty() {
            return Ok(());
        }
        if server.side.status == b'I' || self.late.is_none() {
            self.take_read_back();
        } else if let Some(trial) = self.split().and_then(|split| split.trial.take()) {
            self.put_back(trial);
            self.move_away(cx)?;
        }
        Ok(())
    }

    fn end_trial(&mut self) {
        if let Some(split) = self.split() {
            split.trial = None;
        }
        self.server().kept.forget();
    }

    /// The replica is not what it should be.
    fn blame_node(&mut self) {
        if let Some((node, _)) = self.course.as_ref().map(|course| course.bound()) {
            self.blame(node, clock::now());
        }
    }

    /// The request of a trial is one that no server has read: names mean what they meant before it.
    fn put_back(&mut self, trial: Trial) {
        for (name, meant) in trial.before {
            match meant {
                Some(statement) => self.side.names.insert(name, statement),
                None => self.side.names.remove(&name),
            };
        }
        self.side.walk = Walk::default();
        let mut request = trial.request;
        request.append(&mut self.held);
        self.held = request;
        if let Some(split) = self.split() {
            split.routes.counts.again.fetch_add(1, Relaxed);
        }
    }

    /// Takes a read back from a replica that could not serve it, to be asked of the primary, or from a primary that is lost. False where there
    /// is none.
    pub(super) fn take_read_back(&mut self) -> bool {
        if !matches!(self.station, Station::Linked(_)) || !self.side.keeps.pins.is_empty() {
            return false;
        }
        let Some(trial) = self.split().and_then(|split| split.trial.take()) else {
            return false;
        };
        if trial.is_on_primary {
            let is_fenced = self.server().card.is_fenced();
            let course = self.course.as_ref().filter(|_| !is_fenced);
            course.inspect(|course| course.bad_sign("a server was lost"));
        } else if !trial.is_texts_fault {
            self.blame_node();
        }
        let is_fit = trial.has_failed && self.dialogue(|dialogue| dialogue.is_over());
        if !is_fit {
            self.dialogue(|dialogue| dialogue.take_back());
        }
        let is_on_primary = trial.is_on_primary;
        self.put_back(trial);
        self.is_trying = false;
        self.card.link_to(0);
        if let Some(split) = self.split() {
            split.must_be_primary = !is_on_primary;
            split.is_asked_again |= is_on_primary;
        }
        if let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle) {
            if is_fit {
                lease.release();
            } else {
                lease.end(Reason::Unasked);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{CONFLICTS, Fate, Fault, Trial, WRITES};

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn error(severity: &str, code: &str) -> Vec<u8> {
        let fields = format!("S{severity}\0V{severity}\0C{code}\0Mno\0\0");
        frame(b'E', fields.as_bytes())
    }

    #[test]
    fn a_fate_is_known_at_the_first_row_or_error_wherever_the_bytes_are_cut() {
        let begin = [frame(b'1', b""), frame(b'2', b""), frame(b'T', b"\0\0")].concat();
        let cases = [
            (frame(b'D', b"\0\0"), Fate::Answered),
            (frame(b'C', b"SELECT 0\0"), Fate::Answered),
            (error("ERROR", "25006"), Fate::Failed(Fault::Text(WRITES))),
            (
                error("ERROR", "40001"),
                Fate::Failed(Fault::Text(CONFLICTS)),
            ),
            (error("FATAL", "57P01"), Fate::Failed(Fault::Node)),
            (error("ERROR", "42P01"), Fate::Failed(Fault::Unknown)),
            (error("ERROR", "42601"), Fate::Answered),
            (error("ERROR", "22012"), Fate::Answered),
        ];
        for (end, wanted) in cases {
            let all = [begin.clone(), end].concat();
            for piece in 1..=all.len() {
                let mut trial = Trial::default();
                let mut fates = all.chunks(piece).map(|chunk| trial.hear(chunk));
                let fate = fates.find(|fate| *fate != Fate::Open).unwrap();
                assert_eq!(fate, wanted);
            }
        }
    }

    #[test]
    fn what_a_primary_says_is_the_answer_unless_it_ends() {
        let fates = [("ERROR", "25006"), ("ERROR", "42P01"), ("FATAL", "57P01")];
        let fates = fates.map(|(severity, code)| Trial::on_primary().hear(&error(severity, code)));
        let node = Fate::Failed(Fault::Node);
        assert_eq!(fates, [Fate::Answered, Fate::Answered, node]);
    }

    #[test]
    fn what_the_pooler_itself_asked_first_is_no_answer() {
        let ours = [frame(b'C', b"SET\0"), frame(b'Z', b"I")].concat();
        let mut trial = Trial {
            ours: Some(1),
            ..Trial::default()
        };
        assert_eq!(trial.hear(&ours), Fate::Open);
        assert_eq!(trial.hear(&frame(b'D', b"\0\0")), Fate::Answered);
    }
}
