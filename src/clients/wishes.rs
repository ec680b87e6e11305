//! What a startup packet asks for beside user and database: session parameters and the replication protocol.

use std::sync::LazyLock;

use crate::config::settings::{PoolerSettings, Settings};
use crate::config::value::Dialect;
use crate::error::{Error, Refusal};
use crate::net::stream::{Address, Stream};
use crate::protocol::startup::{Startup, parse_options};
use crate::routing::own::{PREFIX, Wish};
use crate::stats::census::Replication;

/// What the startup packet says about the replication protocol; `None` for an ordinary connection.
pub fn replication(startup: &Startup) -> Result<Option<String>, Error> {
    let Some(value) = startup.get("replication").map(text) else {
        return Ok(None);
    };
    match replication_kind(startup) {
        Some(Replication::None) => Ok(None),
        Some(Replication::Logical | Replication::Physical) => Ok(Some(value)),
        None => Err(Error::Protocol(format!(
            "invalid value for parameter \"replication\": \"{value}\""
        ))),
    }
}

/// Which replication protocol the startup packet asks for; `None` when that cannot be understood.
pub fn replication_kind(startup: &Startup) -> Option<Replication> {
    let value = startup.get("replication").map(text);
    Replication::asked_by(&value.unwrap_or_default())
}

/// The session parameters that came with the startup packet, those in `options` first.
///
/// # Errors
/// [`Error::Protocol`] when `options` cannot be read; as PgBouncer, also for every parameter that is neither followed nor
/// ignored.
pub fn parameters(startup: &Startup, settings: &Settings) -> Result<Vec<(String, String)>, Error> {
    if settings.dialect == Dialect::PgBouncer {
        return parameters_as_pgbouncer(startup, &settings.pooler);
    }
    let mut given = Vec::new();
    let is_replication = replication(startup)?.is_some();
    if let Some(options) = startup.get("options").filter(|_| !is_replication) {
        let parsed = parse_options(options).map_err(|_| {
            Error::Protocol("the startup parameter \"options\" cannot be read".into())
        })?;
        given.extend(parsed.into_iter().map(|(name, value)| (name, text(&value))));
    }
    for (name, value) in &startup.params {
        match name.as_str() {
            // A replication connection takes them to its server as they are.
            "options" if is_replication => given.push((name.clone(), text(value))),
            "options" | "replication" => {}
            _ => given.push((name.clone(), text(value))),
        }
    }
    given.retain(|(name, _)| !settings.pooler.ignore_startup_parameters.contains(name));
    Ok(given)
}

/// Parameters that PgBouncer follows even when `track_extra_parameters` is empty.
const FOLLOWED: &[&str] = &[
    "DateStyle",
    "client_encoding",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
];

fn parameters_as_pgbouncer(
    startup: &Startup,
    pooler: &PoolerSettings,
) -> Result<Vec<(String, String)>, Error> {
    let extra = pooler.track_extra_parameters.iter().map(String::as_str);
    let followed: Vec<&str> = FOLLOWED.iter().copied().chain(extra).collect();
    let is_followed = |name: &str| {
        followed
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    let is_ignored = |name: &str| {
        let mut ignored = pooler.ignore_startup_parameters.iter();
        ignored.any(|known| known == name)
    };
    let is_replication = replication(startup)?.is_some();
    let mut given = Vec::new();
    for (name, value) in &startup.params {
        match name.as_str() {
            "replication" => {}
            // A replication connection takes them to its server as they are.
            "options" if is_replication => given.push((name.clone(), text(value))),
            "options" => {
                for (name, value) in strict_options(value)? {
                    if is_followed(&name) {
                        given.push((name, text(&value)));
                    } else if !is_ignored(&name) && !is_ignored("options") {
                        let what = "unsupported startup parameter in options";
                        return Err(Error::Protocol(format!("{what}: {name}")));
                    }
                }
            }
            known if is_followed(known) => given.push((name.clone(), text(value))),
            known if is_ignored(known) => {}
            _ => {
                let what = format!("unsupported startup parameter: {name}");
                return Err(Error::Protocol(what));
            }
        }
    }
    Ok(given)
}

fn strict_options(options: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let refused = || {
        Error::Protocol(
            "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed".into(),
        )
    };
    if options.ends_with(b" ") {
        return Err(refused());
    }
    parse_options(options).map_err(|_| refused())
}

/// This machine's name.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
});

/// With `application_name_add_host`, the application's name says where the client comes from.
pub fn add_host(given: &mut Vec<(String, String)>, stream: &Stream, settings: &Settings) {
    if !settings.pooler.application_name_add_host {
        return;
    }
    let is_name = |(name, _): &(String, String)| name.eq_ignore_ascii_case("application_name");
    let name = given.iter().rfind(|pair| is_name(pair));
    let name = name.map_or("app", |(_, name)| name.as_str());
    let name = match stream.peer() {
        Address::Tcp(address) => format!("{name} - {address}"),
        Address::Unix => {
            let (pid, port) = (stream.peer_pid().unwrap_or(0), settings.pooler.listen_port);
            format!("{name} - unix({pid}@{}):{port}", *HOST)
        }
    };
    given.retain(|pair| !is_name(pair));
    given.push(("application_name".into(), name));
}

/// Takes the pooler's own settings out of `given`: no server hears of them.
///
/// # Errors
/// [`Error::InvalidParameter`] for an unknown name or value.
pub fn own(given: &mut Vec<(String, String)>) -> Result<Wish, Error> {
    let mut wish = Wish::default();
    let mut found = Ok(());
    given.retain(|(name, value)| {
        let prefix = name.get(..PREFIX.len());
        if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
            return true;
        }
        if let Err(complaint) = wish.take(name, value) {
            found = Err(Error::InvalidParameter(Refusal {
                code: complaint.code.to_owned(),
                message: format!("{}. {}", complaint.message, complaint.hint),
            }));
        }
        false
    });
    found.map(|()| wish)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::parameters;
    use crate::config::settings::Settings;
    use crate::config::value::Dialect;
    use crate::protocol::startup::{Progress, Startup, parse};

    fn startup(pairs: &[(&str, &str)]) -> Startup {
        let mut body = b"user\0ann\0".to_vec();
        for (name, value) in pairs {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        let size = u32::try_from(body.len() + 8).unwrap();
        let packet = [&size.to_be_bytes()[..], &[0, 3, 0, 0], &body].concat();
        match parse(&packet).unwrap() {
            Progress::Startup(startup) => startup,
            other => panic!("no startup packet: {other:?}"),
        }
    }

    fn as_pgbouncer(pairs: &[(&str, &str)], ignored: &str) -> Result<Vec<String>, String> {
        let mut settings = Settings {
            dialect: Dialect::PgBouncer,
            ..Settings::default()
        };
        settings.pooler.ignore_startup_parameters = ignored.split(',').map(str::to_owned).collect();
        let given = parameters(&startup(pairs), &settings);
        let shown = |(name, value): (String, String)| format!("{name}={value}");
        given
            .map(|given| given.into_iter().map(shown).collect())
            .map_err(|error| error.message())
    }

    #[test]
    fn pgbouncer_takes_what_it_follows_and_refuses_what_it_does_not() {
        let given = as_pgbouncer(&[("timezone", "UTC"), ("IntervalStyle", "iso_8601")], "");
        assert_eq!(given.unwrap(), ["timezone=UTC", "IntervalStyle=iso_8601"]);
        let digits = &[("extra_float_digits", "3")];
        let refused = "unsupported startup parameter: extra_float_digits";
        assert_eq!(as_pgbouncer(digits, "").unwrap_err(), refused);
        let ignored = as_pgbouncer(digits, "extra_float_digits");
        assert_eq!(ignored.unwrap(), [""; 0]);
    }

    #[test]
    fn pgbouncer_looks_into_options() {
        let options = |text| as_pgbouncer(&[("options", text)], "");
        assert_eq!(options("-c datestyle=ISO").unwrap(), ["datestyle=ISO"]);
        assert_eq!(
            options("-c search_path=x").unwrap_err(),
            "unsupported startup parameter in options: search_path"
        );
        let shape = "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed";
        assert_eq!(options("-f x").unwrap_err(), shape);
        assert_eq!(options("--timezone=UTC ").unwrap_err(), shape);
        let given = as_pgbouncer(&[("options", "-csearch_path=x --timezone=UTC")], "options");
        assert_eq!(given.unwrap(), ["timezone=UTC"]);
    }
}
