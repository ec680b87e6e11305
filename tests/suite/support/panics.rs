//! What panicked, on whatever thread.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on every panic of this process is remembered, besides being shown.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            shown(what);
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(what.to_string());
        }));
    });
}

/// All of them, oldest first.
pub fn told() -> String {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.join("\n")
}
