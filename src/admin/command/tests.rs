use super::{Command, Role, Show, help, parse};
use crate::admin::order::Stop;

fn admin(text: &str) -> Result<Command, String> {
    as_role(text, Role::Acts)
}

fn as_role(text: &str, role: Role) -> Result<Command, String> {
    parse(text, role).map_err(|complaint| complaint.message)
}

fn invalid(text: &str) -> Result<Command, String> {
    Err(format!("invalid command '{text}', use SHOW HELP;"))
}

fn set(key: &str, value: &str) -> Result<Command, String> {
    Ok(Command::Set {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[test]
fn show_and_select_mean_the_same_in_any_case() {
    for text in [
        "SHOW POOLS",
        "show pools;",
        "  Select\t Pools ;\n",
        "show \"pools\"",
    ] {
        assert_eq!(admin(text), Ok(Command::Show(Show::Pools)), "{text}");
    }
    assert_eq!(
        admin("show DateStyle"),
        Ok(Command::Show(Show::Parameter("datestyle", "ISO")))
    );
}

#[test]
fn what_is_no_command_is_told_back() {
    for text in [
        "",
        ";",
        "show",
        "show nothing",
        "show pools x",
        "show pools;;",
        "show pools; show pools",
        "-- x",
        "pause a-b",
        "reload x",
        "shutdown x",
        "suspend x",
        "pause\"x\"",
        "pause \"x",
        "set",
        "set x",
        "set x 1",
        "set x=1.5",
        "set x=-1",
        "set x=a,b",
        "set x='a",
        "BEGIN",
    ] {
        assert_eq!(admin(text), invalid(text), "{text}");
    }
}

#[test]
fn who_types_no_command_is_told_what_was_probably_meant() {
    let hint = |text: &str| {
        let complaint = parse(text, Role::Acts).unwrap_err();
        complaint.hint.unwrap_or_default().into_owned()
    };
    let form = "It is written EXPLAIN ROUTE <db> [<user>] AS <sql>; \
                a name with other signs than letters, digits and _ stands in double quotes.";
    for (text, told) in [
        ("help", "Did you mean SHOW HELP?"),
        ("pools;", "Did you mean SHOW POOLS?"),
        ("poosl", "Did you mean SHOW POOLS?"),
        ("resmue app", "Did you mean RESUME?"),
        ("show pool", "Did you mean SHOW POOLS?"),
        (
            "show pools x",
            "Nothing stands behind SHOW POOLS, and no second command.",
        ),
        ("explain route", form),
        ("explain route app select 1", form),
        ("explain select 1", form),
        (
            "pause my-db",
            "It is written PAUSE [<db>]; \
             a name with other signs than letters, digits and _ stands in double quotes.",
        ),
        (
            "set query_timeout = 1.5",
            "It is written SET key = arg; \
             a value with other signs than letters, digits and _ stands in single quotes.",
        ),
        (
            "shutdown now",
            "It is written SHUTDOWN or SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS.",
        ),
        ("reload x", "It is written RELOAD."),
    ] {
        assert_eq!(hint(text), told, "{text}");
    }
    for text in ["", ";", "begin", "insert into t values (1)", "-- x"] {
        let told = hint(text);
        assert!(
            told.contains("RESUME, ") && told.contains("SHOW HELP"),
            "{told}"
        );
        assert!(!told.contains("TAKEOVER"), "{told}");
    }
    for text in ["show", "show nothing", "select 1"] {
        let told = hint(text);
        assert!(
            told.contains("takes one of ACTIVE_SOCKETS, CLIENTS"),
            "{told}"
        );
    }
}

#[test]
fn a_database_is_named_bare_or_in_double_quotes() {
    let pause = |name: &str| Ok(Command::Pause(Some(name.to_owned())));
    assert_eq!(admin("PAUSE"), Ok(Command::Pause(None)));
    assert_eq!(admin("PAUSE App_1;"), pause("App_1"));
    assert_eq!(admin("PAUSE \"my-db.x\""), pause("my-db.x"));
    assert_eq!(admin("PAUSE \"a\"\"b\""), pause("a\"b"));
    assert_eq!(admin("DISABLE"), Err("a database is required".into()));
    assert_eq!(admin("ENABLE x"), Ok(Command::Enable("x".into())));
}

#[test]
fn a_value_is_a_word_or_in_single_quotes() {
    assert_eq!(admin("SET k = 'v''w'"), set("k", "v'w"));
    assert_eq!(admin("set k='v';"), set("k", "v"));
    assert_eq!(admin("set k TO 12"), set("k", "12"));
    assert_eq!(admin("set k = ''"), set("k", ""));
    assert_eq!(
        admin("SET pool_mode=\"session\""),
        set("pool_mode", "session")
    );
    assert_eq!(admin("set x = '-1'"), set("x", "-1"));
}

#[test]
fn what_drivers_set_is_ignored_for_anybody() {
    for text in [
        "set client_encoding to 'UTF8'",
        "SET DateStyle = iso",
        "set timezone to 'UTC'",
    ] {
        assert_eq!(
            as_role(text, Role::Looks),
            Ok(Command::SetIgnored),
            "{text}"
        );
    }
}

#[test]
fn too_long_words_are_bad_arguments() {
    let long = "x".repeat(64);
    let bad = || Err("bad arguments".to_owned());
    assert_eq!(admin("abcdefghijklmnop"), bad());
    assert_eq!(admin(&format!("PAUSE {long}")), bad());
    assert_eq!(admin(&format!("SET {long} = 1")), bad());
    assert_eq!(admin(&format!("SET k = '{}'", "v".repeat(256))), bad());
    assert_eq!(
        admin(&format!("PAUSE {}", &long[1..])),
        Ok(Command::Pause(Some(long[1..].to_owned())))
    );
}

#[test]
fn who_only_looks_may_not_act() {
    let refused = Err("admin access needed".to_owned());
    for text in [
        "RELOAD",
        "PAUSE",
        "KILL_CLIENT",
        "DISABLE",
        "SHUTDOWN",
        "SET k=1",
        "SHOW FDS",
    ] {
        assert_eq!(as_role(text, Role::Looks), refused, "{text}");
    }
    assert_eq!(as_role("RELOAD x", Role::Looks), invalid("RELOAD x"));
    assert_eq!(
        as_role("SHOW STATS", Role::Looks),
        Ok(Command::Show(Show::Stats))
    );
}

#[test]
fn a_client_is_named_by_its_id() {
    assert_eq!(admin("KILL_CLIENT 31"), Ok(Command::KillClient(31)));
    assert_eq!(admin("KILL_CLIENT 0x1f"), Ok(Command::KillClient(31)));
    for text in ["KILL_CLIENT", "KILL_CLIENT abc", "KILL_CLIENT \"\""] {
        assert_eq!(
            admin(text),
            Err("invalid client pointer supplied".into()),
            "{text}"
        );
    }
}

#[test]
fn the_process_ends_in_one_of_three_ways() {
    assert_eq!(admin("SHUTDOWN"), Ok(Command::Shutdown(Stop::Now)));
    assert_eq!(
        admin("shutdown wait_for_servers"),
        Ok(Command::Shutdown(Stop::WaitForServers))
    );
    assert_eq!(
        admin("SHUTDOWN WAIT_FOR_CLIENTS;"),
        Ok(Command::Shutdown(Stop::WaitForClients))
    );
}

#[test]
fn help_tells_every_command() {
    let help = help();
    for word in [
        "SHOW HELP",
        "SET key",
        "RELOAD",
        "PAUSE",
        "KILL_CLIENT",
        "WAIT_FOR_SERVERS",
        "WAIT_CLOSE",
    ] {
        assert!(help.contains(word), "{word}");
    }
}
