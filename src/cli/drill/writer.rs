//! A small writer: one row after the other, at its ease, and whatever becomes of each is noted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::cli::drill::door::Door;
use crate::cli::drill::ledger::{Fate, Ledger};
use crate::clock;
use crate::error::Error;
use crate::servers::server::Server;

/// Between two writes.
pub const PACE: Duration = Duration::from_millis(10);
/// Before it logs in again, where its connection was lost.
const AFTER_LOSS: Duration = Duration::from_millis(50);
/// Writes of one writer are numbered from a multiple of this.
const APART: u64 = 1_000_000;

/// How it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Each write is a statement.
    Statements,
    /// Each write is a transaction in three steps.
    Transactions,
}

/// A writer.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The way in.
    pub door: Arc<Door>,
    /// Who writes.
    pub user: String,
    /// In which database.
    pub database: String,
    /// Into which table, which has a column `id`.
    pub table: String,
    /// Its number, from 1.
    pub number: u64,
    /// How.
    pub style: Style,
}

impl Writer {
    /// Writes until told to stop.
    pub async fn write(self, stop: watch::Receiver<bool>) -> Ledger {
        let mut ledger = Ledger::beginning(clock::now());
        let (mut server, mut id) = (None, self.number * APART);
        while !*stop.borrow() {
            if server.is_none() {
                server = self.door.enter(&self.user, &self.database).await.ok();
            }
            let Some(open) = server.as_mut() else {
                sleep(AFTER_LOSS).await;
                continue;
            };
            id += 1;
            let (fate, is_lost) = self.one(open, id).await;
            ledger.note(id, fate, clock::now());
            if is_lost {
                server = None;
            }
            sleep(PACE).await;
        }
        ledger
    }

    /// One write; true when its connection is of no more use.
    async fn one(&self, server: &mut Server, id: u64) -> (Fate, bool) {
        let insert = format!("INSERT INTO {} (id) VALUES ({id})", self.table);
        if self.style == Style::Statements {
            return match self.door.ask(server, &insert).await {
                Ok(_) => (Fate::Done, false),
                Err(error) => sent(&error),
            };
        }
        for step in ["BEGIN", &insert] {
            if let Err(error) = self.door.ask(server, step).await {
                // Nothing was committed, whatever it says.
                let is_lost = self.door.ask(server, "ROLLBACK").await.is_err();
                return (Fate::Failed(code(&error)), is_lost);
            }
        }
        match self.door.ask(server, "COMMIT").await {
            Ok(_) => (Fate::Done, false),
            Err(error) => sent(&error),
        }
    }
}

/// What an error says of a write that was sent whole; true when the connection is gone.
fn sent(error: &Error) -> (Fate, bool) {
    let code = code(error);
    match code.as_str() {
        "" => (Fate::Unknown(code), true),
        "08006" | "08007" => (Fate::Unknown(code), false),
        _ => (Fate::Failed(code), false),
    }
}

fn code(error: &Error) -> String {
    match error {
        Error::ServerRefused(refusal) => refusal.code.clone(),
        _ => String::new(),
    }
}
