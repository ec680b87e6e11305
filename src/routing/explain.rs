//! The rows of EXPLAIN ROUTE: every rule that spoke, and every node with what became of it.

use crate::config::routing::{Consistency, PrimaryReads};
use crate::routing::circumstances::{Circumstances, Policy};
use crate::routing::classify::{Facts, unknown_hint};
use crate::routing::fitness::{Skip, skipped};
use crate::routing::intent::Intent;
use crate::routing::route::Outcome;
use crate::routing::standing::Standing;
use crate::topology::lag::Lag;
use crate::topology::node::Role;
use crate::topology::view::NodeView;

/// One row: what it is about, what was found, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `intent`, `effect`, `hint`, `offence`, `freshness`, `node`, `route`.
    pub subject: &'static str,
    /// What was found: an intent, a node's address, an outcome.
    pub finding: String,
    /// The rule that decided.
    pub why: String,
}

/// The names of the columns.
pub const COLUMNS: [&str; 3] = ["subject", "finding", "why"];

/// What a text asks for and does, without a cluster: one row for the intent, one for each effect.
pub fn facts(facts: &Facts, text: &[u8]) -> Vec<Row> {
    let mut rows = vec![Row {
        subject: "intent",
        finding: facts.intent.to_string(),
        why: facts.why.to_string(),
    }];
    if let Some(hint) = facts.hint {
        rows.push(Row {
            subject: "hint",
            finding: format!("{hint:?}").to_lowercase(),
            why: "a comment asks for it".into(),
        });
    }
    rows.extend(unknown_hint(text).map(|word| Row {
        subject: "hint",
        finding: word,
        why: "there is no such hint, only primary and replica: nothing follows from it".into(),
    }));
    rows.extend(facts.effects.all().map(|(number, effect)| Row {
        subject: "effect",
        finding: effect.to_string(),
        why: format!("statement {}", number + 1),
    }));
    rows
}

/// All of it: what the text asks for, how fresh its reads must be, each node, and where it goes. Nothing is executed, and nothing
/// changes: `standing` and the dice of a real request are not touched. Where it `is_observed` only, what is said goes to the primary.
pub fn route(
    (found, text): (&Facts, &[u8]),
    standing: &Standing,
    around: &Circumstances<'_>,
    (outcome, is_observed): (Outcome, bool),
) -> Vec<Row> {
    let mut rows = facts(found, text);
    if found.offence.is_on(around.now) {
        rows.push(Row {
            subject: "offence",
            finding: Intent::Write.to_string(),
            why: "a replica has refused this text, which counts as a write for a while".into(),
        });
    }
    rows.push(freshness(standing, around.policy));
    let mut standing = standing.clone();
    standing.learn(around.view);
    for (id, skip) in skipped(&standing, around) {
        let Some(node) = around.view.node(id) else {
            continue;
        };
        rows.push(Row {
            subject: "node",
            finding: what_it_is(node),
            why: verdict(node, skip, around),
        });
    }
    let address = |id| {
        let node = around.view.node(id);
        node.map_or_else(String::new, |node| node.place.address())
    };
    let (finding, why) = match outcome {
        Outcome::To(route) => (address(route.node), route.why.text()),
        Outcome::Move(route) => (
            format!("moves to {}", address(route.node)),
            route.why.text(),
        ),
        Outcome::Later => (
            "later".into(),
            "the transaction's first statement decides".into(),
        ),
        Outcome::Stuck => (
            "fails".into(),
            "it is the primary's, and its transaction is on a replica".into(),
        ),
        Outcome::Wait(why) => ("waits".into(), why.text()),
        Outcome::Refuse(why) => ("fails".into(), why.text()),
    };
    let (finding, why) = if is_observed {
        let primary = around.view.primary_at(around.now);
        let primary = primary.map_or_else(|| "waits".into(), address);
        let why = format!("mode = \"observe\"; with \"split\": {finding} ({why})");
        (primary, why)
    } else {
        (finding, why)
    };
    rows.push(Row {
        subject: "route",
        finding,
        why,
    });
    rows
}

/// A node's address and role, and how far it is behind, where that means something.
fn what_it_is(node: &NodeView) -> String {
    let (address, role) = (node.place.address(), node.role.as_str());
    match (node.role, node.lag) {
        (Role::Replica, Lag::Known { time, bytes, .. }) => {
            let millis = time.as_millis();
            format!("{address} {role} ({millis} ms, {bytes} bytes behind)")
        }
        (Role::Replica, Lag::Unknown) => format!("{address} {role} (lag unknown)"),
        _ => format!("{address} {role}"),
    }
}

/// Whether a node may serve reads, else why not.
pub fn verdict(node: &NodeView, skip: Option<Skip>, around: &Circumstances<'_>) -> String {
    let Some(skip) = skip else {
        return "may serve reads".into();
    };
    let Skip::NoReplica = skip else {
        return skip.text().into();
    };
    if !node.is_listed {
        return "it is no node of the cluster any more".into();
    }
    let trouble = node.trouble.as_deref();
    let trouble = trouble.map_or_else(String::new, |why| format!(": {why}"));
    match node.role {
        Role::Primary if around.view.writer != Some(node.id) => {
            "it takes writes, and is not the cluster's primary".into()
        }
        Role::Primary if around.policy.primary_reads == PrimaryReads::Share => {
            "it is the primary, which takes its share of the reads".into()
        }
        Role::Primary => "it is the primary".into(),
        Role::Down => match node.heard {
            Some(heard) => {
                let ago = around.now.since(heard).as_secs();
                format!("it was last heard {ago} s ago{trouble}")
            }
            None => format!("it has not answered yet{trouble}"),
        },
        Role::Starting => format!("it starts up or shuts down{trouble}"),
        Role::Fenced => format!("it belongs to a history that is not the cluster's{trouble}"),
        Role::Unknown => format!("it has not said yet what it is{trouble}"),
        Role::Replica => skip.text().into(),
    }
}

fn freshness(standing: &Standing, policy: &Policy) -> Row {
    let (finding, why) = match policy.consistency {
        Consistency::None => ("within the bounds of lag", "consistency = none"),
        Consistency::Session if standing.written.is_some() => {
            ("not behind its own write", "consistency = session")
        }
        Consistency::Session if standing.read.is_some() => {
            ("not behind its last read", "consistency = session")
        }
        Consistency::Session => (
            "within the bounds of lag: nothing written or read yet",
            "consistency = session",
        ),
        Consistency::Global => ("not behind any write", "consistency = global"),
    };
    Row {
        subject: "freshness",
        finding: finding.into(),
        why: why.into(),
    }
}
