//! What clients are welcomed with, made once for all that ask for the same session parameters.
//!
//! A login would else copy, sort and write out every parameter of its servers; most clients of a database ask for the same ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;

use crate::locked::Locked;
use crate::protocol::message;
use crate::protocol::parameters::{Interner, Parameters, is_carried};
use crate::servers::server::Reported;

/// How many are kept.
const KEPT: usize = 4;

/// What clients with the same wishes are welcomed with.
#[derive(Debug)]
pub struct Greeting {
    reported: Reported,
    given: Vec<(String, String)>,
    /// The session parameters that they begin with.
    pub params: Arc<Parameters>,
    /// The ParameterStatus messages that tell them.
    pub told: Vec<u8>,
}

impl Greeting {
    fn new(reported: &Reported, given: Vec<(String, String)>, interner: &Interner) -> Self {
        let carried = reported.iter().filter(|(name, _)| is_carried(name));
        let params = interner.make(carried.chain(&given).cloned());
        let mut told = BytesMut::new();
        for (name, value) in &**reported {
            let value = params.get(name).unwrap_or(value);
            message::parameter_status(&mut told, name.as_bytes(), value.as_bytes());
        }
        Self {
            reported: Arc::clone(reported),
            given,
            params,
            told: told.to_vec(),
        }
    }
}

/// The greetings of late, the last one first.
#[derive(Debug, Default)]
pub struct Greetings(Mutex<VecDeque<Arc<Greeting>>>);

impl Greetings {
    /// The greeting of who asks for `given`, where a server has `reported`.
    pub fn of(
        &self,
        reported: &Reported,
        given: Vec<(String, String)>,
        interner: &Interner,
    ) -> Arc<Greeting> {
        let is_it =
            |one: &&Arc<Greeting>| Arc::ptr_eq(&one.reported, reported) && one.given == given;
        let mut kept = self.0.locked();
        if let Some(known) = kept.iter().find(is_it) {
            return Arc::clone(known);
        }
        let made = Arc::new(Greeting::new(reported, given, interner));
        kept.truncate(KEPT - 1);
        kept.push_front(Arc::clone(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::{Greetings, Interner, KEPT, Reported};
    use std::sync::Arc;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn reported() -> Reported {
        Arc::new(pairs(&[("TimeZone", "UTC"), ("server_version", "15.1")]))
    }

    #[test]
    fn who_asks_for_the_same_is_told_the_same_and_nobody_else_is() {
        let (greetings, interner, first) = (Greetings::default(), Interner::default(), reported());
        let berlin = || pairs(&[("timezone", "Europe/Berlin")]);
        let one = greetings.of(&first, berlin(), &interner);
        assert!(Arc::ptr_eq(
            &one,
            &greetings.of(&first, berlin(), &interner)
        ));
        assert_eq!(one.params.get("TimeZone"), Some("Europe/Berlin"));
        assert_eq!(
            one.params.get("server_version"),
            None,
            "it does not follow a client"
        );
        let told = String::from_utf8_lossy(&one.told).into_owned();
        assert!(told.contains("TimeZone\0Europe/Berlin\0"), "{told}");
        assert!(told.contains("server_version\x0015.1\x00"), "{told}");

        let plain = greetings.of(&first, Vec::new(), &interner);
        assert_eq!(plain.params.get("TimeZone"), Some("UTC"));
    }

    #[test]
    fn what_new_servers_report_is_not_mistaken_for_what_old_ones_did() {
        let (greetings, interner) = (Greetings::default(), Interner::default());
        let old = greetings.of(&reported(), Vec::new(), &interner);
        let new = Arc::new(pairs(&[("TimeZone", "Asia/Tokyo")]));
        let new = greetings.of(&new, Vec::new(), &interner);
        assert_eq!(old.params.get("TimeZone"), Some("UTC"));
        assert_eq!(new.params.get("TimeZone"), Some("Asia/Tokyo"));
    }

    #[test]
    fn only_a_few_are_kept() {
        let (greetings, interner, first) = (Greetings::default(), Interner::default(), reported());
        for number in 0..100 {
            let name = number.to_string();
            greetings.of(&first, pairs(&[("application_name", &name)]), &interner);
        }
        assert_eq!(greetings.0.lock().unwrap().len(), KEPT);
    }
}
