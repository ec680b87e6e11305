//! Notices when a DNS zone has changed: servers at addresses that their name has no more are closed when they are free.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::pools::registry::Registry;

/// How often it is looked whether a check is due, or has been turned on; at most so much later it is made.
const LOOK: Duration = Duration::from_millis(250);

/// Checks all zones every `dns_zone_check_period`, for ever.
pub async fn keep(registry: Arc<Registry>) {
    let mut last = clock::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let period = registry.settings.load().pooler.dns_zone_check_period;
        if period.is_zero() || clock::now().since(last) < period {
            continue;
        }
        for (name, addresses) in registry.names.check_zones().await {
            registry.census.only_at(&name, &addresses);
        }
        last = clock::now();
    }
}
