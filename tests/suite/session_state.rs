//! What a client sets up in transaction mode goes on working for it, and nobody else ever meets it.

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, Shuttle, config};
use crate::support::postgres::postgres;
use crate::support::wire::{PATIENCE, batch};

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

/// A database of its own for a test that makes things.
fn own() -> Config {
    config().app_is(&postgres().database())
}

#[test]
fn settings_that_the_server_does_not_report_follow_their_client() {
    let mut shuttle = Shuttle::new(config());
    let (mut one, mut other) = (shuttle.pooler.connect(), shuttle.pooler.connect());
    one.query("set work_mem = '7MB'").good();
    one.query("set search_path = pg_catalog, \"odd \"\"one\"")
        .good();
    one.query("set app.tenant = 'it''s \\ one'").good();
    for _ in 0..4 {
        shuttle.switch();
        assert_eq!(other.value("show work_mem"), "4MB");
        assert_eq!(
            other.value("select coalesce(nullif(current_setting('app.tenant', true), ''), 'none')"),
            "none"
        );
        assert_eq!(one.value("show work_mem"), "7MB");
        assert_eq!(one.value("show search_path"), "pg_catalog, \"odd \"\"one\"");
        assert_eq!(one.value("show app.tenant"), "it's \\ one");
    }
    one.query("reset all").good();
    shuttle.switch();
    assert_eq!(one.value("show work_mem"), "4MB");
}

#[test]
fn only_what_was_committed_follows() {
    let mut shuttle = Shuttle::new(config());
    let mut client = shuttle.pooler.connect();
    for (texts, value) in [
        (&["begin", "set work_mem = '1MB'", "rollback"][..], "4MB"),
        (&["begin", "set local work_mem = '1MB'", "commit"], "4MB"),
        (
            &[
                "begin",
                "set work_mem = '2MB'",
                "savepoint a",
                "set work_mem = '3MB'",
                "rollback to a",
                "commit",
            ],
            "2MB",
        ),
        (&["set work_mem = '5MB'; select 1/0"], "2MB"),
        (&["begin; set work_mem = '6MB'; commit; select 1/0"], "6MB"),
        (&["select set_config('work_mem', '8MB', true)"], "6MB"),
        (&["select set_config('work_mem', '8MB', false)"], "8MB"),
        (
            &["do $$begin perform set_config('work_mem', '9MB', false); end$$"],
            "9MB",
        ),
        (
            &["update pg_settings set setting = 10240 where name = 'work_mem'"],
            "10MB",
        ),
        (
            &[
                "begin",
                "update pg_settings set setting = 11264 where name = 'work_mem'",
                "rollback",
            ],
            "10MB",
        ),
        (&["set work_mem to default"], "4MB"),
    ] {
        for text in texts {
            client.query(text);
        }
        for _ in 0..2 {
            shuttle.switch();
            assert_eq!(client.value("show work_mem"), value, "{texts:?}");
        }
    }
}

#[test]
fn a_role_follows_its_client_and_nobody_else() {
    postgres().run("grant other to app");
    let mut shuttle = Shuttle::new(config());
    let (mut one, mut other) = (shuttle.pooler.connect(), shuttle.pooler.connect());
    one.query("set role other").good();
    one.query("set work_mem = '7MB'").good();
    for _ in 0..4 {
        shuttle.switch();
        assert_eq!(
            one.value("select current_user || ' ' || session_user"),
            "other app"
        );
        assert_eq!(other.value("select current_user"), "app");
        assert_eq!(one.value("show work_mem"), "7MB");
    }
    one.query("reset role").good();
    shuttle.switch();
    assert_eq!(one.value("select current_user"), "app");
}

#[test]
fn statements_of_sql_follow_their_client_and_nobody_else() {
    let mut shuttle = Shuttle::new(config());
    let (mut one, mut other) = (shuttle.pooler.connect(), shuttle.pooler.connect());
    one.query("prepare p (int) as select 'one ' || $1").good();
    other.query("prepare p as select 'other'").good();
    for _ in 0..4 {
        shuttle.switch();
        assert_eq!(one.value("execute p(7)"), "one 7");
        assert_eq!(other.value("execute p"), "other");
        let mut stranger = shuttle.pooler.connect();
        assert_eq!(stranger.query("execute p").error().code, "26000");
    }
    one.query("deallocate p").good();
    shuttle.switch();
    assert_eq!(one.query("execute p(7)").error().code, "26000");
    assert_eq!(other.value("execute p"), "other");
}

/// Waits until so many clients keep their server.
fn pins(pooler: &Pooler, count: usize) {
    eventually(PATIENCE, &format!("{count} pins"), || {
        pooler.show("SHOW PINS").rows.len() == count
    });
}

#[test]
fn what_cannot_follow_keeps_its_server_until_it_is_gone() {
    let pooler = own().database("app", "pool_size", 2).start();
    let mut client = pooler.connect();
    for (makes, works, ends) in [
        (
            "create temp table t as select 'mine' as a",
            "select a from t",
            "drop table t",
        ),
        (
            "create table pg_temp.t as select 'mine' as a",
            "select a from pg_temp.t",
            "drop table t",
        ),
        (
            "select 'mine' as a into temporary t",
            "select a from t",
            "discard temp",
        ),
        (
            "create function pg_temp.f() returns text language sql as $$select 'mine'$$",
            "select pg_temp.f()",
            "drop function pg_temp.f()",
        ),
        (
            "select pg_advisory_lock(42)",
            "select 'mine' where exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())",
            "select pg_advisory_unlock(42)",
        ),
        (
            "begin; declare c cursor with hold for select 'mine'; commit",
            "fetch all from c",
            "close c",
        ),
    ] {
        client.query(makes).good();
        pins(&pooler, 1);
        // Whoever comes meanwhile gets the other server.
        for _ in 0..3 {
            let mut stranger = pooler.connect();
            assert!(stranger.query(works).rows.is_empty(), "{works}");
            stranger.query("begin").good();
            let server = stranger.server();
            assert_ne!(client.server(), server, "{makes}");
        }
        if !works.starts_with("fetch") {
            assert_eq!(client.value(works), "mine", "{makes}");
        }
        assert_eq!(client.value(works), "mine", "{makes}");
        client.query(ends).good();
        pins(&pooler, 0);
    }
}

#[test]
fn what_a_client_leaves_behind_goes_with_it() {
    let pooler = own().database("app", "pool_size", 1).start();
    for makes in [
        "create temp table t (a int)",
        "select pg_advisory_lock(77)",
        "begin; declare c cursor with hold for select 1; commit",
        "set work_mem = '7MB'",
        "prepare p as select 1",
        "select setseed(0.5)",
    ] {
        let mut client = pooler.connect();
        client.query(makes).good();
        drop(client);
        let mut next = pooler.connect();
        assert_eq!(
            next.value("select count(*) from pg_locks where locktype = 'advisory'"),
            "0",
            "{makes}"
        );
        assert_eq!(
            next.value("select count(*) from pg_cursors where is_holdable"),
            "0",
            "{makes}"
        );
        assert_eq!(
            next.value("select count(*) from pg_prepared_statements where from_sql"),
            "0",
            "{makes}"
        );
        assert_eq!(
            next.value("select count(*) from pg_class where relnamespace = pg_my_temp_schema()"),
            "0",
            "{makes}"
        );
        assert_eq!(next.value("show work_mem"), "4MB", "{makes}");
    }
}

#[test]
fn a_sequence_is_remembered_for_who_moved_it() {
    let pooler = own().database("app", "pool_size", 2).start();
    let mut setup = pooler.connect();
    setup.query("create sequence s").good();
    setup.query("create table t (id serial, a int)").good();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    // Somebody asks, and is told by PostgreSQL itself that there is nothing.
    assert_eq!(other.query("select currval('s')").error().code, "55000");
    for _ in 0..5 {
        let value = one.value("select nextval('s')");
        assert_eq!(other.query("select currval('s')").error().code, "55000");
        assert_eq!(one.value("select currval('s')"), value);
        assert_eq!(one.value("select lastval()"), value);
    }
    one.query("insert into t (a) values (1)").good();
    assert_eq!(one.value("select lastval()"), "1");
}

#[test]
fn state_is_refused_where_that_is_asked_for() {
    let pooler = single().pooler("session_state", "refuse").start();
    let mut client = pooler.connect();
    for text in [
        "set work_mem = '1MB'",
        "create temp table t (a int)",
        "listen jobs",
        "prepare p as select 1",
        "select pg_advisory_lock(1)",
        "load 'plpgsql'",
        "update pg_settings set setting = 1024 where name = 'work_mem'",
    ] {
        let reply = client.query(text);
        let error = reply.error();
        assert_eq!(error.code, "0A000", "{text}");
        assert!(error.hint.contains("session_state"), "{error:?}");
        let reply = client.ask(batch().parse("", text).bind("", &[]).execute().sync());
        assert_eq!(reply.error().code, "0A000", "{text}");
        let reply = client.ask(
            batch()
                .parse("named", text)
                .bind("named", &[])
                .execute()
                .sync(),
        );
        assert_eq!(reply.error().code, "0A000", "{text}");
    }
    client.query("begin").good();
    assert_eq!(client.query("set work_mem = '1MB'").error().code, "0A000");
    assert_eq!(client.query("select 1").error().code, "25P02");
    client.query("rollback").good();
    client
        .query("begin; set local work_mem = '1MB'; commit")
        .good();
    client
        .query("do $$begin perform set_config('work_mem', '9MB', false); end$$")
        .good();
    drop(client);
    assert_eq!(pooler.connect().value("show work_mem"), "4MB");
}

#[test]
fn pins_that_take_all_servers_are_named_to_who_waits() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.query("create temp table t (a int)").good();
    pooler.show("SET query_wait_timeout = '300ms'");
    pins(&pooler, 1);
    let mut waiting = pooler.connect();
    waiting.send(batch().query("select 1"));
    pooler.pool_shows("cl_pinned", 1);
    pooler.pool_shows("total_pins", 1);
    let error = waiting.ended();
    assert_eq!(error.code, "53300");
    assert!(error.hint.contains("temporary object"), "{error:?}");
    client.query("drop table t").good();
    pooler.serves();
}

#[test]
fn an_idle_client_is_ended_when_its_pin_is_too_old() {
    let pooler = single().pooler("pin_timeout", "300ms").start();
    let mut client = pooler.connect();
    client.query("select pg_advisory_lock(99)").good();
    let error = client.ended();
    assert_eq!(error.code, "57P05");
    assert!(error.message.contains("session advisory lock"), "{error:?}");
    eventually(PATIENCE, "the lock is gone", || {
        postgres()
            .watch("postgres")
            .value("select count(*) from pg_locks where locktype = 'advisory' and objid = 99")
            == "0"
    });
    pooler.serves();
}

#[test]
fn more_state_than_is_carried_stays_with_its_server_and_takes_no_memory_here() {
    let pooler = own().database("app", "pool_size", 2).start();
    let mut client = pooler.connect();
    for part in 0..3 {
        let texts: Vec<_> = (0..1000)
            .map(|number| format!("set app.k{part}_{number} = 'v{number}'"))
            .collect();
        client.query(&texts.join(";")).good();
    }
    for number in 0..1100 {
        client
            .query(&format!("prepare p{number} as select 'p{number}'"))
            .good();
    }
    pins(&pooler, 1);
    assert_eq!(client.value("show app.k0_0"), "v0");
    assert_eq!(client.value("show app.k2_999"), "v999");
    assert_eq!(client.value("execute p1099"), "p1099");
    let mut stranger = pooler.connect();
    assert_eq!(stranger.query("execute p1").error().code, "26000");
    assert!(
        pooler.memory("VmHWM:") < 150_000,
        "{}",
        pooler.memory("VmHWM:")
    );
    drop(client);
    pins(&pooler, 0);
    for _ in 0..2 {
        let mut next = pooler.connect();
        next.query("begin").good();
        let set = "select coalesce(nullif(current_setting('app.k0_0', true), ''), 'none')";
        assert_eq!(next.value(set), "none");
        assert_eq!(next.query("execute p1").error().code, "26000");
    }
}

#[test]
fn a_client_that_pins_and_goes_away_leaves_nothing_whatever_it_was_doing() {
    let pooler = own().database("app", "pool_size", 2).start();
    let takes = "select pg_advisory_lock(31337)";
    for way in 0..8 {
        let mut client = pooler.connect();
        client.query(takes).good();
        client.query("create temp table t (a int)").good();
        let bytes = match way {
            0 => batch(),
            1 => batch().query("begin"),
            2 => batch().query("select pg_sleep(0.2)"),
            3 => batch().query("copy t from stdin").copy_data(b"1\n"),
            4 => batch().parse("", "select 1").bind("", &[]),
            5 => batch().raw(b"Q\0\0\0\x20select"),
            6 => batch().query(takes).query("select 1/0"),
            _ => batch().terminate(),
        };
        client.send(bytes);
        client.wire.vanish();
        eventually(PATIENCE, "the lock is gone", || {
            let sql = "select count(*) from pg_locks where locktype = 'advisory' and objid = 31337";
            postgres().watch("postgres").value(sql) == "0"
        });
        pins(&pooler, 0);
        let mut next = pooler.connect();
        let temporary = "select count(*) from pg_class where relnamespace = pg_my_temp_schema()";
        assert_eq!(next.value(temporary), "0", "{way}");
    }
}

#[test]
fn a_hundred_thousand_statements_and_settings_of_one_client_take_bounded_memory() {
    let pooler = own().start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    let before = pooler.memory("VmRSS");
    for hundred in 0..1_000 {
        let each = |text: &dyn Fn(usize) -> String| -> String {
            (hundred * 100..(hundred + 1) * 100).map(text).collect()
        };
        client
            .query(&each(&|n| format!("prepare p{n} as select {n};")))
            .good();
        client
            .query(&each(&|n| format!("set app.v{} = '{n}';", n % 2_000)))
            .good();
    }
    assert_eq!(client.value("execute p99999"), "99999");
    assert_eq!(client.value("show app.v7"), "98007");
    let grown = pooler.memory("VmRSS").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KB more");
    let mut other = pooler.connect();
    assert_eq!(other.query("execute p7").error().code, "26000");
    assert_eq!(
        other.value("select coalesce(nullif(current_setting('app.v7', true), ''), 'none')"),
        "none"
    );
}
