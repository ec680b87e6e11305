//! Errors and notices, made into bytes for the client.

use bytes::BytesMut;

use crate::config::value::Dialect;
use crate::error::{Error, Severity};
use crate::protocol::message::{self, Say};

/// Appends the ErrorResponse that tells `error` in the words of `dialect`.
pub fn tell(out: &mut Vec<u8>, error: &Error, dialect: Dialect) {
    let severity = match error.severity() {
        Severity::Error => message::Severity::Error,
        Severity::Fatal => message::Severity::Fatal,
    };
    tell_as(out, severity, error, dialect);
}

/// The same where the connection ends with it: FATAL, also for an error that a session would survive.
pub fn tell_last(out: &mut Vec<u8>, error: &Error, dialect: Dialect) {
    tell_as(out, message::Severity::Fatal, error, dialect);
}

fn tell_as(out: &mut Vec<u8>, severity: message::Severity, error: &Error, dialect: Dialect) {
    if dialect == Dialect::PgBouncer {
        let (code, said) = (error.pgbouncer_code(), error.pgbouncer_message());
        return put(out, |bytes| {
            message::plain_error(bytes, severity, code, &said)
        });
    }
    let (message, detail, hint) = (error.message(), error.detail(), error.hint());
    let say = Say {
        severity,
        code: error.sqlstate(),
        message: &message,
        detail: detail.as_deref(),
        hint: hint.as_deref(),
    };
    put(out, |bytes| message::error(bytes, &say));
}

/// Appends a NOTICE.
pub fn notice(out: &mut Vec<u8>, text: &str, dialect: Dialect) {
    let severity = message::Severity::Notice;
    if dialect == Dialect::PgBouncer {
        return put(out, |bytes| {
            message::plain_notice(bytes, severity, "00000", text)
        });
    }
    let say = Say {
        severity,
        code: "00000",
        message: text,
        detail: None,
        hint: None,
    };
    put(out, |bytes| message::notice(bytes, &say));
}

/// Appends what `write` writes.
pub fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut BytesMut)) {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    out.extend_from_slice(&bytes);
}
