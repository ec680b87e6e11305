//! A server's ErrorResponse, read, and told again with the names that the client gave.

use crate::protocol::prepared::{begin, end};

/// The value of one field of an ErrorResponse's body, as far as it is in view.
pub fn field(mut body: &[u8], field: u8) -> Option<&[u8]> {
    while let [kind, rest @ ..] = body {
        let end = rest.iter().position(|byte| *byte == 0)?;
        if *kind == field {
            return Some(&rest[..end]);
        }
        body = &rest[end + 1..];
    }
    None
}

/// Appends the error whose whole body is `body`, with `to` in the place of `from` in its message. Where the message has no
/// `from`, appends nothing and says so with `false`.
pub fn retell(mut body: &[u8], from: &[u8], to: &[u8], out: &mut Vec<u8>) -> bool {
    let message = field(body, b'M').unwrap_or_default();
    let Some(at) = message.windows(from.len()).position(|part| part == from) else {
        return false;
    };
    let told = [&message[..at], to, &message[at + from.len()..]].concat();
    let start = begin(out, b'E');
    while let [kind, rest @ ..] = body {
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            break;
        };
        out.push(*kind);
        out.extend_from_slice(if *kind == b'M' {
            &told
        } else {
            &rest[..length]
        });
        out.push(0);
        body = &rest[length + 1..];
    }
    out.push(0);
    end(out, start);
    true
}

#[cfg(test)]
mod tests {
    use super::{field, retell};

    const BODY: &[u8] = b"SERROR\0C26000\0Mno \"x\" here\0Ff.c\0\0";

    #[test]
    fn a_field_is_found_unless_it_is_cut_off() {
        assert_eq!(field(BODY, b'C'), Some(&b"26000"[..]));
        assert_eq!(field(BODY, b'D'), None);
        assert_eq!(field(&BODY[..20], b'M'), None);
    }

    #[test]
    fn a_message_is_told_again_with_another_name_and_all_else_as_it_was() {
        let mut out = Vec::new();
        assert!(retell(BODY, b"\"x\"", b"\"mine\"", &mut out));
        assert_eq!(
            out,
            b"E\0\0\0\x28SERROR\0C26000\0Mno \"mine\" here\0Ff.c\0\0"
        );
    }

    #[test]
    fn a_message_without_the_name_is_left_alone() {
        let mut out = Vec::new();
        assert!(!retell(BODY, b"\"y\"", b"\"mine\"", &mut out));
        assert!(!retell(b"", b"\"y\"", b"", &mut out));
        assert!(out.is_empty());
    }
}
