//! Protocol-level prepared statements in transaction mode: a client's names are its own, whatever server it meets.

use crate::support::pooler::{Config, Shuttle, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Batch, batch};

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

/// Parse and Sync.
fn prepare(name: &str, sql: &str) -> Batch {
    batch().parse(name, sql).sync()
}

/// Bind, Execute and Sync.
fn run(name: &str, values: &[&str]) -> Batch {
    batch().run(name, values).sync()
}

#[test]
fn a_statement_works_on_a_server_that_never_saw_it() {
    let mut shuttle = Shuttle::new(config());
    let mut client = shuttle.pooler.connect();
    client
        .ask(prepare("s", "select $1::text || pg_backend_pid()"))
        .good();
    let first = client.ask(run("s", &["on "])).value();
    shuttle.switch();
    let reply = client.ask(run("s", &["on "]));
    assert_ne!(reply.value(), first, "another server");
    assert_eq!(
        reply.shape, "2DCZ",
        "and nobody sees the Parse that was needed there"
    );
    shuttle.switch();
    assert_eq!(client.ask(run("s", &["on "])).value(), first);
}

#[test]
fn a_statement_can_be_described_on_a_server_that_never_saw_it() {
    let mut shuttle = Shuttle::new(config());
    let mut client = shuttle.pooler.connect();
    client
        .ask(prepare("s", "select $1::int4 as a, 'x'::text as b"))
        .good();
    let described = client.ask(batch().describe_statement("s").sync());
    shuttle.switch();
    let elsewhere = client.ask(batch().describe_statement("s").sync());
    assert_eq!(elsewhere.shape, "tTZ");
    assert_eq!(elsewhere.frames, described.frames);
}

#[test]
fn two_clients_may_give_one_name_to_different_statements() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.ask(prepare("s", "select 'one'")).good();
    other.ask(prepare("s", "select 'other'")).good();
    for _ in 0..3 {
        assert_eq!(one.ask(run("s", &[])).value(), "one");
        assert_eq!(other.ask(run("s", &[])).value(), "other");
    }
    one.ask(batch().close_statement("s").sync()).good();
    assert_eq!(
        other.ask(run("s", &[])).value(),
        "other",
        "closing is one's own affair"
    );
}

#[test]
fn clients_that_prepare_the_same_text_share_it_on_the_server() {
    let pooler = single().start();
    let mut clients: Vec<_> = (0..5).map(|_| pooler.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("mine_{number}");
        client
            .ask(prepare(&name, "select 'shared', $1::int"))
            .good();
        assert_eq!(client.ask(run(&name, &["1"])).value(), "shared");
    }
    let on_server = "select count(*) from pg_prepared_statements where statement like '%shared%' and not from_sql";
    assert_eq!(clients[0].value(on_server), "1");
}

#[test]
fn one_text_with_other_parameter_types_is_another_statement() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    let typed = |oid: i32| {
        batch().frame(
            b'P',
            &[b"s\0select $1\0\0\x01".as_slice(), &oid.to_be_bytes()].concat(),
        )
    };
    one.ask(typed(23).sync()).good();
    other.ask(typed(25).sync()).good();
    let described = |reply: crate::support::wire::Reply| reply.columns[0].1;
    assert_eq!(
        described(one.ask(batch().describe_statement("s").sync())),
        23
    );
    assert_eq!(
        described(other.ask(batch().describe_statement("s").sync())),
        25
    );
}

#[test]
fn a_server_keeps_no_more_than_max_prepared_statements() {
    let pooler = single().pooler("max_prepared_statements", 2).start();
    let mut client = pooler.connect();
    for number in 0..5 {
        client
            .ask(prepare(
                &format!("s{number}"),
                &format!("select '{number}', $1::int"),
            ))
            .good();
    }
    for _ in 0..3 {
        for number in [0, 4, 2, 1, 3] {
            let reply = client.ask(run(&format!("s{number}"), &["1"]));
            assert_eq!(
                (reply.shape.as_str(), reply.value()),
                ("2DCZ", number.to_string())
            );
            let kept: i32 = client
                .value("select count(*) from pg_prepared_statements")
                .parse()
                .unwrap();
            assert!(kept <= 2, "{kept} statements on the server");
        }
    }
    let mut all = batch();
    for number in 0..5 {
        all = all.run(&format!("s{number}"), &["1"]);
    }
    assert_eq!(
        client.ask(all.sync()).shape,
        "2DC2DC2DC2DC2DCZ",
        "five in one batch over room for two"
    );
}

#[test]
fn a_name_that_was_closed_may_be_used_again() {
    let pooler = single().start();
    let mut client = pooler.connect();
    for round in 0..3 {
        client
            .ask(prepare("s", &format!("select 'round {round}'")))
            .good();
        assert_eq!(client.ask(run("s", &[])).value(), format!("round {round}"));
        assert_eq!(client.ask(batch().close_statement("s").sync()).shape, "3Z");
        assert_eq!(client.ask(run("s", &[])).error().code, "26000");
    }
    assert_eq!(
        client
            .ask(batch().close_statement("never there").sync())
            .shape,
        "3Z"
    );
}

#[test]
fn a_name_in_use_is_refused_as_postgres_does_and_the_session_goes_on() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.ask(prepare("s", "select 'first'")).good();
    let refused = client.ask(batch().parse("s", "select 'second'").run("s", &[]).sync());
    assert_eq!(
        (refused.shape.as_str(), refused.error().code.as_str()),
        ("EZ", "42P05")
    );
    assert_eq!(refused.error().severity, "ERROR");
    assert_eq!(client.ask(run("s", &[])).value(), "first");
    assert_eq!(
        client.ask(prepare("s", "select 'first'")).error().code,
        "42P05",
        "also for the same text"
    );
}

#[test]
fn an_unknown_name_is_refused_as_postgres_does_and_the_session_goes_on() {
    let pooler = single().start();
    let mut client = pooler.connect();
    for asked in [
        run("nobody", &[]),
        batch().describe_statement("nobody").sync(),
    ] {
        let refused = client.ask(asked);
        assert_eq!(
            (refused.shape.as_str(), refused.error().code.as_str()),
            ("EZ", "26000")
        );
        assert_eq!(refused.error().severity, "ERROR");
    }
    client.query("begin").good();
    assert_eq!(
        client.ask(run("nobody", &[])).status,
        'E',
        "in a transaction it fails the transaction"
    );
    assert_eq!(client.query("select 1").error().code, "25P02");
    client.query("rollback").good();
    assert_eq!(client.value("select 'goes on'"), "goes on");
}

#[test]
fn a_parse_that_failed_leaves_its_name_free() {
    let mut shuttle = Shuttle::new(config());
    let mut client = shuttle.pooler.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(prepare("s", "selec 1")).error().code, "42601");
        assert_eq!(client.ask(run("s", &[])).error().code, "26000");
        shuttle.switch();
    }
    client.ask(prepare("s", "select 'good'")).good();
    assert_eq!(client.ask(run("s", &[])).value(), "good");
}

#[test]
fn a_parse_behind_an_error_never_happened() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let swallowed = client.ask(batch().parse("", "selec").parse("s", "select 1").sync());
    assert_eq!(swallowed.shape, "EZ");
    assert_eq!(client.ask(run("s", &[])).error().code, "26000");
    client.ask(prepare("s", "select 'now'")).good();
    assert_eq!(client.ask(run("s", &[])).value(), "now");
}

#[test]
fn a_close_behind_an_error_never_happened() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.ask(prepare("s", "select 'still here'")).good();
    assert_eq!(
        client
            .ask(batch().parse("", "selec").close_statement("s").sync())
            .shape,
        "EZ"
    );
    assert_eq!(client.ask(run("s", &[])).value(), "still here");
}

#[test]
fn deallocate_all_and_discard_all_forget_the_clients_names_also_amid_a_pipeline() {
    for all in ["deallocate all", "discard all"] {
        let pooler = single().start();
        let (mut client, mut other) = (pooler.connect(), pooler.connect());
        client.ask(prepare("s", "select 's'")).good();
        other.ask(prepare("s", "select 's'")).good();
        client.query(all).good();
        assert_eq!(client.ask(run("s", &[])).error().code, "26000", "{all}");
        assert_eq!(
            other.ask(run("s", &[])).value(),
            "s",
            "{all} of another client"
        );

        client.ask(prepare("s", "select 's'")).good();
        client.send(
            batch()
                .parse("", all)
                .run("", &[])
                .sync()
                .run("s", &[])
                .sync(),
        );
        client.send(batch().parse("s", "select 'anew'").run("s", &[]).sync());
        client.until_ready().good();
        assert_eq!(
            client.until_ready().error().code,
            "26000",
            "{all} in a pipeline"
        );
        assert_eq!(client.until_ready().value(), "anew", "{all} in a pipeline");
    }
}

#[test]
fn after_a_change_of_type_a_client_that_prepares_again_succeeds() {
    let table = "changes_type";
    let pooler = single().app_is(&postgres().database()).start();
    let (mut client, mut other) = (pooler.connect(), pooler.connect());
    client
        .query(&format!("create table {table} as select 1 as a"))
        .good();
    let sql = format!("select * from {table}");
    for client in [&mut client, &mut other] {
        client.ask(prepare("s", &sql)).good();
        assert_eq!(client.ask(run("s", &[])).value(), "1");
    }
    client
        .query(&format!("alter table {table} add column b text"))
        .good();

    let stale = client.ask(run("s", &[]));
    assert_eq!(stale.error().code, "0A000");
    assert!(
        stale
            .error()
            .says("cached plan must not change result type")
    );
    client
        .ask(batch().close_statement("s").parse("s", &sql).sync())
        .good();
    assert_eq!(
        client.ask(run("s", &[])).good().rows[0].len(),
        2,
        "prepared again under its name"
    );
    client.ask(prepare("t", &sql)).good();
    assert_eq!(
        client.ask(run("t", &[])).good().rows[0].len(),
        2,
        "prepared again under another"
    );

    if !other.ask(run("s", &[])).errors.is_empty() {
        other
            .ask(batch().close_statement("s").parse("s", &sql).sync())
            .good();
        assert_eq!(other.ask(run("s", &[])).good().rows[0].len(), 2);
    }
}

#[test]
fn parse_bind_and_execute_come_in_one_batch_again_and_again() {
    let mut shuttle = Shuttle::new(config().pooler("max_prepared_statements", 3));
    let mut client = shuttle.pooler.connect();
    for round in 0..60 {
        let name = format!("s{round}");
        let text = format!("select $1::text || '{}'", round % 7);
        let asked = batch()
            .parse(&name, &text)
            .describe_statement(&name)
            .run(&name, &["no. "])
            .sync();
        let reply = client.ask(asked);
        assert_eq!(
            (reply.shape.as_str(), reply.value()),
            ("1tT2DCZ", format!("no. {}", round % 7))
        );
        if round % 10 == 0 {
            shuttle.switch();
        }
    }
}

#[test]
fn the_unnamed_statement_is_nobodys_but_the_clients() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.query("begin").good();
    one.ask(prepare("", "select 'one'")).good();
    assert_eq!(one.ask(run("", &[])).value(), "one");
    one.query("commit").good();
    assert_eq!(
        other
            .ask(batch().parse("", "select 'other'").run("", &[]).sync())
            .value(),
        "other"
    );
}

#[test]
fn names_may_be_long_and_hold_any_byte() {
    let pooler = single().start();
    let mut client = pooler.connect();
    // Postgres itself tells names apart by their first 63 bytes.
    let (long, longer) = (
        format!("a{}", "n".repeat(10_000)),
        format!("b{}", "n".repeat(20_000)),
    );
    let names = [
        &long,
        &longer,
        "with \"quotes\" and 'more'",
        "ünï💡",
        "POOLER_1",
        "PGBOUNCER_1",
        "S_1",
    ];
    for (number, name) in names.iter().enumerate() {
        client
            .ask(prepare(name, &format!("select {number}")))
            .good();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(client.ask(run(name, &[])).value(), number.to_string());
    }
}

#[test]
fn without_tracking_names_pass_as_they_are() {
    let pooler = single().pooler("max_prepared_statements", 0).start();
    let mut client = pooler.connect();
    client.query("begin").good();
    client.ask(prepare("as_is", "select 1")).good();
    assert_eq!(
        client.value("select name from pg_prepared_statements where name = 'as_is'"),
        "as_is"
    );
    client.query("rollback").good();
}

#[test]
fn in_session_mode_prepared_statements_are_the_servers_own() {
    let pooler = single().pooler("pool_mode", "session").start();
    let mut client = pooler.connect();
    client.ask(prepare("s", "select 'mine'")).good();
    assert_eq!(client.ask(run("s", &[])).value(), "mine");
    client.query("deallocate s").good();
    assert_eq!(client.ask(run("s", &[])).error().code, "26000");
}

#[tokio::test]
async fn a_driver_with_cached_statements_never_notices() {
    let pooler = config().database("app", "pool_size", 3).start();
    let dsn = format!(
        "host=127.0.0.1 port={} user=app dbname=app password=app",
        pooler.port
    );
    let mut sessions = tokio::task::JoinSet::new();
    for who in 0..12_i32 {
        let dsn = dsn.clone();
        sessions.spawn(async move {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            let own = client
                .prepare(&format!("select $1::int4 + {who}"))
                .await
                .unwrap();
            let shared = client.prepare("select $1::text").await.unwrap();
            for round in 0..30_i32 {
                assert_eq!(
                    client
                        .query_one(&own, &[&round])
                        .await
                        .unwrap()
                        .get::<_, i32>(0),
                    round + who
                );
                let marker = format!("{who}/{round}");
                assert_eq!(
                    client
                        .query_one(&shared, &[&marker])
                        .await
                        .unwrap()
                        .get::<_, String>(0),
                    marker
                );
            }
        });
    }
    sessions.join_all().await;
}

#[test]
fn deallocate_takes_a_statement_of_the_protocol_from_its_client_and_from_nobody_else() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    for client in [&mut one, &mut other] {
        client.ask(prepare("S 1", "select 'shared'")).good();
        assert_eq!(client.ask(run("S 1", &[])).value(), "shared");
    }
    assert_eq!(one.query("deallocate \"S 1\"").tags, ["DEALLOCATE"]);
    assert_eq!(one.ask(run("S 1", &[])).error().code, "26000");
    assert_eq!(one.query("deallocate \"S 1\"").error().code, "26000");
    one.ask(prepare("S 1", "select 'again'")).good();
    assert_eq!(one.ask(run("S 1", &[])).value(), "again");
    assert_eq!(other.ask(run("S 1", &[])).value(), "shared");
}

#[test]
fn a_deallocate_that_fails_takes_nothing() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.ask(prepare("s", "select 'kept'")).good();
    client.query("begin");
    client.query("select 1/0");
    assert_eq!(client.query("deallocate s").error().code, "25P02");
    client.query("rollback").good();
    assert_eq!(client.ask(run("s", &[])).value(), "kept");
}

#[test]
fn an_error_about_a_statement_tells_the_clients_name_for_it() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.ask(prepare("mine", "select $1::int")).good();
    let reply = client.ask(run("mine", &["1", "2"]));
    assert!(reply.error().says("\"mine\" requires 1"), "{reply:?}");
    let reply = client.ask(run("", &[]));
    assert!(
        reply
            .error()
            .says("unnamed prepared statement does not exist"),
        "{reply:?}"
    );
}
