//! How a value is written in a `pgbouncer.ini`, by the kind of its setting.
//!
//! Numbers are C's: `0x10` is hexadecimal, `010` octal. Booleans are numbers. A length of time is a number of seconds without a
//! unit. Lists are separated by commas or blanks.

use crate::config::problem::Refusal;
use crate::config::slot::{Given, Slot};

/// In what a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// A line of `[pgbouncer]`.
    Line,
    /// A pair behind a name, where a number below zero means "not set" and times are whole seconds.
    Pairs,
}

/// Numbers of `[pgbouncer]` of which one below zero says what 0 says.
const NONE_BELOW_ZERO: &[&str] = &[
    "max_db_connections",
    "max_user_connections",
    "min_pool_size",
    "reserve_pool_size",
];

/// The text of a line of `[pgbouncer]`, with 0 in the place of a number below it where PgBouncer makes no difference.
pub fn without_sign<'t>(key: &str, text: &'t str) -> &'t str {
    let is_below = NONE_BELOW_ZERO.contains(&key) && whole(text).is_some_and(|number| number < 0);
    if is_below { "0" } else { text }
}

/// What `text` says for `slot`; `None` where it says "not set".
///
/// # Errors
/// A [`Refusal`] that says what would have been right.
pub fn given(slot: &Slot<'_>, text: &str, within: Within) -> Result<Option<Given>, Refusal> {
    let whole = || whole(text).ok_or_else(|| refused("a whole number", text));
    let given = match slot {
        Slot::Flag(_) => Given::Flag(whole().map_err(|_| refused("0 or 1", text))? != 0),
        Slot::MaybeCount(_) | Slot::MaybeSpan(_) => {
            let number = whole()?;
            if number < 0 {
                return Ok(None);
            }
            Given::Whole(number)
        }
        Slot::Ports(..) if text.contains(',') => Given::Text(text.to_owned()),
        Slot::Port(_) | Slot::Ports(..) | Slot::Small(_) | Slot::Count(_) | Slot::Bytes(_) => {
            Given::Whole(whole()?)
        }
        Slot::Permissions(_) | Slot::Millis(_) => Given::Whole(whole()?),
        Slot::Span(_) if within == Within::Pairs => Given::Whole(whole()?),
        Slot::Span(_) => Given::Fraction(seconds(text)?),
        Slot::List(_) | Slot::Protocols(_) => {
            let items = text.split([',', ' ', '\t', ':'].as_slice());
            // A colon stands in addresses.
            let items: Vec<_> = match slot {
                Slot::Protocols(_) => items.collect(),
                _ => text.split([',', ' ', '\t']).collect(),
            };
            let items = items.into_iter().filter(|item| !item.is_empty());
            Given::List(items.map(|item| Given::Text(item.to_owned())).collect())
        }
        Slot::Text(_) | Slot::MaybeText(_) | Slot::Path(_) | Slot::Hidden(_) | Slot::Word(_) => {
            Given::Text(text.to_owned())
        }
        #[allow(
            unreachable_patterns,
            reason = "other kinds have no form of their own here"
        )]
        _ => Given::Loose(text.to_owned()),
    };
    Ok(Some(given))
}

fn refused(what: &str, text: &str) -> Refusal {
    Refusal::new(format!("expected {what}, found {text:?}"))
}

/// A whole number as C's `strtol` reads it with base 0, with nothing behind it.
pub fn whole(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        (None, _) => (digits, 10),
    };
    if !digits.starts_with(|each: char| each.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(digits, radix)
        .ok()
        .map(|number| sign * number)
}

/// A number of seconds.
fn seconds(text: &str) -> Result<f64, Refusal> {
    let is_number = text.starts_with(|each: char| each.is_ascii_digit() || each == '.')
        && text
            .chars()
            .all(|each| each.is_ascii_digit() || each == '.');
    let number = if is_number { text.parse().ok() } else { None };
    number.ok_or_else(|| {
        refused("a number of seconds", text)
            .hint("units are not understood here; for example 5 or 0.25")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        assert_eq!(whole("0777"), Some(0o777));
        assert_eq!(whole("0x1F"), Some(31));
        assert_eq!(whole("-12"), Some(-12));
        assert_eq!(whole("0"), Some(0));
        for text in ["", "-", "1x", "08", "0x", "1.5", "true", "1 2", "--1"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn booleans_are_numbers() {
        let mut flag = false;
        let on = given(&Slot::Flag(&mut flag), "1", Within::Line);
        assert_eq!(on, Ok(Some(Given::Flag(true))));
        for text in ["true", "on", "yes", ""] {
            assert!(given(&Slot::Flag(&mut flag), text, Within::Line).is_err());
        }
    }

    #[test]
    fn times_are_seconds_without_a_unit() {
        let mut span = Duration::ZERO;
        let half = given(&Slot::Span(&mut span), "0.5", Within::Line);
        assert_eq!(half, Ok(Some(Given::Fraction(0.5))));
        for text in ["5s", "-1", "1e3", "inf", ""] {
            assert!(given(&Slot::Span(&mut span), text, Within::Line).is_err());
        }
    }

    #[test]
    fn a_number_below_zero_behind_a_name_is_not_set() {
        let mut size = None;
        let unset = given(&Slot::MaybeCount(&mut size), "-1", Within::Pairs);
        assert_eq!(unset, Ok(None));
    }

    #[test]
    fn lists_are_separated_by_commas_or_blanks() {
        let mut list = Vec::new();
        let read = given(&Slot::List(&mut list), "ann, bob  carl,::1", Within::Line);
        let items = ["ann", "bob", "carl", "::1"].map(|item| Given::Text(item.to_owned()));
        assert_eq!(read, Ok(Some(Given::List(items.into()))));
    }
}
