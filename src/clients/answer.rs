//! Errors, made into bytes for the client.

use crate::error::Error;
use crate::protocol::message::{self, Say};

/// Appends the ErrorResponse that tells `error`.
pub fn tell(out: &mut Vec<u8>, error: &Error) {
    let (message, detail) = (error.message(), error.detail());
    let say = Say {
        severity: error.severity().as_str(),
        code: error.sqlstate(),
        message: &message,
        detail: detail.as_deref(),
        hint: error.hint(),
    };
    message::error_response(out, &say);
}

/// Appends a NOTICE.
pub fn notice(out: &mut Vec<u8>, text: &str) {
    let say = Say { severity: "NOTICE", code: "00000", message: text, detail: None, hint: None };
    message::notice_response(out, &say);
}
