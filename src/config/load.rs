//! A file and the environment become [`Settings`], or the list of what is wrong with them.
//!
//! The order is: defaults, the file, then variables `POOLER__SECTION__KEY`. The rules of [`super::check`] are applied
//! at the end, and what they find is given its line here. That a named file exists is also seen here: this room's
//! other files do not touch the disk. Passwords that are kept in files are given to them by [`secret_in`].

use std::fs;
use std::io;
use std::path::Path;

use crate::config::check;
use crate::config::clusters::CLUSTER;
use crate::config::environment::Environment;
use crate::config::ini::reading as ini;
use crate::config::problem::{Position, Problem, Problems, Refusal, path};
use crate::config::reading::{Files, Reading};
use crate::config::schema::POOLER;
use crate::config::settings::Settings;
use crate::config::slot::Slot;
use crate::config::source::Source;
use crate::config::value::Dialect;

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The settings.
    pub settings: Settings,
    /// What was taken, but does not do what it says.
    pub warnings: Problems,
}

/// Whether `file` is read as a `pgbouncer.ini`: its name ends in `.ini`.
pub fn is_ini(file: &Path) -> bool {
    let extension = file.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("ini"))
}

/// Reads the configuration at `file`: a `pgbouncer.ini`, where its name ends in `.ini`, else a `pooler.toml`. Paths in the
/// first start at the current directory, in the second at that of the file.
///
/// # Errors
/// Everything that is wrong with it, or that it could not be read.
pub fn load_file(file: &Path, env: &Environment) -> Result<Read, Problems> {
    let name = file.display().to_string();
    let unreadable = |why: String| {
        let position = Position {
            source: name.clone(),
            ..Position::default()
        };
        Problems(vec![Refusal::new(why).at(&position, "")])
    };
    let bytes = fs::read(file).map_err(|why| unreadable(format!("cannot be read: {why}")))?;
    if is_ini(file) {
        let text = String::from_utf8_lossy(&bytes);
        return from_ini(&text, &name, &text_of, env);
    }
    let text = String::from_utf8(bytes).map_err(|why| {
        let good = why.utf8_error().valid_up_to();
        unreadable(format!("is not UTF-8 after its first {good} bytes"))
    })?;
    let base = file.parent().unwrap_or(Path::new(""));
    from_text(&text, &name, base, env)
}

/// The text of one of PgBouncer's files. It cares for no encoding: what is not UTF-8 becomes [`char::REPLACEMENT_CHARACTER`], which does no harm in a
/// comment and is looked for elsewhere.
///
/// # Errors
/// That it cannot be read.
pub fn text_of(file: &Path) -> io::Result<String> {
    let bytes = fs::read(file)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of a file that holds a password.
///
/// # Errors
/// That it cannot be read, or is not UTF-8.
pub fn secret_in(file: &Path) -> io::Result<String> {
    fs::read_to_string(file)
}

/// Reads the text of a `pgbouncer.ini`, called `source_name` in messages; `files` gives the texts that it includes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn from_ini(
    text: &str,
    source_name: &str,
    files: Files<'_>,
    env: &Environment,
) -> Result<Read, Problems> {
    let mut reading = Reading::new(env, Path::new(""), &secret_in);
    ini::read(&mut reading, files, source_name, text);
    let elsewhere = Position {
        source: source_name.to_owned(),
        line: 1,
        column: 1,
    };
    finish(reading, &elsewhere, Path::new(""))
}

/// Reads the text of a `pooler.toml`, called `source_name` in messages; paths in it start at `base_dir`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn from_text(
    text: &str,
    source_name: &str,
    base_dir: &Path,
    env: &Environment,
) -> Result<Read, Problems> {
    let source = Source {
        name: source_name,
        text,
    };
    let tree = source.parse()?;
    let mut reading = Reading::new(env, base_dir, &secret_in);
    reading.file(&source, &tree);
    finish(reading, &source.position(0), base_dir)
}

/// Applies the variables that override, then the rules; problems without a place of their own are at `elsewhere`.
///
/// # Errors
/// Everything that is wrong.
pub fn finish(
    mut reading: Reading<'_>,
    elsewhere: &Position,
    base_dir: &Path,
) -> Result<Read, Problems> {
    reading.overrides();
    look_for_files(&mut reading, base_dir);
    let Reading { settings, notes } = reading;
    let (mut problems, mut warnings) = (notes.problems, notes.warnings);
    for found in check::all_but(&settings, &notes.refused) {
        let position = nearest(&found.key, |key| notes.positions.get(key));
        let position = position.unwrap_or(elsewhere).clone();
        problems.push(Problem {
            source: position.source,
            line: position.line,
            column: position.column,
            ..found
        });
    }
    if settings.dialect == Dialect::PgBouncer {
        problems.0.iter_mut().for_each(as_in_ini);
        warnings.0.iter_mut().for_each(as_in_ini);
    }
    if problems.is_empty() {
        return Ok(Read { settings, warnings });
    }
    let in_order = |problem: &Problem| (problem.line == 0, problem.line, problem.column);
    problems.0.sort_by_key(in_order);
    Err(problems)
}

/// Names the key of `problem` as an ini does, where `[pooler]` is `[pgbouncer]`.
fn as_in_ini(problem: &mut Problem) {
    if problem.key == "pooler" || problem.key.starts_with("pooler.") {
        problem.key.replace_range(.."pooler".len(), "pgbouncer");
    }
}

/// The place of `key`, else that of the section around it.
fn nearest<'p>(key: &str, position: impl Fn(&str) -> Option<&'p Position>) -> Option<&'p Position> {
    let mut key = key;
    loop {
        if let Some(found) = position(key) {
            return Some(found);
        }
        key = key.rsplit_once('.')?.0;
    }
}

/// Files that the pooler writes, or asks for only when it needs them.
const WRITTEN: &[&str] = &["logfile", "pidfile", "conffile"];

/// Lets relative paths start at `base`, and complains of files that are not there.
fn look_for_files(reading: &mut Reading<'_>, base: &Path) {
    let is_ini = reading.settings.dialect == Dialect::PgBouncer;
    let mut missing = Vec::new();
    for key in POOLER.keys {
        // PgBouncer starts without its lists of users and rules; of certificates it says that TLS cannot be set up.
        let may_be_missing = WRITTEN.contains(&key.name) || (is_ini && key.name != "resolv_conf");
        let slot = (key.place)(&mut reading.settings.pooler);
        let is_folder = key.name == "state_dir";
        if let Some(why) = look_for_file(slot, base, is_folder).filter(|_| !may_be_missing) {
            missing.push((path(&["pooler", key.name]), why));
        }
    }
    for (name, cluster) in &mut reading.settings.clusters {
        for key in CLUSTER.keys {
            if let Some(why) = look_for_file((key.place)(cluster), base, false) {
                missing.push((path(&["clusters", name, key.name]), why));
            }
        }
    }
    for (key, refusal) in missing {
        let position = reading
            .notes
            .positions
            .get(&key)
            .cloned()
            .unwrap_or_default();
        reading.notes.refuse(refusal, &position, &key);
    }
}

/// Lets the path in `slot`, where there is one, start at `base`. What comes back is why it cannot be used.
fn look_for_file(slot: Slot<'_>, base: &Path, is_folder: bool) -> Option<Refusal> {
    let Slot::Path(Some(file)) = slot else {
        return None;
    };
    *file = base.join(&*file);
    let why = match fs::metadata(&*file) {
        Ok(facts) if is_folder && facts.is_dir() => return None,
        Ok(_) if is_folder => "it is no directory".to_owned(),
        Ok(facts) if facts.is_dir() => "it is a directory".to_owned(),
        Ok(_) => return None,
        Err(why) => why.to_string(),
    };
    let refusal = Refusal::new(format!("cannot use \"{}\": {why}", file.display()));
    Some(if is_folder {
        refusal.hint("make it, owned by the user that the pooler runs as")
    } else {
        refusal
    })
}

#[cfg(test)]
mod tests;
