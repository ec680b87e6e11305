//! What the names in a query mean for its route.
//!
//! A call is a read only if the function is known to be one. Where several functions may be meant, one that may write decides. Types,
//! relations and operators of the database's own are dangerous by name, wherever in the query the name stands.

use crate::protocol::lexer::{Strings, cut, first_word};
use crate::protocol::sql::statements;
use crate::routing::builtin::{self, Nature};
use crate::routing::catalog::{Catalog, Path};
use crate::routing::intent::{Intent, Why};
use crate::routing::scan::{Call, Findings, Mention, scan};

/// Patterns of `read_functions` and `write_functions`: `schema.name`, `name`, with `*` for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lists {
    /// They only read, whatever the catalog says.
    pub read: Vec<String>,
    /// They write, whatever the catalog says.
    pub write: Vec<String>,
}

/// What is known where a text is judged.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The database's catalog.
    pub catalog: &'a Catalog,
    /// The session's search path.
    pub path: &'a Path,
    /// The operator's word.
    pub lists: &'a Lists,
}

/// A judgement: what is asked for, and by which rule.
pub type Judgement = (Intent, Why);

const UNKNOWN_FUNCTION: &str = "not known to only read";
const CATALOG_WRITES: &str = "the catalog says it may write";

/// Any name may stand for a view, a domain or an operator that writes or locks.
const AWAITED: &str = "the database's catalog is not loaded";

impl Judge<'_> {
    /// The strictest of all that `found` names, or a read.
    pub fn all(&self, found: &Findings) -> Judgement {
        if found.is_odd {
            return (
                Intent::Unknown,
                Why::Unreadable("no SQL that the server reads"),
            );
        }
        if let Some(word) = found.modifies {
            return (Intent::Write, Why::DataModifying(word));
        }
        if found.is_into {
            return (Intent::Write, Why::Into);
        }
        if found.locks {
            return (Intent::Write, Why::RowLock);
        }
        let mut worst = (Intent::Read, Why::OnlyReads);
        let calls = found.calls.iter().map(|call| self.call(call));
        let names = found.names.iter().filter_map(|name| self.mention(name));
        let operators = found.operators.iter().filter_map(|one| self.operator(one));
        for judgement in calls.chain(names).chain(operators) {
            if judgement.0 > worst.0 {
                worst = judgement;
            }
            if worst.0 == Intent::Unknown {
                break;
            }
        }
        if worst.0 == Intent::Read && self.catalog.is_awaited {
            return (Intent::Unknown, Why::Unreadable(AWAITED));
        }
        worst
    }

    /// Functions that are run though the query is only explained: those that the planner may evaluate, and that lie.
    pub fn planned(&self, found: &Findings) -> Option<Judgement> {
        found.calls.iter().find_map(|call| {
            let liar = self
                .candidates(call)
                .any(|one| !one.is_volatile && one.may_write);
            liar.then(|| {
                let reason = "the planner runs it, and it calls what may write";
                (Intent::Write, Why::Function(text(&call.name), reason))
            })
        })
    }

    /// Whether a function that `found` calls may touch the session unseen: its source says so, or it is not known.
    pub fn may_touch_session(&self, found: &Findings) -> bool {
        found.calls.iter().any(|call| {
            let mut candidates = self.candidates(call).peekable();
            if candidates.peek().is_some() {
                return candidates.any(|one| one.touches_session);
            }
            !self.is_built_in(call)
        })
    }

    fn candidates<'a>(
        &'a self,
        call: &'a Call,
    ) -> impl Iterator<Item = &'a crate::routing::catalog::Function> {
        self.catalog.called(
            call.schema.as_deref(),
            &call.name,
            call.arguments,
            self.path,
        )
    }

    fn is_built_in(&self, call: &Call) -> bool {
        let is_there = match &call.schema {
            Some(schema) => **schema == *b"pg_catalog",
            None => self.catalog.is_loaded() || self.path.prefers_built_in(),
        };
        is_there && builtin::function(&call.name).is_some()
    }

    fn call(&self, call: &Call) -> Judgement {
        let name = || text(&call.name);
        if self.is_listed(&self.lists.write, call.schema.as_deref(), &call.name) {
            return (
                Intent::Write,
                Why::Function(name(), "listed in write_functions"),
            );
        }
        if self.is_listed(&self.lists.read, call.schema.as_deref(), &call.name) {
            return (Intent::Read, Why::OnlyReads);
        }
        let (mut is_known, mut may_write) = (false, false);
        for one in self.candidates(call) {
            is_known = true;
            may_write |= one.may_write;
        }
        if may_write {
            return (Intent::Write, Why::Function(name(), CATALOG_WRITES));
        }
        if self.is_built_in(call) {
            return self.built_in(call);
        }
        if !is_known {
            return (Intent::Write, Why::Function(name(), UNKNOWN_FUNCTION));
        }
        // One that is declared to read may still run what it is told to.
        let mut told = call.texts.iter().filter(|text| is_sql(text));
        if told.any(|sql| !self.text_reads(sql, false)) {
            return (
                Intent::Write,
                Why::Function(name(), "the SQL it is given may write"),
            );
        }
        (Intent::Read, Why::OnlyReads)
    }

    fn built_in(&self, call: &Call) -> Judgement {
        let Some((nature, reason)) = builtin::function(&call.name) else {
            return (
                Intent::Write,
                Why::Function(text(&call.name), UNKNOWN_FUNCTION),
            );
        };
        let intent = match nature {
            Nature::Read => return self.read(call),
            Nature::Text if self.texts_read(call) => Intent::Read,
            Nature::Text | Nature::Write => Intent::Write,
            Nature::Session => Intent::Session,
            Nature::NodeLocal => Intent::NodeLocal,
        };
        (intent, Why::Function(text(&call.name), reason))
    }

    /// A setting may tell which node answers: drivers look for the primary by it.
    fn read(&self, call: &Call) -> Judgement {
        let setting = call
            .texts
            .first()
            .filter(|_| *call.name == *b"current_setting");
        match setting.map(|name| name.to_ascii_lowercase()) {
            Some(name) if is_node_local_setting(&name) => {
                (Intent::NodeLocal, Why::Setting(text(&name)))
            }
            _ => (Intent::Read, Why::OnlyReads),
        }
    }

    /// Whether the SQL in the constants of `call` only reads. It is not looked for SQL in SQL in SQL.
    fn texts_read(&self, call: &Call) -> bool {
        let Some(sql) = call.texts.iter().max_by_key(|text| text.len()) else {
            return false;
        };
        if *call.name == *b"ts_rewrite"
            || (call.has_more
                && call.texts.len() != 1
                && !call.name.starts_with(b"query_to")
                && !call.name.starts_with(b"table_to"))
        {
            return false;
        }
        self.text_reads(sql, call.name.starts_with(b"table_to"))
    }

    /// Whether `sql` is one query that only reads, or one relation's name where that may stand.
    fn text_reads(&self, sql: &[u8], may_be_relation: bool) -> bool {
        let mut tokens = Vec::new();
        if cut(sql, Strings::Standard, &mut tokens).is_err() {
            return false;
        }
        let mut all = statements(sql, &tokens);
        let (Some(only), None) = (all.next(), all.next()) else {
            return false;
        };
        let is_query = only.is_any(0, &["select", "values", "table", "with"]);
        let is_relation = may_be_relation && only.tokens.len() <= 3;
        let found = scan(only, 0);
        // It is not looked for SQL in SQL in SQL.
        let runs_more = found.calls.iter().any(|call| {
            call.texts.iter().any(|text| is_sql(text))
                || matches!(builtin::function(&call.name), Some((Nature::Text, _)))
        });
        (is_query || is_relation) && !runs_more && self.all(&found).0 == Intent::Read
    }

    fn mention(&self, mention: &Mention) -> Option<Judgement> {
        let schema = mention.schema.as_deref();
        let name = &*mention.name;
        if let Some(reason) = self.catalog.relation(schema, name, self.path) {
            let is_listed = reason == crate::routing::learn::FOREIGN
                && self.is_listed(&self.lists.read, schema, name);
            if !is_listed {
                return Some((Intent::Write, Why::Relation(text(name), reason)));
            }
        }
        if self.catalog.type_named(name).is_some() {
            return Some((Intent::Write, Why::Type(text(name))));
        }
        if mention.is_part && self.catalog.attributes.contains_key(name) {
            return Some((Intent::Write, Why::Function(text(name), CATALOG_WRITES)));
        }
        if schema.is_some_and(|schema| schema.starts_with(b"pg_temp")) {
            let reason = "a temporary table";
            return Some((Intent::Session, Why::Relation(text(name), reason)));
        }
        if !name.starts_with(b"pg_") || schema.is_some_and(|schema| schema != b"pg_catalog") {
            return None;
        }
        if builtin::is_session_relation(name) {
            let reason = "it shows the session's own state";
            return Some((Intent::Session, Why::Relation(text(name), reason)));
        }
        builtin::is_node_local_relation(name).then(|| {
            let reason = "it shows the node that answers";
            (Intent::NodeLocal, Why::Relation(text(name), reason))
        })
    }

    fn operator(&self, symbol: &[u8]) -> Option<Judgement> {
        let own = self.catalog.operators.get(symbol);
        if own.is_some_and(|all| all.iter().any(|one| one.may_write)) {
            return Some((Intent::Write, Why::Operator(text(symbol), CATALOG_WRITES)));
        }
        if own.is_some() || builtin::is_operator(symbol) {
            return None;
        }
        Some((Intent::Write, Why::Operator(text(symbol), UNKNOWN_FUNCTION)))
    }

    fn is_listed(&self, patterns: &[String], schema: Option<&[u8]>, name: &[u8]) -> bool {
        if patterns.is_empty() {
            return false;
        }
        patterns
            .iter()
            .any(|pattern| match pattern.rsplit_once('.') {
                None => matches(pattern.as_bytes(), name),
                Some((wanted, pattern)) => {
                    let is_there = match schema {
                        Some(schema) => matches(wanted.as_bytes(), schema),
                        None => match &self.path.0 {
                            None => true,
                            Some(path) => {
                                path.iter().any(|schema| matches(wanted.as_bytes(), schema))
                            }
                        },
                    };
                    is_there && matches(pattern.as_bytes(), name)
                }
            })
    }
}

/// Whether a string constant begins as SQL does.
pub fn is_sql(text: &[u8]) -> bool {
    const FIRST: &[&str] = &[
        "select", "with", "values", "table", "insert", "update", "delete", "merge", "truncate",
        "call", "do", "create", "drop", "alter", "set", "reset", "lock", "copy", "notify",
    ];
    let word = first_word(text);
    FIRST
        .iter()
        .any(|first| word.eq_ignore_ascii_case(first.as_bytes()))
}

/// Whether SHOW of this setting tells one node from another.
pub fn is_node_local_setting(name: &[u8]) -> bool {
    matches!(name, b"in_hot_standby" | b"transaction_read_only")
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of bytes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest
            .windows(part.len().max(1))
            .position(|piece| piece == part || part.is_empty())
        else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Bytes for people.
pub fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}
