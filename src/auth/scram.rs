//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles.
//!
//! The costly step, PBKDF2, is a function of its own ([`derive`]), so that it can run off the threads that serve clients and
//! its result be kept. The server's role hands out the ClientKey that a good proof reveals: with it the pooler logs in to a server
//! that knows the same secret, without ever having seen the password.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

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

    /// Whether it is the secret of `password`. Costs what [`derive`] costs.
    pub fn is_of(&self, password: &str) -> bool {
        let keys = derive(password, &self.salt, self.iterations);
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

// ---- the server's role ----

/// An exchange with a client, after its first message.
#[derive(Debug)]
pub struct Exchange {
    secret: ScramSecret,
    header: String,
    nonce: String,
    client_bare: String,
    server_first: String,
}

impl Exchange {
    /// Takes the client's first message. `nonce` is ours: printable, without commas.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn begin(
        client_first: &[u8],
        nonce: &str,
        secret: ScramSecret,
    ) -> Result<Self, ScramError> {
        let message = text(client_first)?;
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Malformed)?;
        if !authorization.is_empty() {
            return Err(ScramError::Authorization);
        }
        let mut rest = bare;
        attribute(&mut rest, 'n')?;
        let theirs = attribute(&mut rest, 'r')?;
        if theirs.is_empty() || theirs.len() > MAX_NONCE {
            return Err(ScramError::Nonce);
        }
        let nonce = format!("{theirs}{nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&secret.salt),
            secret.iterations
        );
        Ok(Self {
            secret,
            header: format!("{flag},,"),
            nonce,
            client_bare: bare.to_owned(),
            server_first,
        })
    }

    /// Our first message.
    pub fn first(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message: our last message, and the keys that the proof revealed.
    ///
    /// # Errors
    /// [`ScramError::Proof`] for another password; what else is wrong with the message.
    pub fn finish(&self, client_final: &[u8]) -> Result<(String, Keys), ScramError> {
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut rest = without_proof;
        let binding = attribute(&mut rest, 'c')?;
        if BASE64.decode(binding).map_err(|_| ScramError::Malformed)? != self.header.as_bytes() {
            return Err(ScramError::ChannelBinding);
        }
        if attribute(&mut rest, 'r')? != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof: Key = BASE64
            .decode(proof)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ScramError::Malformed)?;
        let signed = format!("{},{},{without_proof}", self.client_bare, self.server_first);
        let client_key = xor(&proof, &hmac(&self.secret.stored_key, signed.as_bytes()));
        if !bool::from(sha256(&client_key).ct_eq(&self.secret.stored_key)) {
            return Err(ScramError::Proof);
        }
        let signature = hmac(&self.secret.server_key, signed.as_bytes());
        let keys = Keys {
            client_key,
            server_key: self.secret.server_key,
        };
        Ok((format!("v={}", BASE64.encode(signature)), keys))
    }
}

// ---- the client's role ----

/// A login to a server, before its first message.
#[derive(Debug)]
pub struct Client {
    nonce: String,
}

impl Client {
    /// Begins with a nonce: printable, without commas.
    pub fn new(nonce: &str) -> Self {
        Self {
            nonce: nonce.to_owned(),
        }
    }

    fn bare(&self) -> String {
        // PostgreSQL takes the user from the startup packet and ignores the name here.
        format!("n=,r={}", self.nonce)
    }

    /// Our first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    /// Takes the server's first message.
    ///
    /// # Errors
    /// A nonce that does not extend ours, an iteration count out of bounds, or a broken message.
    pub fn challenged(&self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let message = text(server_first)?;
        let mut rest = message;
        let nonce = attribute(&mut rest, 'r')?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64
            .decode(attribute(&mut rest, 's')?)
            .map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = attribute(&mut rest, 'i')?
            .parse()
            .map_err(|_| ScramError::Malformed)?;
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations);
        }
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{message},{without_proof}", self.bare());
        Ok(Challenge {
            salt,
            iterations,
            signed,
            without_proof,
        })
    }
}

/// What the server wants proven.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: u32,
    signed: String,
    without_proof: String,
}

impl Challenge {
    /// The salt for [`derive`].
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations for [`derive`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Our last message, and what the server must answer it with.
    pub fn answer(&self, keys: &Keys) -> (String, Expected) {
        let signature = hmac(&sha256(&keys.client_key), self.signed.as_bytes());
        let proof = xor(&keys.client_key, &signature);
        let expected = hmac(&keys.server_key, self.signed.as_bytes());
        (
            format!("{},p={}", self.without_proof, BASE64.encode(proof)),
            Expected(expected),
        )
    }
}

/// The signature that only a server that knows the secret can give.
#[derive(Debug)]
pub struct Expected(Key);

impl Expected {
    /// Takes the server's last message.
    ///
    /// # Errors
    /// [`ScramError::ServerSignature`].
    pub fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut rest = text(server_final)?;
        let signature = BASE64
            .decode(attribute(&mut rest, 'v')?)
            .map_err(|_| ScramError::Malformed)?;
        if bool::from(signature.ct_eq(&self.0)) {
            Ok(())
        } else {
            Err(ScramError::ServerSignature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Exchange, MAX_ITERATIONS, ScramError, ScramSecret, derive};

    fn secret(password: &str) -> ScramSecret {
        ScramSecret::of(&derive(password, b"salt salt", 4096), b"salt salt", 4096)
    }

    fn log_in(password: &str, secret: ScramSecret) -> Result<(), ScramError> {
        let client = Client::new("client");
        let exchange = Exchange::begin(client.first().as_bytes(), "server", secret)?;
        let challenge = client.challenged(exchange.first().as_bytes())?;
        let keys = derive(password, challenge.salt(), challenge.iterations());
        let (answer, expected) = challenge.answer(&keys);
        let (last, revealed) = exchange.finish(answer.as_bytes())?;
        assert_eq!(revealed, keys, "the proof reveals the keys");
        expected.verify(last.as_bytes())
    }

    #[test]
    fn the_right_password_passes_and_a_wrong_one_does_not() {
        assert_eq!(log_in("pencil", secret("pencil")), Ok(()));
        assert_eq!(log_in("pencil ", secret("pencil")), Err(ScramError::Proof));
        assert_eq!(
            log_in("pencil", ScramSecret::mock("user", b"nonce", 4096)),
            Err(ScramError::Proof)
        );
    }

    #[test]
    fn the_example_of_rfc_7677_holds() {
        let salt = base64::Engine::decode(&super::BASE64, "W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = derive("pencil", &salt, 4096);
        let exchange = Exchange::begin(
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            ScramSecret::of(&keys, &salt, 4096),
        )
        .unwrap();
        assert_eq!(
            exchange.first(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let (last, _) = exchange
            .finish(
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            )
            .unwrap();
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_cannot_make_us_count_for_ever_nor_change_our_nonce() {
        let client = Client::new("abc");
        let many = format!("r=abcdef,s=c2FsdA==,i={}", MAX_ITERATIONS + 1);
        assert_eq!(
            client.challenged(many.as_bytes()).unwrap_err(),
            ScramError::Iterations
        );
        assert_eq!(
            client.challenged(b"r=abc,s=c2FsdA==,i=4096").unwrap_err(),
            ScramError::Nonce
        );
        assert_eq!(
            client.challenged(b"r=xyz,s=c2FsdA==,i=4096").unwrap_err(),
            ScramError::Nonce
        );
    }

    #[test]
    fn channel_binding_and_other_identities_are_refused() {
        let begin = |message: &[u8]| Exchange::begin(message, "server", secret("x")).map(|_| ());
        assert_eq!(
            begin(b"p=tls-server-end-point,,n=,r=a"),
            Err(ScramError::ChannelBinding)
        );
        assert_eq!(begin(b"n,a=other,n=,r=a"), Err(ScramError::Authorization));
        assert_eq!(begin(b"n,,n="), Err(ScramError::Malformed));
        assert_eq!(begin(b"y,,n=,r=a"), Ok(()));
    }

    #[test]
    fn a_secret_reads_back_as_it_was_written() {
        let secret = secret("x");
        assert_eq!(ScramSecret::parse(&secret.to_text()), Some(secret));
        assert_eq!(ScramSecret::parse("SCRAM-SHA-256$0:c2FsdA==$a:b"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Exchange::begin(&bytes, "server", secret_once());
            let _ = Client::new("a").challenged(&bytes);
            let exchange = Exchange::begin(b"n,,n=,r=a", "server", secret_once()).unwrap();
            let _ = exchange.finish(&bytes);
        }
    }

    fn secret_once() -> ScramSecret {
        ScramSecret::mock("user", b"nonce", 4096)
    }
}
