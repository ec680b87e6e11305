//! The line before a pool: first come, first served within a worker.
//!
//! Each worker has a line of its own, so that a server that comes back is used in the same turn; it crosses over to another worker
//! when that worker's oldest client has waited over a millisecond longer. A client that gives up leaves no hole, and a
//! server that was given to it in that very moment comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Moment;
use crate::error::Error;
use crate::locked::Locked;
use crate::thread;

/// How much longer another worker's oldest must have waited.
const CROSSING: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Turn<S> {
    Waiting(Waker),
    Given(Box<S>),
    Failed(Error),
    Left,
}

/// One client's place in line.
#[derive(Debug)]
pub struct Spot<S> {
    turn: Mutex<Turn<S>>,
    /// When it lined up.
    pub since: Moment,
    /// Whether it is a login's, which waits for what the first server of its pool says.
    is_login: bool,
    /// Until when it waits on though no server can be opened.
    patient_until: Option<Moment>,
}

impl<S> Spot<S> {
    /// A place for who is woken by `waker`.
    pub fn new(waker: &Waker, since: Moment) -> Self {
        Self {
            turn: Mutex::new(Turn::Waiting(waker.clone())),
            since,
            is_login: false,
            patient_until: None,
        }
    }

    /// The same, of who waits until then for a server that cannot be opened.
    pub fn patient(waker: &Waker, since: Moment, until: Moment) -> Self {
        Self {
            patient_until: Some(until),
            ..Self::new(waker, since)
        }
    }

    /// The same, of a login.
    pub fn of_login(waker: &Waker, since: Moment) -> Self {
        Self {
            is_login: true,
            ..Self::new(waker, since)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn<S>> {
        self.turn.locked()
    }

    /// What has come.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Box<S>, Error>> {
        let mut turn = self.lock();
        match std::mem::replace(&mut *turn, Turn::Left) {
            Turn::Given(server) => Poll::Ready(Ok(server)),
            Turn::Failed(error) => Poll::Ready(Err(error)),
            Turn::Waiting(mut waker) => {
                waker.clone_from(cx.waker());
                *turn = Turn::Waiting(waker);
                Poll::Pending
            }
            Turn::Left => Poll::Pending,
        }
    }

    /// Leaves the line. A server that was given already is handed out.
    pub fn leave(&self) -> Option<Box<S>> {
        match std::mem::replace(&mut *self.lock(), Turn::Left) {
            Turn::Given(server) => Some(server),
            Turn::Waiting(_) | Turn::Failed(_) | Turn::Left => None,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(*self.lock(), Turn::Waiting(_))
    }

    fn settle(&self, with: Turn<S>) -> Result<(), Turn<S>> {
        let mut turn = self.lock();
        if !matches!(*turn, Turn::Waiting(_)) {
            return Err(with);
        }
        if let Turn::Waiting(waker) = std::mem::replace(&mut *turn, with) {
            drop(turn);
            waker.wake();
        }
        Ok(())
    }
}

/// The lines of all workers.
#[derive(Debug)]
pub struct Lines<S> {
    lines: Vec<VecDeque<Arc<Spot<S>>>>,
}

impl<S> Lines<S> {
    /// Empty lines for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            lines: (0..workers.max(1)).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Puts `spot` at the end of its worker's line.
    pub fn join(&mut self, worker: usize, spot: Arc<Spot<S>>) {
        let index = thread::place(worker, self.lines.len());
        self.lines[index].push_back(spot);
    }

    #[inline]
    fn are_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    fn tidy(&mut self) {
        for line in &mut self.lines {
            while line.front().is_some_and(|spot| !spot.is_waiting()) {
                line.pop_front();
            }
        }
    }

    /// Since when the oldest waits.
    pub fn oldest(&mut self) -> Option<Moment> {
        self.tidy();
        self.lines
            .iter()
            .filter_map(|line| line.front())
            .map(|spot| spot.since)
            .min()
    }

    /// How many wait; looks at each of them.
    pub fn waiting(&self) -> usize {
        self.lines
            .iter()
            .map(|line| line.iter().filter(|spot| spot.is_waiting()).count())
            .sum()
    }

    /// How many wait, counted no further than `most`.
    pub fn count_up_to(&self, most: usize) -> usize {
        let spots = self.lines.iter().flatten();
        spots.filter(|spot| spot.is_waiting()).take(most).count()
    }

    /// Whether anybody waits.
    #[inline]
    pub fn has_waiting(&mut self) -> bool {
        if self.are_empty() {
            return false;
        }
        self.tidy();
        !self.are_empty()
    }

    /// Gives `server` to whose turn it is; back to the caller when nobody waits.
    #[inline]
    pub fn give(&mut self, worker: usize, server: Box<S>) -> Option<Box<S>> {
        if self.are_empty() {
            return Some(server);
        }
        self.give_next(worker, server)
    }

    fn give_next(&mut self, worker: usize, mut server: Box<S>) -> Option<Box<S>> {
        let worker = thread::place(worker, self.lines.len());
        loop {
            self.tidy();
            let Some(index) = self.turn(worker) else {
                return Some(server);
            };
            let Some(spot) = self.lines[index].pop_front() else {
                return Some(server);
            };
            match spot.settle(Turn::Given(server)) {
                Err(Turn::Given(back)) => server = back,
                Ok(()) | Err(_) => return None,
            }
        }
    }

    fn turn(&self, worker: usize) -> Option<usize> {
        let since = |index: usize| self.lines[index].front().map(|spot| spot.since);
        let eldest = (0..self.lines.len())
            .filter(|index| since(*index).is_some())
            .min_by_key(|index| since(*index))?;
        match (since(worker), since(eldest)) {
            (Some(own), Some(other)) if own.since(other) <= CROSSING => Some(worker),
            _ => Some(eldest),
        }
    }

    /// Tells every login that waits that it is in vain.
    pub fn fail_logins(&mut self, error: &Error) {
        for spot in self.lines.iter().flatten().filter(|spot| spot.is_login) {
            let _ = spot.settle(Turn::Failed(error.clone()));
        }
    }

    /// Tells those who wait that it is in vain, but for who is patient at `now`.
    pub fn fail_impatient(&mut self, error: &Error, now: Moment) {
        for line in &mut self.lines {
            line.retain(|spot| {
                let is_patient = spot.patient_until.is_some_and(|until| now < until);
                if !is_patient {
                    let _ = spot.settle(Turn::Failed(error.clone()));
                }
                is_patient
            });
        }
    }

    /// Tells everybody who waits that it is in vain.
    pub fn fail_all(&mut self, error: &Error) {
        for spot in self.lines.iter_mut().flat_map(|line| line.drain(..)) {
            let _ = spot.settle(Turn::Failed(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Spot};
    use crate::clock::Moment;
    use crate::error::Error;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    fn spot(millis: u64) -> Arc<Spot<u32>> {
        Arc::new(Spot::new(Waker::noop(), Moment::from_micros(millis * 1000)))
    }

    fn got(spot: &Spot<u32>) -> Option<u32> {
        match spot.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(server)) => Some(*server),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    #[test]
    fn first_come_first_served() {
        let (mut lines, first, second) = (Lines::new(1), spot(1), spot(2));
        lines.join(0, Arc::clone(&first));
        lines.join(0, Arc::clone(&second));
        assert!(lines.give(0, Box::new(7)).is_none());
        assert_eq!((got(&first), got(&second)), (Some(7), None));
    }

    #[test]
    fn who_gives_up_leaves_no_hole_and_loses_no_server() {
        let (mut lines, first, second) = (Lines::new(1), spot(1), spot(2));
        lines.join(0, Arc::clone(&first));
        lines.join(0, Arc::clone(&second));
        assert!(first.leave().is_none());
        assert!(lines.give(0, Box::new(7)).is_none());
        assert_eq!(
            second.leave(),
            Some(Box::new(7)),
            "it was given, and comes back"
        );
        assert_eq!(lines.give(0, Box::new(8)), Some(Box::new(8)));
    }

    #[test]
    fn who_is_patient_waits_on_for_a_server_that_cannot_be_opened() {
        let (mut lines, hasty) = (Lines::new(1), spot(1));
        let at = |millis: u64| Moment::from_micros(millis * 1000);
        let patient = Arc::new(Spot::patient(Waker::noop(), at(2), at(900)));
        lines.join(0, Arc::clone(&hasty));
        lines.join(0, Arc::clone(&patient));
        let failed = |spot: &Spot<u32>| {
            let polled = spot.poll(&mut Context::from_waker(Waker::noop()));
            matches!(polled, Poll::Ready(Err(_)))
        };
        lines.fail_impatient(&Error::Internal, at(899));
        assert!(failed(&hasty) && !failed(&patient));
        assert_eq!(lines.waiting(), 1);
        lines.fail_impatient(&Error::Internal, at(900));
        assert!(failed(&patient) && !lines.has_waiting());
    }

    #[test]
    fn a_server_crosses_over_to_a_worker_whose_oldest_waits_over_a_millisecond_longer() {
        let (mut lines, own, other) = (Lines::new(2), spot(10), spot(9));
        lines.join(0, Arc::clone(&own));
        lines.join(1, Arc::clone(&other));
        assert!(lines.give(0, Box::new(1)).is_none());
        assert_eq!(got(&own), Some(1), "one millisecond is not enough");
        lines.join(0, spot(20));
        assert!(lines.give(0, Box::new(2)).is_none());
        assert_eq!(got(&other), Some(2));
    }
}
