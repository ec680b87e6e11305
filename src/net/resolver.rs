//! Asking for the addresses of a name, and for the serial number of a zone.
//!
//! Without a `resolv_conf` names are looked up as everything else on the system does it, on a thread of its own, for the
//! system's resolver blocks. With one, the name servers in it are asked directly, after `/etc/hosts`. Every question reads the
//! files anew: there are few questions, and the files may change.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::parse_resolv_conf;

/// Where the system says which name servers to ask.
const SYSTEM: &str = "/etc/resolv.conf";

/// The addresses of `name`, each once, in the order in which they were told.
///
/// # Errors
/// Why there are none, for a person.
pub async fn addresses(name: &str, file: Option<&Path>) -> Result<Vec<IpAddr>, String> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |address: IpAddr| {
        if !found.contains(&address) {
            found.push(address);
        }
    };
    match file {
        None => {
            let told = tokio::net::lookup_host((name, 0)).await;
            let told = told.map_err(|error| error.to_string())?;
            told.for_each(|address| add(address.ip()));
        }
        Some(file) => {
            let resolver = resolver(file.to_owned()).await?;
            let told = resolver.lookup_ip(name).await;
            let told = told.map_err(|error| error.to_string())?;
            told.iter().for_each(&mut add);
        }
    }
    if found.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(found)
}

/// The serial number of `zone`, out of its SOA record.
///
/// # Errors
/// Why it is not known, for a person.
pub async fn serial(zone: &str, file: Option<&Path>) -> Result<u32, String> {
    let resolver = resolver(file.unwrap_or(Path::new(SYSTEM)).to_owned()).await?;
    let zone = format!("{}.", zone.trim_end_matches('.'));
    let told = resolver.soa_lookup(zone).await;
    let told = told.map_err(|error| error.to_string())?;
    let serial = told.answers().iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    serial.ok_or_else(|| "the zone has no SOA record".into())
}

/// A resolver that remembers nothing: that is the caller's part.
async fn resolver(file: PathBuf) -> Result<TokioResolver, String> {
    let made = tokio::task::spawn_blocking(move || {
        let problem = |error: String| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(&file).map_err(|error| problem(error.to_string()))?;
        let (text, ports) = without_ports(&text);
        let (config, mut options) =
            parse_resolv_conf(text).map_err(|error| problem(error.to_string()))?;
        options.cache_size = 0;
        let (domain, search, mut servers) = config.into_parts();
        for (server, port) in servers.iter_mut().zip(ports) {
            for connection in &mut server.connections {
                connection.port = port.unwrap_or(connection.port);
            }
        }
        let config = ResolverConfig::from_parts(domain, search, servers);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        builder.build().map_err(|error| problem(error.to_string()))
    });
    made.await.map_err(|_| "the lookup was given up")?
}

/// The text of a `resolv.conf` with `nameserver ADDRESS:PORT` made `nameserver ADDRESS`, and the port of each name server.
fn without_ports(text: &str) -> (String, Vec<Option<u16>>) {
    let mut ports = Vec::new();
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(address)) = (words.next(), words.next()) else {
            return line.to_owned();
        };
        match address.parse::<SocketAddr>() {
            Ok(address) => {
                ports.push(Some(address.port()));
                format!("nameserver {}", address.ip())
            }
            Err(_) => {
                ports.push(None);
                line.to_owned()
            }
        }
    });
    (lines.collect::<Vec<_>>().join("\n"), ports)
}

#[cfg(test)]
mod tests {
    use super::without_ports;

    #[test]
    fn a_name_server_may_have_a_port() {
        let text = "# ours\nnameserver 127.0.0.1:5353\nnameserver [::1]:53\nnameserver 10.0.0.1\noptions ndots:2";
        let (text, ports) = without_ports(text);
        assert_eq!(
            text,
            "# ours\nnameserver 127.0.0.1\nnameserver ::1\nnameserver 10.0.0.1\noptions ndots:2"
        );
        assert_eq!(ports, [Some(5353), Some(53), None]);
    }
}
