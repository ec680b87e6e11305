//! The scratch buffers of a worker: one to read into, one to gather what leaves.
//!
//! They belong to the thread, not to a connection, so an idle client owns no buffer.

use std::cell::RefCell;

/// What one read takes at most, in bytes.
pub const READ: usize = 32 * 1024;
/// Above so many bytes waiting for one side, the other side is not read.
pub const MARK: usize = 64 * 1024;
/// A scratch buffer that has grown above this is given back.
const LARGE: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the buffer to read into.
pub fn with_scratch<T>(job: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| job(scratch))
}

/// Lends the buffer to gather in, empty.
pub fn with_gathered<T>(job: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    GATHERED.with_borrow_mut(|gathered| {
        gathered.clear();
        let result = job(gathered);
        if gathered.capacity() > LARGE {
            *gathered = Vec::new();
        }
        result
    })
}
