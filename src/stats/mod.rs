//! What moves and who is alive: counters, and the census of clients and servers.
//!
//! Nothing here knows that it is ever shown.

pub mod arrival;
pub mod census;
pub mod counters;
pub mod report;
