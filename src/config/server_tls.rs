//! TLS towards servers: what `[pooler]` says, and what a cluster says in its place.
//!
//! A key that a cluster leaves out is as in `[pooler]`. A certificate and its key are one thing: they come from the same section.

use std::path::Path;

use crate::config::clusters::ClusterSettings;
use crate::config::problem::Refusal;
use crate::config::settings::Settings;
use crate::config::value::{TlsMode, TlsProtocols};

/// TLS towards some servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTlsSettings<'s> {
    /// How much.
    pub mode: TlsMode,
    /// Who signs the servers' certificates.
    pub ca: Option<&'s Path>,
    /// The certificate that is shown to them.
    pub certificate: Option<&'s Path>,
    /// Its key.
    pub key: Option<&'s Path>,
    /// Which versions.
    pub protocols: &'s TlsProtocols,
}

impl Settings {
    /// TLS towards the nodes of the cluster of that name, or towards servers that are in none.
    pub fn server_tls(&self, cluster: Option<&str>) -> ServerTlsSettings<'_> {
        let all = &self.pooler;
        let common = ServerTlsSettings {
            mode: all.server_tls_sslmode,
            ca: all.server_tls_ca_file.as_deref(),
            certificate: all.server_tls_cert_file.as_deref(),
            key: all.server_tls_key_file.as_deref(),
            protocols: &all.server_tls_protocols,
        };
        match cluster.and_then(|name| self.clusters.get(name)) {
            Some(own) => common.with(own),
            None => common,
        }
    }
}

impl<'s> ServerTlsSettings<'s> {
    /// The same, but for what `own` says.
    fn with(self, own: &'s ClusterSettings) -> Self {
        let (certificate, key) = match (&own.server_tls_cert_file, &own.server_tls_key_file) {
            (None, None) => (self.certificate, self.key),
            (certificate, key) => (certificate.as_deref(), key.as_deref()),
        };
        Self {
            mode: own.server_tls_sslmode.unwrap_or(self.mode),
            ca: own.server_tls_ca_file.as_deref().or(self.ca),
            certificate,
            key,
            protocols: own.server_tls_protocols.as_ref().unwrap_or(self.protocols),
        }
    }
}

/// What is wrong with the TLS of the cluster `name`: a key, and why.
pub fn wrongs(
    settings: &Settings,
    name: &str,
    own: &ClusterSettings,
) -> Vec<(&'static str, Refusal)> {
    let mut found = Vec::new();
    let (certificate, key) = ("server_tls_cert_file", "server_tls_key_file");
    let alone = match (&own.server_tls_cert_file, &own.server_tls_key_file) {
        (Some(_), None) => Some((certificate, key)),
        (None, Some(_)) => Some((key, certificate)),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((given, missing)) = alone {
        found.push((given, Refusal::new(format!("needs {missing} beside it"))));
    }
    let tls = settings.server_tls(Some(name));
    let is_own = own.server_tls_sslmode.is_some();
    if is_own && tls.mode.is_verifying() && tls.ca.is_none() {
        let mode = tls.mode.as_str();
        let refusal = Refusal::new(format!("\"{mode}\" needs server_tls_ca_file"));
        found.push(("server_tls_sslmode", refusal));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ServerTlsSettings, wrongs};
    use crate::config::clusters::ClusterSettings;
    use crate::config::settings::Settings;
    use crate::config::value::{TlsMode, TlsProtocols};

    fn settings(own: ClusterSettings) -> Settings {
        let mut settings = Settings::default();
        settings.pooler.server_tls_ca_file = Some("ca".into());
        settings.pooler.server_tls_cert_file = Some("cert".into());
        settings.pooler.server_tls_key_file = Some("key".into());
        settings.clusters.insert("main".to_owned(), own);
        settings
    }

    #[test]
    fn what_a_cluster_leaves_out_is_as_for_all_servers() {
        let own = ClusterSettings {
            server_tls_sslmode: Some(TlsMode::VerifyFull),
            ..ClusterSettings::default()
        };
        let settings = settings(own);
        let common = ServerTlsSettings {
            mode: TlsMode::Prefer,
            ca: Some(Path::new("ca")),
            certificate: Some(Path::new("cert")),
            key: Some(Path::new("key")),
            protocols: &TlsProtocols::default(),
        };
        assert_eq!(settings.server_tls(None), common);
        assert_eq!(settings.server_tls(Some("other")), common);
        let own = ServerTlsSettings {
            mode: TlsMode::VerifyFull,
            ..common
        };
        assert_eq!(settings.server_tls(Some("main")), own);
    }

    #[test]
    fn a_certificate_never_meets_the_key_of_another() {
        let own = ClusterSettings {
            server_tls_cert_file: Some("own".into()),
            ..ClusterSettings::default()
        };
        let settings = settings(own.clone());
        assert_eq!(settings.server_tls(Some("main")).key, None);
        let keys: Vec<_> = wrongs(&settings, "main", &own)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["server_tls_cert_file"]);
    }

    #[test]
    fn who_verifies_needs_an_authority() {
        let own = ClusterSettings {
            server_tls_sslmode: Some(TlsMode::VerifyCa),
            ..ClusterSettings::default()
        };
        let mut settings = settings(own.clone());
        assert!(wrongs(&settings, "main", &own).is_empty());
        settings.pooler.server_tls_ca_file = None;
        assert_eq!(wrongs(&settings, "main", &own).len(), 1);
    }
}
