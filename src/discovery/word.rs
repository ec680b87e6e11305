//! What those who keep a cluster say about it, read from their documents: members, leader, and a switchover that is coming.
//!
//! A document that cannot be read says nothing at all. One that knows nothing of the cluster, as that of an etcd that was started empty,
//! is no word either: that there is no leader is believed only of who knows the cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::config::url::Url;

/// More members than any cluster has.
const MOST_MEMBERS: usize = 100;

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name it has for its keeper.
    pub name: String,
    /// Where its PostgreSQL is.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where its Patroni is.
    pub rest: Option<Url>,
    /// It is tagged `noloadbalance`: it serves no reads.
    pub is_apart: bool,
}

/// A switchover that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchover {
    /// The leader that is to be replaced; none is whoever leads.
    pub from: Option<String>,
    /// Not before then.
    pub due: Option<Timestamp>,
    /// The leader has not set about it yet.
    pub is_yet_to_begin: bool,
}

/// What a keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The members.
    pub members: Vec<Member>,
    /// The names of those of whom it cannot be read where they are.
    pub elsewhere: Vec<String>,
    /// Who holds the leader key.
    pub leader: Option<String>,
    /// It does nothing at the moment.
    pub is_paused: bool,
    /// What was asked for.
    pub switchover: Option<Switchover>,
}

impl Word {
    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The leader that is to be replaced now; nobody before the time that was set, nor before the leader sets about it.
    pub fn leaving(&self, now: Timestamp) -> Option<&str> {
        let switchover = self.switchover.as_ref()?;
        if switchover.is_yet_to_begin || switchover.due.is_some_and(|due| now < due) {
            return None;
        }
        switchover.from.as_deref().or(self.leader.as_deref())
    }

    /// When a switchover that is not due yet will be.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.switchover.as_ref()?.due?;
        (now < due).then_some(due)
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_apart(member: &Value) -> bool {
    let tags = member.get("tags");
    tags.and_then(|tags| tags.get("noloadbalance")) == Some(&Value::Bool(true))
}

/// A time; one that cannot be read is never due.
fn due(value: &Value, key: &str) -> Option<Timestamp> {
    let text = text(value, key)?;
    Some(text.parse().unwrap_or(Timestamp::MAX))
}

/// Reads what Patroni answers to `GET /cluster`.
///
/// # Errors
/// Why it is no such answer.
pub fn of_rest(document: &[u8]) -> Result<Word, String> {
    let document: Value =
        serde_json::from_slice(document).map_err(|why| format!("no JSON: {why}"))?;
    let members = document.get("members").and_then(Value::as_array);
    let members = members.ok_or("it names no members")?;
    let mut word = Word {
        is_paused: document.get("pause").and_then(Value::as_bool) == Some(true),
        ..Word::default()
    };
    for member in members.iter().take(MOST_MEMBERS) {
        let Some(name) = text(member, "name") else {
            continue;
        };
        if matches!(
            member.get("role").and_then(Value::as_str),
            Some("leader" | "standby_leader")
        ) {
            word.leader = Some(name.clone());
        }
        let port = member.get("port").and_then(Value::as_u64);
        let port = port.map_or(Some(5432), |port| u16::try_from(port).ok());
        if let (Some(host), Some(port)) = (text(member, "host"), port) {
            word.members.push(Member {
                name,
                host,
                port,
                rest: text(member, "api_url").and_then(|url| Url::parse(&url).ok()),
                is_apart: is_apart(member),
            });
        }
    }
    word.switchover = document.get("scheduled_switchover").map(|it| Switchover {
        from: text(it, "from"),
        due: due(it, "at").or(Some(Timestamp::MAX)),
        is_yet_to_begin: false,
    });
    Ok(word)
}

/// Reads what etcd answers to a range over `prefix`; none when the cluster is not there.
///
/// # Errors
/// Why it is no such answer.
pub fn of_etcd(document: &[u8], prefix: &str) -> Result<Option<Word>, String> {
    let document: Value =
        serde_json::from_slice(document).map_err(|why| format!("no JSON: {why}"))?;
    if document.get("header").is_none() {
        return Err("it is no answer to a range".to_owned());
    }
    let mut word = Word::default();
    let nothing = Vec::new();
    let pairs = document.get("kvs").and_then(Value::as_array);
    let mut is_known = false;
    let mut all_written = Vec::new();
    for pair in pairs.unwrap_or(&nothing) {
        let decoded = |key| STANDARD.decode(text(pair, key).unwrap_or_default());
        let (Ok(key), Ok(value)) = (decoded("key"), decoded("value")) else {
            return Err("a key of it cannot be read".to_owned());
        };
        let (key, value) = (
            String::from_utf8_lossy(&key),
            String::from_utf8_lossy(&value),
        );
        let Some(key) = key.strip_prefix(prefix) else {
            continue;
        };
        is_known |= key == "initialize";
        note(&mut word, key, &value);
        let revision = text(pair, "mod_revision").and_then(|text| text.parse().ok());
        all_written.push(Written {
            key: key.to_owned(),
            revision: revision.unwrap_or(0),
            has_position: value.contains("\"xlog_location\""),
        });
    }
    note_whether_begun(&mut word, &all_written);
    Ok(is_known.then_some(word))
}

/// A key of etcd, and when it was written.
struct Written {
    key: String,
    revision: u64,
    /// The value tells a position in the WAL.
    has_position: bool,
}

/// Notes whether the leader has set about the switchover that was asked for.
///
/// A leader that has heard of the request first ends what it is about, and asks the other members how they are, which may take two seconds where
/// one does not answer, and while its PostgreSQL takes writes nobody need wait. What it writes meanwhile into its own `members/` entry
/// tells a position in the WAL. When it begins to stop, it writes the entry without one; PostgreSQL ends after a CHECKPOINT: 40 ms later where
/// there is little to write.
fn note_whether_begun(word: &mut Word, all: &[Written]) {
    let Some(switchover) = word.switchover.as_mut() else {
        return;
    };
    let leader = switchover.from.as_ref().or(word.leader.as_ref());
    let own = leader.map(|leader| format!("members/{leader}"));
    let written = |key: &str| {
        let of_key = all.iter().filter(|written| written.key == key);
        of_key.max_by_key(|written| written.revision)
    };
    let asked = written("failover").map_or(0, |asked| asked.revision);
    let own = own.and_then(|own| written(&own));
    let of_leader = own.map_or(0, |own| own.revision);
    switchover.is_yet_to_begin = asked > of_leader || own.is_some_and(|own| own.has_position);
}

/// Notes one key of etcd.
fn note(word: &mut Word, key: &str, value: &str) {
    let document = || serde_json::from_str::<Value>(value).unwrap_or_default();
    match key {
        "leader" if !value.is_empty() => word.leader = Some(value.to_owned()),
        "config" => word.is_paused = document().get("pause").and_then(Value::as_bool) == Some(true),
        "failover" => {
            let document = document();
            let from = text(&document, "leader");
            if from.is_some() || text(&document, "member").is_some() {
                word.switchover = Some(Switchover {
                    from,
                    due: due(&document, "scheduled_at"),
                    is_yet_to_begin: false,
                });
            }
        }
        _ => {
            let Some(name) = key.strip_prefix("members/") else {
                return;
            };
            let has_room = word.members.len() < MOST_MEMBERS;
            match member(name, &document()).filter(|_| has_room) {
                Some(member) => word.members.push(member),
                None => word.elsewhere.push(name.to_owned()),
            }
        }
    }
}

fn member(name: &str, document: &Value) -> Option<Member> {
    let url = text(document, "conn_url")?;
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit('@').next()?;
    let place = Url::parse(&format!("http://{authority}")).ok()?;
    let has_port = authority.ends_with(&format!(":{}", place.port));
    Some(Member {
        name: name.to_owned(),
        host: place.host,
        port: if has_port { place.port } else { 5432 },
        rest: text(document, "api_url").and_then(|url| Url::parse(&url).ok()),
        is_apart: is_apart(document),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-11-23T12:00:00+00:00";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// An answer to a range.
    fn range(pairs: &[(&str, &str)]) -> Vec<u8> {
        let pairs: Vec<Value> = pairs
            .iter()
            .map(|(key, value)| {
                let key = STANDARD.encode(format!("/service/main/{key}"));
                serde_json::json!({"key": key, "value": STANDARD.encode(value)})
            })
            .collect();
        serde_json::json!({"header": {}, "kvs": pairs})
            .to_string()
            .into_bytes()
    }

    /// The same, each key written after the one before it.
    fn in_order(pairs: &[(&str, &str)]) -> Option<Word> {
        let mut document: Value = serde_json::from_slice(&range(pairs)).unwrap();
        let pairs = document["kvs"].as_array_mut().unwrap();
        for (revision, pair) in (1_u64..).zip(pairs) {
            pair["mod_revision"] = revision.to_string().into();
        }
        of_etcd(document.to_string().as_bytes(), "/service/main/").unwrap()
    }

    fn etcd(pairs: &[(&str, &str)]) -> Option<Word> {
        of_etcd(&range(pairs), "/service/main/").unwrap()
    }

    #[test]
    fn patronis_answer_names_members_and_leader() {
        let document = br#"{"members": [
            {"name": "n1", "role": "replica", "state": "streaming", "api_url": "http://10.77.1.2:8008/patroni",
             "host": "10.77.1.2", "port": 5433, "lag": "unknown", "tags": {"noloadbalance": true}},
            {"name": "n3", "role": "leader", "host": "db3"}, {"role": "x"}, {"name": "n4", "role": "replica"}],
            "scheduled_switchover": {"at": "2026-11-23T12:00:00+00:00", "from": "n3"}, "scope": "chaos"}"#;
        let word = of_rest(document).unwrap();
        let places: Vec<_> = word
            .members
            .iter()
            .map(|one| (one.host.as_str(), one.port))
            .collect();
        assert_eq!(places, [("10.77.1.2", 5433), ("db3", 5432)]);
        assert_eq!(
            word.members[0].rest.as_ref().unwrap().authority(),
            "10.77.1.2:8008"
        );
        assert_eq!(
            (word.leader.as_deref(), word.is_paused),
            (Some("n3"), false)
        );
        assert!(word.members[0].is_apart && !word.members[1].is_apart);
        assert_eq!(word.leaving(at("2026-11-23T11:59:59+00:00")), None);
        assert_eq!(word.leaving(at(NOON)), Some("n3"));
    }

    #[test]
    fn garbage_is_no_word() {
        for garbage in ["", "x", "[]", "{}", "{\"members\": 7}", "\u{0}"] {
            assert!(of_rest(garbage.as_bytes()).is_err(), "{garbage}");
            assert!(of_etcd(garbage.as_bytes(), "/").is_err(), "{garbage}");
        }
        let word = of_rest(b"{\"members\": [7, {\"name\": 7}, {\"name\": \"a\", \"port\": -1}]}");
        assert_eq!(word, Ok(Word::default()));
    }

    #[test]
    fn the_keys_of_etcd_name_members_leader_and_a_switchover() {
        let member = r#"{"conn_url":"postgres://10.77.1.2:5432/postgres","api_url":"http://10.77.1.2:8008/patroni","role":"replica"}"#;
        let keys = [
            ("initialize", "77"),
            ("leader", "n3"),
            ("members/n1", member),
        ];
        let word = etcd(&keys).unwrap();
        assert_eq!(word.leader.as_deref(), Some("n3"));
        assert_eq!(
            word.member("n1").map(|one| (one.host.as_str(), one.port)),
            Some(("10.77.1.2", 5432))
        );
        assert_eq!(word.leaving(at(NOON)), None);
        let leaving = |failover: &str, config: &str| {
            let more = [("failover", failover), ("config", config)];
            let word = etcd(&[&keys[..], &more[..]].concat()).unwrap();
            (word.leaving(at(NOON)).map(str::to_owned), word.is_paused)
        };
        let n3 = || Some("n3".to_owned());
        assert_eq!(
            leaving(r#"{"leader":"n3","member":"n1"}"#, "{}"),
            (n3(), false)
        );
        assert_eq!(
            leaving(r#"{"member":"n1"}"#, "{\"pause\":true}"),
            (n3(), true)
        );
        assert_eq!(leaving("{}", "{\"pause\":false}"), (None, false));
        let later = r#"{"leader":"n3","scheduled_at":"2026-11-23T12:00:01+00:00"}"#;
        assert_eq!(leaving(later, "garbage"), (None, false));
        assert_eq!(
            leaving(r#"{"leader":"n3","scheduled_at":"soon"}"#, ""),
            (None, false)
        );
    }

    #[test]
    fn a_member_that_is_there_and_says_no_address_is_not_one_that_is_missing() {
        let word = etcd(&[
            ("initialize", "77"),
            ("leader", "n1"),
            ("members/n1", r#"{"role":"primary"}"#),
        ]);
        let word = word.unwrap();
        assert_eq!(
            (word.member("n1"), &word.elsewhere),
            (None, &vec!["n1".to_owned()])
        );
    }

    #[test]
    fn a_switchover_is_under_way_when_the_leader_has_written_no_position_after_the_request() {
        let leaving = |asked: (&str, &str), after: &[(&str, &str)]| {
            let before = [
                ("initialize", "77"),
                ("leader", "n3"),
                ("members/n3", "{}"),
                ("status", "{}"),
            ];
            let word = in_order(&[&before[..], &[asked], after].concat()).unwrap();
            word.leaving(at(NOON)).map(str::to_owned)
        };
        let asked = ("failover", r#"{"leader":"n3","member":"n1"}"#);
        let n3 = Some("n3".to_owned());
        assert_eq!(leaving(asked, &[]), None);
        assert_eq!(leaving(asked, &[("members/n1", "{}")]), None);
        assert_eq!(leaving(asked, &[("members/n3", "{}")]), n3);
        let at_work = ("members/n3", r#"{"xlog_location":68858784}"#);
        assert_eq!(leaving(asked, &[at_work]), None);
        assert_eq!(leaving(asked, &[("status", "{}")]), None);
        let anybody = ("failover", r#"{"member":"n1"}"#);
        assert_eq!(leaving(anybody, &[]), None);
        assert_eq!(leaving(anybody, &[("members/n3", "{}")]), n3);
        // What was set for a time needs the sign as well.
        let due = (
            "failover",
            r#"{"leader":"n3","scheduled_at":"2026-11-23T12:00:00+00:00"}"#,
        );
        assert_eq!(leaving(due, &[]), None);
        assert_eq!(leaving(due, &[("members/n3", "{}")]), n3);
    }

    #[test]
    fn an_etcd_that_knows_nothing_of_the_cluster_says_nothing() {
        assert_eq!(etcd(&[]), None);
        assert_eq!(etcd(&[("leader", "n1")]), None);
    }
}
