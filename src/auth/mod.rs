//! Proofs of identity: passwords, their hashes, SCRAM. Pure: nonces and salts come in as arguments.

pub mod password;
pub mod scram;
pub mod users;
