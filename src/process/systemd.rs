//! What systemd is told, and what it hands over: readiness, reloads, the end, a line of status, signs of life, and sockets.
//!
//! Started by anybody else (no `NOTIFY_SOCKET`, no `LISTEN_FDS`), all of it does nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;
use tracing::{error, warn};

use crate::admin::gather::Look;
use crate::admin::numbers;
use crate::pools::registry::Registry;
use crate::process::worker::Worker;

/// What happens to the process as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It serves, for the first time or again after a reload.
    Ready,
    /// It reads its configuration anew.
    Reloading,
    /// It ends.
    Stopping,
    /// The process with this number is the main one from now on.
    Succeeded(u32),
}

/// Tells systemd what happens.
pub fn tell(event: Event) {
    let told = match event {
        Event::Ready => notify(&[NotifyState::Ready]),
        Event::Succeeded(pid) => notify(&[NotifyState::MainPid(pid)]),
        Event::Stopping => notify(&[NotifyState::Stopping]),
        Event::Reloading => {
            let now = NotifyState::monotonic_usec_now();
            now.and_then(|now| notify(&[NotifyState::Reloading, now]))
        }
    };
    if let Err(error) = told {
        warn!(%error, ?event, "systemd could not be told");
    }
}

fn notify(states: &[NotifyState<'_>]) -> io::Result<()> {
    sd_notify::notify(states)
}

/// Shows the numbers of each `stats_period` in `systemctl status`, for ever.
pub async fn show_status(registry: Arc<Registry>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    loop {
        let period = registry.settings.load().pooler.stats_period;
        tokio::time::sleep(period.max(Duration::from_millis(100))).await;
        let line = numbers::log_line(&Look::now(&registry).report());
        let _ = notify(&[NotifyState::Status(&line)]);
    }
}

/// Gives a sign of life twice in each `WatchdogSec`, as long as every worker answers.
pub async fn give_signs_of_life(workers: Arc<Vec<Worker>>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut signs = tokio::time::interval(limit / 2);
    loop {
        signs.tick().await;
        let all = async {
            for worker in workers.iter() {
                worker.answer().await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            error!("a worker thread does not answer, systemd gets no sign of life");
        } else {
            let _ = notify(&[NotifyState::Watchdog]);
        }
    }
}

/// The listening sockets that systemd has opened for us. Asking twice finds none.
///
/// # Errors
/// Names a socket that is of no use here.
pub fn sockets() -> Result<Vec<Socket>, String> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let tcp = handed.take_tcp_listener(index).ok().flatten();
        let socket = match tcp.map(Socket::from) {
            Some(socket) => Some(socket),
            None => handed
                .take_unix_listener(index)
                .map_err(|error| format!("socket {index} of LISTEN_FDS: {error}"))?
                .map(Socket::from),
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}
