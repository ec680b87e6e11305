//! The server's role: an exchange with a client that logs in.

use base64::Engine as _;
use subtle::ConstantTimeEq;

use super::{
    BASE64, Key, Keys, MAX_NONCE, ScramError, ScramSecret, attribute, hmac, sha256, text, xor,
};

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
