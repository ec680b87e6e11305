//! The look at a server: the questions it is asked after a transaction in doubt, and what its answers mean.

use std::sync::Arc;

use super::{LARGEST, MOST, write_query};
use crate::protocol::channels::steps;
use crate::protocol::dialogue::Dialogue;
use crate::protocol::fields;
use crate::protocol::parameters::push_literal;
use crate::protocol::pins::Pins;
use crate::protocol::pipeline::Owed;
use crate::protocol::sides::Unnamed;
use crate::protocol::suspects::{CATALOG, Suspects};
use crate::protocol::traces::Marks;

/// What a look has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
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
        doubt.is_unseen = false;
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
    pub(in crate::protocol) fn look_row(&mut self, body: &[u8]) {
        let doubt = &mut self.server.doubt;
        if matches!(self.server.pipeline.front(), Some(Owed::Catalog)) {
            let row = fields::data_row(body).unwrap_or_default();
            let field = |at: usize| row.get(at).copied().flatten().unwrap_or(b"");
            if let Some((_, suspects)) = &mut doubt.reading {
                suspects.take([field(0), field(1), field(2)]);
            }
        } else if let Some(found) = &mut doubt.look {
            found.row(body, &doubt.user);
        }
    }

    /// A row that is too large to be read.
    pub(in crate::protocol) fn look_past(&mut self) {
        if let Some(found) = &mut self.server.doubt.look {
            found.pins |= Pins::UNREAD;
        }
    }

    /// The server could not answer.
    pub(in crate::protocol) fn look_failed(&mut self) {
        if matches!(self.server.pipeline.front(), Some(Owed::Catalog)) {
            // What cannot be read may be anything.
            if let Some((_, suspects)) = &mut self.server.doubt.reading {
                **suspects = Suspects::all();
            }
            return;
        }
        if let Some(found) = &mut self.server.doubt.look {
            found.has_failed = true;
        }
    }

    /// The catalog has been read.
    pub(in crate::protocol) fn catalog_read(&mut self) {
        if let Some((generation, suspects)) = self.server.doubt.reading.take() {
            let suspects = Arc::from(suspects);
            self.dictionary
                .know_suspects(generation, Arc::clone(&suspects));
            if std::mem::take(&mut self.server.doubt.ran_unknown) && !suspects.are_none() {
                self.note_run_of_any(&suspects);
            }
        }
    }

    /// The look is over.
    pub(in crate::protocol) fn looked(&mut self) {
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
    pub(in crate::protocol) fn listens_here(&self) -> bool {
        let doubt = &self.server.doubt;
        let is_asked = doubt
            .look
            .as_ref()
            .is_some_and(|look| look.marks.has(Marks::LISTENING));
        is_asked || doubt.marks.has(Marks::LISTENING) || self.client.keeps.pins.has(Pins::LISTENING)
    }
}
