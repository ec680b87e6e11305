//! What is announced, or at least done in order.

use std::time::Duration;

use super::{LONG, Scene, another_leads, others};
use crate::support::load::more;
use crate::support::patroni::{Patroni, signal};
use crate::support::{eventually, long};

/// Patroni refuses while it is about something else, as just after a switchover.
fn restart(patroni: &Patroni, node: usize) {
    eventually(LONG, "Patroni restarts its PostgreSQL", || {
        let answer = patroni.http(node, "POST", "/restart", "{}");
        answer.is_some_and(|(status, _)| status == 200)
    });
}

#[test]
fn a_switchover_and_a_crash_under_patroni_lose_double_and_split_nothing() {
    let mut scene = Scene::start(1, r#", "primary_start_timeout": 0"#);
    // A planned switchover is nobody's error.
    let verdict = scene.tells("switchover", 0, |patroni, _, written| {
        let before = patroni.leads();
        patroni.switchover(before, patroni.standby());
        more(written, 300);
    });
    assert!(verdict.added < Duration::from_secs(2), "{verdict:?}");
    // Nor is one that the pooler has asked for.
    scene.tells(
        "`SWITCHOVER` in the console",
        0,
        |patroni, pooler, written| {
            let before = patroni.leads();
            pooler.show("SWITCHOVER main");
            another_leads(patroni, before);
            more(written, 300);
        },
    );
    scene.tells(
        "kill -9 of the primary's PostgreSQL, another is promoted",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            signal(patroni.postmaster(leader).unwrap(), "KILL");
            another_leads(patroni, leader);
            more(written, 300);
        },
    );
}

#[test]
fn restarts_in_place_and_one_after_the_other_are_followed() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    scene.tells("restart of the primary", 1, |patroni, _, written| {
        restart(patroni, patroni.leads());
        more(written, 300);
    });
    scene.tells(
        "stop of the primary's Patroni, and its start",
        1,
        |patroni, _, written| {
            let before = patroni.leads();
            patroni.end_manager(before);
            another_leads(patroni, before);
            more(written, 300);
            patroni.start_manager(before);
            more(written, 300);
        },
    );
    scene.tells("rolling restart of all nodes", 0, |patroni, _, written| {
        let before = patroni.leads();
        let [standby, other] = others(patroni, before);
        for node in [other, standby] {
            restart(patroni, node);
            patroni.wait_until_whole();
        }
        let next = patroni.standby();
        patroni.switchover(before, next);
        patroni.wait_until_whole();
        restart(patroni, before);
        more(written, 300);
    });
}
