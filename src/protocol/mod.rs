//! The PostgreSQL protocol, version 3, as bytes: no sockets, no clock, no state.
//!
//! | file | what it knows |
//! |---|---|
//! | [`frame`] | the five bytes before every message, and how to read inside its bounds |
//! | [`startup`] | what a client may send before the first frame |
//! | [`message`] | everything the pooler says by itself |
//! | [`fields`] | the few messages the pooler reads for itself |
//!
//! Message formats: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

pub mod fields;
pub mod frame;
pub mod message;
pub mod startup;
