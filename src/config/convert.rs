//! From the settings of a `pgbouncer.ini` to the text of a `pooler.toml` that means the same.
//!
//! What is written must load again and give the settings it was made of; what cannot be carried over is told, never dropped in
//! silence. The comments beside the keys, and their order, are those of the commented `pooler.toml`.

use std::path::Path;

use crate::config::environment::Environment;
use crate::config::load::{self, Read};
use crate::config::problem::Problem;
use crate::config::schema::{DATABASE, PEER, POOLER, Section, TELEMETRY, USER};
use crate::config::settings::{
    DatabaseSettings, PeerSettings, PoolerSettings, Settings, UserSettings,
};
use crate::config::slot::{Given, Slot};
use crate::config::unserved;
use crate::config::value::Dialect;

mod literal;
mod sample;

/// What became of a `pgbouncer.ini`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The `pooler.toml`.
    pub text: String,
    /// What could not be carried over.
    pub left: Vec<String>,
    /// What must be mended before the text can be served: a `pooler.toml` is read more strictly.
    pub to_mend: Vec<String>,
}

/// Whose paths the text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths<'p> {
    /// Those of the ini, for a file in the directory that the ini's relative paths start at.
    Kept,
    /// Relative ones start at this directory, for a file that lies elsewhere.
    From(&'p Path),
}

/// What of the ini's own ways no key brings along.
const WAYS: &str = "clients meet errors with PostgreSQL's codes and sentences, and protocol 3.2, where an ini has PgBouncer's words, 08P01 and protocol 3.0; \
     SHOW CONFIG and RELOAD are those of a pooler.toml; signals, too: SIGTERM waits for transactions, at most shutdown_timeout";

/// Writes `read`, the ini called `name`, as a `pooler.toml`.
pub fn convert(read: Read, name: &str, paths: Paths<'_>) -> Converted {
    let Read { settings, warnings } = read;
    let mut left: Vec<String> = warnings.0.iter().map(ToString::to_string).collect();
    let settings = in_toml(settings, paths, &mut left);
    left.push(WAYS.to_owned());
    let body = body(&settings);
    let to_mend = wrongs(&body, &settings);
    let text = format!("{}{body}", head(name, &settings, &left, &to_mend));
    Converted {
        text,
        left,
        to_mend,
    }
}

/// `settings` as a `pooler.toml` can say them.
fn in_toml(mut settings: Settings, paths: Paths<'_>, left: &mut Vec<String>) -> Settings {
    settings.dialect = Dialect::Native;
    let mut usual = PoolerSettings::default();
    for key in POOLER.keys {
        let value = (key.place)(&mut settings.pooler).print();
        if unserved::warning(key.name, &value).is_some() {
            // The default is always good.
            let default = Given::Loose((key.place)(&mut usual).print());
            drop((key.place)(&mut settings.pooler).read(&default));
        }
        let (Slot::Path(Some(file)), Paths::From(base)) =
            ((key.place)(&mut settings.pooler), paths)
        else {
            continue;
        };
        *file = base.join(&*file);
    }
    cap_least(&mut settings, left);
    settings
}

/// PgBouncer keeps no more servers than a pool may have; a `pooler.toml` that asks for more is refused.
fn cap_least(settings: &mut Settings, left: &mut Vec<String>) {
    let (least, most) = (
        settings.pooler.min_pool_size,
        settings.pooler.default_pool_size,
    );
    let told = |key: &str, least: usize, most: usize| {
        format!("{key}: {least} is more than a pool may have, and became {most}")
    };
    for (name, database) in &mut settings.databases {
        let own_least = database.min_pool_size.unwrap_or(least);
        let own_most = database.pool_size.unwrap_or(most);
        if own_most > 0 && own_least > own_most {
            let key = format!("databases.{name}.min_pool_size");
            left.push(told(&key, own_least, own_most));
            database.min_pool_size = Some(own_most);
        } else if database.pool_size.is_some() && most > 0 && least > most {
            // What follows makes the global one smaller, which this database must not see.
            database.min_pool_size = Some(own_least);
        }
    }
    if most > 0 && least > most {
        left.push(told("pgbouncer.min_pool_size", least, most));
        settings.pooler.min_pool_size = most;
    }
}

/// Everything below the head.
fn body(settings: &Settings) -> String {
    let mut settings = settings.clone();
    let mut text = String::new();
    named(
        &mut text,
        ("databases", &DATABASE),
        &mut settings.databases,
        DatabaseSettings::default,
    );
    named(
        &mut text,
        ("users", &USER),
        &mut settings.users,
        UserSettings::default,
    );
    named(
        &mut text,
        ("peers", &PEER),
        &mut settings.peers,
        PeerSettings::default,
    );
    let mut of_pgbouncer = PoolerSettings::of_pgbouncer();
    text.push_str("\n[pooler]\n");
    let lines = lines(
        &POOLER,
        &mut settings.pooler,
        &mut PoolerSettings::default(),
        Some(&mut of_pgbouncer),
    );
    text.push_str(&sample::fill("pooler", &lines));
    text.push_str("\n[telemetry]\n");
    let usual = &mut Settings::default().telemetry;
    let lines = self::lines(&TELEMETRY, &mut settings.telemetry, usual, None);
    text.push_str(&sample::fill("telemetry", &lines));
    text
}

/// The sections `[kind.NAME]`.
fn named<S: 'static>(
    text: &mut String,
    (kind, section): (&str, &'static Section<S>),
    all: &mut std::collections::BTreeMap<String, S>,
    usual: fn() -> S,
) {
    for (name, own) in all {
        text.push_str(&format!("\n[{kind}.{}]\n", literal::key(name)));
        let lines = lines(section, own, &mut usual(), None);
        text.push_str(&sample::fill(kind, &lines));
    }
}

/// The keys of `own` that are not as `usual`, and their values.
fn lines<S>(
    section: &'static Section<S>,
    own: &mut S,
    usual: &mut S,
    mut of_pgbouncer: Option<&mut S>,
) -> Vec<sample::Line> {
    let mut found = Vec::new();
    for key in section.keys {
        let value = literal::of(&(key.place)(own));
        if value == literal::of(&(key.place)(usual)) {
            continue;
        }
        let default = of_pgbouncer.as_mut();
        let default = default.map(|default| literal::of(&(key.place)(default)));
        found.push(sample::Line {
            key: key.name,
            is_default: default.is_some_and(|default| default == value),
            // What is not there where there is a default is empty text.
            value: value.unwrap_or_else(|| literal::text("")),
        });
    }
    found
}

/// What is wrong with `body`, which shall mean `settings`.
fn wrongs(body: &str, settings: &Settings) -> Vec<String> {
    let environment = Environment::default();
    match load::from_text(body, "", Path::new(""), &environment) {
        Ok(read) if read.settings == *settings => Vec::new(),
        Ok(_) => vec!["it does not mean what the ini means: this is a bug".to_owned()],
        Err(problems) => {
            // The lines will be others.
            let told = |problem: Problem| {
                let problem = Problem {
                    source: String::new(),
                    ..problem
                };
                problem.to_string()
            };
            problems.0.into_iter().map(told).collect()
        }
    }
}

fn head(name: &str, settings: &Settings, left: &[String], to_mend: &[String]) -> String {
    let mut text = format!(
        "# A pooler.toml, made of {} by \"pooler convert\". Keys that are not here stand at their default, which is\n\
         # PgBouncer's, too; those of which PgBouncer has another one are written out. (restart): read only at the start.\n",
        one_line(name)
    );
    if has_relative_paths(settings) {
        text.push_str(
            "# Relative paths start at this file's directory: keep it in the one in which PgBouncer is started.\n",
        );
    }
    for (title, all) in [
        ("Mend before it can be served:", to_mend),
        ("Not carried over:", left),
    ] {
        if !all.is_empty() {
            text.push_str(&format!("#\n# {title}\n"));
        }
        for one in all {
            text.push_str(&format!("# - {}\n", one_line(one)));
        }
    }
    text
}

fn has_relative_paths(settings: &Settings) -> bool {
    let mut pooler = settings.pooler.clone();
    POOLER
        .keys
        .iter()
        .any(|key| matches!((key.place)(&mut pooler), Slot::Path(Some(file)) if file.is_relative()))
}

/// `text` as a comment may hold it.
fn one_line(text: &str) -> String {
    text.replace(|each: char| each.is_control(), " ")
}

#[cfg(test)]
mod tests;
