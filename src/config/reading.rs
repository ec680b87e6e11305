//! From a tree of TOML, and from variables, to [`Settings`]: one pass that never stops at a mistake.
//!
//! Each value that is given leaves a note of its place, so that rules which span several keys can point at a line
//! too, and each that was refused leaves a note as well, so that those rules do not complain of its absence.
//!
//! The `POOLER__SECTION__KEY` variables are gone through one by one. Crate `config` could collect them, but it writes
//! every name in small letters and forgets which variable a value came from: a database called `App` could not be
//! reached, and a refusal could not name the variable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::clusters::CLUSTER;
use crate::config::environment::Environment;
use crate::config::problem::{Position, Problems, Refusal, did_you_mean, path};
use crate::config::routing::ROUTING;
use crate::config::schema::{
    DATABASE, OTHER_NAMES, PASSWORD_FILE, PEER, POOLER, SECTIONS, Section, TELEMETRY,
    UNBUILT_SECTIONS, USER, WEB,
};
use crate::config::settings::Settings;
use crate::config::slot::Given;
use crate::config::source::{Source, given, start};

/// What the names of overriding variables begin with.
pub const PREFIX: &str = "POOLER__";

/// Gives the text of a file.
pub type Files<'f> = &'f dyn Fn(&Path) -> io::Result<String>;

/// Settings as they are read, and what was seen on the way.
pub struct Reading<'e> {
    /// What has been read so far.
    pub settings: Settings,
    /// What was seen on the way.
    pub notes: Notes<'e>,
}

/// What was seen while reading.
pub struct Notes<'e> {
    /// Every mistake.
    pub problems: Problems,
    /// Where each key that was given stands, by its path.
    pub positions: BTreeMap<String, Position>,
    /// The paths of keys that were given and refused.
    pub refused: BTreeSet<String>,
    /// What was taken, but does not do what it says.
    pub warnings: Problems,
    env: &'e Environment,
    base: &'e Path,
    /// Gives the passwords that are kept in files.
    secrets: Files<'e>,
}

/// What is wrong with a key: itself, or its value.
enum Wrong {
    Key(Refusal),
    Value(Refusal),
}

/// A key, and where it and its value stand.
pub struct Entry<'a> {
    /// Its section, the name below it where there is one, and the key.
    pub parts: &'a [&'a str],
    /// Where the key stands.
    pub key_position: Position,
    /// Where the value stands.
    pub value_position: Position,
}

impl<'e> Reading<'e> {
    /// Nothing read yet: the defaults. Relative paths start at `base`; `secrets` gives the passwords that are kept in files.
    pub fn new(env: &'e Environment, base: &'e Path, secrets: Files<'e>) -> Self {
        Self {
            settings: Settings::default(),
            notes: Notes {
                problems: Problems::default(),
                positions: BTreeMap::new(),
                refused: BTreeSet::new(),
                warnings: Problems::default(),
                env,
                base,
                secrets,
            },
        }
    }

    /// Reads a whole file.
    pub fn file(&mut self, source: &Source<'_>, tree: &DeTable<'_>) {
        let Self { settings, notes } = self;
        for (name, value) in tree {
            let position = source.position(start(name));
            let name: &str = name.get_ref();
            let Some(table) = notes.table(name, position, value) else {
                continue;
            };
            match name {
                "pooler" => {
                    notes.section(source, &POOLER, &mut settings.pooler, &[name], table);
                }
                "telemetry" => {
                    notes.section(source, &TELEMETRY, &mut settings.telemetry, &[name], table);
                }
                "web" => notes.section(source, &WEB, &mut (), &[name], table),
                "routing" => {
                    notes.section(source, &ROUTING, &mut settings.routing, &[name], table);
                }
                "users" => {
                    notes.sections(source, &USER, &mut settings.users, name, table);
                }
                "databases" => {
                    notes.sections(source, &DATABASE, &mut settings.databases, name, table);
                }
                "peers" => notes.sections(source, &PEER, &mut settings.peers, name, table),
                "clusters" => {
                    notes.sections(source, &CLUSTER, &mut settings.clusters, name, table);
                }
                _ => notes.unbuilt_section(source, name, table),
            }
        }
    }

    /// Reads the variables that override the file.
    pub fn overrides(&mut self) {
        let env = self.notes.env;
        for (variable, value) in env.iter() {
            if let Some(rest) = variable.strip_prefix(PREFIX) {
                self.one_override(variable, rest, value);
            }
        }
    }

    fn one_override(&mut self, variable: &str, rest: &str, value: &str) {
        let Self { settings, notes } = self;
        let position = Position {
            source: format!("environment variable {variable}"),
            ..Position::default()
        };
        let (section, rest) = rest.split_once("__").unwrap_or((rest, ""));
        let section = section.to_lowercase();
        let (name, key) = match rest.rsplit_once("__") {
            Some((name, key)) => (Some(name), key.to_lowercase()),
            None => (None, rest.to_lowercase()),
        };
        let value = Given::Loose(value.to_owned());
        let (section, key) = (section.as_str(), key.as_str());
        let entry = |parts| Entry {
            parts,
            key_position: position.clone(),
            value_position: position.clone(),
        };
        let own = [section, key];
        match (section, name) {
            ("pooler", None) => {
                notes.set(&POOLER, &mut settings.pooler, &entry(&own), || Ok(value));
            }
            ("telemetry", None) => {
                let target = &mut settings.telemetry;
                notes.set(&TELEMETRY, target, &entry(&own), || Ok(value));
            }
            ("web", None) => notes.set(&WEB, &mut (), &entry(&own), || Ok(value)),
            ("routing", None) => {
                notes.set(&ROUTING, &mut settings.routing, &entry(&own), || Ok(value));
            }
            ("users", Some(name)) => {
                let parts = [section, name, key];
                notes.set_listed(&USER, &mut settings.users, parts, &position, value);
            }
            ("databases", Some(name)) => {
                let parts = [section, name, key];
                notes.set_listed(&DATABASE, &mut settings.databases, parts, &position, value);
            }
            ("clusters", Some(name)) => {
                let parts = [section, name, key];
                notes.set_listed(&CLUSTER, &mut settings.clusters, parts, &position, value);
            }
            ("peers", Some(name)) => {
                let target = settings.peers.entry(name.to_owned()).or_default();
                notes.set(&PEER, target, &entry(&[section, name, key]), || Ok(value));
            }
            _ if value.is_off() && UNBUILT_SECTIONS.contains(&section) => {}
            _ => notes.refuse(no_such_variable(section), &position, ""),
        }
    }
}

impl<'e> Notes<'e> {
    /// Notes a mistake.
    pub fn refuse(&mut self, refusal: Refusal, position: &Position, key: &str) {
        self.problems.push(refusal.at(position, key));
        self.refused.insert(key.to_owned());
    }

    /// Notes something that is taken, but does not do what it says.
    pub fn warn(&mut self, warning: Refusal, position: &Position, key: &str) {
        self.warnings.push(warning.at(position, key));
    }

    /// The table that `value` is; a complaint when it is none.
    fn table<'v, 't>(
        &mut self,
        key: &str,
        position: Position,
        value: &'v Spanned<DeValue<'t>>,
    ) -> Option<&'v DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            self.positions.insert(key.to_owned(), position);
            return Some(table);
        }
        let refusal = if SECTIONS.contains(&key) || key.contains('.') {
            Refusal::new("expected a section").hint(format!("write it as [{key}]"))
        } else if POOLER.key(key).is_some() {
            Refusal::new("stands outside of any section").hint("it belongs below [pooler]")
        } else {
            unknown_section(key)
        };
        self.refuse(refusal, &position, key);
        None
    }

    /// Reads one section into `target`.
    fn section<S>(
        &mut self,
        source: &Source<'_>,
        section: &Section<S>,
        target: &mut S,
        parts: &[&str],
        table: &DeTable<'_>,
    ) {
        let env = self.env;
        for (name, value) in table {
            let name_start = start(name);
            let name: &str = name.get_ref();
            let mut parts = parts.to_vec();
            parts.push(name);
            let entry = Entry {
                parts: &parts,
                key_position: source.position(name_start),
                value_position: source.position(start(value)),
            };
            if name == PASSWORD_FILE && section.has_password && table.contains_key("password") {
                let refusal = Refusal::new("stands beside password").hint("keep one of the two");
                self.refuse(refusal, &entry.key_position, &path(&parts));
                continue;
            }
            self.set(section, target, &entry, || given(value.get_ref(), env));
        }
    }

    /// Reads the sections `[kind.NAME]`.
    fn sections<S: Default>(
        &mut self,
        source: &Source<'_>,
        section: &Section<S>,
        targets: &mut BTreeMap<String, S>,
        kind: &str,
        table: &DeTable<'_>,
    ) {
        for (name, value) in table {
            let position = source.position(start(name));
            let name: &str = name.get_ref();
            let parts = [kind, name];
            if let Some(table) = self.table(&path(&parts), position, value) {
                let target = targets.entry(name.to_owned()).or_default();
                self.section(source, section, target, &parts, table);
            }
        }
    }

    fn unbuilt_section(&mut self, source: &Source<'_>, kind: &str, table: &DeTable<'_>) {
        if !UNBUILT_SECTIONS.contains(&kind) {
            let position = self.positions.remove(kind).unwrap_or_default();
            self.refuse(unknown_section(kind), &position, kind);
            return;
        }
        for name in table.keys() {
            let position = source.position(start(name));
            self.refuse(unbuilt(), &position, &path(&[kind, name.get_ref()]));
        }
    }

    /// Puts one value where it belongs.
    pub fn set<S>(
        &mut self,
        section: &Section<S>,
        target: &mut S,
        entry: &Entry<'_>,
        value: impl FnOnce() -> Result<Given, Refusal>,
    ) {
        let key = path(entry.parts);
        let name = entry.parts.last().copied().unwrap_or_default();
        self.positions
            .insert(key.clone(), entry.value_position.clone());
        let outcome = if section.has_password && name == PASSWORD_FILE {
            self.password_from_file(section, target, entry, value)
        } else {
            take(section, target, name, value)
        };
        match outcome {
            Ok(()) => {}
            Err(Wrong::Key(refusal)) => self.refuse(refusal, &entry.key_position, &key),
            Err(Wrong::Value(refusal)) => self.refuse(refusal, &entry.value_position, &key),
        }
    }

    /// Takes the value of a variable at `position` for the one of `all` that it names, in whatever case.
    fn set_listed<S: Default>(
        &mut self,
        section: &Section<S>,
        all: &mut BTreeMap<String, S>,
        [kind, name, key]: [&str; 3],
        position: &Position,
        value: Given,
    ) {
        let name = match listed(all, name) {
            Ok(name) => name,
            Err(refusal) => return self.refuse(refusal, position, kind),
        };
        let entry = Entry {
            parts: &[kind, &name, key],
            key_position: position.clone(),
            value_position: position.clone(),
        };
        let target = all.entry(name.clone()).or_default();
        self.set(section, target, &entry, || Ok(value));
    }

    /// Takes the password from the file that `value` names, less the newline at its end.
    fn password_from_file<S>(
        &mut self,
        section: &Section<S>,
        target: &mut S,
        entry: &Entry<'_>,
        value: impl FnOnce() -> Result<Given, Refusal>,
    ) -> Result<(), Wrong> {
        let variable = entry.key_position.source.strip_suffix("_FILE");
        let variable = variable.and_then(|text| text.rsplit(' ').next());
        if variable.is_some_and(|name| self.env.get(name).is_some()) {
            return Err(Wrong::Key(
                Refusal::new("is set beside the variable without _FILE")
                    .hint("keep one of the two"),
            ));
        }
        let named = value().map_err(Wrong::Value)?;
        let Some(name) = named.as_text().filter(|name| !name.is_empty()) else {
            let refusal = Refusal::new("expected the path of a file");
            return Err(Wrong::Value(refusal.hint("for example \"secret/app\"")));
        };
        let file = self.base.join(name);
        let text = (self.secrets)(&file).map_err(|why| {
            Wrong::Value(Refusal::new(format!(
                "cannot read \"{}\": {why}",
                file.display()
            )))
        })?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            let refusal = Refusal::new(format!("\"{}\" holds no password", file.display()));
            return Err(Wrong::Value(refusal));
        }
        let password = password.to_owned();
        take(section, target, "password", || Ok(Given::Text(password)))
    }
}

fn take<S>(
    section: &Section<S>,
    target: &mut S,
    name: &str,
    value: impl FnOnce() -> Result<Given, Refusal>,
) -> Result<(), Wrong> {
    if let Some(key) = section.key(name) {
        let value = value().map_err(Wrong::Value)?;
        return (key.place)(target).read(&value).map_err(Wrong::Value);
    }
    if let Some((_, harmless)) = section.unbuilt.iter().find(|(known, _)| *known == name) {
        let value = value().map_err(Wrong::Value)?;
        let is_harmless = value.is_off() || value.as_text().is_some_and(|t| harmless.contains(&t));
        return if is_harmless {
            Ok(())
        } else {
            Err(Wrong::Key(unbuilt()))
        };
    }
    let here = |known: &str| section.names().any(|name| name == known);
    let other = OTHER_NAMES
        .iter()
        .find(|(other, ours)| *other == name && here(ours))
        .map(|(_, ours)| format!("here it is called \"{ours}\""));
    let unknown = Refusal::new("unknown key");
    let hint = other.or_else(|| did_you_mean(name, section.names()));
    Err(Wrong::Key(match hint {
        Some(hint) => unknown.hint(hint),
        None => unknown,
    }))
}

fn unbuilt() -> Refusal {
    Refusal::new("known, but not built in this version").hint("leave it out")
}

fn unknown_section(name: &str) -> Refusal {
    let refusal = Refusal::new("unknown section");
    if name == "pgbouncer" {
        return refusal.hint("here it is called [pooler]");
    }
    match did_you_mean(name, SECTIONS.iter().copied()) {
        Some(hint) => refusal.hint(hint),
        None => refusal.hint(format!("the sections are {}", SECTIONS.join(", "))),
    }
}

fn no_such_variable(section: &str) -> Refusal {
    if UNBUILT_SECTIONS.contains(&section) {
        return unbuilt();
    }
    let form = match section {
        "users" | "databases" | "peers" | "clusters" => {
            format!("{PREFIX}{}__NAME__KEY", section.to_uppercase())
        }
        "pooler" | "telemetry" | "web" | "routing" => {
            format!("{PREFIX}{}__KEY", section.to_uppercase())
        }
        _ => format!("{PREFIX}SECTION__KEY, for example {PREFIX}POOLER__LISTEN_PORT"),
    };
    Refusal::new("names no setting").hint(format!("such variables are called {form}"))
}

/// The name that `wanted` means: one that is listed, spelled alike or else but for capitals, or a new one.
///
/// Names of variables are mostly written in capitals, those of databases are not.
fn listed<S>(names: &BTreeMap<String, S>, wanted: &str) -> Result<String, Refusal> {
    let small = wanted.to_lowercase();
    if names.contains_key(wanted) {
        return Ok(wanted.to_owned());
    }
    let alike: Vec<_> = names
        .keys()
        .filter(|name| name.to_lowercase() == small)
        .collect();
    match alike.as_slice() {
        [] => Ok(small),
        [one] => Ok((*one).clone()),
        [one, other, ..] => Err(Refusal::new(format!(
            "could mean both \"{one}\" and \"{other}\""
        ))),
    }
}
