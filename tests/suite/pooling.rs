//! Who gets which server, for how long, and who waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE, batch};

/// One server for everybody.
fn single() -> Config {
    config().database("app", "pool_size", 1)
}

/// Two idle servers in the pool.
fn with_two_idle(pooler: &Pooler) -> Client {
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.query("begin").good();
    other.query("begin").good();
    one.query("commit").good();
    other.query("commit").good();
    other
}

#[test]
fn in_transaction_mode_clients_share_one_server() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    let server = one.server();
    for _ in 0..5 {
        assert_eq!(other.server(), server);
        assert_eq!(one.server(), server);
    }
}

#[test]
fn a_transaction_keeps_its_server_to_the_end() {
    let pooler = config().database("app", "pool_size", 2).start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.query("begin").good();
    let server = one.server();
    for _ in 0..5 {
        assert_ne!(other.server(), server);
        assert_eq!(one.server(), server);
    }
    assert_eq!(one.query("select 1/0").status, 'E');
    assert_ne!(other.server(), server, "a failed transaction is still one");
    assert_eq!(one.query("rollback").status, 'I');
}

#[test]
fn who_finds_no_server_waits_for_one() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.query("begin").good();
    other.send(batch().query("select 'served at last'"));
    pooler.pool_shows("cl_waiting", 1);
    one.query("commit").good();
    assert_eq!(other.until_ready().value(), "served at last");
    pooler.pool_shows("cl_waiting", 0);
}

#[test]
fn in_session_mode_a_client_keeps_its_server_and_leaves_it_clean() {
    let pooler = single().pooler("pool_mode", "session").start();
    let mut one = pooler.connect();
    let server = one.server();
    one.query("set work_mem = '111kB'").good();
    one.query("create temporary table mine (id int)").good();
    one.query("prepare mine as select 1").good();

    let mut third = pooler.connect();
    third.send(batch().query("select pg_backend_pid()"));
    pooler.pool_shows("cl_waiting", 1);
    assert_eq!(
        (one.server(), one.value("show work_mem")),
        (server.clone(), "111kB".into())
    );
    one.send(batch().terminate());
    assert_eq!(third.until_ready().value(), server, "the same server");
    assert_ne!(third.value("show work_mem"), "111kB");
    assert_eq!(third.query("select * from mine").error().code, "42P01");
    assert_eq!(third.query("execute mine").error().code, "26000");
}

#[test]
fn in_statement_mode_a_transaction_block_is_refused() {
    let pooler = single().pooler("pool_mode", "statement").start();
    let mut client = pooler.connect();
    assert_eq!(
        client.query("begin; select 1; commit").good().status,
        'I',
        "it is over when the query is"
    );
    client.send(batch().query("begin"));
    assert!(
        client
            .ended()
            .says("transaction blocks not allowed in statement pooling mode")
    );
    pooler.serves();
}

#[test]
fn database_and_user_choose_their_pool_mode_and_the_user_has_the_last_word() {
    let pooler = single()
        .server("sessions", postgres().server(), "app")
        .database("sessions", "pool_size", 2)
        .database("sessions", "pool_mode", "session")
        .user("other", "password", "other")
        .user("other", "pool_mode", "transaction")
        .start();
    let shares = |database: &str, user: &str| {
        let login = pooler.login().database(database).user(user).password(user);
        let (mut one, mut other) = (login.connect(), login.connect());
        one.server() == other.server()
    };
    assert!(shares("app", "app"), "transaction, by default");
    assert!(!shares("sessions", "app"), "session, by the database");
    assert!(shares("sessions", "other"), "transaction, by the user");
}

#[test]
fn every_user_of_a_database_has_a_pool_of_its_own() {
    let pooler = single().user("other", "password", "other").start();
    let mut app = pooler.connect();
    let mut other = pooler.login().user("other").password("other").connect();
    assert_ne!(app.server(), other.server());
    assert_eq!(
        (
            app.value("select current_user"),
            other.value("select current_user")
        ),
        ("app".into(), "other".into())
    );
}

#[test]
fn a_forced_user_is_whom_the_server_sees() {
    let pooler = single()
        .database("app", "user", "other")
        .user("stats", "password", "stats")
        .start();
    let mut app = pooler.connect();
    assert_eq!(app.value("select current_user"), "other");
    let mut stats = pooler.login().user("stats").password("stats").connect();
    assert_eq!(stats.server(), app.server(), "one pool for all who log in");
    assert_eq!(
        pooler
            .show("SHOW POOLS")
            .row_where("database", "app")
            .unwrap()["user"],
        "other"
    );
}

#[test]
fn the_fallback_database_stands_for_every_name() {
    let database = postgres().database();
    let pooler = config()
        .server("*", postgres().server(), "x")
        .without_key("databases.\"*\"", "dbname")
        .start();
    let mut client = pooler.login().database(&database).connect();
    assert_eq!(client.value("select current_database()"), database);
}

#[test]
fn postgres_never_sees_more_servers_than_pool_size() {
    let database = postgres().database();
    let pooler = config()
        .app_is(&database)
        .database("app", "pool_size", 5)
        .start();
    let over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let sql = format!("select count(*) from pg_stat_activity where datname = '{database}'");
            let mut watch = postgres().watch("postgres");
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(watch.value(&sql).parse::<usize>().unwrap());
            }
            most
        });
        let clients: Vec<_> = (0..50)
            .map(|who| {
                let pooler = &pooler;
                scope.spawn(move || {
                    for round in 0..10 {
                        let mut client = pooler.connect();
                        for step in 0..3 {
                            let marker = format!("{who}/{round}/{step}");
                            assert_eq!(
                                client.value(&format!("select '{marker}' from pg_sleep(0.001)")),
                                marker
                            );
                        }
                        if who % 5 == 0 {
                            client.query("begin").good(); // and leaves in the middle of it
                        }
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
        watching.join().unwrap()
    });
    // A server that is closed is no more ours, but lives a moment longer; only a client that leaves mid-transaction does that.
    assert!(
        (5..=5 + 2).contains(&most),
        "{most} servers at once for a pool of 5"
    );
    eventually(PATIENCE, "no more than five", || {
        postgres().count(&database) <= 5
    });
}

#[test]
fn the_line_is_first_come_first_served() {
    let database = postgres().database();
    let pooler = single().app_is(&database).pooler("threads", 1).start();
    let mut holder = pooler.connect();
    holder
        .query("create table line (id serial, who int)")
        .good();
    let mut waiting: Vec<_> = (0..8).map(|_| pooler.connect()).collect();
    holder.query("begin").good();
    for (who, client) in waiting.iter_mut().enumerate() {
        client.send(batch().query(&format!("insert into line (who) values ({who})")));
        pooler.pool_shows("cl_waiting", i64::try_from(who).unwrap() + 1);
    }
    holder.query("commit").good();
    for client in &mut waiting {
        client.until_ready().good();
    }
    assert_eq!(
        holder.value("select string_agg(who::text, '' order by id) from line"),
        "01234567"
    );
}

#[test]
fn who_leaves_the_line_leaves_no_hole() {
    let pooler = single().start();
    let mut holder = pooler.connect();
    let (mut leaving, mut staying) = (pooler.connect(), pooler.connect());
    holder.query("begin").good();
    leaving.send(batch().query("select 'nobody reads this'"));
    pooler.pool_shows("cl_waiting", 1);
    staying.send(batch().query("select 'stayed'"));
    pooler.pool_shows("cl_waiting", 2);
    leaving.wire.vanish();
    holder.query("commit").good();
    assert_eq!(staying.until_ready().value(), "stayed");
}

#[test]
fn min_pool_size_keeps_servers_ready() {
    let database = postgres().database();
    let pooler = config()
        .app_is(&database)
        .database("app", "min_pool_size", 3)
        .start();
    let _client = pooler.connect();
    eventually(PATIENCE, "three servers for one client", || {
        postgres().count(&database) == 3
    });
}

#[test]
fn the_reserve_serves_who_waited_too_long() {
    let database = postgres().database();
    let pooler = single()
        .app_is(&database)
        .database("app", "reserve_pool_size", 1)
        .pooler("reserve_pool_timeout", "200ms")
        .pooler("query_wait_timeout", "2s")
        .start();
    let (mut one, mut other, mut third) = (pooler.connect(), pooler.connect(), pooler.connect());
    one.query("begin").good();
    other.query("begin").good();
    assert_eq!(postgres().count(&database), 2);
    third.send(batch().query("select 1"));
    assert!(
        third.ended().says("query_wait_timeout"),
        "the reserve has an end too"
    );
    assert_eq!(postgres().count(&database), 2);
}

#[test]
fn max_db_connections_holds_over_all_pools_of_a_database() {
    let database = postgres().database();
    let pooler = config()
        .app_is(&database)
        .database("app", "max_db_connections", 2)
        .user("other", "password", "other")
        .start();
    let other = pooler.login().user("other").password("other");
    let mut last = with_two_idle(&pooler);
    assert_eq!(postgres().count(&database), 2);

    let mut stranger = other.connect();
    stranger.query("begin").good();
    assert_eq!(
        postgres().count(&database),
        2,
        "an idle server of another pool made room"
    );

    last.query("begin").good();
    let mut late = other.connect();
    late.send(batch().query("select 'late'"));
    let mut console = pooler.console();
    eventually(PATIENCE, "a client waits", || {
        console
            .query("SHOW POOLS")
            .row_where("cl_waiting", "1")
            .is_some()
    });
    assert_eq!(postgres().count(&database), 2);
    stranger.query("commit").good();
    assert_eq!(late.until_ready().value(), "late");
}

#[test]
fn max_user_connections_holds_over_all_databases_of_a_user() {
    let (first, second) = (postgres().database(), postgres().database());
    let pooler = config()
        .server("first", postgres().server(), &first)
        .server("second", postgres().server(), &second)
        .user("app", "max_user_connections", 1)
        .start();
    let mut one = pooler.login().database("first").connect();
    one.query("begin").good();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            pooler
                .login()
                .database("second")
                .connect()
                .value("select current_database()")
        });
        let mut console = pooler.console();
        eventually(PATIENCE, "the other pool", || {
            console
                .query("SHOW POOLS")
                .row_where("database", "second")
                .is_some()
        });
        assert_eq!(
            (postgres().count(&first), postgres().count(&second)),
            (1, 0)
        );
        one.query("commit").good();
        assert_eq!(other.join().unwrap(), second);
    });
    assert_eq!(postgres().count(&first) + postgres().count(&second), 1);
}

#[test]
fn a_server_past_its_lifetime_is_replaced_but_not_under_a_transaction() {
    let database = postgres().database();
    let pooler = single()
        .app_is(&database)
        .pooler("server_lifetime", "500ms")
        .start();
    let mut client = pooler.connect();
    client.query("begin").good();
    let first = client.server();
    assert_eq!(client.value("select 'slept' from pg_sleep(0.8)"), "slept");
    assert_eq!(client.server(), first);
    client.query("commit").good();
    eventually(PATIENCE, "another server", || client.server() != first);
    eventually(PATIENCE, "no more than one", || {
        postgres().count(&database) <= 1
    });
}

#[test]
fn an_idle_server_is_closed_in_time() {
    let database = postgres().database();
    let pooler = config()
        .app_is(&database)
        .pooler("server_idle_timeout", "300ms")
        .start();
    let mut client = with_two_idle(&pooler);
    eventually(PATIENCE, "no server is left", || {
        postgres().count(&database) == 0
    });
    assert_eq!(client.value("select 'again'"), "again");
}

#[test]
fn the_server_used_last_is_used_next_unless_round_robin_is_asked_for() {
    let different = |round_robin: bool| {
        let pooler = config()
            .pooler("threads", 1)
            .pooler("server_round_robin", round_robin)
            .start();
        let mut client = with_two_idle(&pooler);
        let servers: Vec<_> = (0..6).map(|_| client.server()).collect();
        servers.windows(2).filter(|pair| pair[0] != pair[1]).count()
    };
    assert_eq!((different(false), different(true)), (0, 5));
}

#[test]
fn a_server_that_died_while_idle_is_never_lent() {
    let pooler = single().start();
    let mut client = pooler.connect();
    for _ in 0..5 {
        let first = client.server();
        postgres().terminate(&first);
        assert_ne!(client.server(), first, "the client does not notice");
    }
}

#[test]
fn a_server_is_checked_before_it_is_lent() {
    let database = postgres().database();
    postgres().watch(&database).query("create table looks (id serial); grant all on all tables in schema public to app; grant all on all sequences in schema public to app").good();
    let pooler = single()
        .app_is(&database)
        .pooler("server_check_query", "insert into looks default values")
        .pooler("server_check_delay", 0)
        .start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    client.query("select 1").good();
    client.query("select 1").good();
    let looks: i32 = postgres()
        .watch(&database)
        .value("select count(*) from looks")
        .parse()
        .unwrap();
    assert!(looks >= 2, "{looks} looks");
}

#[test]
fn the_transaction_of_a_client_that_vanishes_is_rolled_back() {
    let database = postgres().database();
    let pooler = single().app_is(&database).start();
    let mut client = pooler.connect();
    client.query("create table t (id int)").good();
    client.query("begin").good();
    client.query("insert into t values (1)").good();
    let server = client.server();
    client.wire.vanish();

    let mut next = pooler.connect();
    assert_ne!(next.server(), server, "a server in doubt is not lent");
    assert_eq!(next.value("select count(*) from t"), "0");
}

#[test]
fn a_client_that_leaves_between_transactions_leaves_its_server() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let server = client.server();
    client.wire.vanish();
    assert_eq!(pooler.connect().server(), server);
}

#[test]
fn a_server_that_nobody_answers_for_is_reported_soon() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pooler = config().database("app", "port", nobody).start();
    let fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(
        (fault.severity.as_str(), &fault.code[..2]),
        ("FATAL", "08"),
        "{fault:?}"
    );
}

#[test]
fn a_login_that_the_server_refuses_is_told_in_the_servers_words() {
    let pooler = config().database("app", "dbname", "not_there").start();
    let fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(fault.code, "3D000");
    assert!(
        fault.says("database \"not_there\" does not exist"),
        "{fault:?}"
    );
}

#[test]
fn a_database_nobody_has_heard_of_is_refused_by_its_name() {
    let pooler = config().start();
    let fault = pooler.login().database("nowhere").refused();
    assert_eq!(
        (fault.severity.as_str(), fault.code.as_str()),
        ("FATAL", "3D000")
    );
    assert!(fault.says("nowhere"), "{fault:?}");
}
