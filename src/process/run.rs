//! The life of the process: it is built, it runs, it drains, it stops.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::console;
use crate::admin::order::{Order, Stop};
use crate::admin::pause;
use crate::clients::gate::Gate;
use crate::config::ini::reading as ini;
use crate::config::settings::Settings;
use crate::config::value::{Dialect, PGBOUNCER_VERSION};
use crate::error::Error;
use crate::net::stream::Homeless;
use crate::pools::janitor;
use crate::pools::registry::{Phase, Registry};
use crate::pools::zones;
use crate::process::acceptor::Acceptors;
use crate::process::catalogs;
use crate::process::clusters::Clusters;
use crate::process::handover::give::{self, Estate, Outcome};
use crate::process::handover::take::Legacy;
use crate::process::lasting;
use crate::process::listener::{self, Listener};
use crate::process::pidfile::PidFile;
use crate::process::reload::{self, Loaded, Source};
use crate::process::setting;
use crate::process::start::{self, Start};
use crate::process::systemd::{self, Event};
use crate::process::worker::Worker;
use crate::stats::census;
use crate::telemetry::log;

/// How often a drain looks whether everybody has left.
const LOOK: Duration = Duration::from_millis(20);
/// How often PgBouncer looks after its clients.
const NEXT_LOOK: Duration = Duration::from_millis(333);
/// How long clients may take to hear that the process ends now.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the pooler until it is told to stop.
pub fn run(start: &Start) -> ExitCode {
    if start.is_ini() {
        // What is wrong with the file is told in the form of the log, too.
        log::start(&ini::defaults().telemetry, start.log);
    }
    let loaded = match reload::read(&start.source) {
        Ok(loaded) => loaded,
        Err(problems) if start.is_ini() => {
            problems.lines().for_each(|problem| error!("{problem}"));
            return end_with("cannot load config file");
        }
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            return ExitCode::FAILURE;
        }
    };
    log::start(&loaded.settings.telemetry, start.log);
    // The log file belongs to the user that the pooler runs as.
    if let Err(problem) = start::take_user(start, &loaded.settings) {
        return end_with(&problem);
    }
    log::follow(&loaded.settings);
    reload::tell(&loaded.errors, &loaded.warnings);
    let elder = match start::prepare(start, &loaded.settings) {
        Ok(elder) => elder,
        Err(problem) => return end_with(&problem),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return end_with(&format!("the system gives no runtime: {error}"));
        }
    };
    let outcome = runtime.block_on(live(loaded, start.source.clone(), elder));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => end_with(&problem),
    }
}

/// The last line of the log of a process that could not start.
fn end_with(why: &str) -> ExitCode {
    log::fatal(why);
    ExitCode::FAILURE
}

fn worker_count(settings: &Settings) -> usize {
    match settings.pooler.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}

async fn live(loaded: Loaded, source: Source, elder: Option<UnixStream>) -> Result<(), String> {
    if loaded.settings.dialect == Dialect::PgBouncer
        && let Some(line) = start::about_descriptors(&loaded.settings, loaded.users.len())
    {
        info!("{line}");
    }
    let workers = worker_count(&loaded.settings);
    let registry = registry_of(loaded, workers);
    let clusters = Clusters::start(&registry)?;
    let (orders, mut inbox) = unbounded_channel();
    let (way_out, leaving) = unbounded_channel();
    let gate = Arc::new(Gate {
        registry: Arc::clone(&registry),
        console: console_door(&registry, &orders),
        way_out,
    });
    // Before anybody can connect: a signal must never find its default action.
    let signals = watch_signals(&registry, &orders)?;
    let legacy = elder.map(|elder| Legacy::over(elder, &registry));
    let mut legacy = legacy.transpose().map_err(lost_elder)?;
    let listeners = match &mut legacy {
        Some(legacy) => legacy.listeners().await.map_err(lost_elder)?,
        None => listener::open(&registry.settings.load(), systemd::sockets()?)?,
    };
    let (workers, acceptors) = start_threads(listeners, workers, &gate)?;
    begin_lasting(&registry);
    if let Some(legacy) = &mut legacy {
        legacy.begin().await.map_err(lost_elder)?;
    }
    let settings = registry.settings.load_full();
    let pidfile = settings.pooler.pidfile.as_deref();
    let pidfile = pidfile.map(PidFile::write).transpose()?;
    tell_that_it_is_up(&settings, workers.len());
    tell_systemd(&registry, &workers);
    if let Some(legacy) = legacy {
        let taking = legacy.take_all(Arc::clone(&registry), Arc::clone(&workers));
        tokio::spawn(taking);
    }
    let mut estate = Estate {
        registry: Arc::clone(&registry),
        acceptors,
        workers,
        pidfile,
        leaving,
    };
    let stop = match serve(&mut estate, &mut inbox, &source, &clusters).await {
        Over::Stop(stop) => stop,
        Over::Given => return Ok(()),
        Over::Rest(stop) => {
            tell_elder(&registry).await;
            end(&registry, (stop, inbox)).await;
            return Ok(());
        }
    };
    let ended = wind_up(&mut estate, settings.dialect, (stop, inbox)).await;
    estate.acceptors.stop();
    drop(signals);
    drop(estate.pidfile);
    ended
}

/// What everybody shares.
fn registry_of(loaded: Loaded, workers: usize) -> Arc<Registry> {
    let registry = Registry::new(
        loaded.settings,
        loaded.users,
        loaded.client_tls,
        loaded.server_tls,
        workers,
    );
    registry.access.store(Arc::new(loaded.access));
    registry
}

/// Starts the workers, and what deals connections to them.
fn start_threads(
    listeners: Vec<Listener>,
    count: usize,
    gate: &Arc<Gate>,
) -> Result<(Arc<Vec<Worker>>, Acceptors), String> {
    let listeners = listeners.into_iter().map(Arc::new).collect();
    let workers: Result<Vec<_>, _> = (0..count)
        .map(|number| Worker::start(number, Arc::clone(gate)))
        .collect();
    let workers =
        Arc::new(workers.map_err(|error| format!("cannot start a worker thread: {error}"))?);
    let acceptors = Acceptors::start(listeners, &workers, &gate.registry)
        .map_err(|error| format!("cannot start an acceptor thread: {error}"))?;
    Ok((workers, acceptors))
}

/// Tells systemd that the process is up, and from then on how it does.
fn tell_systemd(registry: &Arc<Registry>, workers: &Arc<Vec<Worker>>) {
    let shared = Arc::clone(registry);
    lasting::task("status", move || systemd::show_status(Arc::clone(&shared)));
    let threads = Arc::clone(workers);
    lasting::task("watchdog", move || {
        systemd::give_signs_of_life(Arc::clone(&threads))
    });
    systemd::tell(Event::Ready);
}

/// Stops the process in the way that was asked for.
///
/// # Errors
/// A suspend was in progress, and is broken off as PgBouncer does.
async fn wind_up(
    estate: &mut Estate,
    dialect: Dialect,
    (mut stop, inbox): (Stop, UnboundedReceiver<Order>),
) -> Result<(), String> {
    let registry = Arc::clone(&estate.registry);
    tell_elder(&registry).await;
    // The console has gone on itself before it stops the process.
    let breaks_off = registry.go_on() && stop != Stop::Now && dialect == Dialect::PgBouncer;
    if breaks_off {
        stop = Stop::Now;
    }
    systemd::tell(Event::Stopping);
    estate.acceptors.stop_tcp();
    end(&registry, (stop, inbox)).await;
    if breaks_off {
        return Err("suspend was in progress, going down immediately".to_owned());
    }
    Ok(())
}

/// The log's lines about a process that serves from now on.
fn tell_that_it_is_up(settings: &Settings, workers: usize) {
    if settings.dialect == Dialect::Native {
        start::tell_databases(settings);
    }
    let as_pgbouncer = match settings.dialect {
        Dialect::Native => String::new(),
        Dialect::PgBouncer => format!("PgBouncer {PGBOUNCER_VERSION}, "),
    };
    info!(
        "process up: {as_pgbouncer}pooler {}, {workers} worker threads",
        env!("CARGO_PKG_VERSION")
    );
}

/// Begins what goes on beside the clients, for ever.
fn begin_lasting(registry: &Arc<Registry>) {
    let shared = Arc::clone(registry);
    lasting::task("janitor", move || janitor::keep(Arc::clone(&shared)));
    let shared = Arc::clone(registry);
    lasting::task("catalogs", move || catalogs::keep(Arc::clone(&shared)));
    let shared = Arc::clone(registry);
    lasting::task("zones", move || zones::keep(Arc::clone(&shared)));
    let shared = Arc::clone(registry);
    lasting::task("statistics", move || {
        console::log_stats(Arc::clone(&shared))
    });
}

fn console_door(
    registry: &Arc<Registry>,
    orders: &UnboundedSender<Order>,
) -> crate::clients::gate::ConsoleDoor {
    let (registry, orders) = (Arc::clone(registry), orders.clone());
    Box::new(move |guest| Box::pin(console::serve(guest, Arc::clone(&registry), orders.clone())))
}

/// The process that this one takes over from is not to go on in its place.
async fn tell_elder(registry: &Registry) {
    if let Some(elder) = registry.elder.load_full() {
        let _ = tokio::time::timeout(LAST_WORDS, elder.end()).await;
    }
}

fn lost_elder(error: std::io::Error) -> String {
    format!("lost the process that was to be taken over from: {error}")
}

/// Why the process serves no longer.
enum Over {
    /// It was told to stop.
    Stop(Stop),
    /// Another one has everything.
    Given,
    /// Another one has the listening sockets; the rest is to stop.
    Rest(Stop),
}

/// Serves until it is told to stop, or another process has taken over.
async fn serve(
    estate: &mut Estate,
    inbox: &mut UnboundedReceiver<Order>,
    source: &Source,
    clusters: &Clusters,
) -> Over {
    let registry = Arc::clone(&estate.registry);
    loop {
        let heir = match obey(&registry, inbox, source, clusters).await {
            Ending::Stop(stop) => return Over::Stop(stop),
            Ending::HandOver(heir) => heir,
        };
        match give::give(estate, heir, inbox).await {
            Outcome::Kept => {}
            Outcome::Given => return Over::Given,
            Outcome::Stopped(stop) => return Over::Rest(stop),
        }
    }
}

/// Why the process does not go on as it is.
enum Ending {
    Stop(Stop),
    HandOver(Homeless),
}

/// Carries out orders until one says stop.
async fn obey(
    registry: &Arc<Registry>,
    inbox: &mut UnboundedReceiver<Order>,
    source: &Source,
    clusters: &Clusters,
) -> Ending {
    loop {
        match inbox.recv().await {
            None => return Ending::Stop(Stop::Now),
            Some(Order::Stop(stop)) => return Ending::Stop(stop),
            Some(Order::HandOver(heir)) => return Ending::HandOver(heir),
            Some(Order::Reload(answer)) => {
                systemd::tell(Event::Reloading);
                let result = reload::reload(source, registry);
                if result.is_ok() {
                    clusters.follow(registry);
                }
                systemd::tell(Event::Ready);
                if let Err(problems) = &result {
                    error!("reload refused, the old configuration stays: {problems}");
                }
                let _ = answer.send(result);
            }
            Some(Order::Set { key, value, answer }) => {
                let _ = answer.send(setting::set(registry, &key, &value));
            }
        }
    }
}

/// Ends in the way that was ordered; another order to stop meanwhile ends at once.
async fn end(registry: &Arc<Registry>, (stop, mut inbox): (Stop, UnboundedReceiver<Order>)) {
    let limit = registry.settings.load().pooler.shutdown_timeout;
    let again = async {
        loop {
            match inbox.recv().await {
                None | Some(Order::Stop(_)) => return,
                Some(Order::Reload(answer)) => {
                    let _ = answer.send(Err("the pooler is shutting down".into()));
                }
                Some(Order::Set { answer, .. }) => {
                    let _ = answer.send(Err("the pooler is shutting down".into()));
                }
                Some(Order::HandOver(_)) => {}
            }
        }
    };
    let orderly = async {
        match stop {
            Stop::Now => {}
            Stop::Drain => {
                if tokio::time::timeout(limit, drain(registry)).await.is_err() {
                    warn!(
                        "shutdown_timeout is over: {} clients are ended",
                        registry.census.clients.len()
                    );
                }
            }
            Stop::WaitForClients => {
                registry.enter(Phase::Draining);
                until(|| registry.census.clients.is_empty()).await;
            }
            Stop::WaitForServers => {
                registry.enter(Phase::Closing);
                pause::pause_all(registry, true);
                if registry.settings.load().dialect == Dialect::PgBouncer {
                    // PgBouncer tells who waits at its next look.
                    tokio::time::sleep(NEXT_LOOK).await;
                }
                for pool in registry.pools_and_guests() {
                    pool.dismiss(&Error::ShuttingDown);
                }
                until(|| registry.census.servers.is_empty()).await;
            }
        }
    };
    tokio::select! {
        () = orderly => {}
        () = again => info!("told to stop again: ending at once"),
    }
    for card in &registry.census.clients {
        card.give(census::Order::Shutdown);
    }
    let _ = tokio::time::timeout(LAST_WORDS, until(|| registry.census.clients.is_empty())).await;
    info!("process down");
}

/// Ends each client after its next idle point.
async fn drain(registry: &Registry) {
    registry.enter(Phase::Draining);
    until(|| {
        for card in &registry.census.clients {
            if card.order() == census::Order::None {
                card.give(census::Order::Drain);
            }
        }
        registry.census.clients.is_empty()
    })
    .await;
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK).await;
    }
}

/// What a signal has done to everything.
type Deed = fn(&Registry);

/// Turns signals into orders.
fn watch_signals(
    registry: &Arc<Registry>,
    orders: &UnboundedSender<Order>,
) -> Result<JoinSet<()>, String> {
    let mut watchers = JoinSet::new();
    let terminate = match registry.settings.load().dialect {
        Dialect::Native => (
            Stop::Drain,
            "got SIGTERM, shutting down, each client leaves at its next idle point",
        ),
        Dialect::PgBouncer => (
            Stop::WaitForClients,
            "got SIGTERM, shutting down, waiting for all clients disconnect",
        ),
    };
    let stops = [
        (SignalKind::terminate(), terminate.0, terminate.1),
        (
            SignalKind::interrupt(),
            Stop::WaitForServers,
            "got SIGINT, shutting down, waiting for all servers connections to be released",
        ),
        (SignalKind::quit(), Stop::Now, "got SIGQUIT, fast exit"),
    ];
    let problem = |error: std::io::Error| format!("cannot listen for signals: {error}");
    for (kind, stop, text) in stops {
        let (mut signals, orders) = (signal(kind).map_err(problem)?, orders.clone());
        watchers.spawn(async move {
            while signals.recv().await.is_some() {
                info!("{text}");
                let _ = orders.send(Order::Stop(stop));
            }
        });
    }
    let (mut reloads, orders) = (
        signal(SignalKind::hangup()).map_err(problem)?,
        orders.clone(),
    );
    watchers.spawn(async move {
        while reloads.recv().await.is_some() {
            info!("got SIGHUP, re-reading config");
            let (answer, _) = tokio::sync::oneshot::channel();
            let _ = orders.send(Order::Reload(answer));
        }
    });
    let commands: [(SignalKind, Deed); 2] = [
        (SignalKind::user_defined1(), pause::pause_by_signal),
        (SignalKind::user_defined2(), pause::resume_by_signal),
    ];
    for (kind, carry_out) in commands {
        let (mut signals, registry) = (signal(kind).map_err(problem)?, Arc::clone(registry));
        watchers.spawn(async move {
            while signals.recv().await.is_some() {
                carry_out(&registry);
            }
        });
    }
    Ok(watchers)
}
