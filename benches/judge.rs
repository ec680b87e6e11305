//! What the pure rooms cost: judging, gathering, reading for traces, parameters, statements, proofs, the line, counting.
//!
//! `cargo bench --bench judge`, or `cargo bench --bench judge -- prepared` for those whose name says so. The allocator counts,
//! so a line that says `alloc` allocates for each time it ran, and one that does not allocates nothing: so it should be for a
//! query that passes as it is.

use std::sync::Arc;
use std::task::{Context, Waker};

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use pooler::auth::scram;
use pooler::clock::Moment;
use pooler::config::value::{Dialect, PoolMode, SessionState};
use pooler::pools::line::{Lines, Spot};
use pooler::protocol::dialogue::{Dialogue, Rules};
use pooler::protocol::parameters::{Interner, Parameters};
use pooler::protocol::prepared::{Dictionary, OnServer};
use pooler::protocol::run::Run;
use pooler::protocol::sides::{ClientSide, ServerSide};
use pooler::protocol::traces::traces;
use pooler::stats::counters::{Histogram, Tally};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SQL: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";
/// How many rows an answer has.
const ROWS: [usize; 2] = [1, 100];

fn main() {
    divan::main();
}

/// A client and the server it has borrowed.
struct Link {
    client: ClientSide,
    server: ServerSide,
    dictionary: Dictionary,
    interner: Interner,
    tally: Tally,
    gathered: Vec<u8>,
    answers: Vec<u8>,
}

impl Link {
    fn new() -> Self {
        let interner = Interner::default();
        let params = interner.make([("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY")]);
        Self {
            client: ClientSide::new(Arc::clone(&params)),
            server: ServerSide::new(params),
            dictionary: Dictionary::default(),
            interner,
            tally: Tally::default(),
            gathered: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Judges one chunk by the client and one by the server; how many bytes leave for the server, and for the client.
    fn exchange(&mut self, request: &[u8], reply: &[u8]) -> (usize, usize) {
        self.answers.clear();
        let mut dialogue = Dialogue {
            client: &mut self.client,
            server: &mut self.server,
            rules: Rules {
                mode: PoolMode::Transaction,
                max_prepared: 200,
                max_packet: 1 << 30,
                no_simple_query: false,
                state: SessionState::PgBouncer,
                is_followed: false,
                is_split: false,
                dialect: Dialect::Native,
            },
            dictionary: &self.dictionary,
            interner: &self.interner,
            tally: &self.tally,
        };
        self.gathered.clear();
        let mut run = Run::new(request, &mut self.gathered);
        dialogue
            .from_client(request, &mut run, &mut self.answers)
            .expect("a client may send this");
        let sent = run.finish().len();
        self.gathered.clear();
        let mut run = Run::new(reply, &mut self.gathered);
        dialogue
            .from_server(reply, &mut run)
            .expect("a server may say this");
        let received = run.finish().len() + self.answers.len();
        assert!(dialogue.is_over(), "nothing is owed after a whole exchange");
        (sent, received)
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a small frame");
    let mut frame = vec![tag];
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    frame
}

fn query() -> Vec<u8> {
    frame(b'Q', format!("{SQL}\0").as_bytes())
}

/// RowDescription of one column.
fn description() -> Vec<u8> {
    let column = b"\0\x01abalance\0\0\0\x40\0\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    frame(b'T', column)
}

/// Everything after the row description.
fn rows(count: usize) -> Vec<u8> {
    let mut answer = frame(b'D', b"\0\x01\0\0\0\x05-1234").repeat(count);
    answer.extend(frame(b'C', format!("SELECT {count}\0").as_bytes()));
    answer.extend(frame(b'Z', b"I"));
    answer
}

/// Parse of the statement `name`.
fn parse(name: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{SQL}\0\0\0").as_bytes())
}

/// Bind, Describe, Execute and Sync of the statement `name`.
fn execute(name: &str) -> Vec<u8> {
    [
        frame(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes()),
        frame(b'D', b"P\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ]
    .concat()
}

/// The answer to [`execute`]: one row.
fn executed() -> Vec<u8> {
    [frame(b'2', b""), description(), rows(1)].concat()
}

/// A query as it passes, and its answer.
#[divan::bench(args = ROWS)]
fn simple_query(bencher: Bencher<'_, '_>, count: usize) {
    let (request, reply) = (query(), [description(), rows(count)].concat());
    let mut link = Link::new();
    bencher
        .counter(BytesCount::new(request.len() + reply.len()))
        .bench_local(|| link.exchange(black_box(&request), black_box(&reply)));
}

/// An unnamed statement passes as it is too.
#[divan::bench]
fn unnamed_statement(bencher: Bencher<'_, '_>) {
    let request = [parse(""), execute("")].concat();
    let reply = [frame(b'1', b""), executed()].concat();
    let mut link = Link::new();
    bencher
        .counter(BytesCount::new(request.len() + reply.len()))
        .bench_local(|| link.exchange(black_box(&request), black_box(&reply)));
}

/// A statement that the server holds: renamed, nothing more.
#[divan::bench]
fn prepared_and_held(bencher: Bencher<'_, '_>) {
    let (request, reply) = (execute("P_0"), executed());
    let mut link = Link::new();
    let parsed = [frame(b'1', b""), frame(b'Z', b"I")].concat();
    link.exchange(&[parse("P_0"), frame(b'S', b"")].concat(), &parsed);
    bencher
        .counter(BytesCount::new(request.len() + reply.len()))
        .bench_local(|| link.exchange(black_box(&request), black_box(&reply)));
}

/// A statement that the borrowed server lacks: parsed first, in the same write.
#[divan::bench]
fn prepared_and_lacking(bencher: Bencher<'_, '_>) {
    let (request, reply) = (execute("P_0"), [frame(b'1', b""), executed()].concat());
    let mut link = Link::new();
    let parsed = [frame(b'1', b""), frame(b'Z', b"I")].concat();
    link.exchange(&[parse("P_0"), frame(b'S', b"")].concat(), &parsed);
    bencher.bench_local(|| {
        link.server.held = OnServer::default();
        link.exchange(black_box(&request), black_box(&reply))
    });
}

/// A text that the server holds for somebody else: the Parse is answered here.
#[divan::bench]
fn prepared_by_another_client(bencher: Bencher<'_, '_>) {
    let (request, reply) = ([parse("P_0"), execute("P_0")].concat(), executed());
    let mut link = Link::new();
    let parsed = [frame(b'1', b""), frame(b'Z', b"I")].concat();
    link.exchange(&[parse("other"), frame(b'S', b"")].concat(), &parsed);
    bencher.bench_local(|| {
        link.client.names.remove(&b"P_0"[..]);
        link.exchange(black_box(&request), black_box(&reply))
    });
}

/// A hundred frames that pass, of which some are replaced.
#[divan::bench(args = [0, 1, 50])]
fn run(bencher: Bencher<'_, '_>, replaced: usize) {
    let chunk = [b'x'; 6_400];
    let mut gathered = Vec::new();
    bencher.bench_local(|| {
        gathered.clear();
        let mut run = Run::new(black_box(&chunk), &mut gathered);
        for index in 0..100 {
            if index < replaced {
                run.put(b"instead");
            } else {
                run.pass(index * 64, index * 64 + 64);
            }
        }
        run.finish().len()
    });
}

fn usual<'a>(application: &'a str, zone: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("standard_conforming_strings", "on"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", zone),
        ("application_name", application),
    ]
}

fn compare(bencher: Bencher<'_, '_>, wanted: &Parameters, present: &Parameters) {
    bencher.bench_local(|| black_box(wanted).batch_from(black_box(present)));
}

/// Two sets that are equal without being the same.
#[divan::bench]
fn parameters_equal(bencher: Bencher<'_, '_>) {
    let (one, two) = (Interner::default(), Interner::default());
    let (one, two) = (one.make(usual("web", "UTC")), two.make(usual("web", "UTC")));
    compare(bencher, &one, &two);
}

/// Two values differ.
#[divan::bench]
fn parameters_different(bencher: Bencher<'_, '_>) {
    let interner = Interner::default();
    let (one, two) = (
        interner.make(usual("web", "UTC")),
        interner.make(usual("batch", "Europe/Berlin")),
    );
    compare(bencher, &one, &two);
}

/// The set that two clients with the same startup packet share.
#[divan::bench]
fn parameters_interned(bencher: Bencher<'_, '_>) {
    let interner = Interner::default();
    let _kept = interner.make(usual("web", "UTC"));
    bencher.bench_local(|| interner.make(black_box(usual("web", "UTC"))));
}

/// A known text among so many.
#[divan::bench(args = [1, 10_000])]
fn dictionary(bencher: Bencher<'_, '_>, texts: usize) {
    let dictionary = Dictionary::default();
    let text = |number: usize| format!("{SQL} -- {number}\0\0\0");
    let _kept: Vec<_> = (0..texts)
        .map(|number| dictionary.find(text(number).as_bytes()))
        .collect();
    let wanted = text(texts / 2);
    bencher.bench_local(|| dictionary.find(black_box(wanted.as_bytes())));
}

/// What a login to a server costs where only the password is known.
#[divan::bench(sample_count = 10)]
fn scram_derive() -> scram::Keys {
    scram::derive(black_box("correct horse"), b"battery staple!!", 4096)
}

/// One query counted.
#[divan::bench]
fn histogram_record(bencher: Bencher<'_, '_>) {
    let histogram = Histogram::default();
    bencher.bench_local(|| histogram.record(black_box(1_234)));
}

/// What a text may leave behind in its session.
#[divan::bench]
fn reading_for_traces(bencher: Bencher) {
    bencher
        .counter(BytesCount::of_str(SQL))
        .bench_local(|| traces(black_box(SQL.as_bytes())));
}

/// A client lines up behind so many others, and the first of them gets a server.
#[divan::bench(args = [1, 256, 10_000])]
fn a_place_in_line(bencher: Bencher, others: u64) {
    let mut lines: Lines<u64> = Lines::new(1);
    let spot = |number| Arc::new(Spot::new(Waker::noop(), Moment::from_micros(number)));
    (0..others).for_each(|number| lines.join(0, spot(number)));
    let (mut number, mut cx) = (others, Context::from_waker(Waker::noop()));
    let mut last = spot(number);
    bencher.bench_local(|| {
        number += 1;
        last = spot(number);
        lines.join(0, Arc::clone(&last));
        let rest = lines.give(0, Box::new(number));
        (rest, black_box(&last).poll(&mut cx).is_ready())
    });
}
