//! Certificates made for one test, in files of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SigningKey,
};
use rustls::pki_types::CertificateDer;

use crate::net::tls::Files;

/// A directory of this test alone, gone with it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
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

    pub(super) fn put(&self, name: &str, text: &str) -> PathBuf {
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
pub(super) struct Authority {
    pub(super) folder: Folder,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) file: PathBuf,
}

impl Authority {
    pub(super) fn new() -> Self {
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
    pub(super) fn leaf(&self, common: &str, names: &[&str]) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(common, names).signed_by(&key, &self.issuer).unwrap();
        self.files(common, &certificate.pem(), &key.serialize_pem())
    }

    /// Files of a leaf of X.509 version 1, its key as SEC1 behind its parameters.
    pub(super) fn old_leaf(&self, common: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(common, &[]).signed_by(&key, &self.issuer).unwrap();
        let old = into_version_1(certificate.der(), self.issuer.key());
        self.files(common, &pem("CERTIFICATE", &old), &sec1(&key))
    }

    pub(super) fn files(&self, name: &str, certificate: &str, key: &str) -> Files {
        Files {
            ca: Some(self.file.clone()),
            certificate: Some(self.folder.put(&format!("{name}.crt"), certificate)),
            key: Some(self.folder.put(&format!("{name}.key"), key)),
        }
    }

    pub(super) fn trusted(&self) -> Files {
        Files {
            ca: Some(self.file.clone()),
            ..Files::default()
        }
    }
}

pub(super) fn leaf(common: &str, names: &[&str]) -> CertificateParams {
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
pub(super) fn into_version_1(certificate: &CertificateDer<'_>, issuer: &KeyPair) -> Vec<u8> {
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

pub(super) fn pem(label: &str, der: &[u8]) -> String {
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
