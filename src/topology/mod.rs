//! The state machine of a cluster: facts about nodes in, one immutable view out.
//!
//! Pure: it is told the time with every fact, asks nobody, and waits for nothing. `discovery/` feeds it.

pub mod board;
pub mod choice;
pub mod cluster;
pub mod lag;
pub mod membership;
pub mod node;
pub mod outage;
pub mod phase;
pub mod reader;
pub mod roster;
pub mod view;
pub mod wish;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
