//! The console: every command, its tag, its errors, who may give it.

use super::{Answer, Findings, both, is, line};
use crate::support::pgbouncer::{Side, Which};
use crate::support::wire::{Batch, Client, batch};

const ADMIN: &str = "admin";
const STATS: &str = "stats";

type Situation = (&'static str, &'static str, Answer);

macro_rules! invalid {
    ($text:literal) => {
        is(concat!(
            "ERROR 08P01 invalid command '",
            $text,
            "', use SHOW HELP;"
        ))
    };
}

const NEEDED: Answer = is("ERROR 08P01 admin access needed");
const BAD: Answer = is("ERROR 08P01 bad arguments");
const FAILED: Answer = is("ERROR 08P01 SET failed");
const PAUSED: Answer = is("ERROR 08P01 already suspended/paused");
const UNKNOWN: Answer = is("ERROR 08P01 no such database: nix");

/// What is no command.
const GRAMMAR: &[Situation] = &[
    (ADMIN, "", invalid!("")),
    (ADMIN, ";", invalid!(";")),
    (ADMIN, "SHOW", invalid!("SHOW")),
    (ADMIN, "SHOW nothing", invalid!("SHOW nothing")),
    (ADMIN, "SHOW POOLS x", invalid!("SHOW POOLS x")),
    (ADMIN, "SHOW VERSION;;", invalid!("SHOW VERSION;;")),
    (
        ADMIN,
        "SHOW STATE; SHOW STATE",
        invalid!("SHOW STATE; SHOW STATE"),
    ),
    (ADMIN, "-- comment", invalid!("-- comment")),
    (ADMIN, "SELECT", invalid!("SELECT")),
    (ADMIN, "select 1", invalid!("select 1")),
    (ADMIN, "BEGIN", invalid!("BEGIN")),
    (ADMIN, "PAUSE a-b", invalid!("PAUSE a-b")),
    (ADMIN, "PAUSE a.b", invalid!("PAUSE a.b")),
    (ADMIN, "PAUSE \"x", invalid!("PAUSE \"x")),
    (ADMIN, "PAUSE\"x\"", invalid!("PAUSE\"x\"")),
    (ADMIN, "RELOAD x", invalid!("RELOAD x")),
    (ADMIN, "SHUTDOWN x", invalid!("SHUTDOWN x")),
    (ADMIN, "SUSPEND x", invalid!("SUSPEND x")),
    (ADMIN, "SET", invalid!("SET")),
    (ADMIN, "SET x", invalid!("SET x")),
    (ADMIN, "SET x 1", invalid!("SET x 1")),
    (
        ADMIN,
        "SET default_pool_size=1.5",
        invalid!("SET default_pool_size=1.5"),
    ),
    (
        ADMIN,
        "SET default_pool_size=-1",
        invalid!("SET default_pool_size=-1"),
    ),
    (
        ADMIN,
        "SET admin_users=a,b",
        invalid!("SET admin_users=a,b"),
    ),
    (ADMIN, "SET x='a", invalid!("SET x='a")),
    (ADMIN, "frobnicate", invalid!("frobnicate")),
    (ADMIN, "abcdefghijklmnop", BAD),
    (ADMIN, "\"show_with_quotes\"", BAD),
    (
        ADMIN,
        "PAUSE a123456789b123456789c123456789d123456789e123456789f123456789g123",
        BAD,
    ),
    (ADMIN, "SET \"\" = 1", BAD),
];

/// Session parameters that drivers set and ask for.
const PARAMETERS: &[Situation] = &[
    (
        ADMIN,
        "SHOW client_encoding",
        is("client_encoding=UTF-8 | SHOW"),
    ),
    (
        ADMIN,
        "SHOW default_transaction_isolation",
        is("default_transaction_isolation=read committed | SHOW"),
    ),
    (
        ADMIN,
        "show Standard_Conforming_Strings;",
        is("standard_conforming_strings=on | SHOW"),
    ),
    (ADMIN, "SHOW DateStyle", is("datestyle=ISO | SHOW")),
    (STATS, "SHOW TIMEZONE", is("timezone=GMT | SHOW")),
    (ADMIN, "SELECT timezone", is("timezone=GMT | SHOW")),
    (
        ADMIN,
        "SET client_encoding TO 'UTF8'",
        is("NOTICE 00000 SET ignored | SET"),
    ),
    (
        STATS,
        "SET DateStyle = iso",
        is("NOTICE 00000 SET ignored | SET"),
    ),
    (
        ADMIN,
        "SET timezone='UTC'",
        is("NOTICE 00000 SET ignored | SET"),
    ),
    (
        ADMIN,
        "SET default_transaction_isolation TO 'serializable'",
        is("NOTICE 00000 SET ignored | SET"),
    ),
    (
        ADMIN,
        "SET standard_conforming_strings = on",
        is("NOTICE 00000 SET ignored | SET"),
    ),
    (
        ADMIN,
        "SET extra_float_digits = 2",
        is("NOTICE 00000 SET ignored | SET").was("ERROR 08P01 SET failed"),
    ),
];

/// Who may only look.
const ROLES: &[Situation] = &[
    (STATS, "RELOAD", NEEDED),
    (STATS, "PAUSE", NEEDED),
    (STATS, "PAUSE app", NEEDED),
    (STATS, "PAUSE nix", NEEDED),
    (STATS, "RESUME", NEEDED),
    (STATS, "RESUME app", NEEDED),
    (STATS, "KILL", NEEDED),
    (STATS, "KILL app", NEEDED),
    (
        STATS,
        "KILL_CLIENT",
        NEEDED.was("ERROR 08P01 invalid command 'KILL_CLIENT', use SHOW HELP;"),
    ),
    (STATS, "DISABLE", NEEDED),
    (STATS, "DISABLE app", NEEDED),
    (STATS, "ENABLE app", NEEDED),
    (STATS, "RECONNECT", NEEDED),
    (STATS, "RECONNECT app", NEEDED),
    (STATS, "WAIT_CLOSE", NEEDED),
    (STATS, "SUSPEND", NEEDED),
    (STATS, "SHUTDOWN", NEEDED),
    (
        STATS,
        "SHUTDOWN WAIT_FOR_CLIENTS",
        NEEDED.was("ERROR 08P01 invalid command 'SHUTDOWN WAIT_FOR_CLIENTS', use SHOW HELP;"),
    ),
    (STATS, "SET default_pool_size = 1", NEEDED),
    (STATS, "SHOW FDS", NEEDED),
    (STATS, "RELOAD x", invalid!("RELOAD x")),
    (STATS, "SUSPEND x", invalid!("SUSPEND x")),
    (STATS, "SHUTDOWN x", invalid!("SHUTDOWN x")),
];

/// Commands about databases.
const DATABASES: &[Situation] = &[
    (
        ADMIN,
        "RESUME",
        is("ERROR 08P01 pooler is not paused/suspended"),
    ),
    (
        ADMIN,
        "RESUME app",
        is("ERROR 08P01 database app is not paused"),
    ),
    (ADMIN, "RESUME nix", UNKNOWN),
    (
        ADMIN,
        "RESUME pgbouncer",
        is("ERROR 08P01 database pgbouncer is not paused"),
    ),
    (ADMIN, "PAUSE nix", UNKNOWN),
    (
        ADMIN,
        "PAUSE pgbouncer",
        is("ERROR 08P01 cannot pause admin db: pgbouncer"),
    ),
    (ADMIN, "KILL nix", UNKNOWN),
    (
        ADMIN,
        "KILL pgbouncer",
        is("ERROR 08P01 cannot kill admin db: pgbouncer"),
    ),
    (ADMIN, "RECONNECT nix", UNKNOWN),
    (
        ADMIN,
        "RECONNECT pgbouncer",
        is("ERROR 08P01 cannot reconnect admin db: pgbouncer"),
    ),
    (ADMIN, "WAIT_CLOSE nix", UNKNOWN),
    (
        ADMIN,
        "WAIT_CLOSE pgbouncer",
        is("ERROR 08P01 cannot wait in admin db: pgbouncer"),
    ),
    (ADMIN, "DISABLE", is("ERROR 08P01 a database is required")),
    (ADMIN, "DISABLE nix", UNKNOWN),
    (
        ADMIN,
        "DISABLE pgbouncer",
        is("ERROR 08P01 cannot disable admin db: pgbouncer"),
    ),
    (ADMIN, "ENABLE", is("ERROR 08P01 a database is required")),
    (ADMIN, "ENABLE nix", UNKNOWN),
    (
        ADMIN,
        "ENABLE pgbouncer",
        is("ERROR 08P01 cannot enable admin db: pgbouncer")
            .was("ERROR 08P01 cannot disable admin db: pgbouncer"),
    ),
    (
        ADMIN,
        "DISABLE \"\"",
        is("ERROR 08P01 a database is required"),
    ),
    (
        ADMIN,
        "KILL_CLIENT",
        is("ERROR 08P01 invalid client pointer supplied")
            .was("ERROR 08P01 invalid command 'KILL_CLIENT', use SHOW HELP;"),
    ),
    (
        ADMIN,
        "KILL_CLIENT abc",
        is("ERROR 08P01 invalid client pointer supplied")
            .was("ERROR 08P01 invalid command 'KILL_CLIENT abc', use SHOW HELP;"),
    ),
    (
        ADMIN,
        "KILL_CLIENT 999999",
        is("ERROR 08P01 client not found")
            .was("ERROR 08P01 invalid command 'KILL_CLIENT 999999', use SHOW HELP;"),
    ),
    (ADMIN, "DISABLE app", is("DISABLE")),
    (ADMIN, "DISABLE app;", is("DISABLE")),
    (ADMIN, "ENABLE app", is("ENABLE")),
    (ADMIN, "enable APP", is("ERROR 08P01 no such database: APP")),
    (ADMIN, "ENABLE app", is("ENABLE")),
    (ADMIN, "PAUSE app", is("PAUSE")),
    (ADMIN, "PAUSE app", is("PAUSE")),
    (
        ADMIN,
        "SUSPEND",
        is("ERROR 08P01 cannot suspend with paused databases"),
    ),
    (ADMIN, "RESUME app", is("RESUME")),
    (
        ADMIN,
        "RESUME app",
        is("ERROR 08P01 database app is not paused"),
    ),
    (ADMIN, "PAUSE \"odd-name.x\"", is("PAUSE")),
    (ADMIN, "resume \"odd-name.x\" ;", is("RESUME")),
    (ADMIN, "PAUSE", is("PAUSE")),
    (ADMIN, "PAUSE", PAUSED),
    (ADMIN, "PAUSE app", PAUSED),
    (ADMIN, "KILL", PAUSED),
    (ADMIN, "KILL app", PAUSED),
    (ADMIN, "SUSPEND", PAUSED),
    (
        ADMIN,
        "RESUME app",
        is("ERROR 08P01 database app is not paused"),
    ),
    (ADMIN, "RESUME", is("RESUME")),
    (
        ADMIN,
        "RESUME",
        is("ERROR 08P01 pooler is not paused/suspended"),
    ),
    (ADMIN, "RECONNECT", is("RECONNECT")),
    (ADMIN, "RECONNECT app", is("RECONNECT")),
    (ADMIN, "WAIT_CLOSE", is("WAIT_CLOSE")),
    (ADMIN, "wait_close app", is("WAIT_CLOSE")),
    (ADMIN, "KILL app", is("KILL")),
    (
        ADMIN,
        "RESUME",
        is("ERROR 08P01 pooler is not paused/suspended"),
    ),
    (ADMIN, "RESUME app", is("RESUME")),
    (
        ADMIN,
        "KILL",
        is("KILL").was("ERROR 08P01 a database is required"),
    ),
    (
        ADMIN,
        "RESUME app",
        is("ERROR 08P01 database app is not paused"),
    ),
    (ADMIN, "RELOAD", is("RELOAD")),
    (ADMIN, "reload;", is("RELOAD")),
];

/// SET.
const SETTINGS: &[Situation] = &[
    (
        ADMIN,
        "SET default_pool_size = 7",
        is("SET default_pool_size=7"),
    ),
    (
        ADMIN,
        "set default_pool_size TO '8';",
        is("SET default_pool_size=8"),
    ),
    (
        ADMIN,
        "SET \"default_pool_size\" = \"9\"",
        is("SET default_pool_size=9"),
    ),
    (ADMIN, "SET no_such_key = 1", FAILED),
    (ADMIN, "SET default_pool_size = abc", FAILED),
    (ADMIN, "SET pool_mode = bogus", FAILED),
    (
        ADMIN,
        "SET pool_mode = Session",
        is("SET pool_mode=Session"),
    ),
    (
        ADMIN,
        "SET query_timeout = '1.5'",
        is("SET query_timeout=1.5"),
    ),
    (ADMIN, "SET query_timeout = 0", is("SET query_timeout=0")),
    (ADMIN, "SET query_timeout = '5s'", FAILED),
    (ADMIN, "SET log_connections = true", FAILED),
    (
        ADMIN,
        "SET log_connections = 1",
        is("SET log_connections=1"),
    ),
    (
        ADMIN,
        "SET server_check_query = ''",
        is("SET server_check_query="),
    ),
    (
        ADMIN,
        "SET listen_port = 1",
        is("SET listen_port=1").but_ours(
            "NOTICE 00000 listen_port takes effect at the next start | SET listen_port=1",
        ),
    ),
    (ADMIN, "SHOW HELP", is("NOTICE 00000 Console usage | SHOW")),
    (STATS, "show help;", is("NOTICE 00000 Console usage | SHOW")),
    (
        ADMIN,
        "SHOW VERSION",
        is("version=PgBouncer 1.25.2 | SHOW").was("version=PgBouncer 1.18.0 | SHOW"),
    ),
    (
        STATS,
        "select Version",
        is("version=PgBouncer 1.25.2 | SHOW").was("version=PgBouncer 1.18.0 | SHOW"),
    ),
];

fn console(side: &Side, user: &str) -> Client {
    side.login(user, "pgbouncer").connect()
}

#[test]
fn every_command_is_answered_alike() {
    let tables = [GRAMMAR, PARAMETERS, ROLES, DATABASES, SETTINGS];
    let mut findings = Findings::default();
    for side in both("") {
        let (mut admin, mut stats) = (console(&side, ADMIN), console(&side, STATS));
        for (user, say, answer) in tables.into_iter().flatten() {
            let client = if *user == ADMIN {
                &mut admin
            } else {
                &mut stats
            };
            let got = line(&client.query(say));
            findings.note(side.which, &format!("{user}: {say}"), *answer, &got);
        }
        let long = format!("SET client_encoding = '{}'", "v".repeat(256));
        findings.note(side.which, "a long value", BAD, &line(&admin.query(&long)));
        assert_eq!(line(&admin.query("SHOW TIMEZONE")), "timezone=GMT | SHOW");
    }
    findings.end();
}

/// Everything up to the end of the connection.
fn to_the_end(client: &mut Client, send: Batch) -> String {
    client.send(send);
    let mut said = Vec::new();
    while let Ok(frame) = client.wire.read_frame() {
        match frame.tag {
            b'E' => said.push(super::told(&crate::support::wire::Fault::read(&frame.body))),
            tag => said.push(char::from(tag).to_string()),
        }
    }
    said.join(" | ")
}

#[test]
fn the_extended_protocol_is_refused_alike() {
    const EXTENDED: Answer = is(
        "ERROR 08P01 extended query protocol not supported by admin console | Z | FATAL 08P01 bad packet",
    );
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let mut say = |what: &str, send: Batch, answer: Answer| {
            let got = to_the_end(&mut console(&side, ADMIN), send);
            findings.note(which, what, answer, &got);
        };
        say("Parse", batch().parse("", "SHOW STATE"), EXTENDED);
        say("Bind", batch().bind("", &[]), EXTENDED);
        say("Execute", batch().execute(), EXTENDED);
        let unsupported = is(
            "ERROR 08P01 unsupported packet type for admin console: 83 | Z | FATAL 08P01 bad packet",
        );
        say("Sync", batch().sync(), unsupported);
        let flush = is(
            "ERROR 08P01 unsupported packet type for admin console: 72 | Z | FATAL 08P01 bad packet",
        );
        say("Flush", batch().flush(), flush);
        say("Terminate", batch().terminate(), is(""));
    }
    findings.end();
}

#[test]
fn who_enters_is_told_the_same() {
    let mut findings = Findings::default();
    for side in both("") {
        let welcome = console(&side, ADMIN).welcome;
        let shown: Vec<_> = welcome
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let now = "DateStyle=ISO TimeZone=GMT client_encoding=UTF8 is_superuser=on server_encoding=UTF8 \
                   server_version=1.25.2/bouncer standard_conforming_strings=on";
        let then = "DateStyle=ISO TimeZone=GMT client_encoding=UTF8 is_superuser=on server_encoding=UTF8 \
                    server_version=1.18.0/bouncer standard_conforming_strings=on";
        findings.note(
            side.which,
            "parameters",
            is(now).was(then),
            &shown.join(" "),
        );
        let refused = side.login("app", "pgbouncer").refused();
        let answer = is("FATAL 08P01 not allowed");
        findings.note(side.which, "app", answer, &super::told(&refused));
        let stranger = side.login("stranger", "pgbouncer").refused();
        let answer = is("FATAL 08P01 \"trust\" authentication failed");
        findings.note(side.which, "a stranger", answer, &super::told(&stranger));
    }
    findings.end();
}

#[test]
fn a_command_that_waits_can_be_cancelled() {
    let mut findings = Findings::default();
    let side = Side::start(Which::Pooler, &super::ini(""), super::USERS);
    let mut busy = side.login("app", "app").connect();
    busy.query("begin").good();
    let mut waiting = console(&side, ADMIN);
    waiting.send(batch().query("PAUSE"));
    let mut other = console(&side, ADMIN);
    crate::support::eventually(crate::support::wire::PATIENCE, "it is paused", || {
        let row = other.query("SHOW STATE").good().row_where("key", "paused");
        row.is_some_and(|row| row["value"] == "yes")
    });
    waiting.cancel();
    // PgBouncer resumes, too, and never answers the command.
    let answer = is("ERROR 57014 canceling statement due to user request");
    let got = line(&waiting.until_ready());
    findings.note(side.which, "PAUSE, cancelled", answer, &got);
    assert_eq!(busy.query("commit").good().tags, ["COMMIT"]);
    assert_eq!(busy.value("select 'goes on'"), "goes on");
    findings.end();
}
