//! First packets, good and bad.

use proptest::prelude::*;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

fn version(minor: u32, body: &[u8]) -> Result<Startup, StartupError> {
    match parse(&packet(3 << 16 | minor, body))? {
        Progress::Startup(startup) => Ok(startup),
        other => panic!("not a startup packet: {other:?}"),
    }
}

#[test]
fn a_startup_packet_may_come_byte_by_byte() {
    let whole = packet(3 << 16, b"user\0ann\0database\0shop\0\0");
    for end in 0..8 {
        assert_eq!(parse(&whole[..end]), Ok(Progress::Need(8)));
    }
    for end in 8..whole.len() {
        assert_eq!(parse(&whole[..end]), Ok(Progress::Need(whole.len())));
    }
    let progress = parse(&[&whole[..], b"p..."].concat()).unwrap();
    assert_eq!(progress.taken(), whole.len());
    let Progress::Startup(startup) = progress else {
        panic!("{progress:?}")
    };
    assert_eq!((&startup.user[..], &startup.database[..]), ("ann", "shop"));
}

#[test]
fn parameters_keep_their_order_and_the_last_of_two_counts() {
    let startup = version(0, b"a\x001\0user\0ann\0b\0\xff\0a\x002\0\0").unwrap();
    assert_eq!(startup.database, "ann");
    assert_eq!(startup.get("a"), Some(&b"2"[..]));
    assert_eq!(startup.get("b"), Some(&b"\xff"[..]));
    assert_eq!(startup.get("c"), None);
    assert_eq!(startup.params.len(), 3);
}

#[test]
fn an_empty_database_is_the_users_own() {
    let startup = version(0, b"user\0ann\0database\0\0\0").unwrap();
    assert_eq!(startup.database, "ann");
}

#[test]
fn unknown_minors_and_extensions_are_talked_down() {
    let told = |minor, body: &[u8]| {
        let startup = version(minor, body).unwrap();
        (
            startup.needs_negotiation(Dialect::Native),
            startup.agreed_minor(Dialect::Native),
        )
    };
    assert_eq!(told(0, b"user\0a\0\0"), (false, 0));
    assert_eq!(told(1, b"user\0a\0\0"), (true, 0));
    assert_eq!(told(2, b"user\0a\0\0"), (false, 2));
    assert_eq!(told(9999, b"user\0a\0\0"), (true, 2));
    let startup = version(0, b"user\0a\0_pq_.x\0on\0\0").unwrap();
    assert!(startup.needs_negotiation(Dialect::Native));
    assert_eq!(startup.extensions, ["_pq_.x"]);
    assert!(startup.params.is_empty());
}

#[test]
fn the_questions_before_a_startup_packet() {
    assert_eq!(parse(b"\0\0\0\x08\x04\xd2\x16\x2f"), Ok(Progress::Ssl));
    assert_eq!(parse(b"\0\0\0\x08\x04\xd2\x16\x30"), Ok(Progress::Gssenc));
    assert_eq!(parse(b"\x16\x03\x01"), Ok(Progress::DirectTls));
    assert!(matches!(
        parse(&packet(SSL_CODE, b"x")),
        Err(StartupError::BadHeader(_))
    ));
}

#[test]
fn cancel_keys_are_eight_bytes_or_longer() {
    let key = |size: usize| parse(&packet(CANCEL_CODE, &vec![7; size]));
    assert_eq!(key(8).map(|progress| progress.taken()), Ok(16));
    assert_eq!(key(260), Ok(Progress::Cancel { key: vec![7; 260] }));
    assert_eq!(key(7), Err(StartupError::BadCancelKey));
    assert_eq!(key(261), Err(StartupError::BadCancelKey));
}

#[test]
fn a_bad_packet_is_refused_with_its_reason() {
    let no = |body: &[u8]| version(0, body).unwrap_err();
    assert_eq!(no(b"user\0ann\0"), StartupError::NoTerminator);
    assert_eq!(no(b"user\0ann\0\0\0"), StartupError::NoTerminator);
    assert_eq!(no(b"user\0ann"), StartupError::NoTerminator);
    assert_eq!(no(b""), StartupError::NoTerminator);
    assert_eq!(no(b"\0"), StartupError::NoUser);
    assert_eq!(no(b"user\0\0\0"), StartupError::NoUser);
    assert_eq!(no(b"user\0\xff\0\0"), StartupError::NotUtf8("user"));
    let long = [b"user\0", &[b'a'; 128][..], b"\0\0"].concat();
    assert_eq!(no(&long), StartupError::UserTooLong);
    assert_eq!(parse(&packet(2 << 16, b"")), Err(StartupError::V2));
}

#[test]
fn a_bad_header_is_refused_before_its_body_comes() {
    let hex = |text: &str| text.to_owned();
    let bad_header = |text| Err(StartupError::BadHeader(hex(text)));
    assert_eq!(
        parse(b"\0\0\0\x07\0\x03\0\0"),
        bad_header("0000000700030000")
    );
    assert_eq!(
        parse(b"\0\x01\0\0\0\x03\0\0"),
        bad_header("0001000000030000")
    );
    assert_eq!(
        parse(b"\0\0\x27\x11\0\x03\0\0"),
        Err(StartupError::TooLong { size: 10_001 })
    );
    assert_eq!(parse(b"\0\0\x27\x10\0\x03\0\0"), Ok(Progress::Need(10_000)));
    assert_eq!(
        parse(b"GET / HTTP/1.1"),
        Err(StartupError::NotPostgres(hex("474554202f204854")))
    );
    assert_eq!(parse(b"p"), Err(StartupError::PasswordFirst));
    assert_eq!(
        parse(b"\0\0\0\x09\0\x04\0\x01"),
        Err(StartupError::UnsupportedVersion {
            major: 4,
            minor: 1,
            header: hex("0000000900040001")
        })
    );
}

fn options(text: &str) -> Result<Vec<(String, String)>, BadOptions> {
    let settings = parse_options(text.as_bytes())?.into_iter();
    Ok(settings
        .map(|(name, value)| (name, String::from_utf8(value).unwrap()))
        .collect())
}

#[test]
fn options_are_read_as_postgres_reads_them() {
    let one = |name: &str, value: &str| Ok(vec![(name.to_owned(), value.to_owned())]);
    assert_eq!(options("-c a=b"), one("a", "b"));
    assert_eq!(options("-ca=b"), one("a", "b"));
    assert_eq!(options("--search-path=x=y"), one("search_path", "x=y"));
    assert_eq!(options("  -c\t \n a=  "), one("a", ""));
    assert_eq!(options(r"-c a=b\ c\\d\"), one("a", r"b c\d"));
    assert_eq!(options("   "), Ok(vec![]));
    assert_eq!(options("-c a=1 --b=2 -cc=3").map(|all| all.len()), Ok(3));
}

#[test]
fn other_switches_in_options_are_refused() {
    for text in ["-d 5", "-c", "--", "--x", "-c =1", "a=b", "-", r"-c a=1 \ "] {
        assert_eq!(options(text), Err(BadOptions), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
        let _ = parse(&packet(3 << 16, &bytes));
        let _ = parse(&packet(CANCEL_CODE, &bytes));
        let _ = parse_options(&bytes);
    }

    #[test]
    fn it_never_takes_more_than_there_is(minor in 0u32..4, body in "(user\0[a-z]{1,5}\0)?([a-z_.]{1,9}\0[ -~]{0,9}\0){0,4}\0", cut in 0usize..200) {
        let bytes = packet(3 << 16 | minor, body.as_bytes());
        let bytes = &bytes[..cut.min(bytes.len())];
        if let Ok(progress) = parse(bytes) {
            prop_assert!(progress.taken() <= bytes.len());
        }
    }
}
