//! A node, and what may be said of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::topology::lag::Lag;
use crate::topology::membership::{Memberships, Out};

/// The size of a page of WAL.
const PAGE: u64 = 8192;
/// The header of a page of WAL, and the longer one of a segment's first page, in bytes.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// A position in the WAL, in bytes since the cluster was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let high = u32::from_str_radix(high, 16).ok()?;
        let low = u32::from_str_radix(low, 16).ok()?;
        Some(Self(u64::from(high) << 32 | u64::from(low)))
    }

    /// The position as replay reports it.
    ///
    /// When the last record ends with its page, the insert position stands behind the header of the next page already, where replay
    /// stays at the page's end: without this an idle primary would be ahead of its replicas for ever.
    #[must_use]
    pub const fn before_page_header(self, segment: u64) -> Self {
        let is_segment_start = segment != 0 && self.0 % segment == LONG_HEADER;
        if is_segment_start {
            return Self(self.0 - LONG_HEADER);
        }
        if self.0 % PAGE == SHORT_HEADER {
            return Self(self.0 - SHORT_HEADER);
        }
        self
    }

    /// How many bytes this is ahead of `other`; zero when it is not.
    pub const fn ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A node of one cluster: its place in the list of those ever known, which is never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// Where a node is, and how it is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The zone it stands in; `""` is none.
    pub zone: String,
    /// That is the pooler's, too.
    pub is_near: bool,
    /// Its share of reads, relative to its siblings; 1 is ordinary, and with 0 it serves none.
    pub weight: u32,
}

impl Place {
    /// The node's name in logs, in the console, and among pools: `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What a node is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has not answered yet, or it does not let us ask.
    Unknown,
    /// It said that it starts up or shuts down.
    Starting,
    /// It replays WAL.
    Replica,
    /// It takes writes.
    Primary,
    /// It takes writes, or did, in a history that is not the cluster's: nobody may use it.
    Fenced,
    /// It does not answer.
    Down,
}

impl Role {
    /// The word for it in the console and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Replica => "replica",
            Self::Primary => "primary",
            Self::Fenced => "fenced",
            Self::Down => "down",
        }
    }
}

/// What a node answered to one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// It replays WAL; otherwise it takes writes.
    pub in_recovery: bool,
    /// The insert position of a primary, or what a replica has replayed.
    pub lsn: Lsn,
    /// What a replica has received.
    pub received: Option<Lsn>,
    /// The timeline a primary writes to, or a replica follows.
    pub timeline: u32,
    /// The system identifier.
    pub system: u64,
    /// When its postmaster was started, in its own words.
    pub started: String,
    /// A replica's WAL receiver is connected.
    pub is_receiving: bool,
    /// Bytes per WAL segment.
    pub segment: u64,
    /// The timeline that a replica's WAL receiver streams now; none where it does not, or where nobody can see that.
    pub streamed: Option<u32>,
}

/// Why a probe brought no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing came in time.
    Timeout,
    /// Nobody listens there.
    Refused(String),
    /// The open connection broke.
    Lost(String),
    /// 57P03: it starts up or shuts down.
    Starting(String),
    /// It answered, and did not let us ask: too many connections, a wrong password. It is there; what it is nobody knows.
    Denied(String),
    /// It answered, and what it said makes no sense: that may be anybody.
    Absurd(String),
    /// Its name leads elsewhere: what was known of it is known of another server, which may live on and take writes.
    Moved(String),
}

impl Trouble {
    /// What happened, for people.
    pub fn text(&self) -> &str {
        match self {
            Self::Timeout => "no answer in time",
            Self::Refused(why)
            | Self::Lost(why)
            | Self::Starting(why)
            | Self::Denied(why)
            | Self::Absurd(why)
            | Self::Moved(why) => why,
        }
    }
}

/// A fact about a cluster, with its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A probe of `node`, sent at `sent`, was answered at `at`.
    Answered {
        /// Who answered.
        node: NodeId,
        /// When it was asked.
        sent: Moment,
        /// When the answer was here.
        at: Moment,
        /// What it said.
        facts: Facts,
    },
    /// A probe of `node`, sent at `sent`, failed at `at`.
    Failed {
        /// Who was asked.
        node: NodeId,
        /// When.
        sent: Moment,
        /// When the failure was known.
        at: Moment,
        /// What happened.
        trouble: Trouble,
    },
    /// A server of `node` was lost, or refused a write, at `at`. It proves nothing, but it is the earliest sign.
    BadSign {
        /// Whose server it was.
        node: NodeId,
        /// When.
        at: Moment,
        /// What happened.
        why: String,
    },
    /// Somebody waits for a newer sample of the writer's position.
    Curious {
        /// When it was said.
        at: Moment,
    },
    /// What the cluster's own keeper (etcd, Patroni) says.
    Keeper(Keeper),
    /// An operator wants the writer drained: a switchover is coming.
    Drain {
        /// When it was said.
        at: Moment,
        /// How much longer it may take, as what runs there may end first.
        grace: Duration,
    },
    /// The switchover that an operator had asked for will not be.
    DrainOver {
        /// When that was known.
        at: Moment,
    },
    /// An operator says that the highest timeline seen so far counts no longer; nor, where no writer is in office, who was given up before.
    Unfence {
        /// When it was said.
        at: Moment,
    },
}

/// What the cluster's keeper says. It warns early, and it breaks ties; it never makes a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// When it was heard.
    pub at: Moment,
    /// Who holds the leader key.
    pub leader: Leader,
    /// A switchover away from this node is under way, now.
    pub switchover_from: Option<NodeId>,
    /// The keeper does nothing at the moment: a missing leader means nothing.
    pub is_paused: bool,
    /// How long this counts, unless it is heard again.
    pub fresh_for: Duration,
}

/// Who holds the leader key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    /// Nobody.
    Nobody,
    /// One of the nodes.
    Node(NodeId),
    /// Somebody who is not among the nodes.
    Stranger,
}

/// All that is remembered of one node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is.
    pub place: Arc<Place>,
    /// It is configured or discovered, now.
    pub is_listed: bool,
    /// When the probe was sent whose outcome was heard last. Outcomes of earlier ones are ignored.
    pub asked: Option<Moment>,
    /// The last answer, and when it had been asked for. None since it failed.
    pub facts: Option<(Moment, Facts)>,
    /// Which server it was by its last answer, be it long ago: of which system, and when that was started.
    pub server: Option<(u64, String)>,
    /// A node before it that was the same server when both answered last.
    pub twin: Option<NodeId>,
    /// When the probe was sent since which it has said that it takes writes, as the server that it is.
    pub writable_since: Option<Moment>,
    /// When it was last heard, and how long that answer took.
    pub heard: Option<(Moment, Duration)>,
    /// Since when it has answered each probe, and was not started again. None since it failed.
    pub answers_since: Option<Moment>,
    /// The last failure, since the last answer.
    pub trouble: Option<Trouble>,
    /// Probes without an answer in time, or without one that makes sense, one after the other.
    pub timeouts: u32,
    /// Outcomes of probes since the process began.
    pub outcomes: u64,
    /// How often it has become another server, as its name moved.
    pub moves: u32,
    /// It says that it has replayed what the writer had not written yet when it was asked later.
    pub is_ahead: bool,
    /// Its WAL receiver was not connected when the writer was lost, or since.
    pub has_ceased: bool,
    /// How far a replica is behind.
    pub lag: Lag,
    /// Whether a replica serves reads.
    pub membership: Memberships,
    /// When the replica was started, and the highest timeline that it has received since.
    followed: Option<(String, u32)>,
}

impl Node {
    /// A node of which nothing is known.
    pub fn new(place: Place) -> Self {
        Self {
            place: Arc::new(place),
            is_listed: true,
            asked: None,
            facts: None,
            server: None,
            twin: None,
            writable_since: None,
            heard: None,
            answers_since: None,
            trouble: None,
            timeouts: 0,
            outcomes: 0,
            moves: 0,
            is_ahead: false,
            has_ceased: false,
            lag: Lag::Unknown,
            membership: Memberships::default(),
            followed: None,
        }
    }

    /// The timeline that a replica follows.
    ///
    /// Once its WAL receiver has ended it can only say that of its last restartpoint, which may be one of a reign long ago. As long as it was
    /// not started again it follows what it has received before.
    pub fn timeline_of(&mut self, facts: &Facts) -> u32 {
        let known = self.followed.as_ref();
        let known = known.filter(|(started, _)| *started == facts.started);
        let known = known.map_or(0, |(_, timeline)| *timeline);
        if facts.is_receiving {
            self.followed = Some((facts.started.clone(), facts.timeline));
            return facts.timeline;
        }
        facts.timeline.max(known)
    }

    /// Whether it may receive what is not of the timeline `lost`, whose writer is lost.
    ///
    /// What it streams of that timeline only its writer has written, from whomever it comes now. Where nobody can see what it streams, it has
    /// to have done so all the time.
    pub fn may_follow_another(&self, facts: &Facts, lost: Option<u32>) -> bool {
        match (facts.streamed, lost) {
            (Some(streamed), Some(lost)) => streamed != lost,
            _ => self.has_ceased && facts.is_receiving,
        }
    }

    /// It is another server from now on: what the one before has done says nothing of it.
    pub fn moved(&mut self) {
        self.moves += 1;
        self.timeouts = 0;
        self.answers_since = None;
        self.is_ahead = false;
        self.has_ceased = false;
        self.followed = None;
        (self.server, self.twin) = (None, None);
        self.membership.begin_anew();
    }

    /// It answers `facts` at `at`: whether that goes on from what it answered last, which it still has.
    pub fn goes_on(&mut self, facts: &Facts, at: Moment) {
        let known = self.facts.as_ref();
        let is_same = known.is_some_and(|(_, known)| known.started == facts.started);
        self.answers_since = self.answers_since.filter(|_| is_same).or(Some(at));
    }

    /// Its lag is not known any more, for the reason `why`, so it serves no reads.
    pub fn forget_lag(&mut self, why: Out) {
        self.lag = Lag::Unknown;
        self.membership.leave(why);
    }

    /// Nobody knows whom it follows, for the reason `why`: it serves no reads until a writer is known, though it did when one was lost.
    pub fn distrust(&mut self, why: Out) {
        self.lag = Lag::Unknown;
        self.membership.distrust(why);
    }

    /// What it said last, if it takes writes.
    pub fn writable(&self) -> Option<(Moment, &Facts)> {
        let (sent, facts) = self.facts.as_ref()?;
        (!facts.in_recovery).then_some((*sent, facts))
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn positions_are_read_and_written_as_postgres_does() {
        let lsn = Lsn::parse("16/B374D848").unwrap();
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn::parse("16"), None);
        assert_eq!(Lsn::parse("x/1"), None);
    }

    #[test]
    fn an_insert_position_behind_a_page_header_is_the_end_of_the_page_before() {
        let segment = 16 << 20;
        assert_eq!(Lsn(8192 + 24).before_page_header(segment), Lsn(8192));
        assert_eq!(Lsn(segment + 40).before_page_header(segment), Lsn(segment));
        assert_eq!(Lsn(8192 + 40).before_page_header(segment), Lsn(8192 + 40));
        assert_eq!(Lsn(8192 + 48).before_page_header(segment), Lsn(8192 + 48));
    }
}
