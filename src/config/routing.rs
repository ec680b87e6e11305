//! `[routing]`: which reads of a cluster's databases go to replicas, and on what conditions.
//!
//! A database (or user) asks for it with `route = "auto"`. Nothing here matters to any other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::problem::Refusal;
use crate::config::schema::{Section, key};
use crate::config::settings::Settings;
use crate::config::slot::Slot;
use crate::config::value::{PoolMode, Route, Word};

/// `[routing]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingSettings {
    /// Whether `route = "auto"` does anything. Default `split`.
    pub mode: RoutingMode,
    /// Which transactions may go to a replica. Default `read_only`.
    pub transactions: Transactions,
    /// Whether the primary serves reads while replicas qualify. Default `fallback`.
    pub primary_reads: PrimaryReads,
    /// What becomes of a read that no replica may serve. Default `primary`.
    pub no_replica: NoReplica,
    /// Functions that only read, whatever the catalog says: `name` or `schema.name`, `*` for any run of characters.
    pub read_functions: Vec<String>,
    /// Functions that write, whatever the catalog says.
    pub write_functions: Vec<String>,
    /// The share of replicas, 0 to 1, that may be left out at once because they fail or are slow. Default 0.5.
    pub max_ejected: f64,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            mode: RoutingMode::default(),
            transactions: Transactions::default(),
            primary_reads: PrimaryReads::default(),
            no_replica: NoReplica::default(),
            read_functions: Vec::new(),
            write_functions: Vec::new(),
            max_ejected: 0.5,
        }
    }
}

/// Whether reads are split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoutingMode {
    /// Everything goes to the primary.
    Off,
    /// Everything goes to the primary, and it is counted what would have gone elsewhere.
    Observe,
    /// They are.
    #[default]
    Split,
}

/// How fresh reads must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Within the bounds of lag.
    None,
    /// Not behind what the session wrote or read.
    #[default]
    Session,
    /// Not behind what anybody wrote to the database through this pooler.
    Global,
}

/// How far behind a replica may be, as far as that is said in place of what its cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LagBound {
    /// In time.
    pub time: Option<Duration>,
    /// In bytes of WAL; 0 is no bound.
    pub bytes: Option<u64>,
}

impl LagBound {
    /// Whether it says nothing: the cluster's own bound holds.
    pub const fn is_clusters(&self) -> bool {
        self.time.is_none() && self.bytes.is_none()
    }
}

/// Which transactions may go to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transactions {
    /// None.
    Primary,
    /// READ ONLY ones.
    #[default]
    ReadOnly,
    /// Those too that begin with a read: BEGIN waits for the first statement.
    Late,
}

/// Whether the primary serves reads while replicas qualify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrimaryReads {
    /// Only where no replica qualifies.
    #[default]
    Fallback,
    /// It takes its share.
    Share,
}

/// What happens to a read that no replica may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoReplica {
    /// It goes to the primary.
    #[default]
    Primary,
    /// It fails.
    Error,
    /// It waits for one.
    Wait,
}

impl Word for RoutingMode {
    const ALL: &'static [Self] = &[Self::Off, Self::Observe, Self::Split];

    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Split => "split",
        }
    }
}

impl Word for Consistency {
    const ALL: &'static [Self] = &[Self::None, Self::Session, Self::Global];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Session => "session",
            Self::Global => "global",
        }
    }
}

impl Word for Transactions {
    const ALL: &'static [Self] = &[Self::Primary, Self::ReadOnly, Self::Late];

    fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::ReadOnly => "read_only",
            Self::Late => "late",
        }
    }
}

impl Word for PrimaryReads {
    const ALL: &'static [Self] = &[Self::Fallback, Self::Share];

    fn word(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Share => "share",
        }
    }
}

impl Word for NoReplica {
    const ALL: &'static [Self] = &[Self::Primary, Self::Error, Self::Wait];

    fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Error => "error",
            Self::Wait => "wait",
        }
    }
}

/// `[routing]`.
pub static ROUTING: Section<RoutingSettings> = Section {
    keys: &[
        key("max_ejected", |s| Slot::Share(&mut s.max_ejected)),
        key("mode", |s| Slot::Word(&mut s.mode)),
        key("no_replica", |s| Slot::Word(&mut s.no_replica)),
        key("primary_reads", |s| Slot::Word(&mut s.primary_reads)),
        key("read_functions", |s| Slot::List(&mut s.read_functions)),
        key("transactions", |s| Slot::Word(&mut s.transactions)),
        key("write_functions", |s| Slot::List(&mut s.write_functions)),
    ],
    unbuilt: &[],
    has_password: false,
};

impl Settings {
    /// Whether the reads of `user` in `database` are told from its writes. In session mode a client keeps one server, so nothing is.
    pub fn is_split(&self, database: &str, user: &str) -> bool {
        self.routing.mode != RoutingMode::Off
            && self.cluster_of(database).is_some()
            && self.effective_route(database, user) == Route::Auto
            && self.effective_pool_mode(database, user) != PoolMode::Session
    }

    /// How fresh the reads of `user` in `database` must be: user, then database.
    pub fn effective_consistency(&self, database: &str, user: &str) -> Consistency {
        let wish = self.user(user).and_then(|user| user.consistency);
        let wish = wish.or_else(|| self.database(database)?.consistency);
        wish.unwrap_or_default()
    }

    /// Which transactions of `user` in `database` may go to a replica: user, then database, then `[routing]`.
    pub fn effective_transactions(&self, database: &str, user: &str) -> Transactions {
        let wish = self.user(user).and_then(|user| user.transactions);
        let wish = wish.or_else(|| self.database(database)?.transactions);
        wish.unwrap_or(self.routing.transactions)
    }

    /// How far behind a replica may be that `user` reads from in `database`, where that is another bound than the cluster's: user,
    /// then database.
    pub fn effective_lag_bound(&self, database: &str, user: &str) -> LagBound {
        let database = self.database(database);
        let wish = self.user(user).and_then(|user| user.max_lag);
        let bytes = database.and_then(|database| database.max_lag_bytes);
        LagBound {
            time: wish.or_else(|| database?.max_lag),
            bytes: bytes.map(|bytes| bytes as u64),
        }
    }

    /// Every bound of lag that somebody has in place of what the cluster `name` says, each once and in order.
    pub fn lag_bounds(&self, name: &str) -> Vec<LagBound> {
        let mut bounds = Vec::new();
        for (database, settings) in &self.databases {
            if settings.cluster.as_deref() != Some(name) {
                continue;
            }
            // Nobody is called nothing: that is what the database itself says.
            let users = self.users.keys().map(String::as_str).chain([""]);
            for user in users {
                let bound = self.effective_lag_bound(database, user);
                if !bound.is_clusters() && !bounds.contains(&bound) {
                    bounds.push(bound);
                }
            }
        }
        bounds.sort_by_key(|bound| (bound.time, bound.bytes));
        bounds
    }
}

/// What is wrong with `[routing]` and with who asks for it: a key, as its parts, and why.
pub fn wrongs(settings: &Settings) -> Vec<(Vec<String>, Refusal)> {
    let is_session = |name: &String| {
        settings.effective_pool_mode(name, "") == PoolMode::Session
            && settings.effective_route(name, "") == Route::Auto
    };
    let names: BTreeMap<_, _> = settings.databases.iter().collect();
    names
        .into_keys()
        .filter(|name| is_session(name))
        .map(|name| {
            let key = ["databases", name, "route"].map(str::to_owned).to_vec();
            let refusal = Refusal::new("cannot be \"auto\" in session mode");
            let hint = "a client keeps one server there: use pool_mode = \"transaction\", or route = \"primary\"";
            (key, refusal.hint(hint))
        })
        .collect()
}
