//! One DSN for reads and writes: each request of a client is read before a server is chosen for it.
//!
//! A link to a replica takes only what was read and found fit for it: the *gate* (`admission.rs`) lets those bytes pass, and what the
//! client sends behind them waits until they are answered. So nothing reaches a replica that nobody has judged. A link to the primary is open, as
//! everywhere else. In a READ ONLY transaction on a replica requests pass one by one, for behind its end anything may follow.

use std::sync::Arc;
use std::task::Context;

use crate::clients::course::Way;
use crate::clients::session::{Session, Station};
use crate::clients::split::{PATIENCE, Split, facts_of, judge};
use crate::clock::Moment;
use crate::config::routing::NoReplica;
use crate::error::Error;
use crate::pools::plan::Splitting;
use crate::pools::routes::{Decision, Went};
use crate::protocol::frame;
use crate::protocol::prepared::Names;
use crate::routing::ask::Ask;
use crate::routing::circumstances::Circumstances;
use crate::routing::fitness::is_only_behind;
use crate::routing::intent::Intent;
use crate::routing::normal;
use crate::routing::reason::Reason;
use crate::routing::route::{Outcome, Route, or_primary, route};
use crate::topology::board::Board;
use crate::topology::node::Role;
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

/// What routing says of what is asked. Where it is only counted, a transaction's first statement is not waited for.
fn chosen(split: &mut Split, around: &Circumstances<'_>, is_observed: bool) -> Outcome {
    let outcome = route(split.ask(), &mut split.standing, around, &mut split.dice);
    if outcome != Outcome::Later || !is_observed {
        return outcome;
    }
    let ask = Ask {
        is_lone: false,
        ..split.ask()
    };
    route(ask, &mut split.standing, around, &mut split.dice)
}

/// What becomes of `outcome` where no replica is fit: a moment's wait for one that may soon be, the primary where the settings allow it, or
/// the end of patience.
fn or_wait(
    split: &mut Split,
    outcome: Outcome,
    around: &Circumstances<'_>,
    board: &Board,
) -> Result<Outcome, Way> {
    let (view, now) = (around.view, around.now);
    match outcome {
        Outcome::Refuse(_) if around.policy.no_replica != NoReplica::Error => {
            board.want_sample(now);
            match or_primary(outcome, split.ask(), around) {
                // A write that is to be refused by a replica goes nowhere else.
                Outcome::Refuse(_) if split.wait_on(now, PATIENCE) => Err(Way::Soon),
                outcome => Ok(outcome),
            }
        }
        // Where one would do if it had replayed enough, that is worth a moment.
        Outcome::Refuse(_) if is_only_behind(around) && split.wait_on(now, PATIENCE) => {
            board.want_sample(now);
            Err(Way::Soon)
        }
        Outcome::Wait(why @ Reason::NoReplica) if view.primary_at(now).is_some() => {
            if is_only_behind(around) {
                board.want_sample(now);
            }
            if split.wait_on(now, board.limits().timeout) {
                return Err(Way::Soon);
            }
            Ok(Outcome::Refuse(why))
        }
        other => Ok(other),
    }
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
            written_by_all: routes.written(&view, &policy),
            load: &|node| routes.load(node),
            now,
        };
        split.standing.transaction = transaction;
        let outcome = match chosen(split, &around, splitting.is_observed) {
            Outcome::Later => return Ok(Way::Later),
            outcome => outcome,
        };
        let outcome = match or_wait(split, outcome, &around, &course.board) {
            Ok(outcome) => outcome,
            Err(way) => return Ok(way),
        };
        let is_stray = matches!(outcome, Outcome::To(route) if route.why == Reason::NoReplica);
        if is_stray {
            // It may only be that nobody knows yet how far they are.
            course.board.want_sample(now);
            if !splitting.is_observed && split.wait_for_sample(&around) {
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

    /// A transaction begins with `chunk`. Where the session is pinned to its server nobody chooses one for it, so it is counted here.
    pub(super) fn count_pinned(&mut self, chunk: &[u8], now: Moment) {
        if self.side.keeps.pins.is_empty() {
            return;
        }
        let Some(course) = &mut self.course else {
            return;
        };
        let ((node, _), view) = (course.bound(), course.board.view());
        let Some(split) = &mut course.split else {
            return;
        };
        let is_on_replica = split.flight.is_some();
        let role = if is_on_replica {
            Role::Replica
        } else {
            Role::Primary
        };
        let why = Reason::Pinned;
        let route = Route { node, role, why };
        if !split.routes.counts.add(went(route), why) {
            return;
        }
        let text = texts_asked(&self.side.names, chunk).next();
        let (params, user) = (&self.side.params, &self.pool.user);
        let intent = text.map(|text| facts_of(split, params, user, text).intent);
        let asked = (user.clone(), intent.unwrap_or(Intent::Unknown));
        split.routes.list(Decision {
            text: text.and_then(normal::shown).unwrap_or_default(),
            ..decision(&view, route, asked, now)
        });
    }

    /// Waits for the next view, the request held.
    pub(super) fn wait_for_view(&mut self, cx: &Context<'_>, now: Moment) {
        if let Some(course) = &self.course {
            let hold = course.board.look_out(now, cx.waker());
            self.station = Station::Holding(hold);
        }
    }
}

/// The text of the first statement in `request`, without its constants, as far as it is known.
fn shown_text(names: &Names, request: &[u8]) -> Option<String> {
    normal::shown(texts_asked(names, request).next()?)
}

/// The texts of the statements in `request`, as far as they are known.
pub(super) fn texts_asked<'a>(
    names: &'a Names,
    request: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = request;
    let frames = std::iter::from_fn(move || frame::next(&mut rest, frame::MAX_LEN).ok()?);
    frames.filter_map(move |(tag, mut body)| {
        let named = |name| Some(names.get(name)?.text());
        match tag {
            b'Q' => body.strip_suffix(b"\0"),
            b'P' => frame::cstr(&mut body).and_then(|_| frame::cstr(&mut body)),
            b'B' => frame::cstr(&mut body)
                .and_then(|_| frame::cstr(&mut body))
                .and_then(named),
            _ => None,
        }
    })
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
