//! SET and RESET in all their forms.

use crate::protocol::effects::transaction::{Access, Isolation, Modes, modes};
use crate::protocol::effects::{Effect, PinReason};
use crate::protocol::sql::{Cursor, Name, quote_name, quote_text};

/// The effects of SET; the cursor stands behind it.
pub(super) fn set(mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    // `session` and `local` may also be names: SET local.x = 1.
    let is_name = cursor.statement.has(cursor.at + 1, b'.') || is_assignment(&cursor, 1);
    let is_local = !is_name && cursor.eat("local");
    let is_form = cursor
        .statement
        .is_any(cursor.at + 1, &["authorization", "characteristics"]);
    if !is_name && !is_local && !is_form {
        cursor.eat("session");
    }
    if cursor.eat("transaction") {
        found.push(Effect::SetTransaction(modes(&mut cursor)));
    } else if cursor.eat_all(&["session", "characteristics", "as", "transaction"]) {
        characteristics(modes(&mut cursor), found);
    } else if cursor.eat_all(&["session", "authorization"]) {
        special(
            "session_authorization",
            "SESSION AUTHORIZATION ",
            is_local,
            cursor,
            found,
        );
    } else if cursor.statement.is(cursor.at, "role") && !is_assignment(&cursor, 1) {
        cursor.at += 1;
        special("role", "ROLE ", is_local, cursor, found);
    } else if cursor.eat_all(&["time", "zone"]) {
        special("timezone", "TIME ZONE ", is_local, cursor, found);
    } else if cursor.statement.is(cursor.at, "names") && !is_assignment(&cursor, 1) {
        cursor.at += 1;
        special("client_encoding", "NAMES ", is_local, cursor, found);
    } else if cursor.statement.is(cursor.at, "schema") && !is_assignment(&cursor, 1) {
        cursor.at += 1;
        special("search_path", "SCHEMA ", is_local, cursor, found);
    } else if cursor.eat_all(&["xml", "option"]) {
        special("xmloption", "XML OPTION ", is_local, cursor, found);
    } else {
        setting(is_local, cursor, found);
    }
}

/// The effects of RESET; the cursor stands behind it.
pub(super) fn reset(mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    if cursor.eat("all") {
        found.push(Effect::ResetAll);
    } else if cursor.eat_all(&["time", "zone"]) {
        found.push(Effect::Reset((*b"timezone").into()));
    } else if cursor.eat_all(&["session", "authorization"]) {
        found.push(Effect::Reset((*b"session_authorization").into()));
    } else if !cursor.eat("transaction")
        && let Some((name, _)) = setting_name(&mut cursor)
        && transaction_mode(&name, None).is_none()
    {
        found.push(Effect::Reset(name));
    }
}

fn is_assignment(cursor: &Cursor<'_>, ahead: usize) -> bool {
    let at = cursor.at + ahead;
    cursor.statement.is(at, "to")
        || cursor
            .statement
            .tokens
            .get(at)
            .is_some_and(|token| token.of(cursor.statement.text) == b"=")
}

/// A form with words of its own: what follows them is the value.
fn special(name: &str, words: &str, is_local: bool, cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    let name: Name = name.as_bytes().into();
    let is_default = cursor.is_at_end()
        || cursor.statement.is(cursor.at, "default")
        || (words == "TIME ZONE " && cursor.statement.is(cursor.at, "local"));
    if is_default {
        // SET LOCAL … TO DEFAULT ends with the transaction and names no value: nothing to carry.
        found.extend((!is_local).then_some(Effect::Reset(name)));
        return;
    }
    push(name, words.as_bytes(), is_local, cursor, found);
}

/// `name = value, value …`.
fn setting(is_local: bool, mut cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    let Some((name, quoted)) = setting_name(&mut cursor) else {
        return;
    };
    if !is_assignment(&cursor, 0) {
        return;
    }
    cursor.at += 1;
    if let Some(modes) = transaction_mode(&name, Some(&cursor)) {
        found.push(Effect::SetTransaction(modes));
        return;
    }
    if cursor.statement.is(cursor.at, "default") {
        found.extend((!is_local).then_some(Effect::Reset(name)));
        return;
    }
    let mut head = quoted;
    head.extend_from_slice(b" TO ");
    push(name, &head, is_local, cursor, found);
}

fn push(name: Name, head: &[u8], is_local: bool, cursor: Cursor<'_>, found: &mut Vec<Effect>) {
    let mut sql = b"SET SESSION ".to_vec();
    sql.extend_from_slice(head);
    match values(cursor, &mut sql) {
        Some(()) => found.push(Effect::Set {
            name,
            sql: sql.into(),
            is_local,
        }),
        None if is_local => {}
        None => found.push(Effect::Pins(PinReason::Setting)),
    }
}

/// Writes the tokens that are left, strings in a form that reads the same on every server.
fn values(cursor: Cursor<'_>, sql: &mut Vec<u8>) -> Option<()> {
    let statement = cursor.statement;
    for at in cursor.at..statement.tokens.len() {
        if at > cursor.at && !statement.has(at, b',') {
            sql.push(b' ');
        }
        let token = &statement.tokens[at];
        if token.is_text() {
            sql.extend(quote_text(&statement.text_at(at)?));
        } else {
            sql.extend_from_slice(token.of(statement.text));
        }
    }
    Some(())
}

/// A setting's name, in lower case as the server compares it, and as it is written in SQL.
fn setting_name(cursor: &mut Cursor<'_>) -> Option<(Name, Vec<u8>)> {
    let (mut name, mut quoted) = (Vec::new(), Vec::new());
    loop {
        let part = cursor.name()?.to_ascii_lowercase();
        name.extend_from_slice(&part);
        quoted.extend(quote_name(&part));
        if !cursor.eat_mark(b'.') {
            return Some((name.into(), quoted));
        }
        name.push(b'.');
        quoted.push(b'.');
    }
}

/// Whether `name` is of the transaction only, and what `value` makes of it.
fn transaction_mode(name: &[u8], value: Option<&Cursor<'_>>) -> Option<Modes> {
    let word = value.map(|cursor| {
        let at = cursor.at;
        cursor
            .statement
            .text_at(at)
            .unwrap_or_else(|| {
                cursor
                    .statement
                    .slice(at, (at + 1).min(cursor.statement.tokens.len()))
                    .to_vec()
            })
            .to_ascii_lowercase()
    });
    let word = word.unwrap_or_default();
    let is_on = matches!(&*word, b"on" | b"true" | b"yes" | b"1" | b"t" | b"y");
    let is_off = matches!(
        &*word,
        b"off" | b"false" | b"no" | b"0" | b"f" | b"n" | b"of"
    );
    let mut modes = Modes::default();
    match name {
        b"transaction_read_only" => {
            // What cannot be read is taken for READ WRITE: the safe side is the primary.
            modes.access = Some(if is_on {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            });
        }
        b"transaction_deferrable" => modes.deferrable = Some(!is_off),
        b"transaction_isolation" => {
            modes.isolation = match &*word {
                b"repeatable read" => Some(Isolation::RepeatableRead),
                b"read committed" | b"read uncommitted" => Some(Isolation::ReadCommitted),
                _ => Some(Isolation::Serializable),
            }
        }
        _ => return None,
    }
    Some(modes)
}

/// SET SESSION CHARACTERISTICS sets three defaults.
fn characteristics(modes: Modes, found: &mut Vec<Effect>) {
    let mut set = |name: &str, value: &str| {
        found.push(Effect::Set {
            name: name.as_bytes().into(),
            sql: format!("SET SESSION \"{name}\" TO '{value}'")
                .into_bytes()
                .into(),
            is_local: false,
        });
    };
    if let Some(isolation) = modes.isolation {
        let value = match isolation {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        };
        set("default_transaction_isolation", value);
    }
    if let Some(access) = modes.access {
        let value = if access == Access::ReadOnly {
            "on"
        } else {
            "off"
        };
        set("default_transaction_read_only", value);
    }
    if let Some(deferrable) = modes.deferrable {
        let value = if deferrable { "on" } else { "off" };
        set("default_transaction_deferrable", value);
    }
}
