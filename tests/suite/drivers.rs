//! Drivers, frameworks and a job queue through transaction mode: what works with PostgreSQL works through the pooler, however few
//! servers there are, and no client ever meets what another one left behind.
//!
//! The scripts stand in `tests/drivers`. Each is first run against PostgreSQL itself: what fails there proves nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::languages::script;
use crate::support::pooler::config;
use crate::support::postgres::{postgres, program};

/// How many clients run every check at the same time, over fewer servers.
const CLIENTS: &str = "6";
const SERVERS: i32 = 4;
/// No script takes a tenth of it.
const LONGEST: Duration = Duration::from_secs(240);

/// The end of what `name` printed, if it found something wrong.
fn run(name: &str, port: u16, database: &str) -> Result<(), String> {
    let dsn = format!("postgresql://postgres@127.0.0.1:{port}/{database}");
    let mut child = script(name)
        .args([&dsn, CLIENTS])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    let began = Instant::now();
    eventually(LONGEST, name, || {
        let is_over = child.try_wait().expect("it is our child").is_some();
        if !is_over && began.elapsed() > LONGEST - Duration::from_secs(5) {
            child.kill().expect("it is our child");
        }
        is_over
    });
    let output = child.wait_with_output().expect("it is our child");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[track_caller]
fn passes(name: &str) {
    let database = postgres().database();
    run(name, postgres().server().port, &database)
        .unwrap_or_else(|said| panic!("{name} fails with PostgreSQL itself:\n{said}"));
    let pooler = config()
        .user("postgres", "password", "any")
        .server(&database, postgres().server(), &database)
        .pooler("default_pool_size", SERVERS)
        .start();
    run(name, pooler.port, &database)
        .unwrap_or_else(|said| panic!("{name} fails through the pooler:\n{said}"));
}

#[test]
fn psycopg_works() {
    passes("with_psycopg.py");
}

#[test]
fn asyncpg_works() {
    passes("with_asyncpg.py");
}

#[test]
fn sqlalchemy_and_alembic_work() {
    passes("with_sqlalchemy.py");
}

#[test]
fn django_works() {
    passes("with_django.py");
}

#[test]
fn node_postgres_works() {
    passes("with_node.js");
}

#[test]
fn a_job_queue_works() {
    passes("job_queue.py");
}

#[test]
fn pg_dump_dumps_through_the_pooler() {
    let pooler = config().app_is(&postgres().database()).start();
    pooler
        .connect()
        .query("create table dumped as select 'kept' as a")
        .good();
    let output = program("pg_dump")
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            "app",
            "-p",
            &pooler.port.to_string(),
            "app",
        ])
        .output()
        .expect("pg_dump is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("kept"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It sets a lot, and nobody meets it.
    assert_ne!(pooler.connect().value("show search_path"), "");
}
