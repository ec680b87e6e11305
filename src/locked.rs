//! Locks that a panic leaves as they are.
//!
//! A panic ends one client and its server, and nobody else. The standard library would have it end everybody: a lock that a
//! panicking thread held is *poisoned*, lest others see a change that is half made. Here a lock is held for lines, and what it
//! guards is put in or taken out as a whole; so whoever comes next takes it as it is.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What can be locked, whoever panicked before.
pub trait Locked<T> {
    /// Locks it, poisoned or not.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> Locked<T> for Mutex<T> {
    #[inline]
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::Locked;

    #[test]
    fn what_a_panic_held_can_be_had_afterwards() {
        let seats = Mutex::new(3);
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _held = seats.locked();
                panic!("while it holds the lock");
            });
            assert!(panics.join().is_err());
        });
        assert!(seats.is_poisoned());
        assert_eq!(*seats.locked(), 3);
    }
}
