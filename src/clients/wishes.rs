//! What a startup packet asks for beside user and database: session parameters and the replication protocol.

use crate::config::settings::Settings;
use crate::error::Error;
use crate::net::stream::Stream;
use crate::protocol::startup::{Startup, parse_options};

/// What the startup packet says about the replication protocol; `None` for an ordinary connection.
pub fn replication(startup: &Startup) -> Result<Option<String>, Error> {
    let Some(value) = startup.get("replication").map(text) else {
        return Ok(None);
    };
    match value.to_ascii_lowercase().as_str() {
        "" | "false" | "off" | "no" | "0" => Ok(None),
        "database" | "true" | "on" | "yes" | "1" => Ok(Some(value)),
        _ => Err(Error::Protocol(format!(
            "invalid value for parameter \"replication\": \"{value}\""
        ))),
    }
}

/// The session parameters that came with the startup packet, those in `options` first.
pub fn parameters(startup: &Startup, settings: &Settings) -> Result<Vec<(String, String)>, Error> {
    let mut given = Vec::new();
    if let Some(options) = startup.get("options") {
        let parsed = parse_options(options).map_err(|_| {
            Error::Protocol("the startup parameter \"options\" cannot be read".into())
        })?;
        given.extend(parsed.into_iter().map(|(name, value)| (name, text(&value))));
    }
    for (name, value) in &startup.params {
        match name.as_str() {
            "options" => {}
            "replication" => {}
            _ => given.push((name.clone(), text(value))),
        }
    }
    given.retain(|(name, _)| !settings.pooler.ignore_startup_parameters.contains(name));
    Ok(given)
}

/// With `application_name_add_host`, the application's name says where the client comes from.
pub fn add_host(given: &mut Vec<(String, String)>, stream: &Stream, settings: &Settings) {
    if !settings.pooler.application_name_add_host {
        return;
    }
    let is_name = |(name, _): &(String, String)| name.eq_ignore_ascii_case("application_name");
    let name = given.iter().rfind(|pair| is_name(pair));
    let name = name.map_or("app", |(_, name)| name.as_str());
    let name = format!("{name} - {}", stream.peer());
    given.retain(|pair| !is_name(pair));
    given.push(("application_name".into(), name));
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
