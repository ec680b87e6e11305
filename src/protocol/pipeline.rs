//! The replies that a server owes, in order.
//!
//! Every request that goes to a server leaves an [`Owed`] behind. Replies settle them from the front; an error in an extended
//! pipeline settles everything up to the next Sync at once, and what those requests would have done to names and to
//! the server's statements is undone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::prepared::Statement;

/// What a request changed before its reply was known, to be put back if the server skips it.
#[derive(Debug)]
pub enum Undo {
    /// The client's name gets back what it meant before.
    Name(Box<[u8]>, Option<Arc<Statement>>),
    /// The server does not hold this statement after all.
    NotPrepared(u64),
    /// The server still holds this statement.
    NotClosed(Arc<Statement>),
}

/// One reply that is owed.
#[derive(Debug)]
pub enum Owed {
    /// All replies to a Query message, through ReadyForQuery.
    Query,
    /// The same for a query of the pooler's own, which nobody hears of.
    Ours,
    /// FunctionCallResponse and ReadyForQuery.
    Function,
    /// ReadyForQuery.
    Sync,
    /// ParseComplete.
    Parse,
    /// ParseComplete that the client did not ask for.
    HiddenParse,
    /// BindComplete; the number of the statement, 0 when it is not tracked.
    Bind(u64),
    /// RowDescription or NoData.
    Describe,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended; the number of the statement.
    Execute(u64),
    /// CloseComplete.
    Close,
    /// CloseComplete that the client did not ask for.
    HiddenClose,
    /// An answer of the pooler's own, given when its turn comes.
    Answer(&'static [u8]),
    /// Nothing: the client has ended a COPY that the server has not begun yet.
    CopyEnd,
    /// An error that the server is made to give, told in the pooler's words.
    Refusal(Box<[u8]>),
}

/// The queue of replies owed by one server.
#[derive(Debug, Default)]
pub struct Pipeline {
    owed: VecDeque<(Owed, Vec<Undo>)>,
}

impl Pipeline {
    /// A request was sent.
    pub fn push(&mut self, owed: Owed) {
        self.owed.push_back((owed, Vec::new()));
    }

    /// A request was sent that must be undone when it is skipped.
    pub fn push_with(&mut self, owed: Owed, undo: Vec<Undo>) {
        self.owed.push_back((owed, undo));
    }

    /// The reply that comes next.
    pub fn front(&self) -> Option<&Owed> {
        self.owed.front().map(|(owed, _)| owed)
    }

    /// The next reply has come.
    pub fn settle(&mut self) {
        self.owed.pop_front();
        while matches!(self.front(), Some(Owed::CopyEnd)) {
            self.owed.pop_front();
        }
    }

    /// The next reply takes COPY data, and a server that does so ignores Sync: those that stand before the end of the
    /// copy will never be answered. How many they were, and whether the client has ended the copy already.
    pub fn copy_begins(&mut self) -> (usize, bool) {
        let mut ignored = 0;
        while matches!(self.owed.get(1), Some((Owed::Sync, _))) {
            self.owed.remove(1);
            ignored += 1;
        }
        let is_ended = matches!(self.owed.get(1), Some((Owed::CopyEnd, _)));
        if is_ended {
            self.owed.remove(1);
        }
        (ignored, is_ended)
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether a statement may be running that takes the server's statements away (DISCARD ALL, DEALLOCATE ALL).
    pub fn may_discard(&self) -> bool {
        self.owed
            .iter()
            .any(|(owed, _)| matches!(owed, Owed::Query | Owed::Execute(_)))
    }

    /// The server skips everything up to the next Sync: what is to be undone, last first, and whether that Sync
    /// has been sent already.
    pub fn skip_to_sync(&mut self) -> (Vec<Undo>, bool) {
        let end = self
            .owed
            .iter()
            .position(|(owed, _)| matches!(owed, Owed::Sync));
        let skipped = self.owed.drain(..end.unwrap_or(self.owed.len()));
        let mut undo: Vec<Undo> = skipped.flat_map(|(_, undo)| undo).collect();
        undo.reverse();
        (undo, end.is_some())
    }

    /// The statements and names that owed requests will still create.
    pub fn still_to_come(&self) -> (Vec<u64>, Vec<Box<[u8]>>) {
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for undo in self.owed.iter().skip(1).flat_map(|(_, undo)| undo) {
            match undo {
                Undo::NotPrepared(id) => ids.push(*id),
                Undo::Name(name, _) => names.push(name.clone()),
                Undo::NotClosed(_) => {}
            }
        }
        (ids, names)
    }

    /// Forgets everything; for a server that is being closed.
    pub fn clear(&mut self) {
        self.owed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Owed, Pipeline, Undo};

    #[test]
    fn an_error_settles_everything_up_to_the_next_sync() {
        let mut pipeline = Pipeline::default();
        pipeline.push_with(Owed::Parse, vec![Undo::NotPrepared(1)]);
        pipeline.push(Owed::Bind(1));
        pipeline.push_with(Owed::Parse, vec![Undo::NotPrepared(2)]);
        pipeline.push(Owed::Sync);
        pipeline.push(Owed::Query);
        let (undo, sync_was_sent) = pipeline.skip_to_sync();
        assert!(sync_was_sent);
        assert!(matches!(
            undo[..],
            [Undo::NotPrepared(2), Undo::NotPrepared(1)]
        ));
        assert!(matches!(pipeline.front(), Some(Owed::Sync)));
    }

    #[test]
    fn an_error_before_the_sync_was_sent_says_so() {
        let mut pipeline = Pipeline::default();
        pipeline.push(Owed::Execute(0));
        assert!(!pipeline.skip_to_sync().1);
        assert!(pipeline.is_empty());
    }
}
