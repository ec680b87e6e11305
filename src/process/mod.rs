//! The process: building it, workers, listeners, reload, signals, the end.

pub mod acceptor;
pub mod access;
pub mod catalogs;
pub mod clusters;
pub mod handover;
pub mod lasting;
pub mod listener;
pub mod pidfile;
pub mod reload;
pub mod run;
pub mod setting;
pub mod start;
pub mod systemd;
pub mod worker;
