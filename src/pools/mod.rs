//! Servers on loan: the promise of `pool_size`, the line before it, and who opens and closes servers.

pub mod deeds;
pub mod dialer;
pub mod elder;
pub mod follow;
pub mod greeting;
pub mod group;
pub mod guest;
pub mod janitor;
pub mod lease;
pub mod limits;
pub mod line;
pub mod listeners;
pub mod mailbox;
pub mod own;
pub mod peers;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod registry;
pub mod routes;
pub mod standstill;
pub mod zones;

#[cfg(test)]
mod tests;
