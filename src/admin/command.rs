//! What the operator typed, as a command.
//!
//! One table says of each command who may give it, what may follow it and how `SHOW HELP` tells it.

use crate::admin::complaint::{About, Complaint};
use crate::admin::grammar::{self, Line, Word};
use crate::admin::order::Stop;

mod meant;

/// What a guest of the console may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look: `stats_users`.
    Looks,
    /// Act: `admin_users`.
    Acts,
}

/// What SHOW can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the commands")]
pub enum Show {
    ActiveSockets,
    Clients,
    Clusters,
    Config,
    Databases,
    DnsHosts,
    DnsZones,
    Failovers,
    Fds,
    Help,
    Holds,
    Lag,
    Lists,
    Mem,
    Nodes,
    PeerPools,
    Peers,
    Phases,
    Pins,
    Pools,
    Routing,
    Decisions,
    Servers,
    Sockets,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
    /// A session parameter that drivers ask for, and its answer.
    Parameter(&'static str, &'static str),
}

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Rows.
    Show(Show),
    /// A session parameter that drivers set; nothing comes of it.
    SetIgnored,
    /// Another value for a running setting.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Read the configuration again.
    Reload,
    /// Lend no more servers, of one database or of all.
    Pause(Option<String>),
    /// Lend servers again.
    Resume(Option<String>),
    /// Hold everything still for a takeover.
    Suspend,
    /// Pause, and end clients and servers.
    Kill(Option<String>),
    /// End one client.
    KillClient(u64),
    /// Refuse new logins.
    Disable(String),
    /// Take logins again.
    Enable(String),
    /// Replace all servers.
    Reconnect(Option<String>),
    /// Wait until all servers are replaced.
    WaitClose(Option<String>),
    /// Have a cluster switch over, to that node where one is named.
    Switchover(String, Option<String>),
    /// Where a statement would go, and why.
    ExplainRoute {
        /// The database.
        database: String,
        /// Who would ask; left out, whoever its servers are logged in as.
        user: Option<String>,
        /// The statement.
        sql: String,
    },
    /// Tell a cluster that the highest timeline seen so far counts no longer.
    Unfence(String),
    /// Give everything to the process that asks for it.
    TakeOver,
    /// End the process.
    Shutdown(Stop),
}

/// What may follow a command's word, and what the command is then.
enum Argument {
    /// What to show.
    Subject,
    /// A key and a value; they have a grammar of their own.
    Assignment,
    /// Nothing.
    Nothing(fn() -> Command),
    /// A database, or nothing for all.
    AnyDatabase(fn(Option<String>) -> Command),
    /// A database.
    Database(fn(String) -> Command),
    /// A client's id.
    Client(fn(u64) -> Command),
    /// How to end.
    Way,
    /// A cluster, and the node that it is to switch over to.
    Switchover,
    /// A statement; it has a grammar of its own.
    Statement,
}

struct Entry {
    word: &'static str,
    role: Role,
    argument: Argument,
    help: &'static str,
}

const COMMANDS: &[Entry] = &[
    entry("show", Role::Looks, Argument::Subject, SHOW_HELP),
    entry("select", Role::Looks, Argument::Subject, ""),
    entry("set", Role::Acts, Argument::Assignment, "SET key = arg"),
    nothing("reload", || Command::Reload, "RELOAD"),
    any_database("pause", Command::Pause, "PAUSE [<db>]"),
    any_database("resume", Command::Resume, "RESUME [<db>]"),
    database("disable", Command::Disable, "DISABLE <db>"),
    database("enable", Command::Enable, "ENABLE <db>"),
    any_database("reconnect", Command::Reconnect, "RECONNECT [<db>]"),
    any_database("kill", Command::Kill, "KILL [<db>]"),
    entry(
        "kill_client",
        Role::Acts,
        Argument::Client(Command::KillClient),
        "KILL_CLIENT <client_id>",
    ),
    nothing("suspend", || Command::Suspend, "SUSPEND"),
    entry("shutdown", Role::Acts, Argument::Way, SHUTDOWN_HELP),
    entry(
        "takeover",
        Role::Acts,
        Argument::Nothing(|| Command::TakeOver),
        "",
    ),
    entry(
        "switchover",
        Role::Acts,
        Argument::Switchover,
        "SWITCHOVER <cluster> [TO <node>]",
    ),
    entry(
        "explain",
        Role::Looks,
        Argument::Statement,
        "EXPLAIN ROUTE <db> [<user>] AS <sql>",
    ),
    database("unfence", Command::Unfence, "UNFENCE <cluster>"),
    any_database("wait_close", Command::WaitClose, "WAIT_CLOSE [<db>]"),
];

const SHOW_HELP: &str = "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS|PINS
\tSHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW CLUSTERS|NODES|LAG|FAILOVERS|PHASES|HOLDS|ROUTING|DECISIONS
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS";

const SHUTDOWN_HELP: &str = "SHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS";

const fn nothing(word: &'static str, command: fn() -> Command, help: &'static str) -> Entry {
    entry(word, Role::Acts, Argument::Nothing(command), help)
}

const fn any_database(
    word: &'static str,
    command: fn(Option<String>) -> Command,
    help: &'static str,
) -> Entry {
    entry(word, Role::Acts, Argument::AnyDatabase(command), help)
}

const fn database(word: &'static str, command: fn(String) -> Command, help: &'static str) -> Entry {
    entry(word, Role::Acts, Argument::Database(command), help)
}

const fn entry(word: &'static str, role: Role, argument: Argument, help: &'static str) -> Entry {
    Entry {
        word,
        role,
        argument,
        help,
    }
}

const SUBJECTS: &[(&str, Role, Show)] = &[
    ("active_sockets", Role::Looks, Show::ActiveSockets),
    ("clients", Role::Looks, Show::Clients),
    ("clusters", Role::Looks, Show::Clusters),
    ("config", Role::Looks, Show::Config),
    ("databases", Role::Looks, Show::Databases),
    ("decisions", Role::Looks, Show::Decisions),
    ("dns_hosts", Role::Looks, Show::DnsHosts),
    ("dns_zones", Role::Looks, Show::DnsZones),
    ("failovers", Role::Looks, Show::Failovers),
    ("fds", Role::Acts, Show::Fds),
    ("help", Role::Looks, Show::Help),
    ("holds", Role::Looks, Show::Holds),
    ("lag", Role::Looks, Show::Lag),
    ("lists", Role::Looks, Show::Lists),
    ("mem", Role::Looks, Show::Mem),
    ("nodes", Role::Looks, Show::Nodes),
    ("peer_pools", Role::Looks, Show::PeerPools),
    ("peers", Role::Looks, Show::Peers),
    ("phases", Role::Looks, Show::Phases),
    ("pins", Role::Looks, Show::Pins),
    ("pools", Role::Looks, Show::Pools),
    ("routing", Role::Looks, Show::Routing),
    ("servers", Role::Looks, Show::Servers),
    ("sockets", Role::Looks, Show::Sockets),
    ("state", Role::Looks, Show::State),
    ("stats", Role::Looks, Show::Stats),
    ("stats_averages", Role::Looks, Show::StatsAverages),
    ("stats_totals", Role::Looks, Show::StatsTotals),
    ("totals", Role::Looks, Show::Totals),
    ("users", Role::Looks, Show::Users),
    ("version", Role::Looks, Show::Version),
];

/// Session parameters that drivers set and ask for, and what they hear.
const PARAMETERS: &[(&str, &str)] = &[
    ("client_encoding", "UTF-8"),
    ("datestyle", "ISO"),
    ("default_transaction_isolation", "read committed"),
    // What JDBC sets.
    ("extra_float_digits", "2"),
    ("standard_conforming_strings", "on"),
    ("timezone", "GMT"),
];

/// What names a client.
pub const CLIENT_HINT: &str = "The id of a client stands in SHOW CLIENTS, as id or as ptr.";

/// The longest word of a command, in bytes as written.
const LONGEST_COMMAND: usize = 15;
/// The longest name, in bytes as written.
const LONGEST_NAME: usize = 63;
/// The longest value of a SET, in bytes as written.
const LONGEST_VALUE: usize = 255;

/// The DETAIL of `SHOW HELP`.
pub fn help() -> String {
    let lines = COMMANDS
        .iter()
        .map(|entry| entry.help)
        .filter(|help| !help.is_empty());
    lines.fold(String::new(), |all, line| format!("{all}\n\t{line}"))
}

/// Reads what a guest who may do `role` typed.
///
/// # Errors
/// What to answer instead, in PgBouncer's words.
pub fn parse(text: &str, role: Role) -> Result<Command, Complaint> {
    let invalid = || {
        let message = format!("invalid command '{text}', use SHOW HELP;");
        Complaint::new(About::SyntaxError, message).hint(meant::hint(text))
    };
    let (word, argument, to) = match grammar::read(text).ok_or_else(invalid)? {
        Line::Words(word, argument) => (word, argument, None),
        Line::Set(key, value) => return set(key, value, role),
        Line::Route(database, user, sql) => {
            return Ok(Command::ExplainRoute {
                database: database.text,
                user: user.map(|user| user.text),
                sql,
            });
        }
        Line::Target(word, cluster, to) => (word, Some(cluster), Some(to.text)),
    };
    let is_long = |word: &Word, most: usize| word.length > most;
    if is_long(&word, LONGEST_COMMAND)
        || argument
            .as_ref()
            .is_some_and(|name| is_long(name, LONGEST_NAME))
    {
        return Err(bad_arguments());
    }
    let is_it = |entry: &&Entry| entry.word.eq_ignore_ascii_case(&word.text);
    let entry = COMMANDS.iter().find(is_it).ok_or_else(invalid)?;
    let argument = argument.map(|name| name.text);
    if to.is_some() && !matches!(entry.argument, Argument::Switchover) {
        return Err(invalid());
    }
    made_of(entry, (argument, to), role, invalid)
}

/// The command that `entry` makes of its argument, and of what follows TO.
fn made_of(
    entry: &Entry,
    (argument, to): (Option<String>, Option<String>),
    role: Role,
    invalid: impl Fn() -> Complaint + Copy,
) -> Result<Command, Complaint> {
    let may = |needed: Role| {
        if role >= needed {
            Ok(())
        } else {
            Err(admin_needed())
        }
    };
    match entry.argument {
        Argument::Subject => {
            let (needed, show) = subject(&argument.unwrap_or_default()).ok_or_else(invalid)?;
            may(needed)?;
            Ok(Command::Show(show))
        }
        Argument::Assignment | Argument::Statement => Err(invalid()),
        Argument::Nothing(_) if argument.is_some() => Err(invalid()),
        Argument::Nothing(command) => may(entry.role).map(|()| command()),
        Argument::AnyDatabase(command) => may(entry.role).map(|()| command(argument)),
        Argument::Database(command) => {
            may(entry.role)?;
            argument
                .filter(|name| !name.is_empty())
                .map(command)
                .ok_or_else(|| Complaint::new(About::SyntaxError, "a database is required"))
        }
        Argument::Switchover => {
            may(entry.role)?;
            let cluster = argument
                .filter(|name| !name.is_empty())
                .ok_or_else(|| Complaint::new(About::SyntaxError, "a cluster is required"))?;
            Ok(Command::Switchover(cluster, to))
        }
        Argument::Client(command) => {
            may(entry.role)?;
            let id = argument.as_deref().and_then(client_id);
            id.map(command).ok_or_else(|| {
                Complaint::new(About::InvalidValue, "invalid client pointer supplied")
                    .hint(CLIENT_HINT)
            })
        }
        Argument::Way => {
            let way = way(argument.as_deref()).ok_or_else(invalid)?;
            may(entry.role)?;
            Ok(Command::Shutdown(way))
        }
    }
}

fn bad_arguments() -> Complaint {
    Complaint::new(About::SyntaxError, "bad arguments")
}

fn admin_needed() -> Complaint {
    Complaint::new(About::InsufficientPrivilege, "admin access needed")
        .hint("Add the user to admin_users.")
}

fn set(key: Word, value: Word, role: Role) -> Result<Command, Complaint> {
    if key.length > LONGEST_NAME || value.length > LONGEST_VALUE || key.text.is_empty() {
        return Err(bad_arguments());
    }
    let (key, value) = (key.text, value.text);
    if PARAMETERS
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(&key))
    {
        return Ok(Command::SetIgnored);
    }
    if role < Role::Acts {
        return Err(admin_needed());
    }
    Ok(Command::Set { key, value })
}

fn subject(name: &str) -> Option<(Role, Show)> {
    if let Some((_, role, show)) = SUBJECTS
        .iter()
        .find(|(subject, ..)| subject.eq_ignore_ascii_case(name))
    {
        return Some((*role, *show));
    }
    let (name, value) = PARAMETERS
        .iter()
        .find(|(parameter, _)| parameter.eq_ignore_ascii_case(name))?;
    Some((Role::Looks, Show::Parameter(name, value)))
}

fn way(name: Option<&str>) -> Option<Stop> {
    match name {
        None => Some(Stop::Now),
        Some(name) if name.eq_ignore_ascii_case("wait_for_servers") => Some(Stop::WaitForServers),
        Some(name) if name.eq_ignore_ascii_case("wait_for_clients") => Some(Stop::WaitForClients),
        Some(_) => None,
    }
}

/// The id that SHOW CLIENTS shows as `id`, or, with `0x`, as `ptr`. As with C's `scanf`, what follows the digits does not count.
fn client_id(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits
        .find(|each: char| !each.is_ascii_digit())
        .unwrap_or(digits.len());
    // Nobody has an id that is negative, or too large.
    let id = digits[..end].parse().unwrap_or(u64::MAX);
    (end > 0).then_some(if is_negative { u64::MAX } else { id })
}

#[cfg(test)]
mod tests;
