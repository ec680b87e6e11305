//! The words of a line in an HBA or ident file: bare, or in double quotes, with commas between those of a list.

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// As it stands; it may be a keyword.
    Bare(String),
    /// In quotes; never a keyword.
    Quoted(String),
    /// A comma.
    Comma,
}

impl Word {
    /// Whether it is the keyword `keyword`.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(text) if text == keyword)
    }

    /// What it says, unless it is a comma.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bare(text) | Self::Quoted(text) => Some(text),
            Self::Comma => None,
        }
    }
}

/// The words of a line, to be taken from its front.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Those of `line`.
    pub fn of(line: &'a str) -> Self {
        Self { rest: line }
    }

    /// What has not been taken yet, without blanks around it.
    pub fn rest(&self) -> &'a str {
        self.rest.trim()
    }

    /// The next word, left where it is; `None` at the end of the line or at a comment.
    ///
    /// # Errors
    /// A quote that is not closed.
    pub fn peek(&self) -> Result<Option<Word>, String> {
        self.clone().next()
    }

    /// Takes the next word; `None` at the end of the line or at a comment.
    ///
    /// # Errors
    /// A quote that is not closed.
    #[allow(clippy::should_implement_trait, reason = "it may fail")]
    pub fn next(&mut self) -> Result<Option<Word>, String> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        match first {
            '#' => Ok(None),
            ',' => {
                self.rest = &self.rest[1..];
                Ok(Some(Word::Comma))
            }
            '"' => {
                let (text, rest) = quoted(&self.rest[1..]).ok_or("a quote is not closed")?;
                self.rest = rest;
                Ok(Some(Word::Quoted(text)))
            }
            _ => {
                let ends =
                    |letter: char| letter.is_whitespace() || matches!(letter, ',' | '#' | '"');
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                Ok(Some(Word::Bare(text.to_owned())))
            }
        }
    }
}

/// The text up to the closing quote (`""` is a quote within), and what follows it.
pub fn quoted(mut rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        text.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                text.push('"');
                rest = more;
            }
            None => return Some((text, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, Words};

    fn all(line: &str) -> Result<Vec<Word>, String> {
        let (mut words, mut found) = (Words::of(line), Vec::new());
        while let Some(word) = words.next()? {
            found.push(word);
        }
        Ok(found)
    }

    #[test]
    fn words_end_at_blanks_commas_quotes_and_comments() {
        let bare = |text: &str| Word::Bare(text.to_owned());
        let quoted = |text: &str| Word::Quoted(text.to_owned());
        assert_eq!(
            all("host a ,b,\"c \"\"d\"\"\" # more"),
            Ok(vec![
                bare("host"),
                bare("a"),
                Word::Comma,
                bare("b"),
                Word::Comma,
                quoted("c \"d\"")
            ])
        );
        assert_eq!(all("  # nothing"), Ok(vec![]));
        assert!(all("host \"a").is_err());
    }
}
