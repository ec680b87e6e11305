//! Passwords in clear and PostgreSQL's MD5 hashes of them.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::auth::scram::ScramSecret;
use crate::secret::Secret;

/// What is known of a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifier {
    /// The password itself.
    Plain(Secret),
    /// `md5` and the hash of password and user.
    Md5(Secret),
    /// A SCRAM secret.
    Scram(ScramSecret),
}

impl Verifier {
    /// Reads a stored password by PgBouncer's rules: what is not strictly an MD5 hash or a SCRAM secret is the password.
    pub fn parse(text: &str) -> Self {
        if let Some(secret) = ScramSecret::parse(text) {
            return Self::Scram(secret);
        }
        let is_hash = |hash: &str| {
            hash.len() == 32
                && hash
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if text.strip_prefix("md5").is_some_and(is_hash) {
            return Self::Md5(Secret::new(text));
        }
        Self::Plain(Secret::new(text))
    }

    /// What [`Verifier::parse`] reads.
    pub fn to_text(&self) -> String {
        match self {
            Self::Plain(secret) | Self::Md5(secret) => secret.expose().to_owned(),
            Self::Scram(secret) => secret.to_text(),
        }
    }
}

fn hex_md5(parts: &[&[u8]]) -> String {
    let mut hasher = Md5::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The MD5 hash that PostgreSQL stores: `md5` and 32 digits.
pub fn md5_hash(password: &str, user: &str) -> String {
    format!("md5{}", hex_md5(&[password.as_bytes(), user.as_bytes()]))
}

/// What goes over the wire for a password.
pub fn md5_answer(password: &str, user: &str, salt: [u8; 4]) -> String {
    md5_answer_of_hash(&md5_hash(password, user), salt)
}

/// What goes over the wire when only the stored hash is known.
pub fn md5_answer_of_hash(hash: &str, salt: [u8; 4]) -> String {
    let digits = hash.strip_prefix("md5").unwrap_or(hash);
    format!("md5{}", hex_md5(&[digits.as_bytes(), &salt]))
}

/// Whether `answer` is what a client that knows the password sends for `salt`. Never for a SCRAM secret or an empty password.
pub fn is_md5_answer(verifier: &Verifier, user: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    let expected = match verifier {
        Verifier::Plain(secret) if !secret.is_empty() => md5_answer(secret.expose(), user, salt),
        Verifier::Md5(hash) => md5_answer_of_hash(hash.expose(), salt),
        Verifier::Plain(_) | Verifier::Scram(_) => return false,
    };
    expected.as_bytes().ct_eq(answer).into()
}

/// Whether `password` is the one that is stored in clear or as an MD5 hash. Never for an empty one.
pub fn is_password(verifier: &Verifier, user: &str, password: &str) -> bool {
    match verifier {
        Verifier::Plain(secret) => {
            !password.is_empty() && secret.expose().as_bytes().ct_eq(password.as_bytes()).into()
        }
        Verifier::Md5(hash) => {
            !password.is_empty()
                && md5_hash(password, user)
                    .as_bytes()
                    .ct_eq(hash.expose().as_bytes())
                    .into()
        }
        Verifier::Scram(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Verifier, is_md5_answer, is_password, md5_answer, md5_hash};

    #[test]
    fn a_stored_password_is_what_it_strictly_looks_like() {
        assert!(matches!(
            Verifier::parse("md5a6343a68d964ca596d9752250d54bb8a"),
            Verifier::Md5(_)
        ));
        assert!(matches!(
            Verifier::parse("md5A6343A68D964CA596D9752250D54BB8A"),
            Verifier::Plain(_)
        ));
        assert!(matches!(
            Verifier::parse("SCRAM-SHA-256$nonsense"),
            Verifier::Plain(_)
        ));
    }

    #[test]
    fn the_hash_is_postgresqls() {
        assert_eq!(
            md5_hash("secret", "app"),
            "md56a422f785c9e20873908ce25d1736ae2"
        );
        assert_eq!(
            super::hex_md5(&[b"abc"]),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }

    #[test]
    fn an_answer_fits_the_clear_and_the_hashed_password() {
        let answer = md5_answer("pw", "app", *b"salt");
        for stored in ["pw".to_owned(), md5_hash("pw", "app")] {
            assert!(is_md5_answer(
                &Verifier::parse(&stored),
                "app",
                *b"salt",
                answer.as_bytes()
            ));
            assert!(!is_md5_answer(
                &Verifier::parse(&stored),
                "app",
                *b"tlas",
                answer.as_bytes()
            ));
            assert!(is_password(&Verifier::parse(&stored), "app", "pw"));
            assert!(!is_password(&Verifier::parse(&stored), "app", "pw "));
        }
    }

    #[test]
    fn an_empty_password_never_passes() {
        let empty = Verifier::parse("");
        assert!(!is_password(&empty, "app", ""));
        assert!(!is_md5_answer(
            &empty,
            "app",
            *b"salt",
            md5_answer("", "app", *b"salt").as_bytes()
        ));
    }
}
