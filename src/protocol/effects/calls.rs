//! Calls of built-in functions that leave something in the session.

use crate::protocol::effects::{Effect, PinReason};
use crate::protocol::lexer::Kind;
use crate::protocol::sql::{Cursor, Name, Statement, quote_text};

/// Adds what the calls in `statement` leave behind.
pub(super) fn of(statement: Statement<'_>, found: &mut Vec<Effect>) {
    if set_config_alone(statement, found) {
        return;
    }
    let mut add = |effect: Effect| {
        if !found.contains(&effect) {
            found.push(effect);
        }
    };
    if may_draw_from_sequences(statement) {
        add(Effect::Pins(PinReason::NextVal));
    }
    if updates_settings(statement) {
        add(Effect::Pins(PinReason::Setting));
    }
    for at in 0..statement.tokens.len() {
        if let Some(name) = built_in(statement, at)
            && let Some(effect) = effect(&name, statement, at)
        {
            add(effect);
        }
    }
}

/// The name of the function called at `at`, if it may be one of PostgreSQL's own: it has no schema, or `pg_catalog`.
fn built_in(statement: Statement<'_>, at: usize) -> Option<Name> {
    if !statement.has(at + 1, b'(') {
        return None;
    }
    let is_qualified = at >= 2 && statement.has(at - 1, b'.');
    if is_qualified && statement.name(at - 2).as_deref() != Some(b"pg_catalog") {
        return None;
    }
    statement.name(at)
}

fn effect(name: &[u8], statement: Statement<'_>, at: usize) -> Option<Effect> {
    let reason = match name {
        b"nextval" | b"setval" => PinReason::NextVal,
        b"currval" | b"lastval" => PinReason::Sequence,
        b"pg_advisory_lock"
        | b"pg_advisory_lock_shared"
        | b"pg_try_advisory_lock"
        | b"pg_try_advisory_lock_shared" => PinReason::AdvisoryLock,
        b"lo_open" => PinReason::LargeObject,
        b"pg_replication_origin_session_setup" => PinReason::ReplicationOrigin,
        // The random numbers that follow are the session's own.
        b"setseed" => PinReason::Setting,
        b"set_config" if is_local(statement, at) => return None,
        b"set_config" => PinReason::Setting,
        // What it sets is undone with the transaction only if asked; a library stays.
        b"dblink_connect" | b"dblink_connect_u" => PinReason::Unknown,
        b"pg_notify" => return Some(Effect::Notify),
        b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => {
            return Some(Effect::Unlocks);
        }
        b"pg_replication_origin_session_reset" => return Some(Effect::Drops),
        _ => return None,
    };
    Some(Effect::Pins(reason))
}

/// INSERT, MERGE, COPY FROM and UPDATE … = DEFAULT may call nextval for a column's default.
fn may_draw_from_sequences(statement: Statement<'_>) -> bool {
    (0..statement.tokens.len()).any(|at| {
        (statement.is(at, "into") && statement.is_any(at.wrapping_sub(1), &["insert", "merge"]))
            || (at > 0 && statement.is(at, "default"))
            || (statement.is(0, "copy") && statement.is(at, "from"))
    })
}

/// UPDATE of pg_settings: a rule of that view calls set_config.
fn updates_settings(statement: Statement<'_>) -> bool {
    let is_target = |at: usize| {
        let at = if statement.is(at, "only") { at + 1 } else { at };
        let at = if statement.has(at, b'(') { at + 1 } else { at };
        let at = if statement.has(at + 1, b'.') {
            at + 2
        } else {
            at
        };
        statement.name(at).as_deref() == Some(b"pg_settings")
    };
    (0..statement.tokens.len()).any(|at| statement.is(at, "update") && is_target(at + 1))
}

/// Whether the third argument of the set_config called at `at` is plainly true.
fn is_local(statement: Statement<'_>, at: usize) -> bool {
    let (mut depth, mut commas) = (0usize, 0);
    // Calls may nest without end; one whose arguments are this long is not plain.
    for here in at + 1..statement.tokens.len().min(at + 64) {
        match statement.tokens[here].kind {
            Kind::Mark(b'(' | b'[') => depth += 1,
            Kind::Mark(b')' | b']') => depth = depth.saturating_sub(1),
            Kind::Mark(b',') if depth == 1 => {
                commas += 1;
                if commas == 2 {
                    return yes_or_no(statement, here + 1) == Some(true)
                        && statement.has(here + 2, b')');
                }
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    false
}

fn yes_or_no(statement: Statement<'_>, at: usize) -> Option<bool> {
    let word = match statement.tokens.get(at)?.kind {
        Kind::Word => statement.slice(at, at + 1).to_ascii_lowercase(),
        _ => statement.text_at(at)?,
    };
    match &*word {
        b"true" | b"t" | b"on" | b"yes" | b"1" => Some(true),
        b"false" | b"f" | b"off" | b"no" | b"0" => Some(false),
        _ => None,
    }
}

/// `SELECT set_config('name', 'value', false) [AS x], …` and nothing else: then it ran once, and the text tells what was set.
fn set_config_alone(statement: Statement<'_>, found: &mut Vec<Effect>) -> bool {
    let mut cursor = statement.cursor();
    let mut effects = Vec::new();
    if !cursor.eat("select") {
        return false;
    }
    loop {
        let Some(effect) = set_config(&mut cursor) else {
            return false;
        };
        effects.push(effect);
        if cursor.eat("as") && cursor.name().is_none() {
            return false;
        }
        if cursor.is_at_end() {
            found.append(&mut effects);
            return true;
        }
        if !cursor.eat_mark(b',') {
            return false;
        }
    }
}

fn set_config(cursor: &mut Cursor<'_>) -> Option<Effect> {
    if cursor.eat("pg_catalog") && !cursor.eat_mark(b'.') {
        return None;
    }
    if cursor.name().as_deref() != Some(b"set_config") || !cursor.eat_mark(b'(') {
        return None;
    }
    let name: Name = constant(cursor)?.to_ascii_lowercase().into();
    cursor.eat_mark(b',').then_some(())?;
    let value = if cursor.eat("null") {
        None
    } else {
        Some(constant(cursor)?)
    };
    cursor.eat_mark(b',').then_some(())?;
    let is_local = yes_or_no(cursor.statement, cursor.at)?;
    cursor.at += 1;
    cursor.eat_mark(b')').then_some(())?;
    let Some(value) = value else {
        return (!is_local).then_some(Effect::Reset(name));
    };
    let sql = [
        b"SELECT pg_catalog.set_config(",
        &*quote_text(&name),
        b", ",
        &*quote_text(&value),
        b", false)",
    ]
    .concat();
    Some(Effect::Set {
        name,
        sql: sql.into(),
        is_local,
    })
}

/// A string constant, perhaps cast to text.
fn constant(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let value = cursor.statement.text_at(cursor.at)?;
    cursor.at += 1;
    let is_cast = cursor
        .statement
        .tokens
        .get(cursor.at)
        .is_some_and(|token| token.kind == Kind::Cast);
    if is_cast {
        cursor.at += 1;
        cursor.eat("text").then_some(())?;
    }
    Some(value)
}
