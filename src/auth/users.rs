//! The list of users and passwords: PgBouncer's `auth_file`.
//!
//! A line is `"user" "password"`, the rest of it is ignored; `""` stands for a quote; a line that begins with `;` is a comment.

use std::collections::HashMap;

use crate::auth::password::Verifier;
use crate::auth::words::quoted;
use crate::secret::Secret;

/// Users by name.
pub type Users = HashMap<String, Verifier>;

/// The first line that is no entry; nothing behind it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: usize,
}

/// Reads an `auth_file`.
pub fn parse(text: &str) -> (Vec<(String, Secret)>, Option<BadLine>) {
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        match entry(line) {
            Some((name, secret)) => users.push((name, Secret::new(secret))),
            None => return (users, Some(BadLine { line: index + 1 })),
        }
    }
    (users, None)
}

fn entry(line: &str) -> Option<(String, String)> {
    let (name, rest) = quoted(line.strip_prefix('"')?)?;
    let (secret, _) = quoted(rest.trim_start().strip_prefix('"')?)?;
    (!name.is_empty() && name.len() < 128).then_some((name, secret))
}

#[cfg(test)]
mod tests {
    use super::{BadLine, parse};

    #[test]
    fn names_and_passwords_may_hold_quotes_and_lines_may_go_on() {
        let (users, bad) =
            parse("; a comment\n\"app\" \"se\"\"cret\" ignored\n\n  \"o\"\"x\" \"\"\n");
        let users: Vec<_> = users
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.expose()))
            .collect();
        assert_eq!(
            (users, bad),
            (vec![("app", "se\"cret"), ("o\"x", "")], None)
        );
    }

    #[test]
    fn a_broken_line_is_named_and_ends_the_reading() {
        let (users, bad) = parse("\"a\" \"1\"\n# not a comment\n\"b\" \"2\"\n");
        assert_eq!((users.len(), bad), (1, Some(BadLine { line: 2 })));
    }
}
