//! Everything the pooler says by itself, to clients and to servers.
//!
//! Each function appends one message to `out`. What is made of our own texts goes through pgwire's structs; what may
//! carry a stranger's bytes (names, passwords, queries, parameters) is written here, for pgwire knows only UTF-8,
//! sorts startup parameters by name and has limits below those of PostgreSQL.
//!
//! A text on the wire ends at its first zero byte, so a text with one inside would open a second message behind it. All
//! texts are therefore cut before their first zero byte, as C would.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{DataRow, FORMAT_CODE_TEXT, FieldDescription, RowDescription};
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, Flush, ParseComplete, PortalSuspended, Sync,
};
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse};
use pgwire::messages::startup::{
    Authentication, NegotiateProtocolVersion, SASLInitialResponse, SASLResponse, SslRequest,
};
use pgwire::messages::terminate::Terminate;

use super::startup::CANCEL_CODE;

/// How bad an error or notice is. ERROR ends the statement, FATAL the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session is over.
    Fatal,
    /// All sessions are over.
    Panic,
    /// Something the user should know.
    Warning,
    /// Something the user may like to know.
    Notice,
    /// For who looks for bugs.
    Debug,
    /// What the user asked for.
    Info,
    /// What the operator may like to know.
    Log,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Log => "LOG",
        }
    }

    /// The severity behind a word of the wire, if it is one in English.
    pub fn from_wire(word: &[u8]) -> Option<Self> {
        let all = [
            Severity::Error,
            Severity::Fatal,
            Severity::Panic,
            Severity::Warning,
            Severity::Notice,
            Severity::Debug,
            Severity::Info,
            Severity::Log,
        ];
        all.into_iter().find(|one| one.as_str().as_bytes() == word)
    }
}

/// What an error or a notice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Say<'a> {
    /// How bad it is; sent as S and as V.
    pub severity: Severity,
    /// The SQLSTATE, five characters.
    pub code: &'a str,
    /// The one sentence everybody sees.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

impl Say<'_> {
    fn fields(&self) -> Vec<(u8, String)> {
        let severity = self.severity.as_str();
        let always = [
            (b'S', severity),
            (b'V', severity),
            (b'C', self.code),
            (b'M', self.message),
        ];
        let more = [(b'D', self.detail), (b'H', self.hint)];
        let more = more
            .into_iter()
            .filter_map(|(tag, text)| Some((tag, text?)));
        let all = always.into_iter().chain(more);
        all.map(|(tag, text)| (tag, clean(text).to_owned()))
            .collect()
    }
}

// ---- to clients ----

/// ErrorResponse.
pub fn error(out: &mut BytesMut, say: &Say<'_>) {
    put(out, &ErrorResponse::new(say.fields()));
}

/// ErrorResponse as PgBouncer writes it: severity, code and message, and no V.
pub fn plain_error(out: &mut BytesMut, severity: Severity, code: &str, message: &str) {
    put(
        out,
        &ErrorResponse::new(plain_fields(severity, code, message)),
    );
}

/// NoticeResponse as PgBouncer writes it: severity, code and message, and no V.
pub fn plain_notice(out: &mut BytesMut, severity: Severity, code: &str, message: &str) {
    put(
        out,
        &NoticeResponse::new(plain_fields(severity, code, message)),
    );
}

fn plain_fields(severity: Severity, code: &str, message: &str) -> Vec<(u8, String)> {
    let all = [(b'S', severity.as_str()), (b'C', code), (b'M', message)];
    all.map(|(tag, text)| (tag, clean(text).to_owned())).into()
}

/// NoticeResponse.
pub fn notice(out: &mut BytesMut, say: &Say<'_>) {
    put(out, &NoticeResponse::new(say.fields()));
}

/// ReadyForQuery; `status` is `I` idle, `T` in a transaction or `E` in a failed one, and goes out as it is.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    frame(out, b'Z', |out| out.put_u8(status));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    frame(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// BackendKeyData; `key` is process id and secret as one, 8 bytes before protocol 3.2.
pub fn backend_key_data(out: &mut BytesMut, key: &[u8]) {
    frame(out, b'K', |out| out.put_slice(key));
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    put(out, &Authentication::Ok);
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext(out: &mut BytesMut) {
    put(out, &Authentication::CleartextPassword);
}

/// AuthenticationMD5Password.
pub fn authentication_md5(out: &mut BytesMut, salt: [u8; 4]) {
    put(out, &Authentication::MD5Password(salt.to_vec()));
}

/// AuthenticationSASL with the names of the mechanisms we know.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    let mechanisms = mechanisms.iter().map(|name| clean(name).to_owned());
    put(out, &Authentication::SASL(mechanisms.collect()));
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    authentication_data(out, 11, data);
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) {
    authentication_data(out, 12, data);
}

/// NegotiateProtocolVersion: the newest 3.`minor` we speak, and the extensions we do not know.
pub fn negotiate_protocol_version(out: &mut BytesMut, minor: u16, unknown: &[String]) {
    let unknown = unknown.iter().map(|name| clean(name).to_owned()).collect();
    // PostgreSQL says the whole version here, whatever its manual says.
    let version = 3 << 16 | i32::from(minor);
    put(out, &NegotiateProtocolVersion::new(version, unknown));
}

/// RowDescription of columns in text format: name and type of each.
pub fn row_description(out: &mut BytesMut, columns: &[(&str, u32)]) {
    let column = |&(name, oid): &(&str, u32)| {
        let name = clean(name).to_owned();
        FieldDescription::new(name, 0, 0, oid, type_size(oid), -1, FORMAT_CODE_TEXT)
    };
    put(
        out,
        &RowDescription::new(columns.iter().map(column).collect()),
    );
}

/// ParameterDescription: the type of each parameter.
pub fn parameter_description(out: &mut BytesMut, types: &[u32]) {
    frame(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.iter().for_each(|oid| out.put_u32(*oid));
    });
}

/// DataRow; `None` is NULL. Values may hold zero bytes, they have a length.
pub fn data_row(out: &mut BytesMut, values: &[Option<&[u8]>]) {
    let mut data = BytesMut::new();
    for value in values {
        match value {
            Some(value) => {
                data.put_i32(value.len() as i32);
                data.put_slice(value);
            }
            None => data.put_i32(-1),
        }
    }
    put(out, &DataRow::new(data, values.len() as i16));
}

/// CommandComplete.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    put(out, &CommandComplete::new(clean(tag).to_owned()));
}

/// ParseComplete.
pub fn parse_complete(out: &mut BytesMut) {
    put(out, &ParseComplete::new());
}

/// BindComplete.
pub fn bind_complete(out: &mut BytesMut) {
    put(out, &BindComplete::new());
}

/// CloseComplete.
pub fn close_complete(out: &mut BytesMut) {
    put(out, &CloseComplete::new());
}

/// PortalSuspended.
pub fn portal_suspended(out: &mut BytesMut) {
    put(out, &PortalSuspended::new());
}

// ---- to servers ----

/// StartupMessage of protocol 3.`minor`, its parameters in the order given.
pub fn startup_message(out: &mut BytesMut, minor: u16, params: &[(&[u8], &[u8])]) {
    bare(out, |out| {
        out.put_u16(3);
        out.put_u16(minor);
        for (name, value) in params.iter().filter(|(name, _)| !name.is_empty()) {
            text(out, name);
            text(out, value);
        }
        out.put_u8(0);
    });
}

/// SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    put(out, &SslRequest::new());
}

/// CancelRequest; `key` is process id and secret as one, as the server gave it out.
pub fn cancel_request(out: &mut BytesMut, key: &[u8]) {
    bare(out, |out| {
        out.put_u32(CANCEL_CODE);
        out.put_slice(key);
    });
}

/// Query.
pub fn query(out: &mut BytesMut, sql: &[u8]) {
    frame(out, b'Q', |out| text(out, sql));
}

/// PasswordMessage: a password in clear, or its md5 answer.
pub fn password(out: &mut BytesMut, password: &[u8]) {
    frame(out, b'p', |out| text(out, password));
}

/// SASLInitialResponse.
pub fn sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    let data = Some(Bytes::copy_from_slice(data));
    put(
        out,
        &SASLInitialResponse::new(clean(mechanism).to_owned(), data),
    );
}

/// SASLResponse.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    put(out, &SASLResponse::new(Bytes::copy_from_slice(data)));
}

/// Parse of a statement `name` from its query and the oids of its parameters.
pub fn parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u32]) {
    frame(out, b'P', |out| {
        text(out, name);
        text(out, sql);
        out.put_u16(types.len() as u16);
        types.iter().for_each(|&oid| out.put_u32(oid));
    });
}

/// Bind with all values and results in text format; `None` is NULL.
pub fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], values: &[Option<&[u8]>]) {
    frame(out, b'B', |out| {
        text(out, portal);
        text(out, statement);
        out.put_u16(0);
        out.put_u16(values.len() as u16);
        for value in values {
            match value {
                Some(value) => {
                    out.put_i32(value.len() as i32);
                    out.put_slice(value);
                }
                None => out.put_i32(-1),
            }
        }
        out.put_u16(0);
    });
}

/// Describe of a portal.
pub fn describe_portal(out: &mut BytesMut, portal: &[u8]) {
    named(out, b'D', b'P', portal);
}

/// Describe of a statement.
pub fn describe_statement(out: &mut BytesMut, statement: &[u8]) {
    named(out, b'D', b'S', statement);
}

/// Execute; `max_rows` 0 means all.
pub fn execute(out: &mut BytesMut, portal: &[u8], max_rows: u32) {
    frame(out, b'E', |out| {
        text(out, portal);
        out.put_u32(max_rows);
    });
}

/// Close of a statement.
pub fn close_statement(out: &mut BytesMut, statement: &[u8]) {
    named(out, b'C', b'S', statement);
}

/// Sync.
pub fn sync(out: &mut BytesMut) {
    put(out, &Sync::new());
}

/// Flush.
pub fn flush(out: &mut BytesMut) {
    put(out, &Flush::new());
}

/// Terminate.
pub fn terminate(out: &mut BytesMut) {
    put(out, &Terminate::new());
}

// ---- how ----

/// The size RowDescription gives for a type; drivers show it, none depends on it.
fn type_size(oid: u32) -> i16 {
    match oid {
        16 => 1,              // bool
        21 => 2,              // int2
        23 | 26 | 700 => 4,   // int4, oid, float4
        20 | 701 | 1184 => 8, // int8, float8, timestamptz
        _ => -1,
    }
}

/// Not with pgwire, whose limit a long salt of a stored secret could pass.
fn authentication_data(out: &mut BytesMut, code: u32, data: &[u8]) {
    frame(out, b'R', |out| {
        out.put_u32(code);
        out.put_slice(data);
    });
}

fn put(out: &mut BytesMut, message: &impl Message) {
    let encoded = message.encode(out);
    encoded.expect("our own messages are far below pgwire's limits");
}

fn named(out: &mut BytesMut, tag: u8, kind: u8, name: &[u8]) {
    frame(out, tag, |out| {
        out.put_u8(kind);
        text(out, name);
    });
}

fn frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    bare(out, body);
}

fn bare(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let len = u32::try_from(out.len() - start).expect("our own messages are below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn text(out: &mut BytesMut, text: &[u8]) {
    let end = text.iter().position(|byte| *byte == 0);
    out.put_slice(&text[..end.unwrap_or(text.len())]);
    out.put_u8(0);
}

fn clean(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
