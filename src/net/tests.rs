//! Streams over real sockets, and TLS over real certificates.

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SigningKey,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::net::stream::{Address, Homeless, SocketOptions, Stream};
use crate::net::tls::{
    ClientCertificates, ClientTls, FileKind, Files, ServerTls, TlsProblem, Verify, Versions,
    peer_names,
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
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while idle.read_ready(&mut cx) {
            tokio::task::yield_now().await;
        }
        assert!(!idle.has_unheard_bytes());
        other.write_all(b"FATAL").unwrap();
        // Nothing was awaited since.
        assert!(!idle.read_ready(&mut cx));
        assert!(idle.has_unheard_bytes());
    });
}

/// A directory of this test alone, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "pooler-net-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority with its files.
struct Authority {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let folder = Folder::new();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "The authority");
        let key = KeyPair::generate().unwrap();
        let file = folder.put("ca.crt", &params.self_signed(&key).unwrap().pem());
        Self {
            folder,
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// Files of a leaf with `common` as common name and `names` as alternative names.
    fn leaf(&self, common: &str, names: &[&str]) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(common, names).signed_by(&key, &self.issuer).unwrap();
        self.files(common, &certificate.pem(), &key.serialize_pem())
    }

    /// Files of a leaf of X.509 version 1, its key as SEC1 behind its parameters.
    fn old_leaf(&self, common: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(common, &[]).signed_by(&key, &self.issuer).unwrap();
        let old = into_version_1(certificate.der(), self.issuer.key());
        self.files(common, &pem("CERTIFICATE", &old), &sec1(&key))
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> Files {
        Files {
            ca: Some(self.file.clone()),
            certificate: Some(self.folder.put(&format!("{name}.crt"), certificate)),
            key: Some(self.folder.put(&format!("{name}.key"), key)),
        }
    }

    fn trusted(&self) -> Files {
        Files {
            ca: Some(self.file.clone()),
            ..Files::default()
        }
    }
}

fn leaf(common: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

/// One element of DER: tag, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        short @ 0..=0x7f => der.push(short as u8),
        long => der.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    der.extend(content);
    der
}

/// The elements of `der` after each other, whole.
fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut list = Vec::new();
    while !der.is_empty() {
        let (head, length) = head_and_length(der);
        let (first, rest) = der.split_at(head + length);
        list.push(first);
        der = rest;
    }
    list
}

fn content(der: &[u8]) -> &[u8] {
    &der[head_and_length(der).0..]
}

fn head_and_length(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..=0x7f => (2, short.into()),
        0x81 => (3, der[2].into()),
        _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
    }
}

/// The same certificate without version and extensions, signed again.
fn into_version_1(certificate: &CertificateDer<'_>, issuer: &KeyPair) -> Vec<u8> {
    let parts = elements(content(certificate));
    let body: Vec<u8> = elements(content(parts[0]))
        .into_iter()
        .filter(|field| field[0] != 0xa0 && field[0] != 0xa3)
        .flatten()
        .copied()
        .collect();
    let body = element(0x30, &body);
    let mut signature = vec![0];
    signature.extend(issuer.sign(&body).unwrap());
    element(
        0x30,
        &[&body, parts[1], &element(0x03, &signature)].concat(),
    )
}

/// The key of P-256 as `openssl ecparam -genkey` writes it.
fn sec1(key: &KeyPair) -> String {
    let curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let inner = content(elements(content(key.serialized_der()))[2]);
    let secret = elements(content(inner))[1];
    let public = [&[0], key.der_bytes()].concat();
    let sec1 = element(
        0x30,
        &[
            &[0x02, 0x01, 0x01],
            secret,
            &element(0xa0, &curve),
            &element(0xa1, &element(0x03, &public)),
        ]
        .concat(),
    );
    pem("EC PARAMETERS", &curve) + &pem("EC PRIVATE KEY", &sec1)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
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

/// Whether a server with these files is believed under that name.
fn is_believed(
    verify: Verify,
    versions: Versions,
    trusted: &Files,
    server: &Files,
    host: &str,
) -> bool {
    let client = ClientTls::load(verify, trusted, versions).unwrap();
    let server = towards_clients(ClientCertificates::NotAsked, server);
    run(async {
        shake(
            tcp_pair(&SocketOptions::default()).await,
            client,
            server,
            host,
        )
        .await
        .is_ok()
    })
}

/// Whether a client with these files is let in and can talk.
fn is_let_in(
    clients: ClientCertificates,
    server: &Files,
    client: &Files,
) -> Result<Vec<String>, io::Error> {
    let client = towards_servers(Verify::Chain, client);
    let server = towards_clients(clients, server);
    run(async {
        let pair = tcp_pair(&SocketOptions::default()).await;
        let (mut dialed, mut accepted) = shake(pair, client, server, "db.example").await?;
        dialed.write_all(b"hello").await?;
        accepted.read_some(&mut [0; 16]).await?;
        Ok(accepted
            .peer_certificate()
            .map(peer_names)
            .unwrap_or_default())
    })
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
            assert!(!poll_fn(|cx| Poll::Ready(dialed.read_ready(cx))).await);

            accepted.write_all(b"news").await.unwrap();
            poll_fn(|cx| {
                if dialed.read_ready(cx) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            let mut buffer = [0; 2];
            assert_eq!(dialed.read_some(&mut buffer).await.unwrap(), 2);
            assert!(
                poll_fn(|cx| Poll::Ready(dialed.read_ready(cx))).await,
                "half of it is left"
            );
            assert_eq!(dialed.read_some(&mut [0; 16]).await.unwrap(), 2);
            assert!(!poll_fn(|cx| Poll::Ready(dialed.read_ready(cx))).await);
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
        assert_eq!(
            dialed.server_end_point_binding().unwrap(),
            Sha256::digest(shown).to_vec()
        );
        assert_eq!(
            dialed.server_end_point_binding(),
            accepted.server_end_point_binding()
        );
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

#[test]
fn a_required_client_certificate_is_verified() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let good = authority.leaf("alice", &[]);
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.leaf("alice", &[])
    };
    let none = authority.trusted();

    let required = ClientCertificates::Required;
    assert_eq!(is_let_in(required, &server, &good).unwrap(), ["alice"]);
    assert!(is_let_in(required, &server, &bad).is_err());
    assert!(is_let_in(required, &server, &none).is_err());
}

#[test]
fn an_optional_client_certificate_is_verified_when_shown() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.leaf("alice", &[])
    };

    let optional = ClientCertificates::Optional;
    assert_eq!(
        is_let_in(optional, &server, &authority.leaf("alice", &[])).unwrap(),
        ["alice"]
    );
    assert!(
        is_let_in(optional, &server, &authority.trusted())
            .unwrap()
            .is_empty()
    );
    assert!(is_let_in(optional, &server, &bad).is_err());
}

#[test]
fn a_client_certificate_of_version_1_is_let_in() {
    let authority = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let old = authority.old_leaf("alice");
    assert_eq!(
        is_let_in(ClientCertificates::Required, &server, &old).unwrap(),
        ["alice"]
    );
    let stranger = Authority::new();
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.old_leaf("alice")
    };
    assert!(is_let_in(ClientCertificates::Required, &server, &bad).is_err());
}

#[test]
fn the_name_counts_for_verify_full_only() {
    let authority = Authority::new();
    let server = authority.leaf("other.example", &["db.example", "127.0.0.1"]);
    let trusted = authority.trusted();
    let believed = |verify, host| is_believed(verify, Versions::default(), &trusted, &server, host);

    assert!(believed(Verify::Full, "db.example"));
    assert!(believed(Verify::Full, "127.0.0.1"));
    assert!(!believed(Verify::Full, "127.0.0.2"));
    assert!(
        !believed(Verify::Full, "other.example"),
        "with alternative names the common name does not count"
    );
    assert!(believed(Verify::Chain, "other.example"));
    assert!(believed(Verify::No, "other.example"));
}

#[test]
fn a_stranger_is_believed_only_when_nothing_is_verified() {
    let stranger = Authority::new();
    let server = stranger.leaf("db.example", &["db.example"]);
    let authority = Authority::new();
    let trusted = authority.trusted();
    let believed =
        |verify| is_believed(verify, Versions::default(), &trusted, &server, "db.example");
    assert!(!believed(Verify::Full));
    assert!(!believed(Verify::Chain));
    assert!(believed(Verify::No));
}

#[test]
fn a_common_name_stands_in_for_missing_alternative_names() {
    let authority = Authority::new();
    let trusted = authority.trusted();
    for server in [
        authority.leaf("db.example", &[]),
        authority.old_leaf("db.example"),
    ] {
        for versions in [
            Versions {
                tls12: true,
                tls13: false,
            },
            Versions {
                tls12: false,
                tls13: true,
            },
        ] {
            let believed = |verify, host| is_believed(verify, versions, &trusted, &server, host);
            assert!(believed(Verify::Full, "db.example"));
            assert!(believed(Verify::Full, "DB.example"));
            assert!(!believed(Verify::Full, "evil.example"));
            assert!(believed(Verify::Chain, "evil.example"));
            assert!(believed(Verify::No, "evil.example"));
        }
    }
}

#[test]
fn a_version_1_certificate_of_a_stranger_is_not_believed() {
    let stranger = Authority::new();
    let server = stranger.old_leaf("db.example");
    let authority = Authority::new();
    let trusted = authority.trusted();
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &trusted,
        &server,
        "db.example"
    ));
    assert!(!is_believed(
        Verify::Full,
        Versions::default(),
        &trusted,
        &server,
        "db.example"
    ));
}

#[test]
fn a_self_signed_server_is_believed_by_its_own_certificate() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    for is_ca in [
        IsCa::Ca(BasicConstraints::Unconstrained),
        IsCa::ExplicitNoCa,
    ] {
        let mut params = leaf("db.example", &[]);
        params.is_ca = is_ca;
        let own = folder.put("own.crt", &params.self_signed(&key).unwrap().pem());
        let server = Files {
            ca: None,
            certificate: Some(own.clone()),
            key: Some(folder.put("own.key", &key.serialize_pem())),
        };
        let trusted = Files {
            ca: Some(own),
            ..Files::default()
        };
        assert!(is_believed(
            Verify::Full,
            Versions::default(),
            &trusted,
            &server,
            "db.example"
        ));
        assert!(!is_believed(
            Verify::Full,
            Versions::default(),
            &trusted,
            &server,
            "evil.example"
        ));
        let other = Authority::new();
        assert!(!is_believed(
            Verify::Chain,
            Versions::default(),
            &other.trusted(),
            &server,
            "db.example"
        ));
    }
}

#[test]
fn an_old_certificate_that_is_no_authority_issues_nothing() {
    let authority = Authority::new();
    let middle_key = KeyPair::generate().unwrap();
    let middle = leaf("middle", &[]);
    let middle_certificate = middle.signed_by(&middle_key, &authority.issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    let below = leaf("db.example", &[])
        .signed_by(&key, &Issuer::new(middle, &middle_key))
        .unwrap();
    let old = into_version_1(below.der(), &middle_key);
    let chain = pem("CERTIFICATE", &old) + &middle_certificate.pem();
    let server = authority.files("below", &chain, &key.serialize_pem());
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn an_old_certificate_below_an_intermediate_authority_is_believed() {
    let authority = Authority::new();
    let middle_key = KeyPair::generate().unwrap();
    let mut middle = leaf("middle", &[]);
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle_certificate = middle.signed_by(&middle_key, &authority.issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    let below = leaf("db.example", &[])
        .signed_by(&key, &Issuer::new(middle, &middle_key))
        .unwrap();
    let old = into_version_1(below.der(), &middle_key);
    let chain = pem("CERTIFICATE", &old) + &middle_certificate.pem();
    let server = authority.files("below", &chain, &key.serialize_pem());
    assert!(is_believed(
        Verify::Full,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn an_expired_old_certificate_is_not_believed() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = leaf("db.example", &[]);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let old = into_version_1(certificate.der(), authority.issuer.key());
    let server = authority.files("expired", &pem("CERTIFICATE", &old), &key.serialize_pem());
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn a_problem_names_the_file_and_the_reason() {
    let authority = Authority::new();
    let good = authority.leaf("db", &[]);
    let load = |files: &Files| {
        ServerTls::load(ClientCertificates::NotAsked, files, Versions::default()).unwrap_err()
    };
    let gone = Files {
        key: Some(PathBuf::from("/nowhere/server.key")),
        ..good.clone()
    };
    assert!(
        load(&gone)
            .to_string()
            .starts_with("the key file /nowhere/server.key cannot be read: ")
    );

    let junk = Files {
        certificate: Some(authority.folder.put("junk", "hello")),
        ..good.clone()
    };
    assert!(matches!(
        load(&junk),
        TlsProblem::Malformed {
            what: FileKind::Certificate,
            ..
        }
    ));

    let mixed = Files {
        key: authority.leaf("another", &[]).key,
        ..good.clone()
    };
    assert!(matches!(load(&mixed), TlsProblem::KeyOfAnother { .. }));

    assert!(matches!(
        load(&Files::default()),
        TlsProblem::NotSet {
            what: FileKind::Certificate
        }
    ));

    let no_version = Versions {
        tls12: false,
        tls13: false,
    };
    let refused = ClientTls::load(Verify::No, &Files::default(), no_version).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "neither TLS 1.2 nor TLS 1.3 is allowed"
    );
}
