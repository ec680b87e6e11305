//! What a transaction that is late promises as any other, and what PostgreSQL itself does not.

use super::late::{late, on_replica};
use super::{LONG, port, scene, split, start};
use crate::support::eventually;
use crate::support::scene::Scene;
use crate::support::wire::{Client, batch};

/// How fresh the next read of `client` has to be.
fn freshness(client: &mut Client) -> String {
    let rows = client.query("explain route select 1").good();
    let row = rows.row_where("subject", "freshness");
    row.unwrap_or_else(|| panic!("{rows:?}"))["finding"].clone()
}

/// Takes the replicas away from the primary, until none serves reads.
fn cut_off(scene: &Scene) {
    for node in [1, 2] {
        scene.alter(node, "primary_conninfo", "");
    }
}

#[test]
fn a_transaction_that_only_reads_is_no_write_also_on_the_primary() {
    let scene = scene();
    let pooler = start(&late(&scene));
    cut_off(&scene);
    eventually(LONG, "no replica serves", || super::readable(&pooler) == 0);
    for begin in ["begin", "begin read only"] {
        let mut client = pooler.connect();
        client.query(begin).good();
        assert!(scene.is_primary(&port(&mut client)));
        client.query("select count(*) from t where id > 0").good();
        let named = batch().parse("s", "select value from t where id = $1");
        client.ask(named.run("s", &["1"]).sync()).good();
        client.query("commit").good();
        assert_eq!(
            freshness(&mut client),
            "not behind its last read",
            "{begin}"
        );
        client.query(begin).good();
        client.ask(batch().run("s", &["1"]).sync()).good();
        client.query("rollback").good();
        assert_eq!(
            freshness(&mut client),
            "not behind its last read",
            "{begin}"
        );
    }
    // Wherever it writes it is one: in front, behind, in a pipeline, in pieces, after COMMIT.
    let insert = "insert into t values (1, 1)";
    let one = |sql: &str| (batch().query(sql), 1);
    let behind = |sql: &str| (batch().query(sql).query(insert), 2);
    for requests in [
        vec![one(insert)],
        vec![one("select 1"), one(insert)],
        vec![behind("select 1")],
        vec![one("select 1"), behind("commit")],
        vec![one("select 1"), behind("commit and chain")],
        vec![one("select 1"), one("commit; insert into t values (1, 1)")],
        vec![one("select 1"), one("savepoint s")],
        vec![one("select 1"), one("select * from t for update")],
        vec![
            one("select 1"),
            (batch().parse("w", insert).sync(), 1),
            (batch().run("w", &[]).sync(), 1),
        ],
    ] {
        let mut client = pooler.connect();
        client.query("begin").good();
        for (request, replies) in requests {
            let bytes = request.into_bytes();
            let (head, tail) = bytes.split_at(7);
            client.send(batch().raw(head));
            client.send(batch().raw(tail));
            for _ in 0..replies {
                client.until_ready().good();
            }
        }
        client.query("commit").good();
        assert_eq!(freshness(&mut client), "not behind its own write");
    }
}

#[test]
fn what_must_stand_before_every_query_is_refused_after_one_wherever_that_was() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    for late in [
        "set transaction isolation level repeatable read",
        "begin isolation level serializable",
        "start transaction isolation level repeatable read",
        "set transaction isolation level serializable",
    ] {
        on_replica(&scene, &mut client, "begin");
        let reply = client.query(late);
        assert_eq!(
            (reply.error().code.as_str(), reply.status),
            ("25001", 'E'),
            "{late}"
        );
        client.query("rollback").good();
    }
    // Where nothing was read yet it is in time.
    for early in ["", "show work_mem"] {
        client.query("begin").good();
        client.query(early).good();
        client
            .query("set transaction isolation level serializable")
            .good();
        assert_eq!(client.value("show transaction_isolation"), "serializable");
        client.query("insert into t values (1, 1)").good();
        client.query("rollback").good();
    }
    on_replica(&scene, &mut client, "begin");
    client.query("set transaction read only").good();
    let refused = client.query("insert into t values (1, 1)");
    assert_eq!(refused.error().code, "25006");
    client.query("rollback").good();
}

#[test]
fn what_waits_for_a_synchronous_standby_is_seen_on_replicas_first_with_a_pooler_as_without() {
    let scene = scene();
    scene.sql(0, "insert into t values (1, 0)");
    scene.catch_up();
    let pooler = start(&split(&scene).database("app", "consistency", "global"));
    scene.alter(0, "synchronous_standby_names", "nobody");
    let mut writer = pooler.connect();
    writer.send(batch().query("update t set value = 1"));
    let read = "select value from t";
    eventually(LONG, "both replicas show it", || {
        [1, 2].map(|node| scene.sql(node, read)) == ["1", "1"]
    });
    assert_eq!(scene.sql(0, read), "0", "that is PostgreSQL itself");
    let mut reader = pooler.connect();
    assert_eq!(reader.value(&format!("/* pooler: replica */ {read}")), "1");
    assert_eq!(reader.value(&format!("/* pooler: primary */ {read}")), "0");
    // Nobody was told that it is written, so nobody reads what is older than a write.
    scene.alter(0, "synchronous_standby_names", "");
    writer.until_ready().good();
    for _ in 0..20 {
        assert_eq!(reader.value(read), "1");
    }
}
