//! The demo's live view: what the pooler's console tells, once a second.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cli::ask::ask;
use crate::cli::cluster::SUPERUSER;
use crate::cli::demo::DemoArgs;
use crate::cli::driver::Client;
use crate::cli::packets::Answer;
use crate::cli::problem::Problem;
use crate::cli::stage::{DEMO, Stage};
use crate::cli::tally::Tally;
use crate::cli::view::{Moments, Row, Screen, split};
use crate::clock::{self, Moment};

/// What is kept from one second to the next.
pub struct Show {
    start: Moment,
    last: Moment,
    time: Option<Duration>,
    clients: usize,
    screen: Screen,
    console: Option<Client>,
    rows: Vec<Row>,
    split: (u64, u64),
    /// The socket of the replica that stands still now and then, and whether it does.
    lagging: Option<(PathBuf, bool)>,
    is_console_seen: bool,
    lines: UnboundedReceiver<String>,
}

impl Show {
    /// Nothing is shown yet. What comes as `lines` is written above the table.
    pub fn new(
        stage: &Stage,
        args: &DemoArgs,
        clients: usize,
        start: Moment,
        lines: UnboundedReceiver<String>,
    ) -> Self {
        let last = stage.nodes().len() - 1;
        let socket = args.lag.then(|| stage.socket(last));
        Self {
            start,
            last: start,
            time: args.time,
            clients,
            screen: Screen::stdout(),
            console: None,
            rows: rows(stage.nodes()),
            split: (0, 0),
            lagging: socket.map(|socket| (socket, false)),
            is_console_seen: false,
            lines,
        }
    }

    /// Whether the console has ever answered.
    pub fn is_console_seen(&self) -> bool {
        self.is_console_seen
    }

    /// Draws once a second. Ends only when the pooler does.
    ///
    /// # Errors
    /// [`Problem::Failed`] when the pooler has ended.
    pub async fn run(&mut self, stage: &mut Stage, tally: &Tally) -> Result<(), Problem> {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.tick().await; // the first comes at once
        loop {
            tokio::select! {
                _ = seconds.tick() => {}
                Some(text) = self.lines.recv() => {
                    self.screen.say(&text);
                    continue;
                }
            }
            stage.check()?;
            let complaint = self.look_at_pools(stage.port()).await.err();
            self.let_lag().await;
            let now = clock::now();
            self.screen.draw(&Moments {
                elapsed: now.since(self.start),
                end: self.time,
                wanted: self.clients,
                counts: tally.look(),
                window: now.since(self.last),
                rows: self.rows.clone(),
                split: self.split,
                console: complaint.map(|problem| format!("console: {problem}")),
            });
            self.last = now;
        }
    }

    /// Writes what was told and not written yet.
    pub fn last_lines(&mut self) {
        while let Ok(text) = self.lines.try_recv() {
            self.screen.say(&text);
        }
    }

    async fn look_at_pools(&mut self, port: u16) -> Result<(), Problem> {
        const LATE: Problem = Problem::Protocol {
            what: "nothing for a second",
        };
        let console = self.console.take(); // it comes back only if it answers
        let pools = timeout(Duration::from_secs(1), pools(console, port));
        let (console, [pools, servers, routing, nodes]) = pools.await.map_err(|_| LATE)??;
        self.console = Some(console);
        for row in &mut self.rows {
            row.read(&pools, &servers);
            row.read_node(&nodes);
        }
        self.split = split(&routing);
        self.is_console_seen = true;
        Ok(())
    }

    /// Stops the replay of the last replica and lets it go on, ten seconds each.
    async fn let_lag(&mut self) {
        let Some((socket, is_lagging)) = &mut self.lagging else {
            return;
        };
        let is_time = clock::now().since(self.start).as_secs() % 20 >= 10;
        if *is_lagging == is_time {
            return;
        }
        *is_lagging = is_time;
        let sql = if is_time {
            "SELECT pg_wal_replay_pause()"
        } else {
            "SELECT pg_wal_replay_resume()"
        };
        let socket = socket.clone();
        let asking = tokio::task::spawn_blocking(move || ask(&socket, SUPERUSER, "postgres", sql));
        if let Ok(Ok(_)) = asking.await {
            let port = self.rows.last().map_or(0, |row| row.port);
            let what = if is_time { "stands still" } else { "goes on" };
            self.screen.say(&format!(
                "  LAG        replay on the replica :{port} {what}\n"
            ));
        } // else it is tried again after ten seconds
    }
}

fn rows(ports: &[u16]) -> Vec<Row> {
    let row = |(node, port): (usize, &u16)| Row {
        database: if node == 0 { DEMO } else { "" }.to_owned(),
        role: "unknown".to_owned(),
        port: *port,
        ..Row::default()
    };
    ports.iter().enumerate().map(row).collect()
}

async fn pools(console: Option<Client>, port: u16) -> Result<(Client, [Answer; 4]), Problem> {
    let mut console = match console {
        Some(console) => console,
        None => Client::connect(port, DEMO, "pgbouncer").await?,
    };
    let pools = console.ask("SHOW POOLS").await?;
    let servers = console.ask("SHOW SERVERS").await?;
    let routing = console.ask("SHOW ROUTING").await?;
    let nodes = console.ask("SHOW NODES").await?;
    Ok((console, [pools, servers, routing, nodes]))
}
