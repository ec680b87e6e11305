//! Pools before a fake server.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::auth::users::Users;
use crate::clock;
use crate::config::node::Node;
use crate::config::settings::Settings;
use crate::error::Error;
use crate::pools::lease;
use crate::pools::pool::{Asked, Asker, Pool};
use crate::pools::registry::Registry;
use crate::servers::fake::{Fake, until};
use crate::servers::query;

fn run<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await })
        .unwrap()
}

fn pool(settings: Settings) -> Arc<Pool> {
    let registry = Registry::new(
        settings,
        Users::default(),
        None,
        crate::servers::security::TlsWays::default(),
        1,
    );
    let database = registry.database("app").unwrap();
    registry.pool(&database, "ann", None).unwrap()
}

#[test]
fn everybody_gets_a_server_and_pool_size_is_never_exceeded() {
    run(async {
        let fake = Fake::start();
        let mut settings = fake.settings();
        settings.pooler.default_pool_size = 3;
        let pool = pool(settings);
        let clients: Vec<_> = (0..50)
            .map(|number| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move {
                    let lease = lease::borrow(&pool, Asker::Login).await.unwrap();
                    tokio::task::yield_now().await;
                    // Every third client goes away without giving its server back.
                    if number % 3 > 0 {
                        lease.release();
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert!(fake.most() <= 3, "{} were open at once", fake.most());
        until(|| pool.headcount().open == pool.headcount().idle).await;
        until(|| pool.registry.census.servers.len() == fake.open()).await;
    });
}

#[test]
fn a_pool_that_shrinks_closes_what_is_too_much_and_no_more() {
    run(async {
        let fake = Fake::start();
        let mut settings = fake.settings();
        let pool = pool(settings.clone());
        let mut leases = Vec::new();
        for _ in 0..6 {
            leases.push(lease::borrow(&pool, Asker::Login).await.unwrap());
        }
        settings.pooler.default_pool_size = 4;
        pool.registry.follow(settings, Users::default());
        leases.into_iter().for_each(lease::Lease::release);
        until(|| pool.headcount().open == 4).await;
        pool.tidy(clock::now());
        assert_eq!(pool.headcount().idle, 4);
    });
}

#[test]
fn a_dial_that_never_runs_leaves_no_seat_taken() {
    let pool = pool(Settings {
        databases: [(
            "app".to_owned(),
            crate::config::settings::DatabaseSettings::default(),
        )]
        .into(),
        ..Settings::default()
    });
    // There is no runtime here, as when the process ends.
    let asked = pool.ask(
        &pool.plan.load(),
        Waker::noop(),
        clock::now(),
        Asker::Client,
    );
    assert!(matches!(asked, Asked::Line(_)));
    let headcount = pool.headcount();
    assert_eq!((headcount.open, headcount.dialing), (0, 0));
    assert_eq!(pool.database.servers.used() + pool.owner.servers.used(), 0);
}

#[test]
fn who_waits_for_a_database_that_is_removed_is_told() {
    run(async {
        let fake = Fake::start();
        let mut settings = fake.settings();
        settings.pooler.default_pool_size = 1;
        let pool = pool(settings.clone());
        let _busy = lease::borrow(&pool, Asker::Login).await.unwrap();
        let Asked::Line(spot) = pool.ask(
            &pool.plan.load(),
            Waker::noop(),
            clock::now(),
            Asker::Client,
        ) else {
            panic!("the only server is lent");
        };
        settings.databases.clear();
        pool.registry.follow(settings, Users::default());
        let told = spot.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(told, Poll::Ready(Err(Error::DatabaseRemoved(_)))));
        let asked = pool.ask(
            &pool.plan.load(),
            Waker::noop(),
            clock::now(),
            Asker::Client,
        );
        assert!(matches!(asked, Asked::Refused(Error::DatabaseRemoved(_))));
    });
}

#[test]
fn pools_that_share_a_limit_take_turns() {
    run(async {
        let fake = Fake::start();
        let mut settings = fake.settings();
        settings.pooler.max_db_connections = 1;
        let ann = pool(settings);
        let zoe = ann.registry.pool(&ann.database, "zoe", None).unwrap();
        let first = lease::borrow(&ann, Asker::Login).await.unwrap();
        let Asked::Line(zoes) =
            zoe.ask(&zoe.plan.load(), Waker::noop(), clock::now(), Asker::Client)
        else {
            panic!("the only place is taken");
        };
        let Asked::Line(anns) = ann.ask(
            &ann.plan.load(),
            Waker::noop(),
            zoes.since.after(Duration::from_secs(1)),
            Asker::Client,
        ) else {
            panic!("the only server is lent");
        };
        // A server that must be closed: its place is free for whoever has waited longest.
        drop(first);
        let mut cx = Context::from_waker(Waker::noop());
        until(|| zoes.poll(&mut cx).is_ready()).await;
        assert!(anns.poll(&mut cx).is_pending());
    });
}

/// Two pools that share the two places of their database: each has lent a server, and somebody waits at the first.
async fn two_of_two(fake: &Fake) -> [(Arc<Pool>, lease::Lease); 2] {
    let mut settings = fake.settings();
    settings.pooler.max_db_connections = 2;
    let ann = pool(settings);
    let zoe = ann.registry.pool(&ann.database, "zoe", None).unwrap();
    let leases = [
        lease::borrow(&ann, Asker::Login).await.unwrap(),
        lease::borrow(&zoe, Asker::Login).await.unwrap(),
    ];
    let [anns, zoes] = leases;
    [(ann, anns), (zoe, zoes)]
}

fn wait_at(pool: &Pool) -> Arc<crate::pools::line::Spot<crate::servers::server::Server>> {
    let asked = pool.ask(
        &pool.plan.load(),
        Waker::noop(),
        clock::now(),
        Asker::Client,
    );
    let Asked::Line(spot) = asked else {
        panic!("all places are taken");
    };
    spot
}

#[test]
fn no_server_is_closed_for_a_client_that_has_got_one_meanwhile() {
    run(async {
        let fake = Fake::start();
        let [(ann, anns), (zoe, zoes)] = two_of_two(&fake).await;
        let spot = wait_at(&ann);
        anns.release();
        let served = spot.poll(&mut Context::from_waker(Waker::noop()));
        assert!(served.is_ready());
        zoes.release();
        assert_eq!(zoe.headcount().idle, 1);
        assert_eq!((ann.headcount().open, fake.open()), (1, 2));
    });
}

#[test]
fn who_closes_a_server_for_another_pool_leaves_as_many_as_before() {
    run(async {
        let fake = Fake::start();
        let [(ann, anns), (zoe, zoes)] = two_of_two(&fake).await;
        let spot = wait_at(&ann);
        zoes.release();
        // Its client is served before the place is free.
        anns.release();
        let served = spot.poll(&mut Context::from_waker(Waker::noop()));
        assert!(served.is_ready());
        until(|| ann.headcount().open == 2 && fake.open() == 2).await;
        assert_eq!(zoe.headcount().open, 0);
    });
}

#[test]
fn a_question_given_up_leaves_a_server_that_nobody_may_ask_again() {
    run(async {
        let fake = Fake::start();
        let pool = pool(fake.settings());
        let mut lease = lease::borrow(&pool, Asker::Login).await.unwrap();
        let server = lease.server();
        assert!(
            query::ask(server, &pool.registry.interner, "x")
                .await
                .is_ok()
        );
        assert!(server.side.is_free());
        let hanging = query::ask(server, &pool.registry.interner, "hang");
        let given_up = tokio::time::timeout(Duration::from_millis(5), hanging).await;
        assert!(given_up.is_err());
        assert!(!server.side.is_free());
    });
}

#[test]
fn the_pools_of_two_nodes_never_lend_each_others_servers_but_share_the_limit_of_their_database() {
    run(async {
        let (own, other) = (Fake::start(), Fake::start());
        let mut settings = own.settings();
        settings.pooler.max_db_connections = 3;
        let first = pool(settings);
        let registry = Arc::clone(&first.registry);
        let second = registry.pool_at(&first.group, &other.node()).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let again = registry.pool_at(&first.group, &other.node()).unwrap();
        assert!(Arc::ptr_eq(&again, &second), "one pool for each node");

        let here = lease::borrow(&first, Asker::Login).await.unwrap();
        let there = [
            lease::borrow(&second, Asker::Login).await.unwrap(),
            lease::borrow(&second, Asker::Login).await.unwrap(),
        ];
        assert_eq!((own.open(), other.open()), (1, 2));
        let Asked::Line(spot) = second.ask(
            &second.plan.load(),
            Waker::noop(),
            clock::now(),
            Asker::Client,
        ) else {
            panic!("no place of the database is left");
        };
        assert_eq!(first.database.servers.used(), 3);

        // An idle server of one node makes room for a client of the other.
        here.release();
        let mut cx = Context::from_waker(Waker::noop());
        until(|| spot.poll(&mut cx).is_ready()).await;
        assert_eq!((own.open(), other.open()), (0, 3));
        drop(there);
    });
}

#[test]
fn a_group_that_is_forgotten_gets_no_pool_any_more() {
    let settings = Settings {
        databases: [("app".to_owned(), Default::default())].into(),
        ..Settings::default()
    };
    let pool = pool(settings);
    pool.registry.forget_group(&pool.group);
    assert!(pool.registry.pools().is_empty());
    assert!(pool.registry.pool_at(&pool.group, &Node::Own).is_none());
    let new = pool.registry.pool(&pool.database, "ann", None).unwrap();
    assert!(!Arc::ptr_eq(&new, &pool));
}

/// A pool that is made in the moment of a reload must not keep what the settings said before.
#[test]
fn a_pool_made_during_a_reload_follows_it() {
    run(async {
        let fake = Fake::start();
        let mut settings = fake.settings();
        let pool = pool(settings.clone());
        let registry = Arc::clone(&pool.registry);
        for round in 0..200 {
            settings.databases.get_mut("app").unwrap().port = 1 + round % 2;
            let (made, name) = (Arc::clone(&registry), format!("user{round}"));
            let database = Arc::clone(&pool.database);
            let login = std::thread::spawn(move || made.pool(&database, &name, None).unwrap());
            registry.follow(settings.clone(), Users::default());
            let made = login.join().unwrap();
            assert_eq!(made.plan.load().target.hosts[0].port, 1 + round % 2);
        }
    });
}
