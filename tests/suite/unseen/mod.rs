//! Session state that no statement of the client's shows: made by the database's own code, or under another name.
//!
//! Each way is tried over two servers. A client makes it; then strangers look on every server that is free, and must see nothing; then the
//! client looks, wherever it is put, and must see its own.

mod code;
mod texts;

use self::code::CODE;
use self::texts::TEXTS;
use crate::support::long;
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Batch, Client, batch};

/// One way of making state unseen.
pub struct Way {
    /// What the owner has made in the database before.
    pub scene: &'static str,
    /// What the client does, request by request.
    pub makes: &'static [&'static str],
    pub look: &'static str,
    pub nothing: &'static str,
    pub own: &'static str,
}

/// Where a look may see what it likes.
pub const ANYTHING: &str = "anything";
pub const MEMORY: &str = "show work_mem";
pub const CUSTOM: &str = "select coalesce(nullif(current_setting('unseen.mine', true), ''), '-')";
pub const LOCKS: &str =
    "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";

pub const fn way(
    scene: &'static str,
    makes: &'static [&'static str],
    look: &'static str,
    [nothing, own]: [&'static str; 2],
) -> Way {
    Way {
        scene,
        makes,
        look,
        nothing,
        own,
    }
}

/// What `client` sees: a value, or `!` and the code of an error.
fn seen(client: &mut Client, look: &str) -> String {
    let reply = client.query(look);
    if let Some(fault) = reply.errors.first() {
        return format!("!{}", fault.code);
    }
    reply.value()
}

/// `stranger` on the second server, unless the client keeps that one.
fn on_the_other(pooler: &Pooler, mut stranger: Client) -> Option<Client> {
    if !pooler.show("SHOW PINS").rows.is_empty() {
        return None;
    }
    stranger.send(batch().query("begin"));
    // Its last look may be under way yet, and find something: then the stranger waits in vain.
    stranger.try_until_ready().ok().map(|_| stranger)
}

fn try_one(pooler: &Pooler, way: &Way, ask: fn(&str) -> Batch) -> Vec<String> {
    let mut owner = pooler.login().user("postgres").connect();
    owner
        .query("set client_min_messages = warning; drop schema if exists scene cascade; create schema scene; grant all on schema scene to public")
        .good();
    owner
        .query(&format!(
            "{}; create function scene.is_new() returns int language sql as 'select 1'",
            way.scene
        ))
        .good();
    // It is answered when the pooler has read the new code: until then any text may have run any of it, and what is made so is lost.
    owner.query("select 1").good();
    drop(owner);
    meets(pooler, way, |client| {
        for text in way.makes {
            client.ask(ask(text)).good();
        }
    })
}

/// What is wrong when a client makes something and everybody looks.
fn meets(pooler: &Pooler, way: &Way, makes: impl FnOnce(&mut Client)) -> Vec<String> {
    let stranger = || pooler.login().user("postgres").connect();
    let mut client = stranger();
    makes(&mut client);
    client.query("select 1").good();
    let mut faults = Vec::new();
    let mut looks = |who: &str, client: &mut Client, expected: &str| {
        let seen = seen(client, way.look);
        if seen != expected && expected != ANYTHING {
            faults.push(format!("{who} {seen}, not {expected}"));
        }
    };
    let mut one = stranger();
    one.query("begin").good();
    looks("a stranger sees", &mut one, way.nothing);
    if let Some(mut two) = on_the_other(pooler, stranger()) {
        looks("another stranger sees", &mut two, way.nothing);
        drop(one);
        looks("the client sees", &mut client, way.own);
        one = stranger();
        one.query("begin").good();
    }
    looks("the client sees at last", &mut client, way.own);
    drop(client);
    drop(one);
    looks("who comes last sees", &mut stranger(), way.nothing);
    faults
}

/// A pooler with two servers in front of a database of its own.
fn pooler() -> Pooler {
    let database = postgres().database();
    postgres().run(&format!(
        "alter database {database} set search_path = scene, public"
    ));
    config()
        .app_is(&database)
        .user("postgres", "password", "any")
        .database("app", "pool_size", 2)
        .pooler("query_wait_timeout", "3s")
        .start()
}

type Ask = fn(&str) -> Batch;

/// How a text may be asked for.
const ASKED: [(&str, Ask); 3] = [
    ("simple", |text| batch().query(text)),
    ("extended", |text| {
        batch().parse("", text).run("", &[]).sync()
    }),
    ("named", |text| {
        let renewed = batch().close_statement("n").parse("n", text);
        renewed.run("n", &[]).sync()
    }),
];

/// Whether this PostgreSQL was built with libxml; without it nothing can be run by way of XML.
fn has_xml(pooler: &Pooler) -> bool {
    let mut client = pooler.login().user("postgres").connect();
    let reply = client.query("select xmlparse(content '<a/>')");
    reply.errors.iter().all(|fault| fault.code != "0A000")
}

#[test]
fn what_is_made_unseen_is_met_by_nobody_and_kept_by_its_client() {
    let pooler = pooler();
    let mut all = Vec::new();
    let has_xml = has_xml(&pooler);
    for (number, way) in TEXTS.iter().chain(CODE).enumerate() {
        if !has_xml && way.makes.iter().any(|text| text.contains("_to_xml")) {
            continue;
        }
        let is_one = |text: &&str| !text.contains(';') || text.starts_with("do");
        for (index, (how, ask)) in ASKED.iter().enumerate() {
            let may_be = index == 0 || way.makes.iter().all(is_one);
            // One after the other, for time's sake.
            let turn = if way.makes.iter().all(is_one) {
                number % 3
            } else {
                0
            };
            if !may_be || (index != turn && !long()) {
                continue;
            }
            let faults = try_one(&pooler, way, *ask);
            if !faults.is_empty() {
                let Way { scene, makes, .. } = way;
                all.push(format!("{how} {scene} {makes:?}: {}", faults.join("; ")));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn what_the_pooler_does_not_read_is_met_by_nobody() {
    let pooler = pooler();
    let large = format!("set unseen.mine = 7; select '{}'", "x".repeat(70_000));
    for (batch, look, expected) in [
        (batch().query(&large), CUSTOM, ["-", ANYTHING]),
        (batch().function_call(2880, &["5"]), LOCKS, ["0", "1"]),
        (
            batch().function_call(2078, &["unseen.mine", "7", "f"]),
            CUSTOM,
            ["-", ANYTHING],
        ),
        (
            batch().function_call(2078, &["work_mem", "7MB", "f"]),
            MEMORY,
            ["4MB", "7MB"],
        ),
    ] {
        let way = way("", &[], look, expected);
        let faults = meets(&pooler, &way, |client| {
            client.ask(batch).good();
        });
        assert!(faults.is_empty(), "{look}: {faults:?}");
    }
}
