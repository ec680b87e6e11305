//! HBA files as literals, and who gets in by them. What must never happen: somebody is let in by a line that says otherwise.

use super::{Caller, Method, Rules, Warning, parse};
use crate::auth::ident;

fn read(text: &str) -> (Rules, Vec<Warning>) {
    let (maps, _) = ident::parse("m ann app\n", "ident");
    parse(text, "hba", &maps, &mut |name| match name {
        "names" => Ok("eve, \"all\"\n# nobody\n\nfred\n".to_owned()),
        "deep" => Ok("@deep\n".to_owned()),
        "bad" => Ok("a b\n".to_owned()),
        _ => Err("not there".to_owned()),
    })
}

fn caller<'a>(address: &str, database: &'a str, user: &'a str) -> Caller<'a> {
    Caller {
        address: address.parse().ok(),
        has_tls: false,
        database,
        user,
        is_physical: false,
    }
}

/// What `text` demands of a caller, by the method's name; `-` when no rule fits.
fn demand(text: &str, caller: &Caller<'_>) -> String {
    let (rules, warnings) = read(text);
    assert_eq!(warnings, [], "{text}");
    let method = rules.demand(caller).map(|(method, _)| match method {
        Method::Trust => "trust",
        Method::Reject => "reject",
        Method::Md5 => "md5",
        Method::Password => "password",
        Method::ScramSha256 => "scram",
        Method::Peer(_) => "peer",
        Method::Cert(_) => "cert",
        Method::Ldap(_) => "ldap",
    });
    method.unwrap_or("-").to_owned()
}

#[test]
fn the_first_rule_that_fits_decides_and_without_one_nobody_is_let_in() {
    let text = "host all ann 10.0.0.0/8 reject\nhost all all 10.1.0.0/16 trust\nhost all all all md5 # the rest\n";
    assert_eq!(demand(text, &caller("10.1.2.3", "d", "ann")), "reject");
    assert_eq!(demand(text, &caller("10.1.2.3", "d", "bob")), "trust");
    assert_eq!(demand(text, &caller("11.1.2.3", "d", "ann")), "md5");
    assert_eq!(demand(text, &caller("::1", "d", "ann")), "md5");
    assert_eq!(demand("", &caller("127.0.0.1", "d", "ann")), "-");
    assert_eq!(demand(text, &caller("a unix socket", "d", "ann")), "-");
}

#[test]
fn local_is_for_unix_sockets_and_ssl_for_tls() {
    let text = "local all all peer\nhostssl all all all cert\nhostnossl all all all password\n";
    let tcp = caller("127.0.0.1", "d", "u");
    assert_eq!(demand(text, &caller("unix", "d", "u")), "peer");
    assert_eq!(demand(text, &tcp), "password");
    assert_eq!(
        demand(
            text,
            &Caller {
                has_tls: true,
                ..tcp
            }
        ),
        "cert"
    );
    assert_eq!(demand("local all all trust\n", &tcp), "-");
}

#[test]
fn addresses_fit_by_length_of_mask_or_by_mask() {
    for (rule, inside, outside) in [
        ("192.168.0.0/16", "192.168.255.1", "192.169.0.1"),
        ("192.168.0.0 255.255.0.0", "192.168.255.1", "192.169.0.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("2001:db8:: ffff:ffff::", "2001:db8:8000::1", "2001:db9::1"),
        ("::1/128", "::1", "::2"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("::/0", "::1", "8.8.8.8"),
        ("127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:128.0.0.1"),
    ] {
        let text = format!("host all all {rule} trust\n");
        assert_eq!(demand(&text, &caller(inside, "d", "u")), "trust", "{rule}");
        assert_eq!(demand(&text, &caller(outside, "d", "u")), "-", "{rule}");
    }
}

#[test]
fn an_address_with_bits_beyond_its_mask_fits_nobody_and_is_warned_of() {
    let (rules, warnings) = read("host all all 192.168.1.1/0 trust\n");
    assert!(rules.demand(&caller("192.168.1.1", "d", "u")).is_none());
    assert_eq!((warnings[0].line, warnings[0].is_skipped), (1, false));
}

#[test]
fn databases_and_users_are_names_lists_keywords_and_files() {
    let fits = |field: &str, database, user| {
        demand(
            &format!("local {field} trust\n"),
            &caller("-", database, user),
        ) == "trust"
    };
    assert!(fits("a,b , \"c d\" all", "c d", "u"));
    assert!(!fits("a,b all", "c", "u"));
    assert!(fits("sameuser all", "u", "u") && !fits("sameuser all", "d", "u"));
    assert!(fits("all @names", "d", "fred") && fits("all @names", "d", "all"));
    assert!(!fits("all @names", "d", "george"), "a quoted all is a name");
    assert!(!fits("\"all\" all", "d", "u") && fits("\"all\" all", "all", "u"));
    assert!(fits("d u", "d", "u") && !fits("d u", "d", "U"));
}

#[test]
fn physical_replication_fits_its_keyword_and_nothing_else() {
    let physical = Caller {
        is_physical: true,
        ..caller("-", "d", "u")
    };
    assert_eq!(demand("local all all trust\n", &physical), "-");
    assert_eq!(demand("local d u trust\n", &physical), "-");
    let text = "local replication u md5\n";
    assert_eq!(demand(text, &physical), "md5");
    assert_eq!(demand(text, &caller("-", "d", "u")), "-");
    assert_eq!(demand(text, &caller("-", "replication", "u")), "-");
}

#[test]
fn a_map_must_be_there_and_belongs_to_peer_and_cert() {
    let (rules, warnings) = read("local all all peer map=m\nhostssl all all all cert map=\"m\"\n");
    assert_eq!(warnings, []);
    match rules.demand(&caller("-", "d", "app")) {
        Some((Method::Peer(Some(map)), 1)) => assert!(map.lets(&["ann".into()], "app")),
        other => panic!("{other:?}"),
    }
    for bad in [
        "local all all peer map=none",
        "local all all md5 map=m",
        "local all all peer other=m",
    ] {
        assert!(read(bad).1[0].is_skipped, "{bad}");
    }
}

#[test]
fn options_of_ldap_are_the_rest_of_the_line() {
    let text = "host all all all ldap ldapserver=h ldapbasedn=\"dc=a,dc=b\" ldapsearchfilter=\"(uid=$username)\"\n";
    assert_eq!(demand(text, &caller("::1", "d", "u")), "ldap");
    assert!(read("host all all all ldap ldapserver=h\n").1[0].is_skipped);
}

#[test]
fn a_bad_line_is_named_and_the_others_stand() {
    let bad = [
        "hostgss all all all trust",
        "\"host\" all all all trust",
        "host all",
        "host all all",
        "host all all localhost trust",
        "host all all samenet trust",
        "host all all 1.2.3.4 trust",
        "host all all 1.2.3.4/33 trust",
        "host all all 1.2.3.4/-1 trust",
        "host all all ::/0 magic",
        "host all all 1.2.3.0 255.0.255.0 trust",
        "host all all all",
        "host all all all trust more",
        "host all all all peer",
        "host all,, all all trust",
        "host all +group all trust",
        "host samerole all all trust",
        "host samegroup all all trust",
        "host @gone all all trust",
        "host @deep all all trust",
        "host @bad all all trust",
        "host \"all all all trust",
        "host all all all sspi",
        "host all all \"1.2.3.4/32\" trust",
    ];
    let text = bad.join("\n") + "\nhost all all all md5\n";
    let (rules, warnings) = read(&text);
    let lines: Vec<_> = warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, (1..=bad.len()).collect::<Vec<_>>());
    assert!(warnings.iter().all(|warning| warning.is_skipped));
    assert_eq!(
        rules.demand(&caller("::1", "d", "u")),
        Some((&Method::Md5, bad.len() + 1))
    );
    let told = warnings[4].to_string();
    assert!(
        told.starts_with("hba:5: \"localhost\" is no address")
            && told.ends_with("the line is left out"),
        "{told}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = read(&text);
        let _ = ident::parse(&text, "ident");
        let _ = crate::auth::directory::Directory::parse(&text);
    }
}
