//! What somebody probably meant who typed what is no command.
//!
//! The message is PgBouncer's, which tools know; this is the HINT below it, for people.

use std::borrow::Cow;

use super::{Argument, COMMANDS, Entry, SUBJECTS};
use crate::config::problem::nearest_word;

/// No word that is typed by mistake is longer, in bytes.
const LONGEST: usize = 32;

/// What to do about `text`, which is no command.
pub(super) fn hint(text: &str) -> Cow<'static, str> {
    let is_part = |each: char| each.is_ascii_alphanumeric() || each == '_';
    let mut words = text
        .split(|each| !is_part(each))
        .filter(|word| !word.is_empty());
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    if let Some(entry) = COMMANDS.iter().find(|entry| is(entry.word, first)) {
        return usage(entry, second);
    }
    if let Some(subject) = subjects().find(|subject| is(subject, first)) {
        return did_you_mean("SHOW ", subject);
    }
    if first.len() <= LONGEST {
        let told = COMMANDS.iter().filter(|entry| !entry.help.is_empty());
        if let Some(word) = nearest_word(first, told.map(|entry| entry.word)) {
            return did_you_mean("", word);
        }
        if let Some(subject) = nearest_word(first, subjects()) {
            return did_you_mean("SHOW ", subject);
        }
    }
    every_command().into()
}

/// How the command of `entry` is written, which what was typed is not; `second` is its second word.
fn usage(entry: &Entry, second: Option<&str>) -> Cow<'static, str> {
    match (&entry.argument, second) {
        (Argument::Subject, Some(second)) => show(second),
        (Argument::Subject, None) => every_subject().into(),
        (Argument::Nothing(_), _) if entry.help.is_empty() => every_command().into(),
        _ => {
            let form = entry.help.replace("\n\t", " or ");
            let names = if form.contains('<') {
                "; a name with other signs than letters, digits and _ stands in double quotes"
            } else if matches!(entry.argument, Argument::Assignment) {
                "; a value with other signs than letters, digits and _ stands in single quotes"
            } else {
                ""
            };
            format!("It is written {form}{names}.").into()
        }
    }
}

fn show(subject: &str) -> Cow<'static, str> {
    let upper = subject.to_ascii_uppercase();
    if subjects().any(|known| is(known, subject)) {
        return format!("Nothing stands behind SHOW {upper}, and no second command.").into();
    }
    let near = (subject.len() <= LONGEST).then(|| nearest_word(subject, subjects()));
    match near.flatten() {
        Some(subject) => did_you_mean("SHOW ", subject),
        None => every_subject().into(),
    }
}

fn did_you_mean(verb: &str, word: &str) -> Cow<'static, str> {
    format!("Did you mean {verb}{}?", word.to_ascii_uppercase()).into()
}

fn every_command() -> String {
    let told = COMMANDS.iter().filter(|entry| !entry.help.is_empty());
    let words: Vec<String> = told.map(|entry| entry.word.to_ascii_uppercase()).collect();
    format!(
        "The console knows no SQL. Its commands are {}; SHOW HELP tells what stands behind each.",
        words.join(", ")
    )
}

fn every_subject() -> String {
    let words: Vec<String> = subjects().map(str::to_ascii_uppercase).collect();
    format!(
        "The console knows no SQL; SHOW, or SELECT, takes one of {}.",
        words.join(", ")
    )
}

fn subjects() -> impl Iterator<Item = &'static str> {
    SUBJECTS.iter().map(|(subject, ..)| *subject)
}

fn is(known: &str, word: &str) -> bool {
    known.eq_ignore_ascii_case(word)
}
