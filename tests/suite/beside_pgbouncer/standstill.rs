//! SUSPEND: who stands still, who is in the way, and how it goes on.

use std::thread;
use std::time::Duration;

use super::clients::{admin, end_of, served};
use super::{Answer, Findings, both, is, line};
use crate::support::eventually;
use crate::support::pgbouncer::{Side, Which};
use crate::support::wire::{Client, PATIENCE, batch};

/// Long enough that an answer would have come.
const A_WHILE: Duration = Duration::from_millis(150);
const SUSPENDED: Answer = is("SUSPEND");
const RESUMED: Answer = is("RESUME");
const PAUSED: Answer = is("ERROR 08P01 already suspended/paused");

fn silence(client: &mut Client) -> &'static str {
    if client.wire.is_silent_for(A_WHILE) {
        "silence"
    } else {
        "an answer"
    }
}

/// What a running pooler has to do with clients of every kind, and how it goes on.
#[test]
fn a_suspended_pooler_reads_nobody_and_loses_nothing() {
    let mut findings = Findings::default();
    for side in both("") {
        let which = side.which;
        let mut say = |what: &str, answer, got: &str| findings.note(which, what, answer, got);
        let mut console = admin(&side);
        let (mut idle, mut busy, mut inside) = (
            served(&side, "app"),
            served(&side, "app"),
            served(&side, "sessions"),
        );
        busy.query("begin").good();
        busy.send(batch().query("select 'later'"));
        busy.until_ready().good();
        inside.send(batch().query("select pg_sleep(0.1), 'under way'"));
        say("SUSPEND", SUSPENDED, &line(&console.query("SUSPEND")));
        for command in ["SUSPEND", "PAUSE", "PAUSE app", "KILL", "KILL app"] {
            if which == Which::PgBouncer && command == "KILL" {
                continue;
            }
            say(command, PAUSED, &line(&console.query(command)));
        }
        let got = line(&console.query("RESUME app"));
        say(
            "RESUME app",
            is("ERROR 08P01 database app is not paused"),
            &got,
        );
        say("RELOAD", is("RELOAD"), &line(&console.query("RELOAD")));
        idle.send(batch().query("select 'idle'"));
        busy.send(batch().query("select 'busy'"));
        let mut fresh = side.login("app", "app").begin().unwrap();
        say("idle", is("silence"), silence(&mut idle));
        say("busy", is("silence"), silence(&mut busy));
        say("under way", is("silence"), silence(&mut inside));
        let is_silent = fresh.is_silent_for(A_WHILE).to_string();
        say("who comes meanwhile", is("true"), &is_silent);
        say("RESUME", RESUMED, &line(&console.query("RESUME")));
        for (client, tag) in [
            (&mut idle, "SELECT 1"),
            (&mut busy, "SELECT 1"),
            (&mut inside, "SELECT 1"),
        ] {
            say(
                "it goes on",
                is(tag),
                &client.until_ready().good().tags.join(" "),
            );
        }
        say("commit", is("COMMIT"), &busy.query("commit").tags.join(" "));
        let first = fresh.read_frame().map(|frame| char::from(frame.tag));
        say("who came meanwhile", is("R"), &first.unwrap().to_string());
        let got = line(&console.query("RESUME"));
        say(
            "again",
            is("ERROR 08P01 pooler is not paused/suspended"),
            &got,
        );
        say("SUSPEND again", SUSPENDED, &line(&console.query("SUSPEND")));
        drop(console);
        idle.send(batch().query("select 1"));
        let got = idle.until_ready().good().tags.join(" ");
        say("nobody is left to resume", is("SELECT 1"), &got);
    }
    findings.end();
}

#[test]
fn who_cannot_stand_still_is_ended_when_suspend_timeout_is_over() {
    let mut findings = Findings::default();
    for side in both("suspend_timeout = 0.3\n") {
        let which = side.which;
        let mut say = |what: &str, answer, got: &str| findings.note(which, what, answer, got);
        let mut console = admin(&side);
        let (mut holder, mut waiting) = (served(&side, "one"), served(&side, "one"));
        holder.query("begin").good();
        waiting.send(batch().query("select 1"));
        eventually(PATIENCE, "it waits", || {
            let pools = console.query("SHOW POOLS").good();
            let row = pools.row_where("database", "one").unwrap();
            row["cl_waiting"] == "1"
        });
        let mut half = crate::support::wire::Wire::dial(&holder.address).unwrap();
        half.send_bytes(&[0, 0]).unwrap();
        eventually(PATIENCE, "it is seen", || {
            let sockets = console.query("SHOW SOCKETS").good();
            sockets
                .column("state")
                .iter()
                .any(|state| state == "cl_login")
        });
        say("SUSPEND", SUSPENDED, &line(&console.query("SUSPEND")));
        let timeout = is("FATAL 08P01 suspend_timeout");
        say("in line", timeout, &end_of(&mut waiting));
        say("half logged in", timeout, &super::clients::rest(&mut half));
        say("RESUME", RESUMED, &line(&console.query("RESUME")));
        let got = holder.query("commit").tags.join(" ");
        say("who stood still", is("COMMIT"), &got);
        say(
            "another value",
            is("SET suspend_timeout=0"),
            &line(&console.query("SET suspend_timeout = 0")),
        );
    }
    findings.end();
}

#[test]
fn signals_to_a_suspended_pooler_are_told_alike() {
    let mut findings = Findings::default();
    for mut side in both("") {
        let which = side.which;
        let mut console = admin(&side);
        let mut client = served(&side, "app");
        let awaits = |side: &Side, signal: &str, line: &str| {
            side.signal(signal);
            let what = format!("{which:?} says {line:?} after {signal}");
            eventually(PATIENCE, &what, || side.log().contains(line));
        };
        let got = line(&console.query("SUSPEND"));
        findings.note(which, "SUSPEND", SUSPENDED, &got);
        awaits(&side, "USR1", "got SIGUSR1, but already paused/suspended");
        awaits(&side, "USR2", "got SIGUSR2, continuing from SUSPEND");
        client.query("select 1").good();
        awaits(&side, "USR2", "got SIGUSR2, but not paused/suspended");
        awaits(&side, "USR1", "got SIGUSR1, pausing all activity");
        awaits(&side, "USR2", "got SIGUSR2, continuing from PAUSE");
        client.query("select 1").good();
        let got = line(&console.query("SUSPEND"));
        findings.note(which, "SUSPEND", SUSPENDED, &got);
        awaits(
            &side,
            "INT",
            "FATAL suspend was in progress, going down immediately",
        );
        let code = format!("{:?}", side.exit());
        findings.note(which, "the exit code", is("Some(1)"), &code);
    }
    findings.end();
}

#[test]
fn an_answer_that_nobody_takes_is_in_the_way_until_it_is_taken() {
    let mut findings = Findings::default();
    for side in both("suspend_timeout = 0\n") {
        let which = side.which;
        let mut client = served(&side, "app");
        let (mut console, mut other) = (admin(&side), admin(&side));
        client.send(batch().query("select repeat('x', 20000000)"));
        eventually(PATIENCE, "the answer has filled every buffer", || {
            let sent = |console: &mut Client| {
                let stats = console.query("SHOW STATS_TOTALS").good();
                stats.row_where("database", "app").unwrap()["bytes_sent"].clone()
            };
            let before = sent(&mut other);
            before.parse::<u64>().unwrap() > 100_000
                && other.wire.is_silent_for(A_WHILE)
                && sent(&mut other) == before
        });
        console.send(batch().query("SUSPEND"));
        findings.note(which, "before", is("silence"), silence(&mut console));
        let length = thread::scope(|scope| {
            let reader = scope.spawn(|| client.until_ready().good().value().len());
            let got = line(&console.until_ready());
            findings.note(which, "SUSPEND", SUSPENDED, &got);
            let got = line(&console.query("RESUME"));
            findings.note(which, "RESUME", RESUMED, &got);
            reader.join().unwrap()
        });
        assert_eq!(length, 20_000_000, "{which:?}: nothing is lost");
    }
    findings.end();
}
