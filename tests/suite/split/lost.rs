//! A read that is lost and cannot be asked again is told so: nothing was done, and nobody has to find out whether it was.

use super::{LONG, split, start};
use crate::support::eventually;
use crate::support::scene::Scene;
use crate::support::wire::{Client, Reply, batch};

/// How the client is told that its read was lost, in a session that goes on.
#[track_caller]
fn is_told_of_a_lost_read(reply: &Reply) {
    let fault = reply.error();
    let told = (&*fault.code, &*fault.severity, reply.status);
    assert_eq!(told, ("08006", "ERROR", 'I'), "{reply:?}");
    assert!(fault.says("nothing was changed"), "{fault:?}");
}

/// A session whose reads go to the primary.
fn reads_there(mut client: Client) -> Client {
    client.query("set pooler.route = 'primary'").good();
    client
}

#[test]
fn a_read_that_is_lost_twice_or_half_answered_is_told_that_nothing_was_done() {
    let scene = Scene::start();
    let config = split(&scene).set("clusters.main", "max_lag", "60s");
    let pooler = start(&config.database("app", "pool_size", 10));
    let sleeps = "select current_setting('port'), pg_sleep(100)";
    // Its first row fills what PostgreSQL sends at a time (8192 bytes, 38 of them around the value), and is there before its last one is.
    let rows = "select repeat('x', 8154) c from generate_series(1, 3) i where i < 3 or pg_sleep(100) is null";
    let is_at = |node: usize, count: &str| {
        let running = "select count(*) from pg_stat_activity where state = 'active' \
            and query like '%pg_sleep(100)%' and pid <> pg_backend_pid()";
        eventually(LONG, "they are under way", || {
            scene.sql(node, running) == count
        });
    };
    let (mut simple, mut extended, mut half, mut hasty) = (
        reads_there(pooler.connect()),
        reads_there(pooler.connect()),
        reads_there(pooler.connect()),
        reads_there(pooler.connect()),
    );
    let mut writer = pooler.connect();
    simple.send(batch().query(sleeps));
    extended.send(batch().parse("", sleeps).run("", &[]).sync());
    // What comes behind a read is not known to be one.
    let hurry = batch().query(sleeps).query("begin");
    hasty.send(hurry.query("insert into t values (10)").query("commit"));
    half.send(batch().query(rows));
    assert_eq!(half.until(b'D').rows.len(), 1);
    writer.send(batch().query("insert into t select 1 from pg_sleep(100)"));
    is_at(0, "5");
    scene.catch_up();
    scene.cluster().kill9(0).unwrap();
    // What was answered in part cannot be asked again.
    is_told_of_a_lost_read(&half.until_ready());
    assert_eq!(
        writer.until_ready().error().code,
        "08007",
        "it may have been done"
    );
    scene.cluster().promote(1).unwrap();
    // The others are asked once more.
    is_at(1, "3");
    scene.cluster().repoint(2, 1).unwrap();
    scene.sql(1, "insert into t values (9)");
    scene.cluster().catch_up(1).unwrap();
    scene.cluster().kill9(1).unwrap();
    is_told_of_a_lost_read(&simple.until_ready());
    is_told_of_a_lost_read(&extended.until_ready());
    is_told_of_a_lost_read(&hasty.until_ready());
    scene.cluster().promote(2).unwrap();
    for tag in ["BEGIN", "INSERT 0 1", "COMMIT"] {
        assert_eq!(hasty.until_ready().good().tags, [tag]);
    }
    for client in [
        &mut simple,
        &mut extended,
        &mut half,
        &mut hasty,
        &mut writer,
    ] {
        assert_eq!(client.value("select count(*) from t"), "2");
    }
    let failovers = pooler.show("SHOW FAILOVERS");
    let sum = |column: &str| -> u32 {
        let counts = failovers.column(column);
        counts
            .iter()
            .map(|count| count.parse::<u32>().unwrap())
            .sum()
    };
    assert_eq!((sum("unknown"), sum("undone")), (1, 4), "{failovers:?}");
}
