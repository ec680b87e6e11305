//! What is done to one database of a cluster and concerns all who read it here, whichever way the doer came: by another name of the
//! database, as another user, in another mode.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

use crate::clock;
use crate::locked::Locked;
use crate::routing::standing::Mark;
use crate::topology::view::ClusterView;

/// What is done to one database of a cluster.
#[derive(Debug, Default)]
pub struct Deeds {
    /// Somebody has asked for the last write: it is noted from then on.
    are_followed: AtomicBool,
    written: Mutex<Option<Mark>>,
}

impl Deeds {
    /// Whether anybody wants to know of writes. A write that was answered before counts for who asks first.
    pub fn are_followed(&self) -> bool {
        self.are_followed.load(SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Mark>> {
        self.written.locked()
    }

    /// Somebody's write is about to be answered.
    pub fn wrote(&self, mark: Mark) {
        note(&mut self.lock(), mark);
    }

    /// The last write of anybody, and what `view` tells of its position. Who asks first does not know what was written before, so for him
    /// something was just now.
    pub fn written(&self, view: &ClusterView) -> Option<Mark> {
        let mut written = self.lock();
        if !self.are_followed() {
            self.are_followed.store(true, SeqCst);
            note(&mut written, Mark::new(clock::now(), view.epoch));
        }
        written.map(|mut mark| {
            mark.learn(view);
            mark
        })
    }
}

/// The last is that of the latest reign: what an earlier one wrote, whenever it is heard of, lies below the first position of this.
fn note(written: &mut Option<Mark>, mark: Mark) {
    let is_last = |last: Mark| (last.epoch, last.at) < (mark.epoch, mark.at);
    if written.is_none_or(is_last) {
        *written = Some(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, note};
    use crate::clock::Moment;
    use crate::topology::phase::Epoch;

    fn mark(at: u64, reign: u64) -> Mark {
        Mark::new(Moment::from_micros(at), Epoch(reign))
    }

    #[test]
    fn the_last_write_is_the_latest_of_the_latest_reign_however_late_it_is_told() {
        let mut written = None;
        for (told, last) in [
            (mark(5, 1), mark(5, 1)),
            (mark(3, 1), mark(5, 1)),
            (mark(7, 2), mark(7, 2)),
            (mark(9, 1), mark(7, 2)),
            (mark(8, 2), mark(8, 2)),
        ] {
            note(&mut written, told);
            assert_eq!(written, Some(last));
        }
    }
}
