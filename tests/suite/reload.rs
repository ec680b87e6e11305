//! A reload is taken as a whole or not at all, and disturbs nobody who need not be disturbed.

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{PATIENCE, batch};

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

fn text(pooler: &Pooler, config: &Config) -> String {
    config.text(&pooler.folder, pooler.port)
}

#[test]
fn a_bad_file_changes_nothing_and_the_answer_says_where_it_is_bad() {
    let pooler = single().start();
    let mut client = pooler.connect();
    let server = client.server();
    let good = text(&pooler, &single());
    let line = good.lines().count() + 1;
    for (bad, names) in [
        (
            "[databases.more]\nhost = \"127.0.0.1\"\npool_siez = 3\n",
            ["pool_siez", "pool_size"],
        ),
        (
            "[databases.more]\nhost = \"127.0.0.1\"\npool_size = \"many\"\n",
            ["pool_size", "pooler.toml"],
        ),
        (
            "[databases.more]\nhost = \"127.0.0.1\"\npool_mode = \"transation\"\n",
            ["pool_mode", "transaction"],
        ),
        (
            "[databases.more]\nhost = \"127.0.0.1\"\nthis is not toml\n",
            ["pooler.toml", "pooler.toml"],
        ),
    ] {
        pooler.rewrite_text(&format!("{good}{bad}"));
        let fault = pooler.console().query("RELOAD").error().clone();
        let said = format!(
            "{} {} {} {}",
            fault.message,
            fault.detail,
            fault.hint,
            pooler.log()
        );
        assert!(
            said.contains(&format!("pooler.toml:{}:", line + 2)),
            "{bad}: where? {fault:?}"
        );
        assert!(
            names.iter().all(|name| said.contains(name)),
            "{bad}: {fault:?}"
        );
        assert!(
            pooler
                .show("SHOW DATABASES")
                .row_where("name", "more")
                .is_none()
        );
    }
    assert_eq!(client.server(), server, "nobody noticed");
    pooler.rewrite_text(&good);
    assert_eq!(pooler.show("RELOAD").tags, ["RELOAD"]);
    assert_eq!(client.server(), server);
}

#[test]
fn a_missing_file_changes_nothing() {
    let pooler = single().start();
    std::fs::remove_file(pooler.folder.join("pooler.toml")).unwrap();
    assert_eq!(pooler.console().query("RELOAD").errors.len(), 1);
    pooler.signal("HUP");
    pooler.serves();
}

#[test]
fn a_larger_pool_lets_waiters_in() {
    let pooler = single().start();
    let (mut holder, mut waiting) = (pooler.connect(), pooler.connect());
    holder.query("begin").good();
    waiting.send(batch().query("select 'let in'"));
    pooler.pool_shows("cl_waiting", 1);
    pooler.reload(&single().database("app", "pool_size", 2));
    assert_eq!(waiting.until_ready().value(), "let in");
    assert_eq!(holder.query("commit").good().status, 'I');
}

#[test]
fn a_smaller_pool_takes_no_server_from_under_a_client() {
    let database = postgres().database();
    let sized = |size| {
        config()
            .app_is(&database)
            .database("app", "pool_size", size)
    };
    let pooler = sized(3).start();
    let mut clients: Vec<_> = (0..3).map(|_| pooler.connect()).collect();
    for client in &mut clients {
        client.query("begin").good();
    }
    pooler.reload(&sized(1));
    assert_eq!(postgres().count(&database), 3);
    for client in &mut clients {
        assert_eq!(client.query("commit").good().status, 'I');
    }
    eventually(PATIENCE, "one server is left", || {
        postgres().count(&database) == 1
    });
    for client in &mut clients {
        client.query("select 1").good();
    }
    assert_eq!(postgres().count(&database), 1);
}

#[test]
fn a_hangup_reloads_too() {
    let pooler = single().start();
    let mut client = pooler.connect();
    pooler.rewrite(&single().server("more", postgres().server(), "app"));
    pooler.signal("HUP");
    let login = pooler.login().database("more");
    eventually(PATIENCE, "the new database is there", || {
        login.try_connect().is_ok()
    });
    assert_eq!(client.value("select 'undisturbed'"), "undisturbed");
}

#[test]
fn a_database_that_is_taken_out_ends_its_clients_and_no_others() {
    let both = single().server("doomed", postgres().server(), "app");
    let pooler = both.start();
    let mut spared = pooler.connect();
    let server = spared.server();
    let mut doomed = pooler.login().database("doomed").connect();
    doomed.query("select 1").good();
    pooler.reload(&both.without("databases.doomed"));
    assert_eq!(doomed.ended().severity, "FATAL");
    assert_eq!(pooler.login().database("doomed").refused().code, "3D000");
    assert_eq!(spared.server(), server);
}

#[test]
fn a_database_that_moves_serves_from_its_new_place_after_the_transaction() {
    let (old, new) = (postgres().database(), postgres().database());
    let place = |database: &str| single().app_is(database);
    let pooler = place(&old).start();
    let mut client = pooler.connect();
    client.query("begin").good();
    pooler.reload(&place(&new));
    assert_eq!(
        client.value("select current_database()"),
        old,
        "not amid a transaction"
    );
    client.query("commit").good();
    eventually(PATIENCE, "the new place", || {
        client.value("select current_database()") == new
    });
    eventually(PATIENCE, "nothing is left at the old one", || {
        postgres().count(&old) == 0
    });
}

#[test]
fn users_come_go_and_change_their_password() {
    let with = |password: &str| {
        single()
            .pooler("auth_type", "plain")
            .user("app", "password", password)
    };
    let pooler = with("before").start();
    let mut running = pooler.login().password("before").connect();
    pooler.reload(
        &with("after")
            .userlist("listed", "secret")
            .database("app", "user", "app"),
    );
    assert_eq!(pooler.login().password("before").refused().code, "28P01");
    pooler
        .login()
        .password("after")
        .connect()
        .query("select 1")
        .good();
    pooler
        .login()
        .user("listed")
        .password("secret")
        .connect()
        .query("select 1")
        .good();
    assert_eq!(running.value("select 'who is in is in'"), "who is in is in");
    pooler.reload(&with("after").database("app", "user", "app"));
    assert_eq!(
        pooler
            .login()
            .user("listed")
            .password("secret")
            .refused()
            .code,
        "28P01"
    );
}

#[test]
fn a_changed_timeout_holds_for_clients_that_are_there() {
    let pooler = single().start();
    let mut client = pooler.connect();
    assert_eq!(
        client.value("select 'unbounded' from pg_sleep(0.5)"),
        "unbounded"
    );
    pooler.reload(&single().pooler("query_timeout", "300ms"));
    client.send(batch().query("select pg_sleep(4)"));
    assert_eq!(client.ended().code, "57014");
}

#[test]
fn what_needs_a_restart_is_said_by_its_key() {
    let pooler = single().start();
    let port = pooler.port;
    pooler.rewrite_text(
        &text(&pooler, &single()).replace(&format!("listen_port = {port}"), "listen_port = 1"),
    );
    let reply = pooler.show("RELOAD");
    let said = format!("{:?} {}", reply.notices, pooler.log());
    assert!(said.contains("listen_port"), "{said}");
    pooler.serves();
}

#[test]
fn reloads_under_load_disturb_nobody() {
    let sized = |size| config().app_is("app").database("app", "pool_size", size);
    let pooler = sized(4).start();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|who| {
                let mut client = pooler.connect();
                scope.spawn(move || {
                    for round in 0..150 {
                        let marker = format!("{who}/{round}");
                        assert_eq!(client.value(&format!("select '{marker}'")), marker);
                    }
                })
            })
            .collect();
        for round in 0..20 {
            pooler.reload(&sized(2 + round % 3));
        }
        for client in clients {
            client.join().unwrap();
        }
    });
}
