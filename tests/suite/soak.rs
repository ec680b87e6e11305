//! Load of every kind, with chaos, for as long as one likes: what it took is given back.
//!
//! `POOLER_SOAK_MINUTES=30 cargo test --release --test suite -- soak:: --nocapture` goes on for half an hour and says every minute what
//! the pooler has. Without the variable it takes seconds, and only descriptors and the pool are looked at: memory needs time to settle.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::chaos::{POOL, exchange, load, pool_on};
use crate::support::pooler::Pooler;
use crate::support::postgres::Postgres;
use crate::support::wire::{PATIENCE, batch};
use crate::support::{Raise, eventually};

/// How much more memory than after the warm-up is allowed, in percent.
const GROWTH: u64 = 2;
/// The part of the time that is warm-up.
const WARM_UP: u32 = 5;
const SHORT: Duration = Duration::from_secs(5);

fn minutes() -> Option<u64> {
    env::var("POOLER_SOAK_MINUTES").ok()?.parse().ok()
}

/// Clients that come for one thing and go.
fn comers<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    pooler: &'scope Pooler,
    over: &'scope AtomicBool,
) {
    for who in 0..2 {
        scope.spawn(move || {
            let mut turn = 0;
            while !over.load(Ordering::SeqCst) {
                turn += 1;
                if let Ok(mut client) = pooler.login().try_connect() {
                    let _ = exchange(&mut client, &format!("comer {who}/{turn}"), turn);
                }
            }
        });
    }
}

/// Clients that set, listen, prepare ever new texts, and read and write what is large.
fn laborers<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    pooler: &'scope Pooler,
    over: &'scope AtomicBool,
) {
    scope.spawn(move || {
        let mut turn = 0;
        while !over.load(Ordering::SeqCst) {
            let Ok(mut client) = pooler.login().try_connect() else {
                thread::yield_now();
                continue;
            };
            let set = format!("set application_name = 'laborer {turn}'");
            let text = format!("select $1::int + {turn}");
            let asked = [
                batch().query(&set).query("listen soaked"),
                batch().parse("new", &text).run("new", &["1"]).sync(),
                batch().query("select repeat('x', 1000) from generate_series(1, 2000)"),
                batch().query(
                    "copy (select repeat('x', 1000) from generate_series(1, 2000)) to stdout",
                ),
                batch().query("notify soaked"),
            ];
            for batch in asked {
                turn += 1;
                if client.wire.send_bytes(&batch.0).is_err() || client.try_until_ready().is_err() {
                    break;
                }
            }
        }
    });
}

/// One of the things that go wrong.
fn strike(pooler: &Pooler, server: &Postgres, round: usize) {
    match round % 8 {
        0 | 4 => server.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'app' limit 2",
        ),
        1 | 5 => {
            for _ in 0..4 {
                if let Ok(mut client) = pooler.login().try_connect() {
                    let begun = batch().query("begin; select repeat('vanished', 100000)");
                    drop(client.wire.send_bytes(&begun.0));
                    client.wire.vanish();
                }
            }
        }
        2 => pooler.signal("HUP"),
        3 => drop(pooler.show("RECONNECT app")),
        6 => drop((pooler.show("PAUSE app"), pooler.show("RESUME app"))),
        _ if round % 64 == 7 => {
            server.crash();
            server.again();
        }
        _ => {}
    }
}

/// How many descriptors it has when its pool is full, somebody has listened, and no client is there.
fn descriptors(pooler: &Pooler) -> usize {
    let mut all: Vec<_> = (0..POOL).map(|_| pooler.connect()).collect();
    for sql in ["begin", "commit", "listen soaked"] {
        for client in &mut all {
            client.query(sql).good();
        }
    }
    drop(all);
    let (mut count, mut before) = (0, usize::MAX);
    eventually(PATIENCE, "clients and servers have come to rest", || {
        before = std::mem::replace(&mut count, pooler.descriptors());
        let is_busy = ["cl_active", "cl_waiting", "sv_active"]
            .iter()
            .any(|column| pooler.pool(column) > 0);
        !is_busy && pooler.pool("sv_idle") == i64::try_from(POOL).unwrap() && before == count
    });
    count
}

#[test]
fn after_a_long_time_of_everything_memory_and_descriptors_are_what_they_were() {
    let length = minutes().map(|minutes| Duration::from_secs(minutes * 60));
    let length_or_short = length.unwrap_or(SHORT);
    let server = Postgres::start();
    let pooler = pool_on(&server, "app")
        .pooler("server_login_retry", "100ms")
        .pooler("log_connections", false)
        .pooler("log_disconnections", false)
        .start();
    let at_first = descriptors(&pooler);
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut warm, mut last) = (0, 0);
    thread::scope(|scope| {
        let _raised_at_the_end = Raise(&over);
        load(scope, &pooler, 12, &over, &done);
        comers(scope, &pooler, &over);
        laborers(scope, &pooler, &over);
        let began = Instant::now();
        let (mut round, mut said) = (0, 0);
        while began.elapsed() < length_or_short {
            strike(&pooler, &server, round);
            round += 1;
            let so_far = done.load(Ordering::SeqCst);
            eventually(PATIENCE * 3, "clients are served again", || {
                done.load(Ordering::SeqCst) > so_far + 500
            });
            let memory = pooler.memory("VmRSS");
            if began.elapsed() < length_or_short / WARM_UP {
                warm = warm.max(memory);
            } else if began.elapsed() > length_or_short - length_or_short / WARM_UP {
                last = last.max(memory);
            }
            if began.elapsed().as_secs() / 60 > said {
                said += 1;
                println!(
                    "{said} min: {memory} kB, {} exchanges",
                    done.load(Ordering::SeqCst)
                );
            }
        }
    });
    assert_eq!(descriptors(&pooler), at_first, "descriptors come back");
    if length.is_some() {
        println!(
            "{warm} kB at most in the first fifth of the time, {last} kB at most in the last fifth"
        );
        assert!(
            last <= warm + warm * GROWTH / 100,
            "memory grew from {warm} kB to {last} kB"
        );
    }
}
