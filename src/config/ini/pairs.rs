//! What stands behind the name of a database, a user or a peer: `key=value` with spaces between them.
//!
//! A value is bare up to the next space, or stands in single quotes, where `''` is one quote. It cannot be empty.

use crate::config::ini::lines::BadLine;

/// One `key=value`, and where each begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'t> {
    /// The key.
    pub key: &'t str,
    /// Where it begins, in bytes.
    pub key_at: usize,
    /// The value, without quotes.
    pub value: String,
    /// Where it begins.
    pub value_at: usize,
}

/// All pairs of `text`, in order.
///
/// # Errors
/// The first place that is no pair.
pub fn read(text: &str) -> Result<Vec<Pair<'_>>, BadLine> {
    let (mut pairs, mut at) = (Vec::new(), skip(text, 0));
    while at < text.len() {
        let (pair, end) = one(text, at)?;
        pairs.push(pair);
        at = skip(text, end);
    }
    Ok(pairs)
}

/// The first byte from `at` on that is no space.
fn skip(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches(' ').len()
}

fn one(text: &str, key_at: usize) -> Result<(Pair<'_>, usize), BadLine> {
    let rest = &text[key_at..];
    let is_key = |each: char| each.is_ascii_alphanumeric() || each == '_';
    let length = rest.find(|each| !is_key(each)).unwrap_or(rest.len());
    if length == 0 {
        let why = "expected key=value; a comment has a line of its own";
        return Err(BadLine { at: key_at, why });
    }
    let equals = skip(text, key_at + length);
    if !text[equals..].starts_with('=') {
        let why = "expected \"=\" behind the key";
        return Err(BadLine { at: equals, why });
    }
    let value_at = skip(text, equals + 1);
    let (value, end) = value(text, value_at)?;
    if value.is_empty() {
        let why = "expected a value: an empty one cannot be given, leave the key out";
        return Err(BadLine { at: value_at, why });
    }
    let pair = Pair {
        key: &text[key_at..key_at + length],
        key_at,
        value,
        value_at,
    };
    Ok((pair, end))
}

fn value(text: &str, at: usize) -> Result<(String, usize), BadLine> {
    let Some(quoted) = text[at..].strip_prefix('\'') else {
        let end = text[at..]
            .find(' ')
            .map_or(text.len(), |length| at + length);
        return Ok((text[at..end].to_owned(), end));
    };
    let (mut value, mut rest, mut end) = (String::new(), quoted, at + 1);
    loop {
        let Some(length) = rest.find('\'') else {
            let why = "expected a \"'\" at the end of the value";
            return Err(BadLine { at, why });
        };
        value.push_str(&rest[..length]);
        end += length + 1;
        rest = &rest[length + 1..];
        let Some(more) = rest.strip_prefix('\'') else {
            return Ok((value, end));
        };
        value.push('\'');
        end += 1;
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<String>, usize> {
        let shown = |pair: Pair<'_>| format!("{}={}", pair.key, pair.value);
        read(text)
            .map(|pairs| pairs.into_iter().map(shown).collect())
            .map_err(|bad| bad.at)
    }

    #[test]
    fn spaces_stand_between_pairs_and_may_stand_around_the_sign() {
        assert_eq!(pairs("a=1 b = 2  c=3 ").unwrap(), ["a=1", "b=2", "c=3"]);
        assert_eq!(pairs("").unwrap(), [""; 0]);
    }

    #[test]
    fn a_quoted_value_may_hold_anything() {
        assert_eq!(
            pairs("a='b c' d='it''s' e='='").unwrap(),
            ["a=b c", "d=it's", "e=="]
        );
        assert_eq!(pairs("a='''' b=1").unwrap(), ["a='", "b=1"]);
    }

    #[test]
    fn what_is_no_pair_is_refused_at_its_place() {
        assert_eq!(pairs("a=1 ; one"), Err(4));
        assert_eq!(pairs("a=1 b"), Err(5));
        assert_eq!(pairs("a= "), Err(3));
        assert_eq!(pairs("password="), Err(9));
        assert_eq!(pairs("password=''"), Err(9));
        assert_eq!(pairs("a='b"), Err(2));
    }

    #[test]
    fn places_are_those_of_key_and_value() {
        let read = read("a=1  bc = 'd'").unwrap();
        assert_eq!((read[1].key_at, read[1].value_at), (5, 10));
    }
}
