//! What a client may send before the first frame.
//!
//! These packets have no tag: a length of four bytes and a code, then what the code asks for. They come from strangers,
//! so every rule here is a limit: ten thousand bytes as PostgreSQL, one terminator as the last byte, and a code that is
//! judged before its body is waited for. A first byte that is not zero cannot be such a packet at all: it is a TLS hello
//! sent without asking, or a guest in the wrong house.
//!
//! | code | packet |
//! |---|---|
//! | 80877102 | cancel request: process id and key follow |
//! | 80877103 | may we speak TLS |
//! | 80877104 | may we speak GSSAPI encryption |
//! | 3.0, 3.2 | startup; other 3.x are talked down to one of these |

use std::fmt::Write as _;

use super::frame;
use crate::config::value::Dialect;

/// The longest packet believed, in bytes, the length included.
pub const MAX_SIZE: usize = 10_000;
/// The longest user name, in bytes.
pub const MAX_USER_SIZE: usize = 127;
/// The code of a cancel request.
pub const CANCEL_CODE: u32 = 80_877_102;
/// The code that asks for TLS.
pub const SSL_CODE: u32 = 80_877_103;
/// The code that asks for GSSAPI encryption.
pub const GSSENC_CODE: u32 = 80_877_104;

/// Length and code.
const HEAD_SIZE: usize = 8;
/// Process id and a secret of 4 bytes, as in 3.0.
const MIN_KEY_SIZE: usize = 8;
/// Process id and a secret of 256 bytes, the longest 3.2 allows.
const MAX_KEY_SIZE: usize = 260;
const TLS_HANDSHAKE: u8 = 0x16;
/// A name that asks for a protocol extension, none of which we have.
const EXTENSION_PREFIX: &str = "_pq_.";

/// What has arrived so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not all there: ask again when the buffer holds this many bytes. Nothing was taken.
    Need(usize),
    /// A TLS hello without a request before it; it stays in the buffer for the handshake.
    DirectTls,
    /// May we speak TLS? 8 bytes.
    Ssl,
    /// May we speak GSSAPI encryption? 8 bytes.
    Gssenc,
    /// Stop somebody's query.
    Cancel {
        /// Process id and secret as one, at least 8 bytes, as the server gave them out.
        key: Vec<u8>,
    },
    /// A client wants in.
    Startup(Startup),
}

impl Progress {
    /// How many bytes at the front of the buffer this packet took; bytes behind an `Ssl` or `Gssenc` were sent in clear
    /// before the answer and must be refused.
    pub fn taken(&self) -> usize {
        match self {
            Progress::Need(_) | Progress::DirectTls => 0,
            Progress::Ssl | Progress::Gssenc => HEAD_SIZE,
            Progress::Cancel { key } => HEAD_SIZE + key.len(),
            Progress::Startup(startup) => startup.size,
        }
    }
}

/// A startup packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The minor version asked for; the major one is 3.
    pub minor: u16,
    /// Who wants in: not empty, at most [`MAX_USER_SIZE`] bytes.
    pub user: String,
    /// Where to; the user's name when the packet does not say.
    pub database: String,
    /// All other parameters as sent, in order, also twice: the last one counts.
    pub params: Vec<(String, Vec<u8>)>,
    /// Names of protocol extensions asked for (`_pq_.…`), none of which we know.
    pub extensions: Vec<String>,
    size: usize,
}

impl Startup {
    /// The value of a parameter, names compared as they are; the last one counts.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.params.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| &value[..])
    }

    /// The minor version we shall speak with this client: 0 or 2; as PgBouncer 0, whatever is asked for.
    pub fn agreed_minor(&self, dialect: Dialect) -> u16 {
        match dialect {
            Dialect::Native if self.minor >= 2 => 2,
            Dialect::Native | Dialect::PgBouncer => 0,
        }
    }

    /// Whether the client must be told, before anything else, what of its wishes we do not know: answer with
    /// [`agreed_minor`](Self::agreed_minor) and [`extensions`](Self::extensions).
    pub fn needs_negotiation(&self, dialect: Dialect) -> bool {
        self.minor != self.agreed_minor(dialect) || !self.extensions.is_empty()
    }
}

/// Why a first packet is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartupError {
    /// The length is above [`MAX_SIZE`].
    TooLong {
        /// The length as sent.
        size: usize,
    },
    /// A length that fits no packet. The first bytes, up to eight, in hex.
    BadHeader(String),
    /// A first byte no Postgres client sends. The first bytes, up to eight, in hex. Not worth an answer.
    NotPostgres(String),
    /// A password before the startup packet.
    PasswordFirst,
    /// Protocol 2, out of use since 2003.
    V2,
    /// Neither protocol 3 nor a known request.
    UnsupportedVersion {
        /// The upper half of the code.
        major: u16,
        /// The lower half of the code.
        minor: u16,
        /// The first eight bytes in hex.
        header: String,
    },
    /// A cancel request whose key has less than 8 or more than 260 bytes. Not worth an answer.
    BadCancelKey,
    /// The parameters do not end with exactly one terminator as the last byte.
    NoTerminator,
    /// No user, or an empty one.
    NoUser,
    /// The user's name is longer than [`MAX_USER_SIZE`].
    UserTooLong,
    /// The user, the database or the name of a parameter is not UTF-8; this says which.
    NotUtf8(&'static str),
}

/// Reads the first packet from what has arrived.
///
/// # Errors
/// [`StartupError`] as soon as the bytes cannot become a good packet.
pub fn parse(buf: &[u8]) -> Result<Progress, StartupError> {
    match buf.first() {
        None => return Ok(Progress::Need(HEAD_SIZE)),
        Some(0) => {}
        Some(&TLS_HANDSHAKE) => return Ok(Progress::DirectTls),
        Some(b'p') => return Err(StartupError::PasswordFirst),
        Some(_) => return Err(StartupError::NotPostgres(hex(buf))),
    }
    let mut rest = buf;
    let (Some(size), Some(code)) = (frame::u32(&mut rest), frame::u32(&mut rest)) else {
        return Ok(Progress::Need(HEAD_SIZE));
    };
    let size = checked_size(size, buf)?;
    check_code(code, size, buf)?;
    let Some(body) = frame::take(&mut rest, size - HEAD_SIZE) else {
        return Ok(Progress::Need(size));
    };
    match code {
        SSL_CODE => Ok(Progress::Ssl),
        GSSENC_CODE => Ok(Progress::Gssenc),
        CANCEL_CODE => Ok(Progress::Cancel { key: body.to_vec() }),
        version => startup(version as u16, body, size).map(Progress::Startup),
    }
}

fn checked_size(size: u32, buf: &[u8]) -> Result<usize, StartupError> {
    // PgBouncer takes only two bytes of length; what does not fit there is noise, not a long packet.
    if size > 0xffff || (size as usize) < HEAD_SIZE {
        return Err(StartupError::BadHeader(hex(buf)));
    }
    let size = size as usize;
    if size > MAX_SIZE {
        return Err(StartupError::TooLong { size });
    }
    Ok(size)
}

fn check_code(code: u32, size: usize, buf: &[u8]) -> Result<(), StartupError> {
    let (major, minor) = ((code >> 16) as u16, code as u16);
    match code {
        SSL_CODE | GSSENC_CODE if size == HEAD_SIZE => Ok(()),
        SSL_CODE | GSSENC_CODE => Err(StartupError::BadHeader(hex(buf))),
        CANCEL_CODE if (MIN_KEY_SIZE..=MAX_KEY_SIZE).contains(&(size - HEAD_SIZE)) => Ok(()),
        CANCEL_CODE => Err(StartupError::BadCancelKey),
        _ if major == 3 => Ok(()),
        _ if major == 2 => Err(StartupError::V2),
        _ => Err(StartupError::UnsupportedVersion {
            major,
            minor,
            header: hex(buf),
        }),
    }
}

fn startup(minor: u16, body: &[u8], size: usize) -> Result<Startup, StartupError> {
    let mut startup = Startup {
        minor,
        user: String::new(),
        database: String::new(),
        params: Vec::new(),
        extensions: Vec::new(),
        size,
    };
    let mut rest = body;
    loop {
        let name = frame::cstr(&mut rest).ok_or(StartupError::NoTerminator)?;
        if name.is_empty() {
            break;
        }
        let value = frame::cstr(&mut rest).ok_or(StartupError::NoTerminator)?;
        place(&mut startup, text(name, "parameter name")?, value)?;
    }
    if !rest.is_empty() {
        return Err(StartupError::NoTerminator);
    }
    finish(startup)
}

fn place(startup: &mut Startup, name: String, value: &[u8]) -> Result<(), StartupError> {
    match name.as_str() {
        "user" => startup.user = text(value, "user")?,
        "database" => startup.database = text(value, "database")?,
        _ if name.starts_with(EXTENSION_PREFIX) => startup.extensions.push(name),
        _ => startup.params.push((name, value.to_vec())),
    }
    Ok(())
}

fn finish(mut startup: Startup) -> Result<Startup, StartupError> {
    if startup.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if startup.user.len() > MAX_USER_SIZE {
        return Err(StartupError::UserTooLong);
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    Ok(startup)
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, StartupError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::NotUtf8(what))
}

/// The first bytes, up to eight, in hex.
pub fn hex(buf: &[u8]) -> String {
    buf.iter()
        .take(HEAD_SIZE)
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
            hex
        })
}

/// The startup parameter `options` holds something else than settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadOptions;

/// Reads the settings out of the startup parameter `options`: `-c name=value`, `-cname=value`, `--name=value`.
///
/// As PostgreSQL splits them: any blanks between words, a backslash takes the next byte as it is, and a dash in a name
/// means an underscore. Blanks at either end, which PgBouncer refuses, do no harm.
///
/// # Errors
/// [`BadOptions`] for any other switch, a `-c` without a word after it, a setting without a name or without `=`, or a
/// name that is not UTF-8.
pub fn parse_options(options: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadOptions> {
    let mut words = split_options(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.as_slice() {
            b"-c" => words.next().ok_or(BadOptions)?,
            [b'-', b'c' | b'-', setting @ ..] => setting.to_vec(),
            _ => return Err(BadOptions),
        };
        settings.push(split_setting(&setting)?);
    }
    Ok(settings)
}

fn split_setting(setting: &[u8]) -> Result<(String, Vec<u8>), BadOptions> {
    let mut halves = setting.splitn(2, |&byte| byte == b'=');
    let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
        return Err(BadOptions);
    };
    let name = std::str::from_utf8(name).map_err(|_| BadOptions)?;
    if name.is_empty() {
        return Err(BadOptions);
    }
    Ok((name.replace('-', "_"), value.to_vec()))
}

fn split_options(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = options.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b' ' | b'\t'..=b'\r' => words.extend(word.take()),
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
