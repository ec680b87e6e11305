//! Sockets, and what may lie over them: TCP, Unix and TLS as one type of stream.

pub mod certificate;
pub mod http;
pub mod letter;
pub mod names;
pub mod passing;
pub mod resolver;
pub mod secure;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod verify;

#[cfg(test)]
mod tests;
