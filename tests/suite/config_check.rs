//! `pooler check`, the environment, and the files we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pooler::cli::cluster::free_port;

use crate::support::pooler::{binary, config, run};
use crate::support::postgres::postgres;
use crate::support::wire::{Address, Login, PATIENCE};
use crate::support::{eventually, folder};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_passes_a_good_file_and_no_other() {
    let good = "[pooler]\nlisten_port = 6432\n[users.app]\npassword = \"x\"\n[databases.app]\nhost = \"127.0.0.1\"\n";
    let ran = run(&["check", "pooler.toml"], &[("pooler.toml", good)], &[]);
    assert_eq!(ran.status.code(), Some(0), "{}", ran.output);
    let ran = run(
        &["check", "pooler.toml"],
        &[("pooler.toml", &format!("{good}hots = \"x\"\n"))],
        &[],
    );
    assert_ne!(ran.status.code(), Some(0), "{}", ran.output);
}

#[test]
fn check_finds_every_problem_at_once_with_its_place_and_a_remedy() {
    let bad = "\
[pooler]
listen_port = 70000
pool_mod = \"session\"
query_timeout = \"5 parsecs\"

[databases.app]
host = \"127.0.0.1\"
pool_size = \"twenty\"
pool_mode = \"transactional\"

[databases.pgbouncer]
host = \"127.0.0.1\"
";
    let ran = run(&["check", "pooler.toml"], &[("pooler.toml", bad)], &[]);
    assert_ne!(ran.status.code(), Some(0), "{}", ran.output);
    for (place, key) in [
        ("pooler.toml:2:", "listen_port"),
        ("pooler.toml:3:", "did you mean"),
        ("pooler.toml:4:", "query_timeout"),
        ("pooler.toml:8:", "pool_size"),
        ("pooler.toml:9:", "transaction"),
        ("pooler.toml:11:", "pgbouncer"),
    ] {
        let line = ran.output.lines().find(|line| line.contains(place));
        assert!(
            line.is_some(),
            "nothing is said about {place} ({key}):\n{}",
            ran.output
        );
        assert!(
            ran.output.contains(key),
            "{key} is not named:\n{}",
            ran.output
        );
    }
}

#[test]
fn check_knows_what_contradicts_itself() {
    for (bad, word) in [
        (
            "[pooler]\nclient_tls_sslmode = \"require\"\n",
            "client_tls_cert_file",
        ),
        ("[pooler]\nauth_file = \"not-there.txt\"\n", "not-there.txt"),
        (
            "[databases.app]\nhost = \"127.0.0.1\"\npassword = \"${SURELY_NOT_SET}\"\n",
            "SURELY_NOT_SET",
        ),
        ("[users.app]\npassword_file = \"not-there\"\n", "not-there"),
    ] {
        let ran = run(&["check", "pooler.toml"], &[("pooler.toml", bad)], &[]);
        assert_ne!(ran.status.code(), Some(0), "{bad}: {}", ran.output);
        assert!(ran.output.contains(word), "{bad}: {}", ran.output);
    }
}

#[test]
fn check_says_of_an_ini_what_the_start_would() {
    let good = "[databases]\na = host=127.0.0.1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n";
    for (line, code, word) in [
        ("auth_file = users.txt", 0, "good"),
        (
            "auth_file = gone.txt",
            1,
            "error: could not open auth_file gone.txt",
        ),
        (
            "auth_file = broken.txt",
            1,
            "error: broken.txt:2: broken auth file",
        ),
        (
            "auth_file = users.txt\nuser = nobody_at_all",
            1,
            "error: could not become user 'nobody_at_all'",
        ),
        (
            "auth_file = users.txt\nsyslog_facility = kitchen",
            0,
            "warning: syslog_facility: \"kitchen\" is not known, daemon is used",
        ),
    ] {
        let files = [
            ("p.ini", &*format!("{good}{line}\n")),
            ("users.txt", "\"a\" \"x\"\n"),
            ("broken.txt", "\"a\" \"x\"\nb\n"),
        ];
        let ran = run(&["check", "p.ini"], &files, &[]);
        assert_eq!(ran.status.code(), Some(code), "{line}: {}", ran.output);
        assert!(ran.output.contains(word), "{line}: {}", ran.output);
    }
}

#[test]
fn a_bad_file_does_not_start_and_names_the_place() {
    let ran = run(
        &["pooler.toml"],
        &[("pooler.toml", "[pooler]\nlisten_prot = 1\n")],
        &[],
    );
    assert_ne!(ran.status.code(), Some(0));
    assert!(
        ran.output.contains("pooler.toml:2:") && ran.output.contains("listen_port"),
        "{}",
        ran.output
    );
    let ran = run(&["not-there.toml"], &[], &[]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.output.contains("not-there.toml"), "{}", ran.output);
}

#[test]
fn a_port_in_use_is_an_error_and_not_a_silence() {
    let pooler = config().start();
    let text = config()
        .text(Path::new("/nowhere"), pooler.port)
        .replace("auth_file = \"/nowhere/userlist.txt\"\n", "");
    let ran = run(&["pooler.toml"], &[("pooler.toml", &text)], &[]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(
        ran.output.contains(&pooler.port.to_string()),
        "{}",
        ran.output
    );
}

#[test]
fn the_shipped_files_pass_the_check() {
    let mut files = vec![repository().join("pooler.toml")];
    let examples = fs::read_dir(repository().join("examples")).expect("there are examples");
    files.extend(
        examples
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "toml")),
    );
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let check = |text: &str| {
            run(
                &["check", "file.toml"],
                &[("file.toml", text)],
                &[("APP_PASSWORD", "secret")],
            )
        };
        let good = check(&text);
        assert!(good.status.success(), "{}: {}", file.display(), good.output);
        assert!(
            !check(&format!("{text}\nno_such_key = 1\n"))
                .status
                .success(),
            "{}",
            file.display()
        );
    }
}

/// A pooler that is started by hand and ended with the test.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn by_hand(arguments: &[PathBuf], environment: &[(&str, String)]) -> ByHand {
    logging(arguments, environment, Stdio::null())
}

fn logging(arguments: &[PathBuf], environment: &[(&str, String)], log: Stdio) -> ByHand {
    let child = Command::new(binary())
        .args(arguments)
        .current_dir(folder("by-hand"))
        .env_remove("DATABASE_URL")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    ByHand(child)
}

/// The examples stand for `127.0.0.1:5432`; the environment moves them to where the tests' server and a free port are.
fn example(name: &str, database: &str) -> (ByHand, u16) {
    let port = free_port().unwrap();
    let key = format!("POOLER__DATABASES__{}", database.to_uppercase());
    let environment = [
        ("POOLER__POOLER__LISTEN_PORT", port.to_string()),
        ("POOLER__POOLER__UNIX_SOCKET_DIR", String::new()),
        (
            &format!("{key}__PORT"),
            postgres().server().port.to_string(),
        ),
        (&format!("{key}__DBNAME"), "app".to_owned()),
        ("APP_PASSWORD", "app".to_owned()),
    ];
    let pooler = by_hand(&[repository().join("examples").join(name)], &environment);
    (pooler, port)
}

fn serves(port: u16, database: &str) {
    let login = Login::at(Address::tcp(port))
        .user("app")
        .password("app")
        .database(database);
    eventually(PATIENCE, "it serves", || {
        login
            .try_connect()
            .is_ok_and(|mut client| client.query("select 1").errors.is_empty())
    });
}

#[test]
fn the_smallest_example_serves() {
    let (_pooler, port) = example("smallest.toml", "app");
    serves(port, "app");
}

#[test]
fn the_session_example_serves() {
    let (_pooler, port) = example("session.toml", "app");
    serves(port, "app");
}

#[test]
fn the_limits_example_serves() {
    let (_pooler, port) = example("limits.toml", "app");
    serves(port, "app");
}

#[test]
fn a_database_url_is_all_it_needs() {
    let port = free_port().unwrap();
    let environment = [
        (
            "DATABASE_URL",
            format!(
                "postgres://app:secret@127.0.0.1:{}/app",
                postgres().server().port
            ),
        ),
        ("POOLER__POOLER__LISTEN_PORT", port.to_string()),
        ("POOLER__POOLER__UNIX_SOCKET_DIR", String::new()),
    ];
    let log = folder("url").join("log");
    let file = fs::File::create(&log).unwrap();
    let _pooler = logging(&[], &environment, file.into());
    let login = Login::at(Address::tcp(port))
        .user("app")
        .password("secret")
        .database("app");
    eventually(PATIENCE, "it serves", || login.try_connect().is_ok());
    let served = format!(
        "database served database=\"app\" at=\"127.0.0.1:{}\"",
        postgres().server().port
    );
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(&served), "{log}");
    assert_eq!(login.password("wrong").refused().code, "28P01");
}

#[test]
fn the_environment_wins_over_the_file_and_secrets_come_from_where_they_are_kept() {
    let folder = folder("secrets");
    let port = free_port().unwrap();
    fs::write(folder.join("secret"), "from a file\n").unwrap();
    let server = postgres().server().port;
    let text = format!(
        "[pooler]\nlisten_port = 1\nunix_socket_dir = \"\"\nauth_type = \"plain\"\n\
         [users.app]\npassword = \"${{THE_SECRET}}\"\n[users.other]\npassword_file = \"secret\"\n\
         [databases.app]\nhost = \"127.0.0.1\"\nport = {server}\ndbname = \"app\"\n"
    );
    fs::write(folder.join("pooler.toml"), text).unwrap();
    let environment = [
        ("POOLER__POOLER__LISTEN_PORT", port.to_string()),
        ("THE_SECRET", "from around".to_owned()),
    ];
    let _pooler = by_hand(&[folder.join("pooler.toml")], &environment);
    let login = Login::at(Address::tcp(port)).database("app");
    eventually(PATIENCE, "it serves", || {
        login
            .clone()
            .user("app")
            .password("from around")
            .try_connect()
            .is_ok()
    });
    assert!(
        login
            .clone()
            .user("other")
            .password("from a file")
            .try_connect()
            .is_ok()
    );
    assert_eq!(
        login.user("app").password("${THE_SECRET}").refused().code,
        "28P01"
    );
}

#[test]
fn a_word_that_is_neither_a_file_nor_a_command_is_told_what_there_is() {
    let ran = run(&["chekc"], &[], &[]);
    assert_eq!(ran.status.code(), Some(1));
    for words in [
        "chekc: there is no such file, and no such command",
        "run, check, route, convert, demo, drill",
        "did you mean \"check\"?",
        "--help",
    ] {
        assert!(ran.output.contains(words), "{}", ran.output);
    }
    let ran = run(&["gone.toml"], &[], &[]);
    assert!(
        ran.output.starts_with("gone.toml: cannot be read: "),
        "{}",
        ran.output
    );
}

#[test]
fn links_within_the_readme_lead_to_a_heading() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let is_kept = |each: &char| each.is_alphanumeric() || "- _".contains(*each);
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept: String = heading.chars().filter(is_kept).collect();
        kept.replace(' ', "-")
    };
    let headings = text.lines().filter(|line| line.starts_with("##"));
    let anchors: Vec<String> = headings.map(anchor).collect();
    let links = text.split("](#").skip(1);
    let links: Vec<&str> = links.filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 10, "{links:?}");
    for link in &links {
        assert!(anchors.iter().any(|known| known == link), "#{link}");
    }
}

#[test]
fn the_version_is_told_on_the_command_line() {
    for flag in ["-V", "--version"] {
        let ran = run(&[flag], &[], &[]);
        assert_eq!(ran.status.code(), Some(0));
        assert!(
            ran.output.contains(env!("CARGO_PKG_VERSION")),
            "{}",
            ran.output
        );
    }
}
