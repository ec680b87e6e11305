//! What is wrong with a configuration, and where.
//!
//! A reader who finds one mistake looks for the next: whoever repairs a file wants to see all of them at once, each
//! with its line, what was expected, and the word that was probably meant.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or `environment variable NAME`; empty when it is not known.
    pub source: String,
    /// Its line, from 1; 0 when there is none.
    pub line: usize,
    /// Its column in characters, from 1; 0 when there is none.
    pub column: usize,
    /// The key, as `section.name.key`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// All mistakes found, in the order in which they stand in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

/// Why a value was not taken: a [`Problem`] that does not yet know where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The file, or `environment variable NAME`.
    pub source: String,
    /// Its line, from 1; 0 when there is none.
    pub line: usize,
    /// Its column in characters, from 1; 0 when there is none.
    pub column: usize,
}

impl Refusal {
    /// A refusal with nothing to suggest.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The same, with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem that this is at `position`, for `key`.
    pub fn at(self, position: &Position, key: &str) -> Problem {
        Problem {
            source: position.source.clone(),
            line: position.line,
            column: position.column,
            key: key.to_owned(),
            message: self.message,
            hint: self.hint,
        }
    }
}

impl Problems {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one more.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(formatter, "{}", self.source)?;
            if self.line > 0 {
                write!(formatter, ":{}:{}", self.line, self.column)?;
            }
            formatter.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The path of a key as it would be written in TOML: parts that are no bare words are quoted.
pub fn path(parts: &[&str]) -> String {
    let is_bare = |part: &str| {
        let plain = |each: char| each.is_ascii_alphanumeric() || each == '_' || each == '-';
        !part.is_empty() && part.chars().all(plain)
    };
    let written = parts.iter().map(|part| {
        if is_bare(part) {
            (*part).to_owned()
        } else {
            format!("{part:?}")
        }
    });
    written.collect::<Vec<_>>().join(".")
}

/// `did you mean "…"?`, when one of `known` is near enough to `word`.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest_word(word, known).map(|each| format!("did you mean \"{each}\"?"))
}

/// The one of `known` that is nearest to `word`, if any is near enough to have been meant.
pub fn nearest_word<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    let near = known
        .into_iter()
        .map(|each| (distance(word, each), each))
        .filter(|&(far, _)| far <= allowed)
        .min_by_key(|&(far, _)| far);
    near.map(|(_, each)| each)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, &left) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &right) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(left != right);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && left == to[column - 1] && from[row - 1] == right;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["pool_mode", "pool_size", "listen_port"];
        let meant = did_you_mean("pool_moed", known);
        assert_eq!(meant.as_deref(), Some("did you mean \"pool_mode\"?"));
        assert_eq!(did_you_mean("colour", known), None);
    }

    #[test]
    fn swapped_neighbours_are_one_step() {
        assert_eq!(distance("moed", "mode"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn a_problem_prints_its_place_its_key_and_its_hint() {
        let position = Position {
            source: "pooler.toml".to_owned(),
            line: 12,
            column: 5,
        };
        let refusal = Refusal::new("unknown key").hint("did you mean \"pool_mode\"?");
        assert_eq!(
            refusal.at(&position, "pooler.pool_moed").to_string(),
            "pooler.toml:12:5: pooler.pool_moed: unknown key; did you mean \"pool_mode\"?"
        );
    }

    #[test]
    fn names_that_are_no_bare_words_are_quoted_in_paths() {
        assert_eq!(path(&["databases", "*", "host"]), "databases.\"*\".host");
        assert_eq!(path(&["users", "app", "password"]), "users.app.password");
    }
}
