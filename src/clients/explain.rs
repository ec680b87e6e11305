//! `EXPLAIN ROUTE statement`, in any session whose reads are split off: answered by the pooler for that session as it stands. Nothing is
//! executed, no server is asked, and nothing changes.

use std::sync::Arc;

use crate::clients::session::{Session, Standing};
use crate::clients::split::facts_of;
use crate::clock;
use crate::pools::plan::Splitting;
use crate::protocol::parameters::Parameters;
use crate::routing::explain;
use crate::routing::request::Verdict;
use crate::routing::route::{Ask, Circumstances, route};
use crate::routing::standing::Transaction;
use crate::routing::talk::Ran;

impl Session {
    /// What EXPLAIN ROUTE of `sql` tells this session.
    pub(super) fn explain_route(&mut self, splitting: &Splitting, sql: &[u8]) -> Ran {
        let transaction = self.transaction_here();
        let (params, user) = (Arc::clone(&self.side.params), self.pool.user.clone());
        let rows = self.explained(splitting, sql, transaction, &params, &user);
        let cells = |row: explain::Row| vec![row.subject.to_owned(), row.finding, row.why];
        Ran {
            rows: rows.into_iter().map(cells).collect(),
            tag: "EXPLAIN",
        }
    }

    fn explained(
        &mut self,
        splitting: &Splitting,
        sql: &[u8],
        transaction: Transaction,
        params: &Arc<Parameters>,
        user: &str,
    ) -> Vec<explain::Row> {
        let Some(course) = &mut self.course else {
            return Vec::new();
        };
        let (view, now) = (course.board.view(), clock::now());
        let Some(split) = &mut course.split else {
            return Vec::new();
        };
        let facts = facts_of(split, params, user, sql);
        let verdict = Verdict::of(&facts);
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
        let ask = Ask {
            intent: verdict.intent,
            hint: verdict.hint,
            begins: verdict.begins,
            bond: verdict.bond,
            is_lone: verdict.begins.is_some(),
        };
        let (mut standing, mut dice) = (split.standing.clone(), split.dice.clone());
        standing.transaction = transaction;
        let outcome = route(ask, &mut standing, &around, &mut dice);
        explain::route(&facts, &split.standing, &around, outcome)
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
        match &mut self.standing {
            Standing::Linked(lease) => match lease.server().side.status {
                b'I' => self.transaction(),
                _ => Transaction::On {
                    node,
                    is_read_only,
                    is_fixed: is_fixed || !is_on_replica,
                },
            },
            Standing::Idle | Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => {
                self.transaction()
            }
        }
    }
}
