//! psql on the virtual database: one guest, from login to goodbye.
//!
//! Only simple queries are understood, one command each. What a command waits for (PAUSE, WAIT_CLOSE) is looked at every few
//! milliseconds: nobody counts on the moment, the pools need not know that anybody waits, and a guest who leaves meanwhile
//! is noticed in the same place.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::admin::command::{self, Command, Role, Show};
use crate::admin::complaint::{About, Complaint};
use crate::admin::control::{self, Outcome};
use crate::admin::gather::Look;
use crate::admin::numbers;
use crate::admin::order::{Order, SetRefusal, Stop};
use crate::admin::pause::{self, Progress, Wait};
use crate::admin::routing;
use crate::admin::show;
use crate::admin::suspend;
use crate::clients::answer;
use crate::clients::gate::Guest;
use crate::clients::presence::{is_cut_off, log_wishes};
use crate::config::value::Dialect;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::registry::{Phase, Registry};
use crate::protocol::message::{self, Say, Severity};
use crate::servers::frames::{Frame, Frames};
use crate::stats::census::{self, ClientCard};
use crate::telemetry::events::{self, Who};

/// What a command may have, in bytes.
const LONGEST_COMMAND: usize = 4096;
/// How often a command that waits looks whether it is done.
const LOOK: Duration = Duration::from_millis(20);
/// How long a guest may take to hear why it must leave.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Averages are not taken more often than this.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Serves one guest.
pub async fn serve(guest: Guest, registry: Arc<Registry>, orders: UnboundedSender<Order>) {
    let Guest {
        stream,
        rest,
        is_admin,
        presence,
        places,
    } = guest;
    registry.ledger.count_login();
    let mut console = Console {
        stream,
        frames: Frames::starting_with(rest),
        ahead: None,
        role: if is_admin { Role::Acts } else { Role::Looks },
        card: Arc::clone(&presence.card),
        registry: Arc::clone(&registry),
        orders,
        is_heir: false,
    };
    let result = console.run().await;
    if console.is_heir {
        drop((presence, places));
        if let Ok(stream) = console.stream.rehome() {
            let _ = console.orders.send(Order::HandOver(stream));
        }
        return;
    }
    presence.ended(&registry, &result);
    let dialect = registry.settings.load().dialect;
    if let Err(error) = &result
        && *error != Error::ClientGone
        && !is_cut_off(&console.card, dialect)
    {
        let mut out = Vec::new();
        answer::tell(&mut out, error, dialect);
        let _ = tokio::time::timeout(LAST_WORDS, console.stream.write_all(&out)).await;
    }
    drop((presence, places));
    suspend::go_on_without_guests(&registry);
    let _ = tokio::time::timeout(LAST_WORDS, part(&mut console.stream)).await;
    console.stream.close();
}

/// Says goodbye and reads what is still on its way: closing a socket with unread bytes would take our last words back.
async fn part(stream: &mut Stream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_close(cx)).await?;
    let mut scratch = [0; 4096];
    while stream.read_some(&mut scratch).await? > 0 {}
    Ok(())
}

/// Takes the averages of each `stats_period`, and logs them where `log_stats` is on. For ever.
pub async fn log_stats(registry: Arc<Registry>) {
    loop {
        let period = registry
            .settings
            .load()
            .pooler
            .stats_period
            .max(SHORTEST_PERIOD);
        tokio::time::sleep(period).await;
        let look = Look::now(&registry);
        registry.ledger.turn_page(look.now, look.totals());
        if look.settings.pooler.log_stats {
            info!("{}", numbers::log_line(&look.report()));
        }
    }
}

struct Console {
    stream: Stream,
    frames: Frames,
    /// A message that came while a command waited.
    ahead: Option<Frame>,
    role: Role,
    card: Arc<ClientCard>,
    registry: Arc<Registry>,
    orders: UnboundedSender<Order>,
    /// The guest is a process that takes over from this one.
    is_heir: bool,
}

/// Why a command has no ordinary answer.
enum Failure {
    /// It is not carried out.
    Complaint(Complaint),
    /// The session is over.
    End(Error),
    /// The session is over, without a word.
    Leave,
}

impl From<Complaint> for Failure {
    fn from(complaint: Complaint) -> Self {
        Self::Complaint(complaint)
    }
}

impl Console {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let frame = self.next().await?;
            let mut out = BytesMut::new();
            match frame.tag {
                b'X' => return Ok(()),
                b'Q' => {
                    self.registry.ledger.count_command();
                    match self.answer(&text(&frame.body), &mut out).await {
                        Ok(()) => {}
                        Err(Failure::Complaint(complaint)) => self.refuse(&mut out, &complaint),
                        Err(Failure::End(error)) => return Err(error),
                        Err(Failure::Leave) => return Ok(()),
                    }
                    message::ready_for_query(&mut out, b'I');
                    self.send(&out).await?;
                    if self.is_heir {
                        return Ok(());
                    }
                }
                tag => {
                    let complaint = Complaint::new(About::ProtocolViolation, not_understood(tag));
                    self.refuse(&mut out, &complaint);
                    message::ready_for_query(&mut out, b'I');
                    self.send(&out).await?;
                    return Err(Error::Protocol("bad packet".into()));
                }
            }
        }
    }

    fn refuse(&self, out: &mut BytesMut, complaint: &Complaint) {
        let who = Who::client(self.card.id, &self.card.facts);
        let wishes = log_wishes(&self.registry.settings.load());
        events::command_refused(who, &complaint.message, wishes);
        complain(out, complaint, self.dialect());
    }

    fn dialect(&self) -> Dialect {
        self.registry.settings.load().dialect
    }

    async fn send(&mut self, out: &[u8]) -> Result<(), Error> {
        tokio::select! {
            sent = self.stream.write_all(out) => sent.map_err(|_| Error::ClientGone),
            // A guest who reads nothing can be ended all the same.
            error = ordered_out(&self.card) => Err(error),
        }
    }

    async fn next(&mut self) -> Result<Frame, Error> {
        if let Some(frame) = self.ahead.take() {
            return Ok(frame);
        }
        tokio::select! {
            frame = self.frames.next(&mut self.stream, LONGEST_COMMAND) => frame.map_err(|error| unreadable(&error)),
            error = ordered_out(&self.card) => Err(error),
        }
    }

    /// Carries out what was typed and writes the answer, but for ReadyForQuery.
    async fn answer(&mut self, text: &str, out: &mut BytesMut) -> Result<(), Failure> {
        self.card.take_cancel();
        let command = command::parse(text, self.role)?;
        let tag = match command {
            Command::Show(show) => {
                self.show(show, out);
                "SHOW".to_owned()
            }
            Command::ExplainRoute {
                database,
                user,
                sql,
            } => {
                let look = Look::now(&self.registry);
                routing::explain(&look, &database, user.as_deref(), &sql)?.write(out);
                "EXPLAIN".to_owned()
            }
            Command::SetIgnored => {
                notice(out, "SET ignored", None);
                "SET".to_owned()
            }
            Command::Set { key, value } => {
                if let Some(text) = self.set(key.clone(), value.clone()).await? {
                    notice(out, &text, None);
                }
                format!("SET {key}={value}")
            }
            Command::Reload => {
                let waiting = self.reload().await?;
                if !waiting.is_empty() && self.dialect() == Dialect::Native {
                    notice(out, &at_the_next_start(&waiting), None);
                }
                "RELOAD".to_owned()
            }
            Command::TakeOver => {
                suspend::check_handover(&self.registry, self.stream.peer_uid())?;
                self.is_heir = true;
                "TAKEOVER".to_owned()
            }
            Command::Shutdown(stop) => {
                self.shut_down(stop)?;
                "SHUTDOWN".to_owned()
            }
            command => match control::heed(&self.registry, text, &command)? {
                Outcome::Done(tag) => tag.to_owned(),
                Outcome::Wait(tag, wait) => {
                    self.wait(&wait).await?;
                    if let Some((text, detail)) = wait.notice() {
                        notice(out, &text, Some(&detail));
                    }
                    tag.to_owned()
                }
            },
        };
        message::command_complete(out, &tag);
        Ok(())
    }

    /// Orders the process to stop; a console leaves that has nothing more to say then.
    fn shut_down(&self, stop: Stop) -> Result<(), Failure> {
        info!("{} command issued", shutdown(stop));
        self.begin_to_stop(stop);
        let _ = self.orders.send(Order::Stop(stop));
        if stop == Stop::Now {
            return Err(Failure::Leave);
        }
        Ok(())
    }

    /// What the next command must find, at this console and at others: the process itself follows a moment later.
    fn begin_to_stop(&self, stop: Stop) {
        if stop != Stop::Now {
            self.registry.go_on();
        }
        match stop {
            Stop::WaitForServers => {
                self.registry.enter(Phase::Closing);
                pause::pause_all(&self.registry, true);
            }
            Stop::WaitForClients => self.registry.enter(Phase::Draining),
            Stop::Now | Stop::Drain => {}
        }
    }

    fn show(&self, show: Show, out: &mut BytesMut) {
        match show::table(&Look::now(&self.registry), show) {
            Some(table) => table.write(out),
            None => notice(out, "Console usage", Some(&command::help())),
        }
    }

    async fn reload(&self) -> Result<Vec<String>, Complaint> {
        info!("RELOAD command issued");
        let (answer, done) = oneshot::channel();
        let _ = self.orders.send(Order::Reload(answer));
        let result = done
            .await
            .unwrap_or_else(|_| Err("the pooler is shutting down".into()));
        result.map_err(|problems| Complaint {
            detail: Some(problems),
            ..Complaint::new(
                About::ConfigFile,
                "RELOAD failed, see logs for additional details",
            )
        })
    }

    async fn set(&self, key: String, value: String) -> Result<Option<String>, Complaint> {
        let (answer, done) = oneshot::channel();
        let _ = self.orders.send(Order::Set { key, value, answer });
        let result = done
            .await
            .unwrap_or_else(|_| Err(SetRefusal::from("the pooler is shutting down")));
        result.map_err(|refusal| {
            warn!("SET failed: {}", refusal.detail);
            Complaint {
                detail: Some(refusal.detail),
                hint: refusal.hint.map(Into::into),
                ..Complaint::new(About::InvalidValue, "SET failed")
            }
        })
    }

    /// Waits until `wait` is over. When the guest cancels or leaves, what was paused goes on.
    async fn wait(&mut self, wait: &Wait) -> Result<(), Failure> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let is_reading = self.ahead.is_none();
            let failure = tokio::select! {
                biased;
                _ = looks.tick() => match wait.progress(&self.registry) {
                    Progress::Over => return Ok(()),
                    Progress::Undone => return Err(undone().into()),
                    Progress::Refused => return Err(wait.complaint().into()),
                    Progress::Waiting if self.card.take_cancel() => cancelled(),
                    Progress::Waiting => continue,
                },
                error = ordered_out(&self.card) => Failure::End(error),
                frame = self.frames.next(&mut self.stream, LONGEST_COMMAND), if is_reading => match frame {
                    Ok(frame) if frame.tag == b'X' => Failure::Leave,
                    Ok(frame) => {
                        self.ahead = Some(frame);
                        continue;
                    }
                    Err(error) => Failure::End(unreadable(&error)),
                },
            };
            wait.give_up(&self.registry);
            return Err(failure);
        }
    }
}

/// What is said of `keys`, which a reload does not change.
fn at_the_next_start(keys: &[String]) -> String {
    let take = if keys.len() == 1 { "takes" } else { "take" };
    format!("{} {take} effect at the next start", keys.join(", "))
}

fn shutdown(stop: Stop) -> &'static str {
    match stop {
        Stop::WaitForServers => "SHUTDOWN WAIT_FOR_SERVERS",
        Stop::WaitForClients => "SHUTDOWN WAIT_FOR_CLIENTS",
        Stop::Now | Stop::Drain => "SHUTDOWN",
    }
}

fn cancelled() -> Failure {
    Failure::Complaint(Complaint {
        detail: Some("What this command paused goes on.".to_owned()),
        ..Complaint::new(About::Cancelled, "canceling statement due to user request")
    })
}

fn undone() -> Complaint {
    Complaint::new(About::WrongState, "the pause was undone by RESUME")
}

/// Comes back with the reason when somebody orders the guest out.
async fn ordered_out(card: &ClientCard) -> Error {
    poll_fn(|cx| {
        card.wake_by(cx.waker());
        ended_by(card.order(), &card.facts.database).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The error that an order means for a guest; limits of time are not for guests.
fn ended_by(order: census::Order, database: &str) -> Option<Error> {
    match order {
        census::Order::Drain | census::Order::Shutdown => Some(Error::ShuttingDown),
        census::Order::Kill => Some(Error::Killed),
        census::Order::DatabaseRemoved => Some(Error::DatabaseRemoved(database.to_owned())),
        census::Order::None
        | census::Order::MoveOn
        | census::Order::FastClose
        | census::Order::IdleTimeout
        | census::Order::QueryTimeout
        | census::Order::WaitTimeout
        | census::Order::IdleTransaction
        | census::Order::TransactionTimeout
        | census::Order::PinTimeout
        | census::Order::SuspendTimeout
        | census::Order::ServersReplaced => None,
    }
}

fn unreadable(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::InvalidData {
        return Error::Protocol("incomplete pkt".into());
    }
    Error::ClientGone
}

fn not_understood(tag: u8) -> String {
    match tag {
        b'P' | b'B' | b'E' => "extended query protocol not supported by admin console".to_owned(),
        tag => format!("unsupported packet type for admin console: {tag}"),
    }
}

/// The text of a Query: what stands before its zero byte.
fn text(body: &[u8]) -> String {
    let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn complain(out: &mut BytesMut, complaint: &Complaint, dialect: Dialect) {
    // What was meant to precede the complaint is no answer any more.
    out.clear();
    if dialect == Dialect::PgBouncer {
        let code = complaint.pgbouncer_code();
        return message::plain_error(out, Severity::Error, code, &complaint.message);
    }
    let say = Say {
        severity: Severity::Error,
        code: complaint.about.code(),
        message: &complaint.message,
        detail: complaint.detail.as_deref(),
        hint: complaint.hint.as_deref(),
    };
    message::error(out, &say);
}

fn notice(out: &mut BytesMut, text: &str, detail: Option<&str>) {
    let say = Say {
        severity: Severity::Notice,
        code: "00000",
        message: text,
        detail,
        hint: None,
    };
    message::notice(out, &say);
}

#[cfg(test)]
mod tests;
