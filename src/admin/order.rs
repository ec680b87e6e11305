//! What the console asks of the process.

use tokio::sync::oneshot;

use crate::net::stream::Homeless;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At once.
    Now,
    /// Each client after its next idle point, within `shutdown_timeout`.
    Drain,
    /// When no server is open any more.
    WaitForServers,
    /// When no client is left.
    WaitForClients,
}

/// Why a SET is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRefusal {
    /// What is wrong.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl From<&str> for SetRefusal {
    fn from(detail: &str) -> Self {
        Self {
            detail: detail.to_owned(),
            hint: None,
        }
    }
}

/// What the process must do.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again; the answer names the keys that wait for a restart, or says what is wrong with it.
    Reload(oneshot::Sender<Result<Vec<String>, String>>),
    /// Give a running setting another value.
    Set {
        /// The key.
        key: String,
        /// The value, as typed.
        value: String,
        /// Told what a notice should say, or why it is not done.
        answer: oneshot::Sender<Result<Option<String>, SetRefusal>>,
    },
    /// Give everything to the process at the other end of this connection.
    HandOver(Homeless),
    /// End.
    Stop(Stop),
}
