//! What a link must know of both its ends, without a socket.

use std::sync::Arc;

use crate::error::Refusal;
use crate::protocol::carried::{Doubt, Keeps};
use crate::protocol::errors::retell;
use crate::protocol::parameters::Parameters;
use crate::protocol::pipeline::Pipeline;
use crate::protocol::prepared::{Names, OnServer};
use crate::protocol::traces::Harmless;

/// What a server calls the unnamed statement where it is asked for one that is another client's.
const UNKNOWN_UNNAMED: &[u8] = b"prepared statement \"unknown \"";

/// Where the walk over a side's bytes stands between two reads.
#[derive(Debug, Default)]
pub struct Walk {
    /// The beginning of a frame of which more must be seen.
    pub stash: Vec<u8>,
    /// How many bytes of it must be seen.
    pub want: usize,
    /// How many bytes of the frame's body are still to come, when its head has been judged.
    pub body: usize,
    /// Whether that body is left out.
    pub hide: bool,
}

impl Walk {
    /// Whether it stands between two frames.
    pub fn is_between(&self) -> bool {
        self.body == 0 && self.stash.is_empty()
    }
}

/// The state of a client that outlives its links.
#[derive(Debug)]
pub struct ClientSide {
    /// Its prepared statements.
    pub names: Names,
    /// Its session parameters.
    pub params: Arc<Parameters>,
    /// The walk over what it sends.
    pub walk: Walk,
    /// Its session state, in so far as the parameters do not hold it.
    pub keeps: Keeps,
    /// What its unnamed statements say.
    pub harmless: Harmless,
    /// The server gave up a COPY whose data may still be coming: such frames mean nothing any more.
    pub copy_tail: bool,
}

impl ClientSide {
    /// A client that has just logged in with `params`.
    pub fn new(params: Arc<Parameters>) -> Self {
        Self {
            names: Names::new(),
            keeps: Keeps::new(Arc::clone(&params)),
            params,
            walk: Walk::default(),
            harmless: Harmless::default(),
            copy_tail: false,
        }
    }

    /// Appends the server's error about statement `id` (0: one that it does not know) with the name that the client gave;
    /// `false`, and nothing, where the error names none.
    pub fn restore_names(&self, id: u64, error: &[u8], out: &mut Vec<u8>) -> bool {
        if id == 0 {
            return retell(error, UNKNOWN_UNNAMED, b"unnamed prepared statement", out)
                || retell(error, b"\"unknown ", b"\"", out);
        }
        let Some((name, statement)) = self.names.iter().find(|(_, it)| it.id == id) else {
            return false;
        };
        let mut server_name = Vec::new();
        statement.write_name(&mut server_name);
        let quoted = |name: &[u8]| [b"\"", name, b"\""].concat();
        retell(error, &quoted(&server_name), &quoted(name), out)
    }

    /// How many bytes of `chunk`, sent while no server is held, are the tail of a COPY that the server gave up.
    ///
    /// Whole frames are counted, and a last one that is cut off: `walk` then says how much of it is still to come.
    pub fn copy_tail_in(&mut self, chunk: &[u8]) -> usize {
        let mut at = 0;
        while at < chunk.len() {
            if self.walk.body > 0 {
                let part = self.walk.body.min(chunk.len() - at);
                (self.walk.body, at) = (self.walk.body - part, at + part);
                continue;
            }
            if !self.copy_tail {
                break;
            }
            let stash = &mut self.walk.stash;
            let tag = stash.first().copied().unwrap_or(chunk[at]);
            if !matches!(tag, b'd' | b'c' | b'f') {
                self.copy_tail = false;
                break;
            }
            let part = (5 - stash.len()).min(chunk.len() - at);
            stash.extend_from_slice(&chunk[at..at + part]);
            at += part;
            let Some(length) = stash.get(1..5).and_then(|bytes| bytes.try_into().ok()) else {
                self.walk.want = 5;
                break;
            };
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            self.walk.stash = Vec::new();
            (self.walk.body, self.walk.hide) = (length.saturating_sub(4), true);
            self.copy_tail = tag == b'd';
        }
        at
    }
}

/// Whose the unnamed statement on a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// Nobody's, or another client's: this client must not meet it.
    Foreign,
    /// The client's, who has not bound it yet: it stays with its server until it has.
    Fresh,
    /// The client's.
    Own,
}

/// The state of a server.
#[derive(Debug)]
pub struct ServerSide {
    /// The replies it owes.
    pub pipeline: Pipeline,
    /// `I`, `T` or `E`, as its last ReadyForQuery said.
    pub status: u8,
    /// The statements it holds.
    pub held: OnServer,
    /// The session parameters in force.
    pub params: Arc<Parameters>,
    /// Those it had after its login.
    pub base: Arc<Parameters>,
    /// The walk over what it sends.
    pub walk: Walk,
    /// It ignores what comes until a Sync.
    pub skipping: bool,
    /// Extended messages were sent that no Sync has followed yet.
    pub batch_open: bool,
    /// Whose the unnamed statement on it is.
    pub unnamed: Unnamed,
    /// It takes COPY data.
    pub copying: bool,
    /// How many Syncs were sent that a COPY ignores, unless it failed before it came to read them (as on a view).
    pub doubtful_syncs: usize,
    /// What the client had set when no transaction was open, where a lost one must be undone.
    pub settled: Option<Arc<Parameters>>,
    /// The transaction under way has altered or dropped something.
    pub changed_tables: bool,
    /// What it said to a query of the pooler's own that failed.
    pub refused_ours: Option<Refusal>,
    /// What its client may have left on it.
    pub doubt: Doubt,
    /// Why it must never be lent again.
    pub doomed: Option<&'static str>,
    /// The parameters that it reported when it was brought to its client's, where somebody wants to know.
    pub heard: Option<Vec<String>>,
}

impl ServerSide {
    /// A server that has just logged in with `params` in force.
    pub fn new(params: Arc<Parameters>) -> Self {
        Self {
            pipeline: Pipeline::default(),
            status: b'I',
            held: OnServer::default(),
            base: Arc::clone(&params),
            params,
            walk: Walk::default(),
            skipping: false,
            batch_open: false,
            unnamed: Unnamed::Foreign,
            copying: false,
            doubtful_syncs: 0,
            settled: None,
            changed_tables: false,
            refused_ours: None,
            doubt: Doubt::default(),
            doomed: None,
            heard: None,
        }
    }

    /// Whether it is outside any transaction, owes nothing and has said everything: ready for another client.
    pub fn is_free(&self) -> bool {
        self.status == b'I' && self.is_quiet() && self.doomed.is_none() && self.doubtful_syncs == 0
    }

    /// Whether, outside any transaction, it has said or begun to say something that it was not asked for, and that is not one of the three messages
    /// which may come at any time (notices, notifications, parameters).
    pub fn speaks_out_of_turn(&self) -> bool {
        let owes_nothing = self.pipeline.is_empty() && !self.batch_open && !self.copying;
        let begun = self.walk.stash.first();
        let is_nonsense = begun.is_some_and(|tag| !matches!(tag, b'S' | b'N' | b'A'));
        owes_nothing && self.status == b'I' && (is_nonsense || self.doomed.is_some())
    }

    /// Whether all it does is to answer, outside any transaction, what the pooler asked about its last client.
    pub fn is_looked_at(&self) -> bool {
        let is_asked = !self.pipeline.is_empty() && self.pipeline.is_ours();
        let is_between = self.status == b'I' && !self.batch_open && !self.copying;
        is_asked && is_between && !self.skipping && self.doomed.is_none()
    }

    /// Whether it owes nothing and waits for nothing, inside a transaction or not.
    pub fn is_quiet(&self) -> bool {
        self.pipeline.is_empty()
            && !self.batch_open
            && !self.copying
            && !self.skipping
            && self.walk.is_between()
    }
}
