//! Where the requests of split databases went, and why: SHOW ROUTING counts all, SHOW DECISIONS lists some, EXPLAIN ROUTE tells of one
//! that was never asked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::admin::complaint::{About, Complaint};
use crate::admin::gather::Look;
use crate::admin::table::{Column, INT8, TEXT, Table, number, text};
use crate::clock;
use crate::config::value::PoolMode;
use crate::pools::plan::plan;
use crate::pools::routes::{self, Routes, Went};
use crate::routing::ask::Ask;
use crate::routing::cache::Recent;
use crate::routing::circumstances::Circumstances;
use crate::routing::dice::Dice;
use crate::routing::explain::{self, COLUMNS};
use crate::routing::request::Verdict;
use crate::routing::route::{or_primary, route};
use crate::routing::standing::{Standing, Terms};

const ROUTING: [Column; 4] = [
    ("database", TEXT),
    ("went_to", TEXT),
    ("why", TEXT),
    ("requests", INT8),
];

const DECISIONS: [Column; 7] = [
    ("at", TEXT),
    ("database", TEXT),
    ("user", TEXT),
    ("intent", TEXT),
    ("went_to", TEXT),
    ("why", TEXT),
    ("text", TEXT),
];

/// What the sessions of split databases share, by the databases' names.
pub fn all_routes(look: &Look<'_>) -> Vec<Arc<Routes>> {
    let entries = look.registry.routes.iter();
    let mut all: Vec<_> = entries.map(|entry| Arc::clone(entry.value())).collect();
    all.sort_by(|one, two| one.database.cmp(&two.database));
    all
}

/// `SHOW DECISIONS`: the first requests for each reason, and one in a thousand since, the latest last.
pub fn decisions(look: &Look<'_>) -> Table {
    let mut all = Vec::new();
    for routes in all_routes(look) {
        let listed = routes.decisions();
        all.extend(listed.into_iter().map(|one| (routes.database.clone(), one)));
    }
    all.sort_by_key(|(_, one)| one.at);
    let rows = all.into_iter().map(|(database, one)| {
        vec![
            text(clock::local_moment(one.at)),
            text(database),
            text(one.user),
            text(one.intent.as_str()),
            text(one.node),
            text(one.why.text()),
            text(one.text),
        ]
    });
    Table::new(&DECISIONS, rows.collect())
}

/// `EXPLAIN ROUTE database [user] AS sql`: for a session that has just logged in. Nothing is executed.
///
/// # Errors
/// There is no such database, or its reads are not split off.
pub fn explain(
    look: &Look<'_>,
    database: &str,
    user: Option<&str>,
    sql: &str,
) -> Result<Table, Complaint> {
    let settings = &look.settings;
    let Some(described) = settings.database(database) else {
        let message = format!("no such database: {database}");
        return Err(Complaint::new(About::UndefinedDatabase, message));
    };
    let user = settings.server_user(database, user.unwrap_or_default());
    let plan = plan(settings, database, described, user, None);
    let board = look.registry.board_of(database);
    let (Some(splitting), Some(board)) = (plan.split, board) else {
        let message = format!("reads of database \"{database}\" are not split off");
        let hint = "That is what route = \"auto\" does, for a database or user of a cluster.";
        return Err(Complaint::new(About::WrongState, message).hint(hint));
    };
    let routes = look.registry.routes_of(database);
    let (texts, catalog) = (routes.texts.load_full(), routes.catalog.load_full());
    let terms = terms(look, database, user);
    let scope = texts.scope(database.as_bytes(), &catalog, terms.path, terms.reading);
    let facts = texts.facts(&mut Recent::default(), &scope, sql.as_bytes());
    let verdict = Verdict::at(&facts, look.now);
    let fresh = Standing {
        defaults: terms.defaults,
        ..Standing::default()
    };
    let view = board.view();
    let around = Circumstances {
        view: &view,
        policy: &splitting.policy,
        written_by_all: routes.written(&view, &splitting.policy),
        load: &|node| routes.load(node),
        now: look.now,
    };
    let mut dice = Dice::new(routes::seed());
    let mut ask = Ask::from(&verdict).by(&fresh);
    ask.is_lone &= plan.rules.mode == PoolMode::Transaction;
    let outcome = route(ask, &mut fresh.clone(), &around, &mut dice);
    let outcome = or_primary(outcome, ask, &around);
    let rows = explain::route(
        (&facts, sql.as_bytes()),
        &fresh,
        &around,
        (outcome, splitting.is_observed),
    );
    let rows = rows
        .into_iter()
        .map(|row| vec![text(row.subject), text(row.finding), text(row.why)]);
    Ok(Table::new(
        &COLUMNS.map(|name| (name, TEXT)),
        rows.collect(),
    ))
}

/// The settings of a session of `user` that has just logged in, as far as any server has told.
fn terms(look: &Look<'_>, database: &str, user: &str) -> Terms {
    let mut groups = look.registry.groups().into_iter();
    let group = groups.find(|group| group.database.name == database && group.user == user);
    let told = group.and_then(|group| group.welcome()).unwrap_or_default();
    let get = |name: &str| {
        let mut told = told.iter();
        // Who it is by its login it has not become.
        told.find(|(known, _)| known.eq_ignore_ascii_case(name) && name != "session_authorization")
            .map(|(_, value)| &**value)
    };
    Terms::of(get, user)
}

/// `SHOW ROUTING`: how many requests went where, by reason, since the process began.
pub fn routing(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    for routes in all_routes(look) {
        let mut row = |went: &str, why: String, count: u64| {
            let database = text(routes.database.clone());
            rows.push(vec![database, text(went), text(why), number(count)]);
        };
        for (went, why, count) in routes.counts.all() {
            let node = match went {
                Went::Primary => "primary",
                Went::Replica => "replica",
            };
            row(node, why.text(), count);
        }
        let again = routes.counts.again.load(Relaxed);
        if again > 0 {
            row("primary", "a replica could not serve it".into(), again);
        }
        let offences = routes.counts.offences.load(Relaxed);
        if offences > 0 {
            let why = "a replica has refused its text, which goes to the primary from then on";
            row("primary", why.into(), offences);
        }
    }
    Table::new(&ROUTING, rows)
}
