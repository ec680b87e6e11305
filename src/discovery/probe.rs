//! One node is asked, again and again, on a connection of its own.
//!
//! A probe is one round trip and needs no privilege. It proves that the node takes writes, or that it does not; nothing else does.
//! Every node has a task of its own, so a node that does not answer delays nobody.
//!
//! A node is what its name leads to. When that is another server, the one before may live on and take writes: so the name is looked
//! up again whenever its answer is past its time (in a task of its own, for a name server may be slow), and once it leads elsewhere all
//! that was known of the node is taken back before anybody is asked there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::{self, Moment};
use crate::error::Error;
use crate::net::names::Names;
use crate::protocol::parameters::Interner;
use crate::servers::login::{self, Login};
use crate::servers::proof::Derived;
use crate::servers::query::{self, Row};
use crate::servers::server::Server;
use crate::servers::target::Target;
use crate::stats::census::Census;
use crate::topology::board::Board;
use crate::topology::node::{Facts, Lsn, NodeId, Observation, Trouble};

/// Between two probes while something is wrong.
const BURST: Duration = Duration::from_millis(20);
/// For how long they come so fast.
pub const BURST_LASTS: Duration = Duration::from_secs(5);
/// Between two probes when that did not help.
const TROUBLED: Duration = Duration::from_millis(100);

/// `CASE` keeps what only a primary may be asked away from replicas. The role may change in between: 55000, and one asks again.
///
/// What is streamed is looked at after what was replayed, which is of no later timeline then. A receiver that does not stream says nothing of
/// that: an archive may bring what is of another.
const QUESTION: &str = "SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END, \
    CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()),1,8) \
    ELSE lpad(to_hex(coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()))),8,'0') END, \
    (SELECT system_identifier FROM pg_control_system()), extract(epoch FROM pg_postmaster_start_time()), \
    (SELECT count(*) FROM pg_stat_wal_receiver), \
    pg_size_bytes(current_setting('wal_segment_size')), \
    (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming')";

/// What the tasks of one cluster share.
#[derive(Debug)]
pub struct Pace {
    /// Between two probes while all is well, in microseconds.
    pub interval: AtomicU64,
    /// How long an answer may take, in microseconds.
    pub limit: AtomicU64,
    /// Until when probes come fast.
    pub burst_until: AtomicU64,
    /// 1 while there is no primary.
    pub is_troubled: AtomicU64,
}

impl Pace {
    fn pause(&self, now: Moment) -> Duration {
        let interval = Duration::from_micros(self.interval.load(SeqCst));
        if now.as_micros() < self.burst_until.load(SeqCst) {
            return BURST.min(interval);
        }
        if self.is_troubled.load(SeqCst) == 1 {
            return TROUBLED.min(interval);
        }
        interval
    }
}

/// What a prober needs.
#[derive(Debug)]
pub struct Prober {
    /// Who is asked.
    pub node: NodeId,
    /// Where it is, and who asks.
    pub target: Target,
    /// TLS, where it is not off.
    pub tls: Option<Arc<ClientConfig>>,
    /// How fast.
    pub pace: Arc<Pace>,
    /// Asks at once when told.
    pub bell: Arc<Notify>,
    /// Where it is said that a server of the node was lost: then it is asked on a new connection. A node that shuts down lets nobody new in, while
    /// a connection that is there may still be answered.
    pub board: Arc<Board>,
    /// Where outcomes go.
    pub outcomes: UnboundedSender<Observation>,
    /// Who knows the addresses of names.
    pub names: Arc<Names>,
    /// The servers that clients are lent.
    pub census: Arc<Census>,
}

/// The last time that a name was looked up.
#[derive(Debug)]
struct Look {
    begun: Moment,
    task: JoinHandle<()>,
}

/// What a prober has of its node.
#[derive(Debug, Default)]
struct Way {
    census: Census,
    interner: Interner,
    derived: Derived,
    server: Option<Box<Server>>,
    /// When that was dialled.
    opened: Moment,
    /// Where it was asked last; empty where nothing is known of it.
    address: String,
    look: Option<Look>,
    /// The last number that a server had then.
    last: u64,
    /// When the postmaster that answered last was started.
    heard: Option<String>,
}

impl Way {
    fn hang_up(&mut self) {
        if let Some(lost) = self.server.take() {
            self.census.servers.remove(&lost.card.id);
        }
    }
}

impl Prober {
    /// Asks for ever.
    pub async fn run(self) {
        let (mut way, mut has_passed) = (Way::default(), false);
        loop {
            self.look_up(&mut way);
            if self.board.is_doubted_since(self.node, way.opened) {
                way.hang_up();
            }
            let sent = clock::now();
            let limit = Duration::from_micros(self.pace.limit.load(SeqCst));
            let outcome = timeout(limit, Box::pin(self.ask_once(&mut way))).await;
            let outcome = outcome.unwrap_or(Err(Trouble::Timeout));
            let is_doubted = self.board.is_doubted_since(self.node, way.opened);
            if outcome.is_ok() && is_doubted && !has_passed {
                // Its connection is from before the doubt. Not twice in a row, lest who is doubted all the time is never heard.
                has_passed = true;
                continue;
            }
            has_passed = false;
            let has_moved = matches!(outcome, Err(Trouble::Moved(_)));
            let observation = match outcome {
                Ok(facts) => {
                    self.leave_those_before(&mut way, &facts.started);
                    Observation::Answered {
                        node: self.node,
                        sent,
                        at: clock::now(),
                        facts,
                    }
                }
                Err(trouble) => {
                    way.hang_up();
                    Observation::Failed {
                        node: self.node,
                        sent,
                        at: clock::now(),
                        trouble,
                    }
                }
            };
            if has_moved {
                way.heard = None;
                self.leave();
                self.tell_move(&std::mem::take(&mut way.address));
            }
            if self.outcomes.send(observation).is_err() {
                return;
            }
            if has_moved {
                continue;
            }
            let pause = self.pace.pause(clock::now());
            let _ = timeout(pause, self.bell.notified()).await;
        }
    }

    async fn ask_once(&self, way: &mut Way) -> Result<Facts, Trouble> {
        self.check_address(&way.address)?;
        if way.server.is_none() {
            (way.opened, way.last) = (clock::now(), self.census.last_id());
            way.server = Some(self.connect(way).await?);
            // Its name may have been looked up for that.
            self.check_address(&way.address)?;
            self.leave();
        }
        let server = way.server.as_mut().expect("it was just put there");
        way.address.clone_from(&server.card.facts.address);
        ask(server, &way.interner).await
    }

    /// Looks the name of the node up in the background, when what is known of it is past its time. The bell is rung where it has moved.
    fn look_up(&self, way: &mut Way) {
        let (host, now) = (self.target.host(0), clock::now());
        let interval = Duration::from_micros(self.pace.interval.load(SeqCst));
        let is_soon = |last: &Look| !last.task.is_finished() || now.since(last.begun) < interval;
        let is_name = host.socket_path().is_none();
        if !is_name || way.look.as_ref().is_some_and(is_soon) || !self.names.is_due(&host.name, now)
        {
            return;
        }
        let (names, bell) = (Arc::clone(&self.names), Arc::clone(&self.bell));
        let (name, address) = (host.name.clone(), way.address.clone());
        let task = tokio::spawn(async move {
            // Who cannot be asked says nothing of where the node is.
            let _ = names.addresses(&name).await;
            if names.has_left(&name, &address) {
                bell.notify_one();
            }
        });
        way.look = Some(Look { begun: now, task });
    }

    /// Checks that the name of the node may still lead to `address`.
    fn check_address(&self, address: &str) -> Result<(), Trouble> {
        let host = self.target.host(0);
        if self.names.has_left(&host.name, address) {
            let why = format!("{host} is at {address} no more");
            return Err(Trouble::Moved(why));
        }
        Ok(())
    }

    /// Gives up the servers that are where the name of the node leads no more. That comes first: with the next answer the node may be the
    /// writer again, and none of them must be taken for one of its own.
    fn leave(&self) {
        let host = self.target.host(0);
        if let Some(addresses) = self.names.last_known(&host.name) {
            self.census.fence_elsewhere(&host.name, &addresses);
        }
    }

    /// Gives up the servers of a postmaster that is gone: another one, `started` then, has answered on a connection that was opened after them.
    /// This, too, comes before its answer.
    fn leave_those_before(&self, way: &mut Way, started: &str) {
        let host = self.target.host(0);
        if way.heard.as_ref().is_some_and(|before| before != started) {
            self.census.fence_older(&host.name, host.port, way.last);
        }
        way.heard = Some(started.to_owned());
    }

    fn tell_move(&self, before: &str) {
        let (cluster, host) = (&self.target.cluster, self.target.host(0));
        let now = self.names.last_known(&host.name).unwrap_or_default();
        tracing::warn!(
            cluster,
            node = %host,
            before,
            ?now,
            "the name of a node has moved, it is another server from now on"
        );
    }

    async fn connect(&self, way: &Way) -> Result<Box<Server>, Trouble> {
        let login = Login {
            target: &self.target,
            host: self.target.host(0),
            names: &self.names,
            tls: self.tls.clone(),
            keys: None,
            derived: &way.derived,
            database: &self.target.dbname,
            id: way.census.next_id(),
            census: &way.census,
            interner: &way.interner,
            generation: 0,
            watch: None,
            is_logged: false,
            pool: 0,
        };
        login::log_in(login).await.map_err(|error| trouble(&error))
    }
}

fn trouble(error: &Error) -> Trouble {
    let text = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.message()),
        None => error.message(),
    };
    match error {
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. }
            if refusal.code == "57P03" =>
        {
            Trouble::Starting(text)
        }
        // It was ended from outside in the middle of its login, which may be the beginning of a shutdown.
        Error::ServerLoginRefused { refusal, .. }
            if matches!(refusal.code.as_str(), "57P01" | "57P02") =>
        {
            Trouble::Lost(text)
        }
        Error::ServerRefused(_) | Error::ServerLoginRefused { .. } => Trouble::Denied(text),
        Error::ServerProtocol(_) => Trouble::Absurd(text),
        Error::ServerUnreachable { .. } => Trouble::Refused(text),
        _ => Trouble::Lost(text),
    }
}

async fn ask(server: &mut Server, interner: &Interner) -> Result<Facts, Trouble> {
    let rows = loop {
        match query::ask(server, interner, QUESTION).await {
            Ok(rows) => break rows,
            // Its role changed while it answered.
            Err(Error::ServerRefused(refusal)) if refusal.code == "55000" => {}
            Err(error) => return Err(trouble(&error)),
        }
    };
    let row = rows.first();
    row.and_then(facts)
        .ok_or_else(|| Trouble::Absurd("its answer to the probe makes no sense".into()))
}

/// The facts in an answer.
fn facts(row: &Row) -> Option<Facts> {
    let [
        recovery,
        lsn,
        received,
        timeline,
        system,
        started,
        receivers,
        segment,
        streamed,
    ] = row.as_slice()
    else {
        return None;
    };
    let in_recovery = match recovery.as_deref()? {
        "t" => true,
        "f" => false,
        _ => return None,
    };
    // A replica that has replayed nothing yet says nothing: it is behind everything.
    let lsn = match lsn {
        Some(lsn) => Lsn::parse(lsn)?,
        None if in_recovery => Lsn(0),
        None => return None,
    };
    Some(Facts {
        in_recovery,
        lsn,
        received: received.as_deref().and_then(Lsn::parse),
        timeline: u32::from_str_radix(timeline.as_deref()?, 16).ok()?,
        system: system.as_deref()?.parse::<u64>().ok()?,
        started: started.clone().unwrap_or_default(),
        is_receiving: receivers.as_deref()?.parse::<u32>().ok()? > 0,
        segment: segment.as_deref()?.parse().ok()?,
        streamed: streamed
            .as_deref()
            .and_then(|timeline| timeline.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::facts;
    use crate::topology::node::Lsn;

    const PRIMARY: [Option<&str>; 9] = [
        Some("f"),
        Some("0/3000060"),
        None,
        Some("0000000A"),
        Some("7711354323366779064"),
        Some("2026-11-23 13:13:13+00"),
        Some("0"),
        Some("16777216"),
        None,
    ];

    fn row(cells: [Option<&str>; 9]) -> Vec<Option<String>> {
        cells.map(|cell| cell.map(str::to_owned)).to_vec()
    }

    #[test]
    fn answers_are_read() {
        let facts = facts(&row(PRIMARY)).unwrap();
        assert!(!facts.in_recovery && !facts.is_receiving);
        assert_eq!(facts.lsn, Lsn(0x300_0060));
        assert_eq!(facts.timeline, 10);
        assert_eq!(facts.system, 7_711_354_323_366_779_064);
    }

    #[test]
    fn answers_that_make_no_sense_are_none() {
        let absurd = [
            Some(""),
            Some("-1"),
            Some("-1/0"),
            Some("99999999999999999999999"),
            Some("\u{1F4A9}"),
        ];
        // What a replica has received and when a server was started decide nothing.
        for cell in [0, 1, 3, 4, 6, 7] {
            for value in absurd.into_iter().chain([None]) {
                let mut cells = PRIMARY;
                cells[cell] = value;
                assert_eq!(facts(&row(cells)), None, "{cell} is {value:?}");
            }
        }
        assert_eq!(facts(&Vec::new()), None);
        assert_eq!(facts(&row(PRIMARY)[1..].to_vec()), None);
        let mut young = PRIMARY;
        (young[0], young[1]) = (Some("t"), None);
        assert_eq!(facts(&row(young)).unwrap().lsn, Lsn(0), "behind everything");
        let streamed = |value| {
            let mut cells = PRIMARY;
            cells[8] = value;
            facts(&row(cells)).unwrap().streamed
        };
        assert_eq!(streamed(Some("10")), Some(10));
        assert_eq!(absurd.map(streamed), [None; 5], "not known");
    }
}
