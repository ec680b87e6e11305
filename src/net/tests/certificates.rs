//! Whose certificate is believed.

use std::io;
use std::path::PathBuf;

use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair};

use super::authority::{Authority, Folder, into_version_1, leaf, pem};
use super::{run, shake, tcp_pair, towards_clients, towards_servers};
use crate::net::stream::SocketOptions;
use crate::net::tls::{
    ClientCertificates, ClientTls, FileKind, Files, ServerTls, TlsProblem, Verify, Versions,
    peer_names,
};

/// Whether a server with these files is believed under that name.
fn is_believed(
    verify: Verify,
    versions: Versions,
    trusted: &Files,
    server: &Files,
    host: &str,
) -> bool {
    let client = ClientTls::load(verify, trusted, versions).unwrap();
    let server = towards_clients(ClientCertificates::NotAsked, server);
    run(async {
        shake(
            tcp_pair(&SocketOptions::default()).await,
            client,
            server,
            host,
        )
        .await
        .is_ok()
    })
}

/// Lets a client with these files in and talks to it; the names on its certificate.
fn let_in(
    clients: ClientCertificates,
    server: &Files,
    client: &Files,
) -> Result<Vec<String>, io::Error> {
    let client = towards_servers(Verify::Chain, client);
    let server = towards_clients(clients, server);
    run(async {
        let pair = tcp_pair(&SocketOptions::default()).await;
        let (mut dialed, mut accepted) = shake(pair, client, server, "db.example").await?;
        dialed.write_all(b"hello").await?;
        accepted.read_some(&mut [0; 16]).await?;
        Ok(accepted
            .peer_certificate()
            .map(peer_names)
            .unwrap_or_default())
    })
}

#[test]
fn a_required_client_certificate_is_verified() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let good = authority.leaf("alice", &[]);
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.leaf("alice", &[])
    };
    let none = authority.trusted();

    let required = ClientCertificates::Required;
    assert_eq!(let_in(required, &server, &good).unwrap(), ["alice"]);
    assert!(let_in(required, &server, &bad).is_err());
    assert!(let_in(required, &server, &none).is_err());
}

#[test]
fn an_optional_client_certificate_is_verified_when_shown() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.leaf("alice", &[])
    };

    let optional = ClientCertificates::Optional;
    assert_eq!(
        let_in(optional, &server, &authority.leaf("alice", &[])).unwrap(),
        ["alice"]
    );
    assert!(
        let_in(optional, &server, &authority.trusted())
            .unwrap()
            .is_empty()
    );
    assert!(let_in(optional, &server, &bad).is_err());
}

#[test]
fn a_client_certificate_of_version_1_is_let_in() {
    let authority = Authority::new();
    let server = authority.leaf("db", &["db.example"]);
    let old = authority.old_leaf("alice");
    assert_eq!(
        let_in(ClientCertificates::Required, &server, &old).unwrap(),
        ["alice"]
    );
    let stranger = Authority::new();
    let bad = Files {
        ca: Some(authority.file.clone()),
        ..stranger.old_leaf("alice")
    };
    assert!(let_in(ClientCertificates::Required, &server, &bad).is_err());
}

#[test]
fn the_name_counts_for_verify_full_only() {
    let authority = Authority::new();
    let server = authority.leaf("other.example", &["db.example", "127.0.0.1"]);
    let trusted = authority.trusted();
    let believed = |verify, host| is_believed(verify, Versions::default(), &trusted, &server, host);

    assert!(believed(Verify::Full, "db.example"));
    assert!(believed(Verify::Full, "127.0.0.1"));
    assert!(!believed(Verify::Full, "127.0.0.2"));
    assert!(
        !believed(Verify::Full, "other.example"),
        "with alternative names the common name does not count"
    );
    assert!(believed(Verify::Chain, "other.example"));
    assert!(believed(Verify::No, "other.example"));
}

#[test]
fn a_stranger_is_believed_only_when_nothing_is_verified() {
    let stranger = Authority::new();
    let server = stranger.leaf("db.example", &["db.example"]);
    let authority = Authority::new();
    let trusted = authority.trusted();
    let believed =
        |verify| is_believed(verify, Versions::default(), &trusted, &server, "db.example");
    assert!(!believed(Verify::Full));
    assert!(!believed(Verify::Chain));
    assert!(believed(Verify::No));
}

#[test]
fn a_common_name_stands_in_for_missing_alternative_names() {
    let authority = Authority::new();
    let trusted = authority.trusted();
    for server in [
        authority.leaf("db.example", &[]),
        authority.old_leaf("db.example"),
    ] {
        for versions in [
            Versions {
                tls12: true,
                tls13: false,
            },
            Versions {
                tls12: false,
                tls13: true,
            },
        ] {
            let believed = |verify, host| is_believed(verify, versions, &trusted, &server, host);
            assert!(believed(Verify::Full, "db.example"));
            assert!(believed(Verify::Full, "DB.example"));
            assert!(!believed(Verify::Full, "evil.example"));
            assert!(believed(Verify::Chain, "evil.example"));
            assert!(believed(Verify::No, "evil.example"));
        }
    }
}

#[test]
fn a_version_1_certificate_of_a_stranger_is_not_believed() {
    let stranger = Authority::new();
    let server = stranger.old_leaf("db.example");
    let authority = Authority::new();
    let trusted = authority.trusted();
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &trusted,
        &server,
        "db.example"
    ));
    assert!(!is_believed(
        Verify::Full,
        Versions::default(),
        &trusted,
        &server,
        "db.example"
    ));
}

#[test]
fn a_self_signed_server_is_believed_by_its_own_certificate() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    for is_ca in [
        IsCa::Ca(BasicConstraints::Unconstrained),
        IsCa::ExplicitNoCa,
    ] {
        let mut params = leaf("db.example", &[]);
        params.is_ca = is_ca;
        let own = folder.put("own.crt", &params.self_signed(&key).unwrap().pem());
        let server = Files {
            ca: None,
            certificate: Some(own.clone()),
            key: Some(folder.put("own.key", &key.serialize_pem())),
        };
        let trusted = Files {
            ca: Some(own),
            ..Files::default()
        };
        assert!(is_believed(
            Verify::Full,
            Versions::default(),
            &trusted,
            &server,
            "db.example"
        ));
        assert!(!is_believed(
            Verify::Full,
            Versions::default(),
            &trusted,
            &server,
            "evil.example"
        ));
        let other = Authority::new();
        assert!(!is_believed(
            Verify::Chain,
            Versions::default(),
            &other.trusted(),
            &server,
            "db.example"
        ));
    }
}

#[test]
fn an_old_certificate_that_is_no_authority_issues_nothing() {
    let authority = Authority::new();
    let middle_key = KeyPair::generate().unwrap();
    let middle = leaf("middle", &[]);
    let middle_certificate = middle.signed_by(&middle_key, &authority.issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    let below = leaf("db.example", &[])
        .signed_by(&key, &Issuer::new(middle, &middle_key))
        .unwrap();
    let old = into_version_1(below.der(), &middle_key);
    let chain = pem("CERTIFICATE", &old) + &middle_certificate.pem();
    let server = authority.files("below", &chain, &key.serialize_pem());
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn an_old_certificate_below_an_intermediate_authority_is_believed() {
    let authority = Authority::new();
    let middle_key = KeyPair::generate().unwrap();
    let mut middle = leaf("middle", &[]);
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle_certificate = middle.signed_by(&middle_key, &authority.issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    let below = leaf("db.example", &[])
        .signed_by(&key, &Issuer::new(middle, &middle_key))
        .unwrap();
    let old = into_version_1(below.der(), &middle_key);
    let chain = pem("CERTIFICATE", &old) + &middle_certificate.pem();
    let server = authority.files("below", &chain, &key.serialize_pem());
    assert!(is_believed(
        Verify::Full,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn an_expired_old_certificate_is_not_believed() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = leaf("db.example", &[]);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let old = into_version_1(certificate.der(), authority.issuer.key());
    let server = authority.files("expired", &pem("CERTIFICATE", &old), &key.serialize_pem());
    assert!(!is_believed(
        Verify::Chain,
        Versions::default(),
        &authority.trusted(),
        &server,
        "db.example"
    ));
}

#[test]
fn a_problem_names_the_file_and_the_reason() {
    let authority = Authority::new();
    let good = authority.leaf("db", &[]);
    let load = |files: &Files| {
        ServerTls::load(ClientCertificates::NotAsked, files, Versions::default()).unwrap_err()
    };
    let gone = Files {
        key: Some(PathBuf::from("/nowhere/server.key")),
        ..good.clone()
    };
    assert!(
        load(&gone)
            .to_string()
            .starts_with("the key file /nowhere/server.key cannot be read: ")
    );

    let junk = Files {
        certificate: Some(authority.folder.put("junk", "hello")),
        ..good.clone()
    };
    assert!(matches!(
        load(&junk),
        TlsProblem::Malformed {
            what: FileKind::Certificate,
            ..
        }
    ));

    let mixed = Files {
        key: authority.leaf("another", &[]).key,
        ..good.clone()
    };
    assert!(matches!(load(&mixed), TlsProblem::KeyOfAnother { .. }));

    assert!(matches!(
        load(&Files::default()),
        TlsProblem::NotSet {
            what: FileKind::Certificate
        }
    ));

    let no_version = Versions {
        tls12: false,
        tls13: false,
    };
    let refused = ClientTls::load(Verify::No, &Files::default(), no_version).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "neither TLS 1.2 nor TLS 1.3 is allowed"
    );
}
