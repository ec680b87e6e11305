//! A table of our own: every rule of the classifier, each line run on a real primary and a real standby.
//!
//! `reads.sql` must be taken for reads, and run on the standby. `refused.sql` is what the standby refuses and the primary accepts:
//! never a read. `meant.sql` runs on the standby too, but means the primary, the session or the node: never a read either.

use pooler::routing::catalog::{Catalog, Path};
use pooler::routing::intent::Intent;

use crate::{Pair, STANDBY, facts, pair};

const SHELF: &str = include_str!("shelf.sql");
const READS: &str = include_str!("reads.sql");
const REFUSED: &str = include_str!("refused.sql");
const MEANT: &str = include_str!("meant.sql");

/// The statements of a table: one a line; `--` begins a heading.
fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
}

fn read_on_standby(pair: &Pair, sql: &str) -> Result<(), String> {
    pair.cluster
        .query(STANDBY, "shelf", sql)
        .map(|_| ())
        .map_err(|problem| problem.to_string())
}

fn shelf() -> (&'static Pair, Catalog) {
    let pair = pair();
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| pair.database("shelf", SHELF));
    (pair, pair.catalog("shelf"))
}

#[test]
fn the_tables_are_large_enough_to_mean_something() {
    let all = [READS, REFUSED, MEANT].map(|table| lines(table).count());
    println!("reads, refused, meant: {all:?}");
    assert!(all.iter().sum::<usize>() >= 300, "{all:?}");
}

#[test]
fn what_is_taken_for_a_read_runs_on_a_standby() {
    let (pair, catalog) = shelf();
    let path = Path::of_user(b"postgres");
    let mut wrong = Vec::new();
    for sql in lines(READS) {
        let facts = facts(sql, &catalog, &path);
        if facts.intent != Intent::Read {
            wrong.push(format!("{} ({}): {sql}", facts.intent, facts.why));
        }
        if let Err(problem) = read_on_standby(pair, sql)
            && !is_not_built(&problem, sql)
        {
            wrong.push(format!("the standby refuses ({problem}): {sql}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether this PostgreSQL was built without libxml, as the one that is fetched is: then the statement proves nothing.
fn is_not_built(problem: &impl std::fmt::Display, sql: &str) -> bool {
    let is_xml = problem.to_string().contains("unsupported XML feature");
    if is_xml {
        println!("not tried, PostgreSQL has no libxml: {sql}");
    }
    is_xml
}

#[test]
fn what_a_standby_refuses_is_never_taken_for_a_read() {
    let (pair, catalog) = shelf();
    let path = Path::of_user(b"postgres");
    let mut wrong = Vec::new();
    for sql in lines(REFUSED) {
        // A mark before a statement: it runs outside transactions only.
        let (sql, alone) = sql
            .strip_prefix('!')
            .map_or((sql, false), |sql| (sql, true));
        let facts = facts(sql, &catalog, &path);
        if facts.intent == Intent::Read {
            wrong.push(format!("taken for a read ({}): {sql}", facts.why));
        }
        if read_on_standby(pair, sql).is_ok() {
            wrong.push(format!("the standby accepts: {sql}"));
        }
        let whole = if alone {
            sql.to_owned()
        } else {
            format!("BEGIN; {sql}; ROLLBACK")
        };
        if let Err(problem) = pair.cluster.query(crate::PRIMARY, "shelf", &whole)
            && !is_not_built(&problem, sql)
        {
            wrong.push(format!("the primary refuses ({problem}): {sql}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_means_the_primary_the_session_or_the_node_is_no_read_though_a_standby_accepts_it() {
    let (pair, catalog) = shelf();
    let path = Path::of_user(b"postgres");
    let mut wrong = Vec::new();
    for sql in lines(MEANT) {
        let facts = facts(sql, &catalog, &path);
        if facts.intent == Intent::Read {
            wrong.push(format!("taken for a read ({}): {sql}", facts.why));
        }
        if let Err(problem) = read_on_standby(pair, sql) {
            wrong.push(format!("the standby refuses ({problem}): {sql}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn without_a_catalog_nothing_that_a_standby_refuses_by_its_words_is_a_read() {
    let (_, catalog) = shelf();
    let none = Catalog::default();
    let path = Path::of_user(b"postgres");
    for sql in lines(REFUSED) {
        let sql = sql.trim_start_matches('!');
        let unseen = facts(sql, &none, &path);
        // Only relations, types, operators with names of PostgreSQL's own, and functions used as columns need the catalog.
        let is_hidden = [
            "v_", "unl", "guarded", "::", "CAST", ".stamp", "###", "liar", "far", "pages",
        ]
        .iter()
        .any(|sign| sql.contains(sign));
        assert!(
            unseen.intent != Intent::Read || is_hidden,
            "{sql}: {}",
            unseen.why
        );
        assert_ne!(facts(sql, &catalog, &path).intent, Intent::Read);
    }
}
