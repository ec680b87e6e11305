//! Worker threads: each has a runtime of its own and serves the clients that are dealt to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::clients::entrance::{self, Accepted};
use crate::clients::gate::Gate;
use crate::clock;
use crate::process::lasting;
use crate::thread;

/// The way to one worker.
#[derive(Debug)]
pub struct Worker {
    clients: Arc<AtomicUsize>,
    door: mpsc::UnboundedSender<Errand>,
    runtime: Handle,
}

/// What a worker is asked to do.
#[derive(Debug)]
enum Errand {
    /// To serve a client.
    Serve(Accepted),
    /// To say that it lives.
    Answer(oneshot::Sender<()>),
}

impl Worker {
    /// Starts worker `number`.
    ///
    /// # Errors
    /// When the system gives no thread or no epoll.
    pub fn start(number: usize, gate: Arc<Gate>) -> io::Result<Self> {
        let (door, mut arrivals) = mpsc::unbounded_channel::<Errand>();
        let clients = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&clients);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .on_thread_unpark(clock::note_sleep)
            .build()?;
        let handle = runtime.handle().clone();
        let work = move || {
            thread::become_worker(number);
            let serve = async move {
                while let Some(errand) = arrivals.recv().await {
                    let accepted = match errand {
                        Errand::Serve(accepted) => accepted,
                        Errand::Answer(asked) => {
                            let _ = asked.send(());
                            continue;
                        }
                    };
                    let presence = Presence(Arc::clone(&count));
                    let gate = Arc::clone(&gate);
                    tokio::spawn(async move {
                        entrance::welcome(accepted, gate).await;
                        drop(presence);
                    });
                }
            };
            lasting::or_exit("worker", || runtime.block_on(serve));
        };
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(work)?;
        Ok(Self {
            clients,
            door,
            runtime: handle,
        })
    }

    /// Its runtime.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many clients it has.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Deals it a connection.
    pub fn deal(&self, accepted: Accepted) {
        self.clients.fetch_add(1, Relaxed);
        if self.door.send(Errand::Serve(accepted)).is_err() {
            self.clients.fetch_sub(1, Relaxed);
        }
    }

    /// Waits until it gives a sign of life; for ever when it has ended.
    pub async fn answer(&self) {
        let (asked, answer) = oneshot::channel();
        let _ = self.door.send(Errand::Answer(asked));
        if answer.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A client's presence on its worker.
struct Presence(Arc<AtomicUsize>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
