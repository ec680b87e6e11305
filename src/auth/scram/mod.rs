//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles.
//!
//! The costly step, PBKDF2, is a function of its own ([`derive()`]), so that it can run off the threads that serve clients and
//! its result be kept. The server's role hands out the ClientKey that a good proof reveals: with it the pooler logs in to a server
//! that knows the same secret, without ever having seen the password.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

pub mod client;
pub mod exchange;

#[cfg(test)]
mod tests;

/// More iterations than this are not computed for anybody: PostgreSQL's default is 4096, and a hostile server could keep
/// a core busy with billions.
pub const MAX_ITERATIONS: u32 = 100_000;
/// What a nonce may have, in bytes.
const MAX_NONCE: usize = 256;

type Key = [u8; 32];

/// Why an exchange fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// A message cannot be read.
    Malformed,
    /// The client wants channel binding, which was not offered.
    ChannelBinding,
    /// The client wants to act for another user.
    Authorization,
    /// The nonce is not the one that was agreed on.
    Nonce,
    /// More than [`MAX_ITERATIONS`], or none.
    Iterations,
    /// The proof is wrong: another password.
    Proof,
    /// The server does not know the secret.
    ServerSignature,
}

impl fmt::Display for ScramError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "malformed SCRAM message",
            Self::ChannelBinding => "channel binding was not offered",
            Self::Authorization => "SCRAM authorization identities are not supported",
            Self::Nonce => "invalid SCRAM nonce",
            Self::Iterations => "the SCRAM iteration count is out of bounds",
            Self::Proof => "wrong SCRAM proof",
            Self::ServerSignature => "invalid server signature",
        })
    }
}

impl std::error::Error for ScramError {}

/// What a password becomes with a salt and a number of iterations.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Keys {
    client_key: Key,
    server_key: Key,
}

impl Keys {
    /// Both keys, for who may log in with them.
    pub fn expose(&self) -> [u8; 64] {
        std::array::from_fn(|index| match index {
            0..32 => self.client_key[index],
            _ => self.server_key[index - 32],
        })
    }

    /// Out of what [`Keys::expose`] gave; `None` for anything else.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (client, server) = bytes.split_at_checked(32)?;
        Some(Self {
            client_key: client.try_into().ok()?,
            server_key: server.try_into().ok()?,
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys(***)")
    }
}

/// What a server keeps instead of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ScramSecret {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ScramSecret(***)")
    }
}

impl ScramSecret {
    /// Reads PostgreSQL's text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (1..=MAX_ITERATIONS).contains(count))?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Self {
            iterations,
            salt,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// The secret of a password whose keys were derived with this salt and so many iterations.
    pub fn of(keys: &Keys, salt: &[u8], iterations: u32) -> Self {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&keys.client_key),
            server_key: keys.server_key,
        }
    }

    /// A secret that nobody can prove: its salt is always the same for `user`, so that it looks like a real one.
    pub fn mock(user: &str, process_nonce: &[u8], iterations: u32) -> Self {
        let salt = hmac(process_nonce, user.as_bytes())[..16].to_vec();
        let stored_key = hmac(process_nonce, b"no key has this image");
        Self {
            iterations,
            salt,
            stored_key,
            server_key: hmac(process_nonce, b"no server has this key"),
        }
    }

    /// The keys of `password`, when this is its secret. Costs what [`derive()`] costs.
    pub fn keys_of(&self, password: &str) -> Option<Keys> {
        let keys = derive(password, &self.salt, self.iterations);
        self.is_made_of(&keys).then_some(keys)
    }

    /// Whether it is the secret with these keys.
    pub fn is_made_of(&self, keys: &Keys) -> bool {
        sha256(&keys.client_key).ct_eq(&self.stored_key).into()
    }

    /// PostgreSQL's text form.
    pub fn to_text(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn sha256(data: &[u8]) -> Key {
    Sha256::digest(data).into()
}

fn xor(one: &Key, two: &Key) -> Key {
    std::array::from_fn(|index| one[index] ^ two[index])
}

/// PBKDF2: takes about a millisecond for 4096 iterations, so never on a thread that serves clients.
///
/// The password is prepared as PostgreSQL does: by SASLprep, or as it is where SASLprep refuses it.
pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let prepared = stringprep::saslprep(password);
    let bytes = prepared
        .as_ref()
        .map_or(password.as_bytes(), |text| text.as_bytes());
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(bytes, salt, iterations, &mut salted);
    Keys {
        client_key: hmac(&salted, b"Client Key"),
        server_key: hmac(&salted, b"Server Key"),
    }
}

/// The value of the next attribute `name=…` of a message, taken off its front.
fn attribute<'a>(rest: &mut &'a str, name: char) -> Result<&'a str, ScramError> {
    let text = rest
        .strip_prefix(name)
        .and_then(|text| text.strip_prefix('='))
        .ok_or(ScramError::Malformed)?;
    let (value, after) = text.split_once(',').unwrap_or((text, ""));
    *rest = after;
    Ok(value)
}

fn text(bytes: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(bytes).map_err(|_| ScramError::Malformed)
}
