//! Sudden deaths under load: every reply is its own client's, and the pool comes back to its size.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::{Postgres, postgres};
use crate::support::wire::{Client, Cut, PATIENCE, batch};
use crate::support::{Raise, eventually, long};

pub const POOL: usize = 5;

fn rounds() -> usize {
    if long() { 100 } else { 6 }
}

pub fn pool_on(server: &Postgres, database: &str) -> Config {
    config()
        .server("app", server.server(), database)
        .database("app", "pool_size", i32::try_from(POOL).unwrap())
        .pooler("query_wait_timeout", "20s")
}

/// One exchange whose answer can be nobody else's. `Err` when the connection ended, with what it was told.
pub fn exchange(client: &mut Client, marker: &str, turn: usize) -> Result<(), String> {
    let asked = match turn % 4 {
        0 => batch().query(&format!("select '{marker}'")),
        1 => batch()
            .parse("", &format!("select '{marker}'"))
            .run("", &[])
            .sync(),
        2 => batch()
            .parse("s", "select $1::text")
            .run("s", &[marker])
            .close_statement("s")
            .sync(),
        _ => batch().query(&format!("begin; select '{marker}'; commit")),
    };
    client
        .wire
        .send_bytes(&asked.0)
        .map_err(|error| error.to_string())?;
    match client.try_until_ready() {
        Ok(reply) if reply.errors.is_empty() => {
            assert_eq!(reply.rows.len(), 1, "{reply:?}");
            assert_eq!(
                reply.rows[0][0].as_deref(),
                Some(marker),
                "an answer to somebody else's question"
            );
            Ok(())
        }
        Ok(reply) => Err(format!("{:?}", reply.errors)),
        Err(Cut { reply, error }) => {
            for row in &reply.rows {
                assert_eq!(
                    row[0].as_deref(),
                    Some(marker),
                    "an answer to somebody else's question"
                );
            }
            Err(format!("{error} {:?}", reply.errors))
        }
    }
}

/// Clients that ask and check without pause until `over`, and log in again when their connection ends.
///
/// Returns how many exchanges went well.
pub fn load<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    pooler: &'scope Pooler,
    clients: usize,
    over: &'scope AtomicBool,
    done: &'scope AtomicUsize,
) {
    for who in 0..clients {
        scope.spawn(move || {
            let mut turn = 0;
            while !over.load(Ordering::SeqCst) {
                let Ok(mut client) = pooler.login().try_connect() else {
                    thread::yield_now();
                    continue;
                };
                while !over.load(Ordering::SeqCst) {
                    turn += 1;
                    if exchange(&mut client, &format!("{who}/{turn}"), turn).is_err() {
                        break;
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
}

/// Runs `strike` again and again under load, and waits after each until clients are being served.
fn under_load(pooler: &Pooler, mut strike: impl FnMut(usize)) {
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _raised_at_the_end = Raise(&over);
        load(scope, pooler, 12, &over, &done);
        for round in 0..rounds() {
            strike(round);
            let so_far = done.load(Ordering::SeqCst);
            eventually(PATIENCE * 3, "clients are served again", || {
                done.load(Ordering::SeqCst) > so_far + 50
            });
        }
    });
}

/// After everything: nobody waits, nothing is stuck, and the pool is no larger than it may be.
fn must_be_whole(pooler: &Pooler, server: &Postgres, database: &str) {
    pooler.pool_shows("cl_active", 0);
    pooler.pool_shows("cl_waiting", 0);
    pooler.pool_shows("sv_active", 0);
    eventually(PATIENCE, "no more servers than the pool has", || {
        server.count(database) <= POOL
    });
    // What was struck last may not have happened yet when clients were served last.
    let mut all = Vec::new();
    eventually(PATIENCE * 3, "every seat can be taken", || {
        let clients = (0..POOL).map_while(|_| pooler.login().try_connect().ok());
        all = clients.collect();
        let begins = |client: &mut Client| {
            let reply = client.send(batch().query("begin")).try_until_ready();
            reply.is_ok_and(|reply| reply.errors.is_empty())
        };
        all.len() == POOL && all.iter_mut().all(begins)
    });
    assert_eq!(server.count(database), POOL, "every seat can be taken");
}

#[test]
fn backends_that_are_terminated_take_only_their_own_query_with_them() {
    let database = postgres().database();
    let pooler = pool_on(postgres(), &database).start();
    let mut watch = postgres().watch(&database);
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and pid <> pg_backend_pid() limit 2"
    );
    under_load(&pooler, |_| drop(watch.query(&sql).good()));
    drop(watch);
    must_be_whole(&pooler, postgres(), &database);
}

#[test]
fn a_backend_killed_with_sigkill_makes_postgres_restart_and_the_pool_recovers() {
    let server = Postgres::start();
    let pooler = pool_on(&server, "app").start();
    under_load(&pooler, |_| {
        // While PostgreSQL recovers from the last one, logins are told so.
        let Ok(mut victim) = pooler.login().try_connect() else {
            return;
        };
        if let Ok(reply) = victim
            .send(batch().query("select pg_backend_pid()"))
            .try_until_ready()
            && let Some(Some(pid)) = reply.rows.first().map(|row| row[0].clone())
        {
            server.kill_backend(&pid);
        }
    });
    must_be_whole(&pooler, &server, "app");
}

#[test]
fn a_server_that_crashes_and_comes_back_is_used_again() {
    let server = Postgres::start();
    let pooler = pool_on(&server, "app")
        .pooler("server_login_retry", "100ms")
        .start();
    under_load(&pooler, |round| {
        if round < 3 || long() {
            server.crash();
            server.again();
        }
    });
    must_be_whole(&pooler, &server, "app");
}

#[test]
fn clients_that_vanish_in_the_middle_of_anything_leave_nothing_behind() {
    let database = postgres().database();
    let pooler = pool_on(postgres(), &database).start();
    pooler.connect().query("create table t (line text)").good();
    under_load(&pooler, |_| {
        let mut victims: Vec<_> = (0..6).map(|_| pooler.connect()).collect();
        let asked = [
            batch().query("select repeat('vanished', 100) from generate_series(1, 100000)"),
            batch()
                .query("copy t from stdin")
                .copy_data(b"vanished\nvani"),
            batch().query(
                "copy (select repeat('vanished', 100) from generate_series(1, 100000)) to stdout",
            ),
            batch()
                .parse("p", "select 'vanished', pg_sleep(0.01)")
                .run("p", &[])
                .run("p", &[])
                .sync()
                .run("p", &[])
                .flush(),
            batch().query("begin; insert into t values ('vanished')"),
            batch().parse("half", "select 1").raw(b"B\0\0\x01\0abc"),
        ];
        for (client, asked) in victims.iter_mut().zip(asked) {
            drop(client.wire.send_bytes(&asked.0));
        }
        for (number, mut client) in victims.into_iter().enumerate() {
            if number % 2 == 0 {
                // Some after the first frame of their answer, some before.
                drop(client.wire.read_frame());
            }
            client.wire.vanish();
        }
    });
    assert_eq!(pooler.connect().value("select count(*) from t"), "0");
    must_be_whole(&pooler, postgres(), &database);
}

#[test]
fn with_a_new_connection_for_every_query_nothing_is_lost_or_mixed_up() {
    let database = postgres().database();
    let pooler = pool_on(postgres(), &database).start();
    let each = if long() { 1000 } else { 60 };
    thread::scope(|scope| {
        for who in 0..8 {
            let pooler = &pooler;
            scope.spawn(move || {
                for turn in 0..each {
                    exchange(&mut pooler.connect(), &format!("{who}/{turn}"), turn).unwrap();
                }
            });
        }
    });
    must_be_whole(&pooler, postgres(), &database);
}

/// Clients that are idle while every server of the pool dies notice nothing: PostgreSQL is up again before they ask.
#[test]
fn servers_that_die_while_idle_are_noticed_by_no_client() {
    let server = Postgres::start();
    let pooler = pool_on(&server, "app").start();
    let mut clients: Vec<_> = (0..12).map(|_| pooler.connect()).collect();
    let ask_all = |clients: &mut Vec<Client>, round: usize| {
        thread::scope(|scope| {
            for (who, client) in clients.iter_mut().enumerate() {
                scope.spawn(move || {
                    for turn in 0..4 {
                        exchange(client, &format!("{round}/{who}/{turn}"), turn).unwrap();
                    }
                });
            }
        });
    };
    for round in 0..rounds() {
        ask_all(&mut clients, round);
        if round % 3 == 2 {
            server.crash();
            server.again();
        } else {
            server.terminate_all("app");
        }
        ask_all(&mut clients, round);
    }
    drop(clients);
    must_be_whole(&pooler, &server, "app");
}
