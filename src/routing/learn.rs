//! A catalog out of the rows of one query.
//!
//! The server knows which functions are VOLATILE; it does not know that a STABLE one calls them, that a view does, or that a domain's
//! check does. So sources and definitions are read with the same scanner as queries, and what they name is followed until nothing
//! new is found.

use std::collections::HashMap;

use crate::protocol::lexer::{Strings, Token, cut};
use crate::protocol::sql::{Name, Statement};
use crate::routing::builtin::{self, Nature};
use crate::routing::catalog::{Catalog, Danger, Function, Operator, Path};
use crate::routing::intent::Intent;
use crate::routing::judge::{Judge, Lists};
use crate::routing::scan::{Findings, scan};

/// Asks a database for what its catalog needs: rows of seven texts, to be given to [`learn`]. To be sent as one simple query outside a
/// transaction: it sets the search path until its own end, so that definitions name schemas. Any role may run it; it reads system
/// catalogs only; for PostgreSQL 11 and later.
pub const CATALOG_SQL: &str = include_str!("catalog.sql");

/// Why a foreign table is dangerous. `read_functions` may list it.
pub const FOREIGN: &str = "a foreign table: what its server does is not known";
const UNLOGGED: &str = "an unlogged table, which a standby does not have";
const VIEW: &str = "a view over what may write";
const POLICY: &str = "a row security policy of it calls what may write";
const PART: &str = "a part of it cannot be read on a standby";
const TYPE: &str = "a cast or check of it calls what may write";

/// Words in a function's source after which it may leave something in the session.
const SESSION_WORDS: &[&str] = &[
    "advisory",
    "set_config",
    "temp",
    "set ",
    "listen",
    "hold",
    "lo_open",
    "load ",
    "execute",
    "origin",
    "dblink",
    "discard",
    "deallocate",
    "reset ",
    "currval",
    "lastval",
    "setseed",
];

/// A row of the answer: kind, schema, name, three facts, source. What each kind's facts are stands in `catalog.sql`.
pub type Row = [Option<String>];

/// What is dangerous if its definition names what may write.
struct Defined {
    kind: Kind,
    schema: Name,
    name: Name,
    /// Its place among the functions of its name.
    index: usize,
    found: Findings,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    View,
    Policy,
    Domain,
}

#[derive(Default)]
struct Learner {
    catalog: Catalog,
    defined: Vec<Defined>,
    /// Casts, base types and operators with the functions behind them.
    behind: Vec<(String, Name, Name, Name, Name)>,
    parents: Vec<[Name; 4]>,
    triggers: Vec<[Name; 4]>,
    tokens: Vec<Token>,
}

/// Makes a catalog of `generation` (not 0) out of the rows of [`CATALOG_SQL`]. Rows of kinds it does not know are passed over.
pub fn learn<'a>(generation: u64, rows: impl IntoIterator<Item = &'a Row>) -> Catalog {
    let mut learner = Learner::default();
    learner.catalog.generation = generation.max(1);
    for row in rows {
        learner.row(row);
    }
    learner.operators();
    while learner.follow() {}
    learner.parents();
    learner.attributes();
    learner.triggers();
    learner.catalog.sort();
    learner.catalog
}

fn field(row: &Row, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

impl Learner {
    fn row(&mut self, row: &Row) {
        let [schema, own] = [name(field(row, 1)), name(field(row, 2))];
        let facts = [field(row, 3), field(row, 4), field(row, 5)];
        let source = field(row, 6);
        match field(row, 0) {
            "function" => self.function(schema, own, facts, source),
            "built in" if builtin::function(&own).is_none() => {
                self.catalog
                    .functions
                    .entry(own)
                    .or_default()
                    .push(Function {
                        schema,
                        least: 0,
                        most: usize::MAX,
                        may_write: false,
                        is_volatile: false,
                        touches_session: false,
                    });
            }
            "relation" => match facts {
                ["f", ..] => self.danger(schema, own, FOREIGN),
                [_, "u", _] => self.danger(schema, own, UNLOGGED),
                ["v", ..] => self.define(Kind::View, schema, own, source),
                _ => {}
            },
            "policy" => self.define(Kind::Policy, schema, own, source),
            "domain" => self.define(Kind::Domain, schema, own, source),
            kind @ ("operator" | "cast" | "input") => {
                let function = (name(facts[0]), name(facts[1]));
                self.behind
                    .push((kind.to_owned(), schema, own, function.0, function.1));
            }
            "parent" => self
                .parents
                .push([schema, own, name(facts[0]), name(facts[1])]),
            "trigger" => self
                .triggers
                .push([schema, own, name(facts[0]), name(facts[1])]),
            _ => {}
        }
    }

    fn function(&mut self, schema: Name, own: Name, facts: [&str; 3], source: &str) {
        let flags = facts[2];
        let is_volatile = flags.contains('v');
        let is_readable_language = flags.contains('q');
        let lower = source.to_ascii_lowercase();
        let is_compiled = flags.contains('c');
        let touches_session = !is_compiled
            && (!is_readable_language || SESSION_WORDS.iter().any(|word| lower.contains(word)));
        let all = self.catalog.functions.entry(own.clone()).or_default();
        all.push(Function {
            schema: schema.clone(),
            least: facts[0].parse().unwrap_or(0),
            most: facts[1].parse().unwrap_or(usize::MAX),
            may_write: is_volatile,
            is_volatile,
            touches_session,
        });
        let index = all.len() - 1;
        if flags.contains('r') {
            self.catalog
                .attributes
                .entry(own.clone())
                .or_default()
                .push(schema.clone());
        }
        // Of every function the arguments stand there: a default is an expression, and a domain's check is run by the call.
        self.define(Kind::Function, schema, own, source);
        if let Some(defined) = self.defined.last_mut() {
            defined.index = index;
        }
    }

    fn danger(&mut self, schema: Name, own: Name, reason: &'static str) {
        let all = self.catalog.relations.entry(own).or_default();
        if !all.iter().any(|danger| danger.schema == schema) {
            all.push(Danger { schema, reason });
        }
    }

    fn define(&mut self, kind: Kind, schema: Name, own: Name, source: &str) {
        let mut tokens = std::mem::take(&mut self.tokens);
        let read = cut(source.as_bytes(), Strings::Standard, &mut tokens);
        let mut found = scan(
            Statement {
                text: source.as_bytes(),
                tokens: &tokens,
            },
            0,
        );
        found.is_odd |= read.is_err();
        self.tokens = tokens;
        self.defined.push(Defined {
            kind,
            schema,
            name: own,
            index: 0,
            found,
        });
    }

    /// One round over all definitions; whether anything became dangerous.
    fn follow(&mut self) -> bool {
        let mut dangerous = Vec::new();
        let mut touching = Vec::new();
        {
            // Definitions name every schema but PostgreSQL's own. Sources were written for a path that is not known.
            let (own, any) = (Path(Some(Vec::new())), Path::default());
            let lists = Lists::default();
            for (at, one) in self.defined.iter().enumerate() {
                let known = self.known(one);
                let judge = Judge {
                    catalog: &self.catalog,
                    path: if one.kind == Kind::Function {
                        &any
                    } else {
                        &own
                    },
                    lists: &lists,
                };
                if !known.0 && is_dangerous(&judge, one) {
                    dangerous.push(at);
                }
                if one.kind == Kind::Function && !known.1 && calls_toucher(&self.catalog, one) {
                    touching.push(at);
                }
            }
        }
        let behind: Vec<_> = self
            .behind
            .iter()
            .filter(|one| one.0 != "operator" && self.may_write(&one.3, &one.4))
            .map(|one| (one.1.clone(), one.2.clone()))
            .collect();
        let mut is_new = !dangerous.is_empty() || !touching.is_empty();
        for (schema, own) in behind {
            is_new |= self.dangerous_type(schema, own);
        }
        for at in dangerous {
            self.mark(at);
        }
        for at in touching {
            let (own, index) = (self.defined[at].name.clone(), self.defined[at].index);
            if let Some(one) = self.function_at(&own, index) {
                one.touches_session = true;
            }
        }
        self.operators();
        is_new
    }

    /// Whether a definition is known to be dangerous, and to touch the session.
    fn known(&self, one: &Defined) -> (bool, bool) {
        let has = |all: &HashMap<Name, Vec<Danger>>| {
            all.get(&one.name)
                .is_some_and(|all| all.iter().any(|danger| danger.schema == one.schema))
        };
        match one.kind {
            Kind::View | Kind::Policy => (has(&self.catalog.relations), true),
            Kind::Domain => (has(&self.catalog.types), true),
            Kind::Function => self
                .catalog
                .functions
                .get(&one.name)
                .and_then(|all| all.get(one.index))
                .map_or((true, true), |one| (one.may_write, one.touches_session)),
        }
    }

    fn function_at(&mut self, own: &Name, index: usize) -> Option<&mut Function> {
        self.catalog.functions.get_mut(own)?.get_mut(index)
    }

    fn mark(&mut self, at: usize) {
        let one = &self.defined[at];
        let (schema, own, index) = (one.schema.clone(), one.name.clone(), one.index);
        match one.kind {
            Kind::View => self.danger(schema, own, VIEW),
            Kind::Policy => self.danger(schema, own, POLICY),
            Kind::Domain => {
                self.dangerous_type(schema, own);
            }
            Kind::Function => {
                if let Some(one) = self.function_at(&own, index) {
                    one.may_write = true;
                }
            }
        }
    }

    fn dangerous_type(&mut self, schema: Name, own: Name) -> bool {
        let all = self.catalog.types.entry(own).or_default();
        let is_new = !all.iter().any(|danger| danger.schema == schema);
        if is_new {
            all.push(Danger {
                schema,
                reason: TYPE,
            });
        }
        is_new
    }

    fn may_write(&self, schema: &Name, own: &Name) -> bool {
        self.catalog
            .functions
            .get(own)
            .into_iter()
            .flatten()
            .any(|one| one.schema == *schema && one.may_write)
    }

    fn operators(&mut self) {
        let mut operators: HashMap<Box<[u8]>, Vec<Operator>> = HashMap::new();
        for (kind, schema, symbol, function_schema, function) in &self.behind {
            if kind == "operator" {
                operators.entry(symbol.clone()).or_default().push(Operator {
                    schema: schema.clone(),
                    may_write: self.may_write(function_schema, function),
                });
            }
        }
        self.catalog.operators = operators;
    }

    /// A table is as dangerous as its parts.
    fn parents(&mut self) {
        loop {
            let found: Vec<_> = self
                .parents
                .iter()
                .filter(|[schema, own, child_schema, child]| {
                    let relations = &self.catalog.relations;
                    let has = |own: &Name, schema: &Name| {
                        relations
                            .get(own)
                            .is_some_and(|all| all.iter().any(|danger| danger.schema == *schema))
                    };
                    has(child, child_schema) && !has(own, schema)
                })
                .map(|[schema, own, ..]| (schema.clone(), own.clone()))
                .collect();
            if found.is_empty() {
                return;
            }
            for (schema, own) in found {
                self.danger(schema, own, PART);
            }
        }
    }

    /// Of functions that take a row only those matter that may write.
    fn attributes(&mut self) {
        let functions = &self.catalog.functions;
        self.catalog.attributes.retain(|own, schemas| {
            schemas.retain(|schema| {
                functions
                    .get(own)
                    .into_iter()
                    .flatten()
                    .any(|one| one.schema == *schema && one.may_write && one.least <= 1)
            });
            !schemas.is_empty()
        });
    }

    fn triggers(&mut self) {
        for [schema, table, function_schema, function] in std::mem::take(&mut self.triggers) {
            let touches = self
                .catalog
                .functions
                .get(&function)
                .into_iter()
                .flatten()
                .any(|one| one.schema == function_schema && one.touches_session);
            if touches {
                self.catalog.triggers.entry(table).or_default().push(schema);
            }
        }
    }
}

/// A view, policy or check is dangerous unless it is known to read only. A function's source holds more than queries, so only what
/// it surely names counts; its own declaration says the rest.
fn is_dangerous(judge: &Judge<'_>, one: &Defined) -> bool {
    if one.kind != Kind::Function {
        return judge.all(&one.found).0 != Intent::Read;
    }
    let calls = one.found.calls.iter().any(|call| {
        let own = judge.catalog.called(
            call.schema.as_deref(),
            &call.name,
            call.arguments,
            judge.path,
        );
        let mut own = own.peekable();
        if own.peek().is_some() {
            return own.any(|function| function.may_write);
        }
        matches!(
            builtin::function(&call.name),
            Some((Nature::Write | Nature::Session, _))
        )
    });
    calls
        || one.found.names.iter().any(|mention| {
            judge
                .catalog
                .relation(mention.schema.as_deref(), &mention.name, judge.path)
                .is_some()
                || judge.catalog.type_named(&mention.name).is_some()
        })
}

fn calls_toucher(catalog: &Catalog, one: &Defined) -> bool {
    let path = Path::default();
    one.found.calls.iter().any(|call| {
        catalog
            .called(call.schema.as_deref(), &call.name, call.arguments, &path)
            .any(|function| function.touches_session)
    })
}
