//! Where the log goes: standard error, a file, syslog, each if it is wanted.
//!
//! A file is opened for appending and written without a buffer, so that a line is there before what it tells of is seen. It
//! is opened anew at each reload, for log rotation. A sink that fails is left out for that line: the pooler goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::Level;

use crate::clock;
use crate::config::settings::PoolerSettings;
use crate::locked::Locked;

/// The socket of the system's log.
const SYSLOG: &str = "/dev/log";

/// The facilities by name, with their numbers.
const FACILITIES: &[(&str, u8)] = &[
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// All places that the log goes to.
#[derive(Debug)]
pub struct Sinks {
    is_quiet: bool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    syslog: Option<Syslog>,
}

#[derive(Debug)]
struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: u8,
    ident: String,
}

impl Sinks {
    /// Standard error alone; nothing at all where it is to be quiet.
    pub fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            open: Mutex::default(),
        }
    }

    /// Opens what the settings name, anew.
    ///
    /// # Errors
    /// Says what could not be opened; the rest is.
    pub fn follow(&self, settings: &PoolerSettings) -> Result<(), String> {
        let mut problems = Vec::new();
        let mut open = Open::default();
        let mut now = self.open.locked();
        if let Some(path) = &settings.logfile {
            match OpenOptions::new().append(true).create(true).open(path) {
                Ok(file) => open.file = Some(file),
                Err(why) => {
                    // Better the old file than none.
                    open.file = now.file.take();
                    let path = path.display();
                    problems.push(format!("could not open log file {path}: {why}"));
                }
            }
        }
        if settings.syslog {
            let facility = facility(&settings.syslog_facility);
            match Syslog::open(Path::new(SYSLOG), facility, &settings.syslog_ident) {
                Ok(syslog) => open.syslog = Some(syslog),
                Err(why) => problems.push(format!("could not open syslog at {SYSLOG}: {why}")),
            }
        }
        *now = open;
        drop(now);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }

    /// Writes `line`, which ends with a newline; `said` is the same without time and level, for syslog.
    pub fn write(&self, level: Level, line: &[u8], said: &[u8]) {
        let mut open = self.open.locked();
        if !self.is_quiet {
            let _ = io::stderr().write_all(line);
        }
        if let Some(file) = &mut open.file {
            let _ = file.write_all(line);
        }
        if let Some(syslog) = &mut open.syslog {
            syslog.write(level, said);
        }
    }
}

impl Syslog {
    fn open(path: &Path, facility: u8, ident: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            facility,
            ident: ident.to_owned(),
        })
    }

    fn write(&mut self, level: Level, said: &[u8]) {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let priority = u32::from(self.facility) * 8 + severity;
        let (time, ident, pid) = (clock::syslog_text(), &self.ident, std::process::id());
        let mut packet = format!("<{priority}>{time} {ident}[{pid}]: ").into_bytes();
        packet.extend_from_slice(said.trim_ascii_end());
        // The system's log may have been restarted meanwhile.
        if self.socket.send(&packet).is_err() && self.socket.connect(&self.path).is_ok() {
            let _ = self.socket.send(&packet);
        }
    }
}

/// The names of all facilities.
pub fn facilities() -> impl Iterator<Item = &'static str> {
    FACILITIES.iter().map(|(name, _)| *name)
}

/// Whether there is a facility of this name.
pub fn is_facility(name: &str) -> bool {
    facilities().any(|known| known == name)
}

/// The number of a facility; as in PgBouncer, one that is not known is `daemon`.
fn facility(name: &str) -> u8 {
    let found = FACILITIES.iter().find(|(known, _)| *known == name);
    found.map_or(3, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_gets_priority_name_and_process() {
        let path = std::env::temp_dir().join(format!("pooler-syslog-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let system = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::open(&path, facility("local3"), "bouncer").unwrap();

        syslog.write(Level::WARN, b"something\n");

        let mut packet = [0; 200];
        let length = system.recv(&mut packet).unwrap();
        let packet = String::from_utf8_lossy(&packet[..length]).into_owned();
        std::fs::remove_file(&path).unwrap();
        assert!(packet.starts_with("<156>"), "{packet}");
        let end = format!(" bouncer[{}]: something", std::process::id());
        assert!(packet.ends_with(&end), "{packet}");
    }

    #[test]
    fn an_unknown_facility_is_daemon() {
        assert_eq!(facility("authpriv"), 10);
        assert_eq!(facility("kitchen"), 3);
    }
}
