//! Where a statement goes. Pure: texts, catalogs and views in, routes out.
//!
//! One promise above all: a statement that needs the primary never fails because of routing, and a client never reads a database
//! older than what it has itself written. What is not known to be a read is a write.

pub mod ask;
pub mod balance;
pub mod bond;
pub mod builtin;
pub mod cache;
pub mod catalog;
pub mod circumstances;
pub mod classify;
pub mod dice;
pub mod explain;
pub mod fitness;
pub mod intent;
pub mod judge;
pub mod keywords;
pub mod learn;
pub mod normal;
pub mod own;
pub mod reason;
pub mod request;
pub mod route;
pub mod scan;
pub mod second;
pub mod standing;
pub mod talk;
