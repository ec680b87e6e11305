//! What the console tells of replicas and of where reads go.

use super::late::on_replica;
use super::{LONG, beside, scene, split, start};
use crate::support::eventually;
use crate::support::pooler::config;
use crate::support::postgres::postgres;
use crate::support::wire::{Reply, batch};

/// The names of the columns of `SHOW what`.
fn columns(pooler: &crate::support::pooler::Pooler, what: &str) -> Vec<String> {
    let reply = pooler.show(&format!("SHOW {what}"));
    reply.columns.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn nodes_lag_and_routing_have_these_columns_and_a_row_for_each_bound() {
    let scene = scene();
    let config = beside(split(&scene), "wide").database("wide", "max_lag", "60s");
    let pooler = start(&config);
    assert_eq!(
        columns(&pooler, "NODES"),
        [
            "cluster",
            "node",
            "zone",
            "weight",
            "role",
            "timeline",
            "lsn",
            "lag_ms",
            "lag_bytes",
            "readable",
            "why",
            "heard_ms_ago",
            "probe_us",
            "trouble"
        ]
    );
    assert_eq!(
        columns(&pooler, "LAG"),
        [
            "cluster",
            "node",
            "lag_ms",
            "lag_bytes",
            "measured_ms_ago",
            "max_lag_ms",
            "max_lag_bytes",
            "readable",
            "why"
        ]
    );
    assert_eq!(
        columns(&pooler, "ROUTING"),
        ["database", "went_to", "why", "requests"]
    );
    assert_eq!(
        columns(&pooler, "DECISIONS"),
        ["at", "database", "user", "intent", "went_to", "why", "text"]
    );
    let lag = pooler.show("SHOW LAG");
    assert_eq!(lag.column("max_lag_ms"), ["1000", "60000", "1000", "60000"]);
    assert_eq!(lag.column("max_lag_bytes"), ["16777216"; 4]);
    assert_eq!(lag.column("readable"), ["yes"; 4]);
}

#[test]
fn any_session_may_ask_where_a_statement_would_go_and_is_told_of_a_hint_that_is_none() {
    let pooler = config().start();
    let server = postgres().server();
    let address = format!("{}:{}", server.host, server.port);
    let mut client = pooler.connect();
    let explain = "explain route /* pooler: nonsense */ select 1";
    let extended = batch().parse("", explain).bind("", &[]);
    let extended = extended.describe_portal("").execute().sync();
    for request in [batch().query(explain), extended] {
        let rows = client.ask(request).good();
        assert_eq!(rows.column("subject"), ["intent", "hint", "route"]);
        assert_eq!(rows.column("finding"), ["read", "nonsense", &address]);
    }
    assert_eq!(client.value("select 17"), "17");
    assert_eq!(client.query("explain select route").error().code, "42703");
}

#[test]
fn a_replica_that_serves_no_reads_is_shown_with_the_reason() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let address = scene.address(1);
    let why = || {
        let nodes = pooler.show("SHOW NODES");
        nodes.row_where("node", &address).unwrap()["why"].clone()
    };
    assert_eq!(why(), "");
    // Whatever it answers takes it its time.
    let slow = format!(
        "select pg_sleep(case current_setting('port') when '{}' then 0.1 else 0 end)",
        scene.ports[1]
    );
    let mut client = pooler.connect();
    eventually(LONG, "it is left out for being slow", || {
        client.query(&slow).good();
        let why = why();
        why.starts_with("left out of the reads of app for ")
            && why.ends_with(" ms more: it is many times slower than the others")
    });
    scene.alter(1, "primary_conninfo", "");
    eventually(LONG, "it follows nobody", || {
        why().starts_with("its WAL receiver is not connected")
    });
    let explained = client.query("explain route select 1").good();
    let told = explained.row_where("why", "its WAL receiver is not connected");
    assert!(told.is_some(), "{explained:?}");
}

/// Where `explained` says that the statement goes, and why.
fn told(explained: &Reply) -> (String, String) {
    let row = explained.row_where("subject", "route").unwrap();
    (row["finding"].clone(), row["why"].clone())
}

#[test]
fn an_explanation_knows_what_keeps_a_session_or_a_text_from_replicas() {
    let scene = scene();
    scene.sql(0, "create function listed() returns int volatile language sql as 'insert into t values (1, 1) returning 1'");
    scene.catch_up();
    // The operator says so, and is wrong.
    let pooler = start(&split(&scene).set("routing", "read_functions", ["list*"]));
    let primary = scene.address(0);
    let mut client = pooler.connect();
    eventually(LONG, "a replica has refused it", || {
        client.query("select listed()").good();
        let explained = client.query("explain route select listed()").good();
        let offence = explained.row_where("subject", "offence");
        offence.is_some() && told(&explained).0 == primary
    });
    let explained = pooler.show("EXPLAIN ROUTE app AS select listed()");
    assert_eq!(told(&explained).0, primary, "{explained:?}");
    let serializable = "-c default_transaction_isolation=serializable";
    let login = pooler.login().parameter("options", serializable);
    let mut strict = login.connect();
    let explained = strict.query("explain route select 1").good();
    assert_eq!(
        told(&explained),
        (
            primary.clone(),
            "SERIALIZABLE is the session's default, and no standby takes it".to_owned()
        )
    );
    let mut avoiding = pooler.connect();
    let begin = "begin isolation level repeatable read read only";
    on_replica(&scene, &mut avoiding, begin);
    assert_eq!(avoiding.query("listen l").error().code, "40001");
    avoiding.query("rollback").good();
    let explained = avoiding.query(&format!("explain route {begin}")).good();
    let why = "a READ ONLY transaction of the session has needed the primary before";
    assert_eq!(told(&explained), (primary, why.to_owned()));
    // Each is counted for what it is.
    strict.query("select 1").good();
    avoiding.query(begin).good();
    avoiding.query("rollback").good();
    let counted = pooler.show("SHOW ROUTING");
    for why in [
        "a read, asked again of the primary",
        "SERIALIZABLE is the session's default, and no standby takes it",
        why,
    ] {
        assert!(counted.row_where("why", why).is_some(), "{counted:?}");
    }
}
