//! The words of a text: where they begin and end, comments between them, and comparing them whatever their case.

const BEGINS: u8 = 1;
const GOES_ON: u8 = 2;
const SIGN: u8 = 4;

/// Which bytes begin a word, which go on with one, and which may end a statement or begin a comment: every text passes here byte by byte.
static BYTES: [u8; 256] = {
    let (mut table, mut byte) = ([0; 256], 0_u8);
    loop {
        let begins = byte.is_ascii_alphabetic() || byte == b'_';
        let goes_on = begins || byte.is_ascii_digit() || byte == b'$';
        let is_sign = matches!(byte, b';' | b'-' | b'/');
        table[byte as usize] = if begins { BEGINS } else { 0 }
            | if goes_on { GOES_ON } else { 0 }
            | if is_sign { SIGN } else { 0 };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

#[inline]
pub(super) fn begins_word(byte: u8) -> bool {
    BYTES[usize::from(byte)] & BEGINS != 0
}

/// Where something stands from `at` on that is neither space nor of a number, nor any sign that says nothing.
#[inline]
pub(super) fn next_that_says(text: &[u8], at: usize) -> Option<usize> {
    let says = |byte: &u8| BYTES[usize::from(*byte)] & (BEGINS | SIGN) != 0;
    text[at..].iter().position(says).map(|found| at + found)
}

#[inline]
pub(super) fn word_at(text: &[u8], at: usize) -> &[u8] {
    let rest = &text[at..];
    let end = rest
        .iter()
        .position(|byte| BYTES[usize::from(*byte)] & GOES_ON == 0);
    &rest[..end.unwrap_or(rest.len())]
}

/// Behind the comment at `at`, or behind one byte where there is none.
pub(super) fn after_comment(text: &[u8], at: usize) -> usize {
    match &text[at..] {
        [b'-', b'-', rest @ ..] => rest
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(text.len(), |end| at + 2 + end),
        [b'/', b'*', rest @ ..] => {
            let (mut depth, mut index) = (1, 0);
            while depth > 0 && index < rest.len() {
                match &rest[index..] {
                    [b'/', b'*', ..] => (depth, index) = (depth + 1, index + 2),
                    [b'*', b'/', ..] => (depth, index) = (depth - 1, index + 2),
                    _ => index += 1,
                }
            }
            at + 2 + index
        }
        _ => at + 1,
    }
}

#[inline]
pub(super) fn is(word: &[u8], other: &str) -> bool {
    word.eq_ignore_ascii_case(other.as_bytes())
}

/// Whether `word` has the first letter and the length of one that matters wherever it stands: most words have not.
#[inline]
pub(super) fn may_matter(word: &[u8]) -> bool {
    let length = word.len();
    let may_run_texts = || length >= "ts_stat".len() && word.contains(&b'_');
    match word[0].to_ascii_lowercase() {
        b'a' => length == "alter".len(),
        b'c' => length == "create".len() || length == "currval".len() || may_run_texts(),
        b'd' => length >= "dblink_connect".len() || may_run_texts(),
        b'e' => length == "execute".len(),
        b'h' => length == "hold".len(),
        b'i' => length == "into".len() || length == "import".len(),
        b'l' => length == "lastval".len(),
        b'n' => length == "nextval".len(),
        b'p' => word.get(2) == Some(&b'_'),
        b'q' => may_run_texts(),
        b's' => length == "setval".len() || length == "setseed".len() || may_run_texts(),
        b't' => length == "temp".len() || length == "temporary".len() || may_run_texts(),
        b'u' => length == 1 || length == "update".len(),
        _ => false,
    }
}

pub(super) fn is_comment(text: &[u8], at: usize) -> bool {
    matches!(text[at..], [b'-', b'-', ..] | [b'/', b'*', ..])
}

/// Where what is neither space nor comment goes on, from `at`.
pub(super) fn after_space(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        if byte.is_ascii_whitespace() || *byte == 0x0b {
            at += 1;
        } else if is_comment(text, at) {
            at = after_comment(text, at);
        } else {
            break;
        }
    }
    at
}

/// The words that follow, without comments, as many as there are up to a quote or a sign.
pub(super) fn next_words<const N: usize>(rest: &[u8]) -> [&[u8]; N] {
    let mut words: [&[u8]; N] = [b""; N];
    let mut at = 0;
    for word in &mut words {
        at = after_space(rest, at);
        if !rest.get(at).copied().is_some_and(begins_word) {
            break;
        }
        *word = word_at(rest, at);
        at += word.len();
    }
    words
}

pub(super) fn starts(word: &[u8], prefix: &str) -> bool {
    word.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

pub(super) fn contains(word: &[u8], part: &str) -> bool {
    word.windows(part.len())
        .any(|piece| piece.eq_ignore_ascii_case(part.as_bytes()))
}

/// A short word in small letters, without an allocation.
pub(super) trait Lower {
    fn to_ascii_lowercase_short(&self) -> Short;
}

/// The first bytes of a word.
pub(super) struct Short([u8; 12], usize);

impl Short {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Lower for [u8] {
    fn to_ascii_lowercase_short(&self) -> Short {
        let mut short = [0; 12];
        let length = self.len().min(12);
        short[..length].copy_from_slice(&self[..length]);
        short.make_ascii_lowercase();
        // A longer word is none of those that matter.
        Short(short, if self.len() > 12 { 0 } else { length })
    }
}
