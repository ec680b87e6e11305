//! One DSN for reads and writes: reads go to replicas, everything else to the primary, and nobody reads what is older than its own writes.

mod backup;
mod choice;
mod everybody;
mod faults;
mod freshness;
mod late;
mod lies;
mod lost;
mod made;
mod own;
mod promises;
mod shown;

use std::time::Duration;

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler};
use crate::support::scene::{PORT, Scene, port};
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);

/// A primary (node 0) with two replicas.
fn scene() -> Scene {
    Scene::with(&[], "id bigint, value bigint", [0, 1, 2])
}

/// A pooler that sends the reads of `app` to replicas.
fn split(scene: &Scene) -> Config {
    scene
        .config()
        .database("app", "route", "auto")
        .set("clusters.main", "readmit_after", "100ms")
}

/// The same of a database `name` beside `app`.
fn beside(config: Config, name: &str) -> Config {
    config
        .database(name, "cluster", "main")
        .database(name, "dbname", "postgres")
        .database(name, "user", "postgres")
        .database(name, "route", "auto")
}

/// How many replicas serve reads.
fn readable(pooler: &Pooler) -> usize {
    let nodes = pooler.show("SHOW NODES");
    let readable = nodes.column("readable");
    readable.iter().filter(|word| *word == "yes").count()
}

/// Starts a pooler and waits until both replicas serve reads.
fn start(config: &Config) -> Pooler {
    let pooler = config.start();
    eventually(LONG, "both replicas serve reads", || readable(&pooler) == 2);
    knows(&pooler, "app");
    pooler
}

/// Waits until the catalog of `database` is loaded.
fn knows(pooler: &Pooler, database: &str) {
    eventually(LONG, "the catalog is known", || {
        let route = pooler.show(&format!("EXPLAIN ROUTE {database} AS select 1"));
        route.column("finding")[0] == "read"
    });
}

#[test]
fn reads_go_to_replicas_and_everything_else_to_the_primary() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    let seen: Vec<String> = (0..40).map(|_| port(&mut pooler.connect())).collect();
    for replica in [1, 2] {
        assert!(
            seen.contains(&scene.ports[replica].to_string()),
            "each replica has its share: {seen:?}"
        );
    }
    assert!(seen.iter().all(|port| scene.is_replica(port)), "{seen:?}");
    // Both protocols, with and without a name.
    let reply = client
        .ask(batch().parse("", PORT).run("", &[]).sync())
        .good();
    assert!(scene.is_replica(&reply.value()));
    client.ask(batch().parse("s", PORT).sync()).good();
    for _ in 0..5 {
        let reply = client.ask(batch().run("s", &[]).sync()).good();
        assert!(scene.is_replica(&reply.value()));
    }
    // What writes, locks or is not known goes to the primary.
    client.query("insert into t values (1, 1)").good();
    client
        .ask(
            batch()
                .parse("", "insert into t values (2, 2)")
                .run("", &[])
                .sync(),
        )
        .good();
    let writes = [
        "with x as (insert into t values (3, 3) returning id) select current_setting('port') from x",
        "select current_setting('port') from t for update",
        "select current_setting('port'), pg_is_in_recovery()",
        "select 1; insert into t values (4, 4); select current_setting('port')",
    ];
    for sql in writes {
        let reply = client.query(sql).good();
        let value = reply.rows.last().unwrap()[0].clone().unwrap();
        assert!(scene.is_primary(&value), "{sql}");
    }
    // A transaction that may write stays on the primary.
    client.query("begin").good();
    assert!(scene.is_primary(&port(&mut client)));
    client.query("insert into t values (5, 5)").good();
    client.query("commit").good();
    assert_eq!(client.value("select count(*) from t"), "5");
}

#[test]
fn a_read_only_transaction_stays_on_its_replica_and_what_follows_it_does_not() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    let begin = client.query("begin read only").good();
    assert_eq!(begin.status, 'T');
    let first = port(&mut client);
    assert!(scene.is_replica(&first));
    let reply = client
        .ask(batch().parse("", PORT).run("", &[]).sync())
        .good();
    assert_eq!(reply.value(), first);
    let reply = client.query("insert into t values (1, 1)");
    assert_eq!((reply.error().code.as_str(), reply.status), ("25006", 'E'));
    client.query("rollback").good();
    // All at once: the write behind the transaction's end is not sent to the replica.
    client.send(
        batch()
            .query("begin transaction read only")
            .query(PORT)
            .query("commit")
            .query("insert into t values (2, 2)")
            .query("select count(*) from t"),
    );
    let replies: Vec<_> = (0..5).map(|_| client.until_ready().good()).collect();
    assert!(scene.is_replica(&replies[1].value()));
    assert_eq!(replies[4].value(), "1");
    // As a driver does it: BEGIN in one batch with the first statement.
    let mut client = pooler.connect();
    let begin = batch().parse("", "begin read only").run("", &[]);
    let reply = client.ask(begin.parse("", PORT).run("", &[]).sync()).good();
    assert!(scene.is_replica(&reply.value()));
    client.query("commit").good();
    for begin in [
        "begin isolation level serializable read only",
        "begin read write",
    ] {
        client.query(begin).good();
        assert!(scene.is_primary(&port(&mut client)), "{begin}");
        client.query("commit").good();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_they_go() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    for turn in 0..20 {
        let insert = format!("insert into t values ({turn}, 0)");
        client.send(
            batch()
                .query(PORT)
                .parse("", "select 17")
                .run("", &[])
                .sync()
                .query(&insert)
                .query("select max(id) from t"),
        );
        let replies: Vec<_> = (0..4).map(|_| client.until_ready().good()).collect();
        assert_eq!(replies[1].value(), "17");
        assert_eq!(replies[3].value(), turn.to_string());
    }
    // In pieces.
    let mut client = pooler.connect();
    let mut pieces = batch().parse("", PORT).run("", &[]).sync().into_bytes();
    let rest = pieces.split_off(11);
    client.send(batch().raw(&pieces));
    client.send(batch().raw(&rest));
    assert!(scene.is_replica(&client.until_ready().good().value()));
}

#[test]
fn what_a_session_has_set_holds_wherever_it_reads() {
    let scene = scene();
    scene.sql(0, "create schema other");
    scene.sql(
        0,
        "create table other.place as select 'other'::text as name",
    );
    scene.catch_up();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    client.query("set search_path = other").good();
    client.query("set application_name = 'mine'").good();
    client.query("set work_mem = '7MB'").good();
    client.query("prepare p as select 1").good();
    let mut ports = Vec::new();
    eventually(LONG, "a replica answers", || {
        let read = "select current_setting('port'), name, current_setting('application_name'), current_setting('work_mem') from place";
        let reply = client.query(read).good();
        let row: Vec<String> = reply.rows[0].iter().flatten().cloned().collect();
        assert_eq!(row[1..], ["other", "mine", "7MB"]);
        ports.push(row[0].clone());
        scene.is_replica(&row[0])
    });
    assert_eq!(client.value("execute p"), "1");
    // What lives in one server keeps the session there.
    client
        .query("create temp table mine as select 1 as id")
        .good();
    assert_eq!(client.value("select id from mine"), "1");
    assert!(scene.is_primary(&port(&mut client)));
    client.query("drop table mine").good();
    client.query("select pg_advisory_lock(1)").good();
    assert!(scene.is_primary(&port(&mut client)));
    client.query("select pg_advisory_unlock(1)").good();
    eventually(LONG, "reads leave again", || {
        let port = port(&mut client);
        scene.is_replica(&port)
    });
}

#[test]
fn a_function_is_what_the_catalog_says_and_a_text_that_a_replica_refuses_is_asked_of_the_primary() {
    let scene = scene();
    for sql in [
        "create function reads() returns text stable language sql as $$ select current_setting('port') $$",
        "create function writes() returns text volatile language sql as $$ insert into t values (1, 1); select current_setting('port') $$",
        "create view v as select writes() as port",
        "create function listed() returns text volatile language sql as $$ insert into t values (2, 2); select current_setting('port') $$",
    ] {
        scene.sql(0, sql);
    }
    scene.catch_up();
    // The operator says so, and is wrong.
    let config = split(&scene).set("routing", "read_functions", ["list*"]);
    let pooler = start(&config);
    let mut client = pooler.connect();
    eventually(LONG, "the catalog is known", || {
        let port = client.value("select reads()");
        scene.is_replica(&port)
    });
    for sql in ["select writes()", "select port from v", "table v"] {
        assert!(scene.is_primary(&client.value(sql)), "{sql}");
    }
    let unlogged = "create unlogged table fast as select 5 as id";
    client.query(unlogged).good();
    for _ in 0..3 {
        assert_eq!(client.value("select id from fast"), "5");
        let reply = client.ask(batch().parse("", "select id from fast").run("", &[]).sync());
        assert_eq!(reply.good().value(), "5");
    }
    assert_eq!(scene.sql(0, "select count(*) from t"), "3");
    for _ in 0..3 {
        assert!(scene.is_primary(&client.value("select listed()")));
        client
            .ask(batch().parse("l", "select listed()").sync())
            .good();
        let reply = client.ask(batch().run("l", &[]).sync()).good();
        assert!(scene.is_primary(&reply.value()));
        client.ask(batch().close_statement("l").sync()).good();
    }
    assert_eq!(scene.sql(0, "select count(*) from t where id = 2"), "6");
}

#[test]
fn hints_settings_and_the_operators_mode_say_where_to_go_and_it_can_be_asked_why() {
    let scene = scene();
    let config = beside(split(&scene), "seen");
    let pooler = start(&config);
    let mut client = pooler.connect();
    let hinted = client.value("/* pooler: primary */ select current_setting('port')");
    assert!(scene.is_primary(&hinted));
    let hinted = client.query("/* pooler: replica */ insert into t values (1, 1)");
    assert_eq!(
        hinted.error().code,
        "25006",
        "a hint never sends a write elsewhere"
    );
    client.query("set pooler.route = 'primary'").good();
    for _ in 0..3 {
        assert!(scene.is_primary(&port(&mut client)));
    }
    assert_eq!(client.value("show pooler.route"), "primary");
    client.query("set pooler.route = 'replica'").good();
    let refused = client.query("insert into t values (1, 1)");
    assert_eq!(refused.error().code, "25006");
    client.query("set pooler.route = 'auto'").good();
    client.query("insert into t values (1, 1)").good();
    let options = pooler
        .login()
        .parameter("options", "-c pooler.route=primary");
    assert!(scene.is_primary(&port(&mut options.connect())));

    let mut client = pooler.connect();
    let rows = client.query("explain route select * from t").good();
    assert_eq!(
        rows.column("subject"),
        ["intent", "freshness", "node", "node", "node", "route"]
    );
    assert_eq!(rows.column("finding")[0], "read");
    let places = [1, 2].map(|node| scene.address(node));
    assert!(places.contains(&rows.column("finding")[5]));
    let rows = client
        .query("EXPLAIN ROUTE insert into t values (1, 1)")
        .good();
    assert_eq!(rows.column("finding")[0], "write");
    let counted = pooler.show("SHOW ROUTING");
    let row = counted
        .row_where("why", "write goes to the primary")
        .unwrap();
    assert_eq!(
        (row["went_to"].as_str(), row["database"].as_str()),
        ("primary", "app")
    );

    pooler.reload(&config.set("routing", "mode", "observe"));
    knows(&pooler, "seen");
    let mut client = pooler.login().database("seen").connect();
    for _ in 0..5 {
        assert!(scene.is_primary(&port(&mut client)));
    }
    let counted = pooler.show("SHOW ROUTING");
    let seen = counted
        .rows
        .iter()
        .find(|row| row[0].as_deref() == Some("seen"))
        .unwrap();
    assert_eq!(
        seen[1].as_deref(),
        Some("replica"),
        "it is counted where it would have gone"
    );
    for told in [
        client.query("explain route select 1").good(),
        pooler.show("EXPLAIN ROUTE seen AS select 1"),
    ] {
        let (node, why) = (told.column("finding"), told.column("why"));
        assert_eq!(node.last(), Some(&scene.address(0)), "{why:?}");
        let why = why.last().unwrap();
        assert!(why.starts_with("mode = \"observe\""), "{why}");
    }
}

#[test]
fn a_session_that_is_pinned_is_told_so() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    client.query("select pg_advisory_lock(7)").good();
    eventually(LONG, "the session is pinned", || {
        pooler.show("SHOW PINS").rows.len() == 1
    });
    let told = client.query("explain route select 1").good();
    let why = told.column("why").pop().unwrap();
    assert_eq!(told.column("finding").last(), Some(&scene.address(0)));
    assert_eq!(why, "the session is pinned there: session advisory lock");
    let why = "the session is pinned to its server";
    let counted = || {
        let row = pooler.show("SHOW ROUTING").row_where("why", why);
        row.map(|row| (row["went_to"].clone(), row["requests"].clone()))
    };
    assert_eq!(counted(), None, "what took the lock was routed");
    assert!(scene.is_primary(&port(&mut client)));
    client.query("begin").good();
    client.query("select value from t where id = 4711").good();
    client.query("commit").good();
    let read = batch().parse("", "select value from t where id = 4712");
    client.ask(read.run("", &[]).sync()).good();
    let is = |count: &str| Some(("primary".to_owned(), count.to_owned()));
    assert_eq!(counted(), is("3"), "each transaction counts once");
    let listed = pooler.show("SHOW DECISIONS");
    let text = "select value from t where id = ?";
    let row = listed.row_where("text", text).unwrap();
    assert_eq!((row["why"].as_str(), row["intent"].as_str()), (why, "read"));
    client.query("select pg_advisory_unlock(7)").good();
    eventually(LONG, "the session is free", || {
        pooler.show("SHOW PINS").rows.is_empty()
    });
    client.query("select value from t where id = 4713").good();
    assert_eq!(counted(), is("4"), "with the unlocking");
}

#[test]
fn the_console_tells_that_a_replica_has_caught_up_with_everybodys_writes() {
    let scene = scene();
    let pooler = start(&split(&scene).database("app", "consistency", "global"));
    pooler
        .connect()
        .query("insert into t values (1, 4711)")
        .good();
    let places = [1, 2].map(|node| scene.address(node));
    eventually(LONG, "a replica is surely past the write", || {
        let told = pooler.show("EXPLAIN ROUTE app AS select 1");
        places.contains(told.column("finding").last().unwrap())
    });
}

#[test]
fn the_console_tells_where_a_statement_would_go_and_where_some_went() {
    let scene = scene();
    let pooler = start(&beside(split(&scene), "plain").database("plain", "route", "primary"));
    let mut client = pooler.connect();
    client.query("insert into t values (1, 4711)").good();
    client
        .ask(
            batch()
                .parse("s", "select value from t where id = 815")
                .run("s", &[])
                .sync(),
        )
        .good();
    let rows = pooler.show("EXPLAIN ROUTE app AS insert into t values (1, 1);");
    assert_eq!(rows.column("finding")[0], "write");
    assert_eq!(rows.column("finding").last(), Some(&scene.address(0)));
    let rows = pooler.show("explain route \"app\" app as select * from t");
    assert_eq!(rows.column("finding")[0], "read");
    let node = rows.column("finding").pop().unwrap();
    assert!(
        [1, 2].map(|node| scene.address(node)).contains(&node),
        "{node}"
    );
    let mut console = pooler.console();
    for (sql, code) in [
        ("EXPLAIN ROUTE nowhere AS select 1", "3D000"),
        ("EXPLAIN ROUTE plain AS select 1", "55000"),
        ("EXPLAIN ROUTE app select 1", "42601"),
    ] {
        assert_eq!(console.query(sql).error().code, code, "{sql}");
    }
    let listed = pooler.show("SHOW DECISIONS");
    let row = listed
        .row_where("text", "insert into t values ( ? , ? )")
        .unwrap();
    assert_eq!(
        (row["went_to"].clone(), row["intent"].as_str()),
        (scene.address(0), "write")
    );
    let row = listed
        .row_where("text", "select value from t where id = ?")
        .unwrap();
    assert_eq!(
        (row["database"].as_str(), row["intent"].as_str()),
        ("app", "read")
    );
}
