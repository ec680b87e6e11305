//! What changes code: functions, views and the like, and names by which they are known.
//!
//! Some words tell wherever they stand behind one that makes or changes something. Others are the names of many a column (`type`, `domain`)
//! and count only where they say what is made.

use super::words::{is, next_words};

/// Words that make or change something.
const MAKERS: [&str; 3] = ["create", "alter", "import"];
/// Words for code.
const CODE: [&str; 12] = [
    "function",
    "procedure",
    "routine",
    "trigger",
    "view",
    "rule",
    "policy",
    "operator",
    "cast",
    "aggregate",
    "extension",
    "default",
];
/// What runs code or is read nowhere but on its own server, by the word that follows the maker.
const KINDS: [&str; 5] = ["domain", "type", "foreign", "schema", "unlogged"];

/// Whether `word` names something that runs, or is run by, functions.
pub(super) fn is_code(word: &[u8]) -> bool {
    CODE.iter().any(|code| is(word, code))
}

/// Whether `word` makes or changes something.
pub(super) fn is_maker(word: &[u8]) -> bool {
    MAKERS.iter().any(|maker| is(word, maker))
}

/// Whether the maker `word` is about what counts as code, by what follows it. ALTER TABLE may rename a view, set a policy in force or make
/// a table an unlogged one.
pub(super) fn makes_kind(word: &[u8], rest: &[u8]) -> bool {
    let [kind] = next_words::<1>(rest);
    KINDS.iter().any(|known| is(kind, known)) || (is(word, "alter") && is(kind, "table"))
}

/// Whether somewhere in `bytes`, of whatever messages they are a part, stand words that make or change code.
pub fn may_change_code(bytes: &[u8]) -> bool {
    let (mut makes, mut rest) = (false, bytes);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if makes && is_code(word) {
            return true;
        }
        // The length of a message before its text may look like a letter.
        let maker = MAKERS.iter().find(|maker| ends_with(word, maker));
        if let Some(maker) = maker {
            if makes_kind(maker.as_bytes(), behind) {
                return true;
            }
            makes = true;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    false
}

fn ends_with(word: &[u8], end: &str) -> bool {
    let start = word.len().checked_sub(end.len());
    start.is_some_and(|start| is(&word[start..], end))
}
