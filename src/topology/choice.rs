//! Who may become the writer: decided from SQL's answers alone, on the highest timeline ever seen.
//!
//! Neither a higher position nor a later start makes a node newer: an old primary that was started again has both. Only the timeline
//! that its writes go to tells. The keeper breaks ties and may ask for patience; it cannot make a writer.

use crate::topology::node::{Leader, NodeId};

/// What is remembered of a cluster, also over restarts of the pooler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// The system identifier; 0 before any is known.
    pub system: u64,
    /// The highest timeline ever seen to take writes.
    pub timeline: u32,
    /// The address of the writer that was confirmed on that timeline.
    pub writer: Option<String>,
    /// There was more to remember, and it is lost: nobody knows which timeline was the highest.
    pub is_lost: bool,
    /// The addresses of the nodes that did not go along when an operator said UNFENCE: on whatever timeline one of them takes writes, that
    /// is not the cluster's history before it was seen to follow that.
    pub given_up: Vec<String>,
}

/// A node that takes writes, by an answer recent enough to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// The timeline its writes go to.
    pub timeline: u32,
    /// Its system identifier.
    pub system: u64,
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// No node may take writes.
    Nobody,
    /// This one may, at once.
    Take(NodeId),
    /// This one may, once the reason to wait is gone.
    Wait(NodeId, Patience),
    /// These two have equal right.
    Conflict(NodeId, NodeId),
}

/// Why a node that could be the writer has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not every node has been heard yet.
    FirstRound,
    /// The keeper names another.
    Keeper,
    /// What was remembered is lost, and not every node is there to say that none is on a higher timeline.
    Memory,
    /// Nobody knows yet which system is the cluster's, and the nodes are of several.
    System,
}

/// What a choice depends on, beside the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The system identifier; 0 before any is known.
    pub system: u64,
    /// The highest timeline ever seen.
    pub timeline: u32,
    /// The writer that was confirmed on it, if it is still among the nodes.
    pub last: Option<NodeId>,
    /// What the keeper says, if that is fresh.
    pub leader: Option<Leader>,
    /// Every node has been heard once, or had its time.
    pub is_round_done: bool,
    /// What was remembered is lost, and a node that may know of a higher timeline has not been heard.
    pub is_memory_missed: bool,
    /// No system is known, and the nodes that answer are of several: some are not of this cluster, maybe the candidate.
    pub is_divided: bool,
}

/// Chooses the writer.
pub fn choose(candidates: &[Candidate], now: Circumstances) -> Choice {
    let named = match now.leader {
        Some(Leader::Node(node)) => Some(node),
        Some(Leader::Nobody | Leader::Stranger) | None => None,
    };
    let ours = match own_system(candidates, now.system, named) {
        Ok(system) => candidates
            .iter()
            .filter(move |one| one.system == system && one.timeline >= now.timeline),
        Err(conflict) => return conflict,
    };
    let Some(highest) = ours.clone().map(|one| one.timeline).max() else {
        return Choice::Nobody;
    };
    let last = now.last.filter(|_| now.timeline == highest);
    let tops = ours.filter(|one| one.timeline == highest);
    let taken = match (tops.clone().next(), tops.clone().nth(1)) {
        (None, _) => return Choice::Nobody,
        (Some(one), None) => one.node,
        (Some(one), Some(other)) => {
            let is_top = |node: &NodeId| tops.clone().any(|top| top.node == *node);
            match last.filter(is_top).or(named.filter(is_top)) {
                Some(preferred) => preferred,
                None => return Choice::Conflict(one.node, other.node),
            }
        }
    };
    if last.is_some_and(|last| last != taken) && named != Some(taken) {
        // It says the timeline of the last writer and is another node: its history is not ours.
        return Choice::Nobody;
    }
    if !now.is_round_done {
        return Choice::Wait(taken, Patience::FirstRound);
    }
    let is_contradicted = match now.leader {
        Some(Leader::Node(node)) => node != taken,
        Some(Leader::Stranger) => true,
        Some(Leader::Nobody) | None => false,
    };
    if is_contradicted {
        return Choice::Wait(taken, Patience::Keeper);
    }
    if now.is_memory_missed && named != Some(taken) {
        return Choice::Wait(taken, Patience::Memory);
    }
    if now.is_divided && named != Some(taken) {
        return Choice::Wait(taken, Patience::System);
    }
    Choice::Take(taken)
}

/// The system whose nodes may be chosen. Before one is known that is the one all candidates are of, or the one the keeper's leader
/// is of.
fn own_system(candidates: &[Candidate], known: u64, named: Option<NodeId>) -> Result<u64, Choice> {
    let Some(first) = candidates.first() else {
        return Ok(known);
    };
    if known != 0 {
        return Ok(known);
    }
    match candidates.iter().find(|one| one.system != first.system) {
        None => Ok(first.system),
        Some(other) => candidates
            .iter()
            .find(|one| Some(one.node) == named)
            .map(|one| one.system)
            .ok_or(Choice::Conflict(first.node, other.node)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Choice, Circumstances, Patience, choose};
    use crate::topology::node::{Leader, NodeId};

    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);
    const PLAIN: Circumstances = Circumstances {
        system: 7,
        timeline: 3,
        last: Some(A),
        leader: None,
        is_round_done: true,
        is_memory_missed: false,
        is_divided: false,
    };

    fn on(node: NodeId, timeline: u32) -> Candidate {
        Candidate {
            node,
            timeline,
            system: 7,
        }
    }

    #[test]
    fn the_highest_timeline_wins_and_an_older_one_never_does() {
        assert_eq!(choose(&[on(A, 3), on(B, 4)], PLAIN), Choice::Take(B));
        assert_eq!(choose(&[on(A, 3)], PLAIN), Choice::Take(A));
        assert_eq!(choose(&[on(B, 2)], PLAIN), Choice::Nobody);
    }

    #[test]
    fn equal_timelines_are_refused_unless_one_was_in_use_or_the_keeper_names_it() {
        assert_eq!(choose(&[on(A, 4), on(B, 4)], PLAIN), Choice::Conflict(A, B));
        assert_eq!(choose(&[on(A, 3), on(B, 3)], PLAIN), Choice::Take(A));
        let named = Circumstances {
            leader: Some(Leader::Node(B)),
            ..PLAIN
        };
        assert_eq!(choose(&[on(A, 4), on(B, 4)], named), Choice::Take(B));
    }

    #[test]
    fn another_node_on_the_last_writers_timeline_is_not_taken() {
        assert_eq!(choose(&[on(B, 3)], PLAIN), Choice::Nobody);
    }

    #[test]
    fn the_keeper_may_ask_for_patience_and_the_first_round_too() {
        let contradicted = Circumstances {
            leader: Some(Leader::Node(A)),
            ..PLAIN
        };
        let wait = Choice::Wait(B, Patience::Keeper);
        assert_eq!(choose(&[on(B, 4)], contradicted), wait);
        let early = Circumstances {
            is_round_done: false,
            ..PLAIN
        };
        let wait = Choice::Wait(A, Patience::FirstRound);
        assert_eq!(choose(&[on(A, 3)], early), wait);
    }

    #[test]
    fn without_its_memory_it_takes_only_whom_the_keeper_names_or_nobody_may_contradict() {
        let missed = Circumstances {
            system: 0,
            timeline: 0,
            last: None,
            is_memory_missed: true,
            ..PLAIN
        };
        let wait = Choice::Wait(A, Patience::Memory);
        assert_eq!(choose(&[on(A, 3)], missed), wait);
        let named = Circumstances {
            leader: Some(Leader::Node(A)),
            ..missed
        };
        assert_eq!(choose(&[on(A, 3)], named), Choice::Take(A));
    }

    #[test]
    fn nodes_of_another_system_are_never_taken() {
        let stranger = Candidate {
            node: B,
            timeline: 9,
            system: 8,
        };
        assert_eq!(choose(&[on(A, 3), stranger], PLAIN), Choice::Take(A));
        let unknown = Circumstances {
            system: 0,
            timeline: 0,
            last: None,
            ..PLAIN
        };
        assert_eq!(
            choose(&[on(A, 3), stranger], unknown),
            Choice::Conflict(A, B)
        );
        // The cluster's own primary is not there yet.
        let divided = Circumstances {
            is_divided: true,
            ..unknown
        };
        let wait = Choice::Wait(B, Patience::System);
        assert_eq!(choose(&[stranger], divided), wait);
        let named = Circumstances {
            leader: Some(Leader::Node(B)),
            ..divided
        };
        assert_eq!(choose(&[stranger], named), Choice::Take(B));
    }
}
