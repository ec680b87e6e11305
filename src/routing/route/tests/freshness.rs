//! How fresh a read is: bounds of lag, and what was written or read before.

use super::*;
use crate::config::routing::Consistency;
use crate::routing::route::Route;
use crate::routing::standing::Mark;

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
    let mut standing = after_read(B);
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
    let mut standing = after_read(B);
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
    let standing = after_read(A);
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
        written_by_all: Some(mark),
        ..around(&view, &policy)
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
