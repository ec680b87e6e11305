//! Session state in transaction mode: noted when it may have been made, looked at when its transaction is over.
//!
//! A text only says what it *may* leave behind ([`Traces`]). What really is there nobody knows better than the server: a
//! transaction may have failed, a savepoint rolled back, a function set something unseen. So after a transaction that may have left
//! something the server is asked, once, behind the client's back; its answer is the truth. Settings, the role and the
//! statements of PREPARE are *carried*: they become part of the client's [`Parameters`], which every server it borrows is brought
//! to. Everything else *pins* the client to this server until a later look finds it gone.
//!
//! Must never happen: a server goes to another client while something on it is in doubt.

use std::sync::Arc;

use crate::config::value::{PoolMode, SessionState};
use crate::protocol::channels::{Channels, Step, steps};
use crate::protocol::dialogue::{Dialogue, Rules};
use crate::protocol::effects::{self, Effect, PinReason};
use crate::protocol::fields;
use crate::protocol::lexer::Strings;
use crate::protocol::parameters::{Parameters, push_literal};
use crate::protocol::pins::Pins;
use crate::protocol::pipeline::Owed;
use crate::protocol::prepared::{begin, end};
use crate::protocol::run::Run;
use crate::protocol::sides::Unnamed;
use crate::protocol::suspects::{CATALOG, Suspects};
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
    asks_sequences: bool,
    unread: Marks,
    /// The channels it listens on, once it has asked for one.
    pub channels: Option<Box<Channels>>,
    /// Channels it has just asked for.
    pub asked: Vec<Box<str>>,
}

impl Keeps {
    /// A client that has just logged in.
    pub fn new(startup: Arc<Parameters>) -> Self {
        Self {
            id: 0,
            startup,
            pins: Pins::NONE,
            lasting: Pins::NONE,
            custom: Vec::new(),
            executes: Marks::NONE,
            asks_sequences: false,
            unread: Marks::NONE,
            channels: None,
            asked: Vec::new(),
        }
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

/// What a look has found so far.
#[derive(Debug, Default)]
struct Found {
    marks: Marks,
    settings: Vec<(String, String)>,
    prepared: Vec<(String, Arc<str>)>,
    pins: Pins,
    bytes: usize,
    has_failed: bool,
}

impl Found {
    /// One row: a letter, a name, a value.
    fn row(&mut self, body: &[u8], user: &str) {
        let Some(values) = fields::data_row(body) else {
            self.has_failed = true;
            return;
        };
        self.bytes += body.len();
        if self.bytes > LARGEST || self.settings.len() + self.prepared.len() > MOST {
            self.pins |= Pins::UNREAD;
            return;
        }
        let text = |at: usize| -> Option<&[u8]> { values.get(at).copied().flatten() };
        let (name, value) = (text(1), text(2));
        let pair = || -> Option<(String, String)> {
            let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            Some((owned(name?)?, owned(value?)?))
        };
        match text(0) {
            Some(b"s" | b"c") if value.is_none() => {}
            Some(b"s" | b"c") => match pair() {
                Some((name, _)) if name.starts_with("transaction_") => {}
                Some(pair) => self.settings.push(pair),
                None => self.pins |= Pins::UNREAD,
            },
            Some(b"i") => match pair() {
                Some((role, session_user)) => {
                    if role != "none" {
                        self.settings.push(("role".into(), role));
                    }
                    if session_user != user {
                        self.settings
                            .push(("session_authorization".into(), session_user));
                    }
                }
                None => self.pins |= Pins::UNREAD,
            },
            Some(b"p") => match pair() {
                Some((name, text)) if is_one_prepare(&text) => {
                    self.prepared.push((name, text.into()));
                }
                Some(_) => self.pins |= Pins::PREPARE,
                None => self.pins |= Pins::UNREAD,
            },
            Some(b"l") => self.pins |= Pins::LOCKS,
            Some(b"h") => self.pins |= Pins::CURSORS,
            Some(b"t") => self.pins |= Pins::TEMPORARY,
            Some(b"n") => self.pins |= Pins::LISTENING,
            _ => self.has_failed = true,
        }
    }
}

/// Whether `text` is a PREPARE and nothing else, so that it may be sent again.
fn is_one_prepare(text: &str) -> bool {
    let word = text.trim_start().get(..7);
    word.is_some_and(|word| word.eq_ignore_ascii_case("prepare"))
        && steps(text.as_bytes()).len() == 1
}

/// What a server is told in the place of a text that is refused: it must fail, so that its transaction does.
pub(super) const REFUSED: &str = "refused by the pooler: session_state";

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
            PinReason::Setting => "set_config",
            PinReason::Sequence => "currval or lastval",
            PinReason::NextVal
            | PinReason::LargeObject
            | PinReason::Function
            | PinReason::Unknown => return None,
        },
        _ => return None,
    })
}

/// Settings and prepared statements are read together, for together they are what is carried.
const CARRIED: Marks = Marks::SETTINGS.and(Marks::PREPARED);

const SETTINGS: &str = "SELECT 's',name,setting FROM pg_catalog.pg_settings \
     WHERE source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text;\
     SELECT 'i',pg_catalog.current_setting('role'),session_user;\
     SELECT 'p',name,statement FROM pg_catalog.pg_prepared_statements WHERE from_sql;";
const LOCKS: &str = "SELECT 'l' FROM pg_catalog.pg_locks \
     WHERE locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text \
     AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1;";
const CURSORS: &str = "SELECT 'h' FROM pg_catalog.pg_cursors WHERE is_holdable LIMIT 1;";
/// Whatever stands in a schema depends on it, and by that it is found without reading all of the catalog.
const TEMPORARY: &str = "SELECT 't' FROM pg_catalog.pg_depend \
     WHERE refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid \
     AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1;";
const LISTENING: &str = "SELECT 'n' FROM pg_catalog.pg_listening_channels() LIMIT 1;";

/// The questions that `marks` ask for. All names are qualified: the client's search_path must not decide what is found.
fn questions(marks: Marks, custom: &[Box<str>]) -> String {
    let mut sql = String::new();
    if marks.has(CARRIED) {
        sql.push_str(SETTINGS);
        if !custom.is_empty() {
            sql.push_str(
                "SELECT 'c',n,pg_catalog.current_setting(n,true) FROM pg_catalog.unnest(ARRAY[",
            );
            for (index, name) in custom.iter().enumerate() {
                sql.push_str(if index == 0 { "" } else { "," });
                push_literal(&mut sql, name);
            }
            sql.push_str("]::pg_catalog.text[]) AS n;");
        }
    }
    for (mark, question) in [
        (Marks::LOCKS, LOCKS),
        (Marks::CURSORS, CURSORS),
        (Marks::TEMPORARY, TEMPORARY),
        (Marks::LISTENING, LISTENING),
    ] {
        if marks.has(mark) {
            sql.push_str(question);
        }
    }
    sql
}

/// The questions by which it is found that a pin is gone.
fn marks_of(pins: Pins) -> Marks {
    let mut marks = Marks::NONE;
    for (pin, mark) in [
        (Pins::TEMPORARY, Marks::TEMPORARY),
        (Pins::LOCKS, Marks::LOCKS),
        (Pins::CURSORS, Marks::CURSORS),
        (Pins::PREPARE, Marks::PREPARED),
        (Pins::UNREAD, Marks::SETTINGS),
        (Pins::LISTENING, Marks::LISTENING),
    ] {
        if pins.has(pin) {
            marks |= mark;
        }
    }
    marks
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
        match self.dictionary.suspects() {
            None => self.server.doubt.ran_unknown = true,
            Some(suspects) if suspects.may_run_in(text, traces.sequences.writes) => {
                self.note_run_of(&suspects);
            }
            Some(_) => {}
        }
    }

    /// One of `suspects` may have run.
    fn note_run_of(&mut self, suspects: &Suspects) {
        self.server.doubt.marks |= Marks::ANYTHING.and(Marks::ENDS);
        self.client.keeps.name_custom(&suspects.custom);
        if suspects.hides_names {
            self.client.keeps.lasting |= Pins::UNREAD;
            self.client.keeps.pins |= Pins::UNREAD;
        }
    }

    /// The client has its sequences forgotten.
    pub(super) fn note_no_sequences(&mut self) {
        let keeps = &mut self.client.keeps;
        keeps.lasting = keeps.lasting.without(Pins::SEQUENCES);
        keeps.pins = keeps.pins.without(Pins::SEQUENCES);
        self.server.doubt.sequences = Sequences::default();
        self.server.doubt.has_foreign_sequences = false;
    }

    /// Notes what a text does to channels: `None` where nobody has to know.
    pub(super) fn note_steps(&mut self, traces: &Traces, text: &[u8]) -> Vec<Step> {
        let is_open = |channels: &Channels| channels.is_open();
        let is_followed =
            traces.listens || self.client.keeps.channels.as_deref().is_some_and(is_open);
        if !self.rules.keeps() || !is_followed {
            return Vec::new();
        }
        let steps = steps(text);
        for step in &steps {
            if let Step::Listen(channel) = step {
                self.client.keeps.asked.push(channel.clone());
                self.client.keeps.channels.get_or_insert_default();
                self.server.doubt.unlisten = true;
            }
        }
        steps
    }

    /// The error that a text is refused with, where session state is.
    pub(super) fn refusal(&self, traces: &Traces, text: &[u8]) -> Option<Box<[u8]>> {
        traces.refused.filter(|_| self.rules.refuses())?;
        // A word may stand in a string: only what the text really does is refused.
        let effects = effects::of(text, Strings::Standard, &mut Vec::new());
        let what = effects.all().find_map(|(_, effect)| refused(effect))?;
        let mut out = Vec::new();
        let at = begin(&mut out, b'E');
        let message = format!("{what} is refused: it would outlive its transaction");
        let hint = format!(
            "session_state = \"refuse\" is set for this database or user of the pooler. Use \"keep\" to let {what} work, or pool_mode = \"session\"."
        );
        for (field, text) in [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "0A000"),
            (b'M', &message),
            (b'H', &hint),
        ] {
            out.push(field);
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        out.push(0);
        end(&mut out, at);
        Some(out.into())
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

    /// What the statement just bound does to channels is owed by the Execute that follows.
    pub(super) fn bind_steps(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.server.doubt.bound = steps;
        }
    }

    /// What the portal about to be executed does to channels.
    pub(super) fn take_bound(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.server.doubt.bound)
    }

    /// The next statement of the request at the front has succeeded.
    pub(super) fn step_succeeded(&mut self) {
        let Some(step) = self.server.pipeline.next_step() else {
            return;
        };
        let step = match step {
            // COMMIT of a transaction that has failed is answered by ROLLBACK.
            Step::Commit if self.server.status == b'E' => Step::Rollback,
            other => other,
        };
        if let Some(channels) = &mut self.client.keeps.channels {
            channels.succeeded(&step);
        }
    }

    /// A client asks for `currval`: what other clients' sequences left on the server must not be met.
    pub(super) fn forget_sequences(&mut self, traces: &Traces, run: &mut Run<'_>) {
        if traces.sequences.asks && self.rules.keeps() {
            let is_between =
                !self.server.batch_open && !self.server.copying && !self.server.skipping;
            if is_between && self.server.status != b'E' {
                self.discard_sequences(run.tail());
            }
        }
    }

    fn discard_sequences(&mut self, out: &mut Vec<u8>) {
        if self.server.doubt.has_foreign_sequences {
            self.server.doubt.has_foreign_sequences = false;
            write_query(out, "DISCARD SEQUENCES");
            self.server.pipeline.push(Owed::Aside);
        }
    }

    /// The client gets a server: what another one left there in sequences is forgotten, where that matters to anybody.
    pub(super) fn meet_server(&mut self, out: &mut Vec<u8>) {
        if !self.rules.keeps() {
            return;
        }
        let doubt = &mut self.server.doubt;
        doubt.marks = Marks::NONE;
        let id = self.client.keeps.id;
        if doubt.used_by != id {
            doubt.has_foreign_sequences = doubt.used_by != 0;
            doubt.used_by = id;
        }
        if self.dictionary.asks_sequences() {
            self.discard_sequences(out);
        }
    }

    /// A request of the client's is over; `status` is what ReadyForQuery said.
    pub(super) fn note_end(&mut self, status: u8) {
        let has_failed = std::mem::take(&mut self.server.doubt.has_failed);
        if status != b'I' || !self.rules.keeps() {
            return;
        }
        let (keeps, doubt) = (&mut self.client.keeps, &mut self.server.doubt);
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

    /// Whether the server, outside any transaction, must be asked what is left on it.
    pub fn wants_look(&self) -> bool {
        let (doubt, pins) = (&self.server.doubt, self.client.keeps.pins);
        let is_doubtful = doubt.marks.leaves()
            || doubt.unlisten
            || (doubt.marks.has(Marks::ENDS) && !marks_of(pins).is_empty())
            || doubt.ran_unknown
            || self.dictionary.wants_catalog();
        is_doubtful
            && self.rules.keeps()
            && self.client.walk.body == 0
            && self.server.status == b'I'
            && self.server.unnamed != Unnamed::Fresh
            && self.server.is_quiet()
    }

    /// Puts into `out` the questions of a look.
    pub fn write_look(&mut self, out: &mut Vec<u8>) {
        let (keeps, doubt) = (&mut self.client.keeps, &mut self.server.doubt);
        self.server.unnamed = Unnamed::Foreign;
        doubt.unnamed = None;
        if std::mem::take(&mut doubt.unlisten) {
            write_query(out, "UNLISTEN *");
            self.server.pipeline.push(Owed::Aside);
        }
        if doubt.ran_unknown || self.dictionary.wants_catalog() {
            // What it says decides what is to be looked at.
            doubt.reading = Some((self.dictionary.begin_reading(), Box::default()));
            write_query(out, CATALOG);
            self.server.pipeline.push(Owed::Catalog);
            return;
        }
        let mut marks = std::mem::take(&mut doubt.marks);
        if marks.has(Marks::ENDS) {
            marks |= marks_of(keeps.pins);
        }
        if keeps.lasting.has(Pins::UNREAD) {
            // It stays with its server, whatever is found.
            marks = marks.without(CARRIED);
        }
        let sql = questions(marks, &keeps.custom);
        if sql.is_empty() {
            return;
        }
        doubt.look = Some(Box::new(Found {
            marks,
            ..Found::default()
        }));
        write_query(out, &sql);
        self.server.pipeline.push(Owed::Look);
    }

    /// A row of a look's answer.
    pub(super) fn look_row(&mut self, body: &[u8]) {
        let doubt = &mut self.server.doubt;
        if matches!(self.server.pipeline.front(), Some(Owed::Catalog)) {
            let row = fields::data_row(body).unwrap_or_default();
            let field = |at: usize| row.get(at).copied().flatten().unwrap_or(b"");
            if let Some((_, suspects)) = &mut doubt.reading
                && !suspects.take(field(0), field(1))
            {
                suspects.anything = true;
            }
        } else if let Some(found) = &mut doubt.look {
            found.row(body, &doubt.user);
        }
    }

    /// A row that is too large to be read.
    pub(super) fn look_past(&mut self) {
        if let Some(found) = &mut self.server.doubt.look {
            found.pins |= Pins::UNREAD;
        }
    }

    /// The server could not answer.
    pub(super) fn look_failed(&mut self) {
        if matches!(self.server.pipeline.front(), Some(Owed::Catalog)) {
            // What cannot be read may be anything.
            if let Some((_, suspects)) = &mut self.server.doubt.reading {
                suspects.anything = true;
            }
            return;
        }
        if let Some(found) = &mut self.server.doubt.look {
            found.has_failed = true;
        }
    }

    /// The catalog has been read.
    pub(super) fn catalog_read(&mut self) {
        if let Some((generation, suspects)) = self.server.doubt.reading.take() {
            let suspects = Arc::from(suspects);
            self.dictionary
                .know_suspects(generation, Arc::clone(&suspects));
            if std::mem::take(&mut self.server.doubt.ran_unknown) && !suspects.are_none() {
                self.note_run_of(&suspects);
            }
        }
    }

    /// The look is over.
    pub(super) fn looked(&mut self) {
        let Some(found) = self.server.doubt.look.take() else {
            return;
        };
        let keeps = &mut self.client.keeps;
        let marks = found.marks;
        if found.has_failed {
            // The client keeps its server, and the next transaction is followed by the same look.
            keeps.unread |= marks.and(Marks::ENDS);
            keeps.pins |= Pins::UNREAD;
            return;
        }
        if found.pins.has(Pins::UNREAD) {
            keeps.lasting |= Pins::UNREAD;
        }
        let mut asked = Pins::NONE;
        for pin in [
            Pins::TEMPORARY,
            Pins::LOCKS,
            Pins::CURSORS,
            Pins::PREPARE,
            Pins::LISTENING,
            Pins::UNREAD,
        ] {
            if marks.has(marks_of(pin)) {
                asked |= pin;
            }
        }
        keeps.pins = keeps.pins.without(asked) | found.pins | keeps.lasting;
        if !marks.has(CARRIED) || found.pins.has(Pins::UNREAD) {
            return;
        }
        let reported = &self.server.base;
        let seen = self.interner.seen(
            &self.server.params,
            reported,
            found.settings,
            found.prepared,
        );
        self.server.params = Arc::clone(&seen);
        self.client.params = if marks.has(Marks::RESETS) {
            self.interner
                .reset(&seen, reported, &self.client.keeps.startup)
        } else {
            seen
        };
    }

    /// Whether notifications of this very server are for its client.
    pub(super) fn listens_here(&self) -> bool {
        let doubt = &self.server.doubt;
        let is_asked = doubt
            .look
            .as_ref()
            .is_some_and(|look| look.marks.has(Marks::LISTENING));
        is_asked || doubt.marks.has(Marks::LISTENING) || self.client.keeps.pins.has(Pins::LISTENING)
    }

    /// Whether something ties the client to its server, or may do so.
    pub fn is_tied(&self) -> bool {
        let doubt = &self.server.doubt;
        let may_be =
            doubt.marks.leaves() || doubt.unlisten || doubt.ran_unknown || doubt.look.is_some();
        self.rules.keeps() && (may_be || !self.client.keeps.pins.is_empty())
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
