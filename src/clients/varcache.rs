//! What PgBouncer tells with `verbose = 2` when a server is brought to a client's parameters, in its words: programs look for them.
//!
//! Nothing is told elsewhere, and nothing here costs anything while nobody listens.

use std::fmt::Write as _;
use std::sync::Arc;

use tracing::Level;

use crate::clients::session::{Session, Station};
use crate::telemetry::events::{self, Who};
use crate::telemetry::log;

impl Session {
    /// The server is about to be brought to the client's parameters.
    #[cold]
    pub(super) fn tell_what_is_applied(&mut self) {
        if !tracing::enabled!(Level::DEBUG) || !log::is_as_pgbouncer() {
            return;
        }
        let wanted = Arc::clone(&self.side.params);
        let Station::Linked(lease) = &mut self.station else {
            return;
        };
        let server = lease.server();
        let mut sql = String::new();
        for (name, value) in server.side.params.iter() {
            let wish = wanted.get(name).unwrap_or(value);
            if !wish.eq_ignore_ascii_case(value) {
                let _ = write!(sql, "SET {name}='{}';", wish.replace('\'', "''"));
            }
        }
        if !sql.is_empty() {
            events::parameters_applied(Who::server(server.card.id, &server.card.facts), &sql);
            server.side.heard = Some(Vec::new());
            self.before = Some(Arc::clone(&server.side.params));
        }
    }

    /// The server has taken the client's parameters. What it did not report it had already, by another spelling.
    #[cold]
    pub(super) fn tell_what_was_taken(&mut self) {
        let Some(before) = self.before.take() else {
            return;
        };
        let heard = self.server().side.heard.take().unwrap_or_default();
        let who = Who::client(self.card.id, &self.card.facts);
        for (name, old) in before.iter() {
            let wish = self.side.params.get(name).unwrap_or(old);
            if !wish.eq_ignore_ascii_case(old) && !heard.iter().any(|one| one == name) {
                events::parameter_taken(who, name, (wish, old));
            }
        }
    }
}
