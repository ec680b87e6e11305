//! What `pooler` promises, tried from outside: the real binary in front of a real PostgreSQL.
//!
//! One module per promise, one sentence per test. `cargo test --test suite` runs all of it, many tests at a time; each
//! starts a pooler of its own, on a free port, and all share one PostgreSQL ([`support::postgres`]), found or fetched
//! as `pooler demo` does. `POOLER_LONG=1` lengthens the tests that run rounds; `POOLER_TEST_BIN=PATH` tries another
//! build of the binary.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test is no library, fails by panicking, measures real time, and tells its story in one go"
)]

mod admin;
mod auth;
mod auth_clients;
mod auth_directory;
mod auth_matrix;
mod auth_query;
mod auth_rules;
mod badinput;
mod bench_pgbench;
mod beside_pgbouncer;
mod cancel;
mod chaos;
mod cluster;
mod config_check;
mod conflict;
mod console_rows;
mod control;
mod convert;
mod copy;
mod cost;
mod demo;
mod denials;
mod drill;
mod drivers;
mod ending;
mod failover;
mod forgotten;
mod hosts;
mod ini;
mod ini_beyond;
mod ini_clients;
mod ini_servers;
mod isolation;
mod keepers;
mod likeness;
mod limits;
mod listening;
mod parameters;
mod peering;
mod places;
mod pooling;
mod prepared;
mod protocol;
mod reaching;
mod reload;
mod replication;
mod server_tls;
mod session_state;
mod shutdown;
mod soak;
mod sockets;
mod split;
mod support;
mod switchover;
mod syslog;
mod systemd;
mod takeover;
mod tls;
mod told;
mod unfence;
mod unseen;
