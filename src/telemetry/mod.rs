//! The log: what a line looks like, where it goes, and the events that are told of clients and servers.

pub mod events;
pub mod fields;
pub mod lines;
pub mod log;
pub mod sinks;
