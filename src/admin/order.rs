//! What the console asks of the process.

use tokio::sync::oneshot;

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

/// What the process must do.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again; the answer says what is wrong with it.
    Reload(oneshot::Sender<Result<(), String>>),
    /// End.
    Stop(Stop),
}
