//! SHOW STATS and its like: one [`Report`] in four shapes.

use crate::admin::table::{Cell, Column, NUMERIC, TEXT, Table, number, text};
use crate::stats::counters::Totals;
use crate::stats::report::Report;

/// The columns of SHOW STATS_TOTALS, without the first; with `total_` those of SHOW STATS.
const TOTALS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
];

const STATS: [&str; 24] = [
    "total_server_assignment_count",
    "total_xact_count",
    "total_query_count",
    "total_received",
    "total_sent",
    "total_xact_time",
    "total_query_time",
    "total_wait_time",
    "total_client_parse_count",
    "total_server_parse_count",
    "total_bind_count",
    "total_client_login_count",
    "avg_server_assignment_count",
    "avg_xact_count",
    "avg_query_count",
    "avg_recv",
    "avg_sent",
    "avg_xact_time",
    "avg_query_time",
    "avg_wait_time",
    "avg_client_parse_count",
    "avg_server_parse_count",
    "avg_bind_count",
    "avg_client_login_count",
];

/// SHOW STATS_AVERAGES has `avg_` before the last four only.
const AVERAGES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "avg_client_parse_count",
    "avg_server_parse_count",
    "avg_bind_count",
    "avg_client_login_count",
];

/// The rows of SHOW TOTALS, after `total_` and again after `avg_`.
const NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

fn columns(names: &[&'static str]) -> Vec<Column> {
    let numbers = names.iter().map(|name| (*name, NUMERIC));
    std::iter::once(("database", TEXT)).chain(numbers).collect()
}

fn row(database: &str, numbers: &[&Totals]) -> Vec<Cell> {
    let numbers = numbers
        .iter()
        .flat_map(|totals| totals.iter().copied().map(number));
    std::iter::once(text(database)).chain(numbers).collect()
}

/// SHOW STATS.
pub fn stats(report: &Report) -> Table {
    let rows = report
        .databases
        .iter()
        .map(|(name, numbers)| row(name, &[&numbers.totals, &numbers.averages]));
    Table::new(&columns(&STATS), rows.collect())
}

/// SHOW STATS_TOTALS.
pub fn stats_totals(report: &Report) -> Table {
    let rows = report
        .databases
        .iter()
        .map(|(name, numbers)| row(name, &[&numbers.totals]));
    Table::new(&columns(&TOTALS), rows.collect())
}

/// SHOW STATS_AVERAGES.
pub fn stats_averages(report: &Report) -> Table {
    let rows = report
        .databases
        .iter()
        .map(|(name, numbers)| row(name, &[&numbers.averages]));
    Table::new(&columns(&AVERAGES), rows.collect())
}

/// SHOW TOTALS.
pub fn totals(report: &Report) -> Table {
    let part = |prefix: &'static str, numbers: Totals| {
        NAMES
            .iter()
            .zip(numbers)
            .map(move |(name, value)| vec![text(format!("{prefix}_{name}")), number(value)])
    };
    let rows = part("total", report.all.totals).chain(part("avg", report.all.averages));
    Table::new(&[("name", TEXT), ("value", NUMERIC)], rows.collect())
}

/// The line of the log that is written every `stats_period`.
pub fn log_line(report: &Report) -> String {
    let [
        _,
        xacts,
        queries,
        received,
        sent,
        xact,
        query,
        wait,
        client_parses,
        server_parses,
        binds,
        logins,
    ] = report.all.averages;
    format!(
        "stats: {xacts} xacts/s, {queries} queries/s, {client_parses} client parses/s, {server_parses} server parses/s, \
         {binds} binds/s, {logins} client logins/s, in {received} B/s, out {sent} B/s, xact {xact} us, query {query} us, \
         wait {wait} us"
    )
}

#[cfg(test)]
mod tests {
    use super::{log_line, stats, stats_averages, stats_totals, totals};
    use crate::admin::table::{NUMERIC, TEXT, text};
    use crate::stats::report::{Numbers, Report};

    fn report() -> Report {
        let numbers = Numbers {
            totals: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            averages: [21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32],
        };
        Report {
            databases: [("app".to_owned(), numbers)].into(),
            all: numbers,
        }
    }

    #[test]
    fn all_shapes_have_their_columns_in_order() {
        let (stats, totals, averages) = (
            stats(&report()),
            stats_totals(&report()),
            stats_averages(&report()),
        );
        assert_eq!(
            (
                stats.columns.len(),
                totals.columns.len(),
                averages.columns.len()
            ),
            (25, 13, 13)
        );
        assert_eq!(
            stats.columns[..2],
            [
                ("database", TEXT),
                ("total_server_assignment_count", NUMERIC)
            ]
        );
        assert_eq!(stats.rows[0][4], text("4"));
        assert_eq!(
            (stats.columns[16].0, &stats.rows[0][16]),
            ("avg_recv", &text("24"))
        );
        assert_eq!(
            (averages.columns[9].0, &averages.rows[0][9]),
            ("avg_client_parse_count", &text("29"))
        );
        assert_eq!(
            (totals.columns[4].0, &totals.rows[0][4]),
            ("bytes_received", &text("4"))
        );
    }

    #[test]
    fn totals_are_rows_of_all_databases_together() {
        let table = totals(&report());
        assert_eq!(table.rows.len(), 24);
        assert_eq!(table.rows[3], [text("total_client_bytes"), text("4")]);
        assert_eq!(
            table.rows[20],
            [text("avg_ps_client_parse_count"), text("29")]
        );
    }

    #[test]
    fn the_line_of_the_log_tells_all_averages() {
        assert_eq!(
            log_line(&report()),
            "stats: 22 xacts/s, 23 queries/s, 29 client parses/s, 30 server parses/s, 31 binds/s, 32 client logins/s, \
             in 24 B/s, out 25 B/s, xact 26 us, query 27 us, wait 28 us"
        );
    }
}
