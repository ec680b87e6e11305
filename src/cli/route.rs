//! `pooler route FILE`: what each statement of a file asks for, why, and what it does to the session.
//!
//! Nothing is connected to, so no catalog is known: a function that is not PostgreSQL's own counts as a write. That is how a pooler
//! judges before it has loaded one.

use std::io::{self, Write};
use std::path::Path as File;
use std::process::ExitCode;

use crate::protocol::lexer::{self, Strings, Unread};
use crate::protocol::sql::statements;
use crate::routing::catalog::{Catalog, Path};
use crate::routing::classify::{Reading, classify};
use crate::routing::explain;
use crate::routing::judge::{Judge, Lists};

/// How much of a statement is shown.
const SHOWN: usize = 100;

/// Judges the statements of `file`.
pub fn run(file: &File) -> ExitCode {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: cannot be read: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    match judge(&text) {
        Ok(report) => match io::stdout().write_all(report.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has seen enough.
            Err(_) => ExitCode::SUCCESS,
        },
        Err(why) => {
            eprintln!("{}: {why}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// The report on a text: for each statement a line with its number and words, then a line for each thing found.
///
/// # Errors
/// What kept it from being cut into statements, for a person.
pub fn judge(text: &[u8]) -> Result<String, String> {
    let mut tokens = Vec::new();
    lexer::cut(text, Strings::Standard, &mut tokens).map_err(|unread| match unread {
        Unread::Malformed => {
            let line = line_after(text, tokens.last().map_or(0, |token| token.end as usize));
            format!(
                "line {line}: no SQL: a quote or comment does not end, or a byte begins no word (commands of psql are not SQL)"
            )
        }
        Unread::TooLong => "more than 200,000 words: cut the file in two".to_owned(),
    })?;
    let catalog = Catalog::default();
    let path = Path(Some(vec![(*b"public").into()]));
    let lists = Lists::default();
    let judge = Judge {
        catalog: &catalog,
        path: &path,
        lists: &lists,
    };
    let mut out = String::new();
    let mut scratch = Vec::new();
    let mut from = 0;
    for (number, statement) in (1..).zip(statements(text, &tokens)) {
        let (first, last) = (
            statement.tokens[0],
            statement.tokens[statement.tokens.len() - 1],
        );
        // From the end of the statement before: a comment in front may hold a hint.
        let whole = &text[from..last.end as usize];
        from = (last.end as usize + 1).min(text.len());
        let facts = classify(whole, Reading::default(), &judge, &mut scratch);
        let words = String::from_utf8_lossy(&text[first.start as usize..last.end as usize]);
        let line = line_after(text, first.start as usize);
        out.push_str(&format!("{number} (line {line}): {}\n", shown(&words)));
        for row in explain::facts(&facts, whole) {
            out.push_str(&format!(
                "    {}: {} ({})\n",
                row.subject, row.finding, row.why
            ));
        }
    }
    Ok(out)
}

fn shown(words: &str) -> String {
    let one_line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= SHOWN {
        return one_line;
    }
    one_line.chars().take(SHOWN).chain("…".chars()).collect()
}

fn line_after(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn each_statement_is_told_with_intent_reason_and_effects() {
        let report =
            judge(b"select 1;\n\nset a.b = 1;\n/* pooler: replica */ select f();").unwrap();
        assert_eq!(
            report,
            "1 (line 1): select 1\n    intent: read (every part only reads)\n\
             2 (line 3): set a.b = 1\n    intent: session (SET)\n    effect: sets a.b (statement 1)\n\
             3 (line 4): select f()\n    intent: write (function f: not known to only read)\n    \
             hint: replica (a comment asks for it)\n    \
             effect: may stay with its server: function or trigger (statement 1)\n"
        );
    }

    #[test]
    fn a_file_that_is_no_sql_is_told_with_its_line() {
        let why = judge(b"select 1;\n\\d t").unwrap_err();
        assert!(
            why.starts_with("line 1:") || why.starts_with("line 2:"),
            "{why}"
        );
    }
}
