//! Both roles against the RFC, against each other, and against noise.

use proptest::prelude::*;

use super::*;

/// RFC 7677, section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn secret(password: &str) -> ScramSecret {
    let keys = derive(password.as_bytes(), b"salt", 3);
    let text = ScramSecret::ad_hoc(&keys, b"salt", 3).to_text();
    ScramSecret::parse(text.expose()).unwrap()
}

fn rfc_secret() -> ScramSecret {
    let salt = BASE64.decode(SALT).unwrap();
    ScramSecret::ad_hoc(&derive(b"pencil", &salt, 4096), &salt, 4096)
}

fn server(secret: &ScramSecret, first: &str) -> Result<ServerExchange, ScramError> {
    ServerExchange::start(secret, first.as_bytes(), "N")
}

/// A whole login with the keys that `keys` makes of the challenge.
fn login(
    secret: &ScramSecret,
    binding: Binding,
    keys: impl FnOnce(&Challenge) -> ClientKeys,
) -> Result<Accepted, ScramError> {
    let client = ClientExchange::start(binding, "C");
    let server = ServerExchange::start(secret, client.client_first(), "S")?;
    let challenge = client.challenge(server.server_first())?;
    let keys = keys(&challenge);
    let (proof, expected) = challenge.answer(&keys);
    let accepted = server.finish(&proof)?;
    expected.check(&accepted.server_final)?;
    Ok(accepted)
}

fn with_password(password: &str) -> impl FnOnce(&Challenge) -> ClientKeys {
    move |challenge| {
        derive(
            password.as_bytes(),
            challenge.salt(),
            challenge.iterations(),
        )
        .client_keys()
    }
}

#[test]
fn the_client_says_what_the_rfc_says() {
    let client = ClientExchange::start_as("user", Binding::None, CLIENT_NONCE);
    assert_eq!(client.client_first(), CLIENT_FIRST.as_bytes());
    let challenge = client.challenge(SERVER_FIRST.as_bytes()).unwrap();
    let keys = derive(b"pencil", challenge.salt(), challenge.iterations());
    let (proof, expected) = challenge.answer(&keys.client_keys());
    assert_eq!(proof, CLIENT_FINAL.as_bytes());
    assert_eq!(expected.check(SERVER_FINAL.as_bytes()), Ok(()));
}

#[test]
fn the_server_says_what_the_rfc_says() {
    let server =
        ServerExchange::start(&rfc_secret(), CLIENT_FIRST.as_bytes(), SERVER_NONCE).unwrap();
    assert_eq!(server.server_first(), SERVER_FIRST.as_bytes());
    let accepted = server.finish(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(accepted.server_final, SERVER_FINAL.as_bytes());
}

#[test]
fn the_right_password_gets_in_and_a_wrong_one_does_not() {
    let secret = secret("pw");
    for binding in [Binding::None, Binding::NotOffered] {
        assert!(login(&secret, binding, with_password("pw")).is_ok());
    }
    let wrong = login(&secret, Binding::None, with_password("pW"));
    assert_eq!(wrong.unwrap_err(), ScramError::WrongProof);
}

#[test]
fn the_keys_of_one_login_open_the_next_door() {
    let stored = secret("pw");
    let accepted = login(&stored, Binding::None, with_password("pw")).unwrap();
    let keys = accepted.pass_through.unwrap();
    assert!(login(&stored, Binding::None, |_| keys.clone()).is_ok());
    let other = login(&secret("other"), Binding::None, |_| keys);
    assert_eq!(other.unwrap_err(), ScramError::WrongProof);
}

#[test]
fn a_secret_of_our_own_making_gives_no_keys() {
    let accepted = login(&rfc_secret(), Binding::None, with_password("pencil"));
    assert!(accepted.unwrap().pass_through.is_none());
}

#[test]
fn an_unknown_user_gets_a_steady_challenge_and_no_entry() {
    let mock = |user, nonce: &[u8]| ScramSecret::mock(user, nonce, 4096);
    assert_eq!(mock("ann", b"1").salt(), mock("ann", b"1").salt());
    assert_ne!(mock("ann", b"1").salt(), mock("bob", b"1").salt());
    assert_ne!(mock("ann", b"1").salt(), mock("ann", b"2").salt());
    assert_eq!(mock("ann", b"1").salt().len(), SALT_SIZE);
    let refused = login(&mock("ann", b"1"), Binding::None, with_password("pw"));
    assert_eq!(refused.unwrap_err(), ScramError::WrongProof);
    // Not even with the right keys.
    let mut mock = secret("pw");
    mock.origin = Origin::Mock;
    let refused = login(&mock, Binding::None, with_password("pw"));
    assert_eq!(refused.unwrap_err(), ScramError::WrongProof);
    assert!(!mock.matches(&derive(b"pw", b"salt", 3)));
}

#[test]
fn channel_binding_names_the_certificate() {
    let client = ClientExchange::start(Binding::ServerEndPoint(b"hash".to_vec()), "C");
    assert_eq!(client.mechanism(), MECHANISM_PLUS);
    assert_eq!(client.client_first(), b"p=tls-server-end-point,,n=,r=C");
    let challenge = client.challenge(b"r=CS,s=AAAA,i=1").unwrap();
    let keys = derive(b"pw", challenge.salt(), challenge.iterations());
    let (proof, _) = challenge.answer(&keys.client_keys());
    let bound = BASE64.encode(b"p=tls-server-end-point,,hash");
    let start = format!("c={bound},r=CS,p=");
    assert!(proof.starts_with(start.as_bytes()));
}

#[test]
fn a_bad_first_message_is_refused_with_its_reason() {
    let secret = secret("pw");
    let no = |first: &str| server(&secret, first).unwrap_err();
    assert_eq!(
        no("p=tls-server-end-point,,n=,r=C"),
        ScramError::BindingNotOffered
    );
    assert_eq!(no("n,a=bob,n=,r=C"), ScramError::AuthorizationIdentity);
    assert_eq!(no("n,,m=x,n=,r=C"), ScramError::Extension);
    assert_eq!(no("n,,n=,r="), ScramError::Malformed("nonce"));
    assert_eq!(no("n,,n=,r=a b"), ScramError::Malformed("nonce"));
    assert_eq!(no("n,,r=C"), ScramError::Malformed("n="));
    assert_eq!(no("n,,n="), ScramError::Malformed("r="));
    assert_eq!(no("x,,n=,r=C"), ScramError::Malformed("channel binding"));
    assert_eq!(no(""), ScramError::Malformed("channel binding"));
    assert_eq!(no(&"n".repeat(2049)), ScramError::TooLong);
    assert!(server(&secret, "y,,n=whoever,r=C,x=extra").is_ok());
    let latin = ServerExchange::start(&secret, b"n,,n=\xff,r=C", "N");
    assert_eq!(latin.unwrap_err(), ScramError::Malformed("encoding"));
}

#[test]
fn a_bad_last_message_is_refused_with_its_reason() {
    let secret = secret("pw");
    let no = |last: &str| {
        let server = server(&secret, "n,,n=,r=C").unwrap();
        server.finish(last.as_bytes()).unwrap_err()
    };
    let proof = BASE64.encode([0; 32]);
    assert_eq!(no("c=biws,r=CN"), ScramError::Malformed("p="));
    assert_eq!(no("c=biws,r=CN,p=AAAA"), ScramError::Malformed("p="));
    assert_eq!(
        no(&format!("c=eSws,r=CN,p={proof}")),
        ScramError::BindingChanged
    );
    assert_eq!(no(&format!("c=biws,r=CX,p={proof}")), ScramError::Nonce);
    assert_eq!(
        no(&format!("c=biws,r=CN,p={proof},p={proof}")),
        ScramError::Malformed("p=")
    );
    assert_eq!(
        no(&format!("c=biws,r=CN,p={proof}")),
        ScramError::WrongProof
    );
}

#[test]
fn a_bad_server_is_refused_before_any_work() {
    let no = |first: &str| {
        let client = ClientExchange::start(Binding::None, "C");
        client.challenge(first.as_bytes()).unwrap_err()
    };
    assert_eq!(no("r=C,s=AAAA,i=1"), ScramError::Nonce);
    assert_eq!(no("r=XC,s=AAAA,i=1"), ScramError::Nonce);
    assert_eq!(
        no("r=CS,s=AAAA,i=100001"),
        ScramError::TooManyIterations { asked: 100_001 }
    );
    for iterations in ["0", "-1", "+1", "", "4294967296", "1x"] {
        let first = format!("r=CS,s=AAAA,i={iterations}");
        assert_eq!(no(&first), ScramError::Malformed("i="), "{iterations}");
    }
    assert_eq!(no("r=CS,s=,i=1"), ScramError::Malformed("s="));
    assert_eq!(no("r=CS,s=!,i=1"), ScramError::Malformed("s="));
    assert_eq!(no("m=x,r=CS,s=AAAA,i=1"), ScramError::Extension);
    let client = ClientExchange::start(Binding::None, "C");
    assert!(client.challenge(b"r=CS,s=AAAA,i=100000").is_ok());
}

#[test]
fn a_server_without_the_right_signature_is_not_believed() {
    let hear = |last: &str| {
        let client = ClientExchange::start(Binding::None, "C");
        let challenge = client.challenge(b"r=CS,s=AAAA,i=1").unwrap();
        let (_, expected) = challenge.answer(&derive(b"pw", b"salt", 1).client_keys());
        expected.check(last.as_bytes()).unwrap_err()
    };
    let refused = ScramError::Refused("invalid-proof".to_owned());
    assert_eq!(hear("e=invalid-proof"), refused);
    assert_eq!(hear(SERVER_FINAL), ScramError::WrongSignature);
    assert_eq!(hear("v=AAAA"), ScramError::Malformed("v="));
    assert_eq!(hear(""), ScramError::Malformed("v="));
}

#[test]
fn a_secret_is_read_as_it_was_written() {
    let text = rfc_secret().to_text();
    let text = text.expose();
    assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
    assert_eq!(ScramSecret::parse(text).unwrap().to_text().expose(), text);
    for (from, to) in [("$4096:", "$0:"), ("$4096:", "$+4096:"), ("SCRAM", "scram")] {
        let bad = text.replacen(from, to, 1);
        assert!(ScramSecret::parse(&bad).is_none(), "{bad}");
    }
    assert!(ScramSecret::parse(&format!("{text}x")).is_none());
    assert!(ScramSecret::parse(&text[..text.len() - 4]).is_none());
}

#[test]
fn passwords_are_prepared_unless_they_cannot_be() {
    let same = |one: &[u8], other: &[u8]| {
        derive(one, b"salt", 1).stored_key == derive(other, b"salt", 1).stored_key
    };
    assert!(same("a\u{ad}b".as_bytes(), b"ab"), "soft hyphens vanish");
    assert!(same("\u{2168}".as_bytes(), b"IX"), "NFKC");
    assert_eq!(prepare(b"\xff\xfe"), b"\xff\xfe");
    assert_eq!(prepare(b"tab\there"), b"tab\there");
    assert_eq!(prepare("\u{ad}".as_bytes()), "\u{ad}".as_bytes());
}

#[test]
fn nothing_secret_is_printed() {
    let secret = secret("pw");
    let server = server(&secret, "n,,n=,r=C").unwrap();
    assert!(format!("{server:?}").contains("ScramSecret(***)"));
    assert_eq!(format!("{:?}", derive(b"pw", b"", 1)), "Keys(***)");
}

proptest! {
    #[test]
    fn no_message_makes_either_role_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        text in "[ny],(a=x)?,(m=x,)?n=[a,]{0,3},r=[a-c,]{0,4}|(c=biws,)?r=C[NSa,]{0,3},[ps]=[A=a,]{0,6}(,i=[0-9]{0,11})?|[ve]=[A=]{0,50}",
    ) {
        let secret = secret("pw");
        for bytes in [&noise[..], text.as_bytes()] {
            let _ = ServerExchange::start(&secret, bytes, "N");
            let _ = server(&secret, "n,,n=,r=C").unwrap().finish(bytes);
            let _ = ClientExchange::start(Binding::None, "C").challenge(bytes);
            let challenge = ClientExchange::start(Binding::None, "C").challenge(b"r=CS,s=AAAA,i=1").unwrap();
            let (_, expected) = challenge.answer(&derive(b"pw", b"salt", 1).client_keys());
            prop_assert!(expected.check(bytes).is_err());
        }
    }

    #[test]
    fn any_password_logs_in(password in ".{1,20}") {
        prop_assert!(login(&secret(&password), Binding::None, with_password(&password)).is_ok());
    }
}
