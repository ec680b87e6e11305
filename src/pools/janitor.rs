//! Periodic upkeep: time limits of clients and of logins, idle servers, forgotten names.
//!
//! Nothing on the path of a query sets a timer: a client's card says since when it stands where, and the janitor looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Moment};
use crate::pools::group::Group;
use crate::pools::registry::Registry;
use crate::stats::arrival::Dismissal;
use crate::stats::census::{ClientCard, ClientLimits, ClientState, Order, ServerCard};

/// Between two rounds; so much later than its limit a client is ended at most.
pub const ROUND: Duration = Duration::from_millis(100);
/// Rounds between two sweeps of the tables of names.
const SWEEP: u64 = 100;
/// Rounds between two readings of a database's catalog; a multiple of [`SWEEP`].
const REREAD: u64 = 600;

/// Looks after everything, for ever.
pub async fn keep(registry: Arc<Registry>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count: u64 = 0;
    loop {
        rounds.tick().await;
        count += 1;
        let now = clock::now();
        look_at_logins(&registry, now);
        if registry.standstill.is_on() {
            continue;
        }
        for card in &registry.census.clients {
            look_at(&card, now);
        }
        if count.is_multiple_of(3) {
            tidy(&registry, now);
        }
        if count.is_multiple_of(SWEEP) {
            for group in registry.groups() {
                group.dictionary.sweep();
                if count.is_multiple_of(REREAD) {
                    group.dictionary.want_catalog();
                }
            }
            registry.interner.sweep();
        }
    }
}

/// Ends logins that take too long. They set no timer of their own: arming one costs more than many a login's other system calls.
fn look_at_logins(registry: &Registry, now: Moment) {
    let limit = registry.settings.load().pooler.client_login_timeout;
    let has_to_end = registry.standstill.has_run_out();
    for arrival in &registry.census.arrivals {
        if has_to_end {
            arrival.dismiss(Dismissal::Standstill);
        } else if !limit.is_zero() && now.since(arrival.since) >= limit {
            arrival.dismiss(Dismissal::TooSlow(limit));
        }
    }
}

fn tidy(registry: &Registry, now: Moment) {
    let settings = registry.settings.load_full();
    let pool_limit = settings.pooler.pool_idle_timeout;
    if settings.pooler.server_fast_close {
        close_fast(registry);
    }
    for group in registry.groups() {
        let pools = group.pools();
        pools.iter().for_each(|pool| pool.tidy(now));
        let is_empty = group.database.clients.used() == 0
            && pools.iter().all(|pool| pool.headcount().is_empty());
        let last_used = pools.iter().map(|pool| pool.last_used()).max();
        let unused = last_used.map_or(Duration::MAX, |last| now.since(last));
        let is_kept = pools.iter().any(|pool| pool.is_kept());
        if !pool_limit.is_zero() && is_empty && !is_kept && unused >= pool_limit {
            registry.forget_group(&group);
        }
    }
    let auto_limit = settings.pooler.autodb_idle_timeout;
    if !auto_limit.is_zero() {
        drop_databases(registry, auto_limit, now);
    }
}

/// Drops the databases that came out of the `"*"` entry and have had neither clients nor servers for `limit`, but for those for which an
/// operator has said PAUSE or DISABLE: that must not be forgotten with them.
fn drop_databases(registry: &Registry, limit: Duration, now: Moment) {
    let mut databases = registry.databases();
    databases.retain(|database| database.is_auto);
    if databases.is_empty() {
        return;
    }
    let mut groups: HashMap<String, Vec<Arc<Group>>> = HashMap::new();
    for group in registry.groups() {
        let name = group.database.name.clone();
        groups.entry(name).or_default().push(group);
    }
    for database in databases {
        let own = groups.remove(&database.name).unwrap_or_default();
        let pools: Vec<_> = own.iter().flat_map(|group| group.pools()).collect();
        let is_used =
            database.clients.used() > 0 || pools.iter().any(|pool| !pool.headcount().is_empty());
        let last_used = pools.iter().map(|pool| pool.last_used()).max();
        if is_used {
            database.note_use();
            continue;
        }
        if database.unused_for(last_used, now) < limit || database.is_held_back() {
            continue;
        }
        own.iter().for_each(|group| registry.forget_group(group));
        registry.forget_database(&database.name);
    }
}

/// Ends, between two transactions, clients of session mode whose servers must be replaced.
fn close_fast(registry: &Registry) {
    let mut obsolete: Vec<Arc<ServerCard>> = Vec::new();
    for card in &registry.census.servers {
        if card.close_needed() && card.lent_to() != 0 {
            obsolete.push(Arc::clone(&card));
        }
    }
    if obsolete.is_empty() {
        return;
    }
    for pool in registry.pools().iter().filter(|pool| pool.keeps_sessions()) {
        for card in obsolete.iter().filter(|card| card.facts.pool == pool.id) {
            if let Some(client) = registry.census.client(card.lent_to()) {
                client.give(Order::FastClose);
            }
        }
    }
}

fn look_at(card: &ClientCard, now: Moment) {
    if card.rests() {
        return;
    }
    let limits = card.limits();
    let state = card.state();
    let order = due(card, now);
    if order != Order::None {
        card.give(order);
    }
    let waits = state == ClientState::Waiting && card.order() == Order::None;
    let waited = micros(now.since(card.since()));
    if waits && limits.query_wait_notify > 0 && waited > limits.query_wait_notify {
        card.want_notice(card.since());
    }
}

/// The order that is due to a client, as far as time goes.
pub fn due(card: &ClientCard, now: Moment) -> Order {
    let state = card.state();
    let start = if state == ClientState::Active {
        card.query_start()
    } else {
        card.since()
    };
    let mut limits = card.limits();
    if card.pins() == 0 {
        limits.pin_timeout = 0;
    }
    overdue(
        limits,
        state,
        now.since(start),
        now.since(card.xact_start()),
    )
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The order that is due to a client that stands in `state` for so long, in a transaction that is so old.
fn overdue(
    limits: ClientLimits,
    state: ClientState,
    stands: Duration,
    xact_age: Duration,
) -> Order {
    let over = |limit: u64, span: Duration| limit > 0 && micros(span) >= limit;
    match state {
        ClientState::Idle if over(limits.client_idle_timeout, stands) => Order::IdleTimeout,
        ClientState::Idle if over(limits.pin_timeout, stands) => Order::PinTimeout,
        ClientState::Waiting if over(limits.query_wait_timeout, stands) => Order::WaitTimeout,
        ClientState::Waiting | ClientState::Active if over(limits.query_timeout, stands) => {
            Order::QueryTimeout
        }
        ClientState::Holding if over(limits.idle_transaction_timeout, stands) => {
            Order::IdleTransaction
        }
        ClientState::Holding | ClientState::Active
            if over(limits.transaction_timeout, xact_age) =>
        {
            Order::TransactionTimeout
        }
        ClientState::Idle
        | ClientState::Waiting
        | ClientState::Active
        | ClientState::Holding
        | ClientState::Cancelling => Order::None,
    }
}

#[cfg(test)]
mod tests {
    use super::overdue;
    use crate::stats::census::{ClientLimits, ClientState, Order};
    use std::time::Duration;

    const LIMITS: ClientLimits = ClientLimits {
        client_idle_timeout: 10,
        pin_timeout: 0,
        query_timeout: 20,
        query_wait_timeout: 30,
        query_wait_notify: 0,
        idle_transaction_timeout: 40,
        transaction_timeout: 50,
    };

    fn order(state: ClientState, stands: u64, age: u64) -> Order {
        overdue(
            LIMITS,
            state,
            Duration::from_micros(stands),
            Duration::from_micros(age),
        )
    }

    #[test]
    fn each_limit_ends_only_clients_in_its_own_state() {
        assert_eq!(order(ClientState::Idle, 10, 0), Order::IdleTimeout);
        assert_eq!(order(ClientState::Active, 10, 0), Order::None);
        assert_eq!(order(ClientState::Active, 20, 0), Order::QueryTimeout);
        assert_eq!(order(ClientState::Holding, 20, 0), Order::None);
        assert_eq!(order(ClientState::Holding, 40, 0), Order::IdleTransaction);
        assert_eq!(
            order(ClientState::Holding, 1, 50),
            Order::TransactionTimeout
        );
        assert_eq!(order(ClientState::Idle, 1, 500), Order::None);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let none = ClientLimits::default();
        let long = Duration::from_secs(1_000_000);
        for state in [
            ClientState::Idle,
            ClientState::Waiting,
            ClientState::Active,
            ClientState::Holding,
        ] {
            assert_eq!(overdue(none, state, long, long), Order::None);
        }
    }
}
