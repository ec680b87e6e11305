//! Asking nodes what they are, and those who keep the cluster what they know, and telling the machine: sockets, clocks and files on the
//! outside of `topology/`.
//!
//! It all happens on one thread of its own, so that a busy worker never delays a probe, nor a probe a client.

pub mod call;
pub mod etcd;
pub mod keepers;
pub mod memory;
pub mod patroni;
pub mod probe;
pub mod watcher;
pub mod word;

#[cfg(test)]
mod pictures;
