//! Which worker this thread is.
//!
//! Every worker counts and keeps servers under its own number, so that the path of a query shares nothing it need not.

use std::cell::Cell;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Says that this thread is worker `number`; called once, by the thread itself.
pub fn become_worker(number: usize) {
    WORKER.set(number);
}

/// The number of this worker, counted from 0. Other threads have a number that no worker has: what their runtime watches
/// must move before a worker uses it.
#[inline]
pub fn worker() -> usize {
    WORKER.get()
}

/// Which of `count` places is worker `number`'s; other threads get one of them, too.
#[inline]
pub fn place(number: usize, count: usize) -> usize {
    // A division would be the dearest instruction on the way of a query.
    if number < count {
        number
    } else {
        number % count
    }
}
