//! What ties a client to its server between transactions, as its session sees it.
//!
//! The decisions are the judge's (`protocol/carried`); here the questions are sent, and what was found stands on the card.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clients::session::{Session, Station};
use crate::error::Error;
use crate::pools::lease::Lease;
use crate::pools::pool::Pool;
use crate::protocol::dialogue::{Dialogue, Rules};
use crate::protocol::pins::Pins;
use crate::protocol::run::Run;
use crate::protocol::sides::ClientSide;
use crate::stats::census::ClientCard;

/// How long a look may take whose client has left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the rest of a look's answer. A lease that is dropped on the way closes its server.
async fn hear_out_look(mut lease: Lease, mut side: ClientSide, pool: &Arc<Pool>, rules: Rules) {
    let mut scratch = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = lease.server().stream.read_some(&mut scratch).await else {
            return;
        };
        let mut nobody = Vec::new();
        let mut dialogue = Dialogue {
            client: &mut side,
            server: &mut lease.server().side,
            rules,
            dictionary: &pool.group.dictionary,
            interner: &pool.registry.interner,
            tally: pool.tally(),
        };
        let mut run = Run::new(&scratch[..count], &mut nobody);
        if dialogue.from_server(&scratch[..count], &mut run).is_err() {
            return;
        }
        if dialogue.server.is_quiet() {
            dialogue.leave_behind();
            return lease.release();
        }
    }
}

impl Session {
    /// A transaction may have ended without the link being over: asks the server what was left on it, and notes what ties it. True
    /// when there was nothing to ask after all.
    pub(super) fn look_around(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut has_nothing_to_ask = false;
        if !self.is_trying && self.has_said_all() && self.dialogue(|dialogue| dialogue.wants_look())
        {
            let mut questions = Vec::new();
            self.dialogue(|dialogue| dialogue.write_look(&mut questions));
            self.send_to_server(cx, &questions)?;
            has_nothing_to_ask = questions.is_empty();
        }
        self.note_pins();
        Ok(has_nothing_to_ask)
    }

    /// Whether all the server does is to answer what the pooler asked about this client.
    pub(super) fn is_looked_at(&mut self) -> bool {
        let is_between = self.side.walk.is_between() && !self.is_trying;
        let server = self.server();
        is_between && server.out.is_empty() && server.side.is_looked_at()
    }

    /// The client leaves while the server is being asked what is left on it: somebody else waits for the answer, and gives the server
    /// back.
    pub(super) fn leave_looking(&mut self, lease: Lease) {
        let params = Arc::clone(&self.side.params);
        let side = std::mem::replace(&mut self.side, ClientSide::new(params));
        let (pool, rules) = (Arc::clone(&self.pool), self.rules);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let answered = hear_out_look(lease, side, &pool, rules);
                let _ = tokio::time::timeout(PATIENCE, answered).await;
            });
        }
    }

    /// Notes on the card what ties the client to its server.
    pub(super) fn note_pins(&mut self) {
        if self.ears.is_some() {
            self.rest_ears();
        }
        let pins = match self.station {
            Station::Linked(_) => self.side.keeps.pins,
            Station::Idle | Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => {
                Pins::NONE
            }
        };
        if self.card.pins() != pins.bits() {
            self.card.set_pins(pins.bits());
            self.pool.tally().pins.add(u64::from(!pins.is_empty()));
        }
    }

    /// What this client's wait for a server was in vain for, where others keep theirs.
    pub(super) fn pinned_by_others(&self) -> Option<String> {
        let facts = &self.card.facts;
        let is_of_pool = |card: &ClientCard| {
            card.pins() != 0
                && (&card.facts.database, &card.facts.user) == (&facts.database, &facts.user)
        };
        let (mut count, mut pins) = (0, Pins::NONE);
        for card in &self.pool.registry.census.clients {
            if is_of_pool(&card) {
                count += 1;
                pins |= Pins::from_bits(card.pins());
            }
        }
        (count > 0).then(|| format!("{count} clients keep a server each: {}", pins.listed()))
    }
}
