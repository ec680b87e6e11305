//! The older process: it gives everything up, piece by piece, and ends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    ALL, CANCEL, CANCELLED, ENDING, HEEDED, LISTENER, ORDER, POOL, READY, SEATS, SERVER, UP, YOURS,
};
use crate::admin::command::{self, Role};
use crate::admin::control;
use crate::admin::order::{Order, Stop};
use crate::clients::cancel;
use crate::clients::entrance::Accepted;
use crate::clients::gate::is_console;
use crate::clients::parcel::Parcel;
use crate::clock::{self, Moment};
use crate::net::letter::Letter;
use crate::net::passing::Way;
use crate::net::stream::{Homeless, Stream};
use crate::pools::pool::{Away, Pool};
use crate::pools::registry::Registry;
use crate::process::acceptor::Acceptors;
use crate::process::pidfile::PidFile;
use crate::process::systemd::{self, Event};
use crate::process::worker::Worker;
use crate::servers::parcel;
use crate::stats::arrival::Arrival;
use crate::stats::census::{self, ClientFacts, ClientState};

/// How long the younger process may take until it accepts.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often clients and servers are looked at, at first and when that has taken long.
const LOOK: Duration = Duration::from_millis(5);
const LATER_LOOK: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(5);
/// Who asks for a server so long after the beginning will stay; everybody else who was not at work has gone by then.
const FIRST: Duration = Duration::from_millis(200);
/// For so long nobody opens a server here: a client that is about to ask for one does not know yet that it may go.
const SETTLING: Duration = Duration::from_millis(50);
/// How long servers that are being closed may take at the end.
const LAST_SERVERS: Duration = Duration::from_millis(500);

/// What the process has to give, beside its clients and servers.
#[derive(Debug)]
pub struct Estate {
    /// What everybody shares.
    pub registry: Arc<Registry>,
    /// Who accept.
    pub acceptors: Acceptors,
    /// Who serve.
    pub workers: Arc<Vec<Worker>>,
    /// The file with the process's number.
    pub pidfile: Option<PidFile>,
    /// Clients that go over.
    pub leaving: UnboundedReceiver<Parcel>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The younger process has everything.
    Given,
    /// It has ended: this one goes on.
    Kept,
    /// This process, or the younger one, was told to stop, with what is left.
    Stopped(Stop),
}

/// Gives everything to the process at the other end of `heir`.
pub async fn give(
    estate: &mut Estate,
    heir: Homeless,
    inbox: &mut UnboundedReceiver<Order>,
) -> Outcome {
    let Some(socket) = heir.adopt().ok().and_then(Stream::into_unix) else {
        return Outcome::Kept;
    };
    let mut way = Way::over(socket);
    let pid = way.peer().unwrap_or(0);
    info!("process {pid} takes over");
    match timeout(PATIENCE, offer(estate, &mut way)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return refused(&error.to_string()),
        Err(_) => return refused("it did not begin to accept"),
    }
    let path = estate.pidfile.as_ref().map(|file| file.path().to_owned());
    estate.registry.set_hands_over(true);
    estate.acceptors.let_go().await;
    estate.pidfile = None;
    systemd::tell(Event::Succeeded(pid));
    let mut giving = Giving {
        registry: Arc::clone(&estate.registry),
        way,
        told: HashMap::new(),
        left: Vec::new(),
        heeded: 0,
        confirmed: 0,
        opens_from: clock::now(),
        heir_ends: false,
    };
    let given = tokio::select! {
        given = giving.give_all(&mut estate.leaving, &estate.workers) => given,
        () = told_to_stop(inbox) => return Outcome::Stopped(Stop::Now),
    };
    let Err(error) = given else {
        info!("process {pid} has taken over, this one ends");
        return Outcome::Given;
    };
    if giving.heir_ends {
        info!("process {pid} ends, and so does this one");
        return Outcome::Stopped(Stop::WaitForClients);
    }
    warn!(%error, "process {pid} has ended before it had taken over: this one goes on");
    go_on(estate, giving.left, path);
    Outcome::Kept
}

fn refused(why: &str) -> Outcome {
    warn!("the takeover was given up: {why}");
    Outcome::Kept
}

/// Shows the listening sockets, and waits until somebody accepts from them.
async fn offer(estate: &Estate, way: &mut Way) -> io::Result<()> {
    for listener in estate.acceptors.listeners() {
        let letter = listener.describe(Letter::new(LISTENER));
        way.send(&letter.write(), &[listener.as_fd()]).await?;
    }
    way.send(&Letter::new(ALL).write(), &[]).await?;
    until(way, READY).await
}

/// Waits for a letter of this kind.
async fn until(way: &mut Way, kind: &str) -> io::Result<()> {
    loop {
        let packet = way.next().await?;
        if Letter::read(&packet.bytes)?.kind() == kind {
            return Ok(());
        }
    }
}

/// Takes everything back.
fn go_on(estate: &mut Estate, left: Vec<Parcel>, pidfile: Option<std::path::PathBuf>) {
    let (registry, workers) = (&estate.registry, &estate.workers);
    registry.set_hands_over(false);
    for card in &registry.census.clients {
        card.withdraw(census::Order::MoveOn);
    }
    let listeners = estate.acceptors.listeners();
    match Acceptors::start(listeners, workers, registry) {
        Ok(acceptors) => estate.acceptors = acceptors,
        Err(error) => warn!(%error, "nobody new can be let in"),
    }
    match pidfile.map(|path| PidFile::write(&path)).transpose() {
        Ok(file) => estate.pidfile = file,
        Err(error) => warn!("{error}"),
    }
    systemd::tell(Event::Succeeded(std::process::id()));
    let mut parcels = left;
    while let Ok(parcel) = estate.leaving.try_recv() {
        parcels.push(parcel);
    }
    for (parcel, turn) in parcels.into_iter().zip((0..workers.len()).cycle()) {
        workers[turn].deal(Accepted::Moved(parcel.packet));
    }
}

async fn told_to_stop(inbox: &mut UnboundedReceiver<Order>) {
    loop {
        match inbox.recv().await {
            None | Some(Order::Stop(_)) => return,
            Some(Order::Reload(answer)) => {
                let _ = answer.send(Err("another process takes over".into()));
            }
            Some(Order::Set { answer, .. }) => {
                let _ = answer.send(Err("another process takes over".into()));
            }
            Some(Order::HandOver(_)) => {}
        }
    }
}

struct Giving {
    registry: Arc<Registry>,
    way: Way,
    /// What was said last of a pool, by its number and the kind of letter.
    told: HashMap<(u64, &'static str), Vec<u8>>,
    /// Clients that could not be sent.
    left: Vec<Parcel>,
    /// How many commands were carried out, and how many of them the younger process knows of.
    heeded: u64,
    confirmed: u64,
    /// When servers may be opened again, for clients that stay.
    opens_from: Moment,
    /// The younger process was told to end.
    heir_ends: bool,
}

impl Giving {
    async fn give_all(
        &mut self,
        leaving: &mut UnboundedReceiver<Parcel>,
        workers: &[Worker],
    ) -> io::Result<()> {
        let (done, mut cancelled) = unbounded_channel();
        self.say(&Letter::new(YOURS), &[]).await?;
        until(&mut self.way, UP).await?;
        let began = clock::now();
        self.opens_from = began.after(SETTLING);
        self.registry.open_from(self.opens_from);
        loop {
            // What is there is counted before who may still add to it.
            // The process before this one, if it is still there, needs this one for its clients' cancel requests.
            let is_over = self.registry.elder.load().is_none()
                && workers.iter().all(|worker| worker.clients() == 0)
                && leaving.is_empty();
            if is_over {
                break;
            }
            let pause = if clock::now().since(began) < LONG {
                LOOK
            } else {
                LATER_LOOK
            };
            tokio::select! {
                packet = self.way.next() => self.hear(&packet?.bytes, &done)?,
                Some((number, was_here)) = cancelled.recv() => {
                    let letter = Letter::new(CANCELLED).with("number", number).with("was_here", was_here);
                    self.say(&letter, &[]).await?;
                }
                () = tokio::time::sleep(pause) => {}
            }
            self.send_on();
            while let Ok(parcel) = leaving.try_recv() {
                self.left.push(parcel);
            }
            self.give_what_is_free(began.after(FIRST)).await?;
            self.confirm().await?;
        }
        for pool in self.registry.pools() {
            self.give_servers(&pool, pool.send_away()).await?;
        }
        let servers = &self.registry.census.servers;
        let closing = async {
            while !servers.is_empty() {
                self.registry.pools().iter().for_each(close_idle);
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = timeout(LAST_SERVERS, closing).await;
        Ok(())
    }

    /// Tells every client to go over as soon as it can, and guests of the console that this is the end.
    fn send_on(&self) {
        let dialect = self.registry.settings.load().dialect;
        for card in &self.registry.census.clients {
            if card.order() != census::Order::None || card.state() == ClientState::Cancelling {
                continue;
            }
            let is_guest = is_console(&card.facts.database, dialect);
            card.give(if is_guest {
                census::Order::Drain
            } else {
                census::Order::MoveOn
            });
        }
    }

    /// Gives clients that are on their way, and servers that nobody needs who asked after `since`.
    async fn give_what_is_free(&mut self, since: Moment) -> io::Result<()> {
        let pools = self.registry.pools();
        for pool in &pools {
            self.say_news(pool, POOL, lessons(pool)).await?;
            // Before the first client comes: it would be given a server beside those that are here.
            self.say_seats(pool, since).await?;
        }
        while let Some(parcel) = self.left.pop() {
            let descriptors: Vec<_> = parcel
                .packet
                .descriptors
                .iter()
                .map(|one| one.as_fd())
                .collect();
            if let Err(error) = self.way.send(&parcel.packet.bytes, &descriptors).await {
                drop(descriptors);
                self.left.push(parcel);
                return Err(error);
            }
        }
        for pool in &pools {
            let spare = pool.send_spare(since, clock::now());
            self.give_servers(pool, spare).await?;
            self.say_seats(pool, since).await?;
            if clock::now() >= self.opens_from {
                pool.grow();
            }
        }
        Ok(())
    }

    async fn say_seats(&mut self, pool: &Pool, since: Moment) -> io::Result<()> {
        let open = u64::try_from(pool.seats_here(since)).unwrap_or(u64::MAX);
        self.say_news(pool, SEATS, named(SEATS, pool).with("open", open))
            .await
    }

    /// Gives idle servers away. After DISCARD ALL nobody could tell what a `connect_query` had set: such are closed, as are those under TLS
    /// and of a cluster, which the younger process opens itself.
    async fn give_servers(&mut self, pool: &Arc<Pool>, spare: Vec<Away>) -> io::Result<()> {
        let target = Arc::clone(&pool.plan.load().target);
        let name = &pool.database.name;
        let is_followed = self.registry.settings.load().cluster_of(name).is_some();
        let may_go = target.connect_query.is_none() && !is_followed;
        for away in spare {
            let server = away.server().filter(|_| may_go);
            let passed = server.and_then(|server| {
                let letter = parcel::describe(server, &target)?;
                Some((letter, server.stream.descriptor().ok()?))
            });
            let Some((letter, descriptor)) = passed else {
                away.close();
                continue;
            };
            let letter = named(SERVER, pool).with_letter("server", letter);
            self.say(&letter, &[descriptor.as_fd()]).await?;
        }
        Ok(())
    }

    /// Says which commands were carried out, also by the process before this one; how many servers there are since was said before.
    async fn confirm(&mut self) -> io::Result<()> {
        let elder = self.registry.elder.load_full();
        if self.confirmed < self.heeded && elder.is_none_or(|elder| elder.heeds_all()) {
            self.confirmed = self.heeded;
            let letter = Letter::new(HEEDED).with("count", self.heeded);
            self.say(&letter, &[]).await?;
        }
        Ok(())
    }

    async fn say(&self, letter: &Letter, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.way.send(&letter.write(), descriptors).await
    }

    /// Says something of a pool, if it is not what was said last.
    async fn say_news(
        &mut self,
        pool: &Pool,
        kind: &'static str,
        letter: Letter,
    ) -> io::Result<()> {
        let letter = letter.write();
        if self.told.get(&(pool.id, kind)) != Some(&letter) {
            self.way.send(&letter, &[]).await?;
            self.told.insert((pool.id, kind), letter);
        }
        Ok(())
    }

    /// An operator of the younger process has given a command.
    fn heed(&mut self, text: &str) -> io::Result<()> {
        self.heeded += 1;
        if let Ok(command) = command::parse(text, Role::Acts)
            && let Err(complaint) = control::heed(&self.registry, text, &command)
        {
            info!("{text}: {}", complaint.message);
        }
        Ok(())
    }

    /// The younger process has been told to end, or something has come to it that concerns this one.
    fn hear(&mut self, bytes: &[u8], done: &UnboundedSender<(u64, bool)>) -> io::Result<()> {
        let letter = Letter::read(bytes)?;
        match letter.kind() {
            CANCEL => {}
            ORDER => return self.heed(letter.text("text")?),
            kind => {
                self.heir_ends |= kind == ENDING;
                return Ok(());
            }
        }
        let (number, key) = (letter.number("number")?, letter.bytes("key")?);
        let (registry, done) = (Arc::clone(&self.registry), done.clone());
        tokio::spawn(async move {
            let id = registry.census.next_id();
            let arrival = Arrival::new(id, ClientFacts::default(), clock::now());
            let elder = registry.elder.load_full();
            let was_here = cancel::deliver_here(&registry, &key, &arrival).await
                || match elder {
                    Some(elder) => elder.cancels(&key).await,
                    None => false,
                };
            let _ = done.send((number, was_here));
        });
        Ok(())
    }
}

fn close_idle(pool: &Arc<Pool>) {
    for away in pool.send_away() {
        away.close();
    }
}

fn named(kind: &str, pool: &Pool) -> Letter {
    Letter::new(kind)
        .with("database", pool.database.name.as_str())
        .with("user", pool.user.as_str())
}

/// What logins, to the pooler and to servers, have taught a pool.
fn lessons(pool: &Pool) -> Letter {
    let mut letter = named(POOL, pool);
    let target = Arc::clone(&pool.plan.load().target);
    if let Some(welcome) = pool.group.welcome() {
        let texts = welcome
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        letter = letter
            .with("place", target.place(target.host(0)))
            .with_texts("welcome", texts);
    }
    if let Some(keys) = pool.group.keys() {
        letter = letter.with_bytes("keys", &keys.expose());
    }
    if let Some(password) = pool.group.password() {
        letter = letter.with("password", password.to_text());
    }
    letter
}
