//! PostgreSQL's frontend/backend protocol, as far as a pooler must understand it. Pure: bytes in, verdicts out.

pub mod carried;
pub mod channels;
pub mod commits;
pub mod dialogue;
pub mod effects;
pub mod errors;
pub mod fields;
pub mod frame;
pub mod lexer;
pub mod lone;
pub mod message;
pub mod offhand;
pub mod parameters;
pub mod peering;
pub mod phantom;
pub mod pins;
pub mod pipeline;
pub mod prepared;
pub mod replies;
pub mod requests;
pub mod run;
pub mod sides;
pub mod sql;
pub mod startup;
pub mod statements;
pub mod suspects;
pub mod traces;

#[cfg(test)]
mod tests;
