//! One DSN for reads and writes: each request of a client is read before a server is chosen for it.
//!
//! A link to a replica takes only what was read and found fit for it: the *gate* lets those bytes pass, and what the client sends
//! behind them waits until they are answered. So nothing reaches a replica that nobody has judged. A link to the primary is open, as
//! everywhere else. In a READ ONLY transaction on a replica requests pass one by one, for behind its end anything may follow.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clients::buffers::{MARK, with_scratch};
use crate::clients::course::Way;
use crate::clients::session::{Next, Session, Standing};
use crate::clients::split::{Gate, PATIENCE, Split, judge};
use crate::clock::{self, Moment};
use crate::config::routing::NoReplica;
use crate::error::Error;
use crate::pools::plan::Splitting;
use crate::pools::routes::{Decision, Went};
use crate::protocol::frame;
use crate::protocol::prepared::Names;
use crate::routing::balance::Ejected;
use crate::routing::intent::Intent;
use crate::routing::normal;
use crate::routing::route::{Ask, Circumstances, Outcome, Reason, Route, is_only_behind, route};
use crate::routing::standing::Mark;
use crate::topology::board::Board;
use crate::topology::node::{NodeId, Role};
use crate::topology::view::ClusterView;

/// Where a request goes when the others are only counted.
fn observed(view: &ClusterView, now: Moment) -> Result<Route, Way> {
    let node = view.primary_at(now).ok_or(Way::Nowhere)?;
    Ok(Route {
        node,
        role: Role::Primary,
        why: Reason::Asked,
    })
}

/// What is listed of a route, but for the text that took it.
fn decision(
    view: &ClusterView,
    route: Route,
    (user, intent): (String, Intent),
    at: Moment,
) -> Decision {
    let node = view.node(route.node);
    Decision {
        at,
        user,
        intent,
        node: node.map_or_else(String::new, |node| node.place.address()),
        why: route.why,
        text: String::new(),
    }
}

impl Session {
    pub(super) fn split(&mut self) -> Option<&mut Split> {
        self.course.as_mut()?.split.as_deref_mut()
    }

    /// Makes what a session needs whose reads are split off.
    pub(super) fn ensure_split(&mut self) {
        let (pool, registry) = (&self.pool, &self.pool.registry);
        let Some(course) = &mut self.course else {
            return;
        };
        let wish = course.startup_wish;
        course.split.get_or_insert_with(|| {
            let routes = registry.routes_of(&pool.group.database.name);
            routes.code_is(&pool.user, pool.group.dictionary.code_generation());
            Box::new(Split::new(routes, wish))
        });
    }

    /// Reads what the client asks for, where its reads are split off. False when more must come first; all of it is then held.
    pub(super) fn read_ahead(&mut self, chunk: &[u8]) -> bool {
        if self.course.is_none() {
            return true;
        }
        if self.pool.plan.load().split.is_none() {
            if let Some(course) = &mut self.course {
                course.split = None;
            }
            return true;
        }
        self.ensure_split();
        let Some(split) = self
            .course
            .as_mut()
            .and_then(|course| course.split.as_deref_mut())
        else {
            return true;
        };
        split.gathered = 0;
        let stash = &mut self.side.walk.stash;
        if !stash.is_empty() {
            // The beginning of a message that came with the end of the link before.
            self.held = std::mem::take(stash);
            self.held.extend_from_slice(chunk);
            return false;
        }
        match judge(
            split,
            &self.side.params,
            &self.pool.user,
            &self.side.names,
            chunk,
            (self.late.is_some(), None),
        ) {
            Some(asked) => {
                split.asked = asked;
                self.note_lone(chunk);
                true
            }
            None => {
                self.held.extend_from_slice(chunk);
                split.gathered = self.held.len();
                false
            }
        }
    }

    /// Whether what is held is the beginning of a request whose end must come first.
    pub(super) fn is_gathering(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| split.gathered > 0 && split.gathered == self.held.len())
    }

    /// Chooses the node for what the client asks.
    pub(super) fn steer_by(&mut self, splitting: &Splitting, now: Moment) -> Result<Way, Error> {
        let transaction = self.transaction();
        let Some(course) = &mut self.course else {
            return Ok(Way::There);
        };
        let view = course.board.view();
        let Some(split) = &mut course.split else {
            return Ok(Way::Nowhere);
        };
        let routes = Arc::clone(&split.routes);
        let policy = split.wish.over(&splitting.policy);
        let around = Circumstances {
            view: &view,
            policy: &policy,
            written_by_all: routes.written().map(|mut mark| {
                mark.learn(&view);
                mark
            }),
            load: &|node| routes.load(node),
            now,
        };
        split.standing.transaction = transaction;
        let outcome = route(split.ask(), &mut split.standing, &around, &mut split.dice);
        if outcome == Outcome::Later && !splitting.is_observed {
            return Ok(Way::Later);
        }
        let outcome = match outcome {
            Outcome::Later => {
                let ask = Ask {
                    is_lone: false,
                    ..split.ask()
                };
                route(ask, &mut split.standing, &around, &mut split.dice)
            }
            Outcome::Refuse(why) if policy.no_replica != NoReplica::Error => {
                course.board.want_sample(now);
                match view.primary_at(now) {
                    Some(node) if split.ask().intent == Intent::Read => Outcome::To(Route {
                        node,
                        role: Role::Primary,
                        why,
                    }),
                    // A write that is to be refused by a replica goes nowhere else.
                    _ if split.is_patient(now, PATIENCE) => return Ok(Way::Soon),
                    _ => outcome,
                }
            }
            // Where one would do if it had replayed enough, that is worth a moment.
            Outcome::Refuse(_) if is_only_behind(&around) && split.is_patient(now, PATIENCE) => {
                course.board.want_sample(now);
                return Ok(Way::Soon);
            }
            Outcome::Wait(why @ Reason::NoReplica) if view.primary_at(now).is_some() => {
                if is_only_behind(&around) {
                    course.board.want_sample(now);
                }
                if split.is_patient(now, course.board.limits().timeout) {
                    return Ok(Way::Soon);
                }
                Outcome::Refuse(why)
            }
            other => other,
        };
        let is_stray = matches!(
            outcome,
            Outcome::To(Route {
                why: Reason::NoReplica,
                ..
            })
        );
        if is_stray {
            // It may only be that nobody knows yet how far they are.
            course.board.want_sample(now);
            if !splitting.is_observed && split.may_wait(&around) {
                return Ok(Way::Soon);
            }
        }
        split.strays = if is_stray { split.strays + 1 } else { 0 };
        split.waits_until = None;
        let route = match outcome {
            Outcome::To(route) | Outcome::Move(route) => Ok(route),
            Outcome::Later | Outcome::Stuck | Outcome::Wait(_) => Err(Way::Nowhere),
            Outcome::Refuse(_) => Err(Way::Refused(no_replica(&view))),
        };
        if let Ok(route) = &route
            && routes.counts.add(went(*route), route.why)
        {
            let user = self.pool.user.clone();
            let intent = split.asked.ask.intent;
            split.to_list = Some(Box::new(decision(&view, *route, (user, intent), now)));
        }
        let route = if splitting.is_observed {
            observed(&view, now)
        } else {
            route
        };
        let route = match route {
            Ok(route) => route,
            Err(way) => return Ok(way),
        };
        split.sets_out(route, now);
        course.reads_from(route, &view);
        self.bind(&view, route.node)
    }

    /// Lists where `request` goes, if it is one of the few that are.
    pub(super) fn list_decision(&mut self, request: &[u8]) {
        let Some(mut decision) = self.split().and_then(|split| split.to_list.take()) else {
            return;
        };
        decision.text = shown_text(&self.side.names, request).unwrap_or_default();
        if let Some(split) = self.split() {
            split.routes.list(*decision);
        }
    }

    /// Waits for the next view, the request held.
    pub(super) fn wait_for_view(&mut self, cx: &Context<'_>, now: Moment) {
        if let Some(course) = &self.course {
            let hold = course.board.look_out(now, cx.waker());
            self.standing = Standing::Holding(hold);
        }
    }

    /// What of `chunk` may go to the server now; the rest is held.
    pub(super) fn admit<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let Some(split) = self.split() else {
            return chunk;
        };
        split.said += 1;
        let count = match &mut split.gate {
            Gate::Open => return chunk,
            Gate::Closed | Gate::Judging => 0,
            Gate::Judged(count) => {
                let count = (*count).min(chunk.len());
                split.gate = Gate::Closed;
                count
            }
            Gate::One(cutter) => {
                let (count, is_end) = cutter.cut(chunk);
                if is_end {
                    split.gate = Gate::Closed;
                }
                count
            }
        };
        let (now, later) = chunk.split_at(count);
        self.held.extend_from_slice(later);
        now
    }

    /// Whether what is held waits for the end of the link, or of the request under way.
    pub(super) fn is_held_back(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| split.is_closed())
    }

    /// Whether the next request is judged before it passes.
    pub(super) fn is_judging(&self) -> bool {
        let split = self
            .course
            .as_ref()
            .and_then(|course| course.split.as_ref());
        split.is_some_and(|split| matches!(split.gate, Gate::Judging))
    }

    /// The gate is closed: opens it for the next request of a transaction, or takes in what the client sends meanwhile. True when
    /// something moved.
    pub(super) fn poll_gate(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Error> {
        let is_quiet = self.server().side.is_quiet();
        if is_quiet && let Some(split) = self.split() {
            // In a transaction, or tied to its server: on a replica nothing passes that was not judged.
            split.gate = if split.flight.is_some() {
                Gate::Judging
            } else {
                Gate::Open
            };
            return Ok(Poll::Ready(Next::On));
        }
        if self.held.len() >= MARK || self.held.first() == Some(&b'X') {
            return Ok(Poll::Pending);
        }
        with_scratch(|scratch| match self.stream.poll_read(cx, scratch) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(_) | Ok(0)) => Err(Error::ClientGone),
            Poll::Ready(Ok(count)) => {
                self.held.extend_from_slice(&scratch[..count]);
                Ok(Poll::Ready(Next::On))
            }
        })
    }

    /// The link is over and the server goes back: what was read or written on it counts for what comes.
    pub(super) fn note_link_over(&mut self, now: Moment) {
        let Some(course) = &mut self.course else {
            return;
        };
        let (node, epoch) = course.bound();
        let Some(split) = &mut course.split else {
            return;
        };
        split.must_be_primary = false;
        split.is_asked_again = false;
        split.trial = None;
        if let Some(share) = split.share.take() {
            share.landed(now);
        }
        if let Some(flight) = split.flight.take() {
            tell(flight.landed(now), &course.board, node);
            return split.standing.has_read(node, now, epoch);
        }
        if split.has_only_read() {
            split.standing.has_read(node, now, epoch);
        } else {
            self.note_written(now);
        }
    }

    /// A transaction on the primary is over that may have written.
    pub(super) fn note_written(&mut self, now: Moment) {
        let Some(course) = &mut self.course else {
            return;
        };
        let (_, epoch) = course.bound();
        let has_read = |split: &Split| split.flight.is_some() || split.has_only_read();
        if course.split.as_deref().is_some_and(has_read) {
            return;
        }
        course.note_first_write(now);
        let Some(split) = &mut course.split else {
            return;
        };
        split.standing.wrote(now, epoch);
        course.board.want_sample(now);
        let code = self.pool.group.dictionary.code_generation();
        split.routes.code_is(&self.pool.user, code);
    }

    /// The primary says something, which may be the end of a write: before the client hears it, everybody's reads count on it.
    pub(super) fn mark_for_all(&mut self) {
        let Some(course) = &mut self.course else {
            return;
        };
        let (_, epoch) = course.bound();
        if let Some(split) = &mut course.split
            && split.flight.is_none()
            && !split.has_only_read()
        {
            split.routes.wrote(Mark::new(clock::now(), epoch));
        }
    }

    /// A replica could not serve what was judged to be a read: its texts go to the primary for so long.
    pub(super) fn note_offence(&mut self, request: &[u8], lasts: Duration) {
        let now = clock::now();
        let Some(split) = self
            .course
            .as_mut()
            .and_then(|course| course.split.as_deref_mut())
        else {
            return;
        };
        let (params, names) = (&self.side.params, &self.side.names);
        let until = Some(now.after(lasts));
        judge(
            split,
            params,
            &self.pool.user,
            names,
            request,
            (false, until),
        );
        let counts = &split.routes.counts;
        counts.offences.fetch_add(1, Relaxed);
    }

    /// There is no server to be had where the client's request goes: it goes to the primary where a replica was meant, else it waits for
    /// a primary.
    pub(super) fn weather(&mut self, cx: &mut Context<'_>, now: Moment) -> Result<Next, Error> {
        let bound = self.course.as_ref().map(|course| course.bound());
        if let Some((node, _)) = bound
            && let Some(split) = self.split()
            && split.flight.take().is_some()
        {
            split.must_be_primary = true;
            self.blame(node, now);
            self.standing = Standing::Idle;
            return Ok(Next::On);
        }
        self.hold(cx, now)
    }

    /// The replica `node` could not serve a read.
    pub(super) fn blame(&mut self, node: NodeId, now: Moment) {
        if let Some(course) = &mut self.course
            && let Some(split) = &mut course.split
        {
            tell(split.routes.failed(node, now), &course.board, node);
        }
    }
}

/// Says that a replica serves no reads for a while.
fn tell(ejected: Option<Ejected>, board: &Board, node: NodeId) {
    let Some(why) = ejected else {
        return;
    };
    let view = board.view();
    let place = view.node(node).map(|node| node.place.address());
    tracing::warn!(
        cluster = &*view.name,
        node = place.unwrap_or_default(),
        why = why.text(),
        "replica is left out of reads for a while"
    );
}

/// The text of the first statement in `request`, without its constants, as far as it is known.
fn shown_text(names: &Names, request: &[u8]) -> Option<String> {
    let (tag, mut body) = frame::next(&mut &*request, frame::MAX_LEN).ok()??;
    let named = |name| Some(names.get(name)?.text());
    let text = match tag {
        b'Q' => body.strip_suffix(b"\0"),
        b'P' => frame::cstr(&mut body).and_then(|_| frame::cstr(&mut body)),
        b'B' => frame::cstr(&mut body)
            .and_then(|_| frame::cstr(&mut body))
            .and_then(named),
        _ => None,
    }?;
    normal::shown(text)
}

fn went(route: Route) -> Went {
    if route.role == Role::Replica {
        Went::Replica
    } else {
        Went::Primary
    }
}

fn no_replica(view: &ClusterView) -> Error {
    Error::NoReplica {
        cluster: view.name.to_string(),
    }
}
