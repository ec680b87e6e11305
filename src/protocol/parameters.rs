//! The session parameters that a client carries from server to server.
//!
//! A [`Parameters`] is an immutable set of names and values. Equal sets are one and the same `Arc` (the [`Interner`] sees to
//! it), so that the question "has this server what this client wants?" is a comparison of pointers for all but the first
//! query after a change.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use dashmap::DashMap;

/// What PostgreSQL reports but nobody can set.
const FIXED: [&str; 6] = [
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "in_hot_standby",
    "session_authorization",
];

/// Settings whose value is a list of quoted names: SET takes them apart, so they are set as one text.
const LISTS: [&str; 4] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
];

/// Whether a parameter that a server reports follows the client.
pub fn is_carried(name: &str) -> bool {
    !FIXED.iter().any(|fixed| fixed.eq_ignore_ascii_case(name))
}

/// Names and values in force, or wanted.
#[derive(Debug, Default)]
pub struct Parameters {
    values: Values,
    prepared: Prepared,
    accepted: AtomicBool,
}

type Values = BTreeMap<String, (String, String)>;
type Prepared = BTreeMap<String, Arc<str>>;

/// The session's user, and the role it plays: told apart from settings, because they decide what may be set.
const USER: &str = "session_authorization";
const ROLE: &str = "role";

/// What a server is told to bring it from one client's state to another's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Simple queries that come first. Each is a transaction of its own that stays open where it fails, so that whatever
    /// follows fails, too, and nothing ever runs with another client's settings.
    pub settings: Vec<String>,
    /// PREPARE statements. One that fails is missed by its EXECUTE and by nobody else.
    pub prepares: Vec<Arc<str>>,
}

impl Parameters {
    /// The value of `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(&name.to_ascii_lowercase())
            .map(|(_, value)| value.as_str())
    }

    /// Every name, as it was spelled, and its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .values()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether statements of SQL's PREPARE are among them.
    pub fn has_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// Whether a server has taken exactly these values before, so that they need not be tried first.
    pub fn are_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    /// A server has taken them.
    pub fn accept(&self) {
        self.accepted.store(true, Relaxed);
    }

    /// What brings a server with the values `from` to these; `None` when nothing differs.
    pub fn batch_from(&self, from: &Self) -> Option<Batch> {
        let mut batch = Batch::default();
        let encoding = self.get("client_encoding");
        let needs_encoding = encoding != from.get("client_encoding") && !self.is_ascii();
        if let (true, Some(encoding)) = (needs_encoding, encoding) {
            // What follows is read in it.
            let mut sql = String::from(BEGIN);
            push_set(&mut sql, "client_encoding", encoding);
            sql.push_str("COMMIT");
            batch.settings.push(sql);
        }
        let sql = self.sql_from(from);
        if !sql.is_empty() {
            batch.settings.push(format!("{BEGIN}{sql}COMMIT"));
        }
        let is_new = |name: &str, text: &Arc<str>| from.prepared.get(name) != Some(text);
        let new = self
            .prepared
            .iter()
            .filter(|(name, text)| is_new(name, text));
        batch.prepares.extend(new.map(|(_, text)| Arc::clone(text)));
        (batch != Batch::default()).then_some(batch)
    }

    fn sql_from(&self, from: &Self) -> String {
        let mut sql = String::new();
        for (name, text) in &from.prepared {
            if self.prepared.get(name) != Some(text) {
                sql.push_str("DEALLOCATE ");
                push_quoted(&mut sql, name);
                sql.push(';');
            }
        }
        for (key, (name, _)) in &from.values {
            if !self.values.contains_key(key) && !is_identity(key) {
                sql.push_str("RESET ");
                push_name(&mut sql, name);
                sql.push(';');
            }
        }
        for (key, (name, value)) in &self.values {
            let is_there = from
                .values
                .get(key)
                .is_some_and(|(_, present)| present == value);
            if !is_there && !is_identity(key) {
                push_set(&mut sql, name, value);
            }
        }
        let identity = |set: &Self| {
            (
                set.get(USER).map(String::from),
                set.get(ROLE).map(String::from),
            )
        };
        let (before, after) = (identity(from), identity(self));
        if before == after && (sql.is_empty() || before == (None, None)) {
            return sql;
        }
        if before != (None, None) {
            // Settings and names are not the role's business.
            sql.insert_str(0, "RESET SESSION AUTHORIZATION;RESET ROLE;");
        }
        for (name, value) in [(USER, after.0), (ROLE, after.1)] {
            if let Some(value) = value {
                push_set(&mut sql, name, &value);
            }
        }
        sql
    }

    fn is_ascii(&self) -> bool {
        self.values
            .values()
            .all(|(name, value)| name.is_ascii() && value.is_ascii())
            && self
                .prepared
                .iter()
                .all(|(name, text)| name.is_ascii() && text.is_ascii())
    }
}

/// The isolation is said because a client's default may be one in which a query waits for others.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;";

fn is_identity(key: &str) -> bool {
    key == USER || key == ROLE
}

fn push_set(sql: &mut String, name: &str, value: &str) {
    if LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        sql.push_str("SELECT pg_catalog.set_config(");
        push_literal(sql, name);
        sql.push(',');
        push_literal(sql, value);
        sql.push_str(",false);");
    } else {
        sql.push_str("SET ");
        push_name(sql, name);
        sql.push_str(" TO ");
        push_literal(sql, value);
        sql.push(';');
    }
}

fn push_name(sql: &mut String, name: &str) {
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            sql.push('.');
        }
        push_quoted(sql, part);
    }
}

fn push_quoted(sql: &mut String, name: &str) {
    sql.push('"');
    sql.push_str(&name.replace('"', "\"\""));
    sql.push('"');
}

/// Appends `value` as a text of SQL, whatever the server takes a backslash for.
pub fn push_literal(sql: &mut String, value: &str) {
    if value.contains('\\') {
        sql.push('E');
    }
    sql.push('\'');
    for character in value.chars() {
        if matches!(character, '\'' | '\\') {
            sql.push(character);
        }
        sql.push(character);
    }
    sql.push('\'');
}

/// Keeps one `Arc` for every set of parameters that is in use.
#[derive(Debug, Default)]
pub struct Interner {
    known: DashMap<u64, Weak<Parameters>>,
}

impl Interner {
    /// The set that holds just these; a name that comes twice keeps its last value.
    pub fn make<N: Into<String>, V: Into<String>>(
        &self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Arc<Parameters> {
        let values = pairs
            .into_iter()
            .map(|(name, value)| {
                let name = name.into();
                (name.to_ascii_lowercase(), (name, value.into()))
            })
            .collect();
        self.intern(values, Prepared::new())
    }

    /// `set` as a look at its server has found it: of what the server does not report by itself (that is, of all that is not
    /// in `reported`) just `found` remains, and of SQL's PREPARE just `prepared`.
    pub fn seen(
        &self,
        set: &Parameters,
        reported: &Parameters,
        found: Vec<(String, String)>,
        prepared: Vec<(String, Arc<str>)>,
    ) -> Arc<Parameters> {
        let mut values = set.values.clone();
        values.retain(|key, _| reported.values.contains_key(key));
        for (name, value) in found {
            let key = name.to_ascii_lowercase();
            if !reported.values.contains_key(&key) {
                values.insert(key, (name, value));
            }
        }
        let seen = self.intern(values, prepared.into_iter().collect());
        seen.accept();
        seen
    }

    /// `set` after a RESET: where it stands at what the server has by itself (`reported`), what the client's login asked for
    /// is in force again, as it would be without a pooler.
    pub fn reset(
        &self,
        set: &Arc<Parameters>,
        reported: &Parameters,
        startup: &Parameters,
    ) -> Arc<Parameters> {
        let mut values = set.values.clone();
        for (key, entry) in &startup.values {
            if set.get(key) == reported.get(key) {
                values.insert(key.clone(), entry.clone());
            }
        }
        let made = self.intern(values, set.prepared.clone());
        if set.are_accepted() && startup.are_accepted() {
            made.accept();
        }
        made
    }

    /// `set` with `name` at `value`.
    pub fn with(&self, set: &Arc<Parameters>, name: &str, value: &str) -> Arc<Parameters> {
        if set.get(name) == Some(value) {
            return Arc::clone(set);
        }
        let mut values = set.values.clone();
        values.insert(
            name.to_ascii_lowercase(),
            (name.to_owned(), value.to_owned()),
        );
        let changed = self.intern(values, set.prepared.clone());
        changed.accept();
        changed
    }

    fn intern(&self, values: Values, prepared: Prepared) -> Arc<Parameters> {
        let mut hasher = DefaultHasher::new();
        for (key, (_, value)) in &values {
            (key, value).hash(&mut hasher);
        }
        prepared.hash(&mut hasher);
        let hash = hasher.finish();
        let same = |known: &Parameters| {
            known.values.len() == values.len()
                && known.prepared == prepared
                && known
                    .values
                    .iter()
                    .zip(&values)
                    .all(|(one, two)| one.0 == two.0 && one.1.1 == two.1.1)
        };
        if let Some(known) = self.known.get(&hash).and_then(|known| known.upgrade())
            && same(&known)
        {
            return known;
        }
        let made = Arc::new(Parameters {
            values,
            prepared,
            accepted: AtomicBool::new(false),
        });
        self.known.insert(hash, Arc::downgrade(&made));
        made
    }

    /// Forgets sets that nobody uses; called now and then.
    pub fn sweep(&self) {
        self.known.retain(|_, set| set.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests;
