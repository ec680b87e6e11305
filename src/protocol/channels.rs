//! The channels that a client listens on, as its transactions come and go.
//!
//! LISTEN and UNLISTEN take effect when their transaction commits, and a savepoint that is rolled back takes them along. The
//! servers a client borrows are of no use for that; the pooler follows the statements that succeeded, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::protocol::effects::{self, Effect};
use crate::protocol::lexer::Strings;

/// A set of channels.
pub type Set = Arc<BTreeSet<Box<str>>>;

/// What one statement does to channels or to the transaction around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// LISTEN.
    Listen(Box<str>),
    /// UNLISTEN.
    Unlisten(Box<str>),
    /// UNLISTEN *, or DISCARD ALL.
    UnlistenAll,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// SAVEPOINT.
    Savepoint(Box<str>),
    /// ROLLBACK TO.
    RollbackTo(Box<str>),
    /// RELEASE.
    Release(Box<str>),
    /// DEALLOCATE of a statement of the protocol, which is nothing to channels.
    Deallocate(Box<[u8]>),
    /// Something else.
    Other,
}

/// The channels of one client.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    committed: Set,
    now: Set,
    saved: Vec<(Box<str>, Set)>,
}

impl Channels {
    /// Those that are in force.
    pub fn committed(&self) -> &Set {
        &self.committed
    }

    /// Those that will be in force if the transaction commits.
    pub fn wanted(&self) -> &Set {
        &self.now
    }

    /// Whether a transaction is under way that has changed something.
    pub fn is_open(&self) -> bool {
        !Arc::ptr_eq(&self.now, &self.committed) || !self.saved.is_empty()
    }

    /// A statement has succeeded.
    pub fn succeeded(&mut self, step: &Step) {
        match step {
            Step::Listen(name) => {
                if !self.now.contains(name) {
                    Arc::make_mut(&mut self.now).insert(name.clone());
                }
            }
            Step::Unlisten(name) => {
                if self.now.contains(name) {
                    Arc::make_mut(&mut self.now).remove(name);
                }
            }
            Step::UnlistenAll => {
                if !self.now.is_empty() {
                    self.now = Set::default();
                }
            }
            Step::Commit => self.commit(),
            Step::Rollback => self.roll_back(),
            Step::Savepoint(name) => {
                if self.is_open() {
                    self.saved.push((name.clone(), Arc::clone(&self.now)));
                }
            }
            Step::RollbackTo(name) => match self.place(name) {
                Some(at) => {
                    self.now = Arc::clone(&self.saved[at].1);
                    self.saved.truncate(at + 1);
                }
                // The savepoint is older than all that was changed.
                None => self.roll_back(),
            },
            Step::Release(name) => {
                if let Some(at) = self.place(name) {
                    self.saved.truncate(at);
                } else {
                    self.saved.clear();
                }
            }
            Step::Deallocate(_) | Step::Other => {}
        }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.saved.iter().rposition(|(saved, _)| **saved == *name)
    }

    /// The transaction has committed.
    pub fn commit(&mut self) {
        self.committed = Arc::clone(&self.now);
        self.saved = Vec::new();
    }

    /// The transaction has been rolled back.
    pub fn roll_back(&mut self) {
        self.now = Arc::clone(&self.committed);
        self.saved = Vec::new();
    }
}

/// What each statement of `text` does, in order; none where it could not be read.
pub fn steps(text: &[u8]) -> Vec<Step> {
    let effects = effects::of(text, Strings::Standard, &mut Vec::new());
    let count = effects.statements().unwrap_or_default();
    let of = |number| effects.of(number).find_map(step).unwrap_or(Step::Other);
    (0..count).map(of).collect()
}

fn step(effect: &Effect) -> Option<Step> {
    let name = |name: &[u8]| -> Box<str> { String::from_utf8_lossy(name).into() };
    Some(match effect {
        Effect::Listen(channel) => Step::Listen(name(channel)),
        Effect::Unlisten(channel) => Step::Unlisten(name(channel)),
        Effect::UnlistenAll | Effect::DiscardAll => Step::UnlistenAll,
        Effect::Commit { .. } => Step::Commit,
        Effect::Rollback { .. } => Step::Rollback,
        Effect::Savepoint(saved) => Step::Savepoint(name(saved)),
        Effect::RollbackTo(saved) => Step::RollbackTo(name(saved)),
        Effect::Release(saved) => Step::Release(name(saved)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Channels, Step, steps};

    fn after(texts: &[&str]) -> Vec<String> {
        let mut channels = Channels::default();
        for text in texts {
            for step in steps(text.as_bytes()) {
                channels.succeeded(&step);
            }
        }
        channels
            .committed()
            .iter()
            .map(|name| name.to_string())
            .collect()
    }

    #[test]
    fn a_text_is_taken_apart() {
        assert_eq!(
            steps(b"LISTEN Jobs; /* ; */ listen \"A;\"\"b\"; select ';', $$;$$, E'\\';' ;; unlisten * -- ;"),
            [
                Step::Listen("jobs".into()),
                Step::Listen("A;\"b".into()),
                Step::Other,
                Step::UnlistenAll,
            ]
        );
        assert_eq!(
            steps(b"rollback work to savepoint a"),
            [Step::RollbackTo("a".into())]
        );
        assert_eq!(steps(b"commit prepared 'x'"), [Step::Other]);
    }

    #[test]
    fn only_what_was_committed_counts() {
        assert!(after(&["begin", "listen a"]).is_empty());
        assert_eq!(after(&["begin", "listen a", "commit"]), ["a"]);
        assert!(after(&["begin", "listen a", "rollback"]).is_empty());
        assert_eq!(
            after(&["listen a; commit", "begin; unlisten a; rollback"]),
            ["a"]
        );
    }

    #[test]
    fn a_savepoint_takes_back_what_came_after_it() {
        assert_eq!(
            after(&[
                "listen a",
                "savepoint s",
                "listen b",
                "rollback to s",
                "commit"
            ]),
            ["a"]
        );
        assert!(after(&["savepoint s", "listen a", "rollback to s", "commit"]).is_empty());
        assert_eq!(
            after(&["listen a", "savepoint s", "listen b", "release s", "commit"]),
            ["a", "b"]
        );
    }

    /// What PostgreSQL does, with a copy of everything at each savepoint.
    #[derive(Default)]
    struct Model {
        committed: BTreeSet<Box<str>>,
        now: BTreeSet<Box<str>>,
        saved: Vec<(Box<str>, BTreeSet<Box<str>>)>,
    }

    impl Model {
        /// False where PostgreSQL would say that there is no such savepoint.
        fn run(&mut self, step: &Step) -> bool {
            let place = |name: &str| self.saved.iter().rposition(|(saved, _)| **saved == *name);
            match step {
                Step::Listen(name) => drop(self.now.insert(name.clone())),
                Step::Unlisten(name) => drop(self.now.remove(name)),
                Step::UnlistenAll => self.now.clear(),
                Step::Commit => {
                    self.committed = self.now.clone();
                    self.saved.clear();
                }
                Step::Rollback => {
                    self.now = self.committed.clone();
                    self.saved.clear();
                }
                Step::Savepoint(name) => self.saved.push((name.clone(), self.now.clone())),
                Step::RollbackTo(name) => {
                    let Some(at) = place(name) else { return false };
                    self.now = self.saved[at].1.clone();
                    self.saved.truncate(at + 1);
                }
                Step::Release(name) => {
                    let Some(at) = place(name) else { return false };
                    self.saved.truncate(at);
                }
                Step::Deallocate(_) | Step::Other => {}
            }
            true
        }
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let name = || prop::sample::select(vec!["a", "b", "c"]).prop_map(Box::<str>::from);
        prop_oneof![
            4 => name().prop_map(Step::Listen),
            3 => name().prop_map(Step::Unlisten),
            1 => Just(Step::UnlistenAll),
            1 => Just(Step::Commit),
            1 => Just(Step::Rollback),
            4 => name().prop_map(Step::Savepoint),
            3 => name().prop_map(Step::RollbackTo),
            2 => name().prop_map(Step::Release),
            1 => Just(Step::Other),
        ]
    }

    proptest! {
        #[test]
        fn channels_are_those_that_postgresql_has(steps in prop::collection::vec(any_step(), 0..60)) {
            let (mut model, mut channels) = (Model::default(), Channels::default());
            for step in &steps {
                if model.run(step) {
                    channels.succeeded(step);
                }
                prop_assert_eq!(&model.now, &**channels.wanted());
                prop_assert_eq!(&model.committed, &**channels.committed());
            }
        }
    }
}
