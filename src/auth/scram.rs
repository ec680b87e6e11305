//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles.
//!
//! ```text
//! client                                    server
//! n,,n=,r=<nonce>                       →            ClientExchange::start, ServerExchange::start
//!                                       ←   r=<nonce+ours>,s=<salt>,i=<iterations>
//! c=biws,r=<both nonces>,p=<proof>      →            Challenge::answer, ServerExchange::finish
//!                                       ←   v=<signature of the server>
//! ```
//!
//! A server stores StoredKey and ServerKey, from which nobody can log in. Yet the proof of a client that does log in
//! gives away its ClientKey to who knows StoredKey; with it and ServerKey the pooler logs in to a server that stores the
//! same secret, and never sees the password: *pass-through*. Keys of a secret we made up ourselves from a plain password
//! fit no server, so such a secret never yields any.
//!
//! The slow step, [`derive()`], is left to the caller: a hostile server decides how slow, so its iteration count is judged
//! before, and a pooler wants the result in a cache anyway.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::secret::Secret;

mod client;
mod server;

pub use client::{Binding, Challenge, ClientExchange, ExpectedSignature};
pub use server::{Accepted, ServerExchange};

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The most iterations we compute for a server. PostgreSQL's own default is 4096; a hundred thousand take some tens of
/// milliseconds of a core, and a server that wants more wants to hurt.
pub const MAX_ITERATIONS: u32 = 100_000;
/// The longest message of the other side, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 2048;
/// The iterations of a secret we make ourselves, as PostgreSQL's `scram_iterations`.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// The size of a salt we make ourselves, in bytes, as PostgreSQL's.
pub const SALT_SIZE: usize = 16;

const KEY_SIZE: usize = 32;
type Key = [u8; KEY_SIZE];

/// Why a SCRAM login fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// A message does not read as the RFC says; this is the part that does not.
    Malformed(&'static str),
    /// A message is longer than [`MAX_MESSAGE_SIZE`].
    TooLong,
    /// The client wants channel binding, which we did not offer.
    BindingNotOffered,
    /// The client wants to act as somebody else (authzid).
    AuthorizationIdentity,
    /// The other side insists on an extension (`m=`).
    Extension,
    /// The nonce is not the one of this login.
    Nonce,
    /// What the client repeats of its channel binding is not what it said first.
    BindingChanged,
    /// The client does not know the password.
    WrongProof,
    /// The server wants more than [`MAX_ITERATIONS`].
    TooManyIterations {
        /// How many it wants.
        asked: u32,
    },
    /// The server says no; its word for it.
    Refused(String),
    /// The server does not know the password either: it is not the one we meant.
    WrongSignature,
}

/// The three keys that follow from a password, a salt and a count.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    client_key: Key,
    stored_key: Key,
    server_key: Key,
}

impl Keys {
    /// The two keys that log in.
    pub fn client_keys(&self) -> ClientKeys {
        ClientKeys {
            client_key: self.client_key,
            server_key: self.server_key,
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys(***)")
    }
}

/// The two keys with which one logs in without a password.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClientKeys {
    client_key: Key,
    server_key: Key,
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientKeys(***)")
    }
}

/// Computes the keys of a password: `iterations` rounds of HMAC, a few milliseconds for the usual 4096.
///
/// The password is prepared with SASLprep; one that cannot be (not UTF-8, forbidden characters) is taken as it is, as
/// PostgreSQL does.
pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Keys {
    let prepared = Zeroizing::new(prepare(password));
    let mut salted = Zeroizing::new([0; KEY_SIZE]);
    pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations, &mut *salted);
    let client_key = mac(&*salted, &[b"Client Key"]);
    Keys {
        client_key,
        stored_key: sha256(&client_key),
        server_key: mac(&*salted, &[b"Server Key"]),
    }
}

fn prepare(password: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(password).ok();
    match text.and_then(|text| stringprep::saslprep(text).ok()) {
        Some(prepared) if !prepared.is_empty() => prepared.into_owned().into_bytes(),
        _ => password.to_vec(),
    }
}

/// Where a secret comes from, and so what it may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An auth_file or a server: its keys log in there.
    Stored,
    /// A plain password and a salt of our own: its keys log in nowhere else.
    AdHoc,
    /// A user that does not exist.
    Mock,
}

/// What a server stores of a password.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramSecret {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
    #[zeroize(skip)]
    origin: Origin,
}

impl ScramSecret {
    /// Reads `SCRAM-SHA-256$iterations:salt$stored:server`, or `None` when `text` is not exactly that.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (challenge, keys) = rest.split_once('$')?;
        let (iterations, salt) = challenge.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: number(iterations)?,
            salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
            origin: Origin::Stored,
        })
    }

    /// The secret as `pg_authid` stores it.
    pub fn to_text(&self) -> Secret {
        Secret::new(format!(
            "{MECHANISM}${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        ))
    }

    /// A secret made from a plain password, whose `keys` were derived with this salt and count. It lets clients in and
    /// gives no keys for pass-through.
    pub fn ad_hoc(keys: &Keys, salt: &[u8], iterations: u32) -> Self {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: keys.stored_key,
            server_key: keys.server_key,
            origin: Origin::AdHoc,
        }
    }

    /// A secret for a user that does not exist: the same user always gets the same salt, and nobody gets in.
    ///
    /// `process_nonce` is random and the same as long as the process lives; who knows it can tell real users from others.
    pub fn mock(user: &str, process_nonce: &[u8], iterations: u32) -> Self {
        let part = |what: &[u8]| mac(process_nonce, &[what, user.as_bytes()]);
        Self {
            iterations,
            salt: part(b"salt:")[..SALT_SIZE].to_vec(),
            stored_key: part(b"stored:"),
            server_key: part(b"server:"),
            origin: Origin::Mock,
        }
    }

    /// The salt, for [`derive()`].
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations, for [`derive()`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether these are the keys of the same password; never for a mock.
    pub fn matches(&self, keys: &Keys) -> bool {
        let same = self.stored_key.ct_eq(&keys.stored_key);
        bool::from(same) && self.origin != Origin::Mock
    }
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ScramSecret(***)")
    }
}

/// A nonce in printable form; 18 random bytes make 24 characters, as PostgreSQL's.
pub fn nonce_text(random: &[u8; 18]) -> String {
    BASE64.encode(random)
}

// ---- what both roles need ----

/// The text of a message, if it is one and not too long.
fn message_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE_SIZE {
        return Err(ScramError::TooLong);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("encoding"))
}

/// Takes the attribute `name=` off the front of `rest`, up to the next comma or the end.
fn attribute<'a>(rest: &mut &'a str, name: &'static str) -> Result<&'a str, ScramError> {
    if rest.starts_with("m=") {
        return Err(ScramError::Extension);
    }
    let (first, after) = rest.split_once(',').unwrap_or((rest, ""));
    let value = first.strip_prefix(name);
    *rest = after;
    value.ok_or(ScramError::Malformed(name))
}

/// A nonce, if it is one: printable ASCII without commas.
fn checked_nonce(nonce: &str) -> Result<&str, ScramError> {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e);
    let is_good = !nonce.is_empty() && nonce.bytes().all(is_printable);
    is_good
        .then_some(nonce)
        .ok_or(ScramError::Malformed("nonce"))
}

/// A positive number of digits only, that PostgreSQL could hold.
fn number(digits: &str) -> Option<u32> {
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.parse::<i32>().ok().filter(|_| all_digits)?;
    u32::try_from(value).ok().filter(|&value| value > 0)
}

fn key(base64: &str) -> Option<Key> {
    let bytes = Zeroizing::new(BASE64.decode(base64).ok()?);
    bytes.as_slice().try_into().ok()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any size");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn xor(one: &Key, other: &Key) -> Key {
    std::array::from_fn(|place| one[place] ^ other[place])
}

#[cfg(test)]
mod tests;
