//! Those who keep the cluster, and what becomes of what they say: nodes join and leave, and the machine hears of leader and switchover.
//!
//! Their word lists nodes; it never takes one away that still answers, nor one that is configured. A server may so be listed by two
//! addresses, and go by one of them: the machine finds out. etcd, while it is heard, has the word before the REST interface,
//! which repeats it late. Only etcd names a leader to the machine.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::clock::{self, Moment};
use crate::config::keepers::EtcdSettings;
use crate::config::url::Url;
use crate::discovery::etcd::Etcd;
use crate::discovery::patroni::{self, Patroni};
use crate::discovery::probe::Pace;
use crate::discovery::word::{Member, Word};
use crate::net::names::Names;
use crate::net::tls::{ClientTls, Files, Verify, Versions};
use crate::topology::cluster::Cluster;
use crate::topology::node::{Keeper, Leader, Observation, Place};
use crate::topology::wish::Unswitched;

/// For how long a word of etcd counts.
const FRESH: Duration = Duration::from_secs(3);
/// More nodes than any cluster has.
const MOST_NODES: usize = 200;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Patroni's REST interface.
    Rest,
    /// etcd.
    Etcd,
}

/// A word, and when it was heard.
#[derive(Debug)]
pub struct Heard {
    source: Source,
    at: Moment,
    word: Word,
    now: Timestamp,
}

impl Heard {
    /// What `source` says now.
    pub fn now(source: Source, word: Word) -> Self {
        Self {
            source,
            at: clock::now(),
            word,
            now: clock::wall(),
        }
    }
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Keepers {
    /// Patroni's REST interfaces.
    pub patroni: Vec<Url>,
    /// etcd.
    pub etcd: Option<EtcdSettings>,
}

/// A task that asks, begun again after a panic, ended when dropped.
#[derive(Debug)]
struct Asking(Source, JoinHandle<()>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// Who was asked for a switchover.
pub enum Asked {
    /// Patroni: resolves to what it says when it is done, or why that is not known to come about.
    Patroni(Pin<Box<dyn Future<Output = Result<String, Unswitched>> + Send>>),
    /// Nobody keeps the cluster.
    Nobody,
    /// Patroni, as far as it is heard, knows of no such leader.
    Stranger,
}

/// The tasks that ask, and what they have heard.
#[derive(Debug)]
pub struct Told {
    cluster: String,
    keepers: Keepers,
    names: Arc<Names>,
    pace: Arc<Pace>,
    words: UnboundedSender<Heard>,
    tasks: Vec<Asking>,
    last: Word,
    /// Every node that was named since it last did not answer.
    named: Vec<Place>,
    etcd_heard: Option<Moment>,
}

impl Told {
    /// Nothing was heard yet; nobody asks before [`Told::follow`].
    pub fn new(
        cluster: &str,
        names: Arc<Names>,
        pace: Arc<Pace>,
        words: UnboundedSender<Heard>,
    ) -> Self {
        Self {
            cluster: cluster.to_owned(),
            keepers: Keepers::default(),
            names,
            pace,
            words,
            tasks: Vec::new(),
            last: Word::default(),
            named: Vec::new(),
            etcd_heard: None,
        }
    }

    /// Asks `keepers` from now on.
    pub fn follow(&mut self, keepers: &Keepers) {
        if self.keepers != *keepers {
            self.keepers = keepers.clone();
            self.tasks.clear();
            self.last = Word::default();
            self.named.clear();
        }
        self.send_askers();
    }

    /// Begins again what a panic has ended, and what was not begun yet.
    pub fn send_askers(&mut self) {
        self.tasks.retain(|asking| !asking.1.is_finished());
        let is_asking = |source| self.tasks.iter().any(|asking| asking.0 == source);
        let mut begun = Vec::new();
        if !self.keepers.patroni.is_empty() && !is_asking(Source::Rest) {
            let patroni = Patroni {
                cluster: self.cluster.clone(),
                urls: self.keepers.patroni.clone(),
                tls: tls_of(&Files::default(), &self.cluster),
                names: Arc::clone(&self.names),
                pace: Arc::clone(&self.pace),
                words: self.words.clone(),
            };
            begun.push(Asking(Source::Rest, tokio::spawn(patroni.run())));
        }
        if let Some(settings) = &self.keepers.etcd
            && !is_asking(Source::Etcd)
        {
            let files = Files {
                ca: settings.ca_file.clone(),
                certificate: settings.cert_file.clone(),
                key: settings.key_file.clone(),
            };
            let etcd = Etcd {
                cluster: self.cluster.clone(),
                settings: settings.clone(),
                tls: tls_of(&files, &self.cluster),
                names: Arc::clone(&self.names),
                words: self.words.clone(),
            };
            begun.push(Asking(Source::Etcd, tokio::spawn(etcd.run())));
        }
        self.tasks.extend(begun);
    }

    /// Takes in a word; true where it says something that it did not say before.
    pub fn hear(&mut self, heard: &Heard) -> bool {
        if heard.source == Source::Etcd {
            self.etcd_heard = Some(heard.at);
        }
        let etcd_heard = self.etcd_heard;
        let is_echo = etcd_heard.is_some_and(|before| heard.at.since(before) <= FRESH);
        if heard.source == Source::Rest && is_echo {
            return false;
        }
        let is_news = self.last != heard.word;
        self.last = heard.word.clone();
        is_news
    }

    /// The nodes there are: those configured, those that were named, and those that were and still answer. How a server is to be used is said
    /// for each of its addresses.
    pub fn places(&mut self, configured: &[Place], machine: &Cluster) -> Vec<Place> {
        let members = self.last.members.iter().map(place);
        let members: Vec<Place> = members.collect();
        let addresses: Vec<String> = members.iter().map(Place::address).collect();
        let mut all: Vec<Place> = Vec::new();
        self.named.retain(|place| {
            let address = place.address();
            !addresses.contains(&address) && machine.answers(&address)
        });
        self.named.extend(members);
        for place in configured.iter().chain(&self.named) {
            let address = place.address();
            let is_new = !all.iter().any(|known| known.address() == address);
            if !is_new || all.len() == MOST_NODES {
                continue;
            }
            let is_it = |other: &&Place| other.address() == address;
            let is_same =
                |other: &&Place| is_it(other) || machine.is_same_server(&other.address(), &address);
            let is_apart = self.named.iter().filter(is_same).any(|it| it.weight == 0);
            let own = configured.iter().find(is_it);
            let used = own.or_else(|| configured.iter().find(is_same));
            let used = used.unwrap_or(place);
            all.push(Place {
                host: place.host.clone(),
                port: place.port,
                weight: if is_apart { 0 } else { used.weight },
                ..used.clone()
            });
        }
        all
    }

    /// What the machine is to be told of a word; nothing where the leader is a member of whom nobody can read where it is: it may be any node.
    ///
    /// A leader that is no member is a stranger. Its key was not merely read too early: all keys are read at once, and Patroni writes that of a
    /// member before the member may lead.
    pub fn observation(&self, heard: &Heard, machine: &Cluster) -> Option<Observation> {
        if heard.source != Source::Etcd {
            return None;
        }
        let word = &heard.word;
        let id = |name: &str| {
            let member = word.member(name)?;
            machine.id(&place(member).address())
        };
        let leader = match &word.leader {
            Some(name) if word.elsewhere.contains(name) => return None,
            Some(name) => id(name).map_or(Leader::Stranger, Leader::Node),
            None => Leader::Nobody,
        };
        Some(Observation::Keeper(Keeper {
            at: heard.at,
            leader,
            switchover_from: word.leaving(heard.now).and_then(id),
            is_paused: word.is_paused,
            fresh_for: FRESH,
        }))
    }

    /// Whether a switchover that is asked for will be announced by etcd.
    pub fn announces(&self, now: Moment) -> bool {
        self.etcd_heard
            .is_some_and(|heard| now.since(heard) <= FRESH)
    }

    /// Has Patroni replace the leader at `address` by `to`, a member's name or address; both may be other addresses of members.
    pub fn switch_over(&self, address: &str, to: Option<&str>, machine: &Cluster) -> Asked {
        if self.keepers == Keepers::default() {
            return Asked::Nobody;
        }
        let members = &self.last.members;
        let is_at = |address: &str| {
            let named = members.iter().map(|it| (it, place(it).address()));
            let exact = named.clone().find(|(_, known)| *known == address);
            let same = || {
                let mut named = named.clone();
                named.find(|(_, known)| machine.is_same_server(known, address))
            };
            exact.or_else(same).map(|(member, _)| member)
        };
        let Some(leader) = is_at(address) else {
            return Asked::Stranger;
        };
        // What is no address is a name, be it one that Patroni does not know.
        let to = to.map(|to| is_at(to).map_or_else(|| to.to_owned(), |it| it.name.clone()));
        let mut urls: Vec<Url> = leader.rest.iter().cloned().collect();
        urls.extend(self.keepers.patroni.iter().cloned());
        urls.extend(members.iter().filter_map(|member| member.rest.clone()));
        let mut seen = Vec::new();
        urls.retain(|url| {
            !seen.contains(url) && {
                seen.push(url.clone());
                true
            }
        });
        let (name, names) = (leader.name.clone(), Arc::clone(&self.names));
        let tls = tls_of(&Files::default(), &self.cluster);
        Asked::Patroni(Box::pin(async move {
            patroni::switch_over(&urls, &name, to.as_deref(), &names, tls.as_ref()).await
        }))
    }
}

/// Where a member is.
fn place(member: &Member) -> Place {
    Place {
        host: member.host.clone(),
        port: member.port,
        zone: String::new(),
        is_near: false,
        weight: u32::from(!member.is_apart),
    }
}

/// TLS for `https`; what is shown must come from a known authority and be made out to the host.
fn tls_of(files: &Files, cluster: &str) -> Option<Arc<ClientConfig>> {
    match ClientTls::load(Verify::Full, files, Versions::default()) {
        Ok(tls) => Some(tls),
        Err(problem) => {
            tracing::warn!(cluster, %problem, "those who keep the cluster cannot be asked over TLS");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::discovery::pictures::{names, place, rules};
    use crate::topology::choice::Memory;
    use crate::topology::node::{Facts, Lsn, Trouble};

    fn at(host: &str) -> Place {
        place(host, 5432)
    }

    fn machine(places: &[Place]) -> Cluster {
        let now = Moment::from_micros(0);
        Cluster::new("main", rules(), places.to_vec(), Memory::default(), now)
    }

    /// `host` answers at `second` as a server that was started at `started`.
    fn answers(machine: &mut Cluster, host: &str, started: &str, second: u64) {
        let moment = Moment::from_micros(second * 1_000_000);
        machine.observe(Observation::Answered {
            node: machine.id(&at(host).address()).unwrap(),
            sent: moment,
            at: moment,
            facts: Facts {
                in_recovery: true,
                lsn: Lsn(7),
                received: None,
                timeline: 1,
                system: 7,
                started: started.to_owned(),
                is_receiving: true,
                segment: 16 << 20,
                streamed: None,
            },
        });
    }

    /// Nobody listens any more at `host`.
    fn fails(machine: &mut Cluster, host: &str, second: u64) {
        let moment = Moment::from_micros(second * 1_000_000);
        machine.observe(Observation::Failed {
            node: machine.id(&at(host).address()).unwrap(),
            sent: moment,
            at: moment,
            trouble: Trouble::Refused("gone".to_owned()),
        });
    }

    fn told() -> Told {
        let pace = Pace {
            interval: AtomicU64::new(1),
            limit: AtomicU64::new(1),
            burst_until: AtomicU64::new(0),
            is_troubled: AtomicU64::new(0),
        };
        Told::new(
            "main",
            Arc::new(names()),
            Arc::new(pace),
            unbounded_channel().0,
        )
    }

    fn heard(source: Source, second: u64, hosts: &[&str]) -> Heard {
        let members = hosts.iter().map(|host| Member {
            name: (*host).to_owned(),
            host: (*host).to_owned(),
            port: 5432,
            rest: None,
            is_apart: false,
        });
        Heard {
            source,
            at: Moment::from_micros(second * 1_000_000),
            word: Word {
                members: members.collect(),
                leader: Some("a".to_owned()),
                ..Word::default()
            },
            now: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn members_join_and_leave_but_nobody_leaves_who_still_answers() {
        let (mut told, seeds) = (told(), [at("a")]);
        let mut machine = machine(&seeds);
        told.hear(&heard(Source::Rest, 1, &["a", "b", "c"]));
        let all = told.places(&seeds, &machine);
        assert_eq!(all, [at("a"), at("b"), at("c")]);
        machine.list(all, Moment::from_micros(0));
        answers(&mut machine, "b", "noon", 1);
        told.hear(&heard(Source::Rest, 2, &[]));
        assert_eq!(told.places(&seeds, &machine), [at("a"), at("b")]);
        fails(&mut machine, "b", 3);
        assert_eq!(told.places(&seeds, &machine), [at("a")]);
    }

    #[test]
    fn a_configured_node_that_is_a_member_by_another_name_stays_and_is_used_as_both_say() {
        let with = |host, weight| Place { weight, ..at(host) };
        let (mut told, seeds) = (told(), [with("db1", 3)]);
        let mut machine = machine(&seeds);
        let mut word = heard(Source::Etcd, 1, &["10.0.0.1"]);
        told.hear(&word);
        let all = told.places(&seeds, &machine);
        assert_eq!(all, [with("db1", 3), at("10.0.0.1")]);
        machine.list(all, Moment::from_micros(0));
        answers(&mut machine, "db1", "noon", 1);
        answers(&mut machine, "10.0.0.1", "noon", 1);
        let both = [with("db1", 3), with("10.0.0.1", 3)];
        assert_eq!(told.places(&seeds, &machine), both);
        word.word.members[0].is_apart = true;
        told.hear(&word);
        let apart = [with("db1", 0), with("10.0.0.1", 0)];
        assert_eq!(told.places(&seeds, &machine), apart);
    }

    #[test]
    fn who_keeps_the_cluster_takes_no_configured_node_with_it() {
        let (mut told, seeds) = (told(), [at("db1")]);
        let mut machine = machine(&seeds);
        let kept = Keepers {
            patroni: vec![Url::parse("http://10.0.0.1:8008").unwrap()],
            etcd: None,
        };
        told.keepers = kept;
        told.hear(&heard(Source::Rest, 1, &["10.0.0.1"]));
        machine.list(told.places(&seeds, &machine), Moment::from_micros(0));
        answers(&mut machine, "db1", "noon", 1);
        answers(&mut machine, "10.0.0.1", "noon", 1);
        told.hear(&heard(Source::Rest, 2, &["10.0.0.1"]));
        machine.list(told.places(&seeds, &machine), Moment::from_micros(0));
        // The member's address is the one that dies.
        fails(&mut machine, "10.0.0.1", 3);
        assert_eq!(told.places(&seeds, &machine)[0], at("db1"));
        // And nobody keeps it any more.
        told.follow(&Keepers::default());
        assert_eq!(told.places(&seeds, &machine), [at("db1")]);
    }

    #[test]
    fn only_etcd_names_a_leader_and_it_has_the_word_while_it_is_heard() {
        let (mut told, seeds) = (told(), [at("a")]);
        let machine = machine(&seeds);
        let etcd = heard(Source::Etcd, 1, &["a"]);
        assert!(told.hear(&etcd));
        let observation = told.observation(&etcd, &machine);
        let a = machine.id("a:5432").unwrap();
        let Some(Observation::Keeper(keeper)) = observation else {
            panic!("{observation:?}");
        };
        assert_eq!(
            (keeper.leader, keeper.switchover_from),
            (Leader::Node(a), None)
        );
        let rest = heard(Source::Rest, 2, &["x"]);
        assert!(!told.hear(&rest), "an echo");
        assert_eq!(told.observation(&rest, &machine), None);
        assert!(told.hear(&heard(Source::Rest, 9, &["x"])), "etcd is silent");
    }

    #[test]
    fn a_leader_that_is_no_member_is_a_stranger_and_of_one_without_an_address_nothing_is_said() {
        let (told, machine) = (told(), machine(&[at("a")]));
        let mut word = heard(Source::Etcd, 1, &[]);
        let Some(Observation::Keeper(keeper)) = told.observation(&word, &machine) else {
            panic!("nothing is said");
        };
        assert_eq!(keeper.leader, Leader::Stranger);
        word.word.elsewhere.push("a".to_owned());
        assert_eq!(told.observation(&word, &machine), None);
    }
}
