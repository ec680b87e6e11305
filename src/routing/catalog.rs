//! What a database says of its functions, relations, types and operators, as far as a route depends on it.
//!
//! Only what is not PostgreSQL's own stands here, and of that only what may write, what a standby cannot read, and functions. A
//! catalog is a snapshot with a generation; `routing/learn` makes it from the rows of one query.

use std::collections::HashMap;
use std::sync::Arc;

use crate::protocol::sql::Name;

/// The session's search path, resolved: `"$user"` is the user. `None` is not known, so every schema may be meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(pub Option<Vec<Name>>);

impl Path {
    /// The default path of `user`.
    pub fn of_user(user: &[u8]) -> Self {
        Self(Some(vec![user.into(), (*b"public").into()]))
    }

    /// Reads the value of `search_path`, as the server reports it: names parted by commas, some in quotes.
    pub fn parse(value: &[u8], user: &[u8]) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let mut at = 0;
        while at < value.len() {
            let byte = value[at];
            if byte == b',' || byte.is_ascii_whitespace() {
                at += 1;
                continue;
            }
            let mut name = Vec::new();
            if byte == b'"' {
                at += 1;
                while at < value.len() {
                    if value[at] == b'"' && value.get(at + 1) != Some(&b'"') {
                        break;
                    }
                    at += usize::from(value[at] == b'"');
                    name.push(value[at]);
                    at += 1;
                }
                at += 1;
            } else {
                while at < value.len() && value[at] != b',' {
                    name.push(value[at].to_ascii_lowercase());
                    at += 1;
                }
                name.truncate(name.trim_ascii_end().len());
            }
            let name = if name == b"$user" {
                user.to_vec()
            } else {
                name
            };
            names.push(name.into());
        }
        Self(Some(names))
    }

    /// Whether a name without a schema may mean one in `schema`.
    pub fn has(&self, schema: &[u8]) -> bool {
        match &self.0 {
            None => true,
            Some(names) => schema == b"pg_catalog" || names.iter().any(|name| **name == *schema),
        }
    }

    /// Whether a name of PostgreSQL's own is found before any other: `pg_catalog` is not in the path, or leads it.
    pub fn prefers_built_in(&self) -> bool {
        self.0.as_ref().is_none_or(|names| {
            names
                .iter()
                .position(|name| **name == *b"pg_catalog")
                .is_none_or(|place| place == 0)
        })
    }
}

/// One function, or one of several that share a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Its schema.
    pub schema: Name,
    /// The fewest arguments a call may give.
    pub least: usize,
    /// The most.
    pub most: usize,
    /// It may write: it is VOLATILE, or calls what may write.
    pub may_write: bool,
    /// Declared VOLATILE.
    pub is_volatile: bool,
    /// Its source names words that lock, SET, listen or make temporary tables.
    pub touches_session: bool,
}

/// Something that may not be read on a standby, or writes when read, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Danger {
    /// Its schema.
    pub schema: Name,
    /// Why.
    pub reason: &'static str,
}

/// The catalog of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Which one: grows with each that is loaded and says something else than the one before; 0 is none.
    pub generation: u64,
    /// It is to come: until then any name may stand for a view, a domain or an operator that writes or locks.
    pub is_awaited: bool,
    /// Functions by name. Of PostgreSQL's own only those that are neither VOLATILE nor listed in `builtin`.
    pub functions: HashMap<Name, Vec<Function>>,
    /// Relations that a read must not touch on a standby.
    pub relations: HashMap<Name, Vec<Danger>>,
    /// Types whose casts, checks or input may write.
    pub types: HashMap<Name, Vec<Danger>>,
    /// Operators that are not PostgreSQL's own, by symbol; whether a function behind one may write.
    pub operators: HashMap<Box<[u8]>, Vec<Operator>>,
    /// Functions that may write and take one row: `t.name` calls them.
    pub attributes: HashMap<Name, Vec<Name>>,
    /// Tables with triggers that touch the session.
    pub triggers: HashMap<Name, Vec<Name>>,
}

/// An operator of the database's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Its schema.
    pub schema: Name,
    /// The function behind it may write.
    pub may_write: bool,
}

impl Catalog {
    /// That of a database whose catalog was not read yet, or may have changed since.
    pub fn awaited() -> Self {
        Self {
            is_awaited: true,
            ..Self::default()
        }
    }

    /// Puts what has the same name in an order of its own, whichever row came first.
    pub fn sort(&mut self) {
        self.functions.values_mut().for_each(|all| all.sort());
        self.relations.values_mut().for_each(|all| all.sort());
        self.types.values_mut().for_each(|all| all.sort());
        self.operators.values_mut().for_each(|all| all.sort());
        self.attributes.values_mut().for_each(|all| all.sort());
        self.triggers.values_mut().for_each(|all| all.sort());
    }

    /// `known`, which was loaded before, where this says the same: then all that is known by it stays known.
    pub fn or_same(mut self, known: &Arc<Self>) -> Arc<Self> {
        let generation = std::mem::replace(&mut self.generation, known.generation);
        if known.is_loaded() && self == **known {
            return Arc::clone(known);
        }
        self.generation = generation;
        Arc::new(self)
    }

    /// Whether it was loaded: without, every function that is not PostgreSQL's own is unknown.
    pub fn is_loaded(&self) -> bool {
        self.generation > 0
    }

    /// The functions that a call of `name` in `schema` (or in the path) with so many arguments may mean.
    pub fn called<'a>(
        &'a self,
        schema: Option<&'a [u8]>,
        name: &[u8],
        arguments: Option<usize>,
        path: &'a Path,
    ) -> impl Iterator<Item = &'a Function> {
        self.functions
            .get(name)
            .into_iter()
            .flatten()
            .filter(move |function| {
                let is_there = schema.map_or_else(
                    || path.has(&function.schema),
                    |schema| *schema == *function.schema,
                );
                let fits =
                    arguments.is_none_or(|count| (function.least..=function.most).contains(&count));
                is_there && fits
            })
    }

    /// Why the relation must not be read on a standby.
    pub fn relation(
        &self,
        schema: Option<&[u8]>,
        name: &[u8],
        path: &Path,
    ) -> Option<&'static str> {
        danger(&self.relations, schema, name, path)
    }

    /// Why the type must not be used on a standby.
    pub fn type_named(&self, name: &[u8]) -> Option<&'static str> {
        self.types.get(name)?.first().map(|danger| danger.reason)
    }
}

/// A name behind a dot may be a column, and what stands before it an alias: then only its schema tells.
fn danger(
    all: &HashMap<Name, Vec<Danger>>,
    schema: Option<&[u8]>,
    name: &[u8],
    path: &Path,
) -> Option<&'static str> {
    all.get(name)?
        .iter()
        .find(|danger| match schema {
            Some(schema) => *schema == *danger.schema,
            None => path.has(&danger.schema),
        })
        .map(|danger| danger.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let names = path.0.as_ref().unwrap();
        names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    #[test]
    fn a_search_path_is_read_as_the_server_shows_it() {
        let path = Path::parse(b"\"$user\", Public,\"a \"\"b\" , pg_catalog", b"joe");
        assert_eq!(names(&path), ["joe", "public", "a \"b", "pg_catalog"]);
        assert!(!path.prefers_built_in());
        assert!(path.has(b"joe") && !path.has(b"app"));
        assert!(Path::parse(b"", b"x").has(b"pg_catalog"));
        assert!(Path::default().has(b"anything"));
        assert!(names(&Path::parse(b"\"x", b"u")).len() == 1);
    }
}
