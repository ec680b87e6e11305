//! The demo's failover: the primary is killed under the load, a replica takes over, the old primary comes back.
//!
//! Nobody keeps this cluster, so the demo promotes by itself, where Patroni would after its `ttl`. What the pooler made of it is read
//! in its console; whether it is true is read in the tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::cli::cluster::Cluster;
use crate::cli::driver::Client;
use crate::cli::packets::Answer;
use crate::cli::problem::Problem;
use crate::cli::stage::DEMO;
use crate::cli::tally::{Counts, Tally};
use crate::cli::view::{cell, grouped};
use crate::clock;
use crate::locked::Locked;

/// Before the primary is killed, and after the old one has come back.
const CALM: Duration = Duration::from_secs(3);
/// How long there is no primary before the demo promotes one.
const ALONE: Duration = Duration::from_secs(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// The node that is killed, and the one that takes over.
const OLD: usize = 0;
const NEW: usize = 1;

/// Where it happens.
pub struct Scene {
    /// The servers.
    pub cluster: Arc<Mutex<Cluster>>,
    /// Their ports on 127.0.0.1.
    pub nodes: Vec<u16>,
    /// The pooler's port.
    pub port: u16,
    /// How many clients there are.
    pub clients: usize,
    /// What they lived through.
    pub tally: Arc<Tally>,
    /// Where it is told what happens.
    pub teller: UnboundedSender<String>,
}

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Clients' requests that were refused for want of a primary.
    failed: u64,
    /// The old primary got something to do when it was back.
    has_strayed: bool,
}

type Row = BTreeMap<String, String>;

impl Scene {
    /// Lets it happen.
    ///
    /// # Errors
    /// Whatever goes wrong with the servers or the pooler's console.
    pub async fn perform(&self) -> Result<Told, Problem> {
        self.clients_are_there().await;
        sleep(CALM).await;
        let mut console = Client::connect(self.port, DEMO, "pgbouncer").await?;
        let killed = clock::wall();
        self.on(|cluster| cluster.kill9(OLD)).await?;
        sleep(ALONE).await;
        let told = clock::wall();
        self.on(|cluster| cluster.promote(NEW)).await?;
        let promoted = clock::wall();
        self.on(|cluster| cluster.repoint(2, NEW)).await?;
        let row = self.outage(&mut console).await?;
        let (old, new) = (self.address(OLD), self.address(NEW));
        let mut events = vec![
            (0.0, format!("kill -9 of the primary, {old}")),
            (millis(told, killed), format!("{new} is told to take over")),
            (
                millis(promoted, killed),
                "it says that it is promoted".to_owned(),
            ),
        ];
        events.extend(seen_by_pooler(&row, killed));
        self.tell(&timeline(events));
        let counts = self.tally.glance();
        self.tell(&toll(&row, &counts));
        let connected = grouped(counts.connected as u64);
        let all = grouped(self.clients as u64);
        self.tell(&format!(
            "  clients    {connected} of {all} are connected as before\n\n"
        ));
        sleep(CALM).await;
        let has_strayed = self.revive(&mut console).await?;
        self.rejoin(&mut console).await?;
        let failed = row.get("failed").and_then(|failed| failed.parse().ok());
        Ok(Told {
            failed: failed.unwrap_or_default(),
            has_strayed,
        })
    }

    /// Says whether all went as it should, once nobody works any more.
    ///
    /// # Errors
    /// When the new primary does not answer.
    pub async fn verdict(&self, told: Option<Told>, counts: &Counts) -> Result<bool, Problem> {
        let Some(told) = told else {
            self.print("The failover was cut short.\n");
            return Ok(false);
        };
        let there = self.on(|cluster| balances(cluster, NEW)).await?;
        let most = counts.written + counts.unknown;
        let (lost, extra) = (
            counts.written.saturating_sub(there),
            there.saturating_sub(most),
        );
        self.print(&format!(
            "{} writes acknowledged, {} not answered, {} are there: {lost} lost, {extra} too many\n",
            grouped(counts.written),
            grouped(counts.unknown),
            grouped(there),
        ));
        Ok(lost + extra + told.failed == 0
            && !told.has_strayed
            && counts.codes.keys().all(|code| is_expected(code)))
    }

    /// The old primary is started as it was. True when it got anything to do.
    async fn revive(&self, console: &mut Client) -> Result<bool, Problem> {
        self.tell(
            "  REVIVAL    the old primary is started as it was, and takes writes by itself\n",
        );
        let start = clock::now();
        self.on(|cluster| cluster.restart(OLD)).await?;
        let address = self.address(OLD);
        self.node(console, &address, |row| row["role"] == "fenced")
            .await?;
        let took = clock::now().since(start);
        let before = self.on(|cluster| balances(cluster, OLD)).await?;
        let done = self.tally.glance().written;
        sleep(CALM).await;
        let written = self.tally.glance().written - done;
        let after = self.on(|cluster| balances(cluster, OLD)).await?;
        let servers = self.on(|cluster| count(cluster, OLD, SERVERS)).await?;
        self.step(took, "fenced in SHOW NODES: it is on an older timeline");
        self.step(
            CALM,
            &format!(
                "{} writes since, {} of them there; {servers} servers of clients there",
                grouped(written),
                grouped(after.abs_diff(before))
            ),
        );
        Ok(after != before || servers > 0)
    }

    /// The old primary becomes a replica of the new one, where there is `pg_rewind`.
    async fn rejoin(&self, console: &mut Client) -> Result<(), Problem> {
        let has_rewind = self.on(|cluster| Ok(cluster.binaries().has("pg_rewind")));
        if !has_rewind.await? {
            self.tell("             there is no pg_rewind here, so it stays fenced\n\n");
            return Ok(());
        }
        let start = clock::now();
        self.on(|cluster| cluster.rewind(OLD, NEW)).await?;
        let address = self.address(OLD);
        self.node(console, &address, |row| row["readable"] == "yes")
            .await?;
        let took = clock::now().since(start);
        self.step(
            took,
            "after pg_rewind: a replica of the new primary, serves reads\n",
        );
        Ok(())
    }

    fn step(&self, took: Duration, what: &str) {
        self.tell(&format!("  {:>9.1} s  {what}\n", took.as_secs_f64()));
    }

    async fn clients_are_there(&self) {
        let start = clock::now();
        while self.tally.glance().connected < self.clients && clock::now().since(start) < PATIENCE {
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The failover, as the pooler tells it, once the first write after it is done and nobody waits any more.
    async fn outage(&self, console: &mut Client) -> Result<Row, Problem> {
        let number = |row: &Row, name: &str| row[name].parse::<u64>().unwrap_or_default();
        let is_it = |row: &Row| {
            let is_served = number(row, "released") + number(row, "failed") >= number(row, "held");
            row["kind"] == "failover" && !row["first_write_ms"].is_empty() && is_served
        };
        until(console, "SHOW FAILOVERS", is_it).await
    }

    /// The node at `address`, once `is_so`.
    async fn node(
        &self,
        console: &mut Client,
        address: &str,
        is_so: impl Fn(&Row) -> bool,
    ) -> Result<Row, Problem> {
        let is_it = |row: &Row| row["node"] == address && is_so(row);
        until(console, "SHOW NODES", is_it).await
    }

    fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node])
    }

    /// Does something to the servers, beside everything else.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Cluster) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let cluster = Arc::clone(&self.cluster);
        let work = move || work(&mut cluster.locked());
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Problem::Protocol {
            what: "a step of the failover panicked",
        })?
    }

    fn tell(&self, text: &str) {
        let _ = self.teller.send(text.to_owned()); // nobody looks any more
    }

    fn print(&self, text: &str) {
        crate::cli::view::print(text);
    }
}

/// Whether work under way may be told `code` when the primary is lost.
fn is_expected(code: &str) -> bool {
    ["08006", "08007", "40001"].contains(&code)
}

/// Servers of clients, by PostgreSQL's own account.
const SERVERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'";

fn balances(cluster: &mut Cluster, node: usize) -> Result<u64, Problem> {
    count(
        cluster,
        node,
        "SELECT sum(balance)::bigint FROM demo.accounts",
    )
}

fn count(cluster: &mut Cluster, node: usize, sql: &str) -> Result<u64, Problem> {
    let answer = cluster.query(node, DEMO, sql)?;
    let number = answer.first().and_then(|number| number.parse().ok());
    number.ok_or(Problem::Protocol {
        what: "not the number that was asked for",
    })
}

/// Asks the console again and again until a row is as it should be.
async fn until(
    console: &mut Client,
    question: &str,
    is_it: impl Fn(&Row) -> bool,
) -> Result<Row, Problem> {
    let start = clock::now();
    loop {
        let answer = console.ask(question).await?;
        if let Some(row) = rows(&answer).into_iter().find(&is_it) {
            return Ok(row);
        }
        if clock::now().since(start) > PATIENCE {
            return Err(Problem::NotReady {
                what: format!("what was awaited in {question}"),
                log: format!("{answer:?}\n"),
            });
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

fn rows(answer: &Answer) -> Vec<Row> {
    let row = |values: &Vec<Option<String>>| {
        let cells = answer.columns.iter().map(|name| {
            let value = cell(answer, values, name).unwrap_or_default();
            (name.clone(), value.to_owned())
        });
        cells.collect()
    };
    answer.rows.iter().map(row).collect()
}

/// Milliseconds from `start` to `moment`.
fn millis(moment: Timestamp, start: Timestamp) -> f64 {
    (moment - start)
        .total(jiff::Unit::Millisecond)
        .unwrap_or(0.0)
}

/// What the pooler saw, in milliseconds since the primary was killed.
fn seen_by_pooler(row: &Row, killed: Timestamp) -> Vec<(f64, String)> {
    let cell = |name: &str| row.get(name).map(String::as_str).unwrap_or_default();
    let Some(sign) = clock::parse_moment(cell("first_sign")) else {
        return Vec::new();
    };
    let began = millis(sign, killed).max(0.0);
    let mut events = vec![(began, format!("pooler: first sign ({})", cell("why")))];
    for (column, what) in [
        ("suspect_ms", "pooler: suspect, new transactions wait"),
        ("no_writer_ms", "pooler: no writer"),
        (
            "confirmed_ms",
            "pooler: confirmed by SQL, who waits goes on",
        ),
        ("first_write_ms", "pooler: first write"),
    ] {
        if let Ok(after) = cell(column).parse::<f64>() {
            events.push((began + after, what.to_owned()));
        }
    }
    events
}

/// Events with their milliseconds, in order.
fn timeline(mut events: Vec<(f64, String)>) -> String {
    events.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut text =
        "\n  FAILOVER   after   the demo promotes by itself, in Patroni's place\n".to_owned();
    for (millis, what) in events {
        text += &format!("  {millis:>9.1} ms  {what}\n");
    }
    text
}

/// What it cost the clients.
fn toll(row: &Row, counts: &Counts) -> String {
    let cell = |name: &str| row.get(name).map(String::as_str).unwrap_or("?");
    let mut text = format!(
        "\n  requests   held {}, released {}, failed {}\n",
        cell("held"),
        cell("released"),
        cell("failed")
    );
    if counts.codes.is_empty() {
        text += "  errors     none\n";
    }
    for (code, count) in &counts.codes {
        let meaning = match code.as_str() {
            "08006" => "not answered, and it only read: ask again",
            "08007" => "not answered: nobody knows whether it was done",
            "40001" => "the transaction is undone: try it again",
            "" => "the connection was lost",
            _ => "",
        };
        text += &format!("  errors     {code} x {count}   {meaning}\n");
        if code == "08007" {
            let others = grouped(count.saturating_sub(counts.unknown));
            let writes = grouped(counts.unknown);
            text += &format!("             writes {writes}, others {others}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Row, is_expected, seen_by_pooler, timeline, toll};
    use crate::cli::tally::Counts;

    fn row(cells: &[(&str, &str)]) -> Row {
        let cells = cells.iter();
        cells
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_the_pooler_saw_counts_from_the_kill() {
        let killed = "2026-11-23T13:00:00.100Z".parse().unwrap();
        let row = row(&[
            ("first_sign", "2026-11-23 14:00:00.130+01:00"),
            ("why", "a server was lost"),
            ("no_writer_ms", "5.5"),
            ("confirmed_ms", "100.0"),
            ("first_write_ms", ""),
        ]);
        let mut events = seen_by_pooler(&row, killed);
        events.push((50.0, "it takes writes".to_owned()));
        let text = timeline(events);
        let lines: Vec<&str> = text.lines().skip(2).map(str::trim).collect();
        assert_eq!(lines[0], "30.0 ms  pooler: first sign (a server was lost)");
        assert_eq!(lines[1], "35.5 ms  pooler: no writer");
        assert_eq!(lines[2], "50.0 ms  it takes writes");
        assert!(lines[3].starts_with("130.0 ms  pooler: confirmed"));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn errors_are_told_by_their_code_and_no_line_is_wide() {
        let row = row(&[("held", "7"), ("released", "7"), ("failed", "0")]);
        let codes = ["08006", "08007", "40001"].map(|code| (code.to_owned(), 1_000));
        assert!(codes.iter().all(|(code, _)| is_expected(code)));
        let codes = BTreeMap::from(codes);
        let counts = Counts {
            codes,
            unknown: 7,
            ..Counts::default()
        };
        let text = toll(&row, &counts);
        assert!(text.contains("writes 7, others 993"), "{text}");
        assert!(text.contains("held 7, released 7, failed 0"), "{text}");
        assert!(text.contains("08006 x 1000   not answered"), "{text}");
        assert!(text.contains("08007 x 1000"), "{text}");
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
        assert!(toll(&row, &Counts::default()).contains("none"));
    }
}
