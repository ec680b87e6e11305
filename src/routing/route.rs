//! Where a request goes: its intent, the session's standing and the cluster's view in; a node and the reason out.
//!
//! Never a write to a node that the view does not call primary, never a read from a replica that is behind the bound of lag or behind
//! what the session itself has written or read. What does not qualify is skipped with its reason, which EXPLAIN ROUTE shows.

use crate::clock::Moment;
use crate::config::routing::{Consistency, LagBound, NoReplica, PrimaryReads, Transactions};
use crate::protocol::effects::{Access, Isolation, Modes};
use crate::routing::balance::{Candidate, Load, choose, left_out};
use crate::routing::bond::Bond;
use crate::routing::dice::Dice;
use crate::routing::intent::{Hint, Intent};
use crate::routing::standing::{Mark, Standing, Transaction};
use crate::topology::membership::Out;
use crate::topology::node::{NodeId, Role};
use crate::topology::view::{ClusterView, NodeView};

/// Which node a session, a user or a database asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// Reads to replicas, everything else to the primary.
    #[default]
    Auto,
    /// Everything to the primary.
    Primary,
    /// Everything to a replica: a write gets the replica's refusal.
    Replica,
}

/// The settings of a session's database, user and own.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Where to.
    pub target: Target,
    /// How fresh.
    pub consistency: Consistency,
    /// Which transactions.
    pub transactions: Transactions,
    /// Whether the primary shares.
    pub primary_reads: PrimaryReads,
    /// What if no replica qualifies.
    pub no_replica: NoReplica,
    /// The bound of lag, in place of the cluster's own.
    pub bound: LagBound,
    /// How many requests a node serves at once; 0 is any number.
    pub seats: usize,
    /// The share of replicas that may be left out at once, 0 to 1.
    pub max_ejected: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            target: Target::default(),
            consistency: Consistency::default(),
            transactions: Transactions::default(),
            primary_reads: PrimaryReads::default(),
            no_replica: NoReplica::default(),
            bound: LagBound::default(),
            seats: 0,
            max_ejected: 0.5,
        }
    }
}

impl Policy {
    /// Whether everything goes to a replica.
    pub fn is_led_to_replicas(&self) -> bool {
        self.target == Target::Replica
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The strictest intent of its texts.
    pub intent: Intent,
    /// The hint in them.
    pub hint: Option<Hint>,
    /// It is a BEGIN, and perhaps reads behind it: then [`Ask::intent`] is a read.
    pub begins: Option<Modes>,
    /// How it stands to the transaction around it.
    pub bond: Bond,
    /// It is one statement by itself, which the pooler can answer.
    pub is_lone: bool,
    /// What keeps it from every replica, whatever it asks for.
    pub bar: Option<Bar>,
}

/// What keeps a session's request from every replica, whatever it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// A replica could not serve it.
    Again,
    /// The session's default is SERIALIZABLE, which a standby does not take.
    Serializable,
    /// A READ ONLY transaction of the session has needed the primary: the next ones go there.
    Avoided,
}

impl Ask {
    /// Of an intent, with neither hint nor BEGIN.
    pub const fn of(intent: Intent) -> Self {
        Self {
            intent,
            hint: None,
            begins: None,
            bond: Bond::None,
            is_lone: false,
            bar: None,
        }
    }

    /// What a session that stands so asks for with this: something may keep it from every replica. A transaction that is somewhere
    /// decides for itself.
    #[must_use]
    pub fn by(self, standing: &Standing) -> Self {
        if matches!(standing.transaction, Transaction::On { .. }) {
            return self;
        }
        let is_read = self.intent == Intent::Read || self.hint == Some(Hint::Replica);
        let is_serializable = standing.defaults.isolation == Some(Isolation::Serializable);
        match self.begins {
            None if is_serializable && is_read => Self::barred(Bar::Serializable),
            Some(_) if standing.avoids_replicas => Self::barred(Bar::Avoided),
            None | Some(_) => self,
        }
    }

    /// Of what only the primary can answer, whatever it is.
    pub const fn barred(bar: Bar) -> Self {
        Self {
            bond: Bond::Primary,
            bar: Some(bar),
            ..Self::of(Intent::Unknown)
        }
    }
}

/// All that a route depends on beside what is asked.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// The cluster.
    pub view: &'a ClusterView,
    /// The settings.
    pub policy: &'a Policy,
    /// The last write of anybody, for [`Consistency::Global`].
    pub written_by_all: Option<Mark>,
    /// How each node does.
    pub load: &'a dyn Fn(NodeId) -> Load,
    /// Now.
    pub now: Moment,
}

/// Why a route was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The transaction is there.
    InTransaction,
    /// A hint or the session's setting says so.
    Asked,
    /// Its intent needs the primary.
    Intent(Intent),
    /// A transaction that may write.
    ReadWriteTransaction,
    /// A transaction that began on a replica writes for the first time, or cannot stay there.
    FirstWrite,
    /// A read, and this replica qualifies.
    Read,
    /// A read, and the primary takes its share.
    Share,
    /// A read, but no replica qualifies.
    NoReplica,
    /// A read, and only who served the last one is surely not behind it.
    SameNode,
    /// No replica may have it.
    Barred(Bar),
    /// Nobody chose: the session keeps its server.
    Pinned,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = 17;

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let intents = [
            Intent::Read,
            Intent::NodeLocal,
            Intent::Session,
            Intent::Write,
            Intent::Unknown,
        ];
        [
            Self::InTransaction,
            Self::Asked,
            Self::ReadWriteTransaction,
            Self::FirstWrite,
            Self::Read,
            Self::Share,
            Self::NoReplica,
            Self::SameNode,
        ]
        .into_iter()
        .chain(intents.into_iter().map(Self::Intent))
        .chain([Bar::Again, Bar::Serializable, Bar::Avoided].map(Self::Barred))
        .chain([Self::Pinned])
    }

    /// Its number, below [`Reason::COUNT`].
    pub const fn number(self) -> usize {
        match self {
            Self::InTransaction => 0,
            Self::Asked => 1,
            Self::ReadWriteTransaction => 2,
            Self::FirstWrite => 3,
            Self::Read => 4,
            Self::Share => 5,
            Self::NoReplica => 6,
            Self::SameNode => 7,
            Self::Intent(Intent::Read) => 8,
            Self::Intent(Intent::NodeLocal) => 9,
            Self::Intent(Intent::Session) => 10,
            Self::Intent(Intent::Write) => 11,
            Self::Intent(Intent::Unknown) => 12,
            Self::Barred(Bar::Again) => 13,
            Self::Barred(Bar::Serializable) => 14,
            Self::Barred(Bar::Avoided) => 15,
            Self::Pinned => 16,
        }
    }

    /// The words for it in the console.
    pub fn text(self) -> String {
        match self {
            Self::InTransaction => "the transaction is there".into(),
            Self::Asked => "a hint or a setting asks for it".into(),
            Self::Intent(intent) => format!("{intent} goes to the primary"),
            Self::ReadWriteTransaction => "the transaction may write".into(),
            Self::FirstWrite => "the transaction leaves its replica".into(),
            Self::Read => "a read, and the replica qualifies".into(),
            Self::Share => "a read, and the primary takes its share".into(),
            Self::NoReplica => "a read, but no replica qualifies".into(),
            Self::SameNode => "a read, and who served the last one is surely not behind it".into(),
            Self::Barred(Bar::Again) => "a read, asked again of the primary".into(),
            Self::Barred(Bar::Serializable) => {
                "SERIALIZABLE is the session's default, and no standby takes it".into()
            }
            Self::Barred(Bar::Avoided) => {
                "a READ ONLY transaction of the session has needed the primary before".into()
            }
            Self::Pinned => "the session is pinned to its server".into(),
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The node.
    pub node: NodeId,
    /// What it is to be there: a server found to be something else is not used.
    pub role: Role,
    /// Why.
    pub why: Reason,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes there.
    To(Route),
    /// BEGIN is answered by the pooler; the next statement decides.
    Later,
    /// It is the primary's, and its transaction has promised on a replica what only that has.
    Stuck,
    /// The transaction's part on the replica is rolled back, and it goes there.
    Move(Route),
    /// It waits for the next view: there is no primary, or no replica qualifies yet.
    Wait(Reason),
    /// It fails: no replica qualifies, and the settings allow nobody else.
    Refuse(Reason),
}

/// Why a node serves no read at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It is no replica, or not listed any more.
    NoReplica,
    /// It is not, or not yet again, a member under the bounds of lag.
    NotReadable(Out),
    /// It follows another timeline than the primary's.
    OtherTimeline,
    /// It has not replayed what the session (or anybody) wrote, or that position is not known yet.
    BehindWrite,
    /// It is not surely past what the session has read.
    BehindRead,
    /// It failed, or is slow.
    Ejected,
}

impl Skip {
    /// The words for it in the console.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoReplica => "no replica",
            Self::NotReadable(why) => why.text(),
            Self::OtherTimeline => "on another timeline than the primary",
            Self::BehindWrite => "not surely past the last write",
            Self::BehindRead => "not surely past the last read",
            Self::Ejected => "left out: it failed or is slow",
        }
    }
}

/// Decides. `standing` first takes positions from the view.
pub fn route(
    ask: Ask,
    standing: &mut Standing,
    around: &Circumstances<'_>,
    dice: &mut Dice,
) -> Outcome {
    standing.learn(around.view);
    let target = match ask.hint {
        Some(Hint::Primary) => Target::Primary,
        Some(Hint::Replica) => Target::Replica,
        None => around.policy.target,
    };
    let needs_primary =
        target != Target::Replica && ask.intent != Intent::Read && ask.begins.is_none();
    if let Transaction::On {
        node,
        is_read_only,
        is_fixed,
    } = standing.transaction
    {
        let is_led = target == Target::Replica;
        return match next(ask, target, is_read_only, is_fixed) {
            Next::Stuck if !is_led => Outcome::Stuck,
            Next::Elsewhere if !is_led => movement(around),
            Next::Here if !is_fixed && !is_led && !is_fit(node, standing, around) => {
                movement(around)
            }
            Next::Here | Next::Elsewhere | Next::Stuck => within(node, around),
        };
    }
    if target == Target::Primary {
        return primary(around, Reason::Asked);
    }
    if target == Target::Replica {
        return read(Reason::Asked, standing, around, dice);
    }
    if let Transaction::Unbound { is_read_only } = standing.transaction {
        return if may_begin_with(ask, is_read_only) {
            read(Reason::Read, standing, around, dice)
        } else if ask.bar.is_some() {
            primary(around, Reason::FirstWrite)
        } else {
            primary(around, Reason::ReadWriteTransaction)
        };
    }
    if let Some(bar) = ask.bar {
        return primary(around, Reason::Barred(bar));
    }
    if let Some(modes) = ask.begins {
        return begin(modes, ask, standing, around, dice);
    }
    if needs_primary {
        return primary(around, Reason::Intent(ask.intent));
    }
    read(Reason::Read, standing, around, dice)
}

/// A transaction stays where it is, whatever became of the node: its server says the rest.
fn within(node: NodeId, around: &Circumstances<'_>) -> Outcome {
    let role = around
        .view
        .node(node)
        .map_or(Role::Unknown, |node| node.role);
    let why = Reason::InTransaction;
    Outcome::To(Route { node, role, why })
}

fn primary(around: &Circumstances<'_>, why: Reason) -> Outcome {
    let writer = around.view.primary_at(around.now);
    writer.map_or(Outcome::Wait(why), |node| {
        let role = Role::Primary;
        Outcome::To(Route { node, role, why })
    })
}

/// Where the next statement of a transaction on a replica belongs.
enum Next {
    Here,
    Elsewhere,
    Stuck,
}

fn next(ask: Ask, target: Target, is_read_only: bool, is_fixed: bool) -> Next {
    if ask.bond.is_end() {
        return Next::Here;
    }
    if ask.bond == Bond::Leaves {
        // Nothing of what it has there is needed any more.
        return Next::Elsewhere;
    }
    let is_primarys = if is_read_only {
        // What else it cannot do there the replica says itself, and would the primary, too.
        ask.bond == Bond::Primary
    } else {
        target == Target::Primary || !may_begin_with(ask, is_read_only)
    };
    match (is_primarys, is_fixed) {
        (false, _) => Next::Here,
        (true, false) => Next::Elsewhere,
        (true, true) => Next::Stuck,
    }
}

/// Whether a transaction may be on a replica after `ask`, and still move.
fn may_begin_with(ask: Ask, is_read_only: bool) -> bool {
    if is_read_only {
        !matches!(ask.bond, Bond::Primary | Bond::Leaves)
    } else {
        ask.intent == Intent::Read && ask.bond == Bond::None && ask.begins.is_none()
    }
}

fn is_fit(node: NodeId, standing: &Standing, around: &Circumstances<'_>) -> bool {
    let node = around.view.node(node);
    node.is_some_and(|node| fitness(node, standing, around).is_ok())
}

fn movement(around: &Circumstances<'_>) -> Outcome {
    match primary(around, Reason::FirstWrite) {
        Outcome::To(route) => Outcome::Move(route),
        other => other,
    }
}

fn begin(
    modes: Modes,
    ask: Ask,
    standing: &Standing,
    around: &Circumstances<'_>,
    dice: &mut Dice,
) -> Outcome {
    let isolation = modes.isolation.or(standing.defaults.isolation);
    let access = modes.access.or(standing.defaults.access);
    let is_serializable = isolation == Some(Isolation::Serializable);
    let allowed = around.policy.transactions;
    if allowed == Transactions::Primary || is_serializable || modes.is_shared_snapshot {
        return primary(around, Reason::ReadWriteTransaction);
    }
    let has_more = ask.intent == Intent::Read;
    let is_read_only = access == Some(Access::ReadOnly);
    let is_plain = matches!(isolation, None | Some(Isolation::ReadCommitted));
    if !is_read_only && (allowed != Transactions::Late || !is_plain) {
        return primary(around, Reason::ReadWriteTransaction);
    }
    if ask.is_lone {
        return Outcome::Later;
    }
    if is_read_only || (has_more && ask.bond == Bond::None && modes.access.is_none()) {
        return read(Reason::Read, standing, around, dice);
    }
    primary(around, Reason::ReadWriteTransaction)
}

/// Whether `node` may serve a read of the session, but for how it does.
pub fn fitness(
    node: &NodeView,
    standing: &Standing,
    around: &Circumstances<'_>,
) -> Result<(), Skip> {
    let (view, policy) = (around.view, around.policy);
    if node.role != Role::Replica || !node.is_listed {
        return Err(Skip::NoReplica);
    }
    // A view that has not been renewed in time (the pooler itself stood still) knows no lag any more.
    let is_stale = view.primary().is_some() && around.now > view.fresh_until;
    if is_stale {
        return Err(Skip::NotReadable(Out::Stale));
    }
    if let Some(why) = view.service(node, policy.bound).out {
        return Err(Skip::NotReadable(why));
    }
    if node.timeline != view.timeline {
        return Err(Skip::OtherTimeline);
    }
    let is_past = |mark: &Mark| match (mark.needed(view), node.lsn) {
        (Some(needed), Some(replayed)) => replayed >= needed,
        _ => false,
    };
    let (own, shared) = match policy.consistency {
        Consistency::None => return Ok(()),
        Consistency::Session => (standing.written, None),
        Consistency::Global => (standing.written, around.written_by_all),
    };
    if !own.iter().chain(&shared).all(is_past) {
        return Err(Skip::BehindWrite);
    }
    let Some((last, mark)) = &standing.read else {
        return Ok(());
    };
    // One that was started again may show less than it had shown before.
    let has_gone_on = node.answers_since.is_some_and(|since| since < mark.at);
    let is_same = *last == node.id && mark.epoch == view.epoch && has_gone_on;
    if is_same || is_past(mark) {
        return Ok(());
    }
    Err(Skip::BehindRead)
}

/// Whether a replica would serve a read if it had replayed enough, or that were known.
pub fn is_only_behind(around: &Circumstances<'_>) -> bool {
    let policy = Policy {
        consistency: Consistency::None,
        ..around.policy.clone()
    };
    let around = Circumstances {
        policy: &policy,
        ..*around
    };
    let fresh = Standing::default();
    let mut nodes = around.view.nodes.iter();
    nodes.any(|node| fitness(node, &fresh, &around).is_ok())
}

/// Whether the next sample of the primary's position is likely to qualify a replica for a read of the session: all that keeps one from
/// it is that the position is not known yet, and it has replayed all that is.
pub fn is_soon(standing: &Standing, around: &Circumstances<'_>) -> bool {
    let view = around.view;
    // There is no next one of a writer that is lost.
    let Some(sample) = view.sample.filter(|_| view.writer.is_some()) else {
        return false;
    };
    let is_unknown = |mark: &Mark| mark.epoch == view.epoch && mark.lsn.is_none();
    let mut asked = standing.clone();
    asked.written = standing.written.filter(|mark| !is_unknown(mark));
    asked.read = standing.read.filter(|(_, mark)| !is_unknown(mark));
    let shared = around.written_by_all.filter(|mark| !is_unknown(mark));
    let is_waiting = asked.written != standing.written
        || asked.read != standing.read
        || shared != around.written_by_all;
    let around = Circumstances {
        written_by_all: shared,
        ..*around
    };
    is_waiting
        && view
            .nodes
            .iter()
            .any(|node| node.lsn >= Some(sample.lsn) && fitness(node, &asked, &around).is_ok())
}

/// The replicas that may serve a read of the session, with how they do; those left out for failing are not among them.
fn candidates(standing: &Standing, around: &Circumstances<'_>) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = around
        .view
        .nodes
        .iter()
        .filter(|node| fitness(node, standing, around).is_ok())
        .map(|node| candidate(node, around))
        .collect();
    let out = out_of_all(around);
    all.retain(|one| !out.contains(&one.node));
    all
}

/// The replicas that are left out of all reads because they fail or are slow: at most a share of those that are near enough to serve.
fn out_of_all(around: &Circumstances<'_>) -> Vec<NodeId> {
    let (view, policy) = (around.view, around.policy);
    out_of_reads(
        view,
        policy.bound,
        policy.max_ejected,
        around.load,
        around.now,
    )
}

/// The replicas of `view` that are left out of the reads of a database that is bound by `bound`, at most the share `most` of them.
pub fn out_of_reads(
    view: &ClusterView,
    bound: LagBound,
    most: f64,
    load: &dyn Fn(NodeId) -> Load,
    now: Moment,
) -> Vec<NodeId> {
    let replicas = view.nodes.iter().filter(|node| {
        let is_near = view.service(node, bound).is_on();
        is_near && node.role == Role::Replica && node.is_listed
    });
    left_out(replicas.map(|node| (node.id, load(node.id))), most, now)
}

fn candidate(node: &NodeView, around: &Circumstances<'_>) -> Candidate {
    let mut load = (around.load)(node.id);
    load.back_since = load
        .back_since
        .max(around.view.service(node, around.policy.bound).readmitted);
    Candidate {
        node: node.id,
        weight: node.place.weight,
        is_near: node.place.is_near,
        is_full: around.policy.seats > 0 && load.in_flight as usize >= around.policy.seats,
        load,
    }
}

fn read(why: Reason, standing: &Standing, around: &Circumstances<'_>, dice: &mut Dice) -> Outcome {
    let mut all = candidates(standing, around);
    let primary_node = around.view.primary_at(around.now);
    let shares = around.policy.primary_reads == PrimaryReads::Share && why == Reason::Read;
    if shares
        && let Some(node) = primary_node.and_then(|id| around.view.node(id))
        && node.place.weight > 0
    {
        all.push(candidate(node, around));
    }
    if let Some(node) = choose(&all, dice, around.now) {
        if Some(node) == primary_node {
            return primary(around, Reason::Share);
        }
        let is_bound = standing.read.as_ref().is_some_and(|(last, mark)| {
            *last == node
                && mark.needed(around.view).is_none()
                && around.policy.consistency != Consistency::None
        });
        let role = Role::Replica;
        let why = if is_bound && why == Reason::Read {
            Reason::SameNode
        } else {
            why
        };
        return Outcome::To(Route { node, role, why });
    }
    match around.policy.no_replica {
        // A session that asked for a replica gets one or an error: it may count on the refusal of its writes.
        _ if why == Reason::Asked => Outcome::Refuse(Reason::NoReplica),
        NoReplica::Primary => primary(around, Reason::NoReplica),
        NoReplica::Error => Outcome::Refuse(Reason::NoReplica),
        NoReplica::Wait => Outcome::Wait(Reason::NoReplica),
    }
}

/// What becomes of a read that was to be served by a replica, of which none is fit: it goes to the primary, where the settings allow it and
/// there is one.
pub fn or_primary(outcome: Outcome, ask: Ask, around: &Circumstances<'_>) -> Outcome {
    let is_allowed = around.policy.no_replica != NoReplica::Error && ask.intent == Intent::Read;
    match (outcome, around.view.primary_at(around.now)) {
        (Outcome::Refuse(why), Some(node)) if is_allowed => {
            let role = Role::Primary;
            Outcome::To(Route { node, role, why })
        }
        (outcome, _) => outcome,
    }
}

/// What becomes of each node, for EXPLAIN ROUTE: why it is skipped, or nothing where it may serve.
pub fn skipped(standing: &Standing, around: &Circumstances<'_>) -> Vec<(NodeId, Option<Skip>)> {
    let fit = candidates(standing, around);
    around
        .view
        .nodes
        .iter()
        .map(|node| {
            let skip = match fitness(node, standing, around) {
                Err(skip) => Some(skip),
                Ok(()) if fit.iter().any(|one| one.node == node.id) => None,
                Ok(()) => Some(Skip::Ejected),
            };
            (node.id, skip)
        })
        .collect()
}

#[cfg(test)]
mod tests;
