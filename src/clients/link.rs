//! The hot path: a client tied to a server, frame by frame.
//!
//! Both sockets are polled in one turn. What one side sends is read into the worker's scratch buffer, judged in place and written on
//! from there; only what the other socket refuses is copied. While more than a mark waits for one side, the other side is
//! not read. Nothing here allocates, locks or sets a timer for a query that passes as it is.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::clients::buffers::{MARK, with_gathered, with_scratch};
use crate::clients::session::{Next, Session, Station};
use crate::error::Error;
use crate::net::stream::Stream;
use crate::protocol::dialogue::Dialogue;
use crate::protocol::pipeline::Owed;
use crate::protocol::requests::Flow;
use crate::protocol::run::Run;
use crate::servers::server::Server;

/// So many replies may be owed before the client is read no further.
const MOST_OWED: usize = 16_384;
const FLUSH: &[u8] = b"H\0\0\0\x04";
const LOST: Error = Error::ServerLost("while it worked for this client");

impl Session {
    /// Lets bytes pass until the server is free or nothing more can be done now.
    pub(super) fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        loop {
            self.obey()?;
            if self.is_moving {
                return Poll::Ready(Ok(Next::On));
            }
            if self.course.is_some() && self.server().card.is_fenced() {
                return Poll::Ready(Err(LOST));
            }
            if self.course.is_some() && self.server().card.is_silent() && self.is_on_trial() {
                // Whether its replica will ever answer nobody knows.
                return Poll::Ready(Err(LOST));
            }
            let mut has_moved = self.poll_server_out(cx)? | self.poll_client_out(cx)?;
            if self.server().side.pipeline.len() >= MOST_OWED && self.side.walk.body == 0 {
                // The replies may lie in the server's buffer, waiting for a Sync that we do not read.
                self.send_to_server(cx, FLUSH)?;
            }
            // The server comes first: where its answer ends the link, the client need not be asked twice.
            if self.out.len() < MARK {
                has_moved |= self.poll_server(cx)?;
            }
            if !matches!(self.station, Station::Linked(_)) {
                return Poll::Ready(Ok(Next::On));
            }
            if !self.is_trying && self.has_room() {
                match self.poll_client(cx)? {
                    Poll::Ready(Next::Left) => return Poll::Ready(Ok(Next::Left)),
                    Poll::Ready(Next::On) => has_moved = true,
                    Poll::Pending => {}
                }
            }
            if !matches!(self.station, Station::Linked(_)) {
                return Poll::Ready(Ok(Next::On));
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
    }

    pub(super) fn server(&mut self) -> &mut Server {
        match &mut self.station {
            Station::Linked(lease) => lease.server(),
            Station::Idle | Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => {
                unreachable!("only a linked session asks for its server")
            }
        }
    }

    /// Sends what the server's socket did not take before.
    pub(super) fn poll_server_out(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let server = self.server();
        let mut has_moved = false;
        while !server.out.is_empty() {
            match server.stream.poll_write(cx, &server.out) {
                Poll::Ready(Ok(sent)) => {
                    server.kept.note_sent(false);
                    server.out.drain(..sent);
                    has_moved = true;
                }
                Poll::Ready(Err(_)) => return Err(LOST),
                Poll::Pending => return Ok(has_moved),
            }
        }
        if server.stream.has_pending_output()
            && let Poll::Ready(Err(_)) = server.stream.poll_flush(cx)
        {
            return Err(LOST);
        }
        Ok(has_moved)
    }

    /// Whether the client may be read: neither side is behind, and not too many replies are owed.
    fn has_room(&mut self) -> bool {
        let is_behind = self.out.len() >= MARK || self.server().out.len() >= MARK;
        !is_behind && self.server().side.pipeline.len() < MOST_OWED
    }

    /// Sends what the client's socket did not take before. A send that was taken in part wakes nobody: only one that is
    /// refused does, so this comes before every wait.
    fn poll_client_out(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let before = self.out.len();
        match self.poll_out(cx) {
            Poll::Ready(Err(_)) => Err(Error::ClientGone),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(self.out.len() < before),
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Error> {
        if self.query.is_none() && self.server().card.is_being_cancelled() {
            // The request was meant for the query before; the canceller wakes us when it has been delivered.
            return Ok(Poll::Pending);
        }
        if self.course.is_some() && self.split().is_some() {
            if self.is_judging() {
                return self.poll_judging(cx);
            }
            if self.is_held_back() {
                return self.poll_gate(cx);
            }
            if self.is_gathering() {
                return self.poll_more(cx);
            }
            if self.is_looked_at() {
                // What comes next may belong elsewhere, unless the look finds that the client is tied.
                return Ok(Poll::Pending);
            }
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            return self.client_said(cx, &held).map(Poll::Ready);
        }
        with_scratch(|scratch| {
            let count = match self.read_client(cx, scratch) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(_)) => return Err(Error::ClientGone),
                Poll::Ready(Ok(count)) => count,
            };
            if count == 0 {
                return Err(Error::ClientGone);
            }
            self.client_said(cx, &scratch[..count]).map(Poll::Ready)
        })
    }

    /// Judges what the client sent and sends it on.
    pub(super) fn client_said(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Result<Next, Error> {
        if self.course.is_some()
            && !self.is_fresh
            && self.may_be_own(chunk)
            && self.answer_own(cx, chunk)?
        {
            return Ok(Next::On);
        }
        with_gathered(|gathered| {
            if self.is_fresh && !self.settle_in(cx, gathered)? {
                self.held.extend_from_slice(chunk);
                return Ok(Next::On);
            }
            let chunk = if self.course.is_some() {
                self.admit(chunk)
            } else {
                chunk
            };
            let is_first = self.server().kept.is_awaited();
            if self.course.is_some() {
                self.begin_trial(chunk);
                self.note_code_in(chunk);
            }
            if is_first && (self.course.is_some() || self.late.is_some()) {
                self.put_begin(chunk, gathered);
            }
            if self.course.is_some() && self.late.is_some() {
                self.note_passing(chunk);
            }
            self.keep_request(chunk);
            self.note_commits(chunk);
            let mut run = Run::new(chunk, gathered);
            let mut answers = Vec::new();
            let flow =
                self.dialogue(|dialogue| dialogue.from_client(chunk, &mut run, &mut answers))?;
            let bytes = run.finish();
            self.pool.tally().received.add(chunk.len() as u64);
            if !self.side.keeps.asked.is_empty() {
                self.prick_ears();
            }
            if self.query.is_none() && !(bytes.is_empty() && answers.is_empty()) {
                self.query_begins(chunk);
            }
            self.let_cancels_in();
            let is_kept_back =
                self.course.is_some() && !answers.is_empty() && self.keep_answers(&answers);
            if !is_first || (!answers.is_empty() && !is_kept_back) {
                self.pass_last_words(cx)?;
            }
            self.send_to_server(cx, bytes)?;
            if !answers.is_empty() && !is_kept_back {
                self.send_to_client(cx, &answers)?;
            }
            if flow == Flow::Left {
                return Ok(Next::Left);
            }
            self.end_if_over(cx, None)?;
            Ok(Next::On)
        })
    }

    /// Begins a link: brings the server to the client's parameters. False when the server has to accept them first.
    fn settle_in(&mut self, cx: &mut Context<'_>, gathered: &mut Vec<u8>) -> Result<bool, Error> {
        self.is_fresh = false;
        let wanted = Arc::as_ptr(&self.side.params);
        if Arc::as_ptr(&self.server().side.params) != wanted {
            self.tell_what_is_applied();
        }
        let is_accepted = self.dialogue(|dialogue| dialogue.prepare(gathered));
        self.server().note_application_name();
        if is_accepted {
            return Ok(true);
        }
        self.is_trying = true;
        self.send_to_server(cx, gathered)?;
        Ok(false)
    }

    /// The server is lost: what it said before it went is still passed on, since its own last words tell more than ours.
    pub(super) fn hear_out(&mut self, cx: &mut Context<'_>) {
        if let Station::Linked(lease) = &mut self.station {
            lease.server().side.doomed = Some("it was lost");
            let _ = self.pass_last_words(cx);
        }
        while matches!(self.station, Station::Linked(_))
            && self.out.len() < MARK
            && matches!(self.poll_server(cx), Ok(true))
        {}
    }

    fn ours_is_under_way(&mut self) -> bool {
        matches!(
            self.server().side.pipeline.front(),
            Some(Owed::Ours | Owed::Aside | Owed::Look | Owed::Catalog)
        )
    }

    /// Lets cancel requests reach the server, from when it runs the client's query and not one of the pooler's own.
    fn let_cancels_in(&mut self) {
        if self.query.is_some() && !self.ours_is_under_way() {
            self.take_cancels();
        }
    }

    /// The server runs the client's query: a cancel request is for it.
    pub(super) fn take_cancels(&mut self) {
        let client = self.card.id;
        let card = &self.server().card;
        if card.serving() == 0 {
            card.serve(client);
        }
    }

    /// Reads the server once; true when something came.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        with_scratch(|scratch| {
            let count = match self.server().stream.poll_read(cx, scratch) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(LOST),
                Poll::Ready(Err(error)) => {
                    self.server().kept.ended_by(&error);
                    return Err(LOST);
                }
                Poll::Ready(Ok(count)) => count,
            };
            self.server_said(cx, &scratch[..count])?;
            Ok(true)
        })
    }

    /// Judges what the server answered and sends it on.
    pub(super) fn server_said(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<(), Error> {
        if self.course.is_some() && self.server().card.is_fenced() {
            return Err(LOST);
        }
        if self.is_on_trial() {
            let Some(said) = self.hear_trial(cx, chunk)? else {
                return Ok(());
            };
            return self.answer_said(cx, &said);
        }
        if self.course.is_some() {
            self.mark_for_all();
        }
        self.answer_said(cx, chunk)
    }

    fn answer_said(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<(), Error> {
        if self.server().kept.is_kept() {
            if self.server().kept.hold_last_words(chunk) {
                return Ok(());
            }
            if !self.is_trying {
                self.pass_last_words(cx)?;
            }
        }
        let judged = with_gathered(|gathered| {
            let mut run = Run::new(chunk, gathered);
            let judged = self.dialogue(|dialogue| dialogue.from_server(chunk, &mut run));
            let bytes = run.finish();
            self.pool.tally().sent.add(bytes.len() as u64);
            self.send_to_client(cx, bytes)?;
            judged
        });
        judged?;
        if let Some(refusal) = self.server().side.refused_ours.take() {
            self.server().side.doomed = Some("it refused a client's parameters");
            return Err(Error::InvalidParameter(refusal));
        }
        if !self.ours_is_under_way() {
            self.is_trying = false;
            if self.before.is_some() {
                self.tell_what_was_taken();
            }
            self.let_cancels_in();
        }
        let ended = self.query.is_some()
            && self.has_said_all()
            && !self.rolls_back_there()
            && self.server().side.is_quiet();
        let ended = ended.then(|| self.query_ends());
        self.end_if_over(cx, ended)
    }

    pub(super) fn dialogue<T>(&mut self, job: impl FnOnce(&mut Dialogue<'_>) -> T) -> T {
        let Station::Linked(lease) = &mut self.station else {
            unreachable!("only a linked session talks to a server")
        };
        let registry = &self.pool.registry;
        let mut dialogue = Dialogue {
            client: &mut self.side,
            server: &mut lease.server().side,
            rules: self.rules,
            dictionary: &self.pool.group.dictionary,
            interner: &registry.interner,
            tally: self.pool.tally(),
        };
        job(&mut dialogue)
    }

    pub(super) fn send_to_server(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let server = self.server();
        let waiting = server.out.len();
        let sent = send(&mut server.stream, &mut server.out, cx, bytes);
        let is_partly_sent = server.out.len() < waiting + bytes.len();
        if sent.is_ok() && is_partly_sent {
            let is_one = server.out.is_empty() && server.side.pipeline.is_one_request();
            server.kept.note_sent(is_one);
        }
        sent.map_err(|()| LOST)
    }

    pub(super) fn send_to_client(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if self.is_kept_back() {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        send(&mut self.stream, &mut self.out, cx, bytes).map_err(|()| Error::ClientGone)
    }
}

/// Sends `bytes` in one write; what the socket does not take waits in `queue`.
fn send(
    stream: &mut Stream,
    queue: &mut Vec<u8>,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Result<(), ()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if !queue.is_empty() {
        queue.extend_from_slice(bytes);
        return Ok(());
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        // After a partial write the next one says Pending without a system call, and sees to it that this task is woken.
        match stream.poll_write(cx, rest) {
            Poll::Ready(Ok(sent)) => rest = &rest[sent..],
            Poll::Pending => {
                queue.extend_from_slice(rest);
                return Ok(());
            }
            Poll::Ready(Err(_)) => return Err(()),
        }
    }
    Ok(())
}
