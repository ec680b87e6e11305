//! Code of the database's own that may leave session state behind unseen.
//!
//! A function, or a trigger, can lock, SET or make a temporary table, and the text that calls it tells nothing of it. So the catalog is
//! read once in a while: functions whose source names such words are *suspects*, and so are functions and views that name
//! those. A text in which a suspect's name stands is followed by a look; where a trigger is suspect, every write is.
//! While the catalog is not known everything is.

use std::collections::HashSet;

/// What is suspect in one database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    names: HashSet<Box<[u8]>>,
    /// Settings with a dot in their name that such code sets.
    pub custom: Vec<Box<str>>,
    /// A trigger is among them.
    pub writes: bool,
    /// Something is among them that is called without being named.
    pub anything: bool,
    /// A setting is among them whose name cannot be told.
    pub hides_names: bool,
}

/// So many names are kept; where there are more, everything is suspect.
const MOST: usize = 10_000;

impl Suspects {
    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.names.is_empty() && !self.writes && !self.anything
    }

    /// Out of all rows of the catalog's answer.
    pub fn of(rows: &[Vec<Option<String>>]) -> Self {
        let mut suspects = Self::default();
        let text =
            |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        for row in rows {
            if !suspects.take(text(row, 0).as_bytes(), text(row, 1).as_bytes()) {
                suspects.anything = true;
            }
        }
        suspects
    }

    /// Where the catalog cannot be read: everything.
    pub fn all() -> Self {
        Self {
            anything: true,
            ..Self::default()
        }
    }

    /// Takes in one row of the catalog's answer: a letter and a name. False when it is none.
    pub fn take(&mut self, kind: &[u8], name: &[u8]) -> bool {
        match kind {
            b"f" => self.name(name),
            b"w" => self.writes = true,
            b"x" => self.anything = true,
            b"d" => self.hides_names = true,
            b"k" => {
                if let Ok(name) = std::str::from_utf8(name)
                    && self.custom.len() < MOST
                {
                    self.custom.push(name.into());
                }
            }
            _ => return false,
        }
        true
    }

    fn name(&mut self, name: &[u8]) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        if name.is_empty() || !name.iter().all(is_word) || self.names.len() >= MOST {
            // Such a name cannot be found word by word.
            self.anything = true;
        } else {
            self.names.insert(name.to_ascii_lowercase().into());
        }
    }

    /// Whether `text`, which writes or does not, may run any of them.
    pub fn may_run_in(&self, text: &[u8], writes: bool) -> bool {
        if self.anything || (self.writes && writes) {
            return true;
        }
        if self.names.is_empty() {
            return false;
        }
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        let mut words = text
            .split(|byte| !is_word(byte))
            .filter(|word| !word.is_empty());
        words.any(|word| self.names.contains(&*word.to_ascii_lowercase()))
    }
}

/// Reads the catalog: rows of a letter and a name, for [`Suspects::take`].
///
/// An UPDATE's SET is none, hence what stands between the two words is taken out first.
pub const CATALOG: &str = r"WITH RECURSIVE code AS (
 SELECT p.oid, p.proname, p.prorettype, p.prosrc AS raw,
  pg_catalog.regexp_replace(pg_catalog.concat(p.prosrc, ' ', CASE WHEN p.prosrc OPERATOR(pg_catalog.=) '' THEN pg_catalog.pg_get_functiondef(p.oid) END), 'update\M[^;]*?\mset\M', '', 'gi') AS source
 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
 WHERE l.lanname OPERATOR(pg_catalog.<>) ALL ('{internal,c}'::pg_catalog.name[]) AND p.prokind OPERATOR(pg_catalog.<>) 'a'
  AND p.pronamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid AND p.pronamespace OPERATOR(pg_catalog.<>) ALL (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'information_schema')
), suspect AS (
 SELECT c.* FROM code c WHERE c.source OPERATOR(pg_catalog.~*) '\m(set|reset|set_config|discard|listen|unlisten|prepare|deallocate|temp|temporary|pg_temp|hold|load|setseed|execute|lastval|currval|dblink_connect\w*|pg_(try_)?advisory_(lock|unlock)\w*|pg_replication_origin\w*|pg_backup_start)\M'
  OR (c.raw OPERATOR(pg_catalog.~*) '\mpg_settings\M' AND c.raw OPERATOR(pg_catalog.~*) '\mupdate\M')
 UNION
 SELECT c.* FROM code c JOIN suspect s ON pg_catalog.strpos(pg_catalog.lower(c.source), pg_catalog.lower(s.proname::pg_catalog.text)) OPERATOR(pg_catalog.>) 0
), views AS (
 SELECT r.ev_class AS oid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) r.oid
  JOIN suspect s ON d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) s.oid
 UNION
 SELECT 'pg_catalog.pg_settings'::pg_catalog.regclass
 UNION
 SELECT r.ev_class FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) r.oid
  JOIN views v ON d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) v.oid AND r.ev_class OPERATOR(pg_catalog.<>) v.oid
)
SELECT 'f', s.proname FROM suspect s
UNION ALL SELECT 'f', c.relname FROM views v JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.oid AND c.relnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
UNION ALL (SELECT 'w', '' FROM pg_catalog.pg_trigger t JOIN suspect s ON t.tgfoid OPERATOR(pg_catalog.=) s.oid LIMIT 1)
UNION ALL (SELECT 'w', '' FROM pg_catalog.pg_depend d JOIN suspect s ON d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) s.oid WHERE d.classid OPERATOR(pg_catalog.=) ANY ('{2604,2606,3466}'::pg_catalog.oid[]) LIMIT 1)
UNION ALL (SELECT 'x', '' FROM pg_catalog.pg_depend d JOIN suspect s ON d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) s.oid WHERE d.classid OPERATOR(pg_catalog.<>) ALL ('{1255,2618,2620,2604,2606,3466}'::pg_catalog.oid[]) LIMIT 1)
UNION ALL (SELECT 'd', '' FROM suspect s WHERE s.source OPERATOR(pg_catalog.~*) '\mset_config\s*\(\s*[^''\s]' LIMIT 1)
UNION ALL SELECT DISTINCT 'k', m.name FROM suspect s CROSS JOIN LATERAL (SELECT (pg_catalog.regexp_matches(s.source, '[^\w.]([a-z_]\w*\.[a-z_][\w.]*)', 'gi'))[1] AS name) m
 WHERE s.source OPERATOR(pg_catalog.~*) '\mset'";

#[cfg(test)]
mod tests {
    use super::Suspects;

    fn suspects(rows: &[(&str, &str)]) -> Suspects {
        let mut suspects = Suspects::default();
        for (kind, name) in rows {
            assert!(suspects.take(kind.as_bytes(), name.as_bytes()));
        }
        suspects
    }

    #[test]
    fn a_text_that_names_a_suspect_may_run_it() {
        let known = suspects(&[("f", "take_lock")]);
        assert!(known.may_run_in(b"select public.\"take_lock\"(1)", false));
        assert!(known.may_run_in(b"SELECT Take_Lock(1)", false));
        assert!(!known.may_run_in(b"select take_locks(1)", true));
        assert!(suspects(&[]).are_none());
    }

    #[test]
    fn a_trigger_makes_every_write_suspect() {
        let known = suspects(&[("w", "")]);
        assert!(known.may_run_in(b"insert into t values (1)", true));
        assert!(!known.may_run_in(b"select 1", false));
    }

    #[test]
    fn a_name_that_is_no_word_makes_everything_suspect() {
        assert!(suspects(&[("f", "odd name")]).may_run_in(b"select 1", false));
    }
}
