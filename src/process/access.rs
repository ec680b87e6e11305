//! Reading what files and options say about logins, beside passwords.

use std::path::Path;
use std::sync::Arc;

use crate::auth::access::Access;
use crate::auth::directory::Directory;
use crate::auth::hba;
use crate::auth::ident::{self, Maps};
use crate::config::load;
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect};

/// Reads what is in force of `auth_hba_file`, `auth_ident_file` and `auth_ldap_options`, and what is amiss in it.
///
/// # Errors
/// What cannot be read.
pub fn read(settings: &Settings) -> Result<(Access, Vec<String>), String> {
    let all = &settings.pooler;
    let mut access = Access::default();
    if let Some(options) = &all.auth_ldap_options {
        let directory = Directory::parse(options.expose())
            .map_err(|why| format!("pooler.auth_ldap_options: {why}"))?;
        access.directory = Some(Arc::new(directory));
    }
    let mut warnings = Vec::new();
    if all.auth_type != AuthType::Hba {
        return Ok((access, warnings));
    }
    let mut maps = Maps::default();
    if let Some(path) = &all.auth_ident_file
        && let Some(text) = read_rules(settings, "auth_ident_file", path, &mut warnings)?
    {
        let (found, bad) = ident::parse(&text, &path.display().to_string());
        maps = found;
        warnings.extend(bad.iter().map(ToString::to_string));
    }
    if let Some(path) = &all.auth_hba_file
        && let Some(text) = read_rules(settings, "auth_hba_file", path, &mut warnings)?
    {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut read =
            |name: &str| load::text_of(&folder.join(name)).map_err(|error| error.to_string());
        let (rules, bad) = hba::parse(&text, &path.display().to_string(), &maps, &mut read);
        access.rules = rules;
        warnings.extend(bad.iter().map(ToString::to_string));
    }
    Ok((access, warnings))
}

/// The text of a file with rules. Under a pgbouncer.ini a file that cannot be read is one without rules, which lets nobody in.
fn read_rules(
    settings: &Settings,
    key: &str,
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, String> {
    match (load::text_of(path), settings.dialect) {
        (Ok(text), _) => Ok(Some(text)),
        (Err(error), Dialect::PgBouncer) => {
            warnings.push(format!("could not open {key} {}: {error}", path.display()));
            Ok(None)
        }
        (Err(error), Dialect::Native) => Err(format!(
            "pooler.{key}: cannot read {}: {error}",
            path.display()
        )),
    }
}
