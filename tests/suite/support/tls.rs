//! Certificates made on the spot, clients that trust them to a degree, and a PostgreSQL that shows them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
};

use super::postgres::Server;
use super::wire::{Address, Wire};

/// An authority that signs whatever it is asked to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a certificate of our own");
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `common_name`, valid as the host names and addresses `hosts`.
    pub fn sign(&self, common_name: &str, hosts: &[&str]) -> Identity {
        let params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        self.sign_as(params, common_name, hosts)
    }

    /// The same, of a certificate whose time is over.
    pub fn sign_expired(&self, common_name: &str, hosts: &[&str]) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign_as(params, common_name, hosts)
    }

    fn sign_as(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        hosts: &[&str],
    ) -> Identity {
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.subject_alt_names = hosts
            .iter()
            .map(|host| match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().expect("a plain host name")),
            })
            .collect();
        let key = key();
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority signs");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client that trusts this authority, and shows `identity` if asked for one.
    pub fn trusted(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .expect("our own certificate is sound");
        let config = builder().with_root_certificates(roots);
        Arc::new(match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
                    .map(Result::unwrap)
                    .collect();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
                    .expect("our own key is sound");
                config
                    .with_client_auth_cert(chain, key)
                    .expect("certificate and key belong together")
            }
        })
    }
}

/// The same client, offering ALPN protocols.
pub fn with_alpn(config: &Arc<ClientConfig>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

/// A client that believes any certificate, as `sslmode=require` does.
pub fn trusting_all() -> Arc<ClientConfig> {
    let verifier = Arc::new(Anything(aws_lc_rs::default_provider()));
    Arc::new(
        builder()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
}

/// Whether a handshake after SSLRequest asks the client for a certificate.
pub fn asked_for_certificate(address: &Address) -> bool {
    #[derive(Debug, Default)]
    struct Asked(AtomicBool);
    impl ResolvesClientCert for Asked {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            self.0.store(true, Ordering::SeqCst);
            None
        }

        fn has_certs(&self) -> bool {
            true
        }
    }
    let asked = Arc::new(Asked::default());
    let verifier = Arc::new(Anything(aws_lc_rs::default_provider()));
    let config = builder()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::<Asked>::clone(&asked));
    let wire = Wire::dial(address).expect("the pooler accepts");
    // Whether the handshake succeeds without a certificate is not asked here.
    drop(wire.start_tls(Arc::new(config), "localhost"));
    asked.0.load(Ordering::SeqCst)
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key pair")
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
}

#[derive(Debug)]
struct Anything(CryptoProvider);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A PostgreSQL with TLS: takes SSLRequest and the handshake, and passes the rest on to a server without.
///
/// So each test has certificates of its own choosing, also where PostgreSQL was built without OpenSSL. It refuses
/// connections that do not ask for TLS, as `hostssl` lines alone in pg_hba.conf do.
pub struct Front {
    pub server: Server,
    sessions: Arc<AtomicUsize>,
    cancels: Arc<AtomicUsize>,
}

impl Front {
    /// Shows `identity`; with `clients`, demands certificates signed by that authority.
    pub fn new(behind: Server, identity: &Identity, clients: Option<&Authority>) -> Self {
        let config = Arc::new(server_config(identity, clients));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (sessions, cancels) = (Arc::default(), Arc::default());
        let counters: (Arc<AtomicUsize>, Arc<AtomicUsize>) =
            (Arc::clone(&sessions), Arc::clone(&cancels));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, behind) = (Arc::clone(&config), behind.clone());
                let (sessions, cancels) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
                // An error here is the end of that connection, which the test sees from its side.
                thread::spawn(move || relay(stream, config, &behind, &sessions, &cancels));
            }
        });
        Self {
            server: Server {
                host: "127.0.0.1".into(),
                port,
            },
            sessions,
            cancels,
        }
    }

    /// Sessions that came through TLS.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }

    /// Cancel requests that came through TLS.
    pub fn cancels(&self) -> usize {
        self.cancels.load(Ordering::SeqCst)
    }
}

fn server_config(identity: &Identity, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(authority.issuer.der().clone())
                .expect("our own certificate is sound");
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("a verifier"),
            )
        }
    };
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("our own key is sound");
    builder
        .with_single_cert(chain, key)
        .expect("certificate and key belong together")
}

fn relay(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    behind: &Server,
    sessions: &AtomicUsize,
    cancels: &AtomicUsize,
) -> io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    if request[4..] != 80_877_103_i32.to_be_bytes() {
        return Err(io::Error::other("not asked for TLS"));
    }
    stream.write_all(b"S")?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    let mut upstream = TcpStream::connect((behind.host.as_str(), behind.port))?;
    let tls = Arc::new(Mutex::new(tls));
    let (back, mut down, mut up) = (Arc::clone(&tls), stream.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let mut chunk = [0; 16_384];
        loop {
            let length = up.read(&mut chunk).unwrap_or(0);
            let mut tls = back.lock().unwrap();
            if length == 0 {
                tls.send_close_notify();
            } else {
                tls.writer().write_all(&chunk[..length])?;
            }
            while tls.wants_write() {
                tls.write_tls(&mut down)?;
            }
            if length == 0 {
                return down.shutdown(Shutdown::Both);
            }
        }
    });
    let mut chunk = [0; 16_384];
    let mut first = true;
    let mut plain = Vec::new();
    // The handshake may have brought the first bytes with it.
    let mut length = 0;
    loop {
        let mut read = &chunk[..length];
        while !read.is_empty() {
            let mut tls = tls.lock().unwrap();
            tls.read_tls(&mut read)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            drop(tls.reader().read_to_end(&mut plain));
        }
        if length == 0 {
            drop(tls.lock().unwrap().reader().read_to_end(&mut plain));
        }
        if first && plain.len() >= 8 {
            first = false;
            let counter = if plain[4..8] == 80_877_102_i32.to_be_bytes() {
                cancels
            } else {
                sessions
            };
            counter.fetch_add(1, Ordering::SeqCst);
        }
        upstream.write_all(&plain)?;
        plain.clear();
        length = stream.read(&mut chunk)?;
        if length == 0 {
            return upstream.shutdown(Shutdown::Write);
        }
    }
}
