//! The catalogs of databases whose reads are split off: loaded from the primary, now and then and when code has changed.
//!
//! While there is none, every function that is not PostgreSQL's own counts as a write: that is always right, and never fast.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock;
use crate::error::Error;
use crate::pools::registry::Registry;
use crate::pools::routes::Routes;
use crate::process::clusters::prober;
use crate::routing::catalog::Catalog;
use crate::routing::learn::{CATALOG_SQL, learn};
use crate::servers::login::{self, Login};
use crate::servers::proof::Derived;
use crate::servers::query;
use crate::servers::target::{Host, Target};

/// Between two loads while nobody has changed any code through this pooler.
const PERIOD: Duration = Duration::from_secs(60);
/// While there is no primary to ask.
const SOON: Duration = Duration::from_millis(100);
/// When one could not be loaded.
const AGAIN: Duration = Duration::from_secs(5);
/// Code is mostly changed by many statements in a row.
const REST: Duration = Duration::from_millis(100);
/// How long a load may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Loads catalogs, for ever.
pub async fn keep(registry: Arc<Registry>) {
    let wants = Arc::clone(&registry.wants_catalog);
    let mut all_due = clock::now();
    loop {
        let now = clock::now();
        let is_due = now >= all_due;
        if is_due {
            all_due = now.after(PERIOD);
        }
        // Before the first client comes, so that its reads need not wait for it.
        let settings = registry.settings.load_full();
        let split = settings.databases.keys();
        for name in split.filter(|name| settings.is_split(name, "")) {
            registry.routes_of(name);
        }
        let all: Vec<Arc<Routes>> = registry
            .routes
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        let mut pause = PERIOD;
        for routes in all {
            if !is_due && routes.catalog.load().is_loaded() {
                continue;
            }
            match load(&registry, &routes).await {
                Ok(true) => {}
                Ok(false) => pause = pause.min(SOON),
                Err(problem) => {
                    pause = pause.min(AGAIN);
                    if routes.note_trouble() {
                        tracing::warn!(
                            database = routes.database,
                            problem,
                            "the catalog could not be loaded: all reads go to the primary until it can"
                        );
                    }
                }
            }
        }
        let _ = timeout(pause, wants.notified()).await;
        tokio::time::sleep(REST).await;
    }
}

/// Loads a catalog; false where there is nobody to ask yet.
async fn load(registry: &Arc<Registry>, routes: &Routes) -> Result<bool, String> {
    let settings = registry.settings.load_full();
    let name = settings.cluster_of(&routes.database);
    let name = name.map(|(name, _)| name.to_owned());
    let board = registry.board_of(&routes.database);
    let (Some(name), Some(board)) = (name, board) else {
        return Ok(true);
    };
    let view = board.view();
    let primary = view.primary_at(clock::now()).and_then(|id| view.node(id));
    let place = primary.map(|node| Arc::clone(&node.place));
    let Some(place) = place else {
        return Ok(false);
    };
    let target = prober(registry, &settings, &name).ok_or_else(|| "nobody may ask".to_owned())?;
    let target = Target {
        hosts: vec![Host {
            name: place.host.clone(),
            port: place.port,
        }],
        dbname: settings.server_dbname(&routes.database).to_owned(),
        startup: vec![("application_name".to_owned(), "pooler catalog".to_owned())],
        timeout: PATIENCE,
        ..target
    };
    let began = routes.begins_loading();
    let asked = timeout(PATIENCE, Box::pin(ask(registry, &target, &routes.database))).await;
    let rows = asked
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| {
            error.detail().map_or(error.message(), |detail| {
                format!("{}: {detail}", error.message())
            })
        })?;
    let generation = began.generation;
    let learned = tokio::task::spawn_blocking(move || {
        let rows: Vec<&[Option<String>]> = rows.iter().map(Vec::as_slice).collect();
        learn(generation, rows)
    });
    let catalog: Catalog = learned.await.map_err(|error| error.to_string())?;
    routes.loaded(began, catalog);
    Ok(true)
}

async fn ask(
    registry: &Arc<Registry>,
    target: &Target,
    database: &str,
) -> Result<Vec<query::Row>, Error> {
    let login = Login {
        id: registry.own_census.next_id(),
        target,
        host: target.host(0),
        names: &registry.names,
        tls: registry.server_tls.load().of(target),
        keys: None,
        derived: &Derived::default(),
        database,
        census: &registry.own_census,
        interner: &registry.interner,
        generation: 0,
        watch: None,
        is_logged: false,
        pool: 0,
    };
    let mut server = login::log_in(login).await?;
    let rows = query::ask(&mut server, &registry.interner, CATALOG_SQL).await;
    registry.own_census.servers.remove(&server.card.id);
    rows
}
