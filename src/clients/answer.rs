//! Errors and notices, made into bytes for the client.

use bytes::BytesMut;

use crate::error::{Error, Severity};
use crate::protocol::message::{self, Say};

/// Appends the ErrorResponse that tells `error`.
pub fn tell(out: &mut Vec<u8>, error: &Error) {
    let (message, detail) = (error.message(), error.detail());
    let severity = match error.severity() {
        Severity::Error => message::Severity::Error,
        Severity::Fatal => message::Severity::Fatal,
    };
    let say = Say {
        severity,
        code: error.sqlstate(),
        message: &message,
        detail: detail.as_deref(),
        hint: error.hint(),
    };
    put(out, |bytes| message::error(bytes, &say));
}

/// Appends a NOTICE.
pub fn notice(out: &mut Vec<u8>, text: &str) {
    let severity = message::Severity::Notice;
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
