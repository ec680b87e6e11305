//! What a certificate says, and the chains that webpki will not judge.
//!
//! Old certificate authorities issue leaves of X.509 version 1, with a common name and no alternative names; many a
//! Postgres shows a self-signed certificate that is marked as an authority. OpenSSL, hence PgBouncer, accepts both,
//! webpki neither. For those two kinds, and only those, [`verify_old_chain`] does the work: dates, purpose, issuers and
//! signatures up to a certificate of the file. It knows no name constraints and refuses what is marked critical and
//! unknown.

use std::cell::Cell;
use std::net::IpAddr;

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

/// How many authorities may stand between a leaf and a certificate of the file.
const DEPTH: u32 = 6;

/// How many signatures are checked for one chain, whatever the other side sends.
const SIGNATURES: u32 = 32;

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// By a server to its clients.
    Server,
    /// By a client to a server.
    Client,
}

/// The names in a certificate: its common name, then the DNS names and IP addresses among its alternative names.
pub fn peer_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Some(certificate) = parse(certificate) else {
        return Vec::new();
    };
    let mut names: Vec<String> = common_name(&certificate)
        .into_iter()
        .map(str::to_owned)
        .collect();
    names.extend(alternative_names(&certificate));
    names
}

/// Whether the common name is `name`. False when the certificate has alternative names, because they alone count then.
///
/// See RFC 6125, section 6.4.4; libpq does the same.
pub fn common_name_is(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Some(certificate) = parse(certificate) else {
        return false;
    };
    if has_alternative_names(&certificate) {
        return false;
    }
    let Some(common) = common_name(&certificate) else {
        return false;
    };
    match name {
        ServerName::DnsName(wanted) => is_host(common, wanted.as_ref()),
        ServerName::IpAddress(wanted) => common
            .parse()
            .is_ok_and(|ip: IpAddr| ip == IpAddr::from(*wanted)),
        _ => false,
    }
}

/// The public key of a certificate of any version, in DER.
pub fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Some(parse(certificate)?.public_key().raw.to_vec())
}

/// Whether `certificate` is a leaf that webpki refuses for what it is: older than version 3, or an authority itself.
pub fn is_old(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate)
        .is_some_and(|parsed| is_before_version_3(&parsed) || is_authority(&parsed) == Some(true))
}

/// Checks a chain for a leaf that [`is_old`], up to one of `anchors`.
///
/// # Errors
/// Why the leaf is not to be trusted.
pub fn verify_old_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), CertificateError> {
    let leaf = Link::read(leaf).ok_or(CertificateError::BadEncoding)?;
    leaf.check(now)?;
    leaf.check_purpose(purpose)?;
    let climb = Climb {
        anchors: anchors.iter().filter_map(Link::read).collect(),
        intermediates: intermediates.iter().filter_map(Link::read).collect(),
        now,
        algorithms,
        signatures_left: Cell::new(SIGNATURES),
    };
    climb.from(&leaf, 0)
}

/// Whether `signature` over `message` was made with the key in `spki`, by one of `algorithms` that fits the key.
pub fn is_signed_with(
    spki: &[u8],
    message: &[u8],
    signature: &[u8],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let Some((key_algorithm, key)) = key_parts(spki) else {
        return false;
    };
    algorithms
        .iter()
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// One certificate of a chain.
struct Link<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

impl<'a> Link<'a> {
    fn read(der: &'a CertificateDer<'_>) -> Option<Self> {
        let der = der.as_ref();
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(Self { der, parsed })
    }

    /// What holds for every certificate of a chain.
    fn check(&self, now: UnixTime) -> Result<(), CertificateError> {
        let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
        let validity = self.parsed.validity();
        if now < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet);
        }
        if now > validity.not_after.timestamp() {
            return Err(CertificateError::Expired);
        }
        if self.parsed.signature_algorithm != self.parsed.tbs_certificate.signature {
            return Err(CertificateError::BadEncoding);
        }
        let unknown =
            self.parsed
                .extensions()
                .iter()
                .any(|extension| match extension.parsed_extension() {
                    ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_) => false,
                    ParsedExtension::NameConstraints(_) => true,
                    _ => extension.critical,
                });
        if unknown {
            return Err(CertificateError::UnhandledCriticalExtension);
        }
        Ok(())
    }

    fn check_purpose(&self, purpose: Purpose) -> Result<(), CertificateError> {
        let usage = self
            .parsed
            .extended_key_usage()
            .map_err(|_| CertificateError::BadEncoding)?;
        let allowed = usage.is_none_or(|usage| {
            usage.value.any
                || match purpose {
                    Purpose::Server => usage.value.server_auth,
                    Purpose::Client => usage.value.client_auth,
                }
        });
        if allowed {
            Ok(())
        } else {
            Err(CertificateError::InvalidPurpose)
        }
    }

    /// Whether this may sign certificates, with `below` authorities between it and the leaf.
    fn may_issue(&self, below: u32) -> bool {
        let signs = match self.parsed.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        };
        let is_long_enough = match self.parsed.basic_constraints() {
            Ok(Some(constraints)) => constraints
                .value
                .path_len_constraint
                .is_none_or(|most| below <= most),
            Ok(None) => true,
            Err(_) => false,
        };
        signs && is_long_enough
    }

    fn is_issued_by(&self, issuer: &Link<'_>) -> bool {
        self.parsed.issuer().as_raw() == issuer.parsed.subject().as_raw()
    }

    fn is_signed_by(
        &self,
        issuer: &Link<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let Some((body, algorithm, signature)) = certificate_parts(self.der) else {
            return false;
        };
        let fitting: Vec<_> = algorithms
            .iter()
            .copied()
            .filter(|candidate| candidate.signature_alg_id().as_ref() == algorithm)
            .collect();
        is_signed_with(issuer.parsed.public_key().raw, body, signature, &fitting)
    }
}

/// The way up from a leaf.
struct Climb<'a> {
    anchors: Vec<Link<'a>>,
    intermediates: Vec<Link<'a>>,
    now: UnixTime,
    algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
    signatures_left: Cell<u32>,
}

impl Climb<'_> {
    /// Looks for a way from `link`, `below` authorities above the leaf, to an anchor.
    fn from(&self, link: &Link<'_>, below: u32) -> Result<(), CertificateError> {
        let mut reason = CertificateError::UnknownIssuer;
        for anchor in &self.anchors {
            // A self-signed server is its own anchor, and need not be an authority for that.
            let is_itself = anchor.der == link.der;
            let may_issue = anchor.may_issue(below) && is_authority(&anchor.parsed) != Some(false);
            if link.is_issued_by(anchor) && (is_itself || may_issue) {
                match self.check_step(link, anchor) {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error,
                }
            }
        }
        if below == DEPTH {
            return Err(reason);
        }
        for next in &self.intermediates {
            let may_issue = next.may_issue(below) && is_authority(&next.parsed) == Some(true);
            if link.is_issued_by(next) && may_issue {
                match self
                    .check_step(link, next)
                    .and_then(|()| self.from(next, below + 1))
                {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error,
                }
            }
        }
        Err(reason)
    }

    fn check_step(&self, link: &Link<'_>, issuer: &Link<'_>) -> Result<(), CertificateError> {
        issuer.check(self.now)?;
        let left = self
            .signatures_left
            .get()
            .checked_sub(1)
            .ok_or(CertificateError::UnknownIssuer)?;
        self.signatures_left.set(left);
        if link.is_signed_by(issuer, self.algorithms) {
            Ok(())
        } else {
            Err(CertificateError::BadSignature)
        }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    Link::read(certificate).map(|link| link.parsed)
}

fn is_before_version_3(certificate: &X509Certificate<'_>) -> bool {
    certificate.version().0 < X509Version::V3.0
}

/// What the certificate says about being an authority. `None` when it says nothing.
fn is_authority(certificate: &X509Certificate<'_>) -> Option<bool> {
    match certificate.basic_constraints() {
        Ok(constraints) => constraints.map(|constraints| constraints.value.ca),
        Err(_) => Some(false),
    }
}

/// The first common name; one with a zero byte in it is a trick and no name.
fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    (!name.contains('\0')).then_some(name)
}

/// Whether there are names beside which the common name does not count, readable or not.
fn has_alternative_names(certificate: &X509Certificate<'_>) -> bool {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().any(|name| {
            matches!(
                name,
                GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::Invalid(..)
            )
        }),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) if !host.contains('\0') => Some((*host).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// Whether a host in a certificate, perhaps `*.domain`, is `wanted`. The star stands for one label.
fn is_host(host: &str, wanted: &str) -> bool {
    if host.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let Some(domain) = host.strip_prefix("*.") else {
        return false;
    };
    let Some((label, of)) = wanted.split_once('.') else {
        return false;
    };
    !label.is_empty() && domain.contains('.') && of.eq_ignore_ascii_case(domain)
}

/// Body, algorithm (without its head, as webpki compares them) and signature of a certificate.
fn certificate_parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (certificate, _) = Element::read(der)?;
    let (body, rest) = Element::read(certificate.content)?;
    let (algorithm, rest) = Element::read(rest)?;
    let (signature, _) = Element::read(rest)?;
    Some((body.whole, algorithm.content, signature.whole_bytes()?))
}

/// Algorithm (without its head) and key of a public key.
fn key_parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (spki, _) = Element::read(spki)?;
    let (algorithm, rest) = Element::read(spki.content)?;
    let (key, _) = Element::read(rest)?;
    Some((algorithm.content, key.whole_bytes()?))
}

/// One element of DER.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Element<'a> {
    /// The first element of `der`, and what follows it.
    fn read(der: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&first, rest) = der.get(1..)?.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits
                    .iter()
                    .fold(0, |length, &digit| length << 8 | usize::from(digit));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &der[..der.len() - rest.len()];
        Some((Self { whole, content }, rest))
    }

    /// The bytes of a bit string that leaves no bit unused.
    fn whole_bytes(&self) -> Option<&'a [u8]> {
        match self.content {
            [0, bytes @ ..] => Some(bytes),
            _ => None,
        }
    }
}
