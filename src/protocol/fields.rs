//! The few messages the pooler reads for itself: a login, an error, the answer to its own query.
//!
//! Every reader takes the body of one frame and stays inside it. `None` means the body is not what its tag promised, or
//! has bytes left over; such a peer is broken, and nothing it says later can be trusted.

use std::borrow::Cow;

use super::frame;
use super::message::Severity;

/// The fields of an ErrorResponse or NoticeResponse, as code and text, up to the first that is broken.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `body`.
    pub fn of(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let code = frame::u8(&mut self.rest).filter(|&code| code != 0);
        let field = code.and_then(|code| Some((code, frame::cstr(&mut self.rest)?)));
        if field.is_none() {
            self.rest = &[];
        }
        field
    }
}

/// What matters of an error or a notice. Fields that were not sent are empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard<'a> {
    /// From the field V, or from S where the server is old or speaks English.
    pub severity: Option<Severity>,
    /// The SQLSTATE, normally five characters.
    pub sqlstate: &'a [u8],
    /// The primary message, in the server's language and encoding.
    pub message: &'a [u8],
    /// More about it.
    pub detail: &'a [u8],
    /// What to do about it.
    pub hint: &'a [u8],
}

impl<'a> Heard<'a> {
    /// Reads the body of an ErrorResponse or NoticeResponse; what is broken in it is missing.
    pub fn of(body: &'a [u8]) -> Self {
        let mut heard = Self::default();
        let mut localized = None;
        for (code, text) in Fields::of(body) {
            match code {
                b'V' => heard.severity = Severity::from_wire(text),
                b'S' => localized = Severity::from_wire(text),
                b'C' => heard.sqlstate = text,
                b'M' => heard.message = text,
                b'D' => heard.detail = text,
                b'H' => heard.hint = text,
                _ => {}
            }
        }
        heard.severity = heard.severity.or(localized);
        heard
    }

    /// The message for a log, whatever its encoding.
    pub fn message_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.message)
    }
}

/// What a server wants to see of us before it lets us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationRequest<'a> {
    /// Nothing more.
    Ok,
    /// The password in clear.
    Cleartext,
    /// The password hashed with this salt.
    Md5([u8; 4]),
    /// SASL by one of these mechanisms.
    Sasl(Vec<&'a [u8]>),
    /// The next step of SASL.
    SaslContinue(&'a [u8]),
    /// The last step of SASL, before `Ok`.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI and others: the code of the request.
    Other(u32),
}

/// Reads an Authentication message.
pub fn authentication(body: &[u8]) -> Option<AuthenticationRequest<'_>> {
    let mut rest = body;
    let request = match frame::u32(&mut rest)? {
        0 => AuthenticationRequest::Ok,
        3 => AuthenticationRequest::Cleartext,
        5 => AuthenticationRequest::Md5(frame::u32(&mut rest)?.to_be_bytes()),
        10 => AuthenticationRequest::Sasl(mechanisms(&mut rest)?),
        11 => return Some(AuthenticationRequest::SaslContinue(rest)),
        12 => return Some(AuthenticationRequest::SaslFinal(rest)),
        code => return Some(AuthenticationRequest::Other(code)),
    };
    rest.is_empty().then_some(request)
}

fn mechanisms<'a>(rest: &mut &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let mut names = Vec::new();
    loop {
        let name = frame::cstr(rest)?;
        if name.is_empty() {
            return Some(names);
        }
        names.push(name);
    }
}

/// Reads a ParameterStatus: name and value.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = body;
    let pair = (frame::cstr(&mut rest)?, frame::cstr(&mut rest)?);
    rest.is_empty().then_some(pair)
}

/// Reads a ReadyForQuery: `I`, `T` or `E`.
pub fn ready_status(body: &[u8]) -> Option<u8> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Some(*status),
        _ => None,
    }
}

/// Reads a CommandComplete: its tag, such as `SELECT 1`.
pub fn command_tag(body: &[u8]) -> Option<&[u8]> {
    only_text(body)
}

/// Reads a NegotiateProtocolVersion: the newest minor version the server speaks, and what it did not know.
pub fn negotiated(body: &[u8]) -> Option<(u16, Vec<&[u8]>)> {
    let mut rest = body;
    // Old servers send the minor version alone, new ones the whole version; the lower half is the same.
    let minor = frame::u32(&mut rest)? as u16;
    let count = frame::u32(&mut rest)?;
    let mut unknown = Vec::new();
    for _ in 0..count {
        unknown.push(frame::cstr(&mut rest)?);
    }
    rest.is_empty().then_some((minor, unknown))
}

/// Reads a RowDescription: name and type of each column.
pub fn row_description(body: &[u8]) -> Option<Vec<(&[u8], u32)>> {
    let mut rest = body;
    let count = frame::u16(&mut rest)?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = frame::cstr(&mut rest)?;
        frame::take(&mut rest, 6)?; // table and attribute
        let oid = frame::u32(&mut rest)?;
        frame::take(&mut rest, 8)?; // size, modifier, format
        columns.push((name, oid));
    }
    rest.is_empty().then_some(columns)
}

/// Reads a DataRow: its values, `None` for NULL.
pub fn data_row(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut rest = body;
    let count = frame::u16(&mut rest)?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(match frame::i32(&mut rest)? {
            -1 => None,
            size => Some(frame::take(&mut rest, usize::try_from(size).ok()?)?),
        });
    }
    rest.is_empty().then_some(values)
}

/// Reads a client's PasswordMessage.
pub fn password(body: &[u8]) -> Option<&[u8]> {
    only_text(body)
}

/// Reads a client's SASLInitialResponse: the mechanism, and what the client says first unless it says nothing yet.
pub fn sasl_initial(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut rest = body;
    let mechanism = frame::cstr(&mut rest)?;
    let data = match frame::i32(&mut rest)? {
        -1 => None,
        size => Some(frame::take(&mut rest, usize::try_from(size).ok()?)?),
    };
    rest.is_empty().then_some((mechanism, data))
}

fn only_text(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body;
    let text = frame::cstr(&mut rest)?;
    rest.is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::message::{self, Say};

    fn body(say: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        say(&mut out);
        out[frame::HEADER_SIZE..].to_vec()
    }

    #[test]
    fn an_error_said_is_an_error_heard() {
        let say = Say {
            severity: Severity::Fatal,
            code: "57P03",
            message: "starting up",
            detail: None,
            hint: Some("wait"),
        };
        let body = body(|out| message::error(out, &say));
        let heard = Heard::of(&body);
        assert_eq!(heard.severity, Some(Severity::Fatal));
        assert_eq!(heard.sqlstate, b"57P03");
        assert_eq!(heard.message_lossy(), "starting up");
        assert_eq!((heard.detail, heard.hint), (&b""[..], &b"wait"[..]));
    }

    #[test]
    fn an_error_in_another_language_keeps_its_severity() {
        let heard = Heard::of(b"SFATAL\xc9\0VFATAL\0Mnon\0\0");
        assert_eq!(heard.severity, Some(Severity::Fatal));
        assert_eq!(Heard::of(b"SERROR\0\0").severity, Some(Severity::Error));
    }

    #[test]
    fn a_broken_error_is_read_up_to_the_break() {
        let fields: Vec<_> = Fields::of(b"C42601\0Mno end").collect();
        assert_eq!(fields, [(b'C', &b"42601"[..])]);
        assert_eq!(Fields::of(b"\0C42601\0").count(), 0);
    }

    #[test]
    fn a_server_may_ask_in_seven_ways() {
        use AuthenticationRequest as Request;
        let read = |say: &dyn Fn(&mut BytesMut), expected| {
            assert_eq!(authentication(&body(say)), Some(expected));
        };
        read(&message::authentication_ok, Request::Ok);
        read(&message::authentication_cleartext, Request::Cleartext);
        read(
            &|out| message::authentication_md5(out, [1, 2, 3, 4]),
            Request::Md5([1, 2, 3, 4]),
        );
        read(
            &|out| message::authentication_sasl(out, &["A", "B"]),
            Request::Sasl(vec![b"A", b"B"]),
        );
        read(
            &|out| message::authentication_sasl_continue(out, b"c"),
            Request::SaslContinue(b"c"),
        );
        read(
            &|out| message::authentication_sasl_final(out, b"f"),
            Request::SaslFinal(b"f"),
        );
        assert_eq!(authentication(b"\0\0\0\x07"), Some(Request::Other(7)));
        assert_eq!(authentication(b"\0\0\0\0x"), None);
        assert_eq!(authentication(b"\0\0\0\x05abc"), None);
        assert_eq!(authentication(b"\0\0\0\x0aA\0"), None);
    }

    #[test]
    fn a_table_said_is_a_table_read() {
        let head = body(|out| message::row_description(out, &[("n", 23), ("t", 25)]));
        let columns: Vec<(&[u8], u32)> = vec![(b"n", 23), (b"t", 25)];
        assert_eq!(row_description(&head), Some(columns));
        let row = body(|out| message::data_row(out, &[Some(b"7"), None, Some(b"")]));
        let values: Vec<Option<&[u8]>> = vec![Some(b"7"), None, Some(b"")];
        assert_eq!(data_row(&row), Some(values));
        assert_eq!(data_row(b"\0\x01\xff\xff\xff\xfe"), None);
        assert_eq!(data_row(b"\0\x01\0\0\0\x02a"), None);
        assert_eq!(data_row(b"\0\0x"), None);
        assert_eq!(command_tag(b"SELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert_eq!(command_tag(b"SELECT 1"), None);
    }

    #[test]
    fn the_small_messages_of_a_login() {
        assert_eq!(parameter_status(b"a\0b\0"), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(parameter_status(b"a\0b\0c"), None);
        assert_eq!(ready_status(b"T"), Some(b'T'));
        assert_eq!(ready_status(b"TT"), None);
        assert_eq!(negotiated(b"\0\x03\0\x02\0\0\0\0"), Some((2, vec![])));
        assert_eq!(
            negotiated(b"\0\0\0\0\0\0\0\x01x\0"),
            Some((0, vec![&b"x"[..]]))
        );
        assert_eq!(negotiated(b"\0\0\0\0\xff\xff\xff\xffx\0"), None);
        assert_eq!(password(b"pw\0"), Some(&b"pw"[..]));
        assert_eq!(password(b"pw\0\0"), None);
        let first = body(|out| message::sasl_initial(out, "X", b"n,,"));
        assert_eq!(sasl_initial(&first), Some((&b"X"[..], Some(&b"n,,"[..]))));
        assert_eq!(
            sasl_initial(b"X\0\xff\xff\xff\xff"),
            Some((&b"X"[..], None))
        );
        assert_eq!(sasl_initial(b"X\0\xff\xff\xff\xfe"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Fields::of(&bytes).count(), Heard::of(&bytes), authentication(&bytes));
            let _ = (parameter_status(&bytes), ready_status(&bytes));
            let _ = (negotiated(&bytes), row_description(&bytes), data_row(&bytes));
            let _ = (command_tag(&bytes), password(&bytes), sasl_initial(&bytes));
        }

        #[test]
        fn any_row_said_is_read_again(row in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 0..9)) {
            let values: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
            let said = body(|out| message::data_row(out, &values));
            prop_assert_eq!(data_row(&said), Some(values));
        }
    }
}
