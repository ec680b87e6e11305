//! A program that runs beside us until we end it: by a signal it understands, by SIGKILL if it must be.

use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use crate::cli::guardian::signal;
use crate::cli::problem::Problem;
use crate::clock;

/// How long a server may take to start, stop or catch up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to stop when it is dropped.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at something that is not there yet.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A running server: ended when dropped, and waited for.
#[derive(Debug)]
pub struct Server {
    child: Child,
    parting: &'static str,
}

impl Server {
    /// Starts `command`; dropping it sends the signal `parting`, such as `"QUIT"`.
    ///
    /// # Errors
    /// [`Problem::Io`] when there is no such program.
    pub fn start(command: &mut Command, parting: &'static str) -> Result<Self, Problem> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .map_err(Problem::io(format!("starting {program}")))?;
        Ok(Self { child, parting })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends the signal `name` and waits up to a minute; `false` when it still runs then.
    ///
    /// # Errors
    /// [`Problem::Io`] when the signal cannot be sent.
    pub fn end(&mut self, name: &str) -> Result<bool, Problem> {
        if self.has_ended() {
            return Ok(true);
        }
        signal(self.child.id(), name)?;
        Ok(self.ends_within(PATIENCE))
    }

    /// Sends SIGKILL and waits.
    ///
    /// # Errors
    /// [`Problem::Io`] when the system refuses.
    pub fn kill(&mut self) -> Result<(), Problem> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(Problem::io("killing a server"))
    }

    fn ends_within(&mut self, patience: Duration) -> bool {
        let start = clock::now();
        while !self.has_ended() {
            if clock::now().since(start) > patience {
                return false;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        if signal(self.child.id(), self.parting).is_err() || !self.ends_within(LAST_PATIENCE) {
            let _ = self.kill(); // what SIGKILL cannot end, nothing can
        }
    }
}

/// Looks again and again until there is something to see; `None` when there is nothing after a minute.
///
/// # Errors
/// Those of `look`, at once.
pub fn until<T>(
    mut look: impl FnMut() -> Result<Option<T>, Problem>,
) -> Result<Option<T>, Problem> {
    let start = clock::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(Some(seen));
        }
        if clock::now().since(start) > PATIENCE {
            return Ok(None);
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Server, signal, until};

    #[test]
    fn a_server_is_ended_by_the_signal_it_is_sent() {
        let mut server = Server::start(Command::new("sleep").arg("60"), "QUIT").unwrap();
        assert!(!server.has_ended());
        assert!(server.end("TERM").unwrap());
        assert!(server.end("TERM").unwrap(), "ending twice is ending once");
    }

    #[test]
    fn a_server_that_is_dropped_is_gone() {
        let server = Server::start(Command::new("sleep").arg("60"), "QUIT").unwrap();
        let pid = server.pid();
        drop(server);
        assert!(signal(pid, "0").is_err());
    }

    #[test]
    fn looking_ends_with_the_first_sight() {
        let mut looks = 0;
        let seen = until(|| {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(seen.unwrap(), Some(3));
    }
}
