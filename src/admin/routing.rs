//! SHOW ROUTING: where the requests of split databases went, and why.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::admin::gather::Look;
use crate::admin::table::{Column, INT8, TEXT, Table, number, text};
use crate::pools::routes::{Routes, Went};

const ROUTING: [Column; 4] = [
    ("database", TEXT),
    ("went_to", TEXT),
    ("why", TEXT),
    ("requests", INT8),
];

/// `SHOW ROUTING`: how many requests went where, by reason, since the process began.
pub fn routing(look: &Look<'_>) -> Table {
    let mut all: Vec<Arc<Routes>> = look
        .registry
        .routes
        .iter()
        .map(|entry| Arc::clone(entry.value()))
        .collect();
    all.sort_by(|one, two| one.database.cmp(&two.database));
    let mut rows = Vec::new();
    for routes in all {
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
