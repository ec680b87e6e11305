//! Inis, and what becomes of them.

use super::*;

fn converted(ini: &str) -> Converted {
    let text = format!("{ini}\n[pgbouncer]\n");
    let no_files = |_: &Path| Err(std::io::Error::other("there is no file"));
    let read = load::from_ini(&text, "p.ini", &no_files, &Environment::default());
    convert(read.unwrap(), "p.ini", Paths::Kept)
}

/// The line of the text that sets `key`.
fn line(converted: &Converted, key: &str) -> String {
    let mut lines = converted.text.lines();
    let start = format!("{key} = ");
    let found = lines.find(|line| line.starts_with(&start));
    found.unwrap_or_default().to_owned()
}

#[test]
fn defaults_that_differ_are_written_out_with_the_samples_comments() {
    let made = converted("[databases]\na = host=h");
    assert!(line(&made, "pool_mode").contains("\"session\""));
    assert!(line(&made, "pool_mode").contains("# PgBouncer's default; session, transaction or"));
    assert_eq!(line(&made, "default_pool_size"), "");
    assert!(made.text.contains("\n# Pools.\npool_mode"), "{}", made.text);
    assert!(line(&made, "listen_addr").starts_with("listen_addr = []"));
}

#[test]
fn a_pool_keeps_no_more_than_it_may_have_and_that_is_told() {
    let made = converted("[databases]\na = host=h pool_size=3 min_pool_size=5");
    assert!(line(&made, "min_pool_size").starts_with("min_pool_size = 3"));
    assert!(
        made.left[0].contains("databases.a.min_pool_size: 5"),
        "{:?}",
        made.left
    );
}

#[test]
fn what_a_toml_refuses_is_to_be_mended_and_said_at_the_top() {
    let made = converted("[databases]\npooler = host=h");
    assert!(
        made.to_mend
            .iter()
            .any(|one| one.starts_with("databases.pooler: "))
    );
    let mend = made
        .text
        .find("# Mend before it can be served:\n# - ")
        .unwrap();
    assert!(mend < made.text.find("[databases").unwrap());
}
