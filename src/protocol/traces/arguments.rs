//! The arguments of a function that a text calls.

/// The arguments of a call, as far as they are plain ASCII.
pub(super) struct Arguments<'a> {
    rest: &'a [u8],
    pub(super) is_closed: bool,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        let open = text.iter().position(|byte| !byte.is_ascii_whitespace());
        let rest = match open {
            Some(at) if text[at] == b'(' => &text[at + 1..],
            _ => &text[..0],
        };
        Self {
            rest,
            is_closed: false,
        }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (mut depth, mut is_quoted) = (0_usize, false);
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                _ if !byte.is_ascii() || *byte == b'\\' => return None,
                b'\'' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                b'-' | b'/' | b'"' | b';' => return None,
                b'(' | b'[' => depth += 1,
                b')' | b']' if depth > 0 => depth -= 1,
                b',' | b')' if depth == 0 => {
                    let argument = self.rest[..at].trim_ascii();
                    self.rest = &self.rest[at + 1..];
                    self.is_closed = *byte == b')';
                    return Some(argument);
                }
                _ => {}
            }
        }
        None
    }
}
