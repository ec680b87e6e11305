//! `pooler demo` brings all it needs, serves without an error, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

fn demo(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_pooler"))
        .args(["demo", "--for", "3s", "--clients", "60"])
        .args(arguments)
        .output()
        .expect("the demo starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("errors: 0"), "{text}");
    assert!(!text.contains("console:"), "the console answers:\n{text}");
    let folder = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("folder"))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("it names its folder");
    assert!(!Path::new(folder).exists(), "{folder} is left behind");
}

#[test]
fn the_demo_runs_on_the_postgresql_of_this_machine() {
    demo(&[]);
}

#[test]
fn the_demo_runs_on_a_postgresql_that_it_fetches() {
    demo(&["--fetch"]);
}
