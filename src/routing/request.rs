//! What a request of the protocol asks for: the strictest of its messages up to its Query or Sync.
//!
//! Read before a server is chosen, from bytes that stay as they are. Only whole requests count: what follows the last of them waits
//! until they are answered. What is out of the ordinary (a Flush in the middle, a FunctionCall, an unnamed statement that is not
//! bound at once, a name that nobody prepared) goes to the primary with all that follows.

use crate::clock::Moment;
use crate::protocol::effects::{Access, Effect, Isolation, Modes};
use crate::protocol::frame::{self, cstr};
use crate::routing::ask::Ask;
use crate::routing::bond::Bond;
use crate::routing::classify::Facts;
use crate::routing::intent::{Hint, Intent};

/// More bytes than this are not gathered to find the end of a request; it then goes to the primary.
pub const LARGEST: usize = 32 * 1024;

/// What one text asks for, as far as a route depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Its intent; a read leaves nothing behind in its session.
    pub intent: Intent,
    /// The hint in it.
    pub hint: Option<Hint>,
    /// It is a BEGIN and nothing else.
    pub begins: Option<Modes>,
    /// How it stands to the transaction around it.
    pub bond: Bond,
    /// It resets all settings, those of the pooler among them.
    pub resets: bool,
}

impl From<&Verdict> for Ask {
    fn from(verdict: &Verdict) -> Self {
        Self {
            intent: verdict.intent,
            hint: verdict.hint,
            begins: verdict.begins,
            bond: verdict.bond,
            is_lone: verdict.begins.is_some(),
            bar: None,
        }
    }
}

impl Verdict {
    /// Of what is known of a text.
    pub fn of(facts: &Facts) -> Self {
        let mut effects = facts.effects.all().map(|(_, effect)| effect);
        let (first, second) = (effects.next(), effects.next());
        let begins = match (first, second) {
            (Some(Effect::Begin(modes)), None) if facts.effects.statements() == Some(1) => {
                Some(*modes)
            }
            _ => None,
        };
        let intent = if first.is_some() {
            facts.intent.max(Intent::Session)
        } else {
            facts.intent
        };
        // Where it is said what a session is, it must be known to everybody: no hint leads that astray.
        let is_led = !matches!(intent, Intent::Session | Intent::Unknown);
        Self {
            intent,
            hint: facts.hint.filter(|hint| is_led || *hint == Hint::Primary),
            begins,
            bond: Bond::of(facts),
            resets: facts
                .effects
                .all()
                .any(|(_, effect)| matches!(effect, Effect::ResetAll | Effect::DiscardAll)),
        }
    }

    /// The same at `now`: what a replica has refused goes to the primary for a while, as if it wrote.
    pub fn at(facts: &Facts, now: Moment) -> Self {
        let mut verdict = Self::of(facts);
        if facts.offence.is_on(now) {
            verdict.intent = verdict.intent.max(Intent::Write);
        }
        verdict
    }

    /// As a number below 2^16, for whoever has no room for more.
    pub fn to_bits(self) -> u64 {
        let intent = match self.intent {
            Intent::Read => 0,
            Intent::NodeLocal => 1,
            Intent::Session => 2,
            Intent::Write => 3,
            Intent::Unknown => 4,
        };
        let hint = match self.hint {
            None => 0,
            Some(Hint::Primary) => 1,
            Some(Hint::Replica) => 2,
        };
        let bond = self.bond.to_bits() << 11;
        let resets = u64::from(self.resets) << 14;
        intent | hint << 3 | self.begins.map_or(0, modes_to_bits) << 5 | bond | resets
    }

    /// What [`Verdict::to_bits`] made a number of.
    pub fn from_bits(bits: u64) -> Self {
        let intent = match bits & 7 {
            0 => Intent::Read,
            1 => Intent::NodeLocal,
            2 => Intent::Session,
            3 => Intent::Write,
            _ => Intent::Unknown,
        };
        let hint = match bits >> 3 & 3 {
            1 => Some(Hint::Primary),
            2 => Some(Hint::Replica),
            _ => None,
        };
        Self {
            intent,
            hint,
            begins: modes_from_bits(bits >> 5),
            bond: Bond::from_bits(bits >> 11),
            resets: bits >> 14 & 1 == 1,
        }
    }
}

/// 1 for BEGIN without more; DEFERRABLE decides nothing.
fn modes_to_bits(modes: Modes) -> u64 {
    let access = match modes.access {
        None => 0,
        Some(Access::ReadOnly) => 1,
        Some(Access::ReadWrite) => 2,
    };
    let isolation = match modes.isolation {
        None => 0,
        Some(Isolation::ReadCommitted) => 1,
        Some(Isolation::RepeatableRead) => 2,
        Some(Isolation::Serializable) => 3,
    };
    1 | access << 1 | isolation << 3 | u64::from(modes.is_shared_snapshot) << 5
}

fn modes_from_bits(bits: u64) -> Option<Modes> {
    let access = match bits >> 1 & 3 {
        1 => Some(Access::ReadOnly),
        2 => Some(Access::ReadWrite),
        _ => None,
    };
    let isolation = match bits >> 3 & 3 {
        1 => Some(Isolation::ReadCommitted),
        2 => Some(Isolation::RepeatableRead),
        3 => Some(Isolation::Serializable),
        _ => None,
    };
    (bits & 1 == 1).then_some(Modes {
        access,
        isolation,
        deferrable: None,
        is_shared_snapshot: bits >> 5 & 1 == 1,
    })
}

/// Who knows what texts ask for.
pub trait Known {
    /// What a text asks for.
    fn text(&mut self, text: &[u8]) -> Verdict;
    /// What the statement asks for that the client calls `name`; `None` where it has none.
    fn named(&mut self, name: &[u8]) -> Option<Verdict>;
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The strictest of its whole requests.
    pub ask: Ask,
    /// How many bytes those requests are.
    pub size: usize,
    /// They are whole; else it could not be found where they end.
    pub is_whole: bool,
    /// Among them is one that resets all settings.
    pub resets: bool,
}

impl Asked {
    const fn unknown(size: usize) -> Self {
        Self {
            ask: Ask {
                bond: Bond::Lives,
                ..Ask::of(Intent::Unknown)
            },
            size,
            is_whole: false,
            resets: false,
        }
    }
}

/// What two hints mean together: one for the primary wins, one for a replica must be said of both.
fn both(one: Option<Hint>, other: Option<Hint>) -> Option<Hint> {
    match (one, other) {
        (Some(Hint::Primary), _) | (_, Some(Hint::Primary)) => Some(Hint::Primary),
        (Some(Hint::Replica), Some(Hint::Replica)) => Some(Hint::Replica),
        _ => None,
    }
}

/// What one request asks for, so far.
#[derive(Default)]
struct Batch<'a> {
    strictest: Option<Intent>,
    /// `None` before the first text.
    hint: Option<Option<Hint>>,
    begins: Option<Modes>,
    has_more_than_begin: bool,
    /// `None` before the first text that is no BEGIN.
    bond: Option<Bond>,
    /// A portal may be run again by a later request of the transaction.
    keeps_portal: bool,
    /// Names given within the request.
    names: Vec<(&'a [u8], Verdict)>,
    is_bound: bool,
    /// The unnamed statement was parsed and not bound yet.
    is_fresh: bool,
    has_unnamed: bool,
    resets: bool,
}

impl<'a> Batch<'a> {
    fn add(&mut self, verdict: Verdict) {
        self.resets |= verdict.resets;
        let hint = self.hint.map(|hint| both(hint, verdict.hint));
        self.hint = Some(hint.unwrap_or(verdict.hint));
        match verdict.begins {
            Some(modes) if !self.has_more_than_begin => {
                // Parsed, then bound: the same BEGIN.
                self.begins = Some(modes);
            }
            _ => {
                self.has_more_than_begin = true;
                self.strictest = self.strictest.max(Some(verdict.intent));
                // Several statements in one text are refused here.
                let own = match verdict.bond {
                    Bond::Leaves => Bond::Lives,
                    bond => bond,
                };
                self.bond = Some(self.bond.map_or(own, |bond| bond.and(own)));
            }
        }
    }

    /// Takes one message in; false where it is out of the ordinary.
    fn message(&mut self, tag: u8, mut body: &'a [u8], known: &mut impl Known) -> bool {
        match tag {
            b'P' => {
                let (Some(name), Some(text)) = (cstr(&mut body), cstr(&mut body)) else {
                    return false;
                };
                let verdict = known.text(text);
                if name.is_empty() {
                    (self.is_fresh, self.has_unnamed) = (true, true);
                } else {
                    self.names.push((name, verdict));
                }
                self.add(verdict);
                true
            }
            b'B' => {
                let (Some(portal), Some(name)) = (cstr(&mut body), cstr(&mut body)) else {
                    return false;
                };
                self.keeps_portal |= !portal.is_empty();
                self.is_bound |= portal.is_empty();
                if name.is_empty() {
                    self.is_fresh = false;
                    return self.has_unnamed;
                }
                let given = self.names.iter().rev().find(|(own, _)| *own == name);
                let verdict = given.map(|(_, verdict)| *verdict);
                let Some(verdict) = verdict.or_else(|| known.named(name)) else {
                    return false;
                };
                self.add(verdict);
                true
            }
            b'E' => {
                // All rows of the unnamed portal, which was bound just now, or it is one that lives on.
                self.keeps_portal |= !self.is_bound || *body != [0; 5];
                true
            }
            b'D' | b'C' => {
                self.keeps_portal |= body.first() == Some(&b'P') && *body != *b"P\0";
                true
            }
            _ => false,
        }
    }

    /// What it asks for, at its Sync.
    fn ask(&self) -> Ask {
        let strictest = self.strictest.unwrap_or(Intent::Read);
        let mut bond = self.bond.unwrap_or_default();
        if self.keeps_portal || self.is_fresh {
            bond = bond.and(Bond::Lives);
        }
        if self.begins.is_some() && bond != Bond::None {
            // Whichever comes first.
            bond = bond.and(Bond::Lives);
        }
        let ask = Ask {
            hint: self.hint.flatten(),
            bond,
            ..Ask::of(strictest)
        };
        if self.is_fresh {
            // It is bound later, and must then still be where it was parsed.
            return Ask {
                intent: strictest.max(Intent::Session),
                hint: None,
                ..ask
            };
        }
        match self.begins {
            None => ask,
            Some(modes) if strictest == Intent::Read => Ask {
                intent: if self.has_more_than_begin {
                    Intent::Read
                } else {
                    Intent::Session
                },
                begins: Some(modes),
                ..ask
            },
            Some(_) => Ask {
                intent: strictest.max(Intent::Session),
                ..ask
            },
        }
    }
}

/// Reads what a client without a server has sent. `None` where no request is whole yet and more must come.
///
/// A BEGIN that may go to a replica is a request by itself, whatever follows.
pub fn read(bytes: &[u8], known: &mut impl Known) -> Option<Asked> {
    read_some(bytes, known, false)
}

/// Reads the first request alone of what a client has sent that is in a transaction.
pub fn read_first(bytes: &[u8], known: &mut impl Known) -> Option<Asked> {
    read_some(bytes, known, true)
}

fn read_some(bytes: &[u8], known: &mut impl Known, is_first: bool) -> Option<Asked> {
    let mut rest = bytes;
    let mut batch = Batch::default();
    let mut asked: Option<Asked> = None;
    let mut resets = false;
    loop {
        let (tag, body) = match frame::next(&mut rest, frame::MAX_LEN) {
            Ok(Some(frame)) => frame,
            Ok(None) if asked.is_some() => return asked,
            Ok(None) if bytes.len() < LARGEST => return None,
            Ok(None) | Err(_) => return Some(Asked::unknown(bytes.len())),
        };
        let is_batch_empty = batch.strictest.is_none() && batch.begins.is_none();
        let one = match tag {
            b'Q' if is_batch_empty => {
                let verdict = known.text(body.strip_suffix(b"\0").unwrap_or(body));
                resets |= verdict.resets;
                Ask {
                    intent: verdict.intent,
                    hint: verdict.hint,
                    begins: verdict.begins,
                    bond: verdict.bond,
                    is_lone: false,
                    bar: None,
                }
            }
            b'S' => {
                resets |= batch.resets;
                std::mem::take(&mut batch).ask()
            }
            b'X' if asked.is_some() => return asked,
            _ if batch.message(tag, body, known) => continue,
            _ => return Some(Asked::unknown(bytes.len())),
        };
        let size = bytes.len() - rest.len();
        let Some(before) = asked else {
            asked = Some(Asked {
                ask: one,
                size,
                is_whole: true,
                resets,
            });
            if one.begins.is_some() || is_first {
                return asked;
            }
            continue;
        };
        if one.begins.is_some() && before.ask.intent == Intent::Read {
            // The reads before it are answered first.
            return asked;
        }
        asked = Some(Asked {
            ask: both_asked(before.ask, one),
            size,
            is_whole: true,
            resets,
        });
    }
}

/// What is asked for by two requests that are read as one.
fn both_asked(before: Ask, one: Ask) -> Ask {
    Ask {
        intent: before.intent.max(one.intent),
        hint: both(one.hint, before.hint),
        begins: None,
        bond: before.bond.and(one.bond),
        is_lone: false,
        bar: None,
    }
}

/// Finds the ends of requests in bytes that come in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cutter {
    head: [u8; 5],
    seen: usize,
    left: usize,
}

impl Cutter {
    /// The tag of the message under way, or of the last one where it is over.
    pub fn tag(&self) -> u8 {
        self.head[0]
    }

    /// How many bytes of `chunk` belong to the request under way, and whether it ends with them.
    pub fn cut(&mut self, chunk: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < chunk.len() {
            if self.seen < 5 {
                self.head[self.seen] = chunk[at];
                self.seen += 1;
                at += 1;
                if self.seen < 5 {
                    continue;
                }
                let [_, a, b, c, d] = self.head;
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX).max(4) - 4;
            }
            let part = self.left.min(chunk.len() - at);
            (self.left, at) = (self.left - part, at + part);
            if self.left == 0 {
                self.seen = 0;
                if matches!(self.head[0], b'Q' | b'S' | b'F') {
                    return (at, true);
                }
            }
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests;
