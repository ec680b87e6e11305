//! `pooler demo` brings all it needs, serves without an error, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

/// What the demo says. It ends well, and leaves nothing behind.
fn demo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pooler"))
        .args(["demo", "--clients", "60"])
        .args(arguments)
        .output()
        .expect("the demo starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    let folder = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("folder"))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("it names its folder");
    assert!(!Path::new(folder).exists(), "{folder} is left behind");
    text
}

fn serves(text: &str) {
    assert!(text.contains("errors: 0"), "{text}");
    assert!(!text.contains("console:"), "the console answers:\n{text}");
}

#[test]
fn the_demo_runs_on_the_postgresql_of_this_machine() {
    serves(&demo(&["--for", "4s"]));
}

#[test]
fn the_demo_runs_on_a_postgresql_that_it_fetches() {
    serves(&demo(&["--for", "4s", "--fetch"]));
}

#[test]
fn the_demos_primary_fails_and_nothing_acknowledged_is_lost() {
    let text = demo(&["--failover"]);
    let told = [
        "kill -9 of the primary",
        "pooler: first sign",
        "pooler: no writer",
        "pooler: confirmed by SQL",
        "pooler: first write",
        "failed 0",
        "60 of 60 are connected as before",
        "fenced in SHOW NODES",
        ", 0 of them there; 0 servers of clients there",
        "0 lost, 0 too many",
    ];
    for words in told {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}
