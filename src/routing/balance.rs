//! Which of several replicas: the better of two drawn by lot, by how long it takes to answer and how much it has to do.
//!
//! The response time is a *peak* average: it jumps up at once and sinks slowly, so that a node which begins to falter loses its
//! share before it fails. A replica that came back gets its share little by little. One that keeps failing is left out for a
//! growing time, but never more than a share of them all: better a bad replica than none.

use std::time::Duration;

use crate::clock::Moment;
use crate::routing::dice::Dice;
use crate::topology::node::NodeId;

/// After so many failures in a row a node is left out.
const FAILURES: u32 = 3;
/// For how long the first time; doubled each time.
const FIRST_EJECTION: Duration = Duration::from_secs(5);
/// For how long at most: what fails there is asked of the primary, so to try again costs little, and a replica that is well serves soon.
const LONGEST_EJECTION: Duration = Duration::from_secs(30);
/// A node this many times slower than the typical one is left out, too.
const SLOW: u32 = 10;
/// Nobody is slow below this.
const NOT_SLOW: Duration = Duration::from_millis(20);
/// How fast the average forgets a peak.
const MEMORY: Duration = Duration::from_secs(10);
/// How long a node that came back takes to get its whole share.
pub const SLOW_START: Duration = Duration::from_secs(30);

/// How a node did, as its pools saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests that wait for its answer.
    pub in_flight: u32,
    /// Its response time: an average that keeps peaks.
    pub response: Duration,
    /// All its seats are taken.
    pub is_full: bool,
    /// Since when it serves again; `None` if it always did.
    pub back_since: Option<Moment>,
    failures: u32,
    ejections: u32,
    out_until: Option<Moment>,
    measured: Option<Moment>,
}

impl Load {
    /// A request was answered after `took`.
    pub fn answered(&mut self, took: Duration, now: Moment) {
        self.failures = 0;
        let is_warm = |since: Moment| now.since(since) >= SLOW_START;
        if self.back_since.is_some_and(is_warm) {
            self.back_since = None;
            self.forgive();
        }
        let last = self.measured.replace(now);
        let Some(last) = last.filter(|_| took < self.response) else {
            self.response = took;
            return;
        };
        let kept = kept(now.since(last));
        self.response = self.response.mul_f64(kept) + took.mul_f64(1.0 - kept);
    }

    /// What its response time is taken for: one that nobody has measured for a while may have become better.
    fn expected(&self, now: Moment) -> Duration {
        let age = self.measured.map_or(Duration::ZERO, |last| now.since(last));
        self.response.mul_f64(kept(age))
    }

    /// A request failed for a reason of the node's own. One that is left out already was asked before that was known.
    pub fn failed(&mut self, now: Moment) {
        if self.out_until(now).is_some() {
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES {
            self.eject(now);
        }
    }

    /// Leaves it out, longer each time.
    pub fn eject(&mut self, now: Moment) {
        let span = FIRST_EJECTION * 2u32.saturating_pow(self.ejections.min(8));
        let until = now.after(span.min(LONGEST_EJECTION));
        self.out_until = Some(until);
        self.back_since = Some(until);
        self.ejections += 1;
        self.failures = 0;
    }

    /// It did well for long enough: the next ejection is a short one again.
    pub fn forgive(&mut self) {
        self.ejections = 0;
    }

    /// Until when it is left out.
    pub fn out_until(&self, now: Moment) -> Option<Moment> {
        self.out_until.filter(|until| *until > now)
    }
}

/// How much of the average is still there after `age`.
fn kept(age: Duration) -> f64 {
    (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// A node that may serve a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// Its share relative to others.
    pub weight: u32,
    /// It stands in the pooler's zone.
    pub is_near: bool,
    /// How it does.
    pub load: Load,
}

impl Candidate {
    /// What it costs to send one more request there; less is better.
    fn cost(&self, now: Moment) -> f64 {
        let waiting = f64::from(self.load.in_flight) + 1.0;
        let response = self
            .load
            .expected(now)
            .max(Duration::from_micros(1))
            .as_secs_f64();
        response * waiting / f64::from(self.weight.max(1))
    }

    /// Whether it stands in this draw: one that came back does so more and more often.
    fn is_drawn(&self, dice: &mut Dice, now: Moment) -> bool {
        let warmth = self.warmth(now);
        if warmth >= 1.0 {
            return true;
        }
        #[expect(clippy::cast_precision_loss, reason = "a lot of a thousand")]
        let lot = dice.below(1000) as f64 / 1000.0;
        lot < warmth
    }

    /// From a tenth to 1, as the time since it came back passes.
    fn warmth(&self, now: Moment) -> f64 {
        let Some(since) = self.load.back_since else {
            return 1.0;
        };
        (now.since(since).as_secs_f64() / SLOW_START.as_secs_f64()).clamp(0.1, 1.0)
    }
}

/// Those of `candidates` that are to be left out because they fail or are slow: at most `most` (0 to 1) of them, the worst first.
pub fn ejected(candidates: &[Candidate], most: f64, now: Moment) -> Vec<NodeId> {
    let mut times: Vec<Duration> = candidates.iter().map(|one| one.load.response).collect();
    times.sort_unstable();
    let typical = times
        .get(times.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default();
    let bound = (typical * SLOW).max(NOT_SLOW);
    let mut out: Vec<(Option<Moment>, Duration, NodeId)> = candidates
        .iter()
        .filter_map(|one| {
            let until = one.load.out_until(now);
            let is_slow = candidates.len() > 1 && one.load.response > bound;
            (until.is_some() || is_slow).then_some((until, one.load.response, one.node))
        })
        .collect();
    out.sort_unstable();
    out.reverse();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a handful of nodes"
    )]
    let allowed = (candidates.len() as f64 * most.clamp(0.0, 1.0)).floor() as usize;
    out.truncate(allowed);
    out.into_iter().map(|one| one.2).collect()
}

/// Chooses one of `candidates`: near ones first while one of them has room.
pub fn choose(candidates: &[Candidate], dice: &mut Dice, now: Moment) -> Option<NodeId> {
    let near = |one: &&Candidate| one.is_near && !one.load.is_full;
    let has_near = candidates.iter().any(|one| near(&one));
    let pool = candidates.iter().filter(|one| !has_near || near(one));
    let mut cold = 0u64;
    for (at, one) in pool.clone().enumerate().take(64) {
        cold |= u64::from(!one.is_drawn(dice, now)) << at;
    }
    let all = pool.clone().count();
    if cold.count_ones() as usize == all {
        cold = 0;
    }
    let is_in = |at: usize| at >= 64 || cold >> at & 1 == 0;
    let mut pool = pool
        .enumerate()
        .filter(|(at, _)| is_in(*at))
        .map(|(_, one)| one);
    let count = pool.clone().count();
    if count <= 1 {
        return pool.next().map(|one| one.node);
    }
    let first = dice.below(count);
    let second = (first + 1 + dice.below(count - 1)) % count;
    let one = pool.clone().nth(first)?;
    let other = pool.nth(second)?;
    let better = if other.cost(now) < one.cost(now) {
        other
    } else {
        one
    };
    Some(better.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn node(id: u16, response_ms: u64, in_flight: u32) -> Candidate {
        Candidate {
            node: NodeId(id),
            weight: 1,
            is_near: false,
            load: Load {
                in_flight,
                response: Duration::from_millis(response_ms),
                ..Load::default()
            },
        }
    }

    fn shares(candidates: &[Candidate], now: Moment) -> Vec<usize> {
        let mut dice = Dice::new(7);
        let mut shares = vec![0; 10];
        for _ in 0..1000 {
            let node = choose(candidates, &mut dice, now).unwrap();
            shares[usize::from(node.0)] += 1;
        }
        shares
    }

    #[test]
    fn however_often_it_failed_it_is_tried_again_after_half_a_minute() {
        let mut load = Load::default();
        for _ in 0..20 {
            load.eject(at(0));
        }
        assert_eq!(load.out_until(at(29)), Some(at(30)));
        assert_eq!(load.out_until(at(30)), None);
    }

    #[test]
    fn the_worst_of_three_is_never_the_better_of_two() {
        let shares = shares(&[node(0, 1, 0), node(1, 1, 1), node(2, 50, 4)], at(100));
        assert_eq!(shares[2], 0);
        assert!(shares[0] > shares[1] && shares[1] > 200);
    }

    #[test]
    fn near_nodes_serve_while_they_have_room() {
        let mut near = node(0, 5, 3);
        near.is_near = true;
        assert_eq!(shares(&[near, node(1, 1, 0)], at(0))[0], 1000);
        near.load.is_full = true;
        assert!(shares(&[near, node(1, 1, 0)], at(0))[1] > 900);
    }

    #[test]
    fn a_node_that_came_back_warms_up() {
        let mut back = node(0, 1, 0);
        back.load.back_since = Some(at(100));
        let share = shares(&[back, node(1, 2, 0)], at(101))[0];
        assert!((50..200).contains(&share), "{share}");
        let share = shares(&[back, node(1, 2, 0)], at(115))[0];
        assert!((400..600).contains(&share), "{share}");
        assert_eq!(shares(&[back, node(1, 2, 0)], at(200))[0], 1000);
    }

    #[test]
    fn a_peak_is_felt_at_once_and_forgotten_slowly() {
        let mut load = Load::default();
        load.answered(Duration::from_millis(1), at(0));
        load.answered(Duration::from_millis(100), at(1));
        assert_eq!(load.response, Duration::from_millis(100));
        load.answered(Duration::from_millis(1), at(2));
        assert!(load.response > Duration::from_millis(80));
        load.answered(Duration::from_millis(1), at(62));
        assert!(load.response < Duration::from_millis(2));
    }

    #[test]
    fn failures_put_a_node_out_for_a_growing_time_but_never_too_many() {
        let mut load = Load::default();
        for _ in 0..FAILURES {
            load.failed(at(0));
        }
        assert_eq!(load.out_until(at(0)), Some(at(5)));
        load.eject(at(10));
        for _ in 0..FAILURES {
            load.failed(at(11));
        }
        assert_eq!(load.out_until(at(12)), Some(at(20)), "known already");
        let out = |id| Candidate {
            load,
            ..node(id, 1, 0)
        };
        let all = [out(0), out(1), node(2, 1, 0)];
        assert_eq!(ejected(&all, 0.5, at(11)).len(), 1);
        assert_eq!(ejected(&all, 1.0, at(11)).len(), 2);
        assert!(ejected(&all, 0.3, at(11)).is_empty());
        assert_eq!(
            ejected(&[node(0, 1, 0), node(1, 1, 0), node(2, 300, 0)], 0.5, at(0)),
            [NodeId(2)]
        );
    }
}
