//! One process takes over from another (`-R`): listening sockets, clients and servers, while both serve.
//!
//! The younger process reaches the older one as a guest of its console, over the Unix socket, and says TAKEOVER. From then on packets
//! go over that connection ([`crate::net::passing`]), each with a letter:
//!
//! | letter | by | says |
//! |---|---|---|
//! | `listener`, then `all` | the older | a listening socket; that there are no more |
//! | `ready` | the younger | that it accepts: the older one accepts no more, and gives its pidfile up |
//! | `yours`, then `up` | the older, the younger | that it has done so; that nothing can go wrong any more: clients may come |
//! | `pool` | the older | what logins have taught a pool, for the clients and servers that come after it |
//! | `client`, `server` | the older | a connection that nobody uses in this moment, and what is known of it |
//! | `seats` | the older | how many servers of a pool it still has: the younger one keeps so many seats free |
//! | `cancel`, `cancelled` | the younger, the older | a cancel request for a client that has not come over |
//! | `order`, `heeded` | the younger, the older | a command of an operator's: both heed it; how many the older one has carried out |
//! | `ending` | the younger | that it was told to end: the older one is not to go on in its place |
//!
//! A client comes over between two requests, so that nothing is lost or done twice; whoever is in the middle of something stays until
//! that is over, and who can never be passed on (under TLS, say) until it leaves. Then the older process ends, and with it the
//! connection. Should the younger one crash before, the older one goes on as if it had never come.

pub mod give;
pub mod take;

/// The command of the console.
pub const COMMAND: &str = "TAKEOVER";

const LISTENER: &str = "listener";
const ALL: &str = "all";
const READY: &str = "ready";
const YOURS: &str = "yours";
const UP: &str = "up";
const POOL: &str = "pool";
const CLIENT: &str = "client";
const SERVER: &str = "server";
const SEATS: &str = "seats";
const CANCEL: &str = "cancel";
const ORDER: &str = "order";
const HEEDED: &str = "heeded";
const ENDING: &str = "ending";
const CANCELLED: &str = "cancelled";
