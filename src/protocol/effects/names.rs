//! Statements that name something of the session: prepared statements, channels, cursors, temporary objects.

use crate::protocol::effects::{Effect, Extent, PinReason, calls, of_statement};
use crate::protocol::sql::{Cursor, Name, Statement};

/// The effects of PREPARE, EXECUTE, DEALLOCATE, DISCARD, LISTEN, UNLISTEN, NOTIFY, DECLARE, CLOSE, LOAD; the cursor stands behind
/// `word`.
pub(super) fn of(word: &[u8], mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    match word {
        b"prepare" => prepare(cursor, found),
        b"execute" => execute(cursor, found),
        b"deallocate" => {
            if cursor.statement.is(cursor.at, "prepare")
                && cursor.at + 1 < cursor.statement.tokens.len()
            {
                cursor.at += 1;
            }
            if cursor.eat("all") {
                found.push(Effect::DeallocateAll);
            } else if let Some((name, at)) = placed(&mut cursor) {
                found.push(Effect::Deallocate { name, at });
            }
        }
        b"discard" => discard(cursor, found),
        b"listen" => found.extend(cursor.name().map(Effect::Listen)),
        b"unlisten" => match cursor.name() {
            Some(name) => found.push(Effect::Unlisten(name)),
            None => found.push(Effect::UnlistenAll),
        },
        b"notify" => found.push(Effect::Notify),
        b"declare" => {
            calls::of(cursor.statement, found);
            let head = cursor.statement.tokens.len().min(16);
            let is_held = (0..head).any(|at| {
                cursor.statement.is(at, "hold") && cursor.statement.is(at.wrapping_sub(1), "with")
            });
            found.extend(is_held.then_some(Effect::Pins(PinReason::HeldCursor)));
        }
        b"close" => found.push(Effect::Closes),
        _ => found.push(Effect::Pins(PinReason::Load)),
    }
}

fn discard(mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    if cursor.eat("all") {
        found.push(Effect::DiscardAll);
    } else if cursor.eat("temp") || cursor.eat("temporary") {
        found.push(Effect::DiscardTemp);
    } else if cursor.eat("sequences") {
        found.push(Effect::DiscardSequences);
    } else if cursor.eat("plans") {
        found.push(Effect::DiscardPlans);
    }
}

fn placed(cursor: &mut Cursor<'_>) -> Option<(Name, Extent)> {
    let token = *cursor.statement.tokens.get(cursor.at)?;
    let name = cursor.name()?;
    Some((name, (token.start, token.end)))
}

fn prepare(mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    let statement = cursor.statement;
    if statement.is(cursor.at, "transaction")
        && statement.tokens.get(2).is_some_and(|token| token.is_text())
    {
        found.push(Effect::PrepareTransaction);
        return;
    }
    let Some((name, at)) = placed(&mut cursor) else {
        return;
    };
    let behind = cursor.at;
    if cursor.eat_mark(b'(') {
        let mut depth = 1;
        while depth > 0 && !cursor.is_at_end() {
            depth += usize::from(statement.has(cursor.at, b'('));
            depth -= usize::from(statement.has(cursor.at, b')'));
            cursor.at += 1;
        }
    }
    let mut does = Vec::new();
    if cursor.eat("as") && !cursor.is_at_end() {
        let inner = Statement {
            text: statement.text,
            tokens: &statement.tokens[cursor.at..],
        };
        // Only SELECT, VALUES and DML can be prepared: another PREPARE in here is an error, and no recursion.
        if !inner.is(0, "prepare") && !inner.is(0, "explain") && !inner.is(0, "create") {
            of_statement(inner, &mut does);
        }
    }
    found.push(Effect::Prepare {
        name,
        at,
        sql: statement.slice(behind, statement.tokens.len()).into(),
        does: does.into(),
    });
}

fn execute(mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    if let Some((name, at)) = placed(&mut cursor) {
        found.push(Effect::Execute { name, at });
    }
    // The arguments are expressions.
    calls::of(cursor.statement, found);
}

/// CREATE: temporary objects, and tables made by a query.
pub(super) fn create(statement: Statement<'_>, found: &mut Vec<Effect>) {
    let mut at = 1;
    while statement.is_any(at, &["or", "replace", "local", "global", "recursive"]) {
        at += 1;
    }
    let is_temp = statement.is_any(at, &["temp", "temporary"]) || is_in_temp_schema(statement);
    let is_table = (at..at + 3).any(|at| statement.is_any(at, &["table", "materialized"]));
    let is_dropped = (0..statement.tokens.len()).any(|at| {
        statement.is(at, "on") && statement.is(at + 1, "commit") && statement.is(at + 2, "drop")
    });
    if is_temp && !is_dropped {
        found.push(Effect::Pins(PinReason::TempTable));
    }
    if !is_table {
        return;
    }
    let made_by = (at..statement.tokens.len()).find(|at| {
        statement.is(*at, "as")
            && statement.is_any(at + 1, &["execute", "select", "with", "values", "table"])
            || statement.is(*at, "as") && statement.has(at + 1, b'(')
    });
    if let Some(at) = made_by {
        if statement.is(at + 1, "execute") {
            let mut cursor = statement.cursor();
            cursor.at = at + 2;
            execute(cursor, found);
        } else {
            calls::of(statement, found);
        }
    }
}

/// `CREATE … pg_temp.name`: temporary without the word.
fn is_in_temp_schema(statement: Statement<'_>) -> bool {
    (1..statement.tokens.len().min(12)).any(|at| {
        statement.has(at + 1, b'.')
            && statement
                .name(at)
                .is_some_and(|name| name.starts_with(b"pg_temp"))
    })
}

/// SELECT … INTO TEMP name.
pub(super) fn is_into_temp(statement: Statement<'_>) -> bool {
    (0..statement.tokens.len()).any(|at| {
        statement.is(at, "into")
            && (statement.is_any(at + 1, &["temp", "temporary"])
                || (statement.is_any(at + 1, &["local", "global"])
                    && statement.is_any(at + 2, &["temp", "temporary"]))
                || (statement.has(at + 2, b'.')
                    && statement
                        .name(at + 1)
                        .is_some_and(|name| name.starts_with(b"pg_temp"))))
    })
}

/// What EXPLAIN runs, and whether it runs it: where the explained statement begins, and whether ANALYZE was asked for.
///
/// An option's value that is no plain "no" is taken for a yes.
pub fn explained(statement: Statement<'_>) -> (usize, bool) {
    let mut cursor = statement.cursor();
    cursor.at = 1;
    if !cursor.statement.has(1, b'(')
        || statement.is_any(2, &["select", "with", "values", "table"])
        || statement.has(2, b'(')
    {
        let mut is_run = false;
        loop {
            if cursor.eat("analyze") || cursor.eat("analyse") {
                is_run = true;
            } else if !cursor.eat("verbose") {
                return (cursor.at, is_run);
            }
        }
    }
    cursor.at = 2;
    let mut is_run = false;
    while !cursor.is_at_end() && !cursor.eat_mark(b')') {
        let is_analyze = statement
            .name(cursor.at)
            .is_some_and(|name| matches!(&*name, b"analyze" | b"analyse"));
        cursor.at += 1;
        let from = cursor.at;
        while !cursor.is_at_end()
            && !statement.has(cursor.at, b',')
            && !statement.has(cursor.at, b')')
        {
            cursor.at += 1;
        }
        if is_analyze {
            is_run = !is_no(statement, from, cursor.at);
        }
        cursor.eat_mark(b',');
    }
    (cursor.at, is_run)
}

fn is_no(statement: Statement<'_>, from: usize, to: usize) -> bool {
    if to != from + 1 {
        return false;
    }
    let value = statement
        .text_at(from)
        .unwrap_or_else(|| statement.slice(from, to).to_vec())
        .to_ascii_lowercase();
    matches!(&*value, b"off" | b"false" | b"0")
}

/// EXPLAIN: nothing, unless it runs what it explains. EXECUTE is told always: its name must be known where it is explained.
pub(super) fn explain(statement: Statement<'_>, found: &mut Vec<Effect>) {
    let (at, is_run) = explained(statement);
    if at >= statement.tokens.len() {
        return;
    }
    let inner = Statement {
        text: statement.text,
        tokens: &statement.tokens[at..],
    };
    if is_run || inner.is(0, "execute") {
        if !inner.is(0, "explain") {
            of_statement(inner, found);
        }
    } else if inner.is(0, "create") {
        let at =
            (0..inner.tokens.len()).find(|at| inner.is(*at, "as") && inner.is(at + 1, "execute"));
        if let Some(at) = at {
            let mut cursor = inner.cursor();
            cursor.at = at + 2;
            execute(cursor, found);
        }
    }
}
