//! SQL in, facts out: what a text asks for, what it does to the session, and where it wants to go.
//!
//! The first word of a statement settles most. Only a query is scanned for what it names; see `routing/scan` and
//! `routing/judge`. All of it is done once per distinct text; `routing/cache` keeps the answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Moment;
use crate::protocol::effects::{self, Effect, Effects, Modes, PinReason, names::explained};
use crate::protocol::lexer::{self, Kind, Strings, Token, Unread};
use crate::protocol::sql::{Statement, statements};
use crate::routing::intent::{Hint, Intent, Why};
use crate::routing::judge::{Judge, Judgement, is_node_local_setting, text};
use crate::routing::normal::{Quotes, tells_moment};
use crate::routing::scan::{self, Findings};
use crate::routing::second;

/// How the server that gets a text reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Reading {
    /// What a backslash in a string means.
    pub strings: Strings,
    /// The client's encoding has characters of which one byte looks like ASCII (SJIS, BIG5, GBK, GB18030, UHC, JOHAB): words cannot be
    /// told before the server has converted the text.
    pub is_ambiguous: bool,
}

impl Reading {
    /// Reads the values of `standard_conforming_strings` and `client_encoding`, as the server reports them.
    pub fn of(standard_conforming_strings: &[u8], client_encoding: &[u8]) -> Self {
        let strings = if standard_conforming_strings.eq_ignore_ascii_case(b"off") {
            Strings::Backslash
        } else {
            Strings::Standard
        };
        let encoding = client_encoding.to_ascii_uppercase();
        let is_ambiguous = matches!(
            &*encoding,
            b"SJIS" | b"BIG5" | b"GBK" | b"GB18030" | b"UHC" | b"JOHAB" | b"SHIFT_JIS_2004"
        );
        Self {
            strings,
            is_ambiguous,
        }
    }
}

/// What is known of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The strictest intent of its statements.
    pub intent: Intent,
    /// The rule that decided it.
    pub why: Why,
    /// What it does to the session.
    pub effects: Effects,
    /// It tells what is the same for a whole transaction: when it began, its snapshot.
    pub tells_of_transaction: bool,
    /// Where a comment in it asks to go.
    pub hint: Option<Hint>,
    /// Whether a replica has refused it.
    pub offence: Offence,
}

/// Until when a text goes to the primary because a replica could not serve it.
#[derive(Debug, Default)]
pub struct Offence(AtomicU64);

impl Offence {
    /// A replica could not serve it: to the primary, until then.
    pub fn note(&self, until: Moment) {
        self.0.fetch_max(until.as_micros(), Relaxed);
    }

    /// Whether it is not over.
    pub fn is_on(&self, now: Moment) -> bool {
        self.0.load(Relaxed) > now.as_micros()
    }
}

impl Clone for Offence {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Relaxed)))
    }
}

impl PartialEq for Offence {
    /// It is a memory, not what a text asks for.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Offence {}

impl Facts {
    /// Of a text that could not be read.
    pub fn unknown(reason: &'static str) -> Self {
        Self {
            intent: Intent::Unknown,
            why: Why::Unreadable(reason),
            effects: Effects::unknown(),
            tells_of_transaction: false,
            hint: None,
            offence: Offence::default(),
        }
    }

    /// What BEGIN says of the transaction that the text's first statement opens.
    pub fn opens(&self) -> Option<Modes> {
        match self.effects.of(0).next() {
            Some(Effect::Begin(modes)) => Some(*modes),
            Some(_) | None => None,
        }
    }

    /// Bytes of memory behind this value, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.effects.weight() + 64
    }
}

/// Reads `text`. `tokens` is scratch room.
pub fn classify(
    text: &[u8],
    reading: Reading,
    judge: &Judge<'_>,
    tokens: &mut Vec<Token>,
) -> Facts {
    if reading.is_ambiguous && !text.is_ascii() {
        return Facts::unknown(
            "the client's encoding hides words from whoever does not convert it",
        );
    }
    let read = lexer::cut(text, reading.strings, tokens);
    classify_tokens(text, reading, judge, tokens, read)
}

/// As [`classify`], for a text cut already.
pub fn classify_tokens(
    text: &[u8],
    reading: Reading,
    judge: &Judge<'_>,
    tokens: &[Token],
    read: Result<(), Unread>,
) -> Facts {
    let mut effects = effects::of_tokens(text, tokens, read);
    let hint = hint(text, tokens);
    if let Err(unread) = read {
        let mut facts = Facts::unknown(match unread {
            Unread::Malformed => {
                "it is no SQL: a quote or comment does not end, or a byte begins no word"
            }
            Unread::TooLong => "it is too long to be read",
        });
        facts.hint = hint;
        return facts;
    }
    let mut worst: Option<Judgement> = None;
    for (number, statement) in (0u32..).zip(statements(text, tokens)) {
        let (judgement, touches) = one(statement, judge);
        if touches && effects.statements().is_some() {
            effects = effects.and_pins(number, PinReason::Function);
        }
        if worst.as_ref().is_none_or(|worst| judgement.0 > worst.0) {
            worst = Some(judgement);
        }
    }
    let (mut intent, mut why) = worst.unwrap_or((Intent::Read, Why::Empty));
    if intent < Intent::Unknown && reading.strings == Strings::Backslash {
        // Every other rule of the lexer stays the same, but functions and views of the server read with its own setting.
        intent = intent.max(Intent::Write);
        why = Why::Unreadable("standard_conforming_strings is off");
    }
    Facts {
        intent,
        why,
        effects,
        tells_of_transaction: tells_of_transaction(text, tokens),
        hint,
        offence: Offence::default(),
    }
}

/// Words that mean the same moment, or the same snapshot, throughout a transaction.
const OF_TRANSACTION: &[&str] = &[
    "now",
    "transaction_timestamp",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "pg_export_snapshot",
    "pg_current_snapshot",
    "txid_current_snapshot",
];

fn tells_of_transaction(text: &[u8], tokens: &[Token]) -> bool {
    let is_known = |word: &[u8]| {
        let mut known = OF_TRANSACTION.iter();
        known.any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    tokens.iter().any(|token| match token.kind {
        Kind::Text | Kind::EscapeText | Kind::UnicodeText | Kind::DollarText => {
            tells_moment(token.of(text))
        }
        Kind::Word | Kind::Quoted => is_known(token.of(text).trim_ascii_quotes()),
        _ => false,
    })
}

/// Judges one statement; and whether a function or trigger of it may touch the session unseen.
fn one(statement: Statement<'_>, judge: &Judge<'_>) -> (Judgement, bool) {
    let word = statement.tokens[0].of(statement.text).to_ascii_lowercase();
    match &*word {
        b"select" | b"values" | b"with" | b"table" | b"(" => query(statement, judge),
        b"insert" | b"update" | b"delete" | b"merge" => modifying(&word, statement, judge),
        b"explain" => explain(statement, judge),
        b"copy" => copy(statement, judge),
        b"show" => (show(statement), false),
        b"declare" => (kind(Intent::Session, &word), false),
        b"set" | b"reset" | b"discard" | b"listen" | b"unlisten" | b"prepare" | b"execute"
        | b"deallocate" | b"fetch" | b"move" | b"close" | b"load" | b"begin" | b"start"
        | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint" | b"release" => {
            // EXECUTE's arguments are expressions; what it executes was judged when it was prepared.
            (session(&word, statement), false)
        }
        b"create" => {
            let touches = statement.tokens.len() < 65_536
                && (0..statement.tokens.len()).any(|at| statement.is(at, "as"))
                && statement.is_any(
                    1,
                    &["table", "temp", "temporary", "materialized", "unlogged"],
                )
                && judge.may_touch_session(&scan::scan(statement, 1));
            (kind(Intent::Write, &word), touches)
        }
        b"alter" | b"analyze" | b"analyse" | b"call" | b"checkpoint" | b"cluster" | b"comment"
        | b"do" | b"drop" | b"grant" | b"import" | b"lock" | b"notify" | b"reassign"
        | b"refresh" | b"reindex" | b"revoke" | b"security" | b"truncate" | b"vacuum"
        | b"repack" | b"wait" => (kind(Intent::Write, &word), false),
        _ => (
            (
                Intent::Unknown,
                Why::Unreadable("it begins with no word that begins a statement"),
            ),
            false,
        ),
    }
}

fn kind(intent: Intent, word: &[u8]) -> Judgement {
    (intent, Why::Kind(text(word).to_uppercase().into()))
}

/// Two-phase commands write; the others are the session's.
fn session(word: &[u8], statement: Statement<'_>) -> Judgement {
    let is_two_phase = statement.is(1, "prepared")
        || (statement.is(0, "prepare") && statement.is(1, "transaction") && !statement.is(2, "as"));
    let intent = if is_two_phase {
        Intent::Write
    } else {
        Intent::Session
    };
    kind(intent, word)
}

fn query(statement: Statement<'_>, judge: &Judge<'_>) -> (Judgement, bool) {
    let found = scan::scan(statement, 0);
    let touches =
        judge.may_touch_session(&found) || (found.modifies.is_some() && fires(&found, judge));
    let judgement = judge.all(&found);
    if judgement.0 == Intent::Read
        && let Some(objection) = second::objection(statement.slice(0, statement.tokens.len()))
    {
        return ((Intent::Write, Why::Disagreement(objection)), touches);
    }
    (judgement, touches)
}

/// Whether a table that is named has triggers that touch the session.
fn fires(found: &Findings, judge: &Judge<'_>) -> bool {
    let triggers = &judge.catalog.triggers;
    !triggers.is_empty()
        && (found
            .names
            .iter()
            .any(|mention| triggers.contains_key(&mention.name))
            || found
                .calls
                .iter()
                .any(|call| triggers.contains_key(&call.name)))
}

fn modifying(word: &[u8], statement: Statement<'_>, judge: &Judge<'_>) -> (Judgement, bool) {
    let mut found = scan::scan(statement, 0);
    // The table's name before its columns looks like a call.
    let table = (0..statement.tokens.len().min(8))
        .find(|at| statement.is(*at, "into"))
        .and_then(|at| {
            let last = if statement.has(at + 2, b'.') {
                at + 3
            } else {
                at + 1
            };
            statement.name(last)
        });
    let fires = fires(&found, judge);
    found
        .calls
        .retain(|call| Some(&call.name) != table.as_ref());
    let touches = fires || judge.may_touch_session(&found);
    (kind(Intent::Write, word), touches)
}

fn explain(statement: Statement<'_>, judge: &Judge<'_>) -> (Judgement, bool) {
    let (at, is_run) = explained(statement);
    if at >= statement.tokens.len() {
        return (
            (Intent::Unknown, Why::Unreadable("EXPLAIN of nothing")),
            false,
        );
    }
    let inner = Statement {
        text: statement.text,
        tokens: &statement.tokens[at..],
    };
    if inner.is_any(0, &["execute", "explain"]) {
        return (kind(Intent::Session, b"explain execute"), false);
    }
    if is_run {
        return one(inner, judge);
    }
    if (0..inner.tokens.len()).any(|at| inner.is(at, "as") && inner.is(at + 1, "execute")) {
        return (kind(Intent::Session, b"explain execute"), false);
    }
    let found = scan::scan(inner, 0);
    if found.is_odd {
        return (judge.all(&found), false);
    }
    let judgement = judge
        .planned(&found)
        .unwrap_or((Intent::Read, Why::OnlyExplained));
    (judgement, false)
}

/// COPY reads if it sends to the client what only reads.
fn copy(statement: Statement<'_>, judge: &Judge<'_>) -> (Judgement, bool) {
    let mut depth = 0usize;
    let mut direction = None;
    for (at, token) in statement.tokens.iter().enumerate() {
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && statement.is_any(at, &["from", "to"]) => {
                direction = Some(at);
                break;
            }
            _ => {}
        }
    }
    let Some(at) = direction else {
        return (kind(Intent::Write, b"copy"), false);
    };
    let source = Statement {
        text: statement.text,
        tokens: &statement.tokens[1..at],
    };
    if source.tokens.is_empty() || !statement.is(at, "to") {
        return (kind(Intent::Write, b"copy from"), false);
    }
    if !statement.is_any(at + 1, &["stdout", "stdin"]) {
        return ((Intent::Write, Why::CopyFile), false);
    }
    if source.has(0, b'(') {
        let inner = Statement {
            text: source.text,
            tokens: &source.tokens[1..source.tokens.len().saturating_sub(1).max(1)],
        };
        // Not `one`: a COPY within a COPY within … is no SQL, and would be as deep as the text is long.
        return if inner.is_any(0, &["select", "values", "with", "table"]) || inner.has(0, b'(') {
            query(inner, judge)
        } else {
            (kind(Intent::Write, b"copy"), false)
        };
    }
    // A list of columns behind the table's name looks like a call.
    let columns = (0..source.tokens.len()).find(|at| source.has(*at, b'('));
    let table = Statement {
        text: source.text,
        tokens: &source.tokens[..columns.unwrap_or(source.tokens.len())],
    };
    (judge.all(&scan::scan(table, 0)), false)
}

fn show(statement: Statement<'_>) -> Judgement {
    match statement.name(1) {
        Some(name) if is_node_local_setting(&name.to_ascii_lowercase()) => {
            (Intent::NodeLocal, Why::Setting(text(&name)))
        }
        Some(_) => (Intent::Read, Why::Kind("SHOW".into())),
        None => (Intent::Unknown, Why::Unreadable("SHOW of nothing")),
    }
}

/// The last `/* pooler: primary */` or `/* pooler: replica */` in the gaps between tokens.
pub fn hint(text: &[u8], tokens: &[Token]) -> Option<Hint> {
    words_for_us(text, tokens).filter_map(hint_of).last()
}

/// A word that stands where a hint would and is none: nothing follows from it.
pub fn unknown_hint(text: &[u8]) -> Option<String> {
    let mut tokens = Vec::new();
    lexer::cut(text, Strings::Standard, &mut tokens).ok()?;
    let mut words = words_for_us(text, &tokens);
    let word = words.find(|word| hint_of(word).is_none())?;
    Some(String::from_utf8_lossy(word).into_owned())
}

/// The words behind `pooler:` in the gaps between tokens.
fn words_for_us<'a>(text: &'a [u8], tokens: &'a [Token]) -> impl Iterator<Item = &'a [u8]> {
    let starts = tokens.iter().map(|token| token.end as usize);
    let ends = tokens.iter().map(|token| token.start as usize);
    std::iter::once(0)
        .chain(starts)
        .zip(ends.chain(std::iter::once(text.len())))
        .filter(|(from, to)| from + "--pooler:".len() < *to)
        .filter_map(|(from, to)| word_in(text.get(from..to)?))
}

fn word_in(gap: &[u8]) -> Option<&[u8]> {
    let marks = b"pooler:";
    let at = gap.windows(marks.len()).position(|piece| piece == marks)?;
    let rest = gap[at + marks.len()..].trim_ascii_start();
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = rest.iter().position(|byte| !is_letter(byte));
    Some(&rest[..end.unwrap_or(rest.len())])
}

fn hint_of(word: &[u8]) -> Option<Hint> {
    match word {
        b"primary" => Some(Hint::Primary),
        b"replica" => Some(Hint::Replica),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
