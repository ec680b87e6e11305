//! What a client says of the pooler's own settings and of routes, message by message, while no server owes it anything.
//!
//! Each message is answered by itself, as a server would, so any order that drivers use will do: statements with a name, described or
//! not, by Flush or by Sync, a few rows at a time. After an error everything is passed over up to the Sync. A message that is about
//! something else is [`Taken::Not`]: from there on a server answers.

use bytes::BytesMut;

use crate::protocol::frame::cstr;
use crate::protocol::message::{self, Say, Severity};
use crate::protocol::prepared::text_of;
use crate::routing::own::{Complaint, columns, is_own};
use crate::routing::request::Cutter;

/// The oid of `text`.
const TEXT: u32 = 25;
const NO_DATA: &[u8] = b"n\0\0\0\x04";

/// What a statement has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its rows; none where it has no columns.
    pub rows: Vec<Vec<String>>,
    /// Its tag.
    pub tag: &'static str,
}

/// Who keeps the client's names, and runs what is the pooler's own.
pub trait Owner {
    /// What follows the name in the Parse message of the pooler's own statement that the client calls `name`.
    fn named(&self, name: &[u8]) -> Option<Box<[u8]>>;
    /// Whether the client has a statement of that name, whatever it is.
    fn has(&self, name: &[u8]) -> bool;
    /// The client calls a statement of the pooler's own `name`; false where names are not followed.
    fn keep(&mut self, name: &[u8], definition: &[u8]) -> bool;
    /// The name means nothing any more.
    fn forget(&mut self, name: &[u8]);
    /// Does what `text` says.
    ///
    /// # Errors
    /// What is wrong with it.
    fn run(&mut self, text: &[u8]) -> Result<Ran, Complaint>;
}

/// Whether a message was the pooler's to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was, and is answered.
    Yes,
    /// It is a server's.
    Not,
}

/// A statement that was bound, and how far its rows have been sent.
#[derive(Debug)]
struct Portal {
    name: Box<[u8]>,
    text: Box<[u8]>,
    ran: Option<(Ran, usize)>,
}

/// What is remembered between two messages.
#[derive(Debug, Default)]
pub struct Talk {
    /// What follows the name in the Parse message of the unnamed statement.
    unnamed: Option<Box<[u8]>>,
    portals: Vec<Portal>,
    /// A Sync is due.
    is_open: bool,
    /// After an error.
    skipping: Option<Cutter>,
}

impl Talk {
    /// After an error: passes over `chunk` up to its Sync, which is answered. How many bytes that were; none where there was no error.
    pub fn skip(&mut self, chunk: &[u8], status: u8, out: &mut BytesMut) -> usize {
        let mut at = 0;
        while let Some(cutter) = &mut self.skipping
            && at < chunk.len()
        {
            let (count, is_end) = cutter.cut(&chunk[at..]);
            at += count;
            if is_end && cutter.tag() == b'S' {
                self.skipping = None;
                self.synced(status, out);
            }
        }
        at
    }

    /// Takes one message in. `status` is that of ReadyForQuery.
    pub fn message(
        &mut self,
        (tag, body): (u8, &[u8]),
        status: u8,
        owner: &mut impl Owner,
        out: &mut BytesMut,
    ) -> Taken {
        let taken = match tag {
            b'Q' => self.query(body, status, owner, out),
            b'P' => self.parse(body, owner, out),
            b'B' => self.bind(body, owner, out),
            b'D' => self.describe(body, owner, out),
            b'E' => self.execute(body, owner, out),
            b'C' => self.close(body, owner, out),
            b'S' if self.is_open && body.is_empty() => {
                self.synced(status, out);
                return Taken::Yes;
            }
            // Nothing is kept back.
            b'H' if self.is_open => Some(()),
            _ => None,
        };
        if taken.is_none() {
            return Taken::Not;
        }
        self.is_open = tag != b'Q';
        Taken::Yes
    }

    fn synced(&mut self, status: u8, out: &mut BytesMut) {
        self.is_open = false;
        if status == b'I' {
            self.portals.clear();
        }
        message::ready_for_query(out, status);
    }

    fn fails(&mut self, complaint: &Complaint, out: &mut BytesMut) {
        complain(complaint, out);
        self.skipping = Some(Cutter::default());
    }

    fn query(
        &mut self,
        body: &[u8],
        status: u8,
        owner: &mut impl Owner,
        out: &mut BytesMut,
    ) -> Option<()> {
        let text = body.strip_suffix(b"\0").filter(|text| is_own(text))?;
        (self.unnamed, self.portals) = (None, Vec::new());
        match owner.run(text) {
            Ok(ran) => {
                if !columns(text).is_empty() {
                    put_columns(text, out);
                }
                ran.rows.iter().for_each(|row| put_row(row, out));
                message::command_complete(out, ran.tag);
            }
            Err(complaint) => complain(&complaint, out),
        }
        message::ready_for_query(out, status);
        Some(())
    }

    fn parse(&mut self, body: &[u8], owner: &mut impl Owner, out: &mut BytesMut) -> Option<()> {
        let mut definition = body;
        let name = cstr(&mut definition)?;
        if !is_own(text_of(definition)) {
            return None;
        }
        if name.is_empty() {
            self.unnamed = Some(definition.into());
        } else if owner.has(name) {
            let message = format!(
                "prepared statement \"{}\" already exists",
                String::from_utf8_lossy(name)
            );
            self.fails(&Complaint::new("42P05", message), out);
            return Some(());
        } else if !owner.keep(name, definition) {
            return None;
        }
        message::parse_complete(out);
        Some(())
    }

    fn definition(&self, name: &[u8], owner: &impl Owner) -> Option<Box<[u8]>> {
        if name.is_empty() {
            return self.unnamed.clone();
        }
        owner.named(name)
    }

    fn portal(&mut self, name: &[u8]) -> Option<&mut Portal> {
        self.portals.iter_mut().find(|portal| *portal.name == *name)
    }

    fn bind(&mut self, mut body: &[u8], owner: &impl Owner, out: &mut BytesMut) -> Option<()> {
        let (name, statement) = (cstr(&mut body)?, cstr(&mut body)?);
        let definition = self.definition(statement, owner)?;
        if name.is_empty() {
            self.portals.retain(|portal| !portal.name.is_empty());
        } else if self.portal(name).is_some() {
            let message = format!(
                "cursor \"{}\" already exists",
                String::from_utf8_lossy(name)
            );
            self.fails(&Complaint::new("42P03", message), out);
            return Some(());
        }
        self.portals.push(Portal {
            name: name.into(),
            text: text_of(&definition).into(),
            ran: None,
        });
        message::bind_complete(out);
        Some(())
    }

    fn describe(&mut self, body: &[u8], owner: &impl Owner, out: &mut BytesMut) -> Option<()> {
        let (kind, mut rest) = body.split_first()?;
        let name = cstr(&mut rest)?;
        let text = match kind {
            b'S' => {
                let definition = self.definition(name, owner)?;
                put_parameters(&definition, out);
                text_of(&definition).into()
            }
            b'P' => self.portal(name)?.text.clone(),
            _ => return None,
        };
        if columns(&text).is_empty() {
            out.extend_from_slice(NO_DATA);
        } else {
            put_columns(&text, out);
        }
        Some(())
    }

    fn execute(
        &mut self,
        mut body: &[u8],
        owner: &mut impl Owner,
        out: &mut BytesMut,
    ) -> Option<()> {
        let name = cstr(&mut body)?;
        let most = u32::from_be_bytes(body.try_into().ok()?);
        let portal = self.portal(name)?;
        if portal.ran.is_none() {
            match owner.run(&portal.text) {
                Ok(ran) => portal.ran = Some((ran, 0)),
                Err(complaint) => {
                    self.fails(&complaint, out);
                    return Some(());
                }
            }
        }
        let (ran, at) = portal.ran.as_mut()?;
        let left = ran.rows.len() - *at;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Who gets as many as it asked for is not told that there are no more.
        let is_suspended = most > 0 && left >= most;
        let count = if is_suspended { most } else { left };
        for row in &ran.rows[*at..*at + count] {
            put_row(row, out);
        }
        *at += count;
        if is_suspended {
            message::portal_suspended(out);
        } else {
            message::command_complete(out, ran.tag);
        }
        Some(())
    }

    fn close(&mut self, body: &[u8], owner: &mut impl Owner, out: &mut BytesMut) -> Option<()> {
        let (kind, mut rest) = body.split_first()?;
        let name = cstr(&mut rest)?;
        match kind {
            b'S' => {
                self.definition(name, owner)?;
                if name.is_empty() {
                    self.unnamed = None;
                } else {
                    owner.forget(name);
                }
            }
            b'P' => {
                self.portal(name)?;
                self.portals.retain(|portal| *portal.name != *name);
            }
            _ => return None,
        }
        message::close_complete(out);
        Some(())
    }
}

fn complain(complaint: &Complaint, out: &mut BytesMut) {
    let say = Say {
        severity: Severity::Error,
        code: complaint.code,
        message: &complaint.message,
        detail: None,
        hint: Some(complaint.hint).filter(|hint| !hint.is_empty()),
    };
    message::error(out, &say);
}

fn put_columns(text: &[u8], out: &mut BytesMut) {
    let columns: Vec<(&str, u32)> = columns(text).iter().map(|name| (*name, TEXT)).collect();
    message::row_description(out, &columns);
}

fn put_row(row: &[String], out: &mut BytesMut) {
    let cells: Vec<Option<&[u8]>> = row.iter().map(|cell| Some(cell.as_bytes())).collect();
    message::data_row(out, &cells);
}

/// The types of a statement's parameters: those that were said, and `text` for each that is only used.
fn put_parameters(definition: &[u8], out: &mut BytesMut) {
    let text = text_of(definition);
    let said = definition.get(text.len() + 3..).unwrap_or_default();
    let mut types: Vec<u32> = said
        .chunks_exact(4)
        .filter_map(|oid| Some(u32::from_be_bytes(oid.try_into().ok()?)))
        .map(|oid| if oid == 0 { TEXT } else { oid })
        .collect();
    types.resize(types.len().max(most_used(text)), TEXT);
    message::parameter_description(out, &types);
}

/// The highest number of a parameter in `text`, as far as that is sensible.
fn most_used(text: &[u8]) -> usize {
    let parts = text.split(|byte| *byte == b'$').skip(1);
    let numbers = parts.filter_map(|part| {
        let length = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&part[..length]).ok()?.parse().ok()
    });
    numbers.filter(|number| *number <= 1000).max().unwrap_or(0)
}

impl Talk {
    /// Whether a Sync is due.
    pub fn is_due(&self) -> bool {
        self.is_open || self.skipping.is_some()
    }

    /// Whether something of it may matter to the next message.
    pub fn is_going_on(&self) -> bool {
        let holds = self.unnamed.is_some() || !self.portals.is_empty();
        self.is_open || holds || self.skipping.is_some()
    }
}

#[cfg(test)]
mod tests;
