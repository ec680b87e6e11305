//! Cables are pulled.

use super::crash::another_is_promoted;
use super::{Scene, others};
use crate::support::load::more;
use crate::support::long;
use crate::support::wiring::is_own_network;

#[test]
fn a_node_whose_cable_is_pulled_is_left_and_comes_back() {
    let name = "failover::network::a_node_whose_cable_is_pulled_is_left_and_comes_back";
    if !long() || !is_own_network(name) {
        return;
    }
    let mut scene = Scene::with_cables("");
    scene.tells(
        "partition of the primary's node",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            patroni.wiring.pull(leader);
            another_is_promoted(patroni, leader);
            more(written, 300);
            patroni.wiring.put_back(leader);
            patroni.wait_until_whole();
            more(written, 300);
        },
    );
    scene.tells(
        "partition of the primary's node from etcd",
        1,
        |patroni, _, written| {
            let leader = patroni.leads();
            let keeper = patroni.keepers_host(0);
            patroni.wiring.lose(leader, &keeper);
            another_is_promoted(patroni, leader);
            more(written, 300);
            patroni.wiring.deliver(leader, &keeper);
            patroni.wait_until_whole();
            more(written, 300);
        },
    );
    scene.tells(
        "a replica gets nothing from the primary",
        0,
        |patroni, _, written| {
            let leader = patroni.leads();
            let [_, other] = others(patroni, leader);
            let host = patroni.host(leader);
            patroni.wiring.lose(other, &host);
            more(written, 1_500);
            patroni.wiring.deliver(other, &host);
            more(written, 300);
        },
    );
}
