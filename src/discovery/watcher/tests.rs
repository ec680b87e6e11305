//! A watcher goes on though one of its tasks has ended.

use std::sync::Arc;
use std::time::Duration;

use super::{Watching, watch};
use crate::config::value::{LoadBalance, TlsMode};
use crate::discovery::keepers::Keepers;
use crate::discovery::pictures::{names, place, rules};
use crate::net::stream::SocketOptions;
use crate::servers::target::Target;
use crate::topology::board::waiting::HoldLimits;

/// A cluster of two nodes at addresses where nobody listens.
fn watching() -> Watching {
    let second = Duration::from_secs(1);
    Watching {
        name: "main".to_owned(),
        rules: rules(),
        places: vec![place("127.0.0.1", 1), place("127.0.0.1", 2)],
        keepers: Keepers::default(),
        limits: HoldLimits {
            timeout: second,
            clients: 1,
        },
        drain_grace: Duration::ZERO,
        target: Target {
            hosts: Vec::new(),
            balance: LoadBalance::default(),
            dbname: String::new(),
            user: String::new(),
            password: None,
            tls: TlsMode::Disable,
            cluster: None,
            startup: Vec::new(),
            connect_query: None,
            timeout: second,
            socket: SocketOptions::default(),
        },
        names: Arc::new(names()),
        census: Arc::default(),
        tls: None,
    }
}

#[tokio::test]
async fn a_prober_that_has_ended_begins_again_and_the_others_go_on() {
    let (watch, mut watcher) = watch(watching(), None);
    watcher.send_probers();
    let kept = watcher.probers[1].task.id();
    watcher.probers[0].task.abort();
    while !watcher.probers[0].task.is_finished() {
        tokio::task::yield_now().await;
    }
    watcher.mend();
    assert_eq!(watcher.probers.len(), 2);
    assert!(watcher.probers.iter().all(|one| !one.task.is_finished()));
    assert!(watcher.probers.iter().any(|one| one.task.id() == kept));
    let mut asked: Vec<_> = watcher
        .probers
        .iter()
        .map(|one| one.address.clone())
        .collect();
    asked.sort();
    assert_eq!(asked, ["127.0.0.1:1", "127.0.0.1:2"]);
    drop(watch);
}
