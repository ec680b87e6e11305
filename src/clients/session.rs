//! A client that is logged in: idle, in line, or tied to a server.
//!
//! One task drives both sockets through one `poll`. An idle client owns its socket and this struct; buffers are the
//! worker's. Its way to a server stands in `asking.rs`, what happens while it is tied to one in `link.rs`, how that ends in
//! `ending.rs`.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;

use crate::clients::again::or_again;
use crate::clients::answer;
use crate::clients::bereft::Bereft;
use crate::clients::course::Course;
use crate::clients::ears::Ears;
use crate::clients::late::Late;
use crate::clients::presence::{is_cut_off, tell_end};
use crate::clock::Moment;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::lease::Lease;
use crate::pools::limits::ClientPlaces;
use crate::pools::line::Spot;
use crate::pools::pool::Pool;
use crate::protocol::dialogue::Rules;
use crate::protocol::parameters::Parameters;
use crate::protocol::sides::ClientSide;
use crate::servers::server::Server;
use crate::stats::census::{ClientCard, Order};
use crate::topology::board::waiting::Hold;

/// Where the client stands.
#[derive(Debug)]
pub(super) enum Station {
    /// No server is held.
    Idle,
    /// In line.
    Waiting(Arc<Spot<Server>>),
    /// Tied to a server.
    Linked(Lease),
    /// In line for a primary.
    Holding(Hold),
    /// Its server was lost, or there is none; the pooler answers.
    Bereft(Box<Bereft>),
}

/// What the client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    On,
    /// It has left.
    Left,
}

/// A client that is logged in.
#[derive(Debug)]
pub struct Session {
    pub(super) stream: Stream,
    pub(super) side: ClientSide,
    pub(super) card: Arc<ClientCard>,
    pub(super) pool: Arc<Pool>,
    /// Bytes that the client's socket did not take yet.
    pub(super) out: Vec<u8>,
    /// Bytes from the client that no server has seen yet.
    pub(super) held: Vec<u8>,
    pub(super) station: Station,
    pub(super) rules: Rules,
    /// The parameters whose `application_name` stands on the card.
    pub(super) shown: Arc<Parameters>,
    /// The link has begun and nothing was sent yet.
    pub(super) is_fresh: bool,
    /// The server must accept the client's parameters before it gets anything else.
    pub(super) is_trying: bool,
    /// When the client asked for something of which nothing has been sent to a server yet.
    pub(super) asked: Option<Moment>,
    /// When the query under way began.
    pub(super) query: Option<Moment>,
    /// When the transaction under way began.
    pub(super) xact: Option<Moment>,
    /// Which node to go to, where there are several.
    pub(super) course: Option<Box<Course>>,
    /// The transaction that the client is in, where its server may not know of it.
    pub(super) late: Option<Box<Late>>,
    /// Once it has listened.
    pub(super) ears: Option<Box<Ears>>,
    /// The parameters that its server had before it was brought to the client's, where that is told.
    pub(super) before: Option<Arc<Parameters>>,
    /// It goes over to another process, and nothing is under way.
    pub(super) is_moving: bool,
    /// Its socket had nothing to read when it was asked last, and wakes the task when it has.
    is_awaited: bool,
    _places: ClientPlaces,
}

/// The servers remember by its number whose sequences they hold.
fn known_as(id: u64, mut side: ClientSide) -> ClientSide {
    side.keeps.id = id;
    side
}

impl Session {
    /// A session of a client whose login is done; `rest` is what it sent behind its login.
    pub fn new(
        stream: Stream,
        side: ClientSide,
        card: Arc<ClientCard>,
        pool: Arc<Pool>,
        places: ClientPlaces,
        course: Option<Course>,
        rest: Vec<u8>,
    ) -> Self {
        let rules = pool.plan.load().rules;
        Self {
            stream,
            shown: Arc::clone(&side.params),
            side: known_as(card.id, side),
            card,
            pool,
            out: Vec::new(),
            held: rest,
            station: Station::Idle,
            rules,
            is_fresh: false,
            is_trying: false,
            asked: None,
            query: None,
            xact: None,
            course: course.map(Box::new),
            late: None,
            ears: None,
            before: None,
            is_moving: false,
            is_awaited: false,
            _places: places,
        }
    }

    /// Serves the client until it leaves. The reason, which the log knows already, is an error where somebody else ended it.
    pub async fn serve(&mut self) -> Result<(), Error> {
        poll_fn(|cx| {
            self.card.wake_by(cx.waker());
            Poll::Ready(())
        })
        .await;
        let result = poll_fn(|cx| self.poll(cx)).await;
        if self.is_moving {
            return Ok(());
        }
        if matches!(result, Err(Error::ServerLost(_))) {
            poll_fn(|cx| {
                self.hear_out(cx);
                Poll::Ready(())
            })
            .await;
        }
        let is_within_frame = self.is_within_frame();
        self.leave();
        let is_mute = is_cut_off(&self.card, self.rules.dialect);
        if !is_mute {
            // Whoever hears of it can read of it in the log.
            tell_end(&self.pool.registry, &self.card, &result);
        }
        if let Err(error) = &result
            && !is_mute
            && !is_within_frame
        {
            answer::tell_last(&mut self.out, error, self.rules.dialect);
        }
        if result.is_err() || !self.out.is_empty() || self.stream.is_tls() {
            let last_words = poll_fn(|cx| self.poll_last_words(cx));
            let _ = tokio::time::timeout(Duration::from_secs(1), last_words).await;
        }
        result
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.obey()?;
            if self.is_moving {
                return Poll::Ready(Ok(()));
            }
            if self.stands_still(cx)? {
                return Poll::Pending;
            }
            let has_more = self.tend_ears()?;
            if let Poll::Ready(Err(_)) = self.poll_out(cx) {
                return Poll::Ready(Err(Error::ClientGone));
            }
            if has_more && self.out.is_empty() {
                continue;
            }
            let polled = match self.station {
                Station::Idle => self.poll_idle(cx),
                Station::Waiting(_) => self.poll_waiting(cx),
                Station::Linked(_) => self.poll_link(cx),
                Station::Holding(_) => self.poll_holding(cx),
                Station::Bereft(_) => self.poll_bereft(cx),
            };
            if or_again(self, cx, ready!(polled))? == Next::Left {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads the client; the only place that does. While its socket is known to wake this task, asking costs neither a lock nor a waker.
    #[inline]
    pub(super) fn read_client(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_awaited && !self.stream.has_heard() {
            return Poll::Pending;
        }
        let read = self.stream.poll_read(cx, into);
        // Without budget nothing was asked, and TLS may wait for more than its socket's bytes.
        self.is_awaited = read.is_pending() && has_budget_remaining() && !self.stream.is_tls();
        read
    }

    /// Sends what the client's socket did not take before.
    #[inline]
    pub(super) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() && !self.stream.has_pending_output() {
            return Poll::Ready(Ok(()));
        }
        self.poll_waiting_out(cx)
    }

    fn poll_waiting_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_kept_back() {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let sent = ready!(self.stream.poll_write(cx, &self.out))?;
            if sent == self.out.len() {
                self.out = Vec::new();
            } else {
                self.out.drain(..sent);
            }
        }
        if self.stream.has_pending_output() {
            self.stream.poll_flush(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        self.stream.poll_close(cx)
    }

    /// Whether the client has got the beginning of a message whose rest will never come: an error in its place would be taken
    /// for that rest.
    pub(super) fn is_within_frame(&mut self) -> bool {
        match &mut self.station {
            Station::Idle | Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => false,
            Station::Linked(lease) => {
                let walk = &lease.server().side.walk;
                walk.body > 0 && !walk.hide
            }
        }
    }

    /// Gives the server back, or closes it where it is in the middle of something.
    fn leave(&mut self) {
        self.shut_ears();
        let is_linked = matches!(self.station, Station::Linked(_));
        let is_looked_at = is_linked && self.is_looked_at();
        if is_linked && !is_looked_at {
            self.dialogue(|dialogue| dialogue.leave_behind());
        }
        match std::mem::replace(&mut self.station, Station::Idle) {
            Station::Idle | Station::Holding(_) | Station::Bereft(_) => {}
            Station::Waiting(spot) => {
                if let Some(server) = spot.leave() {
                    self.pool.give_back(server);
                }
            }
            Station::Linked(lease) if is_looked_at => self.leave_looking(lease),
            Station::Linked(mut lease) => {
                let server = lease.server();
                if server.side.is_free() && server.out.is_empty() && self.side.walk.body == 0 {
                    lease.release();
                } else if self.card.order() != Order::None {
                    lease.abandon();
                }
            }
        }
        self.note_pins();
        self.card.link_to(0);
    }
}

impl Drop for Session {
    /// Whatever ended the session, a server that was given in that moment must not be lost.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Station::Linked(lease) = std::mem::replace(&mut self.station, Station::Idle)
        {
            // Nobody knows what the server was told last.
            drop(lease);
            answer::tell(&mut self.out, &Error::Internal, self.rules.dialect);
            let _ = self.stream.try_write(&self.out);
        }
        self.leave();
    }
}
