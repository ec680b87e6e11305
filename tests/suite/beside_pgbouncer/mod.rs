//! Debian's PgBouncer 1.18 and the pooler, each with the same `pgbouncer.ini`: what the one answers, the other answers.
//!
//! The release that is followed is a later one. So every situation has its answer as a literal, which the pooler must give; the
//! running PgBouncer must give it, too, unless the situation says that it has changed since, and how it was. Where the
//! pooler differs on purpose, the situation says so, and the README's table of differences does.

mod clients;
mod columns;
mod console;
mod log;
mod standstill;

use crate::support::pgbouncer::{Side, Which};
use crate::support::postgres::postgres;
use crate::support::wire::{Fault, Reply};

/// The same for both; `{port}` and `{folder}` are each one's own.
const INI: &str = "\
[databases]
app = host=127.0.0.1 port={pg} dbname=app
one = host=127.0.0.1 port={pg} dbname=app pool_size=1
statements = host=127.0.0.1 port={pg} dbname=app pool_mode=statement
sessions = host=127.0.0.1 port={pg} dbname=app pool_mode=session
forced = host=127.0.0.1 port={pg} dbname=app user=other
missing = host=127.0.0.1 port={pg} dbname=no_such_database
odd-name.x = host=127.0.0.1 port={pg} dbname=app

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users.txt
admin_users = admin
stats_users = stats
pool_mode = transaction
server_login_retry = 1
";

const USERS: &str =
    "\"app\" \"app\"\n\"other\" \"other\"\n\"admin\" \"admin\"\n\"stats\" \"stats\"\n";

/// The ini with some lines more in `[pgbouncer]`; a later line of a key wins.
fn ini(more: &str) -> String {
    let port = postgres().server().port.to_string();
    INI.replace("{pg}", &port) + more
}

/// Both, with the same file.
fn both(more: &str) -> [Side; 2] {
    [Which::PgBouncer, Which::Pooler].map(|which| Side::start(which, &ini(more), USERS))
}

/// An answer and what the other two say instead, where they do.
#[derive(Clone, Copy)]
struct Answer {
    /// What is promised.
    now: &'static str,
    /// What PgBouncer 1.18 says.
    then: Option<&'static str>,
    /// What the pooler says on purpose.
    ours: Option<&'static str>,
}

/// The same of all.
const fn is(now: &'static str) -> Answer {
    Answer {
        now,
        then: None,
        ours: None,
    }
}

impl Answer {
    /// PgBouncer 1.18 said something else.
    const fn was(self, then: &'static str) -> Self {
        Self {
            then: Some(then),
            ..self
        }
    }

    /// The pooler says something else, as the README tells.
    const fn but_ours(self, ours: &'static str) -> Self {
        Self {
            ours: Some(ours),
            ..self
        }
    }

    fn expected(self, which: Which) -> &'static str {
        match which {
            Which::PgBouncer => self.then.unwrap_or(self.now),
            Which::Pooler => self.ours.unwrap_or(self.now),
        }
    }
}

/// Collects what is not as expected, to tell all of it at once.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn note(&mut self, which: Which, situation: &str, answer: Answer, got: &str) {
        let expected = answer.expected(which);
        if got != expected {
            self.0.push(format!(
                "{which:?}: {situation}\n    said     {got}\n    expected {expected}"
            ));
        }
    }

    #[track_caller]
    fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

fn told(fault: &Fault) -> String {
    let mut text = format!("{} {} {}", fault.severity, fault.code, fault.message);
    if !fault.detail.is_empty() && fault.severity != "NOTICE" {
        text += &format!(" ({})", fault.detail);
    }
    if !fault.hint.is_empty() {
        text += &format!(" [{}]", fault.hint);
    }
    text
}

/// A reply in one line: notices, errors, a single value, tags.
fn line(reply: &Reply) -> String {
    let mut parts: Vec<String> = reply.notices.iter().map(told).collect();
    parts.extend(reply.errors.iter().map(told));
    if let ([(name, _)], [row]) = (reply.columns.as_slice(), reply.rows.as_slice()) {
        parts.push(format!("{name}={}", row[0].as_deref().unwrap_or("NULL")));
    }
    parts.extend(reply.tags.iter().cloned());
    parts.join(" | ")
}
