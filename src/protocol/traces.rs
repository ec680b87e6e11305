//! What a text may leave behind in its session.
//!
//! One pass over the bytes of a text, word by word. It decides nothing by itself: a [`Marks`] says only that the server must be
//! asked, when the transaction is over, what is really there. So the pass may see too much (words in strings and comments
//! count), but never too little, whatever the encoding: every place where a statement can begin follows a semicolon, and
//! every function that leaves something behind is called by its name.
//!
//! `traces/words.rs` finds words, `traces/code.rs` those that change code, `traces/arguments.rs` what a function is called with,
//! `traces/settings.rs` the names of settings; `traces/marks.rs` is the set of marks, `traces/harmless.rs` spares reading the same
//! text twice.

mod arguments;
mod code;
mod harmless;
mod marks;
mod settings;
mod words;

#[cfg(test)]
mod tests;

pub use self::code::may_change_code;
use self::code::{is_code, is_maker, makes_kind};
pub use self::harmless::Harmless;
pub use self::marks::Marks;
use self::settings::{set, set_config};
use self::words::{
    Lower, after_comment, begins_word, contains, is, is_comment, may_matter, next_that_says,
    next_words, starts, word_at,
};
use crate::protocol::pins::Pins;

/// Texts above this size are not looked at: they may leave anything behind.
pub const LARGEST_TEXT: usize = 64 << 10;

/// What a text does with sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sequences {
    /// It asks for `currval` or `lastval`.
    pub asks: bool,
    /// It names `nextval` or `setval`.
    pub moves: bool,
    /// It writes, and so may call `nextval` unseen.
    pub writes: bool,
}

/// What a text may leave behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// What to ask the server about.
    pub marks: Marks,
    /// What will be there for sure, where it runs.
    pub lasting: Pins,
    /// What it does with sequences.
    pub sequences: Sequences,
    /// LISTEN or UNLISTEN stands in it.
    pub listens: bool,
    /// It may make or change functions, triggers, views.
    pub changes_code: bool,
    /// It runs statements of SQL's PREPARE.
    pub executes: bool,
    /// What may have to be refused, where session state is.
    pub refused: Option<&'static str>,
    /// Settings with a dot in their name, of which the server's list says nothing.
    pub custom: Vec<Box<str>>,
}

impl Traces {
    /// What a text that was not looked at may leave behind.
    pub fn unknown() -> Self {
        Self {
            marks: Marks::ANYTHING
                .and(Marks::ENDS)
                .and(Marks::RESETS)
                .and(Marks::HIDDEN),
            sequences: Sequences {
                writes: true,
                ..Sequences::default()
            },
            changes_code: true,
            ..Self::default()
        }
    }

    /// Whether there is nothing to note at all.
    pub fn is_nothing(&self) -> bool {
        self.marks.is_empty()
            && self.lasting.is_empty()
            && self.sequences == Sequences::default()
            && !self.executes
            && !self.changes_code
            && !self.listens
    }
}

/// What `text` may leave behind.
pub fn traces(text: &[u8]) -> Traces {
    let mut scan = Scan::default();
    if text.len() > LARGEST_TEXT {
        return Traces::unknown();
    }
    let (mut at, mut is_start, mut starts) = (0, true, Starts::default());
    while let Some(found) = next_that_says(text, at) {
        at = found;
        if at >= starts.first {
            starts.pass(at);
            is_start = true;
        }
        let byte = text[at];
        if begins_word(byte) {
            let word = word_at(text, at);
            at += word.len();
            scan.word(word, &text[at..], std::mem::take(&mut is_start));
        } else if byte == b';' {
            is_start = true;
            at += 1;
        } else if is_start && is_comment(text, at) {
            // Unless all this stands in a string, hence what is in the comment is looked at, too.
            if !starts.add(after_comment(text, at)) {
                return Traces::unknown();
            }
            is_start = false;
            at += 2;
        } else {
            at += 1;
        }
    }
    scan.end()
}

/// Where a statement may begin behind a comment.
struct Starts {
    known: [usize; 4],
    first: usize,
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            known: [usize::MAX; 4],
            first: usize::MAX,
        }
    }
}

impl Starts {
    /// False when there are too many.
    fn add(&mut self, at: usize) -> bool {
        let free = self.known.iter_mut().find(|known| **known == usize::MAX);
        let is_added = free.map(|free| *free = at).is_some();
        self.first = self.first.min(at);
        is_added
    }

    /// Forgets those that are at `at`, or were passed.
    fn pass(&mut self, at: usize) {
        for known in &mut self.known {
            if *known <= at {
                *known = usize::MAX;
            }
        }
        self.first = self.known.into_iter().min().unwrap_or(usize::MAX);
    }
}

/// What has been seen of a text. Whether a statement really begins where one may begin is not known, so what one beginning
/// allows no later one forbids.
#[derive(Default)]
struct Scan {
    found: Traces,
    statements: usize,
    /// It is the text of a function, which runs when it is called.
    defines: bool,
    makes_code: bool,
    /// A statement may make a table.
    makes: bool,
    /// A statement is DO.
    does: bool,
    /// What a statement would write it only explains or prepares.
    explains: bool,
    updates: bool,
    names_settings: bool,
}

impl Scan {
    fn word(&mut self, word: &[u8], rest: &[u8], is_start: bool) {
        if is_start && is(word, "select") {
            // What most texts begin with says nothing else.
            (self.defines, self.makes) = (false, true);
            self.statements += 1;
            return;
        }
        if is_start {
            self.begin(word, rest);
        } else if !(may_matter(word) || self.does || self.explains || self.makes_code) {
            return;
        }
        let lasting = self.found.lasting;
        self.meet(word, rest);
        if self.defines {
            self.found.lasting = lasting;
        }
        self.found.changes_code |= self.makes_code && is_code(word);
        if is_maker(word) {
            self.makes_code = true;
            self.found.changes_code |= makes_kind(word, rest);
        }
    }

    /// A statement begins with `word`, or may.
    fn begin(&mut self, word: &[u8], rest: &[u8]) {
        begin(&mut self.found, word, rest);
        self.statements += 1;
        self.defines = self.statements == 1 && is(word, "create") && defines_function(rest);
        self.makes |= may_create(word);
        self.does |= is(word, "do");
        self.explains |= is(word, "explain") || is(word, "prepare");
    }

    fn end(self) -> Traces {
        let mut found = self.found;
        if self.updates && self.names_settings {
            // A rule of that view calls set_config.
            found.marks |= Marks::SETTINGS;
            refuse(&mut found, "UPDATE of pg_settings");
        }
        found
    }
}

/// Whether `rest` of a CREATE makes a function.
fn defines_function(rest: &[u8]) -> bool {
    let [mut word, _, third] = next_words(rest);
    if is(word, "or") {
        word = third;
    }
    is(word, "function") || is(word, "procedure")
}

/// A statement begins with `word`.
fn begin(found: &mut Traces, word: &[u8], rest: &[u8]) {
    let lower = word.to_ascii_lowercase_short();
    match lower.as_slice() {
        b"set" => set(found, rest),
        b"reset" => {
            found.marks |= Marks::SETTINGS.and(Marks::RESETS);
        }
        b"discard" => {
            found.marks |= Marks::ANYTHING.and(Marks::ENDS).and(Marks::RESETS);
        }
        b"prepare" if !is(next_words::<1>(rest)[0], "transaction") => {
            found.marks |= Marks::PREPARED;
            refuse(found, "PREPARE");
        }
        b"deallocate" => found.marks |= Marks::PREPARED,
        b"drop" | b"close" | b"alter" => found.marks |= Marks::ENDS,
        b"load" => {
            found.lasting |= Pins::LOADED;
            refuse(found, "LOAD");
        }
        b"do" | b"call" => {
            found.marks |= Marks::ANYTHING.and(Marks::ENDS);
            found.sequences.writes = true;
        }
        b"listen" | b"unlisten" => {
            found.listens = true;
            if lower.as_slice() == b"listen" {
                refuse(found, "LISTEN");
            }
        }
        b"insert" | b"merge" | b"copy" | b"update" | b"with" | b"delete" | b"truncate" => {
            found.sequences.writes = true
        }
        _ => {}
    }
}

fn refuse(found: &mut Traces, what: &'static str) {
    if found.refused.is_none() {
        found.refused = Some(what);
    }
}

impl Scan {
    /// Some word of a statement.
    fn meet(&mut self, word: &[u8], rest: &[u8]) {
        // Most words are short or begin with a letter that matters to nobody.
        if word.len() < 4 && !(word.len() == 1 && rest.first() == Some(&b'&')) && !self.does {
            return;
        }
        let found = &mut self.found;
        match word[0].to_ascii_lowercase() {
            b't' if is(word, "temp") || is(word, "temporary") => {
                found.marks |= Marks::TEMPORARY;
                if self.makes {
                    refuse(found, "a temporary table");
                }
            }
            b'i' if is(word, "into") && self.makes => found.marks |= Marks::TEMPORARY,
            // The search path may begin with what is temporary.
            b'c' if is(word, "create") => found.marks |= Marks::TEMPORARY,
            b'h' if is(word, "hold") => {
                found.marks |= Marks::CURSORS;
                refuse(found, "a cursor WITH HOLD");
            }
            b'e' if is(word, "execute") => {
                found.executes = true;
                if self.does {
                    found.marks |= Marks::HIDDEN;
                }
            }
            b'u' if word.len() == 1 && rest.get(1) == Some(&b'"') => {
                // A name spelled in code points may be any name.
                found.marks |= Marks::ANYTHING.and(Marks::ENDS);
                found.sequences = Sequences {
                    asks: true,
                    moves: true,
                    writes: true,
                };
            }
            b's' if self.does && is(word, "set") => set(found, rest),
            b's' => meet_s(found, word, rest),
            b'n' if is(word, "nextval") => found.sequences.moves = true,
            b'c' | b'l' if is(word, "currval") || is(word, "lastval") => {
                found.sequences.asks = true;
                refuse(found, "currval");
            }
            b'd' if starts(word, "dblink_connect") => {
                found.lasting |= Pins::DBLINK;
                refuse(found, "dblink_connect");
            }
            b'p' if is(word, "pg_settings") => self.names_settings = true,
            b'p' => meet_p(found, word),
            b'q' | b't' | b'd' | b'c' if runs_texts(word) => {
                found.marks |= Marks::ANYTHING.and(Marks::ENDS).and(Marks::HIDDEN);
            }
            b'u' if is(word, "update") => self.updates = true,
            _ => {}
        }
        found_writes(self, word);
    }
}

/// EXPLAIN ANALYZE runs what it explains, EXECUTE what was prepared.
fn found_writes(scan: &mut Scan, word: &[u8]) {
    const WRITES: [&str; 6] = ["insert", "update", "delete", "merge", "with", "execute"];
    if scan.explains && WRITES.iter().any(|writes| is(word, writes)) {
        scan.found.sequences.writes = true;
    }
}

/// Whether a function of this name runs a text, or any view, that it is given.
fn runs_texts(word: &[u8]) -> bool {
    contains(word, "_to_xml") || is(word, "ts_stat") || is(word, "ts_rewrite")
}

/// Whether a statement that begins so may make a table.
fn may_create(first: &[u8]) -> bool {
    let makers = ["create", "select", "with", "explain"];
    makers.iter().any(|maker| is(first, maker))
}

fn meet_s(found: &mut Traces, word: &[u8], rest: &[u8]) {
    if is(word, "set_config") {
        set_config(found, rest);
    } else if is(word, "set_limit") {
        // Of pg_trgm: it sets without saying so.
        found.marks |= Marks::SETTINGS;
    } else if runs_texts(word) {
        found.marks |= Marks::ANYTHING.and(Marks::ENDS).and(Marks::HIDDEN);
    } else if is(word, "setval") {
        found.sequences.moves = true;
    } else if is(word, "setseed") {
        found.lasting |= Pins::SEED;
        refuse(found, "setseed");
    }
}

fn meet_p(found: &mut Traces, word: &[u8]) {
    if !starts(word, "pg_") {
        return;
    }
    if starts(word, "pg_temp") {
        found.marks |= Marks::TEMPORARY;
    } else if contains(word, "advisory") && !contains(word, "xact") {
        found.marks |= Marks::LOCKS.and(Marks::ENDS);
        if !contains(word, "unlock") {
            refuse(found, "a session advisory lock");
        }
    } else if starts(word, "pg_replication_origin_session") || contains(word, "replication_slot") {
        if !is(word, "pg_replication_slots") && !is(word, "pg_get_replication_slots") {
            found.lasting |= Pins::ORIGIN;
        }
    } else if is(word, "pg_backup_start") || is(word, "pg_start_backup") {
        found.lasting |= Pins::BACKUP;
    }
}
