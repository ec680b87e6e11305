//! Who keeps a cluster, and may be asked about it: Patroni by its REST interface, etcd by its keys.

use std::path::PathBuf;

use crate::config::clusters::ClusterSettings;
use crate::config::problem::Refusal;
use crate::config::slot::{Given, Slot};
use crate::config::url::Url;
use crate::secret::Secret;

/// `etcd` of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdSettings {
    /// Its members, `http://host:port` or `https://host:port`. At least one.
    pub endpoints: Vec<String>,
    /// Patroni's `scope`: the name under which the cluster stands in etcd.
    pub scope: String,
    /// Patroni's `namespace`. Default `/service`.
    pub namespace: String,
    /// Who asks, where etcd has users. It reads what stands under the scope.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<Secret>,
    /// The authorities that are trusted with `https`. Default the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to etcd.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

impl Default for EtcdSettings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            scope: String::new(),
            namespace: "/service".to_owned(),
            user: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

impl EtcdSettings {
    /// What all keys of the cluster begin with: `/service/main/`.
    pub fn prefix(&self) -> String {
        let (namespace, scope) = (
            self.namespace.trim_matches('/'),
            self.scope.trim_matches('/'),
        );
        format!("/{namespace}/{scope}/")
    }
}

/// Reads `etcd = { … }`.
///
/// # Errors
/// A [`Refusal`] that names the entry.
pub fn etcd(given: &Given) -> Result<EtcdSettings, Refusal> {
    let example = "for example { endpoints = [\"http://10.0.0.21:2379\"], scope = \"main\" }";
    let Given::Table(entries) = given else {
        return Err(Refusal::new("expected a table").hint(example));
    };
    let mut etcd = EtcdSettings::default();
    for (name, value) in entries {
        let slot = match name.as_str() {
            "endpoints" => Slot::List(&mut etcd.endpoints),
            "scope" => Slot::Text(&mut etcd.scope),
            "namespace" => Slot::Text(&mut etcd.namespace),
            "user" => Slot::MaybeText(&mut etcd.user),
            "password" => Slot::Hidden(&mut etcd.password),
            "ca_file" => Slot::Path(&mut etcd.ca_file),
            "cert_file" => Slot::Path(&mut etcd.cert_file),
            "key_file" => Slot::Path(&mut etcd.key_file),
            other => {
                let refusal = Refusal::new(format!("etcd has no \"{other}\""));
                return Err(refusal.hint(example));
            }
        };
        slot.read(value)?;
    }
    if etcd.endpoints.is_empty() {
        return Err(Refusal::new("etcd needs endpoints").hint(example));
    }
    if etcd.scope.is_empty() {
        return Err(
            Refusal::new("etcd needs a scope, Patroni's name of the cluster").hint(example),
        );
    }
    Ok(etcd)
}

/// What is wrong with the addresses of `cluster`: the key, and why.
pub fn wrongs(cluster: &ClusterSettings) -> Vec<(&'static str, Refusal)> {
    let mut found = Vec::new();
    let endpoints = cluster.etcd.iter().flat_map(|etcd| &etcd.endpoints);
    let all = cluster.patroni.iter().map(|url| ("patroni", url));
    for (key, url) in all.chain(endpoints.map(|url| ("etcd", url))) {
        if let Err(why) = Url::parse(url) {
            found.push((key, Refusal::new(why)));
        }
    }
    if let Some(etcd) = &cluster.etcd
        && etcd.cert_file.is_some() != etcd.key_file.is_some()
    {
        found.push((
            "etcd",
            Refusal::new("has a certificate without its key, or a key without its certificate"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::etcd;
    use crate::config::slot::Given;

    #[test]
    fn etcd_needs_endpoints_and_a_scope() {
        let text = |text: &str| Given::Text(text.to_owned());
        let entry = |name: &str, value: &str| (name.to_owned(), text(value));
        let read = |entries: &[(&str, &str)]| {
            etcd(&Given::Table(
                entries
                    .iter()
                    .map(|(name, value)| entry(name, value))
                    .collect(),
            ))
        };
        let whole = read(&[("endpoints", "http://a:1,http://b:1"), ("scope", "main")]).unwrap();
        assert_eq!(
            (whole.endpoints.len(), whole.prefix().as_str()),
            (2, "/service/main/")
        );
        assert!(read(&[("scope", "main")]).is_err());
        assert!(read(&[("endpoints", "http://a:1")]).is_err());
        assert!(read(&[("endpoint", "http://a:1")]).is_err());
        assert!(etcd(&text("http://a:1")).is_err());
    }
}
