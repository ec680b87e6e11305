//! One look at everything: what the registry, the census and the counters say at a moment.
//!
//! Whoever shows numbers takes them from here, so that two displays never disagree about what a number means.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clients::gate::is_console;
use crate::clock::{self, Moment};
use crate::config::settings::Settings;
use crate::pools::group::Group;
use crate::pools::pool::{Headcount, Pool};
use crate::pools::registry::Registry;
use crate::stats::arrival::Arrival;
use crate::stats::census::{ClientCard, ClientState, ServerCard, ServerState};
use crate::stats::report::{CONSOLE, PerDatabase, Report};

/// What is looked at, and when.
#[derive(Debug)]
pub struct Look<'a> {
    /// What everybody shares.
    pub registry: &'a Registry,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The moment.
    pub now: Moment,
    /// The same by the clock on the wall, in seconds since 1970.
    pub wall: u64,
}

impl<'a> Look<'a> {
    /// A look now.
    pub fn now(registry: &'a Registry) -> Self {
        let settings = registry.settings.load_full();
        Self {
            registry,
            settings,
            now: clock::now(),
            wall: clock::wall_seconds(),
        }
    }

    /// When `moment` was, in seconds since 1970.
    pub fn wall_at(&self, moment: Moment) -> u64 {
        self.wall.saturating_sub(self.now.since(moment).as_secs())
    }

    /// The clients that are logged in, guests of the console among them, by id.
    pub fn clients(&self) -> Vec<Arc<ClientCard>> {
        let mut all: Vec<_> = self
            .registry
            .census
            .clients
            .iter()
            .map(|card| Arc::clone(&card))
            .collect();
        all.sort_by_key(|card| card.id);
        all
    }

    /// Those who have connected and are not logged in, by id.
    pub fn arrivals(&self) -> Vec<Arc<Arrival>> {
        let census = &self.registry.census;
        let mut all: Vec<_> = census
            .arrivals
            .iter()
            .map(|arrival| Arc::clone(&arrival))
            .collect();
        // Who has its card already is about to leave the list.
        all.retain(|arrival| !census.clients.contains_key(&arrival.id));
        all.sort_by_key(|arrival| arrival.id);
        all
    }

    /// Those of them that wait for the first server of their pool: the pool's database and user, since when, and who.
    pub fn waiting_arrivals(&self) -> Vec<((String, String), Moment, Arc<Arrival>)> {
        let place = |arrival: Arc<Arrival>| {
            let (since, name) = (arrival.waits_since()?, arrival.name()?);
            let user = self.settings.server_user(&name.database, &name.user);
            let pool = (name.database.clone(), user.to_owned());
            Some((pool, since, arrival))
        };
        self.arrivals().into_iter().filter_map(place).collect()
    }

    /// The servers that are of some use, by id: those that log in and those that are there, not those that are being closed.
    pub fn servers(&self) -> Vec<Arc<ServerCard>> {
        let mut all = self.all_servers();
        all.retain(|card| card.state() != ServerState::Closing);
        all
    }

    /// All servers, by id.
    pub fn all_servers(&self) -> Vec<Arc<ServerCard>> {
        let mut all: Vec<_> = self
            .registry
            .census
            .servers
            .iter()
            .map(|card| Arc::clone(&card))
            .collect();
        all.sort_by_key(|card| card.id);
        all
    }

    /// The pool a client belongs to, as database and user.
    pub fn pool_of(&self, client: &ClientCard) -> (String, String) {
        let facts = &client.facts;
        if is_console(&facts.database, self.settings.dialect) {
            return (CONSOLE.to_owned(), CONSOLE.to_owned());
        }
        (
            facts.database.clone(),
            self.settings
                .server_user(&facts.database, &facts.user)
                .to_owned(),
        )
    }

    /// Who stands where in the pools of each database and user; those of several nodes are one line, as with PgBouncer.
    pub fn pools(&self) -> Vec<PoolLook> {
        let mut crowds: HashMap<(String, String), Crowd> = HashMap::new();
        for client in self.clients() {
            let crowd = crowds.entry(self.pool_of(&client)).or_default();
            crowd.pinned += usize::from(client.pins() != 0);
            match client.state() {
                ClientState::Waiting => {}
                ClientState::Cancelling => crowd.cancelling += 1,
                ClientState::Idle | ClientState::Active | ClientState::Holding => crowd.active += 1,
            }
        }
        for (pool, since, _) in self.waiting_arrivals() {
            let crowd = crowds.entry(pool).or_default();
            crowd.newcomers += 1;
            crowd.oldest = crowd.oldest.into_iter().chain([since]).min();
        }
        for server in self.all_servers() {
            let key = (server.facts.database.clone(), server.facts.user.clone());
            crowds.entry(key).or_default().servers.push(server);
        }
        let look_at = |group: Arc<Group>| {
            let key = (group.database.name.clone(), group.user.clone());
            self.group(&group, crowds.remove(&key).unwrap_or_default())
        };
        self.registry
            .groups()
            .into_iter()
            .filter_map(look_at)
            .collect()
    }

    fn group(&self, group: &Group, crowd: Crowd) -> Option<PoolLook> {
        let pools = group.pools();
        let headcounts = pools.iter().map(|pool| pool.headcount());
        let mut headcount = headcounts.reduce(Headcount::and)?;
        // They stand in the pool's line most of the time, and in none between two attempts.
        headcount.waiting = headcount.waiting.max(crowd.newcomers);
        headcount.oldest = headcount.oldest.into_iter().chain(crowd.oldest).min();
        let mut look = PoolLook {
            headcount,
            clients: crowd.active,
            cancelling: crowd.cancelling,
            pinned: crowd.pinned,
            pins: group.tallies.iter().map(|tally| tally.pins.get()).sum(),
            ..PoolLook::of(Arc::clone(pools.first()?))
        };
        for server in crowd.servers {
            match server_word(&server, self.is_used(&look.pool, &server)) {
                "active" => look.active += 1,
                "idle" => look.idle += 1,
                "used" => look.used += 1,
                "tested" => look.tested += 1,
                "active_cancel" => look.active_cancel += 1,
                "closing" => look.closing += 1,
                _ => {}
            }
        }
        Some(look)
    }

    /// Whether an idle server will be checked before it is lent again.
    pub fn is_used(&self, pool: &Pool, server: &ServerCard) -> bool {
        let plan = pool.plan.load();
        let is_idle = server.state() == ServerState::Idle;
        is_idle && plan.check_query.is_some() && self.now.since(server.since()) >= plan.check_delay
    }

    /// What the counters show, by database. The console counts under its first name.
    pub fn totals(&self) -> PerDatabase {
        let mut all = PerDatabase::new();
        all.insert(CONSOLE.to_owned(), self.registry.ledger.console());
        for group in self.registry.groups() {
            let totals = all.entry(group.database.name.clone()).or_default();
            group.tallies.iter().for_each(|tally| tally.add_to(totals));
        }
        all
    }

    /// Totals and averages.
    pub fn report(&self) -> Report {
        self.registry.ledger.report(self.totals())
    }

    /// How many guests the console has.
    pub fn guests(&self) -> usize {
        self.registry
            .census
            .clients
            .iter()
            .filter(|card| is_console(&card.facts.database, self.settings.dialect))
            .count()
    }
}

#[derive(Debug, Default)]
struct Crowd {
    active: usize,
    pinned: usize,
    cancelling: usize,
    newcomers: usize,
    oldest: Option<Moment>,
    servers: Vec<Arc<ServerCard>>,
}

/// Who stands where in the pools of one database and user.
#[derive(Debug)]
pub struct PoolLook {
    /// The first of the pools.
    pub pool: Arc<Pool>,
    /// The pools' own count.
    pub headcount: Headcount,
    /// Clients that are logged in and do not wait.
    pub clients: usize,
    /// Servers on loan.
    pub active: usize,
    /// Servers ready to be lent.
    pub idle: usize,
    /// Servers that were idle so long that they are checked before they are lent.
    pub used: usize,
    /// Servers that are reset or checked.
    pub tested: usize,
    /// Connections that carry a cancel request.
    pub active_cancel: usize,
    /// Servers that are being closed: they keep their seats until PostgreSQL has closed its end.
    pub closing: usize,
    /// Clients that are there to cancel what another one does.
    pub cancelling: usize,
    /// Clients whose session state keeps them a server.
    pub pinned: usize,
    /// How often that has begun.
    pub pins: u64,
}

impl PoolLook {
    fn of(pool: Arc<Pool>) -> Self {
        let headcount = Headcount::default();
        Self {
            pool,
            headcount,
            clients: 0,
            active: 0,
            idle: 0,
            used: 0,
            tested: 0,
            active_cancel: 0,
            closing: 0,
            cancelling: 0,
            pinned: 0,
            pins: 0,
        }
    }
}

/// PgBouncer's word for where a server stands. A server on loan that serves nobody is about to come back: idle.
pub fn server_word(server: &ServerCard, is_used: bool) -> &'static str {
    match server.state() {
        ServerState::Login => "new",
        ServerState::Idle if is_used => "used",
        ServerState::Idle => "idle",
        ServerState::Active if server.lent_to() == 0 => "idle",
        ServerState::Active => "active",
        ServerState::Tested => "tested",
        ServerState::BeingCanceled => "being_canceled",
        ServerState::ActiveCancel => "active_cancel",
        ServerState::Closing => "closing",
    }
}
