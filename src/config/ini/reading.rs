//! From the lines of a `pgbouncer.ini` to settings: one pass that never stops at a mistake.

use std::path::Path;

use crate::config::ini::lines::{self, BadLine, Line};
use crate::config::ini::pairs;
use crate::config::ini::value::{self, Within};
use crate::config::node::has_port;
use crate::config::problem::{Position, Refusal, did_you_mean, path};
use crate::config::reading::{Entry, Files, Notes, Reading};
use crate::config::schema::{DATABASE, PEER, POOLER, Section, USER};
use crate::config::settings::{
    DatabaseSettings, PeerSettings, PoolerSettings, Settings, TelemetrySettings, UserSettings,
};
use crate::config::slot::{Given, Slot};
use crate::config::unserved;
use crate::config::value::{Dialect, LogFormat, TlsProtocols};

/// How deep files may include each other.
const DEEPEST: usize = 10;

/// The sections there are.
const SECTIONS: &[&str] = &["databases", "users", "peers", "pgbouncer"];

/// The settings of an empty `pgbouncer.ini`: PgBouncer's defaults.
pub fn defaults() -> Settings {
    Settings {
        dialect: Dialect::PgBouncer,
        pooler: PoolerSettings::of_pgbouncer(),
        telemetry: TelemetrySettings {
            log_format: LogFormat::PgBouncer,
            ..TelemetrySettings::default()
        },
        ..Settings::default()
    }
}

/// Reads `text`, which is called `name`, and what it includes, into `reading`.
pub fn read(reading: &mut Reading<'_>, files: Files<'_>, name: &str, text: &str) {
    reading.settings = defaults();
    let mut ini = Ini {
        reading,
        files,
        section: Part::Nothing,
        has_main: false,
    };
    ini.file(name, text, 0);
    if !ini.has_main {
        let position = Position {
            source: name.to_owned(),
            line: 1,
            column: 1,
        };
        let refusal = Refusal::new("there is no section [pgbouncer]");
        ini.reading.notes.refuse(refusal, &position, "");
    }
}

/// The section in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// None yet.
    Nothing,
    /// One that was refused already.
    Unknown,
    Databases,
    Users,
    Peers,
    Main,
}

struct Ini<'r, 'e, 'f> {
    reading: &'r mut Reading<'e>,
    files: Files<'f>,
    section: Part,
    has_main: bool,
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Here<'t> {
    name: &'t str,
    line: usize,
    text: &'t str,
}

impl Here<'_> {
    /// The place of the byte `at` of the line.
    fn position(self, at: usize) -> Position {
        let before = self.text.get(..at).unwrap_or(self.text);
        Position {
            source: self.name.to_owned(),
            line: self.line,
            column: before.chars().count() + 1,
        }
    }
}

impl Ini<'_, '_, '_> {
    fn file(&mut self, name: &str, text: &str, depth: usize) {
        for (index, text) in text.lines().enumerate() {
            let here = Here {
                name,
                line: index + 1,
                text,
            };
            match lines::read(text) {
                Ok(Line::Empty) => {}
                Ok(Line::Section(section)) => self.enter(section, here),
                Ok(Line::Include(file)) => self.include(Path::new(file), depth, here),
                Ok(Line::Pair {
                    key,
                    key_at,
                    value,
                    value_at,
                }) => self.pair(key, key_at, value, value_at, here),
                Err(BadLine { at, why }) => self.refuse(Refusal::new(why), here.position(at), ""),
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, position: Position, key: &str) {
        self.reading.notes.refuse(refusal, &position, key);
    }

    fn include(&mut self, file: &Path, depth: usize, here: Here<'_>) {
        if depth >= DEEPEST {
            let refusal =
                Refusal::new(format!("files include each other more than {DEEPEST} deep"));
            return self.refuse(refusal, here.position(0), "");
        }
        match (self.files)(file) {
            Ok(text) => self.file(&file.display().to_string(), &text, depth + 1),
            Err(why) => {
                let refusal = Refusal::new(format!("cannot read \"{}\": {why}", file.display()));
                self.refuse(refusal, here.position(0), "");
            }
        }
    }

    fn enter(&mut self, name: &str, here: Here<'_>) {
        self.section = match name {
            "databases" => Part::Databases,
            "users" => Part::Users,
            "peers" => Part::Peers,
            "pgbouncer" => {
                self.enter_main(here);
                Part::Main
            }
            _ => {
                let refusal = Refusal::new(format!("unknown section [{name}]"));
                let hint = did_you_mean(name, SECTIONS.iter().copied());
                let hint =
                    hint.unwrap_or_else(|| format!("the sections are {}", SECTIONS.join(", ")));
                self.refuse(refusal.hint(hint), here.position(0), "");
                Part::Unknown
            }
        };
    }

    /// `[pgbouncer]` begins with the defaults, also the second time.
    fn enter_main(&mut self, here: Here<'_>) {
        let Reading { settings, notes } = &mut *self.reading;
        if self.has_main {
            settings.pooler = PoolerSettings::of_pgbouncer();
            notes.positions.retain(|key, _| !key.starts_with("pooler."));
            let warning = Refusal::new("a second [pgbouncer]: what the first one set is forgotten");
            notes.warn(warning, &here.position(0), "pooler");
        }
        self.has_main = true;
    }

    fn pair(&mut self, key: &str, key_at: usize, text: &str, value_at: usize, here: Here<'_>) {
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let refusal = Refusal::new("the value is not UTF-8");
            return self.refuse(refusal, here.position(value_at), key);
        }
        match self.section {
            Part::Unknown => {}
            Part::Nothing => {
                let refusal = Refusal::new("stands outside of any section");
                self.refuse(refusal, here.position(key_at), key);
            }
            Part::Main => {
                let positions = (here.position(key_at), here.position(value_at));
                self.main(key, text, positions);
            }
            Part::Databases | Part::Users | Part::Peers => {
                let kind = match self.section {
                    Part::Databases => "databases",
                    Part::Users => "users",
                    _ => "peers",
                };
                let position = here.position(key_at);
                self.reading
                    .notes
                    .positions
                    .insert(path(&[kind, key]), position);
                match pairs::read(text) {
                    Ok(found) => self.named(kind, key, &found, value_at, here),
                    Err(BadLine { at, why }) => {
                        let position = here.position(value_at + at);
                        self.refuse(Refusal::new(why), position, &path(&[kind, key]));
                    }
                }
            }
        }
    }

    /// One key of `[pgbouncer]`.
    fn main(
        &mut self,
        key: &str,
        text: &str,
        (key_position, value_position): (Position, Position),
    ) {
        let Reading { settings, notes } = &mut *self.reading;
        let parts = ["pooler", key];
        if let Some(warning) = unserved::warning(key, text) {
            notes.warn(Refusal::new(warning), &value_position, &path(&parts));
        }
        let entry = Entry {
            parts: &parts,
            key_position,
            value_position,
        };
        let text = value::without_sign(key, text);
        let target = &mut settings.pooler;
        set(notes, &POOLER, target, &entry, text, Within::Line);
    }

    /// The pairs behind the name of a database or a user.
    fn named(
        &mut self,
        kind: &'static str,
        name: &str,
        found: &[pairs::Pair<'_>],
        value_at: usize,
        here: Here<'_>,
    ) {
        let Reading { settings, notes } = &mut *self.reading;
        // The last one counts, and it counts alone.
        let own = name.to_owned();
        match kind {
            "databases" => drop(settings.databases.insert(own, DatabaseSettings::default())),
            "users" => drop(settings.users.insert(own, UserSettings::default())),
            _ => drop(settings.peers.insert(own, PeerSettings::default())),
        }
        for pair in found {
            let key = match pair.key {
                "reserve_pool" if kind == "databases" => "reserve_pool_size",
                key => key,
            };
            let parts = [kind, name, key];
            let entry = Entry {
                parts: &parts,
                key_position: here.position(value_at + pair.key_at),
                value_position: here.position(value_at + pair.value_at),
            };
            let text = &pair.value;
            match kind {
                "databases" => {
                    let target = settings.databases.entry(name.to_owned()).or_default();
                    set(notes, &DATABASE, target, &entry, text, Within::Pairs);
                }
                "users" => {
                    let target = settings.users.entry(name.to_owned()).or_default();
                    set(notes, &USER, target, &entry, text, Within::Pairs);
                }
                _ => {
                    let target = settings.peers.entry(name.to_owned()).or_default();
                    set(notes, &PEER, target, &entry, text, Within::Pairs);
                }
            }
        }
    }
}

/// Puts one value where it belongs.
fn set<S>(
    notes: &mut Notes<'_>,
    section: &Section<S>,
    target: &mut S,
    entry: &Entry<'_>,
    text: &str,
    within: Within,
) {
    let name = entry.parts.last().copied().unwrap_or_default();
    let given = match section.key(name) {
        None => Ok(Some(Given::Loose(text.to_owned()))),
        Some(key) => match (key.place)(target) {
            Slot::Protocols(_) => Ok(Some(protocols(notes, entry, text))),
            slot => value::given(&slot, text, within),
        },
    };
    match given {
        Ok(None) => {}
        Ok(Some(given)) => {
            advise(notes, entry, text);
            notes.set(section, target, entry, || Ok(given));
            if let Some(Slot::Protocols(place)) = section.key(name).map(|key| (key.place)(target)) {
                text.clone_into(&mut place.text);
            }
        }
        Err(refusal) => notes.refuse(refusal, &entry.value_position, &path(entry.parts)),
    }
}

/// Warns of what PgBouncer takes without a word, though nobody can mean it.
fn advise(notes: &mut Notes<'_>, entry: &Entry<'_>, text: &str) {
    let warning = match entry.parts {
        ["databases" | "peers", _, "host"] => {
            let wrong = text.split(',').map(str::trim).find(|host| has_port(host));
            wrong.map(|host| {
                Refusal::new(format!(
                    "{host:?} is looked up as a name, for no address has a colon but one of IPv6"
                ))
                .hint("a port stands beside its host, as port=5432")
            })
        }
        ["pooler", "admin_users" | "stats_users"] => text.contains('"').then(|| {
            Refusal::new("a quote is part of the name here")
                .hint("names stand without, separated by commas")
        }),
        _ => None,
    };
    if let Some(warning) = warning {
        notes.warn(warning, &entry.value_position, &path(entry.parts));
    }
}

/// A list of versions of TLS, less those that are not spoken here.
fn protocols(notes: &mut Notes<'_>, entry: &Entry<'_>, text: &str) -> Given {
    let (kept, old) = unserved::without_old_tls(text);
    if old.is_empty() {
        return Given::Text(text.to_owned());
    }
    let kept = if kept.is_empty() {
        TlsProtocols::default().as_str().to_owned()
    } else {
        kept
    };
    let warning = Refusal::new(format!(
        "{} is not spoken here, TLS below 1.2 is unsafe: {kept} is",
        old.join(", ")
    ));
    notes.warn(warning, &entry.value_position, &path(entry.parts));
    Given::Text(kept)
}

#[cfg(test)]
mod tests;
