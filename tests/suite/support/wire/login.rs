//! How a client comes in.

use std::collections::BTreeMap;

use super::*;

/// Why a login did not become a session.
#[derive(Debug)]
pub enum Refusal {
    /// An ErrorResponse came.
    Told(Fault),
    /// The connection ended, or TLS failed, without one.
    Closed(io::Error),
}

impl Refusal {
    #[track_caller]
    pub fn told(self) -> Fault {
        match self {
            Self::Told(fault) => fault,
            Self::Closed(error) => panic!("closed without a word: {error}"),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

/// How a client introduces itself.
#[derive(Clone)]
pub struct Login {
    address: Address,
    version: i32,
    parameters: Vec<(String, String)>,
    password: Option<String>,
    tls: Option<(Arc<ClientConfig>, String)>,
    direct_tls: bool,
}

impl Login {
    pub fn at(address: Address) -> Self {
        Self {
            address,
            version: VERSION_3_0,
            parameters: Vec::new(),
            password: None,
            tls: None,
            direct_tls: false,
        }
    }

    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// A parameter of the startup packet; a later value replaces an earlier one.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.into(), value.into()));
        self
    }

    pub fn user(self, user: &str) -> Self {
        self.parameter("user", user)
    }

    pub fn database(self, database: &str) -> Self {
        self.parameter("database", database)
    }

    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Through TLS after SSLRequest, the server being known as `name`.
    pub fn tls(mut self, config: Arc<ClientConfig>, name: &str) -> Self {
        self.tls = Some((config, name.into()));
        self
    }

    /// Through TLS from the first byte on.
    pub fn direct_tls(mut self, config: Arc<ClientConfig>, name: &str) -> Self {
        self.direct_tls = true;
        self.tls(config, name)
    }

    /// Connects and sends the startup packet, no more.
    pub fn begin(&self) -> io::Result<Wire> {
        let mut wire = Wire::dial(&self.address)?;
        if let Some((config, name)) = &self.tls {
            let config = Arc::clone(config);
            wire = if self.direct_tls {
                wire.into_tls(config, name)?
            } else {
                wire.start_tls(config, name)?
            };
        }
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        wire.send_bytes(&startup_packet(self.version, &parameters))?;
        Ok(wire)
    }

    /// Logs in up to the first ReadyForQuery.
    pub fn try_connect(&self) -> Result<Client, Refusal> {
        let mut wire = self.begin()?;
        let mut client = Welcome::default();
        let mut scram: Option<ScramSha256> = None;
        loop {
            let frame = wire.read_frame()?;
            let mut body = Body(&frame.body);
            match frame.tag {
                b'R' => {
                    let method = body.i32();
                    client.methods.push(method);
                    if let Some(answer) = self.prove(method, &mut body, &mut scram)? {
                        wire.send_bytes(&batch().frame(b'p', &answer).0)?;
                    }
                }
                b'E' => return Err(Refusal::Told(Fault::read(&frame.body))),
                b'N' => client.notices.push(Fault::read(&frame.body)),
                b'S' => drop(client.parameters.insert(body.text(), body.text())),
                b'K' => client.key = frame.body,
                b'v' => {
                    let offered = body.i32();
                    let count = body.i32();
                    client.negotiated = Some((offered, (0..count).map(|_| body.text()).collect()));
                }
                b'Z' => {
                    return Ok(Client {
                        wire,
                        welcome: client,
                        address: self.address.clone(),
                    });
                }
                other => panic!("{:?} during login", other as char),
            }
        }
    }

    /// The answer to one authentication message; `None` where none is due.
    fn prove(
        &self,
        method: i32,
        body: &mut Body<'_>,
        scram: &mut Option<ScramSha256>,
    ) -> io::Result<Option<Vec<u8>>> {
        let password = self.password.clone().unwrap_or_default();
        let user = self
            .parameters
            .iter()
            .find(|(name, _)| name == "user")
            .map(|(_, user)| user.clone())
            .unwrap_or_default();
        let with_zero = |text: String| Some([text.as_bytes(), b"\0"].concat());
        Ok(match method {
            0 => None,
            3 => with_zero(password),
            5 => {
                let salt = body.bytes(4).try_into().expect("four bytes");
                with_zero(md5_hash(user.as_bytes(), password.as_bytes(), salt))
            }
            10 => {
                assert_eq!(body.text(), SCRAM_SHA_256, "the first mechanism offered");
                let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                let mut answer = [SCRAM_SHA_256.as_bytes(), b"\0"].concat();
                answer.extend_from_slice(&size(exchange.message().len()));
                answer.extend_from_slice(exchange.message());
                *scram = Some(exchange);
                Some(answer)
            }
            11 => {
                let exchange = scram.as_mut().expect("SASLContinue follows SASL");
                exchange.update(body.0)?;
                Some(exchange.message().to_vec())
            }
            12 => {
                scram
                    .as_mut()
                    .expect("SASLFinal follows SASL")
                    .finish(body.0)?;
                None
            }
            other => panic!("authentication method {other}"),
        })
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        self.try_connect()
            .unwrap_or_else(|refusal| panic!("login refused: {refusal:?}"))
    }

    /// The error that a login ends with; it must not succeed, and the connection must end after it.
    #[track_caller]
    pub fn refused(&self) -> Fault {
        match self.try_connect() {
            Ok(_) => panic!("the login should have been refused"),
            Err(refusal) => refusal.told(),
        }
    }
}

/// What was said between the startup packet and the first ReadyForQuery.
#[derive(Debug, Default)]
pub struct Welcome {
    /// Codes of the authentication messages, in order.
    pub methods: Vec<i32>,
    pub parameters: BTreeMap<String, String>,
    pub notices: Vec<Fault>,
    /// Body of BackendKeyData: four bytes of process id and the secret.
    pub key: Vec<u8>,
    /// Version and unknown options of NegotiateProtocolVersion.
    pub negotiated: Option<(i32, Vec<String>)>,
}
