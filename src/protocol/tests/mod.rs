//! The judge, heard from both ends: frames in, frames out.
//!
//! A frame is written as its tag and its body, with `|` for a zero byte: `"P a|select 1|||"`. What went out is read back the
//! same way; an error is shown by its SQLSTATE and its message.

mod copy;
mod model;
mod names;
mod pieces;
mod pipelines;
mod replies;
mod undone;

use std::sync::Arc;

use crate::config::value::{Dialect, PoolMode, SessionState};
use crate::error::Error;
use crate::protocol::dialogue::{Dialogue, Rules};
use crate::protocol::parameters::Interner;
use crate::protocol::prepared::Dictionary;
use crate::protocol::requests::Flow;
use crate::protocol::run::Run;
use crate::protocol::sides::{ClientSide, ServerSide};
use crate::stats::counters::Tally;

/// A client tied to a server, and what each of them was told.
pub(super) struct Link {
    pub(super) client: ClientSide,
    pub(super) server: ServerSide,
    pub(super) rules: Rules,
    pub(super) dictionary: Dictionary,
    pub(super) interner: Interner,
    tally: Tally,
    pub(super) to_client: Vec<u8>,
    pub(super) to_server: Vec<u8>,
    pub(super) flow: Flow,
    pub(super) error: Option<Error>,
}

/// A client and a server that have just logged in, in a transaction pool that keeps plenty of statements.
pub(super) fn linked() -> Link {
    let interner = Interner::default();
    let params = interner.make([("TimeZone", "UTC")]);
    Link {
        client: ClientSide::new(Arc::clone(&params)),
        server: ServerSide::new(params),
        rules: Rules {
            mode: PoolMode::Transaction,
            max_prepared: 100,
            max_packet: usize::MAX,
            no_simple_query: false,
            state: SessionState::PgBouncer,
            is_followed: false,
            is_split: false,
            dialect: Dialect::Native,
        },
        dictionary: Dictionary::default(),
        interner,
        tally: Tally::default(),
        to_client: Vec::new(),
        to_server: Vec::new(),
        flow: Flow::On,
        error: None,
    }
}

impl Link {
    pub(super) fn holding_at_most(mut self, statements: usize) -> Self {
        self.rules.max_prepared = statements;
        self
    }

    pub(super) fn in_mode(mut self, mode: PoolMode) -> Self {
        self.rules.mode = mode;
        self
    }

    /// The client sends these frames in one piece.
    pub(super) fn client<const N: usize>(&mut self, frames: [&str; N]) -> &mut Self {
        let bytes: Vec<u8> = frames.iter().flat_map(|text| frame(text)).collect();
        self.client_bytes(&bytes)
    }

    /// The server sends these frames in one piece.
    pub(super) fn server<const N: usize>(&mut self, frames: [&str; N]) -> &mut Self {
        let bytes: Vec<u8> = frames.iter().flat_map(|text| frame(text)).collect();
        self.server_bytes(&bytes)
    }

    pub(super) fn client_bytes(&mut self, chunk: &[u8]) -> &mut Self {
        let (mut gathered, mut answers) = (Vec::new(), Vec::new());
        let mut run = Run::new(chunk, &mut gathered);
        let judged = self.dialogue().from_client(chunk, &mut run, &mut answers);
        self.to_server.extend_from_slice(run.finish());
        self.to_client.extend_from_slice(&answers);
        match judged {
            Ok(flow) => self.flow = flow,
            Err(error) => self.error = Some(error),
        }
        self
    }

    pub(super) fn server_bytes(&mut self, chunk: &[u8]) -> &mut Self {
        let mut gathered = Vec::new();
        let mut run = Run::new(chunk, &mut gathered);
        let judged = self.dialogue().from_server(chunk, &mut run);
        self.to_client.extend_from_slice(run.finish());
        if let Err(error) = judged {
            self.error = Some(error);
        }
        self
    }

    pub(super) fn is_over(&mut self) -> bool {
        self.dialogue().is_over()
    }

    /// What went to the server since the last question.
    pub(super) fn sent(&mut self) -> Vec<String> {
        show(&std::mem::take(&mut self.to_server))
    }

    /// What went to the client since the last question.
    pub(super) fn heard(&mut self) -> Vec<String> {
        assert!(self.error.is_none(), "{:?}", self.error);
        show(&std::mem::take(&mut self.to_client))
    }

    /// The client has prepared `text` as `name`, and the server holds it; its number is the next one.
    pub(super) fn prepared(&mut self, name: &str, text: &str) -> &mut Self {
        self.client([&format!("P {name}|{text}|||"), "S "]);
        self.server(["1 ", "Z I"]);
        assert_eq!(self.heard(), ["1 ", "Z I"]);
        self.sent();
        self
    }

    /// Another client takes the client's place; the server stays.
    pub(super) fn another_client(&mut self) -> ClientSide {
        assert!(self.is_over(), "the server is not free");
        let params = Arc::clone(&self.client.params);
        std::mem::replace(&mut self.client, ClientSide::new(params))
    }

    /// Another server takes the server's place; the client stays.
    pub(super) fn another_server(&mut self) -> ServerSide {
        assert!(self.is_over(), "the server is not free");
        let params = Arc::clone(&self.server.params);
        std::mem::replace(&mut self.server, ServerSide::new(params))
    }

    pub(super) fn dialogue(&mut self) -> Dialogue<'_> {
        Dialogue {
            client: &mut self.client,
            server: &mut self.server,
            rules: self.rules,
            dictionary: &self.dictionary,
            interner: &self.interner,
            tally: &self.tally,
        }
    }
}

/// The bytes of a frame written as `"P a|select 1|||"`; an error is written as `"E 22P02 its message"`.
pub(super) fn frame(text: &str) -> Vec<u8> {
    let (tag, body) = (text.as_bytes()[0], &text[2..]);
    let body = match body.split_once(' ') {
        Some((code, message)) if tag == b'E' && code.len() == 5 => {
            format!("SERROR|VERROR|C{code}|M{message}||")
        }
        _ => body.to_owned(),
    };
    raw_frame(tag, body.replace('|', "\0").as_bytes())
}

pub(super) fn raw_frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// The frames in `bytes`, as they are written here.
pub(super) fn show(mut bytes: &[u8]) -> Vec<String> {
    let mut shown = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 5, "a frame is cut off: {bytes:?}");
        let size = 1 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        assert!(bytes.len() >= size, "a frame is cut off: {bytes:?}");
        let body = &bytes[5..size];
        let tag = char::from(bytes[0]);
        shown.push(match field(body, b'C') {
            Some(code) if tag == 'E' && body.starts_with(b"S") => {
                format!("E {code} {}", field(body, b'M').unwrap_or_default())
            }
            _ => format!("{tag} {}", String::from_utf8_lossy(body).replace('\0', "|")),
        });
        bytes = &bytes[size..];
    }
    shown
}

fn field(body: &[u8], kind: u8) -> Option<String> {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&kind))
        .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
}
