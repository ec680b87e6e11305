//! The client's role: a login to a server.

use base64::Engine as _;
use subtle::ConstantTimeEq;

use super::{BASE64, Key, Keys, MAX_ITERATIONS, ScramError, attribute, hmac, sha256, text, xor};

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
