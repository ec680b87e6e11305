//! Clusters are watched on a thread of their own; a reload changes what is watched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use crate::auth::password::Verifier;
use crate::config::settings::Settings;
use crate::config::url::Url;
use crate::config::value::LoadBalance;
use crate::discovery::keepers::Keepers;
use crate::discovery::memory;
use crate::discovery::watcher::{self, Watch, Watcher, Watching};
use crate::locked::Locked;
use crate::pools::follow;
use crate::pools::plan::socket_options;
use crate::pools::registry::Registry;
use crate::process::lasting;
use crate::servers::target::Target;
use crate::topology::board::waiting::HoldLimits;
use crate::topology::cluster::Rules;
use crate::topology::membership::LagLimits;
use crate::topology::node::Place;

/// The task that lets pools follow a cluster; ended when dropped.
#[derive(Debug)]
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All clusters that are watched.
#[derive(Debug)]
pub struct Clusters {
    watches: Mutex<HashMap<String, (Watch, Follower)>>,
    thread: UnboundedSender<Watcher>,
}

impl Clusters {
    /// Begins to watch every cluster of the settings.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(registry: &Arc<Registry>) -> Result<Self, String> {
        let (thread, mut arrivals) = unbounded_channel::<Watcher>();
        let settings = registry.settings.load_full();
        let clusters = Self {
            watches: Mutex::default(),
            thread,
        };
        if !settings.clusters.is_empty() && settings.pooler.state_dir.is_none() {
            tracing::warn!(
                "pooler.state_dir is not set: the highest timeline seen is not kept over a restart, so a pooler that is restarted \
                 while an old primary is up again could take that one for the writer"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Asking the system for a name takes one of them, and may take long: what must be written down shall not wait for that.
            .max_blocking_threads(16)
            .build()
            .map_err(|error| format!("cannot watch clusters: {error}"))?;
        let work = move || {
            runtime.block_on(async move {
                while let Some(watcher) = arrivals.recv().await {
                    tokio::spawn(lasting::needed("cluster", watcher.run()));
                }
            });
        };
        std::thread::Builder::new()
            .name("discovery".to_owned())
            .spawn(work)
            .map_err(|error| format!("cannot watch clusters: {error}"))?;
        clusters.follow(registry);
        Ok(clusters)
    }

    /// Watches what the settings say now.
    pub fn follow(&self, registry: &Arc<Registry>) {
        let settings = registry.settings.load_full();
        let mut watches = self.watches.locked();
        watches.retain(|name, _| settings.clusters.contains_key(name));
        registry
            .boards
            .retain(|name, _| settings.clusters.contains_key(name));
        for name in settings.clusters.keys() {
            let Some(watching) = watching(registry, &settings, name) else {
                continue;
            };
            if let Some((known, _)) = watches.get(name) {
                known.follow(watching);
                continue;
            }
            let folder = settings.pooler.state_dir.as_deref();
            let file = folder.map(|folder| memory::file(folder, name));
            let (watch, watcher) = watcher::watch(watching, file);
            let board = Arc::clone(&watch.board);
            registry.boards.insert(name.clone(), Arc::clone(&board));
            let shared = Arc::clone(registry);
            let task = lasting::task("follow a cluster", move || {
                follow::follow(Arc::clone(&shared), Arc::clone(&board))
            });
            let follower = Follower(task);
            let _ = self.thread.send(watcher);
            watches.insert(name.clone(), (watch, follower));
        }
    }
}

/// The addresses that `check` has let pass.
fn urls(texts: &[String]) -> Vec<Url> {
    let read = texts.iter().map(|text| Url::parse(text));
    read.filter_map(Result::ok).collect()
}

/// Who asks the nodes of the cluster `name`, and how; to be given a host.
pub fn prober(registry: &Registry, settings: &Settings, name: &str) -> Option<Target> {
    let cluster = settings.clusters.get(name)?;
    let (user, password) = settings.prober(name)?;
    let password = password.map(|secret| Verifier::parse(secret.expose()));
    let password = password.or_else(|| registry.users.load().get(user).cloned());
    Some(Target {
        hosts: Vec::new(),
        balance: LoadBalance::default(),
        dbname: cluster.probe_dbname.clone(),
        user: user.to_owned(),
        password,
        tls: settings.server_tls(Some(name)).mode,
        cluster: Some(name.to_owned()),
        startup: vec![("application_name".to_owned(), "pooler probe".to_owned())],
        connect_query: None,
        timeout: cluster.probe_timeout,
        socket: socket_options(settings),
    })
}

/// How the cluster `name` is to be watched.
fn watching(registry: &Registry, settings: &Settings, name: &str) -> Option<Watching> {
    let cluster = settings.clusters.get(name)?;
    let target = prober(registry, settings, name)?;
    let places = cluster.nodes.iter().map(|node| Place {
        host: node.host.clone(),
        port: node.port,
        zone: node.zone.clone(),
        is_near: !node.zone.is_empty() && node.zone == cluster.zone,
        weight: node.weight,
    });
    Some(Watching {
        name: name.to_owned(),
        rules: Rules {
            probe_interval: cluster.probe_interval,
            probe_timeout: cluster.probe_timeout,
            lag: LagLimits {
                time: cluster.max_lag,
                bytes: cluster.max_lag_bytes as u64,
                readmit_after: cluster.readmit_after,
            },
            bounds: settings.lag_bounds(name),
            fence_on_lease_loss: cluster.fence_on_lease_loss,
        },
        places: places.collect(),
        keepers: Keepers {
            patroni: urls(&cluster.patroni),
            etcd: cluster.etcd.clone(),
        },
        limits: HoldLimits {
            timeout: cluster.hold_timeout,
            clients: cluster.hold_max_clients,
        },
        drain_grace: cluster.drain_grace,
        tls: registry.server_tls.load().of(&target),
        target,
        names: Arc::clone(&registry.names),
        census: Arc::clone(&registry.census),
    })
}
