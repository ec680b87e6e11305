//! Clients: what their logins, queries and ends are answered.

use super::{Answer, Findings, USERS, both, ini, is, line, told};
use crate::support::eventually;
use crate::support::pgbouncer::{Side, Which};
use crate::support::wire::{
    Address, Client, Fault, GSSENC_REQUEST, Login, PATIENCE, Refusal, SSL_REQUEST, Wire, batch,
    request_packet, startup_packet,
};

const VERSION_2: i32 = 0x0002_0000;
const VERSION_3: i32 = 0x0003_0000;

/// What a login is answered: `in`, or the error.
fn entered(login: &Login) -> String {
    match login.try_connect() {
        Ok(_) => "in".to_owned(),
        Err(Refusal::Told(fault)) => told(&fault),
        Err(_) => "closed".to_owned(),
    }
}

/// What comes back on a connection on which only `bytes` are sent, up to its end.
fn answered(side: &Side, bytes: &[u8]) -> String {
    let mut wire = Wire::dial(&Address::tcp(side.port)).unwrap();
    wire.send_bytes(bytes).unwrap();
    rest(&mut wire)
}

pub(super) fn rest(wire: &mut Wire) -> String {
    let mut said = Vec::new();
    while let Ok(frame) = wire.read_frame() {
        said.push(match frame.tag {
            // It is let in.
            b'R' => return "in".to_owned(),
            b'E' => told(&Fault::read(&frame.body)),
            tag => char::from(tag).to_string(),
        });
    }
    said.join(" | ")
}

/// The last error of a connection that ends, with what came before it.
pub(super) fn end_of(client: &mut Client) -> String {
    rest(&mut client.wire)
}

pub(super) fn admin(side: &Side) -> Client {
    side.login("admin", "pgbouncer").connect()
}

/// A session that has been served once.
pub(super) fn served(side: &Side, database: &str) -> Client {
    let mut client = side.login("app", database).connect();
    client.query("select 1").good();
    client
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_packet(VERSION_3, parameters)
}

/// A startup packet with `body` behind the version.
fn raw_startup(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &VERSION_3.to_be_bytes(), body].concat()
}

#[test]
fn startup_packets_are_answered_alike() {
    let mut findings = Findings::default();
    for side in both("ignore_startup_parameters = ignored\n") {
        let which = side.which;
        let mut say =
            |what: &str, answer: Answer, got: &str| findings.note(which, what, answer, got);
        let raw = |bytes: &[u8]| answered(&side, bytes);
        say(
            "no user",
            is("FATAL 08P01 no username supplied"),
            &raw(&startup(&[("database", "app")])),
        );
        let long = "u".repeat(200);
        say(
            "a long user",
            is("FATAL 08P01 username too long"),
            &raw(&startup(&[("user", &long)])),
        );
        say(
            "version 2",
            is("FATAL 08P01 old V2 protocol not supported"),
            &raw(&startup_packet(VERSION_2, &[("user", "app")])),
        );
        say(
            "no terminator",
            is("FATAL 08P01 invalid startup packet layout: expected terminator as last byte")
                .was("in"),
            &raw(&raw_startup(b"user\0app\0")),
        );
        say(
            "an odd version",
            is("FATAL 08P01 bad packet header: '0000000900090000'"),
            &raw(&startup_packet(0x0009_0000, &[])),
        );
        for (name, value, answer) in PARAMETERS {
            let login = side.login("app", "app").parameter(name, value);
            say(&format!("{name}={value}"), *answer, &entered(&login));
        }
        say("SSL", is("N"), &first_byte(&side, SSL_REQUEST));
        say("GSS", is("N"), &first_byte(&side, GSSENC_REQUEST));
    }
    findings.end();
}

fn first_byte(side: &Side, request: i32) -> String {
    let mut wire = Wire::dial(&Address::tcp(side.port)).unwrap();
    wire.send_bytes(&request_packet(request)).unwrap();
    char::from(wire.byte().unwrap()).to_string()
}

const SHAPE: &str = "FATAL 08P01 unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed";
const OLD_SHAPE: &str = "FATAL 08P01 unsupported startup parameter: options";

/// Parameters of the startup packet.
const PARAMETERS: &[(&str, &str, Answer)] = &[
    ("application_name", "x", is("in")),
    ("client_encoding", "UTF8", is("in")),
    ("DateStyle", "ISO", is("in")),
    ("datestyle", "ISO, MDY", is("in")),
    ("TimeZone", "UTC", is("in")),
    ("standard_conforming_strings", "on", is("in")),
    (
        "IntervalStyle",
        "postgres",
        is("in").was("FATAL 08P01 unsupported startup parameter: IntervalStyle"),
    ),
    ("ignored", "x", is("in")),
    (
        "extra_float_digits",
        "3",
        is("FATAL 08P01 unsupported startup parameter: extra_float_digits"),
    ),
    (
        "search_path",
        "public",
        is("FATAL 08P01 unsupported startup parameter: search_path"),
    ),
    (
        "Ignored",
        "x",
        is("FATAL 08P01 unsupported startup parameter: Ignored"),
    ),
    ("options", "-c datestyle=ISO", is("in").was(OLD_SHAPE)),
    ("options", "--timezone=UTC", is("in").was(OLD_SHAPE)),
    ("options", "-c ignored=1", is("in").was(OLD_SHAPE)),
    (
        "options",
        "-c search_path=x",
        is("FATAL 08P01 unsupported startup parameter in options: search_path").was(OLD_SHAPE),
    ),
    ("options", "-f x", is(SHAPE).was(OLD_SHAPE)),
    ("options", "-c", is(SHAPE).was(OLD_SHAPE)),
];

#[test]
fn logins_are_refused_alike() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let mut say =
            |what: &str, answer: Answer, got: &str| findings.note(which, what, answer, got);
        say("good", is("in"), &entered(&side.login("app", "app")));
        say(
            "a forced user",
            is("in"),
            &entered(&side.login("app", "forced")),
        );
        say(
            "no such database",
            is("FATAL 08P01 no such database: nix"),
            &entered(&side.login("app", "nix")),
        );
        say(
            "a database named like the user",
            is("in"),
            &entered(&Login::at(Address::tcp(side.port)).user("app")),
        );
        say(
            "a stranger",
            is("FATAL 08P01 \"trust\" authentication failed"),
            &entered(&side.login("stranger", "app")),
        );
        say(
            "a stranger, no such database",
            is("FATAL 08P01 \"trust\" authentication failed"),
            &entered(&side.login("stranger", "nix")),
        );
        say(
            "the server's refusal",
            is("FATAL 3D000 database \"no_such_database\" does not exist")
                .was("FATAL 08P01 database \"no_such_database\" does not exist"),
            &entered(&side.login("app", "missing")),
        );
        let mut console = admin(&side);
        console.query("DISABLE one").good();
        say(
            "disabled",
            is("FATAL 08P01 database \"one\" is disabled"),
            &entered(&side.login("app", "one")),
        );
        say(
            "disabled, a stranger",
            is("FATAL 08P01 \"trust\" authentication failed"),
            &entered(&side.login("stranger", "one")),
        );
        console.query("ENABLE one").good();
        say("enabled", is("in"), &entered(&side.login("app", "one")));
    }
    findings.end();
}

#[test]
fn passwords_are_refused_alike() {
    let mut findings = Findings::default();
    for (method, refused) in [
        ("plain", is("FATAL 08P01 password authentication failed")),
        ("md5", is("FATAL 08P01 password authentication failed")),
        (
            "scram-sha-256",
            is("FATAL 08P01 SASL authentication failed"),
        ),
    ] {
        for side in both(&format!("auth_type = {method}\n")) {
            let which = side.which;
            let mut say = |what: &str, answer: Answer, got: &str| {
                findings.note(which, &format!("{method}: {what}"), answer, got);
            };
            say("right", is("in"), &entered(&side.login("app", "app")));
            say(
                "wrong",
                refused,
                &entered(&side.login("app", "app").password("wrong")),
            );
            say(
                "a stranger",
                refused,
                &entered(&side.login("stranger", "app")),
            );
            say(
                "wrong, no such database",
                refused,
                &entered(&side.login("app", "nix").password("wrong")),
            );
            say(
                "right, no such database",
                is("FATAL 08P01 no such database: nix"),
                &entered(&side.login("app", "nix")),
            );
            say(
                "the console",
                is("in"),
                &entered(&side.login("admin", "pgbouncer")),
            );
            say(
                "the console, wrong",
                refused,
                &entered(&side.login("admin", "pgbouncer").password("wrong")),
            );
            say(
                "the console, not allowed",
                is("FATAL 08P01 not allowed"),
                &entered(&side.login("app", "pgbouncer")),
            );
        }
    }
    findings.end();
}

#[test]
fn limits_of_clients_are_told_alike() {
    let mut findings = Findings::default();
    for side in both("max_client_conn = 2\n") {
        let _clients = [served(&side, "app"), served(&side, "app")];
        let answer = is("FATAL 08P01 no more connections allowed (max_client_conn)");
        findings.note(
            side.which,
            "max_client_conn",
            answer,
            &entered(&side.login("app", "app")),
        );
        let answer = is("in");
        findings.note(
            side.which,
            "the console",
            answer,
            &entered(&side.login("admin", "pgbouncer")),
        );
    }
    let more = "max_db_client_connections = 1\n";
    let side = Side::start(Which::Pooler, &ini(more), USERS);
    let _client = served(&side, "app");
    let answer = is("FATAL 08P01 client connections exceeded (max_db_client_connections)");
    findings.note(
        side.which,
        "max_db_client_connections",
        answer,
        &entered(&side.login("app", "app")),
    );
    drop(side);
    let side = Side::start(
        Which::Pooler,
        &ini("max_user_client_connections = 1\n"),
        USERS,
    );
    let _client = served(&side, "app");
    let answer = is("FATAL 08P01 client connections exceeded (max_user_client_connections)");
    findings.note(
        side.which,
        "max_user_client_connections",
        answer,
        &entered(&side.login("app", "one")),
    );
    findings.end();
}

#[test]
fn limits_of_time_are_told_alike() {
    let mut findings = Findings::default();
    let time = |name: &str| format!("{name} = 1\n");
    for side in both(&time("query_wait_timeout")) {
        let mut holder = served(&side, "one");
        holder.query("begin").good();
        let mut waiting = side.login("app", "one").connect();
        waiting.send(batch().query("select 1"));
        findings.note(
            side.which,
            "query_wait_timeout",
            is("FATAL 08P01 query_wait_timeout"),
            &end_of(&mut waiting),
        );
    }
    for side in both(&time("query_timeout")) {
        let mut client = served(&side, "app");
        client.send(batch().query("select pg_sleep(30)"));
        findings.note(
            side.which,
            "query_timeout",
            is("FATAL 08P01 query timeout"),
            &end_of(&mut client),
        );
    }
    for side in both(&time("client_idle_timeout")) {
        let mut client = served(&side, "app");
        findings.note(
            side.which,
            "client_idle_timeout",
            is("FATAL 08P01 client_idle_timeout"),
            &end_of(&mut client),
        );
    }
    for side in both(&time("idle_transaction_timeout")) {
        let mut client = served(&side, "app");
        client.query("begin").good();
        findings.note(
            side.which,
            "idle_transaction_timeout",
            is("FATAL 08P01 idle transaction timeout"),
            &end_of(&mut client),
        );
    }
    for side in both(&time("client_login_timeout")) {
        let mut wire = Wire::dial(&Address::tcp(side.port)).unwrap();
        wire.send_bytes(&startup(&[("user", "app")])[..6]).unwrap();
        findings.note(
            side.which,
            "client_login_timeout",
            is("FATAL 08P01 client_login_timeout"),
            &rest(&mut wire),
        );
    }
    let side = Side::start(Which::Pooler, &ini(&time("transaction_timeout")), USERS);
    let mut client = served(&side, "app");
    client.query("begin").good();
    findings.note(
        side.which,
        "transaction_timeout",
        is("FATAL 08P01 transaction timeout"),
        &end_of(&mut client),
    );
    findings.end();
}

#[test]
fn operators_end_clients_alike() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let (mut busy, mut idle) = (served(&side, "app"), served(&side, "app"));
        busy.query("begin").good();
        assert_eq!(line(&admin(&side).query("KILL app")), "KILL");
        let removed = is("FATAL 08P01 database removed");
        findings.note(which, "KILL, idle", removed, &end_of(&mut idle));
        findings.note(which, "KILL, in a transaction", removed, &end_of(&mut busy));
        admin(&side).query("RESUME app").good();
        let mut old = served(&side, "app");
        admin(&side).query("DISABLE app").good();
        findings.note(
            which,
            "DISABLE spares",
            is("SELECT 1"),
            &tags(&mut old, "select 1"),
        );
        admin(&side).query("ENABLE app").good();
        admin(&side).query("PAUSE app").good();
        old.send(batch().query("select 2"));
        eventually(PATIENCE, "it waits", || {
            let row = admin(&side)
                .query("SHOW POOLS")
                .good()
                .row_where("database", "app");
            row.is_some_and(|row| row["cl_waiting"] == "1")
        });
        admin(&side).query("RESUME app").good();
        findings.note(which, "RESUME serves", is("2"), &old.until_ready().value());
        admin(&side).query("RECONNECT").good();
        findings.note(
            which,
            "RECONNECT spares",
            is("SELECT 1"),
            &tags(&mut old, "select 1"),
        );
    }
    let side = Side::start(Which::Pooler, &ini(""), USERS);
    let mut client = served(&side, "app");
    let row = admin(&side)
        .query("SHOW CLIENTS")
        .good()
        .row_where("database", "app");
    let id = row.unwrap()["id"].clone();
    assert_eq!(
        line(&admin(&side).query(&format!("KILL_CLIENT {id}"))),
        "KILL_CLIENT"
    );
    let answer = is("FATAL 08P01 admin forced disconnect");
    findings.note(side.which, "KILL_CLIENT", answer, &end_of(&mut client));
    findings.end();
}

fn tags(client: &mut Client, sql: &str) -> String {
    client.query(sql).good().tags.join(" ")
}

#[test]
fn queries_are_refused_alike() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let mut say =
            |what: &str, answer: Answer, got: &str| findings.note(which, what, answer, got);
        let mut client = served(&side, "statements");
        client.send(batch().query("begin"));
        let answer = is("C | FATAL 08P01 transaction blocks not allowed in statement pooling mode")
            .was("FATAL 08P01 transaction blocks not allowed in statement pooling mode");
        say("BEGIN in statement mode", answer, &end_of(&mut client));
        let mut client = served(&side, "statements");
        let answer = is("BEGIN COMMIT");
        say(
            "a whole transaction",
            answer,
            &tags(&mut client, "begin; commit"),
        );
        let mut client = served(&side, "app");
        client.send(batch().frame(b'~', b""));
        say(
            "an unknown message",
            is("FATAL 08P01 unknown pkt"),
            &end_of(&mut client),
        );
        let login = side
            .login("app", "app")
            .parameter("TimeZone", "Nowhere/Land");
        let mut client = login.connect();
        client.send(batch().query("select 1"));
        let answer = is("FATAL 08P01 invalid server parameter");
        say("a bad TimeZone", answer, &end_of(&mut client));
        let mut client = served(&side, "app");
        say(
            "an error of the server's",
            is("22012"),
            &client.query("select 1/0").error().code,
        );
        say(
            "and it goes on",
            is("SELECT 1"),
            &tags(&mut client, "select 1"),
        );
        let pid = client.value("select pg_backend_pid()");
        client.query("begin").good();
        client.send(batch().query(&format!("select pg_terminate_backend({pid})")));
        let answer = is(
            "T | D | FATAL 57P01 terminating connection due to administrator command | FATAL 08P01 server conn crashed?",
        );
        say("the backend dies", answer, &end_of(&mut client));
    }
    for side in both("disable_pqexec = 1\n") {
        let mut client = side.login("app", "app").connect();
        client.send(batch().query("select 1"));
        findings.note(
            side.which,
            "disable_pqexec",
            is("FATAL 08P01 PQexec disallowed"),
            &end_of(&mut client),
        );
    }
    findings.end();
}

#[test]
fn prepared_statements_are_refused_as_promised() {
    let mut findings = Findings::default();
    let side = Side::start(Which::Pooler, &ini(""), USERS);
    let mut say =
        |what: &str, answer: Answer, got: &str| findings.note(side.which, what, answer, got);
    let mut client = served(&side, "app");
    client.send(batch().bind("nix", &[]).sync());
    let unknown = is("FATAL 08P01 prepared statement did not exist");
    say("Bind", unknown, &end_of(&mut client));
    let mut client = served(&side, "app");
    client.send(batch().describe_statement("nix").sync());
    say("Describe", unknown, &end_of(&mut client));
    let mut client = served(&side, "app");
    client.ask(batch().parse("s", "select 1").sync()).good();
    client.send(batch().parse("s", "select 2").sync());
    let answer = is("FATAL 08P01 prepared statement name is already in use");
    say("Parse twice", answer, &end_of(&mut client));
    let mut client = served(&side, "app");
    let closed = client.ask(batch().close_statement("nix").sync()).good();
    say("Close", is("3Z"), &closed.shape);
    for (what, tag) in [
        ("Parse", b'P'),
        ("Bind", b'B'),
        ("Describe", b'D'),
        ("Close", b'C'),
    ] {
        let mut client = served(&side, "app");
        client.send(batch().frame(tag, b"Snix").sync());
        let broken = format!("FATAL 08P01 broken {what} packet");
        let got = end_of(&mut client);
        say(
            &format!("broken {what}"),
            is(""),
            if got == broken { "" } else { &got },
        );
    }
    findings.end();
}

#[test]
fn shutdowns_are_told_alike() {
    let mut findings = Findings::default();
    for mut side in both("") {
        let mut console = admin(&side);
        console.send(batch().query("SHUTDOWN"));
        findings.note(side.which, "SHUTDOWN", is(""), &end_of(&mut console));
        let code = format!("{:?}", side.exit());
        findings.note(side.which, "the exit code", is("Some(0)"), &code);
    }
    findings.end();
}

#[test]
fn a_pooler_that_waits_for_its_servers_tells_everybody_so() {
    let mut findings = Findings::default();
    let mut side = Side::start(Which::Pooler, &ini(""), USERS);
    let (mut busy, mut idle) = (served(&side, "app"), served(&side, "app"));
    busy.query("begin").good();
    let mut console = admin(&side);
    let got = line(&console.query("SHUTDOWN WAIT_FOR_SERVERS"));
    findings.note(side.which, "WAIT_FOR_SERVERS", is("SHUTDOWN"), &got);
    let got = line(&console.query("RESUME"));
    findings.note(
        side.which,
        "RESUME",
        is("ERROR 08P01 pooler is shutting down"),
        &got,
    );
    let got = line(&console.query("PAUSE"));
    findings.note(
        side.which,
        "PAUSE",
        is("ERROR 08P01 already suspended/paused"),
        &got,
    );
    idle.send(batch().query("select 1"));
    findings.note(
        side.which,
        "idle",
        is("FATAL 08P01 server shutting down"),
        &end_of(&mut idle),
    );
    let socket = side.folder.join(format!(".s.PGSQL.{}", side.port));
    let by_socket = |user: &str, database: &str| {
        let login = Login::at(Address::Unix(socket.clone()));
        entered(&login.user(user).password(user).database(database))
    };
    findings.note(
        side.which,
        "a client by the socket",
        is("FATAL 08P01 pooler is shutting down"),
        &by_socket("app", "app"),
    );
    findings.note(
        side.which,
        "the console by the socket",
        is("in"),
        &by_socket("admin", "pgbouncer"),
    );
    busy.send(batch().query("commit"));
    let code = format!("{:?}", side.exit());
    findings.note(side.which, "the exit code", is("Some(0)"), &code);
    findings.end();
}

#[test]
fn reloads_are_told_alike() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let (mut kept, mut removed) = (served(&side, "app"), served(&side, "one"));
        side.rewrite(&ini("server_lifetime = soon\n"));
        let got = line(&admin(&side).query("RELOAD"));
        let answer = is("ERROR F0000 RELOAD failed, see logs for additional details").was("RELOAD");
        findings.note(which, "a bad value", answer, &got);
        findings.note(
            which,
            "it goes on",
            is("SELECT 1"),
            &tags(&mut kept, "select 1"),
        );
        let without: String = ini("")
            .lines()
            .filter(|line| !line.starts_with("one "))
            .map(|line| format!("{line}\n"))
            .collect();
        side.rewrite(&without);
        findings.note(
            which,
            "RELOAD",
            is("RELOAD"),
            &line(&admin(&side).query("RELOAD")),
        );
        findings.note(
            which,
            "a database is gone",
            is("FATAL 08P01 database removed"),
            &end_of(&mut removed),
        );
        findings.note(
            which,
            "others stay",
            is("SELECT 1"),
            &tags(&mut kept, "select 1"),
        );
        findings.note(
            which,
            "nobody finds it",
            is("FATAL 08P01 no such database: one"),
            &entered(&side.login("app", "one")),
        );
    }
    findings.end();
}
