//! Two processes that serve for a long time, since clients stay at the old one: they share the servers, and open no more than they need.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::start_with_tls;
use crate::support::postgres::postgres;
use crate::support::wire::{Client, PATIENCE};
use crate::support::{Raise, eventually};

const CLIENTS: usize = 4;

fn work(mut client: Client, is_over: &AtomicBool, done: &AtomicUsize) {
    while !is_over.load(SeqCst) {
        client.query("select pg_sleep(0.001)").good();
        done.fetch_add(1, SeqCst);
    }
}

#[test]
fn busy_clients_that_stay_share_the_servers_with_the_others_and_open_none_for_each_request() {
    // One server cannot be shared: each has one.
    for (size, at_most) in [(4, 4), (1, 2)] {
        let database = postgres().database();
        let settings = format!("default_pool_size = {size}\n");
        let (pooler, login) = start_with_tls(&database, &settings);
        let (is_over, stay, come) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let opened = || pooler.log().matches("new connection to server").count();
        thread::scope(|scope| {
            let _raise = Raise(&is_over);
            for _ in 0..CLIENTS {
                let (hidden, plain) = (login.connect(), pooler.connect());
                let (is_over, stay, come) = (&is_over, &stay, &come);
                scope.spawn(move || work(hidden, is_over, stay));
                scope.spawn(move || work(plain, is_over, come));
            }
            let more = |count| {
                let goals = [&stay, &come].map(|done| done.load(SeqCst) + count);
                eventually(PATIENCE, "both go on", || {
                    stay.load(SeqCst) >= goals[0] && come.load(SeqCst) >= goals[1]
                });
            };
            more(50);
            let mut old = pooler.succeed(&["-R"]);
            more(50);
            eventually(PATIENCE, "they share what there is", || {
                postgres().count(&database) <= at_most
            });
            let before = opened();
            more(300);
            let since = opened() - before;
            assert!(since <= 3, "{since} servers opened for 600 requests");
            assert!(postgres().count(&database) <= at_most);
            assert!(old.is_running());
            is_over.store(true, SeqCst);
            assert!(old.exit().success());
        });
    }
}
