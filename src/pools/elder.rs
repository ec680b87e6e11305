//! The process that this one takes over from, as long as it serves clients: it is asked for keys that are not known here.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// What the other process is told.
#[derive(Debug)]
pub enum Tidings {
    /// A cancel request for one of its clients has come.
    Cancel {
        /// The client's key.
        key: Vec<u8>,
        /// Told, when the request is done with, whether the other process knew the key.
        answer: oneshot::Sender<bool>,
    },
    /// An operator's command that is about its clients and servers, too.
    Command(String),
    /// This process was told to end: the other one is not to go on in its place.
    Ending {
        /// Dropped when that has been said.
        said: oneshot::Sender<()>,
    },
}

/// The way to the process that this one takes over from.
#[derive(Debug)]
pub struct Elder {
    way: UnboundedSender<Tidings>,
    /// How many commands it was given, and how many it says it has carried out.
    given: AtomicU64,
    heeded: AtomicU64,
}

impl Elder {
    /// Reached by `way`.
    pub fn at(way: UnboundedSender<Tidings>) -> Self {
        Self {
            way,
            given: AtomicU64::new(0),
            heeded: AtomicU64::new(0),
        }
    }

    /// Has it cancel what the client with `key` does. False when it knows no such client, or has ended.
    pub async fn cancels(&self, key: &[u8]) -> bool {
        let (answer, done) = oneshot::channel();
        let key = key.to_vec();
        self.way.send(Tidings::Cancel { key, answer }).is_ok() && done.await.unwrap_or(false)
    }

    /// Has it carry out an operator's command, too.
    pub fn command(&self, text: &str) {
        self.given.fetch_add(1, SeqCst);
        let _ = self.way.send(Tidings::Command(text.to_owned()));
    }

    /// It says that it has carried out so many commands, and has said how many servers it has since.
    pub fn note_heeded(&self, count: u64) {
        self.heeded.store(count, SeqCst);
    }

    /// Whether every command was carried out there.
    pub fn heeds_all(&self) -> bool {
        self.heeded.load(SeqCst) >= self.given.load(SeqCst)
    }

    /// Says that this process was told to end.
    pub async fn end(&self) {
        let (said, done) = oneshot::channel();
        if self.way.send(Tidings::Ending { said }).is_ok() {
            let _ = done.await;
        }
    }
}
