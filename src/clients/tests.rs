//! Sessions between a raw client and a fake server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::auth::users::Users;
use crate::clients::session::Session;
use crate::clock;
use crate::config::settings::Settings;
use crate::config::value::PoolMode;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::lease::{self, Lease};
use crate::pools::limits::ClientPlaces;
use crate::pools::pool::{Asker, Pool};
use crate::pools::registry::Registry;
use crate::protocol::sides::ClientSide;
use crate::servers::fake::{Fake, until};
use crate::stats::census::{ClientCard, ClientFacts, ClientLimits, ClientState, Order};

fn run<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await })
        .unwrap()
}

/// A client of a fake server, with a session of its own.
struct Client {
    socket: TcpStream,
    card: Arc<ClientCard>,
    pool: Arc<Pool>,
    session: JoinHandle<Result<(), Error>>,
    fake: Fake,
}

impl Client {
    fn log_in(mode: PoolMode) -> Self {
        let fake = Fake::start();
        let settings = fake.settings();
        Self::log_in_with(mode, fake, settings)
    }

    fn log_in_with(mode: PoolMode, fake: Fake, mut settings: Settings) -> Self {
        settings.pooler.pool_mode = mode;
        settings.pooler.default_pool_size = 1;
        let registry = Registry::new(
            settings,
            Users::default(),
            None,
            crate::servers::security::TlsWays::default(),
            1,
        );
        let database = registry.database("app").unwrap();
        let pool = registry.pool(&database, "ann", None).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        theirs.set_nonblocking(true).unwrap();
        let now = clock::now();
        let card = ClientCard::new(1, ClientFacts::default(), ClientLimits::default(), now);
        let card = Arc::new(card);
        let places = ClientPlaces {
            user: registry.user("ann"),
            database,
        };
        assert!(places.database.clients.take(0) && places.user.clients.take(0));
        let side = ClientSide::new(registry.interner.make([("TimeZone", "UTC")]));
        let mut session = Session::new(
            Stream::from_accepted_tcp(ours).unwrap(),
            side,
            Arc::clone(&card),
            Arc::clone(&pool),
            places,
            None,
            Vec::new(),
        );
        Self {
            socket: TcpStream::from_std(theirs).unwrap(),
            card,
            pool,
            session: tokio::spawn(async move { session.serve().await }),
            fake,
        }
    }

    async fn send(&mut self, tag: u8, body: &str) {
        let mut frame = vec![tag];
        let length = u32::try_from(body.len() + 5).unwrap();
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body.as_bytes());
        frame.push(0);
        self.socket.write_all(&frame).await.unwrap();
    }

    /// The tag and the body of the next message.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let tag = self.socket.read_u8().await.unwrap();
        let length = self.socket.read_u32().await.unwrap();
        let mut body = vec![0; length as usize - 4];
        self.socket.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    async fn hear_until(&mut self, tag: u8) -> usize {
        let mut count = 0;
        while self.hear().await.0 != tag {
            count += 1;
        }
        count
    }

    async fn ask(&mut self, query: &str) -> usize {
        self.send(b'Q', query).await;
        self.hear_until(b'Z').await
    }
}

#[test]
fn a_client_that_reads_late_gets_all_of_a_large_result() {
    run(async {
        let mut client = Client::log_in(PoolMode::Transaction);
        client.send(b'Q', "rows 20000").await;
        // Until nothing moves any more, because nobody reads.
        let mut before = 0;
        until(|| {
            let sent = client.pool.tally().sent.get();
            sent > 0 && std::mem::replace(&mut before, sent) == sent
        })
        .await;
        assert_eq!(client.hear_until(b'Z').await, 20001);
    });
}

#[test]
fn terminate_and_half_a_message_are_no_queries() {
    run(async {
        let mut client = Client::log_in(PoolMode::Session);
        client.ask("x").await;
        client.send(b'X', "").await;
        assert_eq!((&mut client.session).await.unwrap(), Ok(()));
        let tally = client.pool.tally();
        assert_eq!((tally.queries.get(), tally.xacts.get()), (1, 1));
    });
    run(async {
        let mut client = Client::log_in(PoolMode::Transaction);
        client.socket.write_all(b"Q\0").await.unwrap();
        until(|| client.pool.headcount().idle == 1).await;
        assert_eq!(client.card.state(), ClientState::Idle);
        client.socket.write_all(b"\0\0\x06x\0").await.unwrap();
        client.hear_until(b'Z').await;
        let tally = client.pool.tally();
        assert_eq!((tally.queries.get(), tally.xacts.get()), (1, 1));
    });
}

#[test]
fn a_drain_ends_a_client_in_session_mode_right_after_its_query() {
    run(async {
        let mut client = Client::log_in(PoolMode::Session);
        client.ask("begin").await;
        client.card.give(Order::Drain);
        client.ask("x").await;
        client.ask("commit").await;
        let (tag, body) = client.hear().await;
        assert_eq!(tag, b'E');
        assert!(String::from_utf8_lossy(&body).contains("57P01"));
        assert_eq!(client.session.await.unwrap(), Err(Error::ShuttingDown));
    });
}

#[test]
fn no_error_is_put_into_the_middle_of_a_message() {
    run(async {
        let mut client = Client::log_in(PoolMode::Transaction);
        client.send(b'Q', "torn").await;
        let mut torn = [0; 7];
        client.socket.read_exact(&mut torn).await.unwrap();
        client.card.give(Order::Kill);
        let mut rest = Vec::new();
        client.socket.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        until(|| client.pool.headcount().open == 0).await;
    });
}

#[test]
fn a_timeout_found_a_moment_too_late_ends_nobody() {
    run(async {
        let mut client = Client::log_in(PoolMode::Transaction);
        client.ask("begin").await;
        client.card.give(Order::IdleTimeout);
        client.ask("commit").await;
        assert_eq!(client.card.order(), Order::None);
    });
}

/// The fate of a request whose server ends in the very moment it comes: over a Unix socket, or over TCP.
fn request_meets_the_end(mode: PoolMode, over_tcp: bool, frames: &[u8]) {
    run(async {
        let fake = Fake::start();
        let settings = if over_tcp {
            fake.settings_over_tcp()
        } else {
            fake.settings()
        };
        let mut client = Client::log_in_with(mode, fake, settings);
        if mode == PoolMode::Transaction {
            client.ask("x").await;
            until(|| client.pool.headcount().idle == 1).await;
        } else {
            drop(
                lease::borrow(&client.pool, Asker::Login)
                    .await
                    .map(Lease::release),
            );
            until(|| client.pool.headcount().idle == 1).await;
        }
        let asked = client.fake.asked();
        // No turn of the runtime lies between the two: the pooler sends before it can know.
        client.fake.end_at_next_turn();
        client.socket.try_write(frames).unwrap();
        client.hear_until(b'Z').await;
        assert_eq!(client.fake.asked(), asked + 1, "one server read it");
        client.ask("and goes on").await;
    });
}

#[test]
fn a_request_that_no_server_has_read_is_asked_of_another() {
    let query = b"Q\0\0\0\x06x\0";
    for over_tcp in [false, true] {
        request_meets_the_end(PoolMode::Transaction, over_tcp, query);
        request_meets_the_end(PoolMode::Session, over_tcp, query);
    }
}

#[test]
fn a_request_that_a_server_has_read_is_never_asked_again() {
    for over_tcp in [false, true] {
        run(async {
            let fake = Fake::start();
            let settings = if over_tcp {
                fake.settings_over_tcp()
            } else {
                fake.settings()
            };
            let mut client = Client::log_in_with(PoolMode::Transaction, fake, settings);
            client.ask("x").await;
            let asked = client.fake.asked();
            client.send(b'Q', "die").await;
            let (tag, body) = client.hear().await;
            assert_eq!(tag, b'E', "the server's own last words");
            assert!(String::from_utf8_lossy(&body).contains("57P01"));
            let ended = client.session.await.unwrap();
            assert!(matches!(ended, Err(Error::ServerLost(_))));
            assert_eq!(client.fake.asked(), asked + 1);
        });
    }
}
