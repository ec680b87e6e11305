//! Every message against the bytes the manual gives.

use super::*;

fn said(say: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    say(&mut out);
    assert!(out.starts_with(b"before"));
    out[6..].to_vec()
}

#[test]
fn an_error_says_its_severity_twice() {
    let say = Say {
        severity: Severity::Fatal,
        code: "08P01",
        message: "no",
        detail: Some("d"),
        hint: None,
    };
    let expected = b"E\0\0\0\x21SFATAL\0VFATAL\0C08P01\0Mno\0Dd\0\0";
    assert_eq!(said(|out| error(out, &say)), expected);
    let say = Say {
        severity: Severity::Notice,
        code: "00000",
        detail: None,
        hint: Some("h"),
        ..say
    };
    let expected = b"N\0\0\0\x23SNOTICE\0VNOTICE\0C00000\0Mno\0Hh\0\0";
    assert_eq!(said(|out| notice(out, &say)), expected);
}

#[test]
fn a_zero_byte_ends_a_text_and_never_opens_a_message() {
    let evil = b"SELECT 1\0Q\0\0\0\x06X\0";
    assert_eq!(said(|out| query(out, evil)), b"Q\0\0\0\x0dSELECT 1\0");
    let say = Say {
        severity: Severity::Error,
        code: "00000",
        message: "a\0b",
        detail: None,
        hint: None,
    };
    assert!(said(|out| error(out, &say)).ends_with(b"Ma\0\0"));
    assert_eq!(said(|out| command_complete(out, "A\0B")), b"C\0\0\0\x06A\0");
}

#[test]
fn what_a_client_hears_at_login() {
    assert_eq!(said(authentication_ok), b"R\0\0\0\x08\0\0\0\0");
    assert_eq!(said(authentication_cleartext), b"R\0\0\0\x08\0\0\0\x03");
    assert_eq!(
        said(|out| authentication_md5(out, [1, 2, 3, 4])),
        b"R\0\0\0\x0c\0\0\0\x05\x01\x02\x03\x04"
    );
    assert_eq!(
        said(|out| authentication_sasl(out, &["X", "Y"])),
        b"R\0\0\0\x0d\0\0\0\x0aX\0Y\0\0"
    );
    assert_eq!(
        said(|out| authentication_sasl_continue(out, b"r")),
        b"R\0\0\0\x09\0\0\0\x0br"
    );
    assert_eq!(
        said(|out| authentication_sasl_final(out, b"v")),
        b"R\0\0\0\x09\0\0\0\x0cv"
    );
    assert_eq!(
        said(|out| parameter_status(out, b"a", b"\xff")),
        b"S\0\0\0\x08a\0\xff\0"
    );
    assert_eq!(
        said(|out| backend_key_data(out, b"12345678")),
        b"K\0\0\0\x0c12345678"
    );
    assert_eq!(said(|out| ready_for_query(out, b'T')), b"Z\0\0\0\x05T");
    assert_eq!(
        said(|out| negotiate_protocol_version(out, 2, &["_pq_.x".to_owned()])),
        b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0"
    );
}

#[test]
fn a_table_for_a_client() {
    assert_eq!(
        said(|out| row_description(out, &[("n", 23), ("t", 25)])),
        b"T\0\0\0\x2e\0\x02n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0t\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
    );
    assert_eq!(
        said(|out| data_row(out, &[Some(b"7"), None, Some(b"")])),
        b"D\0\0\0\x13\0\x03\0\0\0\x017\xff\xff\xff\xff\0\0\0\0"
    );
    assert_eq!(
        said(|out| command_complete(out, "SHOW")),
        b"C\0\0\0\x09SHOW\0"
    );
    assert_eq!(said(parse_complete), b"1\0\0\0\x04");
    assert_eq!(said(bind_complete), b"2\0\0\0\x04");
    assert_eq!(said(close_complete), b"3\0\0\0\x04");
    assert_eq!(said(portal_suspended), b"s\0\0\0\x04");
}

#[test]
fn what_a_server_hears_at_login() {
    let params: [(&[u8], &[u8]); 2] = [(b"user", b"ann"), (b"a", b"\xe9")];
    assert_eq!(
        said(|out| startup_message(out, 2, &params)),
        b"\0\0\0\x16\0\x03\0\x02user\0ann\0a\0\xe9\0\0"
    );
    assert_eq!(said(ssl_request), b"\0\0\0\x08\x04\xd2\x16\x2f");
    assert_eq!(
        said(|out| cancel_request(out, b"12345678")),
        b"\0\0\0\x10\x04\xd2\x16\x2e12345678"
    );
    assert_eq!(said(|out| password(out, b"pw")), b"p\0\0\0\x07pw\0");
    assert_eq!(
        said(|out| sasl_initial(out, "X", b"n,,")),
        b"p\0\0\0\x0dX\0\0\0\0\x03n,,"
    );
    assert_eq!(said(|out| sasl_response(out, b"c=")), b"p\0\0\0\x06c=");
    assert_eq!(said(terminate), b"X\0\0\0\x04");
}

#[test]
fn a_query_of_our_own() {
    assert_eq!(
        said(|out| parse(out, b"", b"S", &[25])),
        b"P\0\0\0\x0d\0S\0\0\x01\0\0\0\x19"
    );
    assert_eq!(
        said(|out| bind(out, b"", b"s", &[Some(b"a"), None])),
        b"B\0\0\0\x16\0s\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0"
    );
    assert_eq!(said(|out| describe_portal(out, b"")), b"D\0\0\0\x06P\0");
    assert_eq!(
        said(|out| describe_statement(out, b"s")),
        b"D\0\0\0\x07Ss\0"
    );
    assert_eq!(said(|out| execute(out, b"", 1)), b"E\0\0\0\x09\0\0\0\0\x01");
    assert_eq!(said(|out| close_statement(out, b"s")), b"C\0\0\0\x07Ss\0");
    assert_eq!(said(sync), b"S\0\0\0\x04");
    assert_eq!(said(flush), b"H\0\0\0\x04");
}
