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
    ] {
        client.query("set pooler.route = 'primary'").good();
        client.query(reset).good();
        assert_eq!(client.value("show pooler.route"), "auto", "{reset}");
    }
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
    let reply = client.ask(batch().parse("s", "set pooler.route = 'primary'").sync());
    assert_eq!(reply.error().code, "0A000");
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
