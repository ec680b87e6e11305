//! From files and modes to what rustls wants: one configuration towards the clients, one towards the servers.
//!
//! A configuration never changes. A reload builds a new one, and with it new ticket keys, so a session of the old one is
//! not resumed under rules that no longer hold.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CipherSuite, ClientConfig, ProtocolVersion, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};

use crate::net::certificate::public_key;
use crate::net::verify::{ClientJudge, ServerJudge, Trust};

pub use crate::net::certificate::peer_names;

/// The protocol name of Postgres in ALPN.
pub const ALPN: &[u8] = b"postgresql";

/// How many sessions are remembered for resumption, on either side. Tickets carry most of them, so this is small.
const SESSIONS: usize = 256;

/// How much of a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: `allow`, `prefer`, `require`.
    No,
    /// That it comes from a known authority: `verify-ca`.
    Chain,
    /// That, and that it is made out to the host dialed: `verify-full`.
    Full,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    NotAsked,
    /// They are, and what they show is verified. Without a CA file they are not asked: `allow`, `prefer`, `require`.
    Optional,
    /// They are, and must show one: `verify-ca`, `verify-full`.
    Required,
}

/// The PEM files of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The authorities that are trusted.
    pub ca: Option<PathBuf>,
    /// Our certificate, followed by the authorities between it and the root.
    pub certificate: Option<PathBuf>,
    /// Its key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: Option<PathBuf>,
}

/// Which versions of TLS are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
        }
    }
}

impl Versions {
    fn list(self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsProblem> {
        let mut list = Vec::new();
        if self.tls13 {
            list.push(&rustls::version::TLS13);
        }
        if self.tls12 {
            list.push(&rustls::version::TLS12);
        }
        if list.is_empty() {
            Err(TlsProblem::NoVersion)
        } else {
            Ok(list)
        }
    }
}

/// Which of the files a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The authorities.
    Ca,
    /// The certificate.
    Certificate,
    /// The key.
    Key,
}

impl fmt::Display for FileKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            FileKind::Ca => "CA file",
            FileKind::Certificate => "certificate file",
            FileKind::Key => "key file",
        })
    }
}

/// Why TLS cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A file is needed and not named.
    NotSet {
        /// The file in question.
        what: FileKind,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file in question.
        what: FileKind,
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    Malformed {
        /// The file in question.
        what: FileKind,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not that of the certificate.
    KeyOfAnother {
        /// Where the certificate is.
        certificate: PathBuf,
        /// Where the key is.
        key: PathBuf,
    },
    /// Neither TLS 1.2 nor TLS 1.3 is allowed.
    NoVersion,
    /// No CA file is named, and the system has no authorities.
    NoSystemRoots {
        /// Why there are none.
        reason: String,
    },
    /// rustls refuses for a reason of its own.
    Refused {
        /// That reason.
        source: rustls::Error,
    },
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsProblem::NotSet { what } => write!(formatter, "the {what} is not set"),
            TlsProblem::Unreadable { what, path, source } => {
                write!(
                    formatter,
                    "the {what} {} cannot be read: {source}",
                    path.display()
                )
            }
            TlsProblem::Malformed { what, path, reason } => {
                write!(
                    formatter,
                    "the {what} {} is not usable: {reason}",
                    path.display()
                )
            }
            TlsProblem::KeyOfAnother { certificate, key } => write!(
                formatter,
                "the key in {} does not belong to the certificate in {}",
                key.display(),
                certificate.display()
            ),
            TlsProblem::NoVersion => formatter.write_str("neither TLS 1.2 nor TLS 1.3 is allowed"),
            TlsProblem::NoSystemRoots { reason } => {
                write!(
                    formatter,
                    "no CA file is set, and the system's authorities cannot be had: {reason}"
                )
            }
            TlsProblem::Refused { source } => write!(formatter, "TLS cannot be set up: {source}"),
        }
    }
}

impl std::error::Error for TlsProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsProblem::Unreadable { source, .. } => Some(source),
            TlsProblem::Refused { source } => Some(source),
            TlsProblem::NotSet { .. }
            | TlsProblem::Malformed { .. }
            | TlsProblem::KeyOfAnother { .. }
            | TlsProblem::NoVersion
            | TlsProblem::NoSystemRoots { .. } => None,
        }
    }
}

impl From<rustls::Error> for TlsProblem {
    fn from(source: rustls::Error) -> Self {
        TlsProblem::Refused { source }
    }
}

/// TLS towards the clients, where we are the server.
#[derive(Debug)]
pub struct ServerTls;

impl ServerTls {
    /// Reads the files. Certificate and key are needed; `postgresql` is offered by ALPN, and a client that asks for other protocols
    /// only is refused, as Postgres does.
    ///
    /// # Errors
    /// The first file that is missing or wrong.
    pub fn load(
        clients: ClientCertificates,
        files: &Files,
        versions: Versions,
    ) -> Result<Arc<ServerConfig>, TlsProblem> {
        let provider = provider();
        let versions = versions.list()?;
        let own = own_certificate(files, &provider)?.ok_or(TlsProblem::NotSet {
            what: FileKind::Certificate,
        })?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?;
        let builder = match client_judge(clients, files, &provider)? {
            Some(judge) => builder.with_client_cert_verifier(Arc::new(judge)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(own));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

/// TLS towards the servers, where we are the client.
#[derive(Debug)]
pub struct ClientTls;

impl ClientTls {
    /// Reads the files. Certificate and key are shown to servers that ask. Without a CA file, what is to be verified is verified against the
    /// system's authorities. The host's name is sent to the server (SNI) whatever is verified, as libpq does.
    ///
    /// # Errors
    /// The first file that is missing or wrong.
    pub fn load(
        verify: Verify,
        files: &Files,
        versions: Versions,
    ) -> Result<Arc<ClientConfig>, TlsProblem> {
        let provider = provider();
        let versions = versions.list()?;
        let algorithms = provider.signature_verification_algorithms;
        let judge = match verify {
            Verify::No => ServerJudge::believing(algorithms),
            Verify::Chain => ServerJudge::of_chains(trust(files)?, algorithms),
            Verify::Full => ServerJudge::of_chains_and_names(trust(files)?, algorithms),
        };
        let own = own_certificate(files, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(own)),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(config))
    }

    /// The same for direct TLS, where Postgres insists on ALPN.
    pub fn direct(config: &ClientConfig) -> Arc<ClientConfig> {
        let mut config = config.clone();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config)
    }
}

/// Version and cipher in OpenSSL's words, like `TLSv1.2/ECDHE-RSA-AES256-GCM-SHA384`.
pub fn describe(version: ProtocolVersion, suite: CipherSuite) -> String {
    let version = match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        other => other.as_str().unwrap_or("TLS"),
    };
    let suite = match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.as_str().unwrap_or("unknown"),
    };
    format!("{version}/{suite}")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_judge(
    clients: ClientCertificates,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<ClientJudge>, TlsProblem> {
    let path = match (clients, &files.ca) {
        (ClientCertificates::NotAsked, _) | (ClientCertificates::Optional, None) => {
            return Ok(None);
        }
        (ClientCertificates::Required, None) => {
            return Err(TlsProblem::NotSet { what: FileKind::Ca });
        }
        (ClientCertificates::Optional | ClientCertificates::Required, Some(path)) => path,
    };
    let trust = trust_in(path)?;
    let mut webpki = WebPkiClientVerifier::builder_with_provider(trust.roots, provider.clone());
    if clients == ClientCertificates::Optional {
        webpki = webpki.allow_unauthenticated();
    }
    let webpki = webpki
        .build()
        .map_err(|error| malformed(FileKind::Ca, path, &error))?;
    let algorithms = provider.signature_verification_algorithms;
    Ok(Some(ClientJudge::new(webpki, trust.anchors, algorithms)))
}

/// Our certificate and key. `None` when neither is named.
fn own_certificate(
    files: &Files,
    provider: &CryptoProvider,
) -> Result<Option<SingleCertAndKey>, TlsProblem> {
    let (certificate, key) = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            return Err(TlsProblem::NotSet {
                what: FileKind::Key,
            });
        }
        (None, Some(_)) => {
            return Err(TlsProblem::NotSet {
                what: FileKind::Certificate,
            });
        }
        (None, None) => return Ok(None),
    };
    let chain = certificates(FileKind::Certificate, certificate)?;
    let secret = provider
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|error| malformed(FileKind::Key, key, &error))?;
    // rustls' own comparison refuses certificates before version 3.
    let shown = chain.first().and_then(public_key);
    let held = secret.public_key();
    if let (Some(shown), Some(held)) = (shown, held)
        && shown != held.as_ref()
    {
        return Err(TlsProblem::KeyOfAnother {
            certificate: certificate.clone(),
            key: key.clone(),
        });
    }
    Ok(Some(CertifiedKey::new(chain, secret).into()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let pem = read(FileKind::Key, path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let is_encrypted = String::from_utf8_lossy(&pem).contains("BEGIN ENCRYPTED PRIVATE KEY");
        let reason: &dyn fmt::Display = if is_encrypted {
            &"the key is encrypted"
        } else {
            &error
        };
        malformed(FileKind::Key, path, reason)
    })
}

fn certificates(what: FileKind, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let pem = read(what, path)?;
    let list = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(what, path, &error))?;
    if list.is_empty() {
        return Err(malformed(what, path, &"there is no certificate in it"));
    }
    Ok(list)
}

fn trust(files: &Files) -> Result<Trust, TlsProblem> {
    match &files.ca {
        Some(path) => trust_in(path),
        None => trust_in_system(),
    }
}

fn trust_in(path: &Path) -> Result<Trust, TlsProblem> {
    let anchors = certificates(FileKind::Ca, path)?;
    let mut roots = RootCertStore::empty();
    for anchor in &anchors {
        roots
            .add(anchor.clone())
            .map_err(|error| malformed(FileKind::Ca, path, &error))?;
    }
    Ok(Trust {
        roots: Arc::new(roots),
        anchors,
    })
}

fn trust_in_system() -> Result<Trust, TlsProblem> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs.iter().cloned());
    if roots.is_empty() {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(TlsProblem::NoSystemRoots { reason });
    }
    Ok(Trust {
        roots: Arc::new(roots),
        anchors: found.certs,
    })
}

fn read(what: FileKind, path: &Path) -> Result<Vec<u8>, TlsProblem> {
    fs::read(path).map_err(|source| TlsProblem::Unreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

fn malformed(what: FileKind, path: &Path, reason: &dyn fmt::Display) -> TlsProblem {
    TlsProblem::Malformed {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
