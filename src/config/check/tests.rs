use super::*;
use crate::config::settings::UserSettings;
use crate::config::value::AuthType;
use crate::secret::Secret;

fn good() -> Settings {
    let mut settings = Settings::default();
    let database = DatabaseSettings::default();
    settings.databases.insert("app".to_owned(), database);
    let user = UserSettings {
        password: Some(Secret::new("x")),
        ..UserSettings::default()
    };
    settings.users.insert("ann".to_owned(), user);
    settings
}

/// The keys complained of after `change` was made to good settings.
fn wrong(change: impl FnOnce(&mut Settings)) -> Vec<String> {
    let mut settings = good();
    change(&mut settings);
    check(&settings)
        .0
        .into_iter()
        .map(|problem| problem.key)
        .collect()
}

fn app(settings: &mut Settings) -> &mut DatabaseSettings {
    settings.databases.get_mut("app").unwrap()
}

#[test]
fn good_settings_are_not_complained_of() {
    assert_eq!(wrong(|_| {}), [""; 0]);
}

#[test]
fn a_pooler_that_listens_nowhere_is_refused() {
    let keys = wrong(|s| {
        s.pooler.listen_addr.clear();
        s.pooler.unix_socket_dir.clear();
    });
    assert_eq!(keys, ["pooler.listen_addr", "databases.app"]);
}

#[test]
fn senseless_numbers_are_refused() {
    let keys = wrong(|s| {
        s.pooler.max_client_conn = 0;
        s.pooler.scram_iterations = 0;
        s.pooler.threads = 5_000;
        s.pooler.max_packet_size = 10;
        app(s).port = 0;
        app(s).min_pool_size = Some(21);
    });
    assert_eq!(
        keys,
        [
            "pooler.max_client_conn",
            "pooler.scram_iterations",
            "pooler.threads",
            "pooler.max_packet_size",
            "databases.app.port",
            "databases.app.min_pool_size",
        ]
    );
}

#[test]
fn peers_have_numbers_and_hosts() {
    let keys = wrong(|s| {
        let peer = |host: &str| crate::config::settings::PeerSettings {
            host: Some(host.to_owned()).filter(|host| !host.is_empty()),
            ..Default::default()
        };
        s.pooler.peer_id = 65_536;
        let named = [("0", "a"), ("02", "a"), ("one", "a"), ("2", ""), ("3", "a")];
        s.peers = named.map(|(id, host)| (id.to_owned(), peer(host))).into();
    });
    assert_eq!(
        keys,
        [
            "pooler.peer_id",
            "peers.0",
            "peers.02",
            "peers.2",
            "peers.one"
        ]
    );
}

#[test]
fn a_pooler_that_nobody_could_log_in_to_is_refused() {
    assert_eq!(wrong(|s| s.users.clear()), ["pooler.auth_type"]);
    let keys = wrong(|s| {
        s.users.clear();
        s.pooler.auth_type = AuthType::Trust;
    });
    assert_eq!(keys, [""; 0]);
}

#[test]
fn auth_user_needs_a_password_and_auth_dbname_a_database() {
    let keys = wrong(|s| {
        s.pooler.auth_user = Some("bob".to_owned());
        s.pooler.auth_dbname = Some("other".to_owned());
        app(s).auth_dbname = Some("pgbouncer".to_owned());
    });
    assert_eq!(
        keys,
        [
            "databases.app.auth_dbname",
            "pooler.auth_user",
            "pooler.auth_dbname"
        ]
    );
}

#[test]
fn a_server_certificate_needs_its_key() {
    let keys = wrong(|s| s.pooler.server_tls_cert_file = Some("cert.pem".into()));
    assert_eq!(keys, ["pooler.server_tls_cert_file"]);
}

#[test]
fn log_levels_are_words_or_targets_with_words() {
    assert_eq!(
        wrong(|s| s.telemetry.log_level = "warn,pooler=debug".to_owned()),
        [""; 0]
    );
    let keys = wrong(|s| s.telemetry.log_level = "loud".to_owned());
    assert_eq!(keys, ["telemetry.log_level"]);
}
