//! The server's role: a client logs in to us.
//!
//! We offer no channel binding, so a client may say that it has none (`n`) or that it has one we did not offer (`y`),
//! and one that insists on it (`p`) is refused. The name it gives is ignored: the startup packet has said it already.

use base64::Engine;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    BASE64, ClientKeys, Key, Origin, ScramError, ScramSecret, attribute, checked_nonce, key, mac,
    message_text, sha256, xor,
};

/// A login between our challenge and the client's proof.
#[derive(Debug)]
pub struct ServerExchange {
    secret: ScramSecret,
    gs2_header: String,
    client_first_bare: String,
    nonce: String,
    server_first: String,
}

/// A client that knows the password.
#[derive(Debug)]
pub struct Accepted {
    /// What to answer, in an AuthenticationSASLFinal.
    pub server_final: Vec<u8>,
    /// The keys to log in to a server with the same secret; `None` when the secret was made up from a plain password.
    pub pass_through: Option<ClientKeys>,
}

impl ServerExchange {
    /// Reads what the client says first. `nonce` is ours: fresh, printable, without commas, as
    /// [`nonce_text`](super::nonce_text) makes it.
    ///
    /// # Errors
    /// [`ScramError`] when the message is malformed or too long, asks for channel binding, for another identity or for an
    /// extension.
    pub fn start(
        secret: &ScramSecret,
        client_first: &[u8],
        nonce: &str,
    ) -> Result<Self, ScramError> {
        let text = message_text(client_first)?;
        let bare = without_gs2_header(text)?;
        let mut rest = bare;
        attribute(&mut rest, "n=")?;
        let client_nonce = checked_nonce(attribute(&mut rest, "r=")?)?;
        let nonce = format!("{client_nonce}{nonce}");
        let salt = BASE64.encode(secret.salt());
        Ok(Self {
            server_first: format!("r={nonce},s={salt},i={}", secret.iterations()),
            gs2_header: text[..text.len() - bare.len()].to_owned(),
            client_first_bare: bare.to_owned(),
            secret: secret.clone(),
            nonce,
        })
    }

    /// What to answer, in an AuthenticationSASLContinue.
    pub fn server_first(&self) -> &[u8] {
        self.server_first.as_bytes()
    }

    /// Reads the client's proof, and compares it in the same time for every proof.
    ///
    /// # Errors
    /// [`ScramError::WrongProof`] when the client does not know the password, and for every proof to a mock secret; else
    /// what is wrong with the message.
    pub fn finish(self, client_final: &[u8]) -> Result<Accepted, ScramError> {
        let text = message_text(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("p="))?;
        self.check_repeated(without_proof)?;
        let proof = Zeroizing::new(key(proof).ok_or(ScramError::Malformed("p="))?);
        let client_key = self.client_key(without_proof, &proof)?;
        let signature = self.sign(&self.secret.server_key, without_proof);
        let keys = ClientKeys {
            client_key: *client_key,
            server_key: self.secret.server_key,
        };
        Ok(Accepted {
            server_final: format!("v={}", BASE64.encode(signature)).into_bytes(),
            pass_through: (self.secret.origin == Origin::Stored).then_some(keys),
        })
    }

    /// Channel binding and nonce must be the ones of the first messages.
    fn check_repeated(&self, without_proof: &str) -> Result<(), ScramError> {
        let mut rest = without_proof;
        if attribute(&mut rest, "c=")? != BASE64.encode(&self.gs2_header) {
            return Err(ScramError::BindingChanged);
        }
        if attribute(&mut rest, "r=")? != self.nonce {
            return Err(ScramError::Nonce);
        }
        if rest.split(',').any(|extension| extension.starts_with("p=")) {
            return Err(ScramError::Malformed("p="));
        }
        Ok(())
    }

    fn client_key(&self, without_proof: &str, proof: &Key) -> Result<Zeroizing<Key>, ScramError> {
        let signature = Zeroizing::new(self.sign(&self.secret.stored_key, without_proof));
        let client_key = Zeroizing::new(xor(proof, &signature));
        let is_right = sha256(&*client_key).ct_eq(&self.secret.stored_key);
        if bool::from(is_right) && self.secret.origin != Origin::Mock {
            return Ok(client_key);
        }
        Err(ScramError::WrongProof)
    }

    fn sign(&self, key: &Key, without_proof: &str) -> Key {
        let (first, second) = (&self.client_first_bare, &self.server_first);
        let parts = [first, ",", second, ",", without_proof];
        mac(key, &parts.map(str::as_bytes))
    }
}

fn without_gs2_header(text: &str) -> Result<&str, ScramError> {
    let (flag, rest) = text
        .split_once(',')
        .ok_or(ScramError::Malformed("channel binding"))?;
    match flag {
        "n" | "y" => {}
        _ if flag.starts_with("p=") => return Err(ScramError::BindingNotOffered),
        _ => return Err(ScramError::Malformed("channel binding")),
    }
    match rest.split_once(',') {
        Some(("", bare)) => Ok(bare),
        Some((authzid, _)) if authzid.starts_with("a=") => Err(ScramError::AuthorizationIdentity),
        _ => Err(ScramError::Malformed("authorization identity")),
    }
}
