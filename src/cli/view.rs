//! What the demo shows while it runs: a table that is drawn over itself, or one line a second where there is no terminal.
//!
//! Drawing is pure; [`Screen`] alone writes. The table stays below eighty columns, for a line that wraps cannot be drawn over.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::cli::packets::Answer;
use crate::cli::tally::{Counts, Histogram};

/// A node, as the pooler's console and the primary describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The database that leads to it.
    pub database: String,
    /// `primary`, `replica`, `fenced`, `down` …, by `SHOW NODES`.
    pub role: String,
    /// Its port.
    pub port: u16,
    /// Clients that the pooler has for it.
    pub clients: u64,
    /// Those of them who wait for a server.
    pub waiting: u64,
    /// Servers at work.
    pub busy: u64,
    /// Servers that wait for work.
    pub idle: u64,
    /// WAL not yet replayed, in bytes; `None` where that has no meaning or is not known.
    pub lag_bytes: Option<u64>,
    /// Whether a replica serves reads; `None` for any other node.
    pub serves: Option<bool>,
}

impl Row {
    /// Takes what its node is out of the answer to `SHOW NODES`.
    pub fn read_node(&mut self, nodes: &Answer) {
        let address = format!("127.0.0.1:{}", self.port);
        let mut rows = nodes.rows.iter();
        let row = rows.find(|row| cell(nodes, row, "node") == Some(&address));
        let word = |name| row.and_then(|row| cell(nodes, row, name));
        self.role = word("role").unwrap_or("unknown").to_owned();
        self.lag_bytes = word("lag_bytes").and_then(|lag| lag.parse().ok());
        let is_replica = self.role == "replica";
        self.serves = is_replica.then(|| word("readable") == Some("yes"));
    }

    /// Takes the numbers of this row's database out of the answer to `SHOW POOLS`, and of its node's servers out of that to
    /// `SHOW SERVERS`.
    pub fn read(&mut self, pools: &Answer, servers: &Answer) {
        (self.clients, self.waiting, self.busy, self.idle) = (0, 0, 0, 0);
        let number = |row: &[Option<String>], name| {
            let at = pools.column(name)?;
            row.get(at)?.as_deref()?.parse::<u64>().ok()
        };
        for row in &pools.rows {
            if cell(pools, row, "database") == Some(&self.database) {
                let waiting = number(row, "cl_waiting").unwrap_or(0);
                self.clients += number(row, "cl_active").unwrap_or(0) + waiting;
                self.waiting += waiting;
            }
        }
        let port = self.port.to_string();
        for row in &servers.rows {
            if cell(servers, row, "port") == Some(&port) {
                match cell(servers, row, "state") {
                    Some("active") => self.busy += 1,
                    Some("idle" | "used" | "tested") => self.idle += 1,
                    _ => {}
                }
            }
        }
    }
}

/// The cell of `row` in the column `name`.
pub fn cell<'a>(answer: &Answer, row: &'a [Option<String>], name: &str) -> Option<&'a str> {
    row.get(answer.column(name)?)?.as_deref()
}

/// How many requests went to replicas, and how many in all, by the answer to `SHOW ROUTING`.
pub fn split(routing: &Answer) -> (u64, u64) {
    let count = |row: &[Option<String>]| cell(routing, row, "requests")?.parse::<u64>().ok();
    let on_replicas = |row: &&Vec<Option<String>>| cell(routing, row, "went_to") == Some("replica");
    let sum = |rows: &mut dyn Iterator<Item = &Vec<Option<String>>>| -> u64 {
        rows.filter_map(|row| count(row)).sum()
    };
    (
        sum(&mut routing.rows.iter().filter(on_replicas)),
        sum(&mut routing.rows.iter()),
    )
}

/// All that is shown at one moment.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Since the load began.
    pub elapsed: Duration,
    /// When it will end by itself.
    pub end: Option<Duration>,
    /// How many clients are wanted.
    pub wanted: usize,
    /// The clients' counters.
    pub counts: Counts,
    /// How long the counters' window was.
    pub window: Duration,
    /// One row a node.
    pub rows: Vec<Row>,
    /// How many of all requests went to replicas, and how many there were.
    pub split: (u64, u64),
    /// Why the console's numbers are old.
    pub console: Option<String>,
}

/// Where it is shown.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    drawn: usize,
    /// The errors that there were when the last line was written.
    told: u64,
}

impl Screen {
    /// The standard output.
    pub fn stdout() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            drawn: 0,
            told: 0,
        }
    }

    /// Writes `text` where the table stands; the table is drawn below it next.
    pub fn say(&mut self, text: &str) {
        let above = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}F\x1b[J"),
        };
        self.drawn = 0;
        print(&(above + text));
    }

    /// Shows `moments`, over what was shown before.
    pub fn draw(&mut self, moments: &Moments) {
        if !self.is_terminal {
            print(&(line(moments, self.told) + "\n"));
            self.told = moments.counts.errors;
            return;
        }
        let table = table(moments);
        let mut text = String::new();
        if self.drawn > 0 {
            text += &format!("\x1b[{}F", self.drawn);
        }
        for line in &table {
            text += &format!("{line}\x1b[K\n");
        }
        text += "\x1b[J";
        print(&text);
        self.drawn = table.len();
    }
}

/// Writes `text` to the standard output. A reader that has gone is no reason to stop without tidying up.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The table, line by line.
fn table(moments: &Moments) -> Vec<String> {
    let counts = &moments.counts;
    let mut lines = vec![
        String::new(),
        format!(
            "  {:<10}{:>7} of {} clients connected{}",
            clock(moments),
            grouped(counts.connected as u64),
            grouped(moments.wanted as u64),
            ".".repeat(usize::from(counts.connected < moments.wanted) * 3),
        ),
        format!(
            "  {:<10}{:>7} transactions/s   p50 {}   p99 {}   errors {}",
            "load",
            grouped(rate(&counts.window, moments.window)),
            millis(counts.window.percentile(50)),
            millis(counts.window.percentile(99)),
            grouped(counts.errors),
        ),
        format!(
            "  {:<10}{:>7}",
            "replicas",
            share(moments.split) + " of requests"
        ),
        String::new(),
        format!(
            "  {:<9}{:<15}{:>7}{:>9}{:>9}{:>6}{:>15}{:>6}",
            "database", "node", "clients", "waiting", "servers", "idle", "lag", "reads"
        ),
    ];
    lines.extend(moments.rows.iter().map(node));
    lines.push(node(&total(&moments.rows)));
    lines.push(String::new());
    let complaint = moments.console.as_ref().or(counts.last_error.as_ref());
    if let Some(complaint) = complaint {
        let first = complaint.lines().next().unwrap_or_default();
        lines.push(format!(
            "  ! {}",
            first.chars().take(74).collect::<String>()
        ));
    }
    lines
}

/// A node's line, or that of all: clients belong to no node.
fn node(row: &Row) -> String {
    let is_node = row.port != 0;
    let (node, clients, waiting) = if is_node {
        (
            format!("{} :{}", row.role, row.port),
            String::new(),
            String::new(),
        )
    } else {
        (String::new(), grouped(row.clients), grouped(row.waiting))
    };
    format!(
        "  {:<9}{:<15}{:>7}{:>9}{:>9}{:>6}{:>15}{:>6}",
        if is_node { "" } else { &row.database },
        node,
        clients,
        waiting,
        grouped(row.busy + row.idle),
        grouped(row.idle),
        row.lag_bytes
            .map_or(String::new(), |lag| format!("{} B", grouped(lag))),
        match row.serves {
            Some(true) => "yes",
            Some(false) => "left",
            None => "",
        },
    )
}

fn total(rows: &[Row]) -> Row {
    let sum = |part: fn(&Row) -> u64| rows.iter().map(part).sum();
    Row {
        database: rows
            .first()
            .map_or(String::new(), |row| row.database.clone()),
        clients: sum(|row| row.clients),
        waiting: sum(|row| row.waiting),
        busy: sum(|row| row.busy),
        idle: sum(|row| row.idle),
        ..Row::default()
    }
}

fn share((part, all): (u64, u64)) -> String {
    format!("{} %", part * 100 / all.max(1))
}

/// The same in one line. `told` are the errors of the lines before: the last one is told once.
fn line(moments: &Moments, told: u64) -> String {
    let counts = &moments.counts;
    let all = total(&moments.rows);
    let last = counts.last_error.as_ref().filter(|_| counts.errors > told);
    let complaint = moments.console.as_ref().or(last);
    format!(
        "{} clients {} waiting {} servers {} idle {} transactions/s {} p50 {} p99 {} on replicas {}{} errors {}{}",
        clock(moments),
        counts.connected,
        all.waiting,
        all.busy + all.idle,
        all.idle,
        rate(&counts.window, moments.window),
        millis(counts.window.percentile(50)),
        millis(counts.window.percentile(99)),
        share(moments.split),
        lags(&moments.rows),
        counts.errors,
        complaint.map_or(String::new(), |text| format!(
            " ({})",
            text.lines().next().unwrap_or_default()
        )),
    )
}

/// How far each replica is behind, and whether its reads have left it.
fn lags(rows: &[Row]) -> String {
    let replicas = rows.iter().filter(|row| row.serves.is_some());
    let lags: Vec<_> = replicas
        .map(|row| {
            let lag = row.lag_bytes.map_or("?".to_owned(), grouped);
            let left = if row.serves == Some(false) {
                " (left)"
            } else {
                ""
            };
            format!("{lag} B{left}")
        })
        .collect();
    if lags.is_empty() {
        return String::new();
    }
    format!(" lag {}", lags.join(", "))
}

/// What is said at the end, of all that was counted in `elapsed`.
pub fn summary(counts: &Counts, elapsed: Duration) -> String {
    let complaint = counts
        .last_error
        .as_ref()
        .map_or(String::new(), |text| format!(", the last: {text}"));
    format!(
        "{} transactions in {:.1} s, {}/s, p50 {}, p99 {}; errors: {}{complaint}\n",
        grouped(counts.total.count()),
        elapsed.as_secs_f64(),
        grouped(rate(&counts.total, elapsed)),
        millis(counts.total.percentile(50)),
        millis(counts.total.percentile(99)),
        grouped(counts.errors),
    )
}

fn clock(moments: &Moments) -> String {
    let seconds = moments.elapsed.as_secs();
    moments.end.map_or_else(
        || format!("{seconds}s"),
        |end| format!("{seconds}s/{}s", end.as_secs()),
    )
}

fn rate(histogram: &Histogram, span: Duration) -> u64 {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    histogram.count() * 1_000 / millis
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Counts, Moments, Row, grouped, line, split, summary, table};

    fn row() -> Row {
        Row {
            database: "demo".to_owned(),
            role: "replica".to_owned(),
            port: 65_535,
            lag_bytes: Some(1_073_741_824),
            serves: Some(false),
            ..Row::default()
        }
    }

    fn moments() -> Moments {
        let mut counts = Counts {
            connected: 1_000,
            errors: 2,
            last_error: Some("x".repeat(200)),
            ..Counts::default()
        };
        for _ in 0..2_000 {
            counts.window.add(Duration::from_micros(1_500));
        }
        Moments {
            elapsed: Duration::from_secs(7),
            end: Some(Duration::from_secs(30)),
            wanted: 1_000,
            counts,
            window: Duration::from_secs(1),
            rows: vec![row(), row()],
            split: (50, 100),
            console: None,
        }
    }

    #[test]
    fn no_line_of_the_table_wraps() {
        assert!(
            table(&moments())
                .iter()
                .all(|line| line.chars().count() < 80)
        );
    }

    #[test]
    fn without_a_terminal_one_line_says_it_all() {
        let (line, after) = (line(&moments(), 0), line(&moments(), 2));
        assert!(line.contains("xxx") && !after.contains("xxx"));
        assert!(line.starts_with("7s/30s clients 1000 waiting 0"), "{line}");
        assert!(line.contains("transactions/s 2000 p50 1."), "{line}");
        let lag = "1,073,741,824 B (left)";
        assert!(
            line.contains(&format!("on replicas 50 % lag {lag}, {lag} ")),
            "{line}"
        );
    }

    #[test]
    fn what_the_console_says_is_read_by_the_columns_names() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let values = |words: &[&str]| words.iter().map(|word| Some((*word).to_owned())).collect();
        let pools = Answer {
            columns: words(&["database", "cl_active", "cl_waiting"]),
            rows: vec![values(&["demo", "190", "10"]), values(&["other", "9", "9"])],
        };
        let servers = Answer {
            columns: words(&["state", "port"]),
            rows: vec![
                values(&["active", "65535"]),
                values(&["idle", "65535"]),
                values(&["idle", "1"]),
            ],
        };
        let mut row = row();
        row.read(&pools, &servers);
        assert_eq!(
            (row.clients, row.waiting, row.busy, row.idle),
            (200, 10, 1, 1)
        );
        let routing = Answer {
            columns: words(&["went_to", "requests"]),
            rows: vec![values(&["replica", "30"]), values(&["primary", "70"])],
        };
        assert_eq!(split(&routing), (30, 100));
    }

    #[test]
    fn numbers_are_grouped_for_people() {
        let shown = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert!(summary(&Counts::default(), Duration::ZERO).starts_with("0 transactions"));
    }
}
