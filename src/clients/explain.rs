//! `EXPLAIN ROUTE statement`, in any session: answered by the pooler for that session as it stands. Nothing is
//! executed, no server is asked, and nothing changes.

use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;

use crate::clients::session::{Session, Station};
use crate::clients::split::facts_of;
use crate::clock;
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::pools::plan::Splitting;
use crate::protocol::frame;
use crate::protocol::parameters::Parameters;
use crate::routing::ask::Ask;
use crate::routing::catalog::{Catalog, Path};
use crate::routing::circumstances::Circumstances;
use crate::routing::classify::{Reading, classify};
use crate::routing::explain;
use crate::routing::judge::{Judge, Lists};
use crate::routing::own::{self, Complaint, Own};
use crate::routing::request::Verdict;
use crate::routing::route::{or_primary, route};
use crate::routing::standing::Transaction;
use crate::routing::talk::{Owner, Ran, Taken, Talk};
use crate::topology::node::Role;

/// Who explains where reads are not split off.
struct Plain {
    way: String,
}

impl Owner for Plain {
    fn named(&self, _: &[u8]) -> Option<Box<[u8]>> {
        None
    }

    fn has(&self, _: &[u8]) -> bool {
        false
    }

    fn keep(&mut self, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn forget(&mut self, _: &[u8]) {}

    fn run(&mut self, text: &[u8]) -> Result<Ran, Complaint> {
        let Some(Own::Explain(sql)) = own::own(text) else {
            let message = "it is not the pooler's".to_owned();
            return Err(Complaint::new("XX000", message));
        };
        let judge = Judge {
            catalog: &Catalog::default(),
            path: &Path::default(),
            lists: &Lists::default(),
        };
        let facts = classify(sql, Reading::default(), &judge, &mut Vec::new());
        let mut rows = explain::facts(&facts, sql);
        rows.push(explain::Row {
            subject: "route",
            finding: self.way.clone(),
            why: "reads of this database are not split off: everything goes there".into(),
        });
        Ok(told(rows))
    }
}

fn told(rows: Vec<explain::Row>) -> Ran {
    let cells = |row: explain::Row| vec![row.subject.to_owned(), row.finding, row.why];
    Ran {
        rows: rows.into_iter().map(cells).collect(),
        tag: "EXPLAIN",
    }
}

impl Session {
    /// What EXPLAIN ROUTE of `sql` tells this session.
    pub(super) fn explain_route(&mut self, splitting: &Splitting, sql: &[u8]) -> Ran {
        let transaction = self.transaction_here();
        let (params, user) = (Arc::clone(&self.side.params), self.pool.user.clone());
        let mut rows = self.explained(splitting, sql, transaction, &params, &user);
        if let (Some(row), Some((finding, why))) = (rows.last_mut(), self.tie()) {
            (row.finding, row.why) = (finding, why);
        }
        told(rows)
    }

    /// The primary, and what keeps the session there outside any transaction.
    fn tie(&mut self) -> Option<(String, String)> {
        let pins = self.side.keeps.pins;
        let Station::Linked(lease) = &mut self.station else {
            return None;
        };
        if pins.is_empty() || lease.server().side.status != b'I' {
            return None;
        }
        let course = self.course.as_ref()?;
        let view = course.board.view();
        let node = view.node(course.bound().0)?;
        let is_primary = node.role == Role::Primary;
        is_primary.then(|| {
            let why = format!("the session is pinned there: {}", pins.listed());
            (node.place.address(), why)
        })
    }

    fn explained(
        &mut self,
        splitting: &Splitting,
        sql: &[u8],
        transaction: Transaction,
        params: &Arc<Parameters>,
        user: &str,
    ) -> Vec<explain::Row> {
        let may_be_late = self.rules.mode == PoolMode::Transaction && self.late.is_none();
        let Some(course) = &mut self.course else {
            return Vec::new();
        };
        let (view, now) = (course.board.view(), clock::now());
        let Some(split) = &mut course.split else {
            return Vec::new();
        };
        let facts = facts_of(split, params, user, sql);
        let verdict = Verdict::at(&facts, now);
        let routes = Arc::clone(&split.routes);
        let policy = split.wish.over(&splitting.policy);
        let around = Circumstances {
            view: &view,
            policy: &policy,
            written_by_all: routes.written(&view, &policy),
            load: &|node| routes.load(node),
            now,
        };
        let (mut standing, mut dice) = (split.standing.clone(), split.dice.clone());
        standing.transaction = transaction;
        let mut ask = Ask::from(&verdict).by(&standing);
        ask.is_lone &= may_be_late;
        let outcome = route(ask, &mut standing, &around, &mut dice);
        let outcome = or_primary(outcome, ask, &around);
        explain::route(
            (&facts, sql),
            &split.standing,
            &around,
            (outcome, splitting.is_observed),
        )
    }

    /// Answers EXPLAIN ROUTE where reads are not split off, if it comes by itself; false where `chunk` is something else.
    pub(super) fn answer_plain(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Result<bool, Error> {
        let text = match chunk {
            [b'Q', _, _, _, _, text @ ..] | [b'P', _, _, _, _, 0, text @ ..] => text,
            _ => return Ok(false),
        };
        if !own::may_explain(text) || !self.side.walk.is_between() {
            return Ok(false);
        }
        let Some(status) = self.status_at_rest().filter(|status| *status != b'E') else {
            return Ok(false);
        };
        let mut owner = Plain {
            way: self.plain_way(),
        };
        let (mut out, mut talk, mut rest) = (BytesMut::new(), Talk::default(), chunk);
        while let Ok(Some(frame)) = frame::next(&mut rest, frame::MAX_LEN) {
            if talk.message(frame, status, &mut owner, &mut out) == Taken::Not {
                return Ok(false);
            }
        }
        if !rest.is_empty() || talk.is_due() {
            return Ok(false);
        }
        self.count_answer(chunk.len(), out.len());
        self.send_to_client(cx, &out)?;
        Ok(true)
    }

    /// Where everything goes that this session asks for.
    fn plain_way(&self) -> String {
        let plan = self.pool.plan.load();
        let hosts = plan.target.hosts.iter();
        let hosts: Vec<String> = hosts
            .map(|host| format!("{}:{}", host.name, host.port))
            .collect();
        hosts.join(", ")
    }

    /// The transaction that the client is in, wherever it is.
    fn transaction_here(&mut self) -> Transaction {
        let late = self.late.as_ref();
        let (is_read_only, is_fixed) =
            late.map_or((false, true), |late| (late.is_read_only(), late.is_fixed));
        let node = self.course.as_ref().map(|course| course.bound().0);
        let is_on_replica = self.split().is_some_and(|split| split.flight.is_some());
        let Some(node) = node else {
            return self.transaction();
        };
        match &mut self.station {
            Station::Linked(lease) => match lease.server().side.status {
                b'I' => self.transaction(),
                _ => Transaction::On {
                    node,
                    is_read_only,
                    is_fixed: is_fixed || !is_on_replica,
                },
            },
            Station::Idle | Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => {
                self.transaction()
            }
        }
    }
}
