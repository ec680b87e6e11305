//! The rules about logins: what each `auth_type` needs, and what `auth_query` needs.

use crate::config::check::Findings;
use crate::config::problem::{Refusal, path};
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect, TlsMode};

impl Findings<'_> {
    pub(super) fn clients_can_log_in(&mut self) {
        let Settings {
            pooler,
            users,
            databases,
            ..
        } = self.settings;
        let asks = pooler.auth_user.is_some() || databases.values().any(|d| d.auth_user.is_some());
        let knows = pooler.auth_file.is_some() || users.values().any(|u| u.password.is_some());
        let needs_no_list = match pooler.auth_type {
            AuthType::Any | AuthType::Ldap | AuthType::Pam | AuthType::Hba => true,
            AuthType::Trust | AuthType::Cert => !users.is_empty(),
            AuthType::Plain | AuthType::Md5 | AuthType::ScramSha256 => false,
        };
        if pooler.auth_type == AuthType::Trust || needs_no_list || asks || knows {
            return;
        }
        if self.has_refused("users") || self.has_refused("databases") {
            return;
        }
        self.note(
            &[
                &["pooler", "auth_type"],
                &["pooler", "auth_file"],
                &["pooler", "auth_user"],
            ],
            Refusal::new(format!(
                "nobody could log in: \"{}\" needs passwords and there are none",
                pooler.auth_type.as_str()
            ))
            .hint("add [users.NAME] with a password, auth_file, or auth_user"),
        );
    }

    /// What each `auth_type` needs beside it.
    pub(super) fn auth_type(&mut self) {
        let Settings {
            pooler, dialect, ..
        } = self.settings;
        // PgBouncer starts without these, and refuses at the login.
        let is_strict = *dialect == Dialect::Native;
        let key: &[&str] = &["pooler", "auth_type"];
        let name = pooler.auth_type.as_str();
        match pooler.auth_type {
            AuthType::Cert => {
                let has_ca = pooler.client_tls_ca_file.is_some();
                if pooler.client_tls_sslmode != TlsMode::VerifyFull || !has_ca {
                    let refusal = Refusal::new(format!(
                        "\"{name}\" needs client_tls_sslmode = \"verify-full\" and client_tls_ca_file"
                    ));
                    let mode: &[&str] = &["pooler", "client_tls_sslmode"];
                    self.note(&[key, mode, &["pooler", "client_tls_ca_file"]], refusal);
                }
            }
            AuthType::Hba if is_strict && pooler.auth_hba_file.is_none() => {
                let refusal = Refusal::new(format!("\"{name}\" needs auth_hba_file"));
                self.note(&[key, &["pooler", "auth_hba_file"]], refusal);
            }
            AuthType::Ldap if is_strict && pooler.auth_ldap_options.is_none() => {
                let refusal = Refusal::new(format!("\"{name}\" needs auth_ldap_options"));
                let hint =
                    "for example \"ldapserver=ds.example ldapprefix=uid= ldapsuffix=,dc=example\"";
                self.note(&[key, &["pooler", "auth_ldap_options"]], refusal.hint(hint));
            }
            AuthType::Pam if !cfg!(feature = "pam") => {
                let refusal = Refusal::new(format!(
                    "\"{name}\" is not in this build of the pooler, which lacks the cargo feature \"pam\""
                ));
                let hint = "build it with: cargo build --release --features pam";
                self.note(&[key], refusal.hint(hint));
            }
            AuthType::Pam if pooler.auth_user.is_some() => {
                let refusal = Refusal::new(format!("\"{name}\" and auth_user exclude each other"));
                self.note(&[key, &["pooler", "auth_user"]], refusal);
            }
            AuthType::Any if is_strict => self.forced_users(),
            _ => {}
        }
    }

    /// With "any" a client's name means nothing, so each database must say who its clients are on the server.
    fn forced_users(&mut self) {
        let settings = self.settings;
        let unforced = settings
            .databases
            .iter()
            .find(|(_, database)| database.user.is_none());
        if let Some((name, _)) = unforced {
            let refusal = Refusal::new("auth_type = \"any\" needs a user for this database");
            self.note(
                &[&["databases", name, "user"], &["pooler", "auth_type"]],
                refusal.hint("set user, or choose another auth_type"),
            );
        }
    }

    pub(super) fn auth_query(&mut self) {
        let settings = self.settings;
        let own = settings.databases.iter().map(|(name, database)| {
            (
                vec!["databases", name.as_str()],
                &database.auth_user,
                &database.auth_dbname,
            )
        });
        let pooler = &settings.pooler;
        let all = own.chain([(vec!["pooler"], &pooler.auth_user, &pooler.auth_dbname)]);
        for (section, user, database) in all {
            let key = |name| [section.as_slice(), &[name]].concat();
            if let Some(user) = user
                && settings.dialect == Dialect::Native
            {
                self.auth_user(&key("auth_user"), user);
            }
            let Some(database) = database else { continue };
            let is_left_to_login =
                settings.dialect == Dialect::PgBouncer && section[0] == "databases";
            if self.is_console(database) && !is_left_to_login {
                let refusal = match settings.dialect {
                    Dialect::Native => Refusal::new(format!("\"{database}\" is the console")),
                    Dialect::PgBouncer => Refusal::new(format!(
                        "cannot use the reserved \"{database}\" database as an auth_dbname"
                    )),
                };
                self.note(&[&key("auth_dbname")], refusal);
            } else if settings.dialect == Dialect::Native
                && settings.database(database).is_none()
                && !self.has_refused("databases")
            {
                let refusal = Refusal::new(format!("there is no database \"{database}\" here"));
                let hint = format!("add [databases.{}]", path(&[database]));
                self.note(&[&key("auth_dbname")], refusal.hint(hint));
            }
        }
    }

    fn auth_user(&mut self, key: &[&str], user: &str) {
        let settings = self.settings;
        let listed = settings
            .user(user)
            .is_some_and(|user| user.password.is_some());
        if listed || settings.pooler.auth_file.is_some() || self.has_refused("users") {
            return;
        }
        self.note(
            &[key, &["pooler", "auth_file"]],
            Refusal::new(format!("the password of \"{user}\" is not known")).hint(format!(
                "add it to [users.{}], or set auth_file",
                path(&[user])
            )),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::check::check;
    use crate::config::settings::{DatabaseSettings, Settings, UserSettings};
    use crate::config::value::{AuthType, Dialect, TlsMode};
    use crate::secret::Secret;

    /// What is complained of after `change` was made to settings that are good but for their `auth_type`.
    fn wrong(auth_type: AuthType, change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        settings
            .databases
            .insert("app".into(), DatabaseSettings::default());
        let user = UserSettings {
            password: Some(Secret::new("x")),
            ..UserSettings::default()
        };
        settings.users.insert("ann".into(), user);
        settings.pooler.auth_type = auth_type;
        change(&mut settings);
        let problems = check(&settings).0;
        problems.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn each_way_to_log_in_needs_what_it_cannot_do_without() {
        let nothing = [""; 0];
        assert_eq!(wrong(AuthType::Hba, |_| {}), ["pooler.auth_type"]);
        assert_eq!(
            wrong(AuthType::Hba, |s| s.pooler.auth_hba_file = Some("f".into())),
            nothing
        );
        assert_eq!(wrong(AuthType::Ldap, |_| {}), ["pooler.auth_type"]);
        let options = || Some(Secret::new("ldapserver=h ldapbasedn=b"));
        assert_eq!(
            wrong(AuthType::Ldap, |s| s.pooler.auth_ldap_options = options()),
            nothing
        );
        assert_eq!(wrong(AuthType::Any, |_| {}), ["databases.app.user"]);
        let force = |s: &mut Settings| s.databases.get_mut("app").unwrap().user = Some("u".into());
        assert_eq!(wrong(AuthType::Any, force), nothing);
        let tls = |s: &mut Settings, mode| {
            let all = &mut s.pooler;
            (all.client_tls_sslmode, all.client_tls_ca_file) = (mode, Some("c".into()));
            all.client_tls_cert_file = Some("c".into());
            all.client_tls_key_file = Some("k".into());
        };
        assert_eq!(wrong(AuthType::Cert, |_| {}), ["pooler.auth_type"]);
        assert_eq!(
            wrong(AuthType::Cert, |s| tls(s, TlsMode::VerifyCa)),
            ["pooler.auth_type"]
        );
        assert_eq!(
            wrong(AuthType::Cert, |s| tls(s, TlsMode::VerifyFull)),
            nothing
        );
    }

    #[test]
    fn a_pgbouncer_ini_may_leave_to_the_login_what_pgbouncer_leaves_to_it() {
        for auth_type in [AuthType::Hba, AuthType::Ldap, AuthType::Any] {
            assert_eq!(
                wrong(auth_type, |s| s.dialect = Dialect::PgBouncer),
                [""; 0]
            );
        }
    }

    #[cfg(not(feature = "pam"))]
    #[test]
    fn pam_names_the_feature_that_the_build_lacks() {
        let mut settings = Settings::default();
        settings.pooler.auth_type = AuthType::Pam;
        let told = check(&settings).to_string();
        assert!(
            told.contains("cargo feature \"pam\"") && told.contains("--features pam"),
            "{told}"
        );
    }
}
