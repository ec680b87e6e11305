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
