//! The grammar of the console: PgBouncer's, letter for letter, and `TO` behind a word of ours.
//!
//! A line is one word and at most one more, or a SET. A word is `[0-9a-z_]+` in either case, or anything in double quotes; one
//! `;` may end it; there are no comments and no lists of commands. Lengths count a word as it was written, quotes included.

/// A word, and how long it was as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, without its quotes.
    pub text: String,
    /// Bytes that it took, quotes included.
    pub length: usize,
}

/// A line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `WORD [WORD]`.
    Words(Word, Option<Word>),
    /// `SET WORD (=|TO) (WORD|'text')`.
    Set(Word, Word),
    /// `WORD WORD TO (WORD|'text')`, which is ours.
    Target(Word, Word, Word),
    /// `EXPLAIN ROUTE database [user] AS statement`, which is ours.
    Route(Word, Option<Word>, String),
}

/// Reads a line; `None` for what is none.
pub fn read(text: &str) -> Option<Line> {
    words(text)
        .or_else(|| assignment(text))
        .or_else(|| target(text))
        .or_else(|| route(text))
}

fn words(text: &str) -> Option<Line> {
    let mut rest = text.trim_start_matches(is_space);
    let first = word(&mut rest)?;
    let before = rest;
    rest = rest.trim_start_matches(is_space);
    let has_gap = rest.len() < before.len();
    let second = if has_gap { word(&mut rest) } else { None };
    is_end(rest).then_some(Line::Words(first, second))
}

fn target(text: &str) -> Option<Line> {
    let mut rest = text.trim_start_matches(is_space);
    let first = word(&mut rest)?;
    rest = after_space(rest)?;
    let second = word(&mut rest)?;
    rest = after_space(strip_word(after_space(rest)?, "to")?)?;
    let third = if rest.starts_with('\'') {
        quoted(&mut rest, '\'')
    } else {
        word(&mut rest)
    }?;
    is_end(rest).then_some(Line::Target(first, second, third))
}

fn route(text: &str) -> Option<Line> {
    let mut rest = text.trim_start_matches(is_space);
    for known in ["explain", "route"] {
        rest = after_space(strip_word(rest, known)?)?;
    }
    let database = word(&mut rest)?;
    rest = after_space(rest)?;
    let behind_as = |rest| after_space(strip_word(rest, "as")?);
    if let Some(sql) = behind_as(rest) {
        return Some(Line::Route(database, None, sql.to_owned()));
    }
    let user = word(&mut rest)?;
    let sql = behind_as(after_space(rest)?)?;
    Some(Line::Route(database, Some(user), sql.to_owned()))
}

/// What follows a space, of which there must be one.
fn after_space(rest: &str) -> Option<&str> {
    let after = rest.trim_start_matches(is_space);
    (after.len() < rest.len()).then_some(after)
}

fn assignment(text: &str) -> Option<Line> {
    let mut rest = text.trim_start_matches(is_space);
    let after = strip_word(rest, "set")?;
    rest = after.trim_start_matches(is_space);
    if rest.len() == after.len() {
        return None;
    }
    let key = word(&mut rest)?;
    rest = rest.trim_start_matches(is_space);
    rest = rest.strip_prefix('=').or_else(|| strip_word(rest, "to"))?;
    rest = rest.trim_start_matches(is_space);
    let value = if rest.starts_with('\'') {
        quoted(&mut rest, '\'')
    } else {
        word(&mut rest)
    }?;
    is_end(rest).then_some(Line::Set(key, value))
}

fn is_space(each: char) -> bool {
    matches!(each, ' ' | '\t' | '\n' | '\r')
}

/// Whether nothing is left but spaces and one `;`.
fn is_end(rest: &str) -> bool {
    let rest = rest.trim_start_matches(is_space);
    rest.strip_prefix(';')
        .unwrap_or(rest)
        .trim_start_matches(is_space)
        .is_empty()
}

fn strip_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

/// Takes a word off the front of `rest`.
fn word(rest: &mut &str) -> Option<Word> {
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    let is_plain = |each: char| each.is_ascii_alphanumeric() || each == '_';
    let end = rest.find(|each| !is_plain(each)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    (!word.is_empty()).then(|| Word {
        text: word.to_owned(),
        length: word.len(),
    })
}

/// Takes a quoted text off the front of `rest`; a doubled quote stands for one.
fn quoted(rest: &mut &str, quote: char) -> Option<Word> {
    let mut text = String::new();
    let mut tail = rest.strip_prefix(quote)?;
    loop {
        let (part, after) = tail.split_once(quote)?;
        text.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                text.push(quote);
                tail = more;
            }
            None => {
                let length = rest.len() - after.len();
                *rest = after;
                return Some(Word { text, length });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Word, read};

    fn word(text: &str, length: usize) -> Word {
        Word {
            text: text.to_owned(),
            length,
        }
    }

    #[test]
    fn a_line_is_one_word_or_two() {
        assert_eq!(read(" Show ;\n"), Some(Line::Words(word("Show", 4), None)));
        let two = Line::Words(word("pause", 5), Some(word("a \"b\"-c", 11)));
        assert_eq!(read("pause\t\"a \"\"b\"\"-c\""), Some(two));
    }

    #[test]
    fn a_setting_has_a_word_or_a_text() {
        for text in ["set k=1", "SET k to 1", "Set \"k\" = '1' ;", "set k to'1'"] {
            let Some(Line::Set(key, value)) = read(text) else {
                panic!("{text}")
            };
            assert_eq!(
                (key.text.as_str(), value.text.as_str()),
                ("k", "1"),
                "{text}"
            );
        }
        assert_eq!(
            read("set k = 'it''s'"),
            Some(Line::Set(word("k", 1), word("it's", 7)))
        );
    }

    #[test]
    fn a_statement_stands_behind_as() {
        for (text, user) in [
            ("explain route app as select 1;", None),
            ("EXPLAIN ROUTE app \"joe\" AS select 1;", Some("joe")),
            ("explain route app as as select 1;", Some("as")),
        ] {
            let Some(Line::Route(database, said, sql)) = read(text) else {
                panic!("{text}")
            };
            assert_eq!(database.text, "app");
            // A user of that name needs quotes.
            let is_odd = user == Some("as");
            assert_eq!(
                said.map(|word| word.text).as_deref(),
                user.filter(|_| !is_odd)
            );
            assert!(sql.ends_with("select 1;"), "{sql}");
        }
        assert_eq!(read("explain route app select 1"), None);
        assert_eq!(read("explain select 1"), None);
    }

    #[test]
    fn a_target_stands_behind_to() {
        for text in ["go main to 'a:1'", "GO main TO \"a:1\" ;"] {
            let Some(Line::Target(go, main, target)) = read(text) else {
                panic!("{text}")
            };
            assert_eq!(go.text.to_lowercase() + &main.text, "gomain", "{text}");
            assert_eq!(target.text, "a:1", "{text}");
        }
        for text in [
            "go main to",
            "go main to a b",
            "go main toa",
            "go to a",
            "go main to a:1",
        ] {
            assert!(!matches!(read(text), Some(Line::Target(..))), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_line() {
        for text in [
            "",
            ";",
            "a b c",
            "a;;",
            "a;b",
            "-- x",
            "a b-c",
            "a\"b\"",
            "a \"b",
            "set k=1.5",
            "set k=-1",
            "set k='a",
            "set k 1 ",
            "setk=1",
        ] {
            let is_words = matches!(read(text), Some(Line::Words(..)));
            assert!(
                read(text).is_none() || (is_words && text == "set k 1 "),
                "{text}"
            );
        }
    }
}
