//! An operator wants a switchover.
//!
//! Where Patroni keeps the cluster, it is asked for one, and the drain begins when etcd announces it. Where nobody keeps it, the drain begins
//! at once, for a switchover by hand. With `drain_grace` the drain comes first: what runs may end before anybody is asked, and
//! that costs those who wait what Patroni needs from there on.

use std::sync::Arc;
use std::time::Duration;

use super::Watcher;
use crate::clock::{self, Moment};
use crate::discovery::keepers::Asked;
use crate::topology::cluster::DRAIN;
use crate::topology::node::Observation;
use crate::topology::wish::{Switched, Unswitched, Wish};

/// How often it is looked whether all has ended.
const LOOK: Duration = Duration::from_millis(5);

impl Watcher {
    /// Takes the first wish.
    pub(super) fn switch_over(&mut self, at: Moment) {
        let Some(wish) = self.board.take_wish() else {
            return;
        };
        let grace = self.watching.drain_grace;
        let writer = self.writer();
        let (false, Some(address)) = (grace.is_zero(), writer) else {
            return self.ask(wish, at);
        };
        self.machine.observe(Observation::Drain { at, grace });
        let ready = self.ready.clone();
        tokio::spawn(async move {
            let until = at.after(grace);
            while clock::now() < until && wish.would_end_something(&address) {
                tokio::time::sleep(LOOK).await;
            }
            let _ = ready.send(wish);
        });
    }

    /// The address of the writer in office.
    fn writer(&self) -> Option<String> {
        let view = self.machine.view();
        let writer = view.writer.and_then(|id| view.node(id));
        writer.map(|node| node.place.address())
    }

    /// Asks Patroni, where it keeps the cluster.
    pub(super) fn ask(&mut self, wish: Arc<Wish>, at: Moment) {
        let grace = Duration::ZERO;
        let Some(address) = self.writer() else {
            let why = self.machine.view().why;
            let why = format!("there is no primary that could be replaced: {why}");
            return wish.answer(Err(Unswitched::Not(why)));
        };
        let to = wish.to.as_deref();
        let asked = match self.told.switch_over(&address, to, &self.machine) {
            Asked::Patroni(asked) => asked,
            Asked::Nobody if wish.to.is_none() => {
                self.machine.observe(Observation::Drain { at, grace });
                return wish.answer(Ok(Switched::ByHand {
                    primary: address,
                    within: DRAIN,
                }));
            }
            Asked::Nobody => {
                let why = "no Patroni keeps this cluster, so nobody could promote it; \
                    without TO, new transactions wait a moment for a promotion by hand";
                self.machine.observe(Observation::DrainOver { at });
                return wish.answer(Err(Unswitched::Not(why.to_owned())));
            }
            Asked::Stranger => {
                let why = format!("no Patroni names the primary, {address}, as one of its members");
                self.machine.observe(Observation::DrainOver { at });
                return wish.answer(Err(Unswitched::Not(why)));
            }
        };
        let is_drained = !self.watching.drain_grace.is_zero();
        if is_drained || !self.told.announces(at) {
            self.machine.observe(Observation::Drain { at, grace });
        }
        let (cluster, outcomes) = (self.watching.name.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            match asked.await {
                Ok(said) => {
                    tracing::info!(cluster, said, "Patroni has switched over");
                    wish.answer(Ok(Switched::ByKeeper));
                }
                Err(Unswitched::Not(why)) => {
                    tracing::warn!(cluster, why, "Patroni does not switch over");
                    let _ = outcomes.send(Observation::DrainOver { at: clock::now() });
                    wish.answer(Err(Unswitched::Not(why)));
                }
                // Should it come about, who waits is better off; the drain ends by itself.
                Err(Unswitched::Unknown(why)) => {
                    tracing::warn!(cluster, why, "nobody knows whether Patroni switches over");
                    wish.answer(Err(Unswitched::Unknown(why)));
                }
            }
        });
    }
}
