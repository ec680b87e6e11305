//! Clients that people use log in under each `auth_type`: psql, pgbench, psycopg and asyncpg. They must find the pooler's demands no
//! different from PostgreSQL's, and its refusals errors that they can read.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use pooler::cli::fetch;

use crate::support::pooler::{Pooler, config};
use crate::support::postgres::{binaries, program};

/// Logs in with both drivers: prints "in", or the class of the error, for the password on the command line.
const DRIVERS: &str = r#"
import asyncio, sys
import asyncpg, psycopg
host, port, password = sys.argv[1:4]
try:
    with psycopg.connect(host=host, port=port, user="app", dbname="app", password=password) as session:
        print("psycopg", session.execute("select 'in'").fetchone()[0])
except psycopg.OperationalError as error:
    assert "authentication failed" in str(error), error
    print("psycopg refused")
async def main():
    try:
        session = await asyncpg.connect(host=host, port=int(port), user="app", database="app", password=password, ssl=False)
        print("asyncpg", await session.fetchval("select 'in'"))
        await session.close()
    except asyncpg.InvalidPasswordError:
        print("asyncpg refused")
asyncio.run(main())
"#;

/// The folder into which pip has put both drivers.
fn drivers() -> PathBuf {
    let cache = fetch::cache("pooler-drivers", binaries().account())
        .unwrap_or_else(|problem| panic!("no cache folder: {problem}"));
    let lock = File::create(cache.join("lock")).expect("the cache is ours");
    lock.lock().expect("a lock can be waited for");
    let (packages, done) = (cache.join("packages"), cache.join("done"));
    if !done.exists() {
        let output = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&packages)
            .args(["psycopg[binary]", "asyncpg"])
            .output()
            .expect("python3 is there");
        assert!(
            output.status.success(),
            "pip: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        File::create(&done).expect("the cache is ours");
    }
    packages
}

/// What psql, psycopg and asyncpg say of a login with `password`.
fn said(pooler: &Pooler, password: &str) -> Vec<String> {
    let port = pooler.port.to_string();
    let psql = program("psql")
        .args([
            "-X",
            "-At",
            "-w",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "app",
        ])
        .args(["-c", "select 'psql in'", "app"])
        .env("PGPASSWORD", password)
        .output()
        .expect("psql is there");
    let error = String::from_utf8_lossy(&psql.stderr);
    let mut said = vec![if error.contains("authentication failed") {
        "psql refused".to_owned()
    } else {
        String::from_utf8_lossy(&psql.stdout).trim().to_owned()
    }];
    let output = Command::new("python3")
        .args(["-c", DRIVERS, "127.0.0.1", &port, password])
        .env("PYTHONPATH", drivers())
        .output()
        .expect("python3 is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.extend(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned),
    );
    said
}

#[test]
fn drivers_and_programs_log_in_under_each_auth_type() {
    for (auth_type, asks) in [
        ("any", false),
        ("trust", false),
        ("plain", true),
        ("md5", true),
        ("scram-sha-256", true),
        ("hba", true),
    ] {
        let config = config()
            .pooler("auth_type", auth_type)
            .database("app", "user", "app");
        let config = match auth_type {
            "hba" => config
                .pooler("auth_hba_file", "{folder}/hba")
                .file("hba", "host all all 127.0.0.1/32 scram-sha-256\n"),
            _ => config,
        };
        let pooler = config.start();
        let all = |what: &str| ["psql", "psycopg", "asyncpg"].map(|name| format!("{name} {what}"));
        assert_eq!(said(&pooler, "app"), all("in"), "{auth_type}");
        let wrong = if asks { all("refused") } else { all("in") };
        assert_eq!(
            said(&pooler, "wrong"),
            wrong,
            "{auth_type}, a wrong password"
        );
        let script = pooler.folder.join("bench.sql");
        fs::write(&script, "select 1;\n").expect("the folder is writable");
        let bench = program("pgbench")
            .args([
                "-n",
                "-h",
                "127.0.0.1",
                "-p",
                &pooler.port.to_string(),
                "-U",
                "app",
            ])
            .args(["-c", "2", "-t", "5", "-f", "/dev/stdin", "app"])
            .env("PGPASSWORD", "app")
            .stdin(File::open(&script).expect("it was just written"))
            .output()
            .expect("pgbench is there");
        assert!(
            bench.status.success(),
            "{auth_type}: {}",
            String::from_utf8_lossy(&bench.stderr)
        );
    }
}
