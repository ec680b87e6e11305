//! Drivers, frameworks and a job queue through transaction mode: what works with PostgreSQL works through the pooler, however few
//! servers there are, and no client ever meets what another one left behind.
//!
//! The scripts stand in `tests/drivers`. Each is first run against PostgreSQL itself: what fails there proves nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::languages::script;
use crate::support::pooler::config;
use crate::support::postgres::{postgres, program};
use crate::support::scene::Scene;
use crate::support::{eventually, long};

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

/// The same where reads go to replicas, and transactions begin with their first statement.
#[track_caller]
fn pass_late(names: &[&str]) {
    let scene = Scene::with(&[], "id bigint", [0, 1, 2]);
    let pooler = scene
        .config()
        .user("postgres", "password", "any")
        .database("app", "route", "auto")
        .database("app", "transactions", "late")
        // In one session they read what another has written.
        .database("app", "consistency", "global")
        .database("app", "pool_size", SERVERS)
        .start();
    for name in names {
        run(name, pooler.port, "app")
            .unwrap_or_else(|said| panic!("{name} fails where transactions begin late:\n{said}"));
    }
    let routed = pooler.show("SHOW ROUTING");
    let to_replicas = routed.column("went_to").contains(&"replica".to_owned());
    assert!(to_replicas, "some of it went to replicas");
}

#[test]
fn drivers_and_frameworks_work_where_transactions_begin_with_reads_on_replicas() {
    pass_late(&[
        "with_psycopg.py",
        "with_sqlalchemy.py",
        "with_asyncpg.py",
        // Of these PostgreSQL itself knows nothing.
        "with_own.py",
    ]);
    if long() {
        pass_late(&["with_django.py", "with_node.js", "job_queue.py"]);
    }
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

/// What tokio-postgres does, with a notification stream, a cancel and a type that it looks up by itself.
async fn with_tokio_postgres(dsn: &str, marker: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut client, mut connection) = tokio_postgres::connect(dsn, NoTls).await?;
    let (heard, mut notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message {
                let _ = heard.send(note.payload().to_owned());
            }
        }
    });
    let mine = format!("m{marker}");
    client
        .batch_execute(&format!(
            "drop type if exists mood_{mine}; create type mood_{mine} as enum ('well'); set my.marker = '{mine}'; listen tp_{mine}"
        ))
        .await?;
    let statement = client
        .prepare("select $1::text || current_setting('my.marker')")
        .await?;
    for round in 0..20 {
        let row = client.query_one(&statement, &[&round.to_string()]).await?;
        assert_eq!(row.get::<_, String>(0), format!("{round}{mine}"));
        let mood = client
            .query_one(&format!("select 'well'::mood_{mine}::text"), &[])
            .await?;
        assert_eq!(mood.get::<_, String>(0), "well");
        client
            .execute(
                "select pg_notify($1, $2)",
                &[&format!("tp_{mine}"), &round.to_string()],
            )
            .await?;
    }
    for round in 0..20 {
        let note = tokio::time::timeout(LONGEST / 4, notes.recv()).await?;
        assert_eq!(note, Some(round.to_string()));
    }
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(
            "set local my.marker = 'inside'; create temp table scratch (a int) on commit drop",
        )
        .await?;
    let portal = transaction
        .bind("select generate_series(1, 30)", &[])
        .await?;
    assert_eq!(transaction.query_portal(&portal, 20).await?.len(), 20);
    assert_eq!(transaction.query_portal(&portal, 20).await?.len(), 10);
    transaction.rollback().await?;
    let cancel = client.cancel_token();
    let sleeping = format!("tp_sleeps_{mine}_{}", std::process::id());
    let text = format!("select '{sleeping}' from pg_sleep(60)");
    let (slept, cancelled) = tokio::join!(client.batch_execute(&text), async {
        let runs = move || postgres().runs(&sleeping);
        tokio::task::spawn_blocking(runs).await.expect("it runs");
        cancel.cancel_query(NoTls).await
    });
    cancelled?;
    let code = slept.err().and_then(|error| error.code().cloned());
    assert_eq!(code, Some(SqlState::QUERY_CANCELED));
    let row = client.query_one(&statement, &[&"last"]).await?;
    assert_eq!(row.get::<_, String>(0), format!("last{mine}"));
    Ok(())
}

#[test]
fn tokio_postgres_works() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = postgres().database();
    let pooler = config()
        .user("postgres", "password", "any")
        .server(&database, postgres().server(), &database)
        .pooler("default_pool_size", SERVERS)
        .start();
    for port in [postgres().server().port, pooler.port] {
        let dsn = format!("postgresql://postgres@127.0.0.1:{port}/{database}");
        runtime.block_on(async {
            let clients: Vec<_> = (0..6)
                .map(|marker| {
                    let dsn = dsn.clone();
                    tokio::spawn(async move {
                        with_tokio_postgres(&dsn, marker)
                            .await
                            .map_err(|error| format!("{error:?}"))
                    })
                })
                .collect();
            for client in clients {
                client.await.expect("no assertion fails").unwrap();
            }
        });
    }
}
