//! Which settings a text sets: SET and set_config, and the names that a server's list of settings leaves out.

use super::arguments::Arguments;
use super::words::{after_space, begins_word, is, word_at};
use super::{Marks, Traces, refuse};
use crate::protocol::pins::Pins;

/// What follows SET.
pub(super) fn set(found: &mut Traces, rest: &[u8]) {
    let (mut name, rest) = dotted(rest);
    if is(&name, "session") {
        // SET SESSION name, or SET SESSION CHARACTERISTICS.
        let (next, _) = dotted(rest);
        if !is(&next, "authorization") {
            name = next;
        }
    }
    if ["local", "transaction", "constraints"]
        .iter()
        .any(|word| is(&name, word))
    {
        return;
    }
    found.marks |= Marks::SETTINGS;
    refuse(found, "SET");
    name_custom(found, &name);
}

/// The name at the beginning of `text`, with its dots and quotes but without what may stand between, and what follows it. One that
/// cannot be read has a quote at its end.
fn dotted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut name, mut at) = (Vec::new(), 0);
    loop {
        at = after_space(text, at);
        let length = match text.get(at) {
            Some(b'"') => text[at + 1..]
                .iter()
                .position(|byte| *byte == b'"')
                .map_or(0, |end| end + 2),
            Some(byte) if begins_word(*byte) => word_at(text, at).len(),
            _ => 0,
        };
        name.extend_from_slice(&text[at..at + length]);
        at += length;
        let is_odd = |byte: &u8| matches!(byte, b'"' | b'&') || !byte.is_ascii();
        if length == 0 || text.get(at).is_some_and(is_odd) {
            name.extend_from_slice(b"\"?");
            return (name, &text[at..]);
        }
        let next = after_space(text, at);
        if text.get(next) != Some(&b'.') {
            return (name, &text[at..]);
        }
        name.push(b'.');
        at = next + 1;
    }
}

fn name_custom(found: &mut Traces, name: &[u8]) {
    let bare: Vec<u8> = name.iter().copied().filter(|byte| *byte != b'"').collect();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    if bare.is_empty() || !bare.iter().all(is_plain) {
        if name.contains(&b'.') || name.contains(&b'"') || name.contains(&b'$') {
            found.lasting |= Pins::UNREAD;
        }
        return;
    }
    if is(&bare, "seed") {
        found.lasting |= Pins::SEED;
    }
    // What pg_settings does not show to everybody is asked for by its name, too.
    if bare.contains(&b'.')
        || is(&bare, "dynamic_library_path")
        || is(&bare, "session_preload_libraries")
    {
        let bare = String::from_utf8(bare).unwrap_or_default();
        found.custom.push(bare.into());
    }
}

/// `set_config(name, value, is_local)`: only one whose third argument is plainly `true` leaves nothing behind.
pub(super) fn set_config(found: &mut Traces, rest: &[u8]) {
    let mut arguments = Arguments::of(rest);
    let (name, _, local) = (arguments.next(), arguments.next(), arguments.next());
    let is_local = local
        .is_some_and(|local| is(local, "true") || is(local, "'true'") || is(local, "'t'"))
        && arguments.is_closed;
    if is_local {
        return;
    }
    found.marks |= Marks::SETTINGS;
    refuse(found, "set_config");
    match name {
        Some([b'\'', name @ .., b'\'']) => name_custom(found, name),
        // The name is not to be seen: it may be any.
        _ => found.lasting |= Pins::UNREAD,
    }
}
