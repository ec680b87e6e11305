//! The statements of a text, and the names and strings in them.
//!
//! A statement here is a slice of tokens. Nothing is looked up and nothing is parsed into a tree: the rooms that judge walk the
//! tokens with a [`Cursor`].

use crate::protocol::lexer::{Kind, Token};

/// A name as the server keeps it: folded, without quotes, at most 63 bytes. Bytes, for a client's encoding is not known.
pub type Name = Box<[u8]>;

/// The longest name, in bytes (`NAMEDATALEN` - 1); the server cuts the rest off.
const LONGEST_NAME: usize = 63;

/// One statement: a text and those of its tokens that belong to it, without the semicolon.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The whole text, of which the tokens know their places.
    pub text: &'a [u8],
    /// The statement's tokens; never none.
    pub tokens: &'a [Token],
}

/// The statements of `text`, cut into `tokens`: parted by semicolons that stand neither in parentheses (a rule's actions)
/// nor in the body of an SQL function (`BEGIN ATOMIC … END`).
pub fn statements<'a>(
    text: &'a [u8],
    tokens: &'a [Token],
) -> impl Iterator<Item = Statement<'a>> + use<'a> {
    let mut rest = tokens;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let length = length(text, rest);
            let tokens = &rest[..length];
            rest = &rest[(length + 1).min(rest.len())..];
            if !tokens.is_empty() {
                return Some(Statement { text, tokens });
            }
        }
    })
}

/// How many tokens the first statement has.
fn length(text: &[u8], tokens: &[Token]) -> usize {
    let whole = Statement { text, tokens };
    let may_have_body = whole.is(0, "create");
    let (mut depth, mut blocks) = (0usize, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Mark(b';') if depth == 0 && blocks == 0 => return at,
            Kind::Word if may_have_body && depth == 0 => {
                if blocks == 0 && whole.is(at, "begin") && whole.is(at + 1, "atomic") {
                    blocks = 1;
                } else if blocks > 0 && whole.is(at, "case") {
                    blocks += 1;
                } else if blocks > 0 && whole.is(at, "end") {
                    blocks -= 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

impl<'a> Statement<'a> {
    /// Whether the token at `at` is the keyword `word`, given in lower case, without quotes.
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Word && token.of(self.text).eq_ignore_ascii_case(word.as_bytes())
        })
    }

    /// Whether the token at `at` is one of `words`.
    pub fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// Whether the token at `at` is the byte `mark`.
    pub fn has(&self, at: usize, mark: u8) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Mark(mark))
    }

    /// The name at `at`, if one stands there. Escapes of `U&"…"` are read with a backslash.
    pub fn name(&self, at: usize) -> Option<Name> {
        let token = self.tokens.get(at)?;
        let bytes = token.of(self.text);
        let whole = match token.kind {
            Kind::Word => bytes.to_ascii_lowercase(),
            Kind::Quoted => undouble(&bytes[1..bytes.len() - 1], b'"'),
            Kind::UnicodeQuoted => unicode(&undouble(&bytes[3..bytes.len() - 1], b'"'), b'\\')?,
            _ => return None,
        };
        Some(shorten(whole))
    }

    /// What the string constant at `at` says, if one stands there that needs no UESCAPE.
    pub fn text_at(&self, at: usize) -> Option<Vec<u8>> {
        let token = self.tokens.get(at)?;
        let bytes = token.of(self.text);
        match token.kind {
            Kind::Text => Some(undouble(&parts(bytes, false), b'\'')),
            Kind::EscapeText => unescape(&parts(bytes, true)),
            Kind::UnicodeText if self.is(at + 1, "uescape") => None,
            Kind::UnicodeText => unicode(&undouble(&parts(bytes, false), b'\''), b'\\'),
            Kind::DollarText => {
                let tag = bytes[1..].iter().position(|byte| *byte == b'$')? + 2;
                Some(bytes[tag..bytes.len() - tag].to_vec())
            }
            _ => None,
        }
    }

    /// The bytes from token `from` up to the one before `to`, as they stand in the text.
    pub fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        if from >= to {
            return &[];
        }
        &self.text[self.tokens[from].start as usize..self.tokens[to - 1].end as usize]
    }

    /// A cursor on the first token.
    pub fn cursor(self) -> Cursor<'a> {
        Cursor {
            statement: self,
            at: 0,
        }
    }
}

/// A place in a statement, which moves forward over what it recognises.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    /// The statement.
    pub statement: Statement<'a>,
    /// The index of the next token.
    pub at: usize,
}

impl Cursor<'_> {
    /// Passes the keyword, if it stands here.
    pub fn eat(&mut self, word: &str) -> bool {
        let is_here = self.statement.is(self.at, word);
        self.at += usize::from(is_here);
        is_here
    }

    /// Passes the keywords, if they stand here in this order.
    pub fn eat_all(&mut self, words: &[&str]) -> bool {
        let is_here = words
            .iter()
            .enumerate()
            .all(|(ahead, word)| self.statement.is(self.at + ahead, word));
        self.at += if is_here { words.len() } else { 0 };
        is_here
    }

    /// Passes the byte, if it stands here.
    pub fn eat_mark(&mut self, mark: u8) -> bool {
        let is_here = self.statement.has(self.at, mark);
        self.at += usize::from(is_here);
        is_here
    }

    /// Passes a name.
    pub fn name(&mut self) -> Option<Name> {
        let name = self.statement.name(self.at)?;
        self.at += 1;
        Some(name)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.statement.tokens.len()
    }
}

/// `name` as an identifier in quotes.
pub fn quote_name(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for byte in name {
        out.extend(std::iter::repeat_n(
            *byte,
            if *byte == b'"' { 2 } else { 1 },
        ));
    }
    out.push(b'"');
    out
}

/// `value` as a string constant that reads the same whatever `standard_conforming_strings` says.
pub fn quote_text(value: &[u8]) -> Vec<u8> {
    let has_backslash = value.contains(&b'\\');
    let mut out = if has_backslash {
        b"E'".to_vec()
    } else {
        b"'".to_vec()
    };
    for byte in value {
        out.extend(std::iter::repeat_n(
            *byte,
            if matches!(byte, b'\'' | b'\\') { 2 } else { 1 },
        ));
    }
    out.push(b'\'');
    out
}

/// At most 63 bytes of a name, and no part of a UTF-8 character.
fn shorten(mut name: Vec<u8>) -> Name {
    if name.len() > LONGEST_NAME {
        let mut end = LONGEST_NAME;
        while end > 0 && name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        name.truncate(end);
    }
    name.into()
}

fn undouble(bytes: &[u8], quote: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        out.push(bytes[at]);
        at += if bytes[at] == quote { 2 } else { 1 };
    }
    out
}

/// The inside of a string constant, its parts joined; quotes are still doubled, escapes still there.
fn parts(bytes: &[u8], escapes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let Some(open) = bytes.iter().position(|byte| *byte == b'\'') else {
        return out;
    };
    let (mut at, mut is_inside) = (open + 1, true);
    while at < bytes.len() {
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied();
        if !is_inside {
            // Between the parts stand blanks and line comments only; a comment may hold a quote.
            if byte == b'-' && next == Some(b'-') {
                let rest = &bytes[at..];
                at += rest
                    .iter()
                    .position(|byte| matches!(byte, b'\n' | b'\r'))
                    .unwrap_or(rest.len());
            } else {
                is_inside = byte == b'\'';
                at += 1;
            }
        } else if (byte == b'\'' && next == Some(b'\'')) || (escapes && byte == b'\\') {
            out.extend_from_slice(&bytes[at..(at + 2).min(bytes.len())]);
            at += 2;
        } else if byte == b'\'' {
            is_inside = false;
            at += 1;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        match byte {
            b'\'' => {
                out.push(byte);
                at += 1;
            }
            b'\\' => at += escape(&bytes[at..], &mut out)?,
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Reads what stands behind a backslash; how long it was.
fn escape(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let digits = |from: usize, most: usize, is_digit: fn(&u8) -> bool| {
        rest[from..]
            .iter()
            .take(most)
            .take_while(|byte| is_digit(byte))
            .count()
    };
    let byte = *rest.first()?;
    match byte {
        b'b' => out.push(8),
        b'f' => out.push(12),
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b't' => out.push(b'\t'),
        b'v' => out.push(11),
        b'0'..=b'7' => {
            let count = digits(0, 3, |byte| matches!(byte, b'0'..=b'7'));
            out.push(number(&rest[..count], 8)?.to_le_bytes()[0]);
            return Some(count);
        }
        b'x' => {
            let count = digits(1, 2, u8::is_ascii_hexdigit);
            if count == 0 {
                out.push(b'x');
            } else {
                out.push(number(&rest[1..=count], 16)?.to_le_bytes()[0]);
            }
            return Some(1 + count);
        }
        b'u' | b'U' => {
            let wanted = if byte == b'u' { 4 } else { 8 };
            let code = number(rest.get(1..=wanted)?, 16)?;
            push_char(code, out)?;
            return Some(1 + wanted);
        }
        _ => out.push(byte),
    }
    Some(1)
}

/// Reads `\0041` and `\+000041`. Surrogate pairs are not joined: `None`.
fn unicode(bytes: &[u8], mark: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != mark {
            out.push(bytes[at]);
            at += 1;
        } else if bytes.get(at + 1) == Some(&mark) {
            out.push(mark);
            at += 2;
        } else if bytes.get(at + 1) == Some(&b'+') {
            push_char(number(bytes.get(at + 2..at + 8)?, 16)?, &mut out)?;
            at += 8;
        } else {
            push_char(number(bytes.get(at + 1..at + 5)?, 16)?, &mut out)?;
            at += 5;
        }
    }
    Some(out)
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

fn push_char(code: u32, out: &mut Vec<u8>) -> Option<()> {
    let mut room = [0; 4];
    let text = char::from_u32(code)?.encode_utf8(&mut room);
    out.extend_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
