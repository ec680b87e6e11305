//! One connection to PostgreSQL: opening it, logging in, asking it something ourselves.

pub mod dial;
pub mod frames;
pub mod kept;
pub mod login;
pub mod parcel;
pub mod proof;
pub mod query;
pub mod security;
pub mod server;
pub mod target;

#[cfg(test)]
pub mod fake;
