//! Who is chosen among those who may, and what if nobody may.

use super::*;
use crate::config::routing::{NoReplica, PrimaryReads};
use crate::protocol::effects::Isolation;
use crate::routing::ask::Bar;
use crate::routing::balance::Ejected;
use crate::routing::circumstances::Target;
use crate::routing::intent::Hint;
use crate::routing::reason::Reason;
use crate::routing::route::{Route, or_primary};
use crate::routing::standing::Transaction;

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
            load: &|node| if node == B { load } else { Load::default() },
            ..around(view, &policy)
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
        load: &|_| load,
        ..around(&view, &busy)
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
        let around = around(&view, &policy);
        let outcome = route(ask, &mut Standing::default(), &around, &mut Dice::new(1));
        or_primary(outcome, ask, &around)
    };
    let refused = Outcome::Refuse(Reason::NoReplica);
    let to_primary = |outcome| matches!(outcome, Outcome::To(Route { node: A, .. }));
    assert!(to_primary(led(NoReplica::Primary, READ)));
    assert_eq!(led(NoReplica::Primary, WRITE), refused);
    assert_eq!(led(NoReplica::Error, READ), refused);
}
