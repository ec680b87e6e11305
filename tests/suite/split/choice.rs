//! Which of the replicas serves: by weight and zone, little by little after it came back, and what becomes of reads when none does.

use std::collections::BTreeMap;

use crate::support::eventually;
use crate::support::pooler::{Config, Pooler, Raw};
use crate::support::scene::{Scene, port};

use super::{LONG, readable, scene, split, start};

/// The nodes with zone and weight, as a table each.
fn places(scene: &Scene, config: Config, of: [(&str, u32); 3]) -> Config {
    let nodes = of.iter().zip(&scene.ports).map(|((zone, weight), port)| {
        format!("{{ host = \"127.0.0.1\", port = {port}, zone = {zone:?}, weight = {weight} }}")
    });
    let nodes: Vec<String> = nodes.collect();
    config.set(
        "clusters.main",
        "nodes",
        Raw(format!("[{}]", nodes.join(", "))),
    )
}

/// How many of `count` reads of fresh clients each node has served.
fn shares(scene: &Scene, pooler: &Pooler, count: usize) -> [usize; 3] {
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count {
        *served.entry(port(&mut pooler.connect())).or_default() += 1;
    }
    [0, 1, 2].map(|node| {
        let port = scene.ports[node].to_string();
        served.get(&port).copied().unwrap_or_default()
    })
}

#[test]
fn weights_are_shares_of_reads_and_the_poolers_zone_comes_first() {
    let scene = scene();
    let config = split(&scene).set("clusters.main", "zone", "a");
    let weighed = places(&scene, config, [("a", 1), ("", 3), ("", 1)]);
    let pooler = start(&weighed);
    let nodes = pooler.show("SHOW NODES");
    assert_eq!(nodes.column("zone"), ["a", "", ""]);
    assert_eq!(nodes.column("weight"), ["1", "3", "1"]);
    eventually(LONG, "three of four reads", || {
        let [primary, heavy, light] = shares(&scene, &pooler, 200);
        println!("weights 3 and 1: {heavy} and {light} of 200 reads");
        assert_eq!(primary, 0);
        (130..170).contains(&heavy)
    });

    let zoned = places(&scene, weighed.clone(), [("a", 1), ("b", 3), ("a", 1)]);
    pooler.reload(&zoned);
    eventually(LONG, "the zone is known", || {
        pooler.show("SHOW NODES").column("zone") == ["a", "b", "a"]
    });
    assert_eq!(shares(&scene, &pooler, 50), [0, 0, 50]);

    // With weight 0 it serves none, and the other is far, but there.
    let spared = places(&scene, weighed, [("a", 1), ("b", 1), ("a", 0)]);
    pooler.reload(&spared);
    eventually(LONG, "the weight is known", || readable(&pooler) == 1);
    assert_eq!(shares(&scene, &pooler, 50), [0, 50, 0]);
}
