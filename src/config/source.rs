//! A TOML text, and where in it each thing stands.
//!
//! The text is read into a tree that knows its places, so that a value can be refused with line and column, and so
//! that reading goes on after a mistake. `${NAME}` in a text becomes the variable of that name; `$${` is a plain `${`.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::config::environment::Environment;
use crate::config::problem::{Position, Problem, Problems, Refusal};
use crate::config::slot::Given;

/// A text with a name.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    /// What it is called in messages.
    pub name: &'t str,
    /// The text.
    pub text: &'t str,
}

impl<'t> Source<'t> {
    /// Line and column of the byte at `offset`.
    pub fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            source: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The tree.
    ///
    /// # Errors
    /// Every place at which the text is not TOML.
    pub fn parse(&self) -> Result<DeTable<'t>, Problems> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(tree.into_inner());
        }
        let mut problems: Vec<Problem> = Vec::new();
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            let position = self.position(offset);
            // What follows on the same line is mostly an echo of the first error.
            if problems.iter().any(|known| known.line == position.line) {
                continue;
            }
            let message = error.message().trim_end().replace('\n', ", ");
            problems.push(Refusal::new(format!("not TOML: {message}")).at(&position, ""));
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(Problems(problems))
    }
}

/// What `value` says, with variables put in.
///
/// # Errors
/// A variable that is not set, a `${` that does not end, a number that no setting could hold.
pub fn given(value: &DeValue<'_>, env: &Environment) -> Result<Given, Refusal> {
    Ok(match value {
        DeValue::String(text) => expand(text, env)?,
        DeValue::Integer(number) => Given::Whole(whole(number)?),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Given::Fraction(number),
            Ok(_) | Err(_) => return Err(Refusal::new("expected a number that is finite")),
        },
        DeValue::Boolean(is_on) => Given::Flag(*is_on),
        DeValue::Datetime(_) => Given::Date,
        DeValue::Array(items) => {
            let items = items.iter().map(|item| given(item.get_ref(), env));
            Given::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => {
            let entries = entries.iter().map(|(name, value)| {
                let name: &str = name.get_ref();
                Ok((name.to_owned(), given(value.get_ref(), env)?))
            });
            Given::Table(entries.collect::<Result<_, _>>()?)
        }
    })
}

fn whole(number: &DeInteger<'_>) -> Result<i64, Refusal> {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| Refusal::new(format!("{number} is too large a number")))
}

fn expand(text: &str, env: &Environment) -> Result<Given, Refusal> {
    if !text.contains("${") {
        return Ok(Given::Text(text.to_owned()));
    }
    let mut whole = String::new();
    let mut has_variable = false;
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            whole.push_str(before);
            whole.push_str("${");
            rest = &from[2..];
            continue;
        }
        let Some(end) = from.find('}') else {
            return Err(Refusal::new("\"${\" without a \"}\"")
                .hint("a variable is written ${NAME}; a plain ${ is written $${"));
        };
        let name = &from[2..end];
        let Some(value) = env.get(name) else {
            return Err(Refusal::new(format!(
                "environment variable \"{name}\" is not set"
            )));
        };
        whole.push_str(before);
        whole.push_str(value);
        has_variable = true;
        rest = &from[end + 1..];
    }
    whole.push_str(rest);
    Ok(if has_variable {
        Given::Loose(whole)
    } else {
        Given::Text(whole)
    })
}

/// Where `spanned` begins.
pub fn start<T>(spanned: &Spanned<T>) -> usize {
    spanned.span().start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Environment {
        Environment::from([("NAME", "ann"), ("PORT", "6000")])
    }

    #[test]
    fn a_variable_may_stand_anywhere_in_a_text() {
        let text = |text: &str| expand(text, &env()).unwrap();
        assert_eq!(text("x-${NAME}-${PORT}"), Given::Loose("x-ann-6000".into()));
        assert_eq!(text("plain $5"), Given::Text("plain $5".into()));
        assert_eq!(text("$${NAME}"), Given::Text("${NAME}".into()));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let refusal = expand("${MISSING}", &env()).unwrap_err();
        assert!(refusal.message.contains("MISSING"));
        assert!(expand("${NAME", &env()).is_err());
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source {
            name: "x",
            text: "a = 1\nä = é!",
        };
        let offset = source.text.find('!').unwrap();
        let position = source.position(offset);
        assert_eq!((position.line, position.column), (2, 6));
    }
}
