//! Proving to a server who the pooler is.
//!
//! PBKDF2 never runs on a thread that serves clients, and never with more iterations than a sane server asks for; the keys are
//! kept, so that the next login costs none.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;

use crate::auth::password::{self, Verifier};
use crate::auth::scram::client::Client;
use crate::auth::scram::{self, Keys, ScramError};
use crate::clock;
use crate::error::{Error, Refusal};
use crate::locked::Locked;
use crate::net::stream::Stream;
use crate::protocol::fields::{self, AuthenticationRequest};
use crate::protocol::message;
use crate::secret::Secret;
use crate::servers::dial::unreachable;
use crate::servers::frames::Frames;
use crate::servers::login::{LARGEST, Login};
use crate::servers::query::refusal_of;

/// Keys that were derived from a password, kept for the next login: by salt and iterations.
#[derive(Debug, Default)]
pub struct Derived(Arc<Mutex<Kept>>);

type Kept = Option<(Vec<u8>, u32, Arc<Keys>)>;

impl Derived {
    /// The keys of `secret` for this salt and so many iterations; PBKDF2 runs off the calling thread, and once: whoever gives up
    /// waiting for it, because the machine is slow, finds them the next time.
    async fn keys(
        &self,
        secret: &Secret,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Arc<Keys>, Error> {
        if let Some((known, count, keys)) = &*self.0.locked()
            && (known.as_slice(), *count) == (salt, iterations)
        {
            return Ok(Arc::clone(keys));
        }
        let (secret, salt, kept) = (secret.clone(), salt.to_vec(), Arc::clone(&self.0));
        let derive = move || {
            let keys = Arc::new(scram::derive(secret.expose(), &salt, iterations));
            let known = Some((salt, iterations, Arc::clone(&keys)));
            *kept.locked() = known;
            keys
        };
        let derived = tokio::task::spawn_blocking(derive).await;
        derived.map_err(|_| Error::Internal)
    }

    /// Forgets them: the password has changed.
    pub fn clear(&self) {
        *self.0.locked() = None;
    }
}

/// Answers the server's demand for a proof.
///
/// # Errors
/// [`Error::ServerLoginRefused`] when what is known of the password is no answer to it; what the server says.
pub async fn authenticate(
    login: &Login<'_>,
    stream: &mut Stream,
    frames: &mut Frames,
    demand: &[u8],
) -> Result<(), Error> {
    let demand = fields::authentication(demand)
        .ok_or(Error::ServerProtocol("a broken demand for a password"))?;
    let mut out = BytesMut::new();
    match demand {
        AuthenticationRequest::Ok => return Ok(()),
        AuthenticationRequest::Cleartext => message::password(&mut out, plain(login)?.as_bytes()),
        AuthenticationRequest::Md5(salt) => {
            let answer = match &login.target.password {
                Some(Verifier::Plain(secret)) => {
                    password::md5_answer(secret.expose(), &login.target.user, salt)
                }
                Some(Verifier::Md5(hash)) => password::md5_answer_of_hash(hash.expose(), salt),
                _ => {
                    return Err(wrong_type(
                        login,
                        "The server asks for an MD5 password, and neither the password nor its MD5 hash is known.",
                    ));
                }
            };
            message::password(&mut out, answer.as_bytes());
        }
        AuthenticationRequest::Sasl(mechanisms) => {
            if !mechanisms.contains(&b"SCRAM-SHA-256".as_slice()) {
                return Err(refused(
                    login,
                    "none of the server's SASL authentication mechanisms are supported",
                    "It offers no SCRAM-SHA-256.",
                ));
            }
            return scram_login(login, stream, frames).await;
        }
        AuthenticationRequest::SaslContinue(_) | AuthenticationRequest::SaslFinal(_) => {
            return Err(Error::ServerProtocol("a SASL message out of turn"));
        }
        AuthenticationRequest::Other(_) => {
            return Err(refused(
                login,
                "unknown authentication type",
                "The server asks for a kind of authentication that the pooler does not have.",
            ));
        }
    }
    stream
        .write_all(&out)
        .await
        .map_err(|error| unreachable(login.host, &error))
}

fn plain<'a>(login: &'a Login<'_>) -> Result<&'a str, Error> {
    match &login.target.password {
        Some(Verifier::Plain(secret)) => Ok(secret.expose()),
        _ => Err(wrong_type(
            login,
            "The server asks for the password in clear, and only a hash of it is known, or nothing.",
        )),
    }
}

fn wrong_type(login: &Login<'_>, why: &'static str) -> Error {
    refused(login, "wrong password type", why)
}

/// The pooler gives up before the server does.
fn refused(login: &Login<'_>, what: &str, why: &'static str) -> Error {
    Error::ServerLoginRefused {
        refusal: Refusal {
            code: "28P01".into(),
            message: format!("server login failed: {what}"),
        },
        why: Some(why),
        address: login.host.to_string(),
        user: login.target.user.clone(),
    }
}

/// SCRAM-SHA-256, from the password or from keys that a client's login gave.
async fn scram_login(
    login: &Login<'_>,
    stream: &mut Stream,
    frames: &mut Frames,
) -> Result<(), Error> {
    let broken = |error: ScramError| {
        let what = match error {
            ScramError::ServerSignature => "invalid server signature",
            _ => "failed to verify server signature",
        };
        let why = match error {
            ScramError::ServerSignature => "The server does not know the password itself.",
            ScramError::Iterations => {
                "The server asks for more iterations than the pooler computes, or for none."
            }
            ScramError::Nonce => "The server changed the pooler's nonce.",
            _ => "The server sent a malformed SCRAM message.",
        };
        refused(login, what, why)
    };
    let client = Client::new(&nonce());
    let mut out = BytesMut::new();
    message::sasl_initial(&mut out, "SCRAM-SHA-256", client.first().as_bytes());
    stream
        .write_all(&out)
        .await
        .map_err(|error| unreachable(login.host, &error))?;
    let challenge = expect_sasl(login, stream, frames).await?;
    let challenge = client.challenged(&challenge).map_err(broken)?;
    let keys = match (&login.target.password, &login.keys) {
        (Some(Verifier::Plain(secret)), _) => {
            let (salt, iterations) = (challenge.salt(), challenge.iterations());
            login.derived.keys(secret, salt, iterations).await?
        }
        (Some(Verifier::Scram(secret)), Some(keys)) if secret.is_made_of(keys) => Arc::clone(keys),
        (Some(Verifier::Scram(_)), _) => {
            return Err(wrong_type(
                login,
                "cannot do SCRAM authentication: password is SCRAM secret but client authentication did not provide SCRAM keys",
            ));
        }
        _ => {
            return Err(wrong_type(
                login,
                "The server asks for SCRAM, and neither the password nor a SCRAM secret is known.",
            ));
        }
    };
    let (answer, expected) = challenge.answer(&keys);
    let mut out = BytesMut::new();
    message::sasl_response(&mut out, answer.as_bytes());
    stream
        .write_all(&out)
        .await
        .map_err(|error| unreachable(login.host, &error))?;
    let last = expect_sasl(login, stream, frames).await?;
    expected.verify(&last).map_err(broken)
}

async fn expect_sasl(
    login: &Login<'_>,
    stream: &mut Stream,
    frames: &mut Frames,
) -> Result<Vec<u8>, Error> {
    let frame = frames
        .next(stream, LARGEST)
        .await
        .map_err(|error| unreachable(login.host, &error))?;
    match (frame.tag, fields::authentication(&frame.body)) {
        (b'E', _) => Err(Error::ServerRefused(refusal_of(&frame.body))),
        (
            b'R',
            Some(
                AuthenticationRequest::SaslContinue(data) | AuthenticationRequest::SaslFinal(data),
            ),
        ) => Ok(data.to_vec()),
        _ => Err(Error::ServerProtocol("a SASL message out of turn")),
    }
}

fn nonce() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(clock::entropy::<18>())
}
