//! The process that this one takes over from, as long as it serves clients: it is asked for keys that are not known here.

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// What the other process is told.
#[derive(Debug)]
pub enum Word {
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
pub struct Elder(UnboundedSender<Word>);

impl Elder {
    /// Reached by `way`.
    pub fn at(way: UnboundedSender<Word>) -> Self {
        Self(way)
    }

    /// Has it cancel what the client with `key` does. False when it knows no such client, or has ended.
    pub async fn cancels(&self, key: &[u8]) -> bool {
        let (answer, done) = oneshot::channel();
        let key = key.to_vec();
        self.0.send(Word::Cancel { key, answer }).is_ok() && done.await.unwrap_or(false)
    }

    /// Has it carry out an operator's command, too.
    pub fn command(&self, text: &str) {
        let _ = self.0.send(Word::Command(text.to_owned()));
    }

    /// Says that this process was told to end.
    pub async fn end(&self) {
        let (said, done) = oneshot::channel();
        if self.0.send(Word::Ending { said }).is_ok() {
            let _ = done.await;
        }
    }
}
