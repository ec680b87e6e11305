//! What an answer to a probe says, or that there was none: of the node, of the writer, of how far replicas are.

use super::Cluster;
use crate::clock::Moment;
use crate::topology::lag::Lag;
use crate::topology::membership::Out;
use crate::topology::node::{Facts, Lsn, NodeId, Trouble};
use crate::topology::view::Sample;

impl Cluster {
    pub(super) fn is_news(&self, id: NodeId, sent: Moment) -> bool {
        let node = self.roster.listed(id);
        node.is_some_and(|node| node.asked.is_none_or(|asked| sent > asked))
    }

    pub(super) fn answered(&mut self, id: NodeId, sent: Moment, at: Moment, mut facts: Facts) {
        let node = &mut self.roster[id];
        if facts.in_recovery {
            facts.timeline = node.timeline_of(&facts);
        }
        node.asked = Some(sent);
        node.heard = Some((at, at.since(sent)));
        node.trouble = None;
        node.timeouts = 0;
        node.outcomes += 1;
        node.goes_on(&facts, at);
        node.facts = Some((sent, facts.clone()));
        let server = Some((facts.system, facts.started.clone()));
        if facts.in_recovery || node.server != server {
            node.writable_since = None;
        }
        if !facts.in_recovery {
            node.writable_since.get_or_insert(sent);
        }
        node.server = server;
        self.roster.note_twins(id);
        if facts.in_recovery {
            if self.writer == Some(id) {
                self.lose("it has become a replica", at);
            }
            self.take_back(id, &facts);
            self.measure(id, &facts, at);
            return;
        }
        let is_ours = self.memory.system == facts.system;
        let is_given_up = self.roster.is_given_up(id, &self.memory);
        self.roster[id].forget_lag(if !is_ours && self.memory.system != 0 {
            Out::OtherSystem
        } else if is_given_up {
            Out::GivenUp
        } else {
            Out::Unmeasured
        });
        if is_ours && !is_given_up && facts.timeline > self.memory.timeline {
            // Seen is seen: nothing on an older timeline takes writes any more.
            self.memory.timeline = facts.timeline;
            self.memory.writer = None;
        }
        let (Some(reign), true) = (self.reigning, self.writer == Some(id)) else {
            return;
        };
        if !is_ours {
            self.lose("its system identifier has changed", at);
        } else if facts.timeline < reign.timeline {
            self.lose("it has gone back to an older timeline", at);
        } else if facts.timeline == reign.timeline {
            let lsn = facts.lsn.before_page_header(facts.segment);
            self.ring.add(Sample { sent, lsn });
            self.compare(facts.lsn, sent, at);
            self.vouch(sent);
        }
    }

    /// A node that was given up when UNFENCE was said is one of the cluster's again once it follows that.
    fn take_back(&mut self, id: NodeId, facts: &Facts) {
        let memory = &mut self.memory;
        let is_ours = facts.system == memory.system && facts.timeline <= memory.timeline;
        if is_ours && facts.is_receiving && !memory.given_up.is_empty() {
            let back = self.roster[id].place.address();
            memory.given_up.retain(|address| *address != back);
        }
    }

    /// The writer was found to be as it was by a probe sent at `sent`, which clears it of what was suspected before.
    fn vouch(&mut self, sent: Moment) {
        self.vouched = Some(sent);
        let suspicion = self.suspicion.as_ref();
        if suspicion.is_some_and(|(since, _)| sent >= *since) {
            self.suspicion = None;
        }
    }

    /// Finds the replicas of another history: what one had replayed before the writer was asked, the writer must have written.
    fn compare(&mut self, written: Lsn, sent: Moment, now: Moment) {
        for node in self.roster.iter_mut() {
            let (Some((_, facts)), Some((heard, _))) = (&node.facts, node.heard) else {
                continue;
            };
            if !facts.in_recovery || heard > sent {
                continue;
            }
            node.is_ahead = facts.lsn > written;
            if node.is_ahead {
                node.lag = Lag::Unknown;
                node.membership.cut_off(Out::Ahead, now);
            }
        }
    }

    /// Measures the lag of a replica, where there is a measure.
    fn measure(&mut self, id: NodeId, facts: &Facts, at: Moment) {
        let node = &mut self.roster[id];
        if self.memory.system != facts.system {
            node.forget_lag(Out::OtherSystem);
            return;
        }
        let (Some(_), Some(reign)) = (self.writer, self.reigning) else {
            node.has_ceased |= !facts.is_receiving;
            let lost = self.reigning.map(|reign| reign.timeline);
            if node.may_follow_another(facts, lost) {
                // The positions of the next writer say nothing of what the last one wrote.
                node.forget_lag(Out::OtherTimeline);
            } else {
                node.membership.answer_without_measure();
            }
            return;
        };
        if facts.timeline != reign.timeline {
            node.forget_lag(Out::OtherTimeline);
            return;
        }
        if !facts.is_receiving || node.is_ahead {
            let why = if node.is_ahead {
                Out::Ahead
            } else {
                Out::CutOff
            };
            node.lag = Lag::Unknown;
            node.membership.cut_off(why, at);
            return;
        }
        let newest = self.ring.newest().map(|sample| sample.sent);
        if newest.is_none_or(|sent| at.since(sent) > self.rules.shelf_life()) {
            let (lag, heard) = (node.lag, newest.unwrap_or_default());
            node.membership
                .miss_the_writer(heard, lag, self.rules.lag, at);
            node.lag = Lag::Unknown;
            return;
        }
        node.lag = self.ring.lag(facts.lsn, at);
        node.membership.judge(node.lag, self.rules.lag, at);
    }

    pub(super) fn failed(&mut self, id: NodeId, sent: Moment, at: Moment, trouble: Trouble) {
        let node = &mut self.roster[id];
        node.asked = Some(sent);
        (node.facts, node.answers_since) = (None, None);
        node.writable_since = None;
        node.outcomes += 1;
        node.timeouts = match trouble {
            Trouble::Timeout | Trouble::Absurd(_) => node.timeouts + 1,
            Trouble::Denied(_) | Trouble::Moved(_) => 0,
            Trouble::Refused(_) | Trouble::Lost(_) | Trouble::Starting(_) => node.timeouts,
        };
        node.forget_lag(Out::Unmeasured);
        if matches!(trouble, Trouble::Moved(_)) {
            node.moved();
            // Should it take writes again that is another's reign, be it on the same timeline.
            self.reigning = self.reigning.filter(|reign| reign.node != id);
        }
        let (timeouts, text) = (node.timeouts, trouble.text().to_owned());
        node.trouble = Some(trouble.clone());
        if self.writer != Some(id) {
            return;
        }
        if trouble == Trouble::Timeout {
            // The silence began when it was asked.
            self.story.foresee(sent);
        }
        match trouble {
            Trouble::Refused(_) | Trouble::Starting(_) | Trouble::Moved(_) => self.lose(&text, at),
            Trouble::Timeout | Trouble::Absurd(_) if timeouts >= 2 => self.lose(&text, at),
            // To become anything else it would have to stop, and that is noticed: by servers that are lost, by probes that are refused,
            // by another on a higher timeline. Who has not looked for a while cannot know.
            Trouble::Denied(_) if self.is_vouched_at(sent) => self.vouch(sent),
            Trouble::Timeout | Trouble::Absurd(_) | Trouble::Denied(_) | Trouble::Lost(_) => {
                self.suspicion = Some((at, text));
            }
        }
    }
}
