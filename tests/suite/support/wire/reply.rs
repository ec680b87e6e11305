//! What comes back: frames, and what they say.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// One message as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(120)];
        write!(
            f,
            "{}[{}]{:?}",
            self.tag as char,
            self.body.len(),
            String::from_utf8_lossy(shown)
        )
    }
}

/// A body being read from its front.
pub struct Body<'a>(pub &'a [u8]);

impl Body<'_> {
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    pub fn text(&mut self) -> String {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .expect("a text ends with a zero byte");
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        text
    }
}

/// What an ErrorResponse or NoticeResponse says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Fault {
    pub fn read(body: &[u8]) -> Self {
        let mut body = Body(body);
        let mut fields = BTreeMap::new();
        while body.0.first().is_some_and(|&field| field != 0) {
            let field = body.bytes(1)[0];
            fields.insert(field, body.text());
        }
        let mut take = |field: u8| fields.remove(&field).unwrap_or_default();
        Self {
            severity: take(b'S'),
            code: take(b'C'),
            message: take(b'M'),
            detail: take(b'D'),
            hint: take(b'H'),
        }
    }

    /// Whether any of the texts a person sees contains `words`.
    pub fn says(&self, words: &str) -> bool {
        [&self.message, &self.detail, &self.hint]
            .iter()
            .any(|text| text.contains(words))
    }
}

/// Everything that came back up to ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The tags of all frames, in order: `"TDDCZ"`.
    pub shape: String,
    /// Column names and type OIDs of the last RowDescription.
    pub columns: Vec<(String, i32)>,
    pub rows: Vec<Vec<Option<String>>>,
    pub tags: Vec<String>,
    pub errors: Vec<Fault>,
    pub notices: Vec<Fault>,
    pub parameters: Vec<(String, String)>,
    /// Channel and payload of each NotificationResponse.
    pub notifications: Vec<(String, String)>,
    pub copied: Vec<u8>,
    /// `I`, `T` or `E`.
    pub status: char,
    pub frames: Vec<Frame>,
}

impl Reply {
    pub(super) fn take(&mut self, frame: Frame) {
        self.shape.push(frame.tag as char);
        let mut body = Body(&frame.body);
        match frame.tag {
            b'T' => {
                let count = body.i16();
                self.columns = (0..count)
                    .map(|_| {
                        let name = body.text();
                        body.bytes(6);
                        let oid = body.i32();
                        body.bytes(8);
                        (name, oid)
                    })
                    .collect();
            }
            b'D' => {
                let count = body.i16();
                let row = (0..count)
                    .map(|_| {
                        let length = body.i32();
                        usize::try_from(length)
                            .ok()
                            .map(|length| String::from_utf8_lossy(&body.bytes(length)).into())
                    })
                    .collect();
                self.rows.push(row);
            }
            b'C' => self.tags.push(body.text()),
            b'E' => self.errors.push(Fault::read(&frame.body)),
            b'N' => self.notices.push(Fault::read(&frame.body)),
            b'S' => self.parameters.push((body.text(), body.text())),
            b'A' => {
                body.i32();
                self.notifications.push((body.text(), body.text()));
            }
            b'd' => self.copied.extend_from_slice(&frame.body),
            b'Z' => self.status = frame.body[0] as char,
            _ => {}
        }
        self.frames.push(frame);
    }

    /// The first cell of the first row.
    #[track_caller]
    pub fn value(&self) -> String {
        assert!(
            self.errors.is_empty(),
            "an error instead of a value: {:?}",
            self.errors
        );
        self.rows
            .first()
            .and_then(|row| row.first())
            .cloned()
            .flatten()
            .unwrap_or_else(|| panic!("no value in {self:?}"))
    }

    /// The only error.
    #[track_caller]
    pub fn error(&self) -> &Fault {
        assert_eq!(
            self.errors.len(),
            1,
            "one error expected in {:?}",
            (&self.shape, &self.errors, &self.rows)
        );
        &self.errors[0]
    }

    /// Itself, if no error came.
    #[track_caller]
    pub fn good(self) -> Self {
        assert!(
            self.errors.is_empty(),
            "unexpected error: {:?}",
            self.errors
        );
        self
    }

    /// The cells of one column, by its name.
    #[track_caller]
    pub fn column(&self, name: &str) -> Vec<String> {
        let at = self
            .columns
            .iter()
            .position(|(column, _)| column == name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.columns));
        self.rows
            .iter()
            .map(|row| row[at].clone().unwrap_or_default())
            .collect()
    }

    /// The first row in which `column` reads `value`, as a map by column name.
    pub fn row_where(&self, column: &str, value: &str) -> Option<BTreeMap<String, String>> {
        let at = self.columns.iter().position(|(name, _)| name == column)?;
        let row = self
            .rows
            .iter()
            .find(|row| row[at].as_deref() == Some(value))?;
        Some(
            self.columns
                .iter()
                .zip(row)
                .map(|((name, _), cell)| (name.clone(), cell.clone().unwrap_or_default()))
                .collect(),
        )
    }
}

/// A connection that ended before ReadyForQuery, and what had come by then.
#[derive(Debug)]
pub struct Cut {
    pub reply: Box<Reply>,
    pub error: io::Error,
}
