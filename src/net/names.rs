//! Names of servers and their addresses, remembered for as long as the settings say.
//!
//! An answer is kept for `dns_max_ttl`, a failure for `dns_nxdomain_ttl`, whatever the name server says about that. Who asks for
//! a name that is just being looked up waits for that answer: a name is asked for once at a time. Each asker gets the
//! addresses in another order, so that new servers are spread over them.
//!
//! A name's zone is what stands behind its first dot. Where `dns_zone_check_period` is set, the zone's serial number is asked
//! for that often, and the names of a zone whose number has grown are looked up again at once.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use crate::clock::{self, Moment};
use crate::locked::Locked;
use crate::net::resolver;

/// For how long what is kept, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRules {
    /// How long addresses are kept.
    pub max_ttl: Duration,
    /// How long a failure is kept.
    pub nxdomain_ttl: Duration,
    /// The file that says which name servers are asked; `None` asks as the system does.
    pub resolv_conf: Option<PathBuf>,
}

/// The addresses of a name, the one whose turn it is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// They were asked for just now; what is not among them is the name's address no more.
    pub is_fresh: bool,
}

/// All names that were asked for.
#[derive(Debug)]
pub struct Names {
    rules: ArcSwap<NameRules>,
    known: DashMap<String, Arc<Name>>,
    /// Zones and their serial numbers, where one was told.
    zones: Mutex<BTreeMap<String, Option<u32>>>,
}

#[derive(Debug, Default)]
struct Name {
    /// Held by who asks the name server.
    asking: tokio::sync::Mutex<()>,
    answer: Mutex<Option<Answer>>,
    turn: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Answer {
    until: Moment,
    found: Result<Arc<[IpAddr]>, Arc<str>>,
}

/// A row of SHOW DNS_HOSTS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownName {
    /// The name.
    pub name: String,
    /// For how long the answer is kept still.
    pub left: Duration,
    /// Its addresses; none when it could not be looked up.
    pub addresses: Vec<IpAddr>,
}

/// A row of SHOW DNS_ZONES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownZone {
    /// The zone.
    pub zone: String,
    /// Its serial number; 0 when none was told.
    pub serial: u32,
    /// How many names of it are known.
    pub names: usize,
}

impl Name {
    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.locked()
    }

    fn still_good(&self, now: Moment) -> Option<Answer> {
        self.lock().clone().filter(|answer| now < answer.until)
    }

    /// What an answer means for who asks.
    fn told(&self, name: &str, answer: &Answer, is_fresh: bool) -> io::Result<Found> {
        match &answer.found {
            Ok(all) => {
                let mut addresses = all.to_vec();
                addresses.rotate_left(self.turn.fetch_add(1, Relaxed) % all.len().max(1));
                Ok(Found {
                    addresses,
                    is_fresh,
                })
            }
            Err(why) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("server DNS lookup failed: {name}: {why}"),
            )),
        }
    }
}

impl Names {
    /// Knows no name yet.
    pub fn new(rules: NameRules) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            known: DashMap::new(),
            zones: Mutex::new(BTreeMap::new()),
        }
    }

    /// Puts other rules in force, for answers that are yet to come.
    pub fn follow(&self, rules: NameRules) {
        self.rules.store(Arc::new(rules));
    }

    /// Forgets all names but those that `is_used`.
    pub fn keep(&self, is_used: impl Fn(&str) -> bool) {
        self.known.retain(|name, _| is_used(name));
        let zones: Vec<String> = self.zones_known();
        self.lock_zones().retain(|zone, _| zones.contains(zone));
    }

    /// The addresses of `name`, which may be an address itself.
    ///
    /// Cancel-safe: who waits for another's answer asks itself when that other gives up.
    ///
    /// # Errors
    /// When it has none, or nobody could be asked.
    pub async fn addresses(&self, name: &str) -> io::Result<Found> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Found {
                addresses: vec![address],
                is_fresh: false,
            });
        }
        let known = self.name(name);
        if let Some(answer) = known.still_good(clock::now()) {
            return known.told(name, &answer, false);
        }
        let _turn = known.asking.lock().await;
        if let Some(answer) = known.still_good(clock::now()) {
            return known.told(name, &answer, false);
        }
        let answer = self.ask(name, &known).await;
        known.told(name, &answer, true)
    }

    /// Whether `name` is a name, and what is known of it is past its time at `now`: who asks for it then asks the name server.
    pub fn is_due(&self, name: &str, now: Moment) -> bool {
        let known = || self.known.get(name).map(|known| Arc::clone(&known));
        name.parse::<IpAddr>().is_err()
            && known().is_none_or(|known| known.still_good(now).is_none())
    }

    /// The addresses of `name` that were told last, be their time over or not. None where it has none, or they are not known.
    pub fn last_known(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let known = self.known.get(name).map(|known| Arc::clone(&known))?;
        let answer = known.lock().clone()?;
        answer.found.ok()
    }

    /// Whether `name` is known to be at other addresses than `address`; never of what is no IP address.
    pub fn has_left(&self, name: &str, address: &str) -> bool {
        let known = || self.last_known(name);
        let is_elsewhere = |address| known().is_some_and(|known| !known.contains(&address));
        address.parse::<IpAddr>().is_ok_and(is_elsewhere)
    }

    fn name(&self, name: &str) -> Arc<Name> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(&known);
        }
        Arc::clone(&self.known.entry(name.to_owned()).or_default())
    }

    async fn ask(&self, name: &str, known: &Name) -> Answer {
        let rules = self.rules.load_full();
        let found = resolver::addresses(name, rules.resolv_conf.as_deref()).await;
        let kept = match &found {
            Ok(_) => rules.max_ttl,
            Err(why) => {
                tracing::warn!(name, %why, "server DNS lookup failed");
                rules.nxdomain_ttl
            }
        };
        let answer = Answer {
            until: clock::now().after(kept),
            found: found.map(Arc::from).map_err(Arc::from),
        };
        *known.lock() = Some(answer.clone());
        answer
    }

    /// Asks for the serial number of each zone, and looks the names up again of those whose number has grown. Returns these
    /// names and where they are.
    pub async fn check_zones(&self) -> Vec<(String, Vec<IpAddr>)> {
        let mut moved = Vec::new();
        for zone in self.zones_known() {
            let file = self.rules.load().resolv_conf.clone();
            let serial = match resolver::serial(&zone, file.as_deref()).await {
                Ok(serial) => serial,
                Err(why) => {
                    tracing::debug!(zone, %why, "the zone's serial number is not known");
                    self.lock_zones().entry(zone).or_default();
                    continue;
                }
            };
            let before = self.lock_zones().insert(zone.clone(), Some(serial));
            if before.flatten().is_some_and(|old| has_grown(old, serial)) {
                tracing::info!(
                    zone,
                    serial,
                    "the zone has changed, its names are looked up"
                );
                moved.extend(self.look_up_again(&zone).await);
            }
        }
        moved
    }

    async fn look_up_again(&self, zone: &str) -> Vec<(String, Vec<IpAddr>)> {
        let mut found = Vec::new();
        for (name, known) in self.all() {
            if zone_of(&name) != Some(zone) {
                continue;
            }
            let _turn = known.asking.lock().await;
            if let Ok(addresses) = self.ask(&name, &known).await.found {
                found.push((name, addresses.to_vec()));
            }
        }
        found
    }

    fn lock_zones(&self) -> MutexGuard<'_, BTreeMap<String, Option<u32>>> {
        self.zones.locked()
    }

    fn all(&self) -> Vec<(String, Arc<Name>)> {
        let all = self.known.iter();
        let mut all: Vec<_> = all
            .map(|entry| (entry.key().clone(), Arc::clone(entry.value())))
            .collect();
        all.sort_by(|(one, _), (two, _)| one.cmp(two));
        all
    }

    fn zones_known(&self) -> Vec<String> {
        let names = self.all();
        let mut zones: Vec<_> = names
            .iter()
            .filter_map(|(name, _)| zone_of(name))
            .map(str::to_owned)
            .collect();
        zones.sort();
        zones.dedup();
        zones
    }

    /// What is known of each name that was looked up, by name.
    pub fn shown(&self, now: Moment) -> Vec<ShownName> {
        let all = self.all().into_iter();
        all.filter_map(|(name, known)| {
            let answer = known.lock().clone()?;
            Some(ShownName {
                name,
                left: answer.until.since(now),
                addresses: answer.found.map_or(vec![], |found| found.to_vec()),
            })
        })
        .collect()
    }

    /// The zones that were asked for their serial number, by name.
    pub fn shown_zones(&self) -> Vec<ShownZone> {
        let names = self.all();
        let zones = self.lock_zones().clone().into_iter();
        zones
            .map(|(zone, serial)| {
                let of_zone = |(name, _): &&(String, _)| zone_of(name) == Some(&zone);
                ShownZone {
                    names: names.iter().filter(of_zone).count(),
                    serial: serial.unwrap_or(0),
                    zone,
                }
            })
            .collect()
    }
}

/// What stands behind the first dot, if anything does.
fn zone_of(name: &str) -> Option<&str> {
    let (_, zone) = name.trim_end_matches('.').split_once('.')?;
    (!zone.is_empty()).then_some(zone)
}

/// Whether a serial number has grown from `old` to `new`; it starts anew after the largest (RFC 1982).
fn has_grown(old: u32, new: u32) -> bool {
    let ahead = new.wrapping_sub(old);
    ahead != 0 && ahead < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::{Answer, NameRules, Names, has_grown, zone_of};
    use crate::clock::Moment;
    use std::time::Duration;

    fn knowing_nothing() -> Names {
        Names::new(NameRules {
            max_ttl: Duration::ZERO,
            nxdomain_ttl: Duration::ZERO,
            resolv_conf: Some("/nowhere".into()),
        })
    }

    /// The name server has told what is `found`, which is kept until `until`.
    fn told(names: &Names, name: &str, until: Moment, found: Result<&[&str], &str>) {
        let found = found.map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
        let found = found.map_err(Into::into);
        *names.name(name).lock() = Some(Answer { until, found });
    }

    #[test]
    fn a_name_is_due_before_it_is_known_and_when_its_time_is_over_and_an_address_never_is() {
        let (names, until) = (knowing_nothing(), Moment::from_micros(1000));
        let before = Moment::from_micros(999);
        assert!(names.is_due("db1", before));
        told(&names, "db1", until, Ok(&["10.0.0.1"]));
        assert!(!names.is_due("db1", before) && names.is_due("db1", until));
        told(&names, "db1", until, Err("it does not exist"));
        assert!(!names.is_due("db1", before) && names.is_due("db1", until));
        assert!(!names.is_due("10.0.0.1", until) && !names.is_due("::1", until));
    }

    #[test]
    fn a_name_has_left_an_address_once_others_were_told_and_not_when_nobody_could_be_asked() {
        let (names, until) = (knowing_nothing(), Moment::from_micros(0));
        assert!(!names.has_left("db1", "10.0.0.1"), "nothing is known");
        told(&names, "db1", until, Ok(&["10.0.0.2", "10.0.0.3"]));
        assert!(names.has_left("db1", "10.0.0.1"));
        assert!(!names.has_left("db1", "10.0.0.3"));
        assert!(!names.has_left("db1", "unix") && !names.has_left("db1", ""));
        told(&names, "db1", until, Err("timeout"));
        assert!(!names.has_left("db1", "10.0.0.1"));
    }

    #[test]
    fn a_zone_is_what_stands_behind_the_first_dot() {
        assert_eq!(zone_of("db1.example.org"), Some("example.org"));
        assert_eq!(zone_of("db1.example.org."), Some("example.org"));
        assert_eq!((zone_of("db1"), zone_of("db1.")), (None, None));
    }

    #[test]
    fn serial_numbers_grow_around_the_largest() {
        assert!(has_grown(1, 2) && has_grown(u32::MAX, 0));
        assert!(!has_grown(2, 2) && !has_grown(2, 1) && !has_grown(0, u32::MAX));
    }

    #[test]
    fn an_address_is_asked_of_nobody() {
        let names = knowing_nothing();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let found = runtime.unwrap().block_on(names.addresses("::1")).unwrap();
        assert_eq!(
            found.addresses,
            ["::1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert!(!found.is_fresh && names.shown(crate::clock::now()).is_empty());
    }
}
