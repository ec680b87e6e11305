//! The client's role: we log in to a server.
//!
//! The three steps are three types, each used up by the next, so that nobody can forget the last one: a server that
//! lets us in without a right signature has not shown that it knows the password, and may be anybody.

use std::fmt;

use base64::Engine;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    BASE64, ClientKeys, Key, MAX_ITERATIONS, MECHANISM, MECHANISM_PLUS, ScramError, attribute,
    checked_nonce, key, mac, message_text, number, sha256, xor,
};

/// How the login is bound to the TLS session below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Not at all: there is no TLS, or we cannot.
    None,
    /// We could, but the server did not offer [`MECHANISM_PLUS`]. A server that did offer it sees that somebody between
    /// us took the offer away.
    NotOffered,
    /// To the hash of the server's certificate (`tls-server-end-point`, RFC 5929).
    ServerEndPoint(Vec<u8>),
}

impl Binding {
    fn gs2_header(&self) -> &'static str {
        match self {
            Binding::None => "n,,",
            Binding::NotOffered => "y,,",
            Binding::ServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Binding::None | Binding::NotOffered => &[],
            Binding::ServerEndPoint(hash) => hash,
        }
    }
}

/// A login before the server's challenge.
#[derive(Debug)]
pub struct ClientExchange {
    binding: Binding,
    nonce: String,
    client_first: String,
}

impl ClientExchange {
    /// Begins a login. `nonce` is ours: fresh, printable, without commas, as [`nonce_text`](super::nonce_text) makes it.
    pub fn start(binding: Binding, nonce: &str) -> Self {
        // PostgreSQL ignores the name here and libpq leaves it empty: the startup packet has said it already.
        Self::start_as("", binding, nonce)
    }

    pub(super) fn start_as(user: &str, binding: Binding, nonce: &str) -> Self {
        Self {
            client_first: format!("{}n={user},r={nonce}", binding.gs2_header()),
            nonce: nonce.to_owned(),
            binding,
        }
    }

    /// The mechanism to name in the SASLInitialResponse.
    pub fn mechanism(&self) -> &'static str {
        match self.binding {
            Binding::None | Binding::NotOffered => MECHANISM,
            Binding::ServerEndPoint(_) => MECHANISM_PLUS,
        }
    }

    /// What to say first, in the SASLInitialResponse.
    pub fn client_first(&self) -> &[u8] {
        self.client_first.as_bytes()
    }

    /// Reads the server's challenge. Nothing slow is done for it yet.
    ///
    /// # Errors
    /// [`ScramError::Nonce`] when the server's nonce does not continue ours, [`ScramError::TooManyIterations`], or what is
    /// wrong with the message.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let server_first = message_text(server_first)?;
        let mut rest = server_first;
        let nonce = checked_nonce(attribute(&mut rest, "r=")?)?;
        let is_ours = nonce.strip_prefix(&self.nonce);
        if is_ours.is_none_or(str::is_empty) {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64.decode(attribute(&mut rest, "s=")?).ok();
        let salt = salt.filter(|salt| !salt.is_empty());
        let iterations = number(attribute(&mut rest, "i=")?).ok_or(ScramError::Malformed("i="))?;
        if iterations > MAX_ITERATIONS {
            return Err(ScramError::TooManyIterations { asked: iterations });
        }
        Ok(Challenge {
            salt: salt.ok_or(ScramError::Malformed("s="))?,
            iterations,
            without_proof: self.without_proof(nonce),
            first_messages: format!("{},{server_first}", self.client_first_bare()),
        })
    }

    fn client_first_bare(&self) -> &str {
        &self.client_first[self.binding.gs2_header().len()..]
    }

    fn without_proof(&self, nonce: &str) -> String {
        let repeated = [self.binding.gs2_header().as_bytes(), self.binding.data()].concat();
        format!("c={},r={nonce}", BASE64.encode(repeated))
    }
}

/// A login that waits for keys: either [`derive()`](super::derive)d with this salt and count, or passed through.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: u32,
    without_proof: String,
    first_messages: String,
}

impl Challenge {
    /// The salt of the server's secret.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations of the server's secret, at most [`MAX_ITERATIONS`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The proof, to be sent in a SASLResponse, and the signature to expect for it.
    pub fn answer(self, keys: &ClientKeys) -> (Vec<u8>, ExpectedSignature) {
        let parts = [&self.first_messages, ",", &self.without_proof];
        let parts = parts.map(str::as_bytes);
        let stored_key = Zeroizing::new(sha256(&keys.client_key));
        let signature = Zeroizing::new(mac(&*stored_key, &parts));
        let proof = BASE64.encode(xor(&keys.client_key, &signature));
        let expected = ExpectedSignature(mac(&keys.server_key, &parts));
        let client_final = format!("{},p={proof}", self.without_proof);
        (client_final.into_bytes(), expected)
    }
}

/// What the server must sign before it may be believed.
pub struct ExpectedSignature(Key);

impl fmt::Debug for ExpectedSignature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ExpectedSignature(***)")
    }
}

impl ExpectedSignature {
    /// Reads the server's last word, an AuthenticationSASLFinal. Without it no AuthenticationOk counts.
    ///
    /// # Errors
    /// [`ScramError::Refused`] when the server says so, [`ScramError::WrongSignature`] when it does not know the password,
    /// or what is wrong with the message.
    pub fn check(self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut rest = message_text(server_final)?;
        if rest.starts_with("e=") {
            let word = attribute(&mut rest, "e=")?;
            return Err(ScramError::Refused(word.to_owned()));
        }
        let signature = key(attribute(&mut rest, "v=")?).ok_or(ScramError::Malformed("v="))?;
        if bool::from(signature.ct_eq(&self.0)) {
            return Ok(());
        }
        Err(ScramError::WrongSignature)
    }
}
