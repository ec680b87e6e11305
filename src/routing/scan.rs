//! What a query names: functions it calls, relations, types and operators; and whether it plainly writes or locks.
//!
//! A query of PostgreSQL can change something in four ways only: by INSERT, UPDATE, DELETE or MERGE in a WITH, by INTO, by a lock
//! clause, and by what it calls. The first three have words of their own. So does a call: a name before a parenthesis, unless the
//! grammar says otherwise there. Where the grammar is left open, a name is taken for a call: that costs a read, never a write.
//! (A tree would tell more, but no parser for it reads all that PostgreSQL reads, and one that reads a part wrongly is worse
//! than none.)

use crate::protocol::lexer::Kind;
use crate::protocol::sql::{Name, Statement};
use crate::routing::keywords::{Keyword, keyword};

/// All that a query names.
#[derive(Debug, Default)]
pub struct Findings {
    /// Every call.
    pub calls: Vec<Call>,
    /// Every name that may stand for a relation, a type, or a function used like a column.
    pub names: Vec<Mention>,
    /// Every operator's symbol.
    pub operators: Vec<Box<[u8]>>,
    /// INSERT, UPDATE, DELETE or MERGE.
    pub modifies: Option<&'static str>,
    /// INTO.
    pub is_into: bool,
    /// FOR UPDATE and its like.
    pub locks: bool,
    /// It is no SQL: a colon of psql, an escape of another kind.
    pub is_odd: bool,
}

/// A function's call.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The schema before its name.
    pub schema: Option<Name>,
    /// Its name.
    pub name: Name,
    /// How many arguments it is given; `None` if that cannot be counted.
    pub arguments: Option<usize>,
    /// The string constants among its arguments, as they stand.
    pub texts: Vec<Vec<u8>>,
    /// Whether anything else is among them.
    pub has_more: bool,
}

/// A name that is not called.
#[derive(Debug, PartialEq, Eq)]
pub struct Mention {
    /// The name before its dot.
    pub schema: Option<Name>,
    /// The name.
    pub name: Name,
    /// Whether a dot stands before it: then it may be a function, used like a column.
    pub is_part: bool,
}

/// Finds all that `statement` names from token `from` on.
pub fn scan(statement: Statement<'_>, from: usize) -> Findings {
    let mut scan = Scan {
        statement,
        closing: closing(statement),
        labels: Vec::new(),
        found: Findings::default(),
    };
    scan.labels = scan.with_names();
    let mut brackets = 0usize;
    for at in from..statement.tokens.len() {
        let token = &statement.tokens[at];
        match token.kind {
            Kind::Word => scan.word(at),
            Kind::Quoted => scan.name(at),
            Kind::UnicodeQuoted => {
                scan.found.is_odd |=
                    statement.is(at + 1, "uescape") || statement.name(at).is_none();
                scan.name(at);
            }
            Kind::Operator => {
                let symbol = token.of(statement.text);
                if symbol != b":=" && symbol != b"=>" {
                    scan.found.operators.push(symbol.into());
                }
            }
            Kind::Mark(b'[') => brackets += 1,
            Kind::Mark(b']') => brackets = brackets.saturating_sub(1),
            Kind::Mark(b':') if brackets == 0 => scan.found.is_odd = true,
            Kind::Text | Kind::EscapeText | Kind::UnicodeText | Kind::Bits | Kind::DollarText => {}
            Kind::Number | Kind::Parameter | Kind::Mark(_) | Kind::Cast => {}
        }
    }
    scan.found
}

struct Scan<'a> {
    statement: Statement<'a>,
    /// For each opening parenthesis, where it closes.
    closing: Vec<u32>,
    /// Names that WITH gives: a parenthesis behind them holds column names.
    labels: Vec<usize>,
    found: Findings,
}

/// For each token that opens a parenthesis, the index of the one that closes it; the length where none does. For one that closes,
/// the index of the one that opened.
fn closing(statement: Statement<'_>) -> Vec<u32> {
    let count = statement.tokens.len();
    let none = u32::try_from(count).unwrap_or(u32::MAX);
    let mut closing = vec![none; count];
    let mut open = Vec::new();
    for (index, token) in (0u32..).zip(statement.tokens) {
        match token.kind {
            Kind::Mark(b'(') => open.push(index),
            Kind::Mark(b')') => {
                if let Some(start) = open.pop() {
                    closing[start as usize] = index;
                    closing[index as usize] = start;
                }
            }
            _ => {}
        }
    }
    closing
}

impl Scan<'_> {
    fn partner(&self, at: usize) -> usize {
        self.closing
            .get(at)
            .map_or(self.statement.tokens.len(), |place| *place as usize)
    }

    /// The places of the names in `WITH a (x) AS (…), b (y) AS (…)`.
    fn with_names(&self) -> Vec<usize> {
        let statement = self.statement;
        let mut names = Vec::new();
        for with in 0..statement.tokens.len() {
            if !statement.is(with, "with") {
                continue;
            }
            let mut at = with + 1 + usize::from(statement.is(with + 1, "recursive"));
            while let Some(token) = statement.tokens.get(at)
                && token.is_name()
            {
                let name = at;
                at += 1;
                if statement.has(at, b'(') {
                    at = self.partner(at) + 1;
                }
                if !statement.is(at, "as") {
                    break;
                }
                at += 1;
                at += usize::from(statement.is(at, "not"));
                at += usize::from(statement.is(at, "materialized"));
                if !statement.has(at, b'(') {
                    break;
                }
                names.push(name);
                at = self.partner(at) + 1;
                if !statement.has(at, b',') {
                    break;
                }
                at += 1;
            }
        }
        names.sort_unstable();
        names
    }

    fn word(&mut self, at: usize) {
        let statement = self.statement;
        let is_part = at > 0 && statement.has(at - 1, b'.');
        if !is_part {
            let is_label = at > 0 && statement.is(at - 1, "as");
            if statement.is(at, "into") {
                self.found.is_into |= !is_label;
            } else if statement.is(at, "for") {
                self.found.locks |= statement.is_any(at + 1, &["update", "share", "no", "key"]);
            } else if !is_label {
                self.data_modifying(at);
            }
        }
        self.name(at);
    }

    fn data_modifying(&mut self, at: usize) {
        let statement = self.statement;
        let found = if statement.is(at, "update") {
            Some("UPDATE")
        } else if statement.is(at, "insert") && statement.is(at + 1, "into") {
            Some("INSERT")
        } else if statement.is(at, "delete") && statement.is(at + 1, "from") {
            Some("DELETE")
        } else if statement.is(at, "merge") && statement.is(at + 1, "into") {
            Some("MERGE")
        } else {
            None
        };
        // FOR UPDATE is a lock, and told as one.
        if found.is_some() && !(at > 0 && statement.is_any(at - 1, &["for", "key"])) {
            self.found.modifies = found;
        }
    }

    /// A word or a quoted name: a call, a mention, or grammar.
    fn name(&mut self, at: usize) {
        let statement = self.statement;
        let is_part = at > 0 && statement.has(at - 1, b'.');
        let kind = match statement.tokens[at].kind {
            Kind::Word if !is_part => statement.name(at).and_then(|name| keyword(&name)),
            _ => None,
        };
        if statement.has(at + 1, b'.') {
            return;
        }
        if statement.has(at + 1, b'(') && self.is_call(at, kind) {
            self.call(at);
        } else if kind != Some(Keyword::Reserved)
            && let Some(name) = statement.name(at)
        {
            let schema = if is_part && at >= 2 {
                statement.name(at - 2)
            } else {
                None
            };
            // `(row).name`: whatever stands before the dot, it is no schema.
            self.found.names.push(Mention {
                schema,
                name,
                is_part,
            });
        }
    }

    /// Whether the name at `at`, behind which a parenthesis opens, is called.
    fn is_call(&self, at: usize, kind: Option<Keyword>) -> bool {
        let statement = self.statement;
        match kind {
            // TREAT calls a function named like the type.
            Some(Keyword::Shape) => return statement.is(at, "treat"),
            Some(Keyword::Reserved) => return false,
            Some(Keyword::FunctionOrType | Keyword::Unreserved) | None => {}
        }
        if self.labels.binary_search(&at).is_ok() {
            return false;
        }
        let mut start = at;
        while start >= 2 && statement.has(start - 1, b'.') {
            start -= 2;
        }
        let Some(before) = start.checked_sub(1) else {
            return true;
        };
        if statement.tokens[before].kind == Kind::Cast || statement.is(before, "as") {
            return false;
        }
        if start != at {
            return true;
        }
        let is_behind_group = statement.has(before, b')');
        if statement.is_any(at, &["over", "filter"]) && is_behind_group {
            return false;
        }
        if statement.is(at, "operator") {
            return !self.is_operator_clause(at);
        }
        if self.is_grammar(at, before) {
            return false;
        }
        if is_behind_group {
            return self.begins_expression_behind(before);
        }
        // `t x (a, b)`: a second name is what FROM calls the first. Behind a word of the grammar an expression may stand.
        match statement.tokens[before].kind {
            Kind::Quoted => false,
            Kind::Word => {
                let is_part = before > 0 && statement.has(before - 1, b'.');
                !is_part
                    && statement
                        .name(before)
                        .is_some_and(|name| keyword(&name).is_some())
            }
            _ => true,
        }
    }

    /// `DISTINCT ON (a) f(b)` and `OPERATOR(x.+) f(b)`: behind these parentheses stands an expression; behind all others a name is
    /// what FROM calls them.
    fn begins_expression_behind(&self, close: usize) -> bool {
        let open = self.partner(close);
        let Some(before) = open.checked_sub(1) else {
            return false;
        };
        if open >= self.statement.tokens.len() {
            return true;
        }
        self.statement.is_any(before, &["on", "operator"])
    }

    /// Whether the word at `at`, behind that at `before`, is grammar here, though it could name a function elsewhere.
    fn is_grammar(&self, at: usize, before: usize) -> bool {
        const PAIRS: &[(&str, &[&str])] = &[
            ("materialized", &["as", "not"]),
            ("sets", &["grouping"]),
            ("by", &["group", "order", "partition"]),
            ("zone", &["time"]),
            ("system", &["tablesample"]),
            ("bernoulli", &["tablesample"]),
            ("first", &["fetch"]),
            ("next", &["fetch"]),
        ];
        const INFIX: &[&str] = &["join", "like", "ilike", "overlaps"];
        let statement = self.statement;
        let is_paired = PAIRS
            .iter()
            .any(|(word, befores)| statement.is(at, word) && statement.is_any(before, befores));
        let is_named = statement.is(before, "ordinality");
        let is_grouping = statement.is_any(at, &["rollup", "cube"]) && self.is_in_group_by(at);
        is_paired
            || is_named
            || is_grouping
            || (statement.is_any(at, INFIX) && self.ends_operand(before))
    }

    /// Whether the clause that `at` stands in is GROUP BY. A clause that began far away is not found: then it is a call.
    fn is_in_group_by(&self, at: usize) -> bool {
        const CLAUSES: &[&str] = &[
            "select", "from", "where", "having", "order", "group", "on", "window", "limit",
        ];
        let mut here = at;
        for _ in 0..200 {
            let Some(before) = here.checked_sub(1) else {
                return false;
            };
            here = before;
            if self.statement.has(here, b')') {
                here = self.partner(here).min(here);
            } else if self.statement.has(here, b'(') {
                return false;
            } else if self.statement.is_any(here, CLAUSES) {
                return self.statement.is(here, "group") && self.statement.is(here + 1, "by");
            }
        }
        false
    }

    /// Whether an operand ends at `at`, or a word that goes before LIKE and JOIN: what follows is infix.
    fn ends_operand(&self, at: usize) -> bool {
        const BEFORE: &[&str] = &[
            "not", "left", "right", "full", "inner", "outer", "cross", "natural",
        ];
        let statement = self.statement;
        match statement.tokens[at].kind {
            Kind::Word => {
                let is_part = at > 0 && statement.has(at - 1, b'.');
                let kind = statement.name(at).and_then(|name| keyword(&name));
                is_part || kind != Some(Keyword::Reserved) || statement.is_any(at, BEFORE)
            }
            Kind::Mark(mark) => matches!(mark, b')' | b']'),
            Kind::Operator | Kind::Cast => false,
            _ => true,
        }
    }

    fn is_operator_clause(&self, at: usize) -> bool {
        let end = self.partner(at + 1).min(self.statement.tokens.len());
        end > at + 2 && self.statement.tokens[end - 1].kind == Kind::Operator
    }

    fn call(&mut self, at: usize) {
        let statement = self.statement;
        let schema = if at >= 2 && statement.has(at - 1, b'.') {
            statement.name(at - 2)
        } else {
            None
        };
        let Some(name) = statement.name(at) else {
            self.found.is_odd = true;
            return;
        };
        let open = at + 1;
        let close = self.partner(open);
        let mut call = Call {
            schema,
            name,
            arguments: None,
            texts: Vec::new(),
            has_more: false,
        };
        if close < statement.tokens.len() {
            self.arguments(open, close, &mut call);
        }
        self.found.calls.push(call);
    }

    /// Counts the arguments between `open` and `close`, and keeps the constants among them.
    fn arguments(&self, open: usize, close: usize, call: &mut Call) {
        let statement = self.statement;
        let mut commas = 0;
        let mut brackets = 0usize;
        let mut is_counting = true;
        let mut at = open + 1;
        while at < close {
            match statement.tokens[at].kind {
                Kind::Mark(b'(') => {
                    call.has_more = true;
                    at = self.partner(at).min(close);
                }
                Kind::Mark(b'[') => brackets += 1,
                Kind::Mark(b']') => brackets = brackets.saturating_sub(1),
                Kind::Mark(b',') if brackets == 0 => commas += usize::from(is_counting),
                // What ORDER BY of an aggregate lists is no argument.
                Kind::Word if statement.is(at, "order") => is_counting = false,
                Kind::Word if statement.is(at, "variadic") => {
                    call.arguments = None;
                    call.has_more = true;
                    return;
                }
                _ if call.texts.len() < 8 => match statement.text_at(at) {
                    Some(text) => call.texts.push(text),
                    None => call.has_more |= !statement.is_any(at, &["true", "false", "null"]),
                },
                _ => call.has_more = true,
            }
            at += 1;
        }
        call.arguments = Some(if close == open + 1 { 0 } else { commas + 1 });
    }
}

#[cfg(test)]
mod tests;
