//! What a client that listens has not been told yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Error;
use crate::locked::Locked;
use crate::stats::census::ClientCard;

/// So many bytes may wait for one client; one that does not read is ended then.
pub const LARGEST: usize = 4 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;

/// Messages on their way to one client.
#[derive(Debug)]
pub struct Mailbox {
    card: Arc<ClientCard>,
    has_mail: AtomicBool,
    inside: Mutex<Inside>,
}

/// A frame, and the channel it is about.
type Mail = (Option<Box<str>>, Arc<[u8]>);

#[derive(Debug, Default)]
struct Inside {
    waiting: VecDeque<Mail>,
    bytes: usize,
    end: Option<Error>,
    failure: Option<Error>,
}

impl Mailbox {
    /// An empty one, of the client with `card`.
    pub fn new(card: Arc<ClientCard>) -> Arc<Self> {
        Arc::new(Self {
            card,
            has_mail: AtomicBool::new(false),
            inside: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.locked()
    }

    /// Puts a message in: a notification of `channel`, or something for everybody.
    pub fn put(&self, channel: Option<&str>, frame: &Arc<[u8]>) {
        let mut inside = self.lock();
        inside.bytes += frame.len() + OVERHEAD;
        if inside.bytes > LARGEST {
            inside.waiting.clear();
            inside.end = Some(Error::NotificationsUnread(LARGEST));
        } else {
            inside
                .waiting
                .push_back((channel.map(Into::into), Arc::clone(frame)));
        }
        let is_over = inside.end.is_some();
        drop(inside);
        if !self.has_mail.swap(true, SeqCst) || is_over {
            self.card.wake();
        }
    }

    /// There is no connection to listen on.
    pub fn fail(&self, error: &Error) {
        self.lock().failure = Some(error.clone());
        self.card.wake();
    }

    /// There is one again: the client looks again at what it waits for.
    pub fn recovered(&self) {
        self.lock().failure = None;
        self.card.wake();
    }

    /// Why a client that waits for its LISTEN to be confirmed waits in vain.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Whether there is something in it.
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(SeqCst)
    }

    /// Why the client must be ended.
    pub fn ended(&self) -> Option<Error> {
        self.lock().end.clone()
    }

    /// What came of `channel` is of no more use.
    pub fn forget(&self, channel: &str) {
        let mut inside = self.lock();
        inside
            .waiting
            .retain(|(of, _)| of.as_deref() != Some(channel));
        inside.bytes = inside
            .waiting
            .iter()
            .map(|(_, frame)| frame.len() + OVERHEAD)
            .sum();
    }

    /// Takes messages out, oldest first, and appends those that `wants` to `out`, until that holds `limit` bytes.
    pub fn empty_into(&self, out: &mut Vec<u8>, limit: usize, wants: impl Fn(&str) -> bool) {
        let mut inside = self.lock();
        while out.len() < limit {
            let Some((channel, frame)) = inside.waiting.pop_front() else {
                self.has_mail.store(inside.end.is_some(), SeqCst);
                return;
            };
            inside.bytes -= frame.len() + OVERHEAD;
            if channel.as_deref().is_none_or(&wants) {
                out.extend_from_slice(&frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, Mailbox};
    use crate::clock::Moment;
    use crate::error::Error;
    use crate::stats::census::{ClientCard, ClientFacts, ClientLimits};
    use std::sync::Arc;

    fn mailbox() -> Arc<Mailbox> {
        let (facts, limits) = (ClientFacts::default(), ClientLimits::default());
        Mailbox::new(Arc::new(ClientCard::new(
            1,
            facts,
            limits,
            Moment::from_micros(0),
        )))
    }

    #[test]
    fn messages_come_out_in_order_and_only_those_that_are_wanted() {
        let mailbox = mailbox();
        for (channel, text) in [
            (Some("a"), "1"),
            (Some("b"), "2"),
            (None, "3"),
            (Some("a"), "4"),
        ] {
            mailbox.put(channel, &text.as_bytes().into());
        }
        let mut out = Vec::new();
        mailbox.empty_into(&mut out, 2, |channel| channel == "a");
        assert_eq!(out, b"13");
        assert!(mailbox.has_mail());
        mailbox.empty_into(&mut out, 9, |channel| channel == "a");
        assert_eq!(out, b"134");
        assert!(!mailbox.has_mail());
    }

    #[test]
    fn a_client_that_does_not_read_is_ended_and_keeps_nothing() {
        let (mailbox, frame) = (mailbox(), vec![0; 8000].into());
        for _ in 0..LARGEST / 8000 {
            mailbox.put(Some("a"), &frame);
        }
        assert!(matches!(
            mailbox.ended(),
            Some(Error::NotificationsUnread(_))
        ));
        let mut out = Vec::new();
        mailbox.empty_into(&mut out, LARGEST, |_| true);
        assert!(out.len() < 16_000);
    }
}
