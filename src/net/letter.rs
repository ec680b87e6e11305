//! What a packet says: a kind, and names with values. JSON, with bytes in base64.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

/// Names and values.
#[derive(Debug)]
pub struct Letter(Map<String, Value>);

const KIND: &str = "is";

fn unreadable() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn encoded(bytes: &[u8]) -> Value {
    Value::from(BASE64.encode(bytes))
}

fn decoded(value: &Value) -> io::Result<Vec<u8>> {
    let text = value.as_str().ok_or_else(unreadable)?;
    BASE64.decode(text).map_err(|_| unreadable())
}

fn pair(value: &Value) -> io::Result<[&Value; 2]> {
    match value.as_array().map(Vec::as_slice) {
        Some([one, two]) => Ok([one, two]),
        _ => Err(unreadable()),
    }
}

impl Letter {
    /// One of this kind that says nothing yet.
    pub fn new(kind: &str) -> Self {
        Self(Map::new()).with(KIND, kind)
    }

    /// Says a text, a number, or yes and no.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Says any bytes.
    pub fn with_bytes(self, name: &str, bytes: &[u8]) -> Self {
        self.with(name, encoded(bytes))
    }

    /// Says names and values.
    pub fn with_texts<'a>(
        self,
        name: &str,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let pairs = pairs.map(|(one, two)| Value::from(vec![one, two]));
        self.with(name, pairs.collect::<Vec<_>>())
    }

    /// Says pairs of any bytes.
    pub fn with_all_bytes<'a>(
        self,
        name: &str,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let pairs = pairs.map(|(one, two)| Value::from(vec![encoded(one), encoded(two)]));
        self.with(name, pairs.collect::<Vec<_>>())
    }

    /// Says all of another letter.
    pub fn with_letter(self, name: &str, letter: Self) -> Self {
        self.with(name, letter.0)
    }

    /// The letter as bytes.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// Reads a letter.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what is none; so do all that ask for what it does not say.
    pub fn read(bytes: &[u8]) -> io::Result<Self> {
        Ok(Self(serde_json::from_slice(bytes)?))
    }

    /// Of which kind it is.
    pub fn kind(&self) -> &str {
        self.text(KIND).unwrap_or_default()
    }

    fn value(&self, name: &str) -> io::Result<&Value> {
        self.0.get(name).ok_or_else(unreadable)
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn text(&self, name: &str) -> io::Result<&str> {
        self.value(name)?.as_str().ok_or_else(unreadable)
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn number(&self, name: &str) -> io::Result<u64> {
        self.value(name)?.as_u64().ok_or_else(unreadable)
    }

    /// Yes or no.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn says(&self, name: &str) -> io::Result<bool> {
        self.value(name)?.as_bool().ok_or_else(unreadable)
    }

    /// Another letter, if there is one.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn letter(&self, name: &str) -> io::Result<Option<Self>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(inside)) => Ok(Some(Self(inside.clone()))),
            Some(_) => Err(unreadable()),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        decoded(self.value(name)?)
    }

    /// Names and values.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn texts(&self, name: &str) -> io::Result<Vec<(String, String)>> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(unreadable);
        let all = self.value(name)?.as_array().ok_or_else(unreadable)?;
        let pairs = all.iter().map(|value| {
            let [one, two] = pair(value)?;
            Ok((text(one)?, text(two)?))
        });
        pairs.collect()
    }

    /// Pairs of bytes.
    ///
    /// # Errors
    /// As [`Letter::read`].
    pub fn all_bytes(&self, name: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let all = self.value(name)?.as_array().ok_or_else(unreadable)?;
        let pairs = all.iter().map(|value| {
            let [one, two] = pair(value)?;
            Ok((decoded(one)?, decoded(two)?))
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Letter;

    #[test]
    fn what_was_written_is_read() {
        let written = Letter::new("test")
            .with("text", "ä\0")
            .with("number", u64::MAX)
            .with("flag", true)
            .with_bytes("bytes", &[0, 255])
            .with_texts("texts", [("a", "b")].into_iter())
            .with_all_bytes("all", [(&b"\xff"[..], &b""[..])].into_iter())
            .write();
        let read = Letter::read(&written).unwrap();
        assert_eq!(read.kind(), "test");
        assert_eq!(read.text("text").unwrap(), "ä\0");
        assert_eq!(read.number("number").unwrap(), u64::MAX);
        assert!(read.says("flag").unwrap());
        assert_eq!(read.bytes("bytes").unwrap(), [0, 255]);
        assert_eq!(read.texts("texts").unwrap(), [("a".into(), "b".into())]);
        assert_eq!(read.all_bytes("all").unwrap(), [(vec![255], vec![])]);
    }

    #[test]
    fn what_is_missing_or_nonsense_is_refused() {
        let letter = Letter::new("test").with("number", "no");
        assert!(letter.number("number").is_err() && letter.text("none").is_err());
        assert!(Letter::read(b"[]").is_err() && Letter::read(b"").is_err());
    }
}
