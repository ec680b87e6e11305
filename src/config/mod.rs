//! Settings: what the operator wants, read strictly and checked as a whole.
//!
//! `settings` is the plain data that every other room reads; the other files make it, check it, compare it and show it.

pub mod change;
pub mod check;
pub mod dsn;
pub mod effective;
pub mod environment;
pub mod listing;
pub mod load;
pub mod problem;
pub mod reading;
pub mod schema;
pub mod settings;
pub mod slot;
pub mod source;
pub mod value;
