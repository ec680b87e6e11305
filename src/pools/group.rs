//! The pools of one database and one user: one per node, and what they share.
//!
//! A database with one address has one pool, and a session keeps that pool for its whole life. Where there are several nodes,
//! a session asks its group for the pool of the node it wants. What clients prepared, what they are welcomed with and what is
//! counted belongs to the group, for a client may meet servers of all its pools.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::auth::password::Verifier;
use crate::auth::scram::Keys;
use crate::config::node::Node;
use crate::locked::Locked;
use crate::pools::greeting::Greetings;
use crate::pools::limits::{Database, User};
use crate::pools::listeners::Listeners;
use crate::pools::pool::Pool;
use crate::protocol::prepared::Dictionary;
use crate::servers::server::Reported;
use crate::stats::counters::Tally;

/// The pools of one database and user, by node.
#[derive(Debug)]
pub struct Group {
    /// The database.
    pub database: Arc<Database>,
    /// Who its servers log in as.
    pub user: String,
    /// The limits of that user.
    pub owner: Arc<User>,
    /// What is counted, per worker.
    pub tallies: Arc<[Tally]>,
    /// The statements that its clients have prepared.
    pub dictionary: Dictionary,
    /// The channels that its clients listen on.
    pub listeners: Arc<Listeners>,
    /// What its clients are welcomed with.
    pub greetings: Greetings,
    /// Told when the first server has logged in.
    pub has_welcome: Notify,
    welcome: Mutex<Option<Reported>>,
    keys: Mutex<Option<Arc<Keys>>>,
    password: Mutex<Option<Verifier>>,
    /// `None` when the group is forgotten: it then gets no pool any more.
    pools: ArcSwapOption<Vec<Arc<Pool>>>,
}

impl Group {
    /// A group without pools.
    pub fn new(
        database: Arc<Database>,
        user: &str,
        owner: Arc<User>,
        tallies: Arc<[Tally]>,
        password: Option<Verifier>,
    ) -> Arc<Self> {
        Arc::new(Self {
            database,
            user: user.to_owned(),
            owner,
            tallies,
            dictionary: Dictionary::default(),
            listeners: Arc::default(),
            greetings: Greetings::default(),
            has_welcome: Notify::new(),
            welcome: Mutex::new(None),
            keys: Mutex::new(None),
            password: Mutex::new(password),
            pools: ArcSwapOption::from_pointee(Vec::new()),
        })
    }

    /// The pool of `node`, if there is one already.
    pub fn pool(&self, node: &Node) -> Option<Arc<Pool>> {
        let pools = self.pools.load();
        let mut all = pools.as_ref()?.iter();
        all.find(|pool| pool.node == *node).cloned()
    }

    /// Its pools, in the order they were made.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.load();
        pools.as_ref().map_or(Vec::new(), |pools| (**pools).clone())
    }

    /// Takes `pool` in, unless there is one of its node already, and returns the one it has from now on; `None` when the group
    /// is forgotten.
    pub fn adopt(&self, pool: Arc<Pool>) -> Option<Arc<Pool>> {
        let node = pool.node.clone();
        self.pools.rcu(|known| {
            let known = known.as_ref()?;
            let mut pools = (**known).clone();
            if pools.iter().all(|other| other.node != node) {
                pools.push(Arc::clone(&pool));
            }
            Some(Arc::new(pools))
        });
        self.pool(&node)
    }

    /// Gives the pool of `node` up: nobody finds it any more. The caller sees to its servers and to who waits for them.
    pub fn remove(&self, node: &Node) -> Option<Arc<Pool>> {
        let found = self.pool(node);
        self.pools.rcu(|known| {
            let kept = known.as_ref()?.iter().filter(|pool| pool.node != *node);
            Some(Arc::new(kept.cloned().collect::<Vec<_>>()))
        });
        found
    }

    /// Gives all pools up for ever.
    pub fn forget(&self) {
        self.pools.store(None);
    }

    /// What a client hears at login: the parameters of the group's first server. `None` before one has logged in.
    pub fn welcome(&self) -> Option<Reported> {
        self.welcome.locked().clone()
    }

    /// Notes what a server reported at its login, where none has before.
    pub fn note_welcome(&self, reported: &Reported) {
        let mut welcome = self.welcome.locked();
        if welcome.is_none() {
            *welcome = Some(Arc::clone(reported));
            self.has_welcome.notify_waiters();
        }
    }

    /// Forgets what servers reported: the next ones may say something else.
    pub fn forget_welcome(&self) {
        *self.welcome.locked() = None;
    }

    /// The keys that a client's SCRAM login gave, for logging in to servers whose password is known only as a verifier.
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.locked().clone()
    }

    /// Notes the keys of a client's SCRAM login.
    pub fn learn_keys(&self, keys: Arc<Keys>) {
        *self.keys.locked() = Some(keys);
    }

    /// The password that a client's login found, where the settings have none.
    pub fn password(&self) -> Option<Verifier> {
        self.password.locked().clone()
    }

    /// Notes the password that a client's login found; whether it is another than before.
    pub fn learn_password(&self, found: &Verifier) -> bool {
        let mut known = self.password.locked();
        let is_new = known.as_ref() != Some(found);
        *known = Some(found.clone());
        is_new
    }
}
