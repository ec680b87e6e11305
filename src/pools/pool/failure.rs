//! How dialling went: servers that arrived, servers that could not be had, and what who waits is told of them.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::{Asker, Pool, State};
use crate::clock::{self, Moment};
use crate::config::value::{Dialect, LoadBalance};
use crate::error::Error;
use crate::pools::dialer;
use crate::pools::plan::Plan;
use crate::pools::policy::Reason;
use crate::servers::server::Server;
use crate::telemetry::log;

/// For how long a pool tries again and again before it tells clients that its server cannot be reached.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines of the log that tell of the same failure.
const REMINDER: Duration = Duration::from_secs(60);

/// What went wrong the last times a server was dialled.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The first time, since the last success.
    pub since: Moment,
    /// The last time.
    pub last: Moment,
    /// How often.
    pub tries: usize,
    /// When the log last told of it.
    pub told: Moment,
    /// What happened.
    pub error: Error,
}

impl Failure {
    /// Whether the log shall tell of `error` at `now`: when it is another than before, and else once a minute.
    fn is_news(&self, error: &Error, now: Moment) -> bool {
        self.error != *error || now.since(self.told) >= REMINDER
    }
}

impl Pool {
    /// The last error, while servers cannot be had and it is too early to try again.
    ///
    /// As PgBouncer, a login waits all the same, and nobody else does.
    pub(super) fn hopeless(&self, state: &State, now: Moment, asker: Asker) -> Option<Error> {
        let failure = state.failure.as_ref()?;
        if matches!(asker, Asker::Patient(_)) {
            return None;
        }
        let plan = self.plan.load();
        if plan.rules.dialect == Dialect::PgBouncer {
            let is_early = now.since(failure.last) < plan.login_retry;
            let is_told = asker == Asker::Client && state.open == 0 && is_early;
            return is_told.then(|| failure.error.cached());
        }
        let retry = plan.login_retry.min(PATIENCE);
        let tried_long = self.was_everywhere(failure.tries)
            && (failure.last.since(failure.since) >= PATIENCE || is_final(&failure.error));
        (state.own() == 0 && tried_long && now.since(failure.last) < retry)
            .then(|| failure.error.clone())
    }

    /// A dialled server has logged in.
    pub fn arrived(&self, server: Box<Server>) {
        let mut state = self.lock();
        state.dialing -= 1;
        let was_failing = state.failure.take().is_some();
        let is_obsolete = server.generation != state.generation;
        drop(state);
        if is_obsolete {
            self.close(server, Reason::ObsoleteAtLogin);
        } else {
            self.group.note_welcome(&server.reported);
            self.shelve(server);
        }
        if was_failing && !log::is_as_pgbouncer() {
            tracing::info!(database = %self.database.name, user = %self.user, "server login works again");
        }
        let is_one_by_one = self.plan.load().rules.dialect == Dialect::PgBouncer;
        if was_failing || is_one_by_one {
            // While the server could not be reached one was dialled at a time; now everybody who waits gets one.
            self.grow();
        }
    }

    /// Which host of the list the server is opened at that is dialled next.
    pub fn next_turn(&self) -> usize {
        match self.plan.load().target.balance {
            LoadBalance::RoundRobin => self.turn.fetch_add(1, SeqCst),
            LoadBalance::Disable => self.turn.load(SeqCst),
        }
    }

    /// Whether so many tries in a row have met every host of the list.
    fn was_everywhere(&self, tries: usize) -> bool {
        tries >= self.plan.load().target.hosts.len()
    }

    /// A server could not be dialled, at the host whose turn it was. Returns whether the log shall tell of it.
    #[must_use]
    pub fn failed(&self, error: &Error, turn: usize) -> bool {
        let now = clock::now();
        if self.plan.load().target.balance == LoadBalance::Disable {
            let next = turn.wrapping_add(1);
            let _ = self.turn.compare_exchange(turn, next, SeqCst, SeqCst);
        }
        let mut state = self.lock();
        state.dialing -= 1;
        state.open -= 1;
        let (since, tries) = state
            .failure
            .as_ref()
            .map_or((now, 1), |failure| (failure.since, failure.tries + 1));
        let was_everywhere = self.was_everywhere(tries);
        let known = state.failure.as_ref();
        let is_news = known.is_none_or(|failure| failure.is_news(error, now));
        let told = known
            .filter(|_| !is_news)
            .map_or(now, |failure| failure.told);
        state.failure = Some(Failure {
            told,
            since,
            last: now,
            tries,
            error: error.clone(),
        });
        let plan = self.plan.load();
        // Where there are other nodes it need not be this one that is waited for.
        let is_worth_waiting = is_starting(error) && !plan.rules.is_followed;
        let was_patient = plan.rules.dialect == Dialect::Native
            && now.since(since) >= PATIENCE
            && !is_worth_waiting;
        let give_up = was_everywhere && (is_final(error) || was_patient);
        if give_up && state.own() == 0 {
            state.lines.fail_impatient(error, now);
        } else if give_up && plan.rules.dialect == Dialect::PgBouncer {
            state.lines.fail_logins(error);
        }
        let retry = state.lines.has_waiting();
        drop(state);
        self.leave_places();
        if retry {
            dialer::try_later(self.arc(), retry_after(&plan) + dialer::RETRY_SLACK);
        }
        is_news
    }
}

/// How long a server that could not be had is left alone while somebody waits: as PgBouncer, for all of `server_login_retry`.
pub(super) fn retry_after(plan: &Plan) -> Duration {
    match plan.rules.dialect {
        Dialect::Native => Duration::from_millis(200),
        Dialect::PgBouncer => plan.login_retry,
    }
}

/// Whether trying again cannot help: the server itself refused the login.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(_) | Error::ServerLoginRefused { .. }
    ) && !is_starting(error)
}

/// Whether the server said that it is starting up.
fn is_starting(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. } if refusal.code == "57P03"
    )
}
