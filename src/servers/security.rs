//! TLS towards servers: one way for those in no cluster, and one for each cluster.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::servers::target::Target;

/// Every way, each set up once from its files. None is where there is no TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsWays {
    /// For servers in no cluster.
    pub common: Option<Arc<ClientConfig>>,
    /// For the nodes of each cluster.
    pub clusters: HashMap<String, Option<Arc<ClientConfig>>>,
}

impl TlsWays {
    /// The way to the servers of `target`.
    pub fn of(&self, target: &Target) -> Option<Arc<ClientConfig>> {
        let own = target.cluster.as_ref();
        let own = own.and_then(|name| self.clusters.get(name));
        own.unwrap_or(&self.common).clone()
    }
}
