//! Whether what a client has sent may end its transaction with a COMMIT.
//!
//! This decides what a client is told whose server is lost inside a transaction: that all of it is undone, or that nobody knows. What it
//! must never do is to miss a COMMIT; to see one where none is costs a driver only its right to repeat by itself. Frames are followed
//! over any number of reads, and of a text it is only looked at which word each of its statements begins with.

use crate::protocol::sides::Walk;

/// Longer words are none of those that matter.
const LONGEST: usize = 12;
/// Longer names of statements are not followed: nobody knows what they mean.
const LONGEST_NAME: usize = 256;

/// What a request may do to the transaction that it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Commit {
    /// It commits nothing.
    #[default]
    No,
    /// It is a COMMIT and nothing else.
    Alone,
    /// Some part of it may be one, and there is more.
    Perhaps,
}

/// What `text` may do.
pub fn commit(text: &[u8]) -> Commit {
    let mut scan = Scan::default();
    text.iter().for_each(|byte| scan.take(*byte));
    scan.end()
}

/// The words of a text, as they come.
#[derive(Debug, Clone, Copy)]
struct Scan {
    word: [u8; LONGEST],
    length: usize,
    last: u8,
    /// The next word may begin a statement.
    is_start: bool,
    /// A comment may reach up to the end of the line.
    has_dashes: bool,
    is_commit: bool,
    has_more: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            word: [0; LONGEST],
            length: 0,
            last: 0,
            is_start: true,
            has_dashes: false,
            is_commit: false,
            has_more: false,
        }
    }
}

impl Scan {
    fn take(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..) {
            if let Some(place) = self.word.get_mut(self.length) {
                *place = byte.to_ascii_lowercase();
            }
            self.length += 1;
        } else {
            self.word_ends();
            // Behind what looks like a comment a statement may begin, even where that stands in a string.
            self.has_dashes |= (self.last, byte) == (b'-', b'-');
            self.is_start |= byte == b';'
                || (self.last, byte) == (b'*', b'/')
                || (self.has_dashes && matches!(byte, b'\n' | b'\r'));
        }
        self.last = byte;
    }

    fn word_ends(&mut self) {
        if self.length == 0 {
            return;
        }
        let word = self.word.get(..self.length).unwrap_or_default();
        let begins = std::mem::take(&mut self.is_start);
        match word {
            b"commit" | b"end" if begins => {
                self.has_more |= self.is_commit;
                self.is_commit = true;
            }
            // It may be PREPARE TRANSACTION.
            b"prepare" if begins => (self.is_commit, self.has_more) = (true, true),
            b"work" | b"transaction" if self.is_commit => {}
            _ => self.has_more = true,
        }
        self.length = 0;
    }

    fn end(&mut self) -> Commit {
        self.word_ends();
        match (self.is_commit, self.has_more) {
            (false, _) => Commit::No,
            (true, false) => Commit::Alone,
            (true, true) => Commit::Perhaps,
        }
    }
}

/// What the bytes to come belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Head,
    /// The text of a simple query.
    Query,
    /// The name in a Parse.
    Named,
    /// The text in a Parse.
    Text,
    /// The portal in a Bind.
    Portal,
    /// The statement in a Bind.
    Statement,
    /// The portal in an Execute.
    Run,
    /// What says nothing.
    Rest,
}

/// What a client has sent since its server was lent to it.
#[derive(Debug, Default)]
pub struct Commits {
    head: Vec<u8>,
    /// Bytes of the frame that are still to come.
    left: usize,
    part: Part,
    scan: Scan,
    name: Vec<u8>,
    /// The statement that was prepared last, and what it does.
    prepared: (Vec<u8>, Commit),
    unnamed: Commit,
    is_portal_named: bool,
    /// What the unnamed portal does, and what those with names do.
    portal: Commit,
    portals: Commit,
    requests: usize,
    found: Commit,
}

impl Commits {
    /// Begins anew, with a client whose bytes stand at `walk`.
    pub fn begin(&mut self, walk: &Walk) {
        let (mut head, mut name) = (
            std::mem::take(&mut self.head),
            std::mem::take(&mut self.name),
        );
        head.clear();
        name.clear();
        let is_torn = !walk.stash.is_empty();
        *self = Self {
            head,
            name,
            left: walk.body,
            part: if walk.body > 0 {
                Part::Rest
            } else {
                Part::Head
            },
            // A statement of which nothing was seen.
            unnamed: Commit::Perhaps,
            found: if is_torn { Commit::Perhaps } else { Commit::No },
            ..Self::default()
        };
    }

    /// All that was sent has been answered.
    pub fn all_answered(&mut self) {
        if self.part == Part::Head && self.head.is_empty() {
            (self.found, self.requests) = (Commit::No, 0);
        }
    }

    /// What the requests since then may do.
    pub fn found(&self) -> Commit {
        match self.part {
            // What has not come yet may say it.
            Part::Query | Part::Text if self.scan.is_commit => Commit::Perhaps,
            _ => self.found,
        }
    }

    /// Whether `bytes` need not be looked at, from a client in no transaction that has nothing under way: what one simple query does is known
    /// with its ReadyForQuery, and before that nobody takes the client to be inside a transaction.
    pub fn may_pass(&self, bytes: &[u8]) -> bool {
        let is_between = self.part == Part::Head && self.head.is_empty();
        let is_one = |length: [u8; 4]| u32::from_be_bytes(length) as usize + 1 == bytes.len();
        is_between && matches!(bytes, [b'Q', a, b, c, d, ..] if is_one([*a, *b, *c, *d]))
    }

    /// The client sends `bytes`. `known` tells what a statement does that it has prepared.
    pub fn sends(&mut self, mut bytes: &[u8], known: impl Fn(&[u8]) -> Option<Commit>) {
        while !bytes.is_empty() {
            if self.part == Part::Head {
                let part = (5 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                if self.head.len() == 5 {
                    self.begins();
                }
                continue;
            }
            let part = self.left.min(bytes.len());
            self.body(&bytes[..part], &known);
            (self.left, bytes) = (self.left - part, &bytes[part..]);
            if self.left == 0 {
                self.ends();
            }
        }
    }

    /// The head of a frame is here.
    fn begins(&mut self) {
        let length = [self.head[1], self.head[2], self.head[3], self.head[4]];
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        self.left = length.saturating_sub(4);
        (self.scan, self.is_portal_named) = (Scan::default(), false);
        self.name.clear();
        self.part = match self.head[0] {
            b'Q' => Part::Query,
            b'P' => Part::Named,
            b'B' => Part::Portal,
            b'E' => Part::Run,
            _ => Part::Rest,
        };
        self.head.clear();
        if self.left == 0 {
            self.ends();
        }
    }

    fn body(&mut self, mut bytes: &[u8], known: &impl Fn(&[u8]) -> Option<Commit>) {
        while let Some((byte, rest)) = bytes.split_first() {
            match (self.part, *byte) {
                (Part::Rest | Part::Head, _) => return,
                (Part::Query, byte) => self.scan.take(byte),
                (Part::Named, 0) => self.part = Part::Text,
                (Part::Text, 0) => {
                    self.prepares();
                    self.part = Part::Rest;
                }
                (Part::Text, byte) => self.scan.take(byte),
                (Part::Portal, 0) => self.part = Part::Statement,
                (Part::Portal, _) => self.is_portal_named = true,
                (Part::Run, byte) => {
                    let portal = if byte == 0 { self.portal } else { self.portals };
                    self.asks(portal);
                    self.part = Part::Rest;
                }
                (Part::Statement, 0) => {
                    self.binds(known);
                    self.part = Part::Rest;
                }
                (Part::Named | Part::Statement, byte) => self.name.push(byte),
            }
            if self.name.len() > LONGEST_NAME {
                (self.portal, self.portals) = (Commit::Perhaps, Commit::Perhaps);
                self.part = Part::Rest;
            }
            bytes = rest;
        }
    }

    fn prepares(&mut self) {
        let does = self.scan.end();
        if self.name.is_empty() {
            self.unnamed = does;
        } else {
            self.prepared = (std::mem::take(&mut self.name), does);
        }
    }

    fn binds(&mut self, known: &impl Fn(&[u8]) -> Option<Commit>) {
        let does = if self.name.is_empty() {
            self.unnamed
        } else if self.prepared.0 == self.name {
            // The server may have refused it, and kept the one before.
            known(&self.name).unwrap_or_default().max(self.prepared.1)
        } else {
            known(&self.name).unwrap_or(Commit::Perhaps)
        };
        if self.is_portal_named {
            self.portals = self.portals.max(does);
        } else {
            self.portal = does;
        }
    }

    /// A request is whole: the client asks for something that `does` this.
    fn asks(&mut self, does: Commit) {
        self.requests += 1;
        self.found = self.found.max(does);
        if self.requests > 1 && self.found != Commit::No {
            self.found = Commit::Perhaps;
        }
    }

    fn ends(&mut self) {
        if self.part == Part::Query {
            let does = self.scan.end();
            self.asks(does);
        }
        self.part = Part::Head;
    }
}

#[cfg(test)]
mod tests;
