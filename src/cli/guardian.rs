//! Sees that nothing we started outlives us.
//!
//! [`Drop`] tidies up after a return, an error and a panic, but not after SIGKILL, nor for what a test keeps in a `static`.
//! So a shell waits at the end of a pipe whose other end only we hold. Each line we write is the list of processes alive now;
//! when the pipe closes, whatever the reason, it ends the last list, then whoever works in the folder though nobody has listed it (a
//! server whose manager has started it), and removes the folder.
//!
//! A shell, because its `kill` is built in: std offers no signal but SIGKILL, and under SIGKILL a postmaster leaves its
//! shared memory and its socket behind.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::cli::problem::Problem;

/// `$1` is the folder. SIGQUIT is "immediate" for PostgreSQL and for the pooler alike.
const SCRIPT: &str = r#"
pids=; while read -r line; do pids=$line; done
for pid in $pids; do kill -QUIT "$pid"; done 2>/dev/null
tries=0
for pid in $pids; do
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
done
for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null # whoever was started with SIGQUIT ignored does not hear it
for signal in QUIT KILL; do
  tries=0
  while [ $tries -lt 50 ]; do
    found=$(find /proc/[0-9]*/cwd -prune \( -lname "$1" -o -lname "$1/*" \) 2>/dev/null) || :
    [ -n "$found" ] || break 2
    for cwd in $found; do pid=${cwd#/proc/}; kill -$signal "${pid%/cwd}"; done 2>/dev/null
    sleep 0.1; tries=$((tries + 1))
  done
done
rm -rf -- "$1"
"#;

/// The shell that waits for our end.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    pipe: Option<ChildStdin>,
    pids: Vec<u32>,
}

impl Guardian {
    /// Begins to watch over `folder`, which is removed at the end.
    ///
    /// # Errors
    /// [`Problem::Io`] when there is no `sh`.
    pub fn over(folder: &Path) -> Result<Self, Problem> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "pooler-guardian"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C is for us, not for it
            .spawn()
            .map_err(Problem::io("starting sh"))?;
        let pipe = shell.stdin.take();
        Ok(Self {
            shell,
            pipe,
            pids: Vec::new(),
        })
    }

    /// The process `pid` must not outlive us.
    pub fn watch(&mut self, pid: u32) {
        self.pids.push(pid);
        self.tell();
    }

    /// The process `pid` has ended.
    pub fn forget(&mut self, pid: u32) {
        self.pids.retain(|watched| *watched != pid);
        self.tell();
    }

    fn tell(&mut self) {
        let mut line: String = self.pids.iter().map(|pid| format!("{pid} ")).collect();
        line.push('\n');
        if let Some(pipe) = &mut self.pipe {
            // A guardian that was killed is no reason to fail: Drop still tidies up.
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

/// Sends `signal` (`"INT"`, `"QUIT"`, …) to the process `pid`, which must be a child that was not waited for yet.
///
/// # Errors
/// [`Problem::Io`] when there is no `sh`, [`Problem::Failed`] when there is no such process.
pub fn signal(pid: u32, signal: &str) -> Result<(), Problem> {
    let output = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &pid.to_string()])
        .current_dir("/")
        .output()
        .map_err(Problem::io("starting sh"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Problem::Failed {
        program: format!("kill -s {signal} {pid}"),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Guardian;

    #[test]
    fn what_is_watched_ends_with_us_and_the_folder_goes() {
        let folder = std::env::temp_dir().join(format!("pooler-guardian-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let mut gone = Command::new("sleep").arg("60").spawn().unwrap();
        let mut at_work = Command::new("sleep");
        let mut at_work = at_work.arg("60").current_dir(&folder).spawn().unwrap();
        let mut guardian = Guardian::over(&folder).unwrap();
        guardian.watch(sleeper.id());
        guardian.watch(gone.id());
        guardian.forget(gone.id());

        // Waiting first, so that the shell sees the process go instead of a zombie.
        let waiters = [
            std::thread::spawn(move || sleeper.wait().unwrap()),
            std::thread::spawn(move || at_work.wait().unwrap()),
        ];
        drop(guardian);

        for waiter in waiters {
            assert!(!waiter.join().unwrap().success());
        }
        assert!(!folder.exists());
        assert!(
            gone.try_wait().unwrap().is_none(),
            "what was forgotten is left alone"
        );
        gone.kill().unwrap();
        gone.wait().unwrap();
    }
}
