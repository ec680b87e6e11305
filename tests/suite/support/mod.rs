//! What the tests stand on: one PostgreSQL, a pooler for each test, and clients that look closely.

pub mod columns;
pub mod directory;
pub mod dns;
pub mod languages;
pub mod load;
pub mod packages;
#[cfg(feature = "pam")]
pub mod pam;
pub mod panics;
pub mod patroni;
pub mod pgbouncer;
pub mod pooler;
pub mod postgres;
pub mod relay;
pub mod scene;
pub mod scripted;
pub mod tls;
pub mod wire;
pub mod wiring;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use ::pooler::cli::guardian::Guardian;

/// Looks at `condition` until it holds.
///
/// # Panics
/// When `deadline` passes first.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Raised when dropped, so that threads that run until then also end when a test fails.
pub struct Raise<'a>(pub &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whether the long form of a test was asked for: `POOLER_LONG=1 cargo test`.
pub fn long() -> bool {
    std::env::var_os("POOLER_LONG").is_some_and(|value| value != "0")
}

/// A folder of this test process; all of it goes when the process ends, however it ends.
pub fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = root().join(format!("{number}-{name}"));
    std::fs::create_dir_all(&folder).expect("a folder under the temporary one");
    folder
}

/// The folder of all folders.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("pooler-tests-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("the temporary folder is writable");
        root
    })
}

/// Statics are never dropped, and a test process that is killed drops nothing at all.
fn guardian() -> &'static Mutex<Guardian> {
    static GUARDIAN: OnceLock<Mutex<Guardian>> = OnceLock::new();
    GUARDIAN.get_or_init(|| {
        Mutex::new(Guardian::over(root()).expect("a shell that cleans up after us"))
    })
}

/// The process `pid` ends with this one, at the latest.
pub fn guard(pid: u32) {
    guardian().lock().unwrap().watch(pid);
}

/// The process `pid` has ended.
pub fn unguard(pid: u32) {
    guardian().lock().unwrap().forget(pid);
}
