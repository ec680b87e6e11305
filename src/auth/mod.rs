//! Proofs of identity: passwords, their hashes, SCRAM; who is asked for which (HBA and ident files). Pure: nonces and salts come in as arguments.

pub mod access;
pub mod directory;
pub mod hba;
pub mod ident;
pub mod password;
pub mod scram;
pub mod users;
pub mod words;
