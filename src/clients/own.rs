//! What a client says of the pooler's own settings, answered by the pooler alone, in or out of a transaction.

use std::task::Context;

use bytes::BytesMut;

use crate::clients::session::{Session, Standing};
use crate::error::Error;
use crate::protocol::lone::Lone;
use crate::protocol::message::{self, Say, Severity};
use crate::routing::own::{self, Order, shown};

impl Session {
    /// Whether `chunk` may be about the pooler's own settings, by a glance.
    pub(super) fn may_be_own(&self, chunk: &[u8]) -> bool {
        match chunk {
            [b'Q', _, _, _, _, text @ ..] | [b'P', _, _, _, _, 0, text @ ..] => {
                own::may_concern(text)
            }
            _ => false,
        }
    }

    /// What ReadyForQuery said last, where nothing is owed to the client.
    pub(super) fn status_at_rest(&mut self) -> Option<u8> {
        match &mut self.standing {
            Standing::Idle if self.late.is_some() => Some(b'T'),
            Standing::Idle => Some(b'I'),
            Standing::Linked(lease) => {
                let side = &lease.server().side;
                side.is_quiet().then_some(side.status)
            }
            Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => None,
        }
    }

    /// Counts a request that the pooler answered itself.
    pub(super) fn count_answer(&self, received: usize, sent: usize) {
        let tally = self.pool.tally();
        tally.queries.add(1);
        if matches!(self.standing, Standing::Idle) && self.late.is_none() {
            tally.xacts.add(1);
        }
        tally.received.add(received as u64);
        tally.sent.add(sent as u64);
    }

    /// Answers a statement about the pooler's own settings that came by itself, where nothing else is owed; false where `chunk` is
    /// something else.
    pub(super) fn answer_own(&mut self, cx: &mut Context<'_>, chunk: &[u8]) -> Result<bool, Error> {
        let Some(lone) = Lone::of(chunk).filter(|_| self.side.walk.is_between()) else {
            return Ok(false);
        };
        let Some(status) = self.status_at_rest() else {
            return Ok(false);
        };
        let order = match own::order(lone.text) {
            Ok(None) => return Ok(false),
            Ok(Some(order)) => Ok(order),
            Err(complaint) => Err(complaint),
        };
        let Some(splitting) = self.pool.plan.load().split.clone() else {
            return Ok(false);
        };
        self.ensure_split();
        let Some(course) = &mut self.course else {
            return Ok(false);
        };
        let startup = course.startup_wish;
        let Some(split) = &mut course.split else {
            return Ok(false);
        };
        let mut out = BytesMut::new();
        let mut done = |tag: &str, row: Option<(&str, &str)>| {
            lone.answer(&mut out, row, tag, status);
        };
        match order {
            Ok(Order::ResetAll) => {
                split.wish = startup;
                return Ok(false);
            }
            _ if status == b'E' => return Ok(false),
            Ok(Order::Set(wish)) => {
                split.wish = split.wish.and(wish);
                done("SET", None);
            }
            Ok(Order::Reset(setting)) => {
                split.wish = split.wish.with(setting, startup);
                done("RESET", None);
            }
            Ok(Order::Show(setting)) => {
                let value = shown(setting, &split.wish.over(&splitting.policy));
                done("SHOW", Some((setting.name(), value)));
            }
            Err(complaint) => {
                message::error(
                    &mut out,
                    &Say {
                        severity: Severity::Error,
                        code: complaint.code,
                        message: &complaint.message,
                        detail: None,
                        hint: Some(complaint.hint),
                    },
                );
                message::ready_for_query(&mut out, status);
            }
        }
        self.count_answer(chunk.len(), out.len());
        self.send_to_client(cx, &out)?;
        Ok(true)
    }
}
