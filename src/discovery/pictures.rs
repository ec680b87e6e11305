//! What tests of this room have in common: a cluster's rules, a node's place, names that nobody looks up.

use std::time::Duration;

use crate::net::names::{NameRules, Names};
use crate::topology::cluster::Rules;
use crate::topology::membership::LagLimits;
use crate::topology::node::Place;

const SECOND: Duration = Duration::from_secs(1);

/// A second for everything.
pub(super) fn rules() -> Rules {
    Rules {
        probe_interval: SECOND,
        probe_timeout: SECOND,
        lag: LagLimits {
            time: SECOND,
            bytes: 0,
            readmit_after: SECOND,
        },
        bounds: Vec::new(),
        fence_on_lease_loss: true,
    }
}

/// An ordinary node.
pub(super) fn place(host: &str, port: u16) -> Place {
    Place {
        host: host.to_owned(),
        port,
        zone: String::new(),
        is_near: false,
        weight: 1,
    }
}

/// Names as the system knows them.
pub(super) fn names() -> Names {
    Names::new(NameRules {
        max_ttl: SECOND,
        nxdomain_ttl: SECOND,
        resolv_conf: None,
    })
}
