//! Demanding the proof that a client is who it says.
//!
//! Unknown users are asked just as known ones and then refused in the same words. What is expensive (PBKDF2 over a password that
//! is stored in clear) happens once per user, off the threads that serve clients, and is kept until the next reload.

use std::sync::Arc;

use base64::Engine as _;
use bytes::BytesMut;

use crate::auth::password::{self, Verifier};
use crate::auth::scram::exchange::Exchange;
use crate::auth::scram::{self, Keys, ScramSecret};
use crate::clock;
use crate::config::value::AuthType;
use crate::error::{Error, Proof};
use crate::net::stream::Stream;
use crate::pools::registry::Registry;
use crate::protocol::fields;
use crate::protocol::message;
use crate::servers::frames::Frames;

/// The largest message of a client that logs in.
const LARGEST: usize = 65_535;

/// What a login proved.
#[derive(Debug, Default)]
pub struct Proven {
    /// What is known of the user's password.
    pub verifier: Option<Verifier>,
    /// The keys of a SCRAM secret that the server may know, too.
    pub keys: Option<Arc<Keys>>,
}

/// Demands the proof that `auth_type` wants from `user`, of whom `known` is known.
///
/// # Errors
/// [`Error::LoginFailed`], the same for a wrong password and an unknown user.
pub async fn demand(
    stream: &mut Stream,
    frames: &mut Frames,
    registry: &Arc<Registry>,
    user: &str,
    known: Option<Verifier>,
) -> Result<Proven, Error> {
    let mut demand = Demand {
        stream,
        frames,
        registry,
        user,
    };
    let settings = registry.settings.load_full();
    let auth_type = settings.pooler.auth_type;
    let by = match (auth_type, &known) {
        (AuthType::Trust, _) => Proof::Trust,
        (AuthType::Plain | AuthType::Md5, _) => Proof::Password,
        (AuthType::ScramSha256, _) => Proof::Scram,
    };
    let proven = match (auth_type, known) {
        (AuthType::Trust, known) => {
            let is_known = known.is_some() || settings.users.contains_key(user);
            is_known.then_some(Proven {
                verifier: known,
                keys: None,
            })
        }
        (AuthType::Plain, known) => demand.plain(known).await?,
        (AuthType::Md5, Some(Verifier::Scram(secret))) => {
            demand.scram(Some(Verifier::Scram(secret))).await?
        }
        (AuthType::Md5, known) => demand.md5(known).await?,
        (AuthType::ScramSha256, known) => demand.scram(known).await?,
    };
    proven.ok_or_else(|| Error::LoginFailed {
        user: user.to_owned(),
        by,
    })
}

struct Demand<'a> {
    stream: &'a mut Stream,
    frames: &'a mut Frames,
    registry: &'a Arc<Registry>,
    user: &'a str,
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

    async fn password(&mut self) -> Result<String, Error> {
        let body = self.answer().await?;
        let bytes = fields::password(&body)
            .ok_or_else(|| Error::Protocol("a broken password message".into()))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    async fn plain(&mut self, known: Option<Verifier>) -> Result<Option<Proven>, Error> {
        self.say(message::authentication_cleartext).await?;
        let given = self.password().await?;
        let is_right = match &known {
            None => false,
            Some(Verifier::Scram(secret)) => {
                let (secret, given) = (secret.clone(), given);
                off_thread(move || secret.is_of(&given)).await?
            }
            Some(verifier) => password::is_password(verifier, self.user, &given),
        };
        Ok(is_right.then_some(Proven {
            verifier: known,
            keys: None,
        }))
    }

    async fn md5(&mut self, known: Option<Verifier>) -> Result<Option<Proven>, Error> {
        let salt = clock::entropy::<4>();
        self.say(|out| message::authentication_md5(out, salt))
            .await?;
        let given = self.password().await?;
        let is_right = known.as_ref().is_some_and(|verifier| {
            password::is_md5_answer(verifier, self.user, salt, given.as_bytes())
        });
        Ok(is_right.then_some(Proven {
            verifier: known,
            keys: None,
        }))
    }

    async fn scram(&mut self, known: Option<Verifier>) -> Result<Option<Proven>, Error> {
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
        // Keys of a secret that was made here from a password mean nothing to a server.
        let keys = matches!(known, Some(Verifier::Scram(_))).then(|| Arc::new(keys));
        Ok(is_real.then_some(Proven {
            verifier: known,
            keys,
        }))
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
            Some(Verifier::Plain(_) | Verifier::Md5(_)) | None => Ok((
                ScramSecret::mock(self.user, &self.registry.nonce, iterations),
                false,
            )),
        }
    }
}

/// Runs something expensive where it holds up no client.
async fn off_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|_| Error::Internal)
}
