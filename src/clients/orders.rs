//! What others want of a client: to end, to make room, to stand still, to move to another process.
//!
//! They leave their order on its card and wake it; it obeys at the next point where that can be done.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clients::session::{Session, Station};
use crate::clock;
use crate::error::Error;
use crate::pools::janitor;
use crate::protocol::pins::Pins;
use crate::stats::census::Order;

impl Session {
    /// Does what somebody ordered by the card.
    #[inline]
    pub(super) fn obey(&mut self) -> Result<(), Error> {
        match self.card.order() {
            Order::None => Ok(()),
            _ => self.obey_order(),
        }
    }

    #[cold]
    fn obey_order(&mut self) -> Result<(), Error> {
        match self.card.order() {
            Order::None => Ok(()),
            Order::MoveOn => {
                self.is_moving = self.make_ready_to_move();
                Ok(())
            }
            order if order.is_timeout() && janitor::due(&self.card, clock::now()) != order => {
                // It went on in the very moment its time was found to be over.
                self.card.withdraw(order);
                Ok(())
            }
            Order::SuspendTimeout if self.has_stopped() => {
                self.card.withdraw(Order::SuspendTimeout);
                Ok(())
            }
            Order::FastClose => self.close_fast(),
            Order::Drain if !self.is_at_rest() => Ok(()),
            order => Err(self.end_by(order)),
        }
    }

    /// Whether it may be sent away without losing anything.
    fn is_at_rest(&mut self) -> bool {
        let is_between = match &mut self.station {
            Station::Idle => self.side.walk.is_between() && self.late.is_none(),
            Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => false,
            Station::Linked(lease) => lease.server().side.is_free() && self.side.walk.is_between(),
        };
        is_between && self.held.is_empty()
    }

    /// The error by which `order` ends the session.
    fn end_by(&mut self, order: Order) -> Error {
        let limit = Duration::from_micros;
        let limits = self.card.limits();
        match order {
            Order::IdleTimeout => Error::ClientIdleTimeout(limit(limits.client_idle_timeout)),
            Order::QueryTimeout if matches!(self.station, Station::Waiting(_)) => {
                Error::QueuedQueryTimeout(limit(limits.query_timeout))
            }
            Order::QueryTimeout => Error::QueryTimeout(limit(limits.query_timeout)),
            Order::WaitTimeout if self.pool.headcount().paused => {
                Error::PausedTooLong(limit(limits.query_wait_timeout))
            }
            Order::WaitTimeout => {
                let waited = limit(limits.query_wait_timeout);
                match self.pinned_by_others() {
                    Some(pins) => Error::Pinned(waited, pins),
                    None => Error::QueryWaitTimeout(waited),
                }
            }
            Order::PinTimeout => {
                let pins = Pins::from_bits(self.card.pins()).listed();
                Error::PinTimeout(limit(limits.pin_timeout), pins)
            }
            Order::IdleTransaction => {
                Error::IdleTransactionTimeout(limit(limits.idle_transaction_timeout))
            }
            Order::TransactionTimeout => {
                Error::TransactionTimeout(limit(limits.transaction_timeout))
            }
            Order::ServersReplaced => Error::ServersReplaced,
            Order::DatabaseRemoved => Error::DatabaseRemoved(self.card.facts.database.clone()),
            Order::SuspendTimeout => Error::SuspendTimeout,
            Order::Kill => Error::Killed,
            Order::None | Order::MoveOn | Order::FastClose | Order::Drain | Order::Shutdown => {
                Error::ShuttingDown
            }
        }
    }

    /// Whether it stands still, or need not any more.
    fn has_stopped(&self) -> bool {
        let number = self.pool.registry.standstill.number();
        number == 0 || self.card.stands_still(number)
    }

    /// Ends the client of a server that must be replaced, between two transactions.
    fn close_fast(&mut self) -> Result<(), Error> {
        let (is_meant, is_free) = match &mut self.station {
            Station::Idle | Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => {
                (false, false)
            }
            Station::Linked(lease) => {
                let server = lease.server();
                (
                    server.card.close_needed(),
                    server.side.is_free() && server.out.is_empty(),
                )
            }
        };
        if !is_meant {
            // It has got another one meanwhile, or none.
            self.card.withdraw(Order::FastClose);
            return Ok(());
        }
        if is_free && self.side.walk.is_between() && self.held.is_empty() {
            return Err(Error::ServersReplaced);
        }
        Ok(())
    }

    /// While everything is held still: passes on what was read before, and reads no more. Who is in line stays there; once it has its
    /// server its request is passed on, too.
    pub(super) fn stands_still(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let number = self.pool.registry.standstill.number();
        if number == 0 || matches!(self.station, Station::Waiting(_)) {
            return Ok(false);
        }
        let mut has_rest = false;
        if matches!(self.station, Station::Linked(_)) {
            // A server that is lost has nothing more to get; that it is lost is found out later.
            let has_moved = self.poll_server_out(cx);
            let server = self.server();
            let is_behind = !server.out.is_empty() || server.stream.has_pending_output();
            has_rest = has_moved.is_ok() && is_behind;
        }
        has_rest |= match self.poll_out(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Err(Error::ClientGone),
            Poll::Pending => true,
        };
        if !has_rest {
            self.card.stand_still(number);
        }
        Ok(true)
    }
}
