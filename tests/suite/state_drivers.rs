//! Drivers, an ORM, a job queue and migrations, unchanged, through transaction mode over few servers.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use pooler::cli::fetch;

use crate::support::pooler::config;
use crate::support::postgres::{binaries, postgres, program};

const PACKAGES: [&str; 5] = [
    "psycopg[binary]",
    "asyncpg",
    "sqlalchemy",
    "alembic",
    "django",
];

/// The folder into which pip has put the drivers.
fn packages() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cache = fetch::cache("pooler-state-drivers", binaries().account())
            .unwrap_or_else(|problem| panic!("no cache folder: {problem}"));
        let (folder, done) = (cache.join("packages"), cache.join("done"));
        if !done.exists() {
            let output = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(&folder)
                .args(PACKAGES)
                .output()
                .expect("python3 is there");
            assert!(
                output.status.success(),
                "pip: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::fs::write(&done, "").expect("the cache is ours");
        }
        folder
    })
}

#[test]
fn drivers_an_orm_a_job_queue_and_migrations_run_as_they_are() {
    let pooler = config()
        .app_is(&postgres().database())
        .database("app", "pool_size", 8)
        .start();
    let output = Command::new("python3")
        .args(["-c", include_str!("state_drivers.py")])
        .arg(format!(
            "postgresql://app:app@127.0.0.1:{}/app",
            pooler.port
        ))
        .env("PYTHONPATH", packages())
        .output()
        .expect("python3 is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("all fine"));
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
