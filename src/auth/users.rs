//! The auth_file and who stands in it.
//!
//! ```text
//! ; a comment
//! "ann" "SCRAM-SHA-256$4096:…"   the rest of a line is ignored
//! "o""brien" "a plain password"
//! ```
//!
//! As PgBouncer reads it: a quote is written twice, `#` begins no comment, a text may go over lines, and the first entry
//! that cannot be read ends the reading, while those before it stay. One difference: name and secret must begin on the
//! same line. PgBouncer takes the next quoted text wherever it stands, so a name without a secret gets the next user's
//! name for a password.

use std::collections::HashMap;

use super::password::Verifier;
use crate::secret::Secret;

/// The longest name, in bytes as written.
pub const MAX_NAME_SIZE: usize = 127;
/// The longest secret, in bytes as written.
pub const MAX_SECRET_SIZE: usize = 65_530;

/// Where the reading of an auth_file ended too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine {
    /// The line on which the entry begins, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not two quoted texts.
    Broken,
    /// The name is longer than [`MAX_NAME_SIZE`].
    NameTooLong,
    /// The secret is longer than [`MAX_SECRET_SIZE`].
    SecretTooLong,
}

/// Reads an auth_file: its entries in order, and where the reading ended if not at the end.
pub fn parse(text: &str) -> (Vec<(String, Secret)>, Option<BadLine>) {
    let mut entries = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if !rest.starts_with(';') {
            let begin = rest;
            match entry(&mut rest) {
                Ok(entry) => entries.push(entry),
                Err(fault) => {
                    let line = line_at(text, text.len() - begin.len());
                    return (entries, Some(BadLine { line, fault }));
                }
            }
        }
        rest = after_line(rest).trim_start();
    }
    (entries, None)
}

fn entry(rest: &mut &str) -> Result<(String, Secret), Fault> {
    let name = quoted(rest, MAX_NAME_SIZE, Fault::NameTooLong)?;
    let gap = rest.find(['"', '\n']).ok_or(Fault::Broken)?;
    *rest = &rest[gap..];
    let secret = quoted(rest, MAX_SECRET_SIZE, Fault::SecretTooLong)?;
    Ok((name, Secret::new(secret)))
}

/// Takes a quoted text off the front of `rest`.
fn quoted(rest: &mut &str, max_size: usize, too_long: Fault) -> Result<String, Fault> {
    let inner = rest.strip_prefix('"').ok_or(Fault::Broken)?;
    let end = closing_quote(inner).ok_or(Fault::Broken)?;
    if end > max_size {
        return Err(too_long);
    }
    *rest = &inner[end + 1..];
    Ok(inner[..end].replace("\"\"", "\""))
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let quote = from + text.get(from..)?.find('"')?;
        if bytes.get(quote + 1) != Some(&b'"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

fn after_line(rest: &str) -> &str {
    rest.split_once('\n').map_or("", |(_, after)| after)
}

fn line_at(text: &str, place: usize) -> usize {
    let before = text.as_bytes().iter().take(place);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

/// Who may log in, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    known: HashMap<String, Verifier>,
}

impl Users {
    /// The users of an auth_file's entries; of two entries for one name the last counts.
    pub fn new(entries: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let known = entries
            .into_iter()
            .map(|(name, secret)| (name, Verifier::parse(secret.expose())));
        Self {
            known: known.collect(),
        }
    }

    /// What we know of a user's password, if there is such a user.
    pub fn get(&self, name: &str) -> Option<&Verifier> {
        self.known.get(name)
    }

    /// All users, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Verifier)> {
        self.known
            .iter()
            .map(|(name, verifier)| (name.as_str(), verifier))
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, Option<BadLine>) {
        let (entries, bad) = parse(text);
        let shown = |(name, secret): (String, Secret)| (name, secret.expose().to_owned());
        (entries.into_iter().map(shown).collect(), bad)
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter()
            .map(|&(name, secret)| (name.to_owned(), secret.to_owned()))
            .collect()
    }

    #[test]
    fn names_and_secrets_stand_in_quotes() {
        let text = "\n; who\n\"ann\" \"pw\" the rest \"is\" ignored\r\n  \"o\"\"brien\"\t\"\"\n\"x\"\"y\"\"\" \"\"\"\"";
        let expected = pairs(&[("ann", "pw"), ("o\"brien", ""), ("x\"y\"", "\"")]);
        assert_eq!(read(text), (expected, None));
        assert_eq!(read(""), (vec![], None));
        assert_eq!(read("; only a comment"), (vec![], None));
    }

    #[test]
    fn the_first_broken_entry_ends_the_reading() {
        let ann = || pairs(&[("ann", "pw")]);
        for bad in [
            "# no comment",
            "bob \"pw\"",
            "\"bob",
            "\"bob\"",
            "\"bob\" \"pw",
            "\"bob\" pw\n\"eve\" \"x\"",
        ] {
            let text = format!("\"ann\" \"pw\"\n\n{bad}\n");
            let expected = BadLine {
                line: 3,
                fault: Fault::Broken,
            };
            assert_eq!(read(&text), (ann(), Some(expected)), "{bad}");
        }
    }

    #[test]
    fn names_and_secrets_have_a_longest() {
        let fault = |name: usize, secret: usize| {
            let text = format!("\"{}\" \"{}\"", "n".repeat(name), "s".repeat(secret));
            read(&text).1.map(|bad| bad.fault)
        };
        assert_eq!(fault(127, 65_530), None);
        assert_eq!(fault(128, 1), Some(Fault::NameTooLong));
        assert_eq!(fault(1, 65_531), Some(Fault::SecretTooLong));
    }

    #[test]
    fn the_last_entry_for_a_name_counts() {
        let (entries, _) = parse("\"ann\" \"one\"\n\"ann\" \"two\"\n");
        let users = Users::new(entries);
        assert_eq!(users.len(), 1);
        let two = Verifier::Plain(Secret::new("two"));
        assert_eq!(users.get("ann"), Some(&two));
        assert_eq!(users.get("Ann"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\"\n; éa]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_quoted_is_read(name in "[^\0]{0,20}", secret in "[^\0]{0,20}") {
            let quote = |text: &str| text.replace('"', "\"\"");
            let text = format!("\"{}\" \"{}\" rest\n", quote(&name), quote(&secret));
            prop_assert_eq!(read(&text), (vec![(name, secret)], None));
        }
    }
}
