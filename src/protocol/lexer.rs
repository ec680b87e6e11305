//! SQL cut into tokens, as PostgreSQL's own scanner cuts it.
//!
//! Whoever judges a text by its words must see the same words as the server: a quote that ends elsewhere hides a whole
//! statement. So comments nest, `--` ends at `\r` too, a string goes on after a newline, an operator ends before a comment, and
//! `$` may stand inside a name. Bytes are never decoded: every byte above 127 belongs to a name or a string.
//!
//! One pass, no recursion. More than [`MOST`] tokens are not read, so a text of any size costs bounded memory.

/// How many tokens of one text are read. A text with more is [`Unread::TooLong`].
pub const MOST: usize = 200_000;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword without quotes.
    Word,
    /// `"name"`.
    Quoted,
    /// `U&"name"`.
    UnicodeQuoted,
    /// `'text'`, also after N.
    Text,
    /// `E'text'`.
    EscapeText,
    /// `U&'text'`.
    UnicodeText,
    /// `B'01'` or `X'ff'`.
    Bits,
    /// `$tag$text$tag$`.
    DollarText,
    /// A number.
    Number,
    /// `$1`.
    Parameter,
    /// A run of operator characters.
    Operator,
    /// One of `( ) [ ] , ; . :`, a byte.
    Mark(u8),
    /// `::`.
    Cast,
}

/// A token: what it is, and where in the text it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

impl Token {
    /// The token's bytes in the text it was cut from.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..self.end as usize]
    }

    /// Whether it is a string constant.
    pub fn is_text(&self) -> bool {
        matches!(
            self.kind,
            Kind::Text | Kind::EscapeText | Kind::UnicodeText | Kind::DollarText
        )
    }

    /// Whether it names something: a word, or an identifier in quotes.
    pub fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted)
    }
}

/// How the server reads a plain string constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strings {
    /// `standard_conforming_strings = on`: a backslash is a backslash.
    #[default]
    Standard,
    /// `standard_conforming_strings = off`: a backslash escapes.
    Backslash,
}

/// Why a text was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// A quote or comment does not end, or a byte begins no token: the server refuses it too.
    Malformed,
    /// More than [`MOST`] tokens, or more than 4 GB.
    TooLong,
}

/// Cuts `text` into `tokens`, which is emptied first and keeps its memory.
///
/// # Errors
/// [`Unread`]; `tokens` then holds those before the place where reading stopped.
pub fn cut(text: &[u8], strings: Strings, tokens: &mut Vec<Token>) -> Result<(), Unread> {
    tokens.clear();
    if u32::try_from(text.len()).is_err() {
        return Err(Unread::TooLong);
    }
    let mut lexer = Lexer {
        text,
        at: 0,
        strings,
    };
    while let Some(token) = lexer.next()? {
        if tokens.len() == MOST {
            return Err(Unread::TooLong);
        }
        tokens.push(token);
    }
    Ok(())
}

/// The first word of a text, past blanks, comments and opening parentheses; empty if something else stands there.
pub fn first_word(text: &[u8]) -> &[u8] {
    let mut lexer = Lexer {
        text,
        at: 0,
        strings: Strings::Standard,
    };
    loop {
        if lexer.blanks().is_err() {
            return &[];
        }
        match text.get(lexer.at) {
            Some(b'(' | b';') => lexer.at += 1,
            Some(&byte) if begins_name(byte) => {
                let start = lexer.at;
                lexer.name();
                return &text[start..lexer.at];
            }
            _ => return &[],
        }
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    strings: Strings,
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Result<Option<Token>, Unread> {
        self.blanks()?;
        let start = self.at;
        let Some(&byte) = self.text.get(start) else {
            return Ok(None);
        };
        let kind = match byte {
            b'\'' => self.plain_text(1)?,
            b'"' => self.quoted(1)?,
            b'$' => self.dollar()?,
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b':' if self.peek(1) == b':' => {
                self.at += 2;
                Kind::Cast
            }
            b':' if self.peek(1) == b'=' => {
                self.at += 2;
                Kind::Operator
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => {
                self.at += 1;
                Kind::Mark(byte)
            }
            _ if byte.is_ascii_digit() => self.number(),
            _ if begins_name(byte) => self.word(byte)?,
            _ if is_operator(byte) => self.operator(),
            _ => return Err(Unread::Malformed),
        };
        let place = |at: usize| u32::try_from(at).map_err(|_| Unread::TooLong);
        Ok(Some(Token {
            kind,
            start: place(start)?,
            end: place(self.at)?,
        }))
    }

    /// Passes blanks and comments.
    fn blanks(&mut self) -> Result<(), Unread> {
        loop {
            match self.peek(0) {
                byte if is_blank(byte) && self.at < self.text.len() => self.at += 1,
                b'-' if self.peek(1) == b'-' => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest
            .iter()
            .position(|byte| is_newline(*byte))
            .unwrap_or(rest.len());
    }

    fn comment(&mut self) -> Result<(), Unread> {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(Unread::Malformed)
    }

    fn name(&mut self) {
        while self.at < self.text.len() && continues_name(self.text[self.at]) {
            self.at += 1;
        }
    }

    fn word(&mut self, byte: u8) -> Result<Kind, Unread> {
        match (byte.to_ascii_lowercase(), self.peek(1), self.peek(2)) {
            (b'e', b'\'', _) => {
                self.text_body(2, true)?;
                Ok(Kind::EscapeText)
            }
            (b'n', b'\'', _) => self.plain_text(2),
            (b'b' | b'x', b'\'', _) => {
                self.text_body(2, false)?;
                Ok(Kind::Bits)
            }
            (b'u', b'&', b'\'') => {
                self.text_body(3, false)?;
                Ok(Kind::UnicodeText)
            }
            (b'u', b'&', b'"') => {
                self.quoted(3)?;
                Ok(Kind::UnicodeQuoted)
            }
            _ => {
                self.name();
                Ok(Kind::Word)
            }
        }
    }

    fn plain_text(&mut self, skip: usize) -> Result<Kind, Unread> {
        let escapes = self.strings == Strings::Backslash;
        self.text_body(skip, escapes)?;
        Ok(if escapes {
            Kind::EscapeText
        } else {
            Kind::Text
        })
    }

    /// Passes a string whose opening is `skip` bytes long, with every part that goes on after a newline.
    fn text_body(&mut self, skip: usize, escapes: bool) -> Result<(), Unread> {
        self.at += skip;
        loop {
            let rest = &self.text[self.at..];
            let stop = rest
                .iter()
                .position(|byte| *byte == b'\'' || (escapes && *byte == b'\\'))
                .ok_or(Unread::Malformed)?;
            self.at += stop;
            if self.peek(0) == b'\\' || self.peek(1) == b'\'' {
                self.at += 2;
                if self.at > self.text.len() {
                    return Err(Unread::Malformed);
                }
                continue;
            }
            self.at += 1;
            match continuation(&self.text[self.at..]) {
                Some(length) => self.at += length,
                None => return Ok(()),
            }
        }
    }

    fn quoted(&mut self, skip: usize) -> Result<Kind, Unread> {
        self.at += skip;
        loop {
            let rest = &self.text[self.at..];
            self.at += rest
                .iter()
                .position(|byte| *byte == b'"')
                .ok_or(Unread::Malformed)?;
            if self.peek(1) != b'"' {
                self.at += 1;
                return Ok(Kind::Quoted);
            }
            self.at += 2;
        }
    }

    fn dollar(&mut self) -> Result<Kind, Unread> {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
            return Ok(Kind::Parameter);
        }
        let start = self.at;
        self.at += 1;
        if begins_name(self.peek(0)) {
            while begins_name(self.peek(0)) || self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if self.peek(0) != b'$' {
            return Err(Unread::Malformed);
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        let rest = &self.text[self.at..];
        self.at += find(rest, tag).ok_or(Unread::Malformed)? + tag.len();
        Ok(Kind::DollarText)
    }

    /// Digits, a fraction, an exponent. Letters that follow are the next word, as old servers read them; what newer ones
    /// add (`0x1f`, `1_000`) is cut in two, which tells no judge anything false.
    fn number(&mut self) -> Kind {
        let digits = |lexer: &mut Self| {
            while lexer.peek(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            digits(self);
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            digits(self);
        }
        Kind::Number
    }

    fn operator(&mut self) -> Kind {
        let start = self.at;
        while self.at < self.text.len() && is_operator(self.text[self.at]) {
            let is_comment = matches!((self.peek(0), self.peek(1)), (b'-', b'-') | (b'/', b'*'));
            if is_comment && self.at > start {
                break;
            }
            self.at += 1;
        }
        // `a=-1` is `=` and `-1`: only an operator with one of these characters may end in a sign.
        let may_end_in_sign = |run: &[u8]| run.iter().any(|byte| b"~!@#^&|`?%".contains(byte));
        while self.at - start > 1
            && matches!(self.text[self.at - 1], b'+' | b'-')
            && !may_end_in_sign(&self.text[start..self.at])
        {
            self.at -= 1;
        }
        Kind::Operator
    }
}

/// How far the next part of a string constant begins, if one follows: blanks and line comments with a newline among
/// them, then a quote.
fn continuation(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut is_newline_seen = false;
    loop {
        match rest.get(at)? {
            b'\'' if is_newline_seen => return Some(at + 1),
            b'-' if rest.get(at + 1) == Some(&b'-') => {
                at += rest[at..].iter().position(|byte| is_newline(*byte))?;
            }
            byte if is_newline(*byte) => {
                is_newline_seen = true;
                at += 1;
            }
            byte if is_blank(*byte) => at += 1,
            _ => return None,
        }
    }
}

/// Where `tag` first stands in `rest`: a `$` begins it, so only those places are compared.
fn find(rest: &[u8], tag: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + rest[from..].iter().position(|byte| *byte == b'$')?;
        if rest[at..].starts_with(tag) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests;
