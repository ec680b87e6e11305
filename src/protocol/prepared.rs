//! Prepared statements that outlive a borrowed server.
//!
//! A client's name means a [`Statement`]: one text with its parameter types, known to every server under one name of the
//! pooler's own and shared by all clients that prepared the same bytes. Which statements a server holds is
//! [`OnServer`], a least-recently-used list of `max_prepared_statements`; which names a client gave is a plain map.
//! Text is never decoded: names are replaced in raw bytes, so no client encoding is ever broken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use arc_swap::ArcSwapOption;

use dashmap::DashMap;

use crate::locked::Locked;
use crate::protocol::commits::{Commit, commit};
use crate::protocol::suspects::Suspects;
use crate::protocol::traces::{Traces, traces};

/// So many new texts are not worth a sweep.
const FEW: usize = 4096;

/// What comes before the number in a server-side name; no client name begins so by chance.
const PREFIX: &str = "POOLER_";

/// One text and its parameter types.
#[derive(Debug)]
pub struct Statement {
    /// Its number; the name on servers is made of it.
    pub id: u64,
    /// What follows the name in its Parse message: text, zero byte, count and types.
    pub definition: Box<[u8]>,
    server_name: Box<[u8]>,
    /// What its text may leave behind.
    pub traces: Traces,
    /// Whether it is a COMMIT.
    pub commit: Commit,
    age: u64,
    retired: AtomicBool,
    accepted: AtomicBool,
    is_own: AtomicBool,
    note: AtomicU64,
}

impl Statement {
    /// What [`Statement::take_note`] was told last; 0 before.
    #[inline]
    pub fn noted(&self) -> u64 {
        self.note.load(Relaxed)
    }

    /// Keeps a number for whoever judges its text.
    pub fn take_note(&self, note: u64) {
        self.note.store(note, Relaxed);
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        text_of(&self.definition)
    }

    /// Appends its name on servers, without the zero byte.
    pub fn write_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.server_name);
    }

    /// Appends the Parse message that creates it on a server.
    pub fn write_parse(&self, out: &mut Vec<u8>) {
        self.write_parse_of(&self.definition, out);
    }

    /// Appends a Parse message that gives its name to `definition`.
    pub fn write_parse_of(&self, definition: &[u8], out: &mut Vec<u8>) {
        let at = begin(out, b'P');
        self.write_name(out);
        out.push(0);
        out.extend_from_slice(definition);
        end(out, at);
    }

    /// Appends the Close message that takes it from a server.
    pub fn write_close(&self, out: &mut Vec<u8>) {
        let at = begin(out, b'C');
        out.push(b'S');
        self.write_name(out);
        out.push(0);
        end(out, at);
    }

    /// It is the pooler's own to answer: no server may run it.
    pub fn make_own(&self) {
        self.is_own.store(true, Relaxed);
    }

    /// Whether it is the pooler's own to answer.
    pub fn is_own(&self) -> bool {
        self.is_own.load(Relaxed)
    }

    /// A server has accepted it outside a transaction.
    pub fn accept(&self) {
        self.accepted.store(true, Relaxed);
    }

    /// Whether a server has accepted it outside a transaction: then any server of the pool will.
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }
}

/// Begins a message with `tag`; [`end`] fills in its length.
pub fn begin(out: &mut Vec<u8>, tag: u8) -> usize {
    out.push(tag);
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

/// Fills in the length of the message begun at `at`.
pub fn end(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// All statements that some client of a pool has prepared, by their bytes.
#[derive(Debug)]
pub struct Dictionary {
    by_definition: DashMap<Box<[u8]>, Weak<Statement>, foldhash::quality::RandomState>,
    /// How many texts came since the last sweep, and how many it left.
    fresh: AtomicUsize,
    left: AtomicUsize,
    last_id: AtomicU64,
    age: AtomicU64,
    asks_sequences: AtomicBool,
    /// `None` while the catalog is not known.
    suspects: ArcSwapOption<Suspects>,
    has_suspects: AtomicBool,
    code_asks: AtomicBool,
    is_stale: AtomicBool,
    code_generation: Mutex<u64>,
}

/// The text in what follows the name in a Parse message.
pub fn text_of(definition: &[u8]) -> &[u8] {
    let end = definition.iter().position(|byte| *byte == 0);
    &definition[..end.unwrap_or(definition.len())]
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            by_definition: DashMap::default(),
            fresh: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            age: AtomicU64::new(0),
            asks_sequences: AtomicBool::new(false),
            suspects: ArcSwapOption::empty(),
            has_suspects: AtomicBool::new(true),
            code_asks: AtomicBool::new(true),
            is_stale: AtomicBool::new(true),
            code_generation: Mutex::new(0),
        }
    }
}

impl Dictionary {
    /// The statement with this definition, known or new.
    pub fn find(&self, definition: &[u8]) -> Arc<Statement> {
        if let Some(statement) = self.known(definition) {
            return statement;
        }
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let statement = Arc::new(Statement {
            id,
            traces: traces(text_of(definition)),
            commit: commit(text_of(definition)),
            definition: definition.into(),
            server_name: format!("{PREFIX}{id}").into_bytes().into(),
            age: self.age.load(Relaxed),
            retired: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
            is_own: AtomicBool::new(false),
            note: AtomicU64::new(0),
        });
        self.by_definition
            .insert(definition.into(), Arc::downgrade(&statement));
        let fresh = self.fresh.fetch_add(1, Relaxed);
        if fresh >= self.left.load(Relaxed).max(FEW) {
            // As many as there were: whoever prepares ever new texts pays for forgetting them.
            self.sweep();
        }
        statement
    }

    /// The statement with this definition, if some client or server still has it.
    pub fn known(&self, definition: &[u8]) -> Option<Arc<Statement>> {
        let known = self.by_definition.get(definition)?;
        known
            .upgrade()
            .filter(|statement| !statement.retired.load(Relaxed))
            .filter(|statement| statement.age == self.age.load(Relaxed))
    }

    /// Tables may have changed: whoever prepares a text from now on gets a fresh statement, as PostgreSQL would plan it
    /// anew. (Names that clients hold keep their statements, as their plans would be kept.)
    pub fn tables_changed(&self) {
        self.age.fetch_add(1, Relaxed);
    }

    /// Forgets texts that no client holds any more; called now and then.
    pub fn sweep(&self) {
        self.fresh.store(0, Relaxed);
        let mut left = 0;
        self.by_definition.retain(|_, statement| {
            let is_held = statement.strong_count() > 0;
            left += usize::from(is_held);
            is_held
        });
        self.left.store(left, Relaxed);
    }

    /// Some client asks for `currval` or `lastval`: from now on it matters whose sequences a server remembers.
    pub fn note_sequences(&self) {
        if !self.asks_sequences() {
            self.asks_sequences.store(true, Relaxed);
        }
    }

    /// What of the database's own code may leave session state behind; `None` while that is not known.
    pub fn suspects(&self) -> Option<Arc<Suspects>> {
        self.suspects.load_full()
    }

    /// Whether no text has to be compared with the suspects: they are known, and there are none.
    #[inline]
    pub fn has_no_suspects(&self) -> bool {
        !self.has_suspects.load(Relaxed)
    }

    /// Code has changed, or may have: nothing is known until the catalog has been read again.
    pub fn code_changed(&self) {
        let mut generation = self.lock_generation();
        *generation += 1;
        self.has_suspects.store(true, Relaxed);
        self.code_asks.store(true, Relaxed);
        self.suspects.store(None);
    }

    fn lock_generation(&self) -> MutexGuard<'_, u64> {
        self.code_generation.locked()
    }

    /// The catalog was read long ago: somebody is to read it again.
    pub fn want_catalog(&self) {
        self.is_stale.store(true, Relaxed);
    }

    /// Whether somebody is to read the catalog again.
    #[inline]
    pub fn wants_catalog(&self) -> bool {
        self.is_stale.load(Relaxed)
    }

    /// The catalog is about to be read; the generation of code that [`Dictionary::know_suspects`] is to be told.
    pub fn begin_reading(&self) -> u64 {
        self.is_stale.store(false, Relaxed);
        *self.lock_generation()
    }

    /// The catalog has been read. Where code has changed meanwhile that is worth nothing.
    pub fn know_suspects(&self, read: u64, suspects: Arc<Suspects>) {
        let generation = self.lock_generation();
        if *generation == read {
            self.has_suspects.store(!suspects.are_none(), Relaxed);
            self.code_asks.store(suspects.all.asks, Relaxed);
            self.suspects.store(Some(suspects));
        }
    }

    /// Whether code of the database's own asks for them, or may.
    pub fn code_asks_sequences(&self) -> bool {
        self.code_asks.load(Relaxed)
    }

    /// Whether any client has asked for them.
    pub fn asks_sequences(&self) -> bool {
        self.asks_sequences.load(Relaxed)
    }

    /// How many texts are known.
    pub fn len(&self) -> usize {
        self.by_definition.len()
    }

    /// Whether no text is known.
    pub fn is_empty(&self) -> bool {
        self.by_definition.is_empty()
    }
}

impl Statement {
    /// Its result type has changed under it: who prepares the text from now on gets a fresh statement, under another
    /// name, so that no server's stale plan is met again.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
    }
}

/// The names that one client gave.
pub type Names = HashMap<Box<[u8]>, Arc<Statement>>;

/// The statements that one server holds, or will when its requests have been answered.
#[derive(Debug, Default)]
pub struct OnServer {
    held: HashMap<u64, Held>,
    stale: Vec<Arc<Statement>>,
    turn: u64,
}

#[derive(Debug)]
struct Held {
    statement: Arc<Statement>,
    used: u64,
    is_proven: bool,
}

impl OnServer {
    /// Whether the server holds `id`; asking counts as use.
    pub fn touch(&mut self, id: u64) -> bool {
        self.turn += 1;
        let turn = self.turn;
        self.held.get_mut(&id).is_some_and(|held| {
            held.used = turn;
            true
        })
    }

    /// Whether the server has said that it prepared `id`.
    pub fn is_proven(&self, id: u64) -> bool {
        self.held.get(&id).is_some_and(|held| held.is_proven)
    }

    /// The server has said that it prepared `id`.
    pub fn prove(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.is_proven = true;
        }
    }

    /// The statement with number `id`, if it is held.
    pub fn get(&self, id: u64) -> Option<Arc<Statement>> {
        self.held.get(&id).map(|held| Arc::clone(&held.statement))
    }

    /// The server is about to hold `statement`.
    pub fn add(&mut self, statement: &Arc<Statement>) {
        self.insert(statement, false);
    }

    /// The server holds `statement` after all.
    pub fn restore(&mut self, statement: &Arc<Statement>) {
        self.insert(statement, true);
    }

    fn insert(&mut self, statement: &Arc<Statement>, is_proven: bool) {
        self.turn += 1;
        let held = Held {
            statement: Arc::clone(statement),
            used: self.turn,
            is_proven,
        };
        self.held.insert(statement.id, held);
    }

    /// The statement that was used least recently, taken out, when more than `limit` are held.
    pub fn take_oldest_above(&mut self, limit: usize) -> Option<Arc<Statement>> {
        if self.held.len() <= limit {
            return None;
        }
        let oldest = self
            .held
            .values()
            .min_by_key(|held| held.used)
            .map(|held| held.statement.id)?;
        self.held.remove(&oldest).map(|held| held.statement)
    }

    /// The server does not hold `id`.
    pub fn forget(&mut self, id: u64) {
        self.held.remove(&id);
    }

    /// The server's plan of `statement` no longer fits: close it before it is prepared again.
    pub fn spoil(&mut self, statement: &Arc<Statement>) {
        self.held.remove(&statement.id);
        if !self.stale.iter().any(|stale| stale.id == statement.id) {
            self.stale.push(Arc::clone(statement));
        }
    }

    /// The stale statements still to be closed, taken out.
    pub fn take_stale(&mut self) -> Vec<Arc<Statement>> {
        std::mem::take(&mut self.stale)
    }

    /// Whether stale statements wait to be closed.
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// The server has forgotten everything (DISCARD ALL, DEALLOCATE ALL) except what `keep` was prepared afterwards.
    pub fn clear_except(&mut self, keep: &[u64]) {
        self.held.retain(|id, _| keep.contains(id));
        self.stale.clear();
    }

    /// How many it holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Dictionary, FEW, OnServer};
    use std::sync::Arc;

    #[test]
    fn the_same_bytes_are_one_statement_for_everybody() {
        let dictionary = Dictionary::default();
        let (one, two) = (
            dictionary.find(b"select 1\0\0\0"),
            dictionary.find(b"select 1\0\0\0"),
        );
        assert!(Arc::ptr_eq(&one, &two));
        assert_ne!(one.id, dictionary.find(b"select 2\0\0\0").id);
    }

    #[test]
    fn texts_that_nobody_holds_take_no_room_however_many_come() {
        let dictionary = Dictionary::default();
        let held = dictionary.find(b"held\0\0\0");
        for number in 0..10 * FEW {
            dictionary.find(format!("select {number}\0\0\0").as_bytes());
            assert!(dictionary.by_definition.len() <= FEW + 2);
        }
        assert!(Arc::ptr_eq(&held, &dictionary.find(b"held\0\0\0")));
    }

    #[test]
    fn a_retired_statement_is_not_given_out_again() {
        let dictionary = Dictionary::default();
        let old = dictionary.find(b"select * from t\0\0\0");
        old.retire();
        assert_ne!(dictionary.find(b"select * from t\0\0\0").id, old.id);
    }

    #[test]
    fn a_text_is_prepared_afresh_once_tables_have_changed() {
        let dictionary = Dictionary::default();
        let old = dictionary.find(b"select * from t\0\0\0");
        dictionary.tables_changed();
        let new = dictionary.find(b"select * from t\0\0\0");
        assert_ne!(new.id, old.id);
        assert!(Arc::ptr_eq(
            &new,
            &dictionary.find(b"select * from t\0\0\0")
        ));
    }

    #[test]
    fn texts_that_nobody_holds_are_forgotten() {
        let dictionary = Dictionary::default();
        let held = dictionary.find(b"a\0\0\0");
        drop(dictionary.find(b"b\0\0\0"));
        dictionary.sweep();
        assert_eq!(dictionary.len(), 1);
        drop(held);
    }

    #[test]
    fn the_least_recently_used_statement_goes_first() {
        let (dictionary, mut server) = (Dictionary::default(), OnServer::default());
        let statements: Vec<_> = [&b"a"[..], b"b", b"c"]
            .iter()
            .map(|text| dictionary.find(text))
            .collect();
        statements
            .iter()
            .for_each(|statement| server.add(statement));
        assert!(server.touch(statements[0].id));
        assert_eq!(server.take_oldest_above(2).unwrap().id, statements[1].id);
        assert!(server.take_oldest_above(2).is_none());
    }
}
