//! The verbs of the command line beside `run`, and what they need.
//!
//! `demo` brings its own PostgreSQL: [`postgres`] finds or fetches the programs, [`cluster`] runs servers in a folder of
//! their own, [`guardian`] sees that none outlives us. Tests that want a real server start from the same three.

pub mod ask;
pub mod cluster;
pub mod convert;
pub mod demo;
pub mod drill;
pub mod driver;
pub mod failover;
pub mod fetch;
pub mod folder;
pub mod guardian;
pub mod live;
pub mod packets;
pub mod postgres;
pub mod problem;
pub mod route;
pub mod server;
pub mod stage;
pub mod tally;
pub mod view;
