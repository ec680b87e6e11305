//! Whether what is taken for a read is one: tried by running it on a real primary and a real standby.
//!
//! `ours` is a table of our own. `corpus` are labelled statements that stand beside the project (`../shared/oracle`, or the folder
//! that `POOLER_ORACLE` names); where they are absent, the first stands alone.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "a test is no library, and fails by panicking"
)]

use std::sync::OnceLock;

use pooler::cli::cluster::{Cluster, Options};
use pooler::cli::postgres::Binaries;
use pooler::routing::catalog::{Catalog, Path};
use pooler::routing::classify::{Facts, Reading, classify};
use pooler::routing::judge::{Judge, Lists};
use pooler::routing::learn::{CATALOG_SQL, learn};

mod corpus;
mod ours;

/// The primary.
pub const PRIMARY: usize = 0;
/// The standby.
pub const STANDBY: usize = 1;

/// A primary and its standby, one pair for all tests.
pub struct Pair {
    pub cluster: Cluster,
}

impl Pair {
    fn start() -> Self {
        let binaries =
            Binaries::find(false).unwrap_or_else(|problem| panic!("no PostgreSQL: {problem}"));
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let options = Options {
            replicas: 1,
            settings: vec![
                setting("wal_level", "logical"),
                setting("max_prepared_transactions", "10"),
                setting("statement_timeout", "10s"),
                setting("lock_timeout", "2s"),
                setting("autovacuum", "off"),
            ],
            ..Options::default()
        };
        let cluster = Cluster::start(&binaries, &options)
            .unwrap_or_else(|problem| panic!("no cluster: {problem}"));
        Self { cluster }
    }

    /// Runs what must succeed on the primary.
    pub fn run(&self, database: &str, sql: &str) {
        self.cluster
            .query(PRIMARY, database, sql)
            .unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    }

    /// A database of its own, filled by `sql`, on both.
    pub fn database(&self, name: &str, sql: &str) {
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        self.run(name, sql);
        self.cluster.catch_up(PRIMARY).unwrap();
    }

    /// The catalog of a database, loaded as the pooler loads it.
    pub fn catalog(&self, database: &str) -> Catalog {
        let answer = self.cluster.query(PRIMARY, database, CATALOG_SQL).unwrap();
        assert!(answer.rows.len() > 1000, "the catalog's query answered");
        learn(1, answer.rows.iter().map(Vec::as_slice))
    }
}

/// The one pair.
pub fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(Pair::start)
}

/// What is known of `sql` under a catalog.
pub fn facts(sql: &str, catalog: &Catalog, path: &Path) -> Facts {
    let judge = Judge {
        catalog,
        path,
        lists: &Lists::default(),
    };
    classify(sql.as_bytes(), Reading::default(), &judge, &mut Vec::new())
}
