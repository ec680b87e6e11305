//! `EXPLAIN ROUTE statement`, in any session whose reads are split off: answered by the pooler for that session as it stands. Nothing is
//! executed, no server is asked, and nothing changes.

use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;

use crate::clients::session::Session;
use crate::clients::split::facts_of;
use crate::clock;
use crate::error::Error;
use crate::protocol::frame;
use crate::protocol::message;
use crate::routing::explain::{self, COLUMNS};
use crate::routing::request::Verdict;
use crate::routing::route::{Ask, Circumstances, route};

const WORDS: [&[u8]; 2] = [b"explain", b"route"];
/// The oid of `text`.
const TEXT: u32 = 25;

/// What is to be explained, if `text` asks for that.
fn explained(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.trim_ascii_start();
    for word in WORDS {
        let (first, after) = rest.split_at_checked(word.len())?;
        if !first.eq_ignore_ascii_case(word) || !after.first()?.is_ascii_whitespace() {
            return None;
        }
        rest = after.trim_ascii_start();
    }
    Some(rest)
}

impl Session {
    /// Answers an EXPLAIN ROUTE; false where `chunk` is something else.
    pub(super) fn answer_explain(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Result<bool, Error> {
        let mut rest = chunk;
        let Ok(Some((b'Q', body))) = frame::next(&mut rest, frame::MAX_LEN) else {
            return Ok(false);
        };
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let Some(sql) = explained(text).filter(|_| rest.is_empty()) else {
            return Ok(false);
        };
        let Some(splitting) = self.pool.plan.load().split.clone() else {
            return Ok(false);
        };
        let status = self.status_at_rest().unwrap_or(b'I');
        let transaction = self.transaction();
        self.ensure_split();
        let (params, user) = (Arc::clone(&self.side.params), self.pool.user.clone());
        let Some(course) = &mut self.course else {
            return Ok(false);
        };
        let (view, now) = (course.board.view(), clock::now());
        let Some(split) = &mut course.split else {
            return Ok(false);
        };
        let facts = facts_of(split, &params, &user, sql);
        let verdict = Verdict::of(&facts);
        let routes = Arc::clone(&split.routes);
        let policy = split.wish.over(&splitting.policy);
        let around = Circumstances {
            view: &view,
            policy: &policy,
            written_by_all: routes.written(),
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
        let rows = explain::route(&facts, &split.standing, &around, outcome);
        let mut out = BytesMut::new();
        message::row_description(&mut out, &COLUMNS.map(|name| (name, TEXT)));
        for row in rows {
            let cells = [row.subject, &row.finding, &row.why];
            message::data_row(&mut out, &cells.map(|cell| Some(cell.as_bytes())));
        }
        message::command_complete(&mut out, "EXPLAIN");
        message::ready_for_query(&mut out, status);
        self.count_answer(chunk.len(), out.len());
        self.send_to_client(cx, &out)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::explained;

    #[test]
    fn only_the_two_words_in_front_ask_for_it() {
        assert_eq!(
            explained(b" Explain\nROUTE  select 1"),
            Some(&b"select 1"[..])
        );
        assert_eq!(explained(b"explain select 1"), None);
        assert_eq!(explained(b"explain routes"), None);
        assert_eq!(explained(b"explain"), None);
    }
}
