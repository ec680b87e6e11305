//! Maps from the names that a system knows (of a certificate, of the user behind a Unix socket) to the database's users:
//! PgBouncer's `auth_ident_file`, which is PostgreSQL's pg_ident.conf without regular expressions.
//!
//! A line is `map system-user database-user`; `all` as the last word lets the system user be anybody. Only what a line says is
//! let in: a name that no line lists maps to nobody.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::hba::Warning;
use crate::auth::words::{Word, Words};

/// One map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    system: String,
    /// `None` stands for everybody.
    user: Option<String>,
}

impl Map {
    /// Whether who is called one of `systems` may be `user`.
    pub fn lets(&self, systems: &[String], user: &str) -> bool {
        self.0.iter().any(|entry| {
            entry.user.as_deref().is_none_or(|known| known == user)
                && systems.contains(&entry.system)
        })
    }
}

/// All maps, by name.
pub type Maps = HashMap<String, Arc<Map>>;

/// Reads an ident file, called `file` in warnings. A bad line is left out and warned of.
pub fn parse(text: &str, file: &str) -> (Maps, Vec<Warning>) {
    let (mut maps, mut warnings) = (HashMap::<String, Map>::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match entry(line) {
            Ok(None) => {}
            Ok(Some((name, entry))) => maps.entry(name).or_default().0.push(entry),
            Err(why) => warnings.push(Warning {
                file: file.to_owned(),
                line: index + 1,
                why,
                is_skipped: true,
            }),
        }
    }
    let shared = maps.into_iter().map(|(name, map)| (name, Arc::new(map)));
    (shared.collect(), warnings)
}

fn entry(line: &str) -> Result<Option<(String, Entry)>, String> {
    let mut words = Words::of(line);
    let Some(name) = words.next()? else {
        return Ok(None);
    };
    let mut following = |what: &str| match words.next()? {
        Some(word @ (Word::Bare(_) | Word::Quoted(_))) => Ok(word),
        Some(Word::Comma) | None => Err(format!("expected {what}")),
    };
    let system = following("a system user")?;
    let user = following("a database user")?;
    if words.next()?.is_some() {
        return Err("there is more than a map, a system user and a database user".into());
    }
    let text = |word: &Word| word.text().unwrap_or_default().to_owned();
    if matches!(&system, Word::Bare(text) if text.starts_with('/')) {
        return Err("regular expressions are not supported".into());
    }
    let user = (!user.is("all")).then(|| text(&user));
    let system = text(&system);
    Ok(Some((text(&name), Entry { system, user })))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_map_lets_in_whom_its_lines_say_and_nobody_else() {
        let (maps, warnings) = parse(
            "# comment\nm ann app\nm \"Bob B\" app # too\nm root all\nother eve app\n",
            "ident",
        );
        assert!(warnings.is_empty());
        let lets = |map: &str, system: &str, user| maps[map].lets(&[system.to_owned()], user);
        assert!(
            lets("m", "ann", "app") && lets("m", "Bob B", "app") && lets("m", "root", "anybody")
        );
        assert!(!lets("m", "ann", "ann") && !lets("m", "eve", "app") && !lets("m", "", "app"));
        assert!(lets("other", "eve", "app"));
        assert!(!maps["m"].lets(&[], "app"));
    }

    #[test]
    fn a_quoted_all_is_a_name() {
        let (maps, _) = parse("m ann \"all\"\n", "ident");
        assert!(maps["m"].lets(&["ann".into()], "all"));
        assert!(!maps["m"].lets(&["ann".into()], "app"));
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_is_read() {
        let (maps, warnings) = parse("m ann\nm a b c\nm /^x$ app\nm a, b\nm ann app\n", "f");
        let lines: Vec<_> = warnings.iter().map(|warning| warning.line).collect();
        assert_eq!((maps.len(), lines), (1, vec![1, 2, 3, 4]));
    }
}
