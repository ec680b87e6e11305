//! Facts by text, so that a text is read once.
//!
//! Two levels. Each worker remembers the texts it saw last as they came: one look-up, no lock, no allocation. Behind it stands one
//! map for all workers, by normal form, with a budget of bytes. The texts are the clients', so both hash with a key of their own.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use quick_cache::sync::Cache as Map;
use quick_cache::{Equivalent, Weighter};

use crate::protocol::lexer::{self, Token};
use crate::protocol::sql::Name;
use crate::routing::catalog::{Catalog, Path};
use crate::routing::classify::{Facts, Reading, classify_tokens};
use crate::routing::judge::{Judge, Lists};
use crate::routing::normal;

/// Longer texts are not kept by a worker, in bytes.
const LONGEST_RECENT: usize = 2 * 1024;
/// Longer keys are not kept at all, in bytes.
const LONGEST: usize = 64 * 1024;
/// How many texts a worker remembers; a power of two.
const RECENT: usize = 2048;
/// How many combinations of database, catalog and search path are known at once.
const SCOPES: usize = 4096;

/// Where texts mean the same: a database with a generation of its catalog, a search path, and how the server reads strings.
#[derive(Debug)]
pub struct Scope {
    id: u64,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The search path.
    pub path: Path,
    /// How the server reads strings.
    pub reading: Reading,
    lists: Arc<Lists>,
}

impl Scope {
    /// Its number, above 0 and given to no other.
    pub const fn id(&self) -> u64 {
        self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ScopeKey {
    database: Name,
    generation: u64,
    path: Path,
    reading: Reading,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    scope: u64,
    text: Box<[u8]>,
}

#[derive(Hash)]
struct KeyRef<'a> {
    scope: u64,
    text: &'a [u8],
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.scope == key.scope && *self.text == *key.text
    }
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Arc<Facts>> for Bytes {
    fn weight(&self, key: &Key, facts: &Arc<Facts>) -> u64 {
        (key.text.len() + facts.weight() + 64) as u64
    }
}

/// What is known of every text seen, up to a budget.
#[derive(Debug)]
pub struct Cache {
    texts: Map<Key, Arc<Facts>, Bytes, RandomState>,
    scopes: Map<ScopeKey, Arc<Scope>, quick_cache::UnitWeighter, RandomState>,
    next_scope: AtomicU64,
    lists: Arc<Lists>,
    read: AtomicU64,
}

/// What one worker remembers.
#[derive(Debug)]
pub struct Recent {
    hasher: RandomState,
    slots: Vec<Option<Seen>>,
    tokens: Vec<Token>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Seen {
    scope: u64,
    text: Box<[u8]>,
    facts: Arc<Facts>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            slots: std::iter::repeat_with(|| None).take(RECENT).collect(),
            tokens: Vec::new(),
            key: Vec::new(),
        }
    }
}

/// Numbers of the cache, for the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Texts kept.
    pub texts: usize,
    /// Bytes they take, about.
    pub bytes: u64,
    /// Texts that had to be read.
    pub read: u64,
}

impl Cache {
    /// With a budget of so many bytes, and the operator's lists of functions.
    pub fn new(bytes: u64, lists: Lists) -> Self {
        let capacity = usize::try_from(bytes / 512).unwrap_or(usize::MAX);
        Self {
            texts: Map::with(
                capacity,
                bytes,
                Bytes,
                RandomState::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            scopes: Map::with(
                SCOPES,
                SCOPES as u64,
                quick_cache::UnitWeighter,
                RandomState::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            next_scope: AtomicU64::new(1),
            lists: Arc::new(lists),
            read: AtomicU64::new(0),
        }
    }

    /// An empty one with other lists, whose scopes are taken for none of this one's.
    #[must_use]
    pub fn renewed(&self, bytes: u64, lists: Lists) -> Self {
        let next = self.next_scope.load(Ordering::Relaxed) + SCOPES as u64;
        Self {
            next_scope: AtomicU64::new(next),
            ..Self::new(bytes, lists)
        }
    }

    /// The operator's lists.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The scope of a session: asked for when it begins, and when its search path, its way of reading strings, or the catalog of its
    /// database changes.
    pub fn scope(
        &self,
        database: &[u8],
        catalog: &Arc<Catalog>,
        path: Path,
        reading: Reading,
    ) -> Arc<Scope> {
        let key = ScopeKey {
            database: database.into(),
            generation: catalog.generation,
            path,
            reading,
        };
        if let Some(scope) = self.scopes.get(&key) {
            return scope;
        }
        let scope = Arc::new(Scope {
            id: self.next_scope.fetch_add(1, Ordering::Relaxed),
            catalog: Arc::clone(catalog),
            path: key.path.clone(),
            reading,
            lists: Arc::clone(&self.lists),
        });
        self.scopes.insert(key, Arc::clone(&scope));
        scope
    }

    /// What is known of `text` in `scope`.
    pub fn facts(&self, recent: &mut Recent, scope: &Scope, text: &[u8]) -> Arc<Facts> {
        let slot = recent.slot(scope.id, text);
        if let Some(seen) = &recent.slots[slot]
            && seen.scope == scope.id
            && *seen.text == *text
        {
            return Arc::clone(&seen.facts);
        }
        let facts = self.shared(recent, scope, text);
        if text.len() <= LONGEST_RECENT {
            recent.slots[slot] = Some(Seen {
                scope: scope.id,
                text: text.into(),
                facts: Arc::clone(&facts),
            });
        }
        facts
    }

    fn shared(&self, recent: &mut Recent, scope: &Scope, text: &[u8]) -> Arc<Facts> {
        let Recent { tokens, key, .. } = recent;
        let read = lexer::cut(text, scope.reading.strings, tokens);
        key.clear();
        if read.is_ok() && normal::may_be_normalised(text, tokens) {
            key.push(b'n');
            normal::write(
                text,
                tokens,
                crate::routing::classify::hint(text, tokens),
                key,
            );
        } else {
            key.push(b't');
            key.extend_from_slice(&text[..text.len().min(LONGEST + 1)]);
        }
        let is_kept = key.len() <= LONGEST;
        let known = KeyRef {
            scope: scope.id,
            text: key,
        };
        if is_kept && let Some(facts) = self.texts.get(&known) {
            return facts;
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        let judge = Judge {
            catalog: &scope.catalog,
            path: &scope.path,
            lists: &scope.lists,
        };
        let facts = Arc::new(classify_tokens(text, scope.reading, &judge, tokens, read));
        if is_kept {
            let key = Key {
                scope: scope.id,
                text: (&**key).into(),
            };
            self.texts.insert(key, Arc::clone(&facts));
        }
        if tokens.capacity() > 65_536 {
            *tokens = Vec::new();
        }
        if recent.key.capacity() > LONGEST {
            recent.key = Vec::new();
        }
        facts
    }

    /// How full it is.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            texts: self.texts.len(),
            bytes: self.texts.weight(),
            read: self.read.load(Ordering::Relaxed),
        }
    }
}

impl Recent {
    fn slot(&self, scope: u64, text: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        scope.hash(&mut hasher);
        hasher.write(text);
        usize::try_from(hasher.finish() % RECENT as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::intent::Intent;

    fn cache() -> (Cache, Recent, Arc<Scope>) {
        let cache = Cache::new(1 << 20, Lists::default());
        let catalog = Arc::new(Catalog::default());
        let scope = cache.scope(b"app", &catalog, Path::of_user(b"joe"), Reading::default());
        (cache, Recent::default(), scope)
    }

    #[test]
    fn a_text_is_read_once_whatever_its_constants() {
        let (cache, mut recent, scope) = cache();
        for round in 0..10 {
            let text = format!("select * from t where a = {round} and b = 'x{round}'");
            for _ in 0..2 {
                let facts = cache.facts(&mut recent, &scope, text.as_bytes());
                assert_eq!(facts.intent, Intent::Read);
            }
        }
        assert_eq!(cache.numbers().read, 1);
        cache.facts(
            &mut recent,
            &scope,
            b"/* pooler: primary */ select * from t where a = 1 and b = 'x'",
        );
        assert_eq!(cache.numbers().read, 2, "a hint is part of what is known");
    }

    #[test]
    fn a_moment_of_its_transaction_is_not_taken_for_any_other_constant() {
        let (cache, mut recent, scope) = cache();
        let mut tells = |constant: &str| {
            let text = format!("select {constant}::timestamptz");
            let facts = cache.facts(&mut recent, &scope, text.as_bytes());
            facts.tells_of_transaction
        };
        assert!(!tells("'2026-11-29'"));
        assert!(tells("'now'"));
        assert!(tells("'today 10:00'"));
        assert!(!tells("'2026-11-30'"));
        assert!(tells("\"now\"()"));
    }

    #[test]
    fn a_text_that_a_worker_has_seen_costs_no_allocation() {
        let (cache, mut recent, scope) = cache();
        let text = b"select a from t where b = 1";
        cache.facts(&mut recent, &scope, text);
        let cost = allocation_counter::measure(|| {
            for _ in 0..100 {
                assert!(cache.facts(&mut recent, &scope, text).effects.is_empty());
            }
        });
        assert_eq!(cost.count_total, 0);
    }

    #[test]
    fn a_scope_is_a_database_a_catalog_a_path_and_a_way_to_read_strings() {
        let (cache, mut recent, scope) = cache();
        let catalog = Arc::new(Catalog {
            generation: 1,
            ..Catalog::default()
        });
        let none = Arc::new(Catalog::default());
        let joe = || Path::of_user(b"joe");
        let same = cache.scope(b"app", &none, joe(), Reading::default());
        assert_eq!(same.id, scope.id);
        let off = Reading::of(b"off", b"UTF8");
        let others = [
            cache.scope(b"other", &none, joe(), Reading::default()),
            cache.scope(b"app", &catalog, joe(), Reading::default()),
            cache.scope(b"app", &none, Path::of_user(b"ann"), Reading::default()),
            cache.scope(b"app", &none, joe(), off),
        ];
        for other in &others {
            assert_ne!(other.id, scope.id);
        }
        let text = br"select 'a\'; delete from t; --'";
        assert_eq!(cache.facts(&mut recent, &scope, text).intent, Intent::Write);
        assert_eq!(
            cache
                .facts(&mut recent, &others[3], text)
                .effects
                .statements(),
            Some(1)
        );
    }

    #[test]
    fn a_flood_of_texts_stays_within_the_budget() {
        let (cache, mut recent, scope) = cache();
        for round in 0..20_000 {
            let text = format!("set a.b to '{round} {}'", "x".repeat(100));
            cache.facts(&mut recent, &scope, text.as_bytes());
        }
        assert!(cache.numbers().bytes <= 1 << 20);
        let long = format!("set a.b to '{}'", "x".repeat(1 << 20));
        cache.facts(&mut recent, &scope, long.as_bytes());
        assert!(cache.numbers().bytes <= 1 << 20);
        assert!(recent.key.capacity() <= 2 * LONGEST);
    }
}
