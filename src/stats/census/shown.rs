//! A text of a card that its task writes and the console reads.

use std::sync::{Mutex, MutexGuard};

use crate::locked::Locked;

/// The text as it is now.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<String>);

impl Shown {
    pub(super) fn get(&self) -> String {
        self.lock().clone()
    }

    pub(super) fn set(&self, text: &str) {
        let mut kept = self.lock();
        if *kept != text {
            text.clone_into(&mut kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.locked()
    }
}
