//! Where a request goes: its intent, the session's standing and the cluster's view in; a node and the reason out.
//!
//! Never a write to a node that the view does not call primary, never a read from a replica that is not fit for it.

use crate::config::routing::{Consistency, NoReplica, PrimaryReads, Transactions};
use crate::protocol::effects::{Access, Isolation, Modes};
use crate::routing::ask::Ask;
use crate::routing::balance::choose;
use crate::routing::bond::Bond;
use crate::routing::circumstances::{Circumstances, Target};
use crate::routing::dice::Dice;
use crate::routing::fitness::{candidate, candidates, is_fit};
use crate::routing::intent::{Hint, Intent};
use crate::routing::reason::Reason;
use crate::routing::standing::{Standing, Transaction};
use crate::topology::node::{NodeId, Role};

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

#[cfg(test)]
mod tests;
