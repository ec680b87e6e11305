//! Pools and databases that nobody uses any more are forgotten when the settings say so, and not before.

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::PATIENCE;

/// How many pools there are of `database`.
fn pools(pooler: &Pooler, database: &str) -> usize {
    let databases = pooler.show("SHOW POOLS").column("database");
    databases.iter().filter(|name| *name == database).count()
}

/// Servers leave soon.
fn brief() -> Config {
    config().pooler("server_idle_timeout", "300ms")
}

/// Uses `database` and leaves.
fn visit(pooler: &Pooler, database: &str) {
    let mut client = pooler.login().database(database).connect();
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_pool_that_nobody_uses_is_freed_after_pool_idle_timeout_and_never_without_it() {
    let kept = brief().start();
    let freed = brief()
        .pooler("pool_idle_timeout", "600ms")
        .server("forced", postgres().server(), "app")
        .database("forced", "user", "app")
        .database("forced", "min_pool_size", 1)
        .start();
    for pooler in [&kept, &freed] {
        visit(pooler, "app");
    }
    let mut stays = freed.login().database("app").connect();
    visit(&freed, "forced");
    for pooler in [&kept, &freed] {
        pooler.pool_shows("sv_idle", 0);
    }
    // With a client it stays, however long that does nothing.
    stays.query("select 1").good();
    freed.pool_shows("sv_idle", 0);
    assert_eq!(pools(&freed, "app"), 1);
    drop(stays);
    eventually(PATIENCE, "the pool is freed", || pools(&freed, "app") == 0);
    assert_eq!(pools(&freed, "forced"), 1, "it has servers to keep");
    assert_eq!(pools(&kept, "app"), 1, "by default none is ever freed");
    // It is made again when it is wanted.
    visit(&freed, "app");
    assert_eq!(pools(&freed, "app"), 1);
}

/// Databases that came out of the fallback: one that is left, one that is paused, one with a client.
fn autodb(config: Config) {
    let names = [(); 3].map(|()| postgres().database());
    let [left, paused, used] = &names;
    let pooler = config
        .server("*", postgres().server(), "x")
        .without_key("databases.\"*\"", "dbname")
        .pooler("autodb_idle_timeout", "600ms")
        .start();
    let mut console = pooler.console();
    // Of each, by one answer: there is little time.
    let mut are_there = |names: &[&str]| {
        let databases = console.query("SHOW DATABASES").good().column("name");
        names
            .iter()
            .all(|name| databases.iter().any(|known| known == name))
    };
    let mut client = pooler.login().database(used).connect();
    client.query("select 1").good();
    visit(&pooler, paused);
    pooler.show(&format!("PAUSE {paused}"));
    visit(&pooler, left);
    assert!(are_there(&[left, paused, used]));
    eventually(PATIENCE, "it is dropped", || !are_there(&[left]));
    assert!(are_there(&[paused]), "a paused one is never dropped");
    assert!(are_there(&[used]), "it has a client");
    assert!(are_there(&["app"]), "it is configured");
    pooler.show(&format!("RESUME {paused}"));
    drop(client);
    for name in [paused, used] {
        eventually(PATIENCE, "it is dropped, too", || !are_there(&[name]));
    }
    visit(&pooler, left);
    assert!(are_there(&[left]));
}

#[test]
fn a_database_of_the_fallback_is_dropped_after_autodb_idle_timeout_unless_it_is_paused() {
    autodb(brief());
    // Also where its pools are freed before.
    autodb(brief().pooler("pool_idle_timeout", "300ms"));
}
