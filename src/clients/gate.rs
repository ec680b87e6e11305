//! The gate between the acceptor and the sessions: what a login needs of the process, and what it leads to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::clients::parcel::Parcel;
use crate::clients::presence::Presence;
use crate::clients::session::Session;
use crate::config::value::Dialect;
use crate::net::stream::Stream;
use crate::pools::limits::ClientPlaces;
use crate::pools::registry::Registry;

/// What a login needs of the process.
pub struct Gate {
    /// What everybody shares.
    pub registry: Arc<Registry>,
    /// Serves who logged in to the console.
    pub console: ConsoleDoor,
    /// Where clients go that go over to another process.
    pub way_out: UnboundedSender<Parcel>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// The way to the console.
pub type ConsoleDoor = Box<dyn Fn(Guest) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Somebody who logged in to the console.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub stream: Stream,
    /// Bytes that came already.
    pub rest: Vec<u8>,
    /// May act, not only look.
    pub is_admin: bool,
    /// The card in the census, removed when dropped.
    pub presence: Presence,
    /// What it takes of the limits of clients.
    pub places: ClientPlaces,
}

/// What a login leads to.
pub enum Entered {
    /// A session.
    Client(Box<Session>, Presence),
    /// The console.
    Console(Guest),
}

/// Whether `name` is the console's: as PgBouncer, only one is.
pub fn is_console(name: &str, dialect: Dialect) -> bool {
    name == "pgbouncer" || (name == "pooler" && dialect == Dialect::Native)
}
