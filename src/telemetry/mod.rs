//! What is told to the outside.

pub mod log;
