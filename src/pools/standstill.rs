//! Everything held still: SUSPEND.
//!
//! Nobody new is let in, and no socket is read. What was read before is passed on; a client that has nothing left to be passed on stands
//! still until RESUME. Who is not so far when `suspend_timeout` is over is ended.
//!
//! Standstills are numbered, and a client's card says in which one it stands still: so nothing needs to be put back afterwards.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Off,
    On,
    /// `suspend_timeout` is over.
    RanOut,
}

/// Whether everything is held still.
#[derive(Debug)]
pub struct Standstill {
    /// The number of the standstill that is in force; 0 for none.
    number: AtomicU64,
    last: AtomicU64,
    stage: watch::Sender<Stage>,
}

impl Default for Standstill {
    fn default() -> Self {
        Self {
            number: AtomicU64::new(0),
            last: AtomicU64::new(0),
            stage: watch::Sender::new(Stage::Off),
        }
    }
}

impl Standstill {
    /// The number of the standstill that is in force; 0 for none.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number.load(SeqCst)
    }

    /// Whether one is in force.
    pub fn is_on(&self) -> bool {
        self.number() != 0
    }

    /// Begins one. False when one was in force already.
    pub fn begin(&self) -> bool {
        let next = self.last.fetch_add(1, SeqCst) + 1;
        let begun = self.number.compare_exchange(0, next, SeqCst, SeqCst);
        if begun.is_ok() {
            self.stage.send_replace(Stage::On);
        }
        begun.is_ok()
    }

    /// Ends it. False when none was in force.
    pub fn end(&self) -> bool {
        let was_on = self.number.swap(0, SeqCst) != 0;
        self.stage.send_replace(Stage::Off);
        was_on
    }

    /// `suspend_timeout` is over.
    pub fn run_out(&self) {
        self.stage.send_if_modified(|stage| {
            let is_on = *stage == Stage::On;
            if is_on {
                *stage = Stage::RanOut;
            }
            is_on
        });
    }

    /// Waits until none is in force.
    pub async fn over(&self) {
        let _ = self
            .stage
            .subscribe()
            .wait_for(|stage| *stage == Stage::Off)
            .await;
    }

    /// Whether one is in force whose time is over.
    pub fn has_run_out(&self) -> bool {
        self.is_on() && *self.stage.borrow() == Stage::RanOut
    }
}

#[cfg(test)]
mod tests {
    use super::Standstill;

    #[test]
    fn there_is_one_standstill_at_a_time_and_each_has_its_number() {
        let standstill = Standstill::default();
        assert!(!standstill.is_on() && !standstill.end());
        assert!(standstill.begin() && !standstill.begin());
        let first = standstill.number();
        assert!(standstill.end() && !standstill.is_on());
        assert!(standstill.begin());
        assert_ne!(standstill.number(), first);
    }
}
