//! The channels a client listens on: what its texts do to them counts when they have succeeded.

use crate::protocol::channels::{Channels, Step, steps};
use crate::protocol::dialogue::Dialogue;
use crate::protocol::traces::Traces;

impl Dialogue<'_> {
    /// Notes what a text does to channels: `None` where nobody has to know.
    pub(in crate::protocol) fn note_steps(&mut self, traces: &Traces, text: &[u8]) -> Vec<Step> {
        let is_open = |channels: &Channels| channels.is_open();
        let is_followed =
            traces.listens || self.client.keeps.channels.as_deref().is_some_and(is_open);
        if !self.rules.keeps() || !is_followed {
            return Vec::new();
        }
        let steps = steps(text);
        for step in &steps {
            if let Step::Listen(channel) = step {
                self.client.keeps.asked.push(channel.clone());
                self.client.keeps.channels.get_or_insert_default();
                self.server.doubt.unlisten = true;
            }
        }
        steps
    }

    /// What the statement just bound does to channels is owed by the Execute that follows.
    pub(in crate::protocol) fn bind_steps(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.server.doubt.bound = steps;
        }
    }

    /// What the portal about to be executed does to channels.
    pub(in crate::protocol) fn take_bound(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.server.doubt.bound)
    }

    /// The next statement of the request at the front has succeeded.
    pub(in crate::protocol) fn step_succeeded(&mut self) {
        let Some(step) = self.server.pipeline.next_step() else {
            return;
        };
        let step = match step {
            // COMMIT of a transaction that has failed is answered by ROLLBACK.
            Step::Commit if self.server.status == b'E' => Step::Rollback,
            other => other,
        };
        if let Step::Deallocate(name) = &step {
            self.client.names.remove(name);
        }
        if let Some(channels) = &mut self.client.keeps.channels {
            channels.succeeded(&step);
        }
    }
}
