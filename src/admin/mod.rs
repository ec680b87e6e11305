//! The operator's side: the console on the virtual database.

pub mod clusters;
pub mod command;
pub mod complaint;
pub mod console;
pub mod control;
pub mod descriptors;
pub mod gather;
pub mod grammar;
pub mod numbers;
pub mod order;
pub mod pause;
pub mod routing;
pub mod show;
pub mod sockets;
pub mod suspend;
pub mod table;
