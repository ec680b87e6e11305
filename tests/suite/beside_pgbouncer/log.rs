//! The log: what tools look for in it, as both write it.

use super::clients::{admin, end_of, served};
use super::{Findings, USERS, both, ini, is};
use crate::support::eventually;
use crate::support::pgbouncer::{Side, Which};
use crate::support::wire::{Address, Login, PATIENCE, batch};

/// The lines of `log` in which all of `parts` stand in this order, `{port}` being the side's own.
fn lines(side: &Side, parts: &[&str]) -> Vec<String> {
    let log = side.log();
    let fits = |line: &&str| {
        let mut rest = *line;
        parts.iter().all(|part| {
            let part = part.replace("{port}", &side.port.to_string());
            let found = rest.find(&part).map(|at| at + part.len());
            rest = found.map_or("", |end| &rest[end..]);
            found.is_some()
        })
    };
    log.lines().filter(fits).map(str::to_owned).collect()
}

/// What must stand there once, after a day with a client of each kind.
const ONCE: &[&[&str]] = &[
    &[
        "LOG kernel file descriptor limit: ",
        "max_client_conn: 100, max expected fd use: 637",
    ],
    &["LOG listening on 127.0.0.1:{port}"],
    &["LOG listening on unix:", "/.s.PGSQL.{port}"],
    &["LOG process up: PgBouncer "],
    &[
        "LOG C-0x",
        ": pgbouncer/admin@unix(",
        "):{port} login attempt: db=pgbouncer user=admin tls=no",
    ],
    &[
        "LOG C-0x",
        ": app/app@127.0.0.1:",
        " login attempt: db=app user=app tls=no",
    ],
    &[
        "LOG S-0x",
        ": app/app@127.0.0.1:",
        " new connection to server (from 127.0.0.1:",
    ],
    &[
        "LOG C-0x",
        ": app/app@127.0.0.1:",
        " closing because: client close request (age=0s)",
    ],
    &[
        "WARNING ",
        "server login failed: FATAL database \"no_such_database\" does not exist",
    ],
    &[
        "LOG C-0x",
        ": missing/app@127.0.0.1:",
        " closing because: database \"no_such_database\" does not exist (age=0s)",
    ],
    &[
        "WARNING C-0x",
        ": missing/app@",
        " pooler error: database \"no_such_database\" does not exist",
    ],
    &["ERROR invalid command 'SHOW nix', use SHOW HELP;"],
    &[
        "WARNING C-0x",
        ": pgbouncer/admin@unix(",
        "):{port} pooler error: invalid command 'SHOW nix', use SHOW HELP;",
    ],
    &["LOG PAUSE 'nix' command issued"],
    &["ERROR no such database: nix"],
    &[
        "WARNING C-0x",
        ": pgbouncer/admin@",
        " pooler error: no such database: nix",
    ],
    &["LOG RECONNECT command issued"],
    &["LOG RELOAD command issued"],
    &["ERROR ", "broken auth file"],
    &["WARNING dropping database 'one' as it does not exist anymore or inactive auto-database"],
    &["LOG got SIGHUP, re-reading config"],
    &["LOG SUSPEND command issued"],
    &["LOG RESUME command issued"],
];

#[test]
fn a_day_is_told_in_the_same_lines() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let socket = side.folder.join(format!(".s.PGSQL.{}", side.port));
        let by_socket = Login::at(Address::Unix(socket));
        let mut console = by_socket.user("admin").database("pgbouncer").connect();
        let mut client = served(&side, "app");
        client.send(batch().terminate());
        let end = end_of(&mut client);
        findings.note(which, "a client leaves", is(""), &end);
        side.login("app", "missing").refused();
        for command in ["SHOW nix", "PAUSE nix", "RECONNECT", "SUSPEND", "RESUME"] {
            console.query(command);
        }
        let text: String = ini("")
            .lines()
            .filter(|line| !line.starts_with("one "))
            .fold(String::new(), |text, line| text + line + "\n");
        side.rewrite(&text);
        let broken = format!("{USERS}broken\n");
        std::fs::write(side.folder.join("users.txt"), broken).unwrap();
        console.query("RELOAD").good();
        let hup = &["LOG got SIGHUP, re-reading config"];
        std::fs::write(side.folder.join("users.txt"), USERS).unwrap();
        side.signal("HUP");
        eventually(PATIENCE, "SIGHUP is told", || !lines(&side, hup).is_empty());
        for parts in ONCE {
            let found = lines(&side, parts).len().to_string();
            findings.note(which, &parts.join("…"), is("1"), &found);
        }
    }
    findings.end();
}

#[test]
fn a_server_has_one_id_in_all_lines_and_on_the_console() {
    let side = Side::start(Which::Pooler, &ini(""), USERS);
    side.login("app", "missing").refused();
    let id_in = |parts: &[&str]| {
        let line = lines(&side, parts).pop().unwrap();
        let begin = line.find("S-0x").unwrap();
        line[begin..].split(':').next().unwrap().to_owned()
    };
    let begun = id_in(&["S-0x", "missing/app@", "new connection to server"]);
    let failed = id_in(&["S-0x", "missing/app@", "server login failed"]);
    let ended = id_in(&["S-0x", "missing/app@", "closing because"]);
    assert_eq!((&failed, &ended), (&begun, &begun));

    let _client = served(&side, "app");
    let id = id_in(&["S-0x", "app/app@", "new connection to server"]);
    let shown = admin(&side).query("SHOW SERVERS").good();
    let row = shown.row_where("database", "app").unwrap();
    assert_eq!(format!("S-{}", row["ptr"]), id);
}

#[test]
fn a_client_that_holds_a_server_between_two_queries_is_active() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let _holder = served(&side, "sessions");
        let mut console = admin(&side);
        let shown = console.query("SHOW CLIENTS").good();
        let row = shown.row_where("database", "sessions").unwrap();
        findings.note(which, "a session's holder", is("active"), &row["state"]);
        let shown = console.query("SHOW CONFIG").good();
        let file = shown.row_where("key", "conffile").unwrap()["value"].clone();
        let is_told = file.ends_with("/pgbouncer.ini").to_string();
        findings.note(which, "conffile", is("true"), &is_told);
    }
    findings.end();
}
