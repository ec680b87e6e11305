//! Code of the database's own that may leave session state behind unseen.
//!
//! A function, or a trigger, can lock, SET or make a temporary table, and the text that calls it tells nothing of it. So the catalog is
//! read once in a while ([`CATALOG`]): functions whose source names such words are *suspects*, and so is whatever runs those: functions,
//! views, rules, aggregates. A text in which a suspect's name stands is followed by a look; where a trigger, a default or a check is
//! suspect, every write is. While the catalog is not known everything is.

use std::collections::HashMap;
use std::ops::BitOrAssign;

/// What a suspect may do beside what a look finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Does {
    /// It makes what nobody can look for, such as a loaded library.
    pub lasts: bool,
    /// It sets by a name that its source does not tell.
    pub hides: bool,
    /// It runs a text that is not known.
    pub runs: bool,
    /// It asks for `currval` or `lastval`.
    pub asks: bool,
}

impl Does {
    /// As the catalog's answer spells it, a letter for each.
    fn of(letters: &[u8]) -> Self {
        Self {
            lasts: letters.contains(&b'l'),
            hides: letters.contains(&b'h'),
            runs: letters.contains(&b'r'),
            asks: letters.contains(&b'q'),
        }
    }
}

impl BitOrAssign for Does {
    fn bitor_assign(&mut self, other: Self) {
        self.lasts |= other.lasts;
        self.hides |= other.hides;
        self.runs |= other.runs;
        self.asks |= other.asks;
    }
}

/// What is suspect in one database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    names: HashMap<Box<[u8]>, Does>,
    /// Settings with a dot in their name that such code sets.
    pub custom: Vec<Box<str>>,
    /// A trigger is among them, a default, a check.
    writes: Option<Does>,
    /// An event trigger is among them.
    events: Option<Does>,
    /// Something is among them that is called without being named.
    anything: Option<Does>,
    /// What any of them does.
    pub all: Does,
}

/// So many names are kept; where there are more, everything is suspect.
const MOST: usize = 10_000;

/// Words of the commands that event triggers are run by.
const EVENTS: [&[u8]; 12] = [
    b"create",
    b"alter",
    b"drop",
    b"comment",
    b"grant",
    b"revoke",
    b"refresh",
    b"security",
    b"reindex",
    b"import",
    b"into",
    b"do",
];

impl Suspects {
    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        let kinds = [self.writes, self.events, self.anything];
        self.names.is_empty() && kinds.iter().all(Option::is_none)
    }

    /// Out of all rows of the catalog's answer.
    pub fn of(rows: &[Vec<Option<String>>]) -> Self {
        let mut suspects = Self::default();
        for row in rows {
            let field = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
            suspects.take([field(0), field(1), field(2)].map(str::as_bytes));
        }
        suspects
    }

    /// Where the catalog cannot be read: everything.
    pub fn all() -> Self {
        let mut suspects = Self::default();
        suspects.take([b"x", b"", b""]);
        suspects
    }

    /// Takes in one row of the catalog's answer: a letter, a name, what it does. A row that is none makes everything suspect.
    pub fn take(&mut self, [kind, name, does]: [&[u8]; 3]) {
        let does = Does::of(does);
        self.all |= does;
        match kind {
            b"f" => self.name(name, does),
            b"w" => *self.writes.get_or_insert_default() |= does,
            b"e" => *self.events.get_or_insert_default() |= does,
            b"k" => {
                if let Ok(name) = std::str::from_utf8(name)
                    && self.custom.len() < MOST
                {
                    self.custom.push(name.into());
                }
            }
            _ => *self.anything.get_or_insert_default() |= does,
        }
    }

    fn name(&mut self, name: &[u8], does: Does) {
        if name.is_empty() || !name.iter().all(is_word) || self.names.len() >= MOST {
            // Such a name cannot be found word by word.
            *self.anything.get_or_insert_default() |= does;
        } else {
            let name = name.to_ascii_lowercase().into();
            *self.names.entry(name).or_default() |= does;
        }
    }

    /// What those do that `text`, which writes or does not, may run; `None` where it runs none.
    pub fn run_by(&self, text: &[u8], writes: bool) -> Option<Does> {
        let mut found = self.anything;
        let mut add = |does: Option<Does>| {
            if let Some(does) = does {
                *found.get_or_insert_default() |= does;
            }
        };
        add(self.writes.filter(|_| writes));
        if self.names.is_empty() && self.events.is_none() {
            return found;
        }
        let words = text.split(|byte| !is_word(byte));
        for word in words.filter(|word| !word.is_empty()) {
            let word = word.to_ascii_lowercase();
            add(self.names.get(&*word).copied());
            add(self.events.filter(|_| EVENTS.contains(&&*word)));
        }
        found
    }
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// Reads the catalog: rows of a letter, a name and what it does, for [`Suspects::take`].
///
/// Only what stands in the catalog is read, never a view's or a function's text made out of it: that would wait for whoever has the
/// table under a lock. An UPDATE's SET is none, hence what stands between the two words is taken out first.
pub const CATALOG: &str = include_str!("suspects.sql");

#[cfg(test)]
mod tests {
    use super::{Does, Suspects};

    fn suspects(rows: &[[&str; 3]]) -> Suspects {
        let mut suspects = Suspects::default();
        for row in rows {
            suspects.take(row.map(str::as_bytes));
        }
        suspects
    }

    #[test]
    fn a_text_that_names_a_suspect_may_run_it() {
        let known = suspects(&[["f", "take_lock", ""]]);
        let runs = |text: &str| known.run_by(text.as_bytes(), true).is_some();
        assert!(runs("select public.\"take_lock\"(1)"));
        assert!(runs("SELECT Take_Lock(1)"));
        assert!(!runs("select take_locks(1)"));
        assert!(suspects(&[]).are_none());
    }

    #[test]
    fn a_trigger_makes_every_write_suspect_and_an_event_trigger_every_definition() {
        let known = suspects(&[["w", "", ""]]);
        assert!(known.run_by(b"insert into t values (1)", true).is_some());
        assert!(known.run_by(b"select 1", false).is_none());
        let known = suspects(&[["e", "", ""]]);
        assert!(known.run_by(b"COMMENT on table t is ''", false).is_some());
        assert!(known.run_by(b"select 1", false).is_none());
    }

    #[test]
    fn what_cannot_be_told_by_its_name_makes_everything_suspect() {
        for row in [["f", "odd name", ""], ["x", "", ""], ["?", "", ""]] {
            assert!(suspects(&[row]).run_by(b"select 1", false).is_some());
        }
    }

    #[test]
    fn what_each_of_them_does_is_told_together() {
        let known = suspects(&[
            ["f", "a", "l"],
            ["f", "b", "q"],
            ["f", "b", "h"],
            ["f", "c", "r"],
        ]);
        let does = known.run_by(b"select a(b())", false).unwrap();
        assert_eq!(
            does,
            Does {
                lasts: true,
                hides: true,
                runs: false,
                asks: true
            }
        );
        assert!(known.all.runs);
    }
}
