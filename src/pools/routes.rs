//! What the sessions of one database share to send its reads to replicas: its catalog, how each node does, what was written last,
//! and what became of requests.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::clock::{self, Moment};
use crate::config::routing::Consistency;
use crate::locked::Locked;
use crate::pools::deeds::Deeds;
use crate::routing::balance::{Ejected, Load};
use crate::routing::cache::Cache;
use crate::routing::catalog::Catalog;
use crate::routing::circumstances::Policy;
use crate::routing::intent::Intent;
use crate::routing::reason::Reason;
use crate::routing::standing::Mark;
use crate::topology::node::NodeId;
use crate::topology::view::ClusterView;

/// So many requests of each reason are listed.
const FIRST: u64 = 4;
/// One of so many that come after them.
const RARELY: u64 = 1024;
/// So many are listed, the latest.
const LISTED: usize = 100;

/// Where a request went.
#[derive(Debug, Clone)]
pub struct Decision {
    /// When.
    pub at: Moment,
    /// The user.
    pub user: String,
    /// What it asked for.
    pub intent: Intent,
    /// The node.
    pub node: String,
    /// Why there.
    pub why: Reason,
    /// Its text without constants, as far as it is known.
    pub text: String,
}

/// What the sessions of one database share.
#[derive(Debug)]
pub struct Routes {
    /// The database, by the name that clients use.
    pub database: String,
    /// What is known of texts; the same for all databases.
    pub texts: ArcSwap<Cache>,
    /// The catalog; not loaded at first, and again when code has changed.
    pub catalog: ArcSwap<Catalog>,
    /// Told when the catalog is to be loaded at once.
    pub wants_catalog: Arc<Notify>,
    /// What became of requests.
    pub counts: Counts,
    /// What anybody does to the database, by whatever name.
    pub deeds: ArcSwap<Deeds>,
    loads: Mutex<HashMap<NodeId, Load>>,
    /// The catalog that was loaded last. Who puts another in force holds it.
    loaded: Mutex<Arc<Catalog>>,
    changes: AtomicU64,
    generations: AtomicU64,
    is_in_trouble: AtomicBool,
    decisions: Mutex<VecDeque<Decision>>,
}

/// A catalog is being loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loading {
    /// The generation it is to have.
    pub generation: u64,
    changes: u64,
}

/// A request on its way to a node and back: it counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Flight {
    routes: Arc<Routes>,
    node: NodeId,
    since: Moment,
}

impl Flight {
    /// It has waited for a server until now: that says nothing of how long the node takes.
    pub fn leaves(&mut self, now: Moment) {
        self.since = now;
    }

    /// It was answered; whether the node is left out from now on for being slow.
    pub fn landed(self, now: Moment) -> Option<Ejected> {
        let took = now.since(self.since);
        self.routes.answered(self.node, took, now)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.routes.with(self.node, |load| {
            load.in_flight = load.in_flight.saturating_sub(1);
        });
    }
}

impl Routes {
    /// Of a database of which nothing is known yet.
    pub fn new(
        database: &str,
        texts: Arc<Cache>,
        deeds: Arc<Deeds>,
        wants_catalog: Arc<Notify>,
    ) -> Self {
        Self {
            database: database.to_owned(),
            texts: ArcSwap::new(texts),
            catalog: ArcSwap::from_pointee(Catalog::awaited()),
            wants_catalog,
            counts: Counts::default(),
            deeds: ArcSwap::new(deeds),
            loads: Mutex::default(),
            loaded: Mutex::default(),
            changes: AtomicU64::new(0),
            generations: AtomicU64::new(0),
            is_in_trouble: AtomicBool::new(false),
            decisions: Mutex::default(),
        }
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<NodeId, Load>> {
        self.loads.locked()
    }

    fn with(&self, node: NodeId, job: impl FnOnce(&mut Load)) {
        job(self.loads().entry(node).or_default());
    }

    /// How `node` does.
    pub fn load(&self, node: NodeId) -> Load {
        self.loads().get(&node).copied().unwrap_or_default()
    }

    /// A request goes to `node`.
    pub fn takes_off(self: &Arc<Self>, node: NodeId, since: Moment) -> Flight {
        self.with(node, |load| load.in_flight += 1);
        Flight {
            routes: Arc::clone(self),
            node,
            since,
        }
    }

    fn answered(&self, node: NodeId, took: Duration, now: Moment) -> Option<Ejected> {
        let mut loads = self.loads();
        let load = loads.entry(node).or_default();
        load.answered(took, now);
        let load = *load;
        let is_slow = load.is_slowish()
            && load.out_until(now).is_none()
            && load.is_slow_among(loads.values(), now);
        if !is_slow {
            return None;
        }
        loads.entry(node).or_default().eject(Ejected::Slow, now);
        Some(Ejected::Slow)
    }

    /// `node` could not serve a request, for a reason of its own; whether it is left out from now on.
    pub fn failed(&self, node: NodeId, now: Moment) -> Option<Ejected> {
        self.loads().entry(node).or_default().failed(now)
    }

    /// Lists where a request went.
    pub fn list(&self, decision: Decision) {
        let mut listed = self.decisions.locked();
        if listed.len() == LISTED {
            listed.pop_front();
        }
        listed.push_back(decision);
    }

    /// What is listed, the latest last.
    pub fn decisions(&self) -> Vec<Decision> {
        let listed = self.decisions.locked();
        listed.iter().cloned().collect()
    }

    /// The last write of anybody, where `policy` asks for it, and what `view` tells of its position.
    pub fn written(&self, view: &ClusterView, policy: &Policy) -> Option<Mark> {
        if policy.consistency != Consistency::Global {
            return None;
        }
        self.deeds.load().written(view)
    }

    /// Code has changed, or may have: nothing is known to read until the catalog is loaded again.
    pub fn code_changed(&self) {
        let _loaded = self.lock_loaded();
        self.changes.fetch_add(1, SeqCst);
        self.catalog.store(Arc::new(Catalog::awaited()));
        self.wants_catalog.notify_one();
    }

    /// The catalog is about to be loaded.
    pub fn begins_loading(&self) -> Loading {
        Loading {
            generation: self.generations.fetch_add(1, SeqCst) + 1,
            changes: self.changes.load(SeqCst),
        }
    }

    fn lock_loaded(&self) -> MutexGuard<'_, Arc<Catalog>> {
        self.loaded.locked()
    }

    /// The catalog has been loaded. Where code has changed meanwhile that is worth nothing; where it says nothing new, what is known by
    /// the last one stays known.
    pub fn loaded(&self, loading: Loading, catalog: Catalog) {
        let mut loaded = self.lock_loaded();
        if self.changes.load(SeqCst) != loading.changes {
            self.wants_catalog.notify_one();
            return;
        }
        *loaded = catalog.or_same(&loaded);
        self.catalog.store(Arc::clone(&loaded));
        self.is_in_trouble.store(false, SeqCst);
    }

    /// The catalog could not be loaded; true when that is news.
    pub fn note_trouble(&self) -> bool {
        !self.is_in_trouble.swap(true, SeqCst)
    }
}

/// What became of requests, by reason.
#[derive(Debug, Default)]
pub struct Counts {
    replica: [AtomicU64; Reason::COUNT],
    primary: [AtomicU64; Reason::COUNT],
    /// Reads that a replica could not serve and the primary did.
    pub again: AtomicU64,
    /// Texts that go to the primary from then on because a replica refused them.
    pub offences: AtomicU64,
}

/// Which kind of node a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
}

impl Counts {
    /// A request was sent; whether it is one of the few that are listed: the first ones, and one of a thousand.
    pub fn add(&self, went: Went, why: Reason) -> bool {
        let all = match went {
            Went::Primary => &self.primary,
            Went::Replica => &self.replica,
        };
        let before = all[why.number()].fetch_add(1, Relaxed);
        before < FIRST || before.is_multiple_of(RARELY)
    }

    /// All that are not zero.
    pub fn all(&self) -> Vec<(Went, Reason, u64)> {
        let of = |went, all: &[AtomicU64]| -> Vec<(Went, Reason, u64)> {
            let pairs = Reason::all().zip(all);
            let counted = pairs.map(|(why, count)| (went, why, count.load(Relaxed)));
            counted.filter(|(_, _, count)| *count > 0).collect()
        };
        let mut rows = of(Went::Replica, &self.replica);
        rows.extend(of(Went::Primary, &self.primary));
        rows
    }
}

/// A seed for the lots of a session.
pub fn seed() -> u64 {
    u64::from_be_bytes(clock::entropy())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Catalog, Routes};
    use crate::routing::cache::Cache;
    use crate::routing::catalog::Function;
    use crate::routing::judge::Lists;

    /// A catalog of functions of no schema, all of the name `f`.
    fn catalog(generation: u64, may_write: [bool; 2]) -> Catalog {
        let function = |may_write| Function {
            schema: (*b"public").into(),
            least: 0,
            most: 1,
            may_write,
            is_volatile: may_write,
            touches_session: false,
        };
        let functions = may_write.map(function).to_vec();
        let mut catalog = Catalog {
            generation,
            functions: [((*b"f").into(), functions)].into(),
            ..Catalog::default()
        };
        catalog.sort();
        catalog
    }

    #[test]
    fn a_catalog_that_says_what_the_last_one_said_is_no_new_one() {
        let texts = Arc::new(Cache::new(1 << 20, Lists::default()));
        let routes = Routes::new("app", texts, Arc::default(), Arc::default());
        let load = |may_write| {
            let loading = routes.begins_loading();
            routes.loaded(loading, catalog(loading.generation, may_write));
            routes.catalog.load().generation
        };
        assert_eq!(load([true, false]), 1);
        assert_eq!(load([false, true]), 1, "whatever the order of its rows");
        assert_eq!(load([true, true]), 3);
        // Not known for a moment, then the same again.
        let overtaken = routes.begins_loading();
        routes.code_changed();
        routes.loaded(overtaken, catalog(4, [true, true]));
        assert!(!routes.catalog.load().is_loaded(), "it may be older");
        assert_eq!(load([true, true]), 3);
        routes.code_changed();
        assert_eq!(load([true, false]), 6);
    }
}
