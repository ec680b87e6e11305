//! placeholder
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod net;
pub mod protocol;
pub mod secret;
