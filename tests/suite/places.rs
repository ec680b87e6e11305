//! A list of nodes that names the pooler itself.

use std::net::TcpListener;
use std::time::Duration;

use crate::cluster::Scene;
use crate::support::eventually;
use crate::support::pooler::Pooler;
use crate::support::scene::port;

const LONG: Duration = Duration::from_secs(60);

fn phase(pooler: &Pooler) -> String {
    pooler.show("SHOW CLUSTERS").column("phase")[0].clone()
}

#[test]
fn a_pooler_in_its_own_list_of_nodes_is_no_node_and_harms_nobody() {
    let scene = Scene::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = free.local_addr().unwrap().port();
    drop(free);
    let (all, itself) = (
        [0, 1, 2].map(|node| scene.address(node)),
        format!("127.0.0.1:{own}"),
    );
    let nodes = [itself.as_str(), &all[0], &all[1], &all[2]];
    let pooler = scene
        .config()
        .set("clusters.main", "nodes", nodes)
        // The probes find their database there, and what answers them is the primary.
        .database("postgres", "cluster", "main")
        .database("postgres", "user", "postgres")
        .start_at(own);
    let mut client = pooler.connect();
    client.query("insert into t values (1)").good();
    let primary = || pooler.show("SHOW CLUSTERS").column("primary")[0].clone();
    eventually(LONG, "all is well", || phase(&pooler) == "stable");
    assert_ne!(primary(), itself);
    for id in 2..30 {
        client.query(&format!("insert into t values ({id})")).good();
        assert_ne!(primary(), itself);
    }
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (99)").errors.is_empty()
    });
    eventually(LONG, "at the new primary", || primary() == all[1]);
    assert_eq!(port(&mut client), scene.ports[1].to_string());
}
