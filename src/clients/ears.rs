//! A client that listens: its channels, its mailbox, and when it is told.
//!
//! LISTEN is answered only when the pool's listener has confirmed the channel: until then what the server answers is kept back.
//! Notifications are told between transactions and at no other time.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clients::buffers::MARK;
use crate::clients::session::{Session, Station};
use crate::error::Error;
use crate::pools::mailbox::Mailbox;

/// What a client that listens has beside its session.
#[derive(Debug)]
pub(super) struct Ears {
    mailbox: Arc<Mailbox>,
    channels: BTreeSet<Box<str>>,
    /// A LISTEN is not confirmed yet: nothing is said to the client until it is.
    waits: bool,
}

impl Session {
    /// The client has asked for channels, in what was just sent to its server.
    pub(super) fn prick_ears(&mut self) {
        let asked = std::mem::take(&mut self.side.keeps.asked);
        let card = &self.card;
        let ears = self.ears.get_or_insert_with(|| {
            Box::new(Ears {
                mailbox: Mailbox::new(Arc::clone(card)),
                channels: BTreeSet::new(),
                waits: false,
            })
        });
        let listeners = &self.pool.group.listeners;
        for channel in asked {
            listeners.listen(&self.pool, &channel, &ears.mailbox);
            ears.channels.insert(channel);
        }
        ears.waits = !listeners.are_confirmed(&ears.mailbox);
    }

    /// Whether what the server says is kept back for now.
    #[inline]
    pub(super) fn is_kept_back(&self) -> bool {
        self.ears.as_ref().is_some_and(|ears| ears.waits)
    }

    /// Looks whether a LISTEN is confirmed, and tells the client what has come for it, where it is the time for that. True when more waits
    /// to be told as soon as this has been sent.
    #[inline]
    pub(super) fn tend_ears(&mut self) -> Result<bool, Error> {
        match self.ears {
            None => Ok(false),
            Some(_) => self.tend_open_ears(),
        }
    }

    fn tend_open_ears(&mut self) -> Result<bool, Error> {
        let Some(ears) = &mut self.ears else {
            return Ok(false);
        };
        if ears.waits {
            ears.waits = !self.pool.group.listeners.are_confirmed(&ears.mailbox);
        }
        if ears.waits
            && let Some(failure) = ears.mailbox.failure()
        {
            return Err(failure);
        }
        if !ears.mailbox.has_mail() {
            return Ok(false);
        }
        if let Some(end) = ears.mailbox.ended() {
            return Err(end);
        }
        let is_between = match &mut self.station {
            Station::Idle => true,
            Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => false,
            Station::Linked(lease) => {
                self.query.is_none()
                    && lease.server().side.status == b'I'
                    && lease.server().side.is_quiet()
            }
        };
        if is_between && !ears.waits {
            let channels = self.side.keeps.channels.as_deref();
            let committed = channels.map(|channels| Arc::clone(channels.committed()));
            let wants = |channel: &str| committed.as_ref().is_some_and(|set| set.contains(channel));
            ears.mailbox.empty_into(&mut self.out, MARK, wants);
        }
        Ok(is_between && !ears.waits && ears.mailbox.has_mail())
    }

    /// A transaction may be over: gives up channels that the client does not listen on after all.
    pub(super) fn rest_ears(&mut self) {
        let (Some(ears), Some(channels)) = (&mut self.ears, &self.side.keeps.channels) else {
            return;
        };
        let is_between = match &mut self.station {
            Station::Idle => true,
            Station::Waiting(_) | Station::Holding(_) | Station::Bereft(_) => false,
            Station::Linked(lease) => {
                let side = &lease.server().side;
                side.status == b'I' && !side.batch_open && !side.pipeline.follows_channels()
            }
        };
        if channels.is_open() || !is_between {
            return;
        }
        let given_up: Vec<_> = ears
            .channels
            .difference(channels.committed())
            .cloned()
            .collect();
        for channel in given_up {
            self.pool.group.listeners.unlisten(&channel, &ears.mailbox);
            ears.mailbox.forget(&channel);
            ears.channels.remove(&channel);
        }
    }

    /// The client leaves.
    pub(super) fn shut_ears(&mut self) {
        if let Some(ears) = self.ears.take() {
            for channel in &ears.channels {
                self.pool.group.listeners.unlisten(channel, &ears.mailbox);
            }
        }
    }
}
