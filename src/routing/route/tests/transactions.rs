//! Where transactions go, and when they move.

use super::*;
use crate::config::routing::Transactions;
use crate::protocol::effects::Isolation;
use crate::routing::bond::Bond;
use crate::routing::standing::Transaction;

#[test]
fn transactions_go_where_they_may_and_stay_there() {
    let (view, policy) = (view(), Policy::default());
    let fresh = Standing::default();
    assert_eq!(nodes(begin(Modes::default()), &fresh, &view, &policy), [A]);
    assert_eq!(nodes(begin(read_only()), &fresh, &view, &policy), [B, C]);
    let serializable = Modes {
        isolation: Some(Isolation::Serializable),
        ..read_only()
    };
    assert_eq!(nodes(begin(serializable), &fresh, &view, &policy), [A]);
    let by_default = Standing {
        defaults: read_only(),
        ..Standing::default()
    };
    assert_eq!(
        nodes(begin(Modes::default()), &by_default, &view, &policy),
        [B, C]
    );
    let within = Standing {
        transaction: on(C, true, true),
        ..Standing::default()
    };
    assert_eq!(nodes(WRITE, &within, &view, &policy), [C]);
    let never = Policy {
        transactions: Transactions::Primary,
        ..Policy::default()
    };
    assert_eq!(nodes(begin(read_only()), &fresh, &view, &never), [A]);
}

#[test]
fn a_late_transaction_is_bound_by_its_first_statement_and_moves_at_its_first_write() {
    let view = view();
    let late = Policy {
        transactions: Transactions::Late,
        ..Policy::default()
    };
    let fresh = Standing::default();
    let strict = Modes {
        isolation: Some(Isolation::RepeatableRead),
        ..Modes::default()
    };
    assert_eq!(nodes(begin(strict), &fresh, &view, &late), [A]);
    let unbound = Standing {
        transaction: Transaction::Unbound {
            is_read_only: false,
        },
        ..Standing::default()
    };
    assert_eq!(nodes(READ, &unbound, &view, &late), [B, C]);
    assert_eq!(nodes(WRITE, &unbound, &view, &late), [A]);
    let movable = Standing {
        transaction: on(B, false, false),
        ..Standing::default()
    };
    assert_eq!(nodes(READ, &movable, &view, &late), [B]);
    assert_eq!(moves(WRITE, &movable, &view), Some(A));
    let commit = bound(Intent::Session, Bond::Commit);
    assert_eq!(nodes(commit, &movable, &view, &late), [B]);
    assert_eq!(moves(commit, &movable, &view), None);
}

const fn on(node: NodeId, is_read_only: bool, is_fixed: bool) -> Transaction {
    Transaction::On {
        node,
        is_read_only,
        is_fixed,
    }
}

const fn bound(intent: Intent, bond: Bond) -> Ask {
    Ask {
        bond,
        ..Ask::of(intent)
    }
}

/// Where the transaction moves, if it does.
fn moves(ask: Ask, standing: &Standing, view: &ClusterView) -> Option<NodeId> {
    match outcome(ask, standing, view, &Policy::default(), 1) {
        Outcome::Move(route) => Some(route.node),
        _ => None,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a plain table of cases")]
fn begin_is_answered_late_only_where_nothing_is_promised_by_it() {
    let (view, fresh) = (view(), Standing::default());
    let of = |transactions, modes, is_lone| {
        let policy = Policy {
            transactions,
            ..Policy::default()
        };
        let ask = Ask {
            is_lone,
            ..begin(modes)
        };
        match outcome(ask, &fresh, &view, &policy, 1) {
            Outcome::Later => "later",
            Outcome::To(route) if route.role == Role::Replica => "replica",
            _ => "primary",
        }
    };
    let strict = |access| Modes {
        isolation: Some(Isolation::RepeatableRead),
        access,
        ..Modes::default()
    };
    let serializable = Modes {
        isolation: Some(Isolation::Serializable),
        ..read_only()
    };
    let (only, late) = (Transactions::ReadOnly, Transactions::Late);
    for (transactions, modes, is_lone, wanted) in [
        (late, Modes::default(), true, "later"),
        (late, Modes::default(), false, "primary"),
        (late, read_only(), true, "later"),
        (late, read_only(), false, "replica"),
        (late, strict(None), true, "primary"),
        (late, strict(Some(Access::ReadOnly)), true, "later"),
        (late, serializable, true, "primary"),
        (only, Modes::default(), true, "primary"),
        (only, read_only(), true, "later"),
        (Transactions::Primary, read_only(), true, "primary"),
    ] {
        assert_eq!(of(transactions, modes, is_lone), wanted, "{modes:?}");
    }
    // With its first read in one request there is nothing to wait for.
    let both = Ask {
        begins: Some(Modes::default()),
        ..READ
    };
    let late = Policy {
        transactions: late,
        ..Policy::default()
    };
    assert_eq!(nodes(both, &fresh, &view, &late), [B, C]);
    let read_write = Ask {
        begins: Some(Modes {
            access: Some(Access::ReadWrite),
            ..Modes::default()
        }),
        ..READ
    };
    assert_eq!(
        nodes(read_write, &fresh, &view, &late),
        [A],
        "a standby refuses the word"
    );
}

#[test]
fn what_lives_in_a_transaction_is_never_left_behind_on_a_replica() {
    let view = view();
    let at = |transaction| Standing {
        transaction,
        ..Standing::default()
    };
    let (lives, primarys) = (
        bound(Intent::Read, Bond::Lives),
        bound(Intent::Session, Bond::Primary),
    );
    // One that may write moves before it makes anything of its own.
    let may_write = at(on(B, false, false));
    for ask in [lives, primarys, WRITE, Ask::of(Intent::NodeLocal)] {
        assert_eq!(moves(ask, &may_write, &view), Some(A), "{ask:?}");
    }
    // A READ ONLY one stays for all but what is the primary's.
    let reads = at(on(B, true, false));
    for ask in [lives, WRITE, Ask::of(Intent::NodeLocal), READ] {
        assert_eq!(moves(ask, &reads, &view), None, "{ask:?}");
    }
    assert_eq!(moves(primarys, &reads, &view), Some(A));
    // What is fixed does not move, and is told so.
    let fixed = at(on(B, true, true));
    let policy = Policy::default();
    assert_eq!(outcome(primarys, &fixed, &view, &policy, 1), Outcome::Stuck);
    assert_eq!(nodes(WRITE, &fixed, &view, &policy), [B]);
    let leaves = bound(Intent::Write, Bond::Leaves);
    assert_eq!(moves(leaves, &fixed, &view), Some(A), "it is over there");
    let unbound = at(Transaction::Unbound { is_read_only: true });
    assert_eq!(nodes(primarys, &unbound, &view, &policy), [A]);
    assert_eq!(nodes(lives, &unbound, &view, &policy), [B, C]);
}

#[test]
fn a_read_of_a_transaction_is_as_fresh_as_any_other() {
    let mut view = view();
    let standing = Standing {
        transaction: on(B, false, false),
        ..Standing::default()
    };
    assert_eq!(moves(READ, &standing, &view), None);
    view.nodes[1].own = serves(false);
    assert_eq!(
        moves(READ, &standing, &view),
        Some(A),
        "its replica is behind"
    );
    let fixed = Standing {
        transaction: on(B, true, true),
        ..Standing::default()
    };
    assert_eq!(nodes(READ, &fixed, &view, &Policy::default()), [B]);
}
