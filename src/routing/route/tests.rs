use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::routing::balance::Ejected;
use crate::topology::lag::Lag;
use crate::topology::membership::Service;
use crate::topology::node::{Lsn, Place};
use crate::topology::phase::{Epoch, Phase};
use crate::topology::view::Sample;

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const C: NodeId = NodeId(2);

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn node(id: NodeId, role: Role, lsn: u64, lag_ms: u64) -> NodeView {
    NodeView {
        id,
        place: Arc::new(Place {
            host: format!("n{}", id.0),
            port: 5432,
            zone: String::new(),
            is_near: false,
            weight: 1,
        }),
        is_listed: true,
        role,
        timeline: 1,
        lsn: Some(Lsn(lsn)),
        lag: Lag::Known {
            time: Duration::from_millis(lag_ms),
            bytes: 1000u64.saturating_sub(lsn),
            at: at(0),
        },
        own: serves(role == Role::Replica),
        others: Vec::new(),
        heard: None,
        answers_since: Some(at(0)),
        misses: 0,
        took: Duration::ZERO,
        moves: 0,
        trouble: None,
    }
}

fn serves(is_so: bool) -> Service {
    Service {
        out: (!is_so).then_some(Out::Behind),
        readmitted: None,
    }
}

fn within(millis: u64) -> LagBound {
    LagBound {
        time: Some(Duration::from_millis(millis)),
        bytes: None,
    }
}

/// A primary at 1000, a replica at 990 and one at 400, sampled at 100 ms.
fn view() -> ClusterView {
    ClusterView {
        name: "main".into(),
        epoch: Epoch(1),
        phase: Phase::Stable,
        since: at(0),
        why: "".into(),
        writer: Some(A),
        timeline: 1,
        system: 7,
        holding_since: None,
        fresh_until: at(10_000),
        sample: Some(Sample {
            sent: at(100),
            lsn: Lsn(1000),
        }),
        floor: Some(Lsn(10)),
        bounds: Vec::new(),
        nodes: vec![
            node(A, Role::Primary, 1000, 0),
            node(B, Role::Replica, 990, 5),
            node(C, Role::Replica, 400, 600),
        ],
    }
}

fn outcome(
    ask: Ask,
    standing: &Standing,
    view: &ClusterView,
    policy: &Policy,
    seed: u64,
) -> Outcome {
    let around = Circumstances {
        view,
        policy,
        written_by_all: None,
        load: &|_| Load::default(),
        now: at(1000),
    };
    route(ask, &mut standing.clone(), &around, &mut Dice::new(seed))
}

/// All nodes that a request goes to, over a hundred throws of the dice.
fn nodes(ask: Ask, standing: &Standing, view: &ClusterView, policy: &Policy) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = (0..100)
        .filter_map(|seed| match outcome(ask, standing, view, policy, seed) {
            Outcome::To(route) | Outcome::Move(route) => Some(route.node),
            Outcome::Later | Outcome::Stuck | Outcome::Wait(_) | Outcome::Refuse(_) => None,
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

const READ: Ask = Ask::of(Intent::Read);
const WRITE: Ask = Ask::of(Intent::Write);

fn begin(modes: Modes) -> Ask {
    Ask {
        begins: Some(modes),
        ..Ask::of(Intent::Session)
    }
}

fn read_only() -> Modes {
    Modes {
        access: Some(Access::ReadOnly),
        ..Modes::default()
    }
}

#[test]
fn reads_go_to_replicas_and_all_else_to_the_primary() {
    let (fresh, policy) = (Standing::default(), Policy::default());
    assert_eq!(nodes(READ, &fresh, &view(), &policy), [B, C]);
    for intent in [
        Intent::Write,
        Intent::Session,
        Intent::NodeLocal,
        Intent::Unknown,
    ] {
        assert_eq!(nodes(Ask::of(intent), &fresh, &view(), &policy), [A]);
    }
}

#[test]
fn a_replica_too_far_behind_gets_no_reads() {
    let fresh = Standing::default();
    let policy = Policy {
        bound: within(500),
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &view(), &policy), [B]);
    let policy = Policy {
        bound: LagBound {
            time: None,
            bytes: Some(100),
        },
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &view(), &policy), [B]);
    let mut unreadable = view();
    unreadable.nodes[1].own = serves(false);
    unreadable.nodes[2].own = serves(false);
    assert_eq!(nodes(READ, &fresh, &unreadable, &policy), [A]);
    // A wider bound than the cluster's is wider.
    unreadable.bounds = vec![within(20), within(9000)];
    unreadable.nodes[2].others = vec![serves(false), serves(true)];
    let wide = Policy {
        bound: within(9000),
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &unreadable, &wide), [C]);
    let narrow = Policy {
        bound: within(20),
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &unreadable, &narrow), [A]);
}

#[test]
fn a_session_never_reads_behind_its_own_write() {
    let policy = Policy::default();
    let mut standing = Standing::default();
    standing.note_write(at(150), Epoch(1));
    let mut now = view();
    assert_eq!(
        nodes(READ, &standing, &now, &policy),
        [A],
        "no sample was asked for after the write"
    );
    now.sample = Some(Sample {
        sent: at(160),
        lsn: Lsn(985),
    });
    assert_eq!(
        nodes(READ, &standing, &now, &policy),
        [B],
        "one replica is past it"
    );
    standing.learn(&now);
    now.sample = Some(Sample {
        sent: at(900),
        lsn: Lsn(5000),
    });
    assert_eq!(
        nodes(READ, &standing, &now, &policy),
        [B],
        "the first sample counts"
    );
    let none = Policy {
        consistency: Consistency::None,
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &standing, &now, &none), [B, C]);
}

#[test]
fn reads_never_go_backwards() {
    let policy = Policy::default();
    let mut standing = Standing::default();
    standing.note_read(B, at(150), Epoch(1));
    assert_eq!(nodes(READ, &standing, &view(), &policy), [B]);
    let later = ClusterView {
        sample: Some(Sample {
            sent: at(160),
            lsn: Lsn(300),
        }),
        ..view()
    };
    assert_eq!(nodes(READ, &standing, &later, &policy), [B, C]);
    standing.note_read(A, at(150), Epoch(1));
    assert_eq!(
        nodes(READ, &standing, &view(), &policy),
        [A],
        "the primary was further than any replica is known to be"
    );
}

#[test]
fn a_replica_that_was_started_again_may_show_less_than_it_had_shown() {
    let policy = Policy::default();
    let mut standing = Standing::default();
    standing.note_read(B, at(150), Epoch(1));
    assert_eq!(nodes(READ, &standing, &view(), &policy), [B]);
    let mut again = view();
    again.nodes[1].answers_since = Some(at(160));
    assert_eq!(nodes(READ, &standing, &again, &policy), [A]);
    // The same where it is known how far it must be: here further than it is.
    again.sample = Some(Sample {
        sent: at(170),
        lsn: Lsn(995),
    });
    assert_eq!(nodes(READ, &standing, &again, &policy), [A]);
    again.nodes[1].lsn = Some(Lsn(995));
    assert_eq!(nodes(READ, &standing, &again, &policy), [B]);
    again.nodes[1].answers_since = None;
    standing.note_read(B, at(180), Epoch(1));
    assert_eq!(nodes(READ, &standing, &again, &policy), [A]);
}

#[test]
fn who_read_from_a_lost_primary_goes_on_at_a_replica_that_surely_has_it_and_waits_otherwise() {
    let policy = Policy::default();
    let mut standing = Standing::default();
    standing.note_read(A, at(150), Epoch(1));
    let lost = |sent| ClusterView {
        phase: Phase::NoWriter,
        writer: None,
        sample: Some(Sample {
            sent: at(sent),
            lsn: Lsn(985),
        }),
        ..view()
    };
    assert_eq!(
        nodes(READ, &standing, &lost(140), &policy),
        [] as [NodeId; 0]
    );
    assert_eq!(nodes(READ, &standing, &lost(160), &policy), [B]);
}

#[test]
fn what_anybody_wrote_counts_where_consistency_is_global() {
    let policy = Policy {
        consistency: Consistency::Global,
        ..Policy::default()
    };
    let mark = Mark {
        lsn: Some(Lsn(500)),
        ..Mark::new(at(50), Epoch(1))
    };
    let view = view();
    let around = Circumstances {
        view: &view,
        policy: &policy,
        written_by_all: Some(mark),
        load: &|_| Load::default(),
        now: at(1000),
    };
    for seed in 0..50 {
        let outcome = route(
            READ,
            &mut Standing::default(),
            &around,
            &mut Dice::new(seed),
        );
        assert!(
            matches!(outcome, Outcome::To(Route { node: B, .. })),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_failover_makes_old_positions_count_up_to_its_own_beginning() {
    let policy = Policy::default();
    let mark = Mark {
        lsn: Some(Lsn(99_999)),
        ..Mark::new(at(10), Epoch(1))
    };
    let standing = Standing {
        written: Some(mark),
        ..Standing::default()
    };
    let mut next = view();
    next.epoch = Epoch(2);
    next.floor = Some(Lsn(900));
    assert_eq!(nodes(READ, &standing, &next, &policy), [B]);
    next.floor = None;
    assert_eq!(nodes(READ, &standing, &next, &policy), [A]);
}

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

#[test]
fn hints_and_settings_choose_and_a_write_for_a_replica_gets_the_replicas_refusal() {
    let (fresh, view) = (Standing::default(), view());
    let hinted = |intent, hint| Ask {
        hint: Some(hint),
        ..Ask::of(intent)
    };
    let policy = Policy::default();
    assert_eq!(
        nodes(hinted(Intent::Read, Hint::Primary), &fresh, &view, &policy),
        [A]
    );
    assert_eq!(
        nodes(hinted(Intent::Write, Hint::Replica), &fresh, &view, &policy),
        [B, C]
    );
    let replica = Policy {
        target: Target::Replica,
        ..Policy::default()
    };
    assert_eq!(nodes(WRITE, &fresh, &view, &replica), [B, C]);
    assert_eq!(
        nodes(hinted(Intent::Read, Hint::Primary), &fresh, &view, &replica),
        [A]
    );
}

#[test]
fn a_replica_that_is_left_out_serves_nobody_also_not_who_could_read_only_there() {
    let mut load = Load::default();
    load.eject(Ejected::Slow, at(900));
    let mut standing = Standing::default();
    let choices = |standing: &Standing, view: &ClusterView, max_ejected| {
        let policy = Policy {
            max_ejected,
            ..Policy::default()
        };
        let around = Circumstances {
            view,
            policy: &policy,
            written_by_all: None,
            load: &|node| if node == B { load } else { Load::default() },
            now: at(1000),
        };
        let went = |seed| route(READ, &mut standing.clone(), &around, &mut Dice::new(seed));
        let mut nodes: Vec<NodeId> = (0..100)
            .filter_map(|seed| match went(seed) {
                Outcome::To(route) => Some(route.node),
                _ => None,
            })
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    };
    assert_eq!(choices(&standing, &view(), 0.5), [C]);
    assert_eq!(choices(&standing, &view(), 0.4), [B, C], "none may be");
    // Only B has replayed what the session wrote.
    standing.note_write(at(50), Epoch(1));
    let mut seen = view();
    seen.sample = Some(Sample {
        sent: at(100),
        lsn: Lsn(985),
    });
    assert_eq!(choices(&standing, &seen, 0.5), [A]);
    assert_eq!(choices(&standing, &seen, 0.4), [B]);
}

#[test]
fn near_replicas_serve_first_and_one_that_came_back_little_by_little() {
    let (fresh, mut view) = (Standing::default(), view());
    let policy = Policy::default();
    view.nodes[2].place = Arc::new(Place {
        is_near: true,
        ..Place::clone(&view.nodes[2].place)
    });
    assert_eq!(nodes(READ, &fresh, &view, &policy), [C]);
    let busy = Policy { seats: 1, ..policy };
    let mut load = Load::default();
    load.in_flight = 1;
    let around = Circumstances {
        view: &view,
        policy: &busy,
        written_by_all: None,
        load: &|_| load,
        now: at(1000),
    };
    let mut dice = Dice::new(3);
    let went: Vec<Outcome> = (0..100)
        .map(|_| route(READ, &mut fresh.clone(), &around, &mut dice))
        .collect();
    let is_at = |id: NodeId| move |one: &&Outcome| matches!(one, Outcome::To(to) if to.node == id);
    assert!(went.iter().filter(is_at(B)).count() > 20, "it is full");
    let mut back = self::view();
    back.nodes[1].own.readmitted = Some(at(900));
    let share = (0..1000)
        .filter(|seed| is_at(B)(&&outcome(READ, &fresh, &back, &Policy::default(), *seed)))
        .count();
    assert!((20..120).contains(&share), "{share}");
}

#[test]
fn without_a_replica_the_settings_decide() {
    let mut alone = view();
    alone.nodes.truncate(1);
    let fresh = Standing::default();
    let with = |no_replica| Policy {
        no_replica,
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &alone, &with(NoReplica::Primary)), [A]);
    let refused = Outcome::Refuse(Reason::NoReplica);
    assert_eq!(
        outcome(READ, &fresh, &alone, &with(NoReplica::Error), 1),
        refused
    );
    let waits = Outcome::Wait(Reason::NoReplica);
    assert_eq!(
        outcome(READ, &fresh, &alone, &with(NoReplica::Wait), 1),
        waits
    );
    let share = Policy {
        primary_reads: PrimaryReads::Share,
        ..Policy::default()
    };
    assert_eq!(nodes(READ, &fresh, &view(), &share), [A, B, C]);
}

#[test]
fn without_a_primary_writes_wait_and_reads_go_on() {
    let mut headless = view();
    headless.phase = Phase::NoWriter;
    headless.nodes[0].role = Role::Down;
    let (fresh, policy) = (Standing::default(), Policy::default());
    assert!(matches!(
        outcome(WRITE, &fresh, &headless, &policy, 1),
        Outcome::Wait(_)
    ));
    assert_eq!(nodes(READ, &fresh, &headless, &policy), [B, C]);
}

#[test]
fn a_view_that_was_not_renewed_in_time_routes_nothing() {
    let mut stale = view();
    stale.fresh_until = at(999);
    let (fresh, policy) = (Standing::default(), Policy::default());
    for ask in [READ, WRITE] {
        assert!(matches!(
            outcome(ask, &fresh, &stale, &policy, 1),
            Outcome::Wait(_)
        ));
    }
}

#[test]
fn what_is_barred_from_replicas_goes_to_the_primary_and_says_why() {
    let (view, policy) = (view(), Policy::default());
    let why = |ask: Ask, standing: &Standing| {
        let Outcome::To(route) = outcome(ask, standing, &view, &policy, 1) else {
            panic!("there is a primary");
        };
        (route.node, route.why)
    };
    let serializable = Standing {
        defaults: Modes {
            isolation: Some(Isolation::Serializable),
            ..Modes::default()
        },
        ..Standing::default()
    };
    let hinted = Ask {
        hint: Some(Hint::Replica),
        ..READ
    };
    let barred = Reason::Barred(Bar::Serializable);
    for ask in [READ, hinted] {
        assert_eq!(why(ask.by(&serializable), &serializable), (A, barred));
    }
    let write = (A, Reason::Intent(Intent::Write));
    assert_eq!(why(WRITE.by(&serializable), &serializable), write);
    let avoiding = Standing {
        avoids_replicas: true,
        ..Standing::default()
    };
    let avoided = (A, Reason::Barred(Bar::Avoided));
    assert_eq!(why(begin(read_only()).by(&avoiding), &avoiding), avoided);
    assert_eq!(READ.by(&avoiding), READ);
    let within = Standing {
        transaction: Transaction::On {
            node: B,
            is_read_only: true,
            is_fixed: true,
        },
        ..serializable
    };
    assert_eq!(READ.by(&within), READ, "it is where it is");
    let again = (A, Reason::Barred(Bar::Again));
    assert_eq!(why(Ask::barred(Bar::Again), &Standing::default()), again);
    let numbers: Vec<usize> = Reason::all().map(Reason::number).collect();
    assert_eq!(numbers, (0..Reason::COUNT).collect::<Vec<_>>());
}

#[test]
fn a_read_that_is_led_to_replicas_goes_to_the_primary_only_where_the_settings_allow_it() {
    let mut view = view();
    view.nodes.truncate(1);
    let led = |no_replica, ask| {
        let policy = Policy {
            target: Target::Replica,
            no_replica,
            ..Policy::default()
        };
        let around = Circumstances {
            view: &view,
            policy: &policy,
            written_by_all: None,
            load: &|_| Load::default(),
            now: at(1000),
        };
        let outcome = route(ask, &mut Standing::default(), &around, &mut Dice::new(1));
        or_primary(outcome, ask, &around)
    };
    let refused = Outcome::Refuse(Reason::NoReplica);
    let to_primary = |outcome| matches!(outcome, Outcome::To(Route { node: A, .. }));
    assert!(to_primary(led(NoReplica::Primary, READ)));
    assert_eq!(led(NoReplica::Primary, WRITE), refused);
    assert_eq!(led(NoReplica::Error, READ), refused);
}

#[test]
fn every_skipped_node_has_a_reason() {
    let mut standing = Standing::default();
    standing.note_write(at(50), Epoch(1));
    let (mut view, policy) = (view(), Policy::default());
    view.sample = Some(Sample {
        sent: at(100),
        lsn: Lsn(500),
    });
    standing.learn(&view);
    let around = Circumstances {
        view: &view,
        policy: &policy,
        written_by_all: None,
        load: &|_| Load::default(),
        now: at(1000),
    };
    let expected = [
        (A, Some(Skip::NoReplica)),
        (B, None),
        (C, Some(Skip::BehindWrite)),
    ];
    assert_eq!(skipped(&standing, &around), expected);
}

#[test]
fn an_explanation_tells_every_rule_that_spoke_and_touches_nothing() {
    use crate::routing::catalog::{Catalog, Path};
    use crate::routing::classify::{Reading, classify};
    use crate::routing::explain;
    use crate::routing::judge::{Judge, Lists};

    let judge = Judge {
        catalog: &Catalog::default(),
        path: &Path::default(),
        lists: &Lists::default(),
    };
    let facts = classify(b"select 1", Reading::default(), &judge, &mut Vec::new());
    let mut standing = Standing::default();
    standing.note_write(at(50), Epoch(1));
    let (view, policy) = (view(), Policy::default());
    let around = Circumstances {
        view: &view,
        policy: &policy,
        written_by_all: None,
        load: &|_| Load::default(),
        now: at(1000),
    };
    let outcome = route(READ, &mut standing.clone(), &around, &mut Dice::new(1));
    let rows = explain::route((&facts, b"select 1"), &standing, &around, (outcome, false));
    let told: Vec<String> = rows
        .iter()
        .map(|row| format!("{}: {} ({})", row.subject, row.finding, row.why))
        .collect();
    assert_eq!(
        told,
        [
            "intent: read (every part only reads)",
            "freshness: not behind its own write (consistency = session)",
            "node: n0:5432 primary (it is the primary)",
            "node: n1:5432 replica (5 ms, 10 bytes behind) (not surely past the last write)",
            "node: n2:5432 replica (600 ms, 600 bytes behind) (not surely past the last write)",
            "route: n0:5432 (a read, but no replica qualifies)",
        ]
    );
    assert_eq!(standing.written.map(|mark| mark.lsn), Some(None));

    let outcome = route(READ, &mut Standing::default(), &around, &mut Dice::new(1));
    let fresh = Standing::default();
    let rows = explain::route((&facts, b"select 1"), &fresh, &around, (outcome, true));
    let last = rows.last().unwrap();
    let why = "mode = \"observe\"; with \"split\": n2:5432 (a read, and the replica qualifies)";
    assert_eq!((last.finding.as_str(), last.why.as_str()), ("n0:5432", why));
}

#[test]
fn an_explanation_says_of_a_node_that_is_no_replica_what_it_is() {
    use crate::routing::explain::verdict;

    let (mut view, mut policy) = (view(), Policy::default());
    view.nodes[1].trouble = Some("connection refused".into());
    view.nodes[1].heard = Some(at(200));
    let told = |view: &ClusterView, policy: &Policy, id: NodeId| {
        let around = Circumstances {
            view,
            policy,
            written_by_all: None,
            load: &|_| Load::default(),
            now: at(9_300),
        };
        verdict(view.node(id).unwrap(), Some(Skip::NoReplica), &around)
    };
    for (role, why) in [
        (Role::Down, "it was last heard 9 s ago: connection refused"),
        (
            Role::Starting,
            "it starts up or shuts down: connection refused",
        ),
        (
            Role::Fenced,
            "it belongs to a history that is not the cluster's: connection refused",
        ),
        (
            Role::Unknown,
            "it has not said yet what it is: connection refused",
        ),
        (
            Role::Primary,
            "it takes writes, and is not the cluster's primary",
        ),
    ] {
        view.nodes[1].role = role;
        assert_eq!(told(&view, &policy, B), why);
    }
    (view.nodes[1].role, view.nodes[1].heard) = (Role::Down, None);
    let never = "it has not answered yet: connection refused";
    assert_eq!(told(&view, &policy, B), never);
    policy.primary_reads = PrimaryReads::Share;
    let shares = "it is the primary, which takes its share of the reads";
    assert_eq!(told(&view, &policy, A), shares);
    view.nodes[1].is_listed = false;
    let gone = "it is no node of the cluster any more";
    assert_eq!(told(&view, &policy, B), gone);
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Primary),
        Just(Role::Replica),
        Just(Role::Replica),
        Just(Role::Down),
        Just(Role::Fenced),
        Just(Role::Unknown)
    ]
}

fn any_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        Just(Intent::Read),
        Just(Intent::NodeLocal),
        Just(Intent::Session),
        Just(Intent::Write),
        Just(Intent::Unknown)
    ]
}

prop_compose! {
    fn any_view()(
        facts in proptest::collection::vec((any_role(), 0u64..2000, 0u64..900, any::<bool>(), 1u32..3), 1..6),
        writer in proptest::option::of(0u16..6),
        is_stable in any::<bool>(),
        sample in proptest::option::of((0u64..300, 0u64..2000)),
        floor in proptest::option::of(0u64..2000),
    ) -> ClusterView {
        let nodes: Vec<NodeView> = (0u16..)
            .zip(facts)
            .map(|(id, (role, lsn, lag, is_readable, timeline))| NodeView {
                own: serves(is_readable),
                timeline,
                ..node(NodeId(id), role, lsn, lag)
            })
            .collect();
        ClusterView {
            phase: if is_stable { Phase::Stable } else { Phase::NoWriter },
            writer: writer.filter(|id| usize::from(*id) < nodes.len()).map(NodeId),
            sample: sample.map(|(sent, lsn)| Sample { sent: at(sent), lsn: Lsn(lsn) }),
            floor: floor.map(Lsn),
            nodes,
            ..view()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_write_goes_to_a_node_that_the_view_does_not_call_primary(
        view in any_view(), intent in any_intent(), seed in any::<u64>(), share in any::<bool>()
    ) {
        let policy = Policy {
            primary_reads: if share { PrimaryReads::Share } else { PrimaryReads::Fallback },
            ..Policy::default()
        };
        let fresh = Standing::default();
        if let Outcome::To(route) = outcome(Ask::of(intent), &fresh, &view, &policy, seed)
            && (intent != Intent::Read || route.role == Role::Primary)
        {
            prop_assert_eq!(Some(route.node), view.primary());
        }
    }

    #[test]
    fn no_read_is_behind_the_bound_of_lag_or_behind_what_the_session_wrote_or_read(
        view in any_view(),
        seed in any::<u64>(),
        wrote in proptest::option::of((0u64..300, 0u64..3)),
        read in proptest::option::of((0u16..6, 0u64..300, 0u64..3)),
        bound in 0u64..900,
    ) {
        let policy = Policy { bound: within(bound), ..Policy::default() };
        let standing = Standing {
            written: wrote.map(|(millis, epoch)| Mark::new(at(millis), Epoch(epoch))),
            read: read.map(|(node, millis, epoch)| (NodeId(node), Mark::new(at(millis), Epoch(epoch)))),
            ..Standing::default()
        };
        let Outcome::To(route) = outcome(READ, &standing, &view, &policy, seed) else {
            return Ok(());
        };
        if Some(route.node) == view.primary() {
            return Ok(());
        }
        let node = view.node(route.node).unwrap();
        prop_assert!(node.role == Role::Replica && node.own.is_on() && node.timeline == view.timeline);
        prop_assert!(node.lag.is_within(Duration::from_millis(bound), 0));
        let is_past = |mark: &Mark| {
            let surely = if mark.epoch == view.epoch {
                view.sample.filter(|sample| sample.sent >= mark.at).map(|sample| sample.lsn)
            } else {
                view.floor
            };
            surely.is_some_and(|lsn| node.lsn.is_some_and(|replayed| replayed >= lsn))
        };
        prop_assert!(standing.written.iter().all(is_past));
        if let Some((last, mark)) = &standing.read {
            let has_gone_on = node.answers_since < Some(mark.at);
            let is_same = *last == route.node && mark.epoch == view.epoch && has_gone_on;
            prop_assert!(is_same || is_past(mark));
        }
    }
}
