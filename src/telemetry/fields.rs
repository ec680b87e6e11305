//! What an event says, as text on one line: its message, and `name=value` for each field behind it.
//!
//! A value that is no plain word stands in double quotes, as logfmt has it, so that a program can tell where it ends.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Stands between what were lines of a message.
const BETWEEN_LINES: &str = " | ";

/// Writes message and fields of an event.
#[derive(Debug)]
pub struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut said = Said::with(Texts::Quoted);
        fields.record(&mut said);
        let message = one_line(&said.message);
        writer.write_str(&message)?;
        // An event that has fields only begins with the first of them.
        let is_bare = message.is_empty();
        writer.write_str(if is_bare {
            said.fields.trim_start()
        } else {
            &said.fields
        })
    }
}

/// How a field's value is written that is a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// In double quotes.
    Quoted,
    /// As any other value: in double quotes where it is no plain word.
    Plain,
}

/// What an event says: its message, and its fields with a space before each.
#[derive(Debug)]
pub struct Said {
    texts: Texts,
    /// The message, which may have several lines.
    pub message: String,
    /// ` name=value` of each field.
    pub fields: String,
}

impl Said {
    /// Nothing yet.
    pub fn with(texts: Texts) -> Self {
        Self {
            texts,
            message: String::new(),
            fields: String::new(),
        }
    }

    fn put(&mut self, field: &Field, value: &str) {
        let _ = write!(self.fields, " {}={value}", field.name());
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message.push_str(text);
        } else if self.texts == Texts::Quoted {
            self.put(field, &format!("{text:?}"));
        } else {
            self.put(field, &quoted(text.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, &quoted(format!("{value:?}")));
        }
    }
}

/// `value` as it is, where it is a plain word or in quotes already, else in quotes.
fn quoted(value: String) -> String {
    let is_plain =
        |each: char| !(each.is_whitespace() || each.is_control() || "\"=".contains(each));
    let is_word = !value.is_empty() && value.chars().all(is_plain);
    if is_word || is_in_quotes(&value) {
        value
    } else {
        format!("{value:?}")
    }
}

/// Whether `value` is one text in double quotes, with those inside it escaped.
fn is_in_quotes(value: &str) -> bool {
    let Some(inside) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return false;
    };
    let mut is_escaped = false;
    for each in inside.chars() {
        if each.is_control() || (each == '"' && !is_escaped) {
            return false;
        }
        is_escaped = each == '\\' && !is_escaped;
    }
    !is_escaped
}

/// `message` on one line; what would act on a terminal is escaped.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim_end);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let mut text = String::with_capacity(message.len());
    for each in lines.join(BETWEEN_LINES).chars() {
        if each.is_control() {
            text.extend(each.escape_default());
        } else {
            text.push(each);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{one_line, quoted};

    #[test]
    fn a_value_that_is_no_plain_word_stands_in_quotes() {
        for (value, told) in [
            ("10.0.0.1:5432", "10.0.0.1:5432"),
            ("[::1]:5432", "[::1]:5432"),
            ("no such database: x", r#""no such database: x""#),
            ("", r#""""#),
            ("a=b", r#""a=b""#),
            (r#"Some("a")"#, r#""Some(\"a\")""#),
            ("two\nlines", r#""two\nlines""#),
            (r#""is quoted""#, r#""is quoted""#),
            (r#""is \"quoted\"""#, r#""is \"quoted\"""#),
            (r#""a" or "b""#, r#""\"a\" or \"b\"""#),
            (r#""a\""#, r#""\"a\\\"""#),
            ("\"", r#""\"""#),
        ] {
            assert_eq!(quoted(value.to_owned()), told, "{value}");
        }
    }

    #[test]
    fn a_message_of_several_lines_is_one() {
        assert_eq!(one_line("refused: a\nb\r\n\n"), "refused: a | b");
        assert_eq!(one_line("a\tb\u{1b}[2J"), "a\\tb\\u{1b}[2J");
    }
}
