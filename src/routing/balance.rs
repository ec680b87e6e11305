//! Which of several replicas: the better of two drawn by lot, by how long it takes to answer and how much it has to do.
//!
//! The lot falls by weight, and decides alone while both do about as well: weights are shares. The response time is a *peak* average: it
//! rises at once and sinks slowly, so that a node which begins to falter loses its share before it fails; one long query alone makes
//! nobody slow. A replica that came back gets its share little by little. One that keeps failing, or whose every answer is slow, is
//! left out for a growing time, but never more than a share of them all: better a bad replica than none.

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
const MEMORY: Duration = Duration::from_secs(1);
/// For how long what was measured says something of a node beside others.
const RECENT: Duration = Duration::from_secs(10);
/// How many times longer one answer can make the average.
const LEAP: u32 = 4;
/// What any answer may take without being a peak.
const SHORT: Duration = Duration::from_millis(1);
/// Whoever answers within this is as quick as anybody.
const QUICK: Duration = Duration::from_micros(500);
/// A node is better than another if it costs this many times less; closer ones are as good as each other.
const BETTER: f64 = 2.0;
/// How long a node that came back takes to get its whole share.
pub const SLOW_START: Duration = Duration::from_secs(30);

/// How a node did, as its pools saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests that wait for its answer.
    pub in_flight: u32,
    /// Its response time: an average that keeps peaks.
    pub response: Duration,
    /// How long its quickest answers of late took: it sinks at once and doubles at most.
    quickest: Duration,
    /// Since when it serves again; `None` if it always did.
    pub back_since: Option<Moment>,
    failures: u32,
    ejections: u32,
    out_until: Option<(Moment, Ejected)>,
    measured: Option<Moment>,
}

/// Why a node is left out from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ejected {
    /// It failed a few times in a row.
    Failing,
    /// All that it answers takes many times longer than elsewhere.
    Slow,
}

impl Ejected {
    /// The words for it in the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Failing => "it fails",
            Self::Slow => "it is many times slower than the others",
        }
    }
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
        self.quickest = took.min((self.quickest * 2).max(SHORT));
        let age = self.measured.map_or(Duration::MAX, |last| now.since(last));
        self.measured = Some(now);
        let kept = kept(age);
        let sunk = self.response.mul_f64(kept) + took.mul_f64(1.0 - kept);
        self.response = if took > self.response {
            took.min((self.response * LEAP).max(SHORT))
        } else {
            sunk
        };
    }

    /// What its response time is taken for: one that nobody has measured for a while may have become better.
    fn expected(&self, now: Moment) -> Duration {
        let age = self.measured.map_or(Duration::ZERO, |last| now.since(last));
        self.response.mul_f64(kept(age))
    }

    /// A request failed for a reason of the node's own. One that is left out already was asked before that was known.
    pub fn failed(&mut self, now: Moment) -> Option<Ejected> {
        if self.out_until(now).is_some() {
            return None;
        }
        self.failures += 1;
        if self.failures < FAILURES {
            return None;
        }
        self.eject(Ejected::Failing, now);
        Some(Ejected::Failing)
    }

    /// Leaves it out, longer each time.
    pub fn eject(&mut self, why: Ejected, now: Moment) {
        let span = FIRST_EJECTION * 2u32.saturating_pow(self.ejections.min(8));
        let until = now.after(span.min(LONGEST_EJECTION));
        self.out_until = Some((until, why));
        self.back_since = Some(until);
        self.ejections += 1;
        self.failures = 0;
        self.quickest = Duration::ZERO;
    }

    /// It did well for long enough: the next ejection is a short one again.
    pub fn forgive(&mut self) {
        self.ejections = 0;
    }

    /// Until when it is left out.
    pub fn out_until(&self, now: Moment) -> Option<Moment> {
        self.out(now).map(|(until, _)| until)
    }

    /// Until when it is left out, and why.
    pub fn out(&self, now: Moment) -> Option<(Moment, Ejected)> {
        self.out_until.filter(|(until, _)| *until > now)
    }

    /// Whether it may be slow at all, whatever others do: a look that costs nothing.
    pub fn is_slowish(&self) -> bool {
        self.quickest > NOT_SLOW
    }

    /// Whether even its quickest answers of late take many times longer than those of the typical one of `all`, which it is among.
    /// What nobody has measured for a while does not count.
    pub fn is_slow_among<'a>(&self, all: impl Iterator<Item = &'a Self>, now: Moment) -> bool {
        let is_recent = |one: &&Self| one.measured.is_some_and(|last| now.since(last) <= RECENT);
        let mut times: Vec<Duration> = all.filter(is_recent).map(|one| one.quickest).collect();
        times.sort_unstable();
        let typical = times.get(times.len().saturating_sub(1) / 2);
        typical.is_some_and(|typical| self.quickest > (*typical * SLOW).max(NOT_SLOW))
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
    /// All its seats are taken.
    pub is_full: bool,
    /// How it does.
    pub load: Load,
}

impl Candidate {
    /// What it costs to send one more request there; less is better.
    fn cost(&self, now: Moment) -> f64 {
        let waiting = 1.0 + f64::from(self.load.in_flight) / f64::from(self.weight.max(1));
        let response = self.load.expected(now).max(QUICK);
        response.as_secs_f64() * waiting
    }

    /// Whether it stands in this draw: one that came back does so more and more often.
    fn draw_lot(&self, dice: &mut Dice, now: Moment) -> bool {
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

/// Those of `all`, the replicas with how they do, that are to be left out: at most the share `most` (0 to 1) of them, the worst first.
pub fn left_out(all: impl Iterator<Item = (NodeId, Load)>, most: f64, now: Moment) -> Vec<NodeId> {
    let mut out: Vec<(Moment, NodeId)> = Vec::new();
    let mut count = 0u32;
    for (node, load) in all {
        count += 1;
        out.extend(load.out_until(now).map(|until| (until, node)));
    }
    out.sort_unstable();
    out.reverse();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a handful of nodes"
    )]
    let allowed = (f64::from(count) * most.clamp(0.0, 1.0)).floor() as usize;
    out.truncate(allowed);
    out.into_iter().map(|one| one.1).collect()
}

/// Draws one of `pool` by weight.
fn draw<'a>(
    pool: impl Iterator<Item = &'a Candidate> + Clone,
    dice: &mut Dice,
) -> Option<&'a Candidate> {
    let weight = |one: &Candidate| one.weight.max(1) as usize;
    let mut lot = dice.below(pool.clone().map(weight).sum());
    let mut pool = pool;
    pool.find(|one| {
        let is_hit = lot < weight(one);
        lot = lot.saturating_sub(weight(one));
        is_hit
    })
}

/// Chooses one of `candidates`: near ones first while one of them has room.
pub fn choose(candidates: &[Candidate], dice: &mut Dice, now: Moment) -> Option<NodeId> {
    let near = |one: &&Candidate| one.is_near && !one.is_full;
    let has_near = candidates.iter().any(|one| near(&one));
    let pool = candidates.iter().filter(|one| !has_near || near(one));
    let mut cold = 0u64;
    for (at, one) in pool.clone().enumerate().take(64) {
        cold |= u64::from(!one.draw_lot(dice, now)) << at;
    }
    if cold.count_ones() as usize == pool.clone().count() {
        cold = 0;
    }
    let pool = pool
        .enumerate()
        .filter(|(at, _)| *at >= 64 || cold >> at & 1 == 0)
        .map(|(_, one)| one);
    let first = draw(pool.clone(), dice)?;
    let others = pool.filter(|one| one.node != first.node);
    let better = draw(others, dice).filter(|other| other.cost(now) * BETTER <= first.cost(now));
    Some(better.unwrap_or(first).node)
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
            is_full: false,
            load: Load {
                in_flight,
                response: Duration::from_millis(response_ms),
                ..Load::default()
            },
        }
    }

    fn weighing(weight: u32, node: Candidate) -> Candidate {
        Candidate { weight, ..node }
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

    /// Requests come one each millisecond, and each node answers after as many as given; how many each has got of 4000.
    fn busy(nodes: &mut [Candidate], lasts: &[u64]) -> Vec<usize> {
        let mut dice = Dice::new(11);
        let mut got = vec![0; nodes.len()];
        let mut under_way: Vec<(u64, usize)> = Vec::new();
        for tick in 0..4000 {
            let now = Moment::from_micros(tick * 1000);
            under_way.retain(|(until, index)| {
                if *until == tick {
                    nodes[*index].load.in_flight -= 1;
                    let took = Duration::from_millis(lasts[*index]);
                    nodes[*index].load.answered(took, now);
                }
                *until > tick
            });
            let chosen = choose(nodes, &mut dice, now).unwrap();
            let index = nodes.iter().position(|one| one.node == chosen).unwrap();
            nodes[index].load.in_flight += 1;
            got[index] += 1;
            under_way.push((tick + lasts[index], index));
        }
        got
    }

    #[test]
    fn weights_are_shares_with_little_to_do_and_with_much() {
        let idle = shares(&[weighing(3, node(0, 1, 0)), node(1, 1, 0)], at(0));
        assert!((700..800).contains(&idle[0]), "{idle:?}");
        let mut nodes = [weighing(3, node(0, 1, 0)), node(1, 1, 0)];
        let busy = busy(&mut nodes, &[40, 40]);
        assert!((2800..3200).contains(&busy[0]), "{busy:?}");
        let thirds = shares(&[node(0, 1, 0), node(1, 1, 0), node(2, 1, 0)], at(0));
        assert!(
            thirds[..3].iter().all(|share| (280..390).contains(share)),
            "{thirds:?}"
        );
    }

    #[test]
    fn a_node_that_takes_longer_gets_less_whatever_its_weight() {
        let mut nodes = [weighing(3, node(0, 1, 0)), node(1, 1, 0)];
        let got = busy(&mut nodes, &[200, 20]);
        assert!(got[1] > 2 * got[0], "{got:?}");
    }

    #[test]
    fn however_often_it_failed_it_is_tried_again_after_half_a_minute() {
        let mut load = Load::default();
        for _ in 0..20 {
            load.eject(Ejected::Slow, at(0));
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
        near.is_full = true;
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
    fn a_peak_is_felt_at_once_and_forgotten_slowly_and_one_alone_is_not_the_rule() {
        let mut load = Load::default();
        let millis = Duration::from_millis;
        load.answered(millis(1), at(0));
        load.answered(millis(2000), at(1));
        assert_eq!(load.response, millis(4));
        for _ in 0..5 {
            load.answered(millis(2000), at(1));
        }
        assert_eq!(load.response, millis(2000));
        load.answered(millis(1), at(1).after(millis(100)));
        assert!(load.response > millis(1600));
        load.answered(millis(1), at(12));
        assert!(load.response < millis(2));
    }

    #[test]
    fn a_node_is_slow_when_not_even_its_quickest_answers_are_quick() {
        let millis = Duration::from_millis;
        let answering = |times: &[u64]| {
            let mut load = Load::default();
            for took in times.iter().cycle().take(60) {
                load.answered(millis(*took), at(1));
            }
            load
        };
        let is_slow = |one: &Load, other: &Load| one.is_slow_among([one, other].into_iter(), at(2));
        let (quick, slow) = (answering(&[1]), answering(&[300]));
        assert!(is_slow(&slow, &quick) && slow.is_slowish());
        assert!(!is_slow(&quick, &slow));
        assert!(
            !is_slow(&slow, &slow),
            "all are: then it is what they are asked"
        );
        let mixed = answering(&[1, 2000, 2000]);
        assert!(
            !is_slow(&mixed, &quick),
            "some of what it is asked takes long"
        );
        assert!(!is_slow(&answering(&[15]), &quick), "nobody minds");
        let long_ago = slow.is_slow_among([&slow, &quick].into_iter(), at(60));
        assert!(!long_ago, "who knows what it would be today");
        let mut again = slow;
        again.eject(Ejected::Slow, at(1));
        again.answered(millis(300), at(7));
        assert!(!is_slow(&again, &quick), "it gets another chance");
    }

    #[test]
    fn failures_put_a_node_out_for_a_growing_time_but_never_too_many() {
        let mut load = Load::default();
        assert_eq!(load.failed(at(0)), None);
        assert_eq!(load.failed(at(0)), None);
        assert_eq!(load.failed(at(0)), Some(Ejected::Failing));
        assert_eq!(load.out_until(at(0)), Some(at(5)));
        load.eject(Ejected::Slow, at(10));
        for _ in 0..FAILURES {
            assert_eq!(load.failed(at(11)), None);
        }
        assert_eq!(load.out_until(at(12)), Some(at(20)), "known already");
        let mut worse = load;
        worse.eject(Ejected::Slow, at(11));
        let all = [
            (NodeId(0), load),
            (NodeId(1), worse),
            (NodeId(2), Load::default()),
        ];
        let out = |most| left_out(all.into_iter(), most, at(12));
        assert_eq!(out(0.5), [NodeId(1)], "the worst first");
        assert_eq!(out(1.0).len(), 2);
        assert!(out(0.3).is_empty());
    }
}
