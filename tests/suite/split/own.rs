//! Settings of a session that are the pooler's own: no server hears of them.

use super::{LONG, port, scene, split, start};
use crate::support::eventually;
use crate::support::wire::{batch, code};

#[test]
fn settings_of_the_pooler_are_its_own_and_unknown_words_are_errors() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    assert_eq!(client.value("show pooler.route"), "auto");
    assert_eq!(client.value("show pooler.consistency"), "session");
    let set = client.query("set pooler.route = 'primary'").good();
    assert_eq!(
        (set.tags.as_slice(), set.status),
        (&["SET".to_owned()][..], 'I')
    );
    assert_eq!(client.value("show pooler.route"), "primary");
    let there = "select current_setting('pooler.route', true) is null";
    assert_eq!(client.value(there), "t", "no server hears of it");
    assert!(scene.is_primary(&port(&mut client)));
    for (sql, code) in [
        ("set pooler.route = 'nowhere'", "22023"),
        ("set pooler.consistency to 'most'", "22023"),
        ("set pooler.rout = 'primary'", "42704"),
        ("show pooler.rout", "42704"),
        ("reset pooler.rout", "42704"),
        ("set local pooler.route = 'primary'", "0A000"),
    ] {
        let reply = client.query(sql);
        assert_eq!(
            (reply.error().code.as_str(), reply.status),
            (code, 'I'),
            "{sql}"
        );
        assert!(!reply.error().hint.is_empty(), "{sql}");
    }
    assert_eq!(
        client.value("show pooler.route"),
        "primary",
        "nothing has changed"
    );
    for reset in [
        "reset pooler.route",
        "set pooler.route to default",
        "reset all",
        "discard all",
        // As asyncpg does it, before another user of its pool gets the connection.
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all",
    ] {
        client.query("set pooler.route = 'primary'").good();
        client.query(reset).good();
        assert_eq!(client.value("show pooler.route"), "auto", "{reset}");
    }
    client.query("set pooler.route = 'primary'").good();
    let discard = batch().parse("d", "discard all").run("d", &[]);
    client.ask(discard.sync()).good();
    assert_eq!(client.value("show pooler.route"), "auto");
    // The extended protocol knows no other way.
    let set = batch()
        .parse("", "set pooler.route = 'primary'")
        .run("", &[]);
    let reply = client.ask(set.sync()).good();
    assert_eq!(reply.tags, ["SET"]);
    assert!(scene.is_primary(&port(&mut client)));
    let shown = client.ask(batch().parse("", "show pooler.route").run("", &[]).sync());
    assert_eq!(shown.good().value(), "primary");
}

#[test]
fn they_may_have_names_and_be_asked_for_as_any_statement() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    let set = "set pooler.route = 'primary'";
    let shape = |reply: crate::support::wire::Reply| reply.good().shape;
    let prepare = |name, sql| batch().parse(name, sql).describe_statement(name).sync();
    assert_eq!(shape(client.ask(prepare("set", set))), "1tnZ");
    assert_eq!(
        shape(client.ask(prepare("show", "show pooler.route"))),
        "1tTZ"
    );
    assert_eq!(
        shape(client.ask(prepare("explain", "explain route select $1"))),
        "1tTZ"
    );
    for status in ['I', 'T'] {
        if status == 'T' {
            client.query("begin").good();
            client
                .query("select count(*) from t for update of t")
                .errors
                .clear();
            client.query("rollback").good();
            client.query("begin").good();
            client.query("insert into t values (1, 1)").good();
        }
        client.query("reset pooler.route").good();
        assert_eq!(client.ask(batch().run("show", &[]).sync()).value(), "auto");
        assert_eq!(shape(client.ask(batch().run("set", &[]).sync())), "2CZ");
        let reply = client.ask(batch().run("show", &[]).sync()).good();
        assert_eq!((reply.value(), reply.status), ("primary".into(), status));
        let rows = client.ask(batch().run("explain", &["x"]).sync()).good();
        assert_eq!(rows.rows[0][1].as_deref(), Some("read"));
        let few = batch()
            .bind("explain", &["x"])
            .execute_portal("", 2)
            .flush();
        client.send(few);
        assert_eq!(client.until(b's').shape, "2DDs");
        let rest = client.ask(batch().execute_portal("", 0).sync()).good();
        assert_eq!(rest.rows.len() + 2, rows.rows.len());
    }
    client.query("rollback").good();
    // Mistakes.
    for (request, code) in [
        (batch().parse("set", set).sync(), "42P05"),
        (batch().parse("set", "select 1").sync(), "42P05"),
        (
            batch()
                .parse("", "set pooler.rout = 'x'")
                .run("", &[])
                .sync(),
            "42704",
        ),
        (batch().run("nothing", &[]).sync(), "26000"),
    ] {
        let reply = client.ask(request);
        assert_eq!((reply.error().code.as_str(), reply.status), (code, 'I'));
    }
    // In front of others, and not behind them: no server ever runs it.
    let before = batch().run("set", &[]).parse("", "select 17").run("", &[]);
    assert_eq!(client.ask(before.sync()).good().value(), "17");
    client.query("set pooler.route = 'auto'").good();
    for own in [batch().run("set", &[]), batch().describe_statement("set")] {
        let behind = batch().parse("", "select 17").run("", &[]);
        let reply = client.ask(behind.raw(&own.into_bytes()).sync());
        assert_eq!(reply.error().code, "0A000");
    }
    assert_eq!(client.value("show pooler.route"), "auto");
    client.query("begin").good();
    client.query("select nothing").errors.clear();
    let failed = client.ask(batch().run("set", &[]).sync());
    assert_eq!(
        (failed.error().code.as_str(), failed.status),
        ("25P02", 'E')
    );
    client.query("rollback").good();
    let unset = "select current_setting('pooler.route', true) is null";
    for place in ["primary", "replica"] {
        let hinted = format!("/* pooler: {place} */ {unset}");
        assert_eq!(client.value(&hinted), "t", "no server hears of it");
    }
    // Closed, or thrown away with all others.
    client.ask(batch().close_statement("set").sync()).good();
    assert_eq!(
        client.ask(batch().run("set", &[]).sync()).error().code,
        "26000"
    );
    client.query("discard all").good();
    assert_eq!(
        client.ask(batch().run("show", &[]).sync()).error().code,
        "26000"
    );
}

#[test]
fn they_may_come_in_pieces_of_any_size() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let bytes = batch()
        .parse("p", "set pooler.consistency = 'none'")
        .run("p", &[])
        .parse("", "show pooler.consistency")
        .run("", &[])
        .sync()
        .query("select 18")
        .into_bytes();
    for cut in (1..bytes.len()).step_by(7) {
        let mut client = pooler.connect();
        client.send(batch().raw(&bytes[..cut]));
        client.send(batch().raw(&bytes[cut..]));
        assert_eq!(client.until_ready().good().value(), "none", "cut at {cut}");
        assert_eq!(client.until_ready().good().value(), "18", "cut at {cut}");
    }
}

#[test]
fn within_a_transaction_they_are_answered_and_hold_from_the_next_one_on() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    client.query("begin").good();
    client.query("insert into t values (1, 1)").good();
    let set = client.query("set pooler.route = 'replica'").good();
    assert_eq!(
        (set.tags.as_slice(), set.status),
        (&["SET".to_owned()][..], 'T')
    );
    assert!(
        scene.is_primary(&port(&mut client)),
        "where the transaction is"
    );
    let reply = client.query("set pooler.route = 'nowhere'");
    assert_eq!((reply.error().code.as_str(), reply.status), ("22023", 'T'));
    client.query("rollback").good();
    assert_eq!(
        client.value("show pooler.route"),
        "replica",
        "it is not undone"
    );
    eventually(LONG, "a replica has what it wrote", || {
        let port = port(&mut client);
        scene.is_replica(&port)
    });
    client.query("set pooler.route = 'auto'").good();
    // What cannot be answered alone is refused, never forwarded and forgotten.
    for sql in [
        "set pooler.route = 'primary'; select 1",
        "select set_config('pooler.route', 'primary', false)",
    ] {
        let reply = client.query(sql);
        assert_eq!(reply.error().code, "0A000", "{sql}");
    }
    assert_eq!(client.value("show pooler.route"), "auto");
    // In the startup packet.
    let login = |options| pooler.login().parameter("options", options);
    let mut client = login("-c pooler.route=primary").connect();
    assert_eq!(client.value("show pooler.route"), "primary");
    client.query("set pooler.route = 'auto'").good();
    client.query("reset pooler.route").good();
    assert_eq!(client.value("show pooler.route"), "primary", "as it began");
    assert_eq!(code(&login("-c pooler.route=nowhere")), Err("22023".into()));
}
