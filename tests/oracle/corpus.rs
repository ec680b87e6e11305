//! The labelled statements beside the project.

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};

use pooler::routing::catalog::{Catalog, Path};
use pooler::routing::classify::Facts;
use pooler::routing::intent::Intent;

use serde_json::Value;

use crate::{facts, pair};

struct Row {
    id: String,
    source: String,
    sql: String,
    label: String,
    needs: String,
    is_lenient: bool,
    has_fixture: bool,
    setup: Vec<String>,
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("POOLER_ORACLE").map_or_else(
        || File::new(env!("CARGO_MANIFEST_DIR")).join("../shared/oracle"),
        PathBuf::from,
    );
    folder.join("public.jsonl").is_file().then_some(folder)
}

fn row(line: &str) -> Option<Row> {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    value["sql"].as_str()?;
    Some(Row {
        id: text("id"),
        source: text("source"),
        sql: text("sql"),
        label: text("label"),
        needs: text("needs"),
        is_lenient: value["lenient"].as_bool().unwrap_or(false),
        has_fixture: value["fixture"].as_bool().unwrap_or(false),
        setup: value["setup"].as_array().map_or_else(Vec::new, |all| {
            all.iter()
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect()
        }),
    })
}

/// The search path and the strings that the row's session has set.
fn path(row: &Row) -> Path {
    let set = row
        .setup
        .iter()
        .find_map(|sql| sql.strip_prefix("SET search_path = "));
    set.map_or_else(
        || Path::of_user(b"postgres"),
        |value| Path::parse(value.as_bytes(), b"postgres"),
    )
}

#[derive(Default)]
struct Count {
    all: usize,
    good: usize,
}

#[test]
#[expect(clippy::too_many_lines, reason = "one account, told in one go")]
fn no_labelled_write_is_taken_for_a_read_and_nearly_every_read_for_one() {
    let Some(folder) = folder() else {
        println!("the labelled statements are absent: set POOLER_ORACLE to their folder");
        return;
    };
    let fixture = std::fs::read_to_string(folder.join("fixture.sql")).unwrap();
    pair().database("oracle", &fixture);
    let loaded = pair().catalog("oracle");
    let none = Catalog::default();
    let rows = std::fs::read_to_string(folder.join("public.jsonl")).unwrap();
    let rows: Vec<Row> = rows.lines().filter_map(row).collect();

    let mut wrong = Vec::new();
    let mut lost = Vec::new();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut intents: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for row in &rows {
        let catalog = if row.has_fixture { &loaded } else { &none };
        let facts = facts(&row.sql, catalog, &path(row));
        let is_read = facts.intent == Intent::Read;
        *intents
            .entry((row.label.clone(), facts.intent.as_str()))
            .or_default() += 1;
        let counts_as_write =
            row.label == "primary_only" && (row.has_fixture || row.needs.is_empty());
        if counts_as_write && is_read {
            wrong.push(show(row, &facts));
        }
        if row.label != "replica_ok" || row.is_lenient {
            continue;
        }
        let mut kinds = vec![
            "reads".to_owned(),
            format!("reads of {}", kind(&row.source)),
        ];
        if row.needs == "catalog" {
            kinds = vec![format!("reads that need a catalog, {}", kind(&row.source))];
        }
        for kind in kinds {
            let count = counts.entry(kind).or_default();
            count.all += 1;
            count.good += usize::from(is_read);
        }
        if !is_read && row.needs != "catalog" {
            lost.push(show(row, &facts));
        }
    }
    for (kind, count) in &counts {
        println!(
            "{kind}: {} of {} offloaded, {:.2} %",
            count.good,
            count.all,
            share(count)
        );
    }
    for ((label, intent), count) in &intents {
        println!("{label} taken for {intent}: {count}");
    }
    println!("reads lost:\n{}", lost.join("\n"));
    assert!(
        wrong.is_empty(),
        "writes taken for reads:\n{}",
        wrong.join("\n")
    );
    assert!(share(&counts["reads"]) >= 95.0);
    assert!(share(&counts["reads of tools"]) >= 99.0);
}

fn share(count: &Count) -> f64 {
    let thousands = count.good * 100_000 / count.all.max(1);
    f64::from(u32::try_from(thousands).unwrap()) / 1000.0
}

fn kind(source: &str) -> &str {
    source.split(':').next().unwrap_or(source)
}

fn show(row: &Row, facts: &Facts) -> String {
    let sql: String = row.sql.chars().take(160).collect();
    format!(
        "{} {}: {} ({}): {sql:?}",
        row.id, row.source, facts.intent, facts.why
    )
}
