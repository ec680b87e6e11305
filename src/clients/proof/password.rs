//! Asking a client for a password, or the proof of one.
//!
//! Unknown users are asked just as known ones and then refused in the same words. What is expensive (PBKDF2 over a password that
//! is stored in clear) happens once per user, off the threads that serve clients, and is kept until the next reload.

use std::sync::Arc;

use base64::Engine as _;
use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::auth::password::{self, Verifier};
use crate::auth::scram::exchange::Exchange;
use crate::auth::scram::{self, Keys, ScramSecret};
use crate::clock;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::pools::registry::Registry;
use crate::protocol::fields;
use crate::protocol::message;
use crate::secret::Secret;
use crate::servers::frames::Frames;

/// The largest message of a client that logs in.
const LARGEST: usize = 65_535;

/// A password that was shown to be known.
#[derive(Debug)]
pub struct Shown {
    /// What is stored of it.
    pub verifier: Verifier,
    /// The keys of a SCRAM secret that the server may know, too.
    pub keys: Option<Arc<Keys>>,
}

/// A client that is asked for a password.
pub struct Demand<'a> {
    /// The connection.
    pub stream: &'a mut Stream,
    /// What came already.
    pub frames: &'a mut Frames,
    /// What everybody shares.
    pub registry: &'a Arc<Registry>,
    /// The user that it claims to be.
    pub user: &'a str,
}

impl Demand<'_> {
    async fn say(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), Error> {
        let mut out = BytesMut::new();
        write(&mut out);
        self.stream
            .write_all(&out)
            .await
            .map_err(|_| Error::ClientGone)
    }

    /// The body of the client's next message, which must be its answer.
    async fn answer(&mut self) -> Result<Vec<u8>, Error> {
        let frame = self
            .frames
            .next(self.stream, LARGEST)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => Error::Protocol("invalid message length".into()),
                _ => Error::ClientGone,
            })?;
        if frame.tag == b'p' {
            Ok(frame.body)
        } else {
            Err(Error::Protocol("expected a password".into()))
        }
    }

    /// The password that the client gives; `None` for bytes that are no password anybody has.
    async fn password(&mut self) -> Result<Option<Secret>, Error> {
        let body = Zeroizing::new(self.answer().await?);
        let bytes = fields::password(&body)
            .ok_or_else(|| Error::Protocol("a broken password message".into()))?;
        if bytes.is_empty() {
            return Err(Error::EmptyPassword(self.user.to_owned()));
        }
        Ok(std::str::from_utf8(bytes).ok().map(Secret::new))
    }

    /// Asks for the password in clear.
    ///
    /// # Errors
    /// [`Error::EmptyPassword`], [`Error::Protocol`], [`Error::ClientGone`].
    pub async fn clear_password(&mut self) -> Result<Option<Secret>, Error> {
        self.say(message::authentication_cleartext).await?;
        self.password().await
    }

    /// Asks for the password in clear and compares it with what is `known`.
    ///
    /// # Errors
    /// As [`Demand::clear_password`].
    pub async fn plain(&mut self, known: Option<Verifier>) -> Result<Option<Shown>, Error> {
        let given = self.clear_password().await?;
        let (Some(verifier), Some(given)) = (known, given) else {
            return Ok(None);
        };
        if let Verifier::Scram(secret) = &verifier {
            let secret = secret.clone();
            let keys = off_thread(move || secret.keys_of(given.expose())).await?;
            return Ok(keys.map(|keys| Shown {
                keys: Some(Arc::new(keys)),
                verifier,
            }));
        }
        let is_right = password::is_password(&verifier, self.user, given.expose());
        Ok(is_right.then_some(Shown {
            verifier,
            keys: None,
        }))
    }

    /// Asks for an MD5 answer.
    ///
    /// # Errors
    /// As [`Demand::clear_password`].
    pub async fn md5(&mut self, known: Option<Verifier>) -> Result<Option<Shown>, Error> {
        let salt = clock::entropy::<4>();
        self.say(|out| message::authentication_md5(out, salt))
            .await?;
        let given = self.password().await?;
        let (Some(verifier), Some(given)) = (known, given) else {
            return Ok(None);
        };
        let answer = given.expose().as_bytes();
        let is_right = password::is_md5_answer(&verifier, self.user, salt, answer);
        Ok(is_right.then_some(Shown {
            verifier,
            keys: None,
        }))
    }

    /// Asks for a SCRAM proof.
    ///
    /// # Errors
    /// [`Error::Protocol`], [`Error::ClientGone`].
    pub async fn scram(&mut self, known: Option<Verifier>) -> Result<Option<Shown>, Error> {
        self.say(|out| message::authentication_sasl(out, &["SCRAM-SHA-256"]))
            .await?;
        let body = self.answer().await?;
        let broken = |error: scram::ScramError| Error::Protocol(error.to_string());
        let (mechanism, first) = fields::sasl_initial(&body)
            .ok_or_else(|| Error::Protocol("a broken SASL message".into()))?;
        if mechanism != b"SCRAM-SHA-256" {
            return Err(Error::Protocol(
                "client selected an invalid SASL authentication mechanism".into(),
            ));
        }
        let (secret, is_real) = self.secret(known.as_ref()).await?;
        let nonce = base64::engine::general_purpose::STANDARD.encode(clock::entropy::<18>());
        let exchange =
            Exchange::begin(first.unwrap_or_default(), &nonce, secret).map_err(broken)?;
        self.say(|out| message::authentication_sasl_continue(out, exchange.first().as_bytes()))
            .await?;
        let body = self.answer().await?;
        let (last, keys) = match exchange.finish(&body) {
            Ok(done) => done,
            Err(scram::ScramError::Proof) => return Ok(None),
            Err(error) => return Err(broken(error)),
        };
        self.say(|out| message::authentication_sasl_final(out, last.as_bytes()))
            .await?;
        let Some(verifier) = known.filter(|_| is_real) else {
            return Ok(None);
        };
        // Keys of a secret that was made here from a password mean nothing to a server.
        let keys = matches!(verifier, Verifier::Scram(_)).then(|| Arc::new(keys));
        Ok(Some(Shown { verifier, keys }))
    }

    /// The secret to prove, and whether anybody can.
    async fn secret(&self, known: Option<&Verifier>) -> Result<(ScramSecret, bool), Error> {
        let iterations = self.registry.settings.load().pooler.scram_iterations;
        match known {
            Some(Verifier::Scram(secret)) => Ok((secret.clone(), true)),
            Some(Verifier::Plain(password)) if !password.is_empty() => {
                let made = self.registry.made_secret(self.user, password);
                let password = password.clone();
                let secret = made
                    .get_or_try_init(|| async move {
                        let salt = clock::entropy::<16>();
                        off_thread(move || {
                            ScramSecret::of(
                                &scram::derive(password.expose(), &salt, iterations),
                                &salt,
                                iterations,
                            )
                        })
                        .await
                    })
                    .await?;
                Ok((secret.clone(), true))
            }
            Some(Verifier::Plain(_) | Verifier::Md5(_)) | None => {
                if matches!(known, Some(Verifier::Md5(_))) && self.registry.tells_first(self.user) {
                    tracing::warn!(
                        user = self.user,
                        "cannot log in by scram-sha-256: the stored password is an MD5 hash, of which no SCRAM proof can be checked; \
                         store a SCRAM secret or the password itself, or use md5 for this user"
                    );
                }
                let mock = ScramSecret::mock(self.user, &self.registry.nonce, iterations);
                Ok((mock, false))
            }
        }
    }
}

/// Runs something expensive where it holds up no client.
///
/// # Errors
/// [`Error::Internal`] when it panics.
pub async fn off_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|_| Error::Internal)
}
