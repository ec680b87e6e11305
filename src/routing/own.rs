//! The settings of a session that are the pooler's own: `pooler.route` and `pooler.consistency`.
//!
//! No server hears of them. They are set, reset and shown by a statement that comes by itself, or in the startup packet; they hold for the
//! session from the next choice of a node on, whatever becomes of a transaction around them.

use std::borrow::Cow;

use crate::config::routing::Consistency;
use crate::protocol::lexer::{Strings, cut, first_word};
use crate::protocol::sql::{Cursor, statements};
use crate::routing::circumstances::{Policy, Target};
use crate::routing::explain::COLUMNS;

/// What the names of all of them begin with.
pub const PREFIX: &str = "pooler.";

/// What a session itself has said of its route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    target: Option<Target>,
    consistency: Option<Consistency>,
}

/// One of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `pooler.route`.
    Route,
    /// `pooler.consistency`.
    Consistency,
}

/// What a statement does with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// SET, of a value that there is.
    Set(Wish),
    /// RESET, or SET … TO DEFAULT.
    Reset(Setting),
    /// SHOW.
    Show(Setting),
    /// RESET ALL or DISCARD ALL, which concern the server, too.
    ResetAll,
}

/// A statement that the pooler answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own<'a> {
    /// About its settings; or why that is refused.
    Order(Result<Order, Complaint>),
    /// EXPLAIN ROUTE of this.
    Explain(&'a [u8]),
}

/// What `text` is, if it is one that the pooler answers itself.
pub fn own(text: &[u8]) -> Option<Own<'_>> {
    if let Some(sql) = explained(text) {
        return Some(Own::Explain(sql));
    }
    match order(text) {
        // The server must hear of it, too.
        Ok(None | Some(Order::ResetAll)) => None,
        Ok(Some(order)) => Some(Own::Order(Ok(order))),
        Err(complaint) => Some(Own::Order(Err(complaint))),
    }
}

/// Whether `text` is one.
pub fn is_own(text: &[u8]) -> bool {
    may_concern(text) && own(text).is_some()
}

/// The names of the columns that it has; none where it has no rows.
pub fn columns(text: &[u8]) -> &'static [&'static str] {
    match own(text) {
        Some(Own::Explain(_)) => &COLUMNS,
        Some(Own::Order(Ok(Order::Show(Setting::Route)))) => &["pooler.route"],
        Some(Own::Order(Ok(Order::Show(Setting::Consistency)))) => &["pooler.consistency"],
        Some(Own::Order(_)) | None => &[],
    }
}

/// Whether `text` may ask for the explanation of a route, by a glance.
pub fn may_explain(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'e' | b'E' | b' ' | b'\n')) && explained(text).is_some()
}

/// What is to be explained, if `text` asks for that.
fn explained(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.trim_ascii_start();
    for word in [&b"explain"[..], b"route"] {
        let (first, after) = rest.split_at_checked(word.len())?;
        if !first.eq_ignore_ascii_case(word) || !after.first()?.is_ascii_whitespace() {
            return None;
        }
        rest = after.trim_ascii_start();
    }
    Some(rest)
}

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The SQLSTATE.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl Complaint {
    /// One that says all by itself.
    pub const fn new(code: &'static str, message: String) -> Self {
        Self {
            code,
            message,
            hint: "",
        }
    }
}

const ROUTES: [(&str, Target); 3] = [
    ("auto", Target::Auto),
    ("primary", Target::Primary),
    ("replica", Target::Replica),
];
const CONSISTENCIES: [(&str, Consistency); 3] = [
    ("none", Consistency::None),
    ("session", Consistency::Session),
    ("global", Consistency::Global),
];

impl Setting {
    /// Its whole name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Route => "pooler.route",
            Self::Consistency => "pooler.consistency",
        }
    }

    fn named(name: &[u8]) -> Result<Self, Complaint> {
        match name {
            b"route" => Ok(Self::Route),
            b"consistency" => Ok(Self::Consistency),
            _ => Err(Complaint {
                code: "42704",
                message: format!(
                    "unrecognized configuration parameter \"pooler.{}\"",
                    String::from_utf8_lossy(name)
                ),
                hint: "The pooler knows pooler.route and pooler.consistency.",
            }),
        }
    }

    fn wish(self, value: &[u8]) -> Result<Wish, Complaint> {
        let word = value.to_ascii_lowercase();
        let wish = match self {
            Self::Route => Wish {
                target: of(&ROUTES, &word),
                consistency: None,
            },
            Self::Consistency => Wish {
                target: None,
                consistency: of(&CONSISTENCIES, &word),
            },
        };
        if wish != Wish::default() {
            return Ok(wish);
        }
        Err(Complaint {
            code: "22023",
            message: format!(
                "invalid value for parameter \"{}\": \"{}\"",
                self.name(),
                String::from_utf8_lossy(value)
            ),
            hint: match self {
                Self::Route => "Available values: auto, primary, replica.",
                Self::Consistency => "Available values: none, session, global.",
            },
        })
    }
}

fn of<T: Copy>(words: &[(&str, T)], word: &[u8]) -> Option<T> {
    let mut words = words.iter();
    let known = words.find(|(known, _)| known.as_bytes() == word);
    known.map(|(_, value)| *value)
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let mut words = words.iter();
    words
        .find(|(_, known)| known == value)
        .map_or("", |(word, _)| word)
}

impl Wish {
    /// What a startup packet says, of which `name` begins with [`PREFIX`].
    ///
    /// # Errors
    /// An unknown name or value.
    pub fn take(&mut self, name: &str, value: &str) -> Result<(), Complaint> {
        let bare = name.get(PREFIX.len()..).unwrap_or_default();
        let setting = Setting::named(bare.to_ascii_lowercase().as_bytes())?;
        *self = self.and(setting.wish(value.as_bytes())?);
        Ok(())
    }

    /// This, and what `other` says beside or instead.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            target: other.target.or(self.target),
            consistency: other.consistency.or(self.consistency),
        }
    }

    /// This, but `setting` as `other` says.
    #[must_use]
    pub fn with(self, setting: Setting, other: Self) -> Self {
        match setting {
            Setting::Route => Self {
                target: other.target,
                ..self
            },
            Setting::Consistency => Self {
                consistency: other.consistency,
                ..self
            },
        }
    }

    /// The settings, as far as the session has not said otherwise.
    pub fn over(self, policy: &Policy) -> Cow<'_, Policy> {
        if self == Self::default() {
            return Cow::Borrowed(policy);
        }
        Cow::Owned(Policy {
            target: self.target.unwrap_or(policy.target),
            consistency: self.consistency.unwrap_or(policy.consistency),
            ..policy.clone()
        })
    }
}

/// What SHOW says of `setting` under `policy`.
pub fn shown(setting: Setting, policy: &Policy) -> &'static str {
    match setting {
        Setting::Route => word(&ROUTES, &policy.target),
        Setting::Consistency => word(&CONSISTENCIES, &policy.consistency),
    }
}

/// Whether `text` may be about these settings, by a glance at its beginning: most texts are not.
pub fn may_concern(text: &[u8]) -> bool {
    match text.trim_ascii_start() {
        [b's' | b'S', b'e' | b'E', b't' | b'T', ..]
        | [b's' | b'S', b'h' | b'H', ..]
        | [b'r' | b'R', b'e' | b'E', b's' | b'S', ..]
        | [b'd' | b'D', b'i' | b'I', ..]
        | [b'e' | b'E', b'x' | b'X', b'p' | b'P', ..] => true,
        [b'/' | b'-' | b';', ..] => {
            let word = first_word(text).to_ascii_lowercase();
            matches!(&*word, b"set" | b"show" | b"reset" | b"discard")
        }
        _ => false,
    }
}

/// What `text`, one statement by itself, does with them. `None` where it is about something else.
///
/// # Errors
/// Unknown names and values, and forms that these settings do not have.
pub fn order(text: &[u8]) -> Result<Option<Order>, Complaint> {
    if !may_concern(text) || text.len() > 1024 {
        return Ok(None);
    }
    let mut tokens = Vec::new();
    if cut(text, Strings::Standard, &mut tokens).is_err() {
        return Ok(None);
    }
    let mut all = statements(text, &tokens);
    let (Some(statement), None) = (all.next(), all.next()) else {
        return Ok(None);
    };
    let mut cursor = statement.cursor();
    if cursor.eat_all(&["reset", "all"]) || cursor.eat_all(&["discard", "all"]) {
        return Ok(cursor.is_at_end().then_some(Order::ResetAll));
    }
    if cursor.eat("show") || cursor.eat("reset") {
        let is_show = statement.is(0, "show");
        return Ok(match own_name(&mut cursor) {
            Some(name) if cursor.is_at_end() && is_show => {
                Some(Order::Show(Setting::named(&name)?))
            }
            Some(name) if cursor.is_at_end() => Some(Order::Reset(Setting::named(&name)?)),
            _ => None,
        });
    }
    if !cursor.eat("set") {
        return Ok(None);
    }
    let is_local = cursor.eat("local");
    if !is_local && statement.is(1, "session") && !statement.has(2, b'.') {
        cursor.at += 1;
    }
    let Some(name) = own_name(&mut cursor) else {
        return Ok(None);
    };
    let setting = Setting::named(&name)?;
    if is_local {
        return Err(Complaint {
            code: "0A000",
            message: format!("SET LOCAL of \"{}\" is not supported", setting.name()),
            hint: "Where a transaction goes is decided when it begins: SET it before, or use a comment such as /* pooler: primary */.",
        });
    }
    let token = statement.tokens.get(cursor.at);
    if token.is_some_and(|token| token.of(text) == b"=") {
        cursor.at += 1;
    } else {
        cursor.eat("to");
    }
    let value = statement.text_at(cursor.at);
    let value = value.or_else(|| statement.name(cursor.at).map(Vec::from));
    let is_default = statement.is(cursor.at, "default");
    cursor.at += 1;
    match value {
        _ if is_default && cursor.is_at_end() => Ok(Some(Order::Reset(setting))),
        Some(value) if cursor.is_at_end() => setting.wish(&value).map(Order::Set).map(Some),
        _ => setting
            .wish(statement.slice(cursor.at - 1, statement.tokens.len()))
            .map(|_| None),
    }
}

/// What follows `pooler.` where that stands at the cursor.
fn own_name(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let is_own = cursor.name()?.eq_ignore_ascii_case(b"pooler") && cursor.eat_mark(b'.');
    let name = if is_own { cursor.name() } else { None };
    name.map(|name| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{Order, Own, Setting, Wish, columns, order, own};
    use crate::config::routing::Consistency;
    use crate::routing::circumstances::{Policy, Target};

    fn primary() -> Wish {
        Wish {
            target: Some(Target::Primary),
            consistency: None,
        }
    }

    #[test]
    fn set_reset_and_show_are_known_in_all_their_forms() {
        for sql in [
            "set pooler.route = 'primary'",
            "SET SESSION Pooler.Route TO primary;",
            "/* why */ set \"pooler\".route = 'PRIMARY'",
        ] {
            assert_eq!(
                order(sql.as_bytes()),
                Ok(Some(Order::Set(primary()))),
                "{sql}"
            );
        }
        for sql in ["reset pooler.route", "set pooler.route to default"] {
            let wanted = Order::Reset(Setting::Route);
            assert_eq!(order(sql.as_bytes()), Ok(Some(wanted)), "{sql}");
        }
        let shown = Order::Show(Setting::Consistency);
        assert_eq!(order(b"show pooler.consistency"), Ok(Some(shown)));
        assert_eq!(order(b" DISCARD ALL"), Ok(Some(Order::ResetAll)));
    }

    #[test]
    fn what_is_not_theirs_is_left_alone() {
        for sql in [
            "select 1",
            "set search_path = pooler",
            "set session characteristics as transaction read only",
            "set pooler.route = 'primary'; select 1",
            "show all",
            "reset all; select 1",
            "set pooler = 1",
            "set 'pooler.route",
        ] {
            assert_eq!(order(sql.as_bytes()), Ok(None), "{sql}");
        }
    }

    #[test]
    fn only_the_two_words_in_front_ask_for_a_route() {
        let sql = b" Explain\nROUTE  select 1";
        assert_eq!(own(sql), Some(Own::Explain(b"select 1")));
        assert_eq!(columns(sql), ["subject", "finding", "why"]);
        for other in [
            "explain select 1",
            "explain routes",
            "explain",
            "execute route",
        ] {
            assert_eq!(own(other.as_bytes()), None, "{other}");
        }
        assert_eq!(own(b"discard all"), None, "the server's, too");
        assert_eq!(columns(b"show pooler.consistency"), ["pooler.consistency"]);
        assert_eq!(columns(b"set pooler.route = 'auto'"), [""; 0]);
    }

    #[test]
    fn unknown_names_and_values_are_errors() {
        for (sql, code) in [
            ("set pooler.route = 'nowhere'", "22023"),
            ("set pooler.consistency = 7", "22023"),
            ("set pooler.route = 'primary', 'replica'", "22023"),
            ("set pooler.rout = 'primary'", "42704"),
            ("show pooler.rout", "42704"),
            ("reset pooler.rout", "42704"),
            ("set local pooler.route = 'primary'", "0A000"),
        ] {
            let complaint = order(sql.as_bytes()).unwrap_err();
            assert_eq!(complaint.code, code, "{sql}");
            assert!(!complaint.hint.is_empty());
        }
        assert!(Wish::default().take("pooler.route", "nowhere").is_err());
    }

    #[test]
    fn a_wish_stands_over_the_settings() {
        let policy = Policy::default();
        let mut wish = Wish::default();
        wish.take("pooler.consistency", "none").unwrap();
        let both = wish.and(primary());
        assert_eq!(both.over(&policy).target, Target::Primary);
        assert_eq!(both.over(&policy).consistency, Consistency::None);
        let reset = both.with(Setting::Route, Wish::default());
        assert_eq!(reset.over(&policy).target, Target::Auto);
    }
}
