use super::client::Client;
use super::exchange::Exchange;
use super::{MAX_ITERATIONS, ScramError, ScramSecret, derive};

fn secret(password: &str) -> ScramSecret {
    ScramSecret::of(&derive(password, b"salt salt", 4096), b"salt salt", 4096)
}

fn log_in(password: &str, secret: ScramSecret) -> Result<(), ScramError> {
    let client = Client::new("client");
    let exchange = Exchange::begin(client.first().as_bytes(), "server", secret)?;
    let challenge = client.challenged(exchange.first().as_bytes())?;
    let keys = derive(password, challenge.salt(), challenge.iterations());
    let (answer, expected) = challenge.answer(&keys);
    let (last, revealed) = exchange.finish(answer.as_bytes())?;
    assert_eq!(revealed, keys, "the proof reveals the keys");
    expected.verify(last.as_bytes())
}

#[test]
fn the_right_password_passes_and_a_wrong_one_does_not() {
    assert_eq!(log_in("pencil", secret("pencil")), Ok(()));
    assert_eq!(log_in("pencil ", secret("pencil")), Err(ScramError::Proof));
    assert_eq!(
        log_in("pencil", ScramSecret::mock("user", b"nonce", 4096)),
        Err(ScramError::Proof)
    );
}

#[test]
fn the_example_of_rfc_7677_holds() {
    let salt = base64::Engine::decode(&super::BASE64, "W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = derive("pencil", &salt, 4096);
    let exchange = Exchange::begin(
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        ScramSecret::of(&keys, &salt, 4096),
    )
    .unwrap();
    assert_eq!(
        exchange.first(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (last, _) = exchange
        .finish(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        .unwrap();
    assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_server_cannot_make_us_count_for_ever_nor_change_our_nonce() {
    let client = Client::new("abc");
    let many = format!("r=abcdef,s=c2FsdA==,i={}", MAX_ITERATIONS + 1);
    assert_eq!(
        client.challenged(many.as_bytes()).unwrap_err(),
        ScramError::Iterations
    );
    assert_eq!(
        client.challenged(b"r=abc,s=c2FsdA==,i=4096").unwrap_err(),
        ScramError::Nonce
    );
    assert_eq!(
        client.challenged(b"r=xyz,s=c2FsdA==,i=4096").unwrap_err(),
        ScramError::Nonce
    );
}

#[test]
fn channel_binding_and_other_identities_are_refused() {
    let begin = |message: &[u8]| Exchange::begin(message, "server", secret("x")).map(|_| ());
    assert_eq!(
        begin(b"p=tls-server-end-point,,n=,r=a"),
        Err(ScramError::ChannelBinding)
    );
    assert_eq!(begin(b"n,a=other,n=,r=a"), Err(ScramError::Authorization));
    assert_eq!(begin(b"n,,n="), Err(ScramError::Malformed));
    assert_eq!(begin(b"y,,n=,r=a"), Ok(()));
}

#[test]
fn a_secret_reads_back_as_it_was_written() {
    let secret = secret("x");
    assert_eq!(ScramSecret::parse(&secret.to_text()), Some(secret));
    assert_eq!(ScramSecret::parse("SCRAM-SHA-256$0:c2FsdA==$a:b"), None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Exchange::begin(&bytes, "server", secret_once());
        let _ = Client::new("a").challenged(&bytes);
        let exchange = Exchange::begin(b"n,,n=,r=a", "server", secret_once()).unwrap();
        let _ = exchange.finish(&bytes);
    }
}

fn secret_once() -> ScramSecret {
    ScramSecret::mock("user", b"nonce", 4096)
}
