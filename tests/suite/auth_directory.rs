//! Logins that a directory decides, before a real slapd. What must never happen: somebody is let in whom the directory does not
//! know by the password, or is asked about as somebody else.

use crate::support::directory::{BASE, Directory};
use crate::support::pooler::{Config, config};
use crate::support::postgres::postgres;
use crate::support::wire::code;

fn asking(options: &str) -> Config {
    config()
        .pooler("auth_type", "ldap")
        .pooler("auth_ldap_options", options)
        .database("app", "user", "app")
}

#[test]
fn a_user_is_found_by_search_or_between_prefix_and_suffix() {
    let directory = Directory::start();
    let port = directory.port;
    for options in [
        format!("ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"{BASE}\""),
        format!(
            "ldapserver=127.0.0.1, ldapport={port}, ldapbasedn=\"{BASE}\", ldapsearchattribute=cn"
        ),
        format!("ldapurl=\"ldap://127.0.0.1:{port}/{BASE}?uid?sub\""),
        format!("ldapurl=\"ldap://127.0.0.1:{port}/ou=people,{BASE}?uid?one\""),
        format!(
            "ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"{BASE}\" ldapsearchfilter=\"(&(objectClass=inetOrgPerson)(uid=$username))\""
        ),
        format!(
            "ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"{BASE}\" ldapbinddn=\"cn=reader,{BASE}\" ldapbindpasswd=\"reader's own\""
        ),
        format!(
            "ldapserver=127.0.0.1 ldapport={port} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,{BASE}\""
        ),
        format!(
            "ldapserver=\"127.0.0.1:1 127.0.0.1\" ldapport={port} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,{BASE}\""
        ),
    ] {
        let pooler = asking(&options).start();
        let login = |user: &str, password: &str| pooler.login().user(user).password(password);
        let refused = Err("28P01".to_owned());
        assert_eq!(code(&login("ann", "ann")), Ok(()), "{options}");
        assert_eq!(code(&login("ann", "app")), refused, "{options}");
        assert_eq!(
            code(&login("ann", "")),
            refused,
            "{options}: an empty password binds as nobody"
        );
        assert_eq!(code(&login("nobody", "ann")), refused, "{options}");
        assert_eq!(code(&login("*", "ann")), refused, "{options}");
        assert_eq!(code(&login("ann)(uid=*", "ann")), refused, "{options}");
        assert_eq!(code(&login("x,uid=ann", "ann")), refused, "{options}");
        assert!(!pooler.log().contains("reader's own"), "{}", pooler.log());
    }
}

#[test]
fn two_entries_of_one_name_are_nobody_and_a_refused_reader_lets_nobody_in() {
    let directory = Directory::start();
    let server = format!(
        "ldapserver=127.0.0.1 ldapport={} ldapbasedn=\"{BASE}\"",
        directory.port
    );
    let pooler = asking(&server).start();
    let twin = pooler.login().user("twin").password("twin");
    assert_eq!(code(&twin), Err("28P01".into()));
    assert!(
        pooler.log().contains("more than one entry"),
        "{}",
        pooler.log()
    );
    let wrong = format!("{server} ldapbinddn=\"cn=reader,{BASE}\" ldapbindpasswd=Zq7wrong");
    let pooler = asking(&wrong).start();
    assert_eq!(
        code(&pooler.login().user("ann").password("ann")),
        Err("28P01".into())
    );
    let log = pooler.log();
    assert!(
        log.contains("ldapbinddn") && !log.contains("Zq7wrong"),
        "{log}"
    );
    let shown = config()
        .pooler("auth_ldap_options", &*wrong)
        .start()
        .show("SHOW CONFIG");
    assert!(!format!("{:?}", shown.rows).contains("Zq7wrong"));
}

#[test]
fn tls_towards_the_directory_is_verified() {
    let directory = Directory::start();
    let people = format!("ldapprefix=\"uid=\" ldapsuffix=\",ou=people,{BASE}\"");
    for (options, host) in [
        (
            format!("ldaptls=1 ldapport={}", directory.port),
            "localhost",
        ),
        (
            format!("ldapscheme=ldaps ldapport={}", directory.secure_port),
            "localhost",
        ),
        (
            format!("ldaptls=1 ldapport={}", directory.port),
            "127.0.0.1",
        ),
        (
            format!("ldapscheme=ldaps ldapport={}", directory.secure_port),
            "127.0.0.1",
        ),
    ] {
        let asking = asking(&format!("ldapserver={host} {options} {people}"));
        let trusting = asking
            .clone()
            .file("ldap-ca.crt", &directory.ca())
            .environment("SSL_CERT_FILE", "{folder}/ldap-ca.crt")
            .start();
        let login = trusting.login().user("ann").password("ann");
        // The certificate is for localhost.
        let expected = if host == "localhost" {
            Ok(())
        } else {
            Err("28P01".into())
        };
        assert_eq!(
            code(&login),
            expected,
            "{host} {options}: {}",
            trusting.log()
        );
        let stranger = asking.start();
        let login = stranger.login().user("ann").password("ann");
        assert_eq!(
            code(&login),
            Err("28P01".into()),
            "{host} {options}: an unknown authority"
        );
    }
}

#[test]
fn a_directory_that_does_not_answer_holds_up_nobody_else() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let rules = format!(
        "host all ann all ldap ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"dc=x\"\nhost all all all trust\n"
    );
    let pooler = config()
        .pooler("auth_type", "hba")
        .pooler("auth_hba_file", "{folder}/hba")
        .pooler("threads", 1)
        .file("hba", &rules)
        .start();
    let mut waiting: Vec<_> = (0..30)
        .map(|_| {
            let mut wire = pooler.login().user("ann").begin().unwrap();
            assert_eq!(wire.read_frame().unwrap().tag, b'R');
            wire.send_bytes(&crate::support::wire::batch().frame(b'p', b"ann\0").0)
                .unwrap();
            wire
        })
        .collect();
    // The directory has been asked, and says nothing.
    let (_asked, _) = silent.accept().unwrap();
    pooler.serves();
    waiting.clear();
    pooler.serves();
}

#[test]
fn the_password_that_the_directory_knew_opens_the_server_too() {
    let directory = Directory::start();
    let role = "ann";
    postgres().run(&format!(
        "do $$ begin create role {role} login; exception when duplicate_object then null; end $$"
    ));
    let pooler = config()
        .pooler("auth_type", "ldap")
        .pooler(
            "auth_ldap_options",
            format!(
                "ldapserver=127.0.0.1 ldapport={} ldapbasedn=\"{BASE}\"",
                directory.port
            ),
        )
        .start();
    let login = pooler.login().user(role).password(role);
    assert_eq!(login.connect().value("select current_user"), role);
}
