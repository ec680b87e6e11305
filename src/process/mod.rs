//! The process: building it, workers, listeners, reload, signals, the end.

pub mod access;
pub mod lasting;
pub mod listener;
pub mod reload;
pub mod run;
pub mod setting;
pub mod systemd;
pub mod worker;
