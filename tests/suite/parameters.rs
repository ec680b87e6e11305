//! Session parameters follow their client and nobody else.

use crate::support::pooler::{Config, Shuttle, config};
use crate::support::wire::{Client, batch};

/// Parameters and two values for each, spelled as the server spells them.
const CARRIED: [(&str, &str, &str); 8] = [
    ("TimeZone", "Europe/Berlin", "America/Lima"),
    ("application_name", "one", "the \"other's\" \\ name"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("DateStyle", "German, DMY", "SQL, MDY"),
    ("IntervalStyle", "iso_8601", "sql_standard"),
    ("search_path", "pg_catalog", "\"$user\", public, pg_catalog"),
    ("extra_float_digits", "3", "0"),
    ("statement_timeout", "11s", "12s"),
];

fn single() -> Config {
    config().database("app", "pool_size", 1)
}

/// Both clients, in turns, see the value that is theirs; and they do share a server.
fn each_sees_its_own(name: &str, one: (&mut Client, &str), other: (&mut Client, &str)) {
    let show = format!("show {name}");
    for _ in 0..4 {
        assert_eq!(one.0.value(&show), one.1, "{name}");
        assert_eq!(other.0.value(&show), other.1, "{name}");
    }
    assert_eq!(one.0.server(), other.0.server());
}

#[test]
fn values_of_the_startup_packet_stay_with_their_client() {
    let pooler = single().start();
    let mut bystander = pooler.connect();
    for (name, one, other) in CARRIED {
        let untouched = bystander.value(&format!("show {name}"));
        let mut first = pooler.login().parameter(name, one).connect();
        let mut second = pooler.login().parameter(name, other).connect();
        each_sees_its_own(name, (&mut first, one), (&mut second, other));
        assert_eq!(
            bystander.value(&format!("show {name}")),
            untouched,
            "{name} of who never asked"
        );
    }
}

#[test]
fn values_given_as_options_stay_with_their_client() {
    let pooler = single().start();
    for (name, one, other) in CARRIED {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
        let mut first = pooler
            .login()
            .parameter("options", &format!("-c {name}={}", escaped(one)))
            .connect();
        let mut second = pooler
            .login()
            .parameter("options", &format!("--{name}={}", escaped(other)))
            .connect();
        each_sees_its_own(name, (&mut first, one), (&mut second, other));
    }
}

#[test]
fn what_a_client_set_follows_it_to_another_server() {
    let mut shuttle = Shuttle::new(config());
    let mut client = shuttle
        .pooler
        .login()
        .parameter("DateStyle", "German")
        .connect();
    client.query("set timezone = 'Asia/Tokyo'").good();
    client.query("set application_name = 'wanderer'").good();
    for _ in 0..3 {
        shuttle.switch();
        assert_eq!(client.value("show timezone"), "Asia/Tokyo");
        assert_eq!(client.value("show application_name"), "wanderer");
        assert_eq!(client.value("select date '2001-02-03'"), "03.02.2001");
    }
}

#[test]
fn what_a_client_set_is_not_seen_by_the_next() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    let before = other.value("show timezone");
    let set = one.query("set timezone = 'Asia/Tokyo'").good();
    assert_eq!(
        set.parameters,
        [("TimeZone".to_owned(), "Asia/Tokyo".to_owned())]
    );
    each_sees_its_own("timezone", (&mut one, "Asia/Tokyo"), (&mut other, &before));
    assert_eq!(one.server(), other.server());
}

#[test]
fn a_set_that_is_rolled_back_was_never_set() {
    let pooler = single().start();
    let (mut one, mut other) = (pooler.connect(), pooler.connect());
    one.query("set timezone = 'Europe/Berlin'").good();
    for (middle, end) in [
        ("set timezone = 'Asia/Tokyo'", "rollback"),
        ("set local timezone = 'Asia/Tokyo'", "commit"),
        ("set local timezone = 'Asia/Tokyo'", "rollback"),
    ] {
        one.query("begin").good();
        one.query(middle).good();
        assert_eq!(one.value("show timezone"), "Asia/Tokyo");
        one.query(end).good();
        each_sees_its_own("timezone", (&mut one, "Europe/Berlin"), (&mut other, "UTC"));
    }
}

#[test]
fn parameters_are_in_force_before_an_extended_query() {
    let pooler = single().start();
    let mut berlin = pooler
        .login()
        .parameter("TimeZone", "Europe/Berlin")
        .connect();
    let mut lima = pooler
        .login()
        .parameter("TimeZone", "America/Lima")
        .connect();
    for (client, zone) in [(&mut berlin, "Europe/Berlin"), (&mut lima, "America/Lima")] {
        for name in ["", "named"] {
            let asked = batch()
                .parse(name, "select current_setting('timezone')")
                .run(name, &[])
                .sync();
            let reply = client.ask(asked);
            assert_eq!(
                (reply.shape.as_str(), reply.value().as_str()),
                ("12DCZ", zone)
            );
        }
    }
    assert_eq!(
        berlin.ask(batch().run("named", &[]).sync()).value(),
        "Europe/Berlin"
    );
}

#[test]
fn a_very_long_value_is_applied_or_cut_but_never_another_clients() {
    let pooler = single().start();
    let long = "n".repeat(500);
    let mut one = pooler
        .login()
        .parameter("application_name", "short")
        .connect();
    let mut other = pooler
        .login()
        .parameter("application_name", &long)
        .connect();
    each_sees_its_own(
        "application_name",
        (&mut one, "short"),
        (&mut other, &long[..63]),
    );
}

#[test]
fn many_parameters_come_in_one_options_string() {
    let pooler = single().start();
    let options = "-c search_path=pg_catalog -cstatement_timeout=7s --extra-float-digits=2 -c application_name=a\\ b\\\\c ";
    let mut client = pooler.login().parameter("options", options).connect();
    assert_eq!(client.value("show search_path"), "pg_catalog");
    assert_eq!(client.value("show statement_timeout"), "7s");
    assert_eq!(client.value("show extra_float_digits"), "2");
    assert_eq!(client.value("show application_name"), "a b\\c");
}

#[test]
fn a_value_that_the_server_refuses_is_told_to_the_client() {
    let pooler = single().start();
    for (name, value, code) in [
        ("TimeZone", "Nowhere/At_all", "22023"),
        ("statement_timeout", "soon", "22023"),
        ("no_such_setting", "1", "42704"),
    ] {
        let fault = match pooler.login().parameter(name, value).try_connect() {
            Ok(mut client) => client.send(batch().query("select 1")).ended(),
            Err(refusal) => refusal.told(),
        };
        assert_eq!(
            (fault.severity.as_str(), fault.code.as_str()),
            ("FATAL", code),
            "{fault:?}"
        );
        assert!(fault.says(name), "{fault:?}");
        pooler.serves();
    }
}

#[test]
fn ignored_startup_parameters_are_not_carried() {
    let pooler = single()
        .pooler(
            "ignore_startup_parameters",
            ["extra_float_digits", "no_such_setting"],
        )
        .start();
    let mut client = pooler
        .login()
        .parameter("extra_float_digits", "-3")
        .parameter("no_such_setting", "x")
        .connect();
    assert_ne!(client.value("show extra_float_digits"), "-3");
}

#[test]
fn the_application_name_can_be_seen_in_pg_stat_activity() {
    let pooler = single().start();
    let mut client = pooler
        .login()
        .parameter("application_name", "visible")
        .connect();
    let sql = "select application_name from pg_stat_activity where pid = pg_backend_pid()";
    assert_eq!(client.value(sql), "visible");
}
