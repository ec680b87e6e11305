//! The scratch buffers of a worker: one to read into, one to gather what leaves.
//!
//! They belong to the thread, not to a connection, so an idle client owns no buffer. Who borrows one takes it: a second borrower
//! meanwhile, which is rare, gets another.

use std::cell::Cell;

/// What one read takes at most, in bytes.
pub const READ: usize = 32 * 1024;
/// Above so many bytes waiting for one side, the other side is not read.
pub const MARK: usize = 64 * 1024;
/// A scratch buffer that has grown above this is given back.
const LARGE: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the buffer to read into.
pub fn with_scratch<T>(job: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch.resize(READ, 0);
    }
    let result = job(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// Lends the buffer to gather in, empty.
pub fn with_gathered<T>(job: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut gathered = GATHERED.take();
    gathered.clear();
    let result = job(&mut gathered);
    if gathered.capacity() <= LARGE {
        GATHERED.set(gathered);
    }
    result
}
