//! The nodes of a cluster: who they are, and what was heard of each.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::topology::choice::{Candidate, Memory};
use crate::topology::membership::{Out, Service};
use crate::topology::node::{Node, NodeId, Place, Role, Trouble};
use crate::topology::view::NodeView;

/// How a replica serves at its place.
fn weighed(service: Service, place: &Place) -> Service {
    if place.weight == 0 && service.is_on() {
        return Service::none(Out::Weightless);
    }
    service
}

/// Every node ever known. One that is listed no longer keeps its place, so that an id never means another.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    nodes: Vec<Node>,
}

impl Index<NodeId> for Roster {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0)]
    }
}

impl IndexMut<NodeId> for Roster {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(id.0)]
    }
}

fn id_of(index: usize) -> NodeId {
    NodeId(u16::try_from(index).expect("no more nodes are taken than ids have room for"))
}

impl Roster {
    /// Says which nodes there are now.
    pub fn list(&mut self, places: Vec<Place>) {
        for node in &mut self.nodes {
            node.is_listed = false;
        }
        for place in places {
            let has_room = self.nodes.len() < usize::from(u16::MAX);
            let address = place.address();
            let known = self
                .nodes
                .iter_mut()
                .find(|node| node.place.address() == address);
            match known {
                Some(known) => {
                    known.is_listed = true;
                    known.place = Arc::new(place);
                }
                None if has_room => self.nodes.push(Node::new(place)),
                None => {}
            }
        }
        for node in self.nodes.iter_mut().filter(|node| !node.is_listed) {
            node.forget_lag(Out::Unmeasured);
        }
    }

    /// The id of the node at `address`, if it is listed.
    pub fn id(&self, address: &str) -> Option<NodeId> {
        let found = self
            .nodes
            .iter()
            .position(|node| node.is_listed && node.place.address() == address);
        found.map(id_of)
    }

    /// The listed node `id`.
    pub fn listed(&self, id: NodeId) -> Option<&Node> {
        let node = self.nodes.get(usize::from(id.0));
        node.filter(|node| node.is_listed)
    }

    /// All nodes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// Whether every listed node has been heard once, or has failed.
    pub fn is_round_done(&self) -> bool {
        let mut listed = self.nodes.iter().filter(|node| node.is_listed);
        listed.all(|node| node.outcomes > 0)
    }

    /// The nodes that take writes, by answers no older than `limit`. A server that is known by two addresses counts once: as `last`, if
    /// that is one of them, or as the one that was listed first, which is waited for until it has been asked again.
    /// By one address it counts no more when it has failed by another since.
    pub fn candidates(&self, limit: Duration, now: Moment, last: Option<NodeId>) -> Vec<Candidate> {
        let all = self.nodes.iter().enumerate();
        let ids = all.map(|(index, _)| id_of(index));
        let in_order = last.into_iter().chain(ids.filter(|id| Some(*id) != last));
        let mut found: Vec<Candidate> = Vec::new();
        for id in in_order {
            let Some((sent, facts)) = self.listed(id).and_then(Node::writable) else {
                continue;
            };
            let is_known = found
                .iter()
                .any(|known| self.is_same_server(known.node, id));
            let is_awaited = Some(id) != last && self.is_twin_awaited(id);
            let is_good = now.since(sent) <= limit && !is_awaited && !self.has_failed(id, sent);
            if is_good && !is_known {
                found.push(Candidate {
                    node: id,
                    timeline: facts.timeline,
                    system: facts.system,
                });
            }
        }
        found
    }

    /// The address of a node that may know of a higher timeline than those who take writes: it has not answered within `limit`, or it
    /// follows such a timeline, or another system.
    pub fn doubter(&self, limit: Duration, now: Moment) -> Option<String> {
        let listed = || self.nodes.iter().filter(|node| node.is_listed);
        let mut writable = listed().filter_map(Node::writable);
        let (_, first) = writable.next()?;
        let highest = writable
            .map(|(_, facts)| facts.timeline)
            .fold(first.timeline, u32::max);
        let is_heard = |node: &&Node| {
            node.facts.as_ref().is_some_and(|(sent, facts)| {
                now.since(*sent) <= limit
                    && facts.timeline <= highest
                    && facts.system == first.system
            })
        };
        let doubter = listed().find(|node| !is_heard(node));
        doubter.map(|node| node.place.address())
    }

    /// The addresses of the nodes that do not go along with `writer`: all but itself and those that replay what it, or one before it, wrote.
    pub fn apart_from(&self, writer: NodeId) -> Vec<String> {
        let Some((_, own)) = self[writer].writable() else {
            return Vec::new();
        };
        let follows = |node: &Node| {
            node.facts.as_ref().is_some_and(|(_, facts)| {
                facts.in_recovery && facts.system == own.system && facts.timeline <= own.timeline
            })
        };
        let all = self.nodes.iter().enumerate();
        let apart = all.filter(|(index, node)| {
            let id = id_of(*index);
            id != writer && !self.is_same_server(id, writer) && !follows(node)
        });
        apart.map(|(_, node)| node.place.address()).collect()
    }

    /// Whether the server of the node `id` was given up when UNFENCE was said, and has not been seen to follow the cluster since.
    pub fn is_given_up(&self, id: NodeId, memory: &Memory) -> bool {
        let mut given_up = memory.given_up.iter().filter_map(|address| {
            let mut nodes = self.nodes.iter();
            nodes
                .position(|node| node.place.address() == *address)
                .map(id_of)
        });
        given_up.any(|other| other == id || self.is_same_server(other, id))
    }

    /// Whether two nodes are one server by two addresses: by the last answer of each it is of the same system, and was started at the same
    /// microsecond. One of them may fail meanwhile.
    pub fn is_same_server(&self, one: NodeId, other: NodeId) -> bool {
        let (Some(one), Some(other)) = (&self[one].server, &self[other].server) else {
            return false;
        };
        one == other && !one.1.is_empty()
    }

    /// Notes of the node `id`, which has just answered, and of each other that answers, whether they are one server.
    pub fn note_twins(&mut self, id: NodeId) {
        for index in 0..self.nodes.len() {
            let other = id_of(index);
            if other == id || self.listed(other).is_none_or(|node| node.facts.is_none()) {
                continue;
            }
            let is_same = self.is_same_server(id, other);
            let (first, second) = (id.min(other), id.max(other));
            let twin = &mut self[second].twin;
            if is_same && twin.is_none_or(|twin| twin > first) {
                *twin = Some(first);
            } else if !is_same && *twin == Some(first) {
                *twin = None;
            }
        }
    }

    /// Whether the twin of `id` has not been asked since `id` takes writes.
    fn is_twin_awaited(&self, id: NodeId) -> bool {
        let twin = self[id].twin.and_then(|twin| self.listed(twin));
        twin.is_some_and(|twin| twin.asked < self[id].writable_since)
    }

    /// Whether the server `id` has failed by another address since it was asked at `sent`: what it said may be its last word.
    fn has_failed(&self, id: NodeId, sent: Moment) -> bool {
        let others = self.nodes.iter().enumerate();
        let mut failed = others.filter(|(_, node)| node.is_listed && node.facts.is_none());
        failed.any(|(other, node)| node.asked > Some(sent) && self.is_same_server(id_of(other), id))
    }

    /// Whether the server of the node at `index` is the writer by another address, or one that `serves` reads by that of a node before it.
    fn is_twice(
        &self,
        index: usize,
        writer: Option<NodeId>,
        serves: impl Fn(&Node) -> bool,
    ) -> bool {
        let id = id_of(index);
        let is_it = |other: NodeId| other != id && self.is_same_server(other, id);
        let mut before = self.nodes[..index].iter().enumerate();
        writer.is_some_and(is_it)
            || before.any(|(other, node)| node.is_listed && serves(node) && is_it(id_of(other)))
    }

    /// Two nodes that answer and are of different systems.
    pub fn divided(&self) -> Option<[&Node; 2]> {
        let system = |node: &Node| node.facts.as_ref().map(|(_, facts)| facts.system);
        let listed = self.nodes.iter().filter(|node| node.is_listed);
        let mut heard = listed.filter(|node| node.facts.is_some());
        let first = heard.next()?;
        let other = heard.find(|node| system(node) != system(first))?;
        Some([first, other])
    }

    /// What `id` is, in a cluster with `memory` whose writer in office is `writer`.
    pub fn role(&self, id: NodeId, memory: &Memory, writer: Option<NodeId>) -> Role {
        let node = &self[id];
        let Some((_, facts)) = &node.facts else {
            return match &node.trouble {
                Some(Trouble::Denied(_)) if writer == Some(id) => Role::Primary,
                None | Some(Trouble::Denied(_) | Trouble::Moved(_)) => Role::Unknown,
                Some(Trouble::Starting(_)) => Role::Starting,
                Some(_) => Role::Down,
            };
        };
        if memory.system != 0 && facts.system != memory.system {
            return Role::Fenced;
        }
        if facts.in_recovery {
            return Role::Replica;
        }
        let is_writer = |writer| self.is_same_server(writer, id);
        if facts.timeline >= memory.timeline && writer.is_some_and(is_writer) {
            return Role::Primary;
        }
        let last = memory.writer.as_ref();
        let is_last = last.is_none_or(|last| *last == node.place.address());
        let is_beside = facts.timeline == memory.timeline && !is_last;
        let is_other = writer.is_some_and(|writer| writer != id);
        let is_older = facts.timeline < memory.timeline;
        if is_older || is_other || is_beside || self.is_given_up(id, memory) {
            Role::Fenced
        } else {
            Role::Primary
        }
    }

    /// What is seen of every node.
    pub fn view(&self, memory: &Memory, writer: Option<NodeId>) -> Vec<NodeView> {
        let all = self.nodes.iter().enumerate();
        all.map(|(index, node)| {
            let id = id_of(index);
            let facts = node.facts.as_ref().map(|(_, facts)| facts);
            let service = |under: &dyn Fn(&Node) -> Option<Service>| {
                let serves = |other: &Node| under(other).is_some_and(|service| service.is_on());
                if self.is_twice(index, writer, serves) {
                    return Service::none(Out::Twice);
                }
                weighed(under(node).unwrap_or_default(), &node.place)
            };
            let others = 0..node.membership.others().count();
            NodeView {
                id,
                place: Arc::clone(&node.place),
                is_listed: node.is_listed,
                role: self.role(id, memory, writer),
                timeline: facts.map_or(0, |facts| facts.timeline),
                lsn: facts.map(|facts| facts.lsn),
                lag: node.lag,
                own: service(&|node| Some(node.membership.own())),
                others: others
                    .map(|bound| service(&|node| node.membership.others().nth(bound)))
                    .collect(),
                heard: node.heard.map(|(at, _)| at),
                answers_since: node.answers_since,
                misses: node.timeouts,
                moves: node.moves,
                took: node.heard.map_or(Duration::ZERO, |(_, took)| took),
                trouble: node.trouble.as_ref().map(|trouble| trouble.text().into()),
            }
        })
        .collect()
    }
}
