//! Who is believed: the two judges of certificates that rustls asks.
//!
//! webpki judges first. Where it refuses a leaf for what it is and not for what is wrong with it, the chain is judged by
//! [`verify_old_chain`], and a name is looked for in the common name when there are no alternative names.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::net::certificate::{
    Purpose, common_name_is, is_old, is_signed_with, public_key, verify_old_chain,
};

/// The authorities of a file, as webpki wants them and as they were.
#[derive(Debug, Clone)]
pub struct Trust {
    /// What webpki could read of them.
    pub roots: Arc<RootCertStore>,
    /// All of them.
    pub anchors: Vec<CertificateDer<'static>>,
}

/// Judges servers.
#[derive(Debug)]
pub struct ServerJudge {
    trust: Option<Trust>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerJudge {
    /// Believes every server, as `sslmode=require` does. That a server holds the key of its certificate is checked still: the channel
    /// binding of SCRAM relies on it.
    pub fn believing(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            trust: None,
            checks_name: false,
            algorithms,
        }
    }

    /// Asks for a chain up to `trust`, as `verify-ca`.
    pub fn of_chains(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            trust: Some(trust),
            checks_name: false,
            algorithms,
        }
    }

    /// Asks for a chain up to `trust` and for the name of the server, as `verify-full`.
    pub fn of_chains_and_names(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            trust: Some(trust),
            checks_name: true,
            algorithms,
        }
    }

    fn check_chain(
        &self,
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let all = self.algorithms.all;
        let judged = ParsedCertificate::try_from(leaf).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &trust.roots,
                intermediates,
                now,
                all,
            )
        });
        match judged {
            Err(Error::InvalidCertificate(_)) if is_old(leaf) => verify_old_chain(
                leaf,
                intermediates,
                &trust.anchors,
                Purpose::Server,
                now,
                all,
            )
            .map_err(Error::InvalidCertificate),
            judged => judged,
        }
    }
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            self.check_chain(trust, end_entity, intermediates, now)?;
        }
        if self.checks_name && !common_name_is(end_entity, server_name) {
            match ParsedCertificate::try_from(end_entity) {
                Ok(parsed) => verify_server_name(&parsed, server_name)?,
                Err(_) => return Err(CertificateError::NotValidForName.into()),
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature_12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature_13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Judges clients. Whether a client must show a certificate is up to the judge of webpki within.
#[derive(Debug)]
pub struct ClientJudge {
    webpki: Arc<dyn ClientCertVerifier>,
    anchors: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientJudge {
    /// Judges as `webpki` does, and old chains up to `anchors`.
    pub fn new(
        webpki: Arc<dyn ClientCertVerifier>,
        anchors: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            webpki,
            anchors,
            algorithms,
        }
    }
}

impl ClientCertVerifier for ClientJudge {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self
            .webpki
            .verify_client_cert(end_entity, intermediates, now)
        {
            Err(Error::InvalidCertificate(_)) if is_old(end_entity) => {
                let all = self.algorithms.all;
                verify_old_chain(
                    end_entity,
                    intermediates,
                    &self.anchors,
                    Purpose::Client,
                    now,
                    all,
                )
                .map_err(Error::InvalidCertificate)?;
                Ok(ClientCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature_12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature_13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a side signed to prove that it holds its key, in TLS 1.2.
fn check_signature_12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return verify_tls12_signature(message, certificate, signed, algorithms);
    }
    let key = key_of(certificate)?;
    let fitting = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map_or(&[][..], |(_, fitting)| *fitting);
    if is_signed_with(&key, message, signed.signature(), fitting) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// What a side signed to prove that it holds its key, in TLS 1.3.
fn check_signature_13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return verify_tls13_signature(message, certificate, signed, algorithms);
    }
    let key = SubjectPublicKeyInfoDer::from(key_of(certificate)?);
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    public_key(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
}
