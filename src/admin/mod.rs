//! The operator's side: the console on the virtual database.

pub mod console;
pub mod order;
