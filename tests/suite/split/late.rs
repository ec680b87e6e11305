//! Transactions whose node is chosen by their first statement, and which may move from a replica to the primary.

use super::{LONG, PORT, beside, port, scene, split, start};
use crate::support::pooler::{Config, Pooler};
use crate::support::scene::Scene;
use crate::support::wire::{Address, Client, Fault, Login, Reply, batch};
use crate::support::{eventually, long};

pub(super) fn late(scene: &Scene) -> Config {
    split(scene).database("app", "transactions", "late")
}

fn said(reply: &Reply) -> (&[String], char) {
    assert!(reply.errors.is_empty(), "{:?}", reply.errors);
    (&reply.tags, reply.status)
}

/// Begins a transaction and reads in it, until that is on a replica.
pub(super) fn on_replica(scene: &Scene, client: &mut Client, begin: &str) -> String {
    let mut found = String::new();
    eventually(LONG, "a replica serves it", || {
        assert_eq!(client.query(begin).good().status, 'T');
        found = port(client);
        let is_there = scene.is_replica(&found);
        if !is_there {
            client.query("rollback").good();
        }
        is_there
    });
    found
}

#[test]
fn a_transaction_begins_with_its_first_statement_and_moves_to_the_primary_at_its_first_write() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    let begin = client.query("begin").good();
    assert_eq!(said(&begin), (&["BEGIN".to_owned()][..], 'T'));
    let first = port(&mut client);
    assert!(scene.is_replica(&first));
    assert_eq!(port(&mut client), first, "it stays there");
    let insert = client.query("insert into t values (1, 1)").good();
    assert_eq!(insert.status, 'T');
    assert!(scene.is_primary(&port(&mut client)));
    assert_eq!(client.value("select count(*) from t"), "1");
    client.query("rollback").good();
    assert_eq!(
        scene.sql(0, "select count(*) from t"),
        "0",
        "all of it is undone"
    );
    // Nothing but reads: it ends where it was.
    on_replica(&scene, &mut client, "start transaction");
    let commit = client.query("commit").good();
    assert_eq!(said(&commit), (&["COMMIT".to_owned()][..], 'I'));
    // A write first: on the primary from the start, and committed.
    client.query("begin read write").good();
    client.query("insert into t values (2, 2)").good();
    client.query("commit").good();
    assert_eq!(
        client.value("select id from t"),
        "2",
        "it reads what it wrote"
    );
    let wrong = "select 1 from pg_stat_activity where state like 'idle in transaction%'";
    for node in 0..3 {
        eventually(LONG, "no transaction is left open", || {
            scene.sql(node, wrong).is_empty()
        });
    }
}

#[test]
fn a_transaction_of_nothing_needs_no_server_and_is_answered_as_postgresql_does() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    for (begin, tag) in [
        ("begin", "BEGIN"),
        ("START TRANSACTION", "START TRANSACTION"),
        ("/* x */ start transaction read only", "START TRANSACTION"),
    ] {
        for (end, ended) in [
            ("commit", "COMMIT"),
            ("END", "COMMIT"),
            ("rollback", "ROLLBACK"),
            ("abort work", "ROLLBACK"),
        ] {
            let reply = client.query(begin).good();
            assert_eq!(said(&reply), (&[tag.to_owned()][..], 'T'));
            let reply = client.query(end).good();
            assert_eq!(said(&reply), (&[ended.to_owned()][..], 'I'), "{end}");
        }
    }
    let lone = |sql| batch().parse("", sql).run("", &[]).sync();
    let reply = client.ask(lone("begin")).good();
    assert_eq!(said(&reply), (&["BEGIN".to_owned()][..], 'T'));
    let reply = client.ask(lone("commit")).good();
    assert_eq!(said(&reply), (&["COMMIT".to_owned()][..], 'I'));
    // Its warnings are PostgreSQL's own.
    client.query("begin").good();
    let again = client.query("begin").good();
    assert_eq!(
        (again.notices[0].code.as_str(), again.status),
        ("25001", 'T')
    );
    client.query("commit").good();
    let none = client.query("commit").good();
    assert_eq!((none.notices[0].code.as_str(), none.status), ("25P01", 'I'));
    client.query("begin").good();
    let chained = client.query("commit and chain").good();
    assert_eq!(said(&chained), (&["COMMIT".to_owned()][..], 'T'));
    client.query("rollback").good();
    // Settings of the pooler, and an explanation, know where they stand.
    client.query("begin").good();
    assert_eq!(client.query("set pooler.route = 'auto'").good().status, 'T');
    assert_eq!(client.query("explain route select 1").good().status, 'T');
    client.query("rollback").good();
}

#[test]
fn what_has_failed_in_a_transaction_has_failed_until_its_end() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    on_replica(&scene, &mut client, "begin");
    let reply = client.query("select 1/0");
    assert_eq!((reply.error().code.as_str(), reply.status), ("22012", 'E'));
    let reply = client.query("insert into t values (1, 1)");
    assert_eq!((reply.error().code.as_str(), reply.status), ("25P02", 'E'));
    let ended = client.query("commit").good();
    assert_eq!(said(&ended), (&["ROLLBACK".to_owned()][..], 'I'));
    assert_eq!(scene.sql(0, "select count(*) from t"), "0");
    // As the very first statement.
    client.query("begin").good();
    let reply = client.query("insert into nowhere values (1)");
    assert_eq!((reply.error().code.as_str(), reply.status), ("42P01", 'E'));
    assert_eq!(client.query("select 1").error().code, "25P02");
    client.query("rollback").good();
    // A mistake in a read is the primary's, too, and then the transaction's.
    client.query("begin").good();
    let reply = client.query("select nothing from t");
    assert_eq!((reply.error().code.as_str(), reply.status), ("42703", 'E'));
    client.query("rollback").good();
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn what_lives_in_a_transaction_moves_it_first_and_then_works() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    for (make, uses) in [
        ("savepoint a", "rollback to a"),
        ("declare c cursor for select 5", "fetch 1 from c"),
        ("set local work_mem = '7MB'", "show work_mem"),
        ("prepare p as select 5", "execute p"),
        ("select now()", "select now()"),
        ("select pg_advisory_xact_lock(1)", "select 1"),
        ("lock table t", "select 1"),
        ("select 1 from t for update", "select 1"),
        ("listen l", "select 1"),
    ] {
        on_replica(&scene, &mut client, "begin");
        assert_eq!(client.query(make).good().status, 'T', "{make}");
        assert_eq!(client.query(uses).good().status, 'T', "{uses}");
        assert!(scene.is_primary(&port(&mut client)), "{make}");
        client.query("rollback").good();
        client.query("deallocate all").good();
        // As the first statement.
        client.query("begin").good();
        client.query(make).good();
        client.query(uses).good();
        assert!(scene.is_primary(&port(&mut client)), "{make}");
        client.query("rollback").good();
        client.query("deallocate all").good();
    }
    // A portal that is read in portions.
    on_replica(&scene, &mut client, "begin");
    let rows = "select * from generate_series(1, 3)";
    let portion = batch()
        .parse("", rows)
        .bind_portal("p", "", &[])
        .execute_portal("p", 2);
    assert_eq!(client.ask(portion.sync()).good().rows.len(), 2);
    let rest = client.ask(batch().execute_portal("p", 2).sync()).good();
    assert_eq!(rest.rows.len(), 1);
    assert!(scene.is_primary(&port(&mut client)));
    client.query("commit").good();
    // What promises one snapshot is on the primary from the start.
    for begin in [
        "begin isolation level repeatable read",
        "begin isolation level serializable",
    ] {
        client.query(begin).good();
        assert!(scene.is_primary(&port(&mut client)), "{begin}");
        client.query("commit").good();
    }
    for set in [
        "set transaction isolation level repeatable read",
        "set transaction read only",
    ] {
        client.query("begin").good();
        client.query(set).good();
        assert!(scene.is_primary(&port(&mut client)), "{set}");
        client.query("commit").good();
    }
}

#[test]
fn pipelines_and_prepared_statements_work_in_one_transaction_on_two_nodes() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    // One Query message each, all at once.
    client.send(
        batch()
            .query("begin")
            .query(PORT)
            .query("insert into t values (1, 1)")
            .query(PORT)
            .query("commit")
            .query("insert into t values (2, 2)")
            .query("select count(*) from t"),
    );
    let replies: Vec<_> = (0..7).map(|_| client.until_ready().good()).collect();
    assert!(scene.is_replica(&replies[1].value()));
    assert!(scene.is_primary(&replies[3].value()));
    let statuses: String = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, "TTTTIII");
    assert_eq!(replies[6].value(), "2");
    // BEGIN, statements and COMMIT in one request.
    let mut client = pooler.connect();
    let whole = |sql| {
        batch()
            .parse("", "begin")
            .run("", &[])
            .parse("", sql)
            .run("", &[])
            .parse("", "commit")
            .run("", &[])
            .sync()
    };
    let reply = client.ask(whole(PORT)).good();
    assert_eq!((reply.tags.len(), reply.status), (3, 'I'));
    client.ask(whole("insert into t values (3, 3)")).good();
    assert_eq!(client.value("select count(*) from t"), "3");
    // BEGIN with the first statement in one request, as some drivers do; then a write.
    let mut client = pooler.connect();
    eventually(LONG, "a replica serves it", || {
        let first = batch().parse("", "begin").run("", &[]);
        let first = first.parse("s", PORT).run("s", &[]).sync();
        let reply = client.ask(first).good();
        assert_eq!(reply.status, 'T');
        let is_there = scene.is_replica(&reply.value());
        if !is_there {
            client.query("rollback").good();
            client.ask(batch().close_statement("s").sync()).good();
        }
        is_there
    });
    let write = batch().parse("w", "insert into t values ($1, 0)");
    client.ask(write.run("w", &["4"]).sync()).good();
    let reply = client.ask(batch().run("s", &[]).sync()).good();
    assert!(
        scene.is_primary(&reply.value()),
        "the name is known there, too"
    );
    client
        .ask(batch().parse("", "commit").run("", &[]).sync())
        .good();
    assert_eq!(scene.sql(0, "select count(*) from t"), "4");
    let reply = client.ask(batch().run("w", &["5"]).sync()).good();
    assert_eq!(reply.status, 'I');
}

#[test]
fn a_read_only_transaction_moves_where_it_may_and_says_so_where_it_may_not() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    for first in ["listen l", "notify l", "select pg_advisory_lock(1)"] {
        client.query("begin read only").good();
        client.query(first).good();
        assert!(scene.is_primary(&port(&mut client)), "{first}");
        client.query("commit").good();
        client.query("select pg_advisory_unlock_all()").good();
        on_replica(&scene, &mut client, "begin read only");
        client.query(first).good();
        assert!(scene.is_primary(&port(&mut client)), "{first}");
        client.query("commit").good();
        // Nothing ties it to a replica: it writes.
        client.query("insert into t values (1, 1)").good();
        client.query("select pg_advisory_unlock_all()").good();
    }
    // Cursors and savepoints are a replica's, too.
    on_replica(&scene, &mut client, "begin read only");
    client
        .query("declare c cursor for select current_setting('port')")
        .good();
    assert!(scene.is_replica(&client.value("fetch 1 from c")));
    client.query("savepoint a").good();
    client.query("rollback to a").good();
    let refused = client.query("insert into t values (1, 1)");
    assert_eq!(
        (refused.error().code.as_str(), refused.status),
        ("25006", 'E')
    );
    client.query("rollback").good();
    // One snapshot cannot be had on two nodes.
    let strict = "begin isolation level repeatable read read only";
    on_replica(&scene, &mut client, strict);
    let stuck = client.query("listen l");
    assert_eq!((stuck.error().code.as_str(), stuck.status), ("40001", 'E'));
    assert_eq!(client.query("select 1").error().code, "25P02");
    client.query("rollback").good();
    client.query(strict).good();
    client.query("listen l").good();
    assert!(scene.is_primary(&port(&mut client)), "the next try");
    client.query("commit").good();
}

#[test]
fn a_pin_to_a_replica_makes_no_write_fail() {
    let scene = scene();
    let pooler = start(&split(&scene));
    let mut client = pooler.connect();
    client.query("set pooler.route = 'replica'").good();
    client.query("select pg_advisory_lock(1)").good();
    let pinned = port(&mut client);
    assert!(scene.is_replica(&pinned));
    assert_eq!(
        client.query("insert into t values (1, 1)").error().code,
        "25006",
        "as asked"
    );
    client.query("set pooler.route = 'auto'").good();
    assert_eq!(
        port(&mut client),
        pinned,
        "reads stay with what ties the client"
    );
    let reply = client.query("insert into t values (1, 1)").good();
    assert_eq!(reply.notices.len(), 1, "it is told that the lock is gone");
    for node in [1, 2] {
        let locks = "select count(*) from pg_locks where locktype = 'advisory'";
        eventually(LONG, "the lock is gone", || scene.sql(node, locks) == "0");
    }
    client.query("begin").good();
    client.query("insert into t values (2, 2)").good();
    client.query("commit").good();
    assert_eq!(client.value("select count(*) from t"), "2");
}

#[test]
fn a_role_that_isolates_more_by_default_is_on_the_primary_from_the_start() {
    let scene = scene();
    let pooler: Pooler = start(
        &beside(late(&scene), "strict")
            .database("strict", "user", "strict")
            .database("strict", "transactions", "late"),
    );
    scene.sql(0, "create role strict login superuser");
    scene.sql(
        0,
        "alter role strict set default_transaction_isolation = 'repeatable read'",
    );
    scene.catch_up();
    let mut client = pooler.login().database("strict").connect();
    for _ in 0..3 {
        client.query("begin").good();
        assert!(scene.is_primary(&port(&mut client)));
        let level = "select current_setting('transaction_isolation')";
        assert_eq!(client.value(level), "repeatable read");
        client.query("commit").good();
        let first = batch().parse("", "begin").run("", &[]);
        let reply = client.ask(first.parse("", PORT).run("", &[]).sync()).good();
        assert!(scene.is_primary(&reply.value()));
        client.query("insert into t values (1, 1)").good();
        client.query("commit").good();
    }
    assert_eq!(scene.sql(0, "select count(*) from t"), "3");
}

#[test]
fn a_transaction_whose_replica_dies_goes_on_at_the_primary() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    let there = on_replica(&scene, &mut client, "begin");
    let node = scene
        .ports
        .iter()
        .position(|port| port.to_string() == there);
    let ours = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid() and state = 'idle in transaction'";
    assert_eq!(scene.sql(node.unwrap(), ours), "t");
    assert_eq!(client.query(PORT).good().status, 'T');
    let insert = client.query("insert into t values (1, 1)").good();
    assert_eq!(insert.status, 'T', "it is the same transaction");
    client.query("rollback").good();
    assert_eq!(scene.sql(0, "select count(*) from t"), "0");
}

#[test]
fn a_read_that_a_replica_refuses_moves_its_transaction() {
    let scene = scene();
    scene.sql(0, "create function listed() returns text volatile language sql as $$ insert into t values (2, 2); select current_setting('port') $$");
    scene.catch_up();
    // The operator says so, and is wrong.
    let pooler = start(&late(&scene).set("routing", "read_functions", ["list*"]));
    let mut client = pooler.connect();
    on_replica(&scene, &mut client, "begin");
    assert!(scene.is_primary(&client.value("select listed()")));
    client.query("commit").good();
    assert_eq!(scene.sql(0, "select count(*) from t"), "1", "once");
    // Of a READ ONLY one it is judged by the replica alone.
    on_replica(&scene, &mut client, "begin read only");
    let reply = client
        .query("select txid_current() > 0, current_setting('port')")
        .good();
    assert!(scene.is_primary(reply.rows[0][1].as_ref().unwrap()));
    client.query("commit").good();
}

#[test]
fn who_reads_in_transactions_sees_what_it_wrote_in_the_one_before() {
    let scene = scene();
    for node in [1, 2] {
        scene.alter(node, "recovery_min_apply_delay", "150ms");
    }
    let pooler = start(&late(&scene).set("clusters.main", "max_lag", "10s"));
    let (mut client, mut elsewhere) = (pooler.connect(), 0);
    for turn in 1..=60 {
        let count = |client: &mut Client| {
            let all = "select count(*), current_setting('port') from t";
            client.query(all).good().rows[0].clone()
        };
        client.query("begin").good();
        let row = count(&mut client);
        assert_eq!(row[0], Some((turn - 1).to_string()), "never stale");
        elsewhere += usize::from(scene.is_replica(row[1].as_ref().unwrap()));
        client.query("insert into t values (1, 1)").good();
        assert_eq!(count(&mut client)[0], Some(turn.to_string()));
        client.query("commit").good();
        if turn % 20 == 0 {
            eventually(LONG, "a replica has it", || {
                client.query("begin").good();
                let row = count(&mut client);
                client.query("commit").good();
                assert_eq!(row[0], Some(turn.to_string()), "never stale");
                scene.is_replica(row[1].as_ref().unwrap())
            });
        }
    }
    println!("{elsewhere} of 60 transactions began on a replica");
    assert!(elsewhere > 0);
}

#[test]
fn without_a_primary_a_transaction_that_was_begun_fails_and_its_session_goes_on() {
    let scene = scene();
    let config = late(&scene).set("clusters.main", "hold_timeout", "300ms");
    let pooler = start(&config);
    let mut client = pooler.connect();
    client.query("begin").good();
    scene
        .cluster()
        .stop(0, pooler::cli::cluster::Stop::Immediate)
        .unwrap();
    let reply = client.query("insert into t values (1, 1)");
    assert_eq!((reply.error().code.as_str(), reply.status), ("57P03", 'E'));
    assert_eq!(client.query("select 1").error().code, "25P02");
    let ended = client.query("commit").good();
    assert_eq!(said(&ended), (&["ROLLBACK".to_owned()][..], 'I'));
    // Reads go on.
    client.query("begin").good();
    assert_eq!(client.value("select 7"), "7");
    client.query("commit").good();
}

#[test]
fn in_observe_and_in_statement_mode_nothing_is_answered_late() {
    let scene = scene();
    let config = beside(late(&scene), "seen").database("seen", "pool_mode", "statement");
    let pooler = start(&config.set("routing", "mode", "observe"));
    let mut client = pooler.connect();
    client.query("begin").good();
    assert!(scene.is_primary(&port(&mut client)));
    client.query("commit").good();
    let mut client = pooler.login().database("seen").connect();
    let ended = client.send(batch().query("begin")).until(b'E');
    assert_eq!(ended.errors[0].code, "0A000");
}

#[test]
fn a_statement_that_begins_a_transaction_can_be_cancelled() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let mut client = pooler.connect();
    let slow = "select pg_sleep(100)";
    let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(100)' and state = 'active'";
    for set in ["select 1", "set work_mem = '7MB'"] {
        client.query(set).good();
        client.query("begin").good();
        client.send(batch().query(slow));
        eventually(LONG, "a server works on it", || {
            (0..3).any(|node| scene.sql(node, running) != "0")
        });
        client.cancel();
        let reply = client.until_ready();
        assert_eq!((reply.error().code.as_str(), reply.status), ("57014", 'E'));
        client.query("rollback").good();
    }
}

#[test]
fn who_does_nothing_in_a_transaction_that_no_server_knows_is_ended_all_the_same() {
    let scene = scene();
    let pooler = start(&late(&scene).pooler("idle_transaction_timeout", "300ms"));
    let mut client = pooler.connect();
    client.query("begin").good();
    assert_eq!(client.ended().code, "25P03");
}

/// What a client can tell of an answer.
fn told(reply: &Reply) -> String {
    let codes =
        |all: &[Fault]| -> Vec<String> { all.iter().map(|fault| fault.code.clone()).collect() };
    format!(
        "{:?} {:?} {:?} {:?} {}",
        reply.tags,
        reply.rows,
        codes(&reply.errors),
        codes(&reply.notices),
        reply.status
    )
}

/// Numbers that look like chance, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[test]
fn any_course_of_statements_is_answered_as_by_postgresql_itself() {
    const TEXTS: &[&str] = &[
        "begin",
        "begin",
        "begin read only",
        "begin isolation level repeatable read read only",
        "begin isolation level read committed read write",
        "select count(*) from own",
        "select count(*) from own",
        "select max(id) from own",
        "insert into own values (1)",
        "insert into own values (2) returning id",
        "savepoint a",
        "rollback to a",
        "release a",
        "select 1/0",
        "select nothing from own",
        "commit",
        "commit",
        "rollback",
        "commit and chain",
        "rollback; insert into own values (3); select count(*) from own",
        "commit; begin; select count(*) from own",
        "begin; insert into own values (4)",
        "select count(*) from own; commit",
        "declare c cursor for select id from own order by id",
        "fetch 2 from c",
        "set local work_mem = '1MB'",
        "show work_mem",
        "",
    ];
    let scene = scene();
    for schema in ["public", "direct"] {
        scene.sql(0, &format!("create schema if not exists {schema}"));
        scene.sql(0, &format!("create table {schema}.own (id int)"));
    }
    scene.catch_up();
    let pooler = start(&late(&scene).set("clusters.main", "probe_interval", "10ms"));
    let mut client = pooler.connect();
    let server = Login::at(Address::tcp(scene.ports[0]));
    let mut direct = server.user("postgres").database("postgres").connect();
    direct.query("set search_path = direct").good();
    let (mut dice, turns) = (Dice(7), if long() { 20_000 } else { 800 });
    let (mut status, mut course) = ('I', Vec::new());
    for turn in 0..turns {
        let mut text = || match TEXTS[dice.roll(TEXTS.len())] {
            // What the next one is like after a failed one depends on more than that one.
            "commit and chain" if status == 'E' => "select 1",
            text => text,
        };
        let (first, second) = (text(), text());
        let kind = dice.roll(6);
        let request = || match kind {
            0 => batch().parse("", first).run("", &[]).sync(),
            1 => {
                let first = batch().parse("", first).run("", &[]);
                first.parse("", second).run("", &[]).sync()
            }
            _ => batch().query(first),
        };
        if status == 'I' && first.starts_with("begin") {
            eventually(LONG, "a replica has all", || {
                let port = port(&mut client);
                scene.is_replica(&port)
            });
        }
        let (ours, theirs) = (client.ask(request()), direct.ask(request()));
        if std::mem::replace(&mut status, ours.status) == 'I' {
            course.clear();
        }
        course.push((kind, first, second));
        assert_eq!(told(&ours), told(&theirs), "turn {turn}, after {course:?}");
    }
    let routed = pooler.show("SHOW ROUTING");
    println!("{:?}", routed.rows);
    let moved = routed.row_where("why", "the transaction leaves its replica");
    assert!(moved.is_some(), "some moved");
}

#[test]
fn what_a_session_has_by_default_holds_in_whatever_case_it_was_said() {
    let scene = scene();
    let pooler = start(&late(&scene));
    let with = |options: &str| {
        let login = pooler.login().parameter("options", options);
        login.connect()
    };
    let mut strict = with("-c default_transaction_isolation=REPEATABLE\\ READ");
    for _ in 0..5 {
        strict.query("begin").good();
        assert!(scene.is_primary(&port(&mut strict)), "one snapshot");
        strict.query("insert into t values (1, 1)").good();
        assert_eq!(
            strict.value("show transaction_isolation"),
            "repeatable read"
        );
        strict.query("rollback").good();
    }
    let mut serializable = with("-c default_transaction_isolation=SERIALIZABLE");
    for _ in 0..5 {
        assert!(scene.is_primary(&port(&mut serializable)));
    }
    let counted = pooler.show("SHOW ROUTING");
    let why = counted.column("why");
    let is_refusal = |why: &String| why.contains("a replica");
    assert!(
        !why.iter().any(is_refusal),
        "nobody refused anything: {why:?}"
    );
    assert!(scene.is_replica(&port(&mut pooler.connect())));
    for on in ["ON", "y", "TRUE"] {
        let mut reader = with(&format!("-c default_transaction_read_only={on}"));
        on_replica(&scene, &mut reader, "begin");
        let refused = reader.query("insert into t values (1, 1)");
        assert_eq!(refused.error().code, "25006", "it is not moved");
    }
}
