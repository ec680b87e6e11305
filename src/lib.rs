//! A PostgreSQL connection pooler: a client's request borrows a server, frames pass, the server goes back.
//!
//! The code is laid out along that sentence. A reader who follows a query walks straight down one staircase and meets at
//! the side what the decision needs to know. A file imports from its own folder and from lower floors only; `tests/floors.rs`
//! sees to it.
//!
//! | floor | rooms | knows |
//! |---|---|---|
//! | 10 | `main.rs` | arguments, exit code |
//! | 9 | [`process`], [`cli`] | how to build, reload, drain, stop; the demo |
//! | 8 | [`admin`] | the operator's side: the console |
//! | 7 | [`clients`] | the application's side |
//! | 6 | [`pools`], [`discovery`] | servers on loan; asking nodes what they are |
//! | 5 | [`servers`] | one PostgreSQL connection |
//! | 4 | [`net`], [`telemetry`], [`routing`]* | sockets and TLS; the log; which node a request wants |
//! | 3 | [`protocol`]*, [`auth`]*, [`topology`]* | frames; proofs; the state of a cluster |
//! | 2 | [`config`]*, [`stats`] | settings; counters and the census |
//! | 1 | [`error`]*, [`clock`], [`secret`]*, [`thread`], [`locked`] | failure, time and chance, passwords, locks |
//!
//! `*` is pure: no socket, no task, no clock of its own. (Of [`config`], `load.rs` and `environment.rs` read files and the
//! environment.)
//!
//! # One query
//!
//! 1. `process/acceptor` accepts and deals the connection to a worker; `clients/entrance` and `clients/login` negotiate TLS,
//!    read the startup packet, authenticate.
//! 2. `clients/session` waits on the client's socket. An idle client owns no buffer.
//! 3. Bytes arrive in the worker's scratch buffer. `clients/asking` asks, `pools/pool/lending` lends a server: this worker's,
//!    another's, a new one, or a place in line.
//! 4. `clients/link` ties both. If the server lacks what the client SET, a batch that sets it is put first, in the same write.
//! 5. `protocol/requests` judges each frame of the client, `protocol/replies` each of the server: pass, rename, leave out, or
//!    answer in the server's place. Runs of frames that pass as they are leave as one slice, in one write.
//! 6. ReadyForQuery outside a transaction, with nothing owed: `clients/ending` ends the lease. `pools/policy` says keep, reset or
//!    close.
//!
//! # Where there are several nodes
//!
//! The session of a cluster's client has a *course*, and where its reads are split off, a *split* in it; no other client pays for
//! them. Between steps 3 and 4:
//!
//! 1. `clients/course` knows the cluster's board and the node that the client is bound to; without a writer it waits in line.
//! 2. `clients/split` reads the request (`routing/request`, `routing/classify`); `clients/steering` has `routing/route` choose the
//!    node; `clients/admission` closes the gate behind the request, so that nothing reaches a replica that nobody has judged.
//!    What was read or written then counts for what comes: `clients/aftermath`.
//! 3. `clients/trial` holds back a replica's answer until it is known to be good; a failure is asked again on the primary.
//! 4. `clients/late` answers BEGIN itself where the first statement is to choose the node; `clients/judging` judges each request of
//!    a transaction on a replica.
//! 5. `clients/own` and `clients/explain` answer what is said to the pooler: `SET pooler.*`, `EXPLAIN ROUTE`.
//! 6. A server that is lost: `clients/again` asks another one where nothing was read of the request; `clients/bereft` tells the client
//!    what became of it where something was.
//!
//! # Threads
//!
//! Each worker thread has a current-thread runtime, its own clients, its own scratch buffers and counters. One task drives a
//! client's socket and the socket of the server it borrowed. A pool's seats are exact over all threads behind one short
//! lock; idle servers lie with the worker that last used them. Nothing on the path of a query sets a timer: `pools/janitor`
//! looks at the cards of the census.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod error;
pub mod locked;
pub mod net;
pub mod pools;
pub mod process;
pub mod protocol;
pub mod routing;
pub mod secret;
pub mod servers;
pub mod stats;
pub mod telemetry;
pub mod thread;
pub mod topology;
