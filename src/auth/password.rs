//! What a user's secret may look like, and the two old ways to prove it.
//!
//! PostgreSQL's md5 is `md5` and the hex of md5(password, user); on the wire that hex is hashed again with a salt. Who
//! holds the stored hash can therefore log in with it, so it is a [`Secret`] like the password itself.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::scram::{self, ScramSecret};
use crate::secret::Secret;

const MD5_PREFIX: &str = "md5";

/// What we know of a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifier {
    /// The password itself.
    Plain(Secret),
    /// `md5` and 32 hex digits, as in `pg_authid`.
    Md5(Secret),
    /// The keys of SCRAM.
    Scram(ScramSecret),
}

impl Verifier {
    /// Reads a secret as it stands in an auth_file or in `pg_authid`.
    ///
    /// As strict as PgBouncer: `md5` with 32 lower-case hex digits, or `SCRAM-SHA-256$iterations:salt$stored:server` to
    /// the letter. What only resembles one of them is a plain password.
    pub fn parse(text: &str) -> Self {
        if is_md5(text) {
            return Verifier::Md5(Secret::new(text));
        }
        match ScramSecret::parse(text) {
            Some(secret) => Verifier::Scram(secret),
            None => Verifier::Plain(Secret::new(text)),
        }
    }

    /// Whether `password`, sent in clear, is the right one. An empty one never is.
    ///
    /// Slow when the verifier is [`Verifier::Scram`]: it runs [`scram::derive()`], so call it beside the serving thread.
    pub fn accepts_cleartext(&self, user: &str, password: &[u8]) -> bool {
        if password.is_empty() {
            return false;
        }
        match self {
            Verifier::Plain(known) => equal(known.expose().as_bytes(), password),
            Verifier::Md5(known) => {
                let secret = md5_secret(password, user);
                equal(known.expose().as_bytes(), secret.expose().as_bytes())
            }
            Verifier::Scram(known) => {
                known.matches(&scram::derive(password, known.salt(), known.iterations()))
            }
        }
    }

    /// Whether `answer` is the right answer to the md5 challenge `salt`. Never with an empty password or the keys of
    /// SCRAM, which md5 cannot use.
    pub fn accepts_md5(&self, user: &str, salt: [u8; 4], answer: &[u8]) -> bool {
        let right = match self {
            Verifier::Plain(known) if known.is_empty() => return false,
            Verifier::Plain(known) => {
                md5_answer(&md5_secret(known.expose().as_bytes(), user), salt)
            }
            Verifier::Md5(known) => md5_answer(known, salt),
            Verifier::Scram(_) => return false,
        };
        equal(right.expose().as_bytes(), answer)
    }
}

/// The stored form of a password: `md5` and the hex of md5(password, user).
pub fn md5_secret(password: &[u8], user: &str) -> Secret {
    md5_of(&[password, user.as_bytes()])
}

/// What a client sends when challenged with `salt`; `secret` is the stored form, as [`md5_secret`] makes it.
pub fn md5_answer(secret: &Secret, salt: [u8; 4]) -> Secret {
    let secret = secret.expose();
    let digits = secret.strip_prefix(MD5_PREFIX).unwrap_or(secret);
    md5_of(&[digits.as_bytes(), &salt])
}

fn md5_of(parts: &[&[u8]]) -> Secret {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    Secret::new(format!("{MD5_PREFIX}{:x}", hash.finalize()))
}

fn is_md5(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = text.strip_prefix(MD5_PREFIX);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(is_digit))
}

fn equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Has the form of an md5 secret.
    const MD5: &str = "md5a4d4f6c0bd8b1c1b0d6ba8bd6b2a2b9b";

    #[test]
    fn the_stored_form_is_the_one_of_postgres() {
        // md5("foobar"), known from everywhere.
        let stored = md5_secret(b"foo", "bar");
        assert_eq!(stored.expose(), "md53858f62230ac3c915f300c664312c63f");
    }

    #[test]
    fn only_the_strict_formats_are_not_plain() {
        assert!(matches!(Verifier::parse(MD5), Verifier::Md5(_)));
        for plain in [
            "",
            "pw",
            &MD5[..34],
            &MD5.to_uppercase(),
            "md5",
            "SCRAM-SHA-256$4096:x$y:z",
        ] {
            assert!(
                matches!(Verifier::parse(plain), Verifier::Plain(_)),
                "{plain}"
            );
        }
        let upper = format!("md5{}", MD5[3..].to_uppercase());
        assert!(matches!(Verifier::parse(&upper), Verifier::Plain(_)));
    }

    #[test]
    fn a_clear_password_fits_every_kind_of_secret() {
        let keys = scram::derive(b"pw", b"salt", 2);
        let scram = ScramSecret::ad_hoc(&keys, b"salt", 2).to_text();
        for stored in ["pw", md5_secret(b"pw", "ann").expose(), scram.expose()] {
            let verifier = Verifier::parse(stored);
            assert!(verifier.accepts_cleartext("ann", b"pw"), "{stored}");
            assert!(!verifier.accepts_cleartext("ann", b"pw2"), "{stored}");
            assert!(!verifier.accepts_cleartext("ann", b""), "{stored}");
        }
        assert!(
            !Verifier::parse(md5_secret(b"pw", "ann").expose()).accepts_cleartext("bob", b"pw")
        );
    }

    #[test]
    fn an_md5_answer_is_right_for_one_salt_only() {
        let stored = md5_secret(b"pw", "ann");
        let answer = md5_answer(&stored, *b"salt");
        let answer = answer.expose().as_bytes();
        for verifier in [Verifier::parse("pw"), Verifier::Md5(stored)] {
            assert!(verifier.accepts_md5("ann", *b"salt", answer));
            assert!(!verifier.accepts_md5("ann", *b"tlas", answer));
            assert!(!verifier.accepts_md5("ann", *b"salt", b""));
        }
    }

    #[test]
    fn nobody_logs_in_with_an_empty_password() {
        let empty = Verifier::parse("");
        let answer = md5_answer(&md5_secret(b"", "ann"), *b"salt");
        assert!(!empty.accepts_cleartext("ann", b""));
        assert!(!empty.accepts_md5("ann", *b"salt", answer.expose().as_bytes()));
    }

    #[test]
    fn a_verifier_prints_nothing_secret() {
        for text in ["hunter2", MD5] {
            let printed = format!("{:?}", Verifier::parse(text));
            assert!(!printed.contains(text), "{printed}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(SCRAM-SHA-256\\$)?[0-9a-f:$=+]{0,30}|md5.{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let verifier @ (Verifier::Plain(_) | Verifier::Md5(_)) = Verifier::parse(&text) {
                let _ = verifier.accepts_cleartext(&text, &bytes);
                let _ = verifier.accepts_md5(&text, [1, 2, 3, 4], &bytes);
            }
        }
    }
}
