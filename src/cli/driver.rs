//! A thousand clients, each thinking most of the time.
//!
//! The load is bounded by the thinking, not by what the machine can bear: a demo shows that a thousand clients fit on a few
//! servers, it does not measure how fast. Transactions on the primary are reads, or writes in three round trips, so that a
//! server is really held between two of a client's messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cli::packets::{self, Answer, Listener};
use crate::cli::problem::Problem;
use crate::cli::tally::Tally;
use crate::clock;

/// Rows of the table `accounts`, with the ids 1 to this.
pub const ACCOUNTS: u64 = 10_000;
/// Clients that log in at the same time.
const LOGINS_AT_ONCE: usize = 32;
/// Before a client that failed comes back.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a client may take to finish its last transaction.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection to the pooler.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
}

impl Client {
    /// Connects to `port` of 127.0.0.1 and logs in, without a password.
    ///
    /// # Errors
    /// [`Problem::Io`] when the socket fails, [`Problem::Refused`] when the login is refused.
    pub async fn connect(port: u16, user: &str, database: &str) -> Result<Self, Problem> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(Problem::io("connecting to the pooler"))?;
        stream
            .set_nodelay(true)
            .map_err(Problem::io("setting up a socket"))?;
        let mut client = Self {
            stream,
            input: BytesMut::new(),
        };
        client.say(&packets::startup(user, database)).await?;
        client.hear().await?;
        Ok(client)
    }

    /// Runs `sql` and returns its last result.
    ///
    /// # Errors
    /// [`Problem::Io`] when the socket fails, [`Problem::Refused`] when the statement does.
    pub async fn ask(&mut self, sql: &str) -> Result<Answer, Problem> {
        self.say(&packets::query(sql)).await?;
        self.hear().await
    }

    /// Leaves in good manners.
    pub async fn leave(mut self) {
        let _ = self.say(&packets::TERMINATE).await; // whoever is gone needs no goodbye
    }

    async fn say(&mut self, packet: &[u8]) -> Result<(), Problem> {
        self.stream
            .write_all(packet)
            .await
            .map_err(Problem::io("sending to the pooler"))
    }

    async fn hear(&mut self) -> Result<Answer, Problem> {
        let mut listener = Listener::default();
        loop {
            if let Some(answer) = listener.hear(&mut self.input)? {
                return Ok(answer);
            }
            let count = self
                .stream
                .read_buf(&mut self.input)
                .await
                .map_err(Problem::io("waiting for the pooler"))?;
            if count == 0 {
                return Err(Problem::Protocol {
                    what: "the pooler hung up",
                });
            }
        }
    }
}

/// Where the load goes, and how much.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pooler's port on 127.0.0.1.
    pub port: u16,
    /// Whom the clients log in as.
    pub user: String,
    /// How many clients.
    pub clients: usize,
    /// Transactions a second of all clients together.
    pub rate: usize,
    /// The database.
    pub database: String,
}

impl Plan {
    /// Whether the client `number` writes, too: three of five do.
    const fn writes(number: usize) -> bool {
        number % 5 < 3
    }

    /// The mean time between two transactions of one client.
    fn pause(&self) -> Duration {
        let clients = u32::try_from(self.clients).unwrap_or(u32::MAX);
        Duration::from_secs(1) * clients / u32::try_from(self.rate.max(1)).unwrap_or(u32::MAX)
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
    tally: Arc<Tally>,
}

impl Load {
    /// Sends the clients to work; they log in a few at a time.
    pub fn start(plan: &Plan, tally: &Arc<Tally>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let logins = Arc::new(Semaphore::new(LOGINS_AT_ONCE));
        let mut clients = JoinSet::new();
        for number in 0..plan.clients {
            let worker = Worker {
                port: plan.port,
                user: plan.user.clone(),
                database: plan.database.clone(),
                writes: Plan::writes(number),
                pause: plan.pause(),
                chance: Chance(u64::from_ne_bytes(clock::entropy())),
                tally: Arc::clone(tally),
            };
            clients.spawn(worker.work(Arc::clone(&logins), stopped.clone()));
        }
        Self {
            clients,
            stop,
            tally: Arc::clone(tally),
        }
    }

    /// Lets every client finish its transaction and leave. Who does not within five seconds counts as an error.
    pub async fn finish(mut self) {
        let _ = self.stop.send(true); // fails only when nobody is there to hear it
        let all_left = async { while self.clients.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, all_left).await.is_err() {
            let stuck = self.clients.len();
            self.tally.note(|counts| {
                counts.errors += stuck as u64;
                counts.last_error = Some(format!("{stuck} clients got no answer"));
            });
        }
    }
}

struct Worker {
    port: u16,
    user: String,
    database: String,
    writes: bool,
    pause: Duration,
    chance: Chance,
    tally: Arc<Tally>,
}

impl Worker {
    async fn work(mut self, logins: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
        loop {
            let outcome = self.live(&logins, &mut stop).await;
            let Err(problem) = outcome else { return };
            self.note(&problem);
            if rested(AFTER_ERROR, &mut stop).await == Rested::UntilStop {
                return;
            }
        }
    }

    fn note(&self, problem: &Problem) {
        self.tally.note(|counts| {
            counts.errors += 1;
            counts.last_error = Some(problem.to_string());
            *counts.codes.entry(problem.code().to_owned()).or_default() += 1;
        });
    }

    /// One connection's life. `Ok` when it was told to stop.
    async fn live(
        &mut self,
        logins: &Semaphore,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        let connected = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            connected = self.connect(logins) => connected,
        };
        let mut client = connected?;
        self.tally.note(|counts| counts.connected += 1);
        let outcome = self.transact(&mut client, stop).await;
        self.tally.note(|counts| counts.connected -= 1);
        client.leave().await;
        outcome
    }

    async fn connect(&self, logins: &Semaphore) -> Result<Client, Problem> {
        let turn = logins.acquire().await;
        let client = Client::connect(self.port, &self.user, &self.database).await;
        drop(turn);
        client
    }

    async fn transact(
        &mut self,
        client: &mut Client,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        let mut pause = self.chance.up_to(self.pause);
        while rested(pause, stop).await == Rested::Fully {
            let start = clock::now();
            if let Err(problem) = self.transaction(client).await {
                // As an application would: whatever is open is rolled back, and it goes on.
                if client.ask("ROLLBACK").await.is_err() {
                    return Err(problem);
                }
                self.note(&problem);
            } else {
                let took = clock::now().since(start);
                self.tally.note(|counts| counts.window.add(took));
            }
            pause = self.pause / 2 + self.chance.up_to(self.pause);
        }
        Ok(())
    }

    async fn transaction(&mut self, client: &mut Client) -> Result<(), Problem> {
        let id = 1 + self.chance.draw() % ACCOUNTS;
        if !self.writes || self.chance.draw().is_multiple_of(2) {
            let read = format!("SELECT balance FROM accounts WHERE id = {id}");
            return expect_one(&client.ask(&read).await?);
        }
        client.ask("BEGIN").await?;
        let write =
            format!("UPDATE accounts SET balance = balance + 1 WHERE id = {id} RETURNING balance");
        expect_one(&client.ask(&write).await?)?;
        let outcome = client.ask("COMMIT").await;
        let is_undone = outcome
            .as_ref()
            .is_err_and(|problem| problem.code() == "40001");
        self.tally.note(|counts| match &outcome {
            Ok(_) => counts.written += 1,
            Err(_) if is_undone => {}
            Err(_) => counts.unknown += 1,
        });
        outcome.map(drop)
    }
}

/// An answer that belongs to somebody else would show here.
fn expect_one(answer: &Answer) -> Result<(), Problem> {
    let is_balance = answer.columns == ["balance"] && answer.rows.len() == 1;
    is_balance.then_some(()).ok_or(Problem::Protocol {
        what: "not the row that was asked for",
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Rested {
    Fully,
    UntilStop,
}

async fn rested(span: Duration, stop: &mut watch::Receiver<bool>) -> Rested {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Rested::UntilStop,
        () = sleep(span) => Rested::Fully,
    }
}

/// Chance enough to spread a load: splitmix64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn up_to(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.draw() % micros.max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Chance, Plan};

    fn plan() -> Plan {
        Plan {
            port: 1,
            user: "demo".to_owned(),
            clients: 1_000,
            rate: 2_000,
            database: "demo".to_owned(),
        }
    }

    #[test]
    fn three_of_five_clients_write() {
        assert_eq!(
            (0..1_000).filter(|number| Plan::writes(*number)).count(),
            600
        );
    }

    #[test]
    fn the_pause_bounds_the_load() {
        assert_eq!(plan().pause(), Duration::from_millis(500));
    }

    #[test]
    fn chance_stays_below_its_bound() {
        let mut chance = Chance(7);
        let bound = Duration::from_millis(1);
        assert!((0..1_000).all(|_| chance.up_to(bound) < bound));
        assert_eq!(chance.up_to(Duration::ZERO), Duration::ZERO);
    }
}
