//! Asking the system's PAM whether a password is right: service `pgbouncer`, as PgBouncer.
//!
//! A build without the cargo feature `pam` refuses the setting, so it never comes here. Modules may take seconds to say no: they run
//! off the threads that serve clients, a few at a time.

use crate::error::Error;
use crate::net::stream::Address;
use crate::secret::Secret;

/// Whether PAM knows `user`, who comes from `peer`, by `password`.
///
/// # Errors
/// [`Error::LoginMisconfigured`] without the feature; [`Error::Internal`] when a module panics.
#[cfg(not(feature = "pam"))]
pub async fn knows(_user: &str, _password: &Secret, _peer: Address) -> Result<bool, Error> {
    tracing::error!("auth_type is pam, and this build lacks the cargo feature \"pam\"");
    Err(Error::LoginMisconfigured)
}

/// Whether PAM knows `user`, who comes from `peer`, by `password`.
///
/// # Errors
/// [`Error::Internal`] when a module panics.
#[cfg(feature = "pam")]
pub async fn knows(user: &str, password: &Secret, peer: Address) -> Result<bool, Error> {
    use crate::clients::proof::password::off_thread;

    /// How many logins ask at the same time; the others wait.
    static PLACES: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(20);

    let place = PLACES.acquire().await.map_err(|_| Error::Internal)?;
    let host = match peer {
        Address::Tcp(address) => Some(address.ip().to_string()),
        Address::Unix => None,
    };
    let (user, password) = (user.to_owned(), password.clone());
    // The place is kept as long as a module runs, also when the client has gone.
    off_thread(move || {
        let _place = place;
        system::ask(&user, &password, host)
    })
    .await
}

#[cfg(feature = "pam")]
mod system {
    use std::ffi::{OsStr, OsString};

    use nonstick::items::ItemsMut;
    use nonstick::{
        AuthnFlags, ConversationAdapter, PamShared, Result, Transaction, TransactionBuilder,
    };

    use crate::secret::Secret;

    const SERVICE: &str = "pgbouncer";

    /// What the modules are answered.
    struct Answers<'a> {
        user: &'a str,
        password: &'a Secret,
    }

    impl ConversationAdapter for Answers<'_> {
        fn prompt(&self, _: impl AsRef<OsStr>) -> Result<OsString> {
            Ok(self.user.into())
        }

        fn masked_prompt(&self, _: impl AsRef<OsStr>) -> Result<OsString> {
            Ok(self.password.expose().into())
        }

        fn error_msg(&self, message: impl AsRef<OsStr>) {
            tracing::info!(user = self.user, said = ?message.as_ref(), "PAM");
        }

        fn info_msg(&self, message: impl AsRef<OsStr>) {
            tracing::debug!(user = self.user, said = ?message.as_ref(), "PAM");
        }
    }

    pub(super) fn ask(user: &str, password: &Secret, host: Option<String>) -> bool {
        let asked = converse(user, password, host);
        if let Err(error) = asked {
            tracing::info!(user, %error, "PAM does not let the user in");
        }
        asked.is_ok()
    }

    fn converse(user: &str, password: &Secret, host: Option<String>) -> Result<()> {
        let answers = Answers { user, password };
        let mut transaction = TransactionBuilder::new_with_service(SERVICE)
            .username(user)
            .build(answers.into_conversation())?;
        if let Some(host) = host {
            transaction
                .items_mut()
                .set_remote_host(Some(OsStr::new(&host)))?;
        }
        transaction.authenticate(AuthnFlags::empty())?;
        transaction.account_management(AuthnFlags::empty())
    }
}

/// A real PAM with a service of its own. That is written down where only root may write.
#[cfg(all(test, feature = "pam"))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::knows;
    use crate::net::stream::Address;
    use crate::secret::Secret;

    /// What PAM asks for the service, as long as this lives.
    struct Service(PathBuf);

    impl Service {
        /// Lets in who gives the password `open sesame`, unless it is `banned`.
        fn install() -> Self {
            let path = Path::new("/etc/pam.d/pgbouncer").to_owned();
            assert!(!path.exists(), "this machine has such a service already");
            let script = std::env::temp_dir().join(format!("pooler-pam-{}", std::process::id()));
            let check = "#!/bin/sh\n[ \"$(tr -d '\\0')\" = 'open sesame' ]\n";
            fs::write(&script, check).unwrap();
            fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
            let rules = format!(
                "auth required pam_exec.so quiet expose_authtok {}\naccount required pam_succeed_if.so quiet user != banned\n",
                script.display()
            );
            fs::write(&path, rules).expect("this test needs root: it writes /etc/pam.d/pgbouncer");
            Self(script)
        }
    }

    impl Drop for Service {
        fn drop(&mut self) {
            drop(fs::remove_file("/etc/pam.d/pgbouncer"));
            drop(fs::remove_file(&self.0));
        }
    }

    #[tokio::test]
    async fn pam_decides_who_comes_in() {
        let _service = Service::install();
        let far = Address::Tcp(([192, 0, 2, 1], 5000).into());
        for (user, password, peer, is_in) in [
            ("ann", "open sesame", far, true),
            ("ann", "open sesame", Address::Unix, true),
            ("ann", "open barley", far, false),
            ("ann", "", far, false),
            ("banned", "open sesame", far, false),
        ] {
            let known = knows(user, &Secret::new(password), peer).await;
            assert_eq!(known.unwrap(), is_in, "{user} {password}");
        }
    }
}
