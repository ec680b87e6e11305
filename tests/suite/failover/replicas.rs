//! What happens to replicas is no writer's error, and hardly a reader's.

use std::time::Duration;

use super::{Scene, family, others};
use crate::support::load::more;
use crate::support::long;
use crate::support::patroni::signal;

#[test]
fn a_replica_that_is_killed_or_freezes_is_nobodys_error() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(1, "");
    scene.tells("kill -9 of a replica", 0, |patroni, _, written| {
        let [_, other] = others(patroni, patroni.leads());
        signal(patroni.postmaster(other).unwrap(), "KILL");
        more(written, 300);
    });
    scene.tells(
        "a replica freezes, and wakes up",
        0,
        |patroni, _, written| {
            let [_, other] = others(patroni, patroni.leads());
            let mut frozen = family(patroni.postmaster(other).unwrap());
            frozen.push(patroni.manager(other));
            frozen.iter().for_each(|pid| signal(*pid, "STOP"));
            std::thread::sleep(Duration::from_secs(5));
            more(written, 300);
            frozen.iter().for_each(|pid| signal(*pid, "CONT"));
            more(written, 300);
        },
    );
}
