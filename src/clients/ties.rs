//! What ties a client to its server between transactions, as its session sees it.
//!
//! The decisions are the judge's (`protocol/carried`); here the questions are sent, and what was found stands on the card.

use std::task::Context;

use crate::clients::session::{Session, Standing};
use crate::error::Error;
use crate::protocol::pins::Pins;
use crate::stats::census::ClientCard;

impl Session {
    /// A transaction may have ended without the link being over: asks the server what was left on it, and notes what ties it.
    pub(super) fn look_around(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !self.is_trying
            && self.held.is_empty()
            && self.dialogue(|dialogue| dialogue.wants_look())
        {
            let mut questions = Vec::new();
            self.dialogue(|dialogue| dialogue.write_look(&mut questions));
            self.send_to_server(cx, &questions)?;
        }
        self.note_pins();
        Ok(())
    }

    /// Notes on the card what ties the client to its server.
    pub(super) fn note_pins(&mut self) {
        let pins = match self.standing {
            Standing::Linked(_) => self.side.keeps.pins,
            Standing::Idle | Standing::Waiting(_) | Standing::Holding(_) | Standing::Bereft(_) => {
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
