//! One line of a `pgbouncer.ini`.
//!
//! A comment begins with `;` or `#` and has a line of its own: behind a value it is part of the value. A key is a bare word or
//! stands in single quotes; a value runs to the end of its line.

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'t> {
    /// Nothing, or a comment.
    Empty,
    /// `[name]`.
    Section(&'t str),
    /// `%include path`.
    Include(&'t str),
    /// `key = value`; where each begins, in bytes.
    Pair {
        /// The key, without quotes.
        key: &'t str,
        /// Where it begins.
        key_at: usize,
        /// The value.
        value: &'t str,
        /// Where it begins.
        value_at: usize,
    },
}

/// Why a line cannot be read, and at which byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine {
    /// Where.
    pub at: usize,
    /// Why.
    pub why: &'static str,
}

/// Reads one line, without its newline.
///
/// # Errors
/// [`BadLine`] when it is none of the above.
pub fn read(text: &str) -> Result<Line<'_>, BadLine> {
    let text = text.trim_end();
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    if rest.is_empty() || rest.starts_with([';', '#']) {
        return Ok(Line::Empty);
    }
    if let Some(name) = rest.strip_prefix('[') {
        let name = name.strip_suffix(']').ok_or(BadLine {
            at: text.len(),
            why: "expected \"]\" at the end of a section's name",
        })?;
        return Ok(Line::Section(name));
    }
    if let Some(path) = rest.strip_prefix("%include") {
        let path = path.trim();
        let why = "expected a path behind %include";
        return if path.is_empty() {
            Err(BadLine { at: start, why })
        } else {
            Ok(Line::Include(path))
        };
    }
    pair(text, start)
}

fn pair(text: &str, start: usize) -> Result<Line<'_>, BadLine> {
    let rest = &text[start..];
    let (key, key_at, end) = if let Some(quoted) = rest.strip_prefix('\'') {
        let length = quoted.find('\'').ok_or(BadLine {
            at: text.len(),
            why: "expected a \"'\" at the end of the key",
        })?;
        (&quoted[..length], start + 1, start + length + 2)
    } else {
        let is_bare = |each: char| each.is_ascii_alphanumeric() || "_.*-".contains(each);
        let length = rest.find(|each| !is_bare(each)).unwrap_or(rest.len());
        (&rest[..length], start, start + length)
    };
    if key.is_empty() {
        let why = "expected a key; one with other characters than letters, digits and _.*- stands in single quotes";
        return Err(BadLine { at: start, why });
    }
    let behind = &text[end..];
    let equals = end + (behind.len() - behind.trim_start().len());
    let Some(value) = text[equals..].strip_prefix('=') else {
        let why = "expected \"=\" behind the key";
        return Err(BadLine { at: equals, why });
    };
    let value_at = text.len() - value.trim_start().len();
    Ok(Line::Pair {
        key,
        key_at,
        value: &text[value_at..],
        value_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Option<(&str, &str)> {
        match read(text) {
            Ok(Line::Pair { key, value, .. }) => Some((key, value)),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn a_comment_has_a_line_of_its_own() {
        assert_eq!(read("  ; port = 1"), Ok(Line::Empty));
        assert_eq!(read("# port = 1"), Ok(Line::Empty));
        assert_eq!(read(" \t"), Ok(Line::Empty));
        assert_eq!(pair("a = 1 ; one"), Some(("a", "1 ; one")));
    }

    #[test]
    fn blanks_around_key_and_value_are_no_part_of_them() {
        assert_eq!(pair("\t a=  b c \r"), Some(("a", "b c")));
        assert_eq!(pair("a ="), Some(("a", "")));
        let read = read(" ab = c").unwrap();
        let Line::Pair {
            key_at, value_at, ..
        } = read
        else {
            panic!("no pair");
        };
        assert_eq!((key_at, value_at), (1, 6));
    }

    #[test]
    fn odd_keys_stand_in_single_quotes() {
        assert_eq!(pair("'a b' = x"), Some(("a b", "x")));
        assert_eq!(pair("a.b-c_* = x"), Some(("a.b-c_*", "x")));
        assert_eq!(pair("\"a b\" = x"), None);
        assert_eq!(pair("a b = x"), None);
        assert_eq!(pair("'a = x"), None);
    }

    #[test]
    fn sections_and_includes() {
        assert_eq!(read("[databases]"), Ok(Line::Section("databases")));
        assert_eq!(read("%include /a b.ini "), Ok(Line::Include("/a b.ini")));
        assert!(read("%include").is_err());
        assert!(read("[databases").is_err());
    }
}
