//! Whatever a session says, it hears through the pooler what PostgreSQL itself would have answered.
//!
//! A script of random requests is run by one session straight at PostgreSQL and by another through a pooler in transaction mode, frame by
//! frame. Between the requests a stranger takes and leaves servers of the same pool, and leaves dirt on them, so that the second session
//! meets now this server and now that one. What differs for a reason that nobody can see past (a table's OID, a file and line of
//! PostgreSQL's source) is set aside in [`told`]; ParameterStatus may come late, so it is the sum of them that must agree.

mod script;

use std::collections::BTreeMap;

use proptest::test_runner::{Config as Rounds, TestCaseError, TestRng, TestRunner};

use self::script::{Dirt, Request, Step, script};
use crate::support::long;
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Body, Client, Frame};

/// What both databases hold before each script. The settings with a dot have a value to go back to: one that any session of a
/// server has ever set is never again unknown there, but empty.
const SCENE: &str = "drop schema if exists mine cascade; create schema mine; \
     create table mine.t (id int, v text); create sequence mine.sq; \
     insert into mine.t values (1, 'one'), (2, 'two')";

/// Said once of each database.
const DEFAULTS: &str = "alter database {} set search_path to mine, public; \
     alter database {} set mine.x to 'none'; alter database {} set mine.y to 'none'";

/// Both sides of the comparison.
struct Stage {
    databases: [String; 2],
    pooler: Pooler,
}

impl Stage {
    fn new() -> Self {
        let databases = [postgres().database(), postgres().database()];
        for database in &databases {
            postgres().run(&DEFAULTS.replace("{}", database));
        }
        let pooler = config()
            .app_is(&databases[1])
            .database("app", "pool_size", 4)
            .pooler("query_wait_timeout", "8s")
            .start();
        let stage = Self { databases, pooler };
        stage.set();
        // A pool that has heard nobody ask for `currval` yet may miss the first one, which the README says.
        let mut first = stage.pooler.connect();
        first.query("select nextval('sq'), currval('sq'), lastval()");
        first.query("discard all").good();
        stage
    }

    fn set(&self) {
        for database in &self.databases {
            let mut owner = postgres().login().database(database).connect();
            owner.query(SCENE).good();
        }
    }

    /// Runs the script on both sides; the first answer that differs ends it.
    fn compare(&self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.set();
        let mut direct = Side::new(postgres().login().database(&self.databases[0]).connect());
        let mut pooled = Side::new(self.pooler.connect());
        let mut stranger = Stranger::new(self.pooler.connect());
        for (number, step) in steps.iter().enumerate() {
            stranger.stir(step.dirt);
            // What a server does not hold it cannot be given in a failed transaction, so which error it is may differ; and
            // PostgreSQL 15.20 itself has been seen to crash there.
            if direct.has_failed && matches!(step.request, Request::Extended(_)) {
                continue;
            }
            let (expected, found) = (direct.answers(step), pooled.answers(step));
            if expected != found {
                let request = &step.request;
                return Err(TestCaseError::fail(format!(
                    "step {number}, {request}:\n  PostgreSQL: {expected:#?}\n  the pooler: {found:#?}"
                )));
            }
        }
        Ok(())
    }
}

/// A session and the last word about each of its parameters.
struct Side {
    client: Client,
    parameters: BTreeMap<String, String>,
    /// Whether a transaction has failed and has not been ended.
    has_failed: bool,
}

impl Side {
    fn new(client: Client) -> Self {
        let parameters = client.welcome.parameters.clone();
        Self {
            client,
            parameters,
            has_failed: false,
        }
    }

    /// Sends a step, and says what came back, with the parameters as they are known after it.
    fn answers(&mut self, step: &Step) -> Vec<String> {
        self.client.send(step.request.batch());
        let mut answers = Vec::new();
        for _ in 0..step.request.ends() {
            match self.client.try_until_ready() {
                Ok(reply) => {
                    answers.extend(reply.frames.iter().filter_map(told));
                    self.parameters.extend(reply.parameters);
                    self.has_failed = reply.status == 'E';
                }
                Err(cut) => {
                    answers.extend(cut.reply.frames.iter().filter_map(told));
                    answers.push(format!("the end: {}", cut.error.kind()));
                    return answers;
                }
            }
        }
        answers.push(format!("then {:?}", self.parameters));
        answers
    }
}

/// What a frame tells its reader, without what must differ between two databases or two processes.
fn told(frame: &Frame) -> Option<String> {
    let tag = frame.tag as char;
    match frame.tag {
        b'S' => None,
        b'E' | b'N' => Some(format!("{tag} {:?}", fields(&frame.body))),
        b'T' => Some(format!("{tag} {:?}", columns(&frame.body))),
        _ => Some(format!("{tag} {}", frame.body.escape_ascii())),
    }
}

/// The fields of an error, but file, line and routine of the source.
fn fields(body: &[u8]) -> Vec<(char, String)> {
    let mut body = Body(body);
    let mut fields = Vec::new();
    while body.0.first().is_some_and(|&field| field != 0) {
        let field = body.bytes(1)[0];
        let text = body.text();
        if !b"FLR".contains(&field) {
            fields.push((field as char, without_name(text)));
        }
    }
    fields.sort();
    fields
}

/// Without the name of a prepared statement. Of two names for one text an error may tell the other, and one that was taken back
/// behind a pipeline's failure is told by the pooler's own.
fn without_name(message: String) -> String {
    let Some((before, rest)) = message.split_once("prepared statement \"") else {
        return message;
    };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    format!("{before}prepared statement{after}")
}

/// Name, column number, type, size, modifier and format: all but the table's OID.
fn columns(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut body = Body(body);
    (0..body.i16())
        .map(|_| {
            let name = body.text();
            body.i32();
            (name, body.bytes(14))
        })
        .collect()
}

/// Another client of the pool, which now holds a server and now lets go of it.
struct Stranger {
    client: Client,
    is_holding: bool,
}

impl Stranger {
    fn new(client: Client) -> Self {
        Self {
            client,
            is_holding: false,
        }
    }

    fn stir(&mut self, dirt: Option<Dirt>) {
        let Some(dirt) = dirt else { return };
        if self.is_holding {
            self.client.query("commit").good();
        }
        self.client.query(dirt.sql());
        self.is_holding = !self.is_holding;
        if self.is_holding {
            self.client.query("begin").good();
        }
    }
}

#[test]
fn a_session_through_the_pooler_hears_what_postgresql_would_have_said() {
    let stage = Stage::new();
    let rounds = Rounds {
        cases: if long() { 2_000 } else { 40 },
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Rounds::default()
    };
    // In the short form the same scripts each time, so that a failure is one that somebody can see again.
    let mut runner = if long() {
        TestRunner::new(rounds)
    } else {
        let chance = TestRng::deterministic_rng(rounds.rng_algorithm);
        TestRunner::new_with_rng(rounds, chance)
    };
    runner
        .run(&script(), |steps| stage.compare(&steps))
        .unwrap_or_else(|failure| panic!("{failure}"));
}
