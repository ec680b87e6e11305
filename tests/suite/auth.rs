//! Who is let in, how they prove who they are, and how the pooler proves it to the server.

use postgres_protocol::password::{md5, scram_sha_256};

use crate::support::pooler::{Config, Pooler, config};
use crate::support::postgres::postgres;
use crate::support::wire::{Body, Fault, Refusal, batch, code};

const PASSWORD: &str = "pass word, with \\ and ü";

/// Everybody is `app` on the server, so that only the client's side is at stake.
fn everybody(auth_type: &str) -> Config {
    config()
        .pooler("auth_type", auth_type)
        .database("app", "user", "app")
}

fn secrets(user: &str) -> [(&'static str, String); 3] {
    [
        ("plain", PASSWORD.into()),
        ("md5", md5(PASSWORD.as_bytes(), user)),
        ("scram", scram_sha_256(PASSWORD.as_bytes())),
    ]
}

/// The users `plain`, `md5` and `scram`, named for how their secret is kept.
fn in_toml(auth_type: &str) -> Pooler {
    ["plain", "md5", "scram"]
        .iter()
        .flat_map(|user| {
            secrets(user)
                .into_iter()
                .filter(move |(kind, _)| kind == user)
        })
        .fold(everybody(auth_type), |config, (user, secret)| {
            config.user(user, "password", secret)
        })
        .start()
}

fn in_userlist(auth_type: &str) -> Pooler {
    ["plain", "md5", "scram"]
        .iter()
        .flat_map(|user| {
            secrets(user)
                .into_iter()
                .filter(move |(kind, _)| kind == user)
        })
        .fold(everybody(auth_type), |config, (user, secret)| {
            config.userlist(user, &secret)
        })
        .start()
}

#[test]
fn the_right_password_opens_and_nothing_else_does() {
    let refused = Err("28P01".to_owned());
    for (auth_type, user, may_enter) in [
        ("plain", "plain", true),
        ("plain", "md5", true),
        ("plain", "scram", true),
        ("md5", "plain", true),
        ("md5", "md5", true),
        ("md5", "scram", true),
        ("scram-sha-256", "plain", true),
        ("scram-sha-256", "md5", false),
        ("scram-sha-256", "scram", true),
    ] {
        for (kept, pooler) in [
            ("pooler.toml", in_toml(auth_type)),
            ("auth_file", in_userlist(auth_type)),
        ] {
            let login = pooler.login().user(user);
            let right = if may_enter { Ok(()) } else { refused.clone() };
            let case = format!("{auth_type}, a {user} secret in {kept}");
            assert_eq!(code(&login.clone().password(PASSWORD)), right, "{case}");
            assert_eq!(
                code(&login.clone().password("wrong")),
                refused,
                "{case}: a wrong password"
            );
            assert_eq!(
                code(&login.clone().password("")),
                refused,
                "{case}: an empty password"
            );
            assert_eq!(
                code(&login.user("nobody").password(PASSWORD)),
                refused,
                "{case}: an unknown user"
            );
        }
    }
}

#[test]
fn the_stored_secret_itself_does_not_open() {
    for auth_type in ["plain", "md5", "scram-sha-256"] {
        let pooler = in_toml(auth_type);
        for (user, secret) in ["md5", "scram"].map(|user| {
            secrets(user)
                .into_iter()
                .find(|(kind, _)| *kind == user)
                .unwrap()
        }) {
            assert_eq!(
                code(&pooler.login().user(user).password(&secret)),
                Err("28P01".into()),
                "{auth_type}, {user}"
            );
        }
    }
}

#[test]
fn each_method_is_asked_for_by_its_own_message() {
    let asked = |auth_type, user| {
        in_toml(auth_type)
            .login()
            .user(user)
            .password(PASSWORD)
            .connect()
            .welcome
            .methods
    };
    assert_eq!(asked("trust", "plain"), [0]);
    assert_eq!(asked("plain", "scram"), [3, 0]);
    assert_eq!(asked("md5", "plain"), [5, 0]);
    assert_eq!(
        asked("md5", "scram"),
        [10, 11, 12, 0],
        "a SCRAM secret asks for SCRAM"
    );
    assert_eq!(asked("scram-sha-256", "scram"), [10, 11, 12, 0]);
}

#[test]
fn with_trust_only_known_users_enter() {
    let pooler = everybody("trust").start();
    assert_eq!(code(&pooler.login().password("anything")), Ok(()));
    let fault = pooler.login().user("nobody").refused();
    assert!(
        ["28P01", "28000"].contains(&fault.code.as_str()),
        "{fault:?}"
    );
}

/// Everything said to who logs in with a wrong password, salts left out.
fn said(pooler: &Pooler, user: &str) -> (Vec<i32>, Fault) {
    let login = pooler.login().user(user).password("wrong");
    let mut wire = login.begin().unwrap();
    let asked = wire.read_frame().unwrap();
    assert_eq!(asked.tag, b'R');
    let method = Body(&asked.body).i32();
    match login.try_connect() {
        Err(Refusal::Told(mut fault)) => {
            fault.message = fault.message.replace(user, "USER");
            (
                vec![method, i32::try_from(asked.body.len()).unwrap()],
                fault,
            )
        }
        other => panic!("{user}: {:?}", other.map(|_| "let in")),
    }
}

#[test]
fn an_unknown_user_cannot_be_told_from_a_wrong_password() {
    for (auth_type, known) in [
        ("plain", "plain"),
        ("md5", "md5"),
        ("scram-sha-256", "scram"),
    ] {
        let pooler = in_toml(auth_type);
        assert_eq!(said(&pooler, known), said(&pooler, "nobody"), "{auth_type}");
    }
}

/// Salt and iterations that a user is offered.
fn scram_offer(pooler: &Pooler, user: &str) -> (String, String) {
    let mut wire = pooler.login().user(user).begin().unwrap();
    assert_eq!(Body(&wire.read_frame().unwrap().body).i32(), 10);
    let first = b"n,,n=,r=clientnonce";
    let length = i32::try_from(first.len()).unwrap().to_be_bytes();
    wire.send_bytes(
        &batch()
            .frame(
                b'p',
                &[b"SCRAM-SHA-256\0".as_slice(), &length, first].concat(),
            )
            .0,
    )
    .unwrap();
    let frame = wire.read_frame().unwrap();
    let mut body = Body(&frame.body);
    assert_eq!(body.i32(), 11);
    let text = String::from_utf8(body.0.to_vec()).unwrap();
    let part = |name: &str| {
        text.split(',')
            .find_map(|part| part.strip_prefix(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        part("r=").starts_with("clientnonce") && part("r=").len() >= 11 + 18,
        "{text}"
    );
    (part("s="), part("i="))
}

#[test]
fn an_unknown_user_is_offered_a_salt_that_stays_the_same() {
    let pooler = in_toml("scram-sha-256");
    let (salt, iterations) = scram_offer(&pooler, "nobody");
    assert_eq!(
        scram_offer(&pooler, "nobody"),
        (salt.clone(), iterations.clone())
    );
    let (known_salt, known_iterations) = scram_offer(&pooler, "scram");
    assert_eq!(scram_offer(&pooler, "scram").0, known_salt);
    assert_eq!(
        (salt.len(), iterations),
        (known_salt.len(), known_iterations)
    );
    assert_ne!(salt, scram_offer(&pooler, "somebody").0);
}

#[test]
fn scram_iterations_count_for_secrets_made_here_and_for_users_that_are_not_there() {
    let with = |iterations| {
        let config = everybody("scram-sha-256").pooler("scram_iterations", iterations);
        let own = scram_sha_256(PASSWORD.as_bytes());
        config.userlist("plain", PASSWORD).userlist("scram", &own)
    };
    let pooler = with(10_000).start();
    let offered = |user| scram_offer(&pooler, user).1;
    let all = || ["plain", "nobody", "scram"].map(offered);
    let own = offered("scram");
    assert_eq!(all(), ["10000", "10000", &own], "a secret keeps its own");
    pooler.login().user("plain").password(PASSWORD).connect();
    pooler.reload(&with(5_000));
    assert_eq!(all(), ["5000", "5000", &own]);
    pooler.login().user("plain").password(PASSWORD).connect();
}

#[test]
fn a_login_that_breaks_the_exchange_is_refused() {
    let pooler = in_toml("scram-sha-256");
    let long = vec![b'a'; 70_000];
    for (what, answer) in [
        (
            "another mechanism",
            b"SCRAM-SHA-512\0\0\0\0\x04n,,n".as_slice(),
        ),
        (
            "channel binding that was not offered",
            b"SCRAM-SHA-256\0\0\0\0\x1cp=tls-unique,,n=,r=clientnonce",
        ),
        ("no nonce", b"SCRAM-SHA-256\0\0\0\0\x07n,,n=,x"),
        (
            "a length that lies",
            b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=abc",
        ),
        ("not even a mechanism", b"abc"),
        ("nothing", b""),
        ("more than any login needs", &long),
    ] {
        let mut wire = pooler.login().user("scram").begin().unwrap();
        wire.read_frame().unwrap();
        wire.send_bytes(&batch().frame(b'p', answer).0).unwrap();
        if let Ok(frame) = wire.read_frame() {
            assert_eq!(frame.tag, b'E', "{what}");
        }
        assert!(wire.closed().is_ok(), "{what}");
    }
    let login = pooler.login().user("scram").password(PASSWORD);
    assert_eq!(code(&login), Ok(()));
}

#[test]
fn a_query_before_the_password_is_not_a_password() {
    for auth_type in ["plain", "md5", "scram-sha-256"] {
        let pooler = in_toml(auth_type);
        let mut wire = pooler.login().user("plain").begin().unwrap();
        wire.read_frame().unwrap();
        wire.send_bytes(&batch().query("select 1").0).unwrap();
        let frame = wire.read_frame().unwrap();
        let fault = Fault::read(&frame.body);
        assert_eq!(
            (frame.tag, fault.severity.as_str(), fault.code.as_str()),
            (b'E', "FATAL", "08P01"),
            "{auth_type}"
        );
        assert!(wire.closed().is_ok(), "{auth_type}");
    }
}

/// `auth_query` as an installation has it: a function that only the pooler's own user may call.
fn with_auth_query(auth_type: &str) -> Pooler {
    config()
        .pooler("auth_type", auth_type)
        .pooler("auth_user", "postgres")
        .pooler(
            "auth_query",
            "select usename, passwd from pg_shadow where usename = $1",
        )
        .user("postgres", "password", "only the pooler knows")
        .start()
}

#[test]
fn auth_query_finds_users_that_no_file_knows_and_their_keys_open_the_server() {
    let pooler = with_auth_query("scram-sha-256");
    let login = pooler.login().user("scram_user");
    assert_eq!(
        login
            .clone()
            .password("scram-secret")
            .connect()
            .value("select current_user"),
        "scram_user"
    );
    assert_eq!(code(&login.clone().password("wrong")), Err("28P01".into()));
    assert_eq!(
        code(&login.user("nobody").password("x")),
        Err("28P01".into())
    );

    let md5 = with_auth_query("md5");
    let login = md5.login().user("md5_user");
    assert_eq!(
        login
            .clone()
            .password("md5-secret")
            .connect()
            .value("select current_user"),
        "md5_user"
    );
    assert_eq!(code(&login.password("wrong")), Err("28P01".into()));
}

#[test]
fn a_password_changed_on_the_server_is_found_at_the_next_login() {
    let role = format!("changing_{}", std::process::id());
    postgres().run(&format!("create role {role} login password 'before'"));
    let pooler = with_auth_query("scram-sha-256");
    let login = pooler.login().user(&role);
    assert_eq!(code(&login.clone().password("before")), Ok(()));
    postgres().run(&format!("alter role {role} password 'after'"));
    assert_eq!(code(&login.clone().password("before")), Err("28P01".into()));
    assert_eq!(code(&login.password("after")), Ok(()));
}

#[test]
fn an_auth_query_that_fails_refuses_and_does_not_tell_why() {
    let pooler = config()
        .pooler("auth_type", "md5")
        .pooler("auth_user", "postgres")
        .pooler(
            "auth_query",
            "select secret_column from secret_table where name = $1",
        )
        .user("postgres", "password", "x")
        .start();
    let fault = pooler.login().user("somebody").password("x").refused();
    assert_eq!(fault.severity, "FATAL");
    assert!(!format!("{fault:?}").contains("secret_table"), "{fault:?}");
    assert_eq!(
        code(&pooler.login()),
        Ok(()),
        "users of the file need no query"
    );
}

#[test]
fn the_pooler_logs_in_to_servers_by_every_method() {
    let forced = |user: &str, password: &str| {
        config()
            .database("app", "user", user)
            .database("app", "password", password)
            .pooler("query_wait_timeout", "5s")
            .start()
    };
    for (user, password) in [
        ("scram_user", "scram-secret".to_owned()),
        ("md5_user", "md5-secret".to_owned()),
        ("md5_user", md5(b"md5-secret", "md5_user")),
        ("plain_user", "plain-secret".to_owned()),
    ] {
        assert_eq!(
            forced(user, &password)
                .connect()
                .value("select current_user"),
            user
        );
        let pooler = forced(user, "wrong");
        let fault = match pooler.login().try_connect() {
            Ok(mut client) => client.send(batch().query("select 1")).ended(),
            Err(refusal) => refusal.told(),
        };
        assert_eq!(fault.code, "28P01", "{user}: {fault:?}");
        assert!(
            fault.says("password authentication failed for user"),
            "{user}: in the server's words: {fault:?}"
        );
    }
    let refused = forced("refused_user", "x").login().refused();
    assert_eq!(refused.code, "28000", "{refused:?}");
}

#[test]
fn the_password_of_a_user_in_the_file_opens_the_server_too() {
    let pooler = config()
        .pooler("auth_type", "scram-sha-256")
        .user("scram_user", "password", "scram-secret")
        .userlist("md5_user", "md5-secret")
        .start();
    for (user, password) in [("scram_user", "scram-secret"), ("md5_user", "md5-secret")] {
        assert_eq!(
            pooler
                .login()
                .user(user)
                .password(password)
                .connect()
                .value("select current_user"),
            user
        );
    }
}

#[test]
fn with_equal_secrets_on_both_sides_the_clients_proof_opens_the_server() {
    let verifier = postgres()
        .watch("postgres")
        .value("select rolpassword from pg_authid where rolname = 'scram_user'");
    let pooler = config()
        .pooler("auth_type", "scram-sha-256")
        .userlist("scram_user", &verifier)
        .start();
    let login = pooler.login().user("scram_user");
    assert_eq!(code(&login.clone().password("wrong")), Err("28P01".into()));
    assert_eq!(
        login
            .password("scram-secret")
            .connect()
            .value("select current_user"),
        "scram_user"
    );
}

#[test]
fn no_secret_is_ever_written_down() {
    let secret = "Zq7-never-to-be-seen";
    let verifier = scram_sha_256(b"verifier-source");
    let pooler = config()
        .set("telemetry", "log_level", "trace")
        .pooler("auth_type", "plain")
        .user("app", "password", secret)
        .userlist("listed", secret)
        .userlist("scrammed", &verifier)
        .database("app", "password", secret)
        .start();
    pooler
        .login()
        .password(secret)
        .connect()
        .query("select 1")
        .good();
    let shouted = "Zq7-a-wrong-one";
    assert_eq!(code(&pooler.login().password(shouted)), Err("28P01".into()));
    let mut console = pooler
        .login()
        .user("admin")
        .password("admin")
        .database("pgbouncer")
        .connect();
    let mut shown = String::new();
    for what in [
        "USERS",
        "CONFIG",
        "DATABASES",
        "CLIENTS",
        "SERVERS",
        "POOLS",
        "LISTS",
    ] {
        shown += &format!("{:?}", console.query(&format!("SHOW {what}")).good().rows);
    }
    pooler.signal("HUP");
    let stored_key = verifier.rsplit('$').next().unwrap();
    for hidden in ["Zq7-", stored_key] {
        assert!(!pooler.log().contains(hidden), "{hidden} in the log");
        assert!(!shown.contains(hidden), "{hidden} on the console");
    }
}
