//! The replies that a server owes, in order.
//!
//! Every request that goes to a server leaves an [`Owed`] behind. Replies settle them from the front; an error in an extended
//! pipeline settles everything up to the next Sync at once, and what those requests would have done to names and to
//! the server's statements is undone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::channels::Step;
use crate::protocol::prepared::{Statement, begin, end};

/// What a request changed before its reply was known, to be put back if the server skips it.
///
/// Each holds what was before *this* request, so that the undos of several requests for the same thing form a chain, also
/// over batches: what an earlier batch undoes becomes the ground of a later one that is still owed.
#[derive(Debug)]
pub enum Undo {
    /// The client's name gets back what it meant before.
    Name(Box<[u8]>, Option<Arc<Statement>>),
    /// The server has the statement as before.
    Held(Arc<Statement>, Was),
    /// Nothing is put back: what the request's statements do to channels they do when they succeed, one by one.
    Steps(VecDeque<Step>),
}

/// How a server had a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// It held it.
    There,
    /// It did not.
    Missing,
    /// It held a plan that no longer fits.
    Stale,
}

/// One reply that is owed.
#[derive(Debug)]
pub enum Owed {
    /// All replies to a Query message, through ReadyForQuery.
    Query,
    /// The same for a query of the pooler's own, which nobody hears of.
    Ours,
    /// The same, where it does not matter if it fails.
    Aside,
    /// The answer to a look at what the client left behind.
    Look,
    /// The answer to the question what of the database's own code is suspect.
    Catalog,
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
    /// RowDescription or NoData; the number of the statement, 0 when it is not tracked.
    Describe(u64),
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
    /// The error that a name exists already, told of the client's name.
    Refusal(Box<Duplicate>),
    /// The error that session state is refused, in the place of all replies to a Query message.
    RefusedQuery(Box<[u8]>),
    /// The same in the place of ParseComplete.
    RefusedParse(Box<[u8]>),
}

impl Owed {
    /// Whether it is owed up to a ReadyForQuery of its own.
    pub fn ends_ready(&self) -> bool {
        match self {
            Self::Query
            | Self::Ours
            | Self::Aside
            | Self::Look
            | Self::Catalog
            | Self::Function
            | Self::Sync
            | Self::RefusedQuery(_) => true,
            Self::Parse
            | Self::HiddenParse
            | Self::Bind(_)
            | Self::Describe(_)
            | Self::Execute(_)
            | Self::Close
            | Self::HiddenClose
            | Self::Answer(_)
            | Self::CopyEnd
            | Self::Refusal(_)
            | Self::RefusedParse(_) => false,
        }
    }
}

/// A name that is given a second time.
#[derive(Debug)]
pub struct Duplicate {
    /// The client's name.
    pub name: Box<[u8]>,
    /// What it means.
    pub existing: Arc<Statement>,
    /// What it shall mean.
    pub wanted: Arc<Statement>,
}

impl Duplicate {
    /// Appends the ErrorResponse that PostgreSQL would give.
    pub fn write_error(&self, out: &mut Vec<u8>) {
        let at = begin(out, b'E');
        out.extend_from_slice(b"SERROR\0VERROR\0C42P05\0Mprepared statement \"");
        out.extend_from_slice(&self.name);
        out.extend_from_slice(b"\" already exists\0\0");
        end(out, at);
    }
}

/// What owed requests will create behind one that took all statements away.
#[derive(Debug, Default)]
pub struct Remains {
    /// The numbers of statements.
    pub ids: Vec<u64>,
    /// Names.
    pub names: Vec<Box<[u8]>>,
    /// Those among the names that were to be refused as given twice.
    pub given_again: Vec<(Box<[u8]>, Arc<Statement>)>,
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

    /// The next reply has come; what was owed, and can no longer be undone.
    pub fn settle(&mut self) -> Option<(Owed, Vec<Undo>)> {
        let settled = self.owed.pop_front();
        while matches!(self.front(), Some(Owed::CopyEnd)) {
            self.owed.pop_front();
        }
        settled
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

    /// How many replies are owed.
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    /// Whether all that is owed answers questions of the pooler's own.
    pub fn is_ours(&self) -> bool {
        let is_ours = |owed: &Owed| matches!(owed, Owed::Aside | Owed::Look | Owed::Catalog);
        self.owed.iter().all(|(owed, _)| is_ours(owed))
    }

    /// How many queries of the pooler's own are answered before anything of the client's.
    pub fn ours_in_front(&self) -> usize {
        let is_ours =
            |owed: &Owed| matches!(owed, Owed::Ours | Owed::Aside | Owed::Look | Owed::Catalog);
        self.owed
            .iter()
            .take_while(|(owed, _)| is_ours(owed))
            .count()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether just one request of the client's is owed, and is owed to its end.
    pub fn is_one_request(&self) -> bool {
        let is_end = |owed: &Owed| {
            matches!(
                owed,
                Owed::Query | Owed::RefusedQuery(_) | Owed::Sync | Owed::Function
            )
        };
        let mut ends = self.owed.iter().filter(|(owed, _)| is_end(owed));
        let is_last = self.owed.back().is_some_and(|(owed, _)| is_end(owed));
        is_last && ends.nth(1).is_none()
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

    /// What was before the first owed request that changes what `name` means.
    pub fn ground_of_name(&mut self, name: &[u8]) -> Option<&mut Option<Arc<Statement>>> {
        self.undos().find_map(|undo| match undo {
            Undo::Name(changed, before) if **changed == *name => Some(before),
            Undo::Name(..) | Undo::Held(..) | Undo::Steps(_) => None,
        })
    }

    /// What was before the first owed request that changes how the server has statement `id`.
    pub fn ground_of_statement(&mut self, id: u64) -> Option<&mut Was> {
        self.undos().find_map(|undo| match undo {
            Undo::Held(changed, before) if changed.id == id => Some(before),
            Undo::Name(..) | Undo::Held(..) | Undo::Steps(_) => None,
        })
    }

    /// Whether an earlier batch, which may fail yet, changes how the server has statement `id`.
    pub fn may_skip_change_of(&self, id: u64) -> bool {
        self.owed
            .iter()
            .rev()
            .skip_while(|(owed, _)| !matches!(owed, Owed::Sync))
            .any(|entry| is_about(entry, id))
    }

    /// Whether the Parse of statement `id` that is under way belongs to an earlier batch and may be skipped there. One that
    /// comes first in its batch is not: it fails by itself or not at all.
    pub fn may_skip_parse_of(&self, id: u64) -> bool {
        let is_parse = |entry: &(Owed, Vec<Undo>)| {
            matches!(entry.0, Owed::Parse | Owed::HiddenParse) && is_about(entry, id)
        };
        let Some(at) = self.owed.iter().rposition(is_parse) else {
            return false;
        };
        let is_earlier = |(owed, _): &(Owed, _)| matches!(owed, Owed::Sync);
        if !self.owed.iter().skip(at).any(is_earlier) {
            return false;
        }
        let mut before = self.owed.iter().take(at).rev().map(|(owed, _)| owed);
        let before = before.find(|owed| !matches!(owed, Owed::HiddenClose | Owed::Answer(_)));
        !matches!(
            before,
            None | Some(
                Owed::Sync
                    | Owed::Query
                    | Owed::Function
                    | Owed::Ours
                    | Owed::Aside
                    | Owed::Look
                    | Owed::Catalog
            )
        )
    }

    /// The statements of the last request do so to channels.
    pub fn follow(&mut self, steps: Vec<Step>) {
        if let (false, Some((_, undo))) = (steps.is_empty(), self.owed.back_mut()) {
            undo.push(Undo::Steps(steps.into()));
        }
    }

    /// Whether a request is owed that may change channels.
    pub fn follows_channels(&self) -> bool {
        let mut all = self.owed.iter().flat_map(|(_, undo)| undo);
        all.any(|undo| matches!(undo, Undo::Steps(_)))
    }

    /// What the next statement of the request at the front does to channels, taken out.
    pub fn next_step(&mut self) -> Option<Step> {
        let (_, undo) = self.owed.front_mut()?;
        match undo.first_mut() {
            Some(Undo::Steps(steps)) => steps.pop_front(),
            _ => None,
        }
    }

    /// Whether a request is owed that changes what `name` means.
    pub fn changes_name(&self, name: &[u8]) -> bool {
        self.owed
            .iter()
            .flat_map(|(_, undo)| undo)
            .any(|undo| matches!(undo, Undo::Name(changed, _) if **changed == *name))
    }

    fn undos(&mut self) -> impl Iterator<Item = &mut Undo> {
        self.owed.iter_mut().flat_map(|(_, undo)| undo)
    }

    /// The request whose reply comes next has taken all statements away: what owed requests will still create.
    pub fn discarded(&mut self) -> Remains {
        let (mut changed, mut remains) = (Vec::new(), Remains::default());
        for (owed, undos) in self.owed.iter_mut().skip(1) {
            for undo in &mut *undos {
                match undo {
                    Undo::Name(name, before) if !remains.names.contains(name) => {
                        *before = None;
                        remains.names.push(name.clone());
                    }
                    Undo::Held(statement, before) => {
                        if !changed.contains(&statement.id) {
                            *before = Was::Missing;
                            changed.push(statement.id);
                        }
                        if matches!(owed, Owed::Parse | Owed::HiddenParse) {
                            remains.ids.push(statement.id);
                        }
                    }
                    Undo::Name(..) | Undo::Steps(_) => {}
                }
            }
            if let Owed::Refusal(duplicate) = owed
                && !remains.names.contains(&duplicate.name)
            {
                let Duplicate {
                    name,
                    existing,
                    wanted,
                } = &**duplicate;
                undos.push(Undo::Name(name.clone(), None));
                remains.names.push(name.clone());
                remains.given_again.push((name.clone(), Arc::clone(wanted)));
                if existing.id == wanted.id && !changed.contains(&existing.id) {
                    undos.push(Undo::Held(Arc::clone(existing), Was::Missing));
                    changed.push(existing.id);
                    remains.ids.push(existing.id);
                }
            }
        }
        remains
    }

    /// Forgets everything; for a server that is being closed.
    pub fn clear(&mut self) {
        self.owed.clear();
    }
}

fn is_about((_, undo): &(Owed, Vec<Undo>), id: u64) -> bool {
    undo.iter()
        .any(|undo| matches!(undo, Undo::Held(statement, _) if statement.id == id))
}

#[cfg(test)]
mod tests {
    use super::{Owed, Pipeline, Undo};

    #[test]
    fn an_error_settles_everything_up_to_the_next_sync_last_first() {
        let mut pipeline = Pipeline::default();
        let name = |name: &str| vec![Undo::Name(name.as_bytes().into(), None)];
        pipeline.push_with(Owed::Parse, name("a"));
        pipeline.push(Owed::Bind(1));
        pipeline.push_with(Owed::Parse, name("b"));
        pipeline.push(Owed::Sync);
        pipeline.push(Owed::Query);
        let (undo, sync_was_sent) = pipeline.skip_to_sync();
        assert!(sync_was_sent);
        let names: Vec<&[u8]> = undo
            .iter()
            .filter_map(|undo| match undo {
                Undo::Name(name, _) => Some(&**name),
                Undo::Held(..) | Undo::Steps(_) => None,
            })
            .collect();
        assert_eq!(names, [b"b", b"a"]);
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
