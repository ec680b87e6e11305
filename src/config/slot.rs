//! One setting's place in memory, and how a value gets into it and out again.
//!
//! A file gives texts, numbers and lists; a field wants a port, a length of time, a word. There are few kinds of
//! fields and many keys, so the kinds are written here once and the keys are a table ([`super::schema`]).
//!
//! Text that came from the environment has no type of its own. It is *loose*: it may be read as a number, a boolean
//! or a list, which text written in quotes in a file may not.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::clusters::{self, NodeSettings};
use crate::config::keepers::{self, EtcdSettings};
use crate::config::problem::Refusal;
use crate::config::value::{self, TlsProtocols, UnknownWord, Word};
use crate::secret::Secret;

/// A value as the file or the environment gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// Text in quotes.
    Text(String),
    /// Text out of the environment.
    Loose(String),
    /// A number without a point.
    Whole(i64),
    /// A number with one.
    Fraction(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A list.
    List(Vec<Given>),
    /// A table, as `nodes` may hold.
    Table(Vec<(String, Given)>),
    /// A date or a time, which no setting is.
    Date,
}

/// Where a value goes.
pub enum Slot<'a> {
    /// Any text.
    Text(&'a mut String),
    /// Any text; empty text is none.
    MaybeText(&'a mut Option<String>),
    /// The path of a file; empty text is none.
    Path(&'a mut Option<PathBuf>),
    /// A password; empty text is none.
    Hidden(&'a mut Option<Secret>),
    /// Yes or no.
    Flag(&'a mut bool),
    /// A port.
    Port(&'a mut u16),
    /// The port of each host of a list: the first, and those of the others where they differ.
    Ports(&'a mut u16, &'a mut Vec<u16>),
    /// A count of no great size.
    Small(&'a mut u32),
    /// A count.
    Count(&'a mut usize),
    /// A count that need not be there.
    MaybeCount(&'a mut Option<usize>),
    /// A size in bytes.
    Bytes(&'a mut usize),
    /// A size in bytes that need not be there.
    MaybeBytes(&'a mut Option<usize>),
    /// A share, from 0 to 1.
    Share(&'a mut f64),
    /// Permissions of a file.
    Permissions(&'a mut u32),
    /// A length of time; a number is seconds.
    Span(&'a mut Duration),
    /// A length of time that need not be there; a number is seconds.
    MaybeSpan(&'a mut Option<Duration>),
    /// A length of time; a number is milliseconds.
    Millis(&'a mut Duration),
    /// Texts.
    List(&'a mut Vec<String>),
    /// Nodes of a cluster.
    Nodes(&'a mut Vec<NodeSettings>),
    /// The etcd of a cluster.
    Etcd(&'a mut Option<EtcdSettings>),
    /// Versions of TLS.
    Protocols(&'a mut TlsProtocols),
    /// Versions of TLS that need not be said.
    MaybeProtocols(&'a mut Option<TlsProtocols>),
    /// One of a few words.
    Word(&'a mut dyn Choice),
}

/// A [`Word`], or one that need not be there, whichever it is.
pub trait Choice {
    /// Becomes the word `text`.
    ///
    /// # Errors
    /// [`UnknownWord`] when it is none of the words; nothing has changed then.
    fn choose(&mut self, text: &str) -> Result<(), UnknownWord>;

    /// The word it is; empty for none.
    fn chosen(&self) -> &'static str;
}

impl<W: Word> Choice for W {
    fn choose(&mut self, text: &str) -> Result<(), UnknownWord> {
        *self = value::word(text)?;
        Ok(())
    }

    fn chosen(&self) -> &'static str {
        self.word()
    }
}

impl<W: Word> Choice for Option<W> {
    fn choose(&mut self, text: &str) -> Result<(), UnknownWord> {
        *self = Some(value::word(text)?);
        Ok(())
    }

    fn chosen(&self) -> &'static str {
        self.map_or("", Word::word)
    }
}

impl Slot<'_> {
    /// Takes `given` in.
    ///
    /// # Errors
    /// A [`Refusal`] that says what would have been right; nothing has changed then.
    pub fn read(self, given: &Given) -> Result<(), Refusal> {
        match self {
            Self::Text(place) => *place = text(given)?,
            Self::MaybeText(place) => *place = some_text(given)?,
            Self::Path(place) => *place = some_text(given)?.map(PathBuf::from),
            Self::Hidden(place) => *place = some_text(given)?.map(Secret::new),
            Self::Flag(place) => *place = flag(given)?,
            Self::Port(place) => *place = whole(given, PORT, "6432")?,
            Self::Ports(first, others) => {
                let mut all = ports(given)?.into_iter();
                (*first, *others) = (all.next().unwrap_or(*first), all.collect());
            }
            Self::Small(place) => *place = whole(given, SMALL, "100")?,
            Self::Count(place) => *place = whole(given, COUNT, "20")?,
            Self::MaybeCount(place) => {
                *place = Some(whole(given, COUNT, "20")?);
            }
            Self::Bytes(place) => *place = bytes(given)?,
            Self::MaybeBytes(place) => *place = Some(bytes(given)?),
            Self::Share(place) => *place = share(given)?,
            Self::Permissions(place) => *place = permissions(given)?,
            Self::Span(place) => *place = span(given, Duration::from_secs(1))?,
            Self::MaybeSpan(place) => *place = Some(span(given, Duration::from_secs(1))?),
            Self::Millis(place) => *place = span(given, Duration::from_millis(1))?,
            Self::List(place) => *place = list(given)?,
            Self::Nodes(place) => *place = clusters::nodes(given)?,
            Self::Etcd(place) => *place = Some(keepers::etcd(given)?),
            Self::Protocols(place) => *place = protocols(given)?,
            Self::MaybeProtocols(place) => *place = Some(protocols(given)?),
            Self::Word(place) => {
                let text = text(given)?;
                place.choose(&text).map_err(|why| unknown(&text, &why))?;
            }
        }
        Ok(())
    }

    /// What it holds, as PgBouncer's SHOW CONFIG prints it: 0 and 1, seconds, lists with commas, nothing for none.
    /// A password is never printed.
    pub fn print(&self) -> String {
        match self {
            Self::Text(place) => (**place).clone(),
            Self::MaybeText(place) => place.as_deref().unwrap_or_default().to_owned(),
            Self::Path(place) => {
                let shown = place.as_ref().map(|path| path.display().to_string());
                shown.unwrap_or_default()
            }
            Self::Hidden(place) => place.as_ref().map_or("", |_| "***").to_owned(),
            Self::Flag(place) => u8::from(**place).to_string(),
            Self::Port(place) => place.to_string(),
            Self::Ports(first, others) => {
                let all = std::iter::once(&**first).chain(others.iter());
                all.map(u16::to_string).collect::<Vec<_>>().join(",")
            }
            Self::Small(place) | Self::Permissions(place) => place.to_string(),
            Self::Count(place) | Self::Bytes(place) => place.to_string(),
            Self::MaybeCount(place) | Self::MaybeBytes(place) => {
                place.map(|count| count.to_string()).unwrap_or_default()
            }
            Self::Share(place) => place.to_string(),
            Self::Span(place) => value::seconds(**place),
            Self::MaybeSpan(place) => place.map(value::seconds).unwrap_or_default(),
            Self::Millis(place) => place.as_millis().to_string(),
            Self::List(place) => place.join(","),
            Self::Nodes(place) => {
                let all = place
                    .iter()
                    .map(|node| format!("{}:{}", node.host, node.port));
                all.collect::<Vec<_>>().join(",")
            }
            Self::Etcd(place) => {
                let endpoints = place.as_ref().map(|etcd| etcd.endpoints.join(","));
                endpoints.unwrap_or_default()
            }
            Self::Protocols(place) => place.text.clone(),
            Self::MaybeProtocols(place) => {
                let text = place.as_ref().map(|own| own.text.clone());
                text.unwrap_or_default()
            }
            Self::Word(place) => place.chosen().to_owned(),
        }
    }
}

impl Given {
    /// Whether it says "nothing" or "off": `""`, 0, false, an empty list.
    pub fn is_off(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Loose(text) => matches!(text.as_str(), "" | "0" | "false" | "off" | "no"),
            Self::Whole(number) => *number == 0,
            Self::Fraction(number) => *number == 0.0,
            Self::Flag(is_on) => !is_on,
            Self::List(items) => items.is_empty(),
            Self::Table(_) | Self::Date => false,
        }
    }

    /// The text it is, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Loose(text) => Some(text),
            Self::Whole(_) | Self::Fraction(_) | Self::Flag(_) => None,
            Self::List(_) | Self::Table(_) | Self::Date => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "a text",
            Self::Whole(_) => "a whole number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Flag(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Date => "a date or time",
        }
    }
}

fn expected(what: &str, example: &str, given: &Given) -> Refusal {
    let found = match given {
        Given::Text(text) | Given::Loose(text) if text.chars().count() <= 60 => {
            format!("{text:?}")
        }
        Given::Whole(number) => number.to_string(),
        Given::Fraction(number) => number.to_string(),
        Given::Flag(is_on) => is_on.to_string(),
        other => other.kind().to_owned(),
    };
    Refusal::new(format!("expected {what}, found {found}")).hint(format!("for example {example}"))
}

fn unknown(text: &str, why: &UnknownWord) -> Refusal {
    if why.unbuilt {
        return Refusal::new(format!("{text:?} is known, but not built in this version"))
            .hint(format!("choose one of: {}", why.expected.join(", ")));
    }
    let refusal = Refusal::new(format!(
        "expected one of {}, found {text:?}",
        why.expected.join(", ")
    ));
    match super::problem::did_you_mean(text, why.expected.iter().copied()) {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    }
}

fn text(given: &Given) -> Result<String, Refusal> {
    // The value is named by its kind only: a text may be a password written without its quotes.
    let refuse = || Refusal::new(format!("expected a text, found {}", given.kind()));
    let text = given
        .as_text()
        .ok_or_else(|| refuse().hint("put it in quotes, for example \"text\""))?;
    if text.contains('\0') {
        return Err(Refusal::new("a text may not hold a zero byte"));
    }
    Ok(text.to_owned())
}

fn protocols(given: &Given) -> Result<TlsProtocols, Refusal> {
    let words = list(given)?.join(",");
    words.parse().map_err(|why: String| Refusal::new(why))
}

fn some_text(given: &Given) -> Result<Option<String>, Refusal> {
    Ok(Some(text(given)?).filter(|text| !text.is_empty()))
}

fn flag(given: &Given) -> Result<bool, Refusal> {
    match given {
        Given::Flag(is_on) => return Ok(*is_on),
        Given::Whole(0) => return Ok(false),
        Given::Whole(1) => return Ok(true),
        Given::Loose(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" => return Ok(true),
            "0" | "false" | "off" | "no" => return Ok(false),
            _ => {}
        },
        Given::Text(_) | Given::Whole(_) | Given::Fraction(_) => {}
        Given::List(_) | Given::Table(_) | Given::Date => {}
    }
    Err(expected("true or false", "true", given))
}

/// What a whole number is, and its range in words.
type Range = (&'static str, &'static str);

const PORT: Range = ("a port", " from 0 to 65535");
const SMALL: Range = ("a whole number", " from 0 to 4294967295");
const COUNT: Range = ("a whole number", ", 0 or more");

fn whole<N: TryFrom<i64>>(
    given: &Given,
    (what, range): Range,
    example: &str,
) -> Result<N, Refusal> {
    let number = match given {
        Given::Whole(number) => Some(*number),
        Given::Loose(text) => text.trim().parse().ok(),
        Given::Text(_) | Given::Fraction(_) | Given::Flag(_) => None,
        Given::List(_) | Given::Table(_) | Given::Date => None,
    };
    let number = number.ok_or_else(|| expected(what, example, given))?;
    N::try_from(number)
        .map_err(|_| Refusal::new(format!("{number} is out of range, expected {what}{range}")))
}

fn share(given: &Given) -> Result<f64, Refusal> {
    let number = match given {
        Given::Whole(0) => Some(0.0),
        Given::Whole(1) => Some(1.0),
        Given::Fraction(number) => Some(*number),
        Given::Loose(text) => text.trim().parse().ok(),
        Given::Text(_) | Given::Whole(_) | Given::Flag(_) => None,
        Given::List(_) | Given::Table(_) | Given::Date => None,
    };
    let share = number.filter(|number| (0.0..=1.0).contains(number));
    share.ok_or_else(|| expected("a share from 0 to 1", "0.5", given))
}

/// One port, or a list of them; never none.
fn ports(given: &Given) -> Result<Vec<u16>, Refusal> {
    let refuse = || {
        expected(
            "a port, or one for each host",
            "5432 or \"5432,5433\"",
            given,
        )
    };
    let all = match given {
        Given::Text(text) | Given::Loose(text) if text.contains(',') => {
            let each = text.split(',').map(|port| port.trim().parse().ok());
            each.collect::<Option<Vec<u16>>>().ok_or_else(refuse)?
        }
        Given::List(items) => {
            let each = items.iter().map(|item| match item {
                Given::Whole(port) => u16::try_from(*port).ok(),
                _ => None,
            });
            each.collect::<Option<Vec<u16>>>().ok_or_else(refuse)?
        }
        Given::Text(_) | Given::Loose(_) | Given::Whole(_) | Given::Fraction(_) => {
            vec![whole(given, PORT, "5432")?]
        }
        Given::Flag(_) | Given::Table(_) | Given::Date => return Err(refuse()),
    };
    if all.is_empty() {
        Err(refuse())
    } else {
        Ok(all)
    }
}

fn bytes(given: &Given) -> Result<usize, Refusal> {
    match given {
        Given::Text(text) | Given::Loose(text) => value::bytes(text),
        Given::Whole(number) => usize::try_from(*number).ok(),
        Given::Fraction(_) | Given::Flag(_) | Given::List(_) | Given::Table(_) | Given::Date => {
            None
        }
    }
    .ok_or_else(|| expected("a size in bytes", "\"16MB\"", given))
}

fn permissions(given: &Given) -> Result<u32, Refusal> {
    match given {
        Given::Text(text) | Given::Loose(text) => {
            let digits = text.trim().trim_start_matches("0o");
            u32::from_str_radix(digits, 8).ok()
        }
        Given::Whole(number) => u32::try_from(*number).ok(),
        Given::Fraction(_) | Given::Flag(_) | Given::List(_) | Given::Table(_) | Given::Date => {
            None
        }
    }
    .filter(|&mode| mode <= 0o777)
    .ok_or_else(|| expected("permissions in octal", "\"0777\" or 0o777", given))
}

fn span(given: &Given, unit: Duration) -> Result<Duration, Refusal> {
    match given {
        Given::Text(text) | Given::Loose(text) => value::duration(text, unit),
        Given::Whole(number) => value::duration(&number.to_string(), unit),
        Given::Fraction(number) => Duration::try_from_secs_f64(*number * unit.as_secs_f64()).ok(),
        Given::Flag(_) | Given::List(_) | Given::Table(_) | Given::Date => None,
    }
    .ok_or_else(|| {
        let counted = if unit.as_millis() == 1 {
            "milliseconds"
        } else {
            "seconds"
        };
        let what = format!("a length of time: {counted}, or a text with one of us, ms, s, m, h, d");
        expected(&what, "\"5s\"", given)
    })
}

fn list(given: &Given) -> Result<Vec<String>, Refusal> {
    let refuse = |found: String| {
        Refusal::new(format!("expected a list of texts, found {found}"))
            .hint("for example [\"a\", \"b\"]")
    };
    match given {
        Given::Text(all) | Given::Loose(all) => {
            let items = all.split(',').map(str::trim);
            Ok(items
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect())
        }
        Given::List(items) => items
            .iter()
            .map(|item| text(item).map_err(|_| refuse(format!("{} in it", item.kind()))))
            .collect(),
        Given::Whole(_) | Given::Fraction(_) | Given::Flag(_) => Err(refuse(given.kind().into())),
        Given::Table(_) | Given::Date => Err(refuse(given.kind().into())),
    }
}

#[cfg(test)]
mod tests;
