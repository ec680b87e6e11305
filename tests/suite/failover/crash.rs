//! What comes without a word.

use super::{LONG, Scene, another_leads, family};
use crate::support::load::more;
use crate::support::patroni::{NODES, Patroni, signal};
use crate::support::{eventually, long};

/// Waits until a node other than `before` takes writes.
pub fn another_is_promoted(patroni: &Patroni, before: usize) {
    let asks = |node: usize| patroni.try_sql(node, "select pg_is_in_recovery()");
    eventually(LONG, "another is promoted", || {
        let mut others = (0..NODES).filter(|node| *node != before);
        others.any(|node| asks(node).as_deref() == Some("f"))
    });
}

#[test]
fn a_primary_that_is_killed_is_replaced() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    scene.tells(
        "kill -9 of the primary's PostgreSQL, it starts again",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            signal(patroni.postmaster(leader).unwrap(), "KILL");
            more(written, 300);
        },
    );
    scene.tells(
        "kill -9 of the primary's PostgreSQL and Patroni",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            let postmaster = patroni.postmaster(leader).unwrap();
            patroni.kill_manager(leader);
            signal(postmaster, "KILL");
            another_is_promoted(patroni, leader);
            more(written, 300);
            // It comes back as it was, and is rewound.
            patroni.start_manager(leader);
            patroni.wait_until_whole();
            more(written, 300);
        },
    );
}

#[test]
fn a_frozen_node_is_left_when_patroni_has_promoted_another() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    scene.tells(
        "the primary's node freezes, and wakes up",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            let mut frozen = family(patroni.postmaster(leader).unwrap());
            frozen.push(patroni.manager(leader));
            frozen.iter().for_each(|pid| signal(*pid, "STOP"));
            another_is_promoted(patroni, leader);
            more(written, 300);
            frozen.iter().for_each(|pid| signal(*pid, "CONT"));
            more(written, 300);
        },
    );
}

#[test]
fn a_primary_whose_patroni_is_dead_is_left_before_another_is_promoted() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    scene.tells(
        "Patroni is killed, its PostgreSQL lives on",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            patroni.kill_manager(leader);
            another_leads(patroni, leader);
            more(written, 300);
            patroni.start_manager(leader);
            patroni.wait_until_whole();
            more(written, 300);
        },
    );
}
