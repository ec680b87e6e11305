//! What the kernel knows of a process: see proc(5).

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use pooler::cli::guardian::signal;
use pooler::cli::postgres::run;
use pooler::cli::problem::Problem;

/// Set when we have started ourselves again under a higher limit.
const RAISED: &str = "END_TO_END_RAISED";

/// How many ticks a second has.
#[derive(Debug, Clone, Copy)]
pub struct Ticks(f64);

impl Ticks {
    /// Asks the system.
    ///
    /// # Errors
    /// [`Problem::Failed`] when it does not say.
    pub fn ask() -> Result<Self, Problem> {
        let output = run(Command::new("getconf").arg("CLK_TCK"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().map(Self).map_err(|_| Problem::Failed {
            program: "getconf CLK_TCK".to_owned(),
            output: text,
        })
    }
}

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU, its own and the kernel's for it, in microseconds.
    pub cpu_micros: f64,
    /// Context switches of all threads that live.
    pub switches: f64,
}

impl Usage {
    /// That of `pid` up to now.
    ///
    /// # Errors
    /// [`Problem::Io`] when there is no such process, or no `/proc`.
    pub fn of(pid: u32, ticks: Ticks) -> Result<Self, Problem> {
        let stat = read(format!("/proc/{pid}/stat"))?;
        let tasks = format!("/proc/{pid}/task");
        let mut switches = 0.0;
        for task in fs::read_dir(&tasks).map_err(Problem::io(tasks))? {
            let task = task.map_err(Problem::io("looking at a thread"))?;
            let status = read(task.path().join("status"))?;
            switches += numbers_after(&status, "voluntary_ctxt_switches:");
            switches += numbers_after(&status, "nonvoluntary_ctxt_switches:");
        }
        Ok(Self {
            cpu_micros: cpu_ticks(&stat) / ticks.0 * 1e6,
            switches,
        })
    }

    /// What was used after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_micros: self.cpu_micros - earlier.cpu_micros,
            switches: self.switches - earlier.switches,
        }
    }
}

/// The memory that `pid` has, in bytes.
///
/// # Errors
/// As [`Usage::of`].
pub fn resident_bytes(pid: u32) -> Result<f64, Problem> {
    let status = read(format!("/proc/{pid}/status"))?;
    Ok(numbers_after(&status, "VmRSS:") * 1024.0)
}

/// The most memory that `pid` ever had, in bytes.
///
/// # Errors
/// As [`Usage::of`].
pub fn most_resident_bytes(pid: u32) -> Result<f64, Problem> {
    let status = read(format!("/proc/{pid}/status"))?;
    Ok(numbers_after(&status, "VmHWM:") * 1024.0)
}

fn read(path: impl AsRef<Path>) -> Result<String, Problem> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(Problem::io(format!("reading {}", path.display())))
}

/// utime and stime, the 14th and 15th field; the second one may hold anything between its brackets.
fn cpu_ticks(stat: &str) -> f64 {
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

fn numbers_after(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// A program that can count system calls.
#[derive(Debug, Clone, Copy)]
pub enum SystemCalls {
    /// `perf stat`, which costs next to nothing.
    Perf,
    /// `strace -c`, which slows its victim down; the calls per transaction are the same but for waiting.
    Strace,
}

impl SystemCalls {
    /// One that is there and may look.
    pub fn find() -> Option<Self> {
        [Self::Perf, Self::Strace].into_iter().find(|counter| {
            let mut command = counter.command();
            let output = command.arg("true").output();
            output.is_ok_and(|output| {
                output.status.success() && counter.count_in(&output.stderr).is_some()
            })
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Strace => "strace",
        }
    }

    /// Begins to count those of `pid`.
    ///
    /// # Errors
    /// [`Problem::Io`] when it cannot be started.
    pub fn begin(self, pid: u32) -> Result<Counting, Problem> {
        let mut command = self.command();
        command.args(["-p", &pid.to_string()]).stdout(Stdio::null());
        let child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Problem::io("counting system calls"))?;
        sleep(Duration::from_millis(300)); // it does not say when it has begun
        Ok(Counting {
            counter: self,
            child,
        })
    }

    fn command(self) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Perf => command.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter"]),
            Self::Strace => command.args(["-f", "-c", "-U", "calls,name"]),
        };
        command.env("LC_ALL", "C");
        command
    }

    fn count_in(self, output: &[u8]) -> Option<f64> {
        let text = String::from_utf8_lossy(output);
        let mark = match self {
            Self::Perf => "raw_syscalls",
            Self::Strace => "total",
        };
        let line = text.lines().find(|line| line.contains(mark))?;
        let mut words = line.split([',', ' ']).filter(|word| !word.is_empty());
        words.next()?.parse().ok()
    }
}

/// A count under way.
#[derive(Debug)]
pub struct Counting {
    counter: SystemCalls,
    child: Child,
}

impl Counting {
    /// How many there were; `None` when it was not allowed to look.
    ///
    /// # Errors
    /// [`Problem::Io`] when it cannot be ended.
    pub fn end(self) -> Result<Option<f64>, Problem> {
        let _ = signal(self.child.id(), "INT"); // it may have ended by itself, with an error
        let output = self
            .child
            .wait_with_output()
            .map_err(Problem::io("counting system calls"))?;
        Ok(self.counter.count_in(&output.stderr))
    }
}

/// Starts ourselves again where fewer than `files` may be open, for a limit can only be raised by a shell.
///
/// # Errors
/// [`Problem::Failed`] when the limit cannot be raised so far.
pub fn raise_file_limit(files: usize) -> Result<(), Problem> {
    let limits = read("/proc/self/limits")?;
    let limit = numbers_after(&limits, "Max open files");
    let is_unlimited = limits.contains("Max open files            unlimited");
    if is_unlimited || limit >= files as f64 {
        return Ok(());
    }
    if std::env::var_os(RAISED).is_some() {
        return Err(Problem::Failed {
            program: format!("ulimit -n {files}"),
            output: format!("only {limit} files may be open; try fewer --clients\n"),
        });
    }
    let ourselves = std::env::current_exe().map_err(Problem::io("finding ourselves"))?;
    let script = format!("ulimit -n {files}; exec \"$@\"");
    let error: io::Error = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(ourselves)
        .args(std::env::args_os().skip(1))
        .env(RAISED, "1")
        .exec();
    Err(Problem::io("starting ourselves again")(error))
}
