//! Nonsense ends the connection it came by, with a word where a word can be said, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Rounds, TestRunner};

use crate::support::pooler::{Config, Pooler, config};
use crate::support::scripted::{Scripted, row};
use crate::support::wire::{
    Client, Cut, Fault, PATIENCE, Wire, batch, is_patience, startup_packet,
};
use crate::support::{eventually, long};

const STARTUP: [(&str, &str); 2] = [("user", "app"), ("database", "app")];

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

/// Sends bytes to a new connection and reads to its end; the last error it was told.
#[track_caller]
fn end_of(pooler: &Pooler, what: &str, bytes: &[u8]) -> Option<Fault> {
    let mut wire = Wire::dial(&pooler.address()).unwrap();
    // The pooler may close before it has read all of it.
    drop(wire.send_bytes(bytes));
    let mut fault = None;
    loop {
        match wire.read_frame() {
            Ok(frame) if frame.tag == b'E' => fault = Some(Fault::read(&frame.body)),
            Ok(frame) => assert_ne!(frame.tag, b'Z', "{what} logs in"),
            Err(error) => {
                assert!(!is_patience(&error), "{what} keeps the connection open");
                return fault;
            }
        }
    }
}

#[test]
fn nonsense_before_login_ends_its_connection_only() {
    let pooler = single().start();
    let startup = |length: i32| {
        [
            &length.to_be_bytes()[..],
            &startup_packet(196_608, &STARTUP)[4..],
        ]
        .concat()
    };
    let huge = [
        &10_001_i32.to_be_bytes()[..],
        &196_608_i32.to_be_bytes(),
        &[b'x'; 9_993],
    ]
    .concat();
    for (what, bytes) in [
        ("a length of 0", startup(0)),
        ("a length of 3", startup(3)),
        ("a length of 7", startup(7)),
        ("a negative length", startup(-5)),
        ("a length of 2 GB", startup(i32::MAX)),
        ("more than 10,000 bytes", huge),
        ("an unknown version", startup_packet(262_144, &STARTUP)),
        ("version 2", startup_packet(131_072, &STARTUP)),
        ("no user", startup_packet(196_608, &[("database", "app")])),
        (
            "no end of the parameters",
            [
                &13_i32.to_be_bytes()[..],
                &196_608_i32.to_be_bytes(),
                b"user\0",
            ]
            .concat(),
        ),
        (
            "a name without a value",
            [
                &14_i32.to_be_bytes()[..],
                &196_608_i32.to_be_bytes(),
                b"user\0\0",
            ]
            .concat(),
        ),
        (
            "bytes behind the end",
            [
                &17_i32.to_be_bytes()[..],
                &196_608_i32.to_be_bytes(),
                b"user\0a\0\0x",
            ]
            .concat(),
        ),
        (
            "a web browser",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("an ssh client", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("zeroes", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("a query", batch().query("select 1").0),
        ("a password", batch().frame(b'p', b"app\0").0),
    ] {
        if let Some(fault) = end_of(&pooler, what, &bytes) {
            assert_eq!(fault.severity, "FATAL", "{what}: {fault:?}");
            assert!(
                ["08P01", "28000", "0A000"].contains(&fault.code.as_str()),
                "{what}: {fault:?}"
            );
        }
        assert!(
            pooler.is_running(),
            "{what} ends the process:\n{}",
            pooler.log()
        );
    }
    pooler.serves();
}

#[test]
fn a_connection_that_closes_at_once_is_no_event() {
    let pooler = single().start();
    for bytes in [
        &b""[..],
        &[0],
        &[0, 0, 0],
        &[0, 0, 0, 8, 4, 210, 22],
        &startup_packet(196_608, &STARTUP)[..20],
    ] {
        for _ in 0..5 {
            let mut wire = Wire::dial(&pooler.address()).unwrap();
            wire.send_bytes(bytes).unwrap();
            wire.vanish();
        }
    }
    pooler.serves();
}

#[test]
fn a_large_promise_before_login_takes_no_memory() {
    let pooler = single().start();
    pooler.serves();
    let before = pooler.memory("VmRSS");
    let promise = [
        &i32::MAX.to_be_bytes()[..],
        &196_608_i32.to_be_bytes(),
        b"user\0",
    ]
    .concat();
    let held: Vec<_> = (0..50)
        .map(|_| {
            let mut wire = Wire::dial(&pooler.address()).unwrap();
            wire.send_bytes(&promise).unwrap();
            wire
        })
        .collect();
    pooler.serves();
    let grown = pooler.memory("VmRSS").saturating_sub(before);
    assert!(grown < 10_000, "{grown} KB for {} promises", held.len());
}

/// Messages of consistent length whose content is cut short or makes no sense.
fn broken_messages() -> Vec<(&'static str, u8, Vec<u8>)> {
    vec![
        ("an empty Parse", b'P', vec![]),
        ("a Parse without its text", b'P', b"name\0".to_vec()),
        ("a Parse whose name has no end", b'P', b"name".to_vec()),
        (
            "a Parse without its count of types",
            b'P',
            b"name\0select 1\0".to_vec(),
        ),
        (
            "a Parse with fewer types than it says",
            b'P',
            b"name\0select 1\0\0\x05\0\0\0\x17".to_vec(),
        ),
        (
            "a Parse with a negative count",
            b'P',
            b"name\0select 1\0\xff\xff".to_vec(),
        ),
        ("an empty Bind", b'B', vec![]),
        ("a Bind without its statement", b'B', b"portal\0".to_vec()),
        ("a Bind without its counts", b'B', b"\0\0".to_vec()),
        (
            "a Bind with a value longer than itself",
            b'B',
            b"\0\0\0\0\0\x01\x7f\xff\xff\xffabc\0\0".to_vec(),
        ),
        ("an empty Describe", b'D', vec![]),
        ("a Describe of neither", b'D', b"X\0".to_vec()),
        ("a Describe whose name has no end", b'D', b"Sname".to_vec()),
        ("an empty Close", b'C', vec![]),
        ("a Close of neither", b'C', b"?name\0".to_vec()),
        ("an empty Execute", b'E', vec![]),
        ("an Execute without its count", b'E', b"\0".to_vec()),
        ("an empty Query", b'Q', vec![]),
        ("a Query without an end", b'Q', b"select 1".to_vec()),
        ("a FunctionCall that says nothing", b'F', vec![]),
    ]
}

/// What a session answers to bytes followed by Sync: an error and readiness, or an error and the end.
#[track_caller]
fn survives_or_ends(client: &mut Client, what: &str) -> bool {
    match client.try_until_ready() {
        Ok(reply) => {
            assert!(!reply.errors.is_empty(), "{what} is taken: {}", reply.shape);
            assert!(
                reply.errors.iter().all(|fault| fault.code == "08P01"
                    || fault.code.starts_with("42")
                    || fault.code == "26000"),
                "{what}: {:?}",
                reply.errors
            );
            true
        }
        Err(Cut { reply, error }) => {
            assert!(!is_patience(&error), "{what} is never answered");
            let fault = reply
                .errors
                .last()
                .unwrap_or_else(|| panic!("{what} ends the session without a word"));
            assert_eq!(
                (fault.severity.as_str(), fault.code.as_str()),
                ("FATAL", "08P01"),
                "{what}: {fault:?}"
            );
            false
        }
    }
}

#[test]
fn a_message_cut_short_is_a_protocol_violation() {
    let pooler = single().start();
    let mut bystander = pooler.connect();
    for (what, tag, body) in broken_messages() {
        let mut client = pooler.connect();
        client.send(batch().frame(tag, &body).sync());
        if survives_or_ends(&mut client, what) {
            // FunctionCall and Query bring a ReadyForQuery of their own, before that of the Sync.
            assert_eq!(
                client.ask(batch().query("select 'goes on'")).errors,
                [],
                "{what}"
            );
        }
        assert_eq!(
            bystander.value("select 'undisturbed'"),
            "undisturbed",
            "{what}"
        );
    }
    pooler.serves();
}

#[test]
fn a_message_that_no_client_may_send_ends_it() {
    let pooler = single().start();
    for tag in [b'Z', b'R', b'K', b'T', b'1', b'v', 0, b'!', 0xff] {
        let mut client = pooler.connect();
        client.send(batch().frame(tag, b"12345"));
        let fault = client.ended();
        assert_eq!(fault.code, "08P01", "{:?}: {fault:?}", tag as char);
        pooler.serves();
    }
}

#[test]
fn a_second_startup_packet_ends_it() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.send(batch().raw(&startup_packet(196_608, &STARTUP)));
    assert_eq!(client.ended().code, "08P01");
    pooler.serves();
}

#[test]
fn an_impossible_length_ends_it() {
    let pooler = single().start();
    for length in [0_i32, 3, -1, i32::MIN] {
        for tag in [b'Q', b'P', b'd', b'S'] {
            let mut client = pooler.connect();
            client.send(batch().raw(&[tag]).raw(&length.to_be_bytes()));
            assert_eq!(
                client.ended().code,
                "08P01",
                "{:?} of length {length}",
                tag as char
            );
        }
    }
    pooler.serves();
}

#[test]
fn nonsense_amid_a_transaction_takes_the_server_with_it() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.query("begin").good();
    let server = client.server();
    client.send(batch().frame(b'!', b""));
    assert_eq!(client.ended().code, "08P01");
    assert_ne!(pooler.connect().server(), server);
}

#[test]
fn copy_messages_out_of_place_are_ignored_as_postgres_does() {
    let pooler = single().start();
    let mut client = pooler.connect();
    client.send(batch().copy_data(b"x").copy_done().copy_fail("y"));
    assert_eq!(client.value("select 'goes on'"), "goes on");
    client.send(
        batch()
            .copy_data(b"x")
            .parse("", "select 'and on'")
            .copy_done()
            .run("", &[])
            .sync(),
    );
    assert_eq!(client.until_ready().value(), "and on");
}

#[test]
fn no_bytes_whatever_end_the_process() {
    let pooler = single().start();
    let rounds = if long() { 5_000 } else { 150 };
    let mut runner = TestRunner::new(Rounds {
        cases: rounds,
        failure_persistence: None,
        ..Rounds::default()
    });
    let anything = (
        any::<bool>(),
        prop::collection::vec(
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)),
            1..6,
        ),
    );
    runner
        .run(&anything, |(logged_in, frames)| {
            let mut wire = if logged_in {
                pooler.connect().wire
            } else {
                Wire::dial(&pooler.address()).unwrap()
            };
            let all = frames
                .iter()
                .fold(batch(), |all, (tag, body)| all.frame(*tag, body));
            drop(wire.send_bytes(&all.0));
            drop(wire);
            prop_assert!(pooler.is_running());
            Ok(())
        })
        .unwrap();
    pooler.serves();
    pooler.pool_shows("cl_active", 0);
}

/// A pooler whose only server follows a script.
fn before(scripted: &Scripted) -> Pooler {
    single()
        .server("app", scripted.server.clone(), "app")
        .pooler("server_connect_timeout", "500ms")
        .start()
}

/// Sessions whose first query containing `bad` is answered by `answer`, everything else being well.
fn misbehaving(
    answer: impl Fn(&mut crate::support::scripted::Peer) -> std::io::Result<()> + Send + Sync + 'static,
) -> Scripted {
    Scripted::new(move |number, peer| {
        let name = format!("session {number}");
        loop {
            peer.serve(&name, |sql| sql.contains("bad"))?;
            answer(peer)?;
        }
    })
}

/// Sends `select 'bad'` and gives the FATAL that ends the session.
#[track_caller]
fn fatal(pooler: &Pooler) -> Fault {
    let mut client = pooler.connect();
    assert_eq!(client.value("select 1"), "session 0");
    client.send(batch().query("select 'bad'")).ended()
}

#[test]
fn a_server_that_talks_nonsense_is_closed_and_its_client_told() {
    for (what, answer) in [
        ("a frame of length 0", b"T\0\0\0\0".to_vec()),
        ("a negative length", b"D\xff\xff\xff\xff".to_vec()),
        ("a tag that no server sends", b"!\0\0\0\x04".to_vec()),
        ("readiness for nothing known", b"Z\0\0\0\x05?".to_vec()),
    ] {
        let scripted = misbehaving(move |peer| {
            peer.send(&batch().raw(&answer))?;
            peer.until_closed();
            Err(std::io::ErrorKind::UnexpectedEof.into())
        });
        let pooler = before(&scripted);
        let fault = fatal(&pooler);
        assert!(
            ["08P01", "08006"].contains(&fault.code.as_str()),
            "{what}: {fault:?}"
        );
        assert_eq!(
            pooler.connect().value("select 1"),
            "session 1",
            "{what}: it is not lent again"
        );
    }
}

#[test]
fn a_server_that_dies_amid_a_message_is_closed_and_its_client_told() {
    for said in [
        vec![],
        b"T\0".to_vec(),
        b"T\0\0\0\x30\0\x01te".to_vec(),
        row("x").0,
    ] {
        let what = format!("{said:?}");
        let scripted = misbehaving(move |peer| {
            peer.send(&batch().raw(&said))?;
            Err(std::io::ErrorKind::UnexpectedEof.into())
        });
        let pooler = before(&scripted);
        assert_eq!(fatal_after_anything(&pooler).code, "08006", "after {what}");
        assert_eq!(
            pooler.connect().value("select 1"),
            "session 1",
            "after {what}"
        );
    }
}

/// Like [`fatal`], when half a message may stand before the error: the client cannot be told then, only left.
fn fatal_after_anything(pooler: &Pooler) -> Fault {
    let mut client = pooler.connect();
    assert_eq!(client.value("select 1"), "session 0");
    client.send(batch().query("select 'bad'"));
    let mut bytes = Vec::new();
    while let Ok(byte) = client.wire.byte() {
        bytes.push(byte);
    }
    let told = (0..bytes.len()).rev().find_map(|at| {
        let rest = &bytes[at..];
        let length = rest
            .get(1..5)
            .map(|length| u32::from_be_bytes(length.try_into().unwrap()) as usize)?;
        (rest[0] == b'E' && length + 1 == rest.len()).then(|| Fault::read(&rest[5..]))
    });
    told.unwrap_or_else(|| Fault {
        code: "08006".into(),
        message: "closed amid a message".into(),
        ..Fault::default()
    })
}

#[test]
fn an_error_by_which_a_server_dies_reaches_its_client() {
    let scripted = misbehaving(|peer| {
        peer.send(&batch().frame(
            b'E',
            b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0",
        ))?;
        Err(std::io::ErrorKind::UnexpectedEof.into())
    });
    let pooler = before(&scripted);
    let mut client = pooler.connect();
    assert_eq!(client.value("select 1"), "session 0");
    client.send(batch().query("select 'bad'"));
    let mut codes = Vec::new();
    while let Ok(frame) = client.wire.read_frame() {
        assert_eq!(frame.tag, b'E');
        codes.push(Fault::read(&frame.body).code);
    }
    assert_eq!(codes[0], "57P01", "{codes:?}");
    assert_eq!(pooler.connect().value("select 1"), "session 1");
}

#[test]
fn last_words_reach_a_client_that_asks_on_before_the_connection_ends() {
    let has_spoken = Arc::new(AtomicBool::new(false));
    let spoken = Arc::clone(&has_spoken);
    let scripted = misbehaving(move |peer| {
        peer.send(&batch().frame(
            b'E',
            b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0",
        ))?;
        spoken.store(true, Ordering::SeqCst);
        peer.until_closed();
        Err(std::io::ErrorKind::UnexpectedEof.into())
    });
    let pooler = before(&scripted);
    let mut client = pooler.connect();
    assert_eq!(client.value("select 1"), "session 0");
    client.send(batch().query("select 'bad'"));
    eventually(PATIENCE, "the server has said its last words", || {
        has_spoken.load(Ordering::SeqCst)
    });
    client.send(batch().query("select 2"));
    let frame = client.wire.read_frame().unwrap();
    assert_eq!(Fault::read(&frame.body).code, "57P01");
}

#[test]
fn a_server_that_speaks_unasked_while_idle_is_not_lent_again() {
    for (what, said) in [
        ("a row", row("nobody asked").0),
        (
            "an error",
            batch().frame(b'E', b"SERROR\0VERROR\0CXX000\0Moops\0\0").0,
        ),
        ("readiness", batch().frame(b'Z', b"I").0),
        ("half a message", b"D\0\0".to_vec()),
    ] {
        let scripted = misbehaving(move |peer| {
            // In one write: the answer, and behind it what nobody asked for.
            peer.send(&row("asked").frame(b'Z', b"I").raw(&said))?;
            peer.until_closed();
            Err(std::io::ErrorKind::UnexpectedEof.into())
        });
        let pooler = before(&scripted);
        let mut client = pooler.connect();
        let reply = client.query("select 'bad'");
        assert_eq!(reply.value(), "asked", "{what}");
        let mut next = pooler.connect();
        assert_eq!(next.value("select 1"), "session 1", "{what}");
    }
}

#[test]
fn notices_and_parameters_of_an_idle_server_do_no_harm() {
    let scripted = misbehaving(|peer| {
        let notice = batch()
            .frame(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
            .frame(b'S', b"TimeZone\0UTC\0");
        peer.send(&row("asked").frame(b'Z', b"I").raw(&notice.0))
    });
    let pooler = before(&scripted);
    let mut client = pooler.connect();
    assert_eq!(client.query("select 'bad'").value(), "asked");
    let next = client.query("select 1");
    assert!(next.value().starts_with("session"), "{next:?}");
}

#[test]
fn a_server_that_never_answers_the_login_is_given_up() {
    let scripted = Scripted::raw(|_, peer| {
        peer.until_closed();
        Ok(())
    });
    let pooler = before(&scripted);
    let fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(
        (fault.severity.as_str(), &fault.code[..2]),
        ("FATAL", "08"),
        "{fault:?}"
    );
    pooler.show("SHOW POOLS");
}

#[test]
fn a_server_that_asks_for_an_absurd_proof_is_given_up() {
    for asked in [
        batch().frame(b'R', &7_i32.to_be_bytes()),
        batch().frame(b'R', b"\0\0"),
        batch().frame(b'R', b"\0\0\0\x0aSCRAM-SHA-512\0\0"),
        batch().frame(b'Z', b"I"),
        batch().frame(b'v', &[0; 3]),
        batch().raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ] {
        let scripted = Scripted::raw(move |_, peer| {
            peer.send(&asked)?;
            peer.until_closed();
            Ok(())
        });
        let pooler = before(&scripted);
        let fault = match pooler.login().try_connect() {
            Ok(mut client) => client.send(batch().query("select 1")).ended(),
            Err(refusal) => refusal.told(),
        };
        assert_eq!(fault.severity, "FATAL", "{fault:?}");
        assert!(pooler.is_running());
    }
}

#[test]
fn a_server_cannot_make_the_pooler_count_to_a_billion() {
    let scripted = Scripted::raw(|_, peer| {
        peer.send(&batch().frame(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
        let first = String::from_utf8_lossy(&peer.frame()?.body).into_owned();
        let nonce = first.rsplit("r=").next().unwrap_or_default().to_owned();
        let answer = format!("r={nonce}server,s=c2FsdHNhbHRzYWx0c2FsdA==,i=2000000000");
        peer.send(&batch().frame(
            b'R',
            &[&11_i32.to_be_bytes()[..], answer.as_bytes()].concat(),
        ))?;
        peer.until_closed();
        Ok(())
    });
    let pooler = single()
        .server("app", scripted.server.clone(), "app")
        .database("app", "password", "x")
        .server("well", crate::support::postgres::postgres().server(), "app")
        .start();
    let fault = match pooler.login().try_connect() {
        Ok(mut client) => client.send(batch().query("select 1")).ended(),
        Err(refusal) => refusal.told(),
    };
    assert_eq!(fault.severity, "FATAL", "{fault:?}");
    assert_eq!(
        pooler
            .login()
            .database("well")
            .connect()
            .value("select 'well'"),
        "well"
    );
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody_else() {
    let pooler = config()
        .database("app", "pool_size", 2)
        .pooler("threads", 1)
        .start();
    let mut stuck = pooler.connect();
    stuck.send(batch().query("select repeat('x', 1000) from generate_series(1, 100000)"));
    let mut other = pooler.connect();
    eventually(Duration::from_secs(5), "others are served", || {
        other.value("select 'quick'") == "quick"
    });
    for _ in 0..100 {
        other.query("select 1").good();
    }
    assert_eq!(stuck.until_ready().good().rows.len(), 100_000);
    eventually(PATIENCE, "it is over", || pooler.pool("sv_active") == 0);
}
