//! pgbench runs through the pooler without an error, and both count the same transactions.

use crate::support::long;
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::{postgres, program};
use crate::support::wire::Client;

const SERVERS: i32 = 20;

fn clients() -> usize {
    if long() { 256 } else { 64 }
}

fn transactions() -> usize {
    if long() { 400 } else { 40 }
}

fn pgbench(port: u16, database: &str, arguments: &[&str]) -> String {
    let output = program("pgbench")
        .args(["-h", "127.0.0.1", "-U", "app", "-p"])
        .arg(port.to_string())
        .args(arguments)
        .arg(database)
        .output()
        .expect("pgbench starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "pgbench {arguments:?}:\n{text}");
    text
}

/// Transactions, queries and logins that the pooler has counted.
fn counted(console: &mut Client) -> [usize; 3] {
    // A database that nobody has used yet may have no row.
    let row = console
        .query("SHOW STATS_TOTALS")
        .good()
        .row_where("database", "app")
        .unwrap_or_default();
    ["xact_count", "query_count", "client_login_count"].map(|column| {
        row.get(column)
            .map_or(0, |number| number.parse().expect("a number"))
    })
}

/// What one run adds to the counts.
fn delta(pooler: &Pooler, clients: usize, transactions: usize, script: &[&str]) -> [usize; 3] {
    let mut console = pooler.console();
    let before = counted(&mut console);
    let (c, t) = (clients.to_string(), transactions.to_string());
    let text = pgbench(
        pooler.port,
        "app",
        &[script, &["-n", "-j", "2", "-c", &c, "-t", &t]].concat(),
    );
    let all = clients * transactions;
    assert!(
        text.contains(&format!(
            "number of transactions actually processed: {all}/{all}"
        )),
        "{text}"
    );
    let failed = text
        .lines()
        .find(|line| line.starts_with("number of failed transactions"));
    assert!(failed.is_none_or(|line| line.contains(" 0 (")), "{text}");
    pooler.pool_shows("cl_active", 0);
    let after = counted(&mut console);
    [0, 1, 2].map(|column| after[column] - before[column])
}

/// Beside its transactions pgbench looks the tables up, once a run, and with `-M prepared` prepares each statement, once a
/// client; how often that is a transaction of its own depends on its version. Two small runs tell:
///
/// `run(1 client, 1 transaction) = look-ups + preparing + 1`, `run(2, 1) = look-ups + 2 preparing + 2`.
///
/// Everything beyond that must be what it was told to do.
fn agree(script: &[&str], queries: usize) {
    let database = postgres().database();
    pgbench(
        postgres().server().port,
        &database,
        &["-i", "-q", "-s", "1"],
    );
    let pooler = config()
        .app_is(&database)
        .database("app", "pool_size", SERVERS)
        .start();
    for protocol in ["simple", "extended", "prepared"] {
        let run = |clients, transactions| {
            delta(
                &pooler,
                clients,
                transactions,
                &[script, &["-M", protocol]].concat(),
            )
        };
        let (one, two) = (run(1, 1), run(2, 1));
        let many = run(clients(), transactions());
        for (column, of_each, what) in [(0, 1, "transactions"), (1, queries, "queries")] {
            let preparing = two[column] - one[column] - of_each;
            let looks = one[column] - preparing - of_each;
            assert!(looks <= 10, "{protocol}: {looks} {what} to look up tables");
            assert!(
                preparing <= if protocol == "prepared" { queries } else { 0 },
                "{protocol}: {preparing} {what} to prepare"
            );
            let expected = looks + clients() * (preparing + transactions() * of_each);
            assert_eq!(many[column], expected, "{protocol}: {what}");
        }
        assert_eq!(
            many[2],
            clients() + 1,
            "{protocol}: logins, with that of the look-ups"
        );
    }
    assert!(postgres().count(&database) <= usize::try_from(SERVERS).unwrap());
}

#[test]
fn select_only_transactions_agree_with_pgbench() {
    agree(&["-S"], 1);
}

#[test]
fn tpc_b_transactions_agree_with_pgbench() {
    // BEGIN, three UPDATEs, a SELECT, an INSERT and END; the UPDATEs of one branch make each other wait.
    agree(&["-b", "tpcb-like"], 7);
}
