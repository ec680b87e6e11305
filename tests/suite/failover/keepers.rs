//! Members of etcd are lost.

use super::{LONG, Scene};
use crate::support::load::more;
use crate::support::{eventually, long};

#[test]
fn the_loss_of_one_member_of_etcd_is_nothing_and_that_of_the_quorum_lasts_until_it_is_back() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(3, "");
    let mut lost = 0;
    scene.tells(
        "one of three members of etcd is lost",
        0,
        |patroni, _, written| {
            patroni.kill_keeper(lost);
            // Longer than words and leases last.
            std::thread::sleep(std::time::Duration::from_secs(10));
            more(written, 300);
            patroni.start_keeper(lost);
            lost += 1;
            more(written, 300);
        },
    );
    scene.tells(
        "etcd loses its quorum, and gets it back",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            patroni.kill_keeper(1);
            patroni.kill_keeper(2);
            eventually(LONG, "Patroni gives up its primary", || {
                let role = patroni.try_sql(leader, "select pg_is_in_recovery()");
                role.as_deref() == Some("t")
            });
            patroni.start_keeper(1);
            patroni.start_keeper(2);
            more(written, 300);
        },
    );
}

#[test]
fn the_loss_of_etcds_quorum_does_not_stop_what_patroni_lets_go_on() {
    if !long() {
        return;
    }
    let mut scene = Scene::start(3, r#", "failsafe_mode": true"#);
    scene.tells(
        "etcd loses its quorum, with Patroni's `failsafe_mode`",
        0,
        |patroni, _, written| {
            patroni.kill_keeper(1);
            more(written, 300);
            patroni.kill_keeper(2);
            // Longer than all words and leases last.
            std::thread::sleep(std::time::Duration::from_secs(25));
            more(written, 300);
            patroni.start_keeper(1);
            patroni.start_keeper(2);
            more(written, 300);
        },
    );
}
