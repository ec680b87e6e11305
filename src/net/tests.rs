//! Streams over real sockets, and TLS over real certificates.

mod authority;
mod certificates;

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::Notify;

use self::authority::{Authority, Folder};
use crate::net::stream::{Address, Homeless, SocketOptions, Stream};
use crate::net::tls::{
    ClientCertificates, ClientTls, Files, ServerTls, Verify, Versions, peer_names,
};

const LOT: usize = 5 * 1024 * 1024;

fn run<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(story)
}

/// Two ends of a TCP connection: who dialed, and who was dialed.
async fn tcp_pair(options: &SocketOptions) -> (Stream, Stream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let dialed = Stream::connect_tcp(address, options).await.unwrap();
    let (accepted, _) = listener.accept().unwrap();
    options.apply(&accepted).unwrap();
    (dialed, Stream::from_accepted_tcp(accepted).unwrap())
}

#[test]
fn what_the_runtime_has_not_come_to_yet_is_seen_in_the_socket() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let options = SocketOptions::default();
        let idle = Stream::connect_tcp(address, &options).await.unwrap();
        let (mut other, _) = listener.accept().unwrap();
        while idle.has_heard() {
            tokio::task::yield_now().await;
        }
        assert!(!idle.has_unheard_bytes());
        other.write_all(b"FATAL").unwrap();
        // Nothing was awaited since.
        assert!(!idle.has_heard());
        assert!(idle.has_unheard_bytes());
    });
}

fn name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap()
}

fn towards_clients(clients: ClientCertificates, files: &Files) -> Arc<ServerConfig> {
    ServerTls::load(clients, files, Versions::default()).unwrap()
}

fn towards_servers(verify: Verify, files: &Files) -> Arc<ClientConfig> {
    ClientTls::load(verify, files, Versions::default()).unwrap()
}

/// Both ends after a handshake, or the first of the two failures.
async fn shake(
    (dialed, accepted): (Stream, Stream),
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    host: &str,
) -> io::Result<(Stream, Stream)> {
    tokio::try_join!(
        dialed.connect_tls(client, name(host)),
        accepted.accept_tls(server, &[])
    )
}

async fn tls_pair(options: &SocketOptions) -> (Stream, Stream) {
    let authority = Authority::new();
    let server = towards_clients(
        ClientCertificates::NotAsked,
        &authority.leaf("db", &["db.example"]),
    );
    let client = towards_servers(Verify::Full, &authority.trusted());
    shake(tcp_pair(options).await, client, server, "db.example")
        .await
        .unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index * 31 + index / 251) as u8)
        .collect()
}

async fn echo(mut stream: Stream) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read_some(&mut buffer).await.unwrap();
        if count == 0 {
            return poll_fn(|cx| stream.poll_close(cx)).await.unwrap();
        }
        stream.write_all(&buffer[..count]).await.unwrap();
    }
}

/// Writes `bytes` and reads as many, in one task; then closes and waits for the other side to do so.
async fn exchange(mut stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut sent = 0;
    let mut buffer = vec![0; 64 * 1024];
    poll_fn(|cx| {
        while sent < bytes.len() {
            match stream.poll_write(cx, &bytes[sent..]) {
                Poll::Ready(count) => sent += count.unwrap(),
                Poll::Pending => break,
            }
        }
        let _ = stream.poll_flush(cx);
        while answer.len() < bytes.len() {
            match stream.poll_read(cx, &mut buffer) {
                Poll::Ready(count) => {
                    let count = count.unwrap();
                    assert_ne!(count, 0, "the echo ended early");
                    answer.extend_from_slice(&buffer[..count]);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    })
    .await;
    poll_fn(|cx| stream.poll_close(cx)).await.unwrap();
    assert_eq!(
        stream.read_some(&mut buffer).await.unwrap(),
        0,
        "the other side says goodbye"
    );
    answer
}

/// Writes until the other side's not reading is felt, tells, and writes on.
async fn write_against_the_tide(stream: &mut Stream, bytes: &[u8], full: &Notify) {
    let mut sent = 0;
    let mut was_full = false;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match stream.poll_write(cx, &bytes[sent..]) {
                Poll::Ready(count) => sent += count.unwrap(),
                Poll::Pending => {
                    was_full = true;
                    full.notify_one();
                    return Poll::Pending;
                }
            }
        }
        stream.poll_flush(cx).map(Result::unwrap)
    })
    .await;
    assert!(
        was_full,
        "the writer felt nothing of a reader that does not read"
    );
    assert!(!stream.has_pending_output());
}

async fn read_small_once_full(stream: &mut Stream, len: usize, full: &Notify) -> Vec<u8> {
    full.notified().await;
    let mut all = Vec::new();
    let mut buffer = [0; 1000];
    while all.len() < len {
        let count = stream.read_some(&mut buffer).await.unwrap();
        assert_ne!(count, 0);
        all.extend_from_slice(&buffer[..count]);
    }
    all
}

#[test]
fn what_goes_over_tcp_comes_back() {
    run(async {
        let (dialed, accepted) = tcp_pair(&SocketOptions::default()).await;
        assert_eq!(dialed.peer(), accepted.local());
        assert_eq!(dialed.local(), accepted.peer());
        assert!(dialed.peer().to_string().starts_with("127.0.0.1:"));
        let bytes = pattern(LOT);
        let (answer, ()) = tokio::join!(exchange(dialed, &bytes), echo(accepted));
        assert!(answer == bytes);
    });
}

#[test]
fn what_goes_over_a_unix_socket_comes_back() {
    run(async {
        let folder = Folder::new();
        let path = folder.0.join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let dialed = Stream::connect_unix(&path).await.unwrap();
        let accepted = Stream::from_accepted_unix(listener.accept().unwrap().0).unwrap();
        assert_eq!(accepted.peer(), Address::Unix);
        assert_eq!(accepted.peer().to_string(), "unix");
        assert_eq!(accepted.peer_pid(), i32::try_from(std::process::id()).ok());
        assert_eq!(accepted.peer_uid(), dialed.peer_uid());
        let bytes = pattern(LOT);
        let (answer, ()) = tokio::join!(exchange(dialed, &bytes), echo(accepted));
        assert!(answer == bytes);
    });
}

#[test]
fn what_goes_over_tls_comes_back() {
    run(async {
        let (dialed, accepted) = tls_pair(&SocketOptions::default()).await;
        let bytes = pattern(LOT);
        let (answer, ()) = tokio::join!(exchange(dialed, &bytes), echo(accepted));
        assert!(answer == bytes);
    });
}

#[test]
fn a_reader_that_does_not_read_holds_up_the_writer_in_both_directions() {
    run(async {
        let options = SocketOptions {
            socket_buffer: Some(16 * 1024),
            ..SocketOptions::default()
        };
        let (mut dialed, mut accepted) = tls_pair(&options).await;
        let bytes = pattern(LOT);
        let full = Notify::new();
        let (_, read) = tokio::join!(
            write_against_the_tide(&mut dialed, &bytes, &full),
            read_small_once_full(&mut accepted, LOT, &full)
        );
        assert!(read == bytes);
        let full = Notify::new();
        let (_, read) = tokio::join!(
            write_against_the_tide(&mut accepted, &bytes, &full),
            read_small_once_full(&mut dialed, LOT, &full)
        );
        assert!(read == bytes);
    });
}

#[test]
fn several_slices_are_one_batch_in_order() {
    run(async {
        for (mut dialed, mut accepted) in [
            tcp_pair(&SocketOptions::default()).await,
            tls_pair(&SocketOptions::default()).await,
        ] {
            let slices = [io::IoSlice::new(b"one "), io::IoSlice::new(b"two")];
            assert_eq!(
                poll_fn(|cx| dialed.poll_write_vectored(cx, &slices))
                    .await
                    .unwrap(),
                7
            );
            let mut buffer = [0; 16];
            assert_eq!(accepted.read_some(&mut buffer).await.unwrap(), 7);
            assert_eq!(&buffer[..7], b"one two");
        }
    });
}

#[test]
fn trying_to_write_stops_when_the_other_side_reads_nothing() {
    run(async {
        let options = SocketOptions {
            socket_buffer: Some(16 * 1024),
            ..SocketOptions::default()
        };
        for (mut dialed, mut accepted) in [tcp_pair(&options).await, tls_pair(&options).await] {
            dialed.write_all(b"x").await.unwrap();
            let lump = [7; 8192];
            let mut sent = 1;
            let refusal = loop {
                match dialed.try_write(&lump) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
                assert!(sent < 64 * LOT);
            };
            assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
            let read = async {
                let mut buffer = vec![0; 4096];
                let mut read = 0;
                while read < sent {
                    read += accepted.read_some(&mut buffer).await.unwrap();
                }
                read
            };
            let (flushed, read) = tokio::join!(poll_fn(|cx| dialed.poll_flush(cx)), read);
            flushed.unwrap();
            assert_eq!(read, sent);
        }
    });
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_bytes_is_woken_whoever_asks_meanwhile_what_was_heard() {
    run(async {
        let (mut waiting, mut other) = tcp_pair(&SocketOptions::default()).await;
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        for turn in 1..=3 {
            while waiting.poll_read(&mut cx, &mut [0; 64]).is_ready() {}
            let woken = bell.0.load(Ordering::SeqCst);
            assert!(!waiting.has_heard(), "turn {turn}");
            other.write_all(b"news").await.unwrap();
            while !waiting.has_heard() {
                tokio::task::yield_now().await;
            }
            assert_eq!(bell.0.load(Ordering::SeqCst), woken + 1, "turn {turn}");
        }
    });
}

#[test]
fn a_quiet_stream_is_not_ready_to_be_read() {
    run(async {
        for (mut dialed, mut accepted) in [
            tcp_pair(&SocketOptions::default()).await,
            tls_pair(&SocketOptions::default()).await,
        ] {
            // The tickets of the handshake may be on their way still; an exchange brings them in.
            dialed.write_all(b"ping").await.unwrap();
            accepted.read_some(&mut [0; 16]).await.unwrap();
            accepted.write_all(b"pong").await.unwrap();
            dialed.read_some(&mut [0; 16]).await.unwrap();
            assert!(!dialed.has_heard());

            accepted.write_all(b"news").await.unwrap();
            while !dialed.has_heard() {
                tokio::task::yield_now().await;
            }
            let mut buffer = [0; 2];
            assert_eq!(dialed.read_some(&mut buffer).await.unwrap(), 2);
            assert!(dialed.has_heard(), "half of it is left");
            assert_eq!(dialed.read_some(&mut [0; 16]).await.unwrap(), 2);
            assert!(!dialed.has_heard());
        }
    });
}

#[test]
fn both_sides_of_tls_know_what_was_agreed() {
    run(async {
        let authority = Authority::new();
        let files = authority.leaf("db", &["db.example"]);
        let server = towards_clients(ClientCertificates::NotAsked, &files);
        let client = ClientTls::direct(&towards_servers(Verify::Full, &authority.trusted()));
        let pair = tcp_pair(&SocketOptions::default()).await;
        let (dialed, accepted) = shake(pair, client, server, "db.example").await.unwrap();
        for stream in [&dialed, &accepted] {
            assert_eq!(stream.alpn(), Some(&b"postgresql"[..]));
            assert_eq!(
                stream.tls_description().unwrap(),
                "TLSv1.3/TLS_AES_256_GCM_SHA384"
            );
        }
        let shown = dialed.peer_certificate().unwrap();
        assert_eq!(peer_names(shown), ["db", "db.example"]);
        assert_eq!(accepted.peer_certificate(), None);
    });
}

#[test]
fn a_hello_that_was_read_already_is_not_lost() {
    run(async {
        let authority = Authority::new();
        let server = towards_clients(
            ClientCertificates::NotAsked,
            &authority.leaf("db", &["db.example"]),
        );
        let client = ClientTls::direct(&towards_servers(Verify::Full, &authority.trusted()));
        let (dialed, mut accepted) = tcp_pair(&SocketOptions::default()).await;
        let server_side = async {
            let mut hello = [0; 100];
            let count = accepted.read_some(&mut hello).await?;
            accepted.accept_tls(server, &hello[..count]).await
        };
        let (mut dialed, mut accepted) =
            tokio::try_join!(dialed.connect_tls(client, name("db.example")), server_side).unwrap();
        dialed.write_all(b"hello").await.unwrap();
        assert_eq!(accepted.read_some(&mut [0; 16]).await.unwrap(), 5);
    });
}

#[test]
fn tls_moves_to_another_thread_in_the_middle_of_a_conversation() {
    let (to_other, from_one) = mpsc::channel();
    let other = std::thread::spawn(move || {
        run(async {
            let homeless: Homeless = from_one.recv().unwrap();
            let mut stream = homeless.adopt().unwrap();
            let mut buffer = [0; 16];
            let count = stream.read_some(&mut buffer).await.unwrap();
            assert_eq!(
                &buffer[..count],
                b" sentence",
                "what was decrypted before the move comes first"
            );
            let count = stream.read_some(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], b"after the move");
            stream.write_all(b"heard you").await.unwrap();
        });
    });
    run(async {
        let (mut dialed, mut accepted) = tls_pair(&SocketOptions::default()).await;
        dialed.write_all(b"half sentence").await.unwrap();
        let mut half = [0; 4];
        assert_eq!(accepted.read_some(&mut half).await.unwrap(), 4);
        to_other.send(accepted.rehome().unwrap()).unwrap();
        dialed.write_all(b"after the move").await.unwrap();
        let mut buffer = [0; 16];
        let count = dialed.read_some(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"heard you");
    });
    other.join().unwrap();
}
