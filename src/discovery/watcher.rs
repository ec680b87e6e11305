//! Watches one cluster: probes in, the machine in the middle, the view on the board.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::discovery::keepers::{Heard, Keepers, Told};
use crate::discovery::memory;
use crate::discovery::probe::{BURST_LASTS, Pace, Prober};
use crate::net::names::Names;
use crate::servers::target::{Host, Target};
use crate::stats::census::Census;
use crate::topology::board::Board;
use crate::topology::board::waiting::HoldLimits;
use crate::topology::choice::Memory;
use crate::topology::cluster::{Cluster, Rules};
use crate::topology::node::{NodeId, Observation, Place, Role};
use crate::topology::phase::{Change, Phase};
use crate::topology::view::ClusterView;
use crate::topology::wish::Wish;

/// How often it is looked for clients that have waited long enough, at least.
const LOOK: Duration = Duration::from_millis(50);
/// Between two attempts to write down what could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// How a cluster is to be watched.
#[derive(Debug, Clone)]
pub struct Watching {
    /// The cluster's name.
    pub name: String,
    /// The machine's rules.
    pub rules: Rules,
    /// The nodes that are configured.
    pub places: Vec<Place>,
    /// Who keeps the cluster, and may be asked about it.
    pub keepers: Keepers,
    /// The limits of waiting for a primary.
    pub limits: HoldLimits,
    /// How long an operator's switchover lets end what runs.
    pub drain_grace: Duration,
    /// Who asks, and how; its hosts are replaced by each node's.
    pub target: Target,
    /// Who knows the addresses of names; the same for all who reach the nodes, so that they mean one server by one name.
    pub names: Arc<Names>,
    /// The servers that clients are lent.
    pub census: Arc<Census>,
    /// TLS towards the nodes, where it is not off.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Watching {
    fn has_same_way(&self, other: &Self) -> bool {
        let tls = match (&self.tls, &other.tls) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let (one, other) = (&self.target, &other.target);
        tls && one.is_same_place(other) && one.password == other.password
    }
}

/// A cluster that is being watched. Dropped, it is watched no longer.
#[derive(Debug)]
pub struct Watch {
    /// Where its views hang.
    pub board: Arc<Board>,
    orders: UnboundedSender<Box<Watching>>,
}

impl Watch {
    /// Puts other settings in force.
    pub fn follow(&self, watching: Watching) {
        self.board.set_limits(watching.limits);
        let _ = self.orders.send(Box::new(watching));
    }
}

/// Begins to watch; runs on the calling thread's runtime. `file` keeps what must outlive the process.
pub fn watch(watching: Watching, file: Option<PathBuf>) -> (Watch, Watcher) {
    let known = file.as_deref().map_or_else(Memory::default, |file| {
        let recalled = memory::recall(file);
        if let Some(why) = recalled.warning {
            tracing::warn!(
                cluster = watching.name,
                why,
                "what was remembered of a cluster is lost: its primary is taken once its keeper names it, all nodes agree, or UNFENCE is said"
            );
        }
        recalled.memory
    });
    let now = clock::now();
    let machine = Cluster::new(
        &watching.name,
        watching.rules.clone(),
        watching.places.clone(),
        known.clone(),
        now,
    );
    let (outcomes, inbox) = unbounded_channel();
    let (orders, order_inbox) = unbounded_channel();
    let (words, word_inbox) = unbounded_channel();
    let (ready, ready_inbox) = unbounded_channel();
    let teller = outcomes.clone();
    let board = Board::new(
        machine.view(),
        watching.limits,
        Box::new(move |observation| {
            let _ = teller.send(observation);
        }),
    );
    let pace = Arc::new(Pace {
        interval: AtomicU64::new(micros(watching.rules.probe_interval)),
        limit: AtomicU64::new(micros(watching.rules.probe_timeout)),
        burst_until: AtomicU64::new(now.after(BURST_LASTS).as_micros()),
        is_troubled: AtomicU64::new(1),
    });
    let names = Arc::clone(&watching.names);
    let watcher = Watcher {
        machine,
        places: watching.places.clone(),
        told: Told::new(&watching.name, names, Arc::clone(&pace), words),
        word_inbox,
        ready,
        ready_inbox,
        watching,
        board: Arc::clone(&board),
        inbox,
        outcomes,
        orders: order_inbox,
        pace,
        probers: Vec::new(),
        remembered: known.clone(),
        stood: Vec::new(),
        keeper: watch::Sender::new(known),
        file,
    };
    (Watch { board, orders }, watcher)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

struct Probing {
    node: NodeId,
    address: String,
    bell: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task that watches.
pub struct Watcher {
    machine: Cluster,
    watching: Watching,
    /// The nodes there are.
    places: Vec<Place>,
    told: Told,
    word_inbox: UnboundedReceiver<Heard>,
    /// Switchovers for which what ran there has had its time.
    ready: UnboundedSender<Arc<Wish>>,
    ready_inbox: UnboundedReceiver<Arc<Wish>>,
    board: Arc<Board>,
    inbox: UnboundedReceiver<Observation>,
    outcomes: UnboundedSender<Observation>,
    orders: UnboundedReceiver<Box<Watching>>,
    pace: Arc<Pace>,
    probers: Vec<Probing>,
    remembered: Memory,
    /// What each node was that a line in the log told of last.
    stood: Vec<(Role, bool)>,
    keeper: watch::Sender<Memory>,
    file: Option<PathBuf>,
}

impl Watcher {
    /// Watches until nobody looks at the board's cluster any more.
    pub async fn run(mut self) {
        let saving = self
            .file
            .take()
            .map(|file| tokio::spawn(save(file, self.keeper.subscribe())));
        self.send_probers();
        self.told.follow(&self.watching.keepers);
        loop {
            let now = clock::now();
            let tick = self.machine.next_tick(now).map(|moment| moment.since(now));
            let pause = tick.map_or(LOOK, |tick| tick.min(LOOK));
            tokio::select! {
                observation = self.inbox.recv() => match observation {
                    Some(observation) => self.observe(observation),
                    None => break,
                },
                order = self.orders.recv() => match order {
                    Some(watching) => self.follow(*watching),
                    None => break,
                },
                heard = self.word_inbox.recv() => match heard {
                    Some(heard) => self.hear(&heard),
                    None => break,
                },
                Some(wish) = self.ready_inbox.recv() => {
                    self.ask(wish, clock::now());
                    self.settle(true);
                }
                () = tokio::time::sleep(pause) => {
                    self.machine.tick(clock::now());
                    self.board.expire(clock::now());
                    self.mend();
                    self.settle(false);
                }
            }
        }
        if let Some(saving) = saving {
            saving.abort();
        }
    }

    /// Takes in what a keeper says.
    fn hear(&mut self, heard: &Heard) {
        let is_news = self.told.hear(heard);
        self.list();
        if let Some(observation) = self.told.observation(heard, &self.machine) {
            self.machine.observe(observation);
        }
        self.settle(true);
        if is_news {
            self.ring();
        }
    }

    /// Lists the nodes there are.
    fn list(&mut self) {
        let configured = &self.watching.places;
        let places = self.told.places(configured, &self.machine);
        if places == self.places {
            return;
        }
        let named = |places: &[Place]| {
            let all: Vec<String> = places.iter().map(Place::address).collect();
            all.join(" ")
        };
        let (cluster, before, nodes) = (&self.watching.name, named(&self.places), named(&places));
        if before != nodes {
            tracing::warn!(cluster, before, nodes, "cluster has other nodes");
        }
        self.places = places;
        self.machine.list(self.places.clone(), clock::now());
        self.send_probers();
    }

    /// Begins again what has ended: only a panic ends a prober.
    fn mend(&mut self) {
        if self.probers.iter().any(|prober| prober.task.is_finished()) {
            tracing::error!(
                cluster = self.watching.name,
                "a prober has ended, it begins again"
            );
            self.probers.retain(|prober| !prober.task.is_finished());
            self.send_probers();
        }
        self.told.send_askers();
    }

    fn observe(&mut self, observation: Observation) {
        if let Observation::Drain { at, .. } = observation {
            self.switch_over(at);
            return self.settle(true);
        }
        let is_sign = !matches!(
            observation,
            Observation::Answered { .. } | Observation::Failed { .. }
        );
        let mut is_wanted = matches!(observation, Observation::Curious { .. });
        self.machine.observe(observation);
        // What has come meanwhile belongs to the same picture.
        while let Ok(observation) = self.inbox.try_recv() {
            is_wanted |= matches!(observation, Observation::Curious { .. });
            match observation {
                Observation::Drain { at, .. } => self.switch_over(at),
                other => self.machine.observe(other),
            }
        }
        self.board.expire(clock::now());
        self.settle(true);
        if is_wanted || (is_sign && self.machine.view().phase == Phase::Suspect) {
            self.ring();
        }
    }

    /// Lets everybody be asked at once.
    fn ring(&self) {
        for prober in &self.probers {
            prober.bell.notify_one();
        }
    }

    /// Tells what has changed, and hangs up the view.
    fn settle(&mut self, has_news: bool) {
        let news = self.machine.news();
        if news.is_empty() && !has_news {
            return;
        }
        let view = self.machine.view();
        let now = clock::now();
        self.pace
            .is_troubled
            .store(u64::from(view.primary().is_none()), SeqCst);
        let story = (!news.is_empty()).then(|| {
            self.pace
                .burst_until
                .store(now.after(BURST_LASTS).as_micros(), SeqCst);
            self.ring();
            self.machine.changes().cloned().collect()
        });
        if *self.machine.memory() != self.remembered {
            self.remembered = self.machine.memory().clone();
            self.keeper.send_replace(self.remembered.clone());
        }
        self.log_nodes(&view);
        self.board.publish(view, &news, story);
        for change in &news {
            self.log(change);
        }
    }

    /// One line for each node that has become something else, or of which nothing can be learned.
    fn log_nodes(&mut self, view: &ClusterView) {
        self.stood.resize(view.nodes.len(), (Role::Unknown, false));
        let stood = view.nodes.iter().zip(&mut self.stood);
        for (node, before) in stood.filter(|(node, _)| node.is_listed) {
            let is_strange = node.role == Role::Unknown && node.trouble.is_some();
            let (from, now) = (before.0.as_str(), (node.role, is_strange));
            if std::mem::replace(before, now) == now {
                continue;
            }
            let (cluster, address) = (&self.watching.name, node.place.address());
            let (to, why) = (
                node.role.as_str(),
                node.trouble.as_deref().unwrap_or_default(),
            );
            if matches!(node.role, Role::Primary | Role::Replica) {
                tracing::info!(cluster, node = address, from, to, "node changed its role");
            } else if is_strange || from != to {
                tracing::warn!(
                    cluster,
                    node = address,
                    from,
                    to,
                    why,
                    "node changed its role"
                );
            }
        }
    }

    fn log(&self, change: &Change) {
        let view = self.machine.view();
        let node = change.node.and_then(|id| view.node(id));
        let node = node.map_or_else(String::new, |node| node.place.address());
        let (cluster, epoch) = (&self.watching.name, change.epoch.0);
        let (from, to) = (change.from.as_str(), change.to.as_str());
        let outage_ms = self.lasted(change);
        if change.to == Phase::Conflict {
            tracing::error!(
                cluster,
                epoch,
                from,
                to,
                node,
                why = change.why,
                "cluster has two primaries"
            );
        } else {
            tracing::warn!(
                cluster,
                epoch,
                from,
                to,
                node,
                why = change.why,
                outage_ms,
                "cluster changed its phase"
            );
        }
    }

    /// How many milliseconds the outage lasted that is over with `change`.
    fn lasted(&self, change: &Change) -> Option<u64> {
        let chronicle = self.board.chronicle();
        let mut outages = chronicle.outages();
        let ended = outages.find(|outage| outage.over == Some(change.at))?;
        u64::try_from(change.at.since(ended.began).as_millis()).ok()
    }

    fn follow(&mut self, watching: Watching) {
        let has_same_way = watching.has_same_way(&self.watching);
        self.watching = watching;
        let rules = self.watching.rules.clone();
        self.pace
            .interval
            .store(micros(rules.probe_interval), SeqCst);
        self.pace.limit.store(micros(rules.probe_timeout), SeqCst);
        self.machine.set_rules(rules);
        if !has_same_way {
            self.probers.clear();
        }
        self.told.follow(&self.watching.keepers);
        self.list();
        self.send_probers();
        self.settle(true);
    }

    /// Sends a prober to each node that has none, and calls back those of nodes that are gone.
    fn send_probers(&mut self) {
        let places = &self.places;
        self.probers
            .retain(|prober| places.iter().any(|place| place.address() == prober.address));
        for place in places {
            let address = place.address();
            let Some(node) = self.machine.id(&address) else {
                continue;
            };
            if self.probers.iter().any(|prober| prober.node == node) {
                continue;
            }
            let mut target = self.watching.target.clone();
            target.hosts = vec![Host {
                name: place.host.clone(),
                port: place.port,
            }];
            let bell = Arc::new(Notify::new());
            let prober = Prober {
                node,
                target,
                tls: self.watching.tls.clone(),
                pace: Arc::clone(&self.pace),
                bell: Arc::clone(&bell),
                board: Arc::clone(&self.board),
                outcomes: self.outcomes.clone(),
                names: Arc::clone(&self.watching.names),
                census: Arc::clone(&self.watching.census),
            };
            self.probers.push(Probing {
                node,
                address,
                bell,
                task: tokio::spawn(prober.run()),
            });
        }
    }
}

/// Writes down what must outlive the process, the newest when there is more than one. What cannot be written is tried again, and told once.
async fn save(file: PathBuf, mut memory: watch::Receiver<Memory>) {
    let mut is_behind = false;
    loop {
        let pause = if is_behind { RETRY } else { Duration::MAX };
        let changed = timeout(pause, memory.changed()).await;
        if let Ok(Err(_)) = changed {
            return;
        }
        let newest = memory.borrow_and_update().clone();
        let path = file.clone();
        let written = tokio::task::spawn_blocking(move || memory::write(&path, &newest)).await;
        let written = written.unwrap_or_else(|panic| Err(panic.into()));
        match &written {
            Err(error) if changed.is_ok() => tracing::warn!(
                file = %file.display(), %error,
                "cannot write down the highest timeline seen: after a restart an old primary could be taken for the writer; it is tried again"
            ),
            Ok(()) if is_behind => {
                tracing::info!(file = %file.display(), "the highest timeline seen is written down");
            }
            Err(_) | Ok(()) => {}
        }
        is_behind = written.is_err();
    }
}

mod switchover;
#[cfg(test)]
mod tests;
