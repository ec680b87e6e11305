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
    values: BTreeMap<String, (String, String)>,
    accepted: AtomicBool,
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

    /// Whether a server has taken exactly these values before, so that they need not be tried first.
    pub fn are_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    /// A server has taken them.
    pub fn accept(&self) {
        self.accepted.store(true, Relaxed);
    }

    /// The SQL that brings a server with the values `from` to these; `None` when nothing differs.
    ///
    /// One simple query: PostgreSQL runs it as one transaction, so either all of it holds or nothing.
    pub fn sql_from(&self, from: &Self) -> Option<String> {
        let mut sql = String::new();
        for (key, (name, _)) in &from.values {
            if !self.values.contains_key(key) {
                sql.push_str("RESET ");
                push_name(&mut sql, name);
                sql.push(';');
            }
        }
        for (key, (name, value)) in &self.values {
            if from
                .values
                .get(key)
                .is_some_and(|(_, present)| present == value)
            {
                continue;
            }
            if LISTS.contains(&key.as_str()) {
                sql.push_str("SELECT pg_catalog.set_config(");
                push_literal(&mut sql, name);
                sql.push(',');
                push_literal(&mut sql, value);
                sql.push_str(",false);");
            } else {
                sql.push_str("SET ");
                push_name(&mut sql, name);
                sql.push_str(" TO ");
                push_literal(&mut sql, value);
                sql.push(';');
            }
        }
        (!sql.is_empty()).then_some(sql)
    }
}

fn push_name(sql: &mut String, name: &str) {
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            sql.push('.');
        }
        sql.push('"');
        sql.push_str(&part.replace('"', "\"\""));
        sql.push('"');
    }
}

fn push_literal(sql: &mut String, value: &str) {
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
        self.intern(values)
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
        let changed = self.intern(values);
        changed.accept();
        changed
    }

    fn intern(&self, values: BTreeMap<String, (String, String)>) -> Arc<Parameters> {
        let mut hasher = DefaultHasher::new();
        for (key, (_, value)) in &values {
            (key, value).hash(&mut hasher);
        }
        let hash = hasher.finish();
        let same = |known: &Parameters| {
            known.values.len() == values.len()
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
mod tests {
    use super::Interner;
    use std::sync::Arc;

    #[test]
    fn equal_sets_are_the_same() {
        let interner = Interner::default();
        let one = interner.make([("TimeZone", "UTC"), ("DateStyle", "ISO")]);
        let two = interner.make([("DateStyle", "ISO"), ("TimeZone", "CET")]);
        assert!(!Arc::ptr_eq(&one, &two));
        assert!(Arc::ptr_eq(&one, &interner.with(&two, "timezone", "UTC")));
        assert!(one.sql_from(&one).is_none());
    }

    #[test]
    fn only_the_difference_is_set_and_what_another_client_added_is_reset() {
        let interner = Interner::default();
        let server = interner.make([
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("DateStyle", "ISO, MDY"),
        ]);
        let client = interner.make([
            ("TimeZone", "it's"),
            ("search_path", "\"$user\", public"),
            ("DateStyle", "ISO, MDY"),
        ]);
        assert_eq!(
            client.sql_from(&server).unwrap(),
            "RESET \"extra_float_digits\";\
             SELECT pg_catalog.set_config('search_path','\"$user\", public',false);\
             SET \"TimeZone\" TO 'it''s';"
        );
    }

    #[test]
    fn a_backslash_cannot_end_a_literal() {
        let interner = Interner::default();
        let (empty, client) = (
            interner.make::<&str, &str>([]),
            interner.make([("application_name", "a\\'; drop")]),
        );
        assert_eq!(
            client.sql_from(&empty).unwrap(),
            "SET \"application_name\" TO E'a\\\\''; drop';"
        );
    }
}
