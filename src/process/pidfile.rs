//! The file that holds the process's number while it runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tracing::info;

/// The file, which is removed when this is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes our number into a file that is not there yet.
    ///
    /// # Errors
    /// Says why it could not be written.
    pub fn write(path: &Path) -> Result<Self, String> {
        let problem =
            |why: io::Error| format!("could not write pidfile '{}': {why}", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let mut file = options.open(path).map_err(problem)?;
        writeln!(file, "{}", std::process::id()).map_err(problem)?;
        Ok(Self(path.to_owned()))
    }
}

impl PidFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes sure that no running process has put its number into the file; one that a dead process left is removed.
///
/// # Errors
/// When another process runs, or the file cannot be read.
pub fn make_way(path: &Path) -> Result<(), String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => {
            return Err(format!(
                "could not read pidfile '{}': {why}",
                path.display()
            ));
        }
    };
    let is_alive = match text.trim().parse::<i32>() {
        Ok(pid) if pid > 0 => kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH),
        Ok(_) | Err(_) => true,
    };
    if is_alive {
        return Err(format!(
            "pidfile '{}' exists, another instance running?",
            path.display()
        ));
    }
    info!("stale pidfile, removing");
    fs::remove_file(path)
        .map_err(|why| format!("could not remove pidfile '{}': {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pooler-{name}-{}.pid", std::process::id()))
    }

    #[test]
    fn a_dead_processes_file_is_removed_and_a_living_ones_is_not() {
        let path = path("stale");
        // No process has a number that large.
        fs::write(&path, "2147483646\n").unwrap();
        make_way(&path).unwrap();
        assert!(!path.exists());

        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        let refused = make_way(&path).unwrap_err();
        assert!(
            refused.ends_with("exists, another instance running?"),
            "{refused}"
        );
        fs::write(&path, "nonsense").unwrap();
        assert!(make_way(&path).is_err());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_file_is_ours_alone_and_goes_with_us() {
        let path = path("own");
        let file = PidFile::write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert!(PidFile::write(&path).is_err());
        drop(file);
        assert!(!path.exists());
    }
}
