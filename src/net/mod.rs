//! Sockets, and what may lie over them: TCP, Unix and TLS as one type of stream.

pub mod secure;
pub mod socket;
pub mod stream;
