//! Session state in transaction mode: noted when it may have been made, looked at when its transaction is over.
//!
//! A text only says what it *may* leave behind ([`Traces`]). What really is there nobody knows better than the server: a
//! transaction may have failed, a savepoint rolled back, a function set something unseen. So after a transaction that may have left
//! something the server is asked, once, behind the client's back; its answer is the truth. Settings, the role and the
//! statements of PREPARE are *carried*: they become part of the client's [`Parameters`], which every server it borrows is brought
//! to. Everything else *pins* the client to this server until a later look finds it gone.
//!
//! Must never happen: a server goes to another client while something on it is in doubt.
//!
//! Here is what is known of a client and of a server. `carried/look.rs` asks the server, `carried/listening.rs` follows channels,
//! `carried/sequences.rs` keeps the sequences of clients apart, `carried/refusal.rs` refuses where nothing may be left.

mod deallocate;
mod listening;
mod look;
mod refusal;
mod sequences;

use std::sync::Arc;

use self::look::Found;
pub(super) use self::refusal::{REFUSED, error};
use crate::config::value::{PoolMode, SessionState};
use crate::protocol::channels::{Channels, Step};
use crate::protocol::dialogue::{Dialogue, Rules};
use crate::protocol::parameters::Parameters;
use crate::protocol::pins::Pins;
use crate::protocol::prepared::{begin, end};
use crate::protocol::suspects::{Does, Suspects};
use crate::protocol::traces::{Marks, Sequences, Traces};

/// So many settings and statements of one client are carried at most; one with more keeps its server.
pub const MOST: usize = 1000;
/// So many bytes of them.
pub const LARGEST: usize = 1 << 20;

impl Rules {
    /// Whether nobody may meet another client's session state.
    pub fn keeps(&self) -> bool {
        self.state == SessionState::Keep && self.mode != PoolMode::Session
    }

    /// Whether a client is refused what would outlive its transaction.
    pub fn refuses(&self) -> bool {
        self.state == SessionState::Refuse && self.mode != PoolMode::Session
    }

    /// Whether texts are looked at for what they leave behind.
    pub fn reads_texts(&self) -> bool {
        self.state != SessionState::PgBouncer && self.mode != PoolMode::Session
    }
}

/// What is known of a client's session state beside its parameters.
#[derive(Debug)]
pub struct Keeps {
    /// The client's number.
    pub id: u64,
    /// Its parameters after its login: what RESET brings back.
    pub startup: Arc<Parameters>,
    /// What the last look found, and what lasts: why it keeps its server.
    pub pins: Pins,
    lasting: Pins,
    custom: Vec<Box<str>>,
    executes: Marks,
    /// What the suspects do that its statements of PREPARE run.
    prepared: Does,
    asks_sequences: bool,
    unread: Marks,
    /// The channels it listens on, once it has asked for one.
    pub channels: Option<Box<Channels>>,
    /// Channels it has just asked for.
    pub asked: Vec<Box<str>>,
    /// It has changed code, or may have, and that was not told yet to who goes by a catalog.
    pub changed_code: bool,
}

impl Keeps {
    /// What ties the client to its server: now, and for as long as it is there.
    pub fn ties(&self) -> [Pins; 2] {
        [self.pins, self.lasting]
    }

    /// Ties the client as it was tied when [`Keeps::ties`] was asked.
    pub fn tie_as(&mut self, ties: [Pins; 2]) {
        [self.pins, self.lasting] = ties;
    }

    /// A client that has just logged in.
    pub fn new(startup: Arc<Parameters>) -> Self {
        Self {
            id: 0,
            startup,
            pins: Pins::NONE,
            lasting: Pins::NONE,
            custom: Vec::new(),
            executes: Marks::NONE,
            prepared: Does::default(),
            asks_sequences: false,
            unread: Marks::NONE,
            channels: None,
            asked: Vec::new(),
            changed_code: false,
        }
    }

    /// Whether nothing is known of it but what its parameters hold.
    pub fn is_plain(&self) -> bool {
        let is_unmarked = self.executes.is_empty() && self.unread.is_empty();
        let is_unpinned = self.pins.is_empty() && self.lasting.is_empty();
        let has_nothing = self.custom.is_empty() && self.prepared == Does::default();
        let listens = self.channels.is_some() || !self.asked.is_empty();
        is_unmarked && is_unpinned && has_nothing && !self.asks_sequences && !listens
    }

    fn name_custom(&mut self, names: &[Box<str>]) {
        for name in names {
            if let Err(at) = self.custom.binary_search(name) {
                if self.custom.len() >= MOST {
                    self.lasting |= Pins::UNREAD;
                    return;
                }
                self.custom.insert(at, name.clone());
            }
        }
    }
}

/// What is known of the state that a server holds beside its parameters.
#[derive(Debug, Default)]
pub struct Doubt {
    marks: Marks,
    lasting: Pins,
    sequences: Sequences,
    look: Option<Box<Found>>,
    used_by: u64,
    has_foreign_sequences: bool,
    /// What the client has committed here may have set something, and nobody has looked yet.
    is_unseen: bool,
    unlisten: bool,
    /// Of the unnamed statement, and its text where it matters.
    unnamed: Option<Box<(Traces, Box<[u8]>)>>,
    bound: Vec<Step>,
    has_failed: bool,
    changed_code: bool,
    /// The client ran something while nobody knew what is suspect.
    ran_unknown: bool,
    reading: Option<(u64, Box<Suspects>)>,
    /// The user it logged in as.
    pub user: Box<str>,
    /// Its client left something on it: it is to be emptied before anybody else gets it.
    pub needs_reset: bool,
    /// What was left on it cannot be taken away.
    pub is_spoiled: bool,
}

impl Dialogue<'_> {
    /// Notes what a text, about to be sent, may leave behind.
    pub(super) fn note(&mut self, traces: &Traces) {
        if traces.is_nothing() && self.client.keeps.unread.is_empty() {
            return;
        }
        let (keeps, doubt) = (&mut self.client.keeps, &mut self.server.doubt);
        if !self.rules.keeps() {
            doubt.needs_reset |= traces.marks.leaves();
            return;
        }
        if traces.marks.has(Marks::PREPARED) {
            keeps.executes |= traces.marks;
        }
        doubt.marks |= traces.marks.and(std::mem::take(&mut keeps.unread));
        if traces.executes {
            doubt.marks |= keeps.executes;
        }
        doubt.lasting |= traces.lasting;
        doubt.needs_reset |= traces.marks.has(Marks::HIDDEN);
        if !traces.custom.is_empty() {
            keeps.name_custom(&traces.custom);
        }
        doubt.sequences.moves |= traces.sequences.moves;
        doubt.sequences.writes |= traces.sequences.writes || traces.executes;
        if traces.sequences.asks {
            keeps.asks_sequences = true;
            self.dictionary.note_sequences();
        }
    }

    /// Notes that a text, about to be run, may run code of the database's own that leaves something behind unseen.
    pub(super) fn note_suspects(&mut self, traces: &Traces, text: &[u8]) {
        self.client.keeps.changed_code |= traces.changes_code;
        if !self.rules.keeps() {
            return;
        }
        if traces.changes_code {
            self.server.doubt.changed_code = true;
            self.dictionary.code_changed();
        }
        if self.dictionary.has_no_suspects() {
            return;
        }
        let Some(suspects) = self.dictionary.suspects() else {
            self.server.doubt.ran_unknown = true;
            return;
        };
        if traces.marks.has(Marks::HIDDEN) {
            self.note_run_of_any(&suspects);
        }
        let prepared = self.client.keeps.executes;
        if traces.executes && !prepared.is_empty() {
            self.note_run_of(&suspects, self.client.keeps.prepared);
        }
        let writes = traces.sequences.writes || traces.executes;
        if let Some(does) = suspects.run_by(text, writes) {
            self.note_run_of(&suspects, does);
            if traces.marks.has(Marks::PREPARED) {
                self.client.keeps.prepared |= does;
            }
        }
    }

    /// Some of `suspects` may have run, and do `does`.
    fn note_run_of(&mut self, suspects: &Suspects, does: Does) {
        let (keeps, doubt) = (&mut self.client.keeps, &mut self.server.doubt);
        doubt.marks |= Marks::ANYTHING.and(Marks::ENDS);
        doubt.needs_reset |= does.runs;
        keeps.name_custom(&suspects.custom);
        if does.hides {
            keeps.lasting |= Pins::UNREAD;
            keeps.pins |= Pins::UNREAD;
        }
        if does.lasts {
            doubt.lasting |= Pins::FUNCTION;
        }
    }

    /// Any of `suspects` may have run, nobody knows which.
    fn note_run_of_any(&mut self, suspects: &Suspects) {
        self.note_run_of(suspects, Does::default());
        self.server.doubt.needs_reset |= suspects.all.runs || suspects.all.hides;
        self.server.doubt.is_spoiled |= suspects.all.lasts;
    }

    /// Keeps in mind what the unnamed statement may leave behind, each time it is run.
    pub(super) fn note_unnamed(&mut self, traces: Traces, text: &[u8]) {
        let is_open = |channels: &Channels| channels.is_open();
        let is_followed = self.client.keeps.channels.as_deref().is_some_and(is_open);
        let may_be_suspect = self.rules.keeps() && !self.dictionary.has_no_suspects();
        let is_needed = !traces.is_nothing() || is_followed || may_be_suspect;
        self.server.doubt.unnamed = is_needed.then(|| Box::new((traces, text.into())));
    }

    /// The unnamed statement is bound.
    pub(super) fn bind_unnamed(&mut self) {
        if let Some(unnamed) = self.server.doubt.unnamed.take() {
            self.note(&unnamed.0);
            self.note_suspects(&unnamed.0, &unnamed.1);
            let steps = self.note_steps(&unnamed.0, &unnamed.1);
            self.bind_steps(steps);
            self.server.doubt.unnamed = Some(unnamed);
        } else if !self.client.keeps.unread.is_empty() {
            self.note(&Traces::default());
        }
    }

    /// A request of the client's is over; `status` is what ReadyForQuery said.
    pub(super) fn note_end(&mut self, status: u8) {
        let has_failed = std::mem::take(&mut self.server.doubt.has_failed);
        if status != b'I' || !self.rules.keeps() {
            return;
        }
        let (keeps, doubt) = (&mut self.client.keeps, &mut self.server.doubt);
        doubt.is_unseen |= doubt.marks.leaves() || doubt.ran_unknown;
        if let Some(channels) = &mut keeps.channels
            && channels.is_open()
        {
            if has_failed {
                channels.roll_back();
            } else {
                channels.commit();
            }
        }
        if std::mem::take(&mut doubt.changed_code) {
            self.dictionary.code_changed();
        }
        let sequences = std::mem::take(&mut doubt.sequences);
        let may_ask = keeps.asks_sequences && (sequences.moves || sequences.writes);
        if may_ask || (sequences.moves && self.dictionary.asks_sequences()) {
            keeps.lasting |= Pins::SEQUENCES;
        }
        keeps.lasting |= std::mem::take(&mut doubt.lasting);
        keeps.pins |= keeps.lasting;
    }

    /// A statement of the client's has failed.
    pub(super) fn note_failure(&mut self) {
        self.server.doubt.has_failed = true;
    }

    /// The server has forgotten everything by the client's own DISCARD ALL.
    pub(super) fn note_discarded(&mut self) {
        let keeps = &mut self.client.keeps;
        keeps.lasting = keeps.lasting.only(Pins::LASTING);
        keeps.custom = Vec::new();
        keeps.pins = keeps.pins.without(Pins::UNREAD | Pins::SEQUENCES);
        self.server.doubt.lasting = Pins::NONE;
        self.server.doubt.sequences = Sequences::default();
        self.server.doubt.has_foreign_sequences = false;
        if let Some(channels) = &mut keeps.channels {
            channels.succeeded(&Step::UnlistenAll);
        }
    }

    /// Whether something ties the client to its server, or may do so.
    pub fn is_tied(&self) -> bool {
        let doubt = &self.server.doubt;
        let may_be =
            doubt.marks.leaves() || doubt.unlisten || doubt.ran_unknown || doubt.look.is_some();
        self.rules.keeps() && (may_be || !self.client.keeps.pins.is_empty())
    }

    /// The client goes on without what ties it to its server.
    pub fn give_up_ties(&mut self) {
        self.leave_behind();
        let keeps = &mut self.client.keeps;
        keeps.pins = Pins::NONE;
        keeps.lasting = Pins::NONE;
    }

    /// The client leaves: notes what is to be done about what it left on the server.
    pub fn leave_behind(&mut self) {
        if self.is_tied() {
            let pins = self.client.keeps.pins | self.server.doubt.lasting;
            self.server.doubt.needs_reset = true;
            self.server.doubt.is_spoiled = pins.has(Pins::LASTING);
        }
    }
}

impl Doubt {
    /// Whether it is not known what the client has committed on the server: were it lost, so were that.
    pub fn is_unseen(&self) -> bool {
        self.is_unseen || self.look.is_some()
    }

    /// The server has been emptied by DISCARD ALL.
    pub fn settle(&mut self) {
        self.needs_reset = false;
        self.marks = Marks::NONE;
        self.lasting = Pins::NONE;
        self.sequences = Sequences::default();
        self.has_foreign_sequences = false;
        self.used_by = 0;
        self.unlisten = false;
        self.unnamed = None;
        self.bound = Vec::new();
        self.look = None;
        self.has_failed = false;
        self.ran_unknown = false;
        self.reading = None;
    }
}

/// Appends a simple query.
pub(super) fn write_query(out: &mut Vec<u8>, sql: &str) {
    let at = begin(out, b'Q');
    out.extend_from_slice(sql.as_bytes());
    out.push(0);
    end(out, at);
}
