//! What is made or renamed through the pooler is known at once: no read of it goes to a replica where it must not.

use super::{knows, scene, split, start};
use crate::support::pooler::Pooler;
use crate::support::scene::Scene;
use crate::support::wire::Client;

/// What stands before, what is done through the pooler, and what is read then.
struct Story {
    before: Vec<String>,
    done: String,
    read: &'static str,
}

fn story(before: &[&str], done: &str, read: &'static str) -> Story {
    let whole = |sql: &str| sql.replace("LOCKS", LOCK);
    Story {
        before: before.iter().map(|sql| whole(sql)).collect(),
        done: whole(done),
        read,
    }
}

const LOCK: &str = "pg_advisory_lock_shared(77) is null";

fn held(scene: &Scene, node: usize) -> String {
    scene.sql(
        node,
        "select count(*) from pg_locks where locktype = 'advisory'",
    )
}

fn plain(pooler: &Pooler) -> Client {
    pooler.login().database("plain").connect()
}

#[test]
fn what_locks_is_not_read_on_a_replica_after_it_was_made_or_renamed_through_the_pooler() {
    let scene = scene();
    let stories = [
        story(
            &[],
            "create domain evil as int check (LOCKS or true)",
            "select 5::evil",
        ),
        story(
            &["create domain good as int"],
            "/* why */ alter /* it */ domain good add check (LOCKS or true)",
            "select 5::good",
        ),
        story(
            &[
                "create view hides as select LOCKS held",
                "grant select on hides to probe",
            ],
            "alter table hides rename to harmless",
            "select * from harmless",
        ),
        story(
            &[
                "create schema old create view inside as select LOCKS held",
                "grant usage on schema old to probe",
                "grant select on old.inside to probe",
            ],
            "alter schema old rename to new",
            "select * from new.inside",
        ),
        story(
            &[
                "create table guarded (a int)",
                "insert into guarded values (1)",
                "grant select on guarded to probe",
                "create policy p on guarded using (LOCKS or true)",
            ],
            "alter table guarded enable row level security",
            "select a from guarded",
        ),
    ];
    for sql in stories.iter().flat_map(|story| &story.before) {
        scene.sql(0, sql);
    }
    scene.catch_up();
    // Who reads is no superuser, of whom policies ask nothing.
    let pooler = start(
        &split(&scene)
            .database("plain", "cluster", "main")
            .database("plain", "dbname", "postgres")
            .database("plain", "user", "probe")
            .database("plain", "route", "auto"),
    );
    knows(&pooler, "plain");
    let (mut maker, mut reader) = (pooler.connect(), plain(&pooler));
    for Story { done, read, .. } in &stories {
        maker.query(done).good();
        scene.catch_up();
        for _ in 0..20 {
            reader.query(read).good();
        }
        knows(&pooler, "plain");
        for _ in 0..20 {
            reader.query(read).good();
        }
        for node in [1, 2] {
            assert_eq!(held(&scene, node), "0", "{done}: {read}");
        }
    }
    // Where it must run it does.
    assert_ne!(held(&scene, 0), "0");
}

#[test]
fn an_unlogged_table_made_through_the_pooler_is_read_where_it_is() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let (mut maker, mut reader) = (pooler.connect(), pooler.connect());
    maker.query("create table t2 (a int)").good();
    for sql in [
        "create unlogged table u (a int)",
        "alter table t2 set unlogged",
    ] {
        maker.query(sql).good();
    }
    for table in ["u", "t2"] {
        maker
            .query(&format!("insert into {table} values (1)"))
            .good();
    }
    scene.catch_up();
    for table in ["u", "t2"] {
        let count = format!("select count(*) from {table}");
        for _ in 0..10 {
            assert_eq!(reader.value(&count), "1");
            assert_eq!(maker.value(&count), "1");
        }
    }
    let asked = pooler.show("SHOW ROUTING");
    let again = asked.row_where("why", "a replica could not serve it");
    assert_eq!(again, None, "no replica was asked in vain");
}
