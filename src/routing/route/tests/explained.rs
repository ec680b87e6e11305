//! What is said about a route.

use super::*;
use crate::config::routing::PrimaryReads;
use crate::routing::fitness::{Skip, skipped};

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
    let around = around(&view, &policy);
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
    let around = around(&view, &policy);
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
