//! What a text may leave behind in its session.
//!
//! One pass over the bytes of a text, word by word. It decides nothing by itself: a [`Marks`] says only that the server must be
//! asked, when the transaction is over, what is really there. So the pass may see too much (words in strings and comments
//! count), but never too little, whatever the encoding: every place where a statement can begin follows a semicolon, and
//! every function that leaves something behind is called by its name.

use std::ops::BitOrAssign;

use crate::protocol::pins::Pins;

/// Texts above this size are not looked at: they may leave anything behind.
pub const LARGEST_TEXT: usize = 64 << 10;

/// What the server must be asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Settings, the role, the session's user.
    pub const SETTINGS: Self = Self(1);
    /// Statements of SQL's PREPARE.
    pub const PREPARED: Self = Self(1 << 1);
    /// Advisory locks of the session.
    pub const LOCKS: Self = Self(1 << 2);
    /// Cursors that outlive their transaction.
    pub const CURSORS: Self = Self(1 << 3);
    /// Temporary objects.
    pub const TEMPORARY: Self = Self(1 << 4);
    /// Channels.
    pub const LISTENING: Self = Self(1 << 5);
    /// Something may be gone: a pinned client is looked at again.
    pub const ENDS: Self = Self(1 << 6);
    /// What the startup packet set comes back by RESET and DISCARD.
    pub const RESETS: Self = Self(1 << 7);
    /// Whatever code may do.
    pub const ANYTHING: Self = Self(0x3f);

    /// Whether nothing is marked.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `other` is marked.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether something may have been left behind.
    pub const fn leaves(self) -> bool {
        self.has(Self::ANYTHING)
    }
}

impl BitOrAssign for Marks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

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
    found
}

const fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn word_at(text: &[u8], at: usize) -> &[u8] {
    let rest = &text[at..];
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte != b'$');
    &rest[..end.unwrap_or(rest.len())]
}

/// Behind the comment at `at`, or behind one byte where there is none.
fn after_comment(text: &[u8], at: usize) -> usize {
    match &text[at..] {
        [b'-', b'-', rest @ ..] => rest
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(text.len(), |end| at + 2 + end),
        [b'/', b'*', rest @ ..] => {
            let (mut depth, mut index) = (1, 0);
            while depth > 0 && index < rest.len() {
                match &rest[index..] {
                    [b'/', b'*', ..] => (depth, index) = (depth + 1, index + 2),
                    [b'*', b'/', ..] => (depth, index) = (depth - 1, index + 2),
                    _ => index += 1,
                }
            }
            at + 2 + index
        }
        _ => at + 1,
    }
}

fn is(word: &[u8], other: &str) -> bool {
    word.eq_ignore_ascii_case(other.as_bytes())
}

/// The words that follow, without comments, as many as there are up to a quote or a sign.
fn next_words<const N: usize>(rest: &[u8]) -> [&[u8]; N] {
    let mut words: [&[u8]; N] = [b""; N];
    let mut at = 0;
    for word in &mut words {
        while let Some(byte) = rest.get(at) {
            if byte.is_ascii_whitespace() {
                at += 1;
            } else if matches!(rest[at..], [b'-', b'-', ..] | [b'/', b'*', ..]) {
                at = after_comment(rest, at);
            } else {
                break;
            }
        }
        if !rest.get(at).copied().is_some_and(begins_word) {
            break;
        }
        *word = word_at(rest, at);
        at += word.len();
    }
    words
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

fn offset(text: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn offset_or_end(text: &[u8], part: &[u8]) -> usize {
    if part.is_empty() {
        // Perhaps a quoted name.
        text.iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .unwrap_or(text.len())
    } else {
        offset(text, part)
    }
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

fn starts(word: &[u8], prefix: &str) -> bool {
    word.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn contains(word: &[u8], part: &str) -> bool {
    word.windows(part.len())
        .any(|piece| piece.eq_ignore_ascii_case(part.as_bytes()))
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

/// The arguments of a call, as far as they are plain ASCII.
struct Arguments<'a> {
    rest: &'a [u8],
    is_closed: bool,
}

impl<'a> Arguments<'a> {
    fn of(text: &'a [u8]) -> Self {
        let open = text.iter().position(|byte| !byte.is_ascii_whitespace());
        let rest = match open {
            Some(at) if text[at] == b'(' => &text[at + 1..],
            _ => &text[..0],
        };
        Self {
            rest,
            is_closed: false,
        }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (mut depth, mut is_quoted) = (0_usize, false);
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                _ if !byte.is_ascii() || *byte == b'\\' => return None,
                b'\'' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                b'-' | b'/' | b'"' | b';' => return None,
                b'(' | b'[' => depth += 1,
                b')' | b']' if depth > 0 => depth -= 1,
                b',' | b')' if depth == 0 => {
                    let argument = self.rest[..at].trim_ascii();
                    self.rest = &self.rest[at + 1..];
                    self.is_closed = *byte == b')';
                    return Some(argument);
                }
                _ => {}
            }
        }
        None
    }
}

/// A short word in small letters, without an allocation.
trait Lower {
    fn to_ascii_lowercase_short(&self) -> Short;
}

/// The first bytes of a word.
struct Short([u8; 12], usize);

impl Short {
    fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Lower for [u8] {
    fn to_ascii_lowercase_short(&self) -> Short {
        let mut short = [0; 12];
        let length = self.len().min(12);
        short[..length].copy_from_slice(&self[..length]);
        short.make_ascii_lowercase();
        // A longer word is none of those that matter.
        Short(short, if self.len() > 12 { 0 } else { length })
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST_TEXT, Marks, traces};
    use crate::protocol::pins::Pins;

    fn marks(text: &str) -> Marks {
        traces(text.as_bytes()).marks
    }

    #[test]
    fn everyday_texts_leave_nothing() {
        for text in [
            "select 1",
            "SELECT * FROM orders WHERE id = $1 FOR UPDATE SKIP LOCKED",
            "UPDATE t SET a = 1 WHERE set = 2",
            "begin",
            "begin; set local work_mem = '1MB'; commit",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "select set_config('app.user', $1, true)",
            "select set_config('app.user', 'it''s', TRUE), 1",
            "select pg_advisory_xact_lock(1)",
            "prepare transaction 'x'",
            "declare c cursor for select 1",
            "notify jobs, 'x'",
            "",
        ] {
            assert_eq!(marks(text), Marks::NONE, "{text}");
            assert!(traces(text.as_bytes()).lasting.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_leaves_something_is_asked_about() {
        for (text, mark) in [
            ("set work_mem = '1MB'", Marks::SETTINGS),
            ("/* a /* b */ */ -- c\n SeT x.y = 1", Marks::SETTINGS),
            ("select 1; set role app", Marks::SETTINGS),
            ("set session authorization app", Marks::SETTINGS),
            (
                "set session characteristics as transaction read only",
                Marks::SETTINGS,
            ),
            ("reset all", Marks::SETTINGS),
            ("select set_config('a.b', 'c', false)", Marks::SETTINGS),
            ("select set_config('a.b', 'c', $1)", Marks::SETTINGS),
            (
                "select set_config('a.b', ', true)', false)",
                Marks::SETTINGS,
            ),
            ("prepare p as select 1", Marks::PREPARED),
            ("create table t as select 1", Marks::TEMPORARY),
            ("select 1 into temp t", Marks::TEMPORARY),
            ("SELECT Pg_Try_Advisory_Lock(1)", Marks::LOCKS),
            ("declare c cursor with hold for select 1", Marks::CURSORS),
            ("do $$begin end$$", Marks::LOCKS),
            ("select U&\"pg_\\0061dvisory_lock\"(1)", Marks::LOCKS),
        ] {
            assert!(marks(text).has(mark), "{text}");
        }
        assert!(marks(&"x".repeat(LARGEST_TEXT + 1)).has(Marks::SETTINGS));
    }

    #[test]
    fn names_with_a_dot_are_noted() {
        for text in [
            "set app.user to 'x'",
            "SET SESSION \"app\".user = 1",
            "select set_config('app.user', 'x', false)",
        ] {
            assert_eq!(
                *traces(text.as_bytes()).custom,
                ["app.user".into()],
                "{text}"
            );
        }
        assert!(traces(b"set work_mem = '1MB'").custom.is_empty());
        assert_eq!(
            traces(b"select set_config($1, $2, false)").lasting,
            Pins::UNREAD
        );
    }

    #[test]
    fn what_cannot_be_looked_for_lasts() {
        assert_eq!(traces(b"load 'auto_explain'").lasting, Pins::LOADED);
        assert_eq!(traces(b"select setseed(0.5)").lasting, Pins::SEED);
        assert!(
            traces(b"create function f() returns void as 'select setseed(1)' language sql")
                .lasting
                .is_empty()
        );
    }
}
