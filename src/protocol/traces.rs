//! What a text may leave behind in its session.
//!
//! One pass over the bytes of a text, word by word. It decides nothing by itself: a [`Marks`] says only that the server must be
//! asked, when the transaction is over, what is really there. So the pass may see too much (words in strings and comments
//! count), but never too little, whatever the encoding: every place where a statement can begin follows a semicolon, and
//! every function that leaves something behind is called by its name.
//!
//! `traces/words.rs` finds words, `traces/arguments.rs` what a function is called with; `traces/marks.rs` is the set of marks.

mod arguments;
mod marks;
mod words;

#[cfg(test)]
mod tests;

use self::arguments::Arguments;
pub use self::marks::Marks;
use self::words::{
    Lower, after_comment, begins_word, contains, is, next_words, offset, offset_or_end, starts,
    word_at,
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
            marks: Marks::ANYTHING.and(Marks::ENDS).and(Marks::RESETS),
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
    let mut found = Traces::default();
    if text.len() > LARGEST_TEXT {
        return Traces::unknown();
    }
    let (mut at, mut is_start, mut makes) = (0, true, false);
    let (mut updates, mut names_settings) = (false, false);
    let mut first: &[u8] = b"";
    while at < text.len() {
        let byte = text[at];
        if begins_word(byte) {
            let word = word_at(text, at);
            let before = found.lasting;
            at += word.len();
            if is_start {
                first = word;
                is_start = false;
                begin(&mut found, word, &text[at..]);
            }
            meet(&mut found, first, word, &text[at..]);
            updates |= is(word, "update");
            names_settings |= is(word, "pg_settings");
            makes |= is(word, "create") || is(word, "alter") || is(word, "import");
            found.changes_code |= makes && is_code(word);
            if is(first, "create") {
                // What stands in it is the text of a function, which runs when it is called.
                found.lasting = before;
            }
        } else if byte == b';' {
            is_start = true;
            at += 1;
        } else if is_start && (byte == b'-' || byte == b'/') {
            at = after_comment(text, at);
        } else {
            at += 1;
        }
    }
    if updates && names_settings {
        // A rule of that view calls set_config.
        found.marks |= Marks::SETTINGS;
        refuse(&mut found, "UPDATE of pg_settings");
    }
    found
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
        b"create" => found.marks |= Marks::TEMPORARY,
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

fn set(found: &mut Traces, rest: &[u8]) {
    let [mut name, more] = next_words(rest);
    let mut rest = rest;
    if is(name, "session") && !is(more, "authorization") {
        // SET SESSION name, or SET SESSION CHARACTERISTICS.
        rest = &rest[offset(rest, name) + name.len()..];
        [name] = next_words(rest);
    }
    if ["local", "transaction", "constraints"]
        .iter()
        .any(|word| is(name, word))
    {
        return;
    }
    found.marks |= Marks::SETTINGS;
    refuse(found, "SET");
    custom(found, &rest[offset_or_end(rest, name)..]);
}

/// Notes the name at the beginning of `text`, if it has a dot. One that cannot be read is too much to be carried.
fn custom(found: &mut Traces, text: &[u8]) {
    let end = text
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'=' | b';' | b',' | b')'));
    name_custom(found, &text[..end.unwrap_or(text.len())]);
}

fn name_custom(found: &mut Traces, name: &[u8]) {
    let bare: Vec<u8> = name.iter().copied().filter(|byte| *byte != b'"').collect();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    if bare.is_empty() || !bare.iter().all(is_plain) {
        if name.contains(&b'.') || name.contains(&b'"') || name.contains(&b'$') {
            found.lasting |= Pins::UNREAD;
        }
        return;
    }
    if bare.contains(&b'.') {
        let bare = String::from_utf8(bare).unwrap_or_default();
        found.custom.push(bare.into());
    }
}

fn refuse(found: &mut Traces, what: &'static str) {
    if found.refused.is_none() {
        found.refused = Some(what);
    }
}

/// Some word of a statement that began with `first`.
fn meet(found: &mut Traces, first: &[u8], word: &[u8], rest: &[u8]) {
    // Most words are short or begin with a letter that matters to nobody.
    if word.len() < 4 && !(word.len() == 1 && rest.first() == Some(&b'&')) {
        return;
    }
    match word[0].to_ascii_lowercase() {
        b't' if is(word, "temp") || is(word, "temporary") => {
            found.marks |= Marks::TEMPORARY;
            if may_create(first) {
                refuse(found, "a temporary table");
            }
        }
        b'i' if is(word, "into") && may_create(first) => found.marks |= Marks::TEMPORARY,
        b'h' if is(word, "hold") => {
            found.marks |= Marks::CURSORS;
            if is(first, "declare") {
                refuse(found, "a cursor WITH HOLD");
            }
        }
        b'e' if is(word, "execute") => found.executes = true,
        b'u' if word.len() == 1 && rest.get(1) == Some(&b'"') => {
            // A name spelled in code points may be any name.
            found.marks |= Marks::ANYTHING.and(Marks::ENDS);
            found.sequences = Sequences {
                asks: true,
                moves: true,
                writes: true,
            };
        }
        b's' => meet_s(found, word, rest),
        b'n' if is(word, "nextval") => found.sequences.moves = true,
        b'c' | b'l' if is(word, "currval") || is(word, "lastval") => {
            found.sequences.asks = true;
            refuse(found, "currval");
        }
        b'p' => meet_p(found, word),
        b'd' if starts(word, "dblink_connect") => {
            found.lasting |= Pins::DBLINK;
            refuse(found, "dblink_connect");
        }
        _ => {}
    }
}

/// Whether `word` names something that runs, or is run by, functions.
fn is_code(word: &[u8]) -> bool {
    const CODE: [&str; 12] = [
        "function",
        "procedure",
        "routine",
        "trigger",
        "view",
        "rule",
        "policy",
        "operator",
        "cast",
        "aggregate",
        "extension",
        "default",
    ];
    CODE.iter().any(|code| is(word, code))
}

/// Whether a statement that begins so may make a table.
fn may_create(first: &[u8]) -> bool {
    let makers = ["create", "select", "with", "explain"];
    makers.iter().any(|maker| is(first, maker))
}

fn meet_s(found: &mut Traces, word: &[u8], rest: &[u8]) {
    if is(word, "set_config") {
        set_config(found, rest);
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

/// `set_config(name, value, is_local)`: only one whose third argument is plainly `true` leaves nothing behind.
fn set_config(found: &mut Traces, rest: &[u8]) {
    let mut arguments = Arguments::of(rest);
    let (name, _, local) = (arguments.next(), arguments.next(), arguments.next());
    let is_local = local
        .is_some_and(|local| is(local, "true") || is(local, "'true'") || is(local, "'t'"))
        && arguments.is_closed;
    if is_local {
        return;
    }
    found.marks |= Marks::SETTINGS;
    refuse(found, "set_config");
    match name {
        Some([b'\'', name @ .., b'\'']) => name_custom(found, name),
        // The name is not to be seen: it may be any.
        _ => found.lasting |= Pins::UNREAD,
    }
}
